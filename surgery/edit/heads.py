"""Turn the outputs of a part into one score for its class, and teach the scores of several parts to compete.

Letters: K parts, C outputs of the network, n samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surgery.context import Context
from surgery.network.composed import Head

HIDDEN = 10  # units of GradSplitter's head
BATCH = 64


def plain(outputs: int, own: int) -> Head:
    """The head that says what output `own` says."""
    head = Head(outputs)
    with torch.no_grad():
        head.score.weight.copy_(F.one_hot(torch.tensor([own]), outputs))
        head.score.bias.zero_()
    return head


def restored(tensors: Mapping[str, Tensor]) -> Head:
    """The head whose state_dict these tensors are."""
    head = Head(*sizes_of(tensors))
    head.load_state_dict(dict(tensors))
    return head


def sizes_of(tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    """Outputs that the head with this state_dict reads, and its hidden units."""
    first = tensors.get("hidden.weight", tensors["score.weight"])
    return first.shape[1], len(first) if "hidden.weight" in tensors else 0


def scores(heads: Sequence[nn.Module], outputs: Tensor) -> Tensor:
    """float[n, K] of the outputs of all parts, float[K, n, C]."""
    return torch.cat([head(own) for head, own in zip(heads, outputs, strict=True)], dim=1)


def teach(
    heads: Sequence[nn.Module], outputs: Tensor, truth: Tensor, ctx: Context, *, epochs: int, rate: float
) -> None:
    """Train heads in place on outputs that stay as they are, float[K, n, C], so that the right part scores highest.

    truth: int64[n], the part that is right. Cross-entropy over the K scores, Adam, batches of 64 in seeded order.
    """
    optimizer = torch.optim.Adam([p for head in heads for p in head.parameters()], lr=rate)
    generator = torch.Generator().manual_seed(ctx.seed)
    for _ in ctx.track(range(epochs), "teaching heads"):
        for own in torch.randperm(len(truth), generator=generator).split(BATCH):
            loss = F.cross_entropy(scores(heads, outputs[:, own]), truth[own])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
