"""RESULTS.md: one section per benchmark, with the commit that made it and whether its code has changed since."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

from benchmarks import provenance

FILE = Path(__file__).parent / "RESULTS.md"
HEAD = """# Results

Written by `python -m benchmarks`; not edited by hand. The seconds of a section are those of the run that wrote it:
rows and bases kept from an earlier, interrupted run took theirs before. Each section names the commit it was measured
at and says whether the code that the benchmark imports has changed since; `python -m benchmarks --stale` brings these
lines up to date. A table marked as changed describes an older state of the product.
"""
NAMED = 4  # packages that a line names
_COMMIT = re.compile(r" · commit (?P<commit>\w+)\+?(?: · code (?P<code>\w+))?$")
_STATE = re.compile(r"\n\n\*\*(?:Current|Changed since|Unknown)[^\n]*\*\*[^\n]*")


@dataclass(frozen=True)
class Section:
    """The section of one benchmark: its line of facts and what follows."""

    name: str
    facts: str
    body: str

    @property
    def commit(self) -> str | None:
        """The commit it was measured at."""
        found = _COMMIT.search(self.facts)
        return found["commit"] if found else None

    @property
    def code(self) -> str | None:
        """The digest of the code that the benchmark imported."""
        found = _COMMIT.search(self.facts)
        return found["code"] if found else None

    def text(self) -> str:
        """As it stands in the file, its state brought up to date."""
        return f"{self.name}\n\n{self.facts}\n\n{state(self)}\n\n{self.body.strip()}\n"


def sections(text: str) -> list[Section]:
    """The sections of RESULTS.md."""
    found = []
    for part in text.split("\n## ")[1:]:
        name, _, rest = part.partition("\n\n")
        facts, _, body = rest.partition("\n\n")
        found.append(Section(name.strip(), facts.strip(), _STATE.sub("", f"\n\n{body}", count=1).strip()))
    return found


def current(section: Section) -> bool:
    """Whether the code that the benchmark imports is what the section was measured with."""
    return section.code == provenance.digest(section.name)


def state(section: Section) -> str:
    """One line: current, or how much has changed since and where."""
    if section.commit is None or section.code is None:
        return "**Unknown** whether the code has changed since: no commit was recorded."
    if current(section):
        return "**Current**: the code that this benchmark imports has not changed since."
    try:
        files = provenance.changed(section.name, section.commit)
    except (OSError, subprocess.CalledProcessError):
        return "**Changed since**: the commit is not in this repository."
    packages = Counter("/".join(Path(file).parts[:2]).removesuffix(".py") for file in files)
    most = [name for name, _ in packages.most_common(NAMED)]
    more = f" and {len(packages) - NAMED} more" if len(packages) > NAMED else ""
    return f"**Changed since** in {len(files)} files that this benchmark imports ({', '.join(most)}{more})."


def stale() -> list[Section]:
    """The sections whose code has changed since, or that do not say."""
    return [one for one in sections(FILE.read_text()) if not current(one)] if FILE.exists() else []


def refresh() -> None:
    """Bring every section's state up to date."""
    if FILE.exists():
        _write(sections(FILE.read_text()))


def record(name: str, command: str, seconds: float, body: str) -> None:
    """Replace the section of one benchmark."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    measured = f"{date.today().isoformat()} · {machine} · torch {version('torch')} · `{command}` · {seconds:.0f} s"
    facts = f"{measured} · commit {provenance.commit()} · code {provenance.digest(name)}"
    others = [one for one in sections(FILE.read_text()) if one.name != name] if FILE.exists() else []
    _write([*others, Section(name, facts, body)])


def _write(found: list[Section]) -> None:
    parts = sorted((one.text() for one in found), key=str.lower)
    FILE.write_text("\n## ".join([HEAD, *parts]))
