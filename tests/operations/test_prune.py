from dataclasses import replace

import pytest
import torch

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.evaluate import means_of, predict
from surgery.edit.gate import gate
from surgery.edit.tune import tune
from surgery.errors import DataError, SelectionError
from surgery.operations.base import Selection, digest_of
from surgery.operations.prune import Prune
from tests import pico


def test_a_coupled_selection_says_what_goes_along_and_why() -> None:
    index = pico.pico_model().index
    found = Prune(remove=[0, 2]).resolve(index)
    assert (found.asked, found.removed, found.stay) == (2, 4, 0)
    assert found.layers == ("stem", "two")
    assert found.reasons == ("two goes together with stem (2)",)


def test_fixed_neurons_stay_with_their_reason() -> None:
    index = pico.pico_model().index
    found = Prune(remove=[6, index.n - 1]).resolve(index)
    assert (found.asked, found.removed, found.stay) == (2, 1, 1)
    assert found.reasons == ("stays: model output",)


def test_a_selection_of_fixed_neurons_only_is_refused() -> None:
    index = pico.pico_model().index
    with pytest.raises(SelectionError, match="None of the 1 selected neurons can be removed: model output"):
        Prune(remove=[index.n - 1]).resolve(index)


def test_nothing_selected_and_unknown_ids_are_refused() -> None:
    index = pico.pico_model().index
    with pytest.raises(SelectionError, match="No neuron is selected"):
        Prune(remove=[]).resolve(index)
    with pytest.raises(SelectionError, match="Neuron 999 does not exist: this version has neurons 0 to 19"):
        Prune(remove=[999]).resolve(index)


def test_emptying_a_layer_is_refused_before_the_run() -> None:
    model = pico.pico_model()
    problems = Prune(remove=list(range(6, 11))).check([model])
    assert len(problems) == 1
    assert "all 5 neurons of layer 'one'" in problems[0]


def test_the_result_equals_the_preview(pico_images: Dataset) -> None:
    """What the gate predicts with the operation's own means is what the shrunk model answers."""
    model, ctx = pico.pico_model(), Context()
    operation = Prune(remove=[1, 6, 7])
    outcome = operation.operate([model], pico_images.without_test(), ctx)
    ids = pico_images.ids("val")
    keep = operation.resolve(model.index).keep
    with gate(model.module, model.index, keep.float(), means_of(model, pico_images, ctx)):
        predicted = predict(model, pico_images, ids, ctx)
    assert torch.allclose(predict(outcome.models[0], pico_images, ids, ctx), predicted, rtol=1e-4, atol=1e-5)
    assert outcome.kept.tolist() == keep.nonzero().flatten().tolist()
    layers = outcome.tables["layers"].set_index("layer")
    assert layers.loc["stem"].tolist() == [6, 5]


def test_means_are_those_of_the_training_samples(pico_images: Dataset) -> None:
    model, ctx = pico.pico_model(), Context()
    x, _, _ = next(iter(pico_images.batches(pico_images.ids("train"), model.input, size=1000)))
    with torch.no_grad():
        stream = torch.relu(model.module.norm(model.module.stem(x)))
    assert torch.allclose(means_of(model, pico_images, ctx)["one"], stream.mean((0, 2, 3)), atol=1e-5)


def test_tuning_lowers_the_loss_and_repeats_bit_for_bit(pico_images: Dataset) -> None:
    losses: list[float] = []

    def report(event: object) -> None:
        if isinstance(event, dict) and "point" in event:
            losses.append(event["point"]["loss"])

    model = pico.pico_model()
    operation = Prune(remove=[1, 6], epochs=6, rate=0.01)
    one = operation.operate([model], pico_images.without_test(), Context(seed=3, report=report)).models[0]
    two = operation.operate([model], pico_images.without_test(), Context(seed=3)).models[0]
    assert sum(losses[-3:]) < sum(losses[:3])
    for a, b in zip(one.module.state_dict().values(), two.module.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert not one.module.training


def test_tuning_reads_labels_by_the_name_of_the_class(pico_images: Dataset) -> None:
    """The same network with its outputs in another order learns the same."""
    model = pico.pico_model()
    order = [2, 0, 1]
    other = pico.pico_model()
    with torch.no_grad():
        other.module.head.weight.copy_(model.module.head.weight[order])
        other.module.head.bias.copy_(model.module.head.bias[order])
    other = replace(other, classes=tuple(model.classes[i] for i in order))
    one, two = (tune(m, pico_images, Context(), epochs=2, rate=0.01) for m in (model, other))
    assert torch.allclose(one.module.head.weight[order], two.module.head.weight, atol=1e-6)


def test_tuning_on_other_classes_is_refused(pico_images: Dataset) -> None:
    model = replace(pico.pico_model(), classes=("a", "b"))
    with pytest.raises(DataError, match=r"None of the 3 classes of the dataset \(bars, columns, square\)"):
        tune(model, pico_images, Context(), epochs=1, rate=0.01)


def test_a_selection_carries_its_digest() -> None:
    selection = Selection.model_validate([5, 3, 3])
    assert selection.ids == (3, 5)
    assert selection.digest == digest_of([3, 5])
    with pytest.raises(ValueError, match="the plan was changed by hand"):
        Selection(ids=(1, 2), digest=selection.digest)
