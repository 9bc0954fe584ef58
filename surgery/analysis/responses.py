"""What each neuron showed on a few hundred samples, kept beside a scan's averages: the rows behind a name, a
distribution, a neighbour.

The samples are spread over all classes in proportion, and every second one of a class belongs to the other half: what
is said of a neuron by one half can be tested on the other.

Letters: P points (one per group of hidden neurons, in order of id), M columns of a scan, S samples, K concepts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

FILE = "responses.safetensors"
TENSORS = ("values", "samples", "groups", "concepts")
FEWEST, MOST = 200, 1_000  # samples
CELLS = 20_000_000  # of values: 80 MB


@dataclass(frozen=True)
class Responses:
    """values: float32[P, S], the activation of each point; samples: int64[S], rising; groups: int64[S], their class.

    concepts: bool[S, K], what else is known of each sample; names: what the K concepts are called.
    """

    values: Tensor
    samples: Tensor
    groups: Tensor
    concepts: Tensor
    names: tuple[str, ...] = ()

    def save(self, folder: Path) -> None:
        """Write `responses.safetensors` into an existing folder; a page reads single rows of it."""
        tensors = {name: getattr(self, name).contiguous() for name in TENSORS}
        save_file(tensors, folder / FILE, metadata={"names": "\n".join(self.names)})

    @classmethod
    def load(cls, folder: Path) -> Responses:
        """Read what `save` wrote."""
        with safe_open(folder / FILE, framework="pt") as file:
            names = file.metadata()["names"]
            values, samples, groups, concepts = (file.get_tensor(name) for name in TENSORS)
        return cls(values, samples, groups, concepts, tuple(names.split("\n")) if names else ())


def how_many(neurons: int) -> int:
    """How many samples are kept for so many neurons."""
    return max(FEWEST, min(MOST, CELLS // max(neurons, 1)))


class Sampled:
    """Collects the chosen samples of a pass, a row per sample; samples: int64[S], rising; neurons: M."""

    def __init__(self, samples: Tensor, neurons: int) -> None:
        self.samples = samples
        self._rows = torch.zeros(len(samples), neurons)

    def add(self, values: Tensor, samples: Tensor) -> None:
        """Take what one batch showed: float32[b, M] of samples int64[b]."""
        place = torch.searchsorted(self.samples, samples).clamp(max=len(self.samples) - 1)
        hit = self.samples[place] == samples
        self._rows[place[hit]] = values[hit]

    def of(self, columns: Tensor) -> Tensor:
        """float32[P, S] of columns: int64[P]; a point that no layer shows (−1) gave 0."""
        shown = self._rows.T[columns.clamp(min=0)]
        return torch.where((columns >= 0)[:, None], shown, 0.0)
