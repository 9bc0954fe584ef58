"""What was done, with what, and what it changed: the before/after table, the plan, the flipped samples, how to undo.

A receipt is JSON in the workspace and one self-contained HTML file for everybody else.
"""

from __future__ import annotations

import json
import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset
    from surgery.measure import Measurement
    from surgery.operations.base import Outcome

FLIPS = 200  # samples listed per direction; the counts are always complete


@dataclass(frozen=True)
class Receipt:
    """The record of one surgery; every field is JSON.

    table: rows of (metric, scope, before, after, change, unit, better, split, n), those of quality also with low, high
        (95% interval of the change), lost and won (samples that became wrong, or right).
    flips: "lost" and "won", lists of {sample, truth, before, after}, and their complete counts.
    origins: rows of {name, licence, source}, of all weights in the new version.
    texts: of language models, rows of {prompt, before, after}: what each wrote.
    classes: "before" and "after", the classes of both versions; {} in a receipt of release 0.1.0, and of a fleet.
    precision: "before" and "after", the number formats of the weights in their files; {} in receipts of 0.1.0.
    candidate: why the result did not become current by itself.
    cases: of the must-keep cases n, right (before), broken and mended (lists as of flips); {} without any.
    """

    title: str
    plan: Mapping[str, Any]
    dataset: Mapping[str, Any]
    table: Sequence[Mapping[str, Any]]
    flips: Mapping[str, Any]
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    neurons: Mapping[str, int]
    seconds: float
    made: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    software: Mapping[str, str] = field(default_factory=lambda: software())
    lineage: Sequence[str] = ()
    origins: Sequence[Mapping[str, str]] = ()
    cases: Mapping[str, Any] = field(default_factory=dict)
    texts: Sequence[Mapping[str, str]] = ()
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    candidate: Sequence[str] = ()
    precision: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        plan: Mapping[str, Any],
        title: str,
        outcome: Outcome,
        measurement: Measurement,
        data: Dataset,
        seconds: float,
        *,
        classes: Mapping[str, Sequence[str]],
    ) -> Receipt:
        """Assemble the receipt of an outcome from one measurement with the models "before" and "after"."""
        from surgery.measure import compare, measured_intervals

        return cls(
            title=title,
            plan=dict(plan),
            dataset={"digest": data.digest, "task": data.task, "classes": list(measurement.classes)},
            table=measured_intervals(rows(compare(measurement, "before", "after")), measurement, data),
            flips=flips(measurement, data),
            tables={name: rows(table) for name, table in outcome.tables.items()},
            neurons={} if outcome.kept is None else {"after": len(outcome.kept)},
            seconds=round(seconds, 3),
            lineage=list(plan.get("inputs", ())),
            origins=[asdict(origin) for origin in outcome.models[0].origins] if outcome.models else [],
            classes=classes,
        )

    @classmethod
    def of_fleet(
        cls, plan: Mapping[str, Any], title: str, outcome: Outcome, table: Any, data: Dataset, seconds: float
    ) -> Receipt:
        """The receipt of models that share; table: what `measure_fleet` gave."""
        origins = dict.fromkeys(origin for model in outcome.models for origin in model.origins)
        return cls(
            title=title,
            plan=dict(plan),
            dataset={"digest": data.digest, "task": data.task, "classes": list(data.classes)},
            table=rows(table),
            flips={"lost": [], "won": [], "lost_count": 0, "won_count": 0},
            tables={name: rows(found) for name, found in outcome.tables.items()},
            neurons={},
            seconds=round(seconds, 3),
            lineage=list(plan.get("inputs", ())),
            origins=[asdict(origin) for origin in origins],
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dict."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Receipt:
        """The receipt that `to_json` wrote, here or in release 0.1.0, which noted no intervals."""
        return cls(**{**value, "table": [_with_flips(row, value) for row in value["table"]]})

    @property
    def breaks(self) -> bool:
        """Whether more must-keep cases are broken than the plan allows."""
        allowed = int(self.plan.get("preserve", {}).get("may_break", 0))
        return len(self.cases.get("broken", ())) > allowed

    def row(self, metric: str, scope: str = "overall") -> Mapping[str, Any] | None:
        """One row of the table."""
        return next((r for r in self.table if r["metric"] == metric and r["scope"] == scope), None)


def rows(table: Any) -> list[dict[str, Any]]:
    """A DataFrame as JSON-able rows; NaN becomes None."""
    return json.loads(table.to_json(orient="records", double_precision=12))  # type: ignore[no-any-return]


def _with_flips(row: Mapping[str, Any], value: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row with the interval that the flipped samples of its receipt allow, where it has none of its own."""
    from surgery.measure.interval import paired

    if "lost" in row or row["metric"] not in ("accuracy", "agreement") or not row["n"] or row["before"] is None:
        return row
    counts = _flips_of(row["scope"], value)
    if counts is None or (row["metric"] == "agreement" and row["scope"] != "overall"):
        return row
    lost, won = counts
    low, high = paired(lost, won, row["n"])
    return {**row, "lost": lost, "won": won, **({"low": low, "high": high} if row["metric"] == "accuracy" else {})}


def _flips_of(scope: str, value: Mapping[str, Any]) -> tuple[int, int] | None:
    """How many samples of all, or of one class, became wrong and right; None where the receipt does not know."""
    flips, classes = value["flips"], list(value["dataset"].get("classes") or ())
    accuracy = any(row["metric"] == "accuracy" and row["before"] is not None for row in value["table"])
    if value["dataset"].get("task") != "classification" or not accuracy or "shares" in value["tables"]:
        return None
    if scope == "overall":
        return flips["lost_count"], flips["won_count"]
    if scope not in classes or any(len(flips[side]) < flips[f"{side}_count"] for side in ("lost", "won")):
        return None
    own = classes.index(scope)
    lost, won = (sum(flip["truth"] == own for flip in flips[side]) for side in ("lost", "won"))
    return lost, won


def software() -> dict[str, str]:
    """Versions that a number depends on."""
    names = ("model-surgery", "torch", "torchvision", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def flips(measurement: Measurement, data: Dataset) -> dict[str, Any]:
    """The samples whose prediction became wrong ("lost") or right ("won"); where there are too many, of every class."""
    from surgery.data.splits import spread

    if data.task != "classification" or measurement.truth is None or "before" not in measurement.predictions:
        return {"lost": [], "won": [], "lost_count": 0, "won_count": 0}
    before, after = measurement.predictions["before"], measurement.predictions["after"]
    truth, ids = measurement.truth, measurement.ids
    found: dict[str, Any] = {}
    for name, hit in (("lost", (before == truth) & (after != truth)), ("won", (before != truth) & (after == truth))):
        places = hit.nonzero()[0]
        found[f"{name}_count"] = len(places)
        found[name] = [
            {"sample": int(ids[i]), "truth": int(truth[i]), "before": int(before[i]), "after": int(after[i])}
            for i in places[sorted(spread(truth[places], FLIPS, 0, even=True))]
        ]
    return found


def by_turns(flips: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """At most `most` flipped samples, the classes taking turns, so that none fills the page."""
    turn: defaultdict[int, count[int]] = defaultdict(count)
    return sorted(flips, key=lambda flip: next(turn[flip["truth"]]))[:most]


def named_origin(origin: Mapping[str, str]) -> str:
    """`resnet18, licence BSD-3-Clause, from https://…`."""
    licence = f"licence {origin['licence']}" if origin["licence"] else "licence not said"
    source = [f"from {origin['source']}"] if origin["source"] else []
    file = [f"file {origin['file']}"] if origin.get("file") else []
    return ", ".join([origin["name"], licence, *source, *file])


def answers(flip: Mapping[str, Any], classes: Sequence[str]) -> str:
    """`3 → 8`: the class predicted before and after, "–" for one that is not compared; of a text its losses."""
    if "losses" in flip:
        return " → ".join(f"{loss:.2f}" for loss in flip["losses"]) + " nats"
    return " → ".join(classes[flip[side]] if flip[side] >= 0 else "–" for side in ("before", "after"))
