"""Files of other kinds: each is named by its content, and the lines that convert it work on that very file."""

from __future__ import annotations

import argparse
import json
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from surgery import sandbox
from surgery.errors import ModelFileError
from surgery.network import read_child
from surgery.network.read import read, read_tensors


@pytest.fixture(autouse=True)
def read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do in this process what the limited child does: starting one for each file takes seconds."""

    def call(_target: str, argument: Any, *_given: Any, **_options: Any) -> Any:
        return read_child.answer(argument)

    monkeypatch.setattr(sandbox, "call", call)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def refused(path: Path) -> ModelFileError:
    with pytest.raises(ModelFileError) as caught:
        read(path)
    return caught.value


def converted(path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """What the lines of the advice make of the file, where its owner runs them."""
    _words, _blank, lines = refused(path).fix.partition("\n\n")
    monkeypatch.chdir(path.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, on the owner's side
        exec(compile(lines, "advice", "exec"), {})
    return read_tensors(path.parent / "model.safetensors")


def saved_module(path: Path) -> None:
    torch.save(network(), path)


def saved_module_as_before_1_6(path: Path) -> None:
    torch.save(network(), path, _use_new_zipfile_serialization=False)


def pickled_module(path: Path) -> None:
    path.write_bytes(pickle.dumps(network()))


def pickled_weights(path: Path) -> None:
    path.write_bytes(pickle.dumps(network().state_dict()))


def checkpoint_with_a_module(path: Path) -> None:
    """As detectors are saved: the network in half precision beside what made it."""
    torch.save({"epoch": -1, "ema": None, "model": network().half(), "train_args": {"lr": 0.1}}, path)


def checkpoint_with_options(path: Path) -> None:
    torch.save({"args": argparse.Namespace(lr=0.1), "state_dict": network().state_dict()}, path)


def saved_arrays(path: Path) -> None:
    torch.save({name: value.numpy() for name, value in network().state_dict().items()}, path)


def pickled_arrays(path: Path) -> None:
    path.write_bytes(pickle.dumps({name: value.numpy() for name, value in network().state_dict().items()}))


def npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **{name: value.numpy() for name, value in network().state_dict().items()})


def torchscript(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(network()), path)


def exported(path: Path) -> None:
    program = torch.export.export(network(), (torch.ones(2, 4),))
    with path.open("wb") as file:
        torch.export.save(program, file)


def onnx_of(path: Path, *, constants: bool) -> None:
    onnx = pytest.importorskip("onnx")
    tensors = [onnx.numpy_helper.from_array(value.numpy(), name) for name, value in network().state_dict().items()]
    tensors.append(onnx.numpy_helper.from_array(np.array([-1, 4]), "shape"))
    nodes = [onnx.helper.make_node("Constant", [], [one.name], value=one) for one in tensors] if constants else []
    graph = onnx.helper.make_graph(nodes, "net", [], [], [] if constants else tensors)
    model = onnx.helper.make_model(graph, producer_name="pytorch")
    path.write_bytes(model.SerializeToString())


def onnx_with_initializers(path: Path) -> None:
    onnx_of(path, constants=False)


def onnx_with_constants(path: Path) -> None:
    onnx_of(path, constants=True)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (saved_module, r"stores Python objects \(torch\.nn\.modules\.container\.Sequential\)"),
        (saved_module_as_before_1_6, "stores Python objects"),
        (pickled_module, "stores Python objects"),
        (pickled_weights, "stores Python objects"),
        (checkpoint_with_a_module, "stores Python objects"),
        (checkpoint_with_options, r"stores Python objects \(argparse\.Namespace\)"),
        (saved_arrays, r"is a file of torch\.save with NumPy arrays"),
        (pickled_arrays, "is a pickle of arrays"),
        (npz, r"is an archive of NumPy arrays \(npz\)"),
        (torchscript, "is a TorchScript program"),
        (exported, r"is a torch\.export program"),
        (onnx_with_initializers, "is an ONNX model"),
        (onnx_with_constants, "is an ONNX model"),
    ],
)
def test_the_lines_convert_this_very_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], complaint: str
) -> None:
    path = tmp_path / 'my "net".bin'
    make(path)
    with pytest.raises(ModelFileError, match=complaint):
        read(path)
    found, wanted = converted(path, monkeypatch), network().state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[name], wanted[name], atol=1e-3) for name in wanted)


@pytest.mark.parametrize("classes", [2, 3])
def test_an_mlp_of_scikit_learn_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
    from sklearn.neural_network import MLPClassifier

    x = np.random.default_rng(0).normal(size=(60, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MLPClassifier((5,), max_iter=3, random_state=0).fit(x, x[:, :classes].argmax(1))
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(model))
    assert "is a scikit-learn model with an MLP" in refused(path).what
    made = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, classes))
    made.load_state_dict(converted(path, monkeypatch))
    with torch.no_grad():
        chances = made(torch.tensor(x).float()).softmax(1)
    assert torch.allclose(chances, torch.tensor(model.predict_proba(x)).float(), atol=1e-4)


def test_a_forest_is_no_neural_network(tmp_path: Path) -> None:
    import joblib
    from sklearn.tree import DecisionTreeClassifier

    model = DecisionTreeClassifier().fit(np.eye(4), [0, 1, 0, 1])
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    joblib.dump(model, tmp_path / "model.joblib")
    for name in ("model.pkl", "model.joblib"):
        said = refused(tmp_path / name)
        assert "is a scikit-learn model, not a neural network" in said.what
        assert "MLPClassifier" in said.fix


def zipped(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"{}")


@pytest.mark.parametrize(
    ("name", "content", "complaint", "advice"),
    [
        ("net.h5", b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 (Keras) file", "keras.saving.load_model"),
        ("net.keras", ("metadata.json", "config.json", "model.weights.h5"), "a Keras model", "load_model"),
        ("net.zip", ("m/saved_model.pb", "m/variables/v.index"), "a TensorFlow SavedModel", "saved_model.load"),
        ("saved_model.pb", b"\x08\x01\x12\xb4\x05\x0a\x10" + bytes(99), "a TensorFlow SavedModel", "saved_model.load"),
        ("net.bin", b"\x08\x01\x12\xb4\x05\x0a\x10" + bytes(99), "a TensorFlow SavedModel", "saved_model.load"),
        ("graph.pb", b"\x0a\x2f\x0a\x01x\x12\x0bPlaceholder", "a TensorFlow graph", ".keras format"),
        ("net.tflite", b"\x1c\0\0\0TFL3" + bytes(99), "a TensorFlow Lite model", "converted from"),
        ("net.gguf", b"GGUF\x03\0\0\0" + bytes(99), "a GGUF file", "not supported"),
        ("net.msgpack", b"\x81\xa6params\x81\xa5dense\x80", "a Flax checkpoint (msgpack)", "msgpack_restore"),
        ("net.mlmodel", b"\x08\x04\x12\x9d\x03\x0a\x80\xff" + bytes(99), "a Core ML model", "converted from"),
        ("net.xml", b'<?xml version="1.0"?>\n<net name="m">', "an OpenVINO model", "converted from"),
        ("net.npy", b"\x93NUMPY\x01\0" + bytes(99), "a single NumPy array", "all of its weights"),
        ("net.txt", b"tree\nversion=v4\n", "a gradient-boosting model", "neural network"),
        ("net.joblib", b"\x78\x9c" + bytes(range(99)), "a compressed pickle", "joblib.load"),
        ("net.pt", b"<!DOCTYPE html>", "a web page or XML", "Download the file itself"),
        ("net.pth.gz", b"\x1f\x8b" + bytes(99), "a gzip archive", "Unpack it"),
    ],
)
def test_what_torch_never_wrote_is_named_with_advice_for_it(
    tmp_path: Path, name: str, content: Any, complaint: str, advice: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content) if isinstance(content, bytes) else zipped(path, *content)
    said = refused(path)
    assert f"{name} is {complaint}" in said.what
    assert advice in said.fix
    assert "model.state_dict()" not in said.fix
    compile(said.fix.partition("\n\n")[2], "advice", "exec")


def test_a_frozen_program_has_no_names_to_give(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.freeze(torch.jit.script(network().eval())), tmp_path / "net.pt")
    said = refused(tmp_path / "net.pt")
    assert "a frozen TorchScript program: its weights are constants without names" in said.what
    assert "torch.jit.freeze" in said.fix


def test_a_folder_is_answered_with_the_file_in_it(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "pytorch_model.bin"):
        (tmp_path / name).write_text("{}")
    said = refused(tmp_path)
    assert said.fix.endswith(f"import-model {tmp_path / 'model.safetensors'} --config {tmp_path / 'config.json'}")


@pytest.mark.parametrize(
    ("checkpoint", "ignored"),
    [
        (lambda w: {"model_state": w, "optimizer_state": {"state": {}, "param_groups": []}}, "optimizer_state"),
        (lambda w: {"ema": w, "step": 3}, "step"),
        (lambda w: {"ema": {"0.weight": torch.zeros(1)}, "model": w}, "ema"),
        (lambda w: {"my_network": w, "epoch": 1}, "epoch"),
        (
            lambda w: {"n_averaged": torch.tensor(3), **{f"module.{name}": value for name, value in w.items()}},
            "n_averaged",
        ),
        (lambda w: {"state_dict": OrderedDict((f"model._orig_mod.{name}", v) for name, v in w.items()), "a": 1}, "a"),
    ],
)
def test_weights_are_found_in_a_checkpoint_whatever_holds_them(
    tmp_path: Path, checkpoint: Callable[[dict[str, Tensor]], Any], ignored: str
) -> None:
    wanted = network().state_dict()
    torch.save(checkpoint(wanted), tmp_path / "net.pt")
    found = read(tmp_path / "net.pt")
    assert [name.removeprefix("model.") for name in found.tensors] == list(wanted)
    assert ignored in found.notes[0]


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ([0.0, float("-inf"), float("-inf")], "This is a mask or another constant, not a weight"),
        ([0.5, float("nan"), 1.0], "If the training diverged, import an earlier checkpoint"),
        ([0.5, float("-inf"), 1.0], "If the training diverged, import an earlier checkpoint"),
    ],
)
def test_a_mask_is_told_from_training_that_diverged(tmp_path: Path, values: list[float], advice: str) -> None:
    torch.save({"mask": torch.tensor(values), "weight": torch.ones(3)}, tmp_path / "net.pt")
    said = refused(tmp_path / "net.pt")
    assert "holds values that are not finite in 1 tensors: 'mask'" in said.what
    assert advice in said.fix


class Payload:
    """Unpickling it creates a file."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("ran"),)  # type: ignore[return-value]


def test_looking_into_a_pickle_runs_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from surgery.network.pickled import survey

    monkeypatch.chdir(tmp_path)
    path = tmp_path / "net.pkl"
    path.write_bytes(pickle.dumps({"model": Payload(), "weights": network().state_dict()}))
    found = survey(path)
    assert found.whole
    assert found.keys == {"weights": "tensors"}
    assert "pathlib" in json.dumps(found.classes)
    assert not (tmp_path / "ran").exists()
