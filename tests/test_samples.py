"""The samples: what ships is what the code makes, loads without training, and stays small."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import sample_models
from sample_models import finished, projects, surface, train
from sample_models.projects import SCAN
from surgery.analysis import slices
from surgery.analysis.criticality import Criticality
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.data.load import from_arrays
from surgery.edit.evaluate import predict, quality
from surgery.errors import Cancelled, DataError, NotFoundError
from surgery.measure import measure
from surgery.network import part, store
from surgery.network.model import Model
from surgery.operations.patch import Patch
from surgery.operations.transplant import Effect
from surgery.standing import said
from surgery.workspace import Version, Workspace, queue
from surgery.workspace.package import Package

ROOT = Path(sample_models.__file__).parent
MEGABYTE = 2**20


@pytest.fixture(scope="module", params=sample_models.names())
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Model, Dataset]:
    """A name, its stored model, its data."""
    name = request.param
    data = sample_models.make_data(name, tmp_path_factory.mktemp("data") / name)
    return name, store.load(sample_models.model_folder(name)), data


def test_importing_the_samples_is_cheap() -> None:
    code = "import sys, sample_models; sample_models.info('digits'); print({'torch', 'sklearn'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def test_sizes() -> None:
    sizes = {path: path.stat().st_size for path in ROOT.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert sum(sizes.values()) < 7.6 * MEGABYTE
    assert max(sizes.values()) < 2 * MEGABYTE


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no sample 'mnist'.*digits, surface_inspection"):
        sample_models.info("mnist")
    with pytest.raises(NotFoundError, match="no sample 'mnist'"):
        sample_models.make_data("mnist", tmp_path)


def test_data_are_those_of_the_training(sample: tuple[str, Model, Dataset]) -> None:
    name, model, data = sample
    results = sample_models.info(name)["results"]
    assert data.digest == results["data"]
    assert data.counts() == results["counts"]
    assert data.classes == model.classes
    assert data.shape == model.input.shape
    mean, std = data.statistics("train")
    assert np.allclose((mean, std), (model.input.mean, model.input.std), rtol=1e-6)


def test_stored_model_measures_what_its_card_says(sample: tuple[str, Model, Dataset]) -> None:
    name, model, data = sample
    info = sample_models.info(name)
    rows = measure({"sample": model}, data, Context(), latency=False).rows
    rows = rows[rows["scope"] == "overall"].set_index("metric")
    for metric, value in info["results"]["metrics"].items():
        assert rows.at[metric, "value"] == pytest.approx(value, rel=1e-3)
        assert (rows.at[metric, "split"], rows.at[metric, "n"]) == ("test", info["results"]["n"])
    assert store.digest(sample_models.model_folder(name)) == info["results"]["digest"]
    assert model.support.level == "full"
    assert info["results"]["digest"] in info["card"]
    assert info["data_licence"] in info["card"]


def test_samples_are_neither_hopeless_nor_trivial() -> None:
    quality = {name: sample_models.info(name)["results"]["metrics"] for name in sample_models.names()}
    assert quality["digits"]["accuracy"] > 0.97
    assert 0.93 <= quality["surface_inspection"]["accuracy"] <= 0.98
    assert 0.7 <= quality["two_inspectors"]["accuracy"] <= 0.85, "weak on purpose"
    assert quality["breast_cancer"]["accuracy"] > 0.93
    assert quality["diabetes"]["r2"] > 0.4


def test_the_strong_inspector_heals_what_the_weak_one_hardly_saw(tmp_path: Path) -> None:
    weak, donor = (store.load(folder) for folder in folders("two_inspectors"))
    donor = replace(donor, parts=part.load(folders("two_inspectors")[1]))
    data = sample_models.make_data("two_inspectors", tmp_path / "data")
    assert [own.classes for own in donor.parts] == [(name,) for name in weak.classes]
    outcome = Patch(target="pit").operate([weak, donor], data.without_test(), Context())
    ids, pit = data.ids("test"), weak.classes.index("pit")
    truth = torch.as_tensor(data.labels(ids))
    before, after = (
        Effect.of(predict(model, data, ids, Context()).argmax(1), truth, pit) for model in (weak, outcome.models[0])
    )
    assert before.recall < 0.3
    assert after.f1 > before.f1 + 0.3
    assert after.others > before.others - 0.01


def folders(name: str) -> tuple[Path, Path]:
    """Of a sample's own model and of the one beside it."""
    (donor,) = sample_models.members(name).values()
    return sample_models.model_folder(name), donor


