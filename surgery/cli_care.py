"""Commands that care for the workspace as a whole: examine and repair, back up and restore."""

from __future__ import annotations

import argparse
from pathlib import Path

from surgery.cli_jobs import workspace


def doctor(options: argparse.Namespace) -> int:
    """List what is wrong with the workspace; with --repair put it right. 1 while something is to be repaired."""
    from surgery.workspace import doctor as examination

    home = _home(None)
    if options.repair:
        for sentence in examination.repair(home):
            print(sentence)
    found = examination.examine(home)
    for finding in found:
        offer = f" With --repair: {finding.repair}." if finding.repair and not options.repair else ""
        print(f"{finding.where}: {finding.what}.{offer}")
    wrong = sum(bool(finding.repair) for finding in found)
    print(f"{home}: {wrong} to repair, {len(found) - wrong} to know of.")
    return 1 if wrong else 0


def backup(options: argparse.Namespace) -> None:
    """Write the whole workspace into one archive."""
    from surgery.workspace import backup as archives

    made = archives.backup(workspace().store, options.file, lambda name: print(name, flush=True))
    print(f"{options.file}: {made.files:,} files, {made.bytes / 1e6:,.1f} MB")
    for sentence in made.damaged:
        print(f"not as it was committed: {sentence}")


def restore(options: argparse.Namespace) -> None:
    """Make a workspace of an archive."""
    from surgery.workspace import backup as archives

    home = _home(options.home)
    found = archives.restore(options.file, home)
    print(f"{home}: {found.files:,} files, {found.bytes / 1e6:,.1f} MB, every checksum verified")


def _home(given: Path | None) -> Path:
    """The folder that is meant, without opening the workspace in it."""
    from surgery.workspace.store import default_home

    return (given or default_home()).expanduser().resolve()
