"""What was done, with what, and what it changed: the before/after table, the plan, the flipped samples, how to undo.

A receipt is JSON in the workspace and one self-contained HTML file for everybody else.
"""

from __future__ import annotations

import base64
import html
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

BITS = 0.8  # of the share of parameters: with less than that share of the bytes, weights have fewer bits
FLIPS = 200  # samples listed per direction; the counts are always complete


@dataclass(frozen=True)
class Receipt:
    """The record of one surgery; every field is JSON.

    table: rows of (metric, scope, before, after, change, unit, better, split, n).
    flips: "lost" and "won", lists of {sample, truth, before, after}, and their complete counts.
    origins: rows of {name, licence, source}, of all weights in the new version.
    texts: of language models, rows of {prompt, before, after}: what each wrote.
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

    @classmethod
    def make(
        cls,
        plan: Mapping[str, Any],
        title: str,
        outcome: Outcome,
        measurement: Measurement,
        data: Dataset,
        seconds: float,
    ) -> Receipt:
        """Assemble the receipt of an outcome from one measurement with the models "before" and "after"."""
        from surgery.measure import compare

        return cls(
            title=title,
            plan=dict(plan),
            dataset={"digest": data.digest, "task": data.task, "classes": list(measurement.classes)},
            table=rows(compare(measurement, "before", "after")),
            flips=flips(measurement, data),
            tables={name: rows(table) for name, table in outcome.tables.items()},
            neurons={} if outcome.kept is None else {"after": len(outcome.kept)},
            seconds=round(seconds, 3),
            lineage=list(plan.get("inputs", ())),
            origins=[asdict(origin) for origin in outcome.models[0].origins] if outcome.models else [],
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
        """The receipt that `to_json` wrote."""
        return cls(**value)

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


def to_html(receipt: Receipt, *, name: str, parent: str, data: Dataset | None = None) -> str:
    """One self-contained page that prints well: the decision first, then table, flipped samples, method, lineage.

    `data` gives the pictures of the flipped samples; without it their numbers are listed.
    """
    cells = "".join(_table_row(row) for row in receipt.table)
    losing = losing_class(receipt.table)
    facts = {
        "Made": receipt.made,
        "From": parent,
        "Took": f"{receipt.seconds:.1f} s",
        "Dataset": str(receipt.dataset["digest"]),
        "Software": ", ".join(f"{k} {v}" for k, v in receipt.software.items()),
        **({"Weights": "; ".join(map(named_origin, receipt.origins))} if receipt.origins else {}),
        "Undo": f"make {parent} current again; it was not changed",
    }
    return _PAGE.format(
        title=html.escape(f"{receipt.title}: {name}"),
        sentence=html.escape(sentence(receipt.table)),
        losing=html.escape(losing),
        rows=cells,
        texts=_texts(receipt),
        cases=_cases(receipt, data),
        lost=_flipped("Right before, wrong after", receipt, "lost", data),
        won=_flipped("Wrong before, right after", receipt, "won", data),
        facts="".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in facts.items()),
        plan=html.escape(json.dumps(dict(receipt.plan), indent=1)),
    )


def named_origin(origin: Mapping[str, str]) -> str:
    """`resnet18, licence BSD-3-Clause, from https://…`."""
    licence = f"licence {origin['licence']}" if origin["licence"] else "licence not said"
    return ", ".join([origin["name"], licence, *([f"from {origin['source']}"] if origin["source"] else [])])


def sentence(table: Sequence[Mapping[str, Any]]) -> str:
    """The outcome in one line, every number measured: quality, size, speed, each with what it was measured on."""
    found = {(row["metric"], row["scope"]): row for row in table}
    parts = []
    if row := found.get(("loss", "overall")):
        old = "" if row["before"] is None else f"{row['before']:.3f} → "
        parts.append(f"Loss {old}{row['after']:.3f} nats per character on {row['n']:,} {row['split']} windows")
    elif row := found.get(("accuracy", "overall")):
        old = "" if row["before"] is None else f"{100 * row['before']:.1f} → "
        parts.append(f"Accuracy {old}{100 * row['after']:.1f} % on {row['n']:,} {row['split']} samples")
    if row := found.get(("r2", "overall")):
        parts.append(f"R² {row['before']:.3f} → {row['after']:.3f} on {row['n']:,} {row['split']} samples")
    if row := found.get(("new accuracy", "overall")):
        old = "" if row["before"] is None else f"{100 * row['before']:.1f} → "
        parts.append(f"new data {old}{100 * row['after']:.1f} % on {row['n']:,} {row['split']} samples")
    if row := found.get(("weights in memory", "overall")):
        parts.append(f"weights in memory {row['before'] / 1e6:.3g} → {row['after'] / 1e6:.3g} MB")
        agreed = [one for (metric, scope), one in found.items() if metric == "agreement" and scope != "overall"]
        parts.append(f"every model agrees with itself on {100 * min(one['after'] for one in agreed):.1f} % or more")
    elif (row := found.get(("parameters", "overall"))) and row["before"]:
        parts.append(_size(row["after"] / row["before"]))
        size = found.get(("bytes", "overall"))
        if size and size["before"] and size["after"] / size["before"] < BITS * row["after"] / row["before"]:
            parts.append(f"{100 * size['after'] / size['before']:.1f} % of the bytes")
    row = found.get(("latency", "batch 32"))
    if row and row["after"] and abs(row["change"]) > noise(table, row):
        factor = row["before"] / row["after"]
        parts.append(f"{factor:.1f}× the speed at batch 32 on this machine")
    return ", ".join(parts)


def _size(factor: float) -> str:
    """How many parameters there are after a surgery, as a share of those before."""
    if factor >= 1.5:
        return f"{factor:.1f} × the parameters"
    if factor > 1:
        return f"{100 * (factor - 1):.0f} % more parameters"
    return f"{100 * (1 - factor):.0f} % fewer parameters" if factor < 1 else "as many parameters"


def noise(table: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> float:
    """The larger interquartile range of a time before and after: a smaller difference is none."""
    spread = (r for r in table if r["metric"] == f"{row['metric']} IQR" and r["scope"] == row["scope"])
    return max((max(r["before"] or 0.0, r["after"] or 0.0) for r in spread), default=0.0)


def losing_class(table: Sequence[Mapping[str, Any]]) -> str:
    """Name the class that loses most."""
    found = [r for r in table if r["metric"] == "accuracy" and r["scope"] != "overall" and r["change"] is not None]
    worst = min(found, key=lambda row: row["change"], default=None)
    if worst is None or worst["change"] >= 0:
        return "No class lost." if found else ""
    return f"Class {worst['scope']} loses most: {100 * worst['change']:+.1f} points (n = {worst['n']})."


def _number(value: Any, unit: str) -> str:
    if value is None:
        return "–"
    if unit == "fraction":
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _table_row(row: Mapping[str, Any]) -> str:
    change = row["change"]
    better = row["better"]
    good = "" if not change or not better else ("good" if (change > 0) == (better == "higher") else "bad")
    mark = {"good": "▲ better", "bad": "▼ worse", "": ""}[good]
    texts = [row["metric"], row["scope"], *(_number(row[k], row["unit"]) for k in ("before", "after"))]
    cells = "".join(f"<td>{html.escape(str(text))}</td>" for text in texts)
    where = html.escape(f"{row['split'] or ''} {'n = ' + str(row['n']) if row['n'] else ''}".strip())
    unit = "points" if row["unit"] == "fraction" else row["unit"]
    scale = 100 if row["unit"] == "fraction" else 1
    shown = "" if change is None else f"{scale * change:+,.3g} {unit}"
    return f'<tr>{cells}<td class="{good}">{html.escape(shown)} {mark}</td><td>{where}</td></tr>'


def said_of_cases(cases: Mapping[str, Any]) -> str:
    """`0 of 48 must-keep cases broken, 1 mended (50 in all)`."""
    broken, mended = len(cases["broken"]), len(cases["mended"])
    return f"{broken} of {cases['right']} must-keep cases broken, {mended} mended ({cases['n']} in all)"


def _cases(receipt: Receipt, data: Dataset | None) -> str:
    if not receipt.cases:
        return ""
    figures = _figures(receipt.cases["broken"], receipt, data)
    return f"<h2>{html.escape(said_of_cases(receipt.cases))}</h2><div class=grid>{figures}</div>"


def _texts(receipt: Receipt) -> str:
    if not receipt.texts:
        return ""
    sides = ("prompt", "before", "after")
    rows = [
        "".join(f"<td><pre class=window>{html.escape(row[side])}</pre></td>" for side in sides) for row in receipt.texts
    ]
    head = "<tr><th>Beginning</th><th>Written before</th><th>Written after</th></tr>"
    return f"<h2>What it writes</h2><table>{head}{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _flipped(title: str, receipt: Receipt, key: str, data: Dataset | None) -> str:
    total = receipt.flips.get(f"{key}_count", 0)
    figures = _figures(by_turns(receipt.flips.get(key, ()), 24), receipt, data)
    return f"<h2>{title}: {total:,}</h2><div class=grid>{figures}</div>"


def _figures(flips: Sequence[Mapping[str, Any]], receipt: Receipt, data: Dataset | None) -> str:
    classes = receipt.dataset["classes"]
    figures = []
    for flip in flips:
        text = f"{classes[flip['truth']]}: {classes[flip['before']]} → {classes[flip['after']]}"
        if "losses" in flip:
            text = " → ".join(f"{loss:.2f}" for loss in flip["losses"]) + " nats per character"
        picture = ""
        if data is not None and data.kind == "text":
            picture = f"<pre class=window>{html.escape(''.join(data.text(flip['sample'])))}</pre>"
        if data is not None and data.kind == "images":
            code = base64.b64encode(data.picture(flip["sample"])).decode()
            picture = f'<img alt="sample {flip["sample"]}" src="data:image/png;base64,{code}">'
        figures.append(f"<figure>{picture}<figcaption>#{flip['sample']} {html.escape(text)}</figcaption></figure>")
    return "".join(figures)


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>
body{{font:14px/1.45 system-ui,sans-serif;color:#1c2126;max-width:60rem;margin:2rem auto;padding:0 1rem}}
h1{{font-size:1.4rem}} h2{{font-size:1.05rem;margin-top:2rem}} .lead{{font-size:1.1rem}}
table{{border-collapse:collapse;width:100%}}
td,th{{text-align:left;padding:.2rem .6rem;border-bottom:1px solid #d8dde2}}
td:nth-child(n+3){{font-variant-numeric:tabular-nums}} .good{{color:#0b6e4f}} .bad{{color:#a63d00}}
.grid{{display:flex;flex-wrap:wrap;gap:.6rem}} figure{{margin:0;width:7rem}}
img{{width:100%;image-rendering:pixelated}} figcaption{{font-size:.75rem}}
figure:has(.window){{width:28rem}} .window{{white-space:pre-wrap;margin:0}}
dt{{font-weight:600}} dd{{margin:0 0 .4rem}} pre{{background:#f3f5f7;padding:.8rem;overflow:auto}}
@media print{{body{{margin:0}} pre{{white-space:pre-wrap}}}}</style>
<h1>{title}</h1><p class="lead">{sentence}</p><p>{losing}</p>
<h2>Before and after</h2>
<table><tr><th>Metric</th><th>Scope</th><th>Before</th><th>After</th><th>Change</th><th>Measured on</th></tr>
{rows}</table>{texts}{cases}{lost}{won}<h2>How it was made</h2><dl>{facts}</dl><h2>Plan</h2><pre>{plan}</pre></html>
"""
