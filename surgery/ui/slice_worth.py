"""What slices are worth, as measured by jobs: accuracy with only a slice kept, and scores at equal mask rate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd
import streamlit as st

from surgery import charts, jobs
from surgery.jobs import masks
from surgery.ui import format, panels, progress
from surgery.ui.messages import _
from surgery.ui.slicing import Cut, Sliced
from surgery.ui.state import View

Found = Mapping[str, Any]
PERCENT = ("accuracy", "agreement")  # metrics that are shares


def metrics() -> dict[str, str]:
    """What each metric is called."""
    return {
        "accuracy": _("accuracy"),
        "agreement": _("agreement with the whole model"),
        "error": _("mean absolute error"),
    }


def ways() -> dict[str, str]:
    """What each way to choose neurons is called."""
    return {
        "all": _("All layers ranked together"),
        "theta": _("By threshold (Θ)"),
        "global": _("Same share of each layer"),
        "class": _("Same share of each layer, per class"),
    }


def accuracy(view: View, sliced: Sliced, cut: Cut) -> None:
    """Every class with only its slice kept, and all classes with the union; or the job that measures it."""
    found = _measured(
        view,
        sliced,
        "slice_accuracy",
        asdict(cut),
        empty=_("How well does each class do with only its slice? One pass over the validation samples measures it."),
        label=_("Measure slices"),
        title=_("Accuracy of slices"),
    )
    if found is None:
        return
    *rows, union = found["rows"]
    metric = found["metric"]
    if union["masked"] == 0:
        st.markdown(
            _("Together the classes need every neuron at this threshold, so all slices kept are the whole model.")
        )
    else:
        _all_together(union, metric)
    st.dataframe(_table(rows, metric), hide_index=True, column_config=_bars(metric))
    st.caption(
        _(
            "{metric} on {split}, n = {n}; neurons silenced, nothing retrained. A class is measured on its own "
            "samples, so a slice that always answers its class would reach 100 %; the line above is on all samples."
        ).format(metric=metrics()[metric].capitalize(), split=found["split"], n=f"{union['n']:,}")
    )


def _all_together(union: Mapping[str, Any], metric: str) -> None:
    """What is left when only the union of all slices is kept, in two sentences."""
    st.markdown(
        _("**All slices together: {metric} {kept}** instead of {full}, with {masked} of the parameters masked.").format(
            metric=metrics()[metric],
            kept=_value(union["slice"], metric),
            full=_value(union["full"], metric),
            masked=format.percent(union["masked"]),
        )
        + " "
        + _("As many random neurons of every layer: {random}.").format(random=_value(union["random"], metric))
    )


def comparison(view: View, sliced: Sliced, names: Mapping[str, str]) -> None:
    """The scores at equal mask rate, one line each, beside random neurons; names: what each score is called."""
    found = _measured(
        view,
        sliced,
        "score_comparison",
        {},
        empty=_("Which score chooses best? Each masks 10, 20, 30 and 40 % of the parameters, and is measured."),
        label=_("Compare scores"),
        title=_("Scores at equal mask rate"),
    )
    if found is None:
        return
    metric = found["metric"]
    way = st.segmented_control(
        _("Neurons are chosen"),
        list(ways()),
        format_func=lambda name: ways()[name],
        default="all",
        required=True,
        key="way",
        bind="query-params",
        help=_(
            "By threshold is the slices' own rule; the same share of each layer, by the mean over classes or for each "
            "class, are the paper's baselines “global” and “category-wise”."
        ),
    )
    points, chance = _lines(found, str(way), names), _("Random neurons (mean of {seeds})").format(seeds=masks.SEEDS)
    on = f"{found['split']}, n = {found['n']:,}"
    figure = charts.quality_over_rate(
        pd.concat([points, _control(found, chance)]),
        title=_("What is left when neurons are masked, by the score that chose them"),
        unit=_unit(metric),
        full=_scaled(found["full"], metric) or 0.0,
        control=chance,
        note=on,
        dark=st.context.theme.type == "dark",
    )
    st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="scores_compared", alt=_("Lines of scores"))
    st.markdown(_best(found, names))
    st.caption(_("Measured on {on}; neurons outside give their mean, nothing is retrained.").format(on=on))
    table = pd.DataFrame(found["points"])
    st.download_button(
        _("Table as CSV"), table.to_csv(index=False), "scores.csv", "text/csv", icon=":material/download:"
    )


def _measured(
    view: View, sliced: Sliced, kind: str, asked: dict[str, Any], *, empty: str, label: str, title: str
) -> Found | None:
    """What a job measured; without it the job in place, or the button that starts one."""
    if view.version is None or view.dataset is None or view.project is None:
        return None
    file = masks.place(sliced.seen.folder, kind, asked)
    if file.exists():
        found: Found = json.loads(file.read_text("utf-8"))
        return found
    task = {"kind": kind, "version": view.version.id, "dataset": view.dataset.id, "params": {}, **asked}
    if progress.watch_latest(view.workspace, view.project.id, task):
        return None
    panels.empty(empty)
    if st.button(label, type="primary", icon=":material/speed:", key=f"start_{kind}"):
        named = f"{title} · v{view.version.number}"
        jobs.submit(view.workspace, task, project=view.project.id, title=named)
        st.rerun()
    return None


def _table(rows: list[dict[str, Any]], metric: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            _("class"): [row["class"] for row in rows],
            _("neurons"): [row["neurons"] for row in rows],
            _("% of parameters masked"): [round(100 * row["masked"], 1) for row in rows],
            _("whole model"): [_scaled(row["full"], metric) for row in rows],
            _("only its slice"): [_scaled(row["slice"], metric) for row in rows],
            _("as many random"): [_scaled(row["random"], metric) for row in rows],
            "n": [row["n"] for row in rows],
        }
    )


def _bars(metric: str) -> dict[str, Any]:
    """Shares as bars in the table."""
    if metric not in PERCENT:
        return {}
    columns = (_("whole model"), _("only its slice"), _("as many random"))
    return {
        name: st.column_config.ProgressColumn(format="%.0f %%", min_value=0.0, max_value=100.0, color="primary")
        for name in columns
    }


def _lines(found: Found, way: str, names: Mapping[str, str]) -> pd.DataFrame:
    """Columns line, masked, value of the scores by one way."""
    own = [point for point in found["points"] if point["way"] == way]
    return pd.DataFrame(
        {
            "line": [names[point["score"]] for point in own],
            "masked": [100 * point["masked"] for point in own],
            "value": [_scaled(point["value"], found["metric"]) for point in own],
        }
    )


def _control(found: Found, name: str) -> pd.DataFrame:
    """The mean over the control's seeds at every rate."""
    table = pd.DataFrame([point for point in found["points"] if point["way"] == masks.RANDOM])
    mean = table.groupby("rate")[["masked", "value"]].mean()
    factor = 100 if found["metric"] in PERCENT else 1
    return pd.DataFrame({"line": name, "masked": 100 * mean["masked"], "value": factor * mean["value"]})


def _best(found: Found, names: Mapping[str, str]) -> str:
    """One sentence: what chooses best at 30 %."""
    rate, metric = 0.3, found["metric"]
    own = [point for point in found["points"] if point["rate"] == rate and point["way"] != masks.RANDOM]
    pick = min if metric == "error" else max
    best = pick(own, key=lambda point: point["value"])
    chance = [point["value"] for point in found["points"] if point["rate"] == rate and point["way"] == masks.RANDOM]
    return _("Best at {rate} masked: **{score}**, {way}: **{value}**; random neurons {chance}.").format(
        rate=f"{100 * rate:.0f} %",
        score=names[best["score"]],
        way=ways()[best["way"]].lower(),
        value=_value(best["value"], metric),
        chance=_value(sum(chance) / len(chance), metric),
    )


def _scaled(value: float | None, metric: str) -> float | None:
    return value if value is None or metric not in PERCENT else 100 * value


def _value(value: float | None, metric: str) -> str:
    return format.percent(value) if metric in PERCENT else format.digits(value)


def _unit(metric: str) -> str:
    return f"% {metrics()[metric]}" if metric in PERCENT else metrics()[metric]
