"""Take classes out of a classifier, with the neurons that serve them more than any other class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from surgery.errors import DataError, SelectionError, TraceError
from surgery.operations.base import FineTuningRate, Operation, Outcome

if TYPE_CHECKING:
    from surgery.context import Context
    from surgery.data.dataset import Dataset
    from surgery.network.facts import Described
    from surgery.network.model import Model
    from surgery.operations.oblivion import Oblivion


class Forget(Operation):
    """Take classes out of the model: their outputs, and the neurons that serve them more than any other class.

    What the other classes still need of these neurons is worked into those that stay; as many go as the others can do
    without. The new version answers with the remaining classes only.
    """

    title: ClassVar[str] = "Forget classes"
    texts: ClassVar[bool] = False
    needs = "cuts"

    classes: tuple[str, ...] = Field(min_length=1, title="Classes", description="The ones to forget.")
    neurons: Literal["own", "none"] = Field(
        "own",
        title="Neurons",
        description="own: those that serve the forgotten classes more than any other go too. none: outputs alone.",
    )
    tolerance: float = Field(
        1.0,
        ge=0,
        le=100,
        title="Quality of the others that may be lost (points)",
        description="Of accuracy on validation samples of the other classes, before any tuning.",
    )
    epochs: float = Field(
        0.0, ge=0, le=100, title="Tuning (epochs)", description="Training afterwards on the other classes, to heal."
    )
    rate: FineTuningRate = None

    def drops(self) -> tuple[str, ...]:
        """Those to forget."""
        return self.classes

    def examine(self, models: Sequence[Model]) -> None:
        """Raises TraceError: outputs cannot be taken out."""
        from surgery.edit.extract import outputs

        if outputs(models[0]) is None:
            raise TraceError("No class can be taken out: the outputs of this network are not one neuron per class.")

    def examine_described(self, models: Sequence[Described]) -> None:
        """Look at the classes.

        Raises:
            TraceError: it is no classifier. SelectionError: an unknown class, or fewer than two would stay.
        """
        model = models[0]
        if model.task != "classification":
            raise TraceError("No class can be taken out: the outputs of this network are not one neuron per class.")
        strange = [name for name in self.classes if name not in model.classes]
        if strange:
            known = ", ".join(model.classes[:8]) + (" …" if len(model.classes) > 8 else "")
            raise SelectionError(
                f"The model does not know {', '.join(strange[:5])}; it knows {known}.", "Name classes that it knows."
            )
        if len(set(model.classes) - set(self.classes)) < 2:
            raise SelectionError("At least two classes must stay.", "Forget fewer.")

    def examine_data(self, models: Sequence[Described], data: Dataset) -> None:
        """Raises DataError: there are no labelled samples of the other classes, or none of the forgotten ones."""
        model = models[0]
        if not set(model.classes) <= set(data.classes):
            raise DataError(
                f"{data.name!r} does not have the model's classes by name, so it cannot tell what the others need.",
                "Choose the dataset that the model was trained on.",
            )
        rest = self._rest(model, data)
        for role in ("train", "val"):
            if not len(rest.ids(role)):
                raise DataError(
                    f"{data.name!r} has no {role} samples of the classes that stay.",
                    "Import data with training and validation samples of every class.",
                )

    def operate(self, models: Sequence[Model], data: Dataset, ctx: Context) -> Outcome:
        """Find what goes, let the others take over, cut, tune. Raises what `on` raises."""
        return self.on(models[0], data, ctx).run()

    def on(self, model: Model, data: Dataset, ctx: Context) -> Oblivion:
        """The work on a model, checked.

        Raises:
            DataError: there are no labelled samples of the other classes, or none of the forgotten ones.
            TraceError: the network cannot be cut.
        """
        from surgery.operations.oblivion import Oblivion

        if problems := self.check([model]):
            raise TraceError(" ".join(problems))
        self.examine_data([model], data)
        return Oblivion(self, model, data, self._rest(model, data), ctx)

    def _rest(self, model: Described, data: Dataset) -> Dataset:
        """The data of the classes that stay."""
        return data.fitting([name for name in model.classes if name not in self.classes])
