"""Short jobs around what somebody brings or takes away: look into a model file, check how it is fed, open a
sample, export. They need torch, which a page never imports. Each function is one row in `surgery.jobs.kinds`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.context import Context
from surgery.errors import JobError
from surgery.jobs import proofs
from surgery.workspace import Workspace, queue
from surgery.workspace.rows import Job

if TYPE_CHECKING:
    from surgery.network.matching import Suggestion
    from surgery.network.model import Architecture
    from surgery.network.read import Weights

DAY = 86_400.0  # seconds
SHOWN = 200  # mismatches listed for each suggested architecture; the count is complete


def inspect_model(ws: Workspace, job: Job, ctx: Context) -> dict[str, Any]:
    """Read a file of weights and say which architectures it may belong to. Task: path, perhaps architecture.

    Result: format, tensors, parameters, bytes, notes; described, true for a file that this product saved, which needs
    no suggestion; suggestions, best first, each with name, arguments, mismatches (the first `SHOWN`), misfits (their
    number), needs (arguments that the file does not tell; nothing is then compared), input, returns (the shape of each
    output of the network, by path), predictions (the paths of those that can be its prediction), outputs (columns of
    the first of these) and the known classes; listing, the first `SHOWN` tensors as [name, shape]; names of all
    architectures (those of installed extras too where none fits); snippet.
    """
    from surgery import sandbox
    from surgery.errors import ModelFileError
    from surgery.network import architectures, read
    from surgery.network.model import Architecture

    path, given = Path(job.task["path"]), job.task.get("architecture")
    ctx.report({"stage": "reading", "done": 0, "total": None, "seconds": 0.0})
    weights = read.read(path)
    ctx.report({"stage": "comparing with the known architectures", "done": 0, "total": None, "seconds": 0.0})
    with sandbox.reading(path.name, ModelFileError):
        found = _found(weights, Architecture(given["name"], given["arguments"]) if given else None)
        suggestions = [_suggestion(weights, one, _sample(ws, job.project)) for one in found]
    fits = weights.description is not None or any(not one.mismatches and not one.needs for one in found)
    return {
        "format": read.sniff(path),
        "tensors": len(weights.tensors),
        "parameters": sum(tensor.numel() for tensor in weights.tensors.values() if tensor.is_floating_point()),
        "bytes": sum(tensor.nbytes for tensor in weights.tensors.values()),
        "notes": list(weights.notes),
        "described": weights.description is not None,
        "suggestions": suggestions,
        "listing": [[name, list(tensor.shape)] for name, tensor in [*weights.tensors.items()][:SHOWN]],
        "names": [*architectures.names(), *([] if fits else architectures.extra_names())],
        "snippet": architectures.snippet(),
    }


def _found(weights: Weights, wanted: Architecture | None) -> list[Suggestion]:
    """The architecture that was asked for, completed, or those that fit best; [] for a described file."""
    from surgery.network import load, trial

    if wanted is not None:
        trial.attempt(weights, wanted)
        return [load.completed(weights.tensors, wanted)]
    return [] if weights.description is not None else load.suggest(weights.tensors)


def _sample(ws: Workspace, project: str) -> tuple[int, ...]:
    """The shape of a sample of the project's dataset; () when there is none yet."""
    dataset = ws.project(project).dataset
    return ws.dataset(dataset).shape if dataset else ()


def _suggestion(weights: Weights, found: Suggestion, sample: tuple[int, ...]) -> dict[str, Any]:
    from surgery.network import config_file, load

    architecture = found.architecture
    about = {"name": architecture.name, "arguments": dict(architecture.arguments), "needs": list(found.needs)}
    if found.needs:
        return {**about, "mismatches": [], "misfits": 0, "input": None, "outputs": 0, "classes": []}
    config = architecture.arguments.get("config") if architecture.name.startswith("hf/") else None
    said = config_file.input_of(config) if config else None
    spec = said or asdict(load.guess_input(weights.tensors, architecture, sample))
    returns, predictions = _returned(architecture, spec)
    return {
        **about,
        "mismatches": [asdict(mismatch) for mismatch in found.mismatches[:SHOWN]],
        "misfits": len(found.mismatches),
        "input": spec,
        "returns": returns,
        "predictions": predictions,
        "outputs": returns[predictions[0]][-1] if predictions else _outputs(architecture),
        "classes": config_file.classes_of(config) if config else [],
    }


def _returned(architecture: Architecture, spec: Mapping[str, Any]) -> tuple[dict[str, list[int]], list[str]]:
    """What the network returns; nothing where it does not run on such an input, which the import then says."""
    from surgery.errors import ModelError
    from surgery.network import load

    try:
        given = {key: value for key, value in spec.items() if key != "alphabet"}
        return load.returned(architecture, load.input_spec(given, spec.get("alphabet", ())))
    except ModelError:
        return {}, []


