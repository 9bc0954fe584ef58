"""Model & data: files become a version and a dataset through short jobs; what is wrong is said where it is wrong."""

from __future__ import annotations

import io
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save
from streamlit.testing.v1 import AppTest

from surgery import jobs
from surgery.data.dataset import Dataset
from surgery.data.pixels import enlarged
from surgery.errors import DataError, ModelError
from surgery.jobs import kinds
from surgery.network.architectures import build
from surgery.network.model import Architecture
from surgery.ui import model_form, uploads
from surgery.workspace import Project, Workspace, queue
from tests import patients
from tests.pages.conftest import OpenPage, failures, perceptron

CSV = "length,width,kind\n" + "".join(f"{n},{n % 7},{'ab'[n % 2]}\n" for n in range(40))


@pytest.fixture
def empty(ws: Workspace) -> Project:
    """A project without a model and without data."""
    return ws.create_project("Mine")


@pytest.fixture
def come_to_rest(ws: Workspace) -> Callable[[AppTest], AppTest]:
    """Wait for the end of every job, then draw the page anew."""

    def come_to_rest(app: AppTest) -> AppTest:
        while any(job.active for job in jobs.jobs(ws)):
            time.sleep(0.2)
        return app.run()

    return come_to_rest


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch, ws: Workspace) -> list[dict[str, Any]]:
    """What the pages submit, accepted as a job of its kind would be, but not run."""
    found: list[dict[str, Any]] = []

    def submit(ws: Workspace, task: dict[str, Any], *, project: str, title: str) -> None:
        found.append(kinds.kind_of(task).prepare(ws, project, task))

    monkeypatch.setattr("surgery.ui.data_import.jobs.submit", submit)
    return found


def test_it_asks_for_both_and_names_its_limit_and_the_command(open_page: OpenPage, empty: Project) -> None:
    app = open_page("model_data", project=empty.id)
    assert failures(app) == []
    hints = " ".join(caption.value for caption in app.caption)
    assert f"surgery import-model FILE --project {empty.id}" in hints
    assert f"surgery import-data PATH --project {empty.id}" in hints
    assert hints.count("Up to 400 MB here") == 2


def test_weights_become_a_version(
    open_page: OpenPage, ws: Workspace, empty: Project, come_to_rest: Callable[[AppTest], AppTest]
) -> None:
    weights = save({name: tensor.clone() for name, tensor in perceptron(0).module.state_dict().items()})
    app = open_page("model_data", project=empty.id)
    app.file_uploader[0].upload("boxes.safetensors", weights, "application/octet-stream").run()
    come_to_rest(app)
    assert failures(app) == []
    assert app.selectbox[0].options[0] == "mlp(sizes=[4, 5, 3], activation=relu) · fits"
    app.text_area[0].set_value("long\nwide\nhigh")
    button(app, "Import model").click().run()
    come_to_rest(app)
    assert failures(app) == []
    (version,) = ws.versions(empty.id)
    assert ws.inspect(version.id)["classes"] == ["long", "wide", "high"]
    assert version.name == "boxes"
    assert "fully editable" in badges(app)
    assert list(ws.uploads.rglob("*.safetensors")) == []


def test_without_a_model_a_large_one_is_trained_on_the_table(
    open_page: OpenPage, ws: Workspace, pico_table: Dataset, come_to_rest: Callable[[AppTest], AppTest]
) -> None:
    project = ws.create_project("Boxes")

    def copied(folder: Path) -> Dataset:
        shutil.copytree(pico_table.folder, folder, dirs_exist_ok=True)
        return Dataset.open(folder)

    ws.add_dataset(project.id, "boxes", copied)
    app = open_page("model_data", project=project.id)
    assert failures(app) == []
    next(field for field in app.number_input if field.label == "Units in each").set_value(12)
    button(app, "Train").click().run()
    come_to_rest(app)
    assert failures(app) == []
    (version,) = ws.versions(project.id)
    assert version.name == "MLP 3 × 12"
    assert "fully editable" in badges(app)


