"""Does every family of torchvision's classifiers shrink exactly, attention heads included, and by how much?

One model per family, 30 % of the removable groups per layer, as in `prune_exact`. The rival, Torch-Pruning, runs in a
subprocess with limits on memory and time, and counts where its own result equals its masked model. Besides, networks
that nobody tuned for: functional code with a reused layer, two branches, a tied embedding, segmentation, video, Swin
v2.
"""

from __future__ import annotations

import copy
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from benchmarks.networks import CLASSES, network, settled
from benchmarks.prune_exact import SHARE, size
from benchmarks.rows import row
from surgery.network.certificate import first, gated, relative, sample
from surgery.network.slicing import cut
from surgery.network.trace import trace

FAMILIES = (
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3"),
    *("maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnext50_32x4d"),
    *("shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "vgg11_bn", "vit_b_16", "wide_resnet50_2"),
)
QUICK = ("mobilenet_v3_small", "shufflenet_v2_x0_5", "regnet_y_400mf")
MEMORY, PATIENCE = 10 << 30, 90  # bytes and seconds for the rival
EXACT = 1e-5


class Reused(nn.Module):
    """Functional convolutions with bare weights, and one layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Parameter(torch.empty(24, 3, 3, 3))
        self.body = nn.Conv2d(24, 24, 3, padding=1)
        self.wide = nn.Conv2d(24, 40, 1)
        self.head = nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        """float[b, 3, h, w] to logits."""
        x = F.silu(F.conv2d(x, self.stem, stride=2, padding=1))
        for _ in range(2):
            x = x + torch.tanh(self.body(x))
        logits: Tensor = self.head(F.leaky_relu(self.wide(x)).amax((-2, -1)))
        return logits


class Branches(nn.Module):
    """Two branches of different depth, side by side with a gate between them."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Conv2d(3, 16, 5, 2, 2), nn.BatchNorm2d(16), nn.ELU(), nn.Conv2d(16, 20, 3, 1, 1))
        self.right = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.InstanceNorm2d(12, affine=True))
        self.gate = nn.Linear(32, 32)
        self.head = nn.Linear(32 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """float[b, 3, 32, 32] to logits."""
        both = torch.cat([self.left(x), self.right(x)], 1)
        both = both * self.gate(both.mean((2, 3))).sigmoid()[:, :, None, None]
        logits: Tensor = self.head(F.adaptive_avg_pool2d(both, 4).flatten(1))
        return logits


class TiedLanguageModel(nn.Module):
    """Characters to characters: embedding tied to the head, RMSNorm, causal attention, SwiGLU; a one-hot input."""

    def __init__(self, width: int = 48, heads: int = 4, symbols: int = 40) -> None:
        super().__init__()
        self.embed = nn.Parameter(torch.empty(symbols, width))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(2 * width, width)
        self.first, self.second = nn.RMSNorm(width), nn.RMSNorm(width)
        self.head_width = width // heads

    def forward(self, x: Tensor) -> Tensor:
        """float[b, t, symbols], one-hot, to logits of the same shape."""
        x = x @ self.embed
        q, k, v = (
            part.unflatten(-1, (-1, self.head_width)).transpose(1, 2) for part in self.qkv(self.first(x)).chunk(3, -1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        gate, value = self.up(self.second(x)).chunk(2, -1)
        x = x + self.down(F.silu(gate) * value)
        return x @ self.embed.T


def untuned(name: str) -> tuple[nn.Module, Tensor]:
    """One of the networks that nobody tuned for, and a batch for it."""
    torch.manual_seed(0)
    makers: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
        "functional, reused layer": lambda: (Reused(), torch.randn(4, 3, 32, 32)),
        "two branches": lambda: (Branches(), torch.randn(4, 3, 32, 32)),
        "tied language model": lambda: (TiedLanguageModel(), F.one_hot(torch.randint(40, (4, 12)), 40).float()),
        "deeplabv3_resnet50": lambda: (
            torchvision.models.segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=10),
            torch.randn(4, 3, 64, 64),
        ),
        "r3d_18": lambda: (torchvision.models.video.r3d_18(weights=None, num_classes=10), torch.randn(4, 3, 8, 32, 32)),
        "swin_v2_t": lambda: network("swin_v2_t"),
    }
    module, x = makers[name]()
    return settled(module, x), x[:2]


UNTUNED = (
    *("functional, reused layer", "two branches", "tied language model"),
    *("deeplabv3_resnet50", "r3d_18", "swin_v2_t"),
)


def ours(name: str) -> dict[str, Any]:
    """Cut one network and compare it with the gated one."""
    module, x = untuned(name) if name in UNTUNED else network(name)
    start = time.monotonic()
    index, support = trace(module, x[:1])
    seconds = time.monotonic() - start
    if index is None or support.level != "full":
        return {"network": name, "difference": 1.0, "removed": 0.0, "trace s": seconds, "support": support.reason}
    keep = sample(index, SHARE)
    small = cut(module, index, keep)
    with torch.no_grad():
        whole, masked = first(module(x)), gated(module, x, index, keep)
        return {
            "network": name,
            "difference": relative(first(small(x)), masked),
            "output moved": relative(masked, whole),
            "removed": 1 - size(small) / size(module),
            "trace s": seconds,
        }


def rival(name: str) -> None:
    """Torch-Pruning at the same ratio in this (limited) process; prints its removed share and its own difference.

    Its masked model is the whole one with zeros for all that it took out, where that is read.
    """
    import torch_pruning as tp

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    module, x = network(name)
    masked, before = copy.deepcopy(module), size(module)
    named = {part: path for path, part in module.named_modules()}
    outputs = [
        part for part in module.modules() if CLASSES in (_size(part, "out_features"), _size(part, "out_channels"))
    ]
    heads = {part: part.num_heads for part in module.modules() if isinstance(part, nn.MultiheadAttention)}
    pruner = tp.pruner.BasePruner(
        module,
        x[:1],
        importance=tp.importance.RandomImportance(),
        pruning_ratio=SHARE,
        ignored_layers=outputs[-1:],
        num_heads=heads,
        prune_num_heads=bool(heads),
    )
    left: dict[str, list[int]] = {}  # layer -> the input channels of the whole model that it still has
    for group in pruner.step(interactive=True):
        for dep, places in group:
            if dep.handler in (tp.prune_conv_in_channels, tp.prune_linear_in_channels):
                path = named[dep.target.module]
                reader = masked.get_submodule(path)
                own = left.setdefault(path, list(range(_size(reader, "in_features") or _size(reader, "in_channels"))))
                gone = {own[place] for place in places}
                left[path] = [channel for channel in own if channel not in gone]
        group.prune()
    for path, channels in left.items():
        masked.get_submodule(path).register_forward_pre_hook(partial(_only, channels))
    with torch.no_grad():
        difference = relative(first(module(x)), first(masked(x)))
    print(json.dumps({"removed": 1 - size(module) / before, "difference": difference}))


def _only(channels: list[int], module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """A hook: zeros for all input channels but these."""
    axis = 1 if isinstance(module, nn.Conv2d) else -1
    kept = torch.zeros_like(inputs[0])
    chosen = torch.tensor(channels)
    return kept.index_copy(axis, chosen, inputs[0].index_select(axis, chosen))


def _size(part: nn.Module, attribute: str) -> int:
    return int(getattr(part, attribute, 0))


def rival_share(name: str) -> dict[str, Any]:
    """What the rival removes, or how it ends."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.coverage", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        return {"Torch-Pruning removed": found["removed"], "its difference": found["difference"]}
    except subprocess.TimeoutExpired:
        return {"Torch-Pruning removed": f"no end within {PATIENCE} s"}
    except (subprocess.SubprocessError, ValueError, IndexError, KeyError):
        return {"Torch-Pruning removed": "fails"}


def one(name: str) -> dict[str, Any]:
    """One line of the table."""
    mine = ours(name)
    if name in UNTUNED:
        return mine
    theirs = rival_share(name)
    share: float | str = ""
    if theirs.get("its difference", 1.0) <= EXACT:
        share = mine["removed"] / theirs["Torch-Pruning removed"]
    return {**mine, **theirs, "share of rival": share}


def measure(*, quick: bool) -> dict[str, Any]:
    """Figures and the table over all networks."""
    names = [*(QUICK if quick else FAMILIES), *UNTUNED[: 3 if quick else None]]
    table = [row("coverage", name, lambda name=name: one(name)) for name in names]
    families = [line for line in table if line["network"] not in UNTUNED]
    compared = [line for line in families if line["share of rival"] != ""]
    alone = [line for line in families if line["share of rival"] == ""]
    return {
        "families_exact": sum(line["difference"] <= EXACT for line in families),
        "largest_relative_difference": max(line["difference"] for line in table),
        "smallest_share_of_rival": min((line["share of rival"] for line in compared), default=float("nan")),
        "smallest_removed_alone": min((line["removed"] for line in alone), default=1.0),
        "networks": len(table),
        "rival_failures": len(alone),
        "table": table,
    }


if __name__ == "__main__":
    rival(sys.argv[1])
