"""The scan against a slow literal replica that keeps every activation and computes with numpy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from surgery.analysis.scan import Scan, scan
from surgery.context import Context
from surgery.data.dataset import QUINTILES, Dataset
from surgery.data.load import from_arrays
from surgery.edit.evaluate import means_of
from surgery.errors import Cancelled, DataError, ModelError
from surgery.network.model import Model, Support
from tests.patients import mlp
from tests.pico import Concat, Depthwise, Functional, Residual, Shuffled, pico_model


class Flatten(nn.Module):
    """A convolution, flattened into a linear layer: each channel becomes sixteen input positions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 5, 3, padding=1, stride=2)
        self.mid = nn.Linear(5 * 16, 7)
        self.head = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.mid(torch.relu(self.conv(x)).flatten(1))))


def received(model: Model, x: Tensor) -> dict[str, np.ndarray]:
    """layer -> float64[n, in, s]: what each layer receives, sample by sample. Networks without tokens only."""
    kept: dict[str, np.ndarray] = {}
    hooks = []
    for name, layer in model.index.layers.items():

        def keep(_: nn.Module, args: tuple[Tensor, ...], name: str = name) -> None:
            kept.setdefault(name, args[0].double().reshape(len(x), args[0].shape[1], -1).numpy())

        if layer.shiftable:
            hooks.append(model.module.get_submodule(name).register_forward_pre_hook(keep))
    with torch.no_grad():
        model.module(x)
    for hook in hooks:
        hook.remove()
    return kept


def maps_of(model: Model, neuron: int, kept: dict[str, np.ndarray]) -> np.ndarray | None:
    """float64[n, positions]: what the first reader of a neuron receives of it."""
    index = model.index
    for ids in ([neuron], (index.group == index.group[neuron]).nonzero().flatten().tolist()):
        for name, layer in index.layers.items():
            for cols in (layer.cols.numpy(),):
                mine = next((i for i in ids if (cols == i).any()), None)
                if mine is not None:
                    return kept[name][:, cols == mine].reshape(len(kept[name]), -1) if name in kept else None
    return None


def check_against_replica(model: Model, data: Dataset, found: Scan, x: Tensor, ids: np.ndarray, y: np.ndarray) -> int:
    """Compare all tables; return how many neurons were compared."""
    kept = received(model, x)
    compared = 0
    for neuron in range(model.index.n):
        maps = maps_of(model, neuron, kept)
        if maps is None:
            continue
        compared += 1
        a = maps.mean(1)
        for c in range(len(found.classes)):
            own = a[y == c]
            expected = (own.mean(), own.var(), np.abs(own).mean(), (maps[y == c] > 0).mean())
            actual = [float(table[neuron, c]) for table in (found.mean, found.var, found.absolute, found.active)]
            np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=1e-6)
        values = np.asarray(found.top_value[neuron])
        best = sorted(range(len(a)), key=lambda i: (-a[i], ids[i]))[:9]
        np.testing.assert_allclose(values, a[best], rtol=1e-5, atol=1e-6)
        own_values = [a[list(ids).index(i)] for i in found.top_sample[neuron].tolist()]
        np.testing.assert_allclose(values, own_values, rtol=1e-5, atol=1e-6)
        for sample, position in zip(found.top_sample[neuron], found.top_position[neuron], strict=True):
            row = maps[list(ids).index(int(sample))]
            assert int(position) == (-1 if len(row) == 1 else int(row.argmax()))
    for name, layer_input in kept.items():
        np.testing.assert_allclose(found.means[name], layer_input.mean((0, 2)), rtol=1e-5, atol=1e-6)
    return compared


def everything(model: Model, data: Dataset, role: str = "train") -> tuple[Tensor, np.ndarray]:
    ids = data.ids(role)
    return torch.cat([x for x, _, _ in data.batches(ids, model.input)]), ids


@pytest.mark.parametrize("network", [Residual, Flatten, Depthwise, Concat, Shuffled])
@pytest.mark.parametrize("batch", [7, 256])
def test_equals_the_replica_on_convolutions(network: type[nn.Module], batch: int, pico_images: Dataset) -> None:
    model = pico_model(network())
    x, ids = everything(model, pico_images)
    found = scan(model, pico_images, Context(), batch=batch)
    y = pico_images.labels(ids)
    assert found.count.tolist() == np.bincount(y).tolist()
    assert found.samples == len(ids)
    compared = check_against_replica(model, pico_images, found, x, ids, y)
    assert compared == int((~model.index.logits).sum())


