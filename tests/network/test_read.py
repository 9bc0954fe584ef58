"""What comes back from a file of weights. What must not come back is in tests/hostile/test_model_files.py."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from surgery.network.read import read, read_tensors, sniff
from surgery.network.read_child import RefusedError, convert, is_archive


@pytest.fixture
def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "b.weight": torch.randn(3, 4, generator=generator),
        "a.bias": torch.randn(3, generator=generator),
        "a.count": torch.tensor(7),
    }


def converted(content: Any, folder: Path, **options: Any) -> tuple[dict[str, Tensor], list[str]]:
    """What the child makes of `torch.save(content)`, run here."""
    source, target = folder / "in.pt", folder / "out.safetensors"
    torch.save(content, source, **options)
    answer = convert(source, target, mapped=is_archive(source))
    tensors = load_file(target)
    return {name: tensors[name] for name in answer["names"]}, answer["ignored"]


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)


def test_a_safetensors_file_is_read_whatever_it_is_called(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    file = tmp_path / "weights.pt"
    save_file(weights, file)
    assert sniff(file) == "safetensors"
    found = read(file)
    assert found.tensors.keys() == weights.keys()
    assert all(torch.equal(found.tensors[name], weights[name]) for name in weights)
    assert found.notes == ()
    assert found.description is None


def test_a_state_dict_comes_through_the_child_bit_for_bit_and_in_order(
    tmp_path: Path, weights: dict[str, Tensor]
) -> None:
    file = tmp_path / "weights.safetensors"
    torch.save(weights, file)
    assert sniff(file) == "torch"
    assert equal(read_tensors(file), weights)


def test_a_checkpoint_gives_its_weights_and_names_what_was_ignored(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    module = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.zeros(1, 2)).sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 3,
        "model_state_dict": {f"module.{name}": tensor for name, tensor in weights.items()},
        "optimizer_state_dict": optimizer.state_dict(),
        "loss": torch.tensor(0.5),
    }
    file = tmp_path / "checkpoint.pth"
    torch.save(checkpoint, file)
    found = read(file)
    assert equal(found.tensors, weights)
    assert found.notes == ("Ignored 3 entries that are not weights: epoch, optimizer_state_dict, loss.",)


def test_the_layout_from_before_torch_1_6_is_read(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    found, _ = converted(weights, tmp_path, _use_new_zipfile_serialization=False)
    assert equal(found, weights)


@pytest.mark.parametrize("name", ["state_dict", "model_state_dict", "model", "net", "weights"])
def test_wrapped_weights_are_unwrapped(tmp_path: Path, weights: dict[str, Tensor], name: str) -> None:
    found, ignored = converted({name: OrderedDict(weights), "epoch": 1}, tmp_path)
    assert equal(found, weights)
    assert ignored == ["epoch"]


def test_wrappers_in_wrappers_are_unwrapped(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    found, ignored = converted({"model": {"state_dict": weights, "step": 2}, "seed": 1}, tmp_path)
    assert equal(found, weights)
    assert ignored == ["step", "seed"]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_are_stripped(tmp_path: Path, weights: dict[str, Tensor], prefix: str) -> None:
    found, _ = converted({prefix + name: tensor for name, tensor in weights.items()}, tmp_path)
    assert equal(found, weights)


def test_a_prefix_that_only_some_names_have_stays(tmp_path: Path) -> None:
    mixed = {"module.weight": torch.ones(1), "head.weight": torch.ones(1)}
    found, _ = converted(mixed, tmp_path)
    assert list(found) == list(mixed)


def test_a_state_dict_with_extras_is_read_without_them(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    found, ignored = converted({**weights, "_extra_state": {"a": 1}, 5: torch.ones(1)}, tmp_path)
    assert equal(found, weights)
    assert ignored == ["_extra_state", "5"]


def test_tied_transposed_and_sliced_tensors_get_storage_of_their_own(tmp_path: Path) -> None:
    shared = torch.arange(12.0).reshape(3, 4)
    content = {"one": shared, "two": shared, "turned": shared.T, "part": shared[1], "parameter": nn.Parameter(shared)}
    found, _ = converted(content, tmp_path)
    assert equal(found, {name: tensor.detach() for name, tensor in content.items()})
    assert not any(tensor.requires_grad for tensor in found.values())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool])
def test_every_common_type_comes_back_as_it_was(tmp_path: Path, kind: torch.dtype) -> None:
    found, _ = converted({"x": torch.ones(3).to(kind)}, tmp_path)
    assert found["x"].dtype == kind


def test_weights_saved_on_a_gpu_come_back_on_the_cpu(
    tmp_path: Path, weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
    file = tmp_path / "gpu.pt"
    torch.save(weights, file)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="deserialize object on a CUDA device"):
            torch.load(file, weights_only=True)
    found = read_tensors(file)
    assert equal(found, weights)
    assert {tensor.device.type for tensor in found.values()} == {"cpu"}


@pytest.mark.parametrize(
    ("content", "code", "detail"),
    [
        ([torch.ones(1)], "content", "a list"),
        (torch.ones(1), "content", "a Tensor"),
        ({}, "content", "a dict of nothing"),
        ({"epoch": 1, "lr": 0.1}, "content", "a dict of epoch, lr"),
        ({"model": {"epoch": 1}}, "content", "a dict of epoch"),
        ({"x": torch.empty(2, device="meta")}, "tensor", "x"),
        ({"x": torch.ones(1).expand(100_000, 10_000)}, "expands", "4000000000 bytes of weights from"),
    ],
)
def test_what_is_no_state_dict_is_told(tmp_path: Path, content: Any, code: str, detail: str) -> None:
    with pytest.raises(RefusedError) as caught:
        converted(content, tmp_path)
    assert caught.value.code == code
    assert detail in caught.value.detail


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, torch.quantize_per_channel:UserWarning")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")
@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants:UserWarning")
@pytest.mark.parametrize("make", [torch.Tensor.to_sparse, lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)])
def test_sparse_and_quantized_tensors_are_told(tmp_path: Path, make: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(RefusedError) as caught:
        converted({"x": make(torch.eye(3))}, tmp_path)
    assert (caught.value.code, caught.value.detail) == ("tensor", "x")
