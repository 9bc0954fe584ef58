"""Must-keep cases: quotas, a minimum for every class, pins, Grad-CAM mass, and whether they stand for the data."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from surgery.analysis.must_keep import coverage, draw, look
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.evaluate import predict
from surgery.errors import SelectionError
from tests.patients import mlp, split_digits


@pytest.fixture
def data(pico_images: Dataset) -> Dataset:
    return pico_images.without_test()


def test_every_case_is_right_and_of_val(data: Dataset) -> None:
    model = split_digits()
    cases = draw(model, data, Context(), size=9, least=1)
    assert len(cases) == 9
    ids = np.array(sorted(cases))
    assert np.isin(ids, data.ids("val")).all()
    answers = predict(model, data, ids, Context()).argmax(1).numpy()
    assert (answers == data.labels(ids)).all()
    assert min(np.bincount(data.labels(ids), minlength=3)) >= 1
    assert set(Counter(cases.values())) == {"hard", "typical", "diverse"}
    assert draw(model, data, Context(), size=9, least=1) == cases, "the same every time"
    even = draw(model, data, Context(), size=6, least=2)
    assert np.bincount(data.labels(sorted(even))).tolist() == [2, 2, 2]


def test_the_hard_ones_are_those_least_sure(data: Dataset) -> None:
    model = split_digits()
    seen = look(model, data, data.ids("val"), Context())
    cases = draw(model, data, Context(), size=3, least=0, shares={"hard": 1.0})
    sure = np.where(seen.right, seen.unsure, -1.0)
    assert set(cases) == set(seen.ids[np.argsort(-sure)[:3]].tolist())


def test_pinned_ones_stay_and_count(data: Dataset) -> None:
    pinned = data.ids("train")[:2].tolist()
    cases = draw(split_digits(), data, Context(), size=6, pinned=pinned)
    assert [id for id, reason in cases.items() if reason == "pinned"] == pinned
    assert len(cases) == 6


def test_the_mass_is_that_of_grad_cam(data: Dataset) -> None:
    model = split_digits()
    ids = data.ids("val")[:4]
    seen = look(model, data, ids, Context())
    x = next(iter(data.batches(ids, model.input)))[0]
    kept: list[torch.Tensor] = []
    maps = [
        part
        for part in model.module.modules()
        if not list(part.children()) and not isinstance(part, (torch.nn.Linear, torch.nn.Flatten))
    ]
    handles = [part.register_forward_hook(lambda _m, _x, out: kept.append(out)) for part in maps]
    out = model(x.requires_grad_())
    for handle in handles:
        handle.remove()
    wide = [one for one in kept if one.dim() == 4 and one[0, 0].numel() > 1][-1]
    (slope,) = torch.autograd.grad(out.amax(1).sum(), wide)
    wanted = torch.relu((slope.mean((2, 3), keepdim=True) * wide).sum(1)).mean((1, 2)).detach().numpy()
    np.testing.assert_allclose(seen.mass, wanted, rtol=1e-4, atol=1e-7)


def test_an_mlp_and_a_regression_have_cases_too(pico_table: Dataset, pico_targets: Dataset) -> None:
    table = pico_table.without_test()
    model = mlp()
    seen = look(model, table, table.ids("val"), Context())
    assert seen.features.shape == (len(table.ids("val")), 6)
    assert bool((seen.mass >= 0).all())
    one = replace(mlp((4, 8, 1)), task="regression", classes=("sum",))
    cases = draw(one, pico_targets.without_test(), Context(), size=5)
    assert len(cases) == 5


def test_what_is_not_covered_is_named(data: Dataset) -> None:
    model, val = split_digits(), data.ids("val")
    of_one_class = val[data.labels(val) == 0]
    told = coverage(model, data, of_one_class.tolist(), Context())
    rows = {row["name"]: row for row in told["rows"] if row["kind"] == "class"}
    assert (rows["bars"]["cases"], rows["columns"]["cases"]) == (1.0, 0.0)
    assert rows["columns"]["few"]
    assert not rows["bars"]["few"]
    clusters = [row for row in told["rows"] if row["kind"] == "cluster"]
    assert sum(row["data"] for row in clusters) == pytest.approx(1.0)
    assert any(row["few"] for row in clusters)
    everything = coverage(model, data, val.tolist(), Context())
    assert not any(row["few"] for row in everything["rows"])


def test_what_cannot_be_drawn_says_why(data: Dataset) -> None:
    model = split_digits()
    with pytest.raises(SelectionError, match="no room for 0 pinned ones and 2 of each of 3 classes"):
        draw(model, data, Context(), size=5, least=2)
    with pytest.raises(SelectionError, match="No kind of case"):
        draw(model, data, Context(), shares={"hard": 0.0})
