"""Sets of neuron ids: joined, subtracted, inverted, spelled and read back."""

from __future__ import annotations

import random

import pytest

from surgery.errors import SelectionError
from surgery.ui.selection import How, combine, invert, led, parse, spell

LEADERS = {i: i for i in range(50)} | {50: 7, 51: 8}  # 50 and 51 are coupled to 7 and 8; 52 is an output


@pytest.mark.parametrize(("how", "expected"), [("replace", (2, 9)), ("add", (1, 2, 3, 9)), ("subtract", (1, 3))])
def test_a_new_choice_replaces_joins_or_is_taken_out(how: How, expected: tuple[int, ...]) -> None:
    assert combine((3, 1, 2), (9, 2), how) == expected


def test_inverting_takes_all_that_can_be_chosen_and_was_not() -> None:
    assert invert((2, 99), range(5)) == (0, 1, 3, 4)


@pytest.mark.parametrize(("ids", "text"), [((), ""), ((4,), "4"), ((1, 2), "1–2"), ((3, 7, 8, 9, 40), "3, 7–9, 40")])
def test_runs_are_spelled_as_ranges(ids: tuple[int, ...], text: str) -> None:
    assert spell(ids) == text


def test_what_is_spelled_is_read_back() -> None:
    generator = random.Random(0)
    for _ in range(50):
        ids = tuple(sorted(generator.sample(range(50), generator.randrange(1, 40))))
        assert parse(spell(ids), LEADERS) == ids
        assert parse(spell(ids, comma=".", dash="-"), LEADERS) == ids  # as it stands in the URL


@pytest.mark.parametrize("text", ["3, 7-9", "3 7 8 9", "3;7–9", " 9, 8,7 , 3 ", "3.7 - 9"])
def test_ids_are_read_however_they_are_separated(text: str) -> None:
    assert parse(text, LEADERS) == (3, 7, 8, 9)


def test_a_coupled_neuron_stands_for_its_group() -> None:
    assert parse("50-51, 7", LEADERS) == (7, 8)
    assert led((51, 52, 999), LEADERS) == (8,)


def test_unknown_ids_are_named_with_what_is_allowed() -> None:
    with pytest.raises(SelectionError, match=r"no neuron 52, 60–61 .* from 0 to 51"):
        parse("1, 52, 60-61", LEADERS)


def test_a_word_is_named() -> None:
    with pytest.raises(SelectionError, match=r"'conv2' is not a neuron id.*3, 7-12, 40"):
        parse("1 conv2", LEADERS)


def test_an_endless_range_is_refused_before_it_is_made() -> None:
    with pytest.raises(SelectionError, match="too long"):
        parse("0-99999999999999", LEADERS)
