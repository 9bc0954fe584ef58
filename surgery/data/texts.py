"""A text file into a dataset: windows of characters, each with the character that follows it.

The windows lie side by side, so that nothing is counted twice. Roles go to whole blocks of neighbouring windows: a
character of a test window is in no other role, but for the one that a window before a border has to say. Files are read
as UTF-8; line ends become "\\n".
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from surgery.context import Context
from surgery.data.dataset import Dataset, Heading
from surgery.data.findings import Findings
from surgery.data.limits import check as check_memory
from surgery.data.rows import Ids
from surgery.data.splits import SHARES
from surgery.data.writer import Writer
from surgery.errors import DataError

CONTEXT = 64  # characters of a window, where nobody asks for another number
LONGEST = 4_096
BLOCK = 16  # windows that share a role
FEWEST = 20  # blocks, so that every role gets some
MOST = 512  # different characters
BYTES = 50 * 10**6
LETTERS = 1 << 22  # characters that are numbered together
AT_ONCE = 4_096  # windows that are written together

# What a class is called where a character cannot be seen.
NAMES = {" ": "space", "\n": "line end", "\t": "tab"}
GROUPS = ("vowel", "consonant", "capital", "digit", "space", "line end", "mark", "other")


def import_text(path: Path, folder: Path, *, name: str, context: int | None, ctx: Context, seed: int) -> Dataset:
    """Import a text file in windows of `context` characters.

    Raises:
        DataError: it is not UTF-8, or as `from_text`. DiskFullError: the windows do not fit on the disk.
    """
    return from_text(read(path), folder, name=name, context=context, ctx=ctx, seed=seed)


def from_text(text: str, folder: Path, *, name: str, context: int | None, ctx: Context, seed: int = 0) -> Dataset:
    """Cut a text into windows of `context` characters.

    Raises:
        DataError: it is too short or has too many different characters, or such windows are not possible.
        DiskFullError: the windows do not fit on the disk.
    """
    size = CONTEXT if context is None else context
    if not 2 <= size <= LONGEST:
        raise DataError(f"Windows of {size:,} characters are not possible.", f"Ask for 2 to {LONGEST:,}.")
    alphabet = _alphabet(text)
    if len(alphabet) > MOST:
        raise DataError(
            f"{name!r} has {len(alphabet):,} different characters; a model of characters takes at most {MOST}.",
            "Replace rare characters, for instance accents and symbols, and import it again.",
        )
    windows = (len(text) - 1) // size
    if windows < BLOCK * FEWEST:
        raise DataError(
            f"{name!r} has {len(text):,} characters: {windows:,} windows of {size}, not {BLOCK * FEWEST}.",
            "Give a longer text, or ask for shorter windows.",
        )
    check_memory(name, windows)
    codes = _codes(text, alphabet)
    x, y = codes[: windows * size].reshape(windows, size), codes[size : windows * size + 1 : size]
    roles = _roles(windows, seed)
    findings = Findings()
    learnt = {row.tobytes() for row in x[roles == "train"]}
    known = sum(row.tobytes() in learnt for row in x[roles == "test"])
    if known:
        findings.notes.append(
            f"{known:,} of {int((roles == 'test').sum()):,} test windows are in training too: the text repeats itself."
        )
    with Writer(folder, (size,), np.uint16) as writer:
        for start in ctx.track(range(0, windows, AT_ONCE), "cutting windows"):
            own = slice(start, start + AT_ONCE)
            places = [f"from character {size * number + 1:,}" for number in range(windows)[own]]
            writer.add(x[own], y[own], places, role=roles[own].tolist())
        heading = Heading(
            name=name, kind="text", task="classification", classes=tuple(named(chr(one)) for one in alphabet.tolist())
        )
        return writer.finish(heading, findings, targets=y, seed=seed)


def _letters(text: str) -> Iterator[NDArray[np.uint32]]:
    """The characters as numbers, some millions at a time: all at once would take many times the text."""
    for start in range(0, len(text), LETTERS):
        yield np.frombuffer(text[start : start + LETTERS].encode("utf-32-le", "surrogatepass"), "<u4")


def _alphabet(text: str) -> NDArray[np.int64]:
    """The different characters, in order."""
    found = np.zeros(sys.maxunicode + 1, dtype=bool)
    for letters in _letters(text):
        found[letters] = True
    return np.flatnonzero(found)


def _codes(text: str, alphabet: NDArray[np.int64]) -> NDArray[np.uint16]:
    """uint16[characters]: the place of each in the alphabet."""
    place = np.zeros(sys.maxunicode + 1, dtype=np.uint16)
    place[alphabet] = np.arange(len(alphabet))
    return np.concatenate([place[letters] for letters in _letters(text)])


def read(path: Path) -> str:
    """The text of a file, with "\\n" at line ends.

    Raises:
        DataError: it is too large, or not UTF-8.
    """
    if path.stat().st_size > BYTES:
        raise DataError(
            f"{path.name!r} has {path.stat().st_size / 1e6:,.0f} MB; a text may have {BYTES / 1e6:,.0f} MB.",
            "Give a part of it.",
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name!r} is not UTF-8 text: byte {error.start:,} fits nothing.", "Save it as UTF-8."
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def peek_text(path: Path, limit: int) -> list[tuple[bytes | dict[str, object], str]]:
    """The first lines that are not empty, as rows of one column, without labels."""
    with path.open("rb") as file:
        lines = file.read(64_000).decode("utf-8-sig", errors="replace").splitlines()
    shown = [line[:200] for line in lines if line.strip()][:limit]
    return [({"text": line}, "") for line in shown]


def named(character: str) -> str:
    """How a character is called as a class."""
    return NAMES.get(character) or (character if character.isprintable() else f"U+{ord(character):04X}")


def character(name: str) -> str:
    """The character that `named` gave a name; any other name stands for itself."""
    known = {label: one for one, label in NAMES.items()}
    code = re.fullmatch(r"U\+([0-9A-F]{4,6})", name)
    return known.get(name) or (chr(int(code[1], 16)) if code and int(code[1], 16) <= sys.maxunicode else name)


def containing(data: Dataset, phrase: str, limit: int = 24) -> Ids:
    """int64[≤ limit]: windows of val, then of train, in which a phrase occurs, the character that follows included."""
    names = [named(one) for one in phrase]
    found: list[Ids] = []
    if not phrase or not set(names) <= set(data.classes):
        return np.zeros(0, dtype=np.int64)
    wanted = [data.classes.index(name) for name in names]
    for role in ("val", "train"):
        ids = data.ids(role)
        for start in range(0, len(ids), AT_ONCE):
            own = ids[start : start + AT_ONCE]
            codes = np.column_stack([data.raw(own), data.labels(own)])
            hit = np.zeros(len(own), dtype=bool)
            for at in range(codes.shape[1] - len(wanted) + 1):
                hit |= (codes[:, at : at + len(wanted)] == wanted).all(1)
            found.append(own[hit])
            if sum(map(len, found)) >= limit:
                break
    return np.concatenate([np.zeros(0, dtype=np.int64), *found])[:limit]


def spelled(classes: Sequence[str], codes: Iterable[int]) -> str:
    """The text of numbered characters."""
    known = [character(name) for name in classes]
    return "".join(known[int(code)] for code in codes)


def group(name: str) -> str:
    """The kind, one of GROUPS, of a character that is given as a class."""
    one = character(name)
    if len(one) != 1:
        return "other"
    if one in NAMES:
        return "line end" if one == "\n" else "space"
    if one.isdigit():
        return "digit"
    if not one.isalpha():
        return "mark" if one.isprintable() else "other"
    if one.isupper():
        return "capital"
    plain = unicodedata.normalize("NFD", one)[0]
    if not "a" <= plain <= "z":
        return "other"
    return "vowel" if plain in "aeiouy" else "consonant"


def _roles(windows: int, seed: int) -> NDArray[np.str_]:
    """A role for every window, the same within a block."""
    blocks = -(-windows // BLOCK)
    order = np.random.default_rng(seed).permutation(blocks)
    roles = np.full(blocks, "train", dtype="U10")
    start = 0
    for role, share in SHARES.items():
        count = max(1, round(share * blocks))
        roles[order[start : start + count]] = role
        start += count
    return roles.repeat(BLOCK)[:windows]
