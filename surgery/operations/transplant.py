"""The work of `Patch`: what both networks say of the validation samples, the calibration, the new network.

affine (ours): the others' log-probabilities stay; the class's output becomes own · its log-probability + slope · score
+ shift. All three are those of the highest F1 on validation samples among those at which the others lose little enough:
what the patient knows of the class is not thrown away, and where it knows nothing own is 0.
min-max (CNNSplitter, arXiv 2311.04438): the softmax of the patient, its column replaced by the score, scaled to 0–1
over the class's own samples. sigmoid (GradSplitter): the column replaced by the sigmoid of the score. temperature: by
a sigmoid whose width has the least cross-entropy of class against rest.

Letters: K classes of the patient, n samples, t the class's output.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from surgery.context import Context
from surgery.edit.compose import Member, compose, inside, proven
from surgery.edit.evaluate import predict
from surgery.errors import SelectionError
from surgery.network.model import Model
from surgery.operations.base import Outcome

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset
    from surgery.operations.patch import Patch

OWNS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # weights of what the patient itself says
SLOPES = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.4)
SURE = 5.0  # standard errors to spare in what the others may lose: the luckiest of thousands of calibrations is taken
TEMPERATURES = torch.logspace(-1.5, 1.5, 61, dtype=torch.float64)
FORMS = {"affine": "log_softmax", "sigmoid": "softmax", "min-max": "softmax", "temperature": "softmax"}


@dataclass(frozen=True)
class Effect:
    """What answers come to: precision, recall and F1 (0–1) of the class, accuracy (0–1) of all other classes."""

    precision: float
    recall: float
    f1: float
    others: float

    @classmethod
    def of(cls, answers: Tensor, truth: Tensor, target: int) -> Effect:
        """answers, truth: int64[n], outputs."""
        found, own = answers == target, truth == target
        right = float((found & own).sum())
        return cls(
            right / max(float(found.sum()), 1.0),
            right / max(float(own.sum()), 1.0),
            2 * right / max(float(found.sum() + own.sum()), 1.0),
            float((answers[~own] == truth[~own]).double().mean()),
        )


class Transplant:
    """One run of the operation."""

    def __init__(self, plan: Patch, patient: Model, donor: Model, data: Dataset, ctx: Context) -> None:
        self.plan, self.patient, self.donor, self.data, self.ctx = plan, patient, donor, data, ctx
        self.part = plan.part_of(donor)
        self.target = patient.classes.index(plan.target)
        self.places = [place for place in range(len(patient.classes)) if place != self.target]

    def run(self) -> Outcome:
        """Fit, join, tell.

        Raises:
            SelectionError: the module is no better, or the others would lose more than allowed.
        """
        made = self.made()
        answers = predict(made, self.data, self.ids, self.ctx, "validating").argmax(1)
        before, after = self.before, Effect.of(answers, self.truth, self.target)
        if (refusal := self.refusal(after)) is not None:
            raise refusal
        self.ctx.log(f"F1 of {self.plan.target!r} {before.f1:.3f} to {after.f1:.3f} on validation samples")
        kept = None if made.index is None or self.patient.index is None else inside(made, 0, self.patient)
        return Outcome((made,), kept, {"classes": self.table(answers)})

    def refusal(self, after: Effect) -> SelectionError | None:
        """Why a patch of this effect is not made; None for one that helps and keeps within the limit."""
        lost = 100 * (self.before.others - after.others)
        if after.f1 <= self.before.f1:
            return SelectionError(
                f"The module does not help {self.plan.target!r}: its F1 on validation samples would go from "
                f"{self.before.f1:.3f} to {after.f1:.3f}, with the others losing {lost:.1f} points.",
                "Choose a stronger module or another calibration, or allow the others to lose more.",
            )
        if lost > self.plan.others + 1e-9:
            return SelectionError(
                f"All other classes together would lose {lost:.2f} points on validation samples, "
                f"{self.plan.others:g} may be lost.",
                "Choose the affine calibration, which keeps within it, or allow the others to lose more.",
            )
        return None

    def made(self) -> Model:
        """The network in which the module answers for the class."""
        own, slope, shift, head = self._calibration()
        count = len(self.patient.classes)
        weight = torch.zeros(count, count + 1)
        weight[self.places, self.places] = 1.0
        weight[self.target, self.target] = own
        weight[self.target, count] = slope
        bias = torch.zeros(count)
        bias[self.target] = shift
        squash = self.plan.calibration in ("sigmoid", "temperature")
        patient = replace(self.patient, module=copy.deepcopy(self.patient.module))
        members = [Member(patient, form=FORMS[self.plan.calibration]), Member(self.module, head, squash=squash)]
        return compose(members, self.patient.input, self.patient.classes, weight, bias)

    def table(self, answers: Tensor) -> pd.DataFrame:
        """class, F1 before and after (0–1) of every class, on validation samples. answers: int64[n] of the new one."""
        rows = []
        for place, name in enumerate(self.patient.classes):
            before, after = (Effect.of(found, self.truth, place) for found in (self.answers, answers))
            rows.append(
                {
                    "class": name,
                    **{f"{what} before": getattr(before, what) for what in ("precision", "recall", "f1")},
                    **{f"{what} after": getattr(after, what) for what in ("precision", "recall", "f1")},
                }
            )
        return pd.DataFrame(rows)

    def _calibration(self) -> tuple[float, float, float, dict[str, Tensor]]:
        """Weight of the class's own output, slope and shift of the score, and the head that makes the score."""
        head = dict(self.part.head)
        if self.plan.calibration == "affine":
            return *self._margin(), head
        if self.plan.calibration == "min-max":
            own = self.score[self.truth == self.target]
            low, high = float(own.min()), float(own.max())
            scale = 1 / max(high - low, 1e-9)
            return 0.0, scale, -low * scale, head
        middle, width = self._middle(), 1.0
        if self.plan.calibration == "temperature":
            width = self._width(middle)
        raw = {
            **head,
            "score.weight": head["score.weight"] / width,
            "score.bias": (head["score.bias"] - middle) / width,
        }
        return 0.0, 1.0, 0.0, raw

    def _middle(self) -> float:
        """The score before its sigmoid from which a sample is taken for the class; 0 for a head trained with one."""
        return 0.0 if "hidden.weight" in self.part.head else float(self.part.figures["threshold"])

    def _width(self, middle: float) -> float:
        own = (self.truth == self.target).double()
        margin = self._unsquashed - middle
        losses = [F.binary_cross_entropy_with_logits(margin / width, own) for width in TEMPERATURES]
        return float(TEMPERATURES[int(torch.stack(losses).argmin())])

    def _margin(self) -> tuple[float, float, float]:
        """Own weight, slope and shift of the affine calibration."""
        said = torch.log_softmax(self.logits.double(), 1)
        rest = said[:, self.places]
        otherwise = torch.tensor(self.places)[rest.argmax(1)]
        best = (-1.0, 0.0, 0.0, 0.0)
        for own in OWNS:
            for slope in SLOPES:
                evidence = own * said[:, self.target] + slope * self.score.double()
                f1, shift = self._shift(rest.max(1).values - evidence, otherwise)
                best = max(best, (f1, own, slope, shift))  # of equals the one that hears the patient most
        return best[1:]

    def _shift(self, margin: Tensor, otherwise: Tensor) -> tuple[float, float]:
        """The highest F1, and the shift at which it is reached, while the others lose little enough.

        margin: float64[n], the shift from which the class answers; otherwise: int64[n], who answers until then.
        """
        order = margin.argsort()
        own, right = (self.truth == self.target)[order], (otherwise == self.truth)[order]
        was = ((self.answers == self.truth) & ~(self.truth == self.target))[order]
        count = torch.arange(len(order) + 1, dtype=torch.float64)  # answered with the class, those of lowest margin
        found = torch.cat([torch.zeros(1), own.double().cumsum(0)])
        f1 = 2 * found / (count + own.sum()).clamp(min=1)
        others = right & ~own
        lost, gained = was.sum() - _after(was & others), _after(~was & others)
        net = lost - gained + SURE * (lost + gained).sqrt()
        surely = torch.minimum(net, lost + SURE * lost.sqrt())  # what is won cannot make it worse
        f1 = torch.where(surely <= self.plan.others / 100 * (~own).sum() + 1e-9, f1, -1.0)
        rising = margin[order]
        between = torch.cat([rising[:1] - 1, (rising[1:] + rising[:-1]) / 2, rising[-1:] + 1])
        place = int(f1.argmax())
        return float(f1[place]), float(between[place])

    @cached_property
    def module(self) -> Model:
        """The donor with the neurons of the module alone."""
        return proven(self.donor, self.part)

    @cached_property
    def ids(self) -> np.ndarray:
        """Validation samples."""
        return self.data.ids("val")

    @cached_property
    def truth(self) -> Tensor:
        """int64[n], outputs of the patient."""
        return self.patient.outputs_of(self.data.classes)[torch.as_tensor(self.data.labels(self.ids))]

    @cached_property
    def answers(self) -> Tensor:
        """int64[n] of the patient as it is."""
        return self.logits.argmax(1)

    @cached_property
    def before(self) -> Effect:
        """Of the patient as it is."""
        return Effect.of(self.answers, self.truth, self.target)

    @property
    def logits(self) -> Tensor:
        """float[n, K] of the patient."""
        return self._said[:, : len(self.patient.classes)]

    @property
    def score(self) -> Tensor:
        """float[n] of the module, with its head as it is."""
        return self._said[:, -1]

    @cached_property
    def _unsquashed(self) -> Tensor:
        """float64[n]: the score before its sigmoid."""
        score = self.score.double()
        return torch.logit(score, eps=1e-7) if "hidden.weight" in self.part.head else score

    @cached_property
    def _said(self) -> Tensor:
        """float[n, K + 1]: what both say, each of the samples as it will see them in the new network."""
        count = len(self.patient.classes) + 1
        members = [Member(self.patient), Member(self.module, self.part.head)]
        names = [*self.patient.classes, "score"]
        both = compose(members, self.patient.input, names, torch.eye(count), torch.zeros(count))
        return predict(both, self.data, self.ids, self.ctx, "asking both networks")


def _after(hit: Tensor) -> Tensor:
    """float64[n + 1]: of bool[n], how many come from each place on."""
    return hit.sum().double() - torch.cat([torch.zeros(1, dtype=torch.float64), hit.double().cumsum(0)])
