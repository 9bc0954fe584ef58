"""Turn one .pt file into safetensors: what `read` lets `sandbox` run in a process of its own with hard limits.

Knows nothing of the rest of the product: torch and safetensors alone are imported.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.network import foreign, pickled

if TYPE_CHECKING:
    from torch import Tensor

# Under which name a checkpoint keeps the weights of its network; where several are there, the first of these counts.
WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights", "params"),
    *("net_state_dict", "network_state_dict", "model_weights", "model_dict", "state", "backbone", "encoder", "student"),
    *("ema", "model_ema", "ema_state_dict", "state_dict_ema", "params_ema", "ema_model", "teacher"),
)
PREFIXES = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before every name …
INFIXES = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # … and wrappers inside it
COUNTERS = ("n_averaged",)  # of torch.optim.swa_utils.AveragedModel, beside the wrapped names
EXPANSION = 4  # tensors may be at most this many times larger than their file: tied ones are stored once
SLACK = 512 << 20  # bytes of memory beyond what the file's size explains


class RefusedError(Exception):
    """Why the file cannot be converted: a code that `read` knows, the detail, and what its pickle would build."""

    def __init__(self, code: str, detail: str = "", survey: pickled.Survey | None = None) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.survey = survey


def answer(argument: Mapping[str, str]) -> dict[str, Any]:
    """Convert the file `source` into the file `target`: {"names", "ignored"}, or {"error", "detail"} of a refusal,
    with {"classes", "key", "module", "by_torch"} of a pickle: the classes it names, under which key a network or its
    tensors lie (None: it is one), whether it is a network, and whether torch.save wrote it.
    """
    source, target = Path(argument["source"]), Path(argument["target"])
    try:
        return convert(source, target, mapped=is_archive(source))
    except RefusedError as refused:
        return {"error": refused.code, "detail": refused.detail[:300], **_about(refused.survey)}


def _about(survey: pickled.Survey | None) -> dict[str, Any]:
    if survey is None:
        return {}
    keys = [kind for wanted in ("module", "tensors") for kind in _ordered(survey.keys, wanted)]
    return {
        "classes": [_short(name) for name in survey.classes],
        "key": None if survey.is_module or not keys else keys[0],
        "by_torch": survey.by_torch,
        "module": survey.is_module or (bool(keys) and survey.keys[keys[0]] == "module"),
    }


def _ordered(keys: Mapping[str, str], wanted: str) -> list[str]:
    """The printable keys of a kind, those that are known first."""
    found = [key for key, kind in keys.items() if kind == wanted and _short(key) == key]
    return sorted(found, key=lambda key: WRAPPERS.index(key) if key in WRAPPERS else len(WRAPPERS))


def convert(source: Path, target: Path, *, mapped: bool) -> dict[str, Any]:
    """Read `source` without running anything from it and write its tensors to `target`.

    mapped: leave the tensors in the file until they are needed; only the zip layout allows it.

    Raises:
        RefusedError: it is no plain state_dict. MemoryError: it asks for more than it may.
    """
    import torch
    from safetensors.torch import save_file

    try:
        with source.open("rb") as file:  # torch trusts a name that ends with .safetensors more than the content
            by_name = mapped and source.suffix != ".safetensors"
            loaded = torch.load(source if by_name else file, map_location="cpu", weights_only=True, mmap=by_name)
    except MemoryError:
        raise
    except Exception as error:  # whatever a hostile file provokes: it is told, and this process ends
        raise _reason(error, source) from error
    tensors, ignored = _state_dict(loaded)
    size = source.stat().st_size
    described = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if described > EXPANSION * size + SLACK // 8:
        raise RefusedError("expands", f"{described} bytes of weights from {size} bytes of file")
    owned = dict(_owned(tensors))
    save_file(owned, target)
    return {"names": list(owned), "ignored": ignored}


def is_archive(source: Path) -> bool:
    """Whether it is a zip as torch.save writes it; an older plain pickle is not.

    Raises:
        RefusedError: another kind of archive, or a broken one.
    """
    with source.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False
    try:
        with zipfile.ZipFile(source) as archive:
            names = [name.partition("/")[2] or name for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise RefusedError("damaged", str(error)) from error
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        data = any(name.startswith("data/") for name in names)
        raise RefusedError("torchscript" if data else "frozen")
    if "archive_format" in names or "models/model.json" in names:
        raise RefusedError("exported")
    if "data.pkl" not in names:
        raise RefusedError(foreign.of_zip(names) or "archive", ", ".join(names[:3]))
    return True


def _reason(error: Exception, source: Path) -> Exception:
    """What torch's refusal means."""
    text = str(error)
    if "allocate" in text:
        return MemoryError(text)
    survey = pickled.survey(source)
    if "GLOBAL " in text:
        return RefusedError("objects", text.partition("GLOBAL ")[2].split()[0], survey)
    named = [name for name in survey.classes if name != "collections.OrderedDict"]
    if named and (survey.whole or not named[0].startswith("torch.")):  # in order, but nothing that torch wrote
        return RefusedError("objects", named[0], survey)
    if survey.whole and not zipfile.is_zipfile(source):
        return RefusedError("content", "a pickle of plain values")
    if "Weights only load failed" in text:  # what follows advises to load it without protection
        return RefusedError("damaged", "it is no pickle of weights")
    return RefusedError("damaged", text)


