"""The card of a sample: what it is, where its data came from, how it was trained, what it can and cannot do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CARD = "\n\n".join(
    (
        "# {title}",
        "{line}",
        "**Model.** {architecture}, {parameters:,} parameters. Weights: Apache-2.0, trained by this repository's code.",
        "**Data.** {data}",
        "**Licence of the data.** {data_licence}",
        "**Training.** `python -m sample_models.train {name}`, on the train role only: {train} samples ({val} are val, "
        "{test} are test; {roles}). {epochs} epochs of AdamW, rate {rate}, weight decay {decay}, one-cycle schedule, "
        "batches of {batch}, seed {seed}. {inputs}{folded}. torch {torch} on {machine}; other processors round "
        "differently, and training carries that on to about 1 % of a weight.",
        "**Result.** {result}, measured by `surgery.measure` on the {n} samples of the {split} role, which training "
        "did not see.",
        "**Limits.** {limits}",
        "Digest of the stored model: `{digest}`  \nDigest of the data: `{data_digest}`\n",
    )
)
_PLAIN = {
    "roles": "roles by a hash of the content, so equal samples never lie in two roles",
    "inputs": "Inputs are standardised by the mean and deviation of the train role",
}
_TEXT = {
    "roles": "roles by blocks of 16 windows that lie side by side",
    "inputs": "Every character of a window is learnt from those before it",
}
_FOLDED = ", and so is the target, whose scale is folded into the last layer: the network gives raw units"
_METRICS = {
    "accuracy": "Accuracy {:.1%}",
    "loss": "loss {:.3f} nats per character",
    "r2": "R² {:.3f}",
    "mse": "mean squared error {:,.0f}",
}


def card(name: str, facts: Mapping[str, Any]) -> str:
    """Markdown from `sample_models.info(name)`."""
    measured = facts["results"]
    return _CARD.format(
        name=name,
        **{key: facts[key] for key in ("title", "line", "data", "data_licence", "limits")},
        **facts["training"],
        **{key: measured[key] for key in ("parameters", "split", "n", "torch", "machine", "digest")},
        **{role: f"{measured['counts'].get(role, 0):,}" for role in ("train", "val", "test")},
        architecture=facts["architecture"]["name"],
        data_digest=measured["data"],
        **(_TEXT if facts["kind"] == "text" else _PLAIN),
        folded=_FOLDED if facts["task"] == "regression" else "",
        result=", ".join(_METRICS[metric].format(value) for metric, value in measured["metrics"].items()),
    )
