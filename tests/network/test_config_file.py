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


@pytest.mark.parametrize(
    "labels", [None, ["a"], {"a": "b"}, "x", {"²": "a"}, {"9" * 5000: "a"}, {"0": {"a": 1}}, {"0": None}]
)
def test_what_is_not_said_is_left_open(labels: object) -> None:
    assert classes_of({"id2label": labels}) == []
    assert input_of({"image_size": [16, 16]}) is None


@pytest.mark.parametrize(
    "sizes", [{"num_channels": 10**12}, {"num_channels": 0}, {"image_size": -1}, {"image_size": True}]
)
def test_an_impossible_input_is_left_open(sizes: dict[str, object]) -> None:
    assert input_of({"image_size": 16, **sizes}) is None


def test_a_configuration_of_very_many_bytes_is_refused() -> None:
    with pytest.raises(ModelFileError, match=r"has 5,000,000 bytes, more than 4,000,000"):
        architecture(b" " * 5_000_000, "config.json")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is no JSON"),
        ("[]", "holds no configuration"),
        ("\x80", "JSON"),
        ("[" * 100_000, "JSON"),
        ('{"a": 1, "a": 2}', "twice"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(content: str, words: str) -> None:
    with pytest.raises(ModelFileError, match=f"config.json .*{words}"):
        architecture(content.encode("latin-1"), "config.json")


def test_a_configuration_is_the_argument_of_its_network() -> None:
    found = architecture(b'{"model_type": "vit"}', "config.json")
    assert found == {"name": "hf/image-classification", "arguments": {"config": {"model_type": "vit"}}}
