"""Patch a weak class: let a module of another model answer for it, and leave the other classes as they are."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from surgery.errors import DataError, SelectionError, TraceError
from surgery.operations.base import FINER, Operation, Outcome

if TYPE_CHECKING:
    from surgery.context import Context
    from surgery.data.dataset import Dataset
    from surgery.network.facts import Described
    from surgery.network.model import Model
    from surgery.network.part import Part
    from surgery.operations.transplant import Transplant


class Patch(Operation):
    """Let a module of a second model answer for one class of the first.

    The module's score takes the place of the class's own output. How it compares with the other outputs is fitted on
    validation samples, so that the class gains as much as it can while the others lose no more than allowed. Both
    networks run side by side in the new version.
    """

    title: ClassVar[str] = "Patch a class"
    texts: ClassVar[bool] = False
    paper: ClassVar[str] = "arXiv 2311.04438"
    takes = 2

    target: str = Field(min_length=1, title="Class", description="The weak one, as the first model calls it.")
    called: str = Field(
        "", title="Called there", description="The name of the class in the second model, where it is another."
    )
    module: str = Field(
        "",
        title="Module",
        description="The digest of a module of the second model; without one, its module for the class.",
        json_schema_extra=FINER,
    )
    calibration: Literal["affine", "sigmoid", "min-max", "temperature"] = Field(
        "affine",
        title="Calibration",
        description="How the module's score is put beside the other outputs. affine: with the class's own output, by "
        "slope and threshold. min-max and sigmoid: the papers' ways. temperature: a sigmoid of fitted width.",
    )
    others: float = Field(
        0.5,
        ge=0,
        le=100,
        title="Accuracy of the other classes that may be lost (points)",
        description="On validation samples; half of it is spent, for the samples that nobody has seen yet.",
    )

    @property
    def wanted(self) -> str:
        """The class as the second model calls it."""
        return self.called or self.target

    def part_of(self, donor: Model) -> Part:
        """The module that answers.

        Raises:
            SelectionError: the model has no modules, none for the class, or none of the digest.
        """
        known = [name for part in donor.parts if part.head for name in part.classes]
        if not known:
            raise SelectionError(
                "The second model has no modules.", "Split it first, and name the version that holds them."
            )
        if self.module:
            found = [part for part in donor.parts if part.digest == self.module]
            if not found:
                raise SelectionError(
                    f"The second model has no module {self.module}: it was made anew or is of another version.",
                    "Choose the module on its shelf again.",
                )
            return found[0]
        found = [part for part in donor.parts if part.head and part.classes == (self.wanted,)]
        if not found:
            close = difflib.get_close_matches(self.wanted.lower(), [name.lower() for name in known], n=1)
            hint = next((name for name in known if close and name.lower() == close[0]), "")
            raise SelectionError(
                f"The second model has no module for {self.wanted!r}, only for {', '.join(known[:8])}.",
                f"Is it called {hint!r} there? Name it so." if hint else "Choose a model that knows the class.",
            )
        return found[0]

    def examine_described(self, models: Sequence[Described]) -> None:
        """Look at both models.

        Raises:
            TraceError: they are no classifiers of the same kind of input. SelectionError: the class is missing.
        """
        patient, donor = models
        for model in models:
            if model.task != "classification":
                raise TraceError("Only classifiers can be patched.")
        if patient.input.kind != donor.input.kind or (
            patient.input.kind == "table" and patient.input.shape != donor.input.shape
        ):
            raise TraceError(
                f"The first model takes {patient.input.kind} input of {patient.input.shape}, the second "
                f"{donor.input.kind} of {donor.input.shape}.",
            )
        if self.target not in patient.classes:
            raise SelectionError(
                f"The first model does not know {self.target!r}; it knows {', '.join(patient.classes[:8])}.",
                "Name one of its classes.",
            )

    def examine_data(self, models: Sequence[Described], data: Dataset) -> None:
        """Raises DataError: there are no validation samples of the class and of others."""
        if data.task != "classification" or not set(models[0].classes) <= set(data.classes):
            raise DataError(
                f"{data.name!r} does not have the first model's classes by name.",
                "Choose the dataset that it was trained on.",
            )
        labels = data.labels(data.ids("val"))
        own = labels == data.classes.index(self.target)
        if not own.any() or own.all():
            raise DataError(
                f"{data.name!r} has no validation samples of {self.target!r} and of others to fit on.",
                "Import data with validation samples of every class.",
            )

    def examine(self, models: Sequence[Model]) -> None:
        """Raises SelectionError: the module is missing, or belongs to another network."""
        _, donor = models
        part = self.part_of(donor)
        if donor.index is None or len(part.keep) != donor.index.n:
            raise SelectionError(f"The module {part.name!r} belongs to another network.", "Choose another.")

    def operate(self, models: Sequence[Model], data: Dataset, ctx: Context) -> Outcome:
        """Fit and join. Raises what `on` and `Transplant.run` raise."""
        return self.on(models, data, ctx).run()

    def on(self, models: Sequence[Model], data: Dataset, ctx: Context) -> Transplant:
        """The work on two models, checked.

        Raises:
            TraceError: it cannot run on them. DataError: there are no validation samples of the class and of others.
        """
        from surgery.operations.transplant import Transplant

        if problems := self.check(models):
            raise TraceError(" ".join(problems))
        self.examine_data(models, data)
        return Transplant(self, models[0], models[1], data, ctx)
