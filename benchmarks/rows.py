"""Rows that survive a cut: each is stored under (benchmark, key, digest of the code that made it) in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

ROOT = Path(__file__).resolve().parents[1]


def cache_folder() -> Path:
    """Where rows and trained bases are kept."""
    folder = user_cache_path("model-surgery") / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@cache
def code_digest(name: str) -> str:
    """Digest of the product's code and of one benchmark's."""
    files = [*sorted((ROOT / "surgery").rglob("*.py")), ROOT / "benchmarks" / f"{name}.py"]
    whole = hashlib.sha256()
    for file in files:
        whole.update(file.read_bytes())
    return whole.hexdigest()[:16]


def row(name: str, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The stored row of this code, or a new one from `make`."""
    file = cache_folder() / f"{name}.jsonl"
    identity = {"key": key, "code": code_digest(name)}
    for line in file.read_text().splitlines() if file.exists() else ():
        stored = json.loads(line)
        if stored["identity"] == identity:
            return dict(stored["row"])
    made = make()
    with file.open("a") as stream:
        stream.write(json.dumps({"identity": identity, "row": made}) + "\n")
    return made