def test_drawings_depend_on_the_seed_only() -> None:
    labels = np.arange(6)
    first, again, other = (np.stack(list(surface.pictures(labels, seed))) for seed in (3, 3, 4))
    assert first.shape == (6, 48, 48, 1)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert (first != other).mean() > 0.9


@pytest.mark.parametrize("defect", surface.CLASSES)
def test_a_defect_changes_a_part_of_the_plate(defect: str) -> None:
    for seed in range(20):
        field = np.abs(surface.DEFECTS[defect](np.random.RandomState(seed)))
        assert field.max() > 0.3
        assert 0.002 < (field > 0.2).mean() < 0.5


def test_drawing_can_be_cancelled(tmp_path: Path) -> None:
    with pytest.raises(Cancelled, match="drawing plates, at step 0 of 1800"):
        sample_models.make_data("surface_inspection", tmp_path / "data", Context(cancelled=lambda: True))


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes"])
def test_training_makes_the_stored_weights(name: str, tmp_path: Path) -> None:
    trained = train.train(name, sample_models.make_data(name, tmp_path / "data"), Context())
    assert_alike(trained, store.load(sample_models.model_folder(name)))


def test_training_repeats_bit_for_bit(tmp_path: Path) -> None:
    data = sample_models.make_data("diabetes", tmp_path / "data")
    first, second = (train.train("diabetes", data, Context()).module.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


# The projects that ship


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    ws = Workspace(tmp_path_factory.mktemp("installed"))
    return ws, sample_models.open_finished(ws)


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    ws = Workspace(tmp_path_factory.mktemp("rebuilt"))
    return ws, finished.build(ws, Context(), projection=False, split=False)


def test_installing_takes_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, sample_models; from surgery.workspace import Workspace; sample_models.open_finished(Workspace());"
        "print({'torch', 'sklearn', 'umap'} & set(sys.modules))"
    )
    env = {**os.environ, "SURGERY_HOME": str(tmp_path)}
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT.parent, env=env, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "set()"


@pytest.mark.parametrize("name", [*sample_models.names(), projects.FINISHED])
def test_every_sample_ships_scanned(name: str) -> None:
    package = projects.read(name)
    current = package.project["current"]
    assert current in {row["id"] for row in package.rows["versions"]}
    tables = [file for file in package.files if file.endswith("/neurons.parquet")]
    assert len(tables) == (2 if name == projects.FINISHED else 1)
    for file in tables:
        table = pd.read_parquet(io.BytesIO(package.files[file]))
        assert table.loc[table["point"], "map_x"].notna().all()
        assert file.replace("neurons.parquet", slices.TABLES) in package.files
    assert {"scan", "projection", "criticality", "check_model"} <= {row["kind"] for row in package.rows["jobs"]}
    assert all(row["state"] == "done" for row in package.rows["jobs"])


@pytest.mark.parametrize("name", [*sample_models.names(), projects.FINISHED])
def test_a_package_says_nothing_of_the_machine_that_made_it(name: str) -> None:
    package = projects.read(name)
    texts = [json.dumps(package.rows).encode(), *package.files.values()]
    assert not any(b"/tmp/" in text or b"latency" in text for text in texts)


def test_a_sample_with_drawn_data_is_installed_scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def make(name: str, folder: Path, ctx: Context) -> Dataset:
        drawn.append(name)
        x = np.random.default_rng(0).integers(0, 255, (60, 8, 8, 1), dtype=np.uint8)
        return from_arrays(folder, x, np.arange(60) % 2, classes=["a", "b"], name=name, task="classification")

    monkeypatch.setattr(sample_models, "make_data", make)
    ws = Workspace(tmp_path)
    project = ws.create_project("Plates")
    projects.install(ws, "two_inspectors", project.id)
    (data,) = ws.datasets(project.id)
    assert drawn == ["two_inspectors"]
    assert data.digest == ws.dataset(data.id).digest
    version, donor = ws.versions(project.id)
    assert ws.project(project.id).current == version.id
    assert len(ws.parts(donor.id)) == 6
    assert not ws.has_scan(version.id, data.id, SCAN), "other data than were scanned"


