"""Figures are plain dicts in which a class keeps its colour, an id travels with its point, and nothing is hidden."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from surgery import charts
from surgery.charts import palette
from surgery.charts.neurons import MOST_POINTS
from surgery.charts.palette import DARK, GROUPED, LIGHT, OKABE_ITO

CLASSES = ["cat", "dog", "ship"]


def _points(n: int = 6) -> pd.DataFrame:
    """Neurons with ids 10, 20, …: no id equals its position."""
    ids = 10 * np.arange(1, n + 1)
    return pd.DataFrame({"id": ids, "x": np.linspace(0, 1, n), "y": np.zeros(n), "text": [f"n{i}" for i in ids]})


def _map(**more: object) -> charts.NeuronMap:
    colour = charts.legend(["cat", "dog", "cat", "ship", "dog", "cat"], charts.class_colours(CLASSES))
    return charts.neuron_map(_points(), colour, title="Neurons", **more)


def _ids(trace: go.Scattergl) -> list[int]:
    return trace.customdata.tolist()


def test_a_class_has_the_same_colour_in_the_map_and_in_the_profile() -> None:
    colours = charts.class_colours(CLASSES)
    profile = charts.profile({"ship": 1.0, "cat": 2.0}, colours, title="t", unit="mean activation")
    shade = {trace.name: trace.marker.color for trace in _map().data}
    assert profile["data"][0]["marker"]["color"] == [shade["ship"], shade["cat"]]


def test_class_colours_begin_with_okabe_ito_and_stay_distinct_for_many_classes() -> None:
    colours = list(charts.class_colours([str(i) for i in range(40)]).values())
    assert tuple(colours[:7]) == OKABE_ITO
    assert len(set(colours)) == 40


def test_ordered_colours_run_along_cividis() -> None:
    shades = charts.ordered_colours(["conv1", "conv2", "fc"])
    assert shades["conv1"] == "#00224E"
    assert shades["fc"] == "#FEE838"


def test_ids_travel_with_their_points_whatever_their_order_in_the_traces() -> None:
    figure = _map()
    found = {i: x for trace in figure.data for i, x in zip(_ids(trace), trace.x, strict=True)}
    points = _points()
    assert found == dict(zip(points["id"], points["x"], strict=True))


def test_selection_stands_out_in_every_trace() -> None:
    figure = _map(selected=[10, 50])
    chosen = {_ids(trace)[place] for trace in figure.data for place in trace.selectedpoints}
    assert chosen == {10, 50}
    assert all(trace.selectedpoints is not None for trace in figure.data)  # otherwise a trace would not fade


def test_without_a_selection_nothing_fades() -> None:
    assert all(trace.selectedpoints is None for trace in _map().data)


@pytest.mark.parametrize(("mode", "drag"), [("click", "pan"), ("lasso", "lasso")])
def test_mode_sets_what_a_drag_does(mode: charts.Mode, drag: str) -> None:
    assert _map(mode=mode).layout.dragmode == drag


def test_a_score_is_drawn_in_cividis_with_its_scale() -> None:
    for dark, little in ((True, "#00224E"), (False, "#FEE838")):
        figure = charts.neuron_map(_points(), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], title="Share active", dark=dark)
        marker = figure.data[0].marker
        assert marker.color.tolist() == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
        assert marker.colorscale[0] == (0.0, little), "little is near the ground, much stands out"
        assert marker.colorbar.thickness


def test_above_the_limit_a_sample_with_the_whole_selection_is_shown_and_said() -> None:
    points = _points(MOST_POINTS + 500)
    chosen = [10, 20, 10 * (MOST_POINTS + 500)]
    figure = charts.neuron_map(points, np.zeros(len(points)), title="Neurons", selected=chosen)
    ids = _ids(figure.data[0])
    assert len(ids) == MOST_POINTS
    assert set(chosen) <= set(ids)
    assert "20,000 of 20,500 shown" in figure.layout.title.text


def test_removed_neurons_are_shown_but_cannot_be_selected() -> None:
    figure = _map(ghosts=_points(2))
    ghost = next(trace for trace in figure.data if trace.name == "removed")
    assert len(ghost.x) == 2
    assert ghost.customdata is None


def test_picked_reads_ids_and_leaves_out_points_without_one() -> None:
    points = [{"customdata": 30, "point_index": 7}, {"point_index": 3}, {"customdata": 10}]
    assert charts.picked({"selection": {"points": points}}) == (10, 30)


def test_picked_of_nothing_is_nothing() -> None:
    assert charts.picked(None) == ()
    assert charts.picked({"selection": {"points": []}}) == ()


def test_a_legend_has_at_most_twelve_entries_and_counts_every_point() -> None:
    names = [f"c{i:02}" for i in range(30)]
    values = [name for place, name in enumerate(names) for _ in range(place + 1)]
    shown = charts.legend(values, charts.class_colours(names))
    assert len(shown.colours) == 12
    assert next(iter(shown.colours)) == "c19"  # the eleven commonest, in the order of the classes
    assert shown.colours["other"] == GROUPED
    assert sum(shown.counts.values()) == len(values)
    assert [values[place] for place in shown.places("c29")] == ["c29"] * 30


def test_a_short_legend_groups_nothing_and_leaves_out_what_is_absent() -> None:
    shown = charts.legend(["dog", "dog"], charts.class_colours(CLASSES))
    assert dict(shown.counts) == {"dog": 2}
    assert "other" not in shown.colours


def test_layers_are_grouped_by_stage_only_where_there_are_too_many() -> None:
    deep = [f"layer{i}.{j}.conv1" for i in range(1, 5) for j in range(4)]
    assert charts.stages(deep)["layer3.2.conv1"] == "layer3"
    assert charts.stages(["a.b", "c"]) == {"a.b": "a.b", "c": "c"}
    nested = [f"features.block{i}.layer{j}.conv" for i in range(3) for j in range(6)]
    assert set(charts.stages(nested).values()) == {"features.block0", "features.block1", "features.block2"}
    assert charts.stages([]) == {}


def _table() -> pd.DataFrame:
    return pd.DataFrame({"scope": CLASSES, "before": [90.0, 80.0, 70.0], "after": [95.0, 70.0, 70.0]})


def test_differences_are_signed_and_coloured_by_good_and_bad() -> None:
    difference = charts.before_after(_table(), title="Accuracy", unit="%")["data"][2]
    assert difference["text"] == ["+5.0", "−10.0", "±0.0"]
    assert difference["marker"]["color"] == [LIGHT.better, LIGHT.worse, LIGHT.muted]


def test_a_difference_that_is_not_significant_has_no_color() -> None:
    table = _table().assign(verdict=["same", "worse", ""])
    for figure in (charts.before_after, charts.differences):
        difference = figure(table, title="Accuracy", unit="%")["data"][-1]
        assert difference["marker"]["color"] == [LIGHT.muted, LIGHT.worse, LIGHT.muted]


def test_where_lower_is_better_a_fall_is_blue() -> None:
    difference = charts.before_after(_table(), title="MSE", unit="", better="lower")["data"][2]
    assert difference["marker"]["color"][:2] == [LIGHT.worse, LIGHT.better]


def test_with_many_classes_the_largest_changes_are_shown_and_that_is_said() -> None:
    before = np.full(40, 90.0)
    after = before - np.arange(40)
    table = pd.DataFrame({"scope": [f"c{i}" for i in range(40)], "before": before, "after": after})
    figure = charts.before_after(table, title="Accuracy", unit="%")
    assert figure["data"][0]["y"] == [f"c{i}" for i in range(28, 40)]
    assert "the 12 largest changes of 40" in figure["layout"]["title"]["text"]


@pytest.mark.parametrize("changes", [(84.4, 3.0), (-84.4, -3.0), (40.0, -60.0), (0.0, 0.0)])
def test_labels_of_differences_have_room_in_a_narrow_chart(changes: tuple[float, float]) -> None:
    table = pd.DataFrame({"scope": ["a", "b"], "before": [0.0, 0.0], "after": changes})
    low, high = charts.before_after(table, title="Accuracy", unit="%")["layout"]["xaxis2"]["range"]
    for end, change in ((low, min(changes)), (high, max(changes))):
        assert abs(end - change) >= 0.2 * (high - low) or change * end <= 0
    assert low < 0 < high


def test_removed_neurons_stand_back_behind_those_that_are_there() -> None:
    gone = pd.DataFrame({"id": [9], "x": [0.0], "y": [0.0], "text": ["gone"]})
    points = pd.DataFrame({"id": [1], "x": [1.0], "y": [1.0], "text": ["there"]})
    crosses, there = charts.neuron_map(points, [0.5], title="Map", ghosts=gone).data
    assert crosses.opacity < 0.5
    assert crosses.marker.size < there.marker.size


def test_differences_alone_carry_before_and_after_for_the_hover() -> None:
    bars = charts.differences(_table(), title="If silenced", unit="%")["data"]
    assert len(bars) == 1
    assert bars[0]["x"] == [5.0, -10.0, 0.0]
    assert bars[0]["customdata"] == [[90.0, 95.0], [80.0, 70.0], [70.0, 70.0]]


def test_layer_bars_say_how_many_of_how_many_go_and_hatch_them() -> None:
    table = pd.DataFrame({"layer": ["conv1", "fc"], "kept": [10, 8], "removed": [6, 0]})
    kept, removed = charts.layers(table, title="Neurons per layer")["data"]
    assert removed["text"] == ["−6 of 16", ""]
    assert removed["marker"]["pattern"]["shape"]
    assert (kept["x"], removed["x"]) == ([10, 8], [6, 0])


def test_digits_as_class_names_stay_names() -> None:
    figure = charts.profile({"7": 0.5, "8": 0.1}, {}, title="t", unit="u")
    assert figure["layout"]["yaxis"]["type"] == "category"


def test_loss_curve_skips_what_was_not_reported() -> None:
    figure = charts.loss_curve(pd.DataFrame({"loss": [1.0, 0.5], "validation": [None, 0.7]}))
    assert figure["data"][0]["y"] == [1.0, 0.5]
    assert (figure["data"][1]["x"], figure["data"][1]["y"]) == ([2], [0.7])


def _every_figure(dark: bool) -> list[charts.Figure]:
    return [
        charts.profile({"cat": 1.0}, charts.class_colours(CLASSES), title="t", unit="u", dark=dark),
        charts.before_after(_table(), title="t", unit="%", dark=dark),
        charts.differences(_table(), title="t", unit="%", dark=dark),
        charts.layers(pd.DataFrame({"layer": ["a"], "kept": [1], "removed": [1]}), title="t", dark=dark),
        charts.loss_curve(pd.DataFrame({"loss": [1.0, 0.5]}), dark=dark),
    ]


@pytest.mark.parametrize("dark", [False, True])
def test_every_figure_is_plain_stable_valid_and_in_the_ink_of_its_theme(dark: bool) -> None:
    for figure, again in zip(_every_figure(dark), _every_figure(dark), strict=True):
        assert json.dumps(figure) == json.dumps(again)
        assert "bdata" not in json.dumps(figure)
        go.Figure(figure)  # raises on anything plotly does not know
        assert figure["layout"]["title"]["text"]
        assert figure["layout"]["font"]["color"] == (DARK if dark else LIGHT).text


@pytest.mark.parametrize("dark", [False, True])
def test_the_map_is_in_the_ink_of_its_theme_and_says_the_same_every_time_it_is_sent(dark: bool) -> None:
    figure = _map(dark=dark, selected=[10], ghosts=_points(1))
    assert figure.to_json() == figure.to_json()
    assert figure.layout.font.color == (DARK if dark else LIGHT).text


def cell_traces(figure: charts.Figure) -> tuple[list[Any], Any]:
    """The traces that write numbers, and the one that is clicked."""
    _heat, *numbers, targets = figure["data"]
    return numbers, targets


def contrast(one: str, other: str) -> float:
    """WCAG 2.1's ratio, literally."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_cells_carry_their_number_and_can_be_read_on_every_colour() -> None:
    shares = np.array([[0.0, 0.5, np.nan], [0.62, 0.3, 1.0]])
    figure = charts.cells(shares, ["a", "b"], ["x", "y", "z"], title="Cells", chosen=4)
    numbers, targets = cell_traces(figure)
    assert targets["customdata"] == list(range(6))
    assert (targets["x"][4], targets["y"][4]) == (1, 1) and targets["text"][4] == "b · y: 30 %"
    assert {text for trace in numbers for text in trace["text"]} == {"0", "50", "62", "30", "100"}, "NaN is blank"
    (frame,) = figure["layout"]["shapes"]
    assert (frame["x0"], frame["y1"]) == (0.5, 1.5)
    for step in range(101):
        for dark in (True, False):
            colour = palette.shade(step / 100, palette.amounts(dark, filled=True))
            assert contrast(colour, palette.text_on(colour)) >= 4.5
    many = charts.cells(np.zeros((30, 30)), [*"a" * 30], [*"b" * 30], title="Many")
    assert cell_traces(many)[0] == [], "numbers would not fit"


