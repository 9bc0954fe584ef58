"""The finished digits project of the first screen: a surgery that was done, and something to see on every page.

Made from the digits sample by the app's own jobs: its model split into modules, and the least selective neurons removed
by a stated rule, held to a preservation set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pandas import DataFrame, read_parquet

from sample_models.projects import SCAN, lay_out, look
from surgery.context import Context
from surgery.workspace import Workspace

if TYPE_CHECKING:
    from surgery.workspace import Job

NAME = "Digits, finished"
SHARE = 0.3  # chosen on val, like the epochs and the rate, and so that no protected sample is broken
EPOCHS, RATE = 8, 1e-3
SELECTION = f"Least selective {100 * SHARE:.0f}% of every layer"
RESULT = f"Without the least selective {100 * SHARE:.0f}%"
MODULES = "Split into modules"
PROTECTED: dict[str, Any] = {"size": 50, "least": 1, "shares": {"hard": 40, "typical": 30, "diverse": 30}}


def build(ws: Workspace, ctx: Context, *, projection: bool = True, split: bool = True) -> str:
    """Make the finished project from the trained digits CNN; its id. split: also the modules, half of the time."""
    project = ws.create_project(NAME).id
    original, data = lay_out(ws, project, "digits", ctx)
    look(ws, project, original, data, ctx, projection=projection)

    def job(title: str, **task: Any) -> Job:
        from sample_models.perform import perform

        return perform(ws, project, title, task, ctx)

    job("Draw the preservation set with v1", kind="must_keep", version=original.id, dataset=data.id, **PROTECTED)
    plan = {"inputs": [original.id], "dataset": data.id, "seed": 0}
    if split:
        job(MODULES, kind="plan", plan={**plan, "operation": "split", "parameters": {}}, current=False)
    table = read_parquet(ws.scan_folder(original.id, data.id, SCAN) / "neurons.parquet")
    chosen = ws.save_selection(project, original.id, SELECTION, choose(table))
    plan |= {
        "operation": "prune",
        "parameters": {"remove": {"ids": chosen.ids}, "epochs": EPOCHS, "rate": RATE},
        "preserve": {"ids": ws.must_keep(data.id)[0].ids},
    }
    made = job(RESULT, kind="plan", plan=plan)
    look(ws, project, ws.version(made.result["version"]), data, ctx, projection=projection)
    return project


def choose(table: DataFrame) -> list[int]:
    """The rule: in every layer, the share SHARE of the points of the map with the lowest selectivity.

    table: N rows of `surgery.analysis.neurons`. A neuron that activates for all digits alike helps least to tell them
    apart. A point stands for its coupled group, which goes with it.
    """
    chosen: list[int] = []
    for _, layer in table[table["point"]].groupby("layer"):
        count = round(SHARE * len(layer))
        chosen += layer.sort_values("selectivity", kind="stable")["id"].head(count).tolist()
    return sorted(chosen)
