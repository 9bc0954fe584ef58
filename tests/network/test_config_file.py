from __future__ import annotations

from pathlib import Path

import pytest

from surgery.errors import ModelFileError
from surgery.network.config_file import classes_of, input_of, read


def test_what_a_network_takes_and_tells_apart() -> None:
    config = {"image_size": 16, "id2label": {"10": "c", "2": "b, the second", "0": "a"}}
    half = [0.5, 0.5, 0.5]
    assert input_of(config) == {"kind": "image", "shape": [3, 16, 16], "mean": half, "std": half}
    assert input_of({**config, "num_channels": 1})["shape"] == [1, 16, 16]  # type: ignore[index]
    assert classes_of(config) == ["a", "b, the second", "c"]


@pytest.mark.parametrize("labels", [None, ["a"], {"a": "b"}, "x"])
def test_what_is_not_said_is_left_open(labels: object) -> None:
    assert classes_of({"id2label": labels}) == []
    assert input_of({"image_size": [16, 16]}) is None


@pytest.mark.parametrize(
    ("content", "words"), [("{", "is no JSON"), ("[]", "holds no configuration"), ("\x80", "JSON")]
)
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelFileError, match=words):
        read(file)
