"""What is left of a workspace after faults: of files, of processes, of disks, of machines.

At least 500 faults in the full form, made by chance from a seed. Each is judged by what must not follow: a version or
dataset lost, damage passed over in silence, a job in a state that it is not in, an error that says nothing to a user,
or a workspace from which `surgery doctor` does not bring back what is whole.
"""

from __future__ import annotations

import logging
import random
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import fault_files, fault_processes
from benchmarks.fault_files import Verdict

SEED = 22
QUICK = 25  # faults of files of each family are divided by this in the quick form


def measure(*, quick: bool) -> dict[str, Any]:
    """How many faults were made, and what went wrong in all of them together."""
    logging.disable(logging.CRITICAL)
    try:
        found = [*_files(quick), *_processes(quick)]
    finally:
        logging.disable(logging.NOTSET)
    rows, total, made = [], Verdict(), 0
    for name, count, verdict in found:
        rows.append(_row(name, count, verdict))
        if count is not None:
            made += count
            total.add(verdict)
    return {
        "faults": made,
        "lost": total.lost,
        "unnoticed": total.unnoticed,
        "untrue_job_states": total.untrue,
        "not_brought_back": total.not_brought_back,
        "raw_errors": total.raw_errors,
        "table": rows,
    }


def _files(quick: bool) -> list[tuple[str, int | None, Verdict]]:
    found: list[tuple[str, int | None, Verdict]] = []
    with tempfile.TemporaryDirectory(prefix="surgery-faults-") as folder:
        master = fault_files.master(Path(folder) / "master")
        for name, (fault, often) in fault_files.FAULTS.items():
            count = max(1, often // QUICK) if quick else often
            total = Verdict()
            for number in range(count):
                chance = random.Random(f"{SEED} {name} {number}")
                total.add(fault_files.judge(chance, fault, master, Path(folder) / "trial"))
            found.append((name, count, total))
    return found


def _processes(quick: bool) -> list[tuple[str, int | None, Verdict]]:
    found: list[tuple[str, int | None, Verdict]] = []
    for name in fault_processes.FAMILIES:
        outcome = fault_processes.run(name, SEED, quick=quick)
        found.append((name, None, Verdict()) if outcome is None else (name, *outcome))
    return found


def _row(name: str, count: int | None, verdict: Verdict) -> dict[str, Any]:
    if count is None:
        return {"fault": name, "made": "not possible here"}
    return {
        "fault": name,
        "made": count,
        "lost": verdict.lost,
        "unnoticed": verdict.unnoticed,
        "untrue job states": verdict.untrue,
        "not brought back": verdict.not_brought_back,
        "raw errors": verdict.raw_errors,
        "first of what went wrong": verdict.said[0][:200] if verdict.said else "",
    }
