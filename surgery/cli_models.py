"""Commands about a model as a file: bring it in, say what it takes, write it out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.cli_jobs import existing, project_to_fill, wait, workspace
from surgery.errors import SurgeryError
from surgery.network import config_file, store
from surgery.network.facts import listed

if TYPE_CHECKING:
    from surgery.workspace import Version, Workspace

DOCUMENTS = ("plan", "receipt", "ids")
# What each export writes: the endings that its file may have, the one to propose first.
ENDINGS = {"safetensors": (".safetensors",), "bundle": (".zip",), "onnx": (".onnx",), "int8": (".onnx",)}
LEVELS = {"full": "fully editable", "gate": "gate only", "inspect": "inspect only"}
SHOWN = 12  # tensors of a file that nothing fits


def import_model(options: argparse.Namespace) -> None:
    """Look into the file, choose the architecture, import, and measure it where there is data."""
    from surgery.ui import coverage

    ws, path = workspace(), existing(options.path)
    with project_to_fill(ws, options.project, path.stem) as project:
        version = ws.version(_import(ws, _task(ws, options, path, project), project))
    found = store.inspect(version.folder)
    print(f"version {version.id}  {found['name']}  {version.parameters:,} parameters, {version.neurons:,} neurons")
    print(f"{LEVELS[found['support']['level']]}: {coverage.sentence(found)}")
    if found["support"]["reason"]:
        print(found["support"]["reason"])
    notice_input(ws, version)


def _task(ws: Workspace, options: argparse.Namespace, path: Path, project: str) -> dict[str, Any]:
    """The task of the import, after a look into the file."""
    look: dict[str, Any] = {"kind": "inspect_model", "path": str(path)}
    if options.config:
        look["architecture"] = config_file.architecture(existing(options.config).read_bytes(), str(options.config))
    elif options.architecture:
        look["architecture"] = {"name": options.architecture, "arguments": options.arguments}
    found = wait(ws, look, project=project, title=f"Look into {path.name}").result
    if found["described"] and "architecture" not in look:
        _refuse_stated(options, path)
        return {"kind": "import_model", "path": str(path), "name": path.stem, **_stated(options)}
    best = _best(found, path)
    output, outputs = _prediction(best, options.output), best["outputs"]
    if len(returns := best.get("returns", {})) > 1:
        print(f"outputs of the network: {listed(returns)}; prediction: {output}")
        outputs = (returns[output] or [outputs])[-1]
    return {
        "kind": "import_model",
        "path": str(path),
        "name": path.stem,
        "architecture": {"name": best["name"], "arguments": best["arguments"]},
        "input": options.input or best["input"],
        "classes": names(options.classes)
        if options.classes
        else best["classes"] or _numbers(ws, project, best, outputs),
        "task": options.task,
        "licence": options.licence,
        "source": options.source,
        **_stated(options),
        "output": output,
    }


def _stated(options: argparse.Namespace) -> dict[str, str]:
    """What was said of a file of either kind."""
    return {name: value for name in ("precision", "trained_on") if (value := getattr(options, name))}


def _best(found: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The architecture that is taken: the first suggestion.

    Raises:
        SurgeryError: there is none, or its constructor needs arguments that the file does not tell.
    """
    if not found["suggestions"]:
        listed = [f"  {name}  {' × '.join(map(str, shape)) or 'one number'}" for name, shape in found["listing"]]
        more = f"\n  … and {found['tensors'] - SHOWN:,} more" if found["tensors"] > SHOWN else ""
        raise SurgeryError(
            f"No known architecture fits {path.name}. It holds:\n" + "\n".join(listed[:SHOWN]) + more,
            "Name one with --architecture, or register your own class: surgery --architectures FILE.py import-model …",
        )
    best: Mapping[str, Any] = found["suggestions"][0]
    if best["needs"]:
        given = {**best["arguments"], **dict.fromkeys(best["needs"], "…")}
        raise SurgeryError(
            f"{best['name']} needs {', '.join(best['needs'])}, which {path.name} does not tell.",
            f"Name them: --architecture {best['name']} --arguments '{json.dumps(given, ensure_ascii=False)}'",
        )
    return best


