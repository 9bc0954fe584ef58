"""The devices of this machine, asked of torch in a child process and remembered in the workspace.

python -m surgery.jobs.devices      # prints the list, for whoever must not import torch
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

from surgery.children import environment
from surgery.errors import JobError
from surgery.workspace import files
from surgery.workspace.store import default_home

_VISIBLE = "CUDA_VISIBLE_DEVICES"
PATIENCE = 120.0  # seconds that torch has to tell its devices


def devices(home: Path | None = None) -> list[str]:
    """Names of this machine's devices, best first: "cuda:0", …, "mps", "cpu". SURGERY_DEVICES overrides the list.

    A name like "sim0" there is a slot of its own that computes on the CPU.
    """
    given = [name.strip() for name in os.environ.get("SURGERY_DEVICES", "").split(",") if name.strip()]
    if given:
        return given
    if not _accelerated():
        return ["cpu"]
    cache = (home or default_home()) / "devices.json"
    asked = {"torch": metadata.version("torch"), "visible": os.environ.get(_VISIBLE)}
    if known := _remembered(cache, asked):
        return known
    found = _ask()
    with suppress(OSError):  # a full or read-only disk: asked again next time
        files.write_file(cache, json.dumps({"asked": asked, "devices": found}).encode())
    return found


def _remembered(cache: Path, asked: object) -> list[str]:
    """The devices that were found when the same was asked; [] when nothing usable is remembered."""
    try:
        known = json.loads(cache.read_bytes())
        return [str(name) for name in known["devices"]] if known["asked"] == asked else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def torch_device(name: str) -> str:
    """What torch calls the device inside its worker, where only one GPU is visible."""
    kind = family(name)
    return "cuda:0" if kind == "cuda" else kind


def family(name: str) -> str:
    """ "cuda", "mps" or "cpu"."""
    kind = name.split(":")[0]
    return kind if kind in ("cuda", "mps") else "cpu"


def candidates(wanted: str, present: Sequence[str]) -> list[str]:
    """The devices that may take a job that asked for `wanted`; "" = any of the best kind.

    Raises:
        JobError: this machine has none.
    """
    if wanted in present:
        return [wanted]
    kind = family(wanted or present[0])
    fitting = [name for name in present if family(name) == kind]
    if (wanted not in ("", kind)) or not fitting:
        raise JobError(
            f"This machine has no device {wanted!r}; it has {', '.join(present)}.", "Choose one of these in the form."
        )
    return fitting


@contextmanager
def only(name: str) -> Iterator[str]:
    """Let this process see one GPU (or none) while torch is first imported; yields torch's name of the device."""
    before = os.environ.get(_VISIBLE)
    chosen = "-1"
    if family(name) == "cuda":
        number = int(name.partition(":")[2] or 0)
        chosen = before.split(",")[number] if before else str(number)
    os.environ[_VISIBLE] = chosen
    try:
        yield torch_device(name)
    finally:
        del os.environ[_VISIBLE]
        if before is not None:
            os.environ[_VISIBLE] = before


def _accelerated() -> bool:
    """Whether it is worth asking torch, which takes seconds: some sign of a GPU."""
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    signs = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
    return apple or shutil.which("nvidia-smi") is not None or any(Path(sign).exists() for sign in signs)


def _ask() -> list[str]:
    command, why = [sys.executable, "-m", "surgery.jobs.devices"], ""
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment()
        )
        why = (answer.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        return [str(name) for name in json.loads(answer.stdout)]
    except subprocess.TimeoutExpired:
        why = f"it did not answer within {PATIENCE:.0f} s"
    except (OSError, ValueError, TypeError):
        why = why or "it could not be started"
    raise JobError(
        f"Asking torch for its devices failed: {why}.",
        "Check the installation of torch, or name the devices in SURGERY_DEVICES.",
    )


def _present() -> list[str]:
    import torch

    found = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [*found, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


if __name__ == "__main__":
    print(json.dumps(_present()))
