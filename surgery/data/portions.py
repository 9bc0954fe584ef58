"""What a reader gives, in the order in which it gives it: an Opening, then Portions of samples.

None between them is a sign of life: the reader is at work, and its time starts anew. All three pass from the limited
child to its parent as JSON and plain buffers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from surgery.data.findings import Findings
from surgery.data.reading import Header, How, Numbers, Reading, SplitUse
from surgery.errors import DataError, Problem

if TYPE_CHECKING:
    from surgery.data.dataset import Kind, Task


class Choices(TypedDict, total=False):
    """What may be said of a file; the meanings are those of `Options`."""

    target: str | None
    task: Task | None
    size: tuple[int, int] | None
    drop: Sequence[str]
    header: Header
    numbers: Numbers
    columns: Mapping[str, How]
    split: str | None
    splits: Mapping[str, SplitUse]
    like: Reading | None


@dataclass(frozen=True)
class Options:
    """What a file cannot say itself.

    target, drop: columns of a table. task: overrides what the labels look like. size: (height, width) of stored
    images, by default the most common one. header: what the first line of a text table is. numbers: how numbers are
    written. columns: what a column becomes. split: the column that names each row's split. splits: what becomes of
    each split of the file. like: the reading of an earlier dataset, which this one is read as.
    """

    target: str | None = None
    task: Task | None = None
    size: tuple[int, int] | None = None
    drop: Sequence[str] = ()
    header: Header = "auto"
    numbers: Numbers = ""
    columns: Mapping[str, How] = field(default_factory=dict)
    split: str | None = None
    splits: Mapping[str, SplitUse] = field(default_factory=dict)
    like: Reading | None = None

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Options:
        """From JSON."""
        size, like = facts.get("size"), facts.get("like")
        return cls(**{**facts, "size": tuple(size) if size else None, "like": Reading.of(like) if like else None})


@dataclass(frozen=True)
class Place:
    """Where a reader goes on that was stopped before.

    start: the image or row group. skip: rows from there that were given. fixed: what it had decided. alone: every
    portion is of one image or row group.
    """

    start: int = 0
    skip: int = 0
    fixed: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False


@dataclass(frozen=True, kw_only=True)
class Opening:
    """Everything about a file but its samples.

    row: (height, width, channels) or (features,). count: samples, at most. steps: of the progress. words: labels are
    texts. named: the classes, where labels are positions among them. stage: for the progress. parts: reading can go on
    behind an image or row group, with `fixed` in the `Place`.
    """

    kind: Kind
    row: tuple[int, ...] = ()
    count: int = 0
    exact: bool = True
    steps: int = 0
    stage: str = ""
    labels: Literal["words", "numbers", "none"] = "none"
    target: str = ""
    few: int = 0
    named: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    parts: bool = False
    fixed: Mapping[str, Any] = field(default_factory=dict)
    reading: Reading | None = None
    findings: Findings = field(default_factory=Findings)


@dataclass(frozen=True, kw_only=True)
class Portion:
    """Some samples: uint8[k, h, w, c] or float64[k, f], with their labels and where they stand in the file.

    steps: of the progress. next, done: `start` and `skip` of the place where reading goes on. changed: how many images
    had another size.
    """

    samples: NDArray[Any]
    where: list[str]
    numbers: NDArray[np.float64] | None = None
    words: list[str] | None = None
    role: str = ""
    steps: int = 1
    next: int = 0
    done: int = 0
    changed: int = 0
    findings: Findings = field(default_factory=Findings)


Given = Opening | Portion | None


def packed(given: Given) -> tuple[dict[str, Any], list[Any]]:
    """As JSON and buffers."""
    if given is None:
        return {"is": "alive"}, []
    facts = {name: value for name, value in vars(given).items() if name not in ("samples", "numbers")}
    facts["findings"] = asdict(given.findings)
    if isinstance(given, Opening):
        reading = None if given.reading is None else asdict(given.reading)
        return {"is": "opening", **facts, "fixed": dict(given.fixed), "reading": reading}, []
    numbers = None if given.numbers is None else np.ascontiguousarray(given.numbers, np.float64)
    samples = np.ascontiguousarray(given.samples)
    form = {"shape": list(samples.shape), "dtype": samples.dtype.str, "numbers": numbers is not None}
    return {"is": "portion", **facts, **form}, [samples, *([] if numbers is None else [numbers])]


def unpacked(facts: Mapping[str, Any], buffers: Sequence[bytes]) -> Given:
    """What `packed` was given; of the child nothing is taken on trust but its own words.

    Raises:
        DataError: the buffers do not fit what is said of them.
    """
    facts = dict(facts)
    kind = facts.pop("is")
    if kind == "alive":
        return None
    found = facts.pop("findings")
    findings = Findings(**{**found, "named": [Problem(**one) for one in found["named"]]})
    if kind == "opening":
        for name in ("row", "named", "features"):
            facts[name] = tuple(facts[name])
        facts["reading"] = None if facts["reading"] is None else Reading.of(facts["reading"])
        return Opening(**facts, findings=findings)
    shape, dtype, has_numbers = (facts.pop(name) for name in ("shape", "dtype", "numbers"))
    fits = len(facts["where"]) == shape[0] and len(facts["words"] or facts["where"]) == shape[0]
    if dtype not in ("|u1", "<f8") or not fits:
        raise DataError("The reader gave samples of an unknown form.", "The log has the details.")
    samples = np.frombuffer(buffers[0], dtype).reshape(shape)
    numbers = np.frombuffer(buffers[1], "<f8") if has_numbers else None
    return Portion(samples=samples, numbers=numbers, **facts, findings=findings)


Reader = Iterator[Given]
