"""Literal replicas of Self-Compressing Networks (arXiv 2301.13142): the quantiser, its gradients, both sizes Q."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from surgery.edit.quantize import (
    covering,
    on_grid,
    quantize,
    settled,
    size_left,
    size_of_pairs,
    size_of_rows,
    weights_of,
)
from surgery.network.packed import Packing, encode, packings
from surgery.network.restore import PARTS, decoded
from tests.patients import mlp
from tests.pico import NETWORKS, pico_model


def literal(x: float, b: float, e: float) -> float:
    clipped = min(max(2**-e * x, -(2 ** (b - 1))), 2 ** (b - 1) - 1)
    return float(2**e * round(clipped))  # both round halves to even


@pytest.mark.parametrize("b", [0.0, 0.4, 1.0, 2.0, 3.3, 8.0])
def test_the_quantiser_value_by_value(b: float) -> None:
    x = torch.linspace(-3, 3, 41)[None]
    for e in (-2.0, -0.3, 1.0):
        found = quantize(x, torch.tensor([b]), torch.tensor([e]))
        wanted = [literal(float(value), b, e) for value in x[0]]
        torch.testing.assert_close(found[0], torch.tensor(wanted))
    assert b > 0 or not bool(quantize(x, torch.tensor([b]), torch.tensor([0.0])).any()), "no bits: always 0"


def test_gradients_pass_rounding_straight_through() -> None:
    x = torch.tensor([[0.2, 0.7, 5.0, -5.0]], requires_grad=True)
    b, e = torch.tensor([3.0], requires_grad=True), torch.tensor([0.0], requires_grad=True)
    weight = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    (quantize(x, b, e) * weight).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0, 2.0, 0.0, 0.0]], "what is clipped has none"
    bound = math.log(2) * 2 ** (3.0 - 1)  # the derivative of 2^(b−1)
    assert b.grad is not None
    torch.testing.assert_close(b.grad, torch.tensor([3.0 * bound - 4.0 * bound]))
    assert e.grad is not None  # scale · round(x ÷ scale): ln 2 · (q − x) inside, ln 2 · q where it is clipped
    inside = 1.0 * (0.0 - 0.2) + 2.0 * (1.0 - 0.7)
    torch.testing.assert_close(e.grad, torch.tensor([math.log(2) * (inside + 3.0 * 3.0 + 4.0 * -4.0)]))


def test_the_simple_size_is_the_average_of_bits() -> None:
    weights = {"a": (6, torch.tensor([2.0, 4.0, -1.0])), "b": (3, torch.tensor([8.0]))}
    assert float(size_of_rows(weights)) == pytest.approx((6 * 2 + 6 * 4 + 3 * 8) / (18 + 3))


def test_the_size_of_pairs_counts_what_is_left_on_both_sides() -> None:
    model = mlp((4, 3, 2))
    weights = weights_of(model)
    bits = {"0.weight": torch.tensor([5.0, 0.0, 3.0]), "2.weight": torch.tensor([2.0, 0.0])}
    first = 4 * (5 + 3) + 2 * 0  # four inputs that are always there and have no bits
    second = 2 * (2 + 0) + 1 * (5 + 3)  # two rows before are left; one row of its own is
    assert float(size_of_pairs(model.index, weights, bits)) == pytest.approx((first + second) / (4 * 3 + 3 * 2))
    gone = {"0.weight": torch.zeros(3), "2.weight": torch.zeros(2)}
    assert float(size_of_pairs(model.index, weights, gone)) == 0.0


def test_the_size_that_is_left_is_without_the_inputs_of_neurons_that_go() -> None:
    model = mlp((4, 3, 2))
    weights = weights_of(model)
    bits = {"0.weight": torch.tensor([5.0, 0.0, 3.0]), "2.weight": torch.tensor([2.0, 1.0])}
    left = (4 * (5 + 0 + 3) + 2 * (2 + 1)) / (4 * 3 + 3 * 2)  # one of three inputs of the second layer goes
    assert size_left(model.index, weights, bits) == pytest.approx(left)
    gone = {"0.weight": torch.zeros(3), "2.weight": torch.tensor([2.0, 1.0])}
    assert size_left(model.index, weights, gone) == pytest.approx(1 * 3 / 18), "a layer cannot be empty: one stays"


@pytest.mark.parametrize("network", NETWORKS, ids=lambda made: made.__name__)
def test_every_weight_that_writes_neurons_has_rows_of_bits(network: type[torch.nn.Module]) -> None:
    model = pico_model(network())
    parameters = dict(model.module.named_parameters())
    for weight in weights_of(model):
        assert parameters[weight.name].shape[weight.axis] == len(weight.rows)
        assert weight.times * len(weight.rows) * max(1, len(weight.cols)) == parameters[weight.name].numel()
    assert {weight.layer for weight in weights_of(model)} == set(model.index.layers)


def test_eight_bits_cover_what_is_there() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 40) * torch.tensor([1e-3, 0.1, 1.0, 10.0, 0.0])[:, None]
    bits = torch.full((5,), 8.0)
    found = quantize(x, bits, covering(x, bits))
    assert float((found - x).abs().amax(1).div(x.abs().amax(1).clamp(min=1e-9)).max()) < 1 / 127


def test_a_packed_file_is_read_back_by_torch_and_safetensors_alone(tmp_path) -> None:
    torch.manual_seed(1)
    weight, bits = torch.randn(6, 3, 2, 2), torch.tensor([0.0, 1.0, 2.3, 3.0, 7.9, 16.0])
    packing = settled(bits, covering(weight, bits), 0)
    assert packing.bits.tolist() == [0, 1, 3, 3, 8, 16]
    simulated = on_grid(weight, packing)
    save_file({f"w.{name}": tensor for name, tensor in encode(simulated, packing).items()}, tmp_path / "packed")
    file = load_file(tmp_path / "packed")
    assert file["w.codes"].numel() == -(-12 * (0 + 1 + 3 + 3 + 8 + 16) // 8), "bits as they are counted"

    # A loader of a few lines, independent of ours.
    axis, rows, *sizes = file["w.layout"].tolist()
    stream = [(int(byte) >> place) & 1 for byte in file["w.codes"] for place in range(8)]
    read, each = torch.zeros(rows, math.prod(sizes)), math.prod(sizes)
    for b in sorted(set(file["w.bits"].tolist()) - {0}):
        for row in range(rows):
            if file["w.bits"][row] == b:
                codes = [sum(stream.pop(0) << place for place in range(b)) for _ in range(each)]
                read[row] = torch.tensor(codes, dtype=torch.float64) - 2 ** (b - 1)
                read[row] *= 2.0 ** float(file["w.exponent"][row])
    torch.testing.assert_close(read.view(rows, *sizes).movedim(0, axis), simulated, rtol=1e-5, atol=1e-7)

    torch.testing.assert_close(decoded(*(file[f"w.{name}"] for name in PARTS)), simulated, rtol=1e-6, atol=0)
    assert packings(file)["w"].bits.tolist() == packing.bits.tolist()


def test_a_weight_off_its_grid_is_not_packed() -> None:
    packing = Packing(torch.tensor([3, 3]), torch.zeros(2))
    encode(torch.tensor([[1.0, -4.0], [3.0, 0.0]]), packing)
    for bad in (0.5, 4.0, -5.0):
        with pytest.raises(ValueError, match="row 1 is not on the grid"):
            encode(torch.tensor([[1.0, -4.0], [bad, 0.0]]), packing)


def test_damaged_parts_are_refused() -> None:
    parts = encode(torch.tensor([[1.0, -4.0], [3.0, 0.0]]), Packing(torch.tensor([3, 3]), torch.zeros(2)))
    for name, worse in (
        ("codes", parts["codes"][:-1]),
        ("bits", torch.tensor([3, 200], dtype=torch.uint8)),
        ("exponent", parts["exponent"][:1]),
    ):
        with pytest.raises(ValueError, match=r"the layout|layout say"):
            decoded(*({**parts, name: worse}[part] for part in PARTS))
