"""Which arguments reach a constructor: known names with plain values, everything else refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from surgery.errors import ModelError, ModelFileError
from surgery.network import architectures, trial
from surgery.network.architectures import allowed, build, skeleton
from surgery.network.model import Architecture
from surgery.network.plain import RefusedError, parse, plain, shown
from surgery.network.read import Weights
from tests.network.test_extras import BERT, GPT2, PICTURES, TOKENS, VIT

SWIN = {
    "architectures": ["SwinForImageClassification"],
    "model_type": "swin",
    "torch_dtype": "float32",
    "transformers_version": "4.38.0",
    "image_size": 32,
    "patch_size": 4,
    "embed_dim": 12,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 2,
    "path_norm": True,
    "out_features": ["stage4"],
    "hidden_act": "gelu",
    "id2label": {"0": "tench, Tinca tinca", "1": "goldfish/carp", "2": "c"},
    "label2id": {"tench, Tinca tinca": 0},
}
DEIT = {**VIT, "model_type": "deit"}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "vocab_size": 50,
    "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    "rope_theta": 10000.0,
    "use_cache": True,
    "num_labels": 3,
}


@pytest.mark.parametrize(
    ("name", "config"),
    [(PICTURES, VIT), (PICTURES, SWIN), (PICTURES, DEIT), (TOKENS, BERT), (TOKENS, GPT2), (TOKENS, LLAMA)],
    ids=["vit", "swin", "deit", "bert", "gpt2", "llama"],
)
def test_usual_configurations_build_their_own_network(name: str, config: dict[str, Any]) -> None:
    shapes = [tuple(tensor.shape) for tensor in skeleton(Architecture(name, {"config": config})).state_dict().values()]
    assert any(shape[:1] == (3,) for shape in shapes), "three classes"


def test_what_says_nothing_about_the_network_is_left_out_and_class_names_become_their_number() -> None:
    config = {**SWIN, "auto_map": {"AutoConfig": "evil--x.Y"}, "attn_implementation": "evil/kernel", "pruned_heads": {}}
    kept = allowed(Architecture(PICTURES, {"config": config})).arguments["config"]
    assert kept["num_labels"] == 3
    assert kept.keys().isdisjoint(
        {"id2label", "label2id", "auto_map", "attn_implementation", "architectures", "path_norm"}
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "timm_wrapper", "architecture": "resnet10t"}, "of the type 'timm_wrapper'"),
        ({"model_type": "upernet"}, "of the type 'upernet'"),
        ({**VIT, "backbone": "resnet18"}, "config takes no 'backbone' for the type 'vit'"),
        ({**VIT, "model_args": {"checkpoint_path": "x"}}, "config takes no 'model_args'"),
        ({**VIT, "hidden_act": "/etc/passwd"}, r"config\.hidden_act is '/etc/passwd'"),
        ({**VIT, "hidden_act": "os.system"}, r"config\.hidden_act is 'os\.system'"),
        ({**VIT, "hidden_act": "__import__"}, r"config\.hidden_act is '__import__'"),
        ({**VIT, "hidden_size": float("nan")}, r"config\.hidden_size is nan"),
        ({**VIT, "hidden_size": 2**63}, r"config\.hidden_size is 9223372036854775808"),
        ({**VIT, "hidden_size": "16"}, "expected int"),
        ({**VIT, "num_hidden_layers": -2}, r"config\.num_hidden_layers is -2; a size or a number of parts"),
        ({**VIT, "id2label": "abc"}, r"config\.id2label is 'abc'"),
        ([], "config is a list of 0 entries"),
    ],
)
def test_a_configuration_that_points_elsewhere_or_holds_no_sizes_is_refused_by_name(config: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        build(Architecture(PICTURES, {"config": config}))
    assert caught.value.fix


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("torchvision/resnet18", {"weights": "DEFAULT"}, "takes no 'weights'"),
        ("torchvision/resnet18", {"weights_backbone": "x"}, "takes no 'weights_backbone'"),
        ("timm/resnet10t", {"pretrained": True}, "takes no 'pretrained'"),
        ("timm/resnet10t", {"features_only": True}, "takes no 'features_only'"),
        ("timm/resnet10t", {"block_args": {"attn_layer": "se"}}, "takes no 'block_args'"),
        ("timm/resnet10t", {"act_layer": "torch.nn.ReLU"}, r"act_layer is 'torch\.nn\.ReLU'"),
        ("timm/resnet10t", {"num_classes": {"checkpoint_path": "x"}}, "num_classes is an object"),
        ("mlp", {"sizes": [4, 3], "names": ["a/b"]}, r"names\[0\] is 'a/b', not the name of a module"),
        ("mlp", {"sizes": [[[[[[4]]]]], 3]}, "sizes"),
        ("text/decoder", {"alphabet": 5, "context": 4, "path": "x"}, "takes no 'path'"),
        ("composed/network", {"input": {"shape": [1], "url": 1}, "members": [], "outputs": 1}, "input takes no 'url'"),
        ("composed/network", {"members": [{"name": "timm/resnet10t", "arguments": {"cache_dir": "x"}}]}, "'cache_dir'"),
        ("fleet/guest", {"host": {"name": "hf/image-classification", "arguments": {"config": {}}}}, "no model_type"),
        ("mlp", [4, 3], "it is a list of 2 entries, not an object"),
    ],
)
def test_an_argument_that_is_not_listed_reaches_no_library(name: str, arguments: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        build(Architecture(name, arguments))
    assert caught.value.fix


def test_the_operators_own_constructors_take_plain_values_under_their_own_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[dict[str, Any]] = []

    def net(width: int = 2, stages: Any = (), checkpoint: str = "") -> nn.Module:
        seen.append({"width": width, "stages": stages, "checkpoint": checkpoint})
        return nn.Linear(width, 1)

    definition = architectures.Definition(Path(__file__), "TABLE", "net", net)
    monkeypatch.setattr(architectures, "_custom", {"custom/net": definition})
    build(Architecture("custom/net", {"width": 3, "stages": [{"depth": 2}]}))
    assert seen == [{"width": 3, "stages": [{"depth": 2}], "checkpoint": ""}]
    for arguments in ({"checkpoint": "x"}, {"depth": 1}, {"stages": {"file": 1}}, {"stages": "/etc/passwd"}):
        with pytest.raises(ModelError, match="custom/net cannot be built"):
            build(Architecture("custom/net", arguments))
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "'a' stands in it twice"),
        ("[" * 5000, "levels deep"),
        ("[" * 200 + "]" * 200, "levels deep"),
        ('{"a": NaN}', "NaN is no number"),
        ("1e999", "not JSON compliant"),
        ('"\\ud800"', "no Unicode text"),
        (b"\xff\xfe\xfd\xfc", "no Unicode text"),
    ],
)
def test_json_is_read_as_the_standard_has_it(text: str | bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(text)


def test_what_is_refused_is_shown_short_and_printable() -> None:
    assert shown("a\n" * 1000).isprintable()
    assert len(shown("a\n" * 1000)) <= 82
    assert shown(10**5000) == "a number of very many digits"
    with pytest.raises(RefusedError, match="deep"):
        plain([[[[[1]]]]], "deep")


def test_a_network_that_declares_far_more_than_the_file_holds_is_refused_with_both_figures(tmp_path: Path) -> None:
    weights = Weights({"a": nn.Parameter(nn.Linear(3, 2).weight)}, file=tmp_path / "model.safetensors")
    large = Architecture(PICTURES, {"config": {**VIT, "hidden_size": 3_000_000}})
    with pytest.raises(ModelFileError, match=r"declares .* values in \d+ tensors and more; the file holds 6 in 1"):
        trial.attempt(weights, large)


def test_a_network_at_its_librarys_own_size_needs_no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []
    monkeypatch.setattr(trial.sandbox, "call", lambda *a, **k: called.append(a))
    weights = Weights({})
    for name, arguments in (("torchvision/resnet18", {"num_classes": 3}), ("mlp", {"sizes": [4, 3]})):
        trial.attempt(weights, Architecture(name, arguments))
    assert not called
    trial.attempt(weights, Architecture("torchvision/vit_b_32", {"image_size": 10**6}))
    assert len(called) == 1


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("text/decoder", {"alphabet": 3, "context": 4, "depth": 10**6}),
        ("sample/digits_cnn", {"widths": [2**31 - 1, 4, 4]}),
        ("mlp", {"sizes": [2**30, 2**30]}),
    ],
)
def test_one_of_our_own_networks_in_absurd_sizes_is_tried_first(
    name: str, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[object] = []
    monkeypatch.setattr(trial.sandbox, "call", lambda *a, **k: called.append(a))
    trial.attempt(Weights({}), Architecture(name, arguments))
    assert len(called) == 1
