"""Which code a benchmark's table comes from: the modules it imports, and whether they have changed since.

The modules are found by reading import statements, those inside functions included, and followed through the project.
Docstrings, comments and layout do not count: what is hashed is the code as Python prints it, without docstrings.
"""

from __future__ import annotations

import ast
import hashlib
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("surgery", "benchmarks", "sample_models", "pages", "tests")
STARTED = {  # what a benchmark starts as a program of its own, which no import statement names
    "pages": ("app", "surgery.jobs.worker"),
    "map": ("app",),
    "jobs": ("surgery.jobs.worker",),
    "hostile": ("app", "surgery.jobs.worker"),
    "faults": ("surgery.jobs.worker", "surgery.cli"),
}
Read = Callable[[str], str | None]  # a file's text by its path in the project; None where there is none


def here(path: str) -> str | None:
    """A file of the working tree."""
    file = ROOT / path
    return file.read_text() if file.is_file() else None


def at(commit: str) -> Read:
    """Files as they were at a commit."""
    listed = set(_git("ls-tree", "-r", "--name-only", commit).splitlines())

    @cache
    def read(path: str) -> str | None:
        return _git("show", f"{commit}:{path}") if path in listed else None

    return read


def modules(name: str, read: Read = here) -> dict[str, str]:
    """Path of each file of the project that benchmark `name` imports, and the digest of its code."""
    waiting = [f"benchmarks.{name}", *STARTED.get(name, ())]
    if "app" in waiting:
        waiting += [f"pages.{path.stem}" for path in sorted((ROOT / "pages").glob("*.py"))]
    found: dict[str, str] = {}
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        path, text = _source(module, read)
        if text is None:
            continue
        imported, found[path] = _parsed(text, module, path.endswith("__init__.py"))
        waiting += imported
        waiting += [module.rpartition(".")[0]] if "." in module else []
    return dict(sorted(found.items()))


def digest(name: str, read: Read = here) -> str:
    """One digest over all code that benchmark `name` imports."""
    whole = hashlib.sha256(repr(modules(name, read)).encode())
    return whole.hexdigest()[:16]


def changed(name: str, commit: str) -> list[str]:
    """The files that benchmark `name` imports, today or at `commit`, whose code differs between the two."""
    then, now = modules(name, at(commit)), modules(name)
    return sorted(path for path in then.keys() | now.keys() if then.get(path) != now.get(path))


def commit() -> str:
    """The commit that is checked out, with "+" when files of the project differ from it; "" outside a repository."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD").strip()
        return head + ("+" if _git("status", "--porcelain", "--", *PACKAGES, "app.py").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _source(module: str, read: Read) -> tuple[str, str | None]:
    base = module.replace(".", "/")
    for path in (f"{base}.py", f"{base}/__init__.py"):
        text = read(path)
        if text is not None:
            return path, text
    return base, None


@cache
def _parsed(text: str, module: str, package: bool) -> tuple[tuple[str, ...], str]:
    tree = ast.parse(text)
    return tuple(_imports(tree, module, package)), _digest(tree)


def _imports(tree: ast.AST, module: str, package: bool) -> Iterator[str]:
    parts = module.split(".")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in PACKAGES)
        elif isinstance(node, ast.ImportFrom):
            up = parts[: len(parts) - node.level + (1 if package else 0)] if node.level else []
            base = ".".join([*up, *([node.module] if node.module else [])])
            if base.split(".")[0] in PACKAGES:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _digest(tree: ast.AST) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(ast.Constant(str())), *rest]:
                    node.body = rest or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def _git(*arguments: str) -> str:
    return subprocess.run(("git", *arguments), cwd=ROOT, check=True, capture_output=True, encoding="utf-8").stdout