def test_a_hugging_face_network_comes_with_its_configuration(
    open_page: OpenPage, ws: Workspace, empty: Project, come_to_rest: Callable[[AppTest], AppTest]
) -> None:
    pytest.importorskip("transformers")
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = {"model_type": "vit", "image_size": 8, "patch_size": 4, "id2label": {"0": "cat", "1": "dog"}, **size}
    module = build(Architecture("hf/image-classification", {"config": config}))
    app = open_page("model_data", project=empty.id)
    app.file_uploader[0].upload("vit.safetensors", save(module.state_dict()), "application/octet-stream").run()
    app = come_to_rest(app)
    assert "timm/resnet10t" in next(box for box in app.selectbox if box.label == "Name").options
    app.file_uploader(key="config").upload("config.json", json.dumps(config).encode(), "application/json")
    button(app, "Compare").click().run()
    app = come_to_rest(app)
    assert failures(app) == []
    assert app.text_area[0].value == "cat\ndog"
    button(app, "Import model").click().run()
    app = come_to_rest(app)
    assert failures(app) == []
    (version,) = ws.versions(empty.id)
    model = ws.model(version.id)
    assert model.classes == ("cat", "dog")
    assert (model.input.shape, model.input.mean) == ((3, 8, 8), (0.5, 0.5, 0.5))
    assert model.support.level == "full"


def test_the_wrong_number_of_classes_is_refused(
    open_page: OpenPage, ws: Workspace, empty: Project, come_to_rest: Callable[[AppTest], AppTest]
) -> None:
    inspected(ws, empty, outputs=3)
    app = open_page("model_data", project=empty.id)
    app.text_area[0].set_value("long\nwide")
    button(app, "Import model").click().run()
    assert "2 classes are named, the model has 3 outputs" in failures(app)[0]
    assert ws.versions(empty.id) == []


def test_weights_that_do_not_fit_are_shown_as_a_table(open_page: OpenPage, ws: Workspace, empty: Project) -> None:
    row = {"name": "0.weight", "kind": "shape", "file": [5, 4], "architecture": [6, 4]}
    only_here = {"name": "extra", "kind": "unexpected", "file": [2], "architecture": None}
    inspected(ws, empty, outputs=3, misfits=2, mismatches=[row, only_here])
    app = open_page("model_data", project=empty.id)
    assert "2 tensors differ between the file and this architecture" in app.warning[0].value
    assert app.table[0].value.iloc[1].tolist() == ["extra", "unexpected", "\\[2\\]", "–"]
    assert app.table[0].value.iloc[0].tolist() == ["0\\.weight", "shape", "\\[5, 4\\]", "\\[6, 4\\]"]
    assert "Import model" not in [button.label for button in app.button]


def test_an_unknown_network_gets_the_snippet(open_page: OpenPage, ws: Workspace, empty: Project) -> None:
    inspected(ws, empty, outputs=3, suggestions=False)
    app = open_page("model_data", project=empty.id)
    assert "No known architecture" in app.warning[0].value
    assert "ARCHITECTURES = {}" in [block.value for block in app.code]
    app.text_input[0].set_value("no json")
    button(app, "Compare").click().run()
    assert "are not JSON" in failures(app)[0]


def test_a_file_that_is_no_model_fails_with_the_reason(
    open_page: OpenPage, ws: Workspace, empty: Project, come_to_rest: Callable[[AppTest], AppTest]
) -> None:
    content = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), content)
    app = open_page("model_data", project=empty.id)
    app.file_uploader[0].upload("whole.pt", content.getvalue(), "application/octet-stream").run()
    come_to_rest(app)
    assert "not plain weights" in failures(app)[0]
    assert any("state_dict" in block.value for block in app.code), "the converter is there to copy"
    button(app, "Discard this file").click().run()
    assert failures(app) == []
    assert len(app.file_uploader) == 2
    assert list(ws.uploads.iterdir()) == []


def test_a_zip_of_pictures_becomes_a_dataset(
    open_page: OpenPage, ws: Workspace, empty: Project, come_to_rest: Callable[[AppTest], AppTest]
) -> None:
    app = open_page("model_data", project=empty.id)
    app.file_uploader[1].upload("shapes.zip", pictures(), "application/zip").run()
    assert failures(app) == []
    assert len(app.get("image")) == 12, "previews with labels stand before anything runs"
    assert ws.datasets(empty.id) == []
    button(app, "Import dataset").click().run()
    come_to_rest(app)
    assert failures(app) == []
    (row,) = ws.datasets(empty.id)
    assert (row.classes, row.samples) == (("dark", "light"), 40)
    assert app.expander[-1].label == "1 problem"
    assert "broken\\.png" in app.table[-1].value.to_string()


