"""What belongs together: classes that share most of their neurons, and neighbouring layers that say the same."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from surgery import charts
from surgery.analysis.overlap import Members, alike, shared_by
from surgery.ui import panels, taking
from surgery.ui.messages import _
from surgery.ui.panels import plain
from surgery.ui.slicing import Cut, Sliced
from surgery.ui.state import View


def classes(view: View, sliced: Sliced, members: Members, cut: Cut) -> None:
    """Classes grouped by what they share, each group a semantic slice that can be taken."""
    tau = st.slider(
        _("One slice when classes share at least"),
        10,
        95,
        50,
        5,
        format="%d %%",
        key="tau",
        bind="query-params",
        help=_("τ: the mean Jaccard overlap, shared ÷ united neurons, within a group."),
    )
    names = sliced.seen.classes
    numbers = np.array(alike(members, tau / 100))
    groups = [np.flatnonzero(numbers == number).tolist() for number in range(numbers.max() + 1)]
    groups.sort(key=len, reverse=True)
    labels = [label([names[c] for c in group], shared_by(members, group)) for group in groups]
    unions = [np.asarray(members[:, group].any(1)) for group in groups]
    st.dataframe(
        pd.DataFrame(
            {
                _("semantic slice"): labels,
                _("classes"): [len(group) for group in groups],
                _("neurons any of them needs"): [int(own.sum()) for own in unions],
                _("all of them need"): [int(members[:, group].all(1).sum()) for group in groups],
            }
        ),
        hide_index=True,
    )
    place = st.selectbox(_("Slice"), range(len(groups)), format_func=lambda g: labels[g], key="group")
    taking.offer(view, sliced.ids(unions[place]), f"{labels[place]} · Θ {cut.theta:.3f}", key="group")


def label(names: list[str], shared: float) -> str:
    """`4 · 9 share 83 %`; a class alone is `7 on its own`."""
    if len(names) == 1:
        return _("{name} on its own").format(name=names[0])
    some = " · ".join(names[:6]) + (f" + {len(names) - 6}" if len(names) > 6 else "")
    return _("{names} share {share}").format(names=some, share=f"{100 * shared:.0f} %")


def layers(sliced: Sliced) -> None:
    """Layer × layer similarity behind an expander, with runs of like layers named."""
    with st.expander(_("Layers that say the same"), icon=":material/layers:"), panels.panel():
        found = sliced.layers
        if found is None:
            panels.empty(_("These slices were found before layers were compared; scan a new version to see it."))
            return
        names, groups = found["layers"], found["groups"]
        st.markdown(runs(names, groups))
        figure = charts.cells(
            np.clip(np.array(found["cka"], dtype=float), 0, 1),
            names,
            names,
            title=_("How alike two layers see the samples"),
            hover=_("%{y} and %{x}: CKA %{text} %"),
            unit=_("CKA, %"),
            dark=st.context.theme.type == "dark",
        )
        st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="cka", alt=_("Similarity of every two layers"))
        st.caption(
            _(
                "Debiased linear CKA of spatial means over {n} samples; neighbours of at least {tau} share a group."
            ).format(n=f"{found['samples']:,}", tau=f"{100 * found['tau']:.0f} %")
        )


def runs(names: list[str], groups: list[int]) -> str:
    """`conv1 – conv2` for every group of more than one layer."""
    found = [[name for name, own in zip(names, groups, strict=True) if own == group] for group in dict.fromkeys(groups)]
    long = [f"**{plain(run[0])} – {plain(run[-1])}**" for run in found if len(run) > 1]
    return (
        _("Say the same: {runs}.").format(runs=", ".join(long))
        if long
        else _("No two neighbouring layers say the same.")
    )
