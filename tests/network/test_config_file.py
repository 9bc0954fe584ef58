from __future__ import annotations

import pytest

from surgery.errors import ModelFileError
from surgery.network.config_file import architecture, classes_of, input_of


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
    ("content", "words"),
    [("{", "is no JSON"), ("[]", "holds no configuration"), ("\x80", "JSON"), ("[" * 100_000, "JSON")],
)
def test_a_file_that_is_no_configuration_is_named(content: str, words: str) -> None:
    with pytest.raises(ModelFileError, match=f"config.json .*{words}"):
        architecture(content.encode("latin-1"), "config.json")


def test_a_configuration_is_the_argument_of_its_network() -> None:
    found = architecture(b'{"model_type": "vit"}', "config.json")
    assert found == {"name": "hf/image-classification", "arguments": {"config": {"model_type": "vit"}}}
