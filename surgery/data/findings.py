"""The bad files and rows of an import, named one by one up to a limit and counted beyond it."""

from __future__ import annotations

from dataclasses import dataclass, field

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
            self.named.append(Problem(where, reason, fix))
        else:
            self.unnamed += 1

    def problems(self) -> tuple[Problem, ...]:
        """All that were named, and one that counts the others."""
        if not self.unnamed:
            return tuple(self.named)
        rest = Problem("and others", f"{self.unnamed:,} more problems are not listed.", "Fix the listed ones first.")
        return (*self.named, rest)
