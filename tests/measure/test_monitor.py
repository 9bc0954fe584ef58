"""The guard in use: a stream that drifts ends a share, a stationary one never does, and back means bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from surgery.context import Context
from surgery.data import drift
from surgery.data.dataset import Dataset
from surgery.data.load import from_arrays
from surgery.edit.lend import Share, fleet_of, ridge
from surgery.errors import DataError
from surgery.measure.monitor import Chart, replay
from surgery.network.cuts import cuts_of
from surgery.network.fleet import Fleet
from surgery.network.model import Model
from tests.conftest import drawn
from tests.patients import fleet, mlp


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return drawn(tmp_path_factory.mktemp("stream") / "images", 600)


@pytest.fixture(scope="module")
def drifting(stream: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The same drawings, over-exposed."""
    folder = tmp_path_factory.mktemp("stream") / "bright"
    drift.make(stream, folder, lambda ids: drift.drifted(stream, ids, "brightness", 1.0), Context(), name="bright")
    return Dataset.open(folder)


def pair(data: Dataset) -> tuple[Fleet, Mapping[str, Model]]:
    """A model, and a stranger that goes on from it by way of an adapter fitted to the drawings as they are."""
    first, _, stranger = fleet()
    cut, at = cuts_of(first)[2], cuts_of(stranger)[3]
    share = Share(cut, at, ridge(first, stranger, cut, at, data, data.ids("train"), Context()))
    return fleet_of({"first": first, "guest": stranger}, {"guest": ("first", share)}), {"guest": stranger}


def played(*streams: Dataset, seed: int = 0, **given: Any) -> tuple[Fleet, dict[str, Any]]:
    together, originals = pair(streams[0])
    named = [(f"{place} {one.name}", one) for place, one in enumerate(streams)]
    spec = originals["guest"].input
    return together, replay(together, originals, {"guest": (1.0, 400)}, spec, named, Context(seed=seed), **given)


def test_a_drifting_stream_ends_the_share(stream: Dataset, drifting: Dataset) -> None:
    said: list[tuple[str, str]] = []
    together, found = played(stream, drifting, took_back=lambda guest, why: said.append((guest, why)), watched=1.0)
    assert len(found["events"]) == 1
    event = found["events"][0]
    assert event["stream"] == "1 bright"
    assert event["inputs"] > found["starts"][1]["inputs"]
    assert event["agreement"] < event["limit"]
    assert event["identical"] is True
    assert said[0][0] == "guest"
    assert "fell below" in said[0][1]
    assert not together.shares
    x = torch.rand(5, 1, 8, 8)
    model = fleet()[2]
    mean, std = (torch.tensor(value)[:, None, None] for value in (model.input.mean, model.input.std))
    with torch.no_grad():
        assert torch.equal(together(x)["guest"], model((x - mean) / std))


@pytest.mark.parametrize("seed", range(3))
def test_a_stationary_stream_of_equal_length_never_does(stream: Dataset, seed: int) -> None:
    together, found = played(stream, stream, watched=1.0, seed=seed)
    assert found["events"] == []
    assert together.shares
    assert found["inputs"] == 2 * sum(stream.counts().values())
    assert len(found["looks"]) > 10


def test_the_chart_is_the_ewma_chart() -> None:
    chart = Chart(0.98, 1000)
    level = (980 + 1) / 1002
    level -= 2 * (level * (1 - level) / 1000) ** 0.5
    mean = level
    for look, agreed in enumerate((30, 32, 29), 1):
        got, limit = chart.add(agreed, 32)
        mean = 0.9 * mean + 0.1 * agreed / 32
        spread = (level * (1 - level) / 32 * 0.1 / 1.9 * (1 - 0.9 ** (2 * look))) ** 0.5
        assert got == pytest.approx(mean)
        assert limit == pytest.approx(level - 4 * spread)


def test_what_agrees_as_often_as_it_was_accepted_at_seldom_alarms() -> None:
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(200):
        chart = Chart(0.97, 1000)
        looks = [chart.add(int(rng.binomial(8, 0.97)), 8) for _ in range(200)]
        alarms += any(mean < limit for mean, limit in looks)
    assert alarms <= 2


def test_only_a_part_of_the_inputs_is_watched(stream: Dataset) -> None:
    _, found = played(stream, watched=0.1)
    assert 0 < len(found["looks"]) <= found["inputs"] / 32 + 1


def test_nothing_watched_is_no_success(stream: Dataset) -> None:
    with pytest.raises(DataError, match="none of the others was watched"):
        played(stream, watched=1e-9)


def test_samples_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    one, other = mlp(), mlp(seed=0)
    share = Share(cuts_of(one)[-1], cuts_of(other)[-1], None)
    x = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32)
    sound = from_arrays(tmp_path / "sound", x, x.argmax(1) % 3, classes=tuple("abc"), name="s", task="classification")

    def holed(data: Dataset, every: int) -> Dataset:
        raw = data.raw

        def broken(ids: np.ndarray) -> np.ndarray:
            values = np.array(raw(ids))
            values[::every, 1] = np.nan
            return values

        copy = Dataset.open(data.folder)
        object.__setattr__(copy, "raw", broken)
        return copy

    members, shares = {"one": one, "other": other}, {"other": ("one", share)}
    levels = {"other": (1.0, 90)}
    streams = [("s", holed(sound, 2))]
    found = replay(fleet_of(members, shares), {"other": other}, levels, one.input, streams, Context(), watched=1.0)
    assert 0 < found["skipped"] < found["inputs"]
    assert found["events"] == []
    with pytest.raises(DataError, match=r"None of .* samples could be judged: 90 hold no numbers"):
        replay(
            fleet_of(members, shares), {"other": other}, {"other": (1.0, 90)}, one.input, [("s", holed(sound, 1))],
            Context(), watched=1.0,
        )  # fmt: skip
