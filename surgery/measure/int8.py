"""What eight bits after training cost and save: both files run by ONNX Runtime on test samples and on time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from surgery import temporary
from surgery.context import Context

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.data.dataset import Dataset
    from surgery.network.model import Model

ROUNDS, WARM_UP = 30, 3
BATCHES = (1, 32)


def int8(model: Model, data: Dataset, target: Path, ctx: Context) -> dict[str, Any]:
    """Write the model in 8 bits to `target` (ONNX) and measure it beside itself in 32 bits, both in ONNX Runtime.

    Result: bytes (of the files), quality, each [whole, int8]; metric: "accuracy", "r2" or for texts "loss" (nats per
    character); split, n; threads; times: per batch size {batch, whole, int8: median ms, spread: the larger IQR}.

    Raises:
        ModelError: ONNX Runtime is not installed, or cannot take this network. MeasureError: no samples. Cancelled.
    """
    import torch

    from surgery.edit.evaluate import training_ids
    from surgery.measure.measurement import opened
    from surgery.network.export import to_onnx
    from surgery.network.int8 import INPUT, SAMPLES, session, to_int8

    own = data.fitting(model.classes)
    split, ids = opened(own)
    chosen = np.sort(np.random.default_rng(ctx.seed).permutation(training_ids(own))[:SAMPLES])
    samples = (x for x, _, _ in ctx.track(own.batches(chosen, model.input, size=32), "finding ranges"))
    to_int8(model, samples, target)
    threads = torch.get_num_threads()
    with temporary.folder("int8") as scratch:
        whole = scratch / "whole.onnx"
        to_onnx(model, whole)
        sizes = [file.stat().st_size for file in (whole, target)]
        sessions = [session(file, threads) for file in (whole, target)]
        found = [
            _quality(model, own, ids, lambda x, run=run: torch.from_numpy(run.run(None, {INPUT: x.numpy()})[0]), ctx)
            for run in sessions
        ]
        times = []
        for batch in BATCHES:
            x = model.input.example(batch).numpy()
            passes: list[list[float]] = [[], []]
            for done in ctx.track(range(WARM_UP + ROUNDS), f"timing, batch {batch}"):
                for run, taken in zip(sessions, passes, strict=True):
                    start = time.perf_counter()
                    run.run(None, {INPUT: x})
                    if done >= WARM_UP:
                        taken.append(1e3 * (time.perf_counter() - start))
            spread = max(float(np.subtract(*np.percentile(taken, [75, 25]))) for taken in passes)
            medians = dict(zip(("whole", "int8"), (float(np.median(taken)) for taken in passes), strict=True))
            times.append({"batch": batch, **medians, "spread": spread})
    return {
        "bytes": sizes,
        "quality": [value for _, value in found],
        "metric": found[0][0],
        "split": split,
        "n": len(ids),
        "threads": threads,
        "times": times,
    }


def _quality(model: Model, data: Dataset, ids: np.ndarray, run: Any, ctx: Context) -> tuple[str, float]:
    """(metric, value) of a network that runs elsewhere. run: batch -> what its module would give."""
    import torch
    import torch.nn.functional as F

    from surgery.measure.quality import meaning_of, quality

    meaning = meaning_of(model, data)
    place = model.outputs_of(data.classes) if model.task == "classification" else None
    answers, losses = [], []
    for x, y, _ in ctx.track(data.batches(ids, model.input, size=64), "measuring"):
        out: Tensor = run(x)
        if model.input.kind == "text" and y is not None and place is not None:
            said, right = model.lessons(x, place[y], out)
            losses.append(F.cross_entropy(said, right, reduction="none").view(len(x), -1).mean(1))
        answers.append(model.answers(out))
    if losses:
        return "loss", float(torch.cat(losses).double().mean())
    outputs = torch.cat(answers).numpy()
    if model.task == "regression":
        return "r2", quality("regression", outputs[:, 0], data.labels(ids))
    return "accuracy", quality("classification", meaning[outputs.argmax(1)], data.labels(ids))
