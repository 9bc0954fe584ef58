"""Does similarity say which layers can be shared, does agreement decide it safely, and what is saved?

Pinned networks on CIFAR-10, three seeds each. *common*: two even_resnets that went on from one base, each with another
half of the training samples (product's `tune`, 3 epochs). *independent*: two cnns trained apart. *different*: a cnn and
an even_resnet. Every cut of the host with every cut of the guest: as it is where forms are equal, else with the ridge
adapter on 1,000 training samples; similarity and label-free agreement on 1,000 validation samples, accuracy of the
merged model on 1,000 test samples.

Claims: Pearson r of similarity with merged accuracy over what similarity proposes on the common pairs: for each cut of
the guest the host's most similar cut of its form, and the most similar one of another stage, whose maps have another
size, on all test samples (with its bootstrap interval, the least r when any cut is left out, Spearman), above what
size, multiply-adds and representation size of the cut reach alike; r over all pairs of cuts stands beside it. r of the
agreement over all pairs; what the product's plan accepts, measured on all test samples; bytes resident in a clean
process against what was promised; and GEMEL's rule (identical layers of one architecture, the biggest first, as long as
every model keeps its accuracy within 2 points on labelled validation samples), without retraining and, on the first
seed, with joint retraining on 10,000 samples after each step.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import nn

from benchmarks import bases
from benchmarks.bases import RECIPES, accuracy, base, cifar10
from benchmarks.rows import cache_folder, row
from surgery.analysis.similarity import similarities
from surgery.context import Context
from surgery.data.arrays import from_arrays
from surgery.data.dataset import Dataset
from surgery.edit.agreement import agreement
from surgery.edit.evaluate import predict
from surgery.edit.lend import Share as Loan
from surgery.edit.lend import drawn, fits, fleet_of, lend, ridge
from surgery.edit.tune import tune
from surgery.errors import SelectionError
from surgery.measure.resident import resident
from surgery.network import fleet_store
from surgery.network.architectures import OPERATOR_FILE
from surgery.network.cuts import cuts_of
from surgery.network.model import Architecture, Model
from surgery.network.size import weight_bytes
from surgery.operations.share import Share

SEEDS, QUICK_SEEDS = (0, 1, 2), (0,)
FITTED, JUDGED, TESTED, RETRAINED = 1_000, 1_000, 1_000, 10_000
EVERY = 10_000  # test samples that what similarity proposes is judged on
FLOOR = 2.0  # points of accuracy that may be lost
FURTHER = 3.0  # epochs
RESAMPLED = 2_000


@cache
def halves(seed: int) -> tuple[Dataset, Dataset]:
    """CIFAR-10 with two disjoint halves of its training samples, in the roles of the whole."""
    data, made = cifar10(), []
    order = np.random.default_rng(seed).permutation(data.ids("train"))
    for part in (0, 1):
        folder = cache_folder() / f"cifar10-part-{seed}-{part}"
        if not (folder / "dataset.json").exists():
            ids = np.sort(np.concatenate([order[part::2], data.ids("val")]))
            val = set(data.ids("val").tolist())
            from_arrays(
                folder,
                data.raw(ids),
                data.labels(ids),
                classes=data.classes,
                name=f"CIFAR-10, half {part + 1}",
                task="classification",
                roles=["val" if int(i) in val else "train" for i in ids],
            )
        made.append(Dataset.open(folder))
    return made[0], made[1]


def further(seed: int, part: int) -> Model:
    """An even_resnet that went on from the base with one half of the samples; from the cache when it is there."""
    start = base("even_resnet", seed)
    file = cache_folder() / f"further-{RECIPES['even_resnet'].digest}-{seed}-{part}.pt"
    if file.exists():
        module = copy.deepcopy(start.module)
        module.load_state_dict(torch.load(file, weights_only=True))
        return replace(start, module=module.eval())
    model = tune(start, halves(seed)[part], Context(seed=10 * seed + part), epochs=FURTHER, rate=1e-3)
    torch.save(model.module.state_dict(), file)
    return model


def pair(kind: str, seed: int) -> tuple[Model, Model]:
    """Host and guest."""
    if kind == "common":
        return further(seed, 0), further(seed, 1)
    if kind == "independent":
        return base("cnn", seed), base("cnn", (seed + 1) % 3)
    return base("cnn", seed), base("even_resnet", seed)


def every_cut(kind: str, seed: int, *, most: int) -> dict[str, Any]:
    """All pairs of cuts: [host's, guest's, adapted, other stage, similarity, agreement, merged accuracy, bytes, MACs,
    numbers]; the last three are the guest's cut's.
    """
    host, guest = pair(kind, seed)
    data, ctx = cifar10(), Context(seed=seed)
    fitting, judging = drawn(data.ids("train"), FITTED, seed), drawn(data.ids("val"), JUDGED, seed)
    testing = drawn(data.ids("test"), most, seed)
    mine, other = cuts_of(host), cuts_of(guest)
    layers = {"host": [cut.name for cut in mine], "guest": [cut.name for cut in other]}
    value = similarities({"host": host, "guest": guest}, data, judging, ctx, layers=layers)["host", "guest"].value
    said, found = predict(guest, data, judging, ctx), []
    for i, cut in enumerate(mine):
        for j, at in enumerate(other):
            if not fits(cut, at):
                continue
            same = cut.shape == at.shape
            merged = lend(host, guest, Loan(cut, at, None if same else ridge(host, guest, cut, at, data, fitting, ctx)))
            agreed = agreement(said, predict(merged, data, judging, ctx), guest.classes).share
            right = 100 * accuracy(merged, data, testing)
            about = [cut.name, at.name, not same, cut.shape[1:] != at.shape[1:]]
            found.append([*about, float(value[i, j]), agreed, right, at.bytes, at.macs, at.size])
    return {"kind": kind, "seed": seed, "alone": 100 * accuracy(guest, data, testing), "cuts": found}


def retested(kind: str, seed: int, cuts: list[list[Any]], *, most: int) -> dict[str, Any]:
    """What similarity proposes, with its merged accuracy on more test samples: the best lie close together."""
    host, guest = pair(kind, seed)
    data, ctx = cifar10(), Context(seed=seed)
    fitting, testing = drawn(data.ids("train"), FITTED, seed), drawn(data.ids("test"), most, seed)
    known = [{cut.name: cut for cut in cuts_of(model)} for model in (host, guest)]
    found = []
    for one in proposed(cuts):
        cut, at = known[0][one[0]], known[1][one[1]]
        adapter = ridge(host, guest, cut, at, data, fitting, ctx) if one[2] else None
        right = 100 * accuracy(lend(host, guest, Loan(cut, at, adapter)), data, testing)
        found.append([*one[:6], right, *one[7:]])
    return {"cuts": found}


def planned(kind: str, seed: int) -> dict[str, Any]:
    """What the product accepts with its defaults, what it loses on all test samples, and what is resident."""
    models, data = pair(kind, seed), cifar10()
    work = Share().on(models, data.without_test(), Context(seed=seed))
    try:
        chosen = work.choose()
    except SelectionError:
        chosen = []
    lost = []
    for tried in (one for one in work.tried if not one.reason):
        merged = lend(models[tried.host], models[tried.guest], tried.loan)
        ids = data.ids("test")
        lost.append(100 * (accuracy(models[tried.guest], data, ids) - accuracy(merged, data, ids)))
    promised = sum(one.loan.saved for one in chosen)
    return {
        "kind": kind,
        "seed": seed,
        "tried": len(work.tried),
        "accepted": len(lost),
        "worst_lost": round(max(lost, default=0.0), 2),
        "weights": weight_bytes(models),
        "saved": promised,
        "resident_error": _resident_error(models, chosen, promised) if chosen else 0.0,
        "shares": [f"{one.guest}:{one.loan.at.name} from {one.loan.cut.name}" for one in chosen],
    }


def _resident_error(models: tuple[Model, Model], chosen: list[Any], promised: int) -> float:
    """By how much, as a share of the promise, the bytes differ that a clean process holds less."""
    known = {f"model {place}": _exportable(model) for place, model in enumerate(models)}
    shares = {f"model {one.guest}": (f"model {one.host}", one.loan) for one in chosen}
    with tempfile.TemporaryDirectory() as folder:
        homes = [Path(folder) / "apart", Path(folder) / "together"]
        for home, given in zip(homes, ({}, shares), strict=True):
            fleet_store.save(fleet_of(known, given), known, home)
        apart, together = (resident([home])["weights"] for home in homes)
    return abs((apart - together) / promised - 1)


def _exportable(model: Model) -> Model:
    """The same network under a name that another process can build: bases are not among the product's architectures."""
    os.environ.setdefault(OPERATOR_FILE, str(Path(bases.__file__)))
    return replace(model, architecture=Architecture(f"custom/{model.architecture.name.rpartition('/')[2]}"))


