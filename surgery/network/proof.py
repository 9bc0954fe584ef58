"""Proof that what was written gives back what was in memory: load it, run both, compare every output."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from surgery.errors import ModelError, SurgeryError
from surgery.network.outputs import alike

TOLERANCE = 1e-4  # relative: other memory layouts round differently, by about 1e-6


def same(written: nn.Module, module: nn.Module, inputs: Iterable[Tensor], what: str) -> None:
    """Refuse a network that was read back and does not return what the one in memory returns.

    inputs: batches that both get. what: it, for the message.

    Raises:
        ModelError: it does not run, or an output differs.
    """
    for x in inputs:
        expected = _run(module, x, what)
        off = alike(_run(written, x, what), expected)
        if not off <= TOLERANCE:
            found = f"an output differs by {off:.1e}" if off < float("inf") else "its outputs are others"
            raise ModelError(
                f"{what} was not kept: read back from its files, {found} from the network in memory.",
                "Its constructor makes something that is in no weight or buffer: register that as a buffer.",
            )


def _run(module: nn.Module, x: Tensor, what: str) -> Any:
    """What a network returns; with the same random numbers each time, for those that draw some."""
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            return module(x)
    except (SurgeryError, MemoryError):
        raise
    except Exception as error:  # whatever a network raises
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{what} was not kept: the network does not run on an input of shape {list(x.shape)}: {reason}.",
            "Change fewer layers, or register as buffers what its constructor computes.",
        ) from error
