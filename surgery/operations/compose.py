"""Compose a new classifier of modules from one or several models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from surgery.errors import DataError, SelectionError, TraceError
from surgery.operations.base import Operation, Outcome

if TYPE_CHECKING:
    from surgery.context import Context
    from surgery.data.dataset import Dataset
    from surgery.network.model import Model
    from surgery.network.part import Part
    from surgery.operations.composition import Composition


class Compose(Operation):
    """Put modules of one or several models together to a classifier of their classes.

    Each module answers for its class, the highest score wins. No weight is trained; a slope and a shift for each score
    are fitted on a few validation samples, because modules of different models were never compared.
    """

    title: ClassVar[str] = "Compose a model"
    texts: ClassVar[bool] = False
    paper: ClassVar[str] = "arXiv 2311.04438"
    takes = None
    narrows = False

    modules: tuple[str, ...] = Field(
        min_length=2, title="Modules", description="Their digests, one for each class of the new model."
    )
    calibration: int = Field(
        50,
        ge=0,
        le=100_000,
        title="Calibration (samples per class)",
        description="Validation samples to fit slope and shift of each score on; 0 leaves scores as they are.",
    )

    def chosen(self, models: Sequence[Model]) -> list[tuple[Model, Part]]:
        """Each module with the model it lies in, in order.

        Raises:
            SelectionError: a digest that no model has, or two modules of one class.
        """
        known = {part.digest: (model, part) for model in reversed(models) for part in model.parts if part.head}
        if missing := [digest for digest in self.modules if digest not in known]:
            raise SelectionError(
                f"No version given has the module {missing[0]}: it was made anew or is of another version.",
                "Choose the modules on the shelf again.",
            )
        found = [known[digest] for digest in self.modules]
        seen: dict[str, str] = {}
        for _, part in found:
            name = part.classes[0]
            if name.lower() in seen:
                raise SelectionError(
                    f"Two modules answer for one class: {seen[name.lower()]!r} and {name!r}.",
                    "Leave one of them out.",
                )
            seen[name.lower()] = name
        return found

    def examine(self, models: Sequence[Model]) -> None:
        """Look at the modules.

        Raises:
            SelectionError: as `chosen`. TraceError: their models take different kinds of input.
        """
        inputs = [model.input for model, _ in self.chosen(models)]
        strange = [one for one in inputs if one.kind != inputs[0].kind]
        strange += [one for one in inputs if one.kind == "table" and one.shape != inputs[0].shape]
        if strange:
            raise TraceError(
                f"Modules take different input: {inputs[0].kind} of {inputs[0].shape}, {strange[0].kind} of "
                f"{strange[0].shape}."
            )

    def operate(self, models: Sequence[Model], data: Dataset, ctx: Context) -> Outcome:
        """Cut out, join, calibrate. Raises what `on` raises."""
        return self.on(models, data, ctx).run()

    def on(self, models: Sequence[Model], data: Dataset, ctx: Context) -> Composition:
        """The work on models, checked.

        Raises:
            TraceError: it cannot run on them. DataError: the dataset lacks a class, or validation samples of one.
        """
        from surgery.operations.composition import Composition

        if problems := self.check(models):
            raise TraceError(" ".join(problems))
        found = self.chosen(models)
        names = [part.classes[0] for _, part in found]
        if strange := [name for name in names if name not in data.classes]:
            raise DataError(
                f"{data.name!r} has no class {strange[0]!r}; it has {', '.join(data.classes[:8])}.",
                "Choose a dataset with the classes of all modules, named alike; datasets can be put together.",
            )
        own = data.fitting(names)
        labels = set(own.labels(own.ids("val")).tolist())
        if missing := [name for name in names if own.classes.index(name) not in labels]:
            raise DataError(
                f"{data.name!r} has no validation samples of {', '.join(missing[:5])} to calibrate on.",
                "Import data with validation samples of every class.",
            )
        return Composition(self, found, own, ctx)
