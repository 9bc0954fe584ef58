"""Commands that decide: list the versions and move the current one, compare versions."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from surgery.cli_jobs import project_of, wait, workspace
from surgery.errors import SurgeryError

if TYPE_CHECKING:
    from surgery.workspace import Workspace


def versions(options: argparse.Namespace) -> None:
    """List what is there; make current, undo, verify."""
    from surgery.standing import said

    ws = workspace()
    if options.verify:
        print(ws.verify(options.verify))
        return
    if options.current:
        ws.make_current(ws.version(options.current).project, options.current)
    if options.undo:
        _undo(ws, project_of(ws, options.project))
    chosen = {project_of(ws, options.project)} if options.project else {p.id for p in ws.projects()}
    for project in ws.projects():
        if project.id not in chosen:
            continue
        print(f"project {project.id}  {project.name}  {said(ws, project)}".rstrip())
        for row in ws.datasets(project.id):
            print(f"  dataset {row.id}  {row.name}  {row.samples:,} samples")
        for version in ws.versions(project.id):
            mark = "*" if version.id == project.current else " "
            made = f"{version.operation} of {version.parent}" if version.parent else version.operation
            print(f" {mark}version {version.id}  v{version.number} {version.name}  {version.parameters:,}  {made}")
            if version.candidate:
                print(f"    candidate: {'; '.join(version.candidate)}")


def _undo(ws: Workspace, project: str) -> None:
    """Take back what last changed the current version, and name both."""
    before = ws.project(project).current
    now = ws.undo(project)
    left, current = (ws.version(str(id)) for id in (before, now.current))
    print(f"undo: v{current.number} {current.name} is current again instead of v{left.number} {left.name}")


def compare(options: argparse.Namespace) -> None:
    """Measure versions in one run; print what changed from the first to each other one."""
    from surgery import change
    from surgery.receipt import Receipt
    from surgery.standing import removed_between, with_classes
    from surgery.tell import tell

    ws = workspace()
    chosen = [ws.version(id) for id in dict.fromkeys(options.versions)]
    first, *others = chosen
    dataset = options.dataset or ws.project(first.project).dataset
    if dataset is None:
        raise SurgeryError("The project has no dataset to compare on.", "Import one, or name it with --dataset.")
    task = {"kind": "compare", "versions": [version.id for version in chosen], "dataset": dataset}
    result = wait(ws, task, project=first.project, title="Compare").result
    rows = change.seeing(result["rows"], ws.project(first.project).settings.answer(dataset))
    labels = [f"v{version.number} {version.name}" for version in chosen]  # as the job writes them
    for label, other in zip(labels[1:], others, strict=True):
        print(f"{labels[0]} → {label}")
        if "receipt" in result:
            receipt = with_classes(ws, Receipt.from_json(result["receipt"]), first.id, other.id)
            print("\n".join(tell(receipt).lines))
        elif gone := removed_between(ws, first, other):
            print(gone)
        for row in change.between(rows, labels[0], label):
            sides = f"{change.value(row, 'before')} → {change.value(row, 'after')}"
            print(f"  {change.title(row):<32} {sides:<32} {change.worded(row)}  {change.measured_on(row)}".rstrip())
    if not others:
        for row in change.between(rows, labels[0], labels[0]):
            print(f"  {change.title(row):<32} {change.value(row, 'after'):<24} {change.measured_on(row)}".rstrip())
