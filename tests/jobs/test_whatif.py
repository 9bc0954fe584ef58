"""What-ifs and previews against literal computations and against what the operation then does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.evaluate import means_of, predict
from surgery.edit.gate import gate
from surgery.errors import DataError, JobError, PlanError, SelectionError
from surgery.jobs.whatif import WhatIf
from surgery.measure.interval import paired
from surgery.network.architectures import build
from surgery.network.cost import bytes_of, macs, parameters
from surgery.network.model import Architecture, InputSpec, Model, Support
from surgery.network.trace import trace
from surgery.operations.prune import Prune
from surgery.operations.slim_mlp import SlimMlp
from surgery.workspace import Workspace

Opened = Callable[[Model, Dataset], WhatIf]


def sample_model(data: Dataset) -> Model:
    """A small network with a residual add for images, an MLP for tables, random weights."""
    torch.manual_seed(0)
    images, outputs = data.kind == "images", len(data.classes)
    cnn = Architecture("sample/digits_cnn", {"widths": [4, 6, 5], "classes": outputs})
    architecture = cnn if images else Architecture("mlp", {"sizes": [4, 8, 6, outputs]})
    module = build(architecture).eval()
    mean, std = data.statistics()
    spec = InputSpec("image" if images else "table", data.shape, mean, std)
    index, support = trace(module, torch.randn(2, *data.shape))
    task = "regression" if data.task == "regression" else "classification"
    return Model(module, architecture, spec, task, data.classes, index, support)


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """Commit a model and a copy of a dataset to a workspace, and open the what-if of them."""

    def commit(model: Model, data: Dataset) -> WhatIf:
        ws = Workspace(tmp_path / "home")
        project = ws.create_project("Pico")

        def copied(folder: Path) -> Dataset:
            shutil.copytree(data.folder, folder, dirs_exist_ok=True)
            return Dataset.open(folder)

        dataset = ws.add_dataset(project.id, data.name, copied)
        version = ws.commit(project.id, model, name="Original")
        return WhatIf.open(ws, version.id, dataset.id)

    return commit


def rows(answer: dict, metric: str, part: str = "rows") -> dict[str, tuple[float, float]]:
    return {row["scope"]: (row["before"], row["after"]) for row in answer[part] if row["metric"] == metric}


@torch.no_grad()
@pytest.mark.parametrize("fill", ["mean", "zero"])
def test_whatif_is_the_gated_model_on_the_probe_set(pico_images: Dataset, opened: Opened, fill: str) -> None:
    model = sample_model(pico_images)
    ids, labels = pico_images.probe_ids(), pico_images.labels(pico_images.probe_ids())
    remove = model.index.layers["top.conv"].rows[:3].tolist() + model.index.layers["stem.conv"].rows[:2].tolist()
    value = torch.ones(model.index.n)
    value[remove] = 0
    means = means_of(model, pico_images.without_test(), Context()) if fill == "mean" else None
    before = predict(model, pico_images, ids, Context()).argmax(1).numpy()
    with gate(model.module, model.index, value, means):
        after = predict(model, pico_images, ids, Context()).argmax(1).numpy()

    answer = opened(model, pico_images).answer({"what": "whatif", "remove": remove, "fill": fill})

    assert (answer["asked"], answer["removed"], answer["stay"]) == (5, 5, 0)
    accuracy = rows(answer, "accuracy")
    assert accuracy["overall"] == pytest.approx((np.mean(before == labels), np.mean(after == labels)))
    for number, name in enumerate(pico_images.classes):
        own = labels == number
        assert accuracy[name] == pytest.approx((np.mean(before[own] == number), np.mean(after[own] == number)))
    assert rows(answer, "agreement")["overall"] == pytest.approx((1, np.mean(before == after)))
    lost = [int(i) for i, y, a, b in zip(ids, labels, before, after, strict=True) if a == y != b]
    assert [flip["sample"] for flip in answer["flips"]["lost"]] == lost
    assert answer["flips"]["lost_count"] == len(lost)
    assert {"layer": "top.conv", "before": 5, "after": 2} in answer["layers"]
    assert (answer["split"], answer["n"]) == ("val", len(ids))


def test_whatif_takes_coupled_neurons_along_and_leaves_fixed_ones(pico_images: Dataset, opened: Opened) -> None:
    model = sample_model(pico_images)
    layers = model.index.layers
    answer = opened(model, pico_images).whatif([int(layers["block.second.conv"].rows[0]), int(layers["head"].rows[0])])
    assert (answer["asked"], answer["removed"], answer["stay"]) == (2, 2, 1)
    assert [row["layer"] for row in answer["layers"]] == ["down.conv", "block.second.conv"]
    assert answer["reasons"] == ["stays: model output"]
    assert answer["from_cut"] > 0


def test_whatif_of_neurons_that_no_gate_can_follow_is_refused_and_never_zero(
    pico_images: Dataset, opened: Opened
) -> None:
    model = sample_model(pico_images)
    index = model.index
    assert index is not None
    row = int(index.layers["down.conv"].rows[0])
    group = int(index.group[row])
    lost = {group: "argmax runs across neurons"}
    fixed = index.fixed | (index.group == group)
    index = replace(index, fixed=fixed, why_fixed={**index.why_fixed, **lost}, unmeasured=lost)
    asked = opened(replace(model, index=index, support=Support("gate", "for the test")), pico_images)
    words = r"None of the 1 selected neurons can be ablated: not measurable: argmax runs across neurons\."
    with pytest.raises(SelectionError, match=words):
        asked.whatif([row])
    other = int(index.layers["stem.conv"].rows[0])
    answer = asked.whatif([row, other])
    assert answer["stay"] == 1
    assert answer["reasons"] == ["stays: not measurable: argmax runs across neurons"]


def test_whatif_of_nothing_changes_nothing(pico_images: Dataset, opened: Opened) -> None:
    answer = opened(sample_model(pico_images), pico_images).whatif([])
    assert all(row["change"] == 0 for row in answer["rows"])
    assert answer["from_cut"] == 1


def test_preview_is_what_the_operation_does(pico_images: Dataset, opened: Opened) -> None:
    model = sample_model(pico_images)
    remove = [0, *model.index.layers["block.second.conv"].rows[:2].tolist()]
    outcome = Prune(remove=remove).operate([model], pico_images.without_test(), Context())
    small = outcome.models[0]
    ids, labels = pico_images.probe_ids(), pico_images.labels(pico_images.probe_ids())

    answer = opened(model, pico_images).answer(
        {"what": "preview", "plan": {"operation": "prune", "parameters": {"remove": remove}}}
    )

    assert answer["removed"] == model.index.n - len(outcome.kept)
    assert (answer["asked"], answer["coupled"], answer["stay"]) == (3, 2, 0)
    assert any("down.conv" in reason for reason in answer["reasons"])
    layers = outcome.tables["layers"]
    changed = layers[layers["after"] < layers["before"]]
    assert answer["layers"] == changed.to_dict("records")
    for metric, measured in (("parameters", parameters), ("bytes", bytes_of), ("MACs", macs)):
        assert rows(answer, metric, "sizes")["overall"] == (measured(model), measured(small))
    after = predict(small, pico_images, ids, Context()).argmax(1).numpy()
    assert rows(answer, "accuracy")["overall"][1] == pytest.approx(np.mean(after == labels))
    assert answer["job_seconds"] > 5


def test_a_regression_has_r2_and_error(pico_targets: Dataset, opened: Opened) -> None:
    model = sample_model(pico_targets)
    ids = pico_targets.probe_ids()
    y = pico_targets.labels(ids).astype(float)
    outputs = predict(model, pico_targets, ids, Context())[:, 0].numpy().astype(float)
    answer = opened(model, pico_targets).whatif(model.index.layers["0"].rows[:4].tolist())
    mse = np.mean((outputs - y) ** 2)
    assert rows(answer, "mse")["overall"][0] == pytest.approx(mse)
    assert rows(answer, "r2")["overall"][0] == pytest.approx(1 - mse / y.var())
    assert rows(answer, "r2")["overall"][1] != rows(answer, "r2")["overall"][0]
    assert answer["flips"]["lost_count"] == 0


def test_the_scan_of_the_version_gives_the_means(pico_images: Dataset, opened: Opened) -> None:
    from surgery.analysis.scan import scan

    model = sample_model(pico_images)
    whatif = opened(model, pico_images)
    computed = whatif.means()
    found = scan(model, pico_images, Context())
    whatif.ws.add_scan(whatif.version, whatif.dataset, {"role": "train"}, found.save)
    assert computed.keys() == found.means.keys()
    for name, mean in whatif.means().items():
        assert torch.equal(mean, found.means[name])
        assert torch.allclose(mean, computed[name], atol=1e-5)


REFUSED = {
    "empty layer": ({"remove": "top.conv"}, SelectionError, "removes all 5 neurons of layer 'top.conv'"),
    "unknown id": ({"remove": [999]}, SelectionError, "Neuron 999 does not exist"),
    "nothing": ({"remove": []}, SelectionError, "No neuron is selected"),
    "unknown field": ({"remove": [0], "speed": 3}, PlanError, "speed: there is no such field"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_preview_is_refused_as_the_operation_refuses(name: str, pico_images: Dataset, opened: Opened) -> None:
    parameters_, error, words = REFUSED[name]
    model = sample_model(pico_images)
    if isinstance(parameters_["remove"], str):
        parameters_ = {"remove": model.index.layers[parameters_["remove"]].rows.tolist()}
    with pytest.raises(error, match=words):
        opened(model, pico_images).preview({"operation": "prune", "parameters": parameters_})


def test_wrong_questions_are_named(pico_images: Dataset, opened: Opened) -> None:
    whatif = opened(sample_model(pico_images), pico_images)
    with pytest.raises(SelectionError, match="no neuron 'x'"):
        whatif.answer({"what": "whatif", "remove": ["x"]})
    with pytest.raises(SelectionError, match="cannot leave 'half' behind"):
        whatif.answer({"what": "whatif", "remove": [0], "fill": "half"})
    with pytest.raises(JobError, match="cannot answer 'weather'"):
        whatif.answer({"what": "weather"})
    with pytest.raises(PlanError, match="no operation 'amputate'"):
        whatif.preview({"operation": "amputate"})


def test_data_of_test_samples_only_has_nothing_to_try_on(tmp_path: Path, pico_images: Dataset, opened: Opened) -> None:
    from surgery.data.load import from_arrays

    x, y = pico_images.raw(range(6)), pico_images.labels(range(6))
    only = from_arrays(
        tmp_path / "only", x, y, classes=pico_images.classes, name="only", task="classification", roles=["test"] * 6
    )
    with pytest.raises(DataError, match="no samples to try a what-if on"):
        opened(sample_model(pico_images), only)


def test_unlabelled_data_shows_agreement_only(tmp_path: Path, pico_images: Dataset, opened: Opened) -> None:
    from surgery.data.load import from_arrays

    bare = from_arrays(tmp_path / "bare", pico_images.raw(range(20)), None, classes=(), name="bare", task="unlabelled")
    answer = opened(sample_model(pico_images), bare).whatif([0], "zero")
    assert {row["metric"] for row in answer["rows"]} == {"agreement"}
    assert answer["split"] == "unlabelled"


def test_what_can_only_be_gated_has_a_whatif_but_no_preview(pico_images: Dataset, opened: Opened) -> None:
    whatif = opened(sample_model(pico_images), pico_images)
    whatif.model = replace(whatif.model, support=Support("gate", "a step in the way"))
    assert whatif.whatif([0])["removed"] == 1
    with pytest.raises(PlanError, match="cannot be shrunk: a step in the way"):
        whatif.preview({"operation": "prune", "parameters": {"remove": [0]}})


@torch.no_grad()
def test_keeping_only_some_silences_the_others_of_their_layers(pico_images: Dataset, opened: Opened) -> None:
    model = sample_model(pico_images)
    chosen = model.index.layers["top.conv"].rows[:2].tolist()
    others = model.index.layers["top.conv"].rows[2:].tolist()
    whatif = opened(model, pico_images)
    kept = whatif.answer({"what": "whatif", "remove": chosen, "how": "keep"})
    silenced = whatif.answer({"what": "whatif", "remove": others})
    assert (kept["how"], kept["asked"], kept["removed"]) == ("keep", 2, len(others))
    assert [layer["layer"] for layer in kept["layers"]] == ["top.conv"]
    assert kept["rows"] == silenced["rows"]


@torch.no_grad()
def test_scaling_is_the_gate_at_that_value_and_one_changes_nothing(pico_images: Dataset, opened: Opened) -> None:
    model = sample_model(pico_images)
    chosen = model.index.layers["stem.conv"].rows[:2].tolist()
    value = torch.ones(model.index.n)
    value[chosen] = 3.0
    with gate(model.module, model.index, value):
        after = predict(model, pico_images, pico_images.probe_ids(), Context()).argmax(1).numpy()
    whatif = opened(model, pico_images)
    answer = whatif.answer({"what": "whatif", "remove": chosen, "how": "scale", "factor": 3.0})
    truth = pico_images.labels(pico_images.probe_ids())
    assert rows(answer, "accuracy")["overall"][1] == pytest.approx(np.mean(after == truth))
    assert answer["layers"] == []
    same = whatif.answer({"what": "whatif", "remove": chosen, "how": "scale", "factor": 1.0})
    assert same["flips"]["lost_count"] == same["flips"]["won_count"] == 0
    assert rows(same, "agreement")["overall"] == (1.0, 1.0)


@pytest.mark.parametrize("factor", [-1.0, 11.0, float("nan"), "2", True, None])
def test_impossible_factors_are_refused(pico_images: Dataset, opened: Opened, factor: object) -> None:
    whatif = opened(sample_model(pico_images), pico_images)
    with pytest.raises(SelectionError, match="Choose a factor from 0 to 10"):
        whatif.answer({"what": "whatif", "remove": [0], "how": "scale", "factor": factor})
    with pytest.raises(SelectionError, match="Choose silence, keep or scale"):
        whatif.answer({"what": "whatif", "remove": [0], "how": "double"})


def test_the_change_of_quality_carries_its_interval(
    pico_images: Dataset, pico_targets: Dataset, opened: Opened
) -> None:
    answer = opened(sample_model(pico_images), pico_images).answer({"what": "whatif", "remove": [0, 1]})
    (row,) = (row for row in answer["rows"] if (row["metric"], row["scope"]) == ("accuracy", "overall"))
    flips = answer["flips"]
    assert (row["low"], row["high"]) == paired(flips["lost_count"], flips["won_count"], row["n"])
    assert row["low"] <= row["change"] <= row["high"]


def test_a_probe_tells_where_a_neuron_is_active_and_who_feeds_it(pico_images: Dataset, opened: Opened) -> None:
    model = sample_model(pico_images)
    whatif = opened(model, pico_images)
    ids = pico_images.ids("train")[[5, 2, 9]].tolist()
    answer = whatif.answer({"what": "regions", "neuron": 0, "samples": ids})
    assert sorted(one["sample"] for one in answer["regions"]) == sorted(ids)
    for one in answer["regions"]:
        assert np.shape(one["map"]) == pico_images.shape[1:], "read before any pooling"
        assert 0 <= np.min(one["map"]) <= np.max(one["map"]) <= 1
        assert one["box"] is None or all(0 <= at <= 1 for at in one["box"])
    assert max(np.max(one["map"]) for one in answer["regions"]) == 1.0
    told = whatif.answer({"what": "connections", "neuron": 0})
    assert [one["neuron"] for one in told["upstream"]] == [-1]
    assert told["downstream"]
    assert {one["layer"] for one in told["downstream"]} <= set(model.index.layers)
    with pytest.raises(SelectionError, match="There is no neuron 9999"):
        whatif.answer({"what": "regions", "neuron": 9999, "samples": ids})
    test = int(pico_images.ids("test")[0])
    with pytest.raises(DataError, match="is closed here"):
        whatif.answer({"what": "regions", "neuron": 0, "samples": [test]})


def test_slimming_is_sketched_as_a_curve(opened: Opened, pico_table: Dataset) -> None:
    probe = opened(sample_model(pico_table), pico_table)
    told = probe.answer({"what": "preview", "plan": {"operation": "slim_mlp", "parameters": {"steps": 3}}})
    assert [row["epsilon"] for row in told["slims"]] == [0.5, 0.9, 1.3]
    left = [row["left"] for row in told["slims"]]
    assert left == sorted(left, reverse=True)
    assert told["slims"][0]["units"] <= told["of"] == 14
    work = SlimMlp().on(probe.model, probe.data, Context(), samples=2_000)
    small = work.slim(0.9)[0]
    assert left[1] == pytest.approx(parameters(small) / parameters(probe.model))
    answers = predict(small, probe.data, probe.probes.ids, Context()).argmax(1)
    truth = torch.as_tensor(probe.data.labels(probe.probes.ids))
    assert told["slims"][1]["quality"] == pytest.approx(float((answers == truth).double().mean()))
    with pytest.raises(SelectionError, match="nothing would stay"):
        probe.answer({"what": "preview", "plan": {"operation": "slim_mlp", "parameters": {"epsilon": 9}}})


def test_few_bits_are_sketched_with_what_guards_them(opened: Opened, pico_images: Dataset) -> None:
    probe = opened(sample_model(pico_images), pico_images)
    plan = {"operation": "self_compress", "parameters": {"kilobytes": 6}}
    told = probe.answer({"what": "preview", "plan": plan})
    sizes = [row["bytes"] for row in told["squeezes"]]
    assert sizes == sorted(sizes, reverse=True)
    assert told["smallest"] < sizes[-1] < told["whole"]["bytes"]
    assert (told["goal"], told["cases"]) == (6000, False)
    cases = probe.data.ids("val")[:6].tolist()
    held = probe.answer({"what": "preview", "plan": {**plan, "preserve": {"ids": cases}}})
    assert (held["guarded"], held["cases"]) == (6, True)
    with pytest.raises(SelectionError, match="cannot be reached"):
        probe.answer({"what": "preview", "plan": {**plan, "parameters": {"kilobytes": 0.01}}})
