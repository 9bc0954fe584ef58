from typing import Any

import pytest

from surgery.receipt import by_turns, losing_class, sentence


def line(metric: str, before: float, after: float, scope: str = "overall", **more: Any) -> dict[str, Any]:
    row = {"metric": metric, "scope": scope, "before": before, "after": after, "change": after - before}
    return row | {"unit": "fraction", "better": "higher", "split": "test", "n": 100, **more}


def times(before: float, after: float, spread: float) -> list[dict[str, Any]]:
    about = {"scope": "batch 32", "unit": "ms", "better": "lower"}
    return [line("latency", before, after, **about), line("latency IQR", spread, spread, **about)]


def test_the_sentence_says_quality_size_and_speed() -> None:
    table = [line("accuracy", 0.978, 0.975), line("parameters", 1000, 420, unit=""), *times(3.2, 2.0, 0.1)]
    assert sentence(table) == (
        "Accuracy 97.8 → 97.5 % on 100 test samples, 58 % fewer parameters, 1.6× the speed at batch 32 on this machine"
    )


def test_fewer_bits_are_told_in_bytes() -> None:
    table = [
        line("accuracy", 0.9, 0.9),
        line("parameters", 1000, 1000, unit=""),
        line("bytes", 4000, 520, unit="bytes"),
    ]
    assert sentence(table) == "Accuracy 90.0 → 90.0 % on 100 test samples, as many parameters, 13.0 % of the bytes"
    assert "bytes" not in sentence([line("parameters", 1000, 500, unit=""), line("bytes", 4000, 2100, unit="bytes")])


def test_a_difference_within_the_spread_is_not_called_speed() -> None:
    assert sentence([line("accuracy", 0.9, 0.9), *times(3.2, 2.0, 1.5)]) == "Accuracy 90.0 → 90.0 % on 100 test samples"


def test_a_regression_is_told_by_r2() -> None:
    assert sentence([line("r2", 0.45, 0.4412)]) == "R² 0.450 → 0.441 on 100 test samples"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cat": -0.037, "dog": -0.01}, "Class cat loses most: -3.7 points (n = 100)."),
        ({"cat": 0.0, "dog": 0.01}, "No class lost."),
        ({}, ""),
    ],
)
def test_the_losing_class_is_named(changes: dict[str, float], expected: str) -> None:
    table = [line("accuracy", 0.5, 0.5 + change, scope=name) for name, change in changes.items()]
    assert losing_class([line("accuracy", 0.5, 0.2), *table]) == expected


def test_flipped_samples_take_turns_by_class() -> None:
    flips = [{"sample": number, "truth": 0 if number < 6 else 1 + number % 2} for number in range(12)]
    shown = [flip["truth"] for flip in by_turns(flips, 6)]
    assert shown == [0, 1, 2, 0, 1, 2]
    assert len(by_turns(flips, 50)) == 12 and by_turns([], 5) == []
