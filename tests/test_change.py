"""One change in words: formatted by one rule, and called better or worse only where it is."""

from __future__ import annotations

from typing import Any

import pytest

from surgery import change, units
from tests.rows import line, times


@pytest.mark.parametrize(
    ("row", "said", "verdict"),
    [
        (line("accuracy", 0.97, 0.922, low=-0.076, high=-0.02), "−4.8 pp (95% CI −7.6 to −2.0), worse", "worse"),
        (line("accuracy", 0.9, 0.95, low=0.01, high=0.09), "+5.0 pp (95% CI +1.0 to +9.0), better", "better"),
        (
            line("accuracy", 0.97, 0.966, low=-0.014, high=0.007),
            "−0.4 pp (95% CI −1.4 to +0.7), no significant difference",
            "same",
        ),
        (line("accuracy", 0.97, 0.966, n=269), "−0.4 pp, no significant difference", "same"),
        (line("accuracy", 0.9, 0.6, n=269), "−30.0 pp, worse", "worse"),
        (line("accuracy", 0.9, 0.9), "no change", "same"),
        (
            line("accuracy", 0.9, 0.9, lost=3, won=3, low=-0.05, high=0.05),
            "±0.0 pp (95% CI −5.0 to +5.0), no significant difference",
            "same",
        ),
        (line("accuracy", None, 0.9), "–", ""),
        (line("r2", 0.5, 0.45, unit="", low=-0.09, high=-0.01), "−0.050 (95% CI −0.090 to −0.010), worse", "worse"),
        (
            line("mse", 10.0, 8.0, unit="", better="lower", low=-3.0, high=-1.0),
            "−2.00 (95% CI −3.00 to −1.00), better",
            "better",
        ),
        (line("mse", 10.0, 8.0, unit="", better="lower"), "−2.00", ""),
        (line("parameters", 112_000, 84_800, unit="", better="lower", n=None), "−24.3%, better", "better"),
        (line("bytes", 22.4e6, 31.8e6, unit="bytes", better="lower", n=0), "+42.0%, worse", "worse"),
    ],
)
def test_a_change_is_worded_in_its_own_unit(row: dict[str, Any], said: str, verdict: str) -> None:
    assert (change.worded(row), change.verdict(row)) == (said, verdict)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (line("agreement", 1.0, 0.62, lost=0, won=38), "38 predictions changed, all of them fixes"),
        (line("agreement", 1.0, 0.62, lost=8, won=30), "38 predictions changed: 30 fixes, 8 regressions"),
        (line("agreement", 1.0, 0.62, lost=1, won=1), "38 predictions changed: 1 fix, 1 regression"),
        (line("agreement", 1.0, 0.62, lost=38, won=0), "38 predictions changed, all of them regressions"),
        (line("agreement", 1.0, 0.99, lost=0, won=1), "1 prediction changed, a fix"),
        (line("agreement", 1.0, 1.0, lost=0, won=0), "no change"),
    ],
)
def test_a_fall_of_agreement_says_which_of_the_flips_are_fixes_and_is_not_judged(
    row: dict[str, Any], said: str
) -> None:
    assert (change.worded(row), change.verdict(row)) == (said, "")


def test_agreement_without_labels_is_judged() -> None:
    assert change.worded(line("agreement", 1.0, 0.62)) == "38 predictions changed, worse"
    assert change.worded(line("agreement", 1.0, 0.99)) == "1 prediction changed, no significant difference"


def test_a_time_within_its_spread_has_no_difference() -> None:
    (row,) = change.joined(times(0.408, 0.612, 0.5))
    assert (change.worded(row), change.verdict(row)) == ("no measurable difference", "same")
    assert (change.title(row), change.value(row, "before")) == ("Latency · batch 32", "0.408 ms (IQR 0.500)")
    assert change.measured_on(row) == "cpu, 1 thread, 30 passes"
    (row,) = change.joined(times(4.0, 2.0, 0.5))
    assert change.worded(row) == "−50.0%, better"


@pytest.mark.parametrize(
    ("rows", "said", "verdict"),
    [
        (
            [line("accuracy", 1.0, 0.75, "cat", n=8), line("accuracy", 1.0, 0.2, "dog", n=40, low=-0.9, high=-0.6)],
            "Largest drop: class dog, −80.0 pp, 95% CI −90.0 to −60.0, n = 40.",
            "worse",
        ),
        (
            [line("accuracy", 1.0, 0.9, "cat", n=10), line("accuracy", 0.9, 0.92, "dog")],
            "No class lost accuracy significantly (largest drop: class cat, −10.0 pp, n = 10).",
            "same",
        ),
        ([line("accuracy", 0.9, 0.9, "cat"), line("accuracy", 0.9, 0.95, "dog")], "No class lost accuracy.", "same"),
        ([line("accuracy", 0.9, 0.5)], "", ""),
    ],
)
def test_the_class_that_loses_most_is_named(rows: list[dict[str, Any]], said: str, verdict: str) -> None:
    assert change.worst_class(rows) == (said, verdict)


def test_what_was_measured_of_two_models_becomes_a_table() -> None:
    measured = [
        {"model": model, "metric": metric, "scope": "batch 1", "value": value, "unit": "ms", "better": "lower"}
        | {"split": "cpu", "n": 9}
        for metric, values in (("latency", (2.0, 1.0, 1.9)), ("latency IQR", (0.1, 0.2, 0.3)))
        for model, value in zip(("a", "b", "c"), values, strict=True)
    ]
    (row,) = change.between(measured, "a", "c")
    assert (row["before"], row["after"], row["spread"]) == (2.0, 1.9, (0.1, 0.3))
    assert change.worded(row) == "no measurable difference"
    assert change.between(measured, "a", "nobody") == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(27_200.0, "27,200"), (2.72e7, "27,200,000"), (3.2e-7, "0.000000320"), (-0.5, "−0.500"), (1e-30, "0")],
)
def test_no_number_has_an_exponent(value: float, text: str) -> None:
    assert units.digits(value) == text


def test_differences_have_a_true_minus() -> None:
    assert [units.points(value) for value in (-0.048, 0.003, 0.0)] == ["−4.8 pp", "+0.3 pp", "±0.0 pp"]
    assert [units.signed_digits(value) for value in (-0.0123, 2.0, -0.0)] == ["−0.0123", "+2.00", "±0"]
    assert units.signed(-0.0) == "±0.0"
