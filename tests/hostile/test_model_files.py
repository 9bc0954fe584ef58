"""Model files that must not get in: each refused with what it is and what to do, none of them run."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from surgery.edit.compose import together
from surgery.edit.lend import Share, lend
from surgery.errors import MismatchError, ModelError, ModelFileError
from surgery.network import read as reading
from surgery.network import store
from surgery.network.architectures import build
from surgery.network.cuts import cuts_of
from surgery.network.description import describe
from surgery.network.load import assemble, reopen
from surgery.network.model import Architecture, InputSpec, Model
from surgery.network.read import read, read_tensors
from surgery.network.trial import attempt
from surgery.sandbox import Limits
from tests.hostile.model_generators import described_parts
from tests.patients import digits, fleet, mlp, split_digits

pytestmark = pytest.mark.hostile


class Payload:
    """Unpickling it creates a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


class Trojan(nn.Module):
    """A whole module with a payload beside its weights."""

    def __init__(self, mark: Path) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.payload = Payload(mark)


def saved(content: object, path: Path, *, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def with_pickle(path: Path, stream: bytes) -> Path:
    """An archive of torch.save in which the pickle is `stream`."""
    genuine = io.BytesIO()
    torch.save({"a": torch.ones(1)}, genuine)
    with zipfile.ZipFile(genuine) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(name, stream if name.endswith("data.pkl") else source.read(name))
    return path


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("model.pt", b"", r"model\.pt is empty \(0 bytes\)"),
        ("model.safetensors", b"", r"model\.safetensors is empty"),
        ("model.pt", b"\x89PNG\r\n\x1a\n" + bytes(99), r"model\.pt is a PNG picture"),
        ("model.pth", b"\xff\xd8\xff\xe0" + bytes(99), r"model\.pth is a JPEG picture"),
        ("model.pt", b"\x89HDF\r\n\x1a\n" + bytes(99), r"an HDF5 \(Keras\) file"),
        ("model.h5", b"\x89HDF\r\n\x1a\n" + bytes(99), r"an HDF5 \(Keras\) file"),
        ("model.onnx", b"\x08\x0a\x12\x07pytorch" + bytes(99), "an ONNX model, not weights"),
        ("model.pt", b"\x08\x0a\x12\x07pytorch" + bytes(99), "an ONNX model, not weights"),
        ("model.pt", b"GGUF\x03\x00\x00\x00" + bytes(99), "a GGUF file"),
        ("model.pt", b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer, not the file itself"),
        ("model.pt", b"<!DOCTYPE html><html>", "a web page or XML"),
        ("model.pt", b"just some words, and more of them", "neither safetensors nor a file of torch.save"),
        ("model.pt", b"x", "neither safetensors nor a file of torch.save"),
        ("model.safetensors", (500).to_bytes(8, "little") + b'{"a":', "is truncated: its header alone is longer"),
        ("model.safetensors", (2).to_bytes(8, "little") + b"{}", "holds no tensors"),
        ("model.safetensors", (9).to_bytes(8, "little") + b'{"a": 17}', "is truncated or damaged"),
    ],
)
def test_a_file_that_is_no_weights_says_what_it_is(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ModelFileError, match=complaint) as caught:
        read_tensors(file)
    assert caught.value.fix


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"nothing\.pt cannot be read: No such file"):
        read_tensors(tmp_path / "nothing.pt")


def test_a_truncated_safetensors_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(1000)}, file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelFileError, match="is truncated or damaged") as caught:
        read_tensors(file)
    assert caught.value.fix == "Upload it again."


def test_a_header_length_that_looks_like_another_format_does_not_mislead(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    for mark in (0x80, ord("<"), 0x08):  # pickle, a web page, ONNX
        header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.ljust(mark if mark > 55 else mark + 256)
        file.write_bytes(len(header).to_bytes(8, "little") + header + b"\x05")
        assert read_tensors(file)["a"].item() == 5


@pytest.mark.parametrize("cut", [0.3, 0.97])
def test_a_truncated_pt_file_is_refused(tmp_path: Path, cut: float) -> None:
    file = saved({"a": torch.ones(1000)}, tmp_path / "model.pt")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * cut)])
    with pytest.raises(ModelFileError, match=r"model\.pt is truncated or damaged"):
        read_tensors(file)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_pickled_module_is_refused_and_its_payload_not_run(tmp_path: Path, zipped: bool) -> None:
    mark = tmp_path / "executed"
    file = saved(Trojan(mark), tmp_path / "whole.pt", zipped=zipped)
    with pytest.raises(ModelFileError, match=r"stores Python objects \(.*Trojan\), which can run code") as caught:
        read_tensors(file)
    assert not mark.exists()
    assert 'torch.load("whole.pt", map_location="cpu", weights_only=False)' in caught.value.fix
    assert "save_file(" in caught.value.fix
    torch.load(file, weights_only=False)
    assert mark.exists(), "the file would have run its payload elsewhere"


