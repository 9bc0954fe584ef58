"""A receipt: what it stores, what of an earlier release it still reads, and the page that others get."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from surgery.receipt import Receipt, answers, by_turns
from surgery.receipt_html import to_html
from surgery.tell import tell
from tests.rows import line, receipt, times


def test_flipped_samples_take_turns_by_class() -> None:
    flips = [{"sample": number, "truth": 0 if number < 6 else 1 + number % 2} for number in range(12)]
    shown = [flip["truth"] for flip in by_turns(flips, 6)]
    assert shown == [0, 1, 2, 0, 1, 2]
    assert len(by_turns(flips, 50)) == 12 and by_turns([], 5) == []


def test_a_prediction_of_no_compared_class_is_not_named_as_the_last_one() -> None:
    assert answers({"truth": 0, "before": 0, "after": -1}, ["cat", "dog"]) == "cat → –"
    assert answers({"losses": [1.0, 2.5]}, []) == "1.00 → 2.50 nats"
    flips = {"lost": [{"sample": 3, "truth": 0, "before": 0, "after": -1}], "won": [], "lost_count": 1, "won_count": 0}
    assert "cat: cat → –" in to_html(replace(receipt(), flips=flips), name="v2", parent="v1")


def test_the_page_says_what_the_app_says_and_colors_only_what_is_significant() -> None:
    table = [
        line("accuracy", 0.97, 0.966, n=269, lost=1, won=0),
        line("MACs", 54_000, 26_800, unit="", better="lower", n=0, split=""),
        *times(0.408, 0.612, 0.5),
    ]
    made = replace(receipt(table), classes={"before": ["a", "b", "c"], "after": ["a"]})
    page = to_html(made, name="v2", parent="v1")
    for text in tell(made).lines:
        assert text in page
    assert page.index("2 of 3 classes removed: b, c") < page.index("Accuracy over the 1 class of both")
    assert '<td class="same">no measurable difference</td>' in page
    assert '<td class="same">−0.4 pp, no significant difference</td>' in page
    assert '<td class="better">−50.4%, better</td>' in page
    assert "e+0" not in page and "▲" not in page and "▼" not in page


def test_a_receipt_of_release_0_1_0_gets_intervals_from_its_flipped_samples() -> None:
    table = [
        line("accuracy", 0.9, 0.88),
        line("accuracy", 1.0, 0.9, scope="cat", n=10),
        line("agreement", 1.0, 0.92),
        line("loss", 1.0, 1.1, unit="nats", better="lower"),
    ]
    lost = [{"sample": n, "truth": n % 2, "before": n % 2, "after": 1 - n % 2} for n in range(5)]
    won = [{"sample": 9, "truth": 0, "before": 1, "after": 0}]
    flips = {"lost": lost, "won": won, "lost_count": 5, "won_count": 1}
    old = receipt(table, flips=flips).to_json()
    del old["classes"]
    read = Receipt.from_json(json.loads(json.dumps(old)))
    overall, cat, agreement, loss = read.table
    assert (overall["lost"], overall["won"]) == (5, 1) and overall["low"] < -0.02 < overall["high"]
    assert (cat["lost"], cat["won"]) == (3, 1)
    assert (agreement["lost"], agreement["won"], "low" in agreement) == (5, 1, False)
    assert "low" not in loss and read.classes == {}

    cut = receipt(table, flips=flips | {"lost_count": 500}).to_json()
    assert "low" not in Receipt.from_json(cut).table[1], "of a class nothing is known when the list is cut short"


def test_what_a_receipt_notes_itself_is_not_changed() -> None:
    table: list[dict[str, Any]] = [line("accuracy", 0.9, 0.88, low=-0.1, high=0.0, lost=2, won=0)]
    assert Receipt.from_json(receipt(table).to_json()).table == table
