"""Is the predicted harm of silencing a group of neurons that of really removing it, and which score foretells it?

200 groups of resnet18, layers in turn. Predicted by gating with passes that start in the middle; really removed by
shrinking, and a full pass over the same samples. Beside it the rank correlation of each score with the measured harm.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from scipy.stats import spearmanr

import sample_models
from benchmarks.bases import base, cifar10
from surgery import load
from surgery.analysis.criticality import criticality
from surgery.analysis.scan import scan
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.data.splits import spread
from surgery.edit.evaluate import predict
from surgery.edit.shrink import shrink
from surgery.measure.sensitivity import Sensitivity
from surgery.network.model import Model

GROUPS = 200


def patient(*, quick: bool) -> tuple[Model, Dataset]:
    """resnet18 trained on CIFAR-10; the digits sample in the quick form."""
    if not quick:
        return base("resnet18", 0), cifar10().without_test()
    folder = Path(tempfile.mkdtemp()) / "digits"
    data = sample_models.make_data("digits", folder)
    return load(sample_models.model_folder("digits")), data.without_test()


def measure(*, quick: bool) -> dict[str, Any]:
    """The largest difference between predicted and real, and the rank correlations."""
    model, data = patient(quick=quick)
    ctx, index = Context(), model.index
    found = scan(model, data, ctx, limit=10_000)
    scored = criticality(model, data, found, ctx, fill="mean")
    measured = Sensitivity(model, data, ctx, means=found.means)
    points = index.point.nonzero().flatten()
    chosen = points[spread(index.layer_of[points].numpy(), 40 if quick else GROUPS, 0, even=True)]
    measured.run(chosen)
    table = measured.table.set_index("id")
    table = table[table["tested"]]
    truth = torch.as_tensor(data.labels(measured.ids))
    off_loss = off_accuracy = 0.0
    for point in table.index:
        keep = index.close(torch.arange(index.n) != point)
        outputs = predict(shrink(model, keep, found.means)[0], data, measured.ids, ctx)
        loss = float(F.cross_entropy(outputs.double(), truth)) - measured.judge.loss
        right = float((outputs.argmax(1) == truth).double().mean() - measured.judge.right.double().mean())
        off_loss = max(off_loss, abs(loss - table.at[point, "loss_change"]))
        off_accuracy = max(off_accuracy, abs(right - table.at[point, "accuracy_change"]))
    lines = [
        {
            "score": name,
            "rank correlation with the loss's change": float(
                spearmanr(score[torch.as_tensor(table.index)].amax(1), table["loss_change"]).statistic
            ),
        }
        for name, score in scored.scores.items()
    ]
    return {
        "largest_difference_of_loss": off_loss,
        "largest_difference_of_accuracy": off_accuracy,
        "groups_tested": len(table),
        "samples": len(measured.ids),
        "largest_loss_change": float(table["loss_change"].max()),
        "table": lines,
    }
