"""Teach a network new classes with the neurons that its old ones can spare (NeuSemSlice's incremental task)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from surgery.errors import DataError
from surgery.matching import same_but_spelling
from surgery.operations.base import FINER, Operation, Outcome

if TYPE_CHECKING:
    from surgery.context import Context
    from surgery.data.dataset import Dataset
    from surgery.network.facts import Described
    from surgery.network.model import Model
    from surgery.operations.growth import Growth

Choice = Literal["effect", "taylor", "theta", "random"]


class Extend(Operation):
    """Teach the model new classes without forgetting the old: only neurons that the old ones can spare learn them.

    First the old classes are brought together on a slice of the network, as small as its quality allows. Then the free
    neurons learn the new classes. The slice stays inside the new version exactly, as a part that can be taken out.
    """

    title: ClassVar[str] = "Teach new classes"
    texts: ClassVar[bool] = False
    paper: ClassVar[str] = "NeuSemSlice (arXiv 2407.20281), incremental development"
    learns: ClassVar[bool] = True
    needs = "cuts"

    task: Literal["unknown", "known"] = Field(
        "unknown",
        title="When it is used",
        description="unknown: any sample may come, all classes compete, and the new outputs are calibrated against the "
        "old. known: one knows whether a sample is of an old or a new class, as in the paper.",
    )
    tolerance: float = Field(
        1.0,
        ge=0,
        le=100,
        title="Old quality that may be lost (points)",
        description="On validation samples of the old data, to free neurons; what is learnt later costs nothing.",
    )
    choose: Choice = Field(
        "effect",
        title="Which neurons are free",
        description="effect: those that the others can take over for best. taylor: those least critical for every "
        "class. theta: those in no class's slice at Θ, the paper's rule. random: a control.",
    )
    theta: float = Field(
        0.95,
        ge=0.5,
        lt=1,
        title="Slices keep (Θ)",
        description="For the choice by Θ: similarity that a class's slice keeps of each layer.",
        json_schema_extra=FINER,
    )
    healing: float = Field(
        1.0,
        ge=0,
        le=100,
        title="Tuning of the slice (epochs)",
        description="Training of the smaller slice on the old data, to heal; 0 = none.",
        json_schema_extra=FINER,
    )
    way: Literal["beside", "through"] = Field(
        "beside",
        title="What may learn",
        description="beside: the free neurons alone; the old outputs stay exactly, whatever comes in. through: also "
        "what free neurons say to the others, the paper's rule; the old outputs stay where the free are left out.",
        json_schema_extra=FINER,
    )
    replay: float = Field(
        0.25,
        ge=0,
        le=0.9,
        title="Old samples mixed in",
        description="Share of each training batch that comes from the old training samples, to tell new from old; 0 = "
        "none are used.",
    )
    epochs: float = Field(5.0, gt=0, le=200, title="Epochs", description="Over the new training samples.")
    rate: float = Field(3e-3, gt=0, le=1, title="Learning rate", description="At its start.", json_schema_extra=FINER)
    calibration: int = Field(
        50,
        ge=1,
        le=10_000,
        title="Samples per class to calibrate on",
        description="Validation samples of old and new classes, where the task is unknown.",
        json_schema_extra=FINER,
    )

    candidate: int | None = Field(
        None,
        ge=1,
        title="End at candidate",
        description="Stop at this one of the states that are kept on the way, about one per epoch.",
        json_schema_extra=FINER,
    )

    def examine(self, models: Sequence[Model]) -> None:
        """Raises TraceError: the outputs cannot grow."""
        from surgery.edit.grow import head_of

        head_of(models[0])

    def examine_data(self, models: Sequence[Described], data: Dataset) -> None:
        """Look at old and new data.

        Raises:
            DataError: there is no new data, no new class in it, a class has too few samples, or the old data lacks
            classes that the model knows.
        """
        new, known = data.new, models[0].classes
        if new is None:
            raise DataError("There is no new data to learn from.", "Choose a dataset with the new classes.")
        classes = tuple(name for name in new.classes if name not in known)
        if not classes:
            raise DataError(
                f"The model knows all {len(new.classes)} classes of {new.name!r} already.",
                "Choose data with new classes; to fit data of the old classes readapt the model.",
            )
        if same := same_but_spelling(classes, known):
            pair = ", ".join(f"{one!r} ({other!r} of the model)" for one, other in list(same.items())[:5])
            old, now = next(iter(same.items()))
            raise DataError(
                f"{new.name!r} spells classes that the model has in another way: {pair}. They are not new classes.",
                f"Rename them on the page Model & data, or with `surgery relabel DATASET '{old}={now}'`.",
            )
        if data.task == "unlabelled" or not len(data.ids("val")) or not len(data.ids("train")):
            raise DataError(
                "What the old classes can spare is found on their training and validation samples; there are none.",
                "Choose the dataset that the model was trained on.",
            )
        missing = sorted(set(known) - set(data.classes)) if set(data.classes) < set(known) else []
        if missing:
            raise DataError(
                f"{data.name!r} has no samples of {', '.join(missing[:5])}, which the model knows: what they need "
                "would be taken for free.",
                "Put the datasets of all its classes together and choose that one.",
            )
        for name in classes:
            own = {role: int((new.labels(new.ids(role)) == new.classes.index(name)).sum()) for role in ("train", "val")}
            if own["train"] < 2 or not own["val"]:
                raise DataError(
                    f"The new class {name!r} has {own['train']} training and {own['val']} validation samples: too few "
                    "to learn from and judge by.",
                    "Bring at least a few dozen samples of each new class; a part is kept for validation by itself.",
                )

    def operate(self, models: Sequence[Model], data: Dataset, ctx: Context) -> Outcome:
        """Free neurons, grow outputs, train. Raises what `on` raises, and SelectionError when nothing is free."""
        return self.on(models[0], data, ctx).run()

    def on(self, model: Model, data: Dataset, ctx: Context) -> Growth:
        """The work on a model, checked.

        Raises:
            DataError: there is no new data, no new class in it, a class has too few samples, or the old data lacks
            classes that the model knows.
        """
        from surgery.operations.growth import Growth

        model.outputs_of(data.classes)  # or they are another model's classes
        self.examine_data([model], data)
        assert data.new is not None
        classes = tuple(name for name in data.new.classes if name not in model.classes)
        return Growth(self, model, data, data.new, classes, ctx)
