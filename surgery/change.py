"""One change in words: the value before and after, the difference with its 95% interval, and whether it is one.

Pages, receipts, the command line and Home all take their words from here. A row is one of a receipt's table:
metric, scope, before, after, change, unit, better, split, n; where both sides answered the same samples also low and
high (the interval of the change), lost and won (samples that became wrong, or right).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from surgery import units
from surgery.messages import _, plural

Row = Mapping[str, Any]
Table = Sequence[Row]
Verdict = Literal["better", "worse", "same", ""]

COSTS = ("parameters", "bytes", "MACs", "latency", "weights in memory", "memory of the process")  # told in percent
DECIMALS = {"r2": 3, "new r2": 3, "loss": 3, "new loss": 3}  # of both sides and their difference, as many for a change
_LEARNED = ("accuracy", "r2", "mse", "loss", "perplexity")  # higher, or lower, on samples that a model has learned
SPREAD = "latency IQR"  # rows that belong to the latency of the same scope


def names() -> dict[str, str]:
    """What a metric is called."""
    return {
        "accuracy": _("Accuracy"),
        "r2": _("R²"),
        "mse": _("Mean squared error"),
        "new accuracy": _("Accuracy on new data"),
        "accuracy, task known": _("Accuracy of the old slice alone"),
        "new accuracy, task known": _("Accuracy on new data, among its new classes"),
        "new r2": _("R² on new data"),
        "new mse": _("Mean squared error on new data"),
        "agreement": _("Prediction agreement"),
        "parameters": _("Parameters"),
        "bytes": _("Size of the weights"),
        "MACs": _("MACs per sample"),
        "precision": _("Bits per parameter"),
        "latency": _("Latency"),
        "weights in memory": _("Weights in memory"),
        "memory of the process": _("Memory of the process"),
        "must-keep cases": _("Preservation set"),
        "loss": _("Loss per character"),
        "perplexity": _("Perplexity"),
        "new loss": _("Loss per character on new data"),
        "new perplexity": _("Perplexity on new data"),
    }


def splits() -> dict[str, str]:
    """What a role of samples is called."""
    return {"val": _("validation"), "preserve": _("preservation set")}


def joined(table: Table) -> list[dict[str, Any]]:
    """The rows without those of a spread; a latency carries its own as spread: (before, after), in ms."""
    spread = {row["scope"]: (row["before"], row["after"]) for row in table if row["metric"] == SPREAD}
    return [
        {**row, "spread": spread[row["scope"]]} if row["metric"] == "latency" and row["scope"] in spread else dict(row)
        for row in table
        if row["metric"] != SPREAD
    ]


def between(rows: Table, first: str, other: str) -> list[dict[str, Any]]:
    """Rows of a before/after table from what was measured of each model: (metric, model, scope, value, …).

    Only of what both models have; low, high, lost and won are those of the other model's rows.
    """
    found = {(row["model"], row["metric"], row["scope"]): row for row in rows}
    table = []
    for (model, metric, scope), row in found.items():
        old = found.get((first, metric, scope))
        if model == other and old is not None:
            known = None not in (old["value"], row["value"])
            sides = {"before": old["value"], "after": row["value"]}
            table.append({**row, **sides, "change": row["value"] - old["value"] if known else None})
    return joined(table)


def title(row: Row) -> str:
    """`Accuracy`, `Latency · batch 32`."""
    if (row["metric"], row["scope"]) == ("agreement", "original"):
        return _("Prediction agreement with the baseline version")
    name = names().get(row["metric"], str(row["metric"]))
    return name if row["scope"] in ("overall", "") else f"{name} · {row['scope']}"


def value(row: Row, side: Literal["before", "after"]) -> str:
    """One side with its unit: `97.0%`, `1.24 MB`, `0.412 ms (IQR 0.020)`."""
    number = row[side]
    if row["metric"] in ("parameters", "MACs"):
        return units.amount(number)
    if row["unit"] == "fraction":
        return units.percent(number)
    if row["unit"] == "bytes":
        return units.size(number)
    places = DECIMALS.get(row["metric"])
    shown = units.digits(number) if number is None or places is None else units.decimals(number, places)
    text = f"{shown} {row['unit']}".strip()
    spread = (row.get("spread") or (None, None))[0 if side == "before" else 1]
    return text if number is None or spread is None else f"{text} (IQR {units.digits(spread)})"


def measured_on(row: Row) -> str:
    """`validation, n = 360 · model was trained on this data`, or where it was timed or counted."""
    if row["metric"] == "latency":
        return _("{where}, {n} passes").format(where=row["split"], n=row["n"])
    split = str(splits().get(row["split"], row["split"]) or "")
    count = f"n = {row['n']:,}" if row["n"] else ""
    where = ", ".join(part for part in (split, count) if part)
    return f"{where} · {seen(row['trained_on'])}" if row.get("trained_on") else where


def seen(answer: str) -> str:
    """Whether the model was trained on the data, in words; answer: one of `workspace.settings.TrainedOn`."""
    return {
        "yes": _("model was trained on this data"),
        "part": _("model was trained on part of this data"),
        "no": _("model was not trained on this data"),
        "train": _("model was trained on the training split only"),
    }.get(answer, _("unknown whether the model was trained on this data"))


def seeing(table: Table, answer: str) -> list[dict[str, Any]]:
    """The rows, of which those of quality overall say whether the model was trained on the data."""
    told = {"trained_on": answer}
    return [{**row, **(told if row["metric"] in _LEARNED and row["scope"] == "overall" else {})} for row in table]


def verdict(row: Row) -> Verdict:
    """Judge a change: "same" is one that chance or the spread of a time explains, "" one that cannot be judged."""
    if row["change"] is None or row["better"] not in ("higher", "lower") or _told_by_accuracy(row):
        return ""
    if row["change"] and row["metric"] not in COSTS and row["unit"] != "fraction" and row.get("low") is None:
        return ""  # how sure it is, is not known
    if not row["change"] or _within(row):
        return "same"
    return "better" if (row["change"] > 0) == (row["better"] == "higher") else "worse"


def change(row: Row) -> str:
    """The change without a judgment: `−4.8 pp`, `−58.0%`, `38 predictions changed, all of them fixes`."""
    if row["change"] is None:
        return "–"
    if _is_agreement(row):
        return _flips(row)
    if row["unit"] == "fraction":
        return units.points(row["change"])
    if row["metric"] in COSTS and row["before"]:
        return f"{units.signed(100 * row['change'] / row['before'])}%"
    return _difference(row, row["change"])


def interval(row: Row) -> str:
    """`95% CI −7.6 to −2.0`, in the unit of the change; "" where none was measured."""
    if row.get("low") is None or row.get("high") is None:
        return ""
    low, high = (_difference(row, row[side]) for side in ("low", "high"))
    return _("95% CI {low} to {high}").format(low=low, high=high)


def worded(row: Row) -> str:
    """The whole change: `−4.8 pp (95% CI −7.6 to −2.0), worse`, `no measurable difference`."""
    if row["change"] is None:
        return "–"
    judged = verdict(row)
    if row["metric"] == "latency" and judged == "same":
        return _("no measurable difference")
    text, between = change(row), interval(row)
    text = f"{text} ({between})" if between else text
    if not row["change"] and not row.get("lost"):
        return _("no change")
    said = {"better": _("better"), "worse": _("worse"), "same": _("no significant difference"), "": ""}[judged]
    return f"{text}, {said}" if said else text


def worst_class(table: Table) -> tuple[str, Verdict]:
    """Name the class that loses most, and say whether that is significant; ("", "") where there are no classes."""
    rows = [row for row in table if row["metric"] == "accuracy" and row["scope"] != "overall"]
    rows = [row for row in rows if row["change"] is not None]
    if not rows:
        return "", ""
    falling = [row for row in rows if row["change"] < 0]
    if not falling:
        return _("No class lost accuracy."), "same"
    significant = [row for row in falling if verdict(row) == "worse"]
    worst = min(significant or falling, key=lambda row: row["change"])
    facts = ", ".join(part for part in (change(worst), interval(worst), f"n = {worst['n']:,}") if part)
    said = (
        _("Largest drop: class {name}, {facts}.")
        if significant
        else _("No class lost accuracy significantly (largest drop: class {name}, {facts}).")
    )
    return said.format(name=worst["scope"], facts=facts), "worse" if significant else "same"


def _difference(row: Row, value: float) -> str:
    """A difference in the unit of the row, without its name."""
    if row["unit"] == "fraction":
        return units.signed(100 * value)
    places = DECIMALS.get(row["metric"])
    return units.signed_digits(value) if places is None else units.signed(value, places)


def _within(row: Row) -> bool:
    """Whether chance, or for a time its spread, explains the change."""
    if row["metric"] == "latency":
        noise = max((part or 0.0 for part in row.get("spread") or ()), default=0.0)
        return bool(abs(row["change"]) <= noise)
    if row.get("low") is not None:
        return bool(row["low"] <= 0 <= row["high"])
    if row["unit"] != "fraction" or not row["n"]:
        return False
    from surgery.measure.interval import paired

    flips = round(abs(row["change"]) * row["n"])  # at least; the narrowest interval is that of flips to one side only
    return paired(0, flips, row["n"])[0] <= 0


def _is_agreement(row: Row) -> bool:
    return row["metric"].startswith("agreement") and row["before"] == 1.0 and bool(row["n"])


def _told_by_accuracy(row: Row) -> bool:
    """Whether a fall of agreement says nothing of good or bad, because it is known which of the flips are fixes."""
    return row["metric"].startswith("agreement") and row.get("won") is not None


def _flips(row: Row) -> str:
    """`38 predictions changed: 30 fixes, 6 regressions`; the others were wrong before and after."""
    changed = round(-row["change"] * row["n"])
    if not changed:
        return _("no change")
    text = plural("{count} prediction changed", "{count} predictions changed", changed)
    lost, won = row.get("lost"), row.get("won")
    if lost is None or won is None:
        return text
    if changed in (lost, won):
        only = _("all of them fixes") if won == changed else _("all of them regressions")
        return f"{text}, {only}" if changed > 1 else f"{text}, {_('a fix') if won else _('a regression')}"
    fixes = plural("{count} fix", "{count} fixes", won)
    regressions = plural("{count} regression", "{count} regressions", lost)
    return _("{changed}: {fixes}, {regressions}").format(changed=text, fixes=fixes, regressions=regressions)
