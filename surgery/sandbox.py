"""Run one of our own functions on untrusted content, in a child process with hard limits.

    found = sandbox.call("surgery.data.preview:describe", {"path": str(path)}, limits, name=path.name, error=DataError)

The function takes and returns JSON. Whatever it raises, and however its process ends, the caller gets a `SurgeryError`
that names the file. The limits are the operating system's; the audit hook that keeps the child to its own files is a
second line, not a boundary. Windows and macOS do not enforce every limit; the wall time holds everywhere.

`surgery.streaming` is the same for a generator function: what it yields comes back while it runs, and every item has
the seconds of the limits to itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from surgery.errors import SurgeryError, from_json, nameless, to_json

_log = logging.getLogger(__name__)
_KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMPDIR", "HOME")
# What whoever started the product named: the file of constructors, and where those that were registered are.
_OPERATOR = ("SURGERY_ARCHITECTURES", "SURGERY_CONFIG", "XDG_CONFIG_HOME", "SURGERY_DATA_MEMORY")
_ADDED = {
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "NUMBA_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
}
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG: safe here, because the thread that starts the child waits for its end
_SYSTEM = ("/proc/self", "/sys", "/dev/null", "/dev/urandom")  # what libraries look at while they work
COMMAND = (sys.executable, "-P", "-m", "surgery.sandbox")
TAIL = 4000  # characters of what a child printed that go into the log
_FORBIDDEN = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "socket.connect", "pty.")
_CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")


@dataclass(frozen=True)
class Limits:
    """What a child may use. memory: bytes beyond what its imports need; written: bytes of each file it writes."""

    seconds: int = 30  # of processor time
    memory: int = 512 << 20
    written: int = 0
    patience: int = 4  # wall time allowed per second of processor time: the machine may be busy


def call(
    target: str,
    argument: Mapping[str, Any],
    limits: Limits,
    *,
    name: str,
    error: type[SurgeryError],
    imports: Sequence[str] = (),
    readable: Sequence[Path] = (),
    writable: Sequence[Path] = (),
) -> Any:
    """Return what the function `target` ("module:function") of ours returns for `argument`.

    name: the file, for messages. error: raised for everything that is not a SurgeryError already.
    imports: modules that the function needs, loaded before the memory limit counts.
    readable, writable: files and folders that the child may open besides the installed libraries.

    Raises:
        SurgeryError: what the function raised; or `error`: it exceeded a limit, crashed, or failed in another way.
    """
    request = request_of(target, argument, limits, imports, readable, writable)
    try:
        done = subprocess.run(
            COMMAND,
            input=json.dumps(request),
            env=environment(),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=limits.patience * limits.seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise over(name, "time", limits, error) from None
    if done.stderr.strip():
        _log.warning("reading %s: %s", name, done.stderr.strip()[-TAIL:])
    return _result(done, name, limits, error)


def request_of(
    target: str,
    argument: Mapping[str, Any],
    limits: Limits,
    imports: Sequence[str],
    readable: Sequence[Path],
    writable: Sequence[Path],
) -> dict[str, Any]:
    """What the child is told, as JSON."""
    return {
        "target": target,
        "argument": dict(argument),
        "limits": asdict(limits),
        "imports": list(imports),
        "readable": [str(path.resolve()) for path in readable],
        "writable": [str(path.resolve()) for path in writable],
        "parent": os.getpid(),
    }


def environment() -> dict[str, str]:
    """The environment of a child: nothing but what programs need, and the operator's constructors."""
    return {key: os.environ[key] for key in (*_KEPT, *_OPERATOR) if key in os.environ} | _ADDED


@contextmanager
def reading(name: str, error: type[SurgeryError], fix: str = "") -> Iterator[None]:
    """Turn any exception of a reader into `error`, naming the file `name`; the traceback goes to the log.

    Raises:
        SurgeryError: as it was raised; or `error`. Errors of the disk (OSError with a number) pass unchanged.
    """
    try:
        yield
    except (SurgeryError, MemoryError):
        raise
    except Exception as cause:
        if isinstance(cause, OSError) and cause.errno is not None:
            raise
        _log.exception("reading %s failed", name)
        raise error(
            f"{name} cannot be read: {described(cause)}.", fix or "Save the file again, or convert it."
        ) from cause


def described(cause: BaseException) -> str:
    """The first line of an exception's text, at most 200 printable characters, with its type where it says little.

    A first line that ends with a colon only announces the second one.
    """
    lines = nameless(str(cause)).strip().splitlines()
    first = " ".join(line.strip() for line in lines[: 2 if lines and lines[0].endswith(":") else 1])
    text = "".join(letter if letter.isprintable() else "?" for letter in first)[:200].rstrip(". ")
    return text if len(text) > 12 else f"{type(cause).__name__} {text}".strip()


def _result(done: subprocess.CompletedProcess[str], name: str, limits: Limits, error: type[SurgeryError]) -> Any:
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        answer: dict[str, Any] = json.loads(lines[-1])
        if "limit" in answer:
            raise over(name, answer["limit"], limits, error)
        return opened(answer, name, error)
    raise ended(done.returncode, name, limits, error)


def opened(answer: Mapping[str, Any], name: str, error: type[SurgeryError]) -> Any:
    """What a function returned, or the error that it raised."""
    if "unexpected" in answer:
        raise error(f"{name} cannot be read: {answer['unexpected']}.", "Save the file again, or convert it.")
    if "error" in answer:
        raise from_json(answer["error"])
    return answer["result"]


