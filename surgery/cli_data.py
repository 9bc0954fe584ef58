"""Commands about data: import it, change or join it, train on it, and say which of its cases must never break."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.cli_jobs import existing, project_to_fill, wait, workspace
from surgery.cli_models import notice_input
from surgery.data.reading import HOWS, USES
from surgery.errors import SurgeryError

if TYPE_CHECKING:
    from surgery.workspace import DatasetRow


def import_data(options: argparse.Namespace) -> None:
    """Say what becomes of the splits, import a dataset, and name what was left out."""
    ws, path = workspace(), existing(options.path)
    given = ("target", "task", "context", "same_names", "header", "numbers", "drop", "split_column", "like", "size")
    task: dict[str, Any] = {"kind": "import_data", "path": str(path), "name": path.stem}
    task |= {FIELDS.get(name, name): value for name in (*given, "trained_on") if (value := getattr(options, name))}
    for name, allowed in (("columns", HOWS), ("splits", USES), ("classes", None)):
        if found := pairs(
            getattr(options, name), f"--{name.removesuffix('s') if name == 'columns' else name}", allowed
        ):
            task[name] = found
    _print_splits(path, options, task.get("splits", {}))
    with project_to_fill(ws, options.project, path.stem) as project:
        row = ws.dataset_row(wait(ws, task, project=project, title=f"Import {path.name}").result["dataset"])
    data = ws.dataset(row.id)
    sizes = ", ".join(f"{role} {len(data.ids(role)):,}" for role in ("train", "val", "test") if len(data.ids(role)))
    print(f"dataset {row.id}  {row.task}, {len(row.classes)} classes, {sizes}")
    for note in data.notes:
        print(f"  {note}")
    for problem in data.problems:
        print(f"  {problem.where}: {problem.reason} {problem.fix}")
    chosen = ws.project(project)
    if chosen.current and chosen.dataset == row.id:
        notice_input(ws, ws.version(chosen.current))


FIELDS = {"split_column": "split"}
WORDS = {
    "train": "training",
    "val": "validation",
    "test": "test",
    "deal": "split anew into training, validation and test, where these are missing",
    "drop": "left out",
}


def _print_splits(path: Path, options: argparse.Namespace, said: Mapping[str, Any]) -> None:
    """What becomes of each split that came with the file.

    Raises:
        DataError: the file cannot be read, or a name of a split says nothing.
    """
    from surgery.data import limited
    from surgery.data.splits import uses

    look = limited.look(path, 0, header=options.header or "auto", split=options.split_column)
    found = uses([one.name for one in look.splits], said)
    for one in look.splits:
        shared = f"; {one.shared:,} are in an earlier split too and are left out of this one" if one.shared else ""
        print(f"split {one.name!r}: {one.count:,} samples, {WORDS[found[one.name]]}{shared}")


def pairs(words: Sequence[str], option: str, allowed: Sequence[str] | None = None) -> dict[str, str]:
    """`NAME=VALUE` words as a mapping; of a name with equals signs the last one counts.

    Raises:
        SurgeryError: a word without an equals sign, or a value that is not allowed.
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.rpartition("=")
        if not equals:
            raise SurgeryError(f"{word!r} is no pair.", f"Write {option} NAME=VALUE.")
        if allowed is not None and value not in allowed:
            raise SurgeryError(f"{value!r} in {word!r} is not possible.", f"Write one of {', '.join(allowed)}.")
        found[name] = value
    return found


def relabel(options: argparse.Namespace) -> None:
    """Write a dataset under other class names."""
    ws = workspace()
    row = ws.dataset_row(options.dataset)
    names = pairs(options.classes, "surgery relabel DATASET")
    if options.by_order:
        names = {**_by_order(row, ws.inspect(options.by_order)["classes"], sure=options.yes), **names}
    name = options.name or f"{row.name[:100]}, classes renamed"
    task = {"kind": "relabel", "dataset": row.id, "classes": names, "without": options.without, "name": name}
    print("dataset", wait(ws, task, project=row.project, title=name[:120]).result["dataset"], "", name)


def _by_order(row: DatasetRow, known: Sequence[str], *, sure: bool) -> dict[str, str]:
    """The dataset's classes and those of a model, by their order, once the user is sure.

    Raises:
        SurgeryError: they are not as many, or it is still to be confirmed.
    """
    if len(known) != len(row.classes):
        raise SurgeryError(
            f"{row.name!r} has {len(row.classes)} classes, the model has {len(known)}: their order says nothing.",
            "Name the pairs: surgery relabel DATASET OLD=NEW …",
        )
    for old, new in zip(row.classes, known, strict=True):
        print(f"  {old} = {new}")
    if not sure:
        raise SurgeryError("Nothing was renamed yet.", "Run it again with --yes when each of these pairs is right.")
    return dict(zip(row.classes, known, strict=True))


def train_mlp(options: argparse.Namespace) -> None:
    """Train a large MLP on a table."""
    ws = workspace()
    row = ws.dataset_row(options.dataset)
    name = options.name or f"MLP {options.depth} × {options.width}"
    task = {"kind": "build_large", "dataset": row.id, "name": name}
    task |= {key: getattr(options, key) for key in ("width", "depth", "epochs", "seed")}
    version = ws.version(wait(ws, task, project=row.project, title=f"Train {name}").result["version"])
    print(f"version {version.id}  {name}  {version.parameters:,} parameters, {version.neurons:,} neurons")


def drift(options: argparse.Namespace) -> None:
    """Make a changed copy of a dataset."""
    ws = workspace()
    row = ws.dataset_row(options.dataset)
    if options.change in ("fgsm", "pgd") and not options.version:
        raise SurgeryError(f"{options.change} attacks a model.", "Name it with --version.")
    name = f"{row.name[:60]}, {options.change} {options.strength:g}"
    given = {"dataset": row.id, "change": options.change, "strength": options.strength, "version": options.version}
    task = {"kind": "drift", "name": name, **given}
    print("dataset", wait(ws, task, project=row.project, title="Make a drifted copy").result["dataset"], "", name)


def join(options: argparse.Namespace) -> None:
    """Put datasets together."""
    ws = workspace()
    rows = [ws.dataset_row(id) for id in options.datasets]
    name = options.name or " + ".join(row.name for row in rows)
    task = {"kind": "join", "datasets": [row.id for row in rows], "name": name}
    print("dataset", wait(ws, task, project=rows[0].project, title=name).result["dataset"], "", name)


def must_keep(options: argparse.Namespace) -> None:
    """Draw, pin and list."""
    ws, row = workspace(), workspace().dataset_row(options.dataset)
    pinned = [*options.pin]
    if options.contains:
        from surgery.data.texts import containing

        if row.kind != "text":
            raise SurgeryError(f"{row.name!r} holds {row.kind}: no phrase can be found in it.", "Use --pin SAMPLE.")
        pinned += containing(ws.dataset(row.id), options.contains).tolist()
    if pinned:
        present = next(iter(ws.must_keep(row.id)), None)
        ws.save_must_keep(row.id, {**(present.cases if present else {}), **dict.fromkeys(pinned, "pinned")})
    if options.draw:
        task = {"kind": "must_keep", "dataset": row.id, "version": options.draw, "shares": {}}
        task |= {"size": options.size, "least": options.least, "shares": {"hard": 40, "typical": 30, "diverse": 30}}
        wait(ws, task, project=row.project, title="Draw must-keep cases")
    for state in ws.must_keep(row.id)[:1]:
        for sample, reason in sorted(state.cases.items()):
            print(f"{sample}  {reason}")
        print(f"state {state.number}, {len(state.cases)} cases, {state.digest}")
