"""A worker that also knows kinds of work which only tests need; `ENGINE` launches it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from surgery.context import Context
from surgery.errors import DataError
from surgery.jobs import kinds, worker
from surgery.jobs.kinds import Kind
from surgery.jobs.local import Local
from surgery.workspace import Job, Workspace

ENGINE = Local((sys.executable, str(Path(__file__).resolve())))


def sleep(ws: Workspace, job: Job, ctx: Context) -> Mapping[str, object]:
    """Take `steps` steps of `pause` seconds; leave the times of start and end, the device and the environment."""
    start = time.time()
    print("a library prints")
    for step in ctx.track(range(job.task.get("steps", 1)), "sleeping"):
        time.sleep(job.task.get("pause", 0.0))
        ctx.point(loss=1.0 / (step + 1))
    ctx.log("slept well")
    seen = {
        name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "SURGERY_HOME", "TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    }
    return {"start": start, "end": time.time(), "device": ctx.device, "nice": os.nice(0), **seen}


def fail(ws: Workspace, job: Job, ctx: Context) -> None:
    """Fail in the way that the task names."""
    match job.task["how"]:
        case "plainly":
            raise DataError("Row 7 has no label.", "Fill it in.")
        case "surprisingly":
            raise ZeroDivisionError("division by zero")
        case "memory":
            raise MemoryError
        case "cuda":
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "crash":
            ctypes.string_at(0)


def stubborn(ws: Workspace, job: Job, ctx: Context) -> None:
    """Stay in native code with all signals that can be blocked blocked, holding the interpreter's lock."""
    ctx.log("deaf from now on")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGALRM})
    ctypes.PyDLL(None).sleep(60)


def native(ws: Workspace, job: Job, ctx: Context) -> None:
    """One torch call that takes a minute or more."""
    import torch

    ctx.report({"stage": "computing", "done": 0, "total": 1, "seconds": 0.0})
    torch.linalg.svd(torch.rand(6000, 6000, dtype=torch.float64))


def hungry(ws: Workspace, job: Job, ctx: Context) -> None:
    """Take ever more memory, in small steps or in large ones; at most 2 GB, should nobody stop it."""
    small = job.task["how"] == "slowly"
    kept = []
    for _ in range(500 if small else 5):
        kept.append(b"\1" * ((4 if small else 400) * 2**20))
        time.sleep(0.02 if small else 2.0)


KINDS = {
    "sleep": Kind(sleep, "long"),
    "nap": Kind(sleep, "short"),
    "bring": Kind(sleep, "import"),
    "fail": Kind(fail, "short"),
    "stubborn": Kind(stubborn, "short"),
    "hungry": Kind(hungry, "short"),
    "native": Kind(native, "long"),
    "greedy": replace(Kind(sleep), disk=lambda ws, task: 10**18),
}

if __name__ == "__main__":
    kinds.KINDS.update(KINDS)
    sys.exit(worker.main(sys.argv[1:], engine=ENGINE))
