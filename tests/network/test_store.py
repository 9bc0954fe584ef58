"""A model on disk: what is written is what is read, in this program and outside it."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from surgery.edit.compose import Member, compose
from surgery.edit.shrink import shrink
from surgery.errors import ModelError, ModelFileError
from surgery.network import architectures, store
from surgery.network.architectures import build, load_operator_file
from surgery.network.certificate import relative
from surgery.network.index import NeuronIndex
from surgery.network.load import assemble
from surgery.network.model import Architecture, InputSpec, Model, Support
from tests import pico

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def pico_networks(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The pico networks as custom architectures."""
    monkeypatch.setattr(architectures, "_custom", {})
    file = tmp_path_factory.mktemp("operator") / "own.py"
    file.write_text("from tests import pico\nARCHITECTURES = {net.__name__: net for net in pico.NETWORKS}\n")
    load_operator_file(file)


def made(name: str, shape: tuple[int, ...] = (1, 8, 8), classes: int = 3, **arguments: object) -> Model:
    """A model of seeded random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        architecture = Architecture(name, arguments)
        tensors = build(architecture).state_dict()
    kind = "image" if len(shape) == 3 else "table"
    spec = InputSpec(kind, shape, (0.25,) * shape[0], (0.5,) * shape[0])
    return assemble(tensors, architecture, input=spec, classes=[f"class {number}" for number in range(classes)])


def pair(one: Model, other: Model) -> Model:
    """Two networks with one linear layer over all their outputs."""
    return compose([Member(one), Member(other)], one.input, one.classes, torch.eye(13)[:10] + 0.5, torch.zeros(10))


def smaller(model: Model) -> Model:
    """The model without about half of its neurons, which leave a mean of one half behind."""
    assert model.index is not None
    index = model.index
    keep = torch.rand(index.n, generator=torch.Generator().manual_seed(1)) > 0.5
    for layer in index.layers.values():
        keep[index.group == index.group[layer.rows[0]]] = True
    means = {layer.name: torch.full((len(layer.cols),), 0.5) for layer in index.layers.values()}
    shrunk, _ = shrink(model, index.close(keep), means)
    assert sum(p.numel() for p in shrunk.module.parameters()) < sum(p.numel() for p in model.module.parameters())
    return shrunk


def batch(model: Model, size: int = 3) -> Tensor:
    return torch.randn(size, *model.input.shape, generator=torch.Generator().manual_seed(2))


def same(left: NeuronIndex | None, right: NeuronIndex | None) -> None:
    """Assert that two indexes are equal in every id, name and reason."""
    assert left is not None
    assert right is not None
    assert list(left.layers) == list(right.layers)
    for a, b in zip(left.layers.values(), right.layers.values(), strict=True):
        assert (a.name, a.kind, a.shiftable) == (b.name, b.kind, b.shiftable)
        assert torch.equal(a.rows, b.rows)
        assert torch.equal(a.cols, b.cols)
    assert left.axes.keys() == right.axes.keys()
    for name, axes in left.axes.items():
        assert [None if ids is None else ids.tolist() for ids in axes] == [
            None if ids is None else ids.tolist() for ids in right.axes[name]
        ]
    assert torch.equal(left.group, right.group)
    assert torch.equal(left.fixed, right.fixed)
    assert left.fixed.dtype == right.fixed.dtype == torch.bool
    assert dict(left.why_fixed) == dict(right.why_fixed)


@pytest.mark.parametrize("net", [net.__name__ for net in pico.NETWORKS])
@pytest.mark.parametrize("change", [lambda model: model, smaller], ids=["whole", "shrunk"])
def test_a_model_comes_back_bit_for_bit_with_its_index(
    tmp_path: Path, net: str, change: Callable[[Model], Model]
) -> None:
    model = change(made(f"custom/{net}"))
    digest = store.save(model, tmp_path / "one")
    again = store.load(tmp_path / "one")
    x = batch(model)
    assert torch.equal(again(x), model(x))
    assert not again.module.training
    assert all(parameter.requires_grad for parameter in again.module.parameters())
    same(again.index, model.index)
    assert replace(again, module=model.module, index=model.index) == model
    assert store.save(again, tmp_path / "two") == digest


def test_a_shrunk_model_can_be_shrunk_again_after_loading(tmp_path: Path) -> None:
    store.save(smaller(made("custom/Depthwise")), tmp_path)
    once = store.load(tmp_path)
    twice = smaller(once)
    store.save(twice, tmp_path / "twice")
    x = batch(twice)
    assert torch.equal(store.load(tmp_path / "twice")(x), twice(x))


def test_only_what_surgery_changed_is_recorded(tmp_path: Path) -> None:
    model = made("custom/Residual")
    store.save(model, tmp_path / "whole")
    assert store.inspect(tmp_path / "whole")["attributes"] == {}
    shrunk = smaller(model)
    store.save(shrunk, tmp_path / "shrunk")
    attributes = store.inspect(tmp_path / "shrunk")["attributes"]
    assert attributes["stem"] == {"out_channels": shrunk.module.stem.out_channels}
    assert attributes["norm"] == {"num_features": shrunk.module.stem.out_channels}
    assert shrunk.module.stem.bias is None or "bias" not in attributes["stem"]


def test_a_bias_that_the_constructor_does_not_make_is_kept(tmp_path: Path) -> None:
    model = made("mlp", (4,), sizes=[4, 8, 6, 3], bias=False)
    shrunk = smaller(model)
    assert shrunk.module.get_submodule("2").bias is not None
    store.save(shrunk, tmp_path)
    x = batch(model)
    assert torch.equal(store.load(tmp_path)(x), shrunk(x))


def test_arguments_that_are_tuples_are_kept_as_lists(tmp_path: Path) -> None:
    store.save(made("mlp", (4,), sizes=(4, 3)), tmp_path)
    assert store.load(tmp_path).architecture.arguments == {"sizes": [4, 3]}


def test_each_storage_is_written_once(tmp_path: Path) -> None:
    file = tmp_path / "tied.py"
    file.write_text(
        "from torch import nn\n"
        "class Tied(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)\n"
        "        self.b.weight = self.a.weight\n"
        "    def forward(self, x):\n"
        "        return self.b(self.a(x).relu())\n"
        "ARCHITECTURES = {'tied': Tied}\n"
    )
    load_operator_file(file)
    model = made("custom/tied", (3,))
    store.save(model, tmp_path / "model")
    with safe_open(tmp_path / "model" / "model.safetensors", framework="pt") as stored:
        assert sorted(stored.keys()) == ["a.bias", "a.weight", "b.bias"]
    again = store.load(tmp_path / "model")
    assert again.module.a.weight is again.module.b.weight
    described = store.inspect(tmp_path / "model")
    assert described["tied"] == {"b.weight": "a.weight"}
    assert (described["parameters"], described["bytes"]) == (15, 60)


def test_changing_a_loaded_model_does_not_change_the_file(tmp_path: Path) -> None:
    digest = store.save(made("mlp", (4,), sizes=[4, 3]), tmp_path)
    model = store.load(tmp_path)
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.zero_()
    assert store.digest(tmp_path) == digest
    assert store.load(tmp_path)(torch.ones(1, 4)).abs().sum() > 0


def test_a_model_that_can_only_be_inspected_has_no_index(tmp_path: Path) -> None:
    model = replace(made("custom/Residual"), index=None, support=Support("inspect", "a step of its own"))
    store.save(model, tmp_path)
    assert not (tmp_path / "index.safetensors").exists()
    again = store.load(tmp_path)
    assert (again.index, again.support) == (None, model.support)
    names = [(layer["name"], layer["kind"], layer["neurons"]) for layer in store.inspect(tmp_path)["layers"]]
    assert names == [("stem", "conv", 6), ("one", "conv", 5), ("two", "conv", 6), ("head", "linear", 3)]


def test_the_description_is_read_without_torch(tmp_path: Path) -> None:
    model = made("mlp", (4,), sizes=[4, 8, 3])
    digest = store.save(model, tmp_path)
    program = (
        "import json, sys; from pathlib import Path; from surgery.network import store\n"
        "folder = Path(sys.argv[1]); found = [store.inspect(folder), store.digest(folder)]\n"
        "assert not {'torch', 'safetensors', 'pydantic'} & set(sys.modules), 'heavy imports'\n"
        "print(json.dumps(found))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    described, recomputed = json.loads(done.stdout)
    assert recomputed == digest
    assert described["name"] == "mlp"
    assert described["classes"] == ["class 0", "class 1", "class 2"]
    assert described["input"] == {"kind": "table", "shape": [4], "mean": [0.25] * 4, "std": [0.5] * 4}
    assert described["support"] == {"level": "full", "reason": ""}
    assert (described["parameters"], described["bytes"]) == (67, 268)
    assert described["layers"] == [
        {"name": "0", "kind": "linear", "neurons": 8},
        {"name": "2", "kind": "linear", "neurons": 3},
    ]


@pytest.mark.parametrize("name", ["model.safetensors", "architecture.json"])
def test_the_digest_is_of_the_bytes(tmp_path: Path, name: str) -> None:
    digest = store.save(made("mlp", (4,), sizes=[4, 3]), tmp_path)
    assert digest.startswith("sha256:")
    assert store.digest(tmp_path) == digest
    content = bytearray((tmp_path / name).read_bytes())
    content[-3] ^= 1
    (tmp_path / name).write_bytes(content)
    assert store.digest(tmp_path) != digest
    (tmp_path / name).unlink()
    with pytest.raises(ModelFileError, match=f"{name} cannot be read"):
        store.digest(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("architecture.json", b"{", "cannot be read"),
        ("architecture.json", b'{"name": "mlp"}', "is not valid"),
        ("model.safetensors", b"", "cannot be read"),
        ("model.safetensors", None, "cannot be read"),
        ("index.safetensors", b"\x02", "cannot be read"),
    ],
)
def test_a_damaged_model_is_told(tmp_path: Path, name: str, content: bytes | None, complaint: str) -> None:
    store.save(made("mlp", (4,), sizes=[4, 3]), tmp_path)
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelFileError, match=complaint):
        store.load(tmp_path)


def test_a_network_with_other_modules_than_its_constructor_makes_is_refused(tmp_path: Path) -> None:
    model = made("custom/Residual")
    model.module.head = torch.nn.Sequential(model.module.head)
    with pytest.raises(ModelError, match=r"modules \['head', 'head\.0'\] are not those"):
        store.save(model, tmp_path)


def test_a_full_disk_is_reported_as_python_reports_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        store.save(made("mlp", (4,), sizes=[4, 3]), tmp_path)
    assert caught.value.errno == errno.ENOSPC


ELSEWHERE = """
import sys
sys.modules["surgery"] = None  # importing it fails
sys.path.insert(0, sys.argv[1])
from loader import load
from safetensors.torch import load_file, save_file
model = load()
save_file({"y": model(load_file(sys.argv[2])["x"]).detach()}, sys.argv[3])
"""


def elsewhere(folder: Path, x: Tensor) -> Tensor:
    """What the exported model says to `x` in a process that cannot import the product."""
    save_file({"x": x}, folder.parent / "x.safetensors")
    paths = [str(path) for path in (folder, folder.parent / "x.safetensors", folder.parent / "y.safetensors")]
    command = [sys.executable, "-I", "-c", ELSEWHERE, *paths]
    subprocess.run(command, cwd=folder.parent, check=True, env={"OMP_NUM_THREADS": "1"})
    return load_file(paths[-1])["y"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: smaller(made("mlp", (4,), sizes=[4, 8, 6, 3], activation="gelu")),
        lambda: smaller(made("sample/digits_cnn", classes=10)),
        lambda: smaller(made("torchvision/squeezenet1_1", (1, 32, 32), num_classes=3, in_channels=1)),
        lambda: smaller(made("custom/net", (3, 16, 16), num_classes=3)),
        lambda: smaller(pair(made("sample/digits_cnn", classes=10), made("custom/net", (3, 16, 16), num_classes=3))),
    ],
    ids=["mlp", "sample", "torchvision", "custom", "composed"],
)
def test_an_export_says_the_same_where_the_product_is_not_installed(tmp_path: Path, make: Callable[[], Model]) -> None:
    (tmp_path / "own.py").write_text(architectures.snippet())
    load_operator_file(tmp_path / "own.py")
    model = make()
    store.save(model, tmp_path / "stored")
    store.export(tmp_path / "stored", tmp_path / "export", "safetensors")
    names = sorted(path.name for path in (tmp_path / "export").iterdir() if not path.name.startswith("definition_"))
    assert names == ["architecture.json", "definition.py", "loader.py", "model.safetensors"]
    x = batch(model)
    # Another process may sum with another number of threads.
    assert relative(elsewhere(tmp_path / "export", x), model(x)) <= 1e-5


@pytest.mark.parametrize("change", [lambda model: model, smaller], ids=["whole", "shrunk"])
def test_an_onnx_file_says_the_same_for_any_batch_size(tmp_path: Path, change: Callable[[Model], Model]) -> None:
    model = change(made("sample/digits_cnn", classes=10))
    store.save(model, tmp_path / "stored")
    target = tmp_path / "new folder" / "model.onnx"
    store.export(tmp_path / "stored", target, "onnx")
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    for size in (1, 3):
        x = batch(model, size)
        (y,) = session.run(["logits"], {"input": x.numpy()})
        np.testing.assert_allclose(y, model(x).detach().numpy(), rtol=1e-4, atol=1e-5)
    notes = session.get_modelmeta().custom_metadata_map
    assert json.loads(notes["classes"]) == list(model.classes)
    assert json.loads(notes["mean"]) == [0.25]
    assert [path.name for path in target.parent.iterdir()] == ["model.onnx"], "no external data"
    assert str(REPOSITORY).encode() not in target.read_bytes(), "no path of this machine"


def test_an_onnx_file_can_be_drawn(tmp_path: Path) -> None:
    """What a viewer such as Netron shows: named nodes, shapes on every edge, weights under the names of the model."""
    model = made("sample/digits_cnn", classes=10)
    store.save(model, tmp_path / "stored")
    store.export(tmp_path / "stored", tmp_path / "model.onnx", "onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(proto, full_check=True)
    names = [node.name for node in proto.graph.node]
    assert all(names) and len(set(names)) == len(names)
    shaped = {
        value.name for value in (*proto.graph.value_info, *proto.graph.output) if value.type.tensor_type.shape.dim
    }
    assert {name for node in proto.graph.node for name in node.output} <= shaped
    weights = {tensor.name for tensor in proto.graph.initializer}
    assert {f"{name}.weight" for name in model.index.layers} <= weights


def test_a_network_that_onnx_cannot_express_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    file.write_text(
        "import torch\nfrom torch import nn\n"
        "class Odd(nn.Linear):\n"
        "    def forward(self, x):\n"
        "        return super().forward(x) if float(x.sum()) > 0 else super().forward(-x)\n"
        "ARCHITECTURES = {'odd': Odd}\n"
    )
    load_operator_file(file)
    store.save(made("custom/odd", (3,), in_features=3, out_features=3), tmp_path / "stored")
    with pytest.raises(ModelError, match=r"This network cannot be written as ONNX: .*data-dependent"):
        store.export(tmp_path / "stored", tmp_path / "model.onnx", "onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_an_unknown_kind_of_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no export 'h5'"):
        store.export(tmp_path, tmp_path / "out", "h5")
