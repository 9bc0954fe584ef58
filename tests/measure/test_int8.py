"""Eight bits after training: the file runs elsewhere, is about a quarter as large, and is measured honestly."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.tune import tune
from surgery.errors import Cancelled, ModelError
from surgery.measure import int8
from surgery.network.model import Model
from tests.conftest import SIDES
from tests.patients import digits, mlp, writer


@pytest.fixture(scope="module")
def model(pico_images: Dataset) -> Model:
    return tune(digits((8, 12, 16)), pico_images.without_test(), Context(), epochs=30, rate=1e-2)


def test_a_convolutional_network_is_written_and_measured(model: Model, pico_images: Dataset, tmp_path: Path) -> None:
    target = tmp_path / "new" / "small.onnx"
    found = int8(model, pico_images, target, Context())
    assert found["bytes"][1] == target.stat().st_size < found["bytes"][0]
    assert (found["metric"], found["split"], found["n"]) == ("accuracy", "test", len(pico_images.ids("test")))
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    ids = pico_images.ids("test")
    x, y, _ = next(iter(pico_images.batches(ids, model.input)))
    said = session.run(None, {"input": x.numpy()})[0].argmax(1)
    assert y is not None
    assert found["quality"][1] == pytest.approx(float((said == y.numpy()).mean()))
    kinds = {tensor.data_type for tensor in _weights(target)}
    assert 3 in kinds, "there are int8 tensors in it"
    assert [time["batch"] for time in found["times"]] == [1, 32]
    assert all(time["whole"] > 0 and time["int8"] > 0 and time["spread"] >= 0 for time in found["times"])


def _weights(file: Path) -> list[object]:
    import onnx

    return [tensor for tensor in onnx.load(file).graph.initializer if np.prod(tensor.dims) > 16]


def test_a_language_model_keeps_its_loss(pico_text: Dataset, tmp_path: Path) -> None:
    found = int8(writer(), pico_text, tmp_path / "small.onnx", Context())
    whole, small = found["quality"]
    assert found["metric"] == "loss"
    assert abs(small - whole) < 0.1


def test_tables_and_targets(pico_table: Dataset, pico_targets: Dataset, tmp_path: Path) -> None:
    found = int8(replace(mlp(), classes=SIDES), pico_table, tmp_path / "a.onnx", Context())
    assert found["metric"] == "accuracy"
    one = replace(mlp((4, 8, 1)), classes=pico_targets.classes, task="regression")
    assert int8(one, pico_targets, tmp_path / "b.onnx", Context())["metric"] == "r2"


def test_without_onnx_runtime_it_says_how_to_get_it(
    model: Model, pico_images: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime.quantization", None)
    with pytest.raises(ModelError, match=r"need onnxruntime\.quantization.*model-surgery\[int8\]"):
        int8(model, pico_images, tmp_path / "a.onnx", Context())


def test_cancelling_stops_it(model: Model, pico_images: Dataset, tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        int8(model, pico_images, tmp_path / "a.onnx", Context(cancelled=lambda: True))
