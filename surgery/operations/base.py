"""What a surgery is: frozen parameters with one method, `operate(models, data, ctx) -> Outcome`.

Its fields are its form and its JSON, its docstring is its help. A new surgery is one new file and one entry point in
the group `surgery.operations`; form, plan, job, receipt and contract tests follow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from surgery.errors import PlanError, SurgeryError
from surgery.fields import MOST, Id, whole

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor

    from surgery.context import Context
    from surgery.data.dataset import Dataset
    from surgery.edit.lend import Share
    from surgery.network.facts import Described
    from surgery.network.model import Model
    from surgery.network.part import Part


FINER: JsonDict = {"finer": True}  # as json_schema_extra of a field: few people change it, forms fold it away


FineTuningRate = Annotated[
    float | None,
    Field(
        gt=0,
        le=1,
        title="Learning rate",
        description="Of the fine-tuning, at its start; empty: chosen by a short range test on the training data.",
        json_schema_extra=FINER,
    ),
]


class Selection(BaseModel):
    """Neuron ids with their digest: a plan carries what was selected, never a name that can change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ids: tuple[Id, ...] = ()
    digest: str = ""

    @model_validator(mode="before")
    @classmethod
    def _sorted_with_digest(cls, value: Any) -> Any:
        return _with_digest(value, "selected ids")


class Cases(BaseModel):
    """Samples that must be kept, with their digest, and how many of those that are right may become wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ids: tuple[Id, ...] = ()
    digest: str = ""
    may_break: int = Field(0, ge=0, le=MOST)

    @model_validator(mode="before")
    @classmethod
    def _sorted_with_digest(cls, value: Any) -> Any:
        return _with_digest(value, "cases")


def _with_digest(value: Any, what: str) -> Any:
    """Ids, alone or in a mapping, sorted and with their digest; anything else as it is, for pydantic to refuse.

    Raises:
        ValueError: a digest is given, and it is that of other ids.
    """
    given = value if isinstance(value, Mapping) else {"ids": value}
    ids = given.get("ids", ())
    if not isinstance(ids, (list, tuple)):
        return given
    try:
        ids = tuple(sorted({whole(i) for i in ids}))
    except ValueError:
        return given
    digest = digest_of(ids)
    if given.get("digest") not in (None, "", digest):
        raise ValueError(f"the {what} do not have the digest {given['digest']}: the plan was changed by hand")
    return {**given, "ids": ids, "digest": digest}


def selections(operation: Operation) -> dict[str, Selection]:
    """The neurons that an operation names, by field."""
    values = {name: getattr(operation, name) for name in type(operation).model_fields}
    return {name: value for name, value in values.items() if isinstance(value, Selection)}


def digest_of(ids: Sequence[int]) -> str:
    """A short digest of sorted ids."""
    return "sha256:" + hashlib.sha256(",".join(str(i) for i in sorted(set(ids))).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Outcome:
    """What a surgery made.

    models: [0] is the new patient. kept: int64[N_new], the old id of each new neuron, so that selections, colours and
    map positions survive, −1 for a new one; None when the neurons did not change. parts: of the new patient.
    assembled: what is measured as "after" in place of [0], where the parts are the result: all of them put together.
    lent: place of a guest among the models -> its host and what they share; then all models together are the result.
    """

    models: tuple[Model, ...]
    kept: Tensor | None
    tables: Mapping[str, DataFrame] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    assembled: Model | None = None
    lent: Mapping[int, Lent] = field(default_factory=dict)


@dataclass(frozen=True)
class Lent:
    """host: the place of the model that a guest goes on from."""

    host: int
    share: Share


@dataclass(frozen=True)
class Candidate:
    """A model on the way that a person may prefer to the last one; given to `ctx.offer` as soon as it is made.

    kept, parts: as in `Outcome`, from the plan's input. figures: what is known of it, as a row of a table.
    accepted: it meets the plan's conditions.
    """

    number: int
    model: Model
    kept: Tensor | None
    figures: Mapping[str, Any]
    accepted: bool
    parts: tuple[Part, ...] = ()


class Operation(BaseModel):
    """Base of all surgeries."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    title: ClassVar[str]
    paper: ClassVar[str] = ""
    takes: ClassVar[int | None] = 1  # models; None = one or more
    narrows: ClassVar[bool] = True  # its data has only the classes of the first model
    learns: ClassVar[bool] = False  # from new data, which a plan then names and `data.new` holds
    texts: ClassVar[bool] = True  # whether it works on a language model too
    needs: ClassVar[Literal["nothing", "neurons", "cuts"]] = "nothing"  # of a network: that they are numbered, can go
    removes: ClassVar[str] = ""  # the field with the neurons that go, of which one at least must be free to go

    def check(self, models: Sequence[Model]) -> list[str]:
        """Why it cannot run here; [] = fine."""
        try:
            self.suit(models)
            self.examine(models)
        except SurgeryError as error:
            return [str(error)]
        return []

    def suit(self, models: Sequence[Described]) -> None:
        """Look at what models say of themselves, which is known before they are loaded.

        Raises:
            PlanError: too many or too few models, or one on which this operation cannot work.
            SurgeryError: what `examine_described` raises.
        """
        if self.takes is None and not models:
            raise PlanError(f"{self.title} takes one model or more, none given.")
        if self.takes is not None and len(models) != self.takes:
            raise PlanError(f"{self.title} takes {self.takes} model(s), {len(models)} given.")
        for model in models:
            if not self.texts and model.input.kind == "text":
                raise PlanError(
                    f"{self.title} works on classes; a language model has an alphabet, which is not made of parts."
                )
            if self.needs != "nothing" and model.support.level == "inspect":
                raise PlanError(f"The neurons of this network are not numbered: {model.support.reason}.")
            if self.needs == "cuts" and model.support.level != "full":
                raise PlanError(f"This network cannot be shrunk: {model.support.reason}.")
        self.examine_described(models)

    def examine_described(self, models: Sequence[Described]) -> None:
        """Raise what else stands in the way by the models' classes and inputs."""

    def examine_data(self, models: Sequence[Described], data: Dataset) -> None:
        """Raise what the data lacks for models like these. `data` is what `operate` will be given."""

    def examine(self, models: Sequence[Model]) -> None:
        """Raise what else stands in the way on these models, which have what the operation needs."""

    def drops(self) -> tuple[str, ...]:
        """The classes that the result is asked not to have any more."""
        return ()

    def operate(self, models: Sequence[Model], data: Dataset, ctx: Context) -> Outcome:
        """Make new models; leave the inputs untouched. `data` has no test role."""
        raise TypeError(f"{type(self).__name__} does not define operate().")


def operations() -> dict[str, type[Operation]]:
    """All installed surgeries by name."""
    return {point.name: point.load() for point in entry_points(group="surgery.operations")}


def find(name: str) -> type[Operation]:
    """The surgery called `name`.

    Raises:
        PlanError: none has that name.
    """
    known = operations()
    if name not in known:
        raise PlanError(f"There is no operation {name!r}; installed are {', '.join(sorted(known))}.", "Check the plan.")
    return known[name]
