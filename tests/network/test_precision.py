"""The number format of a file is kept through import, surgery and export, and what is stored is what is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.compose import Member, compose
from surgery.edit.shrink import shrink
from surgery.measure import compare, measure
from surgery.network import store
from surgery.network.cost import bytes_of
from surgery.network.load import assemble, reopen
from surgery.network.model import Architecture, InputSpec, Model
from surgery.network.precision import as_stored, kept_as, narrowed, said
from surgery.network.read import read
from surgery.network.size import bits_of
from surgery.plan import Plan, run
from tests.patients import mlp

SIZES = (4, 8, 6, 3)


def brought(folder: Path, kind: torch.dtype, *, wrapped: bool = False) -> Path:
    """A file of weights as somebody saved it."""
    state = {name: tensor.to(kind) for name, tensor in mlp(SIZES).module.state_dict().items()}
    path = folder / ("model.pt" if wrapped else "model.safetensors")
    torch.save({"state_dict": state}, path) if wrapped else save_file(state, path)
    return path


def imported(path: Path, classes: tuple[str, ...] = ("a", "b", "c")) -> Model:
    table = InputSpec("table", (4,), (0.0,) * 4, (1.0,) * 4)
    return assemble(read(path).tensors, Architecture("mlp", {"sizes": list(SIZES)}), input=table, classes=classes)


def values(model: Model) -> dict[str, Tensor]:
    return dict(model.module.state_dict())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_a_file_is_stored_again_in_the_format_it_was_brought_in(tmp_path: Path, kind: torch.dtype) -> None:
    path = brought(tmp_path, kind)
    model = imported(path)
    assert all(tensor.dtype == torch.float32 for tensor in values(model).values()), "computed in float32"
    store.save(model, tmp_path / "stored")
    written = load_file(tmp_path / "stored" / store.WEIGHTS)
    assert {tensor.dtype for tensor in written.values()} == {kind}
    assert all(torch.equal(tensor.float(), load_file(path)[name].float()) for name, tensor in written.items())
    again = store.load(tmp_path / "stored")
    assert all(torch.equal(tensor, values(model)[name]) for name, tensor in values(again).items())
    assert again.precision == model.precision and bytes_of(again) == bytes_of(model)
    name = str(kind).removeprefix("torch.")
    assert store.inspect(tmp_path / "stored")["stored_as"] == said(load_file(path)) == name
    assert bits_of(model) == torch.finfo(kind).bits


def test_a_checkpoint_of_torch_keeps_its_format_too(tmp_path: Path) -> None:
    model = imported(brought(tmp_path, torch.float16, wrapped=True))
    assert set(model.precision.values()) == {"float16"}


def test_the_bytes_of_an_import_are_those_of_the_file_that_was_brought(tmp_path: Path) -> None:
    path = brought(tmp_path, torch.float16)
    assert bytes_of(imported(path)) == pytest.approx(path.stat().st_size, abs=16), "its header may be padded otherwise"


def test_a_surgery_measures_what_it_stores(tmp_path: Path, pico_table: Dataset) -> None:
    model = imported(brought(tmp_path, torch.float16), pico_table.classes)
    fill = {"operation": "prune", "parameters": {"remove": [1, 2, 9]}}
    plan = Plan.of(inputs=("a",), dataset="b", **fill)
    outcome, receipt = run(plan, [model], pico_table, Context())
    made = outcome.models[0]
    store.save(made, tmp_path / "made")
    stored = store.load(tmp_path / "made")
    assert all(torch.equal(tensor, values(made)[name]) for name, tensor in values(stored).items())
    measured = compare(
        measure({"before": model, "after": stored}, pico_table, Context(), latency=False), "before", "after"
    )
    for row in measured.to_dict("records"):
        told = receipt.row(row["metric"], row["scope"])
        assert told is not None and told["after"] == pytest.approx(row["after"], abs=1e-9)
    size, bits = receipt.row("bytes"), receipt.row("precision")
    assert size is not None and bits is not None
    assert (size["before"], size["after"]) == (bytes_of(model), (tmp_path / "made" / store.WEIGHTS).stat().st_size) or (
        size["after"] == bytes_of(stored)
    )
    assert (bits["before"], bits["after"], bits["unit"]) == (16, 16, "bits")


def test_gated_is_shrunk_after_rounding_too(tmp_path: Path) -> None:
    from surgery.edit.gate import gate

    model = imported(brought(tmp_path, torch.float16))
    assert model.index is not None
    keep = torch.ones(model.index.n, dtype=torch.bool)
    keep[[1, 4, 10]] = False
    small = as_stored(shrink(model, keep)[0])
    x = torch.randn(5, 4)
    with gate(model.module, model.index, keep.float()), torch.no_grad():
        wanted = model(x)
    assert torch.allclose(small(x), wanted, atol=1e-6)


def test_what_float16_cannot_hold_stays_float32(tmp_path: Path) -> None:
    model = imported(brought(tmp_path, torch.float16))
    bias = next(name for name in model.precision if name.endswith("bias"))
    with torch.no_grad():
        values(model)[bias][0] = 70_000.0
    assert narrowed(bias, values(model)[bias], model.precision).dtype == torch.float32
    store.save(model, tmp_path / "large")
    again = store.load(tmp_path / "large")
    assert float(values(again)[bias][0]) == 70_000.0
    assert bias not in again.precision and len(again.precision) == len(model.precision) - 1
    assert store.inspect(tmp_path / "large")["stored_as"] == "float16, float32"


def test_a_composed_network_keeps_the_format_of_each_member(tmp_path: Path) -> None:
    half, full = imported(brought(tmp_path, torch.float16)), mlp(SIZES)
    made = compose([Member(half), Member(full)], half.input, ("a", "b"), torch.ones(2, 6), torch.zeros(2))
    store.save(as_stored(made), tmp_path / "both")
    kinds = {name: str(tensor.dtype) for name, tensor in load_file(tmp_path / "both" / store.WEIGHTS).items()}
    assert {kind for name, kind in kinds.items() if name.startswith("members.0.")} == {"torch.float16"}
    assert {kind for name, kind in kinds.items() if not name.startswith("members.0.")} == {"torch.float32"}
    assert values(store.load(tmp_path / "both")).keys() == values(made).keys()


def test_another_format_is_taken_where_it_is_asked_for(tmp_path: Path) -> None:
    model = imported(brought(tmp_path, torch.float32))
    assert not model.precision and bits_of(model) == 32
    half = kept_as(model, "bfloat16")
    assert bits_of(half) == 16 and values(half)["0.weight"].dtype == torch.float32
    assert torch.equal(values(half)["0.weight"], values(model)["0.weight"].bfloat16().float())
    assert not kept_as(half, "float32").precision


def test_our_own_file_is_opened_again_in_its_format_and_exported_with_a_loader_that_computes_in_float32(
    tmp_path: Path,
) -> None:
    model = imported(brought(tmp_path, torch.float16))
    store.save(model, tmp_path / "stored")
    again = reopen(read(tmp_path / "stored" / store.WEIGHTS))
    assert again.precision == model.precision and bytes_of(again) == bytes_of(model)
    store.export(tmp_path / "stored", tmp_path / "export", "safetensors")
    x = [[0.5, -1.0, 2.0, 0.1]]
    code = (
        f"import sys, json, torch; sys.path.insert(0, {str(tmp_path / 'export')!r}); from loader import load; "
        f"print(json.dumps(load()(torch.tensor({x})).tolist()))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    with torch.no_grad():
        assert torch.allclose(torch.tensor(json.loads(said.stdout)), model(torch.tensor(x)), atol=1e-6)


def test_a_description_that_names_a_tensor_of_no_file_does_no_harm(tmp_path: Path) -> None:
    model = imported(brought(tmp_path, torch.float16))
    store.save(replace(model, precision={**model.precision, "nowhere.weight": "float16"}), tmp_path / "stored")
    assert "nowhere.weight" not in store.load(tmp_path / "stored").precision