def test_a_small_sample_can_be_opened_twice(tmp_path: Path) -> None:
    ws = Workspace(tmp_path)
    for name in ("One", "Two"):
        project = ws.create_project(name).id
        projects.install(ws, "breast_cancer", project)
        (version,), (data,) = ws.versions(project), ws.datasets(project)
        assert ws.verify(version.id) == sample_models.info("breast_cancer")["results"]["digest"]
        assert data.digest == sample_models.info("breast_cancer")["results"]["data"]
        assert ws.has_scan(version.id, data.id, SCAN)
        assert ws.project(project).name == name
        assert {job.task["version"] for job in queue.listing(ws.store, project)} == {version.id}
    assert ws.unknown_folders() == []


def test_finished_project_has_something_for_every_page(installed: tuple[Workspace, str]) -> None:
    ws, project = installed
    original, split, made = ws.versions(project)
    data, signs, pale = ws.datasets(project)
    assert ws.project(project).current == made.id
    assert ws.project(project).dataset == data.id
    assert made.parent == split.parent == original.id
    assert ws.plan(made.id)["inputs"] == ws.receipt(made.id)["plan"]["inputs"] == [original.id]
    assert ws.plan(made.id)["dataset"] == data.id
    assert ws.receipt(made.id)["dataset"]["digest"] == data.digest
    assert all(ws.has_scan(version.id, data.id, SCAN) for version in (original, split, made))
    assert [part["classes"] for part in ws.parts(split.id)] == [[digit] for digit in data.classes]
    assert [chosen.name for chosen in ws.selections(project)] == [finished.SELECTION]
    assert not set(signs.classes) & set(data.classes)
    assert pale.classes == data.classes
    assert len(ws.must_keep(data.id)[0].ids) == finished.PROTECTED["size"]
    assert ws.receipt(made.id)["cases"]["n"] == finished.PROTECTED["size"]
    kinds = [job.kind for job in queue.listing(ws.store, project)]
    assert kinds.count("plan") == 2
    assert {"scan", "projection", "criticality", "must_keep", "check_model"} <= set(kinds)


def test_finished_project_can_be_undone(installed: tuple[Workspace, str]) -> None:
    ws, project = installed
    original, _, made = ws.versions(project)
    assert ws.undo(project).current == original.id
    assert ws.verify(original.id) == sample_models.info("digits")["results"]["digest"]
    assert ws.redo(project).current == made.id


def test_opening_it_twice_gives_the_same_project(installed: tuple[Workspace, str]) -> None:
    ws, project = installed
    assert sample_models.open_finished(ws) == project


def test_a_damaged_package_leaves_no_half_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = projects.read(projects.FINISHED)
    files = {name: content for name, content in package.files.items() if not name.endswith("dataset.json")}
    monkeypatch.setattr(projects, "read", lambda name: Package(package.rows, files))
    ws = Workspace(tmp_path / "home")
    with pytest.raises(DataError, match="holds no readable dataset"):
        sample_models.open_finished(ws)
    assert ws.projects() == []
    assert [project.name for project in ws.projects(trashed=True)] == [finished.NAME]
    assert ws.unknown_folders() == []


def test_outcome_is_a_result_worth_showing(installed: tuple[Workspace, str]) -> None:
    ws, project = installed
    original, _, made = ws.versions(project)
    assert made.parameters < 0.55 * original.parameters
    table = {(row["metric"], row["scope"]): row for row in ws.receipt(made.id)["table"]}
    accuracy = table["accuracy", "overall"]
    assert accuracy["after"] >= accuracy["before"] - 0.015
    assert accuracy["split"] == "test"
    assert said(ws, ws.project(project)).startswith(f"v3 against v1: Accuracy {100 * accuracy['before']:.1f}% → ")


def results(project: tuple[Workspace, str]) -> tuple[Workspace, Version, Version]:
    """The workspace, the original and the result."""
    ws, id = project
    every = ws.versions(id)
    return ws, every[0], every[-1]


def test_pipeline_makes_the_shipped_result(installed: tuple[Workspace, str], rebuilt: tuple[Workspace, str]) -> None:
    (ours, _, shipped), (theirs, _, made) = results(installed), results(rebuilt)
    assert ours.kept(shipped.id) == theirs.kept(made.id)
    assert ours.selections(installed[1])[0].ids == theirs.selections(rebuilt[1])[0].ids
    assert_alike(theirs.model(made.id), ours.model(shipped.id))


