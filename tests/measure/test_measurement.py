from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.data.load import from_arrays
from surgery.errors import Cancelled, MeasureError
from surgery.measure import Measurement, compare, measure
from surgery.network.model import Model
from surgery.operations.base import Outcome
from surgery.receipt import Receipt
from tests.patients import mlp
from tests.pico import pico_model

SIDES = ("long", "wide", "high")


def perfect(classes: tuple[str, ...] = SIDES) -> Model:
    """Names the largest of the first three features, which is the truth of pico_table."""
    model = replace(mlp((4, 4, 3)), classes=classes)
    first, last = (model.module.get_submodule(name) for name in model.index.layers)
    with torch.no_grad():
        first.weight.copy_(torch.eye(4))
        first.bias.fill_(100.0)  # keeps every feature above the ReLU's bend
        last.weight.copy_(torch.eye(4)[:3])
        last.bias.zero_()
    return model


def value(found: Measurement, metric: str, model: str, scope: str = "overall") -> float:
    rows = found.rows
    return float(rows[(rows.metric == metric) & (rows.model == model) & (rows.scope == scope)].value.item())


def test_accuracy_per_class_and_agreement_equal_a_count_by_hand(pico_table: Dataset) -> None:
    good, other = perfect(), replace(mlp(seed=3), classes=SIDES)
    found = measure({"good": good, "other": other}, pico_table, Context(), latency=False)
    ids = pico_table.ids("test")
    truth = pico_table.labels(ids)
    answers = other(torch.from_numpy(pico_table.raw(ids))).argmax(1).numpy()
    assert found.split == "test"
    assert found.ids.tolist() == ids.tolist()
    assert np.array_equal(found.truth, truth)
    assert np.array_equal(found.predictions["other"], answers)
    assert value(found, "accuracy", "good") == 1.0
    assert value(found, "agreement", "good") == 1.0
    assert value(found, "accuracy", "other") == pytest.approx((answers == truth).mean())
    assert value(found, "agreement", "other") == pytest.approx((answers == truth).mean())
    for number, name in enumerate(SIDES):
        row = found.rows[(found.rows.model == "other") & (found.rows.scope == name)]
        assert row.n.item() == (truth == number).sum()
        assert row.value.item() == pytest.approx((answers[truth == number] == number).mean())


def test_rows_are_complete_and_say_what_they_are_of(pico_table: Dataset) -> None:
    found = measure({"a": perfect(), "b": perfect()}, pico_table, Context())
    assert list(found.rows.columns) == ["metric", "model", "scope", "value", "unit", "better", "split", "n"]
    assert set(found.rows.metric) == {
        *("accuracy", "agreement", "parameters", "bytes", "MACs", "precision", "latency", "latency IQR")
    }
    assert not found.rows.isna().any().any()
    timed = found.rows[found.rows.metric == "latency"]
    assert sorted(timed.scope) == ["batch 1", "batch 1", "batch 32", "batch 32"]
    assert (timed.value > 0).all()
    assert (timed.unit == "ms").all()
    assert (timed.n >= 5).all()
    assert timed.split.str.fullmatch(r"cpu, \d+ threads?").all()
    assert value(found, "parameters", "a") == 4 * 4 + 4 + 4 * 3 + 3
    assert value(found, "MACs", "a") == 4 * 4 + 4 * 3


def test_classes_are_matched_by_name(pico_table: Dataset) -> None:
    """A model that lists the same classes in another order is not wrong."""
    model = perfect()
    last = model.module.get_submodule(list(model.index.layers)[-1])
    order = [2, 0, 1]
    with torch.no_grad():
        last.weight.copy_(last.weight[order])
    shuffled = replace(model, classes=tuple(SIDES[i] for i in order))
    assert value(measure({"m": shuffled}, pico_table, Context(), latency=False), "accuracy", "m") == 1.0


