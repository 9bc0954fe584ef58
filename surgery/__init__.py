"""Model Surgery: number every neuron of a trained network once, then see, preview, change, compare and undo.

Importing this package is cheap: torch, umap and scikit-learn are imported when one of its names is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = [
    "Compose",
    "Compress",
    "Context",
    "Extend",
    "Forget",
    "Patch",
    "Plan",
    "Prune",
    "Readapt",
    "SelfCompress",
    "Share",
    "SlimMlp",
    "Split",
    "Workspace",
    "gate",
    "load",
    "run",
    "save",
    "scan",
    "shrink",
]

if TYPE_CHECKING:
    from surgery.analysis.scan import scan
    from surgery.context import Context
    from surgery.edit.gate import gate
    from surgery.edit.shrink import shrink
    from surgery.network.store import load, save
    from surgery.operations.compose import Compose
    from surgery.operations.compress import Compress
    from surgery.operations.extend import Extend
    from surgery.operations.forget import Forget
    from surgery.operations.patch import Patch
    from surgery.operations.prune import Prune
    from surgery.operations.readapt import Readapt
    from surgery.operations.self_compress import SelfCompress
    from surgery.operations.share import Share
    from surgery.operations.slim_mlp import SlimMlp
    from surgery.operations.split import Split
    from surgery.plan import Plan, run
    from surgery.workspace import Workspace

_HOMES = {
    "scan": "analysis.scan",
    "Context": "context",
    "gate": "edit.gate",
    "shrink": "edit.shrink",
    "load": "network.store",
    "save": "network.store",
    "Compose": "operations.compose",
    "Compress": "operations.compress",
    "Patch": "operations.patch",
    "Split": "operations.split",
    "Extend": "operations.extend",
    "Forget": "operations.forget",
    "Prune": "operations.prune",
    "Readapt": "operations.readapt",
    "SelfCompress": "operations.self_compress",
    "Share": "operations.share",
    "SlimMlp": "operations.slim_mlp",
    "Plan": "plan",
    "run": "plan",
    "Workspace": "workspace",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'surgery' has no attribute {name!r}")
    return getattr(import_module(f"surgery.{_HOMES[name]}"), name)