def test_a_layer_map_has_a_box_per_layer_and_arcs() -> None:
    boxes = pd.DataFrame(
        {"name": ["in", "mid", "out"], "size": [400, 100, 0], "value": [0.5, 0.1, np.nan], "text": [*"abc"]}
    )
    given = {"title": "Network", "colour": "effect", "size": "parameters"}
    figure = charts.layer_map(boxes, [(-1, 0), (0, 1), (1, 2), (0, 2)], [(0, 1)], chosen=1, **given)
    bars = [trace for trace in figure["data"] if trace["type"] == "bar"]
    assert [trace["customdata"] for trace in bars] == [[0, 1], [2]], "what is unknown is grey"
    assert bars[0]["y"][0] == 2 * bars[0]["y"][1], "the height goes with the root of the size"
    assert bars[1]["y"][0] > 0, "even an empty box can be hit"
    lines = [trace for trace in figure["data"] if trace["type"] == "scatter"]
    assert [trace["name"] for trace in lines] == ["feeds", "skips ahead", "goes together"]
    assert max(lines[1]["y"]) > 0 > min(lines[2]["y"])


def test_lines_over_mask_rates_show_the_control_in_grey() -> None:
    points = pd.DataFrame({"line": ["a", "a", "r"], "masked": [10, 20, 10], "value": [90, 80, 50]})
    figure = charts.quality_over_rate(
        points, title="Left", unit="% accuracy", full=97.0, control="r", note="val, n = 40", dark=True
    )
    first, control = figure["data"]
    assert first["x"] == [10, 20] and first["y"] == [90, 80]
    assert "val, n = 40" in first["hovertemplate"]
    assert control["line"]["dash"] == "dot" and control["line"]["color"] == palette.ink(True).muted


