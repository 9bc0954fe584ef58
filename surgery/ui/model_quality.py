"""How right the model is: class by class, what it takes for what, its worst samples; is the data its own?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from surgery import charts
from surgery.ui import format, must_keep, pictures, taking
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain
from surgery.ui.pictures import Shown
from surgery.ui.state import View

CELL = "confusion"  # ?confusion=: the cell that was clicked
MOST_CLASSES = 20  # of the confusion matrix
UNSURE = 0.3  # of the way from guessing to certainty below which a mean confidence is low
Found = Mapping[str, Any]


def doubt(found: Found) -> str:
    """Why this data may not be what the model was made for; "" where nothing says so.

    Accuracy is near chance when it lies within two standard errors of always naming the commonest class.
    """
    if "confidence" not in found:
        return ""
    guess = 1 / max(found["outputs"], 2)
    sure = _("mean confidence {sure}, by guessing {guess}").format(
        sure=format.percent(found["confidence"]), guess=format.percent(guess)
    )
    low = found["confidence"] < guess + UNSURE * (1 - guess)
    if not found["labelled"]:
        return sure if low else ""
    chance = found["chance"]
    near = found["accuracy"] <= chance + 2 * math.sqrt(chance * (1 - chance) / found["n"])
    right = _("accuracy {accuracy}, by always naming the commonest class {chance}").format(
        accuracy=format.percent(found["accuracy"]), chance=format.percent(chance)
    )
    return f"{right}; {sure}" if near or low else ""


def warn(found: Found) -> None:
    """Warn, with the evidence, where the data may be of another domain than the model."""
    said = doubt(found)
    if said:
        on = _("n = {n}, {split}").format(n=f"{found['n']:,}", split=found["split"])
        text = _("**This data may not be what the model was made for.** {evidence} ({on}).")
        st.warning(text.format(evidence=said[0].upper() + said[1:], on=on), icon=":material/help_center:")


def show(view: View, found: Found) -> None:
    """Everything about quality that the probe measured."""
    on = f"{found['split']}, n = {found['n']:,}"
    sure = found.get("confidence")
    if not found["labelled"]:
        said = _("This data has no labels, so nobody can say how right the model is.")
        if sure is not None:
            said += " " + _("Its mean confidence is {sure}.").format(sure=format.percent(sure))
        st.info(said, icon=":material/label_off:")
    elif found["task"] == "regression":
        st.markdown(
            _("**R² {r2}**, mean squared error {mse} on {on}.").format(
                r2=format.digits(found["r2"]), mse=format.digits(found["mse"]), on=on
            )
        )
        worst(view, found, _("Largest errors"))
    else:
        st.markdown(_("**{accuracy} right** on {on}.").format(accuracy=format.percent(found["accuracy"]), on=on))
        confusion(view, found)
        per_class(found, on)
        worst(view, found, _("Samples with the highest loss"))


def per_class(found: Found, on: str) -> None:
    """Precision, recall and F1 of every class, the weakest first."""
    table = pd.DataFrame(found["classes"]).sort_values("f1", kind="stable", na_position="last")
    for name in ("precision", "recall", "f1"):
        table[name] = 100 * table[name].astype(float)
    bar = partial(
        st.column_config.ProgressColumn,
        format="%.0f %%",
        min_value=0.0,
        max_value=100.0,
        color="primary",
        width="small",
    )
    st.markdown(f"**{_('Class by class, the weakest first')}**")
    st.dataframe(
        table,
        hide_index=True,
        column_config={
            "name": st.column_config.TextColumn(_("class"), width=96),
            "precision": bar(_("precision"), help=_("Of all that it calls so, how many are.")),
            "recall": bar(_("recall"), help=_("Of all that are, how many it calls so.")),
            "f1": bar("F1", help=_("The harmonic mean of both.")),
            "n": st.column_config.NumberColumn("n", help=on, width=48),
        },
    )


def confusion(view: View, found: Found) -> None:
    """Truth over answers; a click shows the samples of that cell."""
    counts, names = np.array(found["confusion"]), [row["name"] for row in found["classes"]]
    places = most_confused(counts)
    columns = [*places, len(names)] if counts[:, -1].any() else list(places)
    table = counts[np.ix_(places, columns)]
    title = _("What it takes for what")
    if len(places) < len(names):
        title += _(" · the {shown} of {all} classes with most mistakes").format(shown=len(places), all=len(names))
    answers = [*names, _("another")]
    chosen = taking.clicked(CELL, table.size)
    figure = charts.cells(
        np.where(table > 0, table / np.maximum(counts[places].sum(1, keepdims=True), 1), np.nan),
        [names[place] for place in places],
        [answers[place] for place in columns],
        title=title,
        axes=(_("answer"), _("truth")),
        hover=_("%{y} answered as %{x}: %{text}"),
        unit=_("% of truth"),
        written=table,
        dark=st.context.theme.type == "dark",
        chosen=chosen,
    )
    st.plotly_chart(
        figure,
        theme=None,
        config=charts.CONFIG | {"scrollZoom": False},
        key=f"figure_{CELL}",
        on_select=partial(taking.remember, CELL),
        selection_mode="points",
        alt=_("Confusion matrix"),
    )
    if chosen is None:
        st.caption(_("Click a cell to see its samples."))
        return
    truth, answer = places[chosen // len(columns)], columns[chosen % len(columns)]
    samples = found["cells"].get(f"{truth},{answer}", [])
    count = int(counts[truth, answer])
    said = plural("{count} sample", "{count} samples", count)
    st.markdown(f"**{plain(names[truth])} → {plain(answers[answer])}**: {said}")
    _samples(view, [Shown(sample, f"{names[truth]} → {answers[answer]}") for sample in samples], key="confused")


def most_confused(counts: np.ndarray) -> list[int]:
    """The classes to show, in order: all, or those with most mistakes. counts: int[C, C + 1], truth over answers."""
    square = counts[:, :-1]
    wrong = counts.sum(1) + square.sum(0) - 2 * square.diagonal()
    return sorted(np.argsort(-wrong, kind="stable")[:MOST_CLASSES].tolist())


def worst(view: View, found: Found, title: str) -> None:
    """The samples that the model does worst on, with the truth and what it said."""
    st.markdown(f"**{title}** :gray[{_('truth → answer')}]")
    names = [row["name"] for row in found.get("classes", ())]
    _samples(view, [Shown(row["sample"], _said(row, names)) for row in found["worst"][:12]], key="worst")


def _said(row: Found, names: Sequence[str]) -> str:
    if not names:
        return f"{format.digits(row['truth'])} → {format.digits(row['answer'])}"
    answer = names[row["answer"]] if row["answer"] >= 0 else _("another")
    return f"{names[row['truth']]} → {answer}"


def _samples(view: View, shown: Sequence[Shown], *, key: str) -> None:
    if view.dataset is not None and shown:
        data = view.workspace.dataset(view.dataset.id)
        pictures.samples(
            data, shown, columns=12 if key == "worst" else 8, width=900 if key == "worst" else 520, key=key
        )
        must_keep.pin(view, [each.sample for each in shown], key=key)
