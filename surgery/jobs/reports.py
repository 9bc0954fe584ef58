"""What a worker says while it works: JSON lines in `events.jsonl`, free text in `stderr.txt`, read by offset."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from surgery.workspace import Workspace, queue
from surgery.workspace.rows import Job

EVENTS, ERRORS = "events.jsonl", "stderr.txt"
_CHUNK = 1 << 20  # bytes read at once
_TAIL = 1 << 16


def events(ws: Workspace, job_id: str, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The events that a job reported from byte `offset` on, and the offset to go on from.

    Each is one of {"stage", "done", "total", "seconds"}, {"point": {…}}, {"log": text}. At most 1 MB per call: an
    unfinished last line waits for the next one.
    """
    path = queue.get(ws.store, job_id).folder / EVENTS
    lines, end = _read(path, offset, _CHUNK)
    return [_event(line) for line in lines], end


def log_tail(ws: Workspace, job_id: str, lines: int = 200) -> str:
    """The last lines of a job's log, then those of its error output."""
    folder = queue.get(ws.store, job_id).folder
    logged = [str(event["log"]) for event in _last(folder / EVENTS) if "log" in event]
    return "\n".join([*logged, *error_lines(folder)][-lines:])


def with_progress(job: Job) -> Job:
    """The job with stage, percent and seconds to go, as last reported."""
    if job.state == "done":
        return replace(job, percent=100.0)
    steps = [event for event in _last(job.folder / EVENTS) if "stage" in event]
    if job.state == "queued" or not steps:
        return job
    stage, done, total = (steps[-1].get(name) for name in ("stage", "done", "total"))
    if not total or done is None:
        return replace(job, stage=str(stage))
    eta = steps[-1]["seconds"] / done * (total - done) if done else None
    return replace(job, stage=str(stage), percent=100.0 * done / total, eta=eta)


def error_lines(folder: Path) -> list[str]:
    """The last lines that the worker, or a library in it, wrote to its error output."""
    path = folder / ERRORS
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return file.read().decode(errors="replace").splitlines()


def _last(path: Path) -> list[dict[str, Any]]:
    """The events in the last 64 KB of a report."""
    if not path.exists():
        return []
    start = max(0, path.stat().st_size - _TAIL)
    lines, _ = _read(path, start, _TAIL)
    return [_event(line) for line in (lines[1:] if start else lines)]  # the first one may be cut


def _read(path: Path, offset: int, limit: int) -> tuple[list[bytes], int]:
    """The complete lines from `offset` on, and where they end."""
    if not path.exists():
        return [], offset
    with path.open("rb") as file:
        file.seek(offset)
        content = file.read(limit)
    complete = content[: content.rfind(b"\n") + 1]
    return complete.splitlines(), offset + len(complete)


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return event if isinstance(event, dict) else {"log": line.decode(errors="replace")}