def test_a_model_may_know_more_classes(pico_table: Dataset) -> None:
    wide = replace(mlp((4, 8, 5)), classes=("deep", *SIDES, "odd"))
    found = measure({"m": wide}, pico_table, Context(), latency=False)
    answers = wide(torch.from_numpy(pico_table.raw(found.ids))).argmax(1).numpy()
    assert np.array_equal(found.predictions["m"], np.array([-1, 0, 1, 2, -1])[answers])


def test_a_model_may_know_some_of_the_classes_and_then_only_these_count(pico_table: Dataset) -> None:
    whole = perfect()
    some = replace(mlp((4, 4, 2)), classes=("high", "long"))
    found = measure({"before": whole, "after": some}, pico_table, Context(), latency=False)
    assert found.classes == ("long", "high")
    ids = pico_table.ids("test")
    expected = ids[pico_table.labels(ids) != 1]
    assert found.ids.tolist() == expected.tolist()
    assert found.truth.tolist() == (pico_table.labels(expected) // 2).tolist()
    assert set(found.rows[found.rows.metric == "accuracy"]["scope"]) == {"overall", "long", "high"}
    assert value(found, "accuracy", "before") == 1.0, "its other outputs never win here"
    receipt = Receipt.make({}, "x", Outcome((), None), found, pico_table, 0.0, classes={})
    assert receipt.dataset["classes"] == ["long", "high"]


def test_other_names_of_equal_number_do_not_count_by_position(pico_table: Dataset) -> None:
    with pytest.raises(MeasureError, match=r"None of the 3 classes of 'boxes' \(long, wide, high\)"):
        measure({"m": perfect(("a", "b", "c"))}, pico_table, Context(), latency=False)
    with pytest.raises(MeasureError, match=r"1 of the 3 classes of 'boxes' \(high\) is no class of the model"):
        measure({"m": perfect(("tall", "wide", "long"))}, pico_table, Context(), latency=False)


def test_regression(pico_targets: Dataset) -> None:
    model = replace(mlp((4, 6, 1)), task="regression", classes=("sum",))
    other = replace(mlp((4, 6, 1), seed=1), task="regression", classes=("sum",))
    found = measure({"m": model, "o": other}, pico_targets, Context(), latency=False)
    truth = pico_targets.labels(found.ids).astype(float)
    answers = found.predictions["m"].astype(float)
    x = torch.from_numpy(pico_targets.raw(found.ids))
    assert np.allclose(answers, model(x)[:, 0].detach().numpy(), atol=1e-5)
    assert value(found, "mse", "m") == pytest.approx(((answers - truth) ** 2).mean())
    assert value(found, "r2", "m") == pytest.approx(1 - ((answers - truth) ** 2).sum() / truth.var() / len(truth))
    assert value(found, "agreement", "m") == 1.0
    assert value(found, "agreement", "o") < 1.0
    better = found.rows.drop_duplicates("metric").set_index("metric").better
    assert (better["r2"], better["mse"], better["bytes"]) == ("higher", "lower", "lower")


def test_unlabelled_data_gives_agreement_and_costs_only(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    data = from_arrays(tmp_path / "d", x, None, classes=(), name="plain", task="unlabelled")
    found = measure({"a": mlp(), "b": mlp(seed=1)}, data, Context(), latency=False)
    assert set(found.rows.metric) == {"agreement", "parameters", "bytes", "MACs", "precision"}
    assert found.truth is None
    assert found.split == "unlabelled"


def test_without_a_test_role_it_measures_on_val(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    roles = ["train"] * 30 + ["val"] * 10
    y = np.arange(40) % 3
    data = from_arrays(tmp_path / "d", x, y, classes=SIDES, name="noted", task="classification", roles=roles)
    found = measure({"a": mlp()}, data, Context(), latency=False)
    assert found.split == "val"
    assert set(found.rows[found.rows.metric == "accuracy"].split) == {"val"}


def test_must_keep_cases_have_a_row_of_their_own(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(5.0, 2.0, size=(40, 4)).astype(np.float32)
    y = x[:, :3].argmax(1)
    y[30] = (y[30] + 1) % 3  # one must-keep case that the perfect model gets wrong
    roles = ["train"] * 20 + ["test"] * 10 + ["preserve"] * 10
    data = from_arrays(tmp_path / "d", x, y, classes=SIDES, name="kept", task="classification", roles=roles)
    found = measure({"m": perfect()}, data, Context(), latency=False)
    row = found.rows[found.rows.metric == "must-keep cases"]
    assert (row.value.item(), row.split.item(), row.n.item()) == (0.9, "preserve", 10)
    assert value(found, "accuracy", "m") == 1.0


def test_compare_takes_after_minus_before(pico_table: Dataset) -> None:
    found = measure({"before": perfect(), "after": replace(mlp(seed=3), classes=SIDES)}, pico_table, Context())
    table = compare(found, "before", "after")
    assert list(table.columns) == ["metric", "scope", "before", "after", "change", "unit", "better", "split", "n"]
    assert len(table) == (found.rows.model == "before").sum()
    row = table[(table.metric == "accuracy") & (table.scope == "overall")].iloc[0]
    assert row.before == 1.0
    assert row.change == pytest.approx(row.after - 1.0)
    assert row.change < 0
    with pytest.raises(MeasureError, match="'nobody' was not measured, only before, after"):
        compare(found, "before", "nobody")


def test_a_class_called_overall_is_told_apart(tmp_path: Path, pico_table: Dataset) -> None:
    ids = np.arange(90)
    classes = ("overall", "wide", "high")
    data = from_arrays(
        tmp_path / "d", pico_table.raw(ids), pico_table.labels(ids), classes=classes, name="o", task="classification"
    )
    found = measure({"a": perfect(classes), "b": perfect(classes)}, data, Context(), latency=False)
    assert (compare(found, "a", "b").scope == "class overall").sum() == 1


def test_frames_survive_json(pico_table: Dataset) -> None:
    found = measure({"a": perfect(), "b": perfect()}, pico_table, Context())
    for frame in (found.rows, compare(found, "a", "b")):
        text = frame.to_json(orient="records", double_precision=15)
        again = pd.read_json(io.StringIO(text), orient="records")
        pd.testing.assert_frame_equal(again, frame, check_dtype=False)
        json.dumps(frame.to_dict("records"), allow_nan=False)


def test_images_too(pico_images: Dataset) -> None:
    found = measure({"m": pico_model()}, pico_images, Context(), latency=False)
    assert 0 <= value(found, "accuracy", "m") <= 1
    assert len(found.ids) == len(pico_images.ids("test"))


def test_refuses_what_cannot_be_measured(pico_table: Dataset, pico_targets: Dataset) -> None:
    ctx = Context()
    with pytest.raises(MeasureError, match="no model to measure"):
        measure({}, pico_table, ctx)
    with pytest.raises(
        MeasureError,
        match=r"None of the 3 classes of 'boxes' \(long, wide, high\) .* class 3 and 1 more\)",
    ):
        measure({"m": mlp((4, 8, 5))}, pico_table, ctx)
    with pytest.raises(MeasureError, match="made for classification, the dataset 'sums' for regression"):
        measure({"m": mlp()}, pico_targets, ctx)
    with pytest.raises(MeasureError, match=r"gives \[3\] outputs per sample but names 2 classes"):
        measure({"m": replace(mlp(), classes=SIDES[:2])}, from_two(pico_table), ctx)


def from_two(data: Dataset) -> Dataset:
    """The same dataset under two of its names; its third class is not asked about."""
    return replace(data, classes=SIDES[:2])


def test_cancel_stops_it(pico_table: Dataset) -> None:
    with pytest.raises(Cancelled):
        measure({"m": perfect()}, pico_table, Context(cancelled=lambda: True))


def test_importing_it_does_not_import_torch() -> None:
    code = "import sys, surgery.measure; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
