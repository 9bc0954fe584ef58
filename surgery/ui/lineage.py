"""The family tree of versions as rows: children below their parent, drawn with branches, without any HTML."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from surgery.workspace import Version


@dataclass(frozen=True)
class Node:
    """One version and the branches before its name: `│  └─ `."""

    version: Version
    branches: str


def tree(versions: Sequence[Version]) -> list[Node]:
    """Order versions parents first, each child below its parent; one whose parent is gone counts as a root."""
    known = {version.id for version in versions}
    children: defaultdict[str | None, list[Version]] = defaultdict(list)
    for version in sorted(versions, key=lambda version: version.number):
        children[version.parent if version.parent in known else None].append(version)

    def below(parent: str | None, indent: str) -> Iterator[Node]:
        family = children[parent]
        for version in family:
            last = version is family[-1]
            branch, further = ("└─ ", "   ") if last else ("├─ ", "│  ")
            if parent is None:
                branch = further = ""
            yield Node(version, indent + branch)
            yield from below(version.id, indent + further)

    return list(below(None, ""))
