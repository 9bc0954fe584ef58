"""What the catalogue hands out: frozen rows without behaviour. Changing one changes nothing; ask the workspace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from surgery.workspace.settings import Settings

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
Lane = Literal["long", "short", "import"]


@dataclass(frozen=True)
class Project:
    """A patient and its records. `revision` rises with every change that a second browser tab could miss."""

    id: str
    name: str
    created: datetime
    current: str | None  # version id
    dataset: str | None  # dataset id
    outcome: str  # what the doctor noted of a project that it brought back, else "" or what an earlier release noted
    revision: int
    state: Literal["ready", "trash"] = "ready"
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True)
class Version:
    """An immutable model of a project; `number` counts 1, 2, … and is never given twice."""

    id: str
    project: str
    name: str
    number: int
    parent: str | None  # version id, also when that version is gone
    created: datetime
    digest: str  # "sha256:…" of the model's files
    bytes: int  # of model.safetensors
    parameters: int
    neurons: int  # N, 0 when the model could not be numbered
    operation: str  # title of the surgery that made it, "import" for a root
    state: Literal["ready", "trash", "damaged"]
    folder: Path
    candidate: tuple[str, ...] = ()  # why it waits for a decision instead of being current; () where it does not


@dataclass(frozen=True)
class DatasetRow:
    """An imported dataset; open it with `Workspace.dataset`."""

    id: str
    project: str
    name: str
    created: datetime
    digest: str
    kind: str  # "images" or "table"
    task: str  # "classification", "regression" or "unlabelled"
    classes: tuple[str, ...]
    samples: int
    bytes: int
    state: Literal["ready", "damaged"]
    folder: Path


@dataclass(frozen=True)
class Selection:
    """Named neuron ids of one version, rising and without repeats."""

    id: str
    project: str
    version: str
    name: str
    ids: tuple[int, ...]
    digest: str
    created: datetime


@dataclass(frozen=True)
class MustKeep:
    """One state of the set of must-keep cases of a dataset; `number` counts 1, 2, …, older ones stay."""

    id: str
    project: str
    dataset: str
    number: int
    cases: Mapping[int, str]  # sample -> why it is in: "hard", "typical", "diverse" or "pinned"
    digest: str  # of the samples
    made_by: str
    created: datetime

    @property
    def ids(self) -> tuple[int, ...]:
        """The samples, rising."""
        return tuple(sorted(self.cases))

    @property
    def pinned(self) -> tuple[int, ...]:
        """Those that a person put in."""
        return tuple(sorted(id for id, reason in self.cases.items() if reason == "pinned"))


@dataclass(frozen=True)
class Fleet:
    """Models that share their beginnings; `number` counts 1, 2, … in a project."""

    id: str
    project: str
    name: str
    number: int
    created: datetime
    digest: str
    bytes: int  # of model.safetensors, each tensor once
    members: Mapping[str, str]  # name -> version id
    hosts: Mapping[str, str]  # guest -> the member that it goes on from, by name
    back: tuple[str, ...]  # the guests that run as they were
    state: Literal["ready", "trash", "damaged"]
    folder: Path

    @property
    def sharing(self) -> tuple[str, ...]:
        """The guests that share now."""
        return tuple(guest for guest in self.hosts if guest not in self.back)


@dataclass(frozen=True)
class Job:
    """One piece of background work. `stage`, `percent` and `eta` (seconds) come from the worker's own report."""

    id: str
    number: int  # place in the queue: the lowest queued number starts first
    project: str
    title: str
    kind: str
    lane: Lane
    state: JobState
    device: str  # the device it runs on; before the start the one asked for, "" for any
    pid: int | None
    created: datetime
    started: datetime | None
    ended: datetime | None
    heartbeat: datetime | None  # the worker's last sign of life
    elsewhere: bool  # its worker runs on another machine, which alone can tell whether it lives
    limit: float  # seconds it may run
    who: str
    reason: str  # why it failed or was cancelled, and what to do
    result: Mapping[str, Any]
    task: Mapping[str, Any]
    folder: Path
    stage: str = ""
    percent: float | None = None  # of the stage, 0–100
    eta: float | None = None  # seconds to the end of the stage

    @property
    def active(self) -> bool:
        """Whether it still waits or runs."""
        return self.state in ("queued", "running")

    @property
    def refused(self) -> bool:
        """Whether it failed for what its task holds, so that the same task would fail again."""
        return self.state == "failed" and bool(self.result.get("refused"))


@dataclass(frozen=True)
class Event:
    """Who did what to which bytes, and when."""

    number: int
    when: datetime
    who: str
    what: str
    project: str | None
    subject: str | None  # id of what it was done to
    digest: str | None
    details: Mapping[str, Any] = field(default_factory=dict)
