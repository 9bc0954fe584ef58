"""Replayed outputs against full gated ones, with every layer as the cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from surgery.analysis.replay import record, touched
from surgery.network.index import Layer, NeuronIndex
from surgery.network.model import Architecture, InputSpec, Model, Support
from surgery.network.readers import Readers
from surgery.network.trace import trace


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.conv3 = nn.Conv2d(6, 6, 3, padding=1)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).relu()
        x = (x + self.conv2(x)).relu()
        return self.fc((x + self.conv3(x)).relu().mean((2, 3)))


class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 1)
        self.c = nn.Conv2d(8, 4, 1)
        self.fc = nn.Linear(15, 4)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x).relu()
        b = self.b(a).relu()
        c = self.c(torch.cat([a, b], 1)).relu()
        return self.fc(torch.cat([a.mean((2, 3)), b.amax((2, 3)), c.mean((2, 3)), x.mean((2, 3))], 1))


class InPlace(nn.Module):
    """Writes in place before and after each cut, also into tensors of the frontier and into views."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.side = nn.Conv2d(6, 6, 1)
        self.fc1 = nn.Linear(6 * 16, 8)
        self.fc2 = nn.Linear(8, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv1(x)), inplace=True)
        out = self.conv2(x)
        out += self.side(x)  # out is on the frontier of `side` and is written after it
        out.relu_()
        out[:, 0] = out[:, 0] * 2
        flat = torch.flatten(out, 1)
        assert flat.shape[1] == 96 and flat.dim() == 2
        hidden = self.drop(self.fc1(flat))
        hidden = hidden.clamp_(-1, 1)
        return self.fc2(F.dropout(hidden, 0.5, self.training))


class Reused(nn.Module):
    """Reads one layer in a loop, unpacks tuples and named tuples."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.again = nn.Linear(8, 8)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        for _ in range(3):
            x = self.again(x).relu()
        left, right = x.chunk(2, 1)
        top = torch.cat([left, right], 1).sort(1)
        return self.last(top.values + top.indices)


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, (3, 4, 4)),
    "concat": (Concat, (3, 4, 4)),
    "in place": (InPlace, (3, 4, 4)),
    "reused": (Reused, (6,)),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=10), (3, 32, 32)),
}


def wrap(module: nn.Module, shape: tuple[int, ...]) -> Model:
    module.eval()
    index, support = trace(module, torch.randn(2, *shape), verify=False)
    flat = InputSpec("image", shape, (0.0,), (1.0,))
    return Model(module, Architecture("test"), flat, "classification", ("a", "b", "c", "d"), index, support)


def build(name: str) -> tuple[Model, list[Tensor]]:
    torch.manual_seed(0)
    make, shape = NETS[name]
    return wrap(make(), shape), [torch.randn(5, *shape), torch.randn(5, *shape), torch.randn(1, *shape)]


@contextmanager
def noise(model: Model, layer: str) -> Iterator[None]:
    """Scale and shift what `layer` reads by fixed random numbers per channel."""

    def before(name: str, x: Tensor, axis: int) -> Tensor:
        if name != layer:
            return x
        shape = [x.shape[axis] if a == axis else 1 for a in range(x.dim())]
        value, shift = torch.rand(2, x.shape[axis], generator=torch.Generator().manual_seed(3))
        return x * value.view(shape) + shift.view(shape)

    with Readers(model.module, before):
        yield


@torch.no_grad()
def full(model: Model, batches: list[Tensor]) -> Tensor:
    return torch.cat([model(x) for x in batches])


@pytest.mark.parametrize("name", NETS)
def test_every_layer_as_cut_gives_the_full_gated_outputs(name: str) -> None:
    model, batches = build(name)
    recording = record(model, batches)
    assert torch.equal(recording.outputs, full(model, batches))
    for layer in model.index.layers:
        with noise(model, layer):
            expected = full(model, batches)
            rerun = recording.rerun([layer])
        assert recording.cut([layer]) == recording.tape.readers[layer]
        assert torch.equal(rerun.outputs, expected)
        assert not torch.equal(expected, recording.outputs)
    assert rerun.skipped > 0.4  # the last layer


@pytest.mark.parametrize("name", NETS)
def test_a_recording_is_not_worn_by_use(name: str) -> None:
    model, batches = build(name)
    recording = record(model, batches)
    for layer in model.index.layers:
        assert torch.equal(recording.rerun([layer]).outputs, recording.outputs)
        assert torch.equal(recording.rerun([layer]).outputs, recording.outputs)


def test_calls_before_the_cut_are_not_made() -> None:
    model, batches = build("resnet18")
    recording = record(model, batches)
    made = []

    def note(name: str, x: Tensor, axis: int) -> Tensor:
        made.append((name, len(x)))
        return x

    with Readers(model.module, note):
        recording.rerun(["layer4.1.conv2"])
    assert {name for name, samples in made if samples == 5} == {"layer4.1.conv2", "fc"}
    assert {samples for name, samples in made if name == "conv1"} == {2}  # the proof


def test_several_layers_start_at_the_first_and_none_needs_no_pass() -> None:
    model, batches = build("residual")
    recording = record(model, batches)
    assert recording.cut(["fc", "conv2"]) == recording.tape.readers["conv2"]
    assert recording.cut(["unknown"]) == 0
    with noise(model, "fc"):
        assert recording.rerun([]).outputs is recording.outputs


def test_touched_layers_are_those_that_read_a_gone_neuron() -> None:
    model, _ = build("residual")
    gone = torch.zeros(model.index.n, dtype=torch.bool)
    gone[model.index.layers["conv3"].rows[1]] = True
    assert touched(model.index, gone) == ["fc"]
    assert touched(model.index, ~model.index.close(~gone)) == ["conv2", "conv3", "fc"]


def test_a_memory_cap_keeps_late_cuts_and_earlier_selections_start_before() -> None:
    model, batches = build("resnet18")
    everything = record(model, batches)
    cap = everything.bytes // 8
    recording = record(model, batches, memory=cap)
    assert 0 < recording.bytes <= cap
    assert set(recording.cuts) < set(everything.cuts)
    assert recording.cuts[-1] == everything.cuts[-1]
    for layer in ("conv1", "layer2.0.conv1", "layer4.1.conv2"):
        with noise(model, layer):
            assert torch.equal(recording.rerun([layer]).outputs, full(model, batches))


def test_without_memory_every_pass_is_full() -> None:
    model, batches = build("residual")
    recording = record(model, batches, memory=0)
    assert recording.cuts == () and recording.bytes == 0
    with noise(model, "fc"):
        rerun = recording.rerun(["fc"])
        assert torch.equal(rerun.outputs, full(model, batches))
    assert rerun.skipped == 0


class Branching(nn.Module):
    """Which way it goes, and which early tensor it reads, depends on late values."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        early = [self.first(x), self.first(x) * 3]
        y = self.second(early[0].relu())
        if self.how == "branch":
            return self.last(y) if y.mean() < 100 else self.last(y * 2)
        return self.last(y + early[int(y.mean() > 100)])


