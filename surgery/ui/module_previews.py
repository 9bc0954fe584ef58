"""What splitting, patching and composing would come to, drawn from the probe's preview."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from surgery import charts
from surgery.receipt import named_origin
from surgery.ui import comparison, format
from surgery.ui.messages import _, plural
from surgery.ui.model_quality import most_confused
from surgery.ui.panels import plain
from surgery.ui.whatif import QUALITY

Answer = Mapping[str, Any]


def show_split(answer: Answer) -> None:
    """Draw the preview of splitting."""
    count = plural("{count} module, one for each class", "{count} modules, one for each class", answer["modules"])
    st.markdown(f"#### {count}")
    st.markdown(
        _(
            "A sketch: the {share} most critical neurons of each class, scores taught on few samples. The job looks "
            "for the smallest modules within the tolerance. The weights stay as they are."
        ).format(share=format.percent(answer["share"]))
    )
    quality = [row for row in answer["rows"] if row["metric"] in QUALITY]
    st.table(comparison.overall(quality, _("Now"), _("All modules together")), border="horizontal", hide_index=True)
    _classes(answer, _("Change of accuracy per class, all modules together"), "split_classes")


def show_patch(answer: Answer) -> None:
    """Draw the preview of a patch: the class, all others, who is at risk, the price."""
    before, after = answer["before"], answer["after"]
    st.markdown(f"#### {plain(patched(answer))}")
    rows = [
        {
            _("Metric"): title,
            _("Now"): format.percent(before[name]),
            _("After"): format.percent(after[name]),
            _("Change"): format.points(after[name] - before[name]),
        }
        for name, title in (
            ("precision", _("Precision of {name}").format(name=answer["patched"])),
            ("recall", _("Recall of {name}").format(name=answer["patched"])),
            ("f1", _("F1 of {name}").format(name=answer["patched"])),
            ("others", _("Accuracy of all other classes")),
        )
    ]
    st.table(pd.DataFrame(rows).map(plain), border="horizontal", hide_index=True)
    if answer["refusal"]:
        st.warning(plain(answer["refusal"]), icon=":material/block:")
    st.markdown(risk(answer))
    _classes(answer, _("Change of accuracy per class"), "patch_classes")
    st.table(comparison.overall(answer["sizes"], _("Now"), _("After")), border="horizontal", hide_index=True)
    st.caption(
        _("Fitted and measured on {n} validation samples; the job measures on test.").format(
            n=f"{answer['validated']:,}"
        )
    )
    _weights(answer)


def patched(answer: Answer) -> str:
    """`F1 of cat 48.1% → 63.0%`."""
    before, after = answer["before"]["f1"], answer["after"]["f1"]
    return _("F1 of {name} {before} → {after}").format(
        name=answer["patched"], before=format.percent(before), after=format.percent(after)
    )


def risk(answer: Answer) -> str:
    """Which other class pays most, by F1."""
    others = [row for row in answer["table"] if row["class"] != answer["patched"]]
    worst = min(others, key=lambda row: row["f1 after"] - row["f1 before"], default=None)
    change = worst["f1 after"] - worst["f1 before"] if worst else 0.0
    if worst is None or change >= 0:
        return _(":material/verified_user: No other class loses F1.")
    return _(":material/warning: Largest drop: **{name}**, F1 {points}.").format(
        name=plain(worst["class"]), points=format.points(change)
    )


def show_composed(answer: Answer) -> None:
    """Draw the preview of a composed model: what it takes for what, what it costs, how it sees."""
    found = answer["quality"]
    st.markdown(
        "#### "
        + _("{accuracy} right on {n} {split} samples of {classes} classes").format(
            accuracy=format.percent(found["accuracy"]),
            n=f"{found['n']:,}",
            split=found["split"],
            classes=len(answer["composed"]),
        )
    )
    places = most_confused(np.array(found["confusion"]))
    counts = np.array(found["confusion"])[np.ix_(places, places)]
    names, title = [found["classes"][place]["name"] for place in places], _("What it takes for what")
    figure = charts.cells(
        counts / np.maximum(counts.sum(1, keepdims=True), 1),
        names,
        names,
        title=title,
        axes=(_("answer"), _("truth")),
        hover=_("%{y} answered as %{x}: %{text}"),
        unit=_("% of truth"),
        written=counts,
        dark=st.context.theme.type == "dark",
    )
    st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="composed_confusion", alt=title)
    costs, sources = answer["costs"], answer["sources"]
    whole = plural("the model they come from has", "the {count} models they come from have", sources["number"])
    st.markdown(
        _("{parameters} parameters, {size}; {whole} {all}, {all_size}.").format(
            parameters=format.amount(costs["parameters"]),
            size=format.size(costs["bytes"]),
            whole=whole,
            all=format.amount(sources["parameters"]),
            all_size=format.size(sources["bytes"]),
        )
    )
    if adapted := [row for row in answer["members"] if row["adapted"]]:
        said = ", ".join(f"{row['class']} ({row['input']}, {row['mean']} ± {row['std']})" for row in adapted)
        st.caption(_("Pictures are brought into the form that these were trained on: {said}.").format(said=plain(said)))
    _weights(answer)


def _weights(answer: Answer) -> None:
    """Whose weights the new version would hold, under which licence."""
    if answer["origins"]:
        said = "; ".join(map(named_origin, answer["origins"]))
        st.caption(_("Weights: {origin}").format(origin=plain(said)))


def _classes(answer: Answer, title: str, key: str) -> None:
    found = comparison.per_class(answer["rows"])
    if not found.empty:
        dark = st.context.theme.type == "dark"
        figure = charts.differences(found, title=title, unit="%", dark=dark)
        st.plotly_chart(figure, theme=None, config=charts.CONFIG, key=key, alt=title)
