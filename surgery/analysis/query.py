"""Find neurons by rule: a small language, parsed here and never evaluated as code.

    layer3 and critical(cat) < 0.1
    cat or "golden retriever"                 neurons that answer most to a class
    not layer1 and (active < 0.05 or dead)
    mean(3) > 0.5 and selectivity >= 0.2

Values are id, position, mean, active, selectivity, precision (of the neuron's name), mean(CLASS) and critical(CLASS),
the share of the neuron's layer that matters less to the class. A word is a class (neurons that answer most to it), a
layer or the beginning of its dotted name, the name of neurons ("4 or 9"), or a state: dead, constant, neutral,
unclear, fixed. What has spaces stands in quotes. In full: docs/finding-neurons.md.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from surgery.errors import SelectionError

Mask = NDArray[np.bool_]
Values = NDArray[np.float64]
OnClass = Callable[[int], Values]

LONGEST, DEEPEST = 500, 20  # characters of a rule; brackets and nots within each other
VALUES = ("id", "position", "mean", "active", "selectivity", "precision")
STATES = ("dead", "constant", "neutral", "unclear", "fixed")
OPERATORS: Mapping[str, Callable[[Values, float], Mask]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"[^"]*"|'[^']*')|(?P<sign><=|>=|!=|<|>|=|\(|\))"""
    r"""|(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))|(?P<word>[\w./:+-]+))"""
)


