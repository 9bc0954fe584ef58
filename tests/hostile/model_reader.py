"""What reads hostile model files in the tests: a process of its own that watches itself.

    python -m tests.hostile.model_reader FOLDER

A case is a line of JSON on standard input: ["file", family, seed], ["architecture", name, arguments] or ["description",
kind, description]. It comes to one of these ends, a line each: {"end": "model" | "refused" | "wrong", "said",
"seconds", "events", "ran"}. Events are what Python's audit hook saw that reading a file has no business with; ran:
whether a planted file was executed.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).parents[2]
MEMORY = 3 << 30  # bytes beyond what the imports need
NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request", "http.client.connect")
PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "pty.spawn")
CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.link", "os.chmod", "shutil.")


class Watch:
    """What happened besides reading: files outside the allowed folders, other programs, connections, planted code."""

    def __init__(self, own: Path) -> None:
        installed = {path for path in (*sys.path, *sysconfig.get_paths().values(), sys.base_prefix, sys.prefix) if path}
        self.allowed = [os.path.realpath(path) for path in (*installed, ROOT)] + ["/proc", "/sys", "/dev"]
        self.temporary = str(Path(tempfile.gettempdir()).resolve() / "surgery-read-")
        self.own = os.path.realpath(own)
        self.events: list[str] = []
        self.busy = False
        self.on = False
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or self.busy:
            return
        self.busy = True
        try:
            if self._odd(event, arguments):
                self.events.append(f"{event} {str(arguments)[:200]}")
        finally:
            self.busy = False

    def _odd(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            return isinstance(arguments[0], (str, bytes)) and not self._inside(os.fsdecode(arguments[0]))
        if event == "subprocess.Popen":
            return "surgery.sandbox" not in arguments[1]
        if event == "import":
            return "planted" in str(arguments[0])
        if event in ("exec", "compile"):
            return "planted" in str(arguments[0])
        if event.startswith(CHANGES):
            return not self._inside(os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes)) else "")
        return event.startswith(PROGRAMS) or event in NETWORK

    def _inside(self, path: str) -> bool:
        real = os.path.realpath(path)
        if "/planted" in real[len(self.own) :] and real.startswith(self.own):
            return False  # what a file names lies beside it, and must not be opened
        return real.startswith(self.temporary) or any(
            real == one or real.startswith(one + "/") for one in (*self.allowed, self.own)
        )


def plant(folder: Path) -> None:
    """Put files into `folder`/planted that make `folder`/ran when they are run."""
    import torch

    inside = folder / "planted"
    inside.mkdir(parents=True)
    code = f"import os\nos.makedirs({str(folder / 'ran')!r}, exist_ok=True)\n"
    for name in ("planted.py", "__init__.py", "configuration.py", "modeling.py"):
        (inside / name).write_text(code)
    (folder / "planted_module.py").write_text(code)

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(folder / "ran"),)

    torch.save({"state_dict": Payload()}, inside / "planted.pt")
    (inside / "config.json").write_text('{"architecture": "resnet10t"}')


def read_file(file: Path) -> None:
    """Bring a file in as the product does, through every function that an import calls."""
    from surgery.network import config_file, load
    from surgery.network.model import Architecture, Model
    from surgery.network.read import read

    if file.suffix == ".json":
        found = config_file.architecture(file.read_bytes(), file.name)
        config = found["arguments"]["config"]
        config_file.input_of(config)
        config_file.classes_of(config)
        build(found["name"], found["arguments"])
        return
    weights = read(file)
    if weights.description is not None:
        model = load.reopen(weights)
    else:
        best = next(iter(load.suggest(weights.tensors, 2)), None)
        if best is None:
            return
        spec = load.guess_input(weights.tensors, best.architecture)
        outputs = [tensor.shape[0] for tensor in weights.tensors.values() if tensor.dim()][-1]
        classes = tuple(map(str, range(outputs))) if outputs < 10_000 else ("a",)
        model = load.assemble(
            weights.tensors,
            Architecture(best.architecture.name, best.architecture.arguments),
            input=spec,
            classes=classes,
        )
    assert isinstance(model, Model)
    assert all(bool(tensor.isfinite().all()) for tensor in model.module.state_dict().values())
    assert model(model.input.example(2)).shape == (2, len(model.classes))


def build(name: str, arguments: Any) -> None:
    """Build an architecture as a trial does."""
    from surgery.network import trial
    from surgery.network.architectures import skeleton
    from surgery.network.model import Architecture

    with trial._limited({"values": 0, "tensors": 0}):
        skeleton(Architecture(name, arguments))


def describe(tensors: dict[str, Tensor], text: str) -> None:
    """Reopen the tensors of a small model under another description."""
    from surgery.network.load import rebuilt
    from surgery.network.read import Weights

    rebuilt(Weights(tensors, description=text))


def attempt(case: list[Any], folder: Path, watch: Watch) -> dict[str, Any]:
    """One case to its end."""
    from surgery.errors import SurgeryError
    from tests.hostile.model_generators import FAMILIES, described_parts

    kind, first, second = case
    if kind == "file":
        file = FAMILIES[first](random.Random(f"{first} {second}"), folder)
    tensors = described_parts(first)[1] if kind == "description" else {}
    watch.events.clear()
    start = time.monotonic()
    said, end = "", "model"
    watch.on = True
    try:
        if kind == "file":
            read_file(file)
        elif kind == "architecture":
            build(first, second)
        else:
            describe(tensors, second)
    except SurgeryError as error:
        end, said = "refused", f"{error.what} | {error.fix}"
    except BaseException as error:
        logging.exception("%s", case)
        end, said = "wrong", f"{type(error).__name__}: {error}"[:300]
    finally:
        watch.on = False
    return {"end": end, "said": said, "seconds": time.monotonic() - start, "events": list(watch.events)}


def limit_memory() -> None:
    """Refuse what a small machine would not have."""
    import resource

    import psutil

    allowed = psutil.Process().memory_info().vms + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (allowed, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main(folder: Path) -> int:
    """Read cases from standard input until it is closed, and write their ends to standard output."""
    import timm  # noqa: F401
    import torchvision  # noqa: F401
    import transformers

    from surgery.network import load, trial  # noqa: F401

    logging.disable(logging.CRITICAL)
    transformers.logging.set_verbosity_error()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
    os.dup2(2, 1)
    plant(folder)
    sys.path.append(str(folder))  # as when somebody works where the upload lies: what it names could be imported
    os.chdir(folder)
    watch = Watch(folder)
    limit_memory()
    for line in sys.stdin:
        case = json.loads(line)
        answers.write(json.dumps({**attempt(case, folder, watch), "ran": (folder / "ran").exists()}) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
