"""The settings of a project: how much a result may lose and still become current, and what its models have seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from surgery import change
from surgery.errors import WorkspaceError

DROP, CLASS_DROP = 2.0, 10.0  # pp
TrainedOn = Literal["yes", "part", "no", "unknown", "train"]
ANSWERS = tuple(answer for answer in get_args(TrainedOn) if answer != "train")  # those that a person can give


@dataclass(frozen=True)
class Settings:
    """What a person decides once for a project.

    drop, class_drop: pp of accuracy (0.01 of R²) that a result may lose overall and in any class before it becomes a
    candidate. trained_on: dataset id -> whether the project's models were trained on it; without an entry "unknown".
    """

    drop: float = DROP
    class_drop: float = CLASS_DROP
    trained_on: Mapping[str, TrainedOn] = field(default_factory=dict)

    @classmethod
    def parse(cls, found: Any) -> Settings:
        """The settings in a catalogue row; what is missing or of a later version is left at its default."""
        found = found if isinstance(found, Mapping) else {}
        drops = {name: found[name] for name in ("drop", "class_drop") if _is_share(found.get(name))}
        answers = found.get("trained_on", {})
        return cls(**drops, trained_on={id: said for id, said in answers.items() if said in get_args(TrainedOn)})

    def to_json(self) -> dict[str, Any]:
        """What `parse` reads."""
        return {"drop": self.drop, "class_drop": self.class_drop, "trained_on": dict(self.trained_on)}

    @property
    def tolerance(self) -> str:
        """`2.0 pp overall, 10.0 pp in any class`."""
        return f"{self.drop:.1f} pp overall, {self.class_drop:.1f} pp in any class"

    def tolerating(self, drop: float | None = None, class_drop: float | None = None) -> Settings:
        """The same with another tolerance; None leaves a value as it is.

        Raises:
            WorkspaceError: a value is not between 0 and 100.
        """
        wanted = (self.drop if drop is None else drop, self.class_drop if class_drop is None else class_drop)
        for value in wanted:
            if not _is_share(value):
                raise WorkspaceError(f"The tolerance {value} is not allowed.", "Give between 0 and 100 pp.")
        return replace(self, drop=wanted[0], class_drop=wanted[1])

    def knowing(self, dataset: str, answer: TrainedOn) -> Settings:
        """The same with an answer about a dataset.

        Raises:
            WorkspaceError: there is no such answer.
        """
        if answer not in get_args(TrainedOn):
            raise WorkspaceError(f"{answer!r} does not say what a model was trained on.", f"Say {', '.join(ANSWERS)}.")
        return replace(self, trained_on={**self.trained_on, dataset: answer})

    def answer(self, dataset: str | None) -> TrainedOn:
        """Whether the models were trained on a dataset."""
        return self.trained_on.get(dataset or "", "unknown")

    def seen(self, dataset: str | None) -> str:
        """The same in words, to stand beside every number that was measured on it."""
        return change.seen(self.answer(dataset))


def _is_share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 100
