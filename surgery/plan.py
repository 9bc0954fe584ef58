"""A plan is an operation plus the names of its inputs and a seed, as JSON. Running any plan is always:
load, measure, operate, measure, compare. `run` is that sentence without the loading and the commit.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from surgery.errors import PlanError
from surgery.fields import Seed, first_fault
from surgery.operations.base import Cases, Operation, Outcome, find
from surgery.receipt import Receipt

if TYPE_CHECKING:
    from surgery.context import Context
    from surgery.data.dataset import Dataset
    from surgery.edit.lend import Share
    from surgery.network.model import Model


class Plan(BaseModel):
    """What to do to what. `inputs` are version ids; `dataset`, and `new` where an operation learns from new data, are
    dataset ids of the workspace. `preserve`: samples of the dataset that the result must still get right.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    inputs: tuple[str, ...] = Field(min_length=1)
    dataset: str
    new: str = ""
    preserve: Cases = Field(default_factory=lambda: Cases(may_break=0))
    seed: Seed = 0
    device: str = "cpu"

    @classmethod
    def parse(cls, text: str) -> Plan:
        """Read a plan from JSON.

        Raises:
            PlanError: names the field that is wrong.
        """
        try:
            plan = cls.model_validate_json(text)
        except ValidationError as error:
            fault = first_fault(error, "the file")
            raise PlanError(f"This is not a plan: {fault}.", "Export one from the page Change.") from error
        plan.build()
        return plan

    @classmethod
    def of(cls, **fields: Any) -> Plan:
        """A plan of these fields, checked as `parse` does.

        Raises:
            PlanError: names the field that is wrong.
        """
        try:
            plan = cls.model_validate(fields)
        except ValidationError as error:
            raise PlanError(f"The plan cannot be used: {first_fault(error, 'the plan')}.", "Correct it.") from error
        plan.build()
        return plan

    def build(self) -> Operation:
        """The operation with its parameters checked.

        Raises:
            PlanError: unknown operation, or names the parameter that is wrong.
        """
        try:
            return find(self.operation).model_validate(self.parameters)
        except ValidationError as error:
            fault = first_fault(error, "the parameters")
            raise PlanError(
                f"The plan's parameters do not fit {self.operation!r}: {fault}.", "Correct it in the plan."
            ) from error


def run(
    plan: Plan,
    models: Sequence[Model],
    data: Dataset,
    ctx: Context,
    *,
    original: Model | None = None,
    names: Sequence[str] = (),
) -> tuple[Outcome, Receipt]:
    """Operate on `models`, measure before and after, and write the receipt.

    original: the root of the lineage, when it is not the input: agreement is then shown with both.
    names: what the receipt of a fleet calls the models; by default "model 1" and so on.

    Raises:
        PlanError: the operation cannot run on these models.
        Cancelled: within one step of `ctx.track`.
    """
    from surgery.network.precision import as_stored

    operation = plan.build()
    if problems := operation.check(models):
        raise PlanError(f"{operation.title} cannot run here: {' '.join(problems)}")
    if operation.learns and data.new is None:
        raise PlanError(f"{operation.title} learns from new data, and the plan names none.", "Name it in `new`.")
    data = _preserving(plan, data)
    start = time.monotonic()
    own = data.fitting(models[0].classes) if operation.narrows else data
    outcome = operation.operate(models, own.without_test(), ctx)
    models_as_stored = tuple(as_stored(model) for model in outcome.models)
    assembled = None if outcome.assembled is None else as_stored(outcome.assembled)
    outcome = replace(outcome, models=models_as_stored, assembled=assembled)
    seconds = time.monotonic() - start
    if outcome.lent:
        return outcome, account_fleet(plan, outcome, models, data, ctx, names=names, seconds=seconds)
    return outcome, account(plan, outcome, models, data, ctx, original=original, seconds=seconds)


def account(
    plan: Plan,
    outcome: Outcome,
    models: Sequence[Model],
    data: Dataset,
    ctx: Context,
    *,
    original: Model | None = None,
    seconds: float,
) -> Receipt:
    """Measure before and after, and write the receipt of an outcome that took `seconds`, with the must-keep cases that
    it breaks.

    Where neither knows all classes of the other, quality is that of the new one alone.
    """
    from surgery.edit.extract import extract
    from surgery.measure import ORIGINAL, cases, class_names, continuations, measure
    from surgery.network.size import stored_as

    data = _preserving(plan, data)
    before, after = models[0], outcome.assembled or outcome.models[0]
    about = plan.model_dump(mode="json"), plan.build().title, outcome
    classes = {"before": class_names(before, data), "after": class_names(after, data)}
    if not (set(after.classes) <= set(before.classes) or set(before.classes) <= set(after.classes)):
        measurement = measure({"after": after}, data, ctx, beside={"before": before})
        return Receipt.make(*about, measurement, data, seconds, classes=classes)
    measured = {"before": before, "after": after}
    told = outcome.parts and outcome.assembled is None
    parts = {"after": extract(outcome.models[0], outcome.parts[0])[0]} if told else None
    measurement = measure(measured | ({ORIGINAL: original} if original else {}), data, ctx, parts=parts)
    receipt = Receipt.make(*about, measurement, data, seconds, classes=classes)
    receipt = replace(receipt, precision={"before": stored_as(before), "after": stored_as(outcome.models[0])})
    receipt = replace(receipt, texts=continuations(measured, data, ctx))
    return replace(receipt, cases=cases(before, after, data, ctx)) if plan.preserve.ids else receipt


def account_fleet(
    plan: Plan,
    outcome: Outcome,
    models: Sequence[Model],
    data: Dataset,
    ctx: Context,
    *,
    names: Sequence[str] = (),
    seconds: float,
) -> Receipt:
    """Measure models before and after they share, and write the receipt; its scopes are the members' names.

    Must-keep cases are held against every guest that knows their classes, each broken one with the guest's name.
    """
    from surgery.measure.fleet import cases_of, measure_fleet

    data = _preserving(plan, data)
    called = called_by(names, len(models))
    before = dict(zip(called, models, strict=True))
    after = dict(zip(called, outcome.models, strict=True))
    table = measure_fleet(before, after, shares_by(called, outcome), data, ctx)
    receipt = Receipt.of_fleet(plan.model_dump(mode="json"), plan.build().title, outcome, table, data, seconds)
    return replace(receipt, cases=cases_of(before, after, data, ctx)) if plan.preserve.ids else receipt


def called_by(names: Sequence[str], count: int) -> list[str]:
    """The members' names."""
    return list(names) if names else [f"model {place}" for place in range(1, count + 1)]


def shares_by(names: Sequence[str], outcome: Outcome) -> dict[str, tuple[str, Share]]:
    """Guest -> its host, and what it shares, by name."""
    return {names[guest]: (names[lent.host], lent.share) for guest, lent in outcome.lent.items()}


def _preserving(plan: Plan, data: Dataset) -> Dataset:
    return data.preserving(plan.preserve.ids) if plan.preserve.ids else data
