"""Classes under other names: a new dataset with the same samples and roles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from surgery.data.dataset import Dataset
from surgery.data.join import join
from surgery.data.load import import_data
from surgery.data.relabel import relabel
from surgery.errors import DataError
from surgery.measure.quality import meaning_of
from tests import pico


def words(data: Dataset) -> list[str]:
    return [data.classes[label] for label in data.labels(np.arange(len(data))).tolist()]


def test_samples_roles_and_sources_stay(pico_images: Dataset, tmp_path: Path) -> None:
    found = relabel(pico_images, tmp_path / "d", {"square": "box", "bars": "a bar"}, name="renamed")
    assert found.classes == ("a bar", "box", "columns")
    assert words(found) == [{"square": "box", "bars": "a bar"}.get(word, word) for word in words(pico_images)]
    assert found.counts() == pico_images.counts()
    assert np.array_equal(found.raw(range(60)), pico_images.raw(range(60)))
    assert found.sources([7, 3]) == [pico_images.source(7), pico_images.source(3)]
    assert "Classes were renamed: 'square' to 'box', 'bars' to 'a bar'." in found.notes


def test_classes_of_one_name_become_one_and_others_are_left_out(pico_many: Dataset, tmp_path: Path) -> None:
    both = relabel(pico_many, tmp_path / "a", {"bars": "stripes", "columns": "stripes"}, name="both")
    assert both.classes == ("square", "stripes") and len(both) == 300
    less = relabel(pico_many, tmp_path / "b", {}, name="less", without=["bars"])
    assert less.classes == ("columns", "square") and set(words(less)) == {"columns", "square"}
    assert "Left out: 100 samples of the classes bars." in less.notes


@pytest.mark.parametrize(
    ("names", "without", "message"),
    [
        ({"bar": "x"}, [], r"There is no class 'bar' to rename; the classes are bars, columns, square\."),
        ({"bars": " "}, [], r"' ' cannot be the name of a class\."),
        ({}, ["bar"], r"There is no class 'bar' to leave out; there are bars, columns, square\."),
        ({}, ["bars", "square"], r"Fewer than two classes would be left\."),
    ],
)
def test_what_cannot_be_renamed_is_refused(
    pico_images: Dataset, tmp_path: Path, names: dict[str, str], without: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        relabel(pico_images, tmp_path / "d", names, name="n", without=without)


def test_a_model_is_never_matched_by_position(pico_images: Dataset, tmp_path: Path) -> None:
    """The case that cost two thirds of the accuracy: one class spelled otherwise, labels in another order."""
    model = replace(pico.pico_model(), classes=("square", "bar", "columns"))
    with pytest.raises(Exception, match=r"1 of the 3 classes of 'drawings' \(bars\) is no class of the model"):
        meaning_of(model, pico_images)
    found = relabel(pico_images, tmp_path / "d", {"bars": "bar"}, name="renamed")
    assert meaning_of(model, found).tolist() == [2, 0, 1]


def test_classes_are_renamed_on_import(tmp_path: Path) -> None:
    lines = ["x,y", *(f"{n},{('automobile', 'cat')[n % 2]}" for n in range(20))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    data = import_data(tmp_path / "t.csv", tmp_path / "d", name="n", target="y", classes={"automobile": "zauto"})
    assert data.classes == ("cat", "zauto") and words(data)[:2] == ["zauto", "cat"]
    with pytest.raises(DataError, match=r"There is no class 'auto' to rename; the classes are automobile, cat\."):
        import_data(tmp_path / "t.csv", tmp_path / "e", name="n", target="y", classes={"auto": "x"})


def test_datasets_that_spell_one_class_differently_are_not_put_together(pico_images: Dataset, tmp_path: Path) -> None:
    other = relabel(pico_images, tmp_path / "d", {"bars": "Bars"}, name="other")
    message = r"The class 'Bars' of 'other' and the class 'bars' of another dataset differ only in spelling"
    with pytest.raises(DataError, match=message):
        join([pico_images, other], tmp_path / "e", name="both")
