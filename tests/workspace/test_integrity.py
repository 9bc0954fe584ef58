"""A changed byte anywhere is named, and what it lies in is quarantined."""

from __future__ import annotations

import random
from pathlib import Path

import pandas as pd
import pytest
import torch

from surgery.data.load import from_arrays
from surgery.errors import DamagedError
from surgery.workspace import Project, Version, Workspace, integrity
from tests.patients import SIZES, mlp

N = sum(SIZES[1:])


@pytest.fixture
def version(ws: Workspace, project: Project) -> Version:
    root = ws.commit(project.id, mlp(), name="Original")
    return ws.commit(
        project.id,
        mlp(seed=1),
        name="Cut",
        parent=root.id,
        plan={"operation": "prune"},
        receipt={"title": "Prune"},
        kept=torch.arange(N),
        tables={"gone": pd.DataFrame({"neuron": [1, 2]})},
    )


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[random.Random(path.name).randrange(len(content))] ^= 4
    path.write_bytes(content)


def forget() -> None:
    """Be another process: nothing has been compared yet."""
    integrity._checked.clear()


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_every_file_of_a_version_is_covered(ws: Workspace, project: Project, version: Version) -> None:
    names = files(version.folder)
    assert {"record.json", "receipt.json", "plan.json", "index.safetensors", "tables/gone.parquet"} <= set(names)
    for name in names:
        content = (version.folder / name).read_bytes()
        flip(version.folder / name)
        forget()
        with pytest.raises(DamagedError, match=rf"version 2 'Cut' have changed.*{name}.*surgery doctor"):
            ws.model(version.id)
        assert ws.version(version.id).state == "damaged"
        (version.folder / name).write_bytes(content)
        with ws.store.read() as db:
            row = next(iter(db.execute(integrity.KINDS["versions"].select()).mappings().all()[1:]))
        integrity.readmit(ws.store, "versions", row)
        ws.model(version.id)


def test_added_and_missing_files_are_damage_too(ws: Workspace, version: Version) -> None:
    (version.folder / "extra.bin").write_bytes(b"x")
    (version.folder / "receipt.json").unlink()
    forget()
    with pytest.raises(DamagedError, match=r"extra\.bin was added; receipt\.json is missing"):
        ws.model(version.id)


def test_its_users_are_told_and_it_cannot_become_current(ws: Workspace, project: Project, version: Version) -> None:
    ws.undo(project.id)
    flip(version.folder / "model.safetensors")
    forget()
    with pytest.raises(DamagedError):
        ws.model(version.id)
    assert "found version 2 'Cut' damaged: model.safetensors changed" in ws.events(project.id)[0].what
    for act in (lambda: ws.make_current(project.id, version.id), lambda: ws.redo(project.id)):
        with pytest.raises(DamagedError, match="damaged"):
            act()
    assert [one.state for one in ws.versions(project.id)] == ["ready", "damaged"]


def test_a_receipt_is_compared_each_time_it_is_read(ws: Workspace, version: Version) -> None:
    assert ws.receipt(version.id) == {"title": "Prune"}
    (version.folder / "receipt.json").write_text('{"title": "Primed"}')
    with pytest.raises(DamagedError, match=r"receipt\.json changed"):
        ws.receipt(version.id)


def test_a_dataset_is_compared_once_in_each_process(ws: Workspace, project: Project, tmp_path: Path) -> None:
    x, y = torch.rand(40, 3).numpy(), [i % 2 for i in range(40)]
    row = ws.add_dataset(
        project.id,
        "points",
        lambda folder: from_arrays(folder, x, y, classes=("a", "b"), name="points", task="classification"),
    )
    ws.dataset(row.id)
    flip(row.folder / "x.npy")
    ws.dataset(row.id)
    forget()
    with pytest.raises(DamagedError, match=r"dataset 'points' have changed.*x\.npy changed"):
        ws.dataset(row.id)
    with pytest.raises(DamagedError, match="found damaged before"):
        ws.dataset(row.id)
    assert ws.dataset_row(row.id).state == "damaged"


def test_pages_leave_it_to_jobs_and_probes(ws: Workspace, version: Version) -> None:
    flip(version.folder / "index.safetensors")
    forget()
    assert Workspace(ws.home, checks=False).inspect(version.id)["name"] == "mlp"
    with pytest.raises(DamagedError):
        Workspace(ws.home).model(version.id)
