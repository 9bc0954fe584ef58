"""Kinds of blocks that random networks are made of: what deciding, gating, sharing, reshaping … code looks like.

Images are float[b, c, 8, 8], tokens float[b, t, c], flat ones float[b, c]. A maker gets the width c and returns a
block of which the output has any width. Each kind stands for code that people write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

Maker = Callable[[int], nn.Module]


class Block(nn.Module):
    """Modules under names, and a function of them and the input."""

    def __init__(self, way: Callable[[Any, Tensor], Tensor], **parts: Any) -> None:
        super().__init__()
        self.way = way
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        return self.way(self, x)


class Bare(nn.Module):
    """A reader without a layer: its weight is a parameter that functions get."""

    def __init__(self, rows: int, columns: int, way: str) -> None:
        super().__init__()
        shape = {"conv": (rows, columns, 3, 3), "matmul": (columns, rows), "linear": (rows, columns)}[way]
        self.kernel = nn.Parameter(torch.randn(shape) / columns**0.5)
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        """Convolution, x @ W or linear."""
        if self.way == "conv":
            return F.conv2d(x, self.kernel, padding=1)
        return x @ self.kernel if self.way == "matmul" else F.linear(x, self.kernel)


READERS = (
    nn.Linear,
    nn.Conv2d,
    nn.ConvTranspose2d,
    nn.MultiheadAttention,
    Bare,
)  # what the independent hooks take for one


def conv(c: int, out: int | None = None, size: int = 3, **options: Any) -> nn.Conv2d:
    """A convolution that keeps the image's size."""
    return nn.Conv2d(c, out or c, size, padding=size // 2, **options)


class Half(nn.Module):
    """A parametrization: the weight is computed on every call."""

    def forward(self, weight: Tensor) -> Tensor:
        """Half of the weight, rounded to a grid."""
        return (weight * 8).round() / 16


def _parametrized(layer: nn.Module) -> nn.Module:
    parametrize.register_parametrization(layer, "weight", Half())
    return layer


class Standardized(nn.Conv2d):
    """A convolution whose weight has mean 0 and deviation 1 for each neuron."""

    def forward(self, x: Tensor) -> Tensor:
        """As of a convolution."""
        mean, std = self.weight.mean((1, 2, 3), keepdim=True), self.weight.std((1, 2, 3), keepdim=True)
        return F.conv2d(x, (self.weight - mean) / (std + 1e-5), self.bias, padding=1)


def _kernels(s: Any, x: Tensor) -> Tensor:
    y = s.a(x)
    kernel = s.k(y.mean((0, 2, 3))).reshape(-1, 1, 3, 3)
    return F.conv2d(y, kernel, padding=1, groups=y.shape[1])


def _scatter_experts(s: Any, x: Tensor) -> Tensor:
    best, out = s.r(x.mean((2, 3))).argmax(-1), torch.zeros_like(x)
    for number, expert in enumerate(s.e):
        rows = (best == number).nonzero()[:, 0]
        if len(rows):
            out = out.index_add(0, rows, expert(x[rows]))
    return out


def _view_write(s: Any, x: Tensor) -> Tensor:
    y = s.a(x)
    room = torch.zeros(len(y), y.shape[1], 8, 8, dtype=y.dtype)
    room[:, :].add_(y)
    return room


def _set(s: Any, x: Tensor) -> Tensor:
    y = s.a(x)
    room = torch.zeros_like(y)
    room[:, ::2] = y[:, ::2]
    return room


def _masked_set(s: Any, x: Tensor) -> Tensor:
    y = s.a(x).clone()
    y[y < 0] = 0.1
    return y


def _inplace(s: Any, x: Tensor) -> Tensor:
    y = s.a(x)
    y += x
    y.mul_(0.5).relu_()
    return y


def _nonlocal(s: Any, x: Tensor) -> Tensor:
    q, k, v = s.q(x).flatten(2), s.k(x).flatten(2), s.v(x)
    mixed = torch.bmm(v.flatten(2), torch.bmm(q.transpose(1, 2), k).softmax(-1).transpose(1, 2))
    return x + s.o(mixed.reshape(v.shape))


def _attend(s: Any, x: Tensor) -> Tensor:
    q, k, v = (part.unflatten(-1, (-1, 4)).transpose(1, 2) for part in s.qkv(x).chunk(3, -1))
    return x + s.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def _masked_attend(s: Any, x: Tensor) -> Tensor:
    q, k, v = (part(x).unflatten(-1, (-1, 4)).transpose(1, 2) for part in (s.q, s.k, s.v))
    scores = q @ k.transpose(-1, -2) / 2
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    weights = scores.masked_fill(later, float("-inf")).softmax(-1)
    return x + s.o((weights @ v).transpose(1, 2).flatten(2))


def _grouped_queries(s: Any, x: Tensor) -> Tensor:
    q, k, v = (part(x).unflatten(-1, (-1, 4)).transpose(1, 2) for part in (s.q, s.k, s.v))
    k, v = (part.repeat_interleave(2, 1) for part in (k, v))
    return s.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def _rms(s: Any, x: Tensor) -> Tensor:
    y = s.a(x)
    return s.b(y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6))


