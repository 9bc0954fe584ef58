"""The page Neurons: the map chooses, the choice survives, and everything said about it is what the code computes."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from surgery import jobs
from surgery.data.dataset import Dataset
from surgery.jobs.whatif import WhatIf
from surgery.network.model import Support
from surgery.ui import comparison, neuron_map, scans
from surgery.workspace import Workspace
from tests.pages.conftest import failures
from tests.pages.patients import Patient, admit, answer_in_place

OpenPage = Callable[..., AppTest]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    return answer_in_place(monkeypatch)


@pytest.fixture
def patient(ws: Workspace, pico_images: Dataset) -> Patient:
    return admit(ws, pico_images)


@pytest.fixture
def page(open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]) -> AppTest:
    return open_page("neurons", **patient.link)


def seen(patient: Patient) -> scans.Seen:
    found = scans.read(patient.ws, patient.version.id, patient.dataset.id)
    assert found is not None
    return found


def texts(app: AppTest) -> str:
    return "\n".join(element.value for element in [*app.markdown, *app.caption])


def button(app: AppTest, label: str) -> Any:
    return next(found for found in app.button if found.label == label)


def map_of(app: AppTest) -> dict[str, Any]:
    """The figure of the map as the browser gets it, its arrays as lists."""
    drawn = app.session_state[neuron_map.STATE]
    found = next(chart for chart in app.get("plotly_chart") if chart.proto.id.endswith(drawn.key))
    return json.loads(found.proto.spec, object_hook=unpacked)


def unpacked(found: dict[str, Any]) -> Any:
    """Plotly sends an array as its bytes in base64."""
    return np.frombuffer(b64decode(found["bdata"]), found["dtype"]).tolist() if "bdata" in found else found


def event(app: AppTest, *ids: int) -> None:
    """Let the map report these ids, as a click or a lasso does."""
    key = app.session_state[neuron_map.STATE].key
    app.session_state[key] = {"selection": {"points": [{"customdata": i} for i in ids]}}
    app.run()


def painted(figure: dict[str, Any]) -> set[int]:
    return {trace["customdata"][k] for trace in figure["data"] for k in trace.get("selectedpoints", ())}


def test_the_map_shows_every_point_once_by_its_id(page: AppTest, patient: Patient) -> None:
    assert failures(page) == []
    drawn = [i for trace in map_of(page)["data"] for i in trace["customdata"]]
    assert sorted(drawn) == list(seen(patient).ids)


def test_at_most_seven_controls_are_visible_by_default(page: AppTest) -> None:
    inside = {
        id(found)
        for popover in page.get("popover")
        for kind in (popover.button, popover.text_input, popover.selectbox)
        for found in kind
    }
    kinds = (page.main.button, page.main.selectbox, page.main.button_group, page.main.text_input, page.main.multiselect)
    own = [
        found for kind in kinds for found in kind if id(found) not in inside and not str(found.key).startswith("bar_")
    ]
    assert len(own) + 1 <= 7, [found.key for found in own]  # and the popover itself


def test_nothing_chosen_shows_the_most_selective_neuron_and_a_reason_why_nothing_can_be_removed(
    page: AppTest, patient: Patient
) -> None:
    table = seen(patient).points
    best = table.loc[table["selectivity"].idxmax()]
    assert f"neuron {best['id']}" in texts(page)
    remove = button(page, "Remove these…")
    assert remove.disabled
    assert "Choose neurons first" in remove.help


def test_a_click_shows_the_neuron_its_pictures_and_what_happens_without_it(
    page: AppTest, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    chosen = seen(patient).ids[3]
    event(page, chosen)
    assert failures(page) == []
    assert "**1 neuron chosen**" in texts(page)
    assert seen(patient).table.at[chosen, "sentence"][:20] in texts(page).replace("\\", "")
    assert sum(part.proto.body.count("data:image/png;base64,") for part in page.get("html")) == 9
    assert asked == [{"what": "whatif", "remove": [chosen], "fill": "mean"}]


def test_the_sentence_of_a_what_if_is_what_the_probe_measured(page: AppTest, patient: Patient) -> None:
    ids = list(seen(patient).ids[:6])
    event(page, *ids)
    answer = WhatIf.open(patient.ws, patient.version.id, patient.dataset.id).whatif(ids)
    row = next(row for row in answer["rows"] if row["metric"] == "accuracy" and row["scope"] == "overall")
    assert f"**{comparison.value(row, 'after')}**" in texts(page)
    assert f"{row['split']}, n = {row['n']}" in texts(page)


def test_the_choice_goes_into_the_url_and_comes_from_it(open_page: OpenPage, page: AppTest, patient: Patient) -> None:
    ids = seen(patient).ids
    event(page, ids[1], ids[2], ids[5])
    linked = page.query_params["neurons"]
    again = open_page("neurons", **patient.link, neurons=linked[0] if isinstance(linked, list) else linked)
    assert "**3 neurons chosen**" in texts(again)
    assert painted(map_of(again)) == {ids[1], ids[2], ids[5]}


def test_a_choice_made_on_the_map_does_not_redraw_it(page: AppTest, patient: Patient) -> None:
    before = page.session_state[neuron_map.STATE].key
    event(page, seen(patient).ids[0])
    assert page.session_state[neuron_map.STATE].key == before


def test_another_colour_keeps_the_choice(page: AppTest, patient: Patient) -> None:
    ids = seen(patient).ids[:2]
    event(page, *ids)
    page.selectbox(key="colour").select("layer").run()
    assert failures(page) == []
    assert painted(map_of(page)) == set(ids)


def test_lasso_is_a_visible_switch_that_changes_what_a_drag_does(page: AppTest) -> None:
    assert map_of(page)["layout"]["dragmode"] == "pan"
    page.button_group(key="mode").set_value("lasso").run()
    assert map_of(page)["layout"]["dragmode"] == "lasso"


def test_deselecting_in_the_chart_clears_the_choice(page: AppTest, patient: Patient) -> None:
    event(page, *seen(patient).ids[:3])
    event(page)
    assert "No neurons chosen" in texts(page)


def test_a_legend_row_takes_its_whole_group(page: AppTest, patient: Patient) -> None:
    page.selectbox(key="colour").select("layer").run()
    points = seen(patient).points
    layer = points["layer"].iloc[0]
    page.button_group(key="legend").set_value([layer]).run()
    assert painted(map_of(page)) == set(points[points["layer"] == layer]["id"])


def test_the_legend_names_every_class_with_its_count(page: AppTest, patient: Patient) -> None:
    counts = seen(patient).points["top_class"].value_counts()
    labels = list(page.button_group(key="legend").options)
    assert sorted(labels) == sorted(f"{name or 'no class'} :gray[{count}]" for name, count in counts.items())


def test_pasted_ids_of_coupled_neurons_stand_for_their_group(page: AppTest, patient: Patient) -> None:
    table = seen(patient).table
    coupled = table[~table["logit"] & (table["id"] != table["group"])].iloc[0]
    page.text_input(key="pasted").input(str(coupled["id"]))
    button(page, "Choose these").click().run()
    assert failures(page) == []
    assert painted(map_of(page)) == {coupled["group"]}


def test_a_rule_chooses_what_it_describes(page: AppTest, patient: Patient) -> None:
    points = seen(patient).points
    page.text_input(key="pasted").input("not stem and active > 0.2")
    button(page, "Choose these").click().run()
    assert failures(page) == []
    wanted = points[~points["layer"].str.startswith("stem") & (points["active"] > 0.2)]
    assert painted(map_of(page)) == set(wanted["id"])

    page.text_input(key="pasted").input("critical(bars) > 0.5")
    button(page, "Choose these").click().run()
    assert any("has not been computed" in text for text in failures(page)), "scores come from the page Slices"
    page.text_input(key="pasted").input("active > 5")
    button(page, "Choose these").click().run()
    assert [part.value for part in page.info] == ["No neuron fits this rule."]


def test_an_unknown_pasted_id_is_named(page: AppTest) -> None:
    page.text_input(key="pasted").input("3, 9999")
    button(page, "Choose these").click().run()
    assert any("There is no neuron 9999" in text.replace("\\", "") for text in failures(page))


def test_inverting_takes_all_others(page: AppTest, patient: Patient) -> None:
    ids = seen(patient).ids
    event(page, *ids[:2])
    button(page, "Invert").click().run()
    assert painted(map_of(page)) == set(ids[2:])


def test_a_saved_selection_is_in_the_workspace_and_is_joined_and_subtracted(page: AppTest, patient: Patient) -> None:
    ids = seen(patient).ids
    event(page, *ids[:3])
    page.text_input(key="selection_name").input("first three")
    button(page, "Save 3 neurons").click().run()
    (saved,) = patient.ws.selections(patient.project.id)
    assert (saved.name, saved.ids) == ("first three", ids[:3])
    event(page, *ids[2:5])
    button(page, "Subtract").click().run()
    assert painted(map_of(page)) == set(ids[3:5])
    button(page, "Add").click().run()
    assert painted(map_of(page)) == set(ids[:5])


def test_remove_saves_the_choice_and_opens_change_with_it(page: AppTest, patient: Patient) -> None:
    ids = seen(patient).ids[:2]
    event(page, *ids)
    button(page, "Remove these…").click().run()
    (saved,) = patient.ws.selections(patient.project.id)
    assert saved.ids == ids
    assert "Change" in texts(page)
    assert [saved.id] == list(page.query_params["selection"]) or page.query_params["selection"] == saved.id


def test_without_a_scan_there_is_one_action_which_submits_it(
    ws: Workspace, open_page: OpenPage, pico_images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = admit(ws, pico_images, scanned=False)
    submitted: list[Mapping[str, Any]] = []
    monkeypatch.setattr(jobs, "submit", lambda ws, task, **more: submitted.append(task))
    page = open_page("neurons", **patient.link)
    assert failures(page) == []
    button(page, "Scan neurons").click().run()
    expected = {"kind": "scan", "version": patient.version.id, "dataset": patient.dataset.id, "params": {}}
    assert submitted == [expected]


def test_after_a_surgery_neurons_keep_their_place_and_the_removed_ones_are_marked(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    before = seen(patient)
    made = patient.operate([before.ids[0], before.ids[-1]])
    patient.scan(made)
    figure = map_of(open_page("neurons", **patient.link))
    kept = patient.ws.kept(made.id)
    assert kept is not None
    at = {i: x for trace in figure["data"] for i, x in zip(trace.get("customdata", ()), trace["x"], strict=False)}
    assert at == pytest.approx({i: before.table.at[kept[i], "pca_x"] for i in at})
    ghosts = next(trace for trace in figure["data"] if trace["name"] == "removed")
    assert len(ghosts["x"]) == len(before.ids) - len(at)


def test_a_table_shows_rows_instead_of_pictures(
    ws: Workspace, open_page: OpenPage, pico_targets: Dataset, asked: list[Mapping[str, Any]]
) -> None:
    patient = admit(ws, pico_targets)
    page = open_page("neurons", **patient.link, neurons="1")
    assert failures(page) == []
    assert list(page.dataframe[0].value.columns)[:2] == ["Sample", "Label"]
    assert len(page.dataframe[0].value) == 9
    assert "R²" in texts(page)


def test_a_network_without_numbered_neurons_says_why(ws: Workspace, open_page: OpenPage, pico_images: Dataset) -> None:
    patient = admit(ws, pico_images, scanned=False, support=Support("inspect", "the step sort"))
    page = open_page("neurons", **patient.link)
    assert failures(page) == []
    assert "the step sort" in page.warning[0].value
    assert not any(found.label == "Scan neurons" for found in page.button)
