"""A network made of whole networks: each member sees the input in its own way and answers with scores; one linear layer
puts all scores together.

An exported model carries this file as its definition, and the files that define its members beside it.

Letters: b samples of a batch, C outputs of a member, K outputs of the whole.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Head(nn.Module):
    """outputs: float[b, C] -> score: float[b, 1].

    Without hidden units a weighted sum. With them the head of GradSplitter (arXiv 2311.04438): ReLU, linear, ReLU,
    linear, sigmoid, so that scores lie between 0 and 1. squash: a sigmoid after the sum too.
    """

    def __init__(self, outputs: int, hidden: int = 0, *, squash: bool = False) -> None:
        super().__init__()
        self.hidden = nn.Linear(outputs, hidden) if hidden else None
        self.score = nn.Linear(hidden or outputs, 1)
        self.squash = squash or hidden > 0

    @property
    def limit(self) -> float | None:
        """The score above which GradSplitter takes a sample for the class; None where nothing fixes it."""
        return 0.5 if self.squash else None

    def forward(self, outputs: Tensor) -> Tensor:
        """Score the outputs."""
        seen = outputs if self.hidden is None else torch.relu(self.hidden(torch.relu(outputs)))
        score: Tensor = self.score(seen)
        return torch.sigmoid(score) if self.squash else score


class Whole(nn.Module):
    """All outputs of a member, float[b, C]: as they are, or as log_softmax or softmax of them."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form

    def forward(self, outputs: Tensor) -> Tensor:
        """Bring them into the form."""
        if self.form == "log_softmax":
            return torch.log_softmax(outputs, 1)
        return torch.softmax(outputs, 1) if self.form == "softmax" else outputs


class Adapter(nn.Module):
    """x as the whole takes it -> x as a member was trained on: normalisation, channels, size.

    given, wanted: {"shape", "mean", "std"}, mean and std per channel on the 0–1 scale, or per feature.
    """

    given_mean: Tensor
    given_std: Tensor
    wanted_mean: Tensor
    wanted_std: Tensor

    def __init__(self, given: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        super().__init__()
        self.same = dict(given) == dict(wanted)
        self.size = tuple(wanted["shape"][1:]) if len(wanted["shape"]) == 3 else ()
        self.channels = wanted["shape"][0]
        for name, side in (("given", given), ("wanted", wanted)):
            for what in ("mean", "std"):
                values = torch.tensor(side[what], dtype=torch.float32).reshape(-1, *(1,) * len(self.size))
                self.register_buffer(f"{name}_{what}", values, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Back to the 0–1 scale, over to the member's."""
        if self.same:
            return x
        x = x * self.given_std + self.given_mean
        if self.size:
            x = self._pictures(x)
        return (x - self.wanted_mean) / self.wanted_std

    def _pictures(self, x: Tensor) -> Tensor:
        if x.shape[1] > self.channels:
            x = (x * x.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        if x.shape[2:] != self.size:
            smaller = self.size[0] < x.shape[2] or self.size[1] < x.shape[3]
            x = F.interpolate(x, self.size, mode="bilinear", align_corners=False, antialias=smaller)
        return x.repeat(1, self.channels, 1, 1) if x.shape[1] < self.channels else x


class Composed(nn.Module):
    """x: float[b, *input] -> float[b, K], a linear layer over what all members say.

    input: {"shape", "mean", "std"}. members: each {"name", "arguments"} of its architecture (in an export also "file",
    "table" and "key"), its own "input", "outputs" C, the path "output" of its prediction where its network returns
    several tensors, and what is asked of it: "hidden" units of a head and "squash", or
    the "form" in which all its outputs are taken. networks: those of the members, if they are there already.
    """

    def __init__(
        self,
        input: Mapping[str, Any],
        members: Sequence[Mapping[str, Any]],
        outputs: int,
        networks: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.input_shape = tuple(input["shape"])
        self.adapters = nn.ModuleList(Adapter(input, member["input"]) for member in members)
        self.members = nn.ModuleList(networks or map(_built, members))
        self.heads = nn.ModuleList(
            Whole(member["form"])
            if "form" in member
            else Head(member["outputs"], member["hidden"], squash=member["squash"])
            for member in members
        )
        scores = sum(member["outputs"] if "form" in member else 1 for member in members)
        self.together = nn.Linear(scores, outputs)
        self.predictions = tuple(str(member.get("output", "")) for member in members)

    def forward(self, x: Tensor) -> Tensor:
        """Ask every member."""
        found = []
        for adapter, member, head, path in zip(self.adapters, self.members, self.heads, self.predictions, strict=True):
            found.append(head(_picked(member(adapter(x)), path)))
        answer: Tensor = self.together(torch.cat(found, dim=1))
        return answer


def _picked(out: Any, path: str) -> Tensor:
    """The prediction in what a member returned, see `surgery.network.outputs`; without a path the first output."""
    for key in path.split(".") if path and not isinstance(out, Tensor) else ():
        named = isinstance(out, Mapping)
        out = out[key] if named else getattr(out, key) if hasattr(out, "_fields") else out[int(key)]
    while not isinstance(out, Tensor):
        out = next(iter(out.values())) if isinstance(out, Mapping) else out[0]
    return out


def _built(member: Mapping[str, Any]) -> nn.Module:
    """A member's network with random weights. Inside the product it is built by name; only an exported copy of this
    file, which stands beside the definitions, reads these: a description that was uploaded must name no code.
    """
    if __name__.startswith("surgery."):
        from surgery.network.architectures import build
        from surgery.network.model import Architecture

        return build(Architecture(member["name"], member["arguments"], member.get("source", "")))
    file = Path(__file__).resolve().parent / Path(member["file"]).name
    spec = importlib.util.spec_from_file_location(str(file), file)
    if spec is None or spec.loader is None:
        raise ValueError(f"there is no {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for the module that they stand in
    spec.loader.exec_module(module)
    made: nn.Module = vars(module)[member["table"]][member["key"]](**member["arguments"])
    return made


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"network": Composed}