def _expert_choice(s: Any, x: Tensor) -> Tensor:
    return torch.stack([e(x) for e in s.e], 1)[torch.arange(len(x)), s.r(x).argmax(-1)]


def _experts(c: int, count: int = 3) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(c, c) for _ in range(count))


def _heads(c: int) -> dict[str, nn.Module]:
    return {"q": nn.Linear(c, 16), "k": nn.Linear(c, 16), "v": nn.Linear(c, 16), "o": nn.Linear(16, c)}


IMAGE: dict[str, Maker] = {
    "convolution, batch norm": lambda c: nn.Sequential(conv(c, c + 2), nn.BatchNorm2d(c + 2), nn.ReLU()),
    "residual": lambda c: Block(lambda s, x: F.relu(x + s.b(F.relu(s.a(x)))), a=conv(c, 5), b=conv(5, c)),
    "bottleneck": lambda c: Block(
        lambda s, x: F.silu(x + s.d(F.relu(s.b(F.relu(s.a(x)))))), a=conv(c, 4, 1), b=conv(4), d=conv(4, c, 1)
    ),
    "depthwise": lambda c: Block(
        lambda s, x: s.o(F.hardswish(s.d(F.relu6(s.a(x))))),
        a=conv(c, 2 * c, 1),
        d=conv(2 * c, groups=2 * c),
        o=conv(2 * c, c),
    ),
    "groups": lambda c: Block(lambda s, x: F.relu(s.g(s.a(x))), a=conv(c, 8), g=conv(8, 12, groups=4)),
    "squeeze and excite": lambda c: Block(
        lambda s, x: (y := s.a(x)) * s.u(F.relu(s.d(y.mean((2, 3), keepdim=True)))).sigmoid(),
        a=conv(c),
        d=conv(c, 3, 1),
        u=conv(3, c, 1),
    ),
    "concatenation": lambda c: Block(lambda s, x: torch.cat([s.a(x), x, s.b(x)], 1), a=conv(c, 4), b=conv(c, 3, 1)),
    "transposed convolution": lambda c: Block(
        lambda s, x: F.max_pool2d(s.t(s.a(x)), 2), a=conv(c, 6), t=nn.ConvTranspose2d(6, 7, 2, 2)
    ),
    "pool and interpolate": lambda c: Block(
        lambda s, x: x + F.interpolate(s.a(F.avg_pool2d(x, 2)), scale_factor=2), a=conv(c)
    ),
    "pixel shuffle": lambda c: Block(lambda s, x: F.avg_pool2d(F.pixel_shuffle(s.a(x), 2), 2), a=conv(c, 12)),
    "pixel unshuffle": lambda c: Block(lambda s, x: F.interpolate(F.pixel_unshuffle(s.a(x), 2), size=8), a=conv(c, 4)),
    "channel shuffle": lambda c: Block(
        lambda s, x: s.a(x).unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2), a=conv(c, 8)
    ),
    "gated linear unit": lambda c: Block(lambda s, x: F.glu(s.a(x), 1), a=conv(c, 12)),
    "prelu": lambda c: nn.Sequential(conv(c, 7), nn.PReLU(7)),
    "instance norm": lambda c: nn.Sequential(conv(c, 6), nn.InstanceNorm2d(6, affine=True)),
    "group norm": lambda c: nn.Sequential(conv(c, 8), nn.GroupNorm(2, 8), nn.ReLU()),
    "layer norm over channels": lambda c: Block(
        lambda s, x: s.n(s.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2), a=conv(c, 6), n=nn.LayerNorm(6)
    ),
    "relu by a mask": lambda c: Block(lambda s, x: (y := s.a(x)) * (y > 0), a=conv(c, 6)),
    "hard mask": lambda c: Block(lambda s, x: s.a(x) * (s.m(x) > 0), a=conv(c, 6), m=conv(c, 6)),
    "where": lambda c: Block(lambda s, x: torch.where((y := s.a(x)) > 0, y, 0.1 * y), a=conv(c, 6)),
    "where with numbers": lambda c: Block(lambda s, x: torch.where(s.a(x) > 0, 1.0, -1.0).to(x), a=conv(c, 6)),
    "sign": lambda c: Block(lambda s, x: s.a(x).sign(), a=conv(c, 6)),
    "step": lambda c: Block(lambda s, x: (s.a(x) > 0.1).to(x), a=conv(c, 6)),
    "rounding": lambda c: Block(lambda s, x: (s.a(x) * 4).round() / 4, a=conv(c, 6)),
    "straight through": lambda c: Block(lambda s, x: (y := s.a(x)) + (y.sign() - y).detach(), a=conv(c, 6)),
    "any in a row": lambda c: Block(
        lambda s, x: s.a(x) * (s.m(x) > 0.5).any(3, keepdim=True), a=conv(c, 6), m=conv(c, 6)
    ),
    "any over channels": lambda c: Block(
        lambda s, x: s.a(x) * (s.m(x) > 0.5).any(1, keepdim=True), a=conv(c, 6), m=conv(c, 5)
    ),
    "place of the largest": lambda c: Block(
        lambda s, x: s.a(x) * s.m(x).flatten(2).argmax(-1)[..., None, None].to(x) / 64, a=conv(c, 6), m=conv(c, 6)
    ),
    "channel of the largest": lambda c: Block(
        lambda s, x: s.a(x) * s.m(x).argmax(1, keepdim=True).to(x) / 4, a=conv(c, 6), m=conv(c, 5)
    ),
    "experts by scatter": lambda c: Block(
        _scatter_experts, r=nn.Linear(c, 3), e=nn.ModuleList(conv(c) for _ in range(3))
    ),
    "one-hot routing": lambda c: Block(
        lambda s, x: sum(
            w[:, None, None, None] * e(x)
            for w, e in zip(F.one_hot(s.r(x.mean((2, 3))).argmax(-1), 3).to(x).unbind(1), s.e, strict=True)
        ),
        r=nn.Linear(c, 3),
        e=nn.ModuleList(conv(c) for _ in range(3)),
    ),
    "layer scale": lambda c: Block(lambda s, x: x + s.a(x) * s.g, a=conv(c), g=nn.Parameter(torch.rand(c, 1, 1))),
    "bias table": lambda c: Block(lambda s, x: s.a(x) + s.p, a=conv(c, 6), p=nn.Parameter(torch.randn(6, 8, 8))),
    "buffer per channel": lambda c: Block(lambda s, x: s.a(x) * s.g, a=conv(c, 6), g=torch.rand(6, 1, 1)),
    "mask buffer": lambda c: Block(
        lambda s, x: s.a(x).masked_fill(s.g, 0.5), a=conv(c, 6), g=(torch.arange(6) % 3 == 0)[:, None, None]
    ),
    "constant per channel": lambda c: Block(
        lambda s, x: s.a(x) + torch.arange(6).to(x)[:, None, None] / 6, a=conv(c, 6)
    ),
    "bare kernel": lambda c: nn.Sequential(Bare(6, c, "conv"), nn.ELU()),
    "layer used twice": lambda c: Block(lambda s, x: s.a(F.tanh(s.a(x))), a=conv(c)),
    "tied layers": lambda c: _tied(conv(c), conv(c)),
    "weight norm": lambda c: Block(
        lambda s, x: s.b(F.relu(s.a(x))), a=parametrizations.weight_norm(conv(c, 6)), b=conv(6)
    ),
    "spectral norm": lambda c: Block(
        lambda s, x: s.b(F.relu(s.a(x))), a=parametrizations.spectral_norm(conv(c, 6)), b=conv(6)
    ),
    "own parametrization": lambda c: Block(lambda s, x: s.b(F.relu(s.a(x))), a=_parametrized(conv(c, 6)), b=conv(6)),
    "weight standardization": lambda c: nn.Sequential(Standardized(c, 6, 3), nn.ReLU(), conv(6)),
    "kernels computed": lambda c: Block(_kernels, a=conv(c, 6), k=nn.Linear(6, 54)),
    "einsum": lambda c: Block(
        lambda s, x: torch.einsum("bchw,oc->bohw", s.a(x), s.w), a=conv(c, 5), w=nn.Parameter(torch.randn(6, 5))
    ),
    "branch by value": lambda c: Block(
        lambda s, x: s.a(x) if x.sum() > 0 else s.b(x).relu(), a=conv(c, 6), b=conv(c, 6)
    ),
    "branch never taken": lambda c: Block(
        lambda s, x: s.a(x) if x.abs().max().item() < 1e9 else s.b(x), a=conv(c, 6), b=conv(c, 6)
    ),
    "training only": lambda c: Block(lambda s, x: s.b(x) if s.training else s.a(x), a=conv(c, 6), b=conv(c, 6)),
    "dropout": lambda c: nn.Sequential(conv(c, 6), nn.Dropout2d(0.3), nn.ReLU()),
    "dropout at inference": lambda c: Block(lambda s, x: F.dropout(s.a(x), 0.3, True), a=conv(c, 6)),
    "padding": lambda c: Block(lambda s, x: F.pad(s.a(x), (1, 0, 0, 2))[..., :8, :8], a=conv(c, 6)),
    "mirrored padding": lambda c: Block(
        lambda s, x: F.pad(s.a(x), (1, 1, 1, 1), mode="reflect")[..., 1:9, 1:9], a=conv(c, 6)
    ),
    "padded channels": lambda c: Block(lambda s, x: F.pad(s.a(x), (0, 0, 0, 0, 0, 2)), a=conv(c, 6)),
    "flipped channels": lambda c: Block(lambda s, x: s.a(x).flip(1), a=conv(c, 6)),
    "rolled channels": lambda c: Block(lambda s, x: s.a(x).roll(1, 1), a=conv(c, 6)),
    "permuted channels": lambda c: Block(lambda s, x: s.a(x)[:, [3, 1, 0, 5, 2, 4]], a=conv(c, 6)),
    "first channels": lambda c: Block(lambda s, x: s.a(x)[:, :4], a=conv(c, 6)),
    "uneven split": lambda c: Block(lambda s, x: torch.cat(s.a(x).split([4, 2], 1)[::-1], 1), a=conv(c, 6)),
    "halves swapped": lambda c: Block(lambda s, x: torch.cat(s.a(x).chunk(2, 1)[::-1], 1), a=conv(c, 6)),
    "unbound": lambda c: Block(lambda s, x: torch.stack(s.a(x).unbind(1), 1).relu(), a=conv(c, 6)),
    "maxout": lambda c: Block(lambda s, x: s.a(x).unflatten(1, (-1, 2)).amax(2), a=conv(c, 10)),
    "softmax over channels": lambda c: Block(lambda s, x: s.a(x).softmax(1), a=conv(c, 6)),
    "softmax over places": lambda c: Block(
        lambda s, x: s.a(x).flatten(2).softmax(-1).unflatten(2, (8, 8)) * 9, a=conv(c, 6)
    ),
    "divided by a count": lambda c: Block(lambda s, x: (y := s.a(x)) / y.shape[1] ** 0.5, a=conv(c, 6)),
    "divided by the sum": lambda c: Block(lambda s, x: (y := s.a(x).exp()) / y.sum(1, keepdim=True), a=conv(c, 6)),
    "literal sizes": lambda c: Block(lambda s, x: s.a(x).view(-1, 6, 64).relu().view(-1, 6, 8, 8), a=conv(c, 6)),
    "means of groups": lambda c: Block(lambda s, x: s.a(x).unflatten(1, (-1, 2)).mean(2), a=conv(c, 12)),
    "non-local": lambda c: Block(_nonlocal, q=conv(c, 4, 1), k=conv(c, 4, 1), v=conv(c, 6, 1), o=conv(6, c, 1)),
    "running sum": lambda c: Block(lambda s, x: s.a(x).cumsum(1) / 3, a=conv(c, 6)),
    "sorted": lambda c: Block(lambda s, x: s.a(x).sort(1)[0], a=conv(c, 6)),
    "largest two": lambda c: Block(
        lambda s, x: s.a(x) * s.m(x).topk(2, 1)[0].mean(1, keepdim=True), a=conv(c, 6), m=conv(c, 5)
    ),
    "written through a view": lambda c: Block(_view_write, a=conv(c, 6)),
    "written by position": lambda c: Block(_set, a=conv(c, 6)),
    "written where negative": lambda c: Block(_masked_set, a=conv(c, 6)),
    "in place": lambda c: Block(_inplace, a=conv(c)),
    "fourier": lambda c: Block(lambda s, x: torch.fft.rfft2(s.a(x)).abs()[..., :4] / 8, a=conv(c, 6)),
    "numbers lost": lambda c: Block(lambda s, x: torch.nan_to_num(s.a(x).log()).clamp(-3, 3), a=conv(c, 6)),
    "numpy": lambda c: Block(
        lambda s, x: s.a(x) * torch.from_numpy(s.m(x).detach().numpy().argmax(1)).to(x)[:, None] / 4,
        a=conv(c, 6),
        m=conv(c, 5),
    ),
    "blend": lambda c: Block(
        lambda s, x: torch.lerp(s.a(x), s.b(x), s.g.sigmoid()),
        a=conv(c, 6),
        b=conv(c, 6),
        g=nn.Parameter(torch.randn(6, 1, 1)),
    ),
    "counted neurons": lambda c: Block(
        lambda s, x: s.a(x) * (s.m(x) > 0).sum(1, keepdim=True).to(x) / 4, a=conv(c, 6), m=conv(c, 5)
    ),
}

