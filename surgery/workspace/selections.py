"""Selections: named neuron ids of one version, and their way through surgeries by the old-id maps."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from surgery.errors import SelectionError
from surgery.operations.base import digest_of
from surgery.workspace.catalogue import lineage, selections, versions
from surgery.workspace.rows import Selection
from surgery.workspace.store import Store, clean_name, fetch, find, moment, new_id
from surgery.workspace.versions import unpack

_FIELDS = ("id", "project", "version", "name", "digest")


def selection_of(row: Mapping[str, Any]) -> Selection:
    """The public form of a catalogue row."""
    return Selection(created=moment(row["created"]), ids=tuple(row["ids"]), **{name: row[name] for name in _FIELDS})


def save(store: Store, project: str, version: str, name: str, ids: Sequence[int]) -> Selection:
    """Save neuron ids under a name; the same name on the same version is replaced.

    Raises:
        SelectionError: no ids, or one that the version does not have.
    """
    name, chosen = clean_name(name, "selection"), sorted({int(id) for id in ids})
    with store.write() as db:
        row = find(db, versions, version, "version")
        _check(chosen, row, project)
        same = (selections.c.version == version) & (selections.c.name == name)
        db.execute(delete(selections).where(same))
        id, values = new_id(), {"project": project, "version": version, "name": name, "ids": chosen}
        db.execute(insert(selections).values(id=id, digest=digest_of(chosen), created=time.time(), **values))
        what = f"saved selection {name!r} of {len(chosen)} neurons"
        store.record(db, what, project=project, subject=id, digest=digest_of(chosen))
        return selection_of(find(db, selections, id, "selection"))


def _check(ids: Sequence[int], version: Mapping[str, Any], project: str) -> None:
    if version["project"] != project:
        raise SelectionError(f"Version {version['name']!r} belongs to another project.", "Open that project.")
    if not ids:
        raise SelectionError("The selection is empty.", "Choose at least one neuron.")
    for id in (ids[0], ids[-1]):
        if not 0 <= id < version["neurons"]:
            raise SelectionError(
                f"Neuron {id} does not exist: version {version['number']} {version['name']!r} has neurons "
                f"0 to {version['neurons'] - 1}.",
                "Make the selection on this version, or map it through its old ids.",
            )


def get(store: Store, id: str) -> Selection:
    """One selection."""
    with store.read() as db:
        return selection_of(find(db, selections, id, "selection"))


def listing(store: Store, project: str, version: str | None) -> list[Selection]:
    """The selections of a project, or of one of its versions, oldest first."""
    wanted = select(selections).where(selections.c.project == project).order_by(selections.c.created)
    if version is not None:
        wanted = wanted.where(selections.c.version == version)
    with store.read() as db:
        return [selection_of(row) for row in fetch(db, wanted)]


def remove(store: Store, id: str) -> None:
    """Delete a selection; plans made from it carry the ids themselves."""
    with store.write() as db:
        row = find(db, selections, id, "selection")
        db.execute(delete(selections).where(selections.c.id == id))
        what = f"deleted selection {row['name']!r}"
        store.record(db, what, project=row["project"], subject=id, digest=row["digest"])


def carry(store: Store, id: str, version: str) -> tuple[list[int], list[int]]:
    """Map a selection to another version of its lineage: up to the common ancestor, then down.

    Returns:
        ids: the selected neurons in `version`'s numbering, rising.
        lost: the ids, in the selection's own numbering, that have no counterpart there.

    Raises:
        SelectionError: the two versions have no common ancestor.
    """
    with store.read() as db:
        chosen = selection_of(find(db, selections, id, "selection"))
        up, down = _path(db, chosen.version, version)
        carried = {start: [start] for start in chosen.ids}
        for step in up:
            carried = _follow(carried, _to_parent(db, step))
        for step in down:
            carried = _follow(carried, _from_parent(db, step))
    found = {end for ends in carried.values() for end in ends}
    return sorted(found), [start for start in chosen.ids if not carried[start]]


def _follow(carried: Mapping[int, list[int]], moves: Mapping[int, list[int]]) -> dict[int, list[int]]:
    return {start: [end for at in places for end in moves.get(at, [])] for start, places in carried.items()}


def _path(db: Connection, source: str, target: str) -> tuple[list[str], list[str]]:
    """The versions to leave upwards, in order, and those to enter downwards."""
    upwards, downwards = _ancestors(db, source), _ancestors(db, target)
    common = next((version for version in upwards if version in downwards), None)
    if common is None:
        raise SelectionError(
            "The selection belongs to a version that shares no ancestor with this one.", "Select anew on this version."
        )
    return upwards[: upwards.index(common)], downwards[: downwards.index(common)][::-1]


def _ancestors(db: Connection, version: str) -> list[str]:
    """The version itself, its parent, … the root; also through versions that were deleted for good."""
    chain: list[str] = []
    following: str | None = version
    while following is not None:
        chain.append(following)
        following = find(db, lineage, following, "version", key="version")["parent"]
    return chain


def _to_parent(db: Connection, version: str) -> dict[int, list[int]]:
    old = unpack(find(db, lineage, version, "version", key="version")["kept"]) or []
    return {new: [parent] for new, parent in enumerate(old) if parent >= 0}


def _from_parent(db: Connection, version: str) -> dict[int, list[int]]:
    entered: defaultdict[int, list[int]] = defaultdict(list)
    for new, parents in _to_parent(db, version).items():
        entered[parents[0]].append(new)
    return entered