def test_equals_the_replica_on_a_table(pico_table: Dataset) -> None:
    model = mlp()
    x, ids = everything(model, pico_table)
    found = scan(model, pico_table, Context(), batch=16)
    assert check_against_replica(model, pico_table, found, x, ids, pico_table.labels(ids)) == 14
    assert bool((found.top_position == -1).all())


def test_a_residual_group_is_seen_where_it_is_first_read(pico_images: Dataset) -> None:
    model = pico_model(Residual())
    found = scan(model, pico_images, Context())
    stem, two = model.index.layers["stem"].rows, model.index.layers["two"].rows
    assert torch.equal(model.index.group[stem], model.index.group[two])
    x, _ = everything(model, pico_images)
    kept = received(model, x)
    np.testing.assert_allclose(found.mean[stem[0]] @ found.count / found.samples, kept["one"][:, 0].mean(), rtol=1e-4)
    np.testing.assert_allclose(found.mean[two[0]] @ found.count / found.samples, kept["head"][:, 0].mean(), rtol=1e-4)


def test_logits_are_seen_nowhere(pico_images: Dataset) -> None:
    model = pico_model()
    found = scan(model, pico_images, Context())
    logits = model.index.logits
    assert bool((found.mean[logits] == 0).all())
    assert bool((found.top_sample[logits] == -1).all())


def test_bare_weights_and_layers_used_twice(pico_images: Dataset) -> None:
    model = pico_model(Functional())
    found = scan(model, pico_images, Context())
    x, _ = everything(model, pico_images)
    module = model.module
    with torch.no_grad():
        mid = torch.sigmoid(module.conv(x)) * module.scale
        joined = torch.cat([mid.mean((2, 3)), module.up(mid).amax((2, 3))], 1)
        hidden = torch.tanh(nn.functional.linear(joined, module.weight))
        once = torch.relu(module.head(hidden) @ module.again.weight.t() + module.again.bias)
    assert torch.allclose(found.means["weight"], joined.mean(0), atol=1e-5)
    both = (module.head(hidden).mean(0) + once.mean(0)) / 2
    assert torch.allclose(found.means["again"], both, atol=1e-5), "a reused layer's mean is over all its reads"
    rows = model.index.layers["up"].rows
    assert torch.allclose(found.top_value[rows[0]][0], joined[:, 6].max(), atol=1e-5)


def test_variance_survives_a_large_mean(tmp_path: Path) -> None:
    """Mean 10,000, spread 5: sums of squares in float32 would lose it, and a class far away must not hurt."""
    generator = np.random.default_rng(0)
    y = np.arange(400) % 2
    x = (10_000 * (1 + y) + generator.normal(0, 5.0, 400))[:, None].repeat(4, 1).astype(np.float32)
    data = from_arrays(tmp_path / "d", x, y, classes=("near", "far"), name="large", task="classification")
    model = mlp((4, 4, 2))
    first = model.module.get_submodule(next(iter(model.index.layers)))
    with torch.no_grad():
        first.weight.copy_(torch.eye(4))
        first.bias.zero_()
    found = scan(model, data, Context(), batch=32)
    ids = data.ids("train")
    kept, labels = data.raw(ids).astype(np.float64), data.labels(ids)
    for c in range(2):
        np.testing.assert_allclose(found.var[0, c], kept[labels == c, 0].var(), rtol=1e-4)


def test_ties_go_to_the_lower_id(tmp_path: Path) -> None:
    x = np.zeros((60, 4), dtype=np.float32)
    x[:, 0] = np.arange(60) % 2
    x[:, 3] = np.arange(60)  # every row its own content, or they would all get one role
    data = from_arrays(
        tmp_path / "d", x, np.arange(60) % 3, classes=("a", "b", "c"), name="ties", task="classification"
    )
    model = mlp((4, 3, 3))
    first = model.module.get_submodule(next(iter(model.index.layers)))
    with torch.no_grad():
        first.weight.zero_()
        first.weight[0, 0] = 1.0
        first.bias.zero_()
    ids = data.ids("train")
    odd = [int(i) for i in ids if i % 2][:9]
    for batch in (4, 11, 256):
        found = scan(model, data, Context(), batch=batch)
        assert found.top_sample[0].tolist() == odd
        assert found.top_sample[1].tolist() == ids[:9].tolist(), "all equal: the first nine"


