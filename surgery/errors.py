"""Every error the product raises on purpose. A message says what, which, what is allowed; `fix` says what to do.

SurgeryError
├── ModelError
│   ├── ModelFileError      the file cannot be read as weights
│   ├── MismatchError       weights and architecture differ: `rows` is the table
│   └── TraceError          a network cannot be numbered or shrunk: names the step
├── DataError               a dataset is unusable: `problems` names rows and files
├── SelectionError          a selection of neurons is empty, unknown or would empty a layer
├── PlanError               a plan is malformed or its inputs are missing
├── DivergedError           the loss of a training became NaN
├── MeasureError            a model or dataset cannot be measured
├── WorkspaceError
│   ├── NotFoundError       no such project, version, dataset, selection or job
│   ├── ConflictError       somebody else changed it first
│   ├── DamagedError        files are not those that were committed
│   └── DiskFullError       not enough space to commit
├── JobError
│   └── DeviceMemoryError   the device ran out of memory
├── AccessError             refused: unprotected network address, missing token
└── Cancelled               the user stopped it
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One bad file or row: where it is, why it is bad, what to do."""

    where: str
    reason: str
    fix: str


@dataclass(frozen=True)
class Mismatch:
    """One tensor on which a file and an architecture disagree; a shape is None where the tensor is absent."""

    name: str
    kind: str  # "missing" (not in the file), "unexpected" (only in the file), "shape"
    file: tuple[int, ...] | None
    architecture: tuple[int, ...] | None


_STREAM = re.compile(r"<_io\.\w+[^<>]*>")  # how Python prints an open file …
_OBJECT = re.compile(r"<(?:[\w.]+\.)?(\w+) object at 0x[0-9a-f]+>")  # … and most other objects


def nameless(text: str) -> str:
    """A text without what Python prints for objects: an open file is "the file", any other is named by its class."""
    return _OBJECT.sub(r"a \1", _STREAM.sub("the file", text))


class SurgeryError(Exception):
    """What happened, which value, what is allowed; `fix` is the next step for the user.

    transient: the same may succeed another time, because a limit on time or memory was reached.
    """

    transient = False

    def __init__(self, what: str, fix: str = "") -> None:
        what = nameless(what)
        super().__init__(f"{what} {fix}".strip())
        self.what = what
        self.fix = fix


class ModelError(SurgeryError):
    """A model cannot be used."""


class ModelFileError(ModelError):
    """A file cannot be read as weights."""


class MismatchError(ModelError):
    """Weights do not fit an architecture."""

    def __init__(self, what: str, fix: str = "", rows: Sequence[Mismatch] = ()) -> None:
        super().__init__(what, fix)
        self.rows = tuple(rows)


class TraceError(ModelError):
    """A network cannot be numbered or shrunk; the message names the step that stopped it."""


class DataError(SurgeryError):
    """A dataset cannot be used."""

    def __init__(self, what: str, fix: str = "", problems: Sequence[Problem] = ()) -> None:
        super().__init__(what, fix)
        self.problems = tuple(problems)


class SelectionError(SurgeryError):
    """A selection of neurons cannot be used."""


class PlanError(SurgeryError):
    """A plan is malformed or its inputs are missing."""


class DivergedError(SurgeryError):
    """The loss of a training became NaN."""


class MeasureError(SurgeryError):
    """A model cannot be measured on this dataset."""


class WorkspaceError(SurgeryError):
    """The workspace cannot do what was asked."""


class NotFoundError(WorkspaceError):
    """No such project, version, dataset, selection or job."""


class ConflictError(WorkspaceError):
    """Somebody else changed it first."""


class DamagedError(WorkspaceError):
    """Files are not those that were committed."""


class DiskFullError(WorkspaceError):
    """Not enough space to commit."""


class JobError(SurgeryError):
    """A job cannot run or has failed."""


class DeviceMemoryError(JobError):
    """The device ran out of memory."""


class AccessError(SurgeryError):
    """Refused: an unprotected network address or a missing token."""


class Cancelled(SurgeryError):
    """The user stopped it."""

    def __init__(self, what: str = "Cancelled.", fix: str = "") -> None:
        super().__init__(what, fix)


def is_refusal(error: Exception) -> bool:
    """Whether the same file, data or plan would be refused again."""
    lasting = (ModelFileError, MismatchError, DataError, SelectionError, PlanError)
    return isinstance(error, lasting) and not error.transient


def to_json(error: SurgeryError) -> dict[str, Any]:
    """An error as JSON, for another process; `from_json` makes it again."""
    return {
        "kind": type(error).__name__,
        "what": error.what,
        "fix": error.fix,
        "problems": [asdict(problem) for problem in getattr(error, "problems", ())],
        "rows": [asdict(row) for row in getattr(error, "rows", ())],
    }


def from_json(said: dict[str, Any]) -> SurgeryError:
    """The error that another process raised, in its own class; an unknown class becomes `SurgeryError`."""
    kind = getattr(sys.modules[__name__], str(said.get("kind")), SurgeryError)
    what, fix = str(said.get("what")), str(said.get("fix", ""))
    if kind is DataError:
        return DataError(what, fix, [Problem(**one) for one in said.get("problems", ())])
    if kind is MismatchError:
        return MismatchError(what, fix, [_mismatch(**one) for one in said.get("rows", ())])
    return kind(what, fix) if isinstance(kind, type) and issubclass(kind, SurgeryError) else SurgeryError(what, fix)


def _mismatch(name: str, kind: str, file: list[int] | None, architecture: list[int] | None) -> Mismatch:
    return Mismatch(name, kind, *(None if shape is None else tuple(shape) for shape in (file, architecture)))
