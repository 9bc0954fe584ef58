"""What splitting and patching would come to, before anything is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from surgery.context import Context
from surgery.data.splits import spread
from surgery.edit.compose import alone, proven
from surgery.edit.evaluate import predict
from surgery.edit.heads import scores
from surgery.errors import DataError, PlanError, SelectionError, SurgeryError, TraceError
from surgery.jobs.quality_answer import quality
from surgery.jobs.verdict import Probes, sizes
from surgery.network.cost import bytes_of, macs, parameters
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
    from surgery.network.model import Model

TAUGHT = 512  # training samples that the heads of a sketch learn from
SHARE = 0.7  # of the neurons in each module of a sketch
LISTENED = 2_000  # validation samples that donors are compared on
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
    """patched (the class), before and after (precision, recall, f1, others, 0–1), table of every class, refusal (why
    the job would refuse it, or ""), origins of the weights, and as of a preview: rows, flips, split, n, sizes,
    job_seconds. All but rows and flips are of all validation samples.

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
    effect = Effect.of(answers, work.truth, work.target)
    before = probe.recording.outputs
    after = predict(made, probe.data, probe.probes.ids, Context(probe.device))
    return {
        "title": operation.title,
        "patched": operation.target,
        "before": asdict(work.before),
        "after": asdict(effect),
        "refusal": str(work.refusal(effect) or ""),
        "origins": [asdict(origin) for origin in made.origins],
        "table": work.table(answers).to_dict("records"),
        "validated": len(work.ids),
        "rows": probe.probes.rows(probe.model.task, before, after),
        "flips": probe.probes.flips(probe.model.task, before, after),
        "split": probe.probes.split,
        "n": len(probe.probes.ids),
        "sizes": sizes(probe.model, made),
        "job_seconds": probe.seconds_for(3 * len(work.ids)),
    }


def donors(probe: WhatIf, target: str, modules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """rows, n: each of the modules {version, digest} as the judge of a class of the probe's model, highest F1 first:
    precision, recall, f1 (0–1) on validation samples, and problem, why it cannot judge, "" where it can.

    Raises:
        SelectionError: the model does not know the class. DataError: there are no validation samples.
    """
    if target not in probe.model.classes or target not in probe.data.classes:
        raise SelectionError(f"The model does not know {target!r}.", "Name one of its classes.")
    ids = probe.data.ids("val")
    labels = probe.data.labels(ids)
    ids = ids[spread(labels, LISTENED, 0)]
    truth = torch.as_tensor(probe.data.labels(ids) != probe.data.classes.index(target)).long()
    if not len(ids):
        raise DataError(f"{probe.data.name!r} has no validation samples.", "Import data that has some.")
    sources = {one["version"]: probe.ws.model(one["version"]) for one in modules}
    rows = []
    for one in modules:
        found = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "problem": ""}
        try:
            judge = _judge(probe, sources[one["version"]], one["digest"])
            effect = Effect.of(predict(judge, probe.data, ids, Context(probe.device)).argmax(1), truth, 0)
            found |= {"precision": effect.precision, "recall": effect.recall, "f1": effect.f1}
        except SurgeryError as error:
            found["problem"] = str(error)
        rows.append({"version": one["version"], "digest": one["digest"], **found})
    return {"rows": sorted(rows, key=lambda row: -float(row["f1"])), "n": len(ids)}


def _judge(probe: WhatIf, source: Model, digest: str) -> Model:
    """A module that tells its class from all others, fed as the probe's model is.

    Raises:
        SelectionError: there is no such module, or it no longer says what it said. TraceError: other input.
    """
    part = next((part for part in source.parts if part.digest == digest), None)
    if part is None:
        raise SelectionError(f"There is no module {digest}.", "Choose it on its shelf again.")
    if source.input.kind != probe.model.input.kind:
        raise TraceError(f"It takes {source.input.kind} input, the model {probe.model.input.kind}.")
    proven(source, part)
    return alone(source, part, input=probe.model.input)[0]


def composed(probe: WhatIf, operation: Compose, plan: Plan) -> dict[str, Any]:
    """composed (the classes), quality (see `quality_answer.quality`) on the probe samples of these classes, members
    (rows: class, module, input, adapted, mean, std, neurons), costs {parameters, bytes, MACs}, sources {number,
    parameters, bytes}, origins of the weights, job_seconds.

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
        "origins": [asdict(origin) for origin in made.origins],
        "job_seconds": probe.seconds_for(2 * len(probes.ids)),
    }
