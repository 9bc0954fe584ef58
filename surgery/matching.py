"""Match the classes of a dataset to those of a model: by name only.

A model's outputs have an order, a dataset's classes have another. Where names differ, nothing here guesses silently:
the classes without a partner are named, pairs are suggested, and somebody renames them (`surgery.data.relabel`).
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

SHOWN = 4  # names in a message
SIMILAR = 0.6  # difflib's ratio from which a pair is suggested
FIX = "Rename them on the page Model & data, or with `surgery relabel DATASET {pair}`."
FIX_ORDER = (
    "If both have the same order, confirm it on the page Model & data, or with "
    "`surgery relabel DATASET --by-order VERSION`; else name the pairs: `surgery relabel DATASET OLD=NEW …`."
)


@dataclass(frozen=True)
class Pairs:
    """Suggested partners of the dataset's unknown classes. by: whether they resemble, or only stand at the same place.

    names: dataset class -> model class, "" where there is no suggestion.
    """

    names: Mapping[str, str]
    by: Literal["name", "position"]


def unknown(classes: Sequence[str], known: Sequence[str]) -> list[str]:
    """The dataset's classes that the model does not have, in order."""
    have = set(known)
    return [name for name in classes if name not in have]


def apart(classes: Sequence[str], known: Sequence[str]) -> bool:
    """Whether a classifier cannot be measured on a dataset before classes are renamed.

    A dataset that has all of the model's classes and others besides is narrowed to them: nothing is missing.
    """
    return bool(unknown(classes, known)) and not set(known) <= set(classes)


def suggested(classes: Sequence[str], known: Sequence[str]) -> Pairs:
    """A partner for each unknown class, each model class at most once; by position only where no name resembles."""
    odd = unknown(classes, known)
    free = [name for name in known if name not in classes]
    found: dict[str, str] = {}
    for name in odd:
        if partner := _partner(name, free):
            found[name] = partner
            free.remove(partner)
    if not found and len(odd) == len(classes) == len(known):
        return Pairs(dict(zip(classes, known, strict=True)), "position")
    return Pairs({name: found.get(name, "") for name in odd}, "name")


def same_but_spelling(classes: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Unknown classes that differ from one of the model only in case, separators, leading zeros or such."""
    plain = {_plain(name): name for name in known}
    return {name: plain[_plain(name)] for name in unknown(classes, known) if _plain(name) in plain}


def mismatch(classes: Sequence[str], known: Sequence[str], data: str = "the dataset") -> tuple[str, str]:
    """What is wrong and what to do where a dataset has classes that the model lacks."""
    odd, pairs = unknown(classes, known), suggested(classes, known)
    if len(odd) == len(classes):
        what = f"None of the {len(classes)} classes of {data} ({some(classes)}) has the name of a class of the model"
    else:
        are = "is no class" if len(odd) == 1 else "are no classes"
        what = f"{len(odd)} of the {len(classes)} classes of {data} ({some(odd)}) {are} of the model"
    what = f"{what} ({some(known)}); labels are never matched by position."
    if pairs.by == "position":
        return what, FIX_ORDER
    return what, FIX.format(pair=next((f"'{old}={new}'" for old, new in pairs.names.items() if new), "OLD=NEW …"))


def some(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def folded(name: str) -> str:
    """A name without what a reader overlooks: Unicode form, case, and repeated or outer blanks."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def _partner(name: str, free: Sequence[str]) -> str:
    """The free model class that resembles a name most, or ""."""
    plain = {other: _plain(other) for other in free}
    own = _plain(name)
    for other, text in plain.items():
        if text == own:
            return other
    starts = [o for o, text in plain.items() if min(len(text), len(own)) > 2 and _within(text, own)]
    if starts:
        return max(starts, key=lambda other: difflib.SequenceMatcher(None, own, plain[other]).ratio())
    words = {text: other for other, text in plain.items() if not text.isdigit()}
    near = difflib.get_close_matches(own, words, 1, SIMILAR) if not own.isdigit() else []
    return words[near[0]] if near else ""


def _within(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _plain(name: str) -> str:
    """A name without case, separators, leading zeros and a prefix such as "class_"."""
    text = re.sub(r"[\s_\-.]+", "", folded(name))
    text = re.sub(r"^(?:class|label|cls)(?=\d+$)", "", text)
    return text.lstrip("0") or "0" if text.isdigit() else text
