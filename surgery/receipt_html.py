"""A receipt as one self-contained HTML page that prints well, for everybody who does not have the app."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from surgery import change
from surgery.receipt import Receipt, answers, by_turns, named_origin
from surgery.tell import preserved, tell

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset

MOST_FLIPS = 24  # pictures in each direction


def to_html(receipt: Receipt, *, name: str, parent: str, data: Dataset | None = None) -> str:
    """One self-contained page that prints well: the decision first, then table, flipped samples, method, lineage.

    `data` gives the pictures of the flipped samples; without it their numbers are listed.
    """
    told = tell(receipt)
    before, after = (receipt.precision.get(side, "") for side in ("before", "after"))
    facts = {
        "Made": receipt.made,
        "From": parent,
        "Took": f"{receipt.seconds:.1f} s",
        "Dataset": str(receipt.dataset["digest"]),
        **({"Stored as": f"{before} before, {after} after; computed in float32"} if after else {}),
        "Software": ", ".join(f"{k} {v}" for k, v in receipt.software.items()),
        **({"Weights": "; ".join(map(named_origin, receipt.origins))} if receipt.origins else {}),
        "Undo": f"make {parent} current again; it was not changed",
    }
    return _PAGE.format(
        title=html.escape(f"{receipt.title}: {name}"),
        removed=_removed(told.removed) + _candidate(receipt),
        headline=html.escape(told.headline),
        worst_class=html.escape(told.worst_class),
        verdict=told.verdict,
        rows="".join(_table_row(row) for row in change.joined(receipt.table)),
        texts=_texts(receipt),
        cases=_cases(receipt, data),
        lost=_flipped("Regressions (correct → wrong)", receipt, "lost", data),
        won=_flipped("Fixes (wrong → correct)", receipt, "won", data),
        facts="".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in facts.items()),
        plan=html.escape(json.dumps(dict(receipt.plan), indent=1)),
    )


def _removed(said: str) -> str:
    return f'<p class="worse lead">{html.escape(said)}</p>' if said else ""


def _candidate(receipt: Receipt) -> str:
    """Why the result did not become current by itself."""
    if not receipt.candidate:
        return ""
    return f'<p class="worse">Committed as a candidate: {html.escape("; ".join(receipt.candidate))}</p>'


def _table_row(row: change.Row) -> str:
    judged = change.verdict(row)
    texts = [change.title(row), change.value(row, "before"), change.value(row, "after")]
    cells = "".join(f"<td>{html.escape(text)}</td>" for text in texts)
    said, where = html.escape(change.worded(row)), html.escape(change.measured_on(row))
    return f'<tr>{cells}<td class="{judged}">{said}</td><td>{where}</td></tr>'


def _cases(receipt: Receipt, data: Dataset | None) -> str:
    if not receipt.cases:
        return ""
    figures = _figures(receipt.cases["broken"], receipt, data)
    return f"<h2>{html.escape(preserved(receipt.cases))}</h2><div class=grid>{figures}</div>"


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
    figures = _figures(by_turns(receipt.flips.get(key, ()), MOST_FLIPS), receipt, data)
    return f"<h2>{title}: {total:,}</h2><div class=grid>{figures}</div>"


def _figures(flips: Sequence[Mapping[str, Any]], receipt: Receipt, data: Dataset | None) -> str:
    classes = receipt.dataset["classes"]
    figures = []
    for flip in flips:
        text = answers(flip, classes)
        text = f"{text} per character" if "losses" in flip else f"{classes[flip['truth']]}: {text}"
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
td:nth-child(n+2){{font-variant-numeric:tabular-nums}} .better{{color:#0072b2}} .worse{{color:#c05a00}}
.grid{{display:flex;flex-wrap:wrap;gap:.6rem}} figure{{margin:0;width:7rem}}
img{{width:100%;image-rendering:pixelated}} figcaption{{font-size:.75rem}}
figure:has(.window){{width:28rem}} .window{{white-space:pre-wrap;margin:0}}
dt{{font-weight:600}} dd{{margin:0 0 .4rem}} pre{{background:#f3f5f7;padding:.8rem;overflow:auto}}
@media print{{body{{margin:0}} pre{{white-space:pre-wrap}}}}</style>
<h1>{title}</h1>{removed}<p class="lead">{headline}</p><p class="{verdict}">{worst_class}</p>
<h2>Before and after</h2>
<table><tr><th>Metric</th><th>Before</th><th>After</th><th>Change</th><th>Measured on</th></tr>
{rows}</table>{texts}{cases}{lost}{won}<h2>How it was made</h2><dl>{facts}</dl><h2>Plan</h2><pre>{plan}</pre></html>
"""
