"""Model files that are not read here: what each is, by its first bytes, and how its owner gets weights out of it.

Nothing is opened and nothing is run: advice is text, with the lines of Python that convert the file where its owner
trusts it. The lines write `model.safetensors`, which is read here. A file from which no weights can be had gets none.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SAVE = """\
from safetensors.torch import save_file
save_file({name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}, "model.safetensors")"""
_CONVERT = "Convert it where you trust the file, then import model.safetensors:"
_REBUILD = (
    "Write the network as a PyTorch class under these names, register it (surgery --architectures FILE.py), and "
    "convert the weights where you trust the file; dense and convolution kernels are turned to PyTorch's order:"
)
_TURN = """\
def turned(name, value):  # to PyTorch's names and order of axes
    for old, new in {"kernel": "weight", "gamma": "weight", "scale": "weight", "beta": "bias", "embedding": "weight",
                     "embeddings": "weight", "moving_mean": "running_mean", "moving_variance": "running_var",
                     "mean": "running_mean", "var": "running_var"}.items():
        if name.endswith("." + old):
            if old == "kernel" and value.ndim == 2:
                value = value.T
            elif old == "kernel" and value.ndim > 2:
                value = value.transpose(value.ndim - 1, value.ndim - 2, *range(value.ndim - 2))
            name = name.removesuffix(old) + new
            break
    return name, torch.tensor(value)
"""
_STATE = "Save the weights alone where the network was trained, and import that file:"
_PYTORCH = f"import torch\nweights = model.state_dict()  # model: your torch.nn.Module\n{SAVE}"


@dataclass(frozen=True)
class Advice:
    """What a file is (the end of a sentence that begins with its name), what to do, and the lines that do it."""

    what: str
    words: str
    lines: str = ""

    def fix(self, name: str) -> str:
        """The next step for the file `name`, with the lines, if any, after an empty one."""
        lines = self.lines.replace('"FILE"', json.dumps(name, ensure_ascii=False))
        return f"{self.words}\n\n{lines}" if lines else self.words


_KERAS_LINES = f"""\
import keras, numpy, torch
model = keras.saving.load_model("FILE", compile=False)
{_TURN}
weights = dict(turned(value.path.replace("/", "."), numpy.array(value)) for value in model.weights)
{SAVE}"""
_SAVED_MODEL_LINES = f"""\
import tensorflow, torch
model = tensorflow.saved_model.load("FOLDER")  # the folder that holds saved_model.pb
{_TURN}
weights = dict(turned(v.name.split(":")[0].replace("/", "."), v.numpy()) for v in model.variables)
{SAVE}"""
_FLAX_LINES = f"""\
import torch
from pathlib import Path
from flax.serialization import msgpack_restore
{_TURN}
def flat(tree, prefix=""):
    for name, value in tree.items():
        yield from flat(value, f"{{prefix}}{{name}}.") if isinstance(value, dict) else [turned(prefix + name, value)]

weights = dict(flat(msgpack_restore(Path("FILE").read_bytes())))
{SAVE}"""
_ONNX_LINES = f"""\
import onnx, torch
from onnx.numpy_helper import to_array
graph = onnx.load("FILE").graph
found = {{tensor.name: to_array(tensor) for tensor in graph.initializer}}
for node in graph.node:  # some exporters write weights as constants
    if node.op_type == "Constant":
        found |= {{node.output[0]: to_array(part.t) for part in node.attribute if part.name == "value"}}
weights = {{name: torch.tensor(value) for name, value in found.items() if value.ndim and value.dtype.kind == "f"}}
{SAVE}"""
_NPZ_LINES = f"""\
import numpy, torch
weights = {{name.replace("/", "."): torch.tensor(value) for name, value in numpy.load("FILE").items()}}
{SAVE}"""
_SKLEARN_LINES = f"""\
import joblib, torch
model = joblib.load("FILE")  # runs code from the file
model = model[-1] if hasattr(model, "steps") else model  # of a pipeline, the last step
weights = {{}}
for place, (weight, bias) in enumerate(zip(model.coefs_, model.intercepts_)):
    weights[f"{{2 * place}}.weight"], weights[f"{{2 * place}}.bias"] = torch.tensor(weight.T), torch.tensor(bias)