def _prediction(suggestion: Mapping[str, Any], wanted: str) -> str:
    """The path of the prediction; "" where the network returns one tensor, or could not be run yet.

    Raises:
        SurgeryError: it returns no such output, or several that can be the prediction and none is named.
    """
    returns, possible = suggestion.get("returns", {}), suggestion.get("predictions", ())
    if wanted and returns and wanted not in returns:
        raise SurgeryError(
            f"The network returns no output {wanted!r}; it returns {listed(returns)}.", "Name one with --output."
        )
    if not wanted and len(possible) > 1:
        raise SurgeryError(
            f"The network returns several outputs that can be its prediction: {listed(returns)}.",
            f"Say which one it is, for instance --output {possible[0]}.",
        )
    return wanted or (possible[0] if possible else next(iter(returns), ""))


def _numbers(ws: Workspace, project: str, best: Mapping[str, Any], outputs: int) -> list[str]:
    """Names for the outputs where nothing names them: numbers, or the alphabet of the text that is there."""
    dataset = ws.project(project).dataset
    row = ws.dataset_row(dataset) if dataset else None
    if best["input"]["kind"] == "text" and row is not None and len(row.classes) == outputs:
        return list(row.classes)
    return [str(number) for number in range(outputs)]


def _refuse_stated(options: argparse.Namespace, path: Path) -> None:
    """A file that this product saved says its classes and its input itself."""
    for name in ("classes", "input"):
        if getattr(options, name):
            raise SurgeryError(
                f"{path.name} was saved by Model Surgery and holds its {name} already.",
                f"Leave out --{name}, or name the architecture too: --architecture NAME.",
            )


def _import(ws: Workspace, task: Mapping[str, Any], project: str) -> str:
    """Run the import; the version that it made."""
    return str(wait(ws, task, project=project, title=f"Import {Path(task['path']).name}").result["version"])


def names(words: str) -> list[str]:
    """Names separated by commas, or a JSON list of them; a number among them is taken as it is written.

    Raises:
        SurgeryError: it begins like a list and is none.
    """
    if not words.startswith("["):
        return words.split(",")
    try:
        return list(map(str, json.loads(words, parse_int=str, parse_float=str)))
    except (ValueError, RecursionError) as error:
        raise SurgeryError(
            f"{words!r} is no JSON list of names: {error}.", 'Write for instance ["cat", "dog"].'
        ) from error


def notice_input(ws: Workspace, version: Version) -> None:
    """Measure a version on its project's dataset, and say when another input is clearly better.

    Images that are smaller than the model's input are spoken of before anything is measured.
    """
    from surgery.jobs.inputs import clearly_better, smaller_images
    from surgery.network.facts import Facts

    dataset = ws.project(version.project).dataset
    if dataset is None or ws.dataset_row(dataset).task == "unlabelled":
        return
    takes, data = Facts.of(ws.inspect(version.id), version.name).input, ws.dataset(dataset)
    if size := smaller_images(takes, data):
        print(
            f"The model takes images of {_pixels(takes.shape)}, the dataset has {_pixels(size)}. If it was trained on "
            f"that size: surgery input {version.id} --size {size[0]}x{size[1]}"
        )
        return
    try:
        rows = _measured(ws, version, dataset)
    except SurgeryError as error:
        print(f"The model was not measured on {data.name}: {error}", file=sys.stderr)
        return
    if rows:
        print(f"{_quality(rows[0], data.task)} on {rows[0]['n']:,} validation samples")
    if best := clearly_better(rows):
        print(
            f"{_quality(best, data.task)} with {best['name']}: surgery input {version.id} {_options(best, takes.shape)}"
        )


def set_input(options: argparse.Namespace) -> None:
    """Feed a version another size or normalization, as a new version; without one, measure which suits it."""
    ws = workspace()
    version = ws.version(options.version)
    spec = ws.inspect(version.id)["input"]
    if not (options.size or options.mean or options.std):
        _list_inputs(ws, version)
        return
    shape = [spec["shape"][0], *options.size] if options.size else spec["shape"]
    mean, std = (_spread(getattr(options, name), spec[name]) for name in ("mean", "std"))
    task = {"kind": "set_input", "version": version.id, "shape": shape, "mean": mean, "std": std}
    title = f"Input {_pixels(shape)}" if options.size else "Another normalization"
    wait(ws, {**task, "name": options.name or title}, project=version.project, title=title)
    made = ws.versions(version.project)[-1]
    print(f"version {made.id}  {made.name}")