def test_a_plain_pickle_with_a_payload_is_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    file = tmp_path / "model.pt"
    file.write_bytes(pickle.dumps({"state_dict": Payload(mark)}))
    with pytest.raises(
        ModelFileError, match=r"model\.pt is not plain weights: it stores Python objects \(posix\.mkdir\)"
    ):
        read_tensors(file)
    assert not mark.exists()


def test_a_payload_hidden_in_a_state_dict_is_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    file = saved({"state_dict": {"a": torch.ones(1)}, "config": Payload(mark)}, tmp_path / "model.pt")
    with pytest.raises(ModelFileError, match=r"stores Python objects \(posix\.mkdir\)"):
        read_tensors(file)
    assert not mark.exists()


@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.trace_method` is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.save` is deprecated:FutureWarning")
def test_torchscript_is_refused_with_its_converter(tmp_path: Path) -> None:
    file = tmp_path / "script.pt"
    torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(file)
    with pytest.raises(ModelFileError, match="is a TorchScript program") as caught:
        read_tensors(file)
    assert 'torch.jit.load("script.pt"' in caught.value.fix


def test_an_exported_program_is_refused_with_its_converter(tmp_path: Path) -> None:
    file = tmp_path / "model.pt2"
    with zipfile.ZipFile(file, "w") as archive:  # the members by which torch.export.save's archive is known
        archive.writestr("model/archive_format", "pt2")
        archive.writestr("model/models/model.json", "{}")
    with pytest.raises(ModelFileError, match=r"torch\.export program \(\.pt2\), which can run code") as caught:
        read_tensors(file)
    assert 'torch.export.load("model.pt2")' in caught.value.fix


def test_another_zip_is_refused_with_what_is_in_it(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("cats/one.png", b"")
    with pytest.raises(ModelFileError, match=r"a zip archive of something else \(one\.png\)"):
        read_tensors(file)


def test_a_pickle_that_asks_for_all_memory_is_stopped(tmp_path: Path) -> None:
    size = (10**12).to_bytes(6, "little")
    stream = b"\x80\x02cbuiltins\nbytearray\n\x8a\x06" + size + b"\x85R."  # bytearray(10**12)
    file = with_pickle(tmp_path / "bomb.pt", stream)
    with pytest.raises(
        ModelFileError, match=r"bomb\.pt needs more than 537 MB of memory, far more than its size explains"
    ):
        read_tensors(file)


def test_a_tensor_that_is_far_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    file = saved({"a": torch.ones(1).expand(10**6, 10**6)}, tmp_path / "model.pt")
    with pytest.raises(ModelFileError, match=r"describes far more than it holds \(4000000000000 bytes"):
        read_tensors(file)


def test_a_file_that_takes_too_long_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = saved({"a": torch.ones(1)}, tmp_path / "model.pt")
    monkeypatch.setattr(reading, "limits_for", lambda size: Limits(seconds=5, patience=0))
    with pytest.raises(ModelFileError, match=r"model\.pt took longer than 5 s"):
        read_tensors(file)


@pytest.mark.parametrize(("value", "zipped"), [(float("nan"), False), (float("inf"), False), (float("-inf"), True)])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path, value: float, zipped: bool) -> None:
    tensors = {"good": torch.ones(3), "fc.weight": torch.tensor([1.0, value, value])}
    file = tmp_path / "model.any"
    saved(tensors, file) if zipped else save_file(tensors, file)
    with pytest.raises(ModelFileError, match=r"not finite in 1 tensors: 'fc\.weight' \(2 of 3\)") as caught:
        read_tensors(file)
    assert caught.value.fix.startswith("If the training diverged, import an earlier checkpoint")


