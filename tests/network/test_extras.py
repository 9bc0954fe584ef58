"""Networks of libraries that are installed on demand: built by name from data alone, numbered, cut exactly, kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from surgery.edit.gate import gate
from surgery.edit.shrink import shrink
from surgery.errors import ModelError
from surgery.network import architectures, store
from surgery.network.architectures import build
from surgery.network.certificate import first, relative, sample
from surgery.network.model import Architecture, InputSpec, Model
from surgery.network.trace import trace

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "num_labels": 3}
TEXT = {"vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
BERT = {"model_type": "bert", "max_position_embeddings": 32, **SMALL, **TEXT}
VIT = {"model_type": "vit", "image_size": 16, "patch_size": 4, **SMALL}
GPT2 = {"model_type": "gpt2", "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 32, "num_labels": 3, **TEXT}
PICTURES, TOKENS = "hf/image-classification", "hf/sequence-classification"


def network(name: str, arguments: dict[str, Any]) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    module = build(Architecture(name, arguments)).eval()
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    shape = (3, 3, 16, 16)
    return module, torch.randint(3, 50, (3, 9)) if name == TOKENS else torch.randn(shape)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "arguments", "heads"),
    [
        (TOKENS, {"config": BERT}, True),
        (PICTURES, {"config": VIT}, True),
        (TOKENS, {"config": GPT2}, False),  # its code unpacks pieces of a literal size
        ("timm/vit_tiny_patch16_224", {"num_classes": 3, "img_size": 16, "patch_size": 4, "depth": 2}, False),
        ("timm/resnet10t", {"num_classes": 3}, None),
    ],
)
def test_a_cut_is_exact(name: str, arguments: dict[str, Any], heads: bool | None) -> None:
    module, x = network(name, arguments)
    index, support = trace(module, x)
    assert support.level == "full", support.reason
    assert index is not None
    spec = InputSpec("image", (3, 16, 16), (0.5,) * 3, (0.2,) * 3)
    model = Model(module, Architecture(name, arguments), spec, "classification", ("a", "b", "c"), index, support)
    keep = sample(index, 0.4, 1)
    small, _ = shrink(model, keep)
    with gate(module, index, keep.float()):
        masked = first(module(x))
    assert relative(first(small.module(x)), masked) < 1e-5
    assert relative(masked, first(module(x))) > 1e-3, "the cut must matter"
    if heads is not None:
        attention = [one for one in index.layers.values() if "attn" in one.name or "attention" in one.name]
        assert any(not index.fixed[one.rows].any() for one in attention) == heads


@torch.no_grad()
def test_a_cut_classifier_of_pictures_comes_back_from_the_disk(tmp_path: Path) -> None:
    module, x = network(PICTURES, {"config": VIT})
    index, support = trace(module, x)
    assert index is not None
    spec = InputSpec("image", (3, 16, 16), (0.5,) * 3, (0.2,) * 3)
    architecture = Architecture(PICTURES, {"config": VIT})
    model = Model(module, architecture, spec, "classification", ("a", "b", "c"), index, support)
    small, _ = shrink(model, sample(index, 0.4, 1))
    store.save(small, tmp_path / "m")
    again = store.load(tmp_path / "m")
    assert torch.equal(again(x), small(x))


def test_a_configuration_can_name_no_code(tmp_path: Path) -> None:
    config = {
        **VIT,
        "auto_map": {"AutoModelForImageClassification": "evil--module.Class"},
        "_name_or_path": str(tmp_path),
    }
    assert type(build(Architecture(PICTURES, {"config": config}))).__module__.startswith("transformers.")
    with pytest.raises(ModelError, match="names no model_type"):
        build(Architecture(PICTURES, {"config": {"hidden_size": 4}}))
    with pytest.raises(ModelError, match="no-such-type"):
        build(Architecture(PICTURES, {"config": {"model_type": "no-such-type"}}))


@pytest.mark.parametrize("name", ["checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"])
def test_no_option_of_timm_reads_weights_from_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"takes no '{name}'"):
        build(Architecture("timm/resnet10t", {name: str(tmp_path / "weights.pth")}))


KERNEL = {"attn_implementation": "evil/kernel", "_attn_implementation": "evil/kernel", "use_kernels": True}


@pytest.mark.parametrize("config", [{**VIT, **KERNEL}, {**VIT, "auto_map": {"AutoConfig": "evil.C"}, **KERNEL}])
def test_a_configuration_can_fetch_no_kernel(monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]) -> None:
    from huggingface_hub import constants
    from transformers.integrations import hub_kernels

    asked: list[object] = []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # as when another import of the library came first
    monkeypatch.setattr(hub_kernels, "load_and_register_attn_kernel", lambda *a, **k: asked.append(a))
    build(Architecture(PICTURES, {"config": config}))
    assert asked == []
    assert constants.is_offline_mode()


def test_what_points_elsewhere_is_left_out_at_any_depth() -> None:
    from surgery.network.hf import cleaned

    config = {
        "model_type": "x",
        "vision_config": {"hidden_size": 4, **KERNEL},
        "stages": [{"auto_map": {}, "depth": 2}],
    }
    assert cleaned(config) == {"model_type": "x", "vision_config": {"hidden_size": 4}, "stages": [{"depth": 2}]}


def test_a_missing_library_and_a_wrong_name_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="There is no architecture 'timm/resnet10x'") as wrong:
        build(Architecture("timm/resnet10x"))
    assert "timm/resnet10t" in wrong.value.fix
    architectures._family.cache_clear()
    monkeypatch.delitem(sys.modules, "surgery.network.timm_zoo", raising=False)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match="needs timm, which is not installed") as missing:
        build(Architecture("timm/resnet10t"))
    assert "model-surgery[timm]" in missing.value.fix
    architectures._family.cache_clear()