TOKENS: dict[str, Maker] = {
    "feed forward": lambda c: Block(lambda s, x: x + s.b(F.gelu(s.a(x))), a=nn.Linear(c, 9), b=nn.Linear(9, c)),
    "swiglu": lambda c: Block(
        lambda s, x: x + s.d(F.silu(s.g(x)) * s.u(x)), g=nn.Linear(c, 8), u=nn.Linear(c, 8), d=nn.Linear(8, c)
    ),
    "layer norm": lambda c: Block(lambda s, x: x + s.a(s.n(x)), n=nn.LayerNorm(c), a=nn.Linear(c, c)),
    "root mean square by hand": lambda c: Block(_rms, a=nn.Linear(c, 6), b=nn.Linear(6, c)),
    "attention": lambda c: Block(_attend, qkv=nn.Linear(c, 48), o=nn.Linear(16, c)),
    "masked attention": lambda c: Block(_masked_attend, **_heads(c)),
    "grouped queries": lambda c: Block(
        _grouped_queries, q=nn.Linear(c, 16), k=nn.Linear(c, 8), v=nn.Linear(c, 8), o=nn.Linear(16, c)
    ),
    "torch's attention": lambda c: Block(
        lambda s, x: s.m(y := s.a(x), y, y, need_weights=False)[0],
        a=nn.Linear(c, 8),
        m=nn.MultiheadAttention(8, 2, batch_first=True),
    ),
    "shifted tokens": lambda c: Block(
        lambda s, x: torch.cat([(y := s.a(x))[:, :1], y[:, :-1]], 1) + y, a=nn.Linear(c, 6)
    ),
    "positions": lambda c: Block(
        lambda s, x: s.a(x) + s.p(torch.arange(x.shape[1])), a=nn.Linear(c, 6), p=nn.Embedding(64, 6)
    ),
    "product with a parameter": lambda c: nn.Sequential(Bare(7, c, "matmul"), nn.Tanh()),
    "long short-term memory": lambda c: Block(
        lambda s, x: s.l(s.a(x))[0], a=nn.Linear(c, 5), l=nn.LSTM(5, 6, batch_first=True)
    ),
}

