"""Errors of the system, the catalogue and libraries as sentences; none shows its type to the user."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest
from safetensors import SafetensorError
from sqlalchemy.exc import DatabaseError, OperationalError

from surgery.errors import DeviceMemoryError, DiskFullError, PlanError, SurgeryError, WorkspaceError
from surgery.jobs import memory
from surgery.jobs.obituary import cause_of_death, explained, reason_of, told_of
from surgery.jobs.probe_server import guarded

DOING = "tuning (version v1, file /data/a.pt, part 2)"


def system(number: int, name: str | None = "/home/x/model.safetensors") -> OSError:
    return OSError(number, os.strerror(number), name)


def database(text: str, kind: type[DatabaseError] = OperationalError) -> DatabaseError:
    return kind("UPDATE jobs", {}, sqlite3.OperationalError(text))


ERRORS: list[tuple[Exception, type[SurgeryError], str]] = [
    (system(errno.ENOSPC), DiskFullError, r"disk became full while tuning .*part 2.*Free some space"),
    (system(errno.EDQUOT), DiskFullError, "disk became full"),
    (SafetensorError("I/O error: No space left on device (os error 28)"), DiskFullError, "disk became full"),
    (system(errno.EFBIG), WorkspaceError, r"'/home/x/model.safetensors' would become larger .*ulimit -f"),
    (system(errno.EROFS), WorkspaceError, r"disk that can only be read.*Make the disk writable"),
    (PermissionError(errno.EACCES, "no", "/home/x"), WorkspaceError, r"'/home/x' may not be used by this user"),
    (FileNotFoundError(errno.ENOENT, "no", "/home/x"), WorkspaceError, r"'/home/x' is missing\. .*Restore it"),
    (system(errno.EMFILE, None), WorkspaceError, r"too many files are open.*ulimit -n"),
    (system(errno.EIO), WorkspaceError, "disk reports an error"),
    (system(errno.EPIPE, None), WorkspaceError, r"could not be used while tuning .*: Broken pipe"),
    (database("database is locked"), WorkspaceError, r"in use by another process for too long.*other jobs have ended"),
    (database("attempt to write a readonly database"), WorkspaceError, "catalogue of the workspace can only be read"),
    (database("database disk image is malformed", DatabaseError), WorkspaceError, r"is damaged.*from a backup"),
    (database("database or disk is full"), DiskFullError, "the catalogue could not be written"),
    (database("something else"), WorkspaceError, "could not be used"),
    (MemoryError(), DeviceMemoryError, "'cpu' ran out of memory"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), DeviceMemoryError, "out of memory"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), DeviceMemoryError, "out of memory"),
    (SafetensorError("I/O error: File too large (os error 27)"), WorkspaceError, "A file would become larger .*ulimit"),
    (SafetensorError("I/O error: Read-only file system (os error 30)"), WorkspaceError, "can only be read"),
    (SafetensorError("Error while deserializing header"), SurgeryError, r"weights is damaged.*while tuning"),
    (
        TypeError("'NoneType' object is not iterable"),
        SurgeryError,
        r"A fault in Model Surgery .*while tuning",
    ),
    (KeyError("config"), SurgeryError, r"Try again\. If it happens again, report it together with the job's log"),
]


@pytest.mark.parametrize(("error", "kind", "told"), ERRORS, ids=lambda one: repr(one)[:50])
def test_every_error_has_a_sentence(error: Exception, kind: type[SurgeryError], told: str) -> None:
    found = explained(error, "cpu", DOING)
    assert isinstance(found, kind) and found.what and found.fix
    with pytest.raises(kind, match=told):
        raise found
    assert type(error).__name__ not in str(found) and "should not happen" not in str(found)
    assert reason_of(error, "cpu", DOING) == str(found)


def test_an_error_that_was_raised_on_purpose_stays_as_it_is() -> None:
    error = PlanError("This is no plan.", "Export one.")
    assert explained(error, "cpu", DOING) is error


def test_a_probe_explains_in_the_same_words() -> None:
    def fail() -> None:
        raise system(errno.EROFS)

    answer = guarded(fail, "answering 'preview'")["error"]
    assert answer["kind"] == "WorkspaceError" and "needed while answering 'preview'" in answer["what"] and answer["fix"]


def test_a_stage_is_told_with_what_the_task_names() -> None:
    plan = {"operation": "prune", "inputs": ["v1", "v2"], "dataset": "d"}
    assert told_of("tuning", {"kind": "plan", "plan": plan}) == "tuning (operation prune, version v1, v2, dataset d)"
    assert told_of("", {"kind": "take_out", "version": "v1", "part": 0}) == "starting (version v1, part 0)"
    assert told_of("reading", {"kind": "import_model", "path": "/a.pt"}) == "reading (file /a.pt)"


@pytest.mark.parametrize(
    ("last", "told"),
    [
        ("sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) database is locked", "in use by another process"),
        ("OSError: [Errno 28] No space left on device: '/x'", "disk became full"),
        ("MemoryError", "ran out of memory"),
        ("ValueError: too many values", "A fault in Model Surgery ended the worker before it could say why"),
        (f"{memory.OVER} 3000000000", r"more than its memory limit of 3\.0 GB"),
    ],
)
def test_a_worker_that_could_not_record_its_end_is_explained_from_its_log(tmp_path: Path, last: str, told: str) -> None:
    (tmp_path / "stderr.txt").write_text(f"Traceback (most recent call last):\n  File …\n{last}\n")
    with pytest.raises(PlanError, match=told) as caught:
        raise PlanError(cause_of_death(tmp_path, 60))
    assert "ValueError" not in str(caught.value) and "Errno" not in str(caught.value)
