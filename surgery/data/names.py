"""Names that came with a file: made visible, and compared as a person would."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from surgery.matching import folded

# Control characters, line and paragraph separators, overrides of the reading direction, halves of a character, and
# what no text may hold. Joiners and marks that words of real scripts need are not among them.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]")


def visible(text: str) -> str:
    r"""`text` with every character that cannot be seen or stored as its code, for instance \u202e."""
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def alike(names: Sequence[str]) -> list[list[int]]:
    """Groups of places whose names are equal but for Unicode form, case or blanks; each group in order."""
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        groups.setdefault(folded(name), []).append(place)
    return [places for places in groups.values() if len(places) > 1]


def difference(one: str, other: str) -> str:
    """In what two names that are alike differ, in words."""
    a, b, parts = _composed(one), _composed(other), []
    if _spaced(a).casefold() == _spaced(b).casefold() and _spaced(a) != _spaced(b):
        parts.append("case")
    if a.casefold() != b.casefold():
        parts.append("blanks")
    if one != other and (a == b or not parts):
        parts.append("Unicode form")
    return " and ".join(parts) or "nothing"


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _spaced(text: str) -> str:
    return " ".join(text.split())
