"""Which rule a torch function follows, by its plain name. A new operation is one word here."""

from __future__ import annotations

from functools import cache

import torch

from surgery.network import readers, rules
from surgery.network.rules import Rule

_NAMES: dict[Rule, str] = {
    rules.same: "clone contiguous detach data dropout dropout1d dropout2d dropout3d feature_dropout alpha_dropout "
    "float type to double half bfloat16 bool int long short byte requires_grad_ type_as cpu cuda",
    rules.shape: "permute transpose t T mT unsqueeze squeeze expand expand_as cat concat concatenate stack flip "
    "movedim moveaxis swapaxes swapdims tile repeat repeat_interleave unbind broadcast_to",
    rules.pad: "pad",
    rules.view: "view reshape flatten unflatten pixel_shuffle pixel_unshuffle channel_shuffle view_as reshape_as",
    rules.pieces: "chunk split tensor_split",
    rules.pick: "getitem select narrow index_select",
    rules.roll: "roll",
    rules.overwrite: "setitem",
    rules.pointwise: "relu relu6 hardtanh hardswish hardsigmoid gelu silu mish leaky_relu elu celu selu softplus "
    "softsign logsigmoid threshold tanhshrink hardshrink softshrink radd rmul rsub rtruediv masked_fill where isclose",
    rules.channel_norm: "batch_norm instance_norm prelu",
    rules.across: "layer_norm group_norm rms_norm local_response_norm normalize",
    rules.pool: "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
    "adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
    "lp_pool2d interpolate upsample",
    rules.reduce: "mean sum amax amin std var logsumexp prod max min any all argmax argmin",
    rules.softmax: "softmax log_softmax softmin",
    rules.glu: "glu",
    rules.product: "bmm baddbmm",
    rules.attention: "scaled_dot_product_attention",
    rules.factory: "zeros ones full empty arange linspace logspace eye randn rand randint tensor as_tensor zeros_like "
    "ones_like full_like empty_like randn_like rand_like randint_like new_zeros new_ones new_full new_empty new_tensor "
    "scalar_tensor",
    rules.nothing: "size dim numel stride shape dtype device ndim ndimension requires_grad is_cuda _assert "
    "is_floating_point is_complex len data_ptr storage_offset is_contiguous get_device nelement element_size itemsize "
    "nbytes layout is_sparse grad_fn grad is_leaf names is_quantized is_meta is_nested is_tensor broadcast_shapes "
    "result_type hash repr",
}
_OPERATORS = {
    "truediv": "div",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "invert": "bitwise_not",
}


@cache
def _table() -> dict[str, Rule]:
    return {word: rule for rule, words in _NAMES.items() for word in words.split()}


def plain_name(func: object) -> str:
    """ "add" for add, add_, __iadd__, aten.add.Tensor and __radd__'s base; "shape" for the getter of `Tensor.shape`."""
    name = func._opname if isinstance(func, torch._ops.OpOverload) else getattr(func, "__name__", str(func))
    if name in ("__get__", "__set__"):
        owner = getattr(func, "__self__", None)
        return getattr(owner, "__name__", str(owner))
    name = name.strip("_") if name != "_assert" else name
    if name not in _table() and name[:1] == "i" and _pointwise(_OPERATORS.get(name[1:], name[1:])):
        name = name[1:]  # __iadd__
    return _OPERATORS.get(name, name)


@cache
def _pointwise(name: str) -> bool:
    return _tagged(name, torch.Tag.pointwise)


@cache
def _tagged(name: str, tag: torch.Tag) -> bool:
    packet = getattr(torch.ops.aten, name, None)
    if packet is None or not hasattr(packet, "overloads"):
        return False
    return any(tag in getattr(packet, overload).tags for overload in packet.overloads())


def shaped_by_values(func: object) -> bool:
    """Whether the shape of a result depends on values, as that of nonzero does, by PyTorch's own tag."""
    name = plain_name(func)
    return name not in _table() and (name in _COUNTING or _tagged(name, torch.Tag.dynamic_output_shape))


_COUNTING = ("unique", "return_counts", "return_inverse", "return_output")


def rule_for(func: object) -> Rule:
    """The rule of a torch function; PyTorch's own pointwise tag covers what is not listed; else `rules.unknown`."""
    if func in readers.WEIGHTED:
        return rules.weighted
    name = plain_name(func)
    if name in _table():
        return _table()[name]
    return rules.pointwise if _pointwise(name) else rules.unknown
