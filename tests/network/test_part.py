"""A part survives its files, and its digest names what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from surgery.edit.heads import plain
from surgery.errors import ModelFileError
from surgery.network import part as files
from surgery.network.part import Part


def some_part() -> Part:
    means = {"conv": torch.rand(3), "fc.deep": torch.rand(2)}
    head = plain(4, 1).state_dict()
    return Part("cat", torch.tensor([True, False, True]), ("cat",), means, head, "sha256:1", {"f1": 0.5})


def test_it_comes_back_from_json_and_tensors() -> None:
    part = some_part()
    again = Part.from_json(json.loads(json.dumps(part.to_json())), part.tensors())
    assert (again.name, again.classes, again.source, again.figures) == ("cat", ("cat",), "sha256:1", {"f1": 0.5})
    assert torch.equal(again.keep, part.keep)
    assert again.tensors().keys() == part.tensors().keys()
    assert all(torch.equal(a, b) for a, b in zip(again.tensors().values(), part.tensors().values(), strict=True))
    assert again.digest == part.digest


def test_its_digest_changes_with_what_it_says_alone() -> None:
    part = some_part()
    assert replace(part, name="other", figures={}).digest == part.digest
    others = [
        replace(part, keep=~part.keep),
        replace(part, classes=("dog",)),
        replace(part, source="sha256:2"),
        replace(part, means={}),
        replace(part, head={}),
        replace(part, means={**part.means, "conv": part.means["conv"] + 1}),
    ]
    assert len({part.digest, *(other.digest for other in others)}) == 1 + len(others)


def test_older_files_without_means_and_source_are_read() -> None:
    old = {"name": "old task", "of": 3, "neurons": [0, 2], "classes": ["cat", "dog"]}
    part = Part.from_json(old)
    assert part.keep.tolist() == [True, False, True]
    assert (part.means, part.head, part.source) == ({}, {}, "")


def test_parts_come_back_from_a_folder_each_with_its_own_tensors(tmp_path: Path) -> None:
    parts = [some_part() for _ in range(11)]  # "1/" is also the beginning of "10/"
    parts[1] = replace(parts[1], means={}, head={})
    files.save(parts, tmp_path)
    assert [part.digest for part in files.load(tmp_path)] == [part.digest for part in parts]


def test_what_parts_share_is_stored_once(tmp_path: Path) -> None:
    means = {"conv": torch.rand(100_000)}
    parts = [replace(some_part(), means=means) for _ in range(3)]
    files.save(parts, tmp_path)
    assert (tmp_path / files.TENSORS).stat().st_size < 500_000
    assert [part.digest for part in files.load(tmp_path)] == [part.digest for part in parts]


def test_a_folder_without_parts_has_none(tmp_path: Path) -> None:
    assert files.load(tmp_path) == ()


def test_damaged_parts_are_refused_by_name(tmp_path: Path) -> None:
    files.save([some_part()], tmp_path)
    (tmp_path / files.TENSORS).write_bytes(b"no tensors")
    with pytest.raises(ModelFileError, match="cannot be read"):
        files.load(tmp_path)