def test_a_distribution_has_the_percentiles_of_every_class_that_has_samples() -> None:
    values = {
        "cat": np.arange(101, dtype=np.float32),
        "dog": np.zeros(0, np.float32),
        "ship": np.full(3, 7, np.float32),
    }
    figure = charts.distribution(values, charts.class_colours(CLASSES), title="Spread", unit="activation")
    cat, ship = figure["data"]
    parts = ("lowerfence", "q1", "median", "q3", "upperfence")
    assert [cat[part] for part in parts] == [[5], [25], [50], [75], [95]]
    assert [ship[part] for part in parts] == [[7]] * 5
    assert cat["fillcolor"] == charts.class_colours(CLASSES)["cat"]
    many = {f"c{k}": np.full(4, k, np.float32) for k in range(20)}
    figure = charts.distribution(many, {}, title="Spread", unit="activation")
    assert [trace["name"] for trace in figure["data"]] == [f"c{k}" for k in range(8, 20)]
    assert "12 strongest of 20" in figure["layout"]["title"]["text"]


def test_two_neurons_are_compared_on_their_own_scales_and_told_apart_without_colour() -> None:
    figure = charts.pair(CLASSES, [1.0, 2.0, 4.0], [0.0, -30.0, 10.0], called=("one", "two"), title="Pair")
    one, two = figure["data"]
    assert one["x"] == [25.0, 50.0, 100.0]
    assert two["x"] == pytest.approx([0.0, -100.0, 100 / 3])
    assert (one["name"], two["name"]) == ("one", "two")
    assert two["marker"]["pattern"]["shape"] == "/"
    silent = charts.pair(CLASSES, [0.0] * 3, [1.0] * 3, called=("a", "b"), title="Pair")
    assert silent["data"][0]["x"] == [0.0] * 3
