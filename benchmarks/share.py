"""Does similarity say which layers can be shared, does agreement decide it safely, and what is saved?

Pinned networks on CIFAR-10, three seeds each. *common*: two even_resnets that went on from one base, each with another
half of the training samples (product's `tune`, 3 epochs). *independent*: two cnns trained apart. *different*: a cnn and
an even_resnet. Every cut of the host with every cut of the guest: as it is where forms are equal, else with the ridge
adapter on 1,000 training samples; similarity and label-free agreement on 1,000 validation samples, accuracy of the
merged model on 1,000 test samples.

Similarity: Pearson r with merged accuracy over cuts of the common pairs, for each cut of the guest the host's most
similar cut of every stage (maps of one size), on all test samples; with its bootstrap interval, the least r when any
one is left out, Spearman, and what size, multiply-adds and representation size of the cut reach alike. Beside it the
same over the guest's own stage and the most similar other one alone, and r over all pairs of cuts.

Agreement: r with merged accuracy over all pairs of cuts of all networks; and whatever the product's limits accept among
them is measured on all test samples. Bytes resident in a clean process are held against what a plan promised; since
networks that differ in one answer of ten may not share much at the product's limits, that plan asks for less agreement.

GEMEL's rule: identical layers of one architecture, the biggest first, as long as every model keeps its accuracy within
2 points on labelled validation samples; without retraining and, on the first seed, with joint retraining on 10,000
samples after each step. The last layer stays each network's own under both rules: with it shared one network would be
left, not two. Beside it the largest saving of the product's proposals at which the guest keeps as much: what the
product accepts by itself, without labels, is less.
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
from benchmarks.share_table import rows_of
from surgery.analysis.similarity import similarity
from surgery.context import Context
from surgery.data.arrays import from_arrays
from surgery.data.dataset import Dataset
from surgery.edit.agreement import Limits, agreement, limits_for, own_agreement
from surgery.edit.evaluate import predict
from surgery.edit.lend import Share as Loan
from surgery.edit.lend import drawn, fits, fleet_of, lend, ridge
from surgery.edit.tune import tune
from surgery.measure.resident import resident
from surgery.network import fleet_store
from surgery.network.architectures import build
from surgery.network.cuts import Cut, cuts_of
from surgery.network.model import Architecture, Model
from surgery.network.operator_files import VARIABLE
from surgery.network.size import weight_bytes
from surgery.operations.share import Share

Found = dict[str, Any]  # what is known of a host's cut and a guest's

SEEDS = (0, 1, 2)
KINDS = ("common", "independent", "different")
GUIDES = ("bytes", "macs", "numbers")  # of the cut, besides similarity
STRICT = "the product's limits"
LOOSE = {"agreement": 80, "adapt": False, "worst": 0, "divergence": 1000}  # limits at which most pairs share something
FITTED, JUDGED, TESTED, RETRAINED = 1_000, 1_000, 1_000, 10_000
EVERY = 10_000  # test samples that the cuts of every stage are judged on: the best lie close together
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


@cache
def pair(kind: str, seed: int) -> tuple[Model, Model]:
    """Host and guest."""
    if kind == "common":
        return further(seed, 0), further(seed, 1)
    if kind == "independent":
        return base("cnn", seed), base("cnn", (seed + 1) % 3)
    return base("cnn", seed), base("even_resnet", seed)


@cache
def cuts(kind: str, seed: int) -> tuple[dict[str, Cut], dict[str, Cut]]:
    """Those of the host and of the guest, by name."""
    host, guest = pair(kind, seed)
    return {cut.name: cut for cut in cuts_of(host)}, {cut.name: cut for cut in cuts_of(guest)}


def ranked(kind: str, seed: int) -> list[Found]:
    """All pairs of cuts that can be joined, with their similarity and the host's stage."""
    host, guest = pair(kind, seed)
    data, (mine, other) = cifar10(), cuts(kind, seed)
    judging = drawn(data.ids("val"), JUDGED, seed)
    layers = (list(mine), list(other))
    value = similarity(host, guest, data, judging, Context(seed=seed), layers=layers).value
    return [
        {
            "cut": cut.name,
            "at": at.name,
            "adapted": cut.shape != at.shape,
            "stage": list(cut.shape[1:]),
            "away": cut.shape[1:] != at.shape[1:],
            "similarity": float(value[i, j]),
        }
        for i, cut in enumerate(mine.values())
        for j, at in enumerate(other.values())
        if fits(cut, at)
    ]


def of_every_stage(found: list[Found]) -> list[Found]:
    """For each cut of the guest the host's most similar one of each of its stages."""
    best: dict[tuple[str, str], Found] = {}
    for one in found:
        key = one["at"], str(one["stage"])
        if key not in best or one["similarity"] > best[key]["similarity"]:
            best[key] = one
    return list(best.values())


