"""The bad files and rows of an import, named one by one up to a limit and counted beyond it."""

from __future__ import annotations

from dataclasses import dataclass, field

from surgery.data.names import visible
from surgery.errors import Problem

LIMIT = 1000


@dataclass
class Findings:
    """What was skipped (`skip`) or is doubtful (`warn`), and what import did by itself (`notes`)."""

    named: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: int = 0
    unnamed: int = 0

    def skip(self, where: str, reason: str, fix: str) -> None:
        """One file or row was left out."""
        self.skipped += 1
        self.warn(where, reason, fix)

    def warn(self, where: str, reason: str, fix: str) -> None:
        """Something is used although it is doubtful."""
        if len(self.named) < LIMIT:
            self.named.append(Problem(visible(where), visible(reason), visible(fix)))
        else:
            self.unnamed += 1

    def drained(self) -> Findings:
        """All that was found since the last time, to be passed on."""
        found = Findings(self.named, self.notes, self.skipped, self.unnamed)
        self.named, self.notes, self.skipped, self.unnamed = [], [], 0, 0
        return found

    def add(self, other: Findings) -> None:
        """Take over what another found."""
        for problem in other.named:
            self.warn(problem.where, problem.reason, problem.fix)
        self.notes += [note for note in other.notes if note not in self.notes]
        self.skipped += other.skipped
        self.unnamed += other.unnamed

    def problems(self) -> tuple[Problem, ...]:
        """All that were named, and one that counts the others."""
        if not self.unnamed:
            return tuple(self.named)
        rest = Problem("and others", f"{self.unnamed:,} more problems are not listed.", "Fix the listed ones first.")
        return (*self.named, rest)
