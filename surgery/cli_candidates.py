"""Commands about what a project allows, and about results that wait for a decision."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from surgery.cli_jobs import project_of, workspace

if TYPE_CHECKING:
    from surgery.workspace import Version


def make_current(options: argparse.Namespace) -> None:
    """Make a version current, also one that waits for a decision."""
    ws = workspace()
    version = ws.version(options.version)
    ws.make_current(version.project, version.id)
    print(f"v{version.number} {version.name} is current")


def discard(options: argparse.Namespace) -> None:
    """Move a candidate to the trash."""
    version = workspace().discard(options.version)
    print(f"v{version.number} {version.name} is in the trash; the current version stays as it is")


def settings(options: argparse.Namespace) -> None:
    """Change and print the settings of a project."""
    ws = workspace()
    project = project_of(ws, options.project)
    if options.max_drop is not None or options.max_class_drop is not None:
        ws.set_tolerance(project, drop=options.max_drop, class_drop=options.max_class_drop)
    if options.trained_on:
        dataset = options.dataset or ws.project(project).dataset
        ws.set_trained_on(project, dataset or "", options.trained_on)
    found = ws.project(project)
    print(f"project {found.id}  {found.name}\n  maximum accuracy drop: {found.settings.tolerance}")
    for row in ws.datasets(project):
        print(f"  dataset {row.id}  {row.name}: {found.settings.seen(row.id)}")


def waiting(version: Version) -> str:
    """Why a version waits for a decision, and how to decide; "" for one that does not."""
    if not version.candidate:
        return ""
    return (
        f"candidate: {'; '.join(version.candidate)}\n"
        f"Decide with `surgery make-current {version.id}` or `surgery discard {version.id}`."
    )
