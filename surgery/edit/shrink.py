"""Take neurons out of a network for good: a smaller network whose outputs equal those of the gated one."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from surgery.errors import TraceError
from surgery.network.model import Model
from surgery.network.packed import Packing
from surgery.network.slicing import Means, cut


def shrink(model: Model, keep: Tensor, means: Means | None = None) -> tuple[Model, Tensor]:
    """A new model with only the neurons in `keep: bool[N]`, and int64[N_new], the old id of each of them.

    `keep` must be closed under coupling (`NeuronIndex.close`). With `means` each removed neuron leaves its mean behind
    in its readers' biases. The input model is untouched.

    Raises:
        TraceError: the network can only be gated; names the step that stopped it.
        SelectionError: `keep` has another size, splits a coupled group or empties a layer.
    """
    if model.index is None or model.support.level != "full":
        raise TraceError(
            f"This network cannot be shrunk: {model.support.reason}.",
            "Its neurons can still be seen and silenced in the what-if.",
        )
    module = cut(model.module, model.index, keep, means)
    index = model.index.restrict(keep)
    biased = {name: f"{name}.bias" for name in model.index.layers if f"{name}.bias" not in index.axes}
    held = {name for name, _ in module.named_parameters()}
    added = {bias: (index.layers[name].rows,) for name, bias in biased.items() if bias in held}
    index = replace(index, axes={**index.axes, **added})
    packed = {name: _left(packing, model.index.axes.get(name, ()), keep) for name, packing in model.held.items()}
    return replace(model, module=module, index=index, held=packed), keep.nonzero().flatten()


def _left(packing: Packing, axes: tuple[Tensor | None, ...], keep: Tensor) -> Packing:
    """How the rows of a weight are held that stay."""
    ids = axes[packing.axis] if packing.axis < len(axes) else None
    if ids is None:
        return packing
    own = (ids < 0) | keep[ids.clamp(min=0)]
    return replace(packing, bits=packing.bits[own], exponent=packing.exponent[own])
