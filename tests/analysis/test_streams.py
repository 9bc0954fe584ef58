"""The streamed sums and the streamed strongest samples, each against all values at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from surgery.analysis.moments import Moments
from surgery.analysis.sources import columns, sources
from surgery.analysis.strongest import Strongest, keys, unpack
from surgery.network.index import Layer, NeuronIndex


@pytest.mark.parametrize("mean", [0.0, 1.0, 1e6])
def test_moments_equal_numpy_whatever_the_mean(mean: float) -> None:
    generator = np.random.default_rng(0)
    values = (mean + generator.normal(size=(500, 6))).astype(np.float32)
    active = generator.uniform(size=(500, 6)).astype(np.float32)
    labels = generator.integers(0, 3, 500)
    moments = Moments(4, 6)
    for start in range(0, 500, 64):
        part = slice(start, start + 64)
        moments.add(torch.from_numpy(values[part]), torch.from_numpy(active[part]), torch.from_numpy(labels[part]))
    assert moments.count.tolist() == [*np.bincount(labels), 0]
    for c in range(3):
        own = values[labels == c].astype(np.float64)
        np.testing.assert_allclose(moments.mean[c], own.mean(0), rtol=1e-9)
        np.testing.assert_allclose(moments.var[c], own.var(0), rtol=1e-7)
        np.testing.assert_allclose(moments.absolute[c], np.abs(own).mean(0), rtol=1e-5)
        np.testing.assert_allclose(moments.active[c], active[labels == c].mean(0), rtol=1e-5)
    assert moments.mean[3].tolist() == [0.0] * 6
    assert moments.var[3].tolist() == [0.0] * 6


def test_keys_sort_by_value_then_by_lower_id() -> None:
    values = np.array([0.0, -0.0, 1.5, -3.0, 1.5, np.inf, -1e-30, 2e38], dtype=np.float32)
    samples = np.array([7, 2, 5, 1, 4, 9, 3, 8])
    packed = keys(values, samples)
    assert samples[np.argsort(-packed)].tolist() == [9, 8, 4, 5, 2, 7, 3, 1]
    back, ids = unpack(packed)
    assert np.array_equal(back, values)
    assert ids.tolist() == samples.tolist()


@pytest.mark.parametrize("batch", [3, 10, 1000])
def test_strongest_equals_sorting_everything(batch: int) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 30, (300, 5), generator=generator).float()  # many ties
    values[:, 4] = 0.0
    maps = torch.rand(300, 5, 7, generator=generator)
    ids = torch.arange(300) * 3
    found = Strongest(5)
    for start in range(0, 300, batch):
        part = slice(start, start + batch)
        found.offer(0, values[part, :2], maps[part, :2], ids[part].numpy())
        found.offer(2, values[part, 2:], maps[part, 2:], ids[part].numpy())
        found.settle()
    top, samples, positions = found.result()
    for neuron in range(5):
        best = sorted(range(300), key=lambda i: (-values[i, neuron], i))[:9]
        assert samples[neuron].tolist() == ids[best].tolist()
        assert top[neuron].tolist() == values[best, neuron].tolist()
        assert positions[neuron].tolist() == maps[best, neuron].argmax(1).tolist()


def hand_numbered() -> NeuronIndex:
    """A stem of 2, added to a branch of 2; the sum is flattened over 3 places beside 1 input, then 2 outputs."""
    layers = {
        "stem": Layer("stem", torch.tensor([0, 1]), torch.tensor([-1]), "conv"),
        "branch": Layer("branch", torch.tensor([2, 3]), torch.tensor([0, 1]), "conv"),
        "unread": Layer("unread", torch.tensor([4, 5]), torch.tensor([0, 1]), "conv"),
        "head": Layer("head", torch.tensor([6, 7]), torch.tensor([2, 2, 2, -1, 3, 3, 3])),
    }
    group = torch.tensor([0, 1, 0, 1, 0, 1, 6, 7])
    return NeuronIndex(layers, {}, group, torch.tensor([False] * 6 + [True] * 2), {6: "model output"})


def test_each_neuron_is_seen_at_its_first_reader() -> None:
    index = hand_numbered()
    found = sources(index)
    assert [(s.layer, s.neurons.tolist(), s.start) for s in found] == [("branch", [0, 1], 0), ("head", [2, 3], 2)]
    assert found[1].positions.tolist() == [[0, 1, 2], [4, 5, 6]]
    assert columns(index, found).tolist() == [0, 1, 2, 3, 0, 1, -1, -1]


def test_select_takes_all_positions_of_a_neuron() -> None:
    branch, head = sources(hand_numbered())
    values = torch.arange(14.0).reshape(2, 7)
    assert head.select(values).tolist() == [[[0, 1, 2], [4, 5, 6]], [[7, 8, 9], [11, 12, 13]]]
    maps = torch.arange(12.0).reshape(2, 2, 3)
    assert torch.equal(branch.select(maps), maps.unsqueeze(2))
    assert branch.select(maps).data_ptr() == maps.data_ptr(), "no copy where they lie in order"