def _outputs(architecture: Architecture) -> int:
    """The length of the last tensor that the architecture makes: its logits, unless its author ordered it otherwise."""
    from surgery.network.architectures import skeleton

    shapes = [tuple(tensor.shape) for tensor in skeleton(architecture).state_dict().values()]
    return next((shape[0] for shape in reversed(shapes) if shape), 0)


def check_model(ws: Workspace, job: Job, ctx: Context) -> dict[str, Any]:
    """Measure a version on the probe set under its own and other plausible inputs. Task: version, dataset.

    Result: rows of name, shape, mean, std, quality (accuracy or R²) and n; the version's own first.
    """
    from surgery.measure import check_input

    model = ws.model(job.task["version"])
    rows = check_input(model, ws.dataset(job.task["dataset"]).fitting(model.classes), ctx)
    return {
        "rows": [
            {
                "name": row.name,
                "shape": row.spec.shape,
                "mean": row.spec.mean,
                "std": row.spec.std,
                "quality": row.quality,
                "n": row.n,
            }
            for row in rows
        ]
    }


def set_input(ws: Workspace, job: Job, ctx: Context) -> None:
    """Commit the same weights, fed in another way, as a new version. Task: version, shape, mean, std, name.

    Raises:
        ModelError: the network does not run on such a shape.
    """
    import torch

    from surgery.errors import ModelError
    from surgery.network.load import takes

    version = job.task["version"]
    model = ws.model(version)
    shape, mean, std = (tuple(job.task[name]) for name in ("shape", "mean", "std"))
    if shape != model.input.shape and not takes(model.module, shape):
        sides, own = (" × ".join(map(str, one[1:])) for one in (shape, model.input.shape))
        raise ModelError(f"The network does not run on images of {sides} pixels.", f"Keep its own {own}.")
    changed = replace(model, input=replace(model.input, shape=shape, mean=mean, std=std))
    ws.commit(
        job.project,
        changed,
        name=job.task["name"],
        parent=version,
        operation="input",
        kept=None if model.index is None else torch.arange(model.index.n),
        job=job.id,
        sample=proofs.batch_in(ws, job.project, changed),
    )


def open_sample(ws: Workspace, job: Job, ctx: Context) -> dict[str, Any]:
    """Unpack a sample, scanned, into the project. Task: sample. Result: its dataset and version."""
    from sample_models import projects

    ctx.report({"stage": "unpacking", "done": 0, "total": None, "seconds": 0.0})
    projects.install(ws, job.task["sample"], job.project, ctx)
    project = ws.project(job.project)
    return {"dataset": project.dataset, "version": project.current}


def export(ws: Workspace, job: Job, ctx: Context) -> Mapping[str, Any]:
    """Write a version for use elsewhere. Task: version, format ("safetensors": a zip with a loader, "weights": one
    safetensors file that says itself what it is, "onnx" or "int8"), of int8 a dataset.

    Result: file, the path of one file below the workspace's exports; of safetensors also needs, a module that the
    export imports and does not hold ("" = it stands alone); of int8 also what `measure.int8` found.

    Raises:
        JobError: there is no such format. ModelError: the loader of the export does not give the model back.
    """
    from surgery.network import export_check, store

    forget_old_exports(ws)
    version, kind = ws.version(job.task["version"]), job.task["format"]
    stem = ws.exports / job.id / f"v{version.number}"
    stem.parent.mkdir(parents=True)
    ctx.report({"stage": "writing", "done": 0, "total": None, "seconds": 0.0})
    if kind == "onnx":
        store.export(version.folder, stem.with_suffix(".onnx"), "onnx")
        return {"file": str(stem.with_suffix(".onnx"))}
    if kind == "int8":
        from surgery.measure import int8

        target = stem.with_suffix(".int8.onnx")
        return {"file": str(target), **int8(ws.model(version.id), ws.dataset(job.task["dataset"]), target, ctx)}
    if kind == "weights":
        target = shutil.copyfile(version.folder / store.WEIGHTS, stem.with_suffix(".safetensors"))
        return {"file": str(target)}
    if kind != "safetensors":
        raise JobError(f"There is no export {kind!r}.", "Use safetensors, weights, onnx or int8.")
    store.export(version.folder, stem, "safetensors")
    model = ws.model(version.id)
    ctx.report({"stage": "loading it as elsewhere", "done": 0, "total": None, "seconds": 0.0})
    needs = export_check.check(stem, model.module, model.input.example(2), f"v{version.number} {version.name}")
    file = shutil.make_archive(str(stem), "zip", stem)
    shutil.rmtree(stem)
    return {"file": file, "needs": needs}


def forget_old_exports(ws: Workspace) -> None:
    """Exported files are copies: they go after a day; what else lies there stays."""
    for job in queue.listing(ws.store, None):
        folder = ws.exports / job.id
        if folder.is_dir() and time.time() - folder.stat().st_mtime > DAY:
            shutil.rmtree(folder, ignore_errors=True)
