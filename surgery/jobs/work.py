"""What the kinds of jobs do: load, run, commit. Each function imports torch when it is called, never before."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.context import Context
from surgery.jobs import candidates, fleet_work, proofs
from surgery.standing import root
from surgery.workspace import Workspace, queue, scans
from surgery.workspace.files import full_disk_refused
from surgery.workspace.rows import Job

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from surgery.data.dataset import Dataset
    from surgery.data.rows import Ids
    from surgery.network.model import Model
    from surgery.network.read import Weights
    from surgery.operations.base import Outcome
    from surgery.plan import Plan
    from surgery.receipt import Receipt


def text_of(document: Mapping[str, Any]) -> str:
    """A JSON document as text."""
    return json.dumps(dict(document))


def plan(ws: Workspace, job: Job, ctx: Context) -> None:
    """Run a plan on its inputs and commit the new version, or fleet. Task: plan, name (by default the job's title).

    Candidates on the way stay with the job.
    """
    from surgery.plan import Plan, run

    plan = Plan.parse(text_of(job.task["plan"]))
    models, original = _inputs(ws, job.project, plan, ctx)
    ctx = replace(ctx, seed=plan.seed, offer=candidates.keeper(job))
    names = fleet_work.names_of(ws, plan.inputs)
    outcome, receipt = run(plan, models, data_of(ws, plan), ctx, original=original, names=names)
    if outcome.lent:
        fleet_work.commit(ws, job, plan, dict(zip(names, models, strict=True)), outcome, receipt, ctx)
    else:
        _commit(ws, job, plan, outcome, receipt, ctx)


def take(ws: Workspace, job: Job, ctx: Context) -> None:
    """Measure a candidate of another job and commit it. Task: job, candidate, and optionally name, current.

    Its plan is that job's, ended at the candidate, so that it can be repeated.
    """
    import pandas as pd

    from surgery.operations.base import Outcome
    from surgery.plan import Plan, account

    source = queue.get(ws.store, job.task["job"])
    number = int(job.task["candidate"])
    given = source.task["plan"]
    plan = Plan.parse(text_of({**given, "parameters": {**given["parameters"], "candidate": number}}))
    models, original = _inputs(ws, job.project, plan, ctx)
    model, kept, parts = candidates.load(source, number)
    outcome = Outcome((model,), kept, {"candidates": pd.DataFrame(candidates.listing(source))}, parts)
    data, ctx = data_of(ws, plan), replace(ctx, seed=plan.seed)
    receipt = account(plan, outcome, models, data, ctx, original=original, seconds=candidates.seconds(source))
    _commit(ws, job, plan, outcome, receipt, ctx)


def take_out(ws: Workspace, job: Job, ctx: Context) -> None:
    """Make a version of a part that lies in another. Task: version, part (its place), and optionally name."""
    from surgery.edit.compose import alone
    from surgery.edit.extract import extract

    ctx.report({"stage": "taking out", "done": 0, "total": 1, "seconds": 0.0})
    version, model = job.task["version"], ws.model(job.task["version"])
    part = model.parts[int(job.task["part"])]
    small, kept = alone(model, part) if part.head else extract(model, part)
    name = job.task.get("name") or job.title
    ws.commit(
        job.project,
        small,
        name=name,
        parent=version,
        operation="part",
        kept=kept,
        make_current=False,
        job=job.id,
        sample=proofs.batch_in(ws, job.project, small),
    )


def data_of(ws: Workspace, plan: Plan) -> Dataset:
    """The dataset of a plan, with the new data beside it that the plan may name."""
    data = ws.dataset(plan.dataset)
    return data.with_new(ws.dataset(plan.new)) if plan.new else data


def _inputs(ws: Workspace, project: str, plan: Plan, ctx: Context) -> tuple[list[Model], Model | None]:
    """The models that a plan names, and the root of the lineage when it is not the first of them."""
    models = [ws.model(version) for version in ctx.track(plan.inputs, "loading")]
    known = {version.id: version for version in ws.versions(project)}
    first = root(known, known[plan.inputs[0]]).id if plan.inputs[0] in known else plan.inputs[0]
    return models, None if first == plan.inputs[0] else ws.model(first)


def _commit(ws: Workspace, job: Job, plan: Plan, outcome: Outcome, receipt: Receipt, ctx: Context) -> None:
    """Commit the result; one that loses more than the project allows waits as a candidate for a decision."""
    from surgery.jobs.tolerance import objections

    settings = ws.project(job.project).settings
    found = objections(receipt, settings, plan.build().drops())
    about = {**receipt.dataset, "trained_on": settings.answer(plan.dataset)}
    receipt = replace(receipt, candidate=found, dataset=about)
    ctx.report({"stage": "saving", "done": 0, "total": 1, "seconds": 0.0})
    ws.commit(
        job.project,
        outcome.models[0],
        name=job.task.get("name") or job.title,
        parent=plan.inputs[0],
        operation=receipt.title,
        plan=plan.model_dump(mode="json"),
        receipt=receipt.to_json(),
        kept=outcome.kept,
        tables=outcome.tables,
        parts=outcome.parts,
        make_current=job.task.get("current", True),
        candidate=found,
        expected_current=job.task["expected_current"],
        job=job.id,
        sample=proofs.batch(outcome.models[0], data_of(ws, plan)),
    )


def compare(ws: Workspace, job: Job, ctx: Context) -> dict[str, Any]:
    """Measure versions side by side in one run. Task: versions, dataset.

    Result: rows (metric, model, scope, value, unit, better, split, n; with low, high, lost and won of the change from
    the first version, where the samples tell); for two versions also receipt, in the form of a surgery's own, from the
    first to the second.
    """
    from surgery.measure import class_names, continuations, measure, measured_intervals
    from surgery.operations.base import Outcome
    from surgery.receipt import Receipt, rows

    ids, data = list(job.task["versions"]), ws.dataset(job.task["dataset"])
    labels = {f"v{version.number} {version.name}": version.id for version in map(ws.version, ids)}
    names = dict(zip(("before", "after") if len(labels) == 2 else labels, labels, strict=True))
    models = {name: ws.model(labels[names[name]]) for name in ctx.track(names, "loading")}
    start = time.monotonic()
    measured = measure(models, data, ctx)
    found = rows(measured.rows)
    first, *others = models
    for other in others:
        own = measured_intervals([row for row in found if row["model"] == other], measured, data, first, other)
        found = [row for row in found if row["model"] != other] + own
    result: dict[str, Any] = {"rows": [row | {"model": names[row["model"]]} for row in found]}
    if len(labels) == 2:
        about = {"operation": "compare", "inputs": ids, "dataset": job.task["dataset"]}
        seconds = time.monotonic() - start
        classes = {side: class_names(models[side], data) for side in names}
        receipt = Receipt.make(about, "Comparison", Outcome((), None), measured, data, seconds, classes=classes)
        result["receipt"] = replace(receipt, texts=continuations(models, data, ctx)).to_json()
    return result


def scan(ws: Workspace, job: Job, ctx: Context) -> dict[str, Any]:
    """Scan a version on a dataset. Task: version, dataset, params (those of `surgery.analysis.scan.scan`).

    Result: folder, with the scan and its table of neurons.
    """
    from surgery.analysis.scan import scan

    version, dataset, params = (job.task[name] for name in ("version", "dataset", "params"))
    if not ws.has_scan(version, dataset, params):
        model = ws.model(version)
        found = scan(model, ws.dataset(dataset).fitting(model.classes), ctx, **params)
        ctx.report({"stage": "grouping the neurons", "done": 0, "total": None, "seconds": 0.0})
        from surgery.analysis.neurons import save  # late, for the first batch to come soon

        ws.add_scan(version, dataset, params, lambda folder: save(model, found, folder))
    return {"folder": str(ws.scan_folder(version, dataset, params))}


def must_keep(ws: Workspace, job: Job, ctx: Context) -> None:
    """Draw the must-keep cases of a dataset anew; pinned ones stay. Task: version, dataset, size, least, shares."""
    from surgery.analysis.must_keep import draw

    task = job.task
    model = ws.model(task["version"])
    data = ws.dataset(task["dataset"]).fitting(model.classes).without_test()
    before = next(iter(ws.must_keep(task["dataset"])), None)
    drawn = draw(
        model,
        data,
        replace(ctx, seed=int(task.get("seed", 0))),
        size=int(task["size"]),
        least=int(task["least"]),
        shares=task["shares"],
        pinned=before.pinned if before else (),
    )
    ws.save_must_keep(task["dataset"], drawn, job=job.id)


def criticality(ws: Workspace, job: Job, ctx: Context) -> dict[str, Any]:
    """Score every neuron for every class and find the classes' slices, after a scan if there is none. Task: a scan's.

    Result: folder, the scan's, with the scores and the slices' levels.
    """
    from surgery.analysis import slices

    folder = Path(scan(ws, job, ctx)["folder"])
    if not (folder / slices.TABLES).exists():  # written last
        model = ws.model(job.task["version"])
        find_slices(model, ws.dataset(job.task["dataset"]).fitting(model.classes), folder, ctx)
    return {"folder": str(folder)}


def find_slices(model: Model, data: Dataset, folder: Path, ctx: Context) -> None:
    """Write scores and slices of a model into the folder of its scan on `data`; test samples are not touched."""
    from surgery.analysis import layers, slices
    from surgery.analysis.criticality import criticality
    from surgery.analysis.scan import Scan

    found, open_data = Scan.load(folder), data.without_test()
    scored = criticality(model, open_data, found, ctx, fill="mean")
    with full_disk_refused("the slices"), scans.extending(folder):
        scored.save(folder)
        seen = slices.observe(model, open_data, found, ctx)
        layers.save(model, seen, folder)
        slices.save(model, open_data, found, scored.scores, ctx, folder, seen)


def sensitivity(ws: Workspace, job: Job, ctx: Context) -> dict[str, Any]:
    """Measure how much worse the model gets without each group of neurons. Task: a scan's, and seconds.

    What was measured is kept when the job is cancelled, and another job goes on from there.
    Result: folder, the scan's; tested, of how many.
    """
    import pandas as pd

    from surgery.analysis.scan import Scan
    from surgery.measure.sensitivity import SECONDS, TABLE, Sensitivity

    folder = Path(scan(ws, job, ctx)["folder"])
    version, dataset = (job.task[name] for name in ("version", "dataset"))
    model = ws.model(version)
    data = ws.dataset(dataset).fitting(model.classes).without_test()
    known = pd.read_parquet(folder / TABLE) if (folder / TABLE).exists() else None
    measured = Sensitivity(model, data, ctx, means=Scan.load(folder).means, known=known)
    try:
        measured.run(seconds=float(job.task.get("seconds", SECONDS)))
    finally:
        with full_disk_refused("the measurements"), scans.extending(folder):
            measured.save(folder)
    table = measured.table
    return {"folder": str(folder), "tested": int(table["tested"].sum()), "all": len(table)}


def projection(ws: Workspace, job: Job, ctx: Context) -> dict[str, Any]:
    """Add the coordinates of the map to a scan that was made. Task and result: those of the scan."""
    from surgery.analysis.projection import project

    folder = ws.scan_folder(*(job.task[name] for name in ("version", "dataset", "params")))
    ctx.report({"stage": "drawing the map", "done": 0, "total": None, "seconds": 0.0})
    with full_disk_refused("the map"), scans.extending(folder):
        project(folder)
    return {"folder": str(folder)}


TOLD = ("kind", "device", "path", "name", "trained_on")  # fields of an import that its reader need not know


def import_data(ws: Workspace, job: Job, ctx: Context) -> None:
    """Import a dataset. Task: path, name, and what `surgery.data.load.import_data` takes; like names a dataset."""
    from surgery.data.limited import import_data
    from surgery.data.reading import Reading

    path = Path(job.task["path"])
    options = {name: value for name, value in job.task.items() if name not in TOLD}
    if size := options.pop("size", None):
        options["size"] = tuple(size)
    if like := options.pop("like", None):
        earlier = ws.dataset(like)
        options["like"] = replace(earlier.reading or Reading(), order=earlier.features)
    name = job.task["name"]
    ws.add_dataset(
        job.project,
        name,
        lambda folder: import_data(path, folder, name=name, ctx=ctx, **options),
        job=job.id,
        trained_on=job.task.get("trained_on"),
    )
    _discard_upload(ws, path)


def drift(ws: Workspace, job: Job, ctx: Context) -> None:
    """Make a changed copy of a dataset, for trials. Task: dataset, change, strength, name; for an attack version."""
    from surgery.data import drift
    from surgery.edit.attack import attacked

    data, change, strength = ws.dataset(job.task["dataset"]), job.task["change"], float(job.task["strength"])
    quiet = Context(device=ctx.device, cancelled=ctx.cancelled)
    attack = change in ("fgsm", "pgd")
    model = ws.model(job.task["version"]) if attack else None

    def changed(ids: Ids) -> NDArray[Any]:
        if model is not None:
            return attacked(model, data, ids, change, 0.2 * strength, quiet)
        return drift.drifted(data, ids, change, strength)

    ws.add_dataset(
        job.project,
        job.task["name"],
        lambda folder: drift.make(data, folder, changed, ctx, name=job.task["name"]),
        job=job.id,
    )


def join(ws: Workspace, job: Job, ctx: Context) -> None:
    """Put datasets together into one. Task: datasets, name."""
    from surgery.data.join import join

    parts = [ws.dataset(id) for id in job.task["datasets"]]
    name = job.task["name"]
    ws.add_dataset(job.project, name, lambda folder: join(parts, folder, ctx, name=name), job=job.id)


def relabel(ws: Workspace, job: Job, ctx: Context) -> dict[str, Any]:
    """Write a dataset under other class names. Task: dataset, classes, without, name.

    Where the project works on the old one, it goes on with the new one. Result: dataset.
    """
    from surgery.data.relabel import relabel

    task = job.task
    data, name, names, without = ws.dataset(task["dataset"]), task["name"], task["classes"], task.get("without", [])
    row = ws.add_dataset(
        job.project,
        name,
        lambda folder: relabel(data, folder, names, ctx, name=name, without=without),
        trained_on=ws.project(job.project).settings.answer(task["dataset"]),
    )
    if ws.project(job.project).dataset == task["dataset"]:
        ws.use_dataset(job.project, row.id)
    return {"dataset": row.id}


def import_model(ws: Workspace, job: Job, ctx: Context) -> None:
    """Read weights into an architecture. Task: path, name, architecture {name, arguments}, input, classes, task, and
    optionally output (the path of the prediction), licence and source of the weights.

    A file that this product saved says all that itself: its task is path and name. precision: another number format
    than the file's to store it in. trained_on: whether it was trained on the project's dataset.
    """
    from surgery import sandbox
    from surgery.errors import ModelFileError
    from surgery.network.load import reopen
    from surgery.network.precision import kept_as
    from surgery.network.read import read
    from surgery.network.trial import attempt

    path = Path(job.task["path"])
    ctx.report({"stage": "reading", "done": 0, "total": None, "seconds": 0.0})
    weights = read(path)
    with sandbox.reading(path.name, ModelFileError):
        if job.task.get("input") is None:
            attempt(weights)
            ctx.report({"stage": "numbering the neurons", "done": 0, "total": None, "seconds": 0.0})
            model = reopen(weights)
        else:
            model = _assembled(weights, job, ctx)
    if kind := job.task.get("precision"):
        model = kept_as(model, kind)
    dataset = ws.project(job.project).dataset
    if dataset and (answer := job.task.get("trained_on")):
        ws.set_trained_on(job.project, dataset, answer)
    sample = proofs.batch_in(ws, job.project, model)
    ws.commit(job.project, model, name=job.task["name"], job=job.id, sample=sample)
    _discard_upload(ws, path)


def _assembled(weights: Weights, job: Job, ctx: Context) -> Model:
    """The weights in the architecture that the task of an import names."""
    from surgery.data.texts import character, named
    from surgery.errors import ModelError
    from surgery.network.load import assemble, input_spec
    from surgery.network.model import Architecture, Origin
    from surgery.network.trial import attempt

    given, architecture, classes = job.task["input"], Architecture(**job.task["architecture"]), job.task["classes"]
    alphabet = classes if given.get("kind") == "text" else ()
    if strange := [name for name in alphabet if len(character(name)) != 1 or named(character(name)) != name]:
        raise ModelError(
            f"The alphabet holds {strange[0]!r}, which is no character.",
            "Import the text that the model was trained on first: its alphabet is then filled in.",
        )
    attempt(weights, architecture)
    ctx.report({"stage": "numbering the neurons", "done": 0, "total": None, "seconds": 0.0})
    return assemble(
        weights.tensors,
        architecture,
        input=input_spec(given, alphabet),
        classes=classes,
        task=job.task.get("task", "classification"),
        origin=Origin(job.task["name"], job.task.get("licence", ""), job.task.get("source", ""), _brought(weights)),
        output=job.task.get("output", ""),
    )


def _brought(weights: Weights) -> str:
    """The file that was brought: name, size and number format, which every later version is compared with."""
    from surgery.network.precision import said

    size = weights.file.stat().st_size
    shown = f"{size / 1e3:,.1f} kB" if size < 1_000_000 else f"{size / 1e6:,.1f} MB"
    return f"{weights.file.name}, {shown}, {said(weights.tensors)}"


def build_large(ws: Workspace, job: Job, ctx: Context) -> None:
    """Train a large uniform MLP on a table. Task: dataset, name, width, depth, epochs, and optionally seed."""
    from surgery.edit.build_large import build_large

    task, ctx = job.task, replace(ctx, seed=int(job.task.get("seed", 0)))
    width, depth, epochs = int(task["width"]), int(task["depth"]), float(task["epochs"])
    model = build_large(ws.dataset(task["dataset"]).without_test(), ctx, width=width, depth=depth, epochs=epochs)
    ws.commit(job.project, model, name=task["name"], operation="training", job=job.id)


def _discard_upload(ws: Workspace, path: Path) -> None:
    """Remove a file that a browser left for this import; never one of the user's own."""
    if path.resolve().is_relative_to(ws.uploads):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
