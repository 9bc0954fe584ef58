"""An exported folder is loaded with its own loader and run, as on another machine, before it is handed out.

The child has the limits of one that reads an upload, and finds installed libraries only: what the definition imports
from elsewhere on this machine will be missing where the export goes.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from surgery import sandbox, temporary
from surgery.errors import ModelError
from surgery.network import operator_files, trial
from surgery.network.outputs import alike, tensors
from surgery.network.proof import TOLERANCE
from surgery.network.store import DESCRIPTION

_MEMORY = 4 << 30  # bytes, beyond a multiple of the file


def check(folder: Path, module: torch.nn.Module, x: Tensor, name: str) -> str:
    """Compare an exported folder with the network that it was made of; return a module that is missing elsewhere.

    name: of the version or fleet, for messages. "" = the export stands alone; else its description says what it needs.

    Raises:
        ModelError: its loader fails, or returns something else.
    """
    size = sum(path.stat().st_size for path in folder.iterdir())
    with temporary.folder("export") as proof, torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        said = {f"y{place}": one.contiguous().clone() for place, one in enumerate(tensors(module(x)))}
        save_file({"x": x, **said}, proof / "proof.safetensors")
        found = sandbox.call(
            "surgery.network.export_check:run",
            {"folder": str(folder.resolve()), "proof": str(proof / "proof.safetensors"), "name": name},
            sandbox.Limits(60 + size // 10_000_000, _MEMORY + 8 * size, patience=6),
            name=f"the export of {name}",
            error=ModelError,
            imports=trial.libraries((folder / DESCRIPTION).read_text(encoding="utf-8")),
            readable=(folder, proof, operator_files.folder()),
        )
    if not found["needs"] and not found["off"] <= TOLERANCE:
        raise ModelError(
            f"{name} was not exported: what its loader rebuilds returns something else.",
            "Export ONNX instead, or correct the file that defines the architecture.",
        )
    if found["needs"]:
        about = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        about["definition"]["needs"] = found["needs"]
        (folder / DESCRIPTION).write_text(json.dumps(about, indent=1), encoding="utf-8")
    return str(found["needs"])


# In the child


def run(argument: Mapping[str, Any]) -> dict[str, Any]:
    """Load the folder and compare. Result: off, the relative difference; needs, a missing module.

    Raises:
        ModelError: the loader fails.
    """
    given = load_file(argument["proof"])
    x = given.pop("x")
    said = [given[f"y{place}"] for place in range(len(given))]
    try:
        with _elsewhere(), torch.no_grad():
            module = _loader(Path(argument["folder"])).load(argument["folder"])
            torch.manual_seed(0)
            off = alike(module(x), said)
    except ModuleNotFoundError as error:
        return {"off": None, "needs": str(error.name)}
    except MemoryError:
        raise
    except Exception as error:  # whatever a constructor or a network raises
        raise ModelError(
            f"{argument['name']} was not exported: its loader fails: {sandbox.described(error)}.",
            "Export ONNX instead, or correct the file that defines the architecture.",
        ) from error
    return {"off": min(off, 1e300), "needs": ""}  # JSON has no infinity


def _loader(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("exported_loader", folder / "loader.py")
    if spec is None or spec.loader is None:
        raise ValueError("there is no loader.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def _elsewhere() -> Iterator[None]:
    """Find installed libraries alone: neither this product nor what else lies on this machine's path."""
    installed = [str(Path(path).resolve()) for path in sysconfig.get_paths().values()]
    path, finders = sys.path[:], sys.meta_path[:]
    product = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "surgery"}
    sys.path[:] = [one for one in path if str(Path(one).resolve()).startswith(tuple(installed)) or one.endswith(".zip")]
    sys.meta_path[:] = [one for one in finders if "editable" not in getattr(one, "__module__", "")]
    for name in product:
        del sys.modules[name]
    try:
        yield
    finally:
        sys.path[:], sys.meta_path[:] = path, finders
        sys.modules.update(product)