def _state_dict(loaded: Any) -> tuple[dict[str, Tensor], list[str]]:
    """The weights in what was loaded, and the names of what is not weights.

    Raises:
        RefusedError: there are none.
    """
    if not isinstance(loaded, Mapping):
        raise RefusedError("content", f"a {type(loaded).__name__}")
    inner = _inner(loaded)
    if inner is not None:
        tensors, ignored = _state_dict(loaded[inner])
        return tensors, [*ignored, *(_short(name) for name in loaded if name != inner)]
    tensors, ignored = _split(loaded)
    if not tensors:
        raise RefusedError("content", f"a dict of {', '.join(ignored[:5]) or 'nothing'}")
    counters = [name for name in COUNTERS if name in tensors and len(tensors) > 1]
    return _without_prefix({name: tensors[name] for name in tensors if name not in counters}), [*ignored, *counters]


def _inner(loaded: Mapping[Any, Any]) -> Any:
    """The key under which a checkpoint keeps its network: one that is known, else the only one with tensors."""
    known = next((name for name in WRAPPERS if isinstance(loaded.get(name), Mapping)), None)
    if known is not None:
        return known
    holders = [name for name, value in loaded.items() if isinstance(value, Mapping) and _has_tensors(value)]
    loose = _has_tensors(loaded)
    return holders[0] if len(holders) == 1 and not loose and isinstance(holders[0], str) else None


def _has_tensors(values: Mapping[Any, Any]) -> bool:
    import torch

    return any(isinstance(value, torch.Tensor) and value.dim() for value in values.values())


def _split(loaded: Mapping[Any, Any]) -> tuple[dict[str, Tensor], list[str]]:
    """Entries that are dense tensors, and the names of all others."""
    import torch

    tensors, ignored = {}, []
    for name, value in loaded.items():
        if isinstance(name, str) and isinstance(value, torch.Tensor):
            if not name or len(name) > 500 or not name.isprintable() or name == "__metadata__":
                raise RefusedError("name", ascii(name[:80]))
            if value.layout != torch.strided or value.is_quantized or value.is_meta:
                raise RefusedError("tensor", name)
            tensors[name] = value.detach()
        else:
            ignored.append(_short(name))
    return tensors, ignored


def _short(name: Any) -> str:
    """What an entry is called, printable; a key can be anything that a pickle may hold."""
    text = name if isinstance(name, str) else type(name).__name__ if not isinstance(name, (int, float)) else str(name)
    return "".join(letter if letter.isprintable() else "?" for letter in text[:60])


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Strip what wrappers put before every name, and inside names where no module is called so."""
    for infix in INFIXES:
        tensors = {name.replace(f".{infix}", "."): tensor for name, tensor in tensors.items()}
    for prefix in PREFIXES:
        if all(name.startswith(prefix) and name != prefix for name in tensors):
            return _without_prefix({name.removeprefix(prefix): tensor for name, tensor in tensors.items()})
    return tensors


def _owned(tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The tensors with a storage each, as safetensors wants them; what has one already is not copied."""
    seen: set[int] = set()
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        alone = tensor.is_contiguous() and storage.nbytes() == tensor.nbytes and storage.data_ptr() not in seen
        seen.add(storage.data_ptr())
        yield name, tensor if alone else tensor.contiguous().clone()
