"""Words for pictures: a small text–image model, trained here on coloured squares, names a neuron that sees a colour."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from surgery.analysis import text_image
from surgery.analysis.naming import names
from surgery.analysis.scan import scan
from surgery.context import Context
from surgery.data.arrays import from_arrays
from surgery.data.dataset import Dataset
from surgery.errors import Cancelled, DataError
from tests.pico import pico_model

transformers = pytest.importorskip("transformers")
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "grey": (120, 120, 120)}
NAMES = tuple(COLOURS)


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """240 squares of four colours; the classes have nothing to do with the colour. Their order: colour = id % 4."""
    generator = np.random.default_rng(0)
    x = np.array([np.tile(COLOURS[NAMES[number % 4]], (8, 8, 1)) for number in range(240)])
    x = np.clip(x + generator.normal(0, 12, x.shape), 0, 255).astype(np.uint8)
    y = generator.integers(0, 2, 240)
    return from_arrays(
        tmp_path_factory.mktemp("squares"), x, y, classes=("a", "b"), name="squares", task="classification"
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, squares: Dataset) -> Path:
    """A CLIP of a few thousand weights that tells the four colours apart, as transformers saves one."""
    home = tmp_path_factory.mktemp("clip")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (home / "vocab.json").write_text(json.dumps({token: place for place, token in enumerate(vocabulary)}))
    (home / "merges.txt").write_text("#version: 0.2\n")
    tokenizer: Any = transformers.CLIPTokenizer(str(home / "vocab.json"), str(home / "merges.txt"))
    tokenizer.save_pretrained(home)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**size, "vocab_size": len(vocabulary), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
        vision_config={**size, "image_size": 8, "patch_size": 4},
        projection_dim=8,
    )
    torch.manual_seed(0)
    model = transformers.CLIPModel(config)
    side = {"height": 8, "width": 8}
    processor = transformers.CLIPImageProcessor(size=side, crop_size=side, do_center_crop=False)
    processor.save_pretrained(home)
    texts = tokenizer([text_image.PROMPT.format(name) for name in NAMES], padding=True, return_tensors="pt")
    pixels = processor(images=list(squares.raw(np.arange(64))), return_tensors="pt")["pixel_values"]
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        logits = model(**texts, pixel_values=pixels).logits_per_image
        loss = F.cross_entropy(logits, torch.arange(64) % 4)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.3
    model.save_pretrained(home, safe_serialization=True)
    (home / "words.txt").write_text("\n".join([*NAMES, "", "red"]), encoding="utf-8")
    return home


def test_words_are_true_of_the_pictures_they_describe(
    squares: Dataset, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_image, "TRUE", 1)
    samples = np.arange(100, 240)
    phrases, true = text_image.described(squares, samples, Context(), clip)
    assert phrases == NAMES, "the order of the file, without its repetition"
    assert (true.int().argmax(1).numpy() == samples % 4).mean() > 0.95
    assert true.sum(1).eq(1).all()


def test_a_scan_names_a_neuron_by_what_it_sees(squares: Dataset, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pico_model(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)), squares.shape)
    model = replace(model, classes=squares.classes)
    bare = scan(model, squares, Context()).responses
    assert bare is not None and bare.names == ()
    monkeypatch.setenv(text_image.VARIABLE, str(clip))
    monkeypatch.setattr(text_image, "TRUE", 1)
    kept = scan(model, squares, Context()).responses
    assert kept is not None
    assert kept.names == NAMES
    redness = squares.raw(kept.samples.numpy()).astype(np.float32)[..., 0].mean((1, 2)) - 128
    other = np.random.default_rng(0).permutation(redness)
    seen, unseen = names(np.stack([redness, other]), kept.groups.numpy(), ("a", "b"), kept.concepts.numpy(), kept.names)
    assert (seen.kind, seen.text) == ("concept", "red")
    assert seen.precision > 0.9
    assert unseen.kind == "unclear"


def test_our_own_phrases_are_used_without_a_file(tmp_path: Path) -> None:
    assert text_image.words(tmp_path) == text_image.WORDS
    assert len(set(text_image.WORDS)) == len(text_image.WORDS) > 100


def test_what_cannot_be_used_is_said(
    squares: Dataset, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="cannot be used") as wrong:
        text_image.described(squares, np.arange(4), Context(), tmp_path)
    assert "unset SURGERY_TEXT_IMAGE" in wrong.value.fix
    (tmp_path / "words.txt").write_text("\n\n")
    with pytest.raises(DataError, match="holds 0 phrases"):
        text_image.words(tmp_path)
    with pytest.raises(Cancelled):
        text_image.described(squares, np.arange(4), Context(cancelled=lambda: True), clip)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DataError, match="needs transformers, which is not installed"):
        text_image.described(squares, np.arange(4), Context(), clip)
