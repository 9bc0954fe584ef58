"""Split a classifier into one module per class: which neurons it takes to tell a class from the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from surgery.errors import DataError, TraceError
from surgery.operations.base import FINER, Operation, Outcome

if TYPE_CHECKING:
    from surgery.context import Context
    from surgery.data.dataset import Dataset
    from surgery.network.facts import Described
    from surgery.network.model import Model
    from surgery.operations.division import Division

MOST = 100  # classes: every one is a network of its own in each step


class Split(Operation):
    """Find one module per class: the neurons that it takes to recognise the class, and a score of how sure it is.

    The weights stay as they are. Together the modules answer like the model, each can be looked at, taken out, given
    to another model or left out. What lies outside a module leaves its mean behind.
    """

    title: ClassVar[str] = "Split into modules"
    texts: ClassVar[bool] = False
    paper: ClassVar[str] = "arXiv 2311.04438"
    needs = "cuts"

    method: Literal["semantic", "gradient", "genetic"] = Field(
        "semantic",
        title="Method",
        description="semantic: start from the neurons most critical for each class, then learn which are needed. "
        "gradient: learn from all neurons on (GradSplitter). genetic: breed sets of neurons (CNNSplitter).",
    )
    tolerance: float = Field(
        2.0,
        ge=0,
        le=100,
        title="Accuracy that may be lost (points)",
        description="By all modules together on validation samples. The smallest modules within it are taken.",
    )
    samples: int = Field(
        10_000,
        ge=10,
        le=1_000_000,
        title="Samples",
        description="Training samples to learn from, at most.",
    )
    cycles: int = Field(
        2,
        ge=0,
        le=20,
        title="Cycles",
        description="Of five epochs of learning which neurons are needed and two of learning the scores alone.",
    )
    rate: float = Field(
        5e-3,
        gt=0,
        le=1,
        title="Learning rate of the masks",
        description="How quickly a neuron can be switched off, semantic and gradient.",
        json_schema_extra=FINER,
    )
    pressure: float = Field(
        1.0,
        ge=0,
        le=100,
        title="Pressure",
        description="What a neuron that stays costs at first, against cross-entropy; it rises and falls with what may "
        "still be lost. Semantic and gradient.",
        json_schema_extra=FINER,
    )
    front: float = Field(
        0.34,
        ge=0,
        le=0.9,
        title="Layers that stay whole (share)",
        description="The first ones, gradient only: they serve every class, and what they say is computed once.",
        json_schema_extra=FINER,
    )
    population: int = Field(
        20,
        ge=4,
        le=200,
        title="Population",
        description="Candidates per class and generation, genetic only. The paper has 100.",
        json_schema_extra=FINER,
    )
    generations: int = Field(
        15,
        ge=1,
        le=500,
        title="Generations",
        description="Genetic only. The paper has 200.",
        json_schema_extra=FINER,
    )

    def examine_described(self, models: Sequence[Described]) -> None:
        """Raises TraceError: it has too few or too many classes."""
        model = models[0]
        if model.task != "classification" or len(model.classes) < 2:
            raise TraceError("Only a classifier of two or more classes can be split: this model has none to split by.")
        if len(model.classes) > MOST:
            raise TraceError(
                f"This network has {len(model.classes)} classes; at most {MOST} can be split at once.",
                "Forget the classes that are of no use first.",
            )

    def examine(self, models: Sequence[Model]) -> None:
        """Look at the network.

        Raises:
            TraceError: it has no convolution.
        """
        model = models[0]
        assert model.index is not None
        if not any(layer.kind == "conv" for layer in model.index.layers.values()):
            raise TraceError(
                "This network has no convolution, whose channels modules are made of.",
                "See what each class needs on the page Slices, or shrink the network with Compress.",
            )

    def operate(self, models: Sequence[Model], data: Dataset, ctx: Context) -> Outcome:
        """Find the modules. Raises what `on` raises."""
        return self.on(models[0], data, ctx).run()

    def on(self, model: Model, data: Dataset, ctx: Context) -> Division:
        """The work on a model, checked.

        Raises:
            DataError: there are no training or validation samples of a class. TraceError: it cannot be split.
        """
        from surgery.operations.division import Division

        if problems := self.check([model]):
            raise TraceError(" ".join(problems))
        self.examine_data([model], data)
        return Division(self, model, data, ctx)

    def examine_data(self, models: Sequence[Described], data: Dataset) -> None:
        """Raises DataError: there are no training or validation samples of a class."""
        model = models[0]
        for role in ("train", "val"):
            labels = set(data.labels(data.ids(role)).tolist()) if data.task == "classification" else set()
            known = {data.classes[label] for label in labels}
            if missing := [name for name in model.classes if name not in known]:
                raise DataError(
                    f"{data.name!r} has no {role} samples of {', '.join(missing[:5])}.",
                    "Import data with training and validation samples of every class, or forget the class first.",
                )