@dataclass(frozen=True)
class Neurons:
    """What a rule can speak of. table: one row per neuron, with layer, top_class, fixed and the columns of `VALUES`.

    by_class: "mean" and "critical" -> class number -> float[rows], NaN where it is not known; what was not computed is
    left out. classes: their names.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    by_class: Mapping[str, OnClass] = field(default_factory=dict)


def find(rule: str, neurons: Neurons) -> Mask:
    """bool[rows]: the neurons that a rule describes.

    Raises:
        SelectionError: the rule cannot be read, or names what does not exist; the message says where.
    """
    if len(rule) > LONGEST:
        raise SelectionError(f"The rule has {len(rule)} characters.", f"Write one of at most {LONGEST}.")
    parser = _Parser(_tokens(rule), neurons)
    found = parser.either(0)
    if parser.here.kind != "end":
        raise _expected("and, or, or the end", parser.here)
    return found


def layer_ranks(layers: NDArray[np.object_], score: Values) -> Values:
    """float[rows, C], 0–1: the share of the other neurons of its layer that score less for a class."""
    frame = pd.DataFrame(score).groupby(layers, sort=False)
    less = frame.rank(method="min") - 1
    others = frame.transform("size") - 1
    ranks: Values = np.divide(less.to_numpy(), np.maximum(others.to_numpy(), 1)[:, None])
    return ranks


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    place: int


def _tokens(rule: str) -> list[_Token]:
    found, place = [], 0
    while place < len(rule.rstrip()):
        match = _TOKEN.match(rule, place)
        if match is None or match.lastgroup is None:
            at = place + len(rule[place:]) - len(rule[place:].lstrip())
            raise SelectionError(
                f"The rule cannot be read from {rule[at : at + 20]!r} on (character {at + 1}).",
                "Write for instance: layer3 and critical(cat) < 0.1",
            )
        text = match[match.lastgroup]
        kind = match.lastgroup
        if kind == "word" and text.lower() in ("and", "or", "not"):
            kind, text = "joint", text.lower()
        found.append(_Token(kind, text[1:-1] if kind == "quoted" else text, match.start(match.lastgroup)))
        place = match.end()
    return [*found, _Token("end", "", len(rule))]


class _Parser:
    """Recursive descent: `or` binds least, then `and`, then `not`."""

    def __init__(self, tokens: list[_Token], neurons: Neurons) -> None:
        self._tokens, self._at, self._neurons = tokens, 0, neurons

    @property
    def here(self) -> _Token:
        return self._tokens[self._at]

    def either(self, depth: int) -> Mask:
        found = self._both(depth)
        while self._takes("or"):
            found = found | self._both(depth)
        return found

    def _both(self, depth: int) -> Mask:
        found = self._one(depth)
        while self._takes("and"):
            found = found & self._one(depth)
        return found

    def _one(self, depth: int) -> Mask:
        if depth > DEEPEST:
            raise SelectionError("The rule has too many brackets within each other.", f"Use at most {DEEPEST}.")
        if self._takes("not"):
            return ~self._one(depth + 1)
        if self._takes("("):
            found = self.either(depth + 1)
            self._close()
            return found
        return self._plain()

    def _plain(self) -> Mask:
        token = self._next("a layer, a class or a value", "word", "quoted", "number")
        if token.kind == "number":
            return OPERATORS["="](self._value("id"), float(token.text))
        if token.kind == "word" and self._takes("("):
            return self._compare(self._of_class(token))
        if token.kind == "word" and self.here.text in OPERATORS:
            return self._compare(self._value(token.text, token))
        return self._named(token)

    def _compare(self, values: Values) -> Mask:
        sign = self._next("<, <=, >, >=, = or !=", "sign")
        if sign.text not in OPERATORS:
            raise _expected("<, <=, >, >=, = or !=", sign)
        number = self._next("a number", "number")
        found: Mask = OPERATORS[sign.text](values, float(number.text))
        return found

    def _of_class(self, token: _Token) -> Values:
        """critical(cat), mean(cat)."""
        known = self._neurons.by_class
        if token.text not in ("critical", "mean"):
            raise SelectionError(
                f"There is no {token.text}(…) (character {token.place + 1}).", "Write critical(CLASS) or mean(CLASS)."
            )
        name = self._next("a class", "word", "quoted", "number")
        if (place := _place(name.text, self._neurons.classes)) is None:
            raise _unknown(name, "class", self._neurons.classes)
        self._close()
        if token.text not in known:
            raise SelectionError(
                "How critical neurons are has not been computed for this version.", "Run it on the page Slices first."
            )
        return known[token.text](place)

    def _value(self, name: str, token: _Token | None = None) -> Values:
        if name not in VALUES:
            raise _unknown(token or _Token("word", name, 0), "value", VALUES)
        if name not in self._neurons.table:
            raise SelectionError("This scan was made by an older version.", "Scan the version again.")
        return self._neurons.table[name].to_numpy(dtype=np.float64)

    def _named(self, token: _Token) -> Mask:
        """A class, a layer, or a word for a state."""
        table, name = self._neurons.table, token.text
        if (place := _place(name, self._neurons.classes)) is not None:
            return np.asarray(table["top_class"].to_numpy() == self._neurons.classes[place])
        layers = table["layer"].astype(str)
        inside = (layers == name) | layers.str.startswith(f"{name}.")
        if inside.any():
            return inside.to_numpy(dtype=bool)
        if name in STATES:
            return self._state(name)
        if "name" in table and (named := table["name"].to_numpy() == name).any():
            return np.asarray(named)
        stems = {".".join(layer.split(".")[:k]) for layer in layers.unique() for k in range(1, layer.count(".") + 2)}
        raise _unknown(token, "class, layer, name or state", (*self._neurons.classes, *sorted(stems), *STATES))

    def _state(self, name: str) -> Mask:
        table = self._neurons.table
        if name == "fixed":
            return table["fixed"].to_numpy(dtype=bool)
        if name == "dead":
            return np.asarray(table["active"].to_numpy() == 0)
        if "name_kind" not in table:
            raise SelectionError("This scan was made by an older version.", "Scan the version again.")
        return np.asarray(table["name_kind"].to_numpy() == name)

    def _takes(self, text: str) -> bool:
        if self.here.kind in ("joint", "sign") and self.here.text == text:
            self._at += 1
            return True
        return False

    def _close(self) -> None:
        if not self._takes(")"):
            raise _expected("a closing bracket", self.here)

    def _next(self, what: str, *kinds: str) -> _Token:
        token = self.here
        if token.kind not in kinds:
            raise _expected(what, token)
        self._at += 1
        return token


def _place(name: str, classes: tuple[str, ...]) -> int | None:
    """The class of this name; capitals matter only where two classes differ by nothing else."""
    if name in classes:
        return classes.index(name)
    alike = [place for place, known in enumerate(classes) if known.lower() == name.lower()]
    return alike[0] if len(alike) == 1 else None


def _expected(what: str, token: _Token) -> SelectionError:
    found = f"found {token.text!r}" if token.kind != "end" else "but the rule ends"
    return SelectionError(
        f"The rule needs {what} at character {token.place + 1}, {found}.",
        "Write for instance: layer3 and critical(cat) < 0.1",
    )


def _unknown(token: _Token, kind: str, known: tuple[str, ...]) -> SelectionError:
    near = get_close_matches(token.text, known, n=4, cutoff=0.3) or list(known[:6])
    return SelectionError(
        f"There is no {kind} {token.text[:60]!r} (character {token.place + 1}).",
        f"Known are, among others: {', '.join(near)}.",
    )
