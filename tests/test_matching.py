"""Classes of a dataset and of a model are matched by name; what does not match is named, never guessed."""

from __future__ import annotations

import pytest

from surgery.matching import Pairs, apart, mismatch, same_but_spelling, suggested


@pytest.mark.parametrize(
    ("classes", "known", "pairs"),
    [
        (("automobile", "cat"), ("auto", "cat"), {"automobile": "auto"}),
        (("Cat", "dog"), ("cat", "dog"), {"Cat": "cat"}),
        (("001", "002"), ("1", "2"), {"001": "1", "002": "2"}),
        (("class_0", "class_1"), ("0", "1"), {"class_0": "0", "class_1": "1"}),
        (("traffic light", "tree"), ("traffic_light", "tree"), {"traffic light": "traffic_light"}),
        (("bicycel", "tree"), ("bicycle", "tree"), {"bicycel": "bicycle"}),
        (("zebra", "tree"), ("auto", "tree"), {"zebra": ""}),
        (("11", "tree"), ("1", "tree"), {"11": ""}),
    ],
)
def test_pairs_are_suggested_by_what_resembles(
    classes: tuple[str, ...], known: tuple[str, ...], pairs: dict[str, str]
) -> None:
    assert suggested(classes, known) == Pairs(pairs, "name")


def test_only_where_no_name_matches_the_order_is_suggested_and_marked_as_such() -> None:
    assert suggested(("zebra", "tree"), ("0", "1")) == Pairs({"zebra": "0", "tree": "1"}, "position")
    assert suggested(("zebra", "tree", "cat"), ("0", "1")).by == "name"


def test_no_class_of_the_model_is_suggested_twice() -> None:
    assert suggested(("automobile", "autobus"), ("auto", "cat")).names == {"automobile": "auto", "autobus": ""}


def test_data_with_more_classes_than_the_model_is_narrowed_not_renamed() -> None:
    assert not apart(("auto", "cat", "dog"), ("auto", "cat"))
    assert not apart(("auto",), ("auto", "cat"))
    assert apart(("automobile", "cat", "dog"), ("auto", "cat"))


def test_a_spelling_is_no_new_class() -> None:
    assert same_but_spelling(("Auto", "automobile", "cat"), ("auto", "cat")) == {"Auto": "auto"}


def test_the_message_names_the_odd_ones_and_the_first_pair() -> None:
    what, fix = mismatch(("automobile", "cat"), ("auto", "cat"), "'photos'")
    assert what == (
        "1 of the 2 classes of 'photos' (automobile) is no class of the model (auto, cat); "
        "labels are never matched by position."
    )
    assert fix == "Rename them on the page Model & data, or with `surgery relabel DATASET 'automobile=auto'`."
