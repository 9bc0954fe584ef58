"""What splitting and patching would come to, before anything is made."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from surgery.context import Context
from surgery.edit.evaluate import predict
from surgery.edit.heads import scores
from surgery.errors import PlanError
from surgery.jobs.quality_answer import quality
from surgery.jobs.verdict import Probes, sizes
from surgery.measure.cost import bytes_of, macs, parameters
from surgery.operations.compose import Compose
from surgery.operations.division import JUDGED
from surgery.operations.evolved import FITTED
from surgery.operations.learned import MASK_EPOCHS, TRIALS, TRIED, most_critical
from surgery.operations.patch import Patch
from surgery.operations.split import Split
from surgery.operations.transplant import Effect
from surgery.plan import Plan

if TYPE_CHECKING:
    from surgery.jobs.whatif import WhatIf

TAUGHT = 512  # training samples that the heads of a sketch learn from
SHARE = 0.7  # of the neurons in each module of a sketch
STEP = 2.5  # a step of masks in forward passes: backward, but not to the weights


def divided(probe: WhatIf, operation: Split, plan: Plan) -> dict[str, Any]:
    """modules (their number), share (of neurons in each, for this sketch), and as of a preview: rows, flips, split, n,
    job_seconds.

    The sketch takes the most critical neurons of each class and teaches the scores on few samples; the job chooses how
    many, and learns on.

    Raises:
        PlanError: the model cannot be split. DataError: samples of a class are missing.
    """
    if problems := operation.check([probe.model]):
        raise PlanError(f"{operation.title} cannot run here: {' '.join(problems)}", "Choose another version.")
    work = operation.on(probe.model, probe.data, Context(probe.device, plan.seed))
    keep, heads = most_critical(work, SHARE, min(TAUGHT, operation.samples))
    seen = work.masked(probe.probes.ids, work.removable)
    with torch.no_grad():
        after = scores(heads, seen.outputs(keep, "validating")).cpu()
    before, count = probe.recording.outputs, len(probe.model.classes)
    samples, judged = min(operation.samples, len(probe.data.ids("train"))), min(JUDGED, len(probe.data.ids("val")))
    cycle = samples * (MASK_EPOCHS * STEP + 1) + (MASK_EPOCHS + 1) * judged
    passes = {
        "semantic": TRIALS * (min(TRIED, samples) + judged) + operation.cycles * cycle,
        "gradient": samples + operation.cycles * cycle,
        "genetic": operation.generations * (operation.population * min(FITTED, samples) + judged),
    }[operation.method]
    return {
        "title": operation.title,
        "modules": count,
        "share": SHARE,
        "rows": probe.probes.rows(probe.model.task, before, after),
        "flips": probe.probes.flips(probe.model.task, before, after),
        "split": probe.probes.split,
        "n": len(probe.probes.ids),
        "job_seconds": probe.seconds_for(count * passes),
    }


def transplanted(probe: WhatIf, operation: Patch, plan: Plan) -> dict[str, Any]:
    """patched (the class), before and after (precision, recall, f1, others, 0–1), table of every class, and as of a
    preview: rows, flips, split, n, sizes, job_seconds. All but rows and flips are of all validation samples.

    Raises:
        PlanError: the plan does not name a second version, or the two do not fit. SelectionError, DataError.
    """
    if len(plan.inputs) != operation.takes:
        raise PlanError(f"{operation.title} needs a second version, whose module answers.", "Name it in `inputs`.")
    models = [probe.model, probe.ws.model(plan.inputs[1])]
    if problems := operation.check(models):
        raise PlanError(f"{operation.title} cannot run here: {' '.join(problems)}", "Choose another module.")
    work = operation.on(models, probe.data, Context(probe.device, plan.seed))
    made = work.made()
    answers = predict(made, probe.data, work.ids, Context(probe.device)).argmax(1)
    before = probe.recording.outputs
    after = predict(made, probe.data, probe.probes.ids, Context(probe.device))
    return {
        "title": operation.title,
        "patched": operation.target,
        "before": asdict(work.before),
        "after": asdict(Effect.of(answers, work.truth, work.target)),
        "table": work.table(answers).to_dict("records"),
        "validated": len(work.ids),
        "rows": probe.probes.rows(probe.model.task, before, after),
        "flips": probe.probes.flips(probe.model.task, before, after),
        "split": probe.probes.split,
        "n": len(probe.probes.ids),
        "sizes": sizes(probe.model, made),
        "job_seconds": probe.seconds_for(3 * len(work.ids)),
    }


def composed(probe: WhatIf, operation: Compose, plan: Plan) -> dict[str, Any]:
    """composed (the classes), quality (see `quality_answer.quality`) on the probe samples of these classes, members
    (rows: class, module, input, adapted, mean, std, neurons), costs {parameters, bytes, MACs}, sources {number,
    parameters, bytes}, job_seconds.

    Raises:
        PlanError: the modules do not belong together. DataError: a class has no samples.
    """
    models = [probe.model if id == probe.version else probe.ws.model(id) for id in plan.inputs]
    if problems := operation.check(models):
        raise PlanError(f"{operation.title} cannot run here: {' '.join(problems)}", "Choose other modules.")
    data = probe.ws.dataset(plan.dataset).without_test()
    work = operation.on(models, data, Context(probe.device, plan.seed))
    made = work.made()
    probes = Probes.of(made, work.data, work.data.probe_ids())
    outputs = predict(made, work.data, probes.ids, Context(probe.device))
    sources = list({id(model): model for model, _ in work.chosen}.values())
    return {
        "title": operation.title,
        "composed": list(work.classes),
        "quality": quality("classification", outputs, probes),
        "members": work.table.to_dict("records"),
        "costs": {"parameters": parameters(made), "bytes": bytes_of(made), "MACs": macs(made)},
        "sources": {
            "number": len(sources),
            "parameters": sum(map(parameters, sources)),
            "bytes": sum(map(bytes_of, sources)),
        },
        "job_seconds": probe.seconds_for(2 * len(probes.ids)),
    }
