"""The rule language: what each form finds, what binds first, and that nothing in it can run."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from surgery.analysis.query import Neurons, find, layer_ranks
from surgery.errors import SelectionError

LAYERS = ["layer1.conv", "layer1.conv", "layer10.conv", "layer2.0.conv", "layer2.0.conv", "layer2.1.conv"]
MEANS = np.arange(30.0).reshape(6, 5)
NEURONS = Neurons(
    pd.DataFrame(
        {
            "id": [0, 1, 2, 3, 4, 5],
            "layer": LAYERS,
            "position": [0, 1, 0, 0, 1, 0],
            "mean": [0.1, -0.5, 0.3, 0.0, 2.0, 0.7],
            "active": [0.5, 0.4, 0.0, 0.9, 1.0, 0.2],
            "selectivity": [0.1, 0.2, 0.0, 0.6, 0.3, 0.9],
            "top_class": ["cat", "dog", "", "t-shirt/top", "grey cat", "cat"],
            "fixed": [False, False, True, False, False, False],
            "name": ["cat or dog", "unclear", "dead", "3", "class-neutral", "high volume"],
            "name_kind": ["class", "unclear", "dead", "class", "neutral", "concept"],
            "precision": [0.8, np.nan, np.nan, 0.9, np.nan, 0.7],
        }
    ),
    ("cat", "dog", "grey cat", "t-shirt/top", "3"),
    {
        "mean": lambda place: MEANS[:, place],
        "critical": lambda place: layer_ranks(np.array(LAYERS, dtype=object), MEANS)[:, place],
    },
)


def ids(rule: str) -> list[int]:
    return np.flatnonzero(find(rule, NEURONS)).tolist()


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("layer1", [0, 1]),
        ("layer2", [3, 4, 5]),
        ("layer2.0.conv", [3, 4]),
        ("cat", [0, 5]),
        ("CAT", [0, 5]),
        ('"grey cat"', [4]),
        ("t-shirt/top", [3]),
        ("4", [4]),
        ("dead", [2]),
        ("unclear", [1]),
        ("neutral", [4]),
        ('"cat or dog"', [0]),
        ('"high volume" or precision >= 0.9', [3, 5]),
        ("fixed", [2]),
        ("not fixed and not layer2", [0, 1]),
        ("cat or dog and layer2", [0, 5]),
        ("(cat or dog) and layer1", [0, 1]),
        ("mean < 0", [1]),
        ("mean > -0.5 and mean<=.1", [0, 3]),
        ("active >= 9e-1", [3, 4]),
        ("selectivity != 0 and id > 3", [4, 5]),
        ("position = 1", [1, 4]),
        ("mean(3) >= 19", [3, 4, 5]),
        ("mean( 'grey cat' ) < 8", [0, 1]),
        ("critical(dog) > 0.8", [1, 4]),
        ("layer1 and critical(cat) < 0.1", [0]),
        ("not not layer1", [0, 1]),
    ],
)
def test_what_a_rule_finds(rule: str, found: list[int]) -> None:
    assert ids(rule) == found


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("", "needs a layer, a class or a value at character 1, but the rule ends"),
        ("layer1 and", "at character 11, but the rule ends"),
        ("layer1 cat", "needs and, or, or the end at character 8, found 'cat'"),
        ("(layer1", "needs a closing bracket at character 8"),
        ("layer1)", "found '\\)'"),
        ("mean <", "needs a number at character 7"),
        ("mean < cat", "needs a number at character 8, found 'cat'"),
        ("colour > 3", "There is no value 'colour'"),
        ("layr1", "no class, layer, name or state 'layr1'"),
        ("critical(bird) > 1", "no class 'bird'"),
        ("critical(cat)", "needs <, <=, >"),
        ("exec(cat) > 1", "There is no exec"),
        ("__import__('os').system('true')", "There is no __import__"),
        ("mean > 1; cat", "cannot be read from ';"),
        ("cat[0]", "cannot be read from '\\["),
        ("{cat}", "cannot be read from '{cat}' on \\(character 1"),
        ("lambda: 1", "no class, layer, name or state 'lambda:'"),
        ("(" * 40 + "cat" + ")" * 40, "too many brackets"),
        ("not " * 60 + "cat", "too many brackets"),
        ("cat or " * 100 + "cat", "has 703 characters"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(rule: str, message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        find(rule, NEURONS)


def test_an_unknown_word_gets_its_neighbours() -> None:
    with pytest.raises(SelectionError) as caught:
        find("layr2", NEURONS)
    assert "layer2" in caught.value.fix


def test_without_scores_a_rule_about_them_says_where_to_get_them() -> None:
    bare = Neurons(NEURONS.table, NEURONS.classes, {"mean": NEURONS.by_class["mean"]})
    with pytest.raises(SelectionError, match="has not been computed") as caught:
        find("critical(cat) > 0.5", bare)
    assert "Slices" in caught.value.fix


def test_ranks_within_a_layer() -> None:
    layers = np.array(["a", "a", "a", "b"], dtype=object)
    score = np.array([[3.0, 1.0], [1.0, 1.0], [2.0, 5.0], [9.0, 9.0]])
    assert layer_ranks(layers, score).tolist() == [[1.0, 0.0], [0.0, 0.0], [0.5, 1.0], [0.0, 0.0]]
