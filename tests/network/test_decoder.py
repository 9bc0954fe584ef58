"""The small language model: numbered like any network, cut head by head, opened from its tensors alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from surgery.edit.gate import gate
from surgery.edit.shrink import shrink
from surgery.errors import ModelError
from surgery.network import load, store
from surgery.network.certificate import relative
from surgery.network.decoder import Decoder
from surgery.network.model import Architecture, InputSpec, Model, lessons
from tests.patients import writer


@pytest.fixture(scope="module")
def model() -> Model:
    return writer()


def test_heads_live_and_die_as_one_and_hidden_units_alone(model: Model) -> None:
    index = model.index
    assert index is not None
    assert model.support.level == "full"
    groups = {name: len(index.group[layer.rows].unique()) for name, layer in index.layers.items()}
    assert groups["blocks.0.attention.q"] == groups["blocks.0.attention.v"] == 2
    assert groups["blocks.0.up"] == 24
    free = ~index.fixed
    assert bool(free[index.layers["blocks.0.up"].rows].all())
    assert not bool(free[index.layers["blocks.0.down"].rows].any()), "the stream is normalised across neurons"


def test_without_a_head_and_some_units_it_is_the_gated_one(model: Model, tmp_path: Path) -> None:
    index = model.index
    assert index is not None
    keep = torch.ones(index.n, dtype=torch.bool)
    keep[index.layers["blocks.0.up"].rows[:10]] = False
    keep[index.group == index.group[index.layers["blocks.0.attention.q"].rows[0]]] = False
    small, _ = shrink(model, keep)
    x = model.input.example(4)
    with torch.no_grad(), gate(model.module, index, keep.float()):
        assert relative(small.module(x), model.module(x)) <= 1e-6
    assert small.module.get_submodule("blocks.0.attention.q").weight.shape == (8, 16)
    store.save(small, tmp_path / "small")
    again = store.load(tmp_path / "small")
    with torch.no_grad():
        assert torch.equal(again.module(x), small.module(x))
    assert again.input == model.input


def test_no_position_sees_what_follows(model: Model) -> None:
    x = model.input.example(2)
    changed = x.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % len(model.classes)
    with torch.no_grad():
        assert torch.equal(model.module(x)[:, :7], model.module(changed)[:, :7])
        assert torch.equal(model(x), model.module(x)[:, -1]), "the answer is what follows the end"


def test_a_text_longer_than_the_context_is_an_error(model: Model) -> None:
    with pytest.raises(IndexError):
        model.module(torch.zeros(1, 13, dtype=torch.long))


@pytest.mark.parametrize("bad", [{"width": 10, "heads": 4}, {"depth": 0}, {"alphabet": 0}])
def test_sizes_that_do_not_fit_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="sizes must be positive"):
        Decoder(**{"alphabet": 5, "context": 8, "width": 16, "heads": 2, **bad})


def test_bare_weights_are_recognised(model: Model) -> None:
    tensors = model.module.state_dict()
    best = load.suggest(tensors)[0]
    assert best.architecture.name == "text/decoder"
    assert best.mismatches == ()
    assert best.architecture.arguments["context"] == 12
    spec = load.guess_input(tensors, best.architecture)
    assert (spec.kind, spec.shape, len(spec.alphabet)) == ("text", (12,), len(model.classes))


def test_an_alphabet_must_be_the_models_own(model: Model) -> None:
    tensors, architecture = model.module.state_dict(), model.architecture
    spec = InputSpec("text", (12,), alphabet=model.classes)
    again = load.assemble(tensors, architecture, input=spec, classes=model.classes)
    x = spec.example(3)
    with torch.no_grad():
        assert torch.equal(again(x), model(x))
    with pytest.raises(ModelError, match="names 23 others that may follow"):
        load.assemble(tensors, architecture, input=spec, classes=tuple(reversed(model.classes)))
    for alphabet in ((), (*model.classes[:-1], model.classes[0])):
        with pytest.raises(ModelError, match="needs an alphabet of different characters"):
            load.assemble(tensors, architecture, input=InputSpec("text", (12,), alphabet=alphabet), classes=alphabet)


def test_a_network_for_text_may_answer_at_the_end_only() -> None:
    class Last(Decoder):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)[:, -1]

    out = Last(5, 8, 16, 1, 2)(torch.zeros(3, 8, dtype=torch.long))
    said, right = lessons(torch.zeros(3, 8, dtype=torch.long), torch.tensor([1, 2, 3]), out)
    assert said.shape == (3, 5)
    assert right.tolist() == [1, 2, 3]


def test_every_number_of_heads_that_fits_is_suggested(model: Model) -> None:
    found = [one.architecture for one in load.suggest(model.module.state_dict())]
    assert [one.arguments["heads"] for one in found if one.name == "text/decoder"] == [4, 2, 8, 1]


def test_a_network_that_answers_in_other_words_is_no_language_model() -> None:
    class Sentiment(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = torch.nn.Embedding(100, 8)
            self.head = torch.nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.words(x).mean(1))

    spec = InputSpec("text", (6,), alphabet=("bad", "fine", "good"))
    architecture = Architecture("custom/sentiment")
    with pytest.raises(ModelError, match=r"no embedding of 3 characters, but of \[100\]"):
        load._finished(Sentiment().eval(), architecture, spec, spec.alphabet, "classification")
