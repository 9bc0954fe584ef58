"""Plain data from an uploaded file: strict JSON, and values that can be nothing but numbers and short words.

A word is an identifier such as "gelu_new" or "full_attention": it can name no file, address, module or attribute of an
object. Everything that decides how a network is built goes through `plain` before a library sees it. No torch here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

LARGEST = 2**31 - 1  # a size beyond it is in no network, and libraries compute with it
ENTRIES = 4096  # of one list
DEPTH = 4  # of lists within lists
JSON_DEPTH = 100
SHOWN = 80  # characters of a refused value in a message

_LISTS = (list, tuple, range)
_WORD = re.compile(r"(?!.*(__|--))[A-Za-z0-9][A-Za-z0-9_+|-]{0,59}")
_PATH = re.compile(r"[A-Za-z0-9_]{1,120}(\.[A-Za-z0-9_]{1,120}){0,40}")

# Parts of the names of options that may be below zero: ids and places of which −1 is none or the last, and distances.
_SIGNED = ("token", "index", "indices", "indexes", "relative", "offset", "axis", "clamp_len")

Check = Callable[[Any, str], Any]  # a value and where it stands -> the value as it may be used


class RefusedError(ValueError):
    """A value that no architecture may be built with; the text says where it stands, what it is, what is allowed."""


def parse(text: str | bytes) -> Any:
    """Read JSON as the standard has it: every key once, finite numbers, characters that can be written again.

    Raises:
        ValueError: it is something else; the text says what.
    """
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise ValueError(f"it is nested more than {JSON_DEPTH} levels deep") from None
    except UnicodeError:
        raise ValueError("it holds characters that are no Unicode text") from None
    if _depth(found) > JSON_DEPTH:
        raise ValueError(f"it is nested more than {JSON_DEPTH} levels deep")
    return found


def plain(value: Any, where: str) -> Any:
    """A number, truth value, word, nothing, or a list of them.

    Raises:
        RefusedError: it is anything else.
    """
    return _plain(value, where, DEPTH)


def option(value: Any, where: str) -> Any:
    """A plain value of which no whole number is below zero, but for those that count from an end or stand for nothing.

    Raises:
        RefusedError: it is anything else.
    """
    found = plain(value, where)
    if not any(word in where.rpartition(".")[2] for word in _SIGNED) and any(_negative(found)):
        raise RefusedError(f"{where} is {shown(value)}; a size or a number of parts is not below zero")
    return found


def _negative(value: Any) -> Iterator[bool]:
    if isinstance(value, list):
        for one in value:
            yield from _negative(one)
    yield type(value) is int and value < 0


def module_path(value: Any, where: str) -> str:
    """The dotted name of a module within a network, such as "layer1.0.conv1".

    Raises:
        RefusedError: it is anything else.
    """
    if not isinstance(value, str) or not _PATH.fullmatch(value) or "__" in value:
        raise RefusedError(f"{where} is {shown(value)}, not the name of a module such as layer1.0.conv1")
    return value


def label(value: Any, where: str) -> str:
    """A name that is shown and never looked up: any printable text of at most 200 characters.

    Raises:
        RefusedError: it is anything else.
    """
    if not isinstance(value, str) or not value.isprintable() or len(value) > 200:
        raise RefusedError(f"{where} is {shown(value)}, not a name of at most 200 printable characters")
    return value


def listed(check: Check) -> Check:
    """A list whose every entry passes `check`."""

    def checked(value: Any, where: str) -> list[Any]:
        if not isinstance(value, _LISTS) or len(value) > ENTRIES:
            raise RefusedError(f"{where} is {shown(value)}, not a list of at most {ENTRIES:,} entries")
        return [check(one, f"{where}[{place}]") for place, one in enumerate(value)]

    return checked


def record(known: Mapping[str, Check], left_out: frozenset[str] = frozenset()) -> Check:
    """An object with no other names than `known`, each of which passes its check; names in `left_out` are dropped."""

    def checked(value: Any, where: str) -> dict[str, Any]:
        return {
            name: _known(known, name, where)(one, within(where, name))
            for name, one in _object(value, where).items()
            if name not in left_out
        }

    return checked


def mapping(check: Check, named: Check | None = None) -> Check:
    """An object under whose every name is something that passes `check`; the names pass `named`, by default `label`."""

    def checked(value: Any, where: str) -> dict[str, Any]:
        names = named or label
        return {names(name, where): check(one, within(where, name)) for name, one in _object(value, where).items()}

    return checked


def within(where: str, name: str) -> str:
    """The place of a name within a place; "it" is the outermost."""
    return name if where == "it" else f"{where}.{name}"


def nothing_or(check: Check) -> Check:
    """`None`, or what passes `check`."""
    return lambda value, where: None if value is None else check(value, where)


def shown(value: Any) -> str:
    """A value in a message: short and printable."""
    if isinstance(value, _LISTS):
        return f"a list of {len(value):,} entries"
    if isinstance(value, Mapping):
        return f"an object of {len(value):,} names"
    if isinstance(value, int) and abs(value) > 10**SHOWN:
        return "a number of very many digits"
    text = repr(value[:SHOWN] if isinstance(value, str) else value)
    return "".join(letter if letter.isprintable() else "?" for letter in text)[: SHOWN + 2]


def _plain(value: Any, where: str, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) <= LARGEST:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, str) and _WORD.fullmatch(value):
        return value
    if isinstance(value, _LISTS) and len(value) <= ENTRIES and depth:
        return [_plain(one, f"{where}[{place}]", depth - 1) for place, one in enumerate(value)]
    raise RefusedError(
        f"{where} is {shown(value)}; numbers below 2^31, words of letters and digits, and lists of them are allowed"
    )


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise RefusedError(f"{where} is {shown(value)}, not an object of names and values")
    return value


def _known(known: Mapping[str, Check], name: str, where: str) -> Check:
    if name not in known:
        raise RefusedError(f"{where} takes no {shown(name)}")
    return known[name]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"the name {shown(twice)} stands in it twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _depth(value: Any) -> int:
    """How many levels of objects and lists there are, without recursion."""
    level, depth = [value], 0
    while level := [one for part in level if isinstance(part, (dict, list)) for one in _inside(part)]:
        depth += 1
    return depth


def _inside(part: dict[str, Any] | list[Any]) -> list[Any]:
    return list(part.values()) if isinstance(part, dict) else part
