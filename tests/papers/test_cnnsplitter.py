"""Literal replicas of CNNSplitter's genetic operators (arXiv 2311.04438), gene by gene."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
import torch

from surgery.operations.evolved import MUTATION, ROBUST, SENSITIVE, crossed, fitness, initial, mutated, tournament

LAYER = np.repeat([0, 1, 2], [10, 10, 100])


def test_sensitive_layers_start_fuller() -> None:
    genomes = initial(LAYER, {1}, 400, np.random.default_rng(0))
    shares = [genomes[:, number == LAYER].mean(1) for number in range(3)]
    for number, (low, high) in ((0, ROBUST), (1, SENSITIVE), (2, ROBUST)):
        assert shares[number].min() >= low - 0.05, "a share of ten genes is rounded"
        assert shares[number].max() <= high + 0.05
        assert shares[number].mean() == pytest.approx((low + high) / 2, abs=0.02)


def test_a_child_has_its_mothers_genes_up_to_a_point_and_its_fathers_after() -> None:
    mother, father = np.zeros(30, dtype=bool), np.ones(30, dtype=bool)
    points = set()
    for seed in range(200):
        child = crossed(mother, father, np.random.default_rng(seed))
        point = int((~child).sum())
        assert not child[:point].any()
        assert child[point:].all()
        points.add(point)
    assert len(points) > 20


def test_few_genes_are_turned_and_no_layer_is_left_empty() -> None:
    random = np.random.default_rng(0)
    genome = random.random(len(LAYER)) < 0.5
    turned = np.mean([(mutated(genome, LAYER, random) ^ genome).mean() for _ in range(300)])
    assert turned == pytest.approx(MUTATION, abs=0.01)
    single = np.zeros(len(LAYER), dtype=bool)
    for number in range(3):
        assert mutated(single, LAYER, random)[number == LAYER].any()


def test_fitness_is_nine_parts_accuracy_and_one_part_difference() -> None:
    assert fitness(0.8, [0.5, 0.7]) == pytest.approx(0.9 * 0.8 + 0.1 * (1 - 0.6))


def test_the_tournament_finds_what_trying_all_finds() -> None:
    """With room for every team, the winner of the rounds is the best of all combinations."""
    generator = torch.Generator().manual_seed(0)
    count, genomes, n = 4, 2, 40
    answers = torch.randn(count, genomes, n, generator=generator)
    truth = torch.randint(0, count, (n,), generator=generator)
    random = np.random.default_rng(0)
    overlap = random.random((count, genomes, count, genomes))
    overlap = (overlap + overlap.transpose(2, 3, 0, 1)) / 2
    rounds = tournament(answers, truth, overlap, keep=100)
    assert [len(teams) for teams in rounds] == [2 * genomes**2, genomes**count]

    def by_hand(chosen: tuple[int, ...]) -> float:
        logits = torch.stack([answers[k, g] for k, g in enumerate(chosen)])
        right = float((logits.argmax(0) == truth).double().mean())
        pairs = [overlap[a, chosen[a], b, chosen[b]] for a, b in combinations(range(count), 2)]
        return 0.9 * right + 0.1 * (1 - sum(pairs) / len(pairs))

    best = max(product(range(genomes), repeat=count), key=by_hand)
    winner = rounds[-1][0]
    assert winner.fitness == pytest.approx(by_hand(best))
    assert by_hand(tuple(g for _, g in winner.members)) == pytest.approx(by_hand(best))


def test_a_round_keeps_the_fittest_and_judges_them_on_their_own_classes() -> None:
    answers = torch.zeros(3, 2, 6)
    truth = torch.tensor([0, 0, 1, 1, 2, 2])
    answers[0, 0, :2], answers[0, 1, :2] = -1.0, 1.0  # only the second genome of class 0 knows its own samples
    answers[1, :, 2:4] = 2.0
    answers[2, :, 0:2] = 9.0  # class 2 shouts at samples of class 0: no matter before it plays
    overlap = np.zeros((3, 2, 3, 2))
    first, last = tournament(answers, truth, overlap, keep=2)
    pairs = [team for team in first if len(team.members) == 2]
    assert len(pairs) == 2
    assert pairs[0].fitness == pytest.approx(1.0)
    assert all(dict(team.members)[0] == 1 for team in pairs)
    assert {len(team.members) for team in last} == {3}
    assert last[0].fitness < 1.0
