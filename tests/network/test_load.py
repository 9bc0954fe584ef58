"""From tensors to a model: which architecture, which input, and that nothing is lost on the way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from surgery.errors import MismatchError, ModelError, ModelFileError
from surgery.network import architectures, store
from surgery.network.architectures import build, load_operator_file, skeleton
from surgery.network.load import assemble, compare, completed, guess_input, reopen, suggest
from surgery.network.model import Architecture, InputSpec
from surgery.network.read import Weights, read

TABLE = InputSpec("table", (3,), (0.0,) * 3, (1.0,) * 3)
GRAY = InputSpec("image", (1, 8, 8), (0.2,), (0.5,))
MLP = Architecture("mlp", {"sizes": [3, 4, 2]})
DIGITS = Architecture("sample/digits_cnn", {"classes": 4})


@pytest.fixture(autouse=True)
def no_custom_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "_custom", {})


def hollow(name: str, **arguments: object) -> dict[str, Tensor]:
    """Names and shapes of an architecture, without weights."""
    return skeleton(Architecture(name, arguments)).state_dict()


def custom(folder: Path, body: str) -> None:
    file = folder / "own.py"
    file.write_text(f"import torch\nfrom torch import nn\n{body}\nARCHITECTURES = {{'net': Net}}\n")
    load_operator_file(file)


@pytest.mark.parametrize(
    "name",
    [
        *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t"),
        *("mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnext50_32x4d"),
        *("shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "vgg11_bn", "vit_b_32", "wide_resnet50_2"),
    ],
)
def test_each_family_of_torchvision_is_recognised_with_its_number_of_classes(name: str) -> None:
    best = suggest(hollow(f"torchvision/{name}", num_classes=7))[0]
    assert best.architecture == Architecture(f"torchvision/{name}", {"num_classes": 7})
    assert best.mismatches == ()


def test_suggestions_come_best_first_with_what_does_not_fit() -> None:
    found = suggest(hollow("torchvision/resnet18", num_classes=10))
    assert [one.architecture.name for one in found] == ["torchvision/resnet18", "torchvision/resnet34"]
    assert found[1].mismatches[0].kind == "missing"


def test_an_architecture_of_which_most_tensors_differ_is_no_suggestion() -> None:
    tensors = hollow("torchvision/resnet18", num_classes=10)
    kept = [*tensors][:40] + [*tensors][-2:]
    assert suggest({name: tensors[name] for name in kept}) == []
    nearly = suggest({name: tensor for name, tensor in tensors.items() if not name.startswith("layer4.1")})
    assert nearly[0].architecture.name == "torchvision/resnet18"


NEEDY = """class Net(nn.Module):
    def __init__(self, num_classes, {more}in_channels=3):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3)
        self.out = nn.Linear(width, num_classes)
    def forward(self, x):
        return self.out(self.conv(x).mean((2, 3)))"""


def test_a_constructor_that_needs_its_number_of_classes_gets_it_from_the_weights(tmp_path: Path) -> None:
    custom(tmp_path, "width = 8\n" + NEEDY.format(more=""))
    best = suggest(hollow("custom/net", num_classes=5, in_channels=2))[0]
    assert best.architecture == Architecture("custom/net", {"num_classes": 5, "in_channels": 2})
    assert (best.mismatches, best.needs) == ((), ())


def test_a_constructor_that_needs_more_is_suggested_with_what_it_needs(tmp_path: Path) -> None:
    custom(tmp_path, NEEDY.format(more="width, "))
    weights = hollow("custom/net", num_classes=5, width=8)
    (found,) = suggest(weights)
    assert (found.architecture.arguments, found.needs) == ({"num_classes": 5}, ("width",))
    given = completed(weights, Architecture("custom/net", {"width": 8}))
    assert given.architecture.arguments == {"num_classes": 5, "width": 8}
    assert (given.mismatches, given.needs) == ((), ())


def test_ones_own_class_with_other_arguments_is_suggested_although_all_shapes_differ(tmp_path: Path) -> None:
    custom(tmp_path, NEEDY.format(more="width=8, "))
    (found,) = suggest(hollow("custom/net", num_classes=5, width=16))
    assert [(row.name, row.kind) for row in found.mismatches] == [
        ("conv.weight", "shape"),
        ("conv.bias", "shape"),
        ("out.weight", "shape"),
    ]


@pytest.mark.parametrize(
    ("name", "made", "given", "told"),
    [
        ("torchvision/resnet18", {"num_classes": 10, "in_channels": 1}, {}, {"num_classes": 10, "in_channels": 1}),
        ("torchvision/vgg11", {"num_classes": 7}, {}, {"num_classes": 7}),
        ("sample/digits_cnn", {"classes": 4}, {}, {"classes": 4}),
        ("mlp", {"sizes": [3, 9, 2]}, {"activation": "tanh"}, {"sizes": [3, 9, 2], "activation": "tanh"}),
        ("timm/resnet10t", {"num_classes": 10, "in_chans": 1}, {}, {"num_classes": 10, "in_chans": 1}),
    ],
)
def test_a_named_architecture_takes_its_counts_from_the_weights(
    name: str, made: dict[str, object], given: dict[str, object], told: dict[str, object]
) -> None:
    if name.startswith("timm/"):
        pytest.importorskip("timm")
    found = completed(hollow(name, **made), Architecture(name, given))
    assert found.architecture == Architecture(name, told)
    assert found.mismatches == ()


def test_arguments_that_were_given_are_not_replaced() -> None:
    found = completed(
        hollow("torchvision/resnet18", num_classes=10), Architecture("torchvision/resnet18", {"num_classes": 7})
    )
    assert found.architecture.arguments == {"num_classes": 7}
    assert [row.name for row in found.mismatches] == ["fc.weight", "fc.bias"]


def test_a_configuration_without_labels_takes_their_number_from_the_weights() -> None:
    pytest.importorskip("transformers")
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = {"model_type": "vit", "image_size": 8, "patch_size": 4, **size}
    weights = hollow("hf/image-classification", config={**config, "num_labels": 5})
    found = completed(weights, Architecture("hf/image-classification", {"config": config}))
    assert (found.architecture.arguments["config"]["num_labels"], found.mismatches) == (5, ())


@pytest.mark.parametrize("name", ["torchvision/googlenet", "torchvision/inception_v3"])
def test_heads_that_only_training_uses_are_expected_when_the_file_has_them(name: str) -> None:
    best = suggest(hollow(name, aux_logits=True))[0]
    assert best.architecture == Architecture(name, {"aux_logits": True})
    assert best.mismatches == ()


def test_gray_weights_are_recognised() -> None:
    best = suggest(hollow("torchvision/resnet18", in_channels=1))[0]
    assert best.architecture == Architecture("torchvision/resnet18", {"in_channels": 1})
    assert guess_input(hollow("torchvision/resnet18", in_channels=1), best.architecture).shape == (1, 224, 224)


def test_samples_and_mlps_are_recognised() -> None:
    assert suggest(hollow("sample/digits_cnn", classes=4))[0].architecture == DIGITS
    best = suggest(hollow("mlp", sizes=[3, 9, 9, 2]))[0]
    assert best.architecture == Architecture("mlp", {"sizes": [3, 9, 9, 2], "activation": "relu"})


def test_an_mlp_is_recognised_under_other_names_and_in_alphabetical_order() -> None:
    names = [f"fc{number}" for number in range(1, 12)]
    tensors = hollow("mlp", sizes=range(14, 2, -1), names=names, bias=False)
    best = suggest({name: tensors[name] for name in sorted(tensors)})[0]
    assert best.architecture.arguments["names"] == names
    assert best.architecture.arguments["sizes"] == list(range(14, 2, -1))
    assert best.mismatches == ()


def test_a_custom_network_is_recognised(tmp_path: Path) -> None:
    custom(
        tmp_path,
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes=10, in_channels=3):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(in_channels, 8, 3)\n"
        "        self.out = nn.Linear(8, num_classes)\n"
        "    def forward(self, x):\n"
        "        return self.out(self.conv(x).mean((2, 3)))",
    )
    best = suggest(hollow("custom/net", num_classes=5, in_channels=2))[0]
    assert best.architecture == Architecture("custom/net", {"num_classes": 5, "in_channels": 2})


def test_a_custom_constructor_that_needs_an_argument_does_not_stop_the_others(tmp_path: Path) -> None:
    custom(tmp_path, "class Net(nn.Linear):\n    pass")
    assert suggest(hollow("sample/digits_cnn"))[0].architecture.name == "sample/digits_cnn"


def test_what_has_nothing_in_common_with_anything_gets_no_suggestion() -> None:
    assert suggest({"a": torch.ones(3), "b.c": torch.ones(2, 2, 2)}) == []


def test_a_prefix_that_a_trainer_put_before_every_name_is_looked_through() -> None:
    tensors = {f"model.{name}": tensor for name, tensor in build(DIGITS).state_dict().items()}
    assert suggest(tensors)[0].architecture == DIGITS
    assert compare(tensors, DIGITS) == []
    model = assemble(tensors, DIGITS, input=GRAY, classes="abcd")
    assert torch.equal(model.module.state_dict()["head.weight"], tensors["model.head.weight"])


def test_counters_that_old_files_lack_are_no_mismatch() -> None:
    tensors = {k: v for k, v in build(DIGITS).state_dict().items() if "num_batches_tracked" not in k}
    assert compare(tensors, DIGITS) == []
    model = assemble(tensors, DIGITS, input=GRAY, classes="abcd")
    assert model.module.get_buffer("stem.norm.num_batches_tracked") == 0


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [
        (MLP, (3,)),
        (Architecture("torchvision/alexnet"), (3, 224, 224)),
        (Architecture("torchvision/vit_b_32", {"image_size": 384}), (3, 384, 384)),
    ],
)
def test_the_shape_of_the_input_is_read_off(architecture: Architecture, shape: tuple[int, ...]) -> None:
    spec = guess_input({}, architecture)
    assert spec.shape == shape
    imagenet = (0.485, 0.456, 0.406)
    assert spec.mean == (imagenet if len(shape) == 3 else (0.0,) * 3)
    assert len(spec.mean) == len(spec.std) == shape[0]


@pytest.mark.parametrize(
    ("name", "pictures", "size"),
    [
        ("torchvision/resnet18", (3, 32, 48), (32, 48)),
        ("torchvision/resnet18", (3, 400, 300), (224, 224)),  # photographs are made smaller
        ("torchvision/alexnet", (3, 32, 32), (224, 224)),  # does not run on 32 pixels
        ("torchvision/vit_b_32", (3, 96, 96), (224, 224)),  # takes only the size that it was made for
    ],
)
def test_small_pictures_at_hand_are_taken_as_they_are(
    name: str, pictures: tuple[int, ...], size: tuple[int, int]
) -> None:
    assert guess_input({}, Architecture(name), pictures).shape[1:] == size


@pytest.mark.parametrize(("declared", "shape"), [("", (1, 28, 28)), ("    input_shape = (1, 28, 30)\n", (1, 28, 30))])
def test_a_network_that_flattens_tells_its_image_size(tmp_path: Path, declared: str, shape: tuple[int, ...]) -> None:
    custom(
        tmp_path,
        f"class Net(nn.Module):\n{declared}"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(1, 2, 3, stride=2, padding=1)\n"
        "        self.out = nn.Linear(2 * 14 * 14, 3)\n"
        "    def forward(self, x):\n"
        "        return self.out(self.conv(x).flatten(1))",
    )
    assert guess_input({}, Architecture("custom/net")).shape == shape


@pytest.mark.parametrize(
    ("features", "pictures", "size"),
    [(12 * 12, (), (24, 24)), (25 * 25, (), (50, 50)), (45 * 45, (), (90, 90)), (25 * 15, (1, 50, 30), (50, 30))],
)
def test_a_network_made_for_an_unusual_size_is_tried_at_all_of_them(
    tmp_path: Path, features: int, pictures: tuple[int, ...], size: tuple[int, int]
) -> None:
    custom(
        tmp_path,
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(1, 2, 3, stride=2, padding=1)\n"
        f"        self.out = nn.Linear(2 * {features}, 3)\n"
        "    def forward(self, x):\n"
        "        return self.out(self.conv(x).flatten(1))",
    )
    assert guess_input({}, Architecture("custom/net"), pictures).shape == (1, *size)


def test_a_model_is_the_same_network_bit_for_bit() -> None:
    original = build(DIGITS).eval()
    model = assemble(original.state_dict(), DIGITS, input=GRAY, classes=["a", "b", "c", "d"])
    x = torch.randn(5, 1, 8, 8)
    assert torch.equal(model(x), original(x))
    assert model.support.level == "full"
    assert model.index is not None
    assert not model.module.training
    assert (model.architecture, model.input, model.classes) == (DIGITS, GRAY, ("a", "b", "c", "d"))


def test_a_model_owns_its_tensors() -> None:
    tensors = {name: tensor.clone() for name, tensor in build(MLP).state_dict().items()}
    model = assemble(tensors, MLP, input=TABLE, classes="ab")
    before = model(torch.ones(1, 3))
    for tensor in tensors.values():
        tensor.zero_()
    assert torch.equal(model(torch.ones(1, 3)), before)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_single(kind: torch.dtype) -> None:
    tensors = {name: tensor.to(kind) for name, tensor in build(MLP).state_dict().items()}
    model = assemble(tensors, MLP, input=TABLE, classes="ab")
    assert {parameter.dtype for parameter in model.module.parameters()} == {torch.float32}
    assert torch.equal(model.module.state_dict()["0.weight"], tensors["0.weight"].float())


TIED = (
    "class Net(nn.Module):\n"
    "    def __init__(self):\n"
    "        super().__init__()\n"
    "        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)\n"
    "        self.second.weight = self.first.weight\n"
    "    def forward(self, x):\n"
    "        return self.second(self.first(x).relu())"
)


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    custom(tmp_path, TIED)
    tied = Architecture("custom/net")
    tensors = build(tied).state_dict()
    one_name = {name: tensor for name, tensor in tensors.items() if name != "second.weight"}
    for given in (tensors, one_name):
        module = assemble(given, tied, input=TABLE, classes="abc").module
        assert module.first.weight is module.second.weight
        assert torch.equal(module.first.weight, tensors["first.weight"])


def test_tied_weights_that_differ_in_the_file_are_refused(tmp_path: Path) -> None:
    custom(tmp_path, TIED)
    tensors = {**build(Architecture("custom/net")).state_dict(), "second.weight": torch.zeros(3, 3)}
    with pytest.raises(ModelError, match=r"shares one tensor between 'second\.weight' and 'first\.weight'"):
        assemble(tensors, Architecture("custom/net"), input=TABLE, classes="abc")


def test_weights_that_do_not_fit_come_with_the_table() -> None:
    tensors = build(Architecture("sample/surface_cnn")).state_dict()
    with pytest.raises(MismatchError, match=r"do not fit sample/digits_cnn: \d+ tensors differ: stem") as caught:
        assemble(tensors, DIGITS, input=GRAY, classes="abcd")
    assert {row.kind for row in caught.value.rows} == {"shape", "unexpected"}
    assert caught.value.rows == tuple(compare(tensors, DIGITS))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"classes": "abc"}, r"has 2 outputs, 3 class name\(s\) are given"),
        ({"classes": "aa"}, "repeat themselves"),
        ({"classes": "a", "task": "regression"}, r"has 2 outputs, 1 target name\(s\) are given"),
        ({"input": replace(TABLE, shape=(4,), mean=(0.0,) * 4, std=(1.0,) * 4)}, r"does not run on .* shape \[4\]"),
        ({"input": replace(TABLE, mean=(0.0,))}, "has 1 means and 3 deviations for 3 channels"),
        ({"input": replace(TABLE, std=(1.0, 0.0, 1.0))}, "is not allowed"),
        ({"input": replace(TABLE, mean=(1.0, float("nan"), 1.0))}, "is not allowed"),
        ({"input": replace(TABLE, shape=(3, 1))}, r"input shape \[3, 1\] of a model for tables is not allowed"),
        ({"input": replace(TABLE, kind="image")}, r"input shape \[3\] of a model for images is not allowed"),
    ],
)
def test_classes_and_input_are_checked_by_running_the_network(change: dict[str, object], complaint: str) -> None:
    arguments = {"input": TABLE, "classes": "ab", **change}
    with pytest.raises(ModelError, match=complaint) as caught:
        assemble(build(MLP).state_dict(), MLP, **arguments)
    assert caught.value.fix


def test_a_network_without_logits_is_refused(tmp_path: Path) -> None:
    custom(tmp_path, "class Net(nn.Conv2d):\n    def __init__(self):\n        super().__init__(1, 2, 3)")
    net = Architecture("custom/net")
    with pytest.raises(ModelError, match=r"gives \[2, 6, 6\] for one sample, not a list of logits"):
        assemble(build(net).state_dict(), net, input=GRAY, classes="ab")


def test_regression_has_one_output_and_its_targets_name() -> None:
    one = Architecture("mlp", {"sizes": [3, 1]})
    model = assemble(build(one).state_dict(), one, input=TABLE, classes=["price"], task="regression")
    assert (model.task, model.classes) == ("regression", ("price",))


def test_a_file_of_our_own_opens_without_a_question(tmp_path: Path) -> None:
    model = assemble(build(DIGITS).state_dict(), DIGITS, input=GRAY, classes="abcd")
    store.save(model, tmp_path)
    again = reopen(read(tmp_path / "model.safetensors"))
    assert replace(again, module=model.module, index=model.index) == model
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(again(x), model(x))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": 2}, "does not hold"),
        ({"surplus": 1}, "does not hold"),
        ({"name": "custom/gone"}, "There is no architecture 'custom/gone'"),
        ({"attributes": {"0": {"forward": 1}}}, r"no attribute '0\.forward' of type int"),
        ({"attributes": {"0": {"in_features": "3"}}}, r"no attribute '0\.in_features' of type str"),
        ({"attributes": {"0": {"_forward_hooks": "3"}}}, r"no attribute '0\._forward_hooks'"),
        ({"attributes": {"9": {"in_features": 3}}}, "no module '9'"),
        ({"tied": {"0.weight": "gone.weight"}}, "does not hold"),
        ({"arguments": {"sizes": [3, 4, 4, 2]}}, "no tensor for 4.bias, 4.weight"),
        ({"arguments": {"sizes": [3, 2]}}, "no module '2'"),
        ({"classes": ["a"]}, "has 2 outputs"),
        ({"input": {"kind": "table", "shape": [5], "mean": [0] * 5, "std": [1] * 5}}, "does not run"),
    ],
)
def test_a_description_that_was_tampered_with_is_refused(
    tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    model = assemble(build(MLP).state_dict(), MLP, input=TABLE, classes="ab")
    store.save(model, tmp_path)
    weights = read(tmp_path / "model.safetensors")
    text = json.dumps({**json.loads(str(weights.description)), **change})
    with pytest.raises(ModelError, match=complaint):
        reopen(replace(weights, description=text))


def test_a_file_without_a_description_asks_for_its_architecture(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(ModelFileError, match="does not say which architecture"):
        reopen(read(tmp_path / "plain.safetensors"))
    with pytest.raises(ModelFileError, match="does not hold"):
        reopen(Weights({}, description="no json"))


def test_an_lstm_gets_its_weights_too(tmp_path: Path) -> None:
    """Recurrent modules keep a second list of their weights, which must not be left behind."""
    custom(
        tmp_path,
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.lstm, self.out = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)\n"
        "    def forward(self, x):\n"
        "        return self.out(self.lstm(x[:, None])[0][:, -1])",
    )
    net = Architecture("custom/net")
    original: nn.Module = build(net).eval()
    model = assemble(original.state_dict(), net, input=TABLE, classes="ab")
    x = torch.randn(4, 3)
    assert torch.equal(model(x), original(x))
