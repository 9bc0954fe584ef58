"""All versions of a project that were measured on one dataset: quality over bytes, and which ones no other beats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from surgery import change, charts
from surgery.ui import format
from surgery.ui.messages import _
from surgery.ui.panels import plain
from surgery.ui.state import View
from surgery.workspace import Version

METRICS = ("loss", "accuracy", "r2")  # what quality is, the first that was measured
Row = Mapping[str, Any]


def draw(view: View) -> None:
    """Draw them, when there are at least two."""
    if view.project is None or view.dataset is None:
        return
    versions, receipts = _receipts(view)
    points, metric = measured(versions, receipts, view.dataset.digest)
    if len(points) < 2:
        return
    higher, percent = metric != "loss", metric == "accuracy"
    points["best"] = unbeaten(points, higher=higher)
    points["quality"] *= 100 if percent else 1
    title = _("Size and quality of all measured versions")
    figure = charts.size_and_quality(
        points,
        title=title,
        unit="%" if percent else ("nats" if metric == "loss" else "R²"),
        higher=higher,
        best=_("Pareto front"),
        dark=st.context.theme.type == "dark",
    )
    st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="all_versions", alt=title)
    names = ", ".join(points.loc[points["best"]].sort_values("kilobytes")["name"])
    st.caption(
        _("{metric} on {n} {split} samples of {data}, each as its receipt measured it. Pareto front: {names}.").format(
            metric=change.names().get(metric, metric),
            n=f"{int(points['n'].iloc[0]):,}",
            split=points["split"].iloc[0],
            data=plain(view.dataset.name),
            names=names,
        )
    )


@dataclass(frozen=True)
class Quality:
    """What a column of the versions' quality is called, and its text by version.

    Those that were measured on other samples than most, for instance of fewer classes, say on which.
    """

    heading: str
    texts: Mapping[str, str]


def known(view: View) -> Quality | None:
    """The quality of all versions that were measured on the dataset on view; None where none was."""
    if view.dataset is None:
        return None
    versions, receipts = _receipts(view)
    points, metric = measured(versions, receipts, view.dataset.digest)
    if points.empty:
        return None
    show = format.percent if metric == "accuracy" else format.digits
    texts = {
        id: f"{show(row['after'])} ({change.measured_on(row)})"
        for id, found in receipts.items()
        if found.get("dataset", {}).get("digest") == view.dataset.digest and (row := _row(found, metric))
    }
    texts |= {row["version"]: show(row["quality"]) for row in points.to_dict("records")}
    on = change.measured_on({"metric": metric, "split": points["split"].iloc[0], "n": int(points["n"].iloc[0])})
    return Quality(f"{change.names().get(metric, metric)} ({on})", texts)


def _receipts(view: View) -> tuple[list[Version], dict[str, Mapping[str, Any]]]:
    """The usable versions of the project on view, and the receipts of those that a surgery made."""
    if view.project is None:
        return [], {}
    versions = [one for one in view.workspace.versions(view.project.id) if one.state == "ready"]
    return versions, {one.id: found for one in versions if (found := view.workspace.receipt(one.id))}


def measured(
    versions: Sequence[Version], receipts: Mapping[str, Mapping[str, Any]], digest: str
) -> tuple[pd.DataFrame, str]:
    """Columns version, name, kind, kilobytes, quality, split, n of all whose receipt is about the data; and the metric.

    A version without a receipt (an imported one) is measured by the receipts of those made from it.
    """
    own = {id: found for id, found in receipts.items() if found.get("dataset", {}).get("digest") == digest}
    kinds = Counter(_asked(found) for found in own.values())
    usual = kinds.most_common(1)[0][0] if kinds else ()
    own = {id: found for id, found in own.items() if _asked(found) == usual}  # not of fewer classes, or samples
    metric = next((name for name in METRICS if any(_row(one, name) for one in own.values())), "")
    rows: dict[str, dict[str, Any]] = {}
    for version in versions:
        side, found = "after", own.get(version.id)
        if found is None:
            children = (own[one.id] for one in versions if one.parent == version.id and one.id in own)
            side, found = "before", next(children, None)
        quality, size = (_row(found, name) if found else None for name in (metric, "bytes"))
        if quality and size and quality[side] is not None and size[side]:
            rows[version.id] = {
                "version": version.id,
                "name": f"v{version.number}",
                "kind": version.operation or _("imported"),
                "kilobytes": size[side] / 1000,
                "quality": float(quality[side]),
                "split": quality["split"],
                "n": quality["n"],
            }
    columns = ["version", "name", "kind", "kilobytes", "quality", "split", "n"]
    return pd.DataFrame(list(rows.values()), columns=columns), metric


def unbeaten(points: pd.DataFrame, *, higher: bool) -> list[bool]:
    """Of each point, whether none is at least as small and as good, and better in one of both."""
    sign = 1 if higher else -1
    pairs = [(size, sign * value) for size, value in zip(points["kilobytes"], points["quality"], strict=True)]
    return [not any(other[0] <= own[0] and other[1] >= own[1] and other != own for other in pairs) for own in pairs]


def _asked(receipt: Mapping[str, Any]) -> tuple[Any, ...]:
    """What quality was asked on: the classes, and how many samples."""
    rows = (_row(receipt, metric) for metric in METRICS)
    return tuple(receipt["dataset"].get("classes", ())), next((row["n"] for row in rows if row), 0)


def _row(receipt: Mapping[str, Any], metric: str) -> Row | None:
    return next(
        (row for row in receipt.get("table", ()) if row["metric"] == metric and row.get("scope") == "overall"), None
    )