def nearest(found: list[Found]) -> list[Found]:
    """Of these, for each cut of the guest the one of its own form and the most similar one of another stage."""
    own = [one for one in found if not one["adapted"]]
    others: dict[str, Found] = {}
    for one in found:
        at = one["at"]
        if one["away"] and (at not in others or one["similarity"] > others[at]["similarity"]):
            others[at] = one
    return [*own, *others.values()]


def judged(kind: str, seed: int, pairs: list[Found], *, most: int) -> dict[str, Any]:
    """Pairs of cuts, tried: agreement, whether the product's limits accept it, accuracy of the merged model in percent,
    and of the guest's cut bytes, MACs and numbers.

    most: test samples; all where a pair is accepted.
    """
    host, guest = pair(kind, seed)
    data, ctx, (mine, other) = cifar10(), Context(seed=seed), cuts(kind, seed)
    fitting, judging = drawn(data.ids("train"), FITTED, seed), drawn(data.ids("val"), JUDGED, seed)
    testing, every = drawn(data.ids("test"), most, seed), data.ids("test")
    said, found = predict(guest, data, judging, ctx), []
    limits = limits_for(own_agreement(guest, data, judging, said, ctx), Limits())
    alone, on_all = 100 * accuracy(guest, data, testing), cache(lambda: 100 * accuracy(guest, data, every))
    for one in pairs:
        cut, at = mine[one["cut"]], other[one["at"]]
        merged = lend(host, guest, loan_of(kind, seed, cut, at, fitting, adapted=one["adapted"]))
        agreed = agreement(said, predict(merged, data, judging, ctx), guest.classes)
        accepted = not limits.failed(agreed)
        tried = {
            "agreement": agreed.share,
            "accepted": accepted,
            "right": 100 * accuracy(merged, data, testing),
            "lost": on_all() - 100 * accuracy(merged, data, every) if accepted else None,
            "bytes": at.bytes,
            "macs": at.macs,
            "numbers": at.size,
        }
        found.append(one | tried)
    return {"kind": kind, "seed": seed, "alone": alone, "cuts": found}


def loan_of(kind: str, seed: int, cut: Cut, at: Cut, ids: np.ndarray, *, adapted: bool) -> Loan:
    """A share as it is, or with the ridge adapter fitted on samples."""
    host, guest = pair(kind, seed)
    return Loan(cut, at, ridge(host, guest, cut, at, cifar10(), ids, Context(seed=seed)) if adapted else None)


def planned(kind: str, seed: int, **asked: Any) -> dict[str, Any]:
    """What the product shares at the limits `asked` (its own by default), what that loses on all test samples, and by
    how much the bytes that a clean process holds less differ from the promise, as a share of it.
    """
    models, data = pair(kind, seed), cifar10()
    work = Share(**asked).on(models, data.without_test(), Context(seed=seed))
    chosen = work.choose()
    lost, ids = [], data.ids("test")
    for tried in (one for one in work.tried if not one.reason):
        merged = lend(models[tried.host], models[tried.guest], tried.loan)
        lost.append(100 * (accuracy(models[tried.guest], data, ids) - accuracy(merged, data, ids)))
    promised = sum(one.loan.saved for one in chosen)
    return {
        "kind": kind,
        "seed": seed,
        "limits": f"agreement {asked['agreement']:g} %" if asked else STRICT,
        "tried": len(work.tried),
        "accepted": len(lost),
        "worst_lost": round(max(lost), 2) if lost else None,
        "weights": weight_bytes(models),
        "saved": promised,
        "resident_error": _resident_error(models, chosen, promised) if chosen else None,
        "shares": [f"{one.guest}:{one.loan.at.name} from {one.loan.cut.name}" for one in chosen],
    }


def floored(kind: str, seed: int) -> dict[str, Any]:
    """The largest saving among the product's proposals at which the guest keeps its accuracy, as GEMEL's rule asks."""
    host, guest = pair(kind, seed)
    data = cifar10()
    ids, fitting = drawn(data.ids("val"), JUDGED, seed), drawn(data.ids("train"), FITTED, seed)
    least = 100 * accuracy(guest, data, ids) - FLOOR
    found: dict[str, Any] = {"ours": 0, "share": "nothing"}
    for cut, at in Share().on((host, guest), data.without_test(), Context(seed=seed)).proposals(0, 1):
        for adapted in (False, True):
            if not (fits(cut, at) if adapted else cut.shape == at.shape):
                continue
            loan = loan_of(kind, seed, cut, at, fitting, adapted=adapted)
            if loan.saved > found["ours"] and 100 * accuracy(lend(host, guest, loan), data, ids) >= least:
                found |= {"ours": loan.saved, "share": f"{at.name} from {cut.name}{', adapted' if adapted else ''}"}
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
    os.environ.setdefault(VARIABLE, str(Path(bases.__file__)))
    architecture = Architecture(f"custom/{model.architecture.name.rpartition('/')[2]}")
    module = build(architecture)
    module.load_state_dict(model.module.state_dict())
    return replace(model, module=module.eval(), architecture=architecture)


