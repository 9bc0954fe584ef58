"""The work of `Share`: similarities of all layers, shares tried from the largest saving on, a choice for the fleet.

Similarity ranks, agreement decides: two networks trained apart can have layers of the highest similarity whose channels
are ordered otherwise (arXiv 2410.11233 guides by similarity alone). Hosts run as they are; every guest has one host.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from surgery.analysis.similarity import Similarity, similarities
from surgery.context import Context
from surgery.edit.agreement import Agreement, Limits, agreement, limits_for, own_agreement
from surgery.edit.evaluate import predict, training_ids
from surgery.edit.lend import Share as Loan
from surgery.edit.lend import drawn, fits, lend, ridge, tuned
from surgery.errors import SelectionError, TraceError
from surgery.network.cuts import Cut, cuts_of
from surgery.network.model import Model
from surgery.network.size import weight_bytes
from surgery.operations.base import Lent, Outcome

if TYPE_CHECKING:
    import pandas as pd

    from surgery.data.dataset import Dataset
    from surgery.data.rows import Ids
    from surgery.operations.share import Share

LEAST = 32  # samples below which neither an adapter nor an agreement means much
GLANCE = 256  # samples of a first look, after which what is hopeless is not looked at further
COMPARED = 1024  # samples that similarity is measured on
SURE = 3.0  # standard errors by which a first look must fail
WORTH = 0.01  # of a guest's bytes: a share that saves less is not made unless it is asked for
MEGABYTE = 1e6


@dataclass(frozen=True)
class Tried:
    """A share that was judged. reason: why it was refused, "" = accepted."""

    host: int
    guest: int
    loan: Loan
    similarity: float
    low: float
    found: Agreement
    limits: Limits
    reason: str


class Sharing:
    """One run of the operation."""

    def __init__(self, plan: Share, models: Sequence[Model], data: Dataset, ctx: Context) -> None:
        self.plan, self.models, self.data, self.ctx = plan, list(models), data, ctx
        fitting, judging = pools(data, LEAST)
        self.fitting, self.judging = drawn(fitting, plan.samples, ctx.seed), drawn(judging, plan.samples, ctx.seed)
        self.judging = self.judging[np.random.default_rng(ctx.seed).permutation(len(self.judging))]
        self.tried: list[Tried] = []
        self.uncut: dict[int, str] = {}

    def run(self) -> Outcome:
        """The shares that are made.

        Raises:
            SelectionError: none passes; says which condition fails and by how much.
        """
        chosen = self.choose()
        if not chosen:
            raise SelectionError(self.refusal(), "Allow less agreement, ask for less memory, or add other models.")
        models = list(self.models)
        for one in chosen:
            models[one.guest] = lend(self.models[one.host], self.models[one.guest], one.loan, numbered=True)
        self._tell(chosen)
        first = next((one for one in chosen if one.guest == 0), None)
        kept = None if first is None else old_ids(self.models[0], models[0])
        lent = {one.guest: Lent(one.host, one.loan) for one in chosen}
        return Outcome(tuple(models), kept, {"shares": self.table(chosen)}, lent=lent)

    def choose(self) -> list[Tried]:
        """Those that were asked for, or the largest savings that pass until the weights fit; [] when none passes.

        Raises:
            SelectionError: what was asked for cannot be, or fails.
        """
        return self._asked() if self.plan.shares else self._greedy()

    def table(self, chosen: Sequence[Tried] = ()) -> pd.DataFrame:
        """One row per share that was tried, and per model that cannot be cut: guest, at, host, cut, adapter,
        similarity, low, agreement, limit, worst_class, worst, divergence, samples, saved, accepted, chosen, reason.
        """
        import pandas as pd

        rows: list[dict[str, Any]] = [
            {
                "guest": one.guest,
                "at": one.loan.at.name,
                "host": one.host,
                "cut": one.loan.cut.name,
                "adapter": "linear" if one.loan.adapter else "none",
                "similarity": one.similarity,
                "low": one.low,
                "agreement": one.found.share,
                "limit": one.limits.share,
                "worst_class": one.found.worst_class,
                "worst": one.found.worst,
                "divergence": one.found.kl,
                "samples": one.found.samples,
                "saved": one.loan.saved,
                "accepted": not one.reason,
                "chosen": any(one is other for other in chosen),
                "reason": one.reason,
            }
            for one in self.tried
        ]
        rows += [
            {"guest": place, "accepted": False, "chosen": False, "reason": why} for place, why in self.uncut.items()
        ]
        return pd.DataFrame(rows)

    def refusal(self) -> str:
        """Why no share is made: nothing needs to be, or the one that came closest and what it failed by."""
        total = weight_bytes(self.models) / MEGABYTE
        if self._fits(weight_bytes(self.models)):
            return f"The weights take {total:.3g} MB already, within the {self.plan.budget:g} MB asked for."
        refused = [one for one in self.tried if one.reason]
        if not refused:
            least = f"Every share that passes saves less than {WORTH:.0%} of its model."
            return least if self.tried else " ".join(self.uncut.values()) or "No two layers have forms that fit."
        best = max(refused, key=lambda one: (one.found.share, one.loan.saved))
        return (
            f"No share passes. Closest came model {best.guest + 1} at {best.loan.at.name} from {best.loan.cut.name} of "
            f"model {best.host + 1}: {best.reason}."
        )

    @cached_property
    def cuts(self) -> list[tuple[Cut, ...]]:
        """Where each model can be cut; nowhere, when `uncut` says why."""
        found: list[tuple[Cut, ...]] = []
        for place, model in enumerate(self.ctx.track(self.models, "looking for cuts")):
            try:
                found.append(cuts_of(model))
            except TraceError as error:
                self.uncut[place] = str(error)
                found.append(())
        return found

    @cached_property
    def similar(self) -> dict[tuple[int, int], Similarity]:
        """Every two models' similarities, the first place the lower."""
        known = [place for place, cuts in enumerate(self.cuts) if cuts]
        if len(known) < 2:
            return {}
        names = {str(place): [cut.name for cut in self.cuts[place]] for place in known}
        models = {name: self.models[int(name)] for name in names}
        ids = drawn(self.judging, COMPARED, self.ctx.seed)
        found = similarities(models, self.data, ids, self.ctx, layers=names)
        return {(int(one), int(other)): value for (one, other), value in found.items()}

    def alike(self, host: int, guest: int) -> tuple[Tensor, Tensor]:
        """float64[host's cuts, guest's cuts]: similarity and its lower bound."""
        if host < guest:
            found = self.similar[host, guest]
            return found.value, found.low
        found = self.similar[guest, host]
        return found.value.T, found.low.T

    @cached_property
    def said(self) -> list[Tensor]:
        """What each model says of the judging samples: float[n, C]."""
        return [predict(model, self.data, self.judging, self.ctx, "asking the models") for model in self.models]

    @cached_property
    def limits(self) -> list[Limits]:
        """What each model may lose."""
        asked = Limits(self.plan.agreement / 100, self.plan.worst / 100, self.plan.divergence)
        if not self.plan.adapt:
            return [asked for _ in self.models]
        found = []
        for model, said in zip(self.models, self.said, strict=True):
            own = own_agreement(model, self.data, self.judging, said, self.ctx)
            found.append(limits_for(own, asked))
        return found

    def proposals(self, host: int, guest: int) -> Iterator[tuple[Cut, Cut]]:
        """Pairs of cuts, the largest saving first; for each cut of the guest the host's most similar ones: of its very
        form, and of any.
        """
        if not self.cuts[host] or not self.cuts[guest]:
            return
        value, _ = self.alike(host, guest)
        for column in sorted(range(len(self.cuts[guest])), key=lambda place: -self.cuts[guest][place].bytes):
            at = self.cuts[guest][column]
            ranked = [self.cuts[host][place] for place in value[:, column].argsort(descending=True).tolist()]
            same = [cut for cut in ranked if cut.shape == at.shape][:1]
            other = [cut for cut in ranked if self.plan.adapters and fits(cut, at)][:1]
            yield from ((cut, at) for cut in dict.fromkeys((*same, *other)))

    def judge(self, host: int, guest: int, cut: Cut, at: Cut) -> Tried | None:
        """Try a share as it is, where forms are equal, then with an adapter; None when neither is possible."""
        last = None
        for adapted in (False, True):
            if (not adapted and cut.shape != at.shape) or (adapted and not (self.plan.adapters and fits(cut, at))):
                continue
            last = self._judged(host, guest, self._loan(host, guest, cut, at, adapted))
            if not last.reason:
                return last
        return last

    def _loan(self, host: int, guest: int, cut: Cut, at: Cut, adapted: bool) -> Loan:
        if not adapted:
            return Loan(cut, at, None)
        one, other = self.models[host], self.models[guest]
        loan = Loan(cut, at, ridge(one, other, cut, at, self.data, self.fitting, self.ctx))
        if self.plan.tuning:
            return tuned(one, other, loan, self.data, self.fitting, self.ctx, epochs=self.plan.tuning)
        return loan

    def _judged(self, host: int, guest: int, loan: Loan) -> Tried:
        """A first look at few samples, and where there is hope, one at all."""
        model, limits = lend(self.models[host], self.models[guest], loan), self.limits[guest]
        value, low = self.alike(host, guest)
        place = self.cuts[host].index(loan.cut), self.cuts[guest].index(loan.at)
        stage = f"trying model {guest + 1} at {loan.at.name} from model {host + 1}"
        for count in sorted({min(GLANCE, len(self.judging)), len(self.judging)}):
            said = predict(model, self.data, self.judging[:count], self.ctx, stage)
            found = agreement(self.said[guest][:count], said, self.models[guest].classes)
            doubt = (limits.share * (1 - limits.share) / count) ** 0.5
            if found.share < limits.share - SURE * doubt:
                break
        reason = limits.failed(found)
        tried = Tried(host, guest, loan, float(value[place]), float(low[place]), found, limits, reason)
        self.tried.append(tried)
        return tried

    def _greedy(self) -> list[Tried]:
        """The largest saving first, until the weights fit or nothing is left."""
        total = weight_bytes(self.models)
        if self._fits(total):
            return []
        best: list[Tried] = []
        for host in range(len(self.models)):
            for guest in range(len(self.models)):
                if host != guest and (found := self._best(host, guest)) is not None:
                    best.append(found)
        chosen: list[Tried] = []
        for one in sorted(best, key=lambda one: -one.loan.saved):
            guests, hosts = {other.guest for other in chosen}, {other.host for other in chosen}
            if self._fits(total):
                break
            if one.guest not in guests | hosts and one.host not in guests:
                chosen.append(one)
                total -= one.loan.saved
        return chosen

    def _fits(self, total: float) -> bool:
        return self.plan.budget is not None and total <= self.plan.budget * MEGABYTE

    def _best(self, host: int, guest: int) -> Tried | None:
        """The largest saving that passes and is worth it."""
        least = WORTH * weight_bytes([self.models[guest]])
        for cut, at in self.proposals(host, guest):
            found = self.judge(host, guest, cut, at)
            if found is not None and not found.reason and found.loan.saved > least:
                return found
        return None

    def _asked(self) -> list[Tried]:
        """The shares that were chosen by hand.

        Raises:
            SelectionError: a cut is not there, forms do not fit, or a share fails.
        """
        chosen = []
        for share in self.plan.shares:
            cut, at = self._cut(share.host, share.cut), self._cut(share.guest, share.at)
            found = self.judge(share.host, share.guest, cut, at)
            if found is None:
                raise SelectionError(
                    f"{cut.name} gives {list(cut.shape)}, {at.name} wants {list(at.shape)}: the forms do not fit.",
                    "Allow adapters, or choose other layers.",
                )
            if found.reason:
                raise SelectionError(
                    f"Model {share.guest + 1} cannot go on at {at.name} from {cut.name} of model {share.host + 1}: "
                    f"{found.reason}.",
                    "Choose an earlier cut, or allow less agreement.",
                )
            chosen.append(found)
        return chosen

    def _cut(self, place: int, name: str) -> Cut:
        found = next((cut for cut in self.cuts[place] if cut.name == name), None)
        if found is None:
            known = ", ".join(cut.name for cut in self.cuts[place]) or self.uncut.get(place, "none")
            raise SelectionError(f"Model {place + 1} cannot be cut at {name!r}.", f"Its cuts are: {known}.")
        return found

    def _tell(self, chosen: Sequence[Tried]) -> None:
        before = weight_bytes(self.models)
        after = before - sum(one.loan.saved for one in chosen)
        asked = "" if self.plan.budget is None else f"; asked for were {self.plan.budget:g} MB"
        self.ctx.log(
            f"{len(chosen)} shares: the weights take {after / MEGABYTE:.3f} of {before / MEGABYTE:.3f} MB{asked}"
        )


def pools(data: Dataset, least: int) -> tuple[Ids, Ids]:
    """Samples to fit on and others to judge on, `least` at least where there are so many; labels are not looked at."""
    fitting = training_ids(data)
    for role in ("val", "unlabelled"):
        judging = data.ids(role)
        if len(judging) >= least and not np.array_equal(judging, fitting):
            return fitting, judging
    order = np.random.default_rng(0).permutation(fitting)
    half = len(order) // 2
    return np.sort(order[:half]), np.sort(order[half:])


def old_ids(before: Model, after: Model) -> Tensor | None:
    """int64[N]: for each neuron of a guest that shares its id before, −1 for those of the host and of an adapter."""
    if before.index is None or after.index is None:
        return None
    found = torch.full((after.index.n,), -1, dtype=torch.long)
    for name, layer in after.index.layers.items():
        own = before.index.layers.get(name.removeprefix("back.network."))
        if own is not None and name.startswith("back.network."):
            found[layer.rows] = own.rows
    return found
