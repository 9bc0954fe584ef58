"""What is known of a stored model before it is loaded: its description, read without torch.

A loaded `Model` says the same of itself under the same names, so a check is written once, for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from surgery.errors import ModelFileError, SelectionError, TraceError


class Takes(Protocol):
    """What one sample looks like to a model; the fields are those of `surgery.network.model.InputSpec`."""

    @property
    def kind(self) -> str:
        """One of "image", "table" and "text"."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Without the batch axis."""

    @property
    def mean(self) -> tuple[float, ...]:
        """What is subtracted."""

    @property
    def std(self) -> tuple[float, ...]:
        """What is then divided by."""

    @property
    def alphabet(self) -> tuple[str, ...]:
        """Of a text, what its numbers stand for."""


class Supported(Protocol):
    """How much of the product works on a network: "full", "gate" or "inspect", and why no more."""

    @property
    def level(self) -> str:
        """ "full": it can be shrunk; "gate": its neurons are numbered; "inspect": they are not."""

    @property
    def reason(self) -> str:
        """The step that stopped the rest."""


class Described(Protocol):
    """A model, or what its description says of it."""

    @property
    def input(self) -> Takes:
        """What one sample looks like to it."""

    @property
    def task(self) -> str:
        """ "classification" or "regression"."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels of the logits, or the name of the one target."""

    @property
    def support(self) -> Supported:
        """How much of the product works on it."""


@dataclass(frozen=True)
class Input:
    """The input of a description; fields as those of `surgery.network.model.InputSpec`."""

    kind: str
    shape: tuple[int, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    alphabet: tuple[str, ...] = ()


@dataclass(frozen=True)
class Level:
    """The support of a description."""

    level: str
    reason: str = ""


@dataclass(frozen=True)
class Facts:
    """A stored model as its description tells it."""

    input: Input
    task: str
    classes: tuple[str, ...]
    support: Level

    @classmethod
    def of(cls, description: Mapping[str, Any], name: str) -> Facts:
        """Read the description of the model `name`.

        Raises:
            ModelFileError: it is not the description of a model.
        """
        try:
            given = description["input"]
            lists = {key: tuple(given.get(key) or ()) for key in ("shape", "mean", "std", "alphabet")}
            return cls(
                Input(str(given["kind"]), **lists),
                str(description["task"]),
                tuple(description["classes"]),
                Level(str(description["support"]["level"]), str(description["support"].get("reason", ""))),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ModelFileError(
                f"The description of {name} (architecture.json) is damaged: {error!r}.", "Restore it from a backup."
            ) from error


def alike(models: Mapping[str, Described]) -> None:
    """Look at whether models can share at all.

    Raises:
        SelectionError: one is no classifier. TraceError: they take different input.
    """
    first, *others = models.items()
    for name, model in models.items():
        if model.task != "classification" or model.input.kind == "text":
            raise SelectionError(
                f"{name} is no classifier of pictures or rows: that it still agrees with itself could not be judged.",
                "Leave it out.",
            )
    for name, model in others:
        if (model.input.kind, model.input.shape) != (first[1].input.kind, first[1].input.shape):
            raise TraceError(
                f"{first[0]} takes {first[1].input.kind} of {list(first[1].input.shape)}, {name} takes "
                f"{model.input.kind} of {list(model.input.shape)}: nothing computed for one serves the other.",
                "Share models of one input size and number of channels; normalisation may differ.",
            )


def listed(returns: Mapping[str, Sequence[int]]) -> str:
    """What a network returns, in words: "0 [4], 1 [2]"; returns: path -> shape for one sample."""
    return ", ".join(f"{path or 'one tensor'} {list(shape)}" for path, shape in returns.items()) or "no tensor"
