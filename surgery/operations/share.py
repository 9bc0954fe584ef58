"""Let models share their beginnings: less memory for several models at once, without training and without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from surgery.errors import DataError, SelectionError
from surgery.operations.base import FINER, Operation, Outcome

if TYPE_CHECKING:
    from surgery.context import Context
    from surgery.data.dataset import Dataset
    from surgery.network.facts import Described
    from surgery.network.model import Model
    from surgery.operations.sharing import Sharing


class Chosen(BaseModel):
    """A share that is asked for: the guest goes on at its module `at` from the host's module `cut`; places count the
    plan's inputs from 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: int = Field(ge=0)
    cut: str = Field(min_length=1)
    guest: int = Field(ge=0)
    at: str = Field(min_length=1)


class Share(Operation):
    """Let models that run on one device share their beginnings.

    Where two networks compute nearly the same, one of them goes on from what the other has computed: its own beginning
    leaves memory. Layers are ranked by similarity; a share is accepted only when the model still agrees with itself on
    samples that were not used for fitting, without any label. The models themselves stay as they are.
    """

    title: ClassVar[str] = "Share layers"
    paper: ClassVar[str] = "arXiv 2410.11233"
    texts: ClassVar[bool] = False
    takes = None
    narrows = False

    budget: float | None = Field(
        None,
        gt=0,
        title="Memory for the weights of all models (MB)",
        description="Shares are made, the largest saving first, until the weights fit. Without one, all that pass.",
    )
    agreement: float = Field(
        97.0,
        ge=0,
        le=100,
        title="Least agreement with itself (%)",
        description="Of a model that shares, on unlabelled samples.",
    )
    adapt: bool = Field(
        True,
        title="Hold sure models to more",
        description="A model that changes its mind less often than that when its input changes slightly is held to "
        "what it does then, but never to more than 99 %.",
        json_schema_extra=FINER,
    )
    worst: float = Field(
        90.0,
        ge=0,
        le=100,
        title="Least agreement in a class (%)",
        description="Of the classes that the model itself names at least 20 times.",
        json_schema_extra=FINER,
    )
    divergence: float = Field(
        0.1,
        gt=0,
        le=1000,
        title="Largest divergence (nats)",
        description="Mean KL divergence of its answers from what they were.",
        json_schema_extra=FINER,
    )
    adapters: bool = Field(
        True,
        title="Fit adapters",
        description="A linear map of channels, solved in closed form on unlabelled samples, where layers differ in "
        "form or in the order of their channels.",
    )
    tuning: float = Field(
        0.0,
        ge=0,
        le=100,
        title="Tune adapters (epochs)",
        description="Towards what the model itself says, without labels; nothing but the adapter moves.",
        json_schema_extra=FINER,
    )
    samples: int = Field(
        2000,
        ge=32,
        le=100_000,
        title="Samples",
        description="At most so many to fit adapters on, and as many others to judge on.",
        json_schema_extra=FINER,
    )
    shares: tuple[Chosen, ...] = Field(
        (),
        title="Shares",
        description="The shares to make, where they were chosen by hand; each is judged like any other.",
        json_schema_extra=FINER,
    )

    def examine_described(self, models: Sequence[Described]) -> None:
        """Raises what `network.facts.alike` raises.

        SelectionError: fewer than two models, or a share names what is not there or what cannot be.
        """
        from surgery.network.facts import alike

        if len(models) < 2:
            raise SelectionError("One model alone has nobody to share with.", "Choose two models or more.")
        alike({f"model {place}": model for place, model in enumerate(models, 1)})
        guests = [share.guest for share in self.shares]
        for share in self.shares:
            if max(share.host, share.guest) >= len(models):
                raise SelectionError(
                    f"A share names model {max(share.host, share.guest)}, there are {len(models)}, from 0.",
                    "Name the models by their places in the plan.",
                )
            if share.host == share.guest or share.host in guests or guests.count(share.guest) > 1:
                raise SelectionError(
                    f"Model {share.guest} cannot go on from model {share.host}: a model has one host, and a host none.",
                    "Let several models share with one that runs as it is.",
                )

    def operate(self, models: Sequence[Model], data: Dataset, ctx: Context) -> Outcome:
        """Compare, try, choose, lend. Raises what `on` and `Sharing.run` raise."""
        return self.on(models, data, ctx).run()

    def on(self, models: Sequence[Model], data: Dataset, ctx: Context) -> Sharing:
        """The work on models.

        Raises:
            DataError: too few samples. SelectionError, TraceError: as `examine`.
        """
        from surgery.operations.sharing import LEAST, Sharing, pools

        self.suit(models)
        fitting, judging = pools(data, LEAST)
        if min(len(fitting), len(judging)) < LEAST:
            raise DataError(
                f"{data.name!r} has {len(fitting)} samples to fit on and {len(judging)} others to judge on; "
                f"each must be {LEAST} at least.",
                "Give more samples; they need no labels.",
            )
        return Sharing(self, models, data, ctx)