TABLE = InputSpec("table", (3,), (0.0,) * 3, (1.0,) * 3)
MLP = Architecture("mlp", {"sizes": [3, 4, 2]})


def test_weights_of_another_architecture_give_a_table_of_what_differs() -> None:
    other = build(Architecture("mlp", {"sizes": [3, 5, 2]})).state_dict()
    other["extra"] = other.pop("2.bias")
    with pytest.raises(MismatchError, match=r"5 tensors differ: 0\.weight is \(5, 3\), should be \(4, 3\)") as caught:
        assemble(other, MLP, input=TABLE, classes=("a", "b"))
    assert [(row.name, row.kind, row.file, row.architecture) for row in caught.value.rows] == [
        ("0.weight", "shape", (5, 3), (4, 3)),
        ("0.bias", "shape", (5,), (4,)),
        ("2.weight", "shape", (2, 5), (2, 4)),
        ("2.bias", "missing", None, (2,)),
        ("extra", "unexpected", (2,), None),
    ]


def test_integer_weights_are_refused_by_name() -> None:
    quantized: dict[str, Tensor] = {name: tensor.to(torch.int8) for name, tensor in build(MLP).state_dict().items()}
    with pytest.raises(ModelError, match=r"'0\.weight' is stored as torch\.int8"):
        assemble(quantized, MLP, input=TABLE, classes=("a", "b"))


def described(model: Model, change: Callable[[dict[str, Any]], None], path: Path) -> Path:
    """A file of this product with another description in its header."""
    store.save(model, path.parent / "stored")
    about = json.loads((path.parent / "stored" / "architecture.json").read_text())
    change(about["arguments"])
    tensors = load_file(path.parent / "stored" / "model.safetensors")
    save_file(tensors, path, metadata={"architecture": json.dumps(about)})
    return path


def guest() -> Model:
    first, further, _ = fleet()
    cut = cuts_of(first)[-1]
    return lend(first, further, Share(cut, cuts_of(further)[-1], None))


def composed() -> Model:
    model = split_digits()
    return together(model, model.parts)


