"""What slices are worth, measured: accuracy when only a slice is kept, and the scores compared at equal mask rate.

Both measure on the probe set, with neurons silenced where they are read, and never open test. A result is kept in
the scan's folder under a digest of what was asked. Importing this module imports no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.context import Context
from surgery.jobs import work
from surgery.workspace import Workspace, scans
from surgery.workspace.files import full_disk_refused
from surgery.workspace.rows import Job

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from surgery.analysis.scan import Scan
    from surgery.data.dataset import Dataset
    from surgery.jobs.verdict import Probes
    from surgery.network.index import NeuronIndex
    from surgery.network.model import Model

ASKED = ("score", "criterion", "fill", "theta")  # what a measurement of slices depends on, besides the scan
RATES = (0.1, 0.2, 0.3, 0.4)  # shares of parameters masked at which scores are compared
COMPARED_ON = 400  # samples: some ninety passes have to be quick
SEEDS = 3  # of the control
RANDOM = "random"


def place(folder: Path, kind: str, asked: Mapping[str, Any]) -> Path:
    """The file in a scan's folder that holds, or would hold, this measurement."""
    text = json.dumps({name: asked[name] for name in ASKED if name in asked}, sort_keys=True)
    return folder / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def slice_accuracy(ws: Workspace, job: Job, ctx: Context) -> dict[str, Any]:
    """Measure every class with only its slice, and all with the union. Task: a scan's, score, criterion, fill, theta.

    Result: file, with metric ("accuracy", "agreement" with the whole model where there are no labels, "error" = mean
    absolute error), split, and rows {class, neurons, masked, n, full, slice, random}; the last row is the union. The
    control keeps as many random neurons of every layer.
    """
    from surgery.analysis import masking

    bench = Bench.open(ws, job, ctx)
    task = job.task
    key = f"{task['score']}/{task['fill'] if task['criterion'] == 'cosine' else task['criterion']}"
    members = bench.levels[key] < task["theta"]
    classes = bench.found.classes
    groups = bench.data.strata(bench.ids) if len(classes) > 1 else bench.ids * 0
    asked = [(name, members[:, c], groups == c) for c, name in enumerate(classes)]
    asked.append(("", members.any(1), groups >= 0))
    rows = []
    for name, own, where in ctx.track(asked, "measuring slices"):
        keep = own | bench.index.logits
        control = masking.shuffled(bench.index, own, ctx.seed)
        row = {"class": name, "neurons": int(own[bench.index.point].sum()), "n": int(where.sum())}
        worth = {word: bench.worth(mask, where, task["fill"]) for word, mask in (("slice", keep), ("random", control))}
        rows.append({**row, "masked": bench.masked(keep), "full": bench.of(bench.whole, where), **worth})
    found = {"rows": rows, "metric": bench.metric, "split": bench.probes.split, **{name: task[name] for name in ASKED}}
    return _keep(bench.folder, "slice_accuracy", task, found)


def score_comparison(ws: Workspace, job: Job, ctx: Context) -> dict[str, Any]:
    """Measure all scores and ways to choose neurons at equal mask rates, with means. Task: a scan's.

    Result: file, with metric, split, n, full and points {score, way, rate, masked, value}; the control is of score
    and way "random".
    """
    from surgery.analysis import masking

    bench = Bench.open(ws, job, ctx, limit=COMPARED_ON)
    shapes = masking.shapes_of(bench.model)
    rankings = bench.rankings()
    everyone = bench.ids >= 0
    points = []
    runs = [(score, way, order, rate) for score, way, order in rankings for rate in RATES]
    for score, way, order, rate in ctx.track(runs, "comparing scores"):
        keep = masking.keep_at(bench.index, shapes, order, rate)
        value = bench.worth(keep, everyone, "mean")
        points.append({"score": score, "way": way, "rate": rate, "masked": bench.masked(keep), "value": value})
    about = {"metric": bench.metric, "split": bench.probes.split, "n": len(bench.ids)}
    full = bench.of(bench.whole, everyone)
    return _keep(bench.folder, "score_comparison", {}, {"points": points, "full": full, **about})


