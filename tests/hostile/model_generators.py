"""Families of hostile model files and configurations: each writes one file, another one for every seed.

    file = FAMILIES["header: types"](random.Random(7), folder)

Most begin as a file that is in order and have one thing changed, as hostile files do. Names end with .safetensors, .pt
or .json (a configuration).
"""

from __future__ import annotations

import copy
import functools
import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save, save_file

from surgery.edit.compose import together
from surgery.network.description import describe
from surgery.network.model import Model
from surgery.network.packed import Packing, stored
from tests.patients import digits, mlp

Generator = Callable[[random.Random, Path], Path]
FAMILIES: dict[str, Generator] = {}

VIT: dict[str, Any] = {
    "model_type": "vit",
    "image_size": 16,
    "patch_size": 4,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "hidden_act": "gelu",
    "id2label": {"0": "a", "1": "b", "2": "c"},
}
CLIP: dict[str, Any] = {"model_type": "clip", "num_labels": 3, "vision_config": {**VIT, "projection_dim": 8}}
CLIP["vision_config"].pop("id2label")
CLIP["text_config"] = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3}
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 50,
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}
# What a name in a configuration can be called to make a library look elsewhere.
FORBIDDEN = (
    *("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_model_name_or_path", "cache_dir", "auto_map"),
    *("trust_remote_code", "code_revision", "backbone", "backbone_config", "use_timm_backbone", "backbone_kwargs"),
    *("use_pretrained_backbone", "url", "file", "hub", "repo_id", "token", "quantization_config", "kernel_config"),
    *("attn_implementation", "_attn_implementation", "model_args", "weights", "weights_backbone", "features_only"),
    *(
        "block_args",
        "name_or_path",
        "_name_or_path",
        "__class__",
        "__init__",
        "state_dict",
        "config_dict",
        "torchscript",
    ),
)
HUGE = (10**9, 10**6, -1, 0, 2**31, 2**63, 10**30, 1e308, True, "16", None, [], {}, [[1]], [2**40], 0.5)


def family(name: str) -> Callable[[Generator], Generator]:
    """Register a generator."""

    def registered(generator: Generator) -> Generator:
        FAMILIES[name] = generator
        return generator

    return registered


def pointers(folder: Path) -> list[str]:
    """Texts that would make something else be opened, asked for, or imported."""
    planted = folder / "planted"
    return [
        *(str(planted / "planted.pt"), str(planted / "planted.py"), "planted/planted.pt", "../planted/planted.pt"),
        *("https://127.0.0.1:9/x.pt", "hf-hub:planted/planted", "local-dir:planted", "planted_module.Class"),
        *("planted_module:run", "planted_module--Class", "__import__", "__class__.__init__", "/etc/passwd", "a b"),
    ]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every place in a JSON value and what stands there, the outermost first."""
    yield path, value
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(one, (*path, key))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of a JSON value with something else at one place."""
    if not path:
        return new
    made = copy.deepcopy(value)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return made


# Weights and their header


