"""The set of must-keep cases of a dataset: numbered states, and never a sample of test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from surgery.data.dataset import Dataset
from surgery.errors import DataError, SelectionError
from surgery.operations.base import Cases
from surgery.workspace import DatasetRow, Workspace


@pytest.fixture
def row(ws: Workspace, pico_images: Dataset) -> DatasetRow:
    def copied(folder: Path) -> Dataset:
        shutil.copytree(pico_images.folder, folder, dirs_exist_ok=True)
        return Dataset.open(folder)

    return ws.add_dataset(ws.create_project("Drawings").id, "drawings", copied)


def test_every_change_is_a_new_state_and_the_old_ones_stay(ws: Workspace, row: DatasetRow) -> None:
    first, second, third = ws.dataset(row.id).ids("val")[:3].tolist()
    ws.save_must_keep(row.id, {first: "hard", second: "diverse"})
    saved = ws.save_must_keep(row.id, {first: "hard", third: "pinned"})
    assert [one.number for one in ws.must_keep(row.id)] == [2, 1]
    assert ws.must_keep(row.id)[0] == saved
    assert saved.ids == (first, third)
    assert saved.pinned == (third,)
    assert saved.digest == Cases(ids=saved.ids).digest
    assert "saved 2 must-keep cases" in [event.what for event in ws.events(row.project)]


def test_a_sample_of_test_is_refused(ws: Workspace, row: DatasetRow) -> None:
    data = ws.dataset(row.id)
    tested = int(data.ids("test")[0])
    with pytest.raises(DataError, match=f"Sample {tested} of .* is in test and cannot be a must-keep case"):
        ws.save_must_keep(row.id, {tested: "pinned"})
    with pytest.raises(DataError, match="has no sample 100000"):
        ws.save_must_keep(row.id, {100_000: "pinned"})
    with pytest.raises(DataError, match="empty"):
        ws.save_must_keep(row.id, {})
    with pytest.raises(SelectionError, match="no reason 'because'"):
        ws.save_must_keep(row.id, {0: "because"})
    assert ws.must_keep(row.id) == []


def test_cases_leave_train_and_val_in_a_view_alone(ws: Workspace, row: DatasetRow) -> None:
    data = ws.dataset(row.id)
    chosen = [int(data.ids("val")[0]), int(data.ids("train")[0])]
    view = data.preserving(chosen)
    assert view.ids("preserve").tolist() == sorted(chosen)
    assert chosen[0] not in view.ids("val")
    assert chosen[1] not in view.ids("train")
    assert len(data.ids("preserve")) == 0
    assert sum(view.counts().values()) == sum(data.counts().values())
    assert view.without_test().preserving(chosen).ids("preserve").tolist() == sorted(chosen)
    narrow = view.fitting(data.classes[:2])
    assert set(narrow.ids("preserve")) == {id for id in chosen if data.labels([id])[0] < 2}


def test_they_go_with_their_project(ws: Workspace, row: DatasetRow) -> None:
    ws.save_must_keep(row.id, {int(ws.dataset(row.id).ids("val")[0]): "hard"})
    ws.trash_project(row.project)
    ws.empty_trash()
    assert ws.must_keep(row.id) == []
