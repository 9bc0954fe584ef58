"""torchvision's classification models by name, with the two things users change most: classes and input channels.

Their attention writes the number of heads into its reshapes; here it reads it off its weights, so that a head can be
removed like any other neuron. Parameters, their names and what comes out are torchvision's. Imports torch and
torchvision only: an exported model carries this file as its definition.

Letters: b batch, n windows, t tokens of one, c channels, d channels of one head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.maxvit import RelativePositionalMultiHeadAttention
from torchvision.models.swin_transformer import ShiftedWindowAttention

# Without these the two draw slow random weights with a warning, and carry heads that only training uses.
_QUIET: dict[str, Any] = {"init_weights": False, "aux_logits": False}
_DEFAULTS: dict[str, dict[str, Any]] = {"googlenet": _QUIET, "inception_v3": _QUIET}


def classifier(name: str, num_classes: int = 1000, in_channels: int = 3, **options: Any) -> nn.Module:
    """Build `name` of torchvision with random weights; `options` go to torchvision's own constructor."""
    options = {**_DEFAULTS.get(name, {}), **options}
    module: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
    if in_channels != 3:
        _replace_input(module, in_channels)
    free_heads(module)
    return module


def free_heads(module: nn.Module) -> None:
    """Let every attention that is known here read its number of heads off its weights, in place."""
    for part in module.modules():
        ours = HEADS.get(type(part))
        if ours is not None:
            vars(part)["head_dim"] = _head_dim(part)
            part.__class__ = ours


def _head_dim(part: Any) -> int:
    """Channels of one head, as the constructor made it."""
    if isinstance(part, ShiftedWindowAttention):
        return int(part.proj.in_features // part.num_heads)
    return int(part.head_dim)


def split(qkv: Tensor, head_dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value: three of float[…, heads, t, d] of float[…, t, 3 · heads · d]."""
    query, key, value = (part.unflatten(-1, (-1, head_dim)).transpose(-3, -2) for part in qkv.chunk(3, -1))
    return query, key, value


def joined(heads: Tensor) -> Tensor:
    """float[…, t, heads · d] of float[…, heads, t, d]."""
    return heads.transpose(-3, -2).flatten(-2)


class SelfAttention(nn.MultiheadAttention):
    """Attention of tokens among each other, batch first, as the vision transformer uses it; else torch's own way."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *others: Any, need_weights: bool = True, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Map float[b, t, c] to the same shape."""
        alone = query is key is value and self.batch_first and self.in_proj_weight is not None
        if need_weights or others or options or not alone:
            options["need_weights"] = need_weights
            return super().forward(query, key, value, *others, **options)
        q, k, v = split(F.linear(query, self.in_proj_weight, self.in_proj_bias), self.head_dim)
        mixed: Tensor = self.out_proj(joined(F.scaled_dot_product_attention(q, k, v)))
        return mixed, None


class WindowAttention(ShiftedWindowAttention):  # type: ignore[misc]
    """Attention within windows that are shifted against those of the layer before (Swin)."""

    head_dim: int

    def forward(self, x: Tensor) -> Tensor:
        """Map float[b, h, w, c] to the same shape."""
        rows, columns = x.shape[1:3]
        high, wide = self.window_size
        x = F.pad(x, (0, 0, 0, -columns % wide, 0, -rows % high))
        size = (high, wide)
        shift = [0 if s >= full else by for s, full, by in zip(size, x.shape[1:3], self.shift_size, strict=True)]
        if any(shift):
            x = x.roll((-shift[0], -shift[1]), (1, 2))
        windows = x.unflatten(1, (-1, high)).unflatten(3, (-1, wide)).transpose(2, 3)  # [b, n_h, n_w, high, wide, c]
        q, k, v = split(self.qkv(windows.flatten(3, 4)), self.head_dim)  # [b, n_h, n_w, heads, t, d]
        bias = self.get_relative_position_bias()  # [1, heads, t, t]
        if any(shift):
            bias = bias + _apart(x, size, shift)
        weights = (q * self.head_dim**-0.5 @ k.transpose(-2, -1) + bias).softmax(-1)
        mixed = self.proj(joined(weights @ v)).unflatten(3, size)
        x = mixed.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        if any(shift):
            x = x.roll((shift[0], shift[1]), (1, 2))
        cropped: Tensor = x[:, :rows, :columns].contiguous()
        return cropped


def _apart(x: Tensor, size: tuple[int, int], shift: list[int]) -> Tensor:
    """float[n_h, n_w, 1, t, t]: −100 between tokens that were neighbours only because the picture was rolled."""
    bands = []
    for length, window, by in zip(x.shape[1:3], size, shift, strict=True):
        place = torch.arange(length, device=x.device)
        bands.append((place >= length - window).long() + ((place >= length - by) & (by > 0)).long())
    number = 3 * bands[0][:, None] + bands[1]  # [h, w]
    number = number.unflatten(0, (-1, size[0])).unflatten(2, (-1, size[1])).transpose(1, 2).flatten(2)  # [n_h, n_w, t]
    other = number[:, :, None, :, None] != number[:, :, None, None, :]
    mask: Tensor = other.to(x) * -100.0
    return mask


class GridAttention(RelativePositionalMultiHeadAttention):  # type: ignore[misc]
    """Attention within windows or along a grid, with a bias by relative position (MaxViT)."""

    head_dim: int

    def forward(self, x: Tensor) -> Tensor:
        """Map float[b, n, t, c] to the same shape."""
        q, k, v = split(self.to_qkv(x), self.head_dim)  # [b, n, heads, t, d]
        weights = (q @ (k * self.scale_factor).transpose(-2, -1) + self.get_relative_positional_bias()).softmax(-1)
        mixed: Tensor = self.merge(joined(weights @ v))
        return mixed


HEADS: dict[type[nn.Module], type[nn.Module]] = {
    nn.MultiheadAttention: SelfAttention,
    ShiftedWindowAttention: WindowAttention,
    RelativePositionalMultiHeadAttention: GridAttention,
}


def _replace_input(module: nn.Module, channels: int) -> None:
    """Let the first convolution read `channels` planes; torchvision's are all made for 3."""
    first = next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
    first.in_channels = channels
    first.weight = nn.Parameter(torch.empty(first.out_channels, channels, *first.kernel_size))
    first.reset_parameters()


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    name: partial(classifier, name) for name in torchvision.models.list_models(module=torchvision.models)
}
