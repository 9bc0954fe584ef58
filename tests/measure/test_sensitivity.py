"""What is predicted for a group is what removing it does; what was not tested says why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.evaluate import means_of, predict
from surgery.edit.shrink import shrink
from surgery.errors import Cancelled
from surgery.measure.sensitivity import ABOUT, TABLE, TIME_UP, Judge, Sensitivity
from tests.pages.patients import network
from tests.patients import writer


@pytest.mark.parametrize("fill", ["mean", "zero"])
def test_the_predicted_change_is_that_of_really_removing_the_group(pico_images: Dataset, fill: str) -> None:
    model, data = network(pico_images), pico_images.without_test()
    means = means_of(model, data, Context()) if fill == "mean" else None
    measured = Sensitivity(model, data, Context(), means=means)
    measured.run()
    ids, index = data.probe_ids(), model.index
    truth = torch.as_tensor(data.labels(ids))
    whole = predict(model, data, ids, Context())
    assert index is not None
    tested = measured.table[measured.table["tested"]]
    assert len(tested) > 10
    for row in tested.itertuples():
        keep = index.close(torch.arange(index.n) != row.id)
        small, _ = shrink(model, keep, means)
        outputs = predict(small, data, ids, Context())
        loss = F.cross_entropy(outputs.double(), truth) - F.cross_entropy(whole.double(), truth)
        assert row.loss_change == pytest.approx(float(loss), abs=1e-6)
        right = (outputs.argmax(1) == truth).double() - (whole.argmax(1) == truth).double()
        assert row.accuracy_change == pytest.approx(float(right.mean()), abs=1e-6)
        own = {name: float(right[truth == c].mean()) for c, name in enumerate(data.classes)}
        assert row.worst_class_change == pytest.approx(min(own.values()))
        assert own[row.worst_class] == min(own.values())


def test_the_worst_class_is_named_by_the_data_and_of_a_text_it_is_a_kind_of_characters(
    pico_images: Dataset, pico_text: Dataset
) -> None:
    other, ids = pico_images.classes[::-1], pico_images.probe_ids()
    model = replace(network(pico_images), classes=other)  # its outputs stand for the classes in another order
    truth = model.outputs_of(pico_images.classes)[torch.as_tensor(pico_images.labels(ids))]
    right = F.one_hot(truth, len(other)).float()
    wrong = right.clone()
    wrong[truth == other.index("bars")] = right[truth == other.index("bars")].roll(1, 1)
    found = Judge(model, pico_images, ids, right).changes(wrong)
    assert (found["worst_class"], found["worst_class_change"]) == ("bars", -1.0)
    measured = Sensitivity(writer(), pico_text.without_test(), Context(), limit=100)
    measured.run(seconds=0.5)
    named = set(measured.table.loc[measured.table["tested"], "worst_class"])
    assert named
    assert named <= set(pico_text.groups)


def test_what_no_gate_can_follow_is_not_measurable(pico_images: Dataset) -> None:
    model = network(pico_images)
    index = model.index
    assert index is not None
    group = int(index.group[index.layers["stem.conv"].rows[1]])
    lost = {group: "argmax runs across neurons"}
    fixed = index.fixed | (index.group == group)
    index = replace(index, fixed=fixed, why_fixed={**index.why_fixed, **lost}, unmeasured=lost)
    measured = Sensitivity(replace(model, index=index), pico_images.without_test(), Context())
    measured.run(torch.tensor([group]))
    row = measured.table.set_index("id").loc[group]
    assert row[["tested", "reason"]].tolist() == [False, "not measurable: argmax runs across neurons"]
    assert np.isnan(row["loss_change"])


def test_what_cannot_be_tested_says_why_and_is_not_called_robust(pico_images: Dataset) -> None:
    model = network(pico_images)
    index = model.index
    assert index is not None
    group = int(index.group[index.layers["stem.conv"].rows[1]])
    index.fixed[index.group == group] = True
    index.why_fixed[group] = "for the test"  # type: ignore[index]
    measured = Sensitivity(model, pico_images.without_test(), Context())
    measured.run(torch.tensor([group, int(index.layers["stem.conv"].rows[0])]))
    table = measured.table.set_index("id")
    assert table.loc[group, ["tested", "reason"]].tolist() == [False, "not tested: for the test"]
    assert np.isnan(table.loc[group, "loss_change"])
    assert table["tested"].sum() == 1
    assert set(table.loc[~table["tested"], "reason"]) == {"not tested: for the test", TIME_UP}


def test_a_budget_leaves_no_layer_out_and_another_run_goes_on(pico_images: Dataset, tmp_path: Path) -> None:
    model, data, index = network(pico_images), pico_images.without_test(), network(pico_images).index
    assert index is not None
    measured = Sensitivity(model, data, Context())
    measured.run(seconds=-1.0)
    assert not measured.table["tested"].any()
    measured.save(tmp_path)
    first = pd.read_parquet(tmp_path / TABLE)
    assert set(first["reason"]) >= {TIME_UP}
    assert (tmp_path / ABOUT).exists()
    one = Sensitivity(model, data, Context(), known=first)
    layers = index.layer_of[index.point.nonzero().flatten()].unique()
    order: list[int] = []
    kept = one._without

    def remember(point: int) -> torch.Tensor:
        order.append(int(index.layer_of[point]))
        if len(order) == len(layers):
            raise Cancelled
        return kept(point)

    one._without = remember  # type: ignore[method-assign]
    with pytest.raises(Cancelled):
        one.run()
    assert sorted(order) == sorted(layers.tolist()), "layers take turns"
    assert one.table["tested"].sum() == len(layers) - 1, "what was measured before the cancel is kept"
    again = Sensitivity(model, data, Context(), known=one.table)
    again.run()
    whole = Sensitivity(model, data, Context())
    whole.run()
    pd.testing.assert_frame_equal(again.table, whole.table)


def test_a_regression_is_judged_by_its_squared_error(pico_targets: Dataset) -> None:
    model, data = network(pico_targets), pico_targets.without_test()
    measured = Sensitivity(model, data, Context())
    measured.run()
    row = measured.table[measured.table["tested"]].iloc[0]
    keep = model.index.close(torch.arange(model.index.n) != row["id"])  # type: ignore[union-attr]
    small, _ = shrink(model, keep)
    ids = data.probe_ids()
    truth = torch.as_tensor(data.labels(ids)).double()
    errors = [
        float((predict(one, data, ids, Context())[:, 0].double() - truth).square().mean()) for one in (small, model)
    ]
    assert row["loss_change"] == pytest.approx(errors[0] - errors[1], rel=1e-5)
    assert np.isnan(row["accuracy_change"])
