"""What language models write: the same beginnings continued by each of them, with the same chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from surgery.context import Context
from surgery.data.texts import character, named, spelled
from surgery.errors import MeasureError

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.data.dataset import Dataset
    from surgery.network.model import Model

LENGTH = 160  # characters that are written
TEMPERATURE = 0.7
DRAWN, KEPT = 2, 2  # beginnings: from validation windows, and from must-keep cases


def beginnings(data: Dataset) -> list[str]:
    """Some windows of the must-keep cases and of validation, as text."""
    kept, val = data.ids("preserve"), data.ids("val")
    places = np.linspace(0, len(val), DRAWN + 2).astype(int)[1:-1] if len(val) else np.zeros(0, dtype=int)
    return ["".join(data.text(int(sample))) for sample in [*kept[:KEPT], *val[places]]]


def continuations(models: Mapping[str, Model], data: Dataset, ctx: Context) -> list[dict[str, str]]:
    """prompt, and what each model writes after it, by name; nothing for models and data that are no text.

    Raises:
        MeasureError: a model does not know a character of the text.
    """
    if data.kind != "text" or any(model.input.kind != "text" for model in models.values()):
        return []
    found = []
    for prompt in beginnings(data):
        found.append({"prompt": prompt, **{name: write(model, prompt, ctx) for name, model in models.items()}})
    return found


def write(
    model: Model, prompt: str, ctx: Context, *, length: int = LENGTH, temperature: float = TEMPERATURE, seed: int = 0
) -> str:
    """`length` characters after `prompt`, of which the model reads as many as its context holds.

    The chance of each place depends on `seed` alone: two models write the same as long as they are of one mind.
    temperature: of the softmax; 0 = always the likeliest character.

    Raises:
        MeasureError: a model of something else, nothing to begin with, or a character that the model does not know.
    """
    import torch

    if model.input.kind != "text":
        raise MeasureError("This model takes no text: it cannot write.", "Choose a language model.")
    alphabet, context = model.input.alphabet, model.input.shape[0]
    codes = _codes(prompt, alphabet)[-context:]
    chance = torch.rand(length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    module = model.module.to(ctx.device)
    written: list[int] = []
    try:
        with torch.inference_mode():
            for number in ctx.track(range(length), "writing"):
                seen = torch.tensor([[*codes, *written][-context:]], device=ctx.device)
                logits = model.answers(module(_filled(seen, context)))[0].cpu().double()
                if temperature <= 0:
                    written.append(int(logits.argmax()))
                    continue
                reached = torch.softmax(logits / temperature, 0).cumsum(0)
                written.append(min(int(torch.searchsorted(reached, chance[number])), len(alphabet) - 1))
    finally:
        module.to("cpu")
    return spelled(alphabet, np.array(written))


def _filled(seen: Tensor, context: int) -> Tensor:
    """A short beginning repeated until it fills the context: networks may be made for one length only."""
    return seen.repeat(1, -(-context // seen.shape[1]))[:, -context:] if seen.shape[1] < context else seen


def _codes(prompt: str, alphabet: Sequence[str]) -> list[int]:
    if not prompt:
        raise MeasureError("There is nothing to begin with.", "Type at least one character.")
    place = {name: number for number, name in enumerate(alphabet)}
    strange = sorted({one for one in prompt if named(one) not in place})
    if strange:
        known = "".join(character(name) for name in alphabet if len(name) == 1)
        raise MeasureError(
            f"The model does not know {', '.join(map(repr, strange[:8]))}; it knows {known}.", "Leave these out."
        )
    return [place[named(one)] for one in prompt]
