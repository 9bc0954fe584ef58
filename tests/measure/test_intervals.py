"""Intervals of a before/after table: of all samples, of each class, of texts and of regressions."""

from __future__ import annotations

import numpy as np
import pytest

from surgery import change
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.measure import measure
from surgery.measure.interval import mean_difference, paired
from surgery.measure.intervals import measured_intervals, with_intervals
from surgery.operations.base import Outcome
from surgery.receipt import Receipt, rows
from tests.patients import writer
from tests.rows import line


def test_every_class_counts_its_own_flips() -> None:
    truth = np.array([0] * 6 + [1] * 4)
    old, new = truth.copy(), truth.copy()
    new[:2], old[6:7] = 1, 0  # two of the first class lost, one of the second won
    scopes = np.array(["cat"] * 6 + ["dog"] * 4, dtype=object)
    table = [
        line("accuracy", 0.9, 0.8, n=10),
        line("accuracy", 1.0, 4 / 6, "cat", n=6),
        line("accuracy", 0.75, 1.0, "dog", n=4),
        line("agreement", 1.0, 0.7, n=10),
        line("accuracy", 0.5, 0.4, split="val"),
        line("parameters", 9, 5, unit="", split=""),
    ]
    overall, cat, dog, agreement, other, size = with_intervals(table, old, new, truth, scopes, "test")
    assert [(row["lost"], row["won"]) for row in (overall, cat, dog, agreement)] == [(2, 1), (2, 0), (0, 1), (2, 1)]
    assert (cat["low"], cat["high"]) == paired(2, 0, 6) and "low" not in agreement
    assert (other, size) == (table[4], table[5]), "measured on other samples, or on none"
    assert change.worded(agreement) == "3 predictions changed: 1 fix, 2 regressions"


def test_a_class_called_overall_is_told_from_all() -> None:
    truth = np.array([0, 0, 1])
    scopes = np.array(["class overall", "class overall", "b"], dtype=object)
    found = with_intervals(
        [line("accuracy", 1, 2 / 3, n=3), line("accuracy", 1, 0.5, "class overall", n=2)],
        truth, np.array([1, 0, 1]), truth, scopes, "test",
    )  # fmt: skip
    assert [(row["lost"], row["won"]) for row in found] == [(1, 0), (1, 0)]


def test_of_a_regression_both_errors_have_an_interval() -> None:
    truth = np.linspace(0, 1, 50, dtype=np.float32)
    table = [line("r2", 1.0, 0.9, unit=""), line("mse", 0.0, 0.1, unit="", better="lower")]
    found = with_intervals(table, truth, truth + np.float32(0.1), truth, None, "test")
    assert [change.verdict(row) for row in found] == ["worse", "worse"]


def test_of_a_text_the_loss_has_the_interval_of_its_mean_difference(pico_text: Dataset) -> None:
    models = {"before": writer(0), "after": writer(1)}
    found = measure(models, pico_text, Context(), latency=False)
    receipt = Receipt.make({}, "x", Outcome((), None), found, pico_text, 0.0, classes={})
    loss, perplexity = (receipt.row(name) for name in ("loss", "perplexity"))
    assert loss is not None and perplexity is not None
    low, high = mean_difference(found.losses["before"], found.losses["after"])
    assert (loss["low"], loss["high"]) == (low, high) and low <= loss["change"] <= high
    assert perplexity["low"] == pytest.approx(perplexity["before"] * np.expm1(low))
    assert change.verdict(loss) == change.verdict(perplexity)
    again = measured_intervals(rows(found.rows), found, pico_text, "before", "nobody")
    assert all("low" not in row for row in again)


def test_the_mean_difference_of_pairs() -> None:
    low, high = mean_difference(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0]))
    assert (low, high) == (1.0, 1.0)
