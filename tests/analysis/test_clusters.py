from __future__ import annotations

import numpy as np
import pytest

from surgery.analysis.clusters import clusters, label

CLASSES = ("cat", "dog", "owl", "fox")


def profiles(seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Twelve neurons per class that answer to it, with strengths from 0.01 to 100; then flat and silent ones."""
    generator = np.random.default_rng(seed)
    rows, names = [], []
    for number, name in enumerate(CLASSES):
        for _ in range(12):
            row = generator.uniform(0, 0.2, 4)
            row[number] = generator.uniform(0.9, 1.1)
            rows.append(row * 10 ** generator.uniform(-2, 2))
            names.append(f"Answers to {name}")
    rows += [np.array([5.0, 5.1, 5.0, 4.9])] * 3 + [np.zeros(4)] * 2
    names += ["Responds to everything"] * 3 + ["Silent"] * 2
    return np.array(rows), names


def test_neurons_of_a_class_are_found_whatever_their_strength() -> None:
    rows, expected = profiles()
    group, labels = clusters(rows, np.ones(len(rows), dtype=bool), classes=CLASSES)
    assert [labels[g] for g in group] == expected
    assert labels == [f"Answers to {name}" for name in CLASSES] + ["Responds to everything", "Silent"]


def test_only_points_are_grouped() -> None:
    rows, _ = profiles()
    point = np.arange(len(rows)) % 2 == 0
    group, labels = clusters(rows, point, classes=CLASSES)
    assert (group[~point] == -1).all()
    assert (group[point] >= 0).all()
    assert set(group[point]) == set(range(len(labels))), "no group without members"


def test_the_same_seed_gives_the_same_groups() -> None:
    rows = np.random.default_rng(5).normal(size=(80, 4))
    everyone = np.ones(80, dtype=bool)
    first, again = (clusters(rows, everyone, 7, classes=CLASSES) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    assert first[1] == again[1]


@pytest.mark.parametrize(
    ("centre", "expected"),
    [
        ([1.7, -0.6, -0.5, -0.6], "Answers to cat"),
        ([1.0, 1.0, -1.0, -1.0], "Answers to cat and dog"),
        ([0.6, 0.5, 0.6, -1.7], "Answers to cat, dog and owl"),
    ],
)
def test_a_label_names_the_classes_that_stand_out(centre: list[float], expected: str) -> None:
    assert label(np.array(centre), CLASSES) == expected


def test_a_label_may_name_what_is_missing_or_nothing() -> None:
    ten = [str(digit) for digit in range(10)]
    assert label(np.array([0.4] * 9 + [-3.0]), ten) == "Answers to all but 9"
    assert label(np.array([1.0, -1.0] * 5), ten) == "Mixed"


def test_few_neurons_and_few_classes() -> None:
    one = np.ones(1, dtype=bool)
    assert clusters(np.array([[0.0, 1.0]]), one, classes=("a", "b"))[1] == ["Answers to b"]
    assert clusters(np.zeros((0, 2)), np.zeros(0, dtype=bool), classes=("a", "b"))[1] == []
    same = np.array([[0.0, 1.0]] * 5)
    assert clusters(same, np.ones(5, dtype=bool), classes=("a", "b"))[0].tolist() == [0] * 5
    group, labels = clusters(np.array([[1.0], [0.0], [3.0]]), np.ones(3, dtype=bool), classes=("all",))
    assert [labels[g] for g in group] == ["Active", "Silent", "Active"]


def test_beyond_the_size_that_is_joined_the_others_go_to_the_nearest_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    favourite = np.arange(600) % 4
    rows = (np.eye(4)[favourite] + 0.05 * generator.random((600, 4))) * generator.uniform(0.1, 9, (600, 1))
    whole = clusters(rows, np.ones(600, dtype=bool), classes=("a", "b", "c", "d"))
    monkeypatch.setattr("surgery.analysis.clusters.JOINED", 50)
    number, labels = clusters(rows, np.ones(600, dtype=bool), classes=("a", "b", "c", "d"))
    assert labels == whole[1] == [f"Answers to {name}" for name in "abcd"]
    assert number.tolist() == whole[0].tolist() == favourite.tolist()
