"""Image folders and zips: every layout, every kind of pixel, and what is said about the rest."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgery.context import Context
from surgery.data.load import import_data, peek, sniff
from surgery.data.pixels import decode, measure
from surgery.errors import Cancelled, DataError


def png(seed: int, size: tuple[int, int] = (6, 6), mode: str = "L", form: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    target = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(target, form)
    return target.getvalue()


def zipped(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def classes(prefix: str, labels: str, count: int, seed: int = 0) -> dict[str, bytes]:
    return {
        f"{prefix}{label}/{number}.png": png(seed + 1000 * place + number)
        for place, label in enumerate(labels.split())
        for number in range(count)
    }


def test_class_folders_are_split(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", classes("", "cat dog", 20))
    data = import_data(path, tmp_path / "d", name="pets")
    assert (data.name, data.kind, data.task) == ("pets", "images", "classification")
    assert data.classes == ("cat", "dog") and data.shape == (1, 6, 6)
    assert data.counts() == {"train": 28, "val": 6, "test": 6}
    assert data.problems == () and data.notes == ()
    for sample in range(40):
        stored = np.asarray(Image.open(io.BytesIO(dict(classes("", "cat dog", 20))[data.source(sample)])))
        assert np.array_equal(data.raw([sample])[0, ..., 0], stored)
        assert data.classes[data.labels([sample])[0]] == data.source(sample).split("/")[0]


@pytest.mark.parametrize("prefix", ["", "wrap/", "wrap/inner/", "train/"])
def test_wrapping_folders_mean_nothing(tmp_path: Path, prefix: str) -> None:
    data = import_data(zipped(tmp_path / "a.zip", classes(prefix, "a b", 10)), tmp_path / "d", name="n")
    assert data.classes == ("a", "b") and len(data) == 20


def test_an_unpacked_folder_is_the_same(tmp_path: Path) -> None:
    files = classes("", "a b", 10)
    path = zipped(tmp_path / "a.zip", files)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "folder")
    (tmp_path / "folder" / ".DS_Store").write_bytes(b"junk")
    one = import_data(path, tmp_path / "one", name="n")
    two = import_data(tmp_path / "folder", tmp_path / "two", name="n")
    assert one.digest == two.digest and two.problems == ()


def test_given_test_is_kept_and_train_is_split(tmp_path: Path) -> None:
    files = classes("data/train/", "a b", 20) | classes("data/Test/", "a b", 5, seed=500)
    data = import_data(zipped(tmp_path / "a.zip", files), tmp_path / "d", name="n")
    assert data.counts() == {"train": 34, "val": 6, "test": 10}
    assert all("/Test/" in data.source(sample) for sample in data.ids("test").tolist())


def test_given_val_is_kept(tmp_path: Path) -> None:
    files = classes("train/", "a b", 6) | classes("valid/", "a b", 3, seed=500)
    data = import_data(zipped(tmp_path / "a.zip", files), tmp_path / "d", name="n")
    assert data.counts() == {"train": 12, "val": 6}
    files |= classes("test/", "a b", 2, seed=700)
    data = import_data(zipped(tmp_path / "b.zip", files), tmp_path / "e", name="n")
    assert data.counts() == {"train": 12, "val": 6, "test": 4}


def test_training_images_that_are_also_in_test_are_left_out(tmp_path: Path) -> None:
    files = classes("train/", "a b", 10) | classes("test/", "a b", 5, seed=500)
    files["train/a/leak.png"] = files["test/a/3.png"]
    data = import_data(zipped(tmp_path / "a.zip", files), tmp_path / "d", name="n")
    assert [problem.where for problem in data.problems] == ["train/a/leak.png"]
    assert "also in test" in data.problems[0].reason
    assert len(data) == 30 and data.notes == (
        "1 of 21 training samples are also in test; they were left out of train.",
        "1 of 31 files or rows were left out; each is listed.",
    )


def test_a_class_without_training_images_is_named(tmp_path: Path) -> None:
    files = classes("train/", "a b", 10) | classes("test/", "a b c", 5, seed=500)
    data = import_data(zipped(tmp_path / "a.zip", files), tmp_path / "d", name="n")
    assert data.classes == ("a", "b", "c")
    assert [(p.where, p.reason) for p in data.problems] == [("class 'c'", "It has no training samples.")]


def test_classes_sort_by_number(tmp_path: Path) -> None:
    labels = " ".join(str(number) for number in range(12))
    data = import_data(zipped(tmp_path / "a.zip", classes("", labels, 4)), tmp_path / "d", name="n")
    assert data.classes == tuple(labels.split())


def test_images_without_classes_are_unlabelled(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {f"{number}.png": png(number) for number in range(8)})
    data = import_data(path, tmp_path / "d", name="n")
    assert (data.task, data.classes, data.counts()) == ("unlabelled", (), {"unlabelled": 8})
    assert [label for _, label in peek(path)] == [""] * 8
    labelled = zipped(tmp_path / "b.zip", classes("", "a b", 4))
    assert import_data(labelled, tmp_path / "e", name="n", task="unlabelled").task == "unlabelled"


def test_other_sizes_are_cropped_and_said(tmp_path: Path) -> None:
    files = classes("", "a b", 10) | {"a/wide.png": png(5, (6, 12)), "b/tall.png": png(6, (24, 12))}
    data = import_data(zipped(tmp_path / "a.zip", files), tmp_path / "d", name="n")
    assert data.notes == (
        "2 of 22 images had another size than 6×6: they were scaled by their shorter side and cropped at the centre.",
    )
    wide = next(sample for sample in range(22) if data.source(sample) == "a/wide.png")
    whole = np.asarray(Image.open(io.BytesIO(files["a/wide.png"])))
    assert np.array_equal(data.raw([wide])[0, ..., 0], whole[:, 3:9])


def test_a_size_can_be_asked_for(tmp_path: Path) -> None:
    data = import_data(zipped(tmp_path / "a.zip", classes("", "a b", 5)), tmp_path / "d", name="n", size=(4, 8))
    assert data.shape == (1, 4, 8)
    with pytest.raises(DataError, match="Images of 0×8 cannot be stored"):
        import_data(tmp_path / "a.zip", tmp_path / "e", name="n", size=(0, 8))


def test_large_images_are_stored_smaller_and_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surgery.data.images.MAX_SIDE", 3)
    data = import_data(zipped(tmp_path / "a.zip", classes("", "a b", 5)), tmp_path / "d", name="n")
    assert data.shape == (1, 3, 3)
    assert data.notes[0] == "Images of 6×6 pixels are stored as 3×3; give a size to keep more."


def test_one_colour_image_makes_all_rgb(tmp_path: Path) -> None:
    files = classes("", "a b", 5) | {"a/colour.jpg": png(3, mode="RGB", form="JPEG")}
    assert import_data(zipped(tmp_path / "a.zip", files), tmp_path / "d", name="n").shape == (3, 6, 6)


@pytest.mark.parametrize(("mode", "form"), [("P", "PNG"), ("1", "PNG"), ("CMYK", "JPEG"), ("P", "GIF"), ("RGB", "BMP")])
def test_every_kind_of_pixel_is_read(mode: str, form: str) -> None:
    pixels, resized = decode(png(1, mode=mode, form=form), (6, 6), "RGB")
    assert pixels.shape == (6, 6, 3) and not resized and pixels.std() > 20


def test_transparent_pixels_lie_over_white() -> None:
    target = io.BytesIO()
    Image.new("RGBA", (4, 4), (200, 0, 0, 0)).save(target, "PNG")
    assert decode(target.getvalue(), (4, 4), "RGB")[0].min() == 255


def test_sixteen_bits_become_eight() -> None:
    values = np.arange(256, dtype=np.uint16).reshape(16, 16)
    target = io.BytesIO()
    Image.fromarray(values * 257).save(target, "PNG")
    assert np.array_equal(decode(target.getvalue(), (16, 16), "L")[0][..., 0], values)


def test_a_photograph_is_turned_upright() -> None:
    image = Image.new("RGB", (8, 4), "black")
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    target = io.BytesIO()
    image.save(target, "JPEG", exif=exif)
    assert measure(target.getvalue()) == ((8, 4), False)
    assert not decode(target.getvalue(), (8, 4), "RGB")[1]


def test_a_large_photograph_keeps_what_it_shows() -> None:
    image = Image.new("L", (400, 400), 0)
    image.paste(255, (0, 0, 200, 400))
    target = io.BytesIO()
    image.save(target, "JPEG")
    pixels = decode(target.getvalue(), (8, 8), "L")[0][..., 0]
    assert pixels[:, :3].min() > 240 and pixels[:, 5:].max() < 15


def test_sniff_and_peek_before_anything_runs(tmp_path: Path) -> None:
    files = classes("", "a b c", 10) | {"a/broken.png": b"no image"}
    path = zipped(tmp_path / "a.zip", files)
    found = sniff(path)
    assert (found.kind, found.label, found.entries) == ("image zip", "Zipped folder of images", 31)
    assert found.bytes == path.stat().st_size
    shown = peek(path, 12)
    assert sorted(label for _, label in shown) == ["a"] * 4 + ["b"] * 4 + ["c"] * 4
    first = shown[0][0]
    assert isinstance(first, bytes) and Image.open(io.BytesIO(first)).size == (6, 6)


def test_peek_makes_thumbnails(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a/1.png": png(0, (600, 300)), "b/1.png": png(1, (20, 10))})
    sizes = {label: Image.open(io.BytesIO(picture)).size for picture, label in peek(path) if isinstance(picture, bytes)}
    assert sizes == {"a": (128, 256), "b": (10, 20)}


def test_progress_is_reported_and_cancel_stops(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", classes("", "a b", 10))
    events: list[dict[str, object]] = []
    import_data(path, tmp_path / "d", name="n", ctx=Context(report=lambda event: events.append(dict(event))))
    assert events[0] == {"stage": "reading images", "done": 0, "total": 20, "seconds": 0.0}
    assert events[-1]["done"] == 20
    with pytest.raises(Cancelled, match="reading images"):
        import_data(path, tmp_path / "e", name="n", ctx=Context(cancelled=lambda: True))


def test_the_same_files_and_seed_give_the_same_dataset(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", classes("", "a b", 20))
    digests = [import_data(path, tmp_path / str(n), name="n", seed=seed).digest for n, seed in enumerate((0, 0, 1))]
    assert digests[0] == digests[1] != digests[2]


def test_options_of_tables_are_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", classes("", "a b", 5))
    with pytest.raises(DataError, match="no columns to choose"):
        import_data(path, tmp_path / "d", name="n", target="y")
    with pytest.raises(DataError, match="hold classes, not numbers"):
        import_data(path, tmp_path / "d", name="n", task="regression")
