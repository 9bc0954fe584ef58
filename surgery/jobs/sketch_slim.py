"""What slimming dense layers, or few bits, would come to before any training: curves over ε and over uniform bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from surgery.analysis.variability import dense_units
from surgery.context import Context
from surgery.edit import finetune
from surgery.edit.evaluate import quality, training_ids
from surgery.edit.few_bits import FewBits
from surgery.edit.size import Sizes
from surgery.errors import PlanError, SelectionError
from surgery.network.size import bytes_of
from surgery.operations.self_compress import SelfCompress
from surgery.operations.slim_mlp import SlimMlp
from surgery.plan import Plan

if TYPE_CHECKING:
    from surgery.jobs.whatif import WhatIf

SEEN = 2_000  # training samples that variability is measured on
UNIFORM = (8.0, 6.0, 4.0, 3.0, 2.0)  # bits
STEP = 3.8  # a training step in forward passes
LAYERS = 2  # that are likely tried, for the estimate of time


def squeezed(probe: WhatIf, operation: SelfCompress, plan: Plan) -> dict[str, Any]:
    """squeezes: rows of bits (the same for every row of weights), bytes, quality (0–1, on what the guard looks at,
    before any training); whole {bytes, quality}; smallest: bytes without a single bit; guarded: samples that the guard
    looks at; cases: whether these are must-keep cases; goal (bytes or None), least (0–1), title, job_seconds.

    Raises:
        PlanError: it cannot run on this model. SelectionError: the size cannot be reached, or cases of one class.
    """
    if problems := operation.check([probe.model]):
        raise PlanError(f"{operation.title} cannot run here: {' '.join(problems)}", "Choose another version.")
    data = probe.data.preserving(plan.preserve.ids) if plan.preserve.ids else probe.data
    work = operation.on(probe.model, data, Context(probe.device, plan.seed))
    rows = []
    for bits in UNIFORM:
        model = FewBits.of(probe.model, bits).settle()
        found = quality(model, data, work.guarded, Context(probe.device))
        rows.append({"bits": bits, "bytes": bytes_of(model), "quality": found})
    train = len(training_ids(data))
    looks = operation.looks * len(work.guarded)
    return {
        "title": operation.title,
        "squeezes": rows,
        "whole": {"bytes": bytes_of(probe.model), "quality": work.before},
        "smallest": work.smallest(),
        "guarded": len(work.guarded),
        "cases": bool(len(data.ids("preserve"))),
        "text": data.kind == "text",
        "goal": None if operation.kilobytes is None else 1000 * operation.kilobytes,
        "least": work.least,
        "job_seconds": probe.seconds_for((operation.epochs + 2 * operation.frozen) * train * (STEP + 1) + looks),
    }


def slimmed(probe: WhatIf, operation: SlimMlp, plan: Plan) -> dict[str, Any]:
    """slims: rows of epsilon, left (0–1 of the parameters), units (hidden ones of dense layers that stay), quality
    (0–1, accuracy or R², right after pruning); of: units there are; quality: of the model as it is; stops: why the
    sweep ends early, or ""; tolerance (points), title, split, n, job_seconds.

    Raises:
        PlanError: it cannot run on this model. SelectionError: the only ε empties a layer.
    """
    if problems := operation.check([probe.model]):
        raise PlanError(f"{operation.title} cannot run here: {' '.join(problems)}", "Choose another version.")
    ctx = Context(probe.device, plan.seed)
    work = operation.on(probe.model, probe.data, ctx, samples=SEEN)
    units, sizes = dense_units(work.index), Sizes.of(probe.model, work.seen.positions)
    whole = sizes.count(torch.ones(work.index.n, dtype=torch.bool))[0]
    rows, stops = [], ""
    for epsilon in operation.epsilons:
        try:
            keep = work.keep(epsilon)
        except SelectionError as error:
            if operation.epsilon is not None:
                raise
            stops = error.what
            break
        rows.append(
            {
                "epsilon": epsilon,
                "left": sizes.count(keep)[0] / whole,
                "units": int((keep & units).sum()),
                "quality": quality(work.slim(epsilon)[0], probe.data, probe.probes.ids, ctx),
            }
        )
    times = len(rows) + (LAYERS if operation.layers else 0) + (3 if operation.controls else 0)
    tuned = finetune.passes(probe.data, operation.epochs, rate=operation.rate)
    return {
        "title": operation.title,
        "slims": rows,
        "of": int(units.sum()),
        "quality": quality(probe.model, probe.data, probe.probes.ids, ctx),
        "stops": stops,
        "epochs": operation.epochs,
        "tolerance": operation.tolerance,
        "split": probe.probes.split,
        "n": len(probe.probes.ids),
        "job_seconds": probe.seconds_for(times * tuned),
    }