if model.out_activation_ == "logistic" and len(bias) == 1:  # two classes from one output
    weights = {{name: torch.cat([torch.zeros_like(value), value]) if name.startswith(f"{{2 * place}}.") else value
               for name, value in weights.items()}}
weights = {{name: value.float() for name, value in weights.items()}}
{SAVE}"""
_LOADS = 'torch.load("FILE", map_location="cpu", weights_only=False)  # runs code from the file'
_UNPICKLES = 'pickle.load(open("FILE", "rb"))  # runs code from the file'
_MODULE_LINES = f"model = KEY\nweights = model.float().state_dict()\n{SAVE}"
_CHECKPOINT_LINES = f"weights = {{name: value for name, value in KEY.items() if torch.is_tensor(value)}}\n{SAVE}"
_ARRAYS = "weights = {str(name): torch.as_tensor(value) for name, value in found.items() if hasattr(value, 'shape')}"

KINDS: dict[str, Advice] = {
    "torchscript": Advice(
        "a TorchScript program, not weights",
        _CONVERT,
        f'import torch\nweights = torch.jit.load("FILE", map_location="cpu").state_dict()\n{SAVE}',
    ),
    "frozen": Advice(
        "a frozen TorchScript program: its weights are constants without names",
        "Import the network from before torch.jit.freeze: its state_dict, or the TorchScript that was frozen.",
    ),
    "exported": Advice(
        "a torch.export program (.pt2), which can run code when opened",
        _CONVERT,
        f'import torch\nweights = torch.export.load("FILE").state_dict  # may run code\n{SAVE}',
    ),
    "onnx": Advice(
        "an ONNX model, not weights",
        "Register its network as a PyTorch class (surgery --architectures FILE.py) whose tensors are called as in the "
        "ONNX file, and convert the weights:",
        _ONNX_LINES,
    ),
    "keras": Advice("a Keras model", _REBUILD, _KERAS_LINES),
    "hdf5": Advice("an HDF5 (Keras) file", _REBUILD, _KERAS_LINES),
    "saved_model": Advice("a TensorFlow SavedModel", _REBUILD, _SAVED_MODEL_LINES),
    "tensorflow": Advice(
        "a TensorFlow graph",
        "Its weights are constants of a graph. Import the model that it was made of: save that in the .keras format.",
    ),
    "tflite": Advice(
        "a TensorFlow Lite model",
        "Its layers are fused and its weights may be quantized. Import the model that it was converted from: its "
        ".keras file or SavedModel.",
    ),
    "coreml": Advice("a Core ML model", "Import the PyTorch or Keras model that it was converted from."),
    "openvino": Advice("an OpenVINO model", "Import the PyTorch, ONNX or Keras model that it was converted from."),
    "gguf": Advice(
        "a GGUF file",
        "It holds a language model with tokens for llama.cpp, which is not supported. Supported are classifiers, "
        "regression of one target, and language models of characters.",
    ),
    "flax": Advice("a Flax checkpoint (msgpack)", _REBUILD, _FLAX_LINES),
    "npz": Advice(
        "an archive of NumPy arrays (npz)",
        "If these are the weights of a network, convert them, then import model.safetensors:",
        _NPZ_LINES,
    ),
    "numpy": Advice("a single NumPy array, not the weights of a network", "Import the file with all of its weights."),
    "sklearn_mlp": Advice(
        "a scikit-learn model with an MLP, stored as Python objects that can run code when opened",
        _CONVERT,
        _SKLEARN_LINES,
    ),
    "sklearn": Advice(
        "a scikit-learn model, not a neural network",
        "Import a neural network; of scikit-learn, an MLPClassifier or MLPRegressor can be converted.",
    ),
    "trees": Advice("a gradient-boosting model, not a neural network", "Import a neural network."),
    "fastai": Advice(
        "a fastai learner, stored as Python objects that can run code when opened",
        _CONVERT,
        f'from fastai.learner import load_learner\nweights = load_learner("FILE").model.state_dict()\n{SAVE}',
    ),
    "arrays": Advice(
        "a pickle of arrays, which can run code when opened",
        _CONVERT,
        f"import pickle, torch\nfound = {_UNPICKLES}\n{_ARRAYS}\n{SAVE}",
    ),
    "saved_arrays": Advice(
        "a file of torch.save with NumPy arrays, which can run code when opened",
        _CONVERT,
        f"import torch\nfound = {_LOADS}\n{_ARRAYS}\n{SAVE}",
    ),
    "joblib": Advice(
        "a joblib file of arrays, which can run code when opened",
        _CONVERT,
        f'import joblib, torch\nfound = joblib.load("FILE")  # runs code from the file\n{_ARRAYS}\n{SAVE}',
    ),
    "compressed": Advice(
        "a compressed pickle, as joblib writes it",
        "If it is a scikit-learn model with an MLP, convert it where you trust the file:",
        _SKLEARN_LINES,
    ),
    "git_lfs": Advice(
        "a Git LFS pointer, not the file itself", "Run `git lfs pull` in the repository, then import the file."
    ),
    "page": Advice("a web page or XML", "Download the file itself: the address led to a page about it, or to a login."),
    "gzip": Advice("a gzip archive", "Unpack it (gunzip), and import the file inside."),
    "7z": Advice("a 7z archive", "Unpack it, and import the file inside."),
    "tar": Advice("a tar archive", "Unpack it, and import the file inside."),
    "png": Advice("a PNG picture", "Import it as data, in a zip of class folders."),
    "jpeg": Advice("a JPEG picture", "Import it as data, in a zip of class folders."),
    "pdf": Advice("a PDF", "Import a file of weights: .safetensors, .pt or .pth."),
    "text": Advice(
        "neither safetensors nor a file of torch.save, but text", "Import a file of weights: .safetensors, .pt or .pth."
    ),
    "unknown": Advice(
        "neither safetensors nor a file of torch.save",
        f"Import a file of weights: .safetensors, .pt or .pth. {_STATE}",
        _PYTORCH,
    ),
    "empty": Advice("", _STATE, _PYTORCH),
}

# What a file begins with when it is something else: bytes, where they stand, which kind.
_MARKS: tuple[tuple[bytes, int, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", 0, "hdf5"),
    (b"TFL3", 4, "tflite"),
    (b"GGUF", 0, "gguf"),
    (b"\x93NUMPY", 0, "numpy"),
    (b"\x89PNG", 0, "png"),
    (b"\xff\xd8\xff", 0, "jpeg"),
    (b"%PDF", 0, "pdf"),
    (b"\x1f\x8b", 0, "gzip"),
    (b"7z\xbc\xaf", 0, "7z"),
    (b"ustar", 257, "tar"),
    (b"version https://git-lfs", 0, "git_lfs"),
)
_PRODUCER = re.compile(rb"[\x12\x1a]([\x01-\x60])([\x20-\x7e]+)")  # of ONNX: a short text comes second
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


def kind_of(path: Path, head: bytes) -> str:
    """Which of `KINDS` a file that begins with `head` is; "unknown" for none."""
    for mark, offset, kind in _MARKS:
        if head[offset : offset + len(mark)] == mark:
            return kind
    for kind, found in _TESTS:
        if found(path, head):
            return kind
    return "unknown"


def _is_onnx(path: Path, head: bytes) -> bool:
    """ONNX has no mark: a small version number, then the text of its producer, or the graph at once."""
    if path.suffix.lower() == ".onnx":
        return True
    producer = _PRODUCER.match(head, 2)
    told = producer is not None and len(producer[2]) >= producer[1][0]
    return head[:1] == b"\x08" and b"\x02" < head[1:2] < b"\x20" and (told or head[2:3] == b"\x3a")


def _is_flax(_path: Path, head: bytes) -> bool:
    """A map of MessagePack, whose first key is a short text."""
    start = {b"\xde": 3, b"\xdf": 5}.get(head[:1], 1)
    key = head[start : start + 1] or b"\0"
    maps = b"\x81" <= head[:1] <= b"\x8f" or start > 1
    name = head[start + 1 : start + 1 + (key[0] & 0x1F)]
    return maps and b"\xa1" <= key <= b"\xbf" and name.isascii() and name.decode("ascii").isprintable()


def _is_saved_model(path: Path, head: bytes) -> bool:
    """Version 1 of a schema, then a message with a message in front."""
    return path.name == "saved_model.pb" or (head[:3] == b"\x08\x01\x12" and b"\x0a" in head[4:9])


def _is_text(_path: Path, head: bytes) -> bool:
    try:
        text = head.decode("utf-8", errors="strict" if len(head) < 512 else "ignore")
    except UnicodeDecodeError:
        return False
    return len(text) > 3 and all(letter.isprintable() or letter.isspace() for letter in text)


_TESTS: tuple[tuple[str, Callable[[Path, bytes], bool]], ...] = (
    ("saved_model", _is_saved_model),
    ("onnx", _is_onnx),
    ("tensorflow", lambda path, head: path.suffix.lower() == ".pb" and head[:1] == b"\x0a"),
    ("coreml", lambda path, head: path.suffix.lower() == ".mlmodel"),
    ("openvino", lambda path, head: head[:1] == b"<" and b"<net " in head),
    ("page", lambda path, head: head[:1] == b"<"),
    ("trees", lambda path, head: head.startswith((b"tree\nversion", b'{"learner"', b"{L\0\0\0\0\0\0"))),
    ("compressed", lambda path, head: head[:2] in _ZLIB),
    ("flax", _is_flax),
    ("text", _is_text),
)


def of_folder(path: Path) -> Advice:
    """What to do about a folder that was given instead of a file."""
    names = {child.name for child in path.iterdir()}
    if "saved_model.pb" in names:
        return KINDS["saved_model"]
    weights = sorted(name for name in names if name.endswith((".safetensors", ".pt", ".pth", ".bin", ".ckpt")))
    if not weights:
        return Advice("a folder, not a file of weights", "Name a file in it: .safetensors, .pt or .pth.")
    config = f" --config {path / 'config.json'}" if "config.json" in names else ""
    first = next((name for name in weights if name == "model.safetensors"), weights[0])
    return Advice("a folder", f"Name the file in it: surgery import-model {path / first}{config}")


def of_zip(names: list[str]) -> str:
    """Which of `KINDS` a zip with these members is; "" for none."""
    last = {name.rpartition("/")[2] for name in names}
    if "saved_model.pb" in last:
        return "saved_model"
    if {"config.json", "model.weights.h5"} <= last:
        return "keras"
    return "npz" if names and all(name.endswith(".npy") for name in names) else ""


def of_pickle(classes: list[str]) -> str:
    """Which of `KINDS` a pickle is that names these classes ("module.Name"); "" for one of torch, and any other."""
    roots = {name.partition(".")[0] for name in classes}
    if roots & {"xgboost", "lightgbm", "catboost"}:
        return "trees"
    if roots & {"sklearn", "imblearn"}:
        return "sklearn_mlp" if any("multilayer_perceptron" in name for name in classes) else "sklearn"
    if "fastai" in roots:
        return "fastai"
    if roots & {"keras", "tensorflow", "tf_keras"}:
        return "keras"
    plain = {"numpy", "jax", "jaxlib", "collections", "builtins", "_codecs", "joblib"}
    return ("joblib" if "joblib" in roots else "arrays") if roots and roots <= plain else ""


def of_objects(classes: list[str], key: str | None, *, module: bool, by_torch: bool) -> Advice:
    """How to take weights out of a pickle with objects of these classes: under `key`, or as it is.

    module: it is a whole network, not a checkpoint of tensors and objects. by_torch: torch.save wrote it.
    """
    packages = [name.partition(".")[0] for name in classes]
    own = [name for name in packages if name not in ("torch", *sys.stdlib_module_names)]
    code = " and its code can be imported" if "__main__" in own else f" and {own[0]} is installed" if own else ""
    lines = _MODULE_LINES if module else _CHECKPOINT_LINES
    place = "found" if key is None else f"found[{json.dumps(key)}]"
    return Advice(
        "",
        _CONVERT.replace("where you trust the file", f"where you trust the file{code}"),
        (f"import torch\nfound = {_LOADS}\n" if by_torch else f"import pickle, torch\nfound = {_UNPICKLES}\n")
        + lines.replace("KEY", place),
    )