def test_fewer_than_nine_samples(pico_images: Dataset) -> None:
    found = scan(pico_model(), pico_images, Context(), limit=4)
    assert found.samples == 4
    assert bool((found.top_sample[0, :4] >= 0).all())
    assert found.top_sample[0, 4:].tolist() == [-1] * 5
    assert found.top_value[0, 4:].tolist() == [0.0] * 5


def test_limit_takes_all_classes_evenly(pico_images: Dataset) -> None:
    found = scan(pico_model(), pico_images, Context(), limit=15)
    assert found.count.tolist() == [5, 5, 5]


def test_regression_has_quintiles(pico_targets: Dataset) -> None:
    model = replace(mlp((4, 6, 1)), task="regression", classes=("sum",))
    found = scan(model, pico_targets, Context())
    ids = pico_targets.ids("train")
    assert found.classes == QUINTILES
    assert found.count.sum() == len(ids)
    assert found.count.min() >= len(ids) // 5 - 1
    x, _ = everything(model, pico_targets)
    y = pico_targets.labels(ids)
    hidden = received(model, x)[list(model.index.layers)[1]][:, 0, 0]
    lowest = y <= np.quantile(y, 0.2)
    np.testing.assert_allclose(found.mean[0, 0], hidden[lowest].mean(), rtol=0.05)


def test_unlabelled_is_one_class(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    data = from_arrays(tmp_path / "d", x, None, classes=(), name="plain", task="unlabelled")
    found = scan(mlp(), data, Context())
    assert found.classes == ("all",)
    assert found.samples == len(data.ids("unlabelled"))
    assert found.inputs["role"] == "unlabelled"


def test_the_module_is_left_as_it_was(pico_images: Dataset) -> None:
    model = pico_model()
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    scan(model, pico_images, Context())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.module.state_dict().items())
    assert not any(part._forward_pre_hooks for part in model.module.modules())


def test_hooks_are_gone_after_cancel(pico_images: Dataset) -> None:
    model = pico_model()
    events: list[dict[str, object]] = []

    def asked() -> bool:
        return len(events) >= 2

    with pytest.raises(Cancelled, match="scanning"):
        scan(model, pico_images, Context(report=lambda e: events.append(dict(e)), cancelled=asked), batch=4)
    assert not any(part._forward_pre_hooks for part in model.module.modules())
    assert events[0] == {"stage": "scanning", "done": 0, "total": 11, "seconds": 0.0}


def test_saved_and_loaded(tmp_path: Path, pico_images: Dataset) -> None:
    found = scan(pico_model(), pico_images, Context(seed=3), limit=20)
    found.save(tmp_path)
    again = Scan.load(tmp_path)
    for name in ("count", "mean", "var", "absolute", "active", "top_value", "top_sample", "top_position"):
        assert torch.equal(getattr(found, name), getattr(again, name)), name
    assert found.means.keys() == again.means.keys()
    assert all(torch.equal(found.means[k], again.means[k]) for k in found.means)
    assert (again.classes, again.digest, again.inputs) == (found.classes, found.digest, found.inputs)
    assert json.loads((tmp_path / "scan.json").read_text())["inputs"]["limit"] == 20


def test_the_digest_follows_model_data_and_parameters(pico_images: Dataset) -> None:
    one = scan(pico_model(), pico_images, Context())
    assert one.digest == scan(pico_model(), pico_images, Context(), batch=5).digest
    assert one.inputs["data"] == pico_images.digest
    assert one.digest != scan(pico_model(seed=1), pico_images, Context()).digest
    assert one.digest != scan(pico_model(), pico_images, Context(), role="val").digest
    assert one.digest != scan(pico_model(), pico_images, Context(), limit=10).digest


def test_refuses_what_it_cannot_scan(pico_images: Dataset) -> None:
    model = pico_model()
    with pytest.raises(ModelError, match=r"not numbered: too odd.*only be inspected"):
        scan(replace(model, index=None, support=Support("inspect", "too odd")), pico_images, Context())
    with pytest.raises(DataError, match="no samples in the role 'new'"):
        scan(model, pico_images, Context(), role="new")


def test_means_are_those_that_surgery_leaves_behind(pico_images: Dataset) -> None:
    """The scan's means and the ones an operation averages for itself are the same numbers."""
    for network in (Residual, Concat, Functional):
        model = pico_model(network())
        found = scan(model, pico_images, Context(), batch=9).means
        other = means_of(model, pico_images, Context())
        assert found.keys() == other.keys()
        assert all(torch.allclose(found[name], other[name], atol=1e-6) for name in found), network
