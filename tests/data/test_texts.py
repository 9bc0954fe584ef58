"""Texts: windows with what follows, roles that do not touch, alphabets that must fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from surgery.context import Context
from surgery.data import load, texts
from surgery.data.dataset import Dataset
from surgery.data.texts import GROUPS, character, containing, group, named
from surgery.errors import DataError
from surgery.network.model import InputSpec
from tests.conftest import sentences


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "story.txt"
    path.write_text(sentences(), "utf-8")
    return path


def test_windows_lie_side_by_side_and_know_what_follows(pico_text: Dataset) -> None:
    whole = sentences()
    assert (pico_text.kind, pico_text.task, pico_text.shape) == ("text", "classification", (12,))
    assert len(pico_text) == (len(whole) - 1) // 12
    for sample in (0, 7, len(pico_text) - 1):
        assert pico_text.text(sample) == (whole[12 * sample : 12 * sample + 12], whole[12 * sample + 12])
    assert pico_text.source(2) == "from character 25"
    assert pico_text.problems == (), "a rare character is no mistake"


def test_roles_go_to_whole_blocks(pico_text: Dataset) -> None:
    owner = np.full(len(pico_text), -1)
    for number, role in enumerate(("train", "val", "test")):
        owner[pico_text.ids(role)] = number
    blocks = [owner[start : start + texts.BLOCK] for start in range(0, len(owner), texts.BLOCK)]
    assert all(len(set(block)) == 1 for block in blocks)
    assert set(owner) == {0, 1, 2}


def test_a_file_is_imported_like_the_text_in_it(file: Path, tmp_path: Path, pico_text: Dataset) -> None:
    assert load.sniff(file).kind == "text"
    assert load.peek(file, limit=2) == [({"text": line}, "") for line in sentences().splitlines()[:2]]
    data = load.import_data(file, tmp_path / "data", name="sentences", context=12)
    assert data.digest == pico_text.digest
    file.write_bytes(b"\xef\xbb\xbf" + sentences().replace("\n", "\r\n").encode())
    again = load.import_data(file, tmp_path / "again", name="sentences", context=12)
    assert again.digest == data.digest, "a byte order mark and other line ends make no difference"


def test_a_txt_that_is_a_table_stays_a_table(tmp_path: Path) -> None:
    path = tmp_path / "boxes.txt"
    path.write_text("length,width\n" + "1,2\n3,4\n" * 20)
    assert load.sniff(path).kind == "csv"


@pytest.mark.parametrize(
    ("content", "context", "said"),
    [
        (b"caf\xe9 " * 4000, None, "not UTF-8 text: byte 3"),
        (b"too short", None, "0 windows of 64"),
        (b"a fine text " * 1000, 1, "Windows of 1 characters"),
        ("".join(map(chr, range(0x4E00, 0x4E00 + 600))).encode() * 60, None, "600 different characters"),
    ],
)
def test_what_cannot_be_a_text_is_refused(tmp_path: Path, content: bytes, context: int | None, said: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        load.import_data(path, tmp_path / "data", name="bad", context=context)


def test_characters_have_names_and_kinds() -> None:
    for one in " \n\tAz7,é\u200b":
        assert character(named(one)) == one
    found = {one: group(named(one)) for one in "a zQ7,\n\t éß中"}
    assert found == {
        "a": "vowel",
        " ": "space",
        "z": "consonant",
        "Q": "capital",
        "7": "digit",
        ",": "mark",
        "\n": "line end",
        "\t": "space",
        "é": "vowel",
        "ß": "other",
        "中": "other",
    }
    assert set(found.values()) <= set(GROUPS)


def test_samples_are_told_apart_by_the_kind_of_what_follows(pico_text: Dataset) -> None:
    assert set(pico_text.groups) <= set(GROUPS)
    for sample in pico_text.ids("val")[:20].tolist():
        kind = pico_text.groups[int(pico_text.strata([sample])[0])]
        assert kind == group(named(pico_text.text(sample)[1]))


def test_a_phrase_finds_its_windows_but_never_those_of_test(pico_text: Dataset) -> None:
    found = containing(pico_text, "cat", limit=500)
    assert len(found)
    assert all("cat" in "".join(pico_text.text(int(sample))) for sample in found)
    assert not set(found.tolist()) & set(pico_text.ids("test").tolist())
    assert len(containing(pico_text, "cat", limit=3)) == 3
    assert len(containing(pico_text, "walrus")) == 0


def test_batches_number_characters_as_the_model_does(pico_text: Dataset) -> None:
    alphabet = (*reversed(pico_text.classes), "@")
    spec = InputSpec("text", (5,), alphabet=alphabet)
    x, y, ids = next(iter(pico_text.batches([3, 4], spec)))
    assert x.dtype == torch.int64
    assert y is not None
    for row, sample in zip(x.tolist(), ids.tolist(), strict=True):
        assert "".join(character(alphabet[code]) for code in row) == pico_text.text(sample)[0][-5:], "the end counts"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (InputSpec("text", (12,), alphabet=("a", "b")), "knows 2 characters, but not these of 'sentences': line end"),
        (InputSpec("text", (13,), alphabet=()), "not these"),
        (InputSpec("table", (12,), (0.0,) * 12, (1.0,) * 12), "takes table input, 'sentences' holds text"),
    ],
)
def test_models_that_do_not_fit_are_told_why(pico_text: Dataset, spec: InputSpec, said: str) -> None:
    with pytest.raises(DataError, match=said):
        pico_text.batches([0], spec)


def test_windows_that_are_too_short_are_told_how_long_they_must_be(pico_text: Dataset) -> None:
    with pytest.raises(DataError, match="reads 13 characters, the windows of 'sentences' have 12"):
        pico_text.batches([0], InputSpec("text", (13,), alphabet=pico_text.classes))


def test_there_is_no_drifted_text(pico_text: Dataset, tmp_path: Path) -> None:
    from surgery.data import drift

    with pytest.raises(DataError, match="no drifted copy"):
        drift.drifted(pico_text, np.array([0]), "noise", 0.5)


def test_a_text_is_not_a_table_or_a_picture(pico_text: Dataset, pico_table: Dataset) -> None:
    with pytest.raises(DataError, match="has no picture"):
        pico_text.picture(0)
    with pytest.raises(DataError, match="has no row"):
        pico_text.row(0)
    with pytest.raises(DataError, match="has no text"):
        pico_table.text(0)
    assert pico_text.statistics() == ((), ())
    assert pico_text.fitting(["a"]) is pico_text


def test_cancelling_stops_it(tmp_path: Path) -> None:
    from surgery.errors import Cancelled

    with pytest.raises(Cancelled):
        texts.from_text(sentences(), tmp_path / "d", name="s", context=12, ctx=Context(cancelled=lambda: True))


def test_texts_are_not_joined_window_by_window(pico_text: Dataset, tmp_path: Path) -> None:
    from surgery.data.join import join

    with pytest.raises(DataError, match="Put the files together"):
        join([pico_text, pico_text], tmp_path / "both", name="both")


def test_names_that_are_no_characters_stand_for_themselves() -> None:
    assert character("<pad>") == "<pad>"
    assert character("12") == "12"
    assert character("U+110000") == "U+110000", "beyond Unicode"
    assert group("<pad>") == "other"


def test_windows_that_repeat_themselves_across_roles_are_counted(pico_text: Dataset) -> None:
    train = {pico_text.raw([sample])[0].tobytes() for sample in pico_text.ids("train")}
    test = pico_text.ids("test")
    known = sum(pico_text.raw([sample])[0].tobytes() in train for sample in test)
    assert pico_text.notes == (f"{known} of {len(test)} test windows are in training too: the text repeats itself.",)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("\n".join(f"HAMLET, line {number} of the play" for number in range(40)), "text"),
        ("\n".join(f"\tan indented line number {number}" for number in range(40)), "text"),
        ("One long paragraph, with a comma.\n\nAnother one, with a comma too.\n", "text"),
        ("a;b\n" + "1;2\n" * 30, "csv"),
        ("name,size\n" + '"Smith, J.",4.5\n' * 30, "csv"),
        (",".join(f"column {number}" for number in range(600)) + "\n" + ",".join("1" * 600) + "\n", "csv"),
    ],
)
def test_a_txt_is_told_by_its_columns_of_numbers(tmp_path: Path, content: str, kind: str) -> None:
    path = tmp_path / "file.txt"
    path.write_text(content)
    assert load.sniff(path).kind == kind
