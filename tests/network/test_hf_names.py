"""Folders that transformers writes with `save_pretrained` come back as `from_pretrained` reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

from surgery.errors import MismatchError
from surgery.network import architectures, hf, load, matching
from surgery.network.model import Architecture, InputSpec

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
WORDS = {"vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
PICTURE = {"image_size": 16, "patch_size": 4}
ROTARY = {**SIZES, **WORDS, "num_key_value_heads": 3, "head_dim": 8}
STAGES = {"depths": [1, 1], "hidden_sizes": [8, 16]}
TEXTS: dict[str, dict[str, Any]] = {
    "bert": {**SIZES, **WORDS, "max_position_embeddings": 32},
    "distilbert": {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40, "max_position_embeddings": 32, **WORDS},
    "gpt2": {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 32, **WORDS},
    "llama": ROTARY,
    "mixtral": {**ROTARY, "num_local_experts": 4},
}
PICTURES: dict[str, dict[str, Any]] = {
    "vit": {**SIZES, **PICTURE},
    "beit": {**SIZES, **PICTURE},
    "dinov2": {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, **PICTURE},
    "swin": {
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "window_size": 2,
        "image_size": 16,
        "patch_size": 2,
    },
    "segformer": {
        **{"num_encoder_blocks": 2, "sr_ratios": [2, 1], "num_attention_heads": [1, 2], "patch_sizes": [3, 3]},
        **{"strides": [2, 2], "mlp_ratios": [2, 2], "decoder_hidden_size": 8, "image_size": 16, **STAGES},
    },
    "resnet": {"embedding_size": 8, "image_size": 16, **STAGES},
    "convnext": {"num_stages": 2, "image_size": 16, **STAGES},
    "clip": {"vision_config": {**SIZES, **PICTURE}, "text_config": {**SIZES, **WORDS}},
}


def written(folder: Path, kind: str, name: str, options: dict[str, Any]) -> tuple[dict[str, Tensor], Architecture]:
    """The tensors and the architecture of a folder of `save_pretrained`."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(name, num_labels=3, **options)
    hf.KINDS[kind].from_config(config).save_pretrained(folder)
    said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return load_file(folder / "model.safetensors"), Architecture(f"hf/{kind}", {"config": said})


def built(tensors: dict[str, Tensor], architecture: Architecture) -> nn.Module:
    """The network around the tensors, as an import makes it."""
    wanted = matching.expected(architecture)
    own = load._fitting(matching.native(tensors, architecture), architecture, wanted)
    return architectures.filled(architecture, own, {}, wanted.tied)


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "name"), [("sequence-classification", n) for n in TEXTS] + [("image-classification", n) for n in PICTURES]
)
def test_a_saved_folder_gives_what_from_pretrained_gives(tmp_path: Path, kind: str, name: str) -> None:
    tensors, architecture = written(tmp_path, kind, name, {**TEXTS, **PICTURES}[name])
    assert load.compare(tensors, architecture) == []
    x = torch.randint(3, 50, (2, 9)) if name in TEXTS else torch.randn(2, 3, 16, 16)
    reference = hf.KINDS[kind].from_pretrained(tmp_path).eval()
    assert torch.equal(built(tensors, architecture)(x), reference(x).logits)


def test_a_saved_vision_transformer_is_imported(tmp_path: Path) -> None:
    tensors, architecture = written(tmp_path, "image-classification", "vit", PICTURES["vit"])
    assert not tensors.keys() >= matching.expected(architecture).shapes.keys(), "the library renames when it saves"
    spec = InputSpec("image", (3, 16, 16), (0.5,) * 3, (0.5,) * 3)
    model = load.assemble(tensors, architecture, input=spec, classes=("a", "b", "c"))
    assert model.support.level == "full"


@torch.no_grad()
def test_files_of_old_releases_and_of_the_bare_network(tmp_path: Path) -> None:
    tensors, architecture = written(tmp_path, "sequence-classification", "bert", TEXTS["bert"])
    x = torch.randint(3, 50, (2, 9))
    wanted = built(tensors, architecture)(x)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors.items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(32)[None]
    assert load.compare(old, architecture) == []
    assert torch.equal(built(old, architecture)(x), wanted)
    bare = {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}
    assert load.compare(bare, architecture) == []
    assert torch.equal(built(bare, architecture)(x), wanted)


def test_what_does_not_fit_is_shown_under_the_names_of_the_file(tmp_path: Path) -> None:
    tensors, architecture = written(tmp_path, "sequence-classification", "mixtral", TEXTS["mixtral"])
    gate = "model.layers.0.block_sparse_moe.experts.0.w1.weight"
    tensors |= {gate: tensors[gate][:-1], "stranger.weight": torch.zeros(2)}
    rows = load.compare(tensors, architecture)
    assert {(row.name, row.kind) for row in rows} >= {(gate, "unexpected"), ("stranger.weight", "unexpected")}
    spec = InputSpec("image", (3, 16, 16), (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(MismatchError, match=r"tensors differ: model\.layers\.0"):
        load.assemble(tensors, architecture, input=spec, classes=("a", "b", "c"))


@pytest.mark.parametrize("name", ["efficientnet", "deepseek_v2", "deepseek_v3", "ministral3", "qwen3_moe", "xlnet"])
def test_the_configuration_that_the_library_writes_is_allowed(name: str) -> None:
    config = json.loads(transformers.AutoConfig.for_model(name, num_labels=3).to_json_string())
    assert architectures.allowed(Architecture("hf/sequence-classification", {"config": config})).arguments
