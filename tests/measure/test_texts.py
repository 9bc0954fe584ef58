"""What is measured of language models: loss, perplexity, what they write, which windows became less likely."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.data.texts import character
from surgery.edit.evaluate import losses, quality
from surgery.errors import DataError, MeasureError
from surgery.measure import cases, continuations, measure, write
from surgery.measure.cases import RISE
from surgery.network.model import Model
from tests.patients import mlp, writer


@pytest.fixture(scope="module")
def model() -> Model:
    return writer()


def worse(model: Model, noise: float) -> Model:
    """With noise in its weights."""
    module = copy.deepcopy(model.module)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += noise * torch.randn(parameter.shape, generator=generator)
    return replace(model, module=module)


def test_the_loss_is_that_of_every_character(model: Model, pico_text: Dataset) -> None:
    ids = pico_text.ids("val")[:5]
    found = losses(model, pico_text, ids, Context())
    for sample, value in zip(ids.tolist(), found.tolist(), strict=True):
        read, following = pico_text.text(sample)
        codes = [[character(one) for one in model.classes].index(letter) for letter in read + following]
        with torch.no_grad():
            out = model.module(torch.tensor([codes[:-1]]))[0]
        assert value == pytest.approx(float(F.cross_entropy(out, torch.tensor(codes[1:]))), rel=1e-5)
    whole = quality(model, pico_text, ids, Context())
    assert whole == pytest.approx(math.exp(-float(found.mean())), rel=1e-5)
    assert whole > 3 * quality(writer(0), pico_text, ids, Context()), "it has learned something"


def test_rows_tell_loss_perplexity_and_kinds(model: Model, pico_text: Dataset) -> None:
    found = measure({"a": model}, pico_text, Context(), latency=False).rows
    by = {(row["metric"], row["scope"]): row for row in found.to_dict("records")}
    loss, perplexity = by["loss", "overall"], by["perplexity", "overall"]
    assert (loss["split"], loss["n"], loss["unit"], loss["better"]) == (
        "test",
        len(pico_text.ids("test")),
        "nats",
        "lower",
    )
    assert perplexity["value"] == pytest.approx(math.exp(loss["value"]))
    kinds = {scope for metric, scope in by if metric == "accuracy"} - {"overall"}
    assert kinds <= set(pico_text.groups)
    assert by["MACs", "overall"]["value"] > 0


def test_must_keep_windows_are_measured_by_their_loss(model: Model, pico_text: Dataset) -> None:
    held = pico_text.preserving(pico_text.ids("val")[:6].tolist())
    rows = measure({"a": model}, held, Context(), latency=False).rows
    (row,) = rows[rows["metric"] == "must-keep cases"].to_dict("records")
    assert (row["unit"], row["better"], row["n"]) == ("nats", "lower", 6)
    assert row["value"] == pytest.approx(float(losses(model, held, held.ids("preserve"), Context()).mean()), rel=1e-5)


def test_a_window_breaks_when_it_becomes_much_less_likely(model: Model, pico_text: Dataset) -> None:
    held = pico_text.preserving(pico_text.ids("val")[:20].tolist())
    same = cases(model, model, held, Context())
    assert (same["n"], same["right"], same["broken"], same["mended"]) == (20, 20, [], [])
    other = worse(model, 0.15)
    found = cases(model, other, held, Context())
    ids = held.ids("preserve")
    rise = losses(other, held, ids, Context()) - losses(model, held, ids, Context())
    assert {row["sample"] for row in found["broken"]} == set(ids[rise.numpy() > RISE].tolist())
    assert len(found["broken"]) > 0
    assert {row["sample"] for row in cases(other, model, held, Context())["mended"]} >= {
        row["sample"] for row in found["broken"]
    }


def test_two_models_of_one_mind_write_the_same(model: Model, pico_text: Dataset) -> None:
    rows = continuations({"before": model, "after": model, "hurt": worse(model, 0.3)}, pico_text, Context())
    assert rows
    for row in rows:
        assert row["before"] == row["after"]
        assert len(row["before"]) == 160
    assert any(row["before"] != row["hurt"] for row in rows)
    held = pico_text.preserving(pico_text.ids("train")[:3].tolist())
    assert "".join(held.text(int(held.ids("preserve")[0]))) == continuations({"a": model}, held, Context())[0]["prompt"]


def test_without_chance_the_likeliest_character_follows(model: Model) -> None:
    assert write(model, "the cat sat.\nthe cat", Context(), length=4, temperature=0) == " sat"
    assert len(write(model, "a", Context(), length=7)) == 7, "a short beginning is enough"


@pytest.mark.parametrize(
    ("prompt", "said"),
    [("", "nothing to begin with"), ("the ünïcorn?", r"does not know '\?', 'ï', 'ü'; it knows .*abc")],
)
def test_beginnings_that_cannot_be_read_are_refused(model: Model, prompt: str, said: str) -> None:
    with pytest.raises(MeasureError, match=said):
        write(model, prompt, Context())


def test_others_do_not_write(pico_table: Dataset) -> None:
    with pytest.raises(MeasureError, match="takes no text"):
        write(mlp(), "a", Context())
    assert continuations({"a": mlp()}, pico_table, Context()) == []


def test_a_model_of_another_alphabet_is_no_match_by_position(model: Model, pico_text: Dataset) -> None:
    names = tuple(f"U+{number:04X}" for number in range(len(model.classes)))
    other = replace(model, classes=names, input=replace(model.input, alphabet=names))
    with pytest.raises(DataError, match="knows 23 characters, but not these of 'sentences': line end"):
        measure({"a": other}, pico_text, Context(), latency=False)