@pytest.mark.parametrize(("make", "place"), [(guest, "host"), (guest, "guest"), (composed, "members")])
def test_a_description_that_names_code_runs_none(make: Callable[[], Model], place: str, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    evil = tmp_path / "evil.py"
    evil.write_text(f"import os\nos.mkdir({str(mark)!r})\nTABLE = {{'net': None}}\n")

    def name_code(arguments: dict[str, Any]) -> None:
        for member in arguments[place] if place == "members" else [arguments[place]]:
            member |= {"file": str(evil), "table": "TABLE", "key": "net"}

    path = described(make(), name_code, tmp_path / "model.safetensors")
    reopened = reopen(read(path))
    assert not mark.exists()
    assert reopened.architecture.name in ("fleet/guest", "composed/network"), "built by the product's own names"


def test_a_fleet_is_no_model(tmp_path: Path) -> None:
    def change(arguments: dict[str, Any]) -> None:
        arguments.clear()

    path = described(guest(), change, tmp_path / "model.safetensors")
    about = {**json.loads((tmp_path / "stored" / "architecture.json").read_text()), "name": "fleet/members"}
    save_file(load_file(path), path, metadata={"architecture": json.dumps(about)})
    with pytest.raises(ModelFileError, match="holds a fleet of several models"):
        reopen(read(path))


FEW = mlp((4, 6, 3))


def file_of(about: dict[str, Any] | str, tensors: dict[str, Tensor], path: Path) -> Path:
    """A file of this product with such a description."""
    save_file(tensors, path, metadata={"architecture": about if isinstance(about, str) else json.dumps(about)})
    return path


def wrapped(folder: Path) -> dict[str, Any]:
    """A configuration that makes timm open a file; beside it a pickle that makes a folder."""
    torch.save({"state_dict": Payload(folder / "ran")}, folder / "evil.pt")
    arguments = {"checkpoint_path": str(folder / "evil.pt")}
    return {"model_type": "timm_wrapper", "architecture": "resnet10t", "num_labels": 2, "model_args": arguments}


def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that torch is asked to load from here on."""
    asked: list[str] = []
    monkeypatch.setattr(torch, "load", lambda file, *a, **k: asked.append(str(file)) or {})
    return asked


def test_a_configuration_makes_no_library_open_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, asked = wrapped(tmp_path), opened(monkeypatch)
    with pytest.raises(ModelError, match="of the type 'timm_wrapper'"):
        build(Architecture("hf/image-classification", {"config": config}))
    assert not asked
    assert not (tmp_path / "ran").exists()


def test_a_description_makes_no_library_open_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = json.loads(describe(FEW).model_dump_json())
    about |= {"name": "hf/image-classification", "arguments": {"config": wrapped(tmp_path)}}
    file, asked = file_of(about, FEW.module.state_dict(), tmp_path / "model.safetensors"), opened(monkeypatch)
    with pytest.raises(ModelError, match="of the type 'timm_wrapper'"):
        reopen(read(file))
    assert not asked


def with_header(path: Path, header: Any, content: bytes = bytes(64)) -> Path:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    return path


ENTRY = {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ({"w": {**ENTRY, "dtype": "F4", "shape": [128]}}, r"holds 'w' as F4, a type that cannot be measured"),
        ({"w": {**ENTRY, "dtype": "F8_E8M0", "shape": [64]}}, r"holds 'w' as F8_E8M0"),
        ({"w": {**ENTRY, "shape": [2**63]}}, r"its tensor 'w' has an impossible shape"),
        ({"w": {**ENTRY, "shape": [2**40, 0], "data_offsets": [0, 0]}}, r"'w' holds nothing, with an axis of 1,099"),
        ({"w": {**ENTRY, "shape": [15]}}, r"'w' has 64 bytes, which its shape and type do not need"),
        ({"__metadata__": ENTRY}, r"holds '__metadata__', which is not a list of texts but may be a tensor"),
        ({"w": ENTRY, "v": ENTRY}, r"its tensor 'w' does not begin where the one before ends"),
        (f'{{"w": {json.dumps(ENTRY)}, "w": {json.dumps(ENTRY)}}}', r"the name 'w' stands in it twice"),
        ({"a\nb": ENTRY}, r"a tensor of the name 'a\\nb', which is empty, too long or not printable"),
        ('{"w":' * 5000, "levels deep"),
    ],
)
def test_a_header_that_is_not_in_order_is_refused_by_tensor(tmp_path: Path, header: Any, complaint: str) -> None:
    with pytest.raises(ModelFileError, match=r"model\.safetensors") as caught:
        read(with_header(tmp_path / "model.safetensors", header))
    assert re.search(complaint, caught.value.what)
    assert caught.value.fix


def test_a_header_of_a_hundred_megabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write((99_000_000).to_bytes(8, "little") + b"{")
        file.truncate(99_000_008)
    with pytest.raises(ModelFileError, match=r"has a header of 99,000,000 bytes, more than 32,000,000"):
        read(tmp_path / "model.safetensors")


@pytest.mark.parametrize("name", ["__metadata__", "", "a\n", "\ud800"])
def test_a_tensor_of_an_impossible_name_in_a_pickle_is_told(tmp_path: Path, name: str) -> None:
    file = saved({name: torch.ones(2), "b": torch.ones(1)}, tmp_path / "model.pt")
    with pytest.raises(ModelFileError, match=r"model\.pt holds a tensor of the name '.*', which is empty, too long"):
        read(file)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"tied": {"0.weight": "forward"}}, "'0.weight' is tied to 'forward', which is no tensor of the file"),
        ({"tied": {"0.weight": "nowhere"}}, "is tied to 'nowhere'"),
        ({"attributes": {"0": {"forward": "x"}}}, r"no attribute '0\.forward'"),
        ({"attributes": {"0": {"in_features": "/etc/passwd"}}}, r"0\.in_features is '/etc/passwd'"),
        ({"input": {"kind": "table", "shape": [2**40]}}, "more than 16,777,216 values"),
        ({"input": {"kind": "table", "shape": [-4]}}, r"shape \[-4\] of a model for tables is not allowed"),
        ({"classes": [1, 2, 3]}, r"classes\.0: Input should be a valid string"),
        ({"classes": ["\ud800", "b", "c"]}, "no Unicode text"),
        ({"classes": ["x" * 3000, "b", "c"]}, "more than 2,000 characters"),
        ({"arguments": [4, 3]}, "arguments: Input should be a valid dictionary"),
        (
            {"input": {"kind": "table", "shape": [4], "mean": [1e400] * 4, "std": [1] * 4}},
            "not JSON compliant|Infinity",
        ),
        ({"input": {"kind": "text", "shape": [4], "alphabet": ["a", "a"]}}, "alphabet of different characters"),
    ],
)
def test_a_description_that_does_not_hold_says_which_part(tmp_path: Path, change: Any, complaint: str) -> None:
    about = {**json.loads(describe(FEW).model_dump_json()), **change}
    tensors = dict(FEW.module.state_dict())
    for name in about["tied"]:
        tensors.pop(name)
    with pytest.raises(ModelError, match=complaint) as caught:
        reopen(read(file_of(about, tensors, tmp_path / "model.safetensors")))
    assert caught.value.fix


def test_a_name_that_stands_twice_in_a_description_is_told(tmp_path: Path) -> None:
    about = describe(FEW).model_dump_json()[:-1] + ', "name": "mlp"}'
    with pytest.raises(ModelFileError, match="'name' stands in it twice"):
        reopen(read(file_of(about, FEW.module.state_dict(), tmp_path / "model.safetensors")))


def packed_parts() -> tuple[dict[str, Any], dict[str, Tensor]]:
    return described_parts("packed")


@pytest.mark.parametrize(
    ("part", "value", "complaint"),
    [
        ("layout", None, r"lacks its tensor '0\.weight\.layout'"),
        ("layout", [7, 6, 4], r"the layout \[7, 6, 4\] is none"),
        ("layout", [0, 6, 2**30], "codes are not as long|describes far more weights"),
        ("layout", [], "the layout"),
        ("exponent", [float("inf")] * 6, "holds values that are not finite"),
        ("exponent", [float("nan")] * 6, "holds values that are not finite"),
        ("bits", [200] * 6, "do not fit the layout"),
        ("codes", [1], "codes are not as long"),
    ],
)
def test_packed_weights_that_do_not_belong_together_are_refused_by_name(
    tmp_path: Path, part: str, value: Any, complaint: str
) -> None:
    about, tensors = packed_parts()
    kind = tensors[f"0.weight.{part}"].dtype
    del tensors[f"0.weight.{part}"]
    if value is not None:
        tensors[f"0.weight.{part}"] = torch.tensor(value, dtype=kind)
    with pytest.raises(ModelFileError, match=complaint) as caught:
        reopen(read(file_of(about, tensors, tmp_path / "model.safetensors")))
    assert "0.weight" in caught.value.what


def test_weights_of_no_bits_that_no_file_explains_are_not_decoded(tmp_path: Path) -> None:
    about, tensors = packed_parts()
    tensors["0.weight.layout"] = torch.tensor([0, 6, 2**30 // 6], dtype=torch.int32)
    tensors["0.weight.bits"] = torch.zeros(6, dtype=torch.uint8)
    tensors["0.weight.codes"] = torch.zeros(0, dtype=torch.uint8)
    file = file_of(about, tensors, tmp_path / "model.safetensors")
    assert file.stat().st_size < 4000
    with pytest.raises(ModelFileError, match="describes far more weights than the file's size explains"):
        reopen(read(file))


def test_what_a_reader_did_not_foresee_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(1)}, file)

    def surprised(path: Path) -> None:
        raise KeyError("deep inside")

    monkeypatch.setattr(reading, "load_file", surprised)
    with pytest.raises(ModelFileError, match=r"model\.safetensors cannot be read: 'deep inside'") as caught:
        read(file)
    assert caught.value.fix


def test_a_description_is_tried_in_a_child_that_ends_what_is_too_large(tmp_path: Path) -> None:
    model = digits()
    about = json.loads(describe(model).model_dump_json())
    file = tmp_path / "model.safetensors"
    attempt(read(file_of(about, model.module.state_dict(), file)))
    huge = about | {"attributes": {"stem.conv": {"padding": [100_000, 100_000]}}}
    with pytest.raises(ModelError, match=r"not enough memory|MB of memory"):
        attempt(read(file_of(huge, model.module.state_dict(), file)))
    deep = about | {"name": "text/decoder", "arguments": {"alphabet": 3, "context": 8, "width": 8, "depth": 10**6}}
    with pytest.raises(ModelFileError, match=r"tensors and more; the file holds [\d,]+ in \d+"):
        attempt(read(file_of(deep, model.module.state_dict(), file)))
