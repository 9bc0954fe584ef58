"""Modules: what lies on the shelf, how modules overlap, what splitting and patching will do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from surgery import charts, jobs
from surgery.errors import NotFoundError
from surgery.jobs import probe
from surgery.ui import format, progress
from surgery.ui.messages import _
from surgery.ui.panels import plain
from surgery.workspace import Version, Workspace

Answer = Mapping[str, Any]
CARDS = 4  # in a row
DONORS = 12  # compared with one another at most
F1 = "f1"
PICKED = "module"  # ?module=, several: those picked for a new model


@dataclass(frozen=True)
class Module:
    """One module on the shelf: the version it lies in and its place there, the class it answers for, its figures."""

    version: Version
    place: int
    name: str
    digest: str
    figures: Mapping[str, float]

    @property
    def key(self) -> str:
        """Names it in the URL."""
        return f"{self.version.id}.{self.name}"

    def row(self) -> dict[str, Any]:
        """What the table shows."""
        return {
            "class": self.name,
            "version": f"v{self.version.number} {self.version.name}",
            "f1": 100 * self.figures["f1"],
            "precision": 100 * self.figures["precision"],
            "recall": 100 * self.figures["recall"],
            "neurons": 100 * self.figures["share"],
            "bytes": format.size(self.figures["bytes"]),
            "MACs": format.amount(self.figures["MACs"]),
            "scores": f"{format.digits(self.figures['low'])} … {format.digits(self.figures['high'])}",
            "digest": self.digest,
        }


def shelf(ws: Workspace, versions: Sequence[Version]) -> list[Module]:
    """All modules of these versions, newest version first."""
    return [
        Module(version, row["place"], row["name"], row["digest"], row["figures"])
        for version in sorted(versions, key=lambda one: -one.number)
        for row in _parts(ws, version.id)
        if F1 in row["figures"]
    ]


@st.cache_data(max_entries=256, show_spinner=False)
def _parts(_ws: Workspace, version: str) -> list[dict[str, Any]]:
    """What lies in a version, without the lists of neurons: versions never change."""
    return [
        {"place": place, **{key: part[key] for key in ("name", "digest", "figures")}}
        for place, part in enumerate(_ws.parts(version))
        if "digest" in part
    ]


def cards(ws: Workspace, modules: Sequence[Module]) -> Module | None:
    """The modules of a version, class by class, to be picked; returns the one whose class shall be forgotten."""
    forgotten = None
    for start in range(0, len(modules), CARDS):
        for column, module in zip(st.columns(CARDS), modules[start : start + CARDS], strict=False):
            with column.container(border=True):
                _pick(module)
                st.progress(min(1.0, module.figures["f1"]), text=f"F1 {format.percent(module.figures['f1'])}")
                st.caption(
                    _("precision {precision}, recall {recall}  \n{share} of the neurons · {size}").format(
                        precision=format.percent(module.figures["precision"]),
                        recall=format.percent(module.figures["recall"]),
                        share=format.percent(module.figures["share"]),
                        size=format.size(module.figures["bytes"]),
                    )
                )
                _take_out(ws, module)
                if st.button(
                    _("Forget"),
                    key=f"forget_{module.key}",
                    icon=":material/backspace:",
                    type="tertiary",
                    help=_("See what goes with the class, and what the others lose."),
                ):
                    forgotten = module
    return forgotten


def _take_out(ws: Workspace, module: Module) -> None:
    """Make a version of the module alone, unless a job is at it."""
    task = {"kind": "take_out", "version": module.version.id, "part": module.place}
    job = progress.latest(ws, module.version.project, task)
    made = job is not None and job.state == "done" and _there(ws, job.result["version"])
    if st.button(
        _("Taken out") if made else _("Take out"),
        key=f"take_out_{module.key}",
        icon=":material/output:",
        type="tertiary",
        disabled=job is not None and (job.active or made),
        help=_("Make a version of it that answers with its class, or with none."),
    ):
        title = _("Module of {name}").format(name=module.name)
        jobs.submit(ws, task, project=module.version.project, title=title)
        st.rerun()


def _there(ws: Workspace, version: str) -> bool:
    """Whether a version was neither deleted nor thrown away."""
    try:
        return ws.version(version).state == "ready"
    except NotFoundError:
        return False


def picked(modules: Sequence[Module]) -> list[Module]:
    """The modules that the URL names, in its order."""
    known = {module.key: module for module in modules}
    return [known[key] for key in st.query_params.get_all(PICKED) if key in known]


def pick(modules: Sequence[Module]) -> None:
    """Let the URL name these."""
    st.query_params[PICKED] = [module.key for module in modules]


def only(ws: Workspace, modules: Sequence[Module]) -> tuple[int, ...]:
    """Ids of the neurons that lie in some of these modules of one version and in none of its others."""
    parts, own = ws.parts(modules[0].version.id), {module.place for module in modules}
    inside = {id for place in own for id in parts[place]["neurons"]}
    outside = {id for place, part in enumerate(parts) if place not in own for id in part["neurons"]}
    return tuple(sorted(inside - outside))


def best(modules: Sequence[Module]) -> list[Module]:
    """For each class the module with the highest F1."""
    ranked = sorted(modules, key=lambda module: module.figures[F1])
    return list({module.name: module for module in ranked}.values())


def donors(
    ws: Workspace, patient: Version, dataset: str, target: str, modules: Sequence[Module]
) -> dict[str, tuple[Module, float]]:
    """Modules of other versions that could answer for a class, with their F1 (0–1) on the patient's validation samples.

    Those of the class's name, whatever its capitals; where there is none, all: another model may call it otherwise.
    """
    others = [module for module in modules if module.version.id != patient.id]
    named = [module for module in others if module.name.strip().casefold() == target.strip().casefold()]
    offered = {(module.version.id, module.digest): module for module in (named or others)[:DONORS]}
    if not offered:
        return {}
    rows = _judged(ws, patient.id, dataset, target, tuple(offered))
    found = {(row["version"], row["digest"]): row["f1"] for row in rows if not row["problem"]}
    return {offered[key].key: (offered[key], f1) for key, f1 in found.items() if key in offered}


@st.cache_data(max_entries=64, show_spinner=False)
def _judged(
    _ws: Workspace, version: str, dataset: str, target: str, offered: tuple[tuple[str, str], ...]
) -> list[dict[str, Any]]:
    modules = [{"version": holder, "digest": digest} for holder, digest in offered]
    rows: list[dict[str, Any]] = probe.ask(
        _ws, version, dataset, {"what": "donors", "target": target, "modules": modules}
    )["rows"]
    return rows


def named(module: Module, target: str, f1: float) -> str:
    """`v2 Strong · kitten · F1 87.3 %`, the class where it is called otherwise there."""
    other = [] if module.name == target else [module.name]
    return " · ".join([f"v{module.version.number} {module.version.name}", *other, f"F1 {format.percent(f1)}"])


def _pick(module: Module) -> None:
    """The heading of a card: its class, ticked when it is picked."""
    key, chosen = f"pick_{module.key}", st.query_params.get_all(PICKED)
    st.session_state[key] = module.key in chosen

    def changed() -> None:
        others = [one for one in chosen if one != module.key]
        st.query_params[PICKED] = [*others, module.key] if st.session_state[key] else others

    st.checkbox(f"**{plain(module.name)}**", key=key, on_change=changed, help=_("Pick it for a new model."))


def table(modules: Sequence[Module]) -> None:
    """All modules of all versions, to be sorted."""
    percent = partial(st.column_config.NumberColumn, format="%.1f %%")
    st.dataframe(
        pd.DataFrame([module.row() for module in modules]),
        hide_index=True,
        column_config={
            "class": _("class"),
            "version": _("version"),
            "f1": percent("F1", help=_("On validation samples, above the score from which a sample is its class's.")),
            "precision": percent(_("precision")),
            "recall": percent(_("recall")),
            "neurons": percent(_("neurons"), help=_("Of those that can go.")),
            "bytes": _("size"),
            "MACs": _("multiply-adds"),
            "scores": _("scores"),
            "digest": _("digest"),
        },
    )


def overlap(ws: Workspace, version: Version) -> None:
    """How much of their neurons every two modules share, and who wins when another is out."""
    shared = _matrix(ws, version.id, "overlap")
    if shared is None:
        return
    names, dark = [str(name) for name in shared.columns], st.context.theme.type == "dark"
    figure = charts.cells(
        shared.to_numpy(),
        names,
        names,
        title=_("Neurons that two modules share"),
        hover=_("%{y} and %{x} share %{text} %"),
        unit=_("% of both"),
        dark=dark,
    )
    st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="module_overlap", alt=_("Overlap of modules"))
    rivals = _matrix(ws, version.id, "interdependence")
    if rivals is None:
        return
    pairs = [(names[a], names[b], float(rivals.iloc[a, b])) for a, b in np.argwhere(rivals.to_numpy() > 0)]
    listed = sorted(pairs, key=lambda pair: -pair[2])[:3]
    if listed:
        said = ", ".join(
            _("{one} gains {points} pp without {other}").format(one=one, other=other, points=f"{won:.1f}")
            for one, other, won in listed
        )
        st.caption(_("Rivals, where a patch of one is felt by the other: {said}.").format(said=plain(said)))


@st.cache_data(max_entries=64, show_spinner=False)
def _matrix(_ws: Workspace, version: str, name: str) -> pd.DataFrame | None:
    try:
        return _ws.table(version, name)
    except NotFoundError:
        return None
