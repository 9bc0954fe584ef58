import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from surgery.errors import SelectionError
from surgery.network import certificate
from surgery.network.slicing import cut
from surgery.network.trace import trace
from tests import pico


def traced(module: nn.Module, *shape: int) -> object:
    index, support = trace(module.eval(), torch.zeros(1, *shape))
    assert support.level == "full", support.reason
    assert index is not None
    return index


def test_an_mlp_is_numbered_in_order_of_execution() -> None:
    index = traced(pico.mlp(), 4)
    assert list(index.layers) == ["0", "2", "4"]
    assert index.layers["0"].cols.tolist() == [-1] * 4
    assert index.layers["2"].cols.tolist() == index.layers["0"].rows.tolist() == list(range(8))
    assert index.layers["4"].rows.tolist() == [14, 15, 16]
    assert index.fixed.tolist() == [False] * 14 + [True] * 3
    assert index.logits.tolist() == index.fixed.tolist()
    assert index.group.tolist() == list(range(17))


def test_a_residual_add_couples_both_writers_and_keeps_an_id_per_stage() -> None:
    index = traced(pico.Residual(), 1, 8, 8)
    stem, two = index.layers["stem"].rows, index.layers["two"].rows
    assert torch.equal(index.group[stem], index.group[two])
    assert torch.equal(index.layers["one"].cols, stem), "the block reads the stream as the stem left it"
    assert torch.equal(index.layers["head"].cols, two), "the head reads it after the add"
    assert int(index.point.sum()) == 6 + 5


def test_depthwise_and_groups_live_and_die_as_one() -> None:
    index = traced(pico.Depthwise(), 1, 8, 8)
    layers = index.layers
    assert torch.equal(index.group[layers["expand"].rows], index.group[layers["depth"].rows])
    project = index.group[layers["project"].rows]
    assert project.tolist() == index.group[layers["grouped"].rows].repeat_interleave(2).tolist()


def test_concat_reads_each_branch_and_the_input_where_it_lies() -> None:
    index = traced(pico.Concat(), 1, 8, 8)
    cols = index.layers["mid"].cols.reshape(8, 16)
    assert cols[:4].tolist() == [[i] * 16 for i in range(4)]
    assert (cols[4] == -1).all()
    assert cols[5:].tolist() == [[i] * 16 for i in range(4, 7)]


def test_a_reused_layer_and_bare_parameters() -> None:
    index = traced(pico.Functional(), 1, 8, 8)
    assert index.fixed[index.layers["again"].rows].all(), "its rows are the outputs"
    assert index.fixed[index.layers["head"].rows].all(), "read by a layer that also reads the outputs"
    assert not index.layers["weight"].shiftable
    assert index.axes["scale"][0] is not None
    assert index.axes["scale"][0].tolist() == index.layers["conv"].rows.tolist()


def test_a_literal_size_fixes_what_enters_it_and_names_the_step() -> None:
    index = traced(pico.Literal(), 1, 8, 8)
    assert index.fixed[index.layers["first"].rows].all()
    assert not index.fixed[index.layers["free"].rows].any()
    assert "view" in index.why_fixed[0]


def test_a_shuffle_and_a_gate_unit_couple_by_position() -> None:
    index = traced(pico.Shuffled(), 1, 8, 8)
    assert index.group[index.layers["conv"].rows].tolist() == [0, 1, 2, 3, 4, 5] * 2
    mix = index.layers["mix"].rows
    assert torch.equal(index.group[mix[:4]], index.group[mix[4:]])


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.norm(self.a(x)))


def test_what_is_normalised_across_neurons_is_fixed_with_the_reason() -> None:
    index = traced(Normed(), 4)
    assert index.fixed.all()
    assert "layer_norm" in index.why_fixed[0]


class Unknown(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.cumsum(self.a(x), 1))


def test_an_unknown_operation_fixes_its_input() -> None:
    index = traced(Unknown(), 4)
    assert index.why_fixed[0] == "no rule for cumsum"


