"""What a plan would do, before it is run: how many go and why, how small it gets, which class pays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from surgery import change, charts
from surgery.jobs import probe
from surgery.plan import Plan
from surgery.ui import comparison, format, module_previews, relearn, slim, squeeze, teach
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain
from surgery.ui.whatif import QUALITY
from surgery.workspace import Workspace

Answer = Mapping[str, Any]


def ask(ws: Workspace, plan: Plan) -> dict[str, Any]:
    """The probe's preview of a plan; the same plan is asked once.

    Raises:
        SurgeryError: what stands in the way of this plan.
    """
    return _ask(ws, plan.inputs[0], plan.dataset, plan.model_dump_json())


@st.cache_data(max_entries=128, show_spinner=False)
def _ask(_ws: Workspace, version: str, dataset: str, plan: str) -> dict[str, Any]:
    return probe.ask(_ws, version, dataset, {"what": "preview", "plan": json.loads(plan)})


def show(answer: Answer, neurons: int) -> None:
    """Draw the preview of a plan on a version with `neurons` neurons besides its outputs."""
    if "suffered" in answer:
        relearn.show(answer)
        return
    if "taught" in answer:
        teach.show(answer)
        return
    if "degree" in answer:
        _damage(answer)
        return
    if "slims" in answer:
        slim.show(answer)
        return
    if "squeezes" in answer:
        squeeze.show(answer)
        return
    if "modules" in answer:
        module_previews.show_split(answer)
        return
    if "patched" in answer:
        module_previews.show_patch(answer)
        return
    if "composed" in answer:
        module_previews.show_composed(answer)
        return
    st.markdown(f"#### {sentence(answer)}")
    for words in advice(answer):
        st.markdown(f":material/lightbulb: {words}")
    if "forgets" in answer:
        st.markdown(_("All figures are of the classes that stay."))
    for reason in answer["reasons"]:
        st.markdown(f":gray[:material/link: {plain(reason)}]")
    st.markdown(shares(answer, neurons))
    st.table(table(answer), border="horizontal", hide_index=True)
    left, right = st.columns(2, gap="medium")
    dark = st.context.theme.type == "dark"
    with left:
        figure = charts.layers(layers(answer), title=_("Neurons of the layers that change"), dark=dark)
        st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="preview_layers", alt=_("Neurons per layer"))
    with right:
        _per_class(answer, dark)


def _damage(answer: Answer) -> None:
    """What is left of a model that is spoilt on purpose."""
    st.markdown("#### " + _("A trial: this version stays, the new one is worse on purpose"))
    quality = [row for row in answer["rows"] if row["metric"] in (*QUALITY, "mse")]
    st.table(comparison.overall(quality, _("Now"), _("After")), border="horizontal", hide_index=True)
    _per_class(answer, st.context.theme.type == "dark")


def sentence(answer: Answer) -> str:
    """`23 asked → 61 removed in 4 layers`."""
    if "forgets" in answer:
        names = plain(", ".join(answer["forgets"]))
        if not answer["removed"]:
            return _("Only the outputs of {names} go").format(names=names)
        gone = plural("{count} neuron goes", "{count} neurons go", answer["removed"])
        return _("{gone} with {names}").format(gone=gone, names=names)
    if answer["asked"] is None:
        gone = plural("{count} neuron goes", "{count} neurons go", answer["removed"])
        return f"{gone} {plural('in {count} layer', 'in {count} layers', len(answer['layers']))}"
    asked = plural("{count} neuron asked", "{count} neurons asked", answer["asked"])
    where = plural("{count} layer", "{count} layers", len(answer["layers"]))
    text = _("{asked} → {removed} removed in {where}").format(asked=asked, removed=answer["removed"], where=where)
    if answer["stay"]:
        text += ", " + plural("{count} has to stay", "{count} have to stay", answer["stay"])
    return text


def advice(answer: Answer) -> list[str]:
    """What was found that speaks for or against the plan, with its figures."""
    found = {one["what"]: one for one in answer.get("advice", ())}
    words = []
    if (small := found.get("small")) and small["saved"] > 0:
        words.append(
            _("It saves {saved} of {whole}: hardly worth a change, unless the device is tiny.").format(
                saved=format.size(small["saved"]), whole=format.size(small["bytes"])
            )
        )
    if free := found.get("free"):
        words.append(
            _("At Θ = {theta} no class needs {share} of the neurons; these go first.").format(
                theta=f"{free['theta']:g}", share=format.percent(free["share"])
            )
            if free["share"]
            else _(
                "At Θ = {theta} some class needs each neuron: the slices free none, the steps rank them all."
            ).format(theta=f"{free['theta']:g}")
        )
    return words


def action(answer: Answer) -> str:
    """What the button says: the effect and its extent."""
    if "suffered" in answer:
        return relearn.action(answer)
    if "taught" in answer:
        return teach.action(answer)
    if "slims" in answer:
        return slim.action(answer)
    if "squeezes" in answer:
        return squeeze.action(answer)
    if "degree" in answer:
        return _("Damage by degree {degree}").format(degree=f"{answer['degree']:g}")
    if "modules" in answer:
        return plural("Split into {count} module", "Split into {count} modules", answer["modules"])
    if "forgets" in answer:
        return _("Forget {names}").format(names=", ".join(answer["forgets"]))
    if answer["asked"] is None:
        left = next(row for row in answer["sizes"] if row["metric"] == "parameters")
        return _("Compress to {share} of the parameters").format(share=format.percent(left["after"] / left["before"]))
    neurons = plural("Remove {count} neuron", "Remove {count} neurons", answer["removed"])
    return f"{neurons} {plural('in {count} layer', 'in {count} layers', len(answer['layers']))}"


def shares(answer: Answer, neurons: int) -> str:
    """`35 % of the neurons ≈ 51 % of the parameters`."""
    saved = next((row for row in answer["sizes"] if row["metric"] == "parameters" and row["before"]), None)
    if saved is None or not neurons:
        return ""
    part, gone = answer["removed"] / neurons, 1 - saved["after"] / saved["before"]
    return _("{part} of the neurons ≈ {gone} of the parameters").format(
        part=format.percent(part), gone=format.percent(gone)
    )


def table(answer: Answer) -> pd.DataFrame:
    """Quality as predicted, then sizes as they will be."""
    quality = [row for row in answer["rows"] if row["metric"] in (*QUALITY, "mse")]
    return comparison.overall([*quality, *answer["sizes"]], _("Now"), _("After"))


def layers(answer: Answer) -> pd.DataFrame:
    """Columns layer, kept, removed."""
    return pd.DataFrame(
        [
            {"layer": each["layer"], "kept": each["after"], "removed": each["before"] - each["after"]}
            for each in answer["layers"]
        ]
    )


def _per_class(answer: Answer, dark: bool) -> None:
    found = comparison.per_class(answer["rows"])
    if found.empty:
        return
    figure = charts.differences(found, title=_("Predicted change of accuracy per class"), unit="%", dark=dark)
    st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="preview_classes", alt=_("Change per class"))
    losing: Sequence[str] = [change.worst_class(answer["rows"])[0], _("before any tuning")]
    st.caption(" · ".join(plain(text) for text in losing if text))