@dataclass
class Bench:
    """A model over the probe set with its scan, scores and levels, to be asked what some neurons alone can do.

    whole: the full model's answers. truth: what is right; for unlabelled data, those answers.
    """

    folder: Path
    model: Model
    data: Dataset
    found: Scan
    scores: Mapping[str, Tensor]
    levels: Mapping[str, Tensor]
    probes: Probes
    ctx: Context
    whole: NDArray[Any]

    @classmethod
    def open(cls, ws: Workspace, job: Job, ctx: Context, limit: int = 1_000) -> Bench:
        """Load everything; finds the slices first where nobody has."""
        from safetensors.torch import load_file

        from surgery.analysis import slices
        from surgery.analysis.criticality import Criticality
        from surgery.analysis.scan import Scan
        from surgery.jobs.verdict import Probes
        from surgery.measure import quality

        folder = Path(work.criticality(ws, job, ctx)["folder"])
        model = ws.model(job.task["version"])
        data = ws.dataset(job.task["dataset"]).fitting(model.classes).without_test()
        probes = Probes.of(model, data, data.probe_ids(limit))
        quiet = replace(ctx, report=lambda _event: None)
        whole = quality.run(model, data, probes.ids, quiet)
        scores, levels = Criticality.load(folder).scores, load_file(folder / slices.TABLES)
        return cls(folder, model, data, Scan.load(folder), scores, levels, probes, quiet, whole)

    @property
    def index(self) -> NeuronIndex:
        """The numbering, which a model with scores has."""
        assert self.model.index is not None
        return self.model.index

    @property
    def ids(self) -> NDArray[np.int64]:
        """The samples that are asked."""
        return self.probes.ids

    @property
    def metric(self) -> str:
        """What `worth` gives: "accuracy", "agreement" or "error"."""
        if self.probes.truth is None:
            return "agreement"
        return "accuracy" if self.data.task == "classification" else "error"

    def masked(self, keep: Tensor) -> float:
        """The share of parameters masked."""
        from surgery.analysis import masking

        return masking.masked(self.index, masking.shapes_of(self.model), keep)

    def worth(self, keep: Tensor, where: NDArray[np.bool_], fill: str) -> float | None:
        """The metric on the samples `where`: bool[n], with only the neurons of keep: bool[N]; None without samples."""
        from surgery.edit.gate import gate
        from surgery.measure import quality

        if not where.any():
            return None
        means = self.found.means if fill == "mean" else None
        answers = self.whole.copy()
        with gate(self.model.module, self.index, keep.float(), means):
            answers[where] = quality.run(self.model, self.data, self.ids[where], self.ctx)
        return self.of(answers, where)

    def of(self, answers: NDArray[Any], where: NDArray[np.bool_]) -> float | None:
        """The metric of given answers."""
        if not where.any():
            return None
        truth = self.whole if self.probes.truth is None else self.probes.truth
        if self.model.task == "regression":
            return float(abs(answers[where].astype(float) - truth[where]).mean())
        return float((answers[where] == truth[where]).mean())

    def rankings(self) -> Iterable[tuple[str, str, Tensor]]:
        """(score, way, the points in the order in which they go) of all that is compared, the control last."""
        import torch

        from surgery.analysis import masking

        for score, table in self.scores.items():
            for way in masking.WAYS:
                worth = masking.importance(way, self.index, table, self.levels[f"{score}/mean"])
                yield score, way, masking.order_of(self.index, worth)
        for seed in range(SEEDS):
            chance = torch.rand(self.index.n, generator=torch.Generator().manual_seed(seed))
            yield RANDOM, RANDOM, masking.order_of(self.index, chance)


def _keep(folder: Path, kind: str, asked: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Write a measurement where `place` looks for it."""
    target = place(folder, kind, asked)
    staged = target.with_suffix(".part")
    with full_disk_refused("the measurement"), scans.extending(folder):
        staged.write_text(json.dumps(found), encoding="utf-8")
        staged.replace(target)
    return {"file": str(target)}
