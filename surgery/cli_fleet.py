"""The command about fleets: list them, replay streams through one, take a guest back, take a fleet away."""

from __future__ import annotations

import argparse
import shutil
from typing import TYPE_CHECKING

from surgery.cli_jobs import project_of, wait, workspace
from surgery.errors import WorkspaceError

if TYPE_CHECKING:
    from surgery.workspace import Workspace
    from surgery.workspace.rows import Fleet


def fleet(options: argparse.Namespace) -> None:
    """Do what was asked for with a fleet, or list those of a project."""
    from surgery.receipt import Receipt
    from surgery.tell import tell

    ws = workspace()
    if options.fleet is None:
        if options.take_back or options.share_again or options.replay or options.export:
            raise WorkspaceError("No fleet was named.", "Give its id; `surgery fleet` lists all.")
        for one in ws.fleets(project_of(ws, options.project)):
            told = tell(Receipt.from_json(ws.fleet_document(one.id, "receipt")))
            print(f"fleet {one.id}  {one.number} {one.name}\n  {told.line}")
            _members(one)
        return
    found = ws.fleet(options.fleet)
    if options.take_back:
        found = ws.take_back(found.id, _guest(found, options.take_back))
    if options.share_again:
        found = ws.share_again(found.id, _guest(found, options.share_again))
    if options.replay:
        _replay(ws, found, options)
        found = ws.fleet(found.id)
    if options.export:
        task = {"kind": "export_fleet", "fleet": found.id}
        job = wait(ws, task, project=found.project, title=f"Export fleet {found.number}")
        shutil.copyfile(job.result["file"], options.export)
        if job.result.get("needs"):
            from surgery.ui.export import needs_said

            print(needs_said(job.result["needs"]))
        print(f"wrote {options.export}")
    _members(found)


def _replay(ws: Workspace, fleet: Fleet, options: argparse.Namespace) -> None:
    task = {"kind": "replay", "fleet": fleet.id, "datasets": options.replay, "share": options.watched}
    job = wait(ws, task, project=fleet.project, title=f"Replay through fleet {fleet.number}")
    print(f"{job.result['inputs']:,} inputs, {job.result['skipped']:,} of them no numbers")
    for event in job.result["events"]:
        print(
            f"{event['guest']} taken back after {event['inputs']:,} inputs, in {event['stream']}: agreement "
            f"{event['agreement']:.1%} below {event['limit']:.1%}"
        )


def _members(fleet: Fleet) -> None:
    for name, version in fleet.members.items():
        host = fleet.hosts.get(name)
        said = "taken back" if name in fleet.back else f"goes on from {host}" if host else "as it is"
        print(f"  {version}  {name}: {said}")


def _guest(fleet: Fleet, name: str) -> str:
    """A member by its name, or by the id of its version.

    Raises:
        WorkspaceError: the fleet has none like that.
    """
    for member, version in fleet.members.items():
        if name in (member, version):
            return member
    raise WorkspaceError(f"Fleet {fleet.name!r} has no member {name!r}.", f"Members: {', '.join(fleet.members)}.")
