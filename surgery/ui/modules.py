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
from surgery.ui import comparison, format, progress
from surgery.ui.messages import _, plural
from surgery.ui.model_quality import most_confused
from surgery.ui.panels import plain
from surgery.ui.whatif import QUALITY
from surgery.workspace import Version, Workspace

Answer = Mapping[str, Any]
CARDS = 4  # in a row
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
    made = job is not None and job.state == "done"
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
            _("{one} wins {points} points without {other}").format(one=one, other=other, points=format.digits(won))
            for one, other, won in listed
        )
        st.caption(_("Rivals, where a patch of one is felt by the other: {said}.").format(said=plain(said)))


@st.cache_data(max_entries=64, show_spinner=False)
def _matrix(_ws: Workspace, version: str, name: str) -> pd.DataFrame | None:
    try:
        return _ws.table(version, name)
    except NotFoundError:
        return None


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
            _("Measure"): title,
            _("Now"): format.percent(before[name]),
            _("After"): format.percent(after[name]),
            _("Change"): _("{points} points").format(points=charts.signed(100 * (after[name] - before[name]))),
        }
        for name, title in (
            ("precision", _("Precision of {name}").format(name=answer["patched"])),
            ("recall", _("Recall of {name}").format(name=answer["patched"])),
            ("f1", _("F1 of {name}").format(name=answer["patched"])),
            ("others", _("Accuracy of all other classes")),
        )
    ]
    st.table(pd.DataFrame(rows).map(plain), border="horizontal", hide_index=True)
    if after[F1] <= before[F1]:
        st.warning(
            _("This module does not help here: choose another, or another calibration."), icon=":material/block:"
        )
    st.markdown(risk(answer))
    _classes(answer, _("Change of accuracy per class"), "patch_classes")
    st.table(comparison.overall(answer["sizes"], _("Now"), _("After")), border="horizontal", hide_index=True)
    st.caption(
        _("Fitted and measured on {n} validation samples; the job measures on test.").format(
            n=f"{answer['validated']:,}"
        )
    )


def patched(answer: Answer) -> str:
    """`F1 of cat 48.1 → 63.0 %`."""
    before, after = answer["before"][F1], answer["after"][F1]
    return _("F1 of {name} {before} → {after}").format(
        name=answer["patched"], before=format.percent(before).removesuffix(" %"), after=format.percent(after)
    )


def risk(answer: Answer) -> str:
    """Which other class pays most, by F1."""
    others = [row for row in answer["table"] if row["class"] != answer["patched"]]
    worst = min(others, key=lambda row: row["f1 after"] - row["f1 before"], default=None)
    change = 100 * (worst["f1 after"] - worst["f1 before"]) if worst else 0.0
    if worst is None or change >= 0:
        return _(":material/verified_user: No other class loses.")
    return _(":material/warning: **{name}** pays most: F1 {points} points.").format(
        name=plain(worst["class"]), points=charts.signed(change)
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


def _classes(answer: Answer, title: str, key: str) -> None:
    found = comparison.per_class(answer["rows"])
    if not found.empty:
        dark = st.context.theme.type == "dark"
        figure = charts.differences(found, title=title, unit="%", dark=dark)
        st.plotly_chart(figure, theme=None, config=charts.CONFIG, key=key, alt=title)
