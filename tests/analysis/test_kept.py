"""The memory rule: what is kept of many classes is what complete tables hold, and what it cannot give is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from surgery.analysis import kept
from surgery.analysis.criticality import criticality
from surgery.analysis.kept import StrongestClasses, applies, offsets, reduced
from surgery.analysis.neurons import neurons, save
from surgery.analysis.projection import features, pca, project
from surgery.analysis.scan import Scan, scan
from surgery.context import Context
from surgery.data.arrays import from_arrays
from surgery.data.dataset import Dataset
from surgery.errors import DataError, ModelError
from surgery.network.architectures import build
from surgery.network.model import Architecture, InputSpec, Model
from surgery.network.trace import trace

CLASSES = tuple(f"c{number}" for number in range(41))
FEATURES = 6


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule takes hold of small tables: 4 classes of more than 100 cells."""
    monkeypatch.setattr(kept, "CELLS", 100)
    monkeypatch.setattr(kept, "KEPT", 4)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    architecture = Architecture("mlp", {"sizes": [FEATURES, 9, 120, len(CLASSES)]})
    module = build(architecture).eval()
    index, support = trace(module, torch.zeros(1, FEATURES), verify=False)
    spec = InputSpec("table", (FEATURES,), (0.0,) * FEATURES, (1.0,) * FEATURES)
    return Model(module, architecture, spec, "classification", CLASSES, index, support)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Classes of 0, 1 and many samples, mixed; no two samples alike."""
    generator = np.random.default_rng(0)
    labels = np.concatenate([np.zeros(1, dtype=int), generator.integers(1, len(CLASSES) - 1, 900)])
    x = (generator.normal(size=(len(CLASSES), FEATURES))[labels] + generator.normal(size=(901, FEATURES))) * 2
    names = tuple(f"f{number}" for number in range(FEATURES))
    folder = tmp_path_factory.mktemp("many")
    return from_arrays(
        folder, x.astype(np.float32), labels, classes=CLASSES, name="many", task="classification", features=names
    )


@pytest.mark.usefixtures("few")
def test_what_is_kept_is_what_complete_tables_hold(
    model: Model, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = scan(model, data, Context(), batch=64)
    monkeypatch.undo()
    whole = scan(model, data, Context(), batch=64)
    assert found.kept is not None
    assert whole.kept is None
    assert found.mean.shape == (len(whole.mean), 4)
    hidden = ~logits(model)
    shown = torch.where((whole.count > 0) & hidden[:, None], whole.mean, -torch.inf)
    best, classes = shown.sort(stable=True, dim=1, descending=True)
    torch.testing.assert_close(found.mean[hidden], best[hidden, :4], rtol=1e-5, atol=1e-6)
    apart = (best[:, :5].diff(dim=1).abs() > 1e-5).all(1) & hidden  # of equal means either may be named
    assert apart.sum() > 50
    assert torch.equal(found.kept.classes[apart], classes[apart, :4])
    rows, columns = torch.arange(len(whole.mean))[:, None], found.kept.classes.clamp(min=0)
    for name in ("var", "absolute", "active"):
        expected = getattr(whole, name)[rows, columns][hidden]
        torch.testing.assert_close(getattr(found, name)[hidden], expected, rtol=1e-4, atol=1e-6)
    assert found.kept.classes[~hidden].eq(-1).all()
    assert torch.equal(found.count, whole.count)
    torch.testing.assert_close(found.overall.stacked(), whole.overall.stacked(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.top_value, whole.top_value)
    for name, means in whole.means.items():
        torch.testing.assert_close(found.means[name], means, rtol=1e-5, atol=1e-6)


def logits(model: Model) -> torch.Tensor:
    assert model.index is not None
    return model.index.logits


@pytest.mark.usefixtures("few")
def test_kept_responses_belong_to_their_samples(model: Model, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    found = scan(model, data, Context(), batch=50).responses
    monkeypatch.undo()
    whole = scan(model, data, Context(), batch=50).responses
    assert found is not None
    assert whole is not None
    assert (found.samples.diff() > 0).all()
    both = sorted(set(found.samples.tolist()) & set(whole.samples.tolist()))
    assert len(both) > 100
    one, other = (torch.searchsorted(part.samples, torch.tensor(both)) for part in (found, whole))
    torch.testing.assert_close(found.values[:, one], whole.values[:, other])
    assert torch.equal(found.groups[one], whole.groups[other])


@pytest.mark.usefixtures("few")
def test_the_table_of_neurons_says_the_same(
    model: Model, data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = scan(model, data, Context())
    save(model, found, tmp_path)
    monkeypatch.setattr("surgery.analysis.projection.umap", lambda rows, seed: pca(rows))  # compiles for half a minute
    project(tmp_path)
    assert Scan.load(tmp_path).kept is not None
    table = neurons(model, Scan.load(tmp_path))
    monkeypatch.undo()
    whole = neurons(model, replace(scan(model, data, Context())))
    for name in ("mean", "active", "selectivity"):
        np.testing.assert_allclose(table[name], whole[name], rtol=1e-4, atol=1e-6)
    assert (table["top_class"] == whole["top_class"]).all()
    assert (table["sentence"] == whole["sentence"]).mean() > 0.95
    assert set(table.loc[table["logit"], "cluster"]) == {""}
    assert len(set(table.loc[table["point"], "cluster"])) > 2


@pytest.mark.usefixtures("few")
def test_scores_of_so_many_classes_are_refused(model: Model, data: Dataset) -> None:
    with pytest.raises(DataError, match="170 neurons × 41 classes are more scores than fit") as refused:
        criticality(model, data, scan(model, data, Context()), Context())
    assert "fewer classes" in refused.value.fix


@pytest.mark.usefixtures("few")
def test_a_weight_that_is_no_number_is_found_here_too(model: Model, data: Dataset) -> None:
    spoiled = replace(model, module=build(model.architecture).eval())
    with torch.no_grad():
        next(spoiled.module.parameters())[0, 0] = torch.nan
    with pytest.raises(ModelError, match="NaN or infinite"):
        scan(spoiled, data, Context())


def test_the_rule_counts_cells_and_spares_few_classes() -> None:
    assert not applies(5_000, 10_000)
    assert applies(5_001, 10_000)
    assert not applies(50_000_000, 32)


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_a_class_may_end_anywhere_in_a_batch(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "KEPT", 3)
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(100, 5, generator=generator)
    values[:, 4] = 0.5  # equal on all classes
    labels = torch.randint(0, 9, (100,), generator=generator).sort().values
    moments = StrongestClasses(10, 5)
    for start in range(0, 100, batch):
        part = slice(start, start + batch)
        moments.add(values[part], values[part] / 2, labels[part])
    classes, overall, (mean, var, absolute, active) = moments.result()
    for neuron in range(4):
        means = [float(values[labels == c, neuron].double().mean()) for c in range(9)]
        order = np.argsort(means)[::-1][:3]
        assert classes[neuron].tolist() == order.tolist()
        own = [values[labels == c, neuron].double() for c in order]
        for table, expected in ((mean, torch.mean), (var, lambda x: x.var(correction=0)), (absolute, torch.mean)):
            np.testing.assert_allclose(table[neuron], [float(expected(part)) for part in own], rtol=1e-5)
        np.testing.assert_allclose(active[neuron], mean[neuron] / 2, rtol=1e-5)
        assert overall.balanced[neuron] == pytest.approx(np.mean(means))
    assert classes[4].tolist() == [0, 1, 2]
    assert overall.mean.tolist() == pytest.approx(values.double().mean(0).tolist())
    assert overall.var.tolist() == pytest.approx(values.double().var(0, correction=0).tolist(), abs=1e-12)


@pytest.mark.usefixtures("few")
def test_places_on_the_map_keep_distances(model: Model, data: Dataset) -> None:
    found = scan(model, data, Context())
    assert found.kept is not None
    rows = offsets(found)
    dense, thin = rows.toarray(), reduced(rows)
    apart = [np.linalg.norm(table[:60, None] - table[None, :60], axis=2) for table in (dense, thin)]
    np.testing.assert_allclose(apart[0], apart[1], atol=0.05 * apart[0].max())
    assert np.isfinite(features(found)).all()
    alike = replace(found, mean=found.kept.overall.balanced[:, None].expand(-1, 4))
    assert reduced(offsets(alike)).any() == np.False_
