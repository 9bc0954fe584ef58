"""Targets as they come in, block by block, and at the end: are they classes or a number to predict?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from surgery.data.columns import FEW
from surgery.data.labels import MAX_CLASSES, Coder
from surgery.data.tablefile import Column
from surgery.errors import DataError

if TYPE_CHECKING:
    from surgery.data.dataset import Task


class Targets:
    """Collects the target `name`; `few` is how many different whole numbers still look like classes.

    Raises:
        DataError: a regression is asked for, but the target is text.
    """

    def __init__(self, name: str, task: Task | None, *, text: bool, few: int = FEW) -> None:
        if text and task == "regression":
            raise DataError(f"The target {name!r} holds text.", "Choose a column of numbers, or a classification.")
        self.name = name
        self.task = task
        self.few = few
        self.coder = Coder() if text else None

    def take(self, words: Sequence[str] | None, numbers: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        """float64[k]: a provisional number per target; None where there are none."""
        if self.coder is None or words is None:
            return numbers
        code = self.coder.code
        return np.array([code(word) for word in words], dtype=np.float64)

    def finish(self, taken: NDArray[np.float64], named: Sequence[str] = ()) -> tuple[Task, tuple[str, ...], Column]:
        """(task, classes or the name of the target, final targets) of what `take` gave.

        named: the classes, where the numbers are positions in a list that came with the data.

        Raises:
            DataError: there are more different numbers than there can be classes.
        """
        if self.task == "unlabelled":
            return "unlabelled", (), taken
        if self.coder is not None:
            classes, places = self.coder.finish()
            return "classification", classes, places[taken.astype(np.int64)]
        if named:
            return "classification", tuple(named), taken.astype(np.int64)
        distinct, places = np.unique(taken, return_inverse=True)
        whole = bool(np.all(distinct == np.round(distinct)))
        if self.task == "regression" or (self.task is None and not (whole and len(distinct) <= self.few)):
            return "regression", (self.name,), taken
        if len(distinct) > MAX_CLASSES:
            raise DataError(
                f"The target {self.name!r} has {len(distinct):,} different numbers; classes can be {MAX_CLASSES:,}.",
                "Import it as a regression.",
            )
        return "classification", tuple(str(int(value)) if whole else repr(value) for value in distinct.tolist()), places
