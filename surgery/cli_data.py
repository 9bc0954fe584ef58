"""Commands about data: import it, change or join it, train on it, and say which of its cases must never break."""

from __future__ import annotations

import argparse

from surgery.cli_jobs import existing, project_to_fill, wait, workspace
from surgery.cli_models import notice_input
from surgery.errors import SurgeryError


def import_data(options: argparse.Namespace) -> None:
    """Import a dataset and name what was left out."""
    ws, path = workspace(), existing(options.path)
    task = {"kind": "import_data", "path": str(path), "name": path.stem}
    task |= {
        name: value
        for name in ("target", "task", "context", "same_names", "trained_on")
        if (value := getattr(options, name))
    }
    with project_to_fill(ws, options.project, path.stem) as project:
        row = ws.dataset_row(wait(ws, task, project=project, title=f"Import {path.name}").result["dataset"])
    data = ws.dataset(row.id)
    sizes = ", ".join(f"{role} {len(data.ids(role)):,}" for role in ("train", "val", "test") if len(data.ids(role)))
    print(f"dataset {row.id}  {row.task}, {len(row.classes)} classes, {sizes}")
    for problem in data.problems:
        print(f"  {problem.where}: {problem.reason} {problem.fix}")
    chosen = ws.project(project)
    if chosen.current and chosen.dataset == row.id:
        notice_input(ws, ws.version(chosen.current))


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
