"""The page Neurons: the map chooses, the choice survives, and everything said about it is what the code computes."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import streamlit as st
import torch
from streamlit.testing.v1 import AppTest

from surgery import change, jobs
from surgery.analysis import naming
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.jobs.whatif import WhatIf
from surgery.measure.sensitivity import Sensitivity
from surgery.network.model import Support
from surgery.ui import connections, neuron_map, responses, scans
from surgery.units import signed_digits
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
    named = table[table["name"] == table["top_class"]]
    assert 0 < len(named) < len(table)
    assert f"neuron {named.loc[named['selectivity'].idxmax(), 'id']}" in texts(page)
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
    drawn = "".join(part.proto.body for part in page.get("html"))
    assert (drawn.count("<figure"), drawn.count('data-region="map"')) == (9, 9)
    strongest = seen(patient).strongest(chosen)
    assert asked == [
        {"what": "whatif", "remove": [chosen], "fill": "mean", "how": "silence", "factor": 0.0},
        {"what": "regions", "neuron": chosen, "samples": strongest},
    ]


def test_the_sentence_of_a_what_if_is_what_the_probe_measured(page: AppTest, patient: Patient) -> None:
    ids = list(seen(patient).ids[:6])
    event(page, *ids)
    answer = WhatIf.open(patient.ws, patient.version.id, patient.dataset.id).whatif(ids)
    row = next(row for row in answer["rows"] if row["metric"] == "accuracy" and row["scope"] == "overall")
    assert f"**{change.value(row, 'after')}**" in texts(page)
    assert change.measured_on(row) in texts(page)


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


def test_a_map_of_another_version_is_not_dimmed_by_what_was_selected_before(page: AppTest, patient: Patient) -> None:
    drawn = page.session_state[neuron_map.STATE]
    drawn.painted, drawn.key = (10_000,), "of another version"
    page.run()
    assert failures(page) == []
    assert not any("selectedpoints" in trace for trace in map_of(page)["data"])


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


def test_found_ids_of_coupled_neurons_stand_for_their_group(page: AppTest, patient: Patient) -> None:
    table = seen(patient).table
    coupled = table[~table["logit"] & (table["id"] != table["group"])].iloc[0]
    page.text_input(key="find").input(str(coupled["id"])).run()
    assert failures(page) == []
    assert painted(map_of(page)) == {coupled["group"]}


def test_a_rule_chooses_what_it_describes(page: AppTest, patient: Patient) -> None:
    points = seen(patient).points
    page.text_input(key="find").input("not stem and active > 0.2").run()
    assert failures(page) == []
    wanted = points[~points["layer"].str.startswith("stem") & (points["active"] > 0.2)]
    assert painted(map_of(page)) == set(wanted["id"])

    page.text_input(key="find").input("critical(bars) > 0.5").run()
    assert any("has not been computed" in text for text in failures(page)), "scores come from the page Slices"
    page.text_input(key="find").input("active > 5").run()
    assert [part.value for part in page.info] == ["No neuron fits this."]
    assert painted(map_of(page)) == set(wanted["id"]), "what finds nothing keeps the choice"


def test_what_was_found_can_be_changed_without_being_found_again(page: AppTest, patient: Patient) -> None:
    page.text_input(key="find").input("active >= 0").run()
    event(page, seen(patient).ids[2])
    assert "**1 neuron chosen**" in texts(page)


def test_a_name_finds_all_neurons_that_bear_it(page: AppTest, patient: Patient) -> None:
    points = seen(patient).points
    name = points.loc[points["name_kind"].isin(["class", "unclear"]), "name"].iloc[0]
    page.text_input(key="find").input(f'"{name}"' if name != "unclear" else name).run()
    assert failures(page) == []
    assert len(painted(map_of(page))) >= 1


def test_an_unknown_id_is_named(page: AppTest) -> None:
    page.text_input(key="find").input("3, 9999").run()
    assert any("There is no neuron 9999" in text.replace("\\", "") for text in failures(page))


def tab(open_page: OpenPage, patient: Patient, name: str, neurons: str = "3", **query: str) -> AppTest:
    page = open_page("neurons", **patient.link, neurons=neurons, tab=name, **query)
    assert failures(page) == []
    return page


def test_why_shows_the_samples_that_the_name_was_not_found_on(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    page = tab(open_page, patient, "Why")
    kept = responses.of(seen(patient))
    assert kept is not None
    held = naming.halves(kept.groups)[1]
    drawn = "".join(part.proto.body for part in page.get("html"))
    shown = [int(number) for number in re.findall(r"sample (\d+):", drawn)]
    assert shown
    assert set(shown) <= set(kept.samples[held].tolist())
    values = dict(zip(kept.samples.tolist(), kept.row(seen(patient).ids.index(3)).tolist(), strict=True))
    assert [values[one] for one in shown] == sorted((values[one] for one in shown), reverse=True)
    assert "computed on the page Slices" in texts(page)


def test_statistics_give_the_numbers_of_the_scan(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    page = tab(open_page, patient, "Statistics")
    table = page.dataframe[0].value
    assert table["Mean"].tolist() == pytest.approx(seen(patient).mean[3].tolist(), abs=1e-4)
    assert table["Samples"].sum() == seen(patient).samples


def test_connections_are_the_weights_and_two_chosen_neurons_stand_side_by_side(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    page = tab(open_page, patient, "Connections", neurons="3", way="Feeds")
    told = connections.ask(patient.ws, patient.version.id, patient.dataset.id, 3)["downstream"]
    table = page.dataframe[0].value
    assert table.iloc[:, 2].tolist() == pytest.approx([100 * one["share"] for one in told])
    assert "Choose a row" in texts(page)
    ids = seen(patient).ids
    page = tab(open_page, patient, "Connections", neurons=f"{ids[0]}.{ids[4]}", way="Most alike")
    assert "**Side by side**" in texts(page)
    assert page.dataframe[0].value["Correlation"].is_monotonic_decreasing


def test_a_scan_of_an_older_version_says_what_to_do(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    folder = seen(patient).folder
    (folder / responses.FILE).unlink()
    table = pd.read_parquet(folder / "neurons.parquet")
    table.drop(columns=["name", "name_kind", "precision", "held_out", "chance"]).to_parquet(folder / "neurons.parquet")
    st.cache_resource.clear()
    page = tab(open_page, patient, "Why")
    assert "scan again" in page.info[0].value
    page.text_input(key="find").input("unclear").run()
    assert any("older version" in text for text in failures(page))


def test_keep_only_and_scale_are_asked_as_they_are_said(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    page = open_page("neurons", **patient.link, neurons="3")
    page.button_group(key="how").set_value("keep").run()
    assert failures(page) == []
    assert "With only them in their layers" in texts(page)
    page.button_group(key="how").set_value("scale").run()
    page.slider(key="factor").set_value(0.5).run()
    assert "With them at 0.5×" in texts(page)
    told = [(one["how"], one["factor"]) for one in asked if one["what"] == "whatif"]
    assert told == [("silence", 0.0), ("keep", 0.0), ("scale", 2.0), ("scale", 0.5)]


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


def test_a_selection_of_the_version_before_is_mapped_and_its_lost_neurons_are_counted(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    ids = seen(patient).ids
    saved = patient.ws.save_selection(
        patient.project.id, patient.version.id, "Four", [ids[0], ids[1], ids[-1], ids[-2]]
    )
    made = patient.operate([ids[0], ids[-1]])
    patient.scan(made)
    page = open_page("neurons", **patient.link, selection=saved.id)
    assert failures(page) == []
    assert "**2 neurons chosen**" in texts(page)
    _, lost = patient.ws.map_selection(saved.id, made.id)
    assert any(f"{len(lost)} neurons of the selection are gone" in toast.value for toast in page.toast)


def test_why_tells_the_harm_that_was_measured(
    open_page: OpenPage, patient: Patient, asked: list[Mapping[str, Any]]
) -> None:
    folder, model = seen(patient).folder, patient.ws.model(patient.version.id)
    measured = Sensitivity(model, patient.ws.dataset(patient.dataset.id).without_test(), Context())
    measured.run(torch.tensor([3]))
    measured.save(folder)
    row = measured.table.set_index("id").loc[3]
    assert f"the loss changes by {signed_digits(row['loss_change'])}" in texts(tab(open_page, patient, "Why"))
    other = seen(patient).ids[5]
    assert "not tested: the time was up" in texts(tab(open_page, patient, "Why", neurons=str(other))).replace("\\", "")


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
