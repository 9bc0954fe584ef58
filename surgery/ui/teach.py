"""Teaching new classes: what the network can spare for them before it is run, and what to do afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from surgery import charts, jobs
from surgery.jobs import Job
from surgery.ui import format, progress
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain
from surgery.workspace import Workspace

Answer = Mapping[str, Any]
NAMED = 6  # classes in a sentence


def show(answer: Answer) -> None:
    """Draw the preview."""
    st.markdown(f"#### {plain(sentence(answer))}")
    st.markdown(room(answer))
    if answer["layers"]:
        table = pd.DataFrame(
            [
                {"layer": each["layer"], "kept": each["after"], "removed": each["before"] - each["after"]}
                for each in answer["layers"]
            ]
        )
        figure = charts.layers(
            table,
            title=_("Neurons of the layers that have some to spare"),
            dark=st.context.theme.type == "dark",
            kept=_("needed by the old classes"),
            removed=_("free"),
        )
        st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="teach_layers", alt=_("Free neurons per layer"))
    counts = ", ".join(f"{name} {count:,}" for name, count in list(answer["samples"].items())[:NAMED])
    st.caption(
        _("Training samples: {counts}. Free neurons were looked for on {n} validation samples.").format(
            counts=plain(counts), n=f"{answer['n']:,}"
        )
    )


def sentence(answer: Answer) -> str:
    """`4 new classes beside the 10 it knows: +, −, ×, =`."""
    names = answer["taught"]
    listed = ", ".join(names[:NAMED]) + (f" … ({len(names) - NAMED} {_('more')})" if len(names) > NAMED else "")
    heading = plural("{count} new class", "{count} new classes", len(names))
    return _("{heading} beside the {known} it knows: {listed}").format(
        heading=heading, known=answer["known"], listed=listed
    )


def room(answer: Answer) -> str:
    """`At least 42 % of the neurons are free: …`."""
    points = f"{answer['tolerance']:g} {_('point') if answer['tolerance'] == 1 else _('points')}"
    if not answer["free"]:
        return _(
            "Without tuning no neuron is free at a loss of at most {points}; the job tunes the slice first."
        ).format(points=points)
    return _(
        "At least {share} of the neurons are free: without them the old classes lose at most {points}, before "
        "any tuning. The slice that is left stays exactly as it is while the others learn."
    ).format(share=format.percent(answer["free"]), points=points)


def action(answer: Answer) -> str:
    """What the button says."""
    return plural("Teach {count} new class", "Teach {count} new classes", len(answer["taught"]))


def together(ws: Workspace, job: Job) -> None:
    """After it: offer one dataset with all classes, for the model to be seen, measured and changed on."""
    plan = job.task.get("plan", {})
    if job.state != "done" or plan.get("operation") != "extend":
        return
    parts = [plan["dataset"], plan["new"]]
    made = progress.latest(ws, job.project, {"kind": "join", "datasets": parts})
    if made is None:
        st.caption(
            _(
                "The new version knows classes of two datasets. Put them together, so that it is scanned, measured and "
                "changed on all its classes."
            )
        )
        if st.button(_("Put both datasets together"), icon=":material/join:"):
            name = " + ".join(ws.dataset_row(id).name[:50] for id in parts)
            jobs.submit(ws, {"kind": "join", "datasets": parts, "name": name}, project=job.project, title=name)
            st.rerun()
    elif made.active:
        progress.watch(ws, made)
    else:
        name = plain(ws.dataset_row(made.result["dataset"]).name) if made.state == "done" else plain(made.title)
        st.caption(
            _("{name} has the samples of both; choose it as the dataset above.").format(name=name)
            if made.state == "done"
            else _("{name} could not be made; see the page Jobs.").format(name=name)
        )
