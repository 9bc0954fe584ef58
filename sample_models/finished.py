"""The finished digits project of the first screen: made by the real pipeline, shipped, installed without training.

`build` scans the digits CNN, selects neurons by a stated rule, prunes and tunes through a plan, and commits, exactly as
pages and jobs do. `python -m sample_models.finished` does that and packs what came out into `sample_models/finished/`;
`install` puts it into a workspace; a test builds it again and compares.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pandas import DataFrame, read_parquet

import sample_models
from surgery.context import Context
from surgery.standing import said
from surgery.workspace import DatasetRow, Project, Version, Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.network.model import Model
    from surgery.operations.base import Outcome
    from surgery.receipt import Receipt

PACKED = Path(__file__).parent / "finished"
NAME = "Digits, finished"
SHARE = 0.4  # chosen on val, like the epochs and the rate
EPOCHS, RATE = 8, 1e-3
SELECTION = f"Least selective {100 * SHARE:.0f} % of every layer"
RESULT = f"Without the least selective {100 * SHARE:.0f} %"
SCAN: dict[str, Any] = {}  # scan with the defaults


@dataclass(frozen=True)
class Start:
    """What a surgery starts from."""

    project: Project
    original: Version
    data: DatasetRow


def build(ws: Workspace, ctx: Context) -> str:
    """Make the finished project from the trained digits CNN, which takes about ten seconds; its project id."""
    from surgery.plan import Plan, run

    start = _start(ws, ws.create_project(NAME), ctx)
    model, data = ws.model(start.original.id), ws.dataset(start.data.id)
    _scan(ws, start, start.original, model, ctx)
    table = read_parquet(ws.scan_folder(start.original.id, start.data.id, SCAN) / "neurons.parquet")
    chosen = ws.save_selection(start.project.id, start.original.id, SELECTION, choose(table))
    plan = Plan(
        operation="prune",
        parameters={"remove": {"ids": chosen.ids}, "epochs": EPOCHS, "rate": RATE},
        inputs=(start.original.id,),
        dataset=start.data.id,
        seed=0,
    )
    outcome, receipt = run(plan, [model], data, ctx)
    made = _commit(ws, start, outcome, receipt)
    _scan(ws, start, made, outcome.models[0], ctx)
    return start.project.id


def choose(table: DataFrame) -> list[int]:
    """The rule: in every layer, the share SHARE of the points of the map with the lowest selectivity.

    table: N rows of `surgery.analysis.neurons`. A neuron that answers to all digits alike helps least to tell them
    apart. A point stands for its coupled group, which goes with it.
    """
    chosen: list[int] = []
    for _, layer in table[table["point"]].groupby("layer"):
        count = round(SHARE * len(layer))
        chosen += layer.sort_values("selectivity", kind="stable")["id"].head(count).tolist()
    return sorted(chosen)


def _scan(ws: Workspace, start: Start, version: Version, model: Model, ctx: Context) -> None:
    """Scan a version and find its slices, as the jobs do."""
    from surgery.analysis import neurons
    from surgery.analysis.scan import scan
    from surgery.jobs.work import find_slices

    data = ws.dataset(start.data.id)
    found = scan(model, data, ctx, **SCAN)
    ws.add_scan(version.id, start.data.id, SCAN, lambda folder: neurons.save(model, found, folder))
    find_slices(model, data, ws.scan_folder(version.id, start.data.id, SCAN), ctx)


def installed(ws: Workspace) -> str | None:
    """The id of a project, not in the trash, that holds the packed result; cheap."""
    digest = _packed()["digest"]
    holders = (project.id for project in ws.projects() if any(v.digest == digest for v in ws.versions(project.id)))
    return next(holders, None)


def install(ws: Workspace, ctx: Context | None = None) -> str:
    """Put the packed project into a workspace, with everything that `build` made; its project id.

    Trains nothing, but imports torch, and measures before and after on this machine: no number is taken from the
    package. A workspace that has the project already is left as it is; one that could not be filled goes to the trash.
    """
    if found := installed(ws):
        return found
    project = ws.create_project(NAME)
    try:
        _fill(ws, project, _packed(), ctx or Context())
    except BaseException:
        ws.trash_project(project.id)
        raise
    return project.id


def _fill(ws: Workspace, project: Project, packed: Mapping[str, Any], ctx: Context) -> None:
    """Commit what is packed, with a receipt of its own."""
    import torch

    from surgery.measure import class_names, measure
    from surgery.network import store
    from surgery.operations.base import Outcome
    from surgery.receipt import Receipt

    start = _start(ws, project, ctx)
    data = ws.dataset(start.data.id)
    ws.add_scan(start.original.id, start.data.id, SCAN, lambda folder: _copy(PACKED / "scan_before", folder))
    plan = packed["plan"] | {"inputs": [start.original.id], "dataset": start.data.id}
    ws.save_selection(start.project.id, start.original.id, SELECTION, plan["parameters"]["remove"]["ids"])
    tables = {path.stem: read_parquet(path) for path in (PACKED / "tables").glob("*.parquet")}
    outcome = Outcome((store.load(PACKED / "model"),), torch.tensor(packed["kept"]), tables=tables)
    models = {"before": ws.model(start.original.id), "after": outcome.models[0]}
    measured = measure(models, data, ctx)
    classes = {side: class_names(model, data) for side, model in models.items()}
    receipt = Receipt.make(plan, packed["title"], outcome, measured, data, packed["seconds"], classes=classes)
    made = _commit(ws, start, outcome, replace(receipt, made=packed["made"], software=packed["software"]))
    ws.add_scan(made.id, start.data.id, SCAN, lambda folder: _copy(PACKED / "scan_after", folder))


def pack(ws: Workspace, project_id: str, target: Path = PACKED) -> None:
    """Write what `install` needs of a project that `build` made."""
    original, made = ws.versions(project_id)
    (data,) = ws.datasets(project_id)
    shutil.rmtree(target, ignore_errors=True)
    (target / "model").mkdir(parents=True)
    for name in ("model.safetensors", "architecture.json", "index.safetensors"):
        shutil.copy(made.folder / name, target / "model")
    shutil.copytree(made.folder / "tables", target / "tables")
    for version, name in ((original, "scan_before"), (made, "scan_after")):
        shutil.copytree(ws.scan_folder(version.id, data.id, SCAN), target / name)
    import torch

    from sample_models.train import processor

    receipt = ws.receipt(made.id) or {}
    facts = {key: receipt[key] for key in ("title", "seconds", "made", "software")}
    facts |= {"plan": ws.plan(made.id), "kept": ws.kept(made.id), "digest": made.digest}
    facts |= {"machine": processor(), "threads": torch.get_num_threads()}
    (target / "surgery.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


def _packed() -> dict[str, Any]:
    """Plan, receipt, old-id map and digest of the packed result."""
    found: dict[str, Any] = json.loads((PACKED / "surgery.json").read_text("utf-8"))
    return found


def _start(ws: Workspace, project: Project, ctx: Context) -> Start:
    """Put the trained digits CNN as version 1 and its data into a new project."""
    from surgery.network import store

    original = ws.commit(project.id, store.load(sample_models.model_folder("digits")), name="Original")
    data = ws.add_dataset(
        project.id, "Digits", lambda folder: sample_models.make_data("digits", folder, ctx), trained_on="train"
    )
    return Start(project, original, data)


def _commit(ws: Workspace, start: Start, outcome: Outcome, receipt: Receipt) -> Version:
    """Version 2, as a plan job commits it."""
    return ws.commit(
        start.project.id,
        outcome.models[0],
        name=RESULT,
        parent=start.original.id,
        operation=receipt.title,
        plan=receipt.plan,
        receipt=receipt.to_json(),
        kept=outcome.kept,
        tables=outcome.tables,
    )


def _copy(source: Path, folder: Path) -> None:
    """Copy the files of a packed folder into an existing one."""
    shutil.copytree(source, folder, dirs_exist_ok=True)


def main() -> None:
    """Build the project in a workspace of its own, place its neurons on the map, and pack it."""
    from surgery.analysis.projection import project

    with tempfile.TemporaryDirectory() as home:
        ws = Workspace(Path(home))
        made = build(ws, Context())
        (data,) = ws.datasets(made)
        for version in ws.versions(made):
            project(ws.scan_folder(version.id, data.id, SCAN))
        pack(ws, made)
        print(said(ws, ws.project(made)))


if __name__ == "__main__":
    main()
