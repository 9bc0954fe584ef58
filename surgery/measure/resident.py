"""How much memory models hold once they are loaded, asked of a process that has loaded nothing else.

    python -m surgery.measure.resident FOLDER …

prints {"weights", "process"} in bytes: of the distinct tensors of all stored models or fleets, and by how much loading
them and one pass of each let the process grow.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from surgery.children import environment
from surgery.errors import MeasureError

SECONDS = 300.0


def resident(folders: Sequence[Path]) -> dict[str, int]:
    """Load stored models or fleets in a clean process: bytes of their weights, and of the process's growth.

    Raises:
        MeasureError: it failed.
    """
    command = [sys.executable, "-m", "surgery.measure.resident", *map(str, folders)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True, env=environment())
        found: dict[str, int] = json.loads(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise MeasureError(f"Memory could not be measured: {str(said).strip()[-300:]}", "Free some memory.") from error
    return found


def measured(folders: Sequence[Path]) -> dict[str, int]:
    """What `resident` tells, of this process: of its growth only a clean one knows."""
    import torch

    from surgery.network import fleet_store, store
    from surgery.network.model import InputSpec
    from surgery.network.size import distinct

    process, loaded = psutil.Process(), []
    before = process.memory_info().rss
    for place, folder in enumerate(folders):
        about: dict[str, Any] = store.inspect(folder)
        module = fleet_store.load(folder) if about["name"] == fleet_store.NAME else store.load(folder).module
        kind, shape = about["input"]["kind"], tuple(about["input"]["shape"])
        with torch.inference_mode():
            module(InputSpec(kind, shape).example(1))
        loaded += [(f"{place}.{name}", tensor) for name, tensor in module.state_dict().items()]
    weights = sum(tensor.nbytes for _, tensor in distinct(loaded))
    return {"weights": weights, "process": process.memory_info().rss - before}


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    print(json.dumps(measured([Path(folder) for folder in sys.argv[1:]])))
