"""Remove chosen neurons from a network for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from surgery.errors import SelectionError, TraceError
from surgery.operations.base import FineTuningRate, Operation, Outcome, Selection

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor

    from surgery.context import Context
    from surgery.data.dataset import Dataset
    from surgery.network.index import NeuronIndex
    from surgery.network.model import Model


@dataclass(frozen=True)
class Resolution:
    """What a selection comes to: `keep: bool[N]` for shrink, and the counts and reasons to show before.

    asked: neurons named. removed: neurons that will go, coupled ones included. stay: asked but fixed.
    reasons: one plain sentence per coupling or refusal.
    """

    keep: Tensor
    asked: int
    removed: int
    stay: int
    layers: tuple[str, ...]
    reasons: tuple[str, ...]


class Prune(Operation):
    """Remove the selected neurons, and those coupled to them, so that bytes and computing time really fall.

    A removed neuron leaves its mean behind (a shift of its readers' biases), or nothing with `zero`.
    """

    title: ClassVar[str] = "Remove neurons"
    needs = "cuts"
    removes = "remove"

    remove: Selection = Field(title="Neurons to remove", description="Coupled neurons go with them.")
    fill: Literal["mean", "zero"] = Field(
        "mean", title="Leave behind", description="Its mean, as a shift of its readers' biases; or nothing."
    )
    epochs: int = Field(0, ge=0, le=100, title="Tuning epochs", description="Training afterwards, to heal.")
    rate: FineTuningRate = None

    def examine(self, models: Sequence[Model]) -> None:
        """Raises what `resolve` raises."""
        assert models[0].index is not None
        self.resolve(models[0].index)

    def resolve(self, index: NeuronIndex) -> Resolution:
        """What will go and why.

        Raises:
            SelectionError: nothing selected, an unknown id, only fixed neurons, or a layer would become empty.
        """
        import torch

        ids = self.remove.ids
        if not ids:
            raise SelectionError("No neuron is selected.", "Select at least one on the page Neurons.")
        if max(ids) >= index.n:
            raise SelectionError(
                f"Neuron {max(ids)} does not exist: this version has neurons 0 to {index.n - 1}.",
                "Make the selection on this version, or map it through its old ids.",
            )
        asked = torch.zeros(index.n, dtype=torch.bool)
        asked[list(ids)] = True
        keep = index.close(~asked)
        if bool(keep.all()):
            reasons = sorted({index.stays(int(g)) for g in index.group[asked]})
            raise SelectionError(
                f"None of the {len(ids)} selected neurons can be removed: {'; '.join(reasons)}.",
                "Select other neurons.",
            )
        index.check(keep)
        names = list(index.layers)
        touched = tuple(names[i] for i in index.layer_of[~keep].unique().tolist() if i >= 0)
        return Resolution(
            keep, len(ids), int((~keep).sum()), int((asked & keep).sum()), touched, _reasons(index, asked, keep)
        )

    def operate(self, models: Sequence[Model], data: Dataset, ctx: Context) -> Outcome:
        """Shrink, then tune for `epochs`."""
        from surgery.edit.evaluate import means_of
        from surgery.edit.finetune import fine_tune
        from surgery.edit.shrink import shrink

        model = models[0]
        if model.index is None:
            raise TraceError(f"This network cannot be shrunk: {model.support.reason}.")
        resolution = self.resolve(model.index)
        means = means_of(model, data, ctx) if self.fill == "mean" else None
        small, kept = shrink(model, resolution.keep, means)
        ctx.log(f"{resolution.removed} neurons removed in {len(resolution.layers)} layers")
        if self.epochs:
            small = fine_tune(small, data, ctx, epochs=self.epochs, rate=self.rate, teacher=model)
        return Outcome((small,), kept, {"layers": _layers(model.index, resolution.keep)})


def _reasons(index: NeuronIndex, asked: Tensor, keep: Tensor) -> tuple[str, ...]:
    """Say which layers lose neurons that nobody asked for, and which asked neurons stay."""
    names = list(index.layers)
    reasons = []
    pairs: dict[tuple[str, str], int] = {}
    extra = ~keep & ~asked
    source: dict[int, str] = {}  # group -> layer of an asked member
    for neuron in (asked & ~keep).nonzero().flatten().tolist():
        source.setdefault(int(index.group[neuron]), names[int(index.layer_of[neuron])])
    for neuron in extra.nonzero().flatten().tolist():
        pair = (source[int(index.group[neuron])], names[int(index.layer_of[neuron])])
        pairs[pair] = pairs.get(pair, 0) + 1
    for (a, b), count in sorted(pairs.items()):
        where = f"other neurons of {a} go along" if a == b else f"{b} goes together with {a}"
        reasons.append(f"{where} ({count})")
    for number in index.group[asked & keep].unique().tolist():
        reasons.append(f"stays: {index.stays(number)}")
    return tuple(dict.fromkeys(reasons))


def _layers(index: NeuronIndex, keep: Tensor) -> DataFrame:
    import pandas as pd

    rows = [
        {"layer": name, "before": len(layer.rows), "after": int(keep[layer.rows].sum())}
        for name, layer in index.layers.items()
    ]
    return pd.DataFrame(rows)