def gemel(kind: str, seed: int, *, retrained: bool) -> dict[str, Any]:
    """Bytes saved by GEMEL's rule on a pair of one architecture: the biggest layer first, kept while both keep up."""
    host, guest = (replace(model, module=copy.deepcopy(model.module)) for model in pair(kind, seed))
    data = cifar10()
    ids = drawn(data.ids("val"), TESTED, seed)
    floors = [100 * accuracy(model, data, ids) - FLOOR for model in (host, guest)]
    layers = sorted(_layers(guest.module), key=lambda name: -_bytes(guest.module.get_submodule(name)))
    shared: list[str] = []
    for name in layers:
        before = [copy.deepcopy(model.module.state_dict()) for model in (host, guest)]
        _give(host.module, guest.module, name)
        if retrained:
            _retrain(host.module, guest.module, [*shared, name], data, seed + len(shared))
        reached = [100 * accuracy(model, data, ids) for model in (host, guest)]
        if all(now >= floor for now, floor in zip(reached, floors, strict=True)):
            shared.append(name)
            continue
        for model, state in zip((host, guest), before, strict=True):
            model.module.load_state_dict(state)
    saved = sum(_bytes(guest.module.get_submodule(name)) for name in shared)
    return {"kind": kind, "seed": seed, "retrained": retrained, "saved": saved, "layers": len(shared)}


