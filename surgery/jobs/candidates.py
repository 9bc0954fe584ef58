"""Candidates: models on the way of a job, kept beside it so that a person can take one, also when the job was stopped.

A candidate is a folder `candidates/NUMBER` of the job with the model, its old ids and what is known of it; it appears
at once or not at all. It goes when the job's project goes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.errors import NotFoundError
from surgery.workspace.files import force_to_disk, full_disk_refused, publish
from surgery.workspace.rows import Job

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.network.model import Model
    from surgery.network.part import Part
    from surgery.operations.base import Candidate

FOLDER = "candidates"


def keeper(job: Job) -> Callable[[Candidate], None]:
    """What a context offers candidates to: it writes them into the job's folder."""

    def keep(candidate: Candidate) -> None:
        from surgery.network import part, store

        target = job.folder / FOLDER / str(candidate.number)
        staged = target.with_name(f".{candidate.number}.{os.getpid()}")
        with full_disk_refused(f"candidate {candidate.number}"):
            try:
                store.save(candidate.model, staged)
                kept = None if candidate.kept is None else candidate.kept.tolist()
                part.save(candidate.parts, staged)
                about = {"accepted": candidate.accepted, "figures": dict(candidate.figures), "kept": kept}
                (staged / "candidate.json").write_text(json.dumps(about), encoding="utf-8")
                force_to_disk(staged)
                publish(staged, target)
            finally:
                shutil.rmtree(staged, ignore_errors=True)

    return keep


def listing(job: Job) -> list[dict[str, Any]]:
    """The figures of each candidate, in order, with `accepted`."""
    found = [json.loads((folder / "candidate.json").read_text(encoding="utf-8")) for folder in _folders(job)]
    return [{**one["figures"], "accepted": one["accepted"]} for one in found]


def best(job: Job) -> int | None:
    """The number of the last accepted candidate."""
    accepted = [int(one["candidate"]) for one in listing(job) if one["accepted"]]
    return max(accepted, default=None)


def seconds(job: Job) -> float:
    """How long the job has been at work, or was."""
    if job.started is None:
        return 0.0
    return ((job.ended or datetime.now(job.started.tzinfo)) - job.started).total_seconds()


def load(job: Job, number: int) -> tuple[Model, Tensor | None, tuple[Part, ...]]:
    """A candidate's model, int64[n], the old id of each of its neurons, and its parts.

    Raises:
        NotFoundError: the job has no such candidate.
    """
    import torch

    from surgery.network import part, store

    folder = job.folder / FOLDER / str(number)
    if not folder.exists():
        raise NotFoundError(f"Job {job.title!r} has no candidate {number}.", "Choose one that its table shows.")
    about = json.loads((folder / "candidate.json").read_text(encoding="utf-8"))
    kept = None if about["kept"] is None else torch.tensor(about["kept"], dtype=torch.long)
    return store.load(folder), kept, part.load(folder)


def _folders(job: Job) -> list[Path]:
    root = job.folder / FOLDER
    return sorted((one for one in root.glob("[0-9]*") if one.is_dir()), key=lambda one: int(one.name))