def test_pipeline_measures_the_shipped_numbers(
    installed: tuple[Workspace, str], rebuilt: tuple[Workspace, str]
) -> None:
    tables = []
    for ws, _, made in (results(installed), results(rebuilt)):
        table = ws.receipt(made.id)["table"]
        tables.append({(row["metric"], row["scope"]): row for row in table if not row["metric"].startswith("latency")})
    assert tables[0].keys() == tables[1].keys()
    for key, row in tables[0].items():
        for side in ("before", "after"):
            one_sample = 1.01 / row["n"] if row["n"] else 0.0  # may flip where other processors round differently
            assert tables[1][key][side] == pytest.approx(row[side], abs=one_sample), key


def test_pipeline_finds_the_shipped_slices(installed: tuple[Workspace, str], rebuilt: tuple[Workspace, str]) -> None:
    found = []
    for (ws, original, _), (_, project) in zip(map(results, (installed, rebuilt)), (installed, rebuilt), strict=True):
        folder = ws.scan_folder(original.id, ws.project(project).dataset or "", SCAN)
        assert (folder / slices.TABLES).exists()
        found.append(Criticality.load(folder))
    for name, scores in found[0].scores.items():
        torch.testing.assert_close(found[1].scores[name], scores, rtol=1e-3, atol=1e-4)


def assert_alike(found: Model, wanted: Model, tolerance: float = 0.05) -> None:
    """Equal weights and answers, but for what training makes of sums rounded in another order, about 1 %.

    Two processors that call themselves alike may round differently: nothing says which will not.
    """
    theirs, ours = _observable(wanted), _observable(found)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].shape == tensor.shape
        assert (ours[name] - tensor).norm() <= tolerance * tensor.norm(), name
    x = torch.randn(64, *wanted.input.shape, generator=torch.Generator().manual_seed(0))
    assert (found(x) - wanted(x)).abs().max() <= 2 * tolerance * wanted(x).abs().max()


def _observable(model: Model) -> dict[str, Tensor]:
    """The weights as far as they matter: a bias in front of a BatchNorm and its running mean only count together.

    The loss does not depend on such a bias, so its gradient is rounding noise, which AdamW blows up to full steps;
    the running mean follows and cancels it.
    """
    state = dict(model.module.state_dict())
    for name in [name for name in state if name.endswith("norm.running_mean")]:
        bias = state.pop(name.replace("norm.running_mean", "conv.bias"), None)
        state[name] = state[name] if bias is None else state[name] - bias
    return {name: tensor.double() for name, tensor in state.items() if tensor.is_floating_point()}


@pytest.mark.parametrize("name", ["digits", "surface_inspection"])
def test_its_later_data_has_the_same_labels_and_is_harder(name: str, tmp_path: Path) -> None:
    title = sample_models.further(name)[-1]
    data = sample_models.make_data(name, tmp_path / "now")
    later = sample_models.make_further(name, title, data, tmp_path / "later")
    assert later.counts() == data.counts()
    assert later.name == title
    model = store.load(sample_models.model_folder(name))
    now, then = (quality(model, each, each.ids("val"), Context()) for each in (data, later))
    assert now - 0.4 < then < now - 0.1


@pytest.mark.parametrize("name", ["digits", "surface_inspection"])
def test_its_other_data_has_classes_that_the_model_does_not_know(name: str, tmp_path: Path) -> None:
    title = sample_models.further(name)[0]
    data = sample_models.make_data(name, tmp_path / "now")
    more = sample_models.make_further(name, title, data, tmp_path / "more")
    again = sample_models.make_further(name, title, data, tmp_path / "again")
    assert more.digest == again.digest
    assert more.name == title
    assert (more.shape, more.task) == (data.shape, data.task)
    assert not set(more.classes) & set(data.classes)
    assert all(len(more.ids(role)) for role in ("train", "val", "test"))


def test_further_data_that_is_not_there_is_refused(tmp_path: Path, pico_table: Dataset) -> None:
    assert sample_models.further("diabetes") == []
    with pytest.raises(NotFoundError, match="no data 'Plates'"):
        sample_models.make_further("diabetes", "Plates", pico_table, tmp_path / "x")
