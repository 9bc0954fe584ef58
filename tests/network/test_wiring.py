"""The network as a drawing needs it: layers in order, edges, couplings."""

from __future__ import annotations

import torch

from surgery.network.trace import trace
from surgery.network.wiring import wiring
from tests import pico


def test_a_residual_block_skips_and_couples() -> None:
    module = pico.Residual().eval()
    index, _support = trace(module, torch.rand(2, 1, 8, 8))
    drawn = wiring(module, index)
    assert [layer["name"] for layer in drawn["layers"]] == ["stem", "one", "two", "head"]
    assert drawn["edges"] == [[-1, 0], [0, 1], [1, 2], [2, 3]]
    assert drawn["couplings"] == [[0, 2]], "stem and two add into one stream"
    assert [layer["parameters"] for layer in drawn["layers"]] == [54, 275, 276, 21]


def test_both_branches_feed_what_reads_them_side_by_side() -> None:
    module = pico.Concat().eval()
    index, _support = trace(module, torch.rand(2, 1, 8, 8))
    drawn = wiring(module, index)
    names = [layer["name"] for layer in drawn["layers"]]
    into = {names[start] if start >= 0 else "input" for start, end in drawn["edges"] if names[end] == "mid"}
    assert into == {"left", "right", "input"}
    assert drawn["couplings"] == []
