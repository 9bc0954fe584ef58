"""A small language model: a decoder of causal attention that says, at every character of a text, what follows.

Pre-norm blocks as in GPT-2, learned positions. Every size is taken from the weights in `forward`, so that it still runs
after heads and hidden units have been removed: a head is `width // heads` rows of each of q, k and v. Imports torch
only: an exported model carries this file as its definition.

Letters: b batch, t characters (at most `context`), d width, h heads, V size of the alphabet.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Causal self-attention: float[b, t, d] -> float[b, t, d]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.size = width // heads  # of one head
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Each position reads itself and those before it."""
        q, k, v = (part(x).unflatten(2, (-1, self.size)).transpose(1, 2) for part in (self.q, self.k, self.v))
        read = functional.scaled_dot_product_attention(q, k, v, is_causal=True)  # [b, h, t, size]
        out: Tensor = self.out(read.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): float[b, t, d] -> float[b, t, d]."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.second = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Both residual steps."""
        x = x + self.attention(self.norm(x))
        out: Tensor = x + self.down(functional.gelu(self.up(self.second(x))))
        return out


class Decoder(nn.Module):
    """int64[b, t] characters -> float[b, t, V] logits of the next one.

    hidden: units of each block's MLP, 4 · width by default.

    Raises:
        ValueError: a size below 1, or a width that the heads do not divide. IndexError (from torch) in `forward`: a
        text longer than the context.
    """

    def __init__(
        self, alphabet: int, context: int, width: int = 64, depth: int = 4, heads: int = 4, hidden: int | None = None
    ) -> None:
        super().__init__()
        if min(alphabet, context, width, depth, heads) < 1 or width % heads:
            raise ValueError(f"sizes must be positive and width a multiple of heads; they are {width} and {heads}")
        self.characters = nn.Embedding(alphabet, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads, hidden or 4 * width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, alphabet)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1 and not parameter.is_meta:
                last = name.endswith(
                    ("attention.out.weight", "down.weight")
                )  # what is added to the stream 2 · depth times
                nn.init.normal_(parameter, std=0.02 / ((2 * depth) ** 0.5 if last else 1.0))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Map int64[b, t] to logits float[b, t, V]."""
        places = torch.arange(x.shape[1], device=x.device)
        seen = self.characters(x) + self.positions(places)
        for block in self.blocks:
            seen = block(seen)
        logits: Tensor = self.head(self.norm(seen))
        return logits


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"decoder": Decoder}