def test_class_names_that_are_alike_are_merged_on_request(
    open_page: OpenPage, ws: Workspace, empty: Project, come_to_rest: Callable[[AppTest], AppTest]
) -> None:
    rows = "".join(f"{n},{n % 7},{('cat', 'Cat', 'dog', 'cat')[n % 4]}\n" for n in range(60))
    app = open_page("model_data", project=empty.id)
    app.file_uploader[1].upload("pets.csv", f"length,width,kind\n{rows}".encode(), "text/csv").run()
    next(box for box in app.checkbox if box.label == "Merge similar class names").check()
    button(app, "Import dataset").click().run()
    come_to_rest(app)
    assert failures(app) == []
    (row,) = ws.datasets(empty.id)
    assert row.classes == ("cat", "dog")


def test_a_file_that_cannot_be_read_is_looked_at_once(
    open_page: OpenPage, empty: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []

    def look(path: Path, **_: Any) -> None:
        looks.append(path)
        raise DataError("It took too long.", "Save it smaller.")

    monkeypatch.setattr("surgery.data.limited.look", look)
    app = open_page("model_data", project=empty.id)
    app.file_uploader[1].upload("slow.zip", b"PK", "application/zip").run()
    app.run()
    assert "It took too long" in failures(app)[0]
    assert len(looks) == 1, "each look may take many seconds"


def test_a_table_asks_for_its_target(
    open_page: OpenPage, ws: Workspace, empty: Project, come_to_rest: Callable[[AppTest], AppTest]
) -> None:
    app = open_page("model_data", project=empty.id)
    app.file_uploader[1].upload("parts.csv", CSV.encode(), "text/csv").run()
    assert failures(app) == []
    assert box(app, "Target column").value == "kind"
    app.multiselect[0].select("width").run()
    button(app, "Import dataset").click().run()
    come_to_rest(app)
    (row,) = ws.datasets(empty.id)
    assert row.classes == ("a", "b")
    assert ws.dataset(row.id).features == ("length",)


def test_texts_dates_numbers_and_splits_are_chosen_before_the_import(
    open_page: OpenPage, ws: Workspace, empty: Project, tasks: list[dict[str, Any]]
) -> None:
    lines = (
        f'{"rgb"[n % 3]},2026-01-{n + 1:02},"1,{n:03}",{("train", "test")[n % 5 == 0]},{"pq"[n % 2]}' for n in range(30)
    )
    app = open_page("model_data", project=empty.id)
    text = "\n".join(("# exported", "color,when,price,part,y", *lines))
    app.file_uploader[1].upload("messy.csv", text.encode(), "text/csv").run()
    assert failures(app) == []
    assert [box(app, label).value for label in ("First line", "Number format")] == ["auto", "1,234.5"]
    box(app, "What color becomes").select("ordinal").run()
    box(app, "Use of test").select("drop").run()
    button(app, "Import dataset").click().run()
    (task,) = tasks
    assert {name: task[name] for name in ("numbers", "target", "split", "columns", "splits")} == {
        "numbers": "1,234.5",
        "target": "y",
        "split": "part",
        "columns": {"color": "ordinal", "when": "days"},
        "splits": {"train": "train", "test": "drop"},
    }


def test_a_file_of_test_samples_alone_is_not_trained_on_unless_the_user_says_so(
    open_page: OpenPage, ws: Workspace, empty: Project, tasks: list[dict[str, Any]]
) -> None:
    app = open_page("model_data", project=empty.id)
    app.file_uploader[1].upload("held_out.zip", pictures("test/"), "application/zip").run()
    assert failures(app) == []
    assert box(app, "Use of test").value == "test"
    assert "No training samples" in app.info[0].value
    button(app, "Import dataset").click().run()
    assert tasks[0]["splits"] == {"test": "test"}


def test_classes_that_do_not_match_are_matched_by_a_person(
    open_page: OpenPage, ws: Workspace, project: Project, tasks: list[dict[str, Any]]
) -> None:
    model = replace(perceptron(1), classes=("long", "breadth", "tall"))
    version = ws.commit(project.id, model, name="Other names")
    app = open_page("model_data", project=project.id, version=version.id)
    assert failures(app) == []
    assert "2 of the 3 classes" in app.warning[0].value
    assert [box(app, f"Class of the model for {name}").value for name in ("wide", "high")] == ["", ""]
    box(app, "Class of the model for wide").select("breadth")
    box(app, "Class of the model for high").select("tall")
    button(app, "Rename classes").click().run()
    assert tasks[0]["classes"] == {"wide": "breadth", "high": "tall"}


def test_an_order_is_confirmed_before_it_counts(
    open_page: OpenPage, ws: Workspace, project: Project, tasks: list[dict[str, Any]]
) -> None:
    version = ws.commit(project.id, replace(perceptron(1), classes=("0", "1", "2")), name="Numbers")
    app = open_page("model_data", project=project.id, version=version.id)
    assert box(app, "Class of the model for wide").value == "1"
    button(app, "Rename classes").click().run()
    assert tasks == [] and "Confirm that each pair is right" in failures(app)[0]
    next(one for one in app.checkbox if one.label.startswith("Each pair is right")).check()
    button(app, "Rename classes").click().run()
    assert tasks[0]["classes"] == {"long": "0", "wide": "1", "high": "2"}


def test_bad_data_is_an_error_panel_and_the_file_can_be_changed(open_page: OpenPage, empty: Project) -> None:
    app = open_page("model_data", project=empty.id)
    app.file_uploader[1].upload("photo.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 64, "image/png").run()
    assert "is a single image" in failures(app)[0]
    button(app, "Discard this file").click().run()
    assert failures(app) == []
    assert len(app.file_uploader) == 2


def test_quality_and_the_next_step_stand_above(
    open_page: OpenPage, ws: Workspace, project: Project, come_to_rest: Callable[[AppTest], AppTest]
) -> None:
    app = open_page("model_data", project=project.id)
    come_to_rest(app)
    assert failures(app) == []
    assert app.metric[0].label == "Accuracy now"
    assert "Scan neurons" in [button.label for button in app.button]
    assert [job.kind for job in jobs.jobs(ws)] == ["check_model"], "measured once"


def cancelled_check(ws: Workspace, project: Project) -> None:
    """A measurement that somebody stopped."""
    task = {"kind": "check_model", "version": project.current, "dataset": project.dataset}
    job = queue.add(ws.store, task, project=project.id, title="Measure", lane="short", device="cpu", limit=60.0)
    with ws.store.write() as db:
        queue.end(ws.store, db, job.id, "cancelled", "Cancelled by ada.")


def test_a_measurement_that_was_cancelled_is_started_on_request_only(
    open_page: OpenPage, ws: Workspace, project: Project
) -> None:
    cancelled_check(ws, project)
    app = open_page("model_data", project=project.id)
    app.run()
    assert failures(app) == []
    assert [job.state for job in jobs.jobs(ws)] == ["cancelled"]
    assert any("the measurement was cancelled" in caption.value for caption in app.caption)
    button(app, "Measure the model").click().run()
    assert [job.kind for job in jobs.jobs(ws)] == ["check_model", "check_model"]


@pytest.fixture
def large_input(ws: Workspace, pico_images: Dataset) -> Project:
    """A model of 32 × 32 pixels with a dataset of smaller images."""
    project = ws.create_project("Large")
    model = patients.digits()
    larger = replace(model, input=replace(model.input, shape=(1, 32, 32)))
    ws.commit(project.id, larger, name="Original")

    def copied(folder: Path) -> Dataset:
        shutil.copytree(pico_images.folder, folder, dirs_exist_ok=True)
        return Dataset.open(folder)

    ws.add_dataset(project.id, "small", copied)
    return ws.project(project.id)


def test_images_smaller_than_the_input_are_asked_about_before_anything_is_measured(
    open_page: OpenPage, ws: Workspace, large_input: Project, come_to_rest: Callable[[AppTest], AppTest]
) -> None:
    app = open_page("model_data", project=large_input.id)
    assert failures(app) == []
    assert "The model takes images of 32 × 32 pixels; the images of the dataset have 8 × 8" in app.info[0].value
    assert jobs.jobs(ws) == []
    button(app, "Use 8 × 8").click().run()
    come_to_rest(app)
    assert failures(app) == []
    current = ws.version(ws.project(large_input.id).current or "")
    assert ws.inspect(current.id)["input"]["shape"] == [1, 8, 8]


def test_the_input_can_be_edited(open_page: OpenPage, ws: Workspace, large_input: Project) -> None:
    app = open_page("model_data", project=large_input.id)
    next(field for field in app.number_input if field.label == "Height (pixels)").set_value(16)
    button(app, "Save as new version").click().run()
    assert failures(app) == []
    (job,) = jobs.jobs(ws)
    assert (job.kind, job.task["shape"], job.title) == ("set_input", [1, 16, 32], "Input 1 × 16 × 32")
    jobs.cancel(ws, job.id)


def test_a_constructor_asks_for_what_the_file_does_not_tell(open_page: OpenPage, ws: Workspace, empty: Project) -> None:
    inspected(ws, empty, outputs=0, name="custom/net", arguments={"num_classes": 5}, needs=["width"])
    app = open_page("model_data", project=empty.id)
    assert app.selectbox[0].options[0] == "custom/net(num_classes=5) · needs width"
    button(app, "Compare").click().run()
    assert "No value is given for width" in failures(app)[0]
    app.text_input(key="needs_width").set_value("[8, 16]")
    button(app, "Compare").click().run()
    look = jobs.jobs(ws)[0]
    assert look.task["architecture"] == {"name": "custom/net", "arguments": {"num_classes": 5, "width": [8, 16]}}
    jobs.cancel(ws, look.id)


def test_a_refused_file_is_not_offered_to_be_tried_again(open_page: OpenPage, ws: Workspace, empty: Project) -> None:
    path = uploads.keep(ws, "weights.pt", io.BytesIO(b"no weights"))
    job = queue.add(
        ws.store,
        {"kind": "inspect_model", "path": str(path)},
        project=empty.id,
        title="Look",
        lane="import",
        device="",
        limit=60,
    )
    with ws.store.write() as db:
        queue.end(ws.store, db, job.id, "failed", "weights.pt is a PDF.", refused=True)
    app = open_page("model_data", project=empty.id)
    assert "weights.pt is a PDF" in failures(app)[0].replace("\\", "")
    labels = [found.label for found in app.button]
    assert "Try again" not in labels
    assert "Discard this file" in labels


def test_another_normalisation_that_is_clearly_better_is_named(
    open_page: OpenPage, ws: Workspace, project: Project, come_to_rest: Callable[[AppTest], AppTest]
) -> None:
    checked(ws, project, own=0.31, other=0.97)
    app = open_page("model_data", project=project.id)
    assert "With the normalisation “this dataset” the model reaches 97.0%" in app.warning[0].value
    button(app, "Use it").click().run()
    come_to_rest(app)
    current = ws.version(ws.project(project.id).current or "")
    assert ws.inspect(current.id)["input"]["mean"] == [5.0, 5.0, 5.0, 5.0]
    assert current.parent == ws.versions(project.id)[1].id


def test_another_size_that_is_clearly_better_is_named(open_page: OpenPage, ws: Workspace, project: Project) -> None:
    checked(ws, project, own=0.31, other=0.97, name="8 × 8 pixels", shape=[1, 8, 8])
    app = open_page("model_data", project=project.id)
    assert "Fed with 8 × 8 pixels the model reaches 97.0%" in app.warning[0].value


def test_a_slightly_better_normalisation_is_not_worth_a_word(
    open_page: OpenPage, ws: Workspace, project: Project
) -> None:
    checked(ws, project, own=0.95, other=0.97)
    assert not open_page("model_data", project=project.id).warning


def test_uploads_are_kept_under_their_own_name_and_found_again(ws: Workspace) -> None:
    path = uploads.keep(ws, "../../etc/pass\x00wd.zip", io.BytesIO(b"content"))
    assert uploads.find(ws, uploads.named(path)) == path
    assert path.name == "passwd.zip"
    assert path.read_bytes() == b"content"
    assert path.is_relative_to(ws.uploads)


@pytest.mark.parametrize(
    "kept", ["", "/", "../catalogue.db", "0123456789ab/../../catalogue.db", "0123456789ab/", "zz/x", "0123456789ab/.."]
)
def test_a_url_leads_to_no_other_file(ws: Workspace, kept: str) -> None:
    (ws.uploads / "0123456789ab").mkdir()
    assert uploads.find(ws, kept) is None


def test_empty_folders_of_imported_uploads_go(ws: Workspace) -> None:
    first = uploads.keep(ws, "a.zip", io.BytesIO(b"a"))
    first.unlink()
    os.utime(first.parent, (time.time() - 3600,) * 2)
    uploads.keep(ws, "b.zip", io.BytesIO(b"b"))
    assert not first.parent.exists()


def test_only_uploads_are_ever_removed(ws: Workspace, tmp_path: Path) -> None:
    own = tmp_path / "mine" / "weights.pt"
    own.parent.mkdir()
    own.write_bytes(b"precious")
    assert not uploads.waits(ws, own)
    uploads.discard(ws, own)
    assert own.read_bytes() == b"precious"


def test_a_failed_import_from_the_command_line_does_not_hold_the_page(
    open_page: OpenPage, ws: Workspace, empty: Project, tmp_path: Path
) -> None:
    task = {"kind": "import_model", "path": str(tmp_path / "weights.pt"), "name": "mine"}
    failed(ws, empty, task, "it does not fit")
    app = open_page("model_data", project=empty.id)
    assert failures(app) == []
    assert len(app.file_uploader) == 2


def test_a_failed_import_keeps_the_answers_within_reach(open_page: OpenPage, ws: Workspace, empty: Project) -> None:
    inspected(ws, empty, outputs=3)
    (before,) = jobs.jobs(ws)
    failed(ws, empty, {**before.task, "kind": "import_model"}, "The network does not run on such an input.")
    app = open_page("model_data", project=empty.id)
    assert "does not run on such an input" in failures(app)[0]
    assert "Import model" in [button.label for button in app.button]


def test_another_model_can_be_brought_or_not(open_page: OpenPage, project: Project) -> None:
    app = open_page("model_data", project=project.id)
    button(app, "Bring another model").click().run()
    assert app.query_params["another"] == "model"
    assert len(app.file_uploader) == 1
    button(app, "Keep the present model").click().run()
    assert "another" not in app.query_params
    assert not app.file_uploader


@pytest.mark.parametrize(
    ("text", "message"), [("0.5 x", "not a list of numbers"), ("0.1 0.2", "2 numbers .* 3 channels")]
)
def test_malformed_statistics_are_refused(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        model_form.statistics(text, 3)


def test_one_number_stands_for_all_channels() -> None:
    assert model_form.statistics("0.5", 3) == [0.5, 0.5, 0.5]
    assert model_form.statistics("1, 2, 3", 3) == [1.0, 2.0, 3.0]


def test_class_names_must_differ() -> None:
    with pytest.raises(ModelError, match="'cat' is named twice"):
        model_form.named_classes("cat\ndog\ncat", 3)


def test_small_pictures_are_enlarged_without_blur() -> None:
    small = png(np.eye(8, dtype=np.uint8) * 255)
    with Image.open(io.BytesIO(enlarged(small))) as image:
        assert image.size == (72, 72)
        assert set(np.asarray(image).ravel().tolist()) == {0, 255}
    large = png(np.zeros((100, 100), dtype=np.uint8))
    assert enlarged(large) == large


def test_of_several_outputs_the_prediction_is_asked_for(open_page: OpenPage, ws: Workspace, empty: Project) -> None:
    inspected(ws, empty, outputs=4, returns={"0": [4], "1": [2], "2": [3, 7, 7]}, predictions=["0", "1"])
    app = open_page("model_data", project=empty.id)
    assert failures(app) == []
    assert "Outputs of the network: 0 [4], 1 [2], 2 [3, 7, 7]" in [
        caption.value.replace("\\", "") for caption in app.caption
    ]
    (asked,) = [box for box in app.selectbox if box.label == "Prediction"]
    assert asked.options == ["0 [4]", "1 [2]"]
    assert asked.value is None
    assert "Import model" not in [one.label for one in app.button]
    asked.select("1").run()
    app.text_area[0].set_value("face\nno face")
    button(app, "Import model").click().run()
    assert failures(app) == []
    job = jobs.jobs(ws, empty.id)[0]
    assert (job.kind, job.task["output"], job.task["classes"]) == ("import_model", "1", ["face", "no face"])
    jobs.cancel(ws, job.id)


def test_an_only_possible_prediction_is_shown(open_page: OpenPage, ws: Workspace, empty: Project) -> None:
    inspected(ws, empty, outputs=2, returns={"map": [3, 7, 7], "logits": [2]}, predictions=["logits"])
    app = open_page("model_data", project=empty.id)
    said = [caption.value.replace("\\", "") for caption in app.caption]
    assert "Outputs of the network: map [3, 7, 7], logits [2]" in said
    assert "Prediction: logits" in said
    assert "Import model" in [one.label for one in app.button]


def inspected(ws: Workspace, project: Project, *, outputs: int, suggestions: bool = True, **more: Any) -> None:
    """Put a finished inspection of a file into the project's jobs."""
    path = uploads.keep(ws, "boxes.pt", io.BytesIO(b"never read"))
    spec = {"kind": "table", "shape": [4], "mean": [0.0] * 4, "std": [1.0] * 4}
    suggestion = {"name": "mlp", "arguments": {}, "input": spec, "outputs": outputs, "misfits": 0, "mismatches": []}
    result = {
        "format": "torch",
        "tensors": 4,
        "parameters": 43,
        "bytes": 172,
        "notes": [],
        "described": False,
        "suggestions": [suggestion | more] if suggestions else [],
        "names": ["mlp"],
        "snippet": "ARCHITECTURES = {}",
    }
    done(ws, project, {"kind": "inspect_model", "path": str(path)}, result)


def checked(ws: Workspace, project: Project, *, own: float, other: float, **more: object) -> None:
    """Put a finished check of the input into the project's jobs."""
    task = {"kind": "check_model", "version": project.current, "dataset": project.dataset}
    rows = [
        {"name": "as set", "shape": [4], "mean": [0.0] * 4, "std": [1.0] * 4, "quality": own, "n": 14},
        {"name": "this dataset", "shape": [4], "mean": [5.0] * 4, "std": [2.0] * 4, "quality": other, "n": 14} | more,
    ]
    done(ws, project, task, {"rows": rows})


def done(ws: Workspace, project: Project, task: dict[str, Any], result: dict[str, Any]) -> None:
    """A job that has ended well."""
    job = queue.add(ws.store, task, project=project.id, title="Done", lane="short", device="cpu", limit=60.0)
    with ws.store.write() as db:
        queue.claim(ws.store, db, {"id": job.id, "lane": "short", "title": "Done", "project": project.id}, "cpu", _none)
        queue.finish(ws.store, db, job.id, result)


def failed(ws: Workspace, project: Project, task: dict[str, Any], reason: str) -> None:
    """A job that has failed."""
    job = queue.add(ws.store, task, project=project.id, title="Failed", lane="short", device="cpu", limit=60.0)
    with ws.store.write() as db:
        queue.end(ws.store, db, job.id, "failed", reason)


def _none() -> queue.Worker:
    return queue.Worker(0, 0.0, "", None)


def pictures(inside: str = "shapes/") -> bytes:
    """A zip of 40 pictures in two classes, and one file that is none."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for number in range(40):
            name = ("dark", "light")[number % 2]
            shade = np.full((8, 8), 20 + 180 * (number % 2) + number, dtype=np.uint8)
            archive.writestr(f"{inside}{name}/{number}.png", png(shade))
        archive.writestr(f"{inside}dark/broken.png", b"no picture")
    return target.getvalue()


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    """A gray picture."""
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


def badges(app: AppTest) -> str:
    """All Markdown, badges included."""
    return "\n".join(element.value for element in app.markdown)


def box(app: AppTest, label: str) -> Any:
    return next(box for box in app.selectbox if box.label == label)


def button(app: AppTest, label: str) -> Any:
    """The first button with this label."""
    return next(button for button in app.button if button.label == label)
