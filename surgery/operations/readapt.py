"""Make a network fit data that has changed, by training only the neurons that carry what suffered (NeuSemSlice)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from surgery.errors import DataError, TraceError
from surgery.matching import mismatch, unknown
from surgery.operations.base import FINER, Operation, Outcome

if TYPE_CHECKING:
    from surgery.context import Context
    from surgery.data.dataset import Dataset
    from surgery.network.facts import Described
    from surgery.network.model import Model
    from surgery.operations.relearn import Relearning

Choice = Literal["carrying", "random", "all"]


class Readapt(Operation):
    """Fit the model to new data without breaking the old: only the neurons that carry what suffered are trained.

    Everything else stays bit for bit. The quality on the old data is watched while training; when it sinks below the
    tolerance, the last good state comes back. At the end a point between before and after is taken: as far back as the
    new data hardly notices.
    """

    title: ClassVar[str] = "Readapt to new data"
    paper: ClassVar[str] = "NeuSemSlice (arXiv 2407.20281), re-adaptation"
    learns: ClassVar[bool] = True
    needs = "neurons"

    share: float = Field(
        0.3, gt=0, le=1, title="Parameters that may change, at most", description="Share of all: 0.3 is 30 %."
    )
    choose: Choice = Field(
        "carrying",
        title="Which neurons",
        description="carrying: those on which the loss on what suffered depends most. random, all: controls.",
    )
    suffered: float = Field(
        5.0,
        ge=0,
        le=100,
        title="Suffered (points)",
        description="A class suffered when it is worse on new data by this much; when none did, all classes count.",
        json_schema_extra=FINER,
    )
    tolerance: float = Field(
        2.0,
        ge=0,
        le=100,
        title="Old quality that may be lost (points)",
        description="On validation samples of the old data; beyond it training goes back to the last good state.",
    )
    replay: float = Field(
        0.25,
        ge=0,
        le=0.9,
        title="Old samples mixed in",
        description="Share of each training batch that comes from the old training samples; 0 = none are used.",
    )
    epochs: float = Field(5.0, gt=0, le=200, title="Epochs", description="Over the new training samples.")
    rate: float = Field(1e-3, gt=0, le=1, title="Learning rate", description="At its start.", json_schema_extra=FINER)

    candidate: int | None = Field(
        None,
        ge=1,
        title="End at candidate",
        description="Stop at this one of the states that are kept on the way, about one per epoch.",
        json_schema_extra=FINER,
    )

    def examine_data(self, models: Sequence[Described], data: Dataset) -> None:
        """Raises DataError: there is no new data, it has classes that the model does not know, or too few samples."""
        model = models[0]
        new = data.new
        if new is None:
            raise DataError("There is no new data to learn from.", "Choose a dataset as the new data.")
        if new.task == "classification" and new.kind != "text" and unknown(new.classes, model.classes):
            what, fix = mismatch(new.classes, model.classes, repr(new.name))
            raise DataError(what, f"{fix} To add new classes choose that operation instead.")
        for role, least in (("train", 2), ("val", 1)):
            if len(new.ids(role)) < least:
                raise DataError(
                    f"{new.name!r} has {len(new.ids(role))} {role} samples: too few to learn from and judge by.",
                    "Bring at least a few dozen new samples; a part is kept for validation by itself.",
                )

    def operate(self, models: Sequence[Model], data: Dataset, ctx: Context) -> Outcome:
        """Choose, train, watch. Raises what `on` raises."""
        return self.on(models[0], data, ctx).run()

    def on(self, model: Model, data: Dataset, ctx: Context) -> Relearning:
        """The work on a model, checked.

        Raises:
            DataError: there is no new data, it has classes that the model does not know, or too few samples.
            TraceError: the network has no index.
        """
        from surgery.operations.relearn import Relearning

        if model.index is None:
            raise TraceError(f"The neurons of this network are not numbered: {model.support.reason}.")
        self.examine_data([model], data)
        assert data.new is not None
        return Relearning(self, model, data, data.new, ctx)
