from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from surgery.analysis.concepts import concepts
from surgery.analysis.naming import FEWEST, halves, names, wilson
from surgery.analysis.neurons import neurons
from surgery.analysis.responses import CELLS, MOST, Responses, Sampled, how_many
from surgery.analysis.responses import FEWEST as FEWEST_SAMPLES
from surgery.analysis.scan import Scan, scan
from surgery.context import Context
from surgery.data.arrays import from_arrays
from surgery.data.dataset import Dataset
from tests.analysis.test_neurons import made
from tests.patients import mlp

CLASSES = ("cat", "dog", "frog", "ship")
GROUPS = np.repeat(np.arange(4), 60)


def activations(*favourites: int, noise: float = 0.3, seed: int = 0) -> np.ndarray:
    """One row: strong on the favourite classes, noise everywhere."""
    generator = np.random.default_rng(seed)
    return (np.isin(GROUPS, favourites) + noise * generator.random(len(GROUPS))).astype(np.float32)[None]


def test_halves_deal_every_class_to_both_sides_and_lose_nobody() -> None:
    groups = np.array([2, 0, 0, 1, 2, 0, 2, 0, 2])
    first, second = halves(groups)
    assert sorted([*first, *second]) == list(range(9))
    assert np.bincount(groups[first]).tolist() == [2, 1, 2]
    assert np.bincount(groups[second], minlength=3).tolist() == [2, 0, 2]
    assert [len(half) for half in halves(np.zeros(0, dtype=np.int64))] == [0, 0]


def test_a_neuron_that_answers_to_one_class_or_two_is_named_after_them() -> None:
    one, two = names(np.concatenate([activations(2), activations(0, 3)]), GROUPS, CLASSES)
    assert (one.kind, one.text, one.precision, one.classes) == ("class", "frog", 1.0, (2,))
    assert (two.text, two.precision, two.chance) == ("cat or ship", 1.0, 0.5)


def test_precision_is_measured_on_the_half_that_the_name_was_not_found_on() -> None:
    row = activations(2, noise=0.0)
    first, second = halves(GROUPS)
    wrong = second[GROUPS[second] == 0][:10]
    row[0, wrong] = 2.0  # the ten strongest held-out samples are cats; the other half never sees them
    (name,) = names(row, GROUPS, CLASSES)
    assert (name.text, name.held_out) == ("frog", 25)
    assert name.precision == pytest.approx(15 / 25)
    row[0, first[GROUPS[first] == 0][:10]] = 2.0
    (both,) = names(row, GROUPS, CLASSES)
    assert both.text == "cat or frog"


def test_shuffled_activations_are_unclear() -> None:
    rows = np.concatenate([activations(k % 4, seed=k) for k in range(300)])
    generator = np.random.default_rng(1)
    shuffled = np.stack([row[generator.permutation(len(row))] for row in rows])
    assert {name.kind for name in names(rows, GROUPS, CLASSES)} == {"class"}
    assert {name.kind for name in names(shuffled, GROUPS, CLASSES)} == {"unclear"}


def test_all_classes_together_are_no_name() -> None:
    (name,) = names(activations(0, 1, seed=3), np.minimum(GROUPS, 1), ("cat", "dog"))
    assert name.kind == "unclear", "with two classes, both of them say nothing"


def test_too_few_samples_claim_nothing() -> None:
    row = np.zeros((1, 8), dtype=np.float32)
    row[0, :2] = 1.0
    (name,) = names(row, np.array([0, 0, 0, 0, 1, 1, 1, 1]), ("cat", "dog"))
    assert name.kind == "unclear"
    assert FEWEST == 5


def test_a_concept_names_a_neuron_that_no_class_does() -> None:
    generator = np.random.default_rng(2)
    loud = generator.random(len(GROUPS)) < 0.2
    row = (loud + 0.1 * generator.random(len(GROUPS))).astype(np.float32)[None]
    member = np.stack([~loud, loud], 1)
    (name,) = names(row, GROUPS, CLASSES, member, ("low volume", "high volume"))
    assert (name.kind, name.text, name.precision) == ("concept", "high volume", 1.0)


def test_wilson_is_the_root_of_its_own_definition() -> None:
    low = wilson(20, 25)
    assert abs(20 / 25 - low) == pytest.approx(3.09 * np.sqrt(low * (1 - low) / 25))
    assert wilson(0, 10) == pytest.approx(0.0)


def test_the_features_of_a_table_are_concepts_and_constants_are_not(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((50, 2)).astype(np.float32)
    x[:, 1] = 7.0
    data = from_arrays(
        tmp_path / "d",
        x,
        np.arange(50) % 2,
        classes=("a", "b"),
        name="d",
        task="classification",
        features=("size", "k"),
    )
    called, member = concepts(data, np.arange(50), Context())
    assert called == ("high size", "low size")
    assert member.sum(0).tolist() == [10, 10]
    assert x[member[:, 0], 0].min() > x[~member[:, 0], 0].max()


def test_a_pass_remembers_what_the_chosen_samples_showed() -> None:
    kept = Sampled(torch.tensor([1, 4, 6]), 2)
    kept.add(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.tensor([0, 1, 2]))
    kept.add(torch.tensor([[7.0, 8.0], [9.0, 10.0]]), torch.tensor([6, 8]))
    assert kept.of(torch.tensor([1, -1])).tolist() == [[4.0, 0.0, 8.0], [0.0, 0.0, 0.0]]
    assert [how_many(n) for n in (10, CELLS // 500, 10**9)] == [MOST, 500, FEWEST_SAMPLES]


def test_a_scan_keeps_the_responses_that_its_means_are_made_of(pico_images: Dataset, tmp_path: Path) -> None:
    from tests.pages.patients import network

    model = network(pico_images)
    found = scan(model, pico_images, Context())
    kept = found.responses
    assert model.index is not None and kept is not None
    assert kept.values.shape == (int(model.index.point.sum()), found.samples), "small data is kept whole"
    for c in range(len(found.classes)):
        own = kept.values[:, kept.groups == c].mean(1)
        assert torch.allclose(own, found.mean[model.index.point, c], atol=1e-5)
    found.save(tmp_path)
    again = Scan.load(tmp_path).responses
    assert again is not None
    assert torch.equal(again.values, kept.values)
    assert torch.equal(again.samples, kept.samples)


def test_dead_constant_neutral_and_output_are_names_too() -> None:
    found = made([[0.0, 0.0, 0.0], [0.3, 0.3, 0.3], [2.0, 2.05, 2.0], [4.0, 1.0, 1.0]])
    found.var[1] = 0
    found.var[2] = 1e-4
    points = int(mlp().index.point.sum())  # type: ignore[union-attr]
    groups = torch.arange(30) % 3
    values = torch.zeros(points, 30)
    values[3] = (groups == 0) * 4.0
    empty = torch.zeros(30, 0, dtype=torch.bool)
    kept = Responses(values, torch.arange(30), groups, empty)
    table = neurons(mlp(), replace(found, responses=kept))
    assert table.loc[:3, "name"].tolist() == ["dead", "constant", "class-neutral", "a"]
    assert table.loc[:3, "name_kind"].tolist() == ["dead", "constant", "neutral", "class"]
    assert set(table.loc[table["logit"], "name_kind"]) == {"output"}
    assert set(neurons(mlp(), found)["name_kind"]) == {""}, "older results have no responses"