@pytest.mark.parametrize("how", ["branch", "pick"])
def test_another_way_through_the_model_falls_back_to_a_full_pass(how: str) -> None:
    torch.manual_seed(0)
    model = wrap(Branching(how), (6,))
    batches = [torch.randn(4, 6)]

    def before(name: str, x: Tensor, axis: int) -> Tensor:
        return x.abs() * 1e5 if name == "second" else x

    model.module.second.weight.data.abs_()
    recording = record(model, batches)
    with Readers(model.module, before):
        rerun = recording.rerun(["second"])
        assert torch.equal(rerun.outputs, full(model, batches))
    assert rerun.skipped == 0
    assert recording.rerun(["second"]).skipped > 0


class Hidden(nn.Module):
    """Early on, something that torch functions do not show; afterwards layers."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.how == "random":
            x = self.second(x)
            return self.last(x) + torch.rand(1)
        if self.how == "iterate":
            a, b, *rest = x.T
            x = self.second(torch.stack([b, a, *rest], 1))
        if self.how == "list":
            x = self.second(torch.tensor(x.tolist()) * len(x) / x.shape[0])
        if self.how == "foreign":  # a step that no function mode sees
            with torch._C.DisableTorchFunction():
                y = x * 2
            x = self.second(y)
        if self.how == "numpy":
            x = self.second(torch.from_numpy(x.detach().numpy() * 2))
        return self.last(x)


def numbered(module: nn.Module, shape: tuple[int, ...]) -> Model:
    """With an index by hand, of layers only, for networks that `trace` refuses."""
    module.eval()
    names = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    none = torch.zeros(0, dtype=torch.long)
    layers = {name: Layer(name, none, none) for name in names}
    index = NeuronIndex(layers, {}, none, none.bool(), {})
    spec = InputSpec("table", shape, (0.0,), (1.0,))
    return Model(module, Architecture("test"), spec, "classification", ("a",), index, Support("gate"))


@pytest.mark.parametrize("how", ["iterate", "list", "numpy", "foreign"])
def test_hidden_steps_are_never_skipped_wrongly(how: str) -> None:
    torch.manual_seed(0)
    model = numbered(Hidden(how), (6,))
    batches = [torch.randn(4, 6), torch.randn(4, 6)]
    recording = record(model, batches)
    for layer in model.index.layers:
        with noise(model, layer):
            rerun = recording.rerun([layer])
            assert torch.equal(rerun.outputs, full(model, batches))
    if how in ("iterate", "list"):
        assert rerun.skipped > 0.3


def test_a_random_model_is_run_in_full() -> None:
    torch.manual_seed(0)
    model = numbered(Hidden("random"), (6,))
    assert record(model, [torch.randn(4, 6)]).rerun(["last"]).skipped == 0


class PerSample(nn.Module):
    """The number of calls depends on the number of samples."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.stack([self.first(x[i]) for i in range(len(x))])
        return self.last(rows)


def test_a_batch_that_runs_another_sequence_turns_replaying_off() -> None:
    model = wrap(PerSample(), (6,))
    batches = [torch.randn(4, 6), torch.randn(3, 6)]
    recording = record(model, batches)
    assert recording.cuts == ()
    assert torch.equal(recording.outputs, full(model, batches))
    with noise(model, "last"):
        assert torch.equal(recording.rerun(["last"]).outputs, full(model, batches))


def test_progress_is_reported_and_cancel_stops_it() -> None:
    from surgery.context import Context
    from surgery.errors import Cancelled

    model, batches = build("residual")
    events = []
    record(model, batches, Context(report=events.append, every=0))
    assert [event["done"] for event in events] == [0, 1, 2, 3, 3]
    with pytest.raises(Cancelled, match="warming up"):
        record(model, batches, Context(cancelled=lambda: True))