class Hidden(nn.Module):
    """Goes through numpy: no mode can see it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.from_numpy(self.a(x).numpy() * 2))


def test_a_tensor_the_trace_never_saw_is_never_trusted() -> None:
    index, support = trace(Hidden().eval(), torch.zeros(1, 4))
    assert index is None or index.fixed[index.layers["a"].rows].all()
    if index is None:
        assert support.level == "inspect"
        assert "no traced operation" in support.reason


class Sliced(nn.Module):
    """Reads the first three neurons by position: wrong but silent after a cut, unless they are fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x))[:, :3])


def test_neurons_taken_by_position_stay() -> None:
    index = traced(Sliced(), 4)
    assert index.fixed[index.layers["a"].rows].all()


def test_a_network_that_fails_on_its_input_is_inspect_only() -> None:
    index, support = trace(pico.mlp(), torch.zeros(1, 5))
    assert index is None
    assert support.level == "inspect"
    assert "linear" in support.reason


@pytest.mark.parametrize("make", pico.NETWORKS)
def test_the_index_after_a_cut_is_the_index_of_the_cut_network(make: type[nn.Module]) -> None:
    model = pico.pico_model(make())
    index = model.index
    keep = certificate.sample(index, 0.5, seed=3)
    assert not keep.all()
    again = traced(cut(model.module, index, keep), 1, 8, 8)
    left = index.restrict(keep)
    assert torch.equal(left.group, again.group)
    assert {n: (x.rows.tolist(), x.cols.tolist()) for n, x in left.layers.items()} == {
        n: (x.rows.tolist(), x.cols.tolist()) for n, x in again.layers.items()
    }
    if make is not pico.Literal:  # there the reason is found by a trial, not by the numbering
        assert torch.equal(left.fixed, again.fixed)


def test_resnet18_has_4800_hidden_neurons() -> None:
    index = traced(torchvision.models.resnet18(num_classes=10), 3, 32, 32)
    assert index.n == 4810
    assert int(index.logits.sum()) == 10


def test_a_selection_that_empties_a_layer_is_refused_by_name() -> None:
    index = traced(pico.mlp(), 4)
    keep = torch.ones(17, dtype=torch.bool)
    keep[:8] = False
    with pytest.raises(SelectionError, match="all 8 neurons of layer '0'"):
        index.check(keep)


def test_half_a_group_is_refused() -> None:
    index = traced(pico.Residual(), 1, 8, 8)
    keep = torch.ones(index.n, dtype=torch.bool)
    keep[0] = False
    with pytest.raises(SelectionError, match="part of a coupled group"):
        index.check(keep)
    index.check(index.close(keep))


def test_a_keep_of_another_model_is_refused() -> None:
    with pytest.raises(SelectionError, match=r"must be bool\[17\]"):
        traced(pico.mlp(), 4).check(torch.ones(5, dtype=torch.bool))


@pytest.mark.parametrize(
    ("limit", "value", "words"), [("SECONDS", -1.0, "more than -1 s"), ("BYTES", 1000, "more than 0 GiB")]
)
def test_a_run_that_takes_too_much_stops_and_names_the_step(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: float, words: str
) -> None:
    monkeypatch.setattr(f"surgery.network.trace.{limit}", value)
    index, support = trace(pico.Residual(), torch.randn(2, 1, 8, 8))
    assert index is None
    assert support.level == "inspect"
    assert words in support.reason
    assert "(step " in support.reason


@pytest.mark.parametrize("make", pico.NETWORKS)
def test_every_weight_of_a_layer_knows_along_which_axis_it_writes(make: type[nn.Module]) -> None:
    index = traced(make(), 1, 8, 8)
    found = {name: index.writes(name) for name in index.axes}
    weights = {name for name, axis in found.items() if axis is not None}
    assert len(weights) == len(index.layers)
    for name in weights:
        rows = index.layers[name.removesuffix(".weight")].rows
        assert torch.equal(index.axes[name][found[name]], rows)
    transposed = [name for name, axis in found.items() if axis == 1]
    assert transposed == (["up.weight"] if make is pico.Functional else [])
