"""The audit log: appended to by every write (`Store.record`), never changed."""

from __future__ import annotations

from sqlalchemy import select

from surgery.workspace.catalogue import events
from surgery.workspace.rows import Event
from surgery.workspace.store import Store, fetch, moment


def listing(store: Store, project: str | None, limit: int) -> list[Event]:
    """The last `limit` events of a project, or of all, newest first."""
    wanted = select(events).order_by(events.c.number.desc()).limit(limit)
    if project is not None:
        wanted = wanted.where(events.c.project == project)
    with store.read() as db:
        rows = fetch(db, wanted)
    return [Event(**{**row, "when": moment(row["when"])}) for row in rows]