def _list_inputs(ws: Workspace, version: Version) -> None:
    """Print the quality under each input that was tried, the version's own first."""
    dataset = ws.project(version.project).dataset
    if dataset is None:
        raise SurgeryError("The project has no dataset to measure on.", "Import one, or name --size, --mean or --std.")
    for row in _measured(ws, version, dataset):
        print(f"{_quality(row, ws.dataset_row(dataset).task)}  {row['name']}  {_pixels(row['shape'])}")


def _measured(ws: Workspace, version: Version, dataset: str) -> Sequence[Mapping[str, Any]]:
    task = {"kind": "check_model", "version": version.id, "dataset": dataset}
    rows: Sequence[Mapping[str, Any]] = wait(ws, task, project=version.project, title=f"Measure {version.name}").result[
        "rows"
    ]
    return rows


def _quality(row: Mapping[str, Any], task: str) -> str:
    return f"R² {row['quality']:.3f}" if task == "regression" else f"accuracy {100 * row['quality']:.1f}%"


def _options(row: Mapping[str, Any], shape: Sequence[int]) -> str:
    """The options of `surgery input` that make this input of one of `shape`."""
    if list(row["shape"]) != list(shape):
        return f"--size {row['shape'][1]}x{row['shape'][2]}"
    return " ".join(f"--{name} {' '.join(f'{value:g}' for value in _short(row[name]))}" for name in ("mean", "std"))


def _short(values: Sequence[float]) -> Sequence[float]:
    return values[:1] if len(set(values)) == 1 else values


def _spread(given: Sequence[float] | None, own: Sequence[float]) -> list[float]:
    """One number for every channel or feature, or as many as there are; its own where none is given."""
    if not given:
        return list(own)
    return list(given) * len(own) if len(given) == 1 else list(given)


def _pixels(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape[-2:]))


def size(text: str) -> list[int]:
    """ "32" or "32x48" as [height, width], for `argparse`."""
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) > 2 or not all(side.isdecimal() and 0 < len(side) < 6 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 32 or HEIGHTxWIDTH, for instance 32x48")
    return [int(sides[0]), int(sides[-1])]


def export(options: argparse.Namespace) -> None:
    """Write one file for use elsewhere; what it is follows from its ending where --format does not say it."""
    ws, kind = workspace(), _format(options.format, options.target)
    version = ws.version(options.version)
    if kind in DOCUMENTS:
        made = {"plan": ws.plan, "receipt": ws.receipt, "ids": ws.kept}[kind](version.id)
        if made is None:
            raise SurgeryError(f"Version {version.name!r} was imported, not made: it has no {kind}.")
        options.target.write_text(json.dumps(made, indent=1))
    else:
        _export_model(ws, version, kind, options)
    print(options.target)


def _format(given: str | None, target: Path) -> str:
    """What is written into `target`.

    Raises:
        SurgeryError: the ending is that of something else, or says nothing.
    """
    if given in DOCUMENTS:
        return given
    ending = target.suffix.lower()
    if given is None:
        fitting = [kind for kind, endings in ENDINGS.items() if ending in endings]
        if not fitting:
            raise SurgeryError(
                f"{target.name} does not tell what to write.",
                "End it with .safetensors (one file), .zip (with a loader that needs torch and safetensors alone) or "
                f".onnx, or name one of {', '.join(DOCUMENTS)} with --format.",
            )
        return fitting[0]
    kind = "bundle" if given == "safetensors" and ending == ".zip" else given
    if ending not in ENDINGS[kind]:
        proposed = target.with_suffix(ENDINGS[kind][0]).name
        raise SurgeryError(
            f"The format {given} writes a {ENDINGS[kind][0]} file, not what {target.name} ends with.",
            f"Name it {proposed}, or choose another --format.",
        )
    return kind


def _export_model(ws: Workspace, version: Version, kind: str, options: argparse.Namespace) -> None:
    called = {"safetensors": "weights", "bundle": "safetensors"}  # as jobs call them
    task: dict[str, Any] = {"kind": "export", "version": version.id, "format": called.get(kind, kind)}
    if kind == "int8":
        task["dataset"] = options.dataset or ws.project(version.project).dataset
        if not task["dataset"]:
            raise SurgeryError("INT8 is calibrated on samples, and the project has no dataset.", "Name --dataset.")
    title = f"Export {version.name}"
    found = wait(ws, task, project=version.project, title=title).result
    options.target.write_bytes(Path(found["file"]).read_bytes())
    if kind == "int8":
        from surgery.ui.export import int8_said

        print(int8_said(found))
    if found.get("needs"):
        from surgery.ui.export import needs_said

        print(needs_said(found["needs"]))