def parts(file: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and the bytes after it."""
    length = int.from_bytes(file[:8], "little")
    return json.loads(file[8 : 8 + length]), file[8 + length :]


def joined(header: str | bytes, content: bytes) -> bytes:
    """A safetensors file of a header and the bytes after it."""
    text = header if isinstance(header, bytes) else header.encode()
    return len(text).to_bytes(8, "little") + text + content


@functools.cache
def plain_weights() -> bytes:
    """Weights of a small MLP that are in order."""
    return save(mlp((4, 6, 3)).module.state_dict())


def written(content: bytes, path: Path) -> Path:
    """Write and return the path."""
    path.write_bytes(content)
    return path


@family("file: truncated")
def truncated(chance: random.Random, folder: Path) -> Path:
    whole = chance.choice([plain_weights(), pickled()])
    return written(whole[: chance.randrange(len(whole))], folder / "model.safetensors")


@family("file: bytes changed")
def flipped(chance: random.Random, folder: Path) -> Path:
    content = bytearray(chance.choice([plain_weights(), described_bytes("mlp"), pickled()]))
    for _ in range(chance.randint(1, 8)):
        content[chance.randrange(min(len(content), 600))] = chance.randrange(256)
    return written(bytes(content), folder / "model.pt")


@family("header: length")
def length(chance: random.Random, folder: Path) -> Path:
    wrong = chance.choice([0, 1, 7, 2**16, 99_999_999, 2**40, 2**63, 2**64 - 1])
    return written(wrong.to_bytes(8, "little") + plain_weights()[8:], folder / "model.safetensors")


@family("header: large")
def large_header(chance: random.Random, folder: Path) -> Path:
    size = chance.choice([40_000_000, 99_000_000])
    with (folder / "model.safetensors").open("wb") as file:
        file.write(size.to_bytes(8, "little") + b'{"a"')
        file.truncate(8 + size)
    return folder / "model.safetensors"


@family("header: nested")
def nested(chance: random.Random, folder: Path) -> Path:
    depth = chance.choice([120, 1000, 100_000])
    header = chance.choice(['{"a":' + "[" * depth + "]" * depth + "}", '{"a":' * depth + "1" + "}" * depth])
    return written(joined(header, b""), folder / "model.safetensors")


@family("header: fields")
def header_fields(chance: random.Random, folder: Path) -> Path:
    header, content = parts(plain_weights())
    path, _ = chance.choice([one for one in places(header) if one[0]])
    made = changed(header, path, chance.choice([*HUGE, "F32", "\ud800", -(2**63), ["a"], {"b": 1}, [0, 0, 0]]))
    return written(joined(json.dumps(made), content), folder / "model.safetensors")


@family("header: types")
def types(chance: random.Random, folder: Path) -> Path:
    header, content = parts(plain_weights())
    name = chance.choice([one for one in header if one != "__metadata__"])
    header[name]["dtype"] = chance.choice(
        [
            "F4",
            "F6_E2M3",
            "F8_E5M2",
            "F8_E4M3",
            "F8_E8M0",
            "F8_E4M3FNUZ",
            "C64",
            "I64",
            "BOOL",
            "U16",
            "f32",
            "",
            "X" * 999,
        ]
    )
    if chance.random() < 0.7:  # with a shape that fits the bytes
        start, end = header[name]["data_offsets"]
        size = {"F4": 0.5, "F6_E2M3": 0.75, "C64": 8, "I64": 8, "U16": 2}.get(header[name]["dtype"], 1)
        header[name]["shape"] = [int((end - start) / size)]
    return written(joined(json.dumps(header), content), folder / "model.safetensors")


@family("header: shapes")
def shapes(chance: random.Random, folder: Path) -> Path:
    header, content = parts(plain_weights())
    name = chance.choice([one for one in header if one != "__metadata__"])
    header[name]["shape"] = chance.choice([[2**63], [2**32, 2**32], [0, 2**62], [-1, -4], [1] * 99, [4.0], "4", None])
    if chance.random() < 0.3:
        header[name]["data_offsets"] = chance.choice([[0, 0], [0, 2**63], [-8, 0], [8, 0], [0, 4, 8], None])
    return written(joined(json.dumps(header), content), folder / "model.safetensors")


@family("header: names")
def names(chance: random.Random, folder: Path) -> Path:
    header, content = parts(plain_weights())
    old = chance.choice(list(header))
    strange = [
        "",
        "__metadata__",
        "../../x",
        "a" * 10_000,
        "a\nb",
        "\u202e",
        "weight.codes",
        "forward",
        "__class__",
        "²",
    ]
    made = {chance.choice(strange) if name == old else name: about for name, about in header.items()}
    return written(joined(json.dumps(made), content), folder / "model.safetensors")


@family("header: a name twice")
def twice(chance: random.Random, folder: Path) -> Path:
    header, content = parts(plain_weights())
    name = chance.choice(list(header))
    text = json.dumps(header)[:-1] + f', "{name}": {json.dumps(header[name])}}}'
    return written(joined(text, content), folder / "model.safetensors")


@family("header: texts")
def header_texts(chance: random.Random, folder: Path) -> Path:
    header, content = parts(plain_weights())
    header["__metadata__"] = chance.choice([[], "x", {"architecture": 3}, {"architecture": "["}, {"a": None}, 17])
    return written(joined(json.dumps(header), content), folder / "model.safetensors")


@family("weights: not finite")
def not_finite(chance: random.Random, folder: Path) -> Path:
    state = {name: tensor.clone() for name, tensor in mlp((4, 6, 3)).module.state_dict().items()}
    tensor = state[chance.choice(list(state))]
    tensor.view(-1)[chance.randrange(tensor.numel())] = chance.choice([float("nan"), float("inf"), -float("inf")])
    kind = chance.choice([torch.float64, torch.float32, torch.float16, torch.bfloat16])
    save_file({name: one.to(kind) for name, one in state.items()}, folder / "model.safetensors")
    return folder / "model.safetensors"


@family("weights: odd shapes")
def odd_shapes(chance: random.Random, folder: Path) -> Path:
    names = ["characters.weight", "positions.weight", "blocks.0.up.weight", "0.weight", "0.bias", "conv.weight"]
    sizes = [[0], [0, 3], [1, 0], [], [1], [2, 3], [3, 2, 1], [1, 1, 1, 1, 1, 1], [5, 5], [100_000, 1]]
    state = {name: torch.zeros(chance.choice(sizes)) for name in chance.sample(names, chance.randint(1, len(names)))}
    save_file(state, folder / "model.safetensors")
    return folder / "model.safetensors"


# Pickles


def pickled(content: Any = None) -> bytes:
    """A file of torch.save."""
    buffer = io.BytesIO()
    torch.save(mlp((4, 6, 3)).module.state_dict() if content is None else content, buffer)
    return buffer.getvalue()


@family("pickle: stream")
def stream(chance: random.Random, folder: Path) -> Path:
    """An archive of torch.save in which the pickle is another one."""
    marked = str(folder / "ran").encode()
    evil = b"cos\nmkdir\n(V" + marked + b"\ntR."
    streams = [evil, b"\x80\x02" + evil, b"\x80\x02}.", b"\x80\x02K\x05.", b"", b"garbage", b"\x80\x02]q\x00h\x00a."]
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(pickled())) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            target.writestr(name, chance.choice(streams) if name.endswith("data.pkl") else source.read(name))
    return written(buffer.getvalue(), folder / "model.pt")


@family("pickle: entries")
def entries(chance: random.Random, folder: Path) -> Path:
    content: Any = chance.choice(
        [
            {"\ud800": torch.ones(2)},
            {"__metadata__": torch.ones(2), "a": torch.ones(2)},
            {"": torch.ones(2)},
            {"a\n": torch.ones(2)},
            {10**50: torch.ones(1), "a": torch.ones(1)},
            {"a": torch.ones(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)},
            {"a": torch.ones(4, dtype=torch.complex64)},
            {"a": torch.ones(1).expand(10**5, 10**5)},
            {"model": {"model": {"model": {}}}},
            {"a": torch.eye(3).to_sparse()},
            [torch.ones(2)],
        ]
    )
    return written(pickled(content), folder / "model.pt")


# Files that this product saved


@functools.cache
def saved(kind: str) -> Model:
    """A small model of a kind."""
    if kind == "composed":
        from tests.patients import split_digits

        model = split_digits()
        return together(model, model.parts)
    if kind == "packed":
        model = mlp((4, 6, 3))
        held = {}
        for name, parameter in model.module.named_parameters():
            if parameter.dim() == 2:
                held[name] = Packing(torch.full((len(parameter),), 4), torch.full((len(parameter),), -2.0))
                with torch.no_grad():
                    parameter.copy_((parameter * 4).round().clamp(-8, 7) / 4)
        return replace(model, held=held)
    return mlp((4, 6, 3)) if kind == "mlp" else digits()


@functools.cache
def described_bytes(kind: str) -> bytes:
    """Such a model as this product saves it, in one file."""
    about, tensors = described_parts(kind)
    return save(tensors, metadata={"architecture": json.dumps(about)})


def described_parts(kind: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The description and the tensors of such a model."""
    model = saved(kind)
    about = json.loads(describe(model).model_dump_json())
    own = {name: tensor for name, tensor in model.module.state_dict().items() if name not in about["tied"]}
    return about, {name: tensor.contiguous().clone() for name, tensor in stored(own, model.held).items()}


def _described(about: Any, tensors: dict[str, torch.Tensor], folder: Path) -> Path:
    text = about if isinstance(about, str) else json.dumps(about)
    save_file(tensors, folder / "model.safetensors", metadata={"architecture": text})
    return folder / "model.safetensors"


def _any_kind(chance: random.Random) -> str:
    return chance.choice(["mlp", "digits", "composed", "packed"])


@family("description: values")
def description_values(chance: random.Random, folder: Path) -> Path:
    about, tensors = described_parts(_any_kind(chance))
    path, _ = chance.choice([one for one in places(about) if one[0]])
    return _described(changed(about, path, chance.choice([*HUGE, float("nan"), "x", [1] * 5000])), tensors, folder)


@family("description: pointers")
def description_pointers(chance: random.Random, folder: Path) -> Path:
    about, tensors = described_parts(_any_kind(chance))
    path, _ = chance.choice([one for one in places(about) if isinstance(one[1], (str, int, float))])
    return _described(changed(about, path, chance.choice(pointers(folder))), tensors, folder)


@family("description: forbidden names")
def description_names(chance: random.Random, folder: Path) -> Path:
    about, tensors = described_parts(_any_kind(chance))
    path, inner = chance.choice([one for one in places(about) if isinstance(one[1], dict)])
    made = {**inner, chance.choice(FORBIDDEN): chance.choice(pointers(folder))}
    return _described(changed(about, path, made), tensors, folder)


@family("description: architecture")
def description_architecture(chance: random.Random, folder: Path) -> Path:
    about, tensors = described_parts("mlp")
    evil = str(folder / "planted" / "planted.pt")
    config = {"model_type": "timm_wrapper", "model_args": {"checkpoint_path": evil}, "architecture": "resnet10t"}
    about["name"], about["arguments"] = chance.choice(
        [
            ("hf/image-classification", {"config": config}),
            ("hf/image-classification", {"config": {**VIT, "hidden_size": 10**9}}),
            ("timm/resnet10t", {"checkpoint_path": evil}),
            ("torchvision/resnet18", {"weights": evil}),
            ("fleet/members", {}),
            ("fleet/guest", {"host": {"name": "mlp", "arguments": {}}, "guest": {}, "share": {}}),
            ("composed/network", {"input": {}, "members": [{"name": "hf/x", "arguments": config}], "outputs": 1}),
            ("custom/net", {"path": evil}),
            ("../x", {}),
            ("mlp", {"sizes": [4] * 4000}),
            ("mlp", {"sizes": [2**31 - 1, 2**31 - 1]}),
            ("text/decoder", {"alphabet": 10, "context": 4, "depth": 10**6}),
        ]
    )
    return _described(about, tensors, folder)


@family("description: attributes and ties")
def description_attributes(chance: random.Random, folder: Path) -> Path:
    about, tensors = described_parts(chance.choice(["mlp", "digits"]))
    layer, weight = ("0", "0.weight") if about["name"] == "mlp" else ("head", "head.weight")
    about["attributes"], about["tied"] = chance.choice(
        [
            ({layer: {"forward": "x"}}, {}),
            ({layer: {"in_features": 10**9}}, {}),
            ({layer: {"in_features": -1}}, {}),
            ({"": {"__class__": "x"}}, {}),
            ({"nowhere": {"in_features": 3}}, {}),
            ({layer: {"_parameters": 3}}, {}),
            ({}, {weight: "forward"}),
            ({}, {weight: f"{layer}.forward"}),
            ({}, {weight: "nowhere"}),
            ({}, {weight: weight}),
            ({}, {"nowhere": weight}),
            ({}, {"forward": weight}),
        ]
    )
    if weight in about["tied"] and chance.random() < 0.5:
        tensors.pop(weight, None)
    return _described(about, tensors, folder)


@family("description: input and classes")
def description_input(chance: random.Random, folder: Path) -> Path:
    about, tensors = described_parts(chance.choice(["mlp", "digits"]))
    shapes = [[], [0], [-4], [10**9], [1, 10**5, 10**5], [1, 8, 8, 8], [4.5], ["4"], None, [2**63]]
    about["input"][chance.choice(["shape", "mean", "std", "kind", "alphabet"])] = chance.choice(
        [*shapes, ["a", "a", "b"], "text", [1e308], [float("inf")], ["ab", "", "\ud800"]]
    )
    if chance.random() < 0.5:
        about["classes"] = chance.choice(
            [[], ["a", "a", "a"], [1, 2, 3], "abc", ["\ud800", "b", "c"], ["x" * 10**6] * 3]
        )
    return _described(json.dumps(about), tensors, folder)


@family("description: text")
def description_text(chance: random.Random, folder: Path) -> Path:
    about, tensors = described_parts("mlp")
    text = json.dumps(about)
    made = chance.choice(
        [
            text[:-1] + ', "name": "mlp"}',
            text.replace('"arguments": {', '"arguments": {"sizes": [4, 3], '),
            "[" * 5000,
            "",
            "null",
            "[]",
            '"x"',
            text[: chance.randrange(len(text))],
            text.replace("4", "NaN", 1),
            text.replace("4", "9" * 5000, 1),
            text.replace("4", "1e999", 1),
        ]
    )
    return _described(made, tensors, folder)


@family("packed weights")
def packed(chance: random.Random, folder: Path) -> Path:
    about, tensors = described_parts("packed")
    name = "0.weight"
    change = chance.randrange(8)
    if change == 0:
        del tensors[f"{name}.{chance.choice(['bits', 'exponent', 'layout'])}"]
    elif change == 1:
        layouts = [[5, 6, 4], [-1, 6, 4], [0], [], [0, -6, 4], [0, 6, 0], [0, 6, 2**31 - 1, 2**31 - 1], [0] + [1] * 40]
        tensors[f"{name}.layout"] = torch.tensor(chance.choice(layouts), dtype=torch.int32)
    elif change == 2:  # 2^30 weights of no bits
        tensors[f"{name}.bits"] = torch.zeros(6, dtype=torch.uint8)
        tensors[f"{name}.codes"] = torch.zeros(0, dtype=torch.uint8)
        tensors[f"{name}.layout"] = torch.tensor([0, 6, 2**30 // 6], dtype=torch.int32)
    elif change == 3:
        tensors[f"{name}.exponent"] = torch.full((6,), chance.choice([float("inf"), float("nan"), 60000.0])).half()
    elif change == 4:
        tensors[f"{name}.bits"] = torch.full((6,), chance.choice([17, 255]), dtype=torch.uint8)
    elif change == 5:
        part = chance.choice(list(tensors))
        tensors[part] = tensors[part].float() if chance.random() < 0.5 else tensors[part].reshape(1, -1)
    elif change == 6:
        tensors[f"{name}.codes"] = tensors[f"{name}.codes"][: chance.randrange(3)]
    else:
        tensors["nowhere.codes"] = torch.zeros(1, dtype=torch.uint8)
    return _described(about, tensors, folder)


# Configurations


def _config(value: Any, folder: Path) -> Path:
    text = value if isinstance(value, str) else json.dumps(value)
    return written(text.encode("utf-8", "surrogatepass"), folder / "config.json")


def _any_config(chance: random.Random) -> dict[str, Any]:
    return copy.deepcopy(chance.choice([VIT, CLIP, LLAMA]))


@family("config: pointers")
def config_pointers(chance: random.Random, folder: Path) -> Path:
    config = _any_config(chance)
    path, _ = chance.choice([one for one in places(config) if one[0] and not isinstance(one[1], dict)])
    return _config(changed(config, path, chance.choice(pointers(folder))), folder)


@family("config: forbidden names")
def config_names(chance: random.Random, folder: Path) -> Path:
    config = _any_config(chance)
    path, inner = chance.choice([one for one in places(config) if isinstance(one[1], dict)])
    value: Any = chance.choice(pointers(folder))
    made = {**inner, chance.choice(FORBIDDEN): chance.choice([value, {"checkpoint_path": value}, [value], True])}
    return _config(changed(config, path, made), folder)


@family("config: sizes")
def config_sizes(chance: random.Random, folder: Path) -> Path:
    config = _any_config(chance)
    path, _ = chance.choice([one for one in places(config) if type(one[1]) in (int, float)])
    return _config(changed(config, path, chance.choice([*HUGE, float("nan"), float("inf"), [[[[[[1]]]]]]])), folder)


@family("config: wrappers")
def config_wrappers(chance: random.Random, folder: Path) -> Path:
    evil = chance.choice(pointers(folder))
    arguments = {"checkpoint_path": evil, "pretrained_cfg": {"file": evil}, "pretrained": True}
    kind = chance.choice(
        ["timm_wrapper", "timm_backbone", "layoutlmv2", "mra", "upernet", "vit.text", "clip.vision_config"]
    )
    return _config(
        {
            **VIT,
            "model_type": kind,
            "architecture": chance.choice(["resnet10t", evil]),
            "model_args": arguments,
            "backbone": evil,
            "use_timm_backbone": True,
            "auto_map": {"AutoConfig": evil},
        },
        folder,
    )


@family("config: texts")
def config_texts(chance: random.Random, folder: Path) -> Path:
    text = json.dumps(VIT)
    made = chance.choice(
        [
            text[:-1] + ', "hidden_size": 48}',
            "[" * 100_000,
            json.dumps({**VIT, "id2label": {"²": "a"}}),
            json.dumps({**VIT, "id2label": {"0": {"a": 1}, "1": None}}),
            json.dumps({**VIT, "id2label": {"0": "\ud800"}}),
            json.dumps({**VIT, "id2label": "abc"}),
            json.dumps({**VIT, "num_channels": 10**12}),
            json.dumps({**VIT, "model_type": ["vit"]}),
            json.dumps({**VIT, "model_type": chance.choice(pointers(folder))}),
            "\ufeff" + text,
            "null",
            "",
        ]
    )
    return _config(made, folder)
