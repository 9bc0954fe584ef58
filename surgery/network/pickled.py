"""What a pickle would build, without building it: a stand-in that does nothing takes the place of every class.

Nothing that the file names is imported, and nothing of it is called. Runs in the limited child of `read`. Standard
library alone.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

LARGEST = 64 << 20  # bytes of a pickle in an archive of torch.save; tensors lie beside it
CLASSES = 200  # names that are kept
_MAGIC = 0x1950A86A20F9469CFC6C  # the first of the four pickles of torch.save before 1.6
_TENSORS = ("torch._utils._rebuild_", "torch._tensor._rebuild_", "torch.nn.parameter.")


@dataclass
class Survey:
    """What was found.

    classes: "module.Name" in the order of the file. whole: it was read to its end. is_module: it is a network.
    by_torch: torch.save wrote it. keys: of a mapping, those with a network or tensors: key -> "module" or "tensors".
    """

    classes: list[str] = field(default_factory=list)
    whole: bool = False
    is_module: bool = False
    by_torch: bool = False
    keys: dict[str, str] = field(default_factory=dict)


def survey(source: Path) -> Survey:
    """Look through the pickle in a file of torch.save, or a plain one; what cannot be read further is left out."""
    found = Survey()
    try:
        with _stream(source) as stream:
            top = _load(stream, found)
            found.by_torch = top == _MAGIC or zipfile.is_zipfile(source)
            if top == _MAGIC:
                for _ in range(3):
                    top = _load(stream, found)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - a hostile or truncated pickle can raise anything; what was seen before stays
        return found
    found.whole = True
    found.is_module = _is_module(top)
    if isinstance(top, Mapping):
        kinds = {key: _kind(value) for key, value in top.items() if isinstance(key, str)}
        found.keys = {key: kind for key, kind in kinds.items() if kind}
    return found


def _stream(source: Path) -> IO[bytes]:
    if not zipfile.is_zipfile(source):
        return source.open("rb")
    with zipfile.ZipFile(source) as archive:
        name = next(name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
        with archive.open(name) as file:
            return io.BytesIO(file.read(LARGEST))


def _load(stream: IO[bytes], found: Survey) -> Any:
    return _Looker(stream, found).load()


class _StandIn:
    """Takes the place of any object, and of any function's result; state: what a pickle would have set on it."""

    path = ""

    def __new__(cls, *_args: Any, **_options: Any) -> _StandIn:
        return object.__new__(cls)

    def __init__(self, *_args: Any, **_options: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, _key: Any, _value: Any) -> None:
        """Forget an entry of a mapping."""

    def append(self, _value: Any) -> None:
        """Forget an entry of a list."""

    def extend(self, _values: Any) -> None:
        """Forget entries of a list."""

    def add(self, _value: Any) -> None:
        """Forget an entry of a set."""


class _Entries(dict[Any, Any]):
    """Takes the place of an OrderedDict and its like."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        super().__init__()

    def __setstate__(self, _state: Any) -> None:
        """Forget attributes."""


class _Looker(pickle.Unpickler):
    """An unpickler that imports nothing."""

    def __init__(self, stream: IO[bytes], found: Survey) -> None:
        super().__init__(stream)
        self.found = found

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in for whatever the file names."""
        path = f"{module}.{name}"
        if path not in self.found.classes and len(self.found.classes) < CLASSES:
            self.found.classes.append(path)
        if path in ("collections.OrderedDict", "builtins.dict", "collections.defaultdict"):
            return _Entries
        return type("StandIn", (_StandIn,), {"path": path})

    def persistent_load(self, given: Any) -> Any:
        """A stand-in for a storage of torch; in old files also for a class, which comes with its source."""
        is_class = isinstance(given, tuple) and len(given) > 1 and given[0] in ("module", b"module")
        return given[1] if is_class else _StandIn()


def _kind(value: Any) -> str:
    """ "module" for a network, "tensors" for a mapping with tensors, else ""."""
    if _is_module(value):
        return "module"
    tensors = isinstance(value, Mapping) and any(_is_tensor(one) for one in value.values())
    return "tensors" if tensors else ""


def _is_module(value: Any) -> bool:
    return isinstance(value, _StandIn) and isinstance(value.state, Mapping) and "_modules" in value.state


def _is_tensor(value: Any) -> bool:
    return isinstance(value, _StandIn) and value.path.startswith(_TENSORS)
