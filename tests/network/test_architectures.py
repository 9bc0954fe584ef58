"""Architectures by name: how they are found, built, and built without memory."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from surgery.errors import ModelError
from surgery.network import architectures, store
from surgery.network.architectures import build, load_operator_file, names, skeleton, snippet
from surgery.network.export import to_folder
from surgery.network.model import Architecture
from surgery.network.restore import load
from tests.patients import mlp


@pytest.fixture(autouse=True)
def no_custom_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "_custom", {})
    monkeypatch.delenv("SURGERY_ARCHITECTURES", raising=False)


def test_the_names_are_the_mlp_the_samples_and_torchvisions_classifiers() -> None:
    known = names()
    assert {"mlp", "sample/digits_cnn", "sample/surface_cnn", "torchvision/resnet18", "torchvision/vit_b_16"} <= {
        *known
    }
    assert not [name for name in known if "deeplab" in name or "fasterrcnn" in name], "only classifiers"


def test_an_mlp_is_built_by_its_sizes() -> None:
    module = build(Architecture("mlp", {"sizes": [4, 5, 2], "activation": "tanh"}))
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    assert shapes == {"0.weight": (5, 4), "0.bias": (5,), "2.weight": (2, 5), "2.bias": (2,)}
    x = torch.randn(3, 4)
    w = module.state_dict()
    by_hand = torch.tanh(x @ w["0.weight"].T + w["0.bias"]) @ w["2.weight"].T + w["2.bias"]
    torch.testing.assert_close(module(x), by_hand)


def test_the_layers_of_an_mlp_take_the_names_of_somebodys_own_network() -> None:
    module = build(Architecture("mlp", {"sizes": [4, 5, 2], "names": ["net.first", "out"], "bias": False}))
    assert list(module.state_dict()) == ["net.first.weight", "out.weight"]
    assert module(torch.zeros(1, 4)).shape == (1, 2)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"sizes": [4]}, "at least two positive numbers"),
        ({"sizes": [4, 0, 2]}, "at least two positive numbers"),
        ({"sizes": [4, 2], "activation": "swish"}, "one of relu, gelu, tanh, sigmoid, this one is 'swish'"),
        ({"sizes": [4, 3, 2], "names": ["a", "a"]}, "need 2 different layer names"),
        ({"sizes": [4, 2], "names": ["forward"]}, "'mlp' cannot be built|mlp cannot be built"),
        ({"size": [4, 2]}, "takes no 'size'"),
    ],
)
def test_an_mlp_that_cannot_be_says_why(arguments: dict[str, object], complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        build(Architecture("mlp", arguments))


def test_a_gray_network_of_torchvision_reads_one_channel() -> None:
    module = build(Architecture("torchvision/squeezenet1_1", {"num_classes": 3, "in_channels": 1}))
    assert module(torch.zeros(1, 1, 64, 64)).shape == (1, 3)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("torchvision/resnt18", "Did you mean torchvision/resnet18"),
        ("resnet18", "Did you mean torchvision/resnet18"),
        ("zzz", "Known: mlp, text/decoder, sample/digits_cnn"),
        ("custom/mine", "Start with --architectures FILE.py"),
    ],
)
def test_an_unknown_name_is_answered_with_close_ones(name: str, advice: str) -> None:
    with pytest.raises(ModelError, match=f"no architecture '{name}'") as caught:
        build(Architecture(name))
    assert caught.value.fix.startswith(advice)


def test_arguments_that_a_constructor_refuses_are_named() -> None:
    with pytest.raises(ModelError, match=r"torchvision/resnet18 cannot be built from \{'layers': 3\}"):
        build(Architecture("torchvision/resnet18", {"layers": 3}))


@pytest.mark.parametrize("name", ["torchvision/resnet18", "torchvision/regnet_x_400mf", "torchvision/googlenet"])
def test_a_skeleton_has_the_names_and_shapes_of_the_real_one_but_no_weights(name: str) -> None:
    hollow, real = skeleton(Architecture(name)), build(Architecture(name))
    assert all(parameter.is_meta for parameter in hollow.parameters() if parameter.numel() > 5000)
    assert {k: v.shape for k, v in hollow.state_dict().items()} == {k: v.shape for k, v in real.state_dict().items()}


def test_buffers_that_hold_computed_values_are_real_in_a_skeleton() -> None:
    hollow, real = (make(Architecture("torchvision/swin_t")) for make in (skeleton, build))
    for name, buffer in real.named_buffers():
        assert torch.equal(hollow.get_buffer(name), buffer)


def test_a_constructor_that_reads_its_own_random_weights_still_has_a_skeleton(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "import torch\nfrom torch import nn\n"
        "class Scaled(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.linear = nn.Linear(2, 2)\n"
        "        self.largest = float(self.linear.weight.max())\n"
        "    def forward(self, x):\n"
        "        return self.linear(x) / self.largest\n"
        "ARCHITECTURES = {'scaled': Scaled}\n"
    )
    load_operator_file(file)
    module = skeleton(Architecture("custom/scaled"))
    assert isinstance(module.largest, float)


def test_the_snippet_is_a_working_operators_file(tmp_path: Path) -> None:
    file = tmp_path / "architectures.py"
    file.write_text(snippet())
    assert load_operator_file(file) == ["custom/net"]
    assert "custom/net" in names()
    assert build(Architecture("custom/net", {"num_classes": 4}))(torch.zeros(2, 3, 32, 32)).shape == (2, 4)


def test_an_operators_file_may_have_dataclasses_and_be_exported(tmp_path: Path) -> None:
    file = tmp_path / "sized.py"
    file.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from torch import nn\n"
        "@dataclass\n"
        "class Size:\n"
        "    width: int = 3\n"
        "def net(num_classes: int = 2):\n"
        "    width = Size().width\n"
        "    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, num_classes))\n"
        "ARCHITECTURES = {'sized': net}\n"
    )
    assert load_operator_file(file) == ["custom/sized"]
    sized = Architecture("custom/sized")
    model = replace(mlp((4, 3, 2)), module=build(sized), architecture=sized)
    store.save(model, tmp_path / "stored")
    to_folder(tmp_path / "stored", tmp_path / "exported")
    x = torch.randn(2, 4)
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "exported")(x), model.module(x))


def test_the_environment_names_the_operators_file_for_every_process(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(snippet())
    program = "from surgery.network.architectures import names; print([n for n in names() if 'custom' in n])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": "", "SURGERY_ARCHITECTURES": str(file), "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "['custom/net']"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "There is no Python file"),
        ("x = 1", "defines no ARCHITECTURES"),
        ("ARCHITECTURES = {}", "defines no ARCHITECTURES"),
        ("ARCHITECTURES = {'a': 3}", "defines no ARCHITECTURES"),
        ("1 / 0", "failed: ZeroDivisionError: division by zero"),
        ("def", "failed: SyntaxError"),
    ],
)
def test_a_bad_operators_file_is_refused_with_the_reason(tmp_path: Path, content: str | None, complaint: str) -> None:
    file = tmp_path / "own.py"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ModelError, match=complaint):
        load_operator_file(file)


def test_a_constructor_must_return_a_module(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("ARCHITECTURES = {'odd': lambda: 3}")
    load_operator_file(file)
    with pytest.raises(ModelError, match=r"custom/odd returned a int, not a torch\.nn\.Module"):
        build(Architecture("custom/odd"))


def test_building_leaves_the_module_as_its_constructor_does() -> None:
    module = build(Architecture("sample/digits_cnn"))
    assert module.training
    assert all(isinstance(parameter, nn.Parameter) and not parameter.is_meta for parameter in module.parameters())