def _layers(module: nn.Module) -> list[str]:
    """A convolution with its normalisation, or a linear layer: what GEMEL calls a layer."""
    parts = dict(module.named_modules())
    pairs = {name: part for name, part in parts.items() if isinstance(part, nn.Sequential) and len(part) == 2}
    found = [name for name, part in pairs.items() if isinstance(part[1], nn.BatchNorm2d)]
    return [*found, *(name for name, part in parts.items() if isinstance(part, nn.Linear))]


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.state_dict().values())


def _give(host: nn.Module, guest: nn.Module, name: str) -> None:
    guest.get_submodule(name).load_state_dict(host.get_submodule(name).state_dict())


def _retrain(host: nn.Module, guest: nn.Module, shared: list[str], data: Dataset, seed: int) -> None:
    """Both on the same training samples, shared layers one and the same."""
    for name in shared:
        path, _, leaf = name.rpartition(".")
        setattr(guest.get_submodule(path), leaf, host.get_submodule(name))
    parameters = {id(p): p for module in (host, guest) for p in module.parameters()}
    optimizer = torch.optim.AdamW(parameters.values(), lr=3e-4, weight_decay=0.0)
    host.train(), guest.train()
    ids = drawn(data.ids("train"), RETRAINED, seed)
    for x, y, _ in data.batches(ids, base("cnn", 0).input, size=128, seed=seed):
        loss = F.cross_entropy(host(x), y) + F.cross_entropy(guest(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    host.eval(), guest.eval()
    for name in shared:  # apart again, so that a failed step can be taken back
        path, _, leaf = name.rpartition(".")
        setattr(guest.get_submodule(path), leaf, copy.deepcopy(host.get_submodule(name)))


def proposed(cuts: list[list[Any]]) -> list[list[Any]]:
    """For each cut of the guest the host's most similar one of its form, and the most similar one of another stage."""
    found = []
    for at in dict.fromkeys(one[1] for one in cuts):
        own = [one for one in cuts if one[1] == at]
        for kind in ([one for one in own if not one[2]], [one for one in own if one[3]]):
            found += [max(kind, key=lambda one: one[4])] if kind else []
    return found


def correlations(cuts: list[list[Any]], best: list[list[Any]]) -> dict[str, float]:
    """r of similarity and of the three other guides with merged accuracy, and how sure it is. best: the proposals."""
    whole = np.array([one[4:] for one in cuts], dtype=float)  # similarity, agreement, accuracy, bytes, MACs, numbers
    table = np.array([one[4:] for one in best], dtype=float)
    right = table[:, 2]
    r = float(np.corrcoef(table[:, 0], right)[0, 1])
    rng = np.random.default_rng(0)
    drawn_again = [rng.integers(len(table), size=len(table)) for _ in range(RESAMPLED)]
    again = [float(np.corrcoef(table[own, 0], right[own])[0, 1]) for own in drawn_again]
    without = [float(np.corrcoef(np.delete(table[:, 0], i), np.delete(right, i))[0, 1]) for i in range(len(table))]
    others = [abs(float(np.corrcoef(table[:, column], right)[0, 1])) for column in (3, 4, 5)]
    random = [abs(float(np.corrcoef(rng.permutation(len(right)), right)[0, 1])) for _ in range(200)]
    return {
        "r": r,
        "low": float(np.percentile(again, 2.5)),
        "high": float(np.percentile(again, 97.5)),
        "least without one": min(without),
        "spearman": float(spearmanr(table[:, 0], right).statistic),
        "size": others[0],
        "MACs": others[1],
        "representation": others[2],
        "random": float(np.median(random)),
        "cuts": len(table),
        "all": float(np.corrcoef(whole[:, 0], whole[:, 2])[0, 1]),
        "pairs": len(whole),
    }


def measure(*, quick: bool) -> dict[str, Any]:
    """Figures over three seeds; the quick form has the common pair of the first seed and 500 test samples."""
    seeds = QUICK_SEEDS if quick else SEEDS
    kinds = ("common",) if quick else ("common", "independent", "different")
    most, every = (TESTED // 2, TESTED // 2) if quick else (TESTED, EVERY)
    runs = [
        row("share", f"cuts/{kind}/{seed}/{most}", lambda kind=kind, seed=seed: every_cut(kind, seed, most=most))
        for kind in kinds
        for seed in seeds
    ]
    plans = [
        row("share", f"plan/{kind}/{seed}", lambda kind=kind, seed=seed: planned(kind, seed))
        for kind in kinds
        for seed in seeds
    ]
    rules = list(_rules(() if quick else ("common", "independent"), seeds))
    guided = [
        correlations(
            run["cuts"],
            row(
                "share",
                f"proposed/{run['seed']}/{every}",
                lambda r=run: retested(r["kind"], r["seed"], r["cuts"], most=every),
            )["cuts"],
        )
        for run in runs
        if run["kind"] == "common"
    ]
    pooled = [(one[5], one[6] / run["alone"]) for run in runs for one in run["cuts"]]
    saved = {key: [one["saved"] for one in plans if one["kind"] == key] for key in kinds}
    by_rule = {key: [one["saved"] for one in rules if one["kind"] == key and not one["retrained"]] for key in kinds}
    figures: dict[str, Any] = {
        "cuts": min(one["cuts"] for one in guided),
        "similarity_r": round(float(np.mean([one["r"] for one in guided])), 4),
        "similarity_r_without_one": round(min(one["least without one"] for one in guided), 4),
        "similarity_spearman": round(float(np.mean([one["spearman"] for one in guided])), 4),
        "ahead_of_other_guides": round(
            min(one["r"] - max(one["size"], one["MACs"], one["representation"]) for one in guided), 4
        ),
        "agreement_r": round(float(np.corrcoef(np.array(pooled).T)[0, 1]), 4),
        "worst_accepted_lost": max(one["worst_lost"] for one in plans),
        "resident_error": max(one["resident_error"] for one in plans),
    }
    if rules:
        figures["saved_over_gemel"] = round(
            min(float(np.mean(saved[key]) - np.mean(by_rule[key])) for key in ("common", "independent")) / 1000, 2
        )
    return {**figures, "table": [*_guides(guided), *_misled(runs), *_plans(plans), *_gemel_rows(rules)]}


def _rules(kinds: tuple[str, ...], seeds: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    for kind in kinds:
        for seed in seeds:
            yield row("share", f"gemel/{kind}/{seed}", lambda k=kind, s=seed: gemel(k, s, retrained=False))
        first = seeds[0]
        yield row("share", f"gemel+/{kind}/{first}", lambda k=kind, s=first: gemel(k, s, retrained=True))


def _guides(guided: list[dict[str, float]]) -> Iterator[dict[str, Any]]:
    for seed, one in enumerate(guided):
        yield {
            "what": f"r with merged accuracy, common pair, seed {seed}",
            "similarity": f"{one['r']:.3f} ({one['low']:.3f} – {one['high']:.3f}), Spearman {one['spearman']:.3f}",
            "others": f"size {one['size']:.2f}, MACs {one['MACs']:.2f}, representation {one['representation']:.2f}, "
            f"random {one['random']:.2f}",
            "n": one["cuts"],
        }
        yield {
            "what": f"r over all pairs of cuts, common pair, seed {seed}",
            "similarity": f"{one['all']:.3f}",
            "others": "",
            "n": one["pairs"],
        }


def _misled(runs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Where similarity misleads: the most similar cut of every pair that loses ten points or more; all cuts beside."""
    for run in runs:
        cuts = sorted(run["cuts"], key=lambda one: -one[4])
        bad = next((one for one in cuts if run["alone"] - one[6] >= 10), None)
        if bad is not None:
            yield {
                "what": f"{run['kind']} {run['seed']}: most similar of those that lose 10 points",
                "similarity": f"{bad[0]} → {bad[1]}{', adapted' if bad[2] else ''}: {bad[4]:.3f}",
                "others": f"agreement {bad[5]:.3f}, accuracy {bad[6]:.1f} of {run['alone']:.1f}",
                "n": len(cuts),
            }


def _plans(plans: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for one in plans:
        yield {
            "what": f"{one['kind']} {one['seed']}: the plan",
            "similarity": "; ".join(one["shares"]) or "nothing passes",
            "others": f"{one['accepted']} of {one['tried']} accepted, the worst loses {one['worst_lost']:.2f} points; "
            f"saves {one['saved'] / 1000:.0f} of {one['weights'] / 1000:.0f} kB",
            "n": one["tried"],
        }


def _gemel_rows(rules: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for one in rules:
        yield {
            "what": f"{one['kind']} {one['seed']}: GEMEL's rule{', retrained' if one['retrained'] else ''}",
            "similarity": f"{one['layers']} layers",
            "others": f"saves {one['saved'] / 1000:.0f} kB",
            "n": "",
        }