def ended(code: int, name: str, limits: Limits, error: type[SurgeryError]) -> SurgeryError:
    """What the exit code of a child that gave no answer means."""
    if code < 0:
        sign = signal.Signals(-code).name
        limit = {"SIGXCPU": "time", "SIGKILL": "memory", "SIGABRT": "memory"}.get(sign)
        if limit:
            return over(name, limit, limits, error)
        return error(f"Reading {name} crashed ({sign}).", "The file is damaged or hostile; save it again.")
    return error(f"Reading {name} failed (exit code {code}).", "The log has the details.")


def over(name: str, limit: str, limits: Limits, error: type[SurgeryError]) -> SurgeryError:
    """The error for a limit that was exceeded: "time", "memory" or "written"."""
    what = {
        "time": f"took longer than {limits.seconds} s",
        "memory": f"needs more than {limits.memory / 1e6:,.0f} MB of memory",
        "written": f"writes more than {limits.written / 1e6:,.0f} MB",
    }[limit]
    exceeded = error(
        f"Reading {name} {what}, far more than its size explains, and was stopped.", "Save the file again."
    )
    exceeded.transient = True
    return exceeded


# In the child


def main() -> int:
    """Read the request from standard input, answer in the last line of standard output."""
    request = json.loads(sys.stdin.read())
    _die_with(request["parent"])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print does not mix with the answer
    module, _, function = request["target"].partition(":")
    for needed in (*request["imports"], module):
        importlib.import_module(needed)
    limits, streams = Limits(**request["limits"]), request.get("stream", False)
    _limit(limits, each=streams)
    _keep_to(request["readable"], request["writable"])
    work = getattr(importlib.import_module(module), function)
    if streams:
        _write_items(work(request["argument"]), limits, answers)
    else:
        answers.write(json.dumps(_answer(work, request["argument"])).encode() + b"\n")
    answers.flush()
    return 0


def _write_items(items: Iterator[tuple[Any, Sequence[Any]]], limits: Limits, answers: IO[bytes]) -> None:
    """Write every item, each in the time of its own; the last answer has no result, or says what went wrong."""
    while True:
        _renew(limits.seconds)
        answer = _answer(partial(next, items), None)
        buffers: Sequence[Any] = ()
        if answer.get("result") is not None:
            answer["result"], buffers = answer["result"]
            answer["sizes"] = [memoryview(one).nbytes for one in buffers]
        head = json.dumps(answer).encode()
        answers.write(len(head).to_bytes(8, "little") + head)
        for one, size in zip(buffers, answer.get("sizes", ()), strict=True):
            if size:
                answers.write(memoryview(one).cast("B"))
        answers.flush()
        if answer.get("result") is None:
            return


def _renew(seconds: int) -> None:
    """Allow `seconds` of processor time from now on."""
    try:
        import resource
    except ImportError:  # Windows: the parent's wall time remains
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, hard))


def _answer(function: Any, argument: Any) -> dict[str, Any]:
    try:
        return {"result": function(argument)}
    except SurgeryError as error:
        return {"error": to_json(error)}
    except MemoryError:
        return {"limit": "memory"}
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EFBIG:  # Python ignores the signal
            return {"limit": "written"}
        if "allocate" in str(error).lower() or "out of memory" in str(error).lower():
            return {"limit": "memory"}
        logging.exception("unexpected")
        return {"unexpected": described(error)}


def _die_with(parent: int) -> None:
    """End when the parent does (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    if hasattr(os, "getppid") and os.getppid() != parent:
        sys.exit(1)  # it went before we asked


def _limit(limits: Limits, *, each: bool) -> None:
    """each: the seconds are those of an item of a stream, see `_renew`."""
    try:
        import resource
    except ImportError:  # Windows: the parent's wall time remains
        return
    import psutil

    # The gentle CPU limit ends the process with a signal that says why; the hard one would look like out of memory.
    if not each:
        resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.written, limits.written))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    allowed = psutil.Process().memory_info().vms + limits.memory
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    with contextlib.suppress(ValueError, OSError):  # macOS does not take it
        resource.setrlimit(resource.RLIMIT_AS, (allowed if hard < 0 else min(allowed, hard), hard))


def _keep_to(readable: Sequence[str], writable: Sequence[str]) -> None:
    """Refuse, from here on, to open other files, to connect anywhere or to start programs."""
    installed = {path for path in (*sys.path, *sysconfig.get_paths().values(), sys.base_prefix, sys.prefix) if path}
    ours = str(Path(__file__).parent)  # where an editable install has it, no folder of sys.path does
    inside = [str(Path(path).resolve()) for path in (*installed, ours)]
    allowed_to_read = (*inside, *_SYSTEM, *readable, *writable)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(_FORBIDDEN):
            raise PermissionError(f"{event} is not allowed while a file is read")
        if event in _CHANGES and not all(_within(path, writable) for path in _changed(arguments)):
            raise PermissionError(f"{event} outside its own folder is not allowed while a file is read")
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            mode, flags = arguments[1], arguments[2] or 0
            writes = bool(set(str(mode or "")) & set("wax+")) or bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if not _within(path, writable if writes else allowed_to_read):
                logging.warning("%s was asked for", path)
                raise PermissionError("a file outside its own folder was asked for")

    sys.addaudithook(watch)


def _changed(arguments: Sequence[Any]) -> list[str]:
    """The paths that an event changes; those relative to an open folder, as when a tree is removed, are of that one."""
    paths = [os.fsdecode(one) for one in arguments if isinstance(one, (str, bytes, os.PathLike))]
    relative = isinstance(arguments[-1], int) and arguments[-1] >= 0
    return [os.path.realpath(path) for path in paths if not relative or Path(path).is_absolute()]


def _within(path: str, allowed: Sequence[str]) -> bool:
    return any(path == one or path.startswith(one.rstrip("/") + "/") for one in allowed)


if __name__ == "__main__":
    sys.exit(main())
