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
seed, with joint retraining on 10,000 samples after each step. Beside it the largest saving of the product's proposals
at which the guest keeps as much: what the product accepts by itself, without labels, is less.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks import bases
from benchmarks.bases import RECIPES, accuracy, base, cifar10
from benchmarks.gemel import gemel
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
from surgery.network.architectures import OPERATOR_FILE, build
from surgery.network.cuts import cuts_of
from surgery.network.model import Architecture, Model
from surgery.network.size import weight_bytes
from surgery.operations.share import Share

SEEDS, QUICK_SEEDS = (0, 1, 2), (0,)
FITTED, JUDGED, TESTED, RETRAINED = 1_000, 1_000, 1_000, 10_000
EVERY = 10_000  # test samples that what similarity proposes is judged on: the best lie close together
QUICKLY = 500  # test samples of the quick form
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


def ranked(kind: str, seed: int) -> list[list[Any]]:
    """All pairs of cuts that can be joined: [host's, guest's, adapted, other stage, similarity]."""
    host, guest = pair(kind, seed)
    data, mine, other = cifar10(), cuts_of(host), cuts_of(guest)
    layers = {"host": [cut.name for cut in mine], "guest": [cut.name for cut in other]}
    judging = drawn(data.ids("val"), JUDGED, seed)
    models = {"host": host, "guest": guest}
    value = similarities(models, data, judging, Context(seed=seed), layers=layers)["host", "guest"].value
    return [
        [cut.name, at.name, cut.shape != at.shape, cut.shape[1:] != at.shape[1:], float(value[i, j])]
        for i, cut in enumerate(mine)
        for j, at in enumerate(other)
        if fits(cut, at)
    ]


def judged(kind: str, seed: int, cuts: list[list[Any]], *, most: int) -> dict[str, Any]:
    """Pairs of cuts, tried: each with agreement, merged accuracy, bytes, MACs and numbers; these are the guest's cut's.

    most: test samples.
    """
    host, guest = pair(kind, seed)
    data, ctx = cifar10(), Context(seed=seed)
    fitting, judging = drawn(data.ids("train"), FITTED, seed), drawn(data.ids("val"), JUDGED, seed)
    testing = drawn(data.ids("test"), most, seed)
    known = [{cut.name: cut for cut in cuts_of(model)} for model in (host, guest)]
    said, found = predict(guest, data, judging, ctx), []
    for one in cuts:
        cut, at = known[0][one[0]], known[1][one[1]]
        adapter = ridge(host, guest, cut, at, data, fitting, ctx) if one[2] else None
        merged = lend(host, guest, Loan(cut, at, adapter))
        agreed = agreement(said, predict(merged, data, judging, ctx), guest.classes).share
        right = 100 * accuracy(merged, data, testing)
        found.append([*one[:5], agreed, right, at.bytes, at.macs, at.size])
    return {"kind": kind, "seed": seed, "alone": 100 * accuracy(guest, data, testing), "cuts": found}


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


def floored(kind: str, seed: int) -> dict[str, Any]:
    """The largest saving among the product's proposals at which the guest keeps its accuracy, as GEMEL's rule asks."""
    host, guest = pair(kind, seed)
    data, ctx = cifar10(), Context(seed=seed)
    ids, fitting = drawn(data.ids("val"), JUDGED, seed), drawn(data.ids("train"), FITTED, seed)
    least = 100 * accuracy(guest, data, ids) - FLOOR
    found: dict[str, Any] = {"ours": 0, "share": "nothing"}
    for cut, at in Share().on((host, guest), data.without_test(), ctx).proposals(0, 1):
        for adapter in (False, True):
            if not (fits(cut, at) if adapter else cut.shape == at.shape):
                continue
            loan = Loan(cut, at, ridge(host, guest, cut, at, data, fitting, ctx) if adapter else None)
            if loan.saved > found["ours"] and 100 * accuracy(lend(host, guest, loan), data, ids) >= least:
                adapted = ", adapted" if adapter else ""
                found |= {"ours": loan.saved, "share": f"{at.name} from {cut.name}{adapted}"}
    return found


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
    """The same network, built by a name that another process knows: bases are not among the product's architectures."""
    os.environ.setdefault(OPERATOR_FILE, str(Path(bases.__file__)))
    architecture = Architecture(f"custom/{model.architecture.name.rpartition('/')[2]}")
    module = build(architecture)
    module.load_state_dict(model.module.state_dict())
    return replace(model, module=module.eval(), architecture=architecture)


