"""How a table was read, as its dataset's card records it: new data that is read the same way means the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

How = Literal["number", "one-hot", "ordinal", "days", "offset", "drop"]
Numbers = Literal["", "1,234.5", "1.234,5", "1 234,5"]
Header = Literal["auto", "names", "data", "ignore"]  # what the first line of a text table is
SplitUse = Literal["train", "val", "test", "deal", "drop"]  # deal: split anew; drop: left out
HOWS: tuple[How, ...] = get_args(How)
NUMBERS: tuple[Numbers, ...] = get_args(Numbers)
HEADERS: tuple[Header, ...] = get_args(Header)
USES: tuple[SplitUse, ...] = get_args(SplitUse)


@dataclass(frozen=True)
class Encoding:
    """How one column becomes numbers.

    values: the categories of one-hot and ordinal, in order. start: what days and offset count from: an ISO date or a
    number as text.
    """

    column: str
    how: How
    values: tuple[str, ...] = ()
    start: str = ""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Encoding:
        """From JSON."""
        return cls(**{**facts, "values": tuple(facts.get("values", ()))})

    def features(self) -> tuple[str, ...]:
        """The names of the features that the column becomes."""
        if self.how == "drop":
            return ()
        if self.how == "one-hot":
            return tuple(f"{self.column} = {value}" for value in self.values)
        return (f"{self.column} (days)",) if self.how == "days" else (self.column,)


@dataclass(frozen=True)
class Reading:
    """What was chosen about a table's file, and the encoding of each column that is not a plain number.

    order: the features of an earlier dataset, in whose order new data must come; not recorded.
    """

    target: str = ""
    numbers: Numbers = ""
    columns: tuple[Encoding, ...] = ()
    order: tuple[str, ...] = ()

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Reading:
        """From JSON."""
        columns = tuple(map(Encoding.of, facts["columns"]))
        return cls(facts["target"], facts["numbers"], columns, tuple(facts.get("order", ())))
