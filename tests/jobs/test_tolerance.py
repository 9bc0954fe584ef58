"""A result that loses more than the project allows waits for a decision, with the reason; nothing else is held back."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from surgery.data.dataset import Dataset
from surgery.jobs.tolerance import objections
from surgery.operations.forget import Forget
from surgery.plan import Plan
from surgery.receipt import Receipt
from surgery.workspace import Project, Workspace
from surgery.workspace.settings import Settings
from tests.jobs.conftest import perform
from tests.patients import mlp


def line(
    metric: str, before: float | None, after: float | None, scope: str = "overall", n: int = 100
) -> dict[str, Any]:
    change = None if before is None or after is None else after - before
    row = {"metric": metric, "scope": scope, "before": before, "after": after, "change": change}
    return row | {"unit": "fraction", "better": "higher", "split": "val", "n": n}


def receipt(*table: dict[str, Any], **more: Any) -> Receipt:
    flips = {"lost": [], "won": [], "lost_count": 0, "won_count": 0}
    given = {"plan": {}, "dataset": {}, "flips": flips, "tables": {}, "neurons": {}, "seconds": 1.0, **more}
    return Receipt(title="Cut", table=table, **given)


def found(*table: dict[str, Any], settings: Settings | None = None, **more: Any) -> tuple[str, ...]:
    return objections(receipt(*table, **more), settings or Settings())


def test_a_ruined_model_is_told_overall_and_by_class_the_worst_first() -> None:
    table = [
        line("accuracy", 0.993, 0.732, n=360),
        line("accuracy", 0.9, 0.7, "1", 36),
        line("accuracy", 1, 0, "8", 35),
    ]
    assert found(*table) == (
        "accuracy fell by 26.1 pp on validation, n = 360 (2.0 pp allowed)",
        "accuracy fell in class 8 by 100.0 pp (n = 35), 1 by 20.0 pp (n = 36) on validation (10.0 pp allowed)",
    )


@pytest.mark.parametrize("after", [0.93, 0.95, 1.0])
def test_what_the_project_allows_is_no_reason(after: float) -> None:
    assert not found(line("accuracy", 0.95, after), line("accuracy", 0.95, after - 0.08, "cat"))


def test_the_tolerance_is_the_project_s() -> None:
    rows = (line("accuracy", 0.95, 0.94), line("accuracy", 0.95, 0.75, "cat", 20))
    assert found(*rows, settings=Settings(0.5, 100)) == (
        "accuracy fell by 1.0 pp on validation, n = 100 (0.5 pp allowed)",
    )
    assert not found(*rows, settings=Settings(1, 20)), "as much as allowed is allowed, whatever the rounding"


def test_of_many_classes_three_are_named() -> None:
    told = found(*(line("accuracy", 0.9, 0.5 - number / 100, f"c{number}") for number in range(5)))
    assert told == (
        "accuracy fell in class c4 by 44.0 pp (n = 100), c3 by 43.0 pp (n = 100), c2 by 42.0 pp (n = 100) and 2 more "
        "on validation (10.0 pp allowed)",
    )


def test_a_regression_is_judged_by_its_r2_and_by_whether_it_has_one() -> None:
    assert found(line("r2", 0.9, 0.87)) == ("R² fell by 0.030 on validation, n = 100 (0.020 allowed)",)
    assert found(line("r2", 0.9, None)) == ("R² cannot be measured any more on validation, n = 100",)
    assert not found(line("r2", 0.9, 0.885), line("mse", 1.0, 900.0))


def test_classes_that_are_gone_without_having_been_asked_for_come_first() -> None:
    row, before, two = line("accuracy", None, 0.99), ("a", "b", "c", "d", "e"), {"before": ("a", "e"), "after": ("e",)}
    assert found(row, classes={"before": before, "after": ("e",)}) == (
        "no output any more for classes a, b, c and 1 more",
    )
    assert found(row, classes=two) == ("no output any more for class a",)
    assert not objections(receipt(row, classes=two), Settings(), Forget(classes=("a",)).drops())


def test_protected_samples_that_break_are_a_reason() -> None:
    cases = {"n": 5, "right": 4, "broken": [{"sample": 1}, {"sample": 2}], "mended": []}
    plan = {"preserve": {"may_break": 1}}
    (told,) = objections(receipt(cases=cases, plan=plan), Settings())
    assert told.startswith("2 of 4 ") and told.endswith(", 1 allowed")
    assert not objections(receipt(cases=cases, plan={"preserve": {"may_break": 2}}), Settings())


def test_a_job_commits_a_candidate_and_leaves_current_and_undo_alone(
    ws: Workspace, project: Project, pico_table: Dataset
) -> None:
    def make(folder: Path) -> Dataset:
        shutil.copytree(pico_table.folder, folder, dirs_exist_ok=True)
        return Dataset.open(folder)

    data = ws.add_dataset(project.id, "boxes", make)
    original = ws.commit(project.id, replace(mlp(), classes=pico_table.classes), name="Original")
    ws.set_tolerance(project.id, drop=0, class_drop=0)
    plan = Plan(operation="prune", parameters={"remove": [1, 2, 9]}, inputs=(original.id,), dataset=data.id)
    for allowed in (0, 100):
        ws.set_tolerance(project.id, drop=allowed, class_drop=allowed)
        job = perform(ws, project.id, "plan", plan=plan.model_dump(mode="json"), name="Cut")
        made = ws.version(job.result["version"])
        told = Receipt.from_json(ws.receipt(made.id) or {})
        if allowed == 0:
            assert ws.project(project.id).current == original.id and ws.undo_target(project.id) is None
            assert made.candidate and job.result["candidate"] == list(made.candidate) == list(told.candidate)
            assert " (0.0 pp allowed)" in made.candidate[0]
        else:
            assert ws.project(project.id).current == made.id and made.candidate == () == tuple(told.candidate)