def ruled(kind: str, seed: int, *, retrained: bool) -> dict[str, Any]:
    """What GEMEL's rule saves on a pair of one architecture, and what ours does, which never retrains."""
    found = gemel(pair(kind, seed), cifar10(), seed, floor=FLOOR, retrained=RETRAINED if retrained else 0)
    return {"kind": kind, "seed": seed, "retrained": retrained, **found, **floored(kind, seed)}


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
    """Figures over three seeds; the quick form tries the proposals for the common pair of the first seed alone."""
    seeds = QUICK_SEEDS if quick else SEEDS
    kinds = ("common",) if quick else ("common", "independent", "different")
    cases = [(kind, seed) for kind in kinds for seed in seeds]
    runs = [
        row(
            "share",
            f"cuts/{kind}/{seed}/{quick}",
            lambda k=kind, s=seed: judged(
                k, s, proposed(ranked(k, s)) if quick else ranked(k, s), most=QUICKLY if quick else TESTED
            ),
        )
        for kind, seed in cases
    ]
    plans = [row("share", f"plan/{kind}/{seed}", lambda k=kind, s=seed: planned(k, s)) for kind, seed in cases]
    rules = list(_rules(() if quick else ("common", "independent"), seeds))
    guided = []
    for run in (one for one in runs if one["kind"] == "common"):
        best = proposed(run["cuts"])
        if not quick:
            again = partial(judged, run["kind"], run["seed"], best, most=EVERY)
            best = row("share", f"proposed/{run['seed']}", again)["cuts"]
        guided.append(correlations(run["cuts"], best))
    pooled = [(one[5], one[6] / run["alone"]) for run in runs for one in run["cuts"]]
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
        ahead = {
            key: [one["ours"] - one["saved"] for one in rules if one["kind"] == key and not one["retrained"]]
            for key in ("common", "independent")
        }
        figures["saved_over_gemel"] = round(min(float(np.mean(own)) for own in ahead.values()) / 1000, 2)
    return {**figures, "table": [*_guides(guided), *_misled(runs), *_plans(plans), *_gemel_rows(rules), *_every(runs)]}


def _rules(kinds: tuple[str, ...], seeds: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    for kind in kinds:
        for seed in seeds:
            yield row("share", f"gemel/{kind}/{seed}", lambda k=kind, s=seed: ruled(k, s, retrained=False))
        first = seeds[0]
        yield row("share", f"gemel+/{kind}/{first}", lambda k=kind, s=first: ruled(k, s, retrained=True))


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
            "others": f"saves {one['saved'] / 1000:.1f} kB; ours with as much to lose, never retrained: "
            f"{one['ours'] / 1000:.1f} kB ({one['share']})",
            "n": "",
        }


def _every(runs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every pair of cuts that was tried, its figures seed by seed."""
    found: dict[tuple[str, str], list[tuple[float, list[Any]]]] = {}
    for run in runs:
        for one in run["cuts"]:
            key = (run["kind"], f"{one[0]} → {one[1]}{', adapted' if one[2] else ''}")
            found.setdefault(key, []).append((run["alone"], one))
    for (kind, cuts), own in found.items():
        yield {
            "what": f"{kind}: {cuts}",
            "similarity": " / ".join(f"{one[4]:.3f}" for _, one in own),
            "others": f"agreement {' / '.join(f'{one[5]:.3f}' for _, one in own)}, "
            f"lost {' / '.join(f'{alone - one[6]:.1f}' for alone, one in own)}",
            "n": len(own),
        }
