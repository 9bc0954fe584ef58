"""What a surgery that trains would come to, before anything is trained: compressing, readapting, teaching and so on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from surgery.analysis import slices
from surgery.context import Context
from surgery.edit import finetune
from surgery.edit.evaluate import predict, training_ids
from surgery.edit.parts import rows_of, share_of
from surgery.errors import PlanError
from surgery.jobs.verdict import Probes, sizes
from surgery.network.cost import bytes_of
from surgery.network.model import Model
from surgery.operations.capacity import TRIALS, free_share
from surgery.operations.compress import Compress
from surgery.operations.damage import Damage
from surgery.operations.descent import SETTLED, Descent
from surgery.operations.extend import Extend
from surgery.operations.forget import Forget
from surgery.operations.growth import JUDGED
from surgery.operations.readapt import Readapt
from surgery.plan import Plan

if TYPE_CHECKING:
    from surgery.jobs.whatif import WhatIf

SEEN = 512  # training samples, instead of the operation's own
STEP = 3.8  # a training step in forward passes
SMALL = 1_000_000  # bytes: saving less than this is hardly worth a change


def compressed(probe: WhatIf, operation: Compress, plan: Plan) -> dict[str, Any]:
    """The answer of a preview (see `WhatIf.preview`), and besides advice: findings that speak for or against it.

    The whole way is done in one cut and nothing is tuned, so that the job itself will do better than this.

    Raises:
        SelectionError: the size cannot be reached. PlanError: it cannot run on this model.
    """
    model, index = probe.model, probe.model.index
    problems = operation.check([model])
    if problems or index is None:
        raise PlanError(f"{operation.title} cannot run here: {' '.join(problems)}", "Choose another version.")
    descent = Descent(operation, model, probe.data, Context(probe.device, plan.seed), samples=SEEN)
    keep, small = descent.sketch()
    before = probe.recording.outputs
    after = predict(small, probe.data, probe.probes.ids, Context(probe.device))
    tuned = finetune.passes(probe.data, operation.epochs, rate=operation.rate)
    passes = (operation.steps + 2) * (SETTLED + tuned)
    return {
        "title": operation.title,
        "asked": None,
        "removed": int((~keep).sum()),
        "stay": 0,
        "coupled": 0,
        "reasons": [],
        "advice": _advice(probe, operation, small),
        "layers": _losses(probe, keep),
        "rows": probe.probes.rows(model.task, before, after),
        "flips": probe.probes.flips(model.task, before, after),
        "split": probe.probes.split,
        "n": len(probe.probes.ids),
        "from_cut": 0.0,
        "sizes": sizes(model, small),
        "job_seconds": probe.seconds_for(passes * (4 if operation.controls else 1)),
    }


def relearned(probe: WhatIf, operation: Readapt, plan: Plan) -> dict[str, Any]:
    """What readapting would train, and why: title, classes {scope, before = old, after = new, in %}, suffered,
    neurons and share (of the parameters) that would be trained, n (validation samples looked at), train, job_seconds.

    Raises:
        DataError: the new data does not fit. PlanError: none is named.
    """
    if not plan.new:
        raise PlanError(f"{operation.title} learns from new data.", "Choose a dataset as the new data.")
    model, new = probe.model, probe.ws.dataset(plan.new)
    data = probe.data.with_new(new).without_test()
    relearning = operation.on(model, data, Context(probe.device, plan.seed))
    classes = relearning.classes
    suffering = relearning.suffering(classes)
    chosen = relearning.chosen(suffering)
    assert model.index is not None
    train = len(new.ids("train"))
    return {
        "title": operation.title,
        "classes": [
            {"scope": str(row["class"]), "before": 100 * row["old"], "after": 100 * row["new"]}
            for row in classes.dropna().to_dict("records")
        ],
        "suffered": [str(classes["class"][place]) for place in suffering],
        "neurons": int((chosen & model.index.point & ~model.index.logits).sum()),
        "share": share_of(model, rows_of(model, chosen)),
        "train": train,
        "n": len(relearning.new_ids),
        "job_seconds": probe.seconds_for(operation.epochs * train * (STEP + 1) + 2 * SETTLED),
    }


def taught(probe: WhatIf, operation: Extend, plan: Plan) -> dict[str, Any]:
    """What teaching new classes starts from: title, taught (names), known (number of old classes), free (0–1 of the
    neurons, before any tuning), layers {layer, before, after} of the slice, samples {class: training samples},
    tolerance, n (validation samples looked at), job_seconds.

    Raises:
        DataError: the new data does not fit. PlanError: none is named, or the model cannot be taught.
    """
    if not plan.new:
        raise PlanError(f"{operation.title} learns from new data.", "Choose a dataset with the new classes.")
    if problems := operation.check([probe.model]):
        raise PlanError(f"{operation.title} cannot run here: {' '.join(problems)}", "Choose another version.")
    new = probe.ws.dataset(plan.new)
    growth = operation.on(probe.model, probe.data.with_new(new).without_test(), Context(probe.device, plan.seed))
    capacity = growth.capacity(SEEN, JUDGED)
    keep = capacity.at_once()
    labels = new.labels(new.ids("train"))
    old = len(training_ids(probe.data))
    search = TRIALS * (operation.healing * old * STEP + len(probe.data.ids("val")))
    return {
        "title": operation.title,
        "taught": list(growth.classes),
        "known": len(probe.model.classes),
        "free": free_share(probe.model, keep),
        "layers": _losses(probe, keep),
        "samples": {name: int((labels == new.classes.index(name)).sum()) for name in growth.classes},
        "tolerance": operation.tolerance,
        "n": len(capacity.val),
        "job_seconds": probe.seconds_for(2 * SETTLED + search + operation.epochs * len(labels) * (STEP + 1)),
    }


def forgotten(probe: WhatIf, operation: Forget, plan: Plan) -> dict[str, Any]:
    """The answer of a preview (see `WhatIf.preview`) on the classes that stay, without tuning; and forgets: the others.

    Raises:
        PlanError: it cannot run on this model. DataError: the data does not tell what the others need.
    """
    if problems := operation.check([probe.model]):
        raise PlanError(f"{operation.title} cannot run here: {' '.join(problems)}", "Choose other classes.")
    work = operation.on(probe.model, probe.data, Context(probe.device, plan.seed))
    work.scanned = work.settled = SEEN
    keep = work.keep()
    small, _ = work.without(keep)
    stay = np.isin(probe.probes.ids, work.rest.ids(probe.probes.split))
    probes = Probes.of(probe.model, work.rest, probe.probes.ids[stay])
    before = probe.recording.outputs[torch.from_numpy(stay)]
    after = before.new_full(before.shape, -torch.inf)  # outputs that are gone never win
    places = [probe.model.classes.index(name) for name in small.classes]
    after[:, places] = predict(small, work.rest, probes.ids, Context(probe.device))
    tuned = finetune.passes(work.rest, operation.epochs, rate=operation.rate)
    return {
        "title": operation.title,
        "forgets": list(operation.classes),
        "asked": None,
        "removed": int((~keep).sum()),
        "stay": 0,
        "coupled": 0,
        "reasons": [],
        "layers": _losses(probe, keep),
        "rows": probes.rows(probe.model.task, before, after),
        "flips": probes.flips(probe.model.task, before, after),
        "split": probes.split,
        "n": len(probes.ids),
        "from_cut": 0.0,
        "sizes": sizes(probe.model, small),
        "job_seconds": probe.seconds_for(6 * SETTLED + tuned),
    }


def spoilt(probe: WhatIf, operation: Damage, plan: Plan) -> dict[str, Any]:
    """How much worse the damaged model is on the probe set: title, rows, flips, split, n, job_seconds."""
    model, ctx = probe.model, Context(probe.device, plan.seed)
    hurt = operation.operate([model], probe.data, ctx).models[0]
    before, after = probe.recording.outputs, predict(hurt, probe.data, probe.probes.ids, Context(probe.device))
    return {
        "title": operation.title,
        "degree": operation.degree,
        "rows": probe.probes.rows(model.task, before, after),
        "flips": probe.probes.flips(model.task, before, after),
        "split": probe.probes.split,
        "n": len(probe.probes.ids),
        "job_seconds": probe.seconds_for(0),
    }


def _losses(probe: WhatIf, keep: Tensor) -> list[dict[str, Any]]:
    from surgery.jobs.whatif import losses

    assert probe.model.index is not None
    return losses(probe.model.index, keep)


def _advice(probe: WhatIf, operation: Compress, small: Model) -> list[dict[str, Any]]:
    """{what, and its figures}: "small" (bytes, saved) and "free" (share, theta, of the neurons no class needs)."""
    found: list[dict[str, Any]] = []
    whole, saved = bytes_of(probe.model), bytes_of(probe.model) - bytes_of(small)
    if saved < SMALL:
        found.append({"what": "small", "bytes": whole, "saved": saved})
    folder = probe.ws.scan_folder(probe.version, probe.dataset, {})
    if operation.slices == "theta" and (folder / slices.TABLES).exists() and probe.model.index is not None:
        with safe_open(folder / slices.TABLES, "pt") as file:
            level = file.get_tensor("taylor/mean")
        points = probe.model.index.point
        needed = slices.critical(level, operation.theta).any(1)
        found.append(
            {"what": "free", "share": float((~needed & points).sum() / points.sum()), "theta": operation.theta}
        )
    return found