FLAT: dict[str, Maker] = {
    "perceptron": lambda c: nn.Sequential(nn.Linear(c, 9), nn.BatchNorm1d(9), nn.Sigmoid(), nn.Linear(9, 7)),
    "bare linear": lambda c: nn.Sequential(Bare(7, c, "linear"), nn.Softplus()),
    "chosen expert": lambda c: Block(_expert_choice, r=nn.Linear(c, 3), e=_experts(c)),
    "masked experts": lambda c: Block(
        lambda s, x: sum((s.r(x).argmax(-1) == i).to(x)[:, None] * e(x) for i, e in enumerate(s.e)),
        r=nn.Linear(c, 3),
        e=_experts(c),
    ),
    "soft experts": lambda c: Block(
        lambda s, x: torch.einsum("be,bec->bc", s.r(x).softmax(-1), torch.stack([e(x) for e in s.e], 1)),
        r=nn.Linear(c, 3),
        e=_experts(c),
    ),
    "look-up": lambda c: Block(
        lambda s, x: s.t[(s.r(x) > 0).long().sum(1)] + s.a(x), r=nn.Linear(c, 4), a=nn.Linear(c, 6), t=torch.randn(5, 6)
    ),
    "embedded codes": lambda c: Block(
        lambda s, x: s.t((s.r(x) > 0).long()).mean(1) + s.a(x),
        r=nn.Linear(c, 4),
        a=nn.Linear(c, 6),
        t=nn.Embedding(2, 6),
    ),
    "buckets": lambda c: Block(
        lambda s, x: torch.bucketize(s.a(x), torch.linspace(-1, 1, 5).to(x)).to(x), a=nn.Linear(c, 6)
    ),
    "bilinear": lambda c: Block(
        lambda s, x: s.f(s.a(x), s.b(x)), a=nn.Linear(c, 4), b=nn.Linear(c, 5), f=nn.Bilinear(4, 5, 6)
    ),
    "outer product": lambda c: Block(
        lambda s, x: (s.a(x)[:, :, None] * s.b(x)[:, None]).flatten(1), a=nn.Linear(c, 4), b=nn.Linear(c, 3)
    ),
    "unit length": lambda c: Block(lambda s, x: F.normalize(s.a(x), dim=1), a=nn.Linear(c, 6)),
    "masked mean": lambda c: Block(
        lambda s, x: s.a(x) * s.m(x)[s.m(x) > 0].sum().tanh(), a=nn.Linear(c, 6), m=nn.Linear(c, 5)
    ),
}


def _tied(one: nn.Conv2d, other: nn.Conv2d) -> nn.Module:
    other.weight = one.weight
    return Block(lambda s, x: s.b(F.relu(s.a(x))), a=one, b=other)
