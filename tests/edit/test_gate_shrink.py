import pytest
import torch
from torch import nn

from surgery.edit.gate import gate
from surgery.edit.shrink import shrink
from surgery.errors import SelectionError, TraceError
from surgery.network.certificate import relative, sample
from surgery.network.model import Model, Support
from tests import pico

X = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def some_means(model: Model) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.rand(len(layer.cols), generator=generator) for name, layer in model.index.layers.items()}


@pytest.mark.parametrize("make", pico.NETWORKS)
@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_gated_equals_shrunk(make: type[nn.Module], fill: str) -> None:
    model = pico.pico_model(make())
    keep = sample(model.index, 0.4, seed=2)
    means = some_means(model) if fill == "mean" else None
    small, kept = shrink(model, keep, means)
    with torch.no_grad():
        with gate(model.module, model.index, keep.float(), means):
            gated = model(X)
        assert relative(small(X), gated) <= 1e-5
        assert relative(gated, model(X)) > 1e-3, "the gate must have moved the output, or this proves nothing"
    assert kept.tolist() == keep.nonzero().flatten().tolist()
    assert sum(p.numel() for p in small.module.parameters()) < sum(p.numel() for p in model.module.parameters())


def test_a_sigmoid_of_a_removed_neuron_is_gone_not_half() -> None:
    model = pico.pico_model(pico.mlp(), (4,))
    keep = torch.ones(model.index.n, dtype=torch.bool)
    keep[3] = False
    small, _ = shrink(model, keep)
    x = torch.randn(6, 4)
    with torch.no_grad():
        hidden = torch.sigmoid(model.module[0](x))
        hidden[:, 3] = 0
        expected = model.module[2:](hidden)
    assert torch.allclose(small(x), expected, atol=1e-6)


def test_a_constant_neuron_with_its_mean_is_removed_exactly() -> None:
    module = pico.mlp()
    model = pico.pico_model(module, (4,))
    with torch.no_grad():
        module[0].weight[2] = 0
        module[0].bias[2] = 0.7
    means = {"2": torch.zeros(8).index_fill(0, torch.tensor([2]), float(torch.sigmoid(torch.tensor(0.7))))}
    keep = torch.arange(model.index.n) != 2
    small, _ = shrink(model, keep, means)
    x = torch.randn(6, 4)
    assert relative(small(x), model(x)) <= 1e-6


def test_keeping_everything_is_the_identity_bit_for_bit() -> None:
    model = pico.pico_model()
    small, kept = shrink(model, torch.ones(model.index.n, dtype=torch.bool))
    assert torch.equal(small(X), model(X))
    assert kept.tolist() == list(range(model.index.n))


def test_a_layer_without_bias_gets_one_for_the_means() -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3, bias=False), nn.Flatten(), nn.LazyLinear(3)
    )
    module(X)
    model = pico.pico_model(module)
    keep = torch.arange(model.index.n) != 1
    small, _ = shrink(model, keep, some_means(model))
    assert small.module[2].bias is not None
    assert small.index.axes["2.bias"][0].tolist() == small.index.layers["2"].rows.tolist()
    smaller, _ = shrink(small, torch.arange(small.index.n) != 4)  # and is sliced by the next cut
    assert smaller.module[2].bias.shape == (2,)
    smaller(X)


def test_shrinking_leaves_the_input_model_alone() -> None:
    model = pico.pico_model()
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    shrink(model, sample(model.index, 0.5), some_means(model))
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())


def test_the_gradient_reaches_the_gate() -> None:
    model = pico.pico_model()
    value = torch.ones(model.index.n, requires_grad=True)
    with gate(model.module, model.index, value):
        model(X).square().sum().backward()
    read = torch.cat([layer.cols for layer in model.index.layers.values()]).unique()
    assert (value.grad[read[read >= 0]] != 0).any()
    assert (value.grad[model.index.logits] == 0).all()


def test_half_open_gates_scale() -> None:
    model = pico.pico_model(pico.mlp(), (4,))
    value = torch.ones(model.index.n)
    value[:8] = 0.5
    x = torch.randn(3, 4)
    with torch.no_grad(), gate(model.module, model.index, value):
        gated = model(x)
    with torch.no_grad():
        expected = model.module[2:](0.5 * torch.sigmoid(model.module[0](x)))
    assert torch.allclose(gated, expected, atol=1e-6)


def test_what_can_only_be_gated_is_not_shrunk() -> None:
    from dataclasses import replace

    model = replace(pico.pico_model(), support=Support("gate", "after a cut, two reads other neurons than before"))
    with pytest.raises(TraceError, match="two reads other neurons"):
        shrink(model, sample(model.index, 0.5))


def test_an_open_keep_is_refused() -> None:
    model = pico.pico_model()
    keep = torch.ones(model.index.n, dtype=torch.bool)
    keep[0] = False
    with pytest.raises(SelectionError, match="coupled group"):
        shrink(model, keep)