def ruled(kind: str, seed: int, *, retrained: bool) -> dict[str, Any]:
    """What GEMEL's rule saves on a pair of one architecture, and what ours does, which never retrains."""
    found = gemel(pair(kind, seed), cifar10(), seed, floor=FLOOR, retrained=RETRAINED if retrained else 0)
    return {"kind": kind, "seed": seed, "retrained": retrained, **found, **floored(kind, seed)}


def correlations(tried: list[Found], best: list[Found]) -> dict[str, float]:
    """r of similarity and of three other guides with merged accuracy over the best of every stage, and how sure it is;
    r over the nearest of them, and over all pairs.
    """
    alike, right = _columns(best)
    near, near_right = _columns(nearest(best))
    rng = np.random.default_rng(0)
    drawn_again = [rng.integers(len(right), size=len(right)) for _ in range(RESAMPLED)]
    again = [_r(alike[own], right[own]) for own in drawn_again]
    return {
        **{key: abs(_r([one[key] for one in best], right)) for key in GUIDES},
        "r": _r(alike, right),
        "low": float(np.percentile(again, 2.5)),
        "high": float(np.percentile(again, 97.5)),
        "least without one": min(_r(np.delete(alike, i), np.delete(right, i)) for i in range(len(right))),
        "spearman": float(spearmanr(alike, right).statistic),
        "near": _r(near, near_right),
        "near spearman": float(spearmanr(near, near_right).statistic),
        "near cuts": len(near),
        "random": float(np.median([abs(_r(rng.permutation(len(right)), right)) for _ in range(200)])),
        "cuts": len(right),
        "all": _r(*_columns(tried)),
        "pairs": len(tried),
    }


def _columns(found: list[Found]) -> tuple[np.ndarray, np.ndarray]:
    """Similarity and merged accuracy."""
    return np.array([one["similarity"] for one in found]), np.array([one["right"] for one in found])


def _r(one: Any, other: Any) -> float:
    return float(np.corrcoef(one, other)[0, 1])


def measure(*, quick: bool) -> dict[str, Any]:
    """Figures over three seeds; the quick form tries cuts of the first seed's common pair alone."""
    seeds, kinds = (SEEDS[:1], KINDS[:1]) if quick else (SEEDS, KINDS)
    cases = [(kind, seed) for kind in kinds for seed in seeds]
    runs = [row("share", f"cuts/{kind}/{seed}/{quick}", partial(_tried, kind, seed, quick)) for kind, seed in cases]
    plans = [row("share", f"plan/{kind}/{seed}", partial(planned, kind, seed)) for kind, seed in cases if not quick]
    plans += [row("share", f"loose/{kind}/{seed}", partial(planned, kind, seed, **LOOSE)) for kind, seed in cases]
    rules = [] if quick else list(_rules())
    guided = []
    for run in (one for one in runs if one["kind"] == "common"):
        best = of_every_stage(run["cuts"])
        if not quick:
            again = partial(judged, "common", run["seed"], best, most=EVERY)
            best = row("share", f"stages/{run['seed']}", again)["cuts"]
        guided.append(correlations(run["cuts"], best))
    every = [(run["alone"], one) for run in runs for one in run["cuts"]]
    accepted = [one["lost"] for _, one in every if one["accepted"]]
    accepted += [one["worst_lost"] for one in plans if one["accepted"] and one["limits"] == STRICT]
    errors = [one["resident_error"] for one in plans if one["saved"]]
    figures: dict[str, Any] = {
        "cuts": min(one["cuts"] for one in guided),
        "similarity_r": round(float(np.mean([one["r"] for one in guided])), 4),
        "similarity_r_without_one": round(min(one["least without one"] for one in guided), 4),
        "similarity_spearman": round(float(np.mean([one["spearman"] for one in guided])), 4),
        "ahead_of_other_guides": round(min(one["r"] - max(one[key] for key in GUIDES) for one in guided), 4),
        "agreement_r": round(_r([one["agreement"] for _, one in every], [one["right"] / a for a, one in every]), 4),
        "accepted": len(accepted),
        "worst_accepted_lost": round(max(accepted), 2) if accepted else None,
        "resident_error": max(errors, default=None),
    }
    if rules:
        ahead = [
            [one["ours"] - one["saved"] for one in rules if one["kind"] == kind and not one["retrained"]]
            for kind in ("common", "independent")
        ]
        figures["saved_over_gemel"] = round(min(float(np.mean(own)) for own in ahead) / 1000, 2)
    return {**figures, "table": rows_of(guided, runs, plans, rules)}


def _tried(kind: str, seed: int, quick: bool) -> dict[str, Any]:
    found = ranked(kind, seed)
    return judged(kind, seed, of_every_stage(found) if quick else found, most=QUICKLY if quick else TESTED)


def _rules() -> Iterator[dict[str, Any]]:
    for kind in ("common", "independent"):
        for seed in SEEDS:
            yield row("share", f"gemel/{kind}/{seed}", partial(ruled, kind, seed, retrained=False))
        yield row("share", f"gemel+/{kind}/{SEEDS[0]}", partial(ruled, kind, SEEDS[0], retrained=True))
