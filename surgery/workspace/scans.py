"""Scans: what was read from a model on a dataset, cached under the digests of everything it depends on.

A scan can be made again, so one whose files have changed is set aside and counts as not made.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from surgery.workspace import checksums, datasets, files, versions
from surgery.workspace.store import Store, new_id

_PATIENCE = 2.0  # seconds that a job may need from changing a scan to noting its checksums
_whole: set[tuple[str, str]] = set()  # (folder, checksum) compared by this process


def folder(store: Store, version: str, dataset: str, params: Mapping[str, Any]) -> Path:
    """Where the scan of this model on this data with these parameters lies, or would lie."""
    model, data = versions.get(store, version).digest, datasets.get(store, dataset).digest
    return store.home / "scans" / f"{_short(model)}-{_short(data)}-{_short(json.dumps(params, sort_keys=True))}"


def add(store: Store, version: str, dataset: str, params: Mapping[str, Any], make: Callable[[Path], object]) -> Path:
    """Let `make` fill a fresh folder and put it in place; when another process was quicker, its scan stays.

    Raises:
        DiskFullError: nothing was written.
    """
    target = folder(store, version, dataset, params)
    with files.full_disk_refused("the scan"), files.staging(store.home, new_id()) as staged:
        make(staged)
        checksums.write(staged, checksums.of_folder(staged))
        files.force_to_disk(staged)
        with store.write():  # exclusive, so that two processes cannot both find the place free
            if not target.exists():
                files.publish(staged, target)
    return target


@contextmanager
def extending(folder: Path) -> Iterator[None]:
    """Note the checksums of a scan anew after the block has added to it."""
    yield
    checksums.write(folder, checksums.of_folder(folder))


def whole(store: Store, folder: Path) -> bool:
    """Whether a scan is there as it was written, compared once in each process; a changed one is set aside."""
    if not folder.exists():
        return False
    if not (folder / checksums.LIST).exists():  # from before there were checksums
        return True
    end = time.monotonic() + _PATIENCE
    while (key := (str(folder), checksums.of_list(folder))) not in _whole:
        found = [one for one in checksums.damage(folder, None) if not one.endswith("was added")]
        if not found:
            _whole.add(key)
        elif time.monotonic() > end:
            _set_aside(store, folder, found)
            return False
        else:
            time.sleep(0.1)
    return True


def _set_aside(store: Store, folder: Path, found: list[str]) -> None:
    with store.write() as db:
        (store.home / "quarantine").mkdir(exist_ok=True)
        folder.rename(store.home / "quarantine" / f"scans-{folder.name}-{new_id()}")
        store.record(db, f"set a damaged scan aside: {'; '.join(found[:5])}", subject=folder.name)


def of_model(store: Store, digest: str) -> list[Path]:
    """All scans of the model with this digest."""
    return list((store.home / "scans").glob(f"{_short(digest)}-*"))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
