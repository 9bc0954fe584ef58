"""The result of a surgery in a few sentences, the same everywhere: removed classes first, then the headline."""

from __future__ import annotations

from dataclasses import replace

from surgery.tell import tell
from tests.rows import line, receipt, times


def test_the_headline_says_quality_size_and_speed() -> None:
    accuracy = line("accuracy", 0.97, 0.922, n=270, split="val", low=-0.076, high=-0.02)
    table = [accuracy, line("parameters", 1000, 420, unit="", n=None), *times(3.2, 2.0, 0.1)]
    assert tell(receipt(table)).headline == (
        "Accuracy 97.0% → 92.2% (−4.8 pp) · 95% CI −7.6 to −2.0 · validation, n = 270 · 58.0% fewer parameters · "
        "1.6× the speed at batch 32 on this machine"
    )


def test_a_difference_that_chance_or_spread_explains_is_not_one() -> None:
    table = [line("accuracy", 0.97, 0.966, n=269), *times(3.2, 2.0, 1.5)]
    assert tell(receipt(table)).headline == "Accuracy 97.0% → 96.6% (−0.4 pp, not significant) · test, n = 269"


def test_fewer_bits_are_told_in_bytes() -> None:
    same = [line("accuracy", 0.9, 0.9), line("parameters", 1000, 1000, unit="")]
    few = tell(receipt([*same, line("bytes", 4000, 520, unit="bytes")])).headline
    assert few.endswith("as many parameters · 13.0% of the bytes")
    half = [line("parameters", 1000, 500, unit=""), line("bytes", 4000, 2100, unit="bytes")]
    assert "bytes" not in tell(receipt(half)).headline


def test_a_regression_is_told_by_r2() -> None:
    row = line("r2", 0.45, 0.4412, unit="", low=-0.02, high=-0.001)
    assert tell(receipt([row])).headline == ("R² 0.450 → 0.441 (−0.009) · 95% CI −0.020 to −0.001 · test, n = 100")


def test_removed_classes_come_first_and_accuracy_is_over_the_classes_of_both() -> None:
    classes = {"before": list("abcdef"), "after": ["a", "b"]}
    table = [line("accuracy", 0.944, 0.989, low=0.01, high=0.08), line("accuracy", 0.9, 0.95, scope="a")]
    told = tell(replace(receipt(table), classes=classes))
    assert told.removed == "4 of 6 classes removed: c, d, e, f"
    assert told.headline.startswith("Accuracy over the 2 classes of both 94.4% → 98.9% (+4.5 pp)")
    assert told.line.startswith("4 of 6 classes removed: c, d, e, f · Accuracy over")
    assert told.lines[0] == told.removed and told.lines[2] == "No class lost accuracy."


def test_many_removed_classes_are_counted() -> None:
    classes = {"before": [f"c{n}" for n in range(20)], "after": ["c0"]}
    told = tell(replace(receipt(), classes=classes))
    assert told.removed == "19 of 20 classes removed: c1, c2, c3, c4, c5, c6, c7, c8 and 11 more"


def test_added_classes_are_no_loss() -> None:
    told = tell(replace(receipt([line("accuracy", 0.9, 0.9)]), classes={"before": ["a"], "after": ["a", "b"]}))
    assert told.removed == "" and told.headline.startswith("Accuracy over the 1 class of both 90.0% → 90.0%")


def test_where_the_versions_have_no_class_in_common_only_the_new_one_is_measured() -> None:
    table = [line("accuracy", None, 0.9)]
    told = tell(replace(receipt(table), classes={"before": ["a", "b"], "after": ["c"]}))
    assert told.lines == ["2 of 2 classes removed: a, b", "Accuracy 90.0% · test, n = 100"]


def test_the_preservation_set_is_told() -> None:
    cases = {"n": 50, "right": 48, "broken": [{}], "mended": []}
    assert tell(replace(receipt(), cases=cases)).lines == ["1 of 48 protected samples broken, 0 fixed (50 in all)"]
