"""Is a shrunk network the gated one, and does as much come off as a rival removes at the same ratio?

Samples 30 % of the removable groups per layer, leaving at least one. The rival, Torch-Pruning, runs in a subprocess
with limits: on some networks it does not end.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from typing import Any

import torch
from torch import nn

from benchmarks.networks import network
from benchmarks.rows import row
from surgery.network.certificate import first, gated, relative, sample
from surgery.network.slicing import cut
from surgery.network.trace import trace

SHARE = 0.3
FULL = (
    *("resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "vgg11_bn"),
    *("alexnet", "densenet121", "googlenet", "mobilenet_v2", "squeezenet1_1"),
)
QUICK = ("resnet18", "mobilenet_v2", "squeezenet1_1")


def size(module: nn.Module) -> int:
    """Parameters."""
    return sum(p.numel() for p in module.parameters())


def ours(name: str, seeds: int) -> dict[str, Any]:
    """Cut one network with several seeds; compare with the gate."""
    module, x = network(name)
    index, support = trace(module, x[:1])
    if index is None or support.level != "full":
        return {"network": name, "support": f"{support.level}: {support.reason}", "difference": 1.0, "removed": 0.0}
    worst, removed, moved = 0.0, [], []
    with torch.no_grad():
        whole = first(module(x))
        for seed in range(seeds):
            keep = sample(index, SHARE, seed)
            small = cut(module, index, keep)
            masked = gated(module, x, index, keep)
            worst = max(worst, relative(first(small(x)), masked))
            moved.append(relative(masked, whole))
            removed.append(1 - size(small) / size(module))
    return {
        "network": name,
        "neurons": index.n,
        "difference": worst,
        "output moved": min(moved),
        "removed": sum(removed) / len(removed),
    }


def rival(name: str) -> None:
    """Torch-Pruning at the same ratio, random importance, in this (limited) process; prints its removed share."""
    import torch_pruning as tp

    resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))
    module, x = network(name)
    before = size(module)
    outputs = [m for m in module.modules() if isinstance(m, nn.Linear) and m.out_features in (2, 10)]
    outputs += [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.out_channels == 10]
    ignored = outputs[-1:]
    pruner = tp.pruner.BasePruner(
        module, x[:1], importance=tp.importance.RandomImportance(), pruning_ratio=SHARE, ignored_layers=ignored
    )
    pruner.step()
    with torch.no_grad():
        module(x)
    print(json.dumps({"removed": 1 - size(module) / before}))


def rival_share(name: str) -> float | None:
    """The removed share of the rival; None when it fails or does not end."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.prune_exact", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
        return float(json.loads(done.stdout.splitlines()[-1])["removed"])
    except (subprocess.SubprocessError, ValueError, IndexError, KeyError):
        return None


def one(name: str, seeds: int) -> dict[str, Any]:
    """One line of the table."""
    mine = ours(name, seeds)
    theirs = rival_share(name)
    share = mine["removed"] / theirs if theirs else None
    return {**mine, "Torch-Pruning removed": theirs if theirs is not None else "fails", "share": share}


def measure(*, quick: bool) -> dict[str, Any]:
    """Figures and the table over all networks."""
    names = ["digits_cnn", "surface_cnn", "mlp", *(QUICK if quick else FULL)]
    seeds = 1 if quick else 3
    table = [row("prune_exact", f"{name}/{seeds}", lambda name=name: one(name, seeds)) for name in names]
    return {
        "largest_relative_difference": max(line["difference"] for line in table),
        "smallest_share_of_rival": min(line["share"] for line in table if line["share"] is not None),
        "networks": len(table),
        "rival_failures": sum(line["share"] is None for line in table),
        "table": table,
    }


if __name__ == "__main__":
    rival(sys.argv[1])
