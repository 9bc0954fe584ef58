"""Scans: what was read from a model on a dataset, cached under the digests of everything it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from surgery.workspace import datasets, files, versions
from surgery.workspace.store import Store, new_id


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
        files.force_to_disk(staged)
        with store.write():  # exclusive, so that two processes cannot both find the place free
            if not target.exists():
                files.publish(staged, target)
    return target


def of_model(store: Store, digest: str) -> list[Path]:
    """All scans of the model with this digest."""
    return list((store.home / "scans").glob(f"{_short(digest)}-*"))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
