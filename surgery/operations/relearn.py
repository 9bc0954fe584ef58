"""The work of `Readapt`: what suffered, which neurons carry it, training them under watch."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from surgery.context import Context
from surgery.edit.blend import blend
from surgery.edit.evaluate import predict, quality
from surgery.edit.extract import outputs
from surgery.edit.guard import Guard
from surgery.edit.parts import rows_of, share_of
from surgery.edit.tune import Replay, tune
from surgery.network.model import Model
from surgery.network.readers import layer_name
from surgery.operations.base import Candidate, Outcome

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset
    from surgery.data.rows import Ids
    from surgery.operations.readapt import Readapt

JUDGED = 1_000  # validation samples of each kind that a look takes
LOOKS = 4  # per epoch
BLENDS = (1.0, 0.85, 0.7, 0.55, 0.4, 0.25)  # of the way from before to after
WEIGHED = 4_000  # new training samples from which the choice of neurons is made
BATCH = 32
HARDLY = 0.005  # of quality on new data


class Relearning:
    """One run of the operation."""

    def __init__(self, plan: Readapt, model: Model, data: Dataset, new: Dataset, ctx: Context) -> None:
        self.plan, self.model, self.data, self.new, self.ctx = plan, model, data, new, ctx
        assert model.index is not None
        self.index = model.index
        self.old_ids, self.new_ids = self.judged(data), self.judged(new)
        self.quiet = Context(device=ctx.device, seed=ctx.seed, cancelled=ctx.cancelled)

    def run(self) -> Outcome:
        """Choose, train, tell."""
        classes = self.classes
        chosen = self.chosen(self.suffering(classes))
        free = rows_of(self.model, chosen)
        share = share_of(self.model, free)
        self.ctx.log(f"{int((chosen & self.index.point).sum())} neurons, {share:.1%} of the parameters may change")
        guard = self.guard()
        old = Replay(self.data, self.plan.replay) if self.plan.replay and len(self.data.ids("train")) else None
        tuned = tune(
            self.model,
            self.new,
            self.ctx,
            epochs=self.plan.epochs,
            rate=self.plan.rate,
            free=free,
            guard=guard,
            replay=old,
        )
        tuned, share_kept = self.blended(tuned, guard) if self.plan.candidate is None else (tuned, 1.0)
        if guard.returns:
            self.ctx.log(f"the old quality sank too far {guard.returns} times; the last good state came back")
        after = self.per_class(tuned)
        table = classes.assign(old_after=after["old"], new_after=after["new"])
        facts = pd.DataFrame(
            [{"parameters trained": share, "neurons": int((chosen & self.index.point).sum()), "returns": guard.returns}]
        ).assign(blend=share_kept)
        return Outcome((tuned,), None, {"classes": table, "trained": facts})

    def blended(self, tuned: Model, guard: Guard) -> tuple[Model, float]:
        """The best point on the ways from before to the guard's state and to the last one, and how far it lies.

        Of the points whose old quality is within the tolerance, and whose new quality is within HARDLY of the best of
        these, the one that is best on the old.
        """
        last = replace(tuned, module=copy.deepcopy(tuned.module))
        last.module.load_state_dict({name: tensor.cpu() for name, tensor in guard.last.items()})
        points = [(share, blend(self.model, end, share)) for end in (tuned, last) for share in BLENDS]
        judged = [(self.on_old(model), self.on_new(model), share, model) for share, model in points]
        within = [one for one in judged if one[0] >= guard.least - 1e-9]
        if not within:
            return tuned, 1.0
        most = max(one[1] for one in within)
        old, new, share, model = max((one for one in within if one[1] >= most - HARDLY), key=lambda one: one[0])
        self.ctx.log(f"taken: {share:.0%} of the way; on validation samples {old:.1%} of the old, {new:.1%} of the new")
        return model, share

    def on_old(self, model: Model) -> float:
        """Quality on old validation samples; 1 without any."""
        return quality(model, self.data, self.old_ids, self.quiet) if len(self.old_ids) else 1.0

    def on_new(self, model: Model) -> float:
        """Quality on new validation samples."""
        return quality(model, self.new, self.new_ids, self.quiet)

    @cached_property
    def classes(self) -> pd.DataFrame:
        """class, old, new: the model's quality before, on validation samples; one row for a regression."""
        return self.per_class(self.model)

    def per_class(self, model: Model) -> pd.DataFrame:
        """class, old, new."""
        if model.task == "regression":
            return pd.DataFrame({"class": [model.classes[0]], "old": [self.on_old(model)], "new": [self.on_new(model)]})
        table = pd.DataFrame({"class": list(model.classes)})
        for name, data, ids in (("old", self.data, self.old_ids), ("new", self.new, self.new_ids)):
            place = model.outputs_of(data.classes)
            truth = place[torch.as_tensor(data.labels(ids))]
            right = predict(model, data, ids, self.quiet).argmax(1) == truth
            shares = [
                float(right[truth == c].double().mean()) if bool((truth == c).any()) else np.nan for c in table.index
            ]
            table[name] = shares
        return table

    def suffering(self, classes: pd.DataFrame) -> list[int]:
        """The outputs whose class is worse on new data by the plan's measure; all when none is."""
        found = classes.index[classes["new"] < classes["old"] - self.plan.suffered / 100].tolist()
        names = ", ".join(str(classes["class"][c]) for c in found[:8])
        self.ctx.log(f"suffered: {names}" if found else "no class suffered by that much; all are learnt from")
        return found or [c for c in classes.index if not np.isnan(classes["new"][c])]

    def chosen(self, suffering: list[int]) -> Tensor:
        """bool[N]: the neurons that may change, with all coupled to them, and the outputs that suffered."""
        last = self.index.logits & self._outputs(suffering)
        if self.plan.choose == "all":
            return torch.ones(self.index.n, dtype=torch.bool)
        points = (self.index.point & ~self.index.logits).nonzero()[:, 0]
        if self.plan.choose == "random":
            worth = torch.rand(self.index.n, generator=torch.Generator().manual_seed(self.ctx.seed))
        else:
            worth = self.carried(suffering)
        order = points[worth[points].argsort(descending=True, stable=True)]
        low, high = 0, len(order)
        while low < high:
            middle = (low + high + 1) // 2
            if share_of(self.model, rows_of(self.model, self._with(last, order[:middle]))) <= self.plan.share:
                low = middle
            else:
                high = middle - 1
        return self._with(last, order[:low])

    def _with(self, last: Tensor, points: Tensor) -> Tensor:
        return last | torch.isin(self.index.group, points)

    def _outputs(self, suffering: list[int]) -> Tensor:
        """bool[N]: the neurons of the outputs at these places."""
        rows = outputs(self.model) if self.model.task == "classification" else None
        if rows is None:
            return self.index.logits
        found = torch.zeros(self.index.n, dtype=torch.bool)
        found[rows[suffering]] = True
        return found

    def carried(self, suffering: list[int]) -> Tensor:
        """float64[N]: how much the loss on new samples of these classes depends on what writes each neuron.

        The mean over batches of the squared gradient, per parameter of its group: where a step helps most.
        """
        module = self.model.module.to(self.ctx.device)
        ids = self._of(suffering)
        sums = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in module.named_parameters()}
        batches = self.new.batches(ids, self.model.input, size=BATCH, device=self.ctx.device, seed=self.ctx.seed)
        place = self.model.outputs_of(self.new.classes).to(self.ctx.device) if self.model.task != "regression" else None
        try:
            for x, y, _ in self.ctx.track(batches, "looking for what carries it"):
                assert y is not None
                out = self.model(x)
                loss = F.mse_loss(out[:, 0], y.float()) if place is None else F.cross_entropy(out, place[y])
                gradients = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
                for name, gradient in zip(sums, gradients, strict=True):
                    if gradient is not None:
                        sums[name] += gradient.double().square()
        finally:
            module.to("cpu")
        return self._per_neuron({name: total.cpu() for name, total in sums.items()})

    def _per_neuron(self, sums: dict[str, Tensor]) -> Tensor:
        """float64[N]: the mean over the parameters that write a neuron's group."""
        total, count = torch.zeros(2, self.index.n, dtype=torch.float64)
        for name, weight in sums.items():
            axis = self.index.writes(name)
            if axis is None:
                continue
            own, group = weight.movedim(axis, 0).flatten(1), self.index.group[self.index.layers[layer_name(name)].rows]
            total.index_add_(0, group, own.sum(1))
            count.index_add_(0, group, torch.full((len(own),), float(own.shape[1])).double())
        mean: Tensor = total / count.clamp(min=1)
        return mean[self.index.group]

    def _of(self, suffering: list[int]) -> Ids:
        ids = self.new.ids("train")
        if self.model.task != "regression":
            place = self.model.outputs_of(self.new.classes).numpy()
            own = ids[np.isin(place[self.new.labels(ids)], suffering)]
            ids = own if len(own) else ids
        return np.sort(np.random.default_rng(self.ctx.seed).permutation(ids)[:WEIGHED])

    def judged(self, data: Dataset) -> Ids:
        """The validation samples that looks take, spread over classes."""
        from surgery.data.splits import spread

        ids = data.ids("val")
        return ids[np.sort(spread(data.strata(ids), JUDGED, 0))]

    def guard(self) -> Guard:
        """Old quality within the tolerance, and of such states the best on new data."""
        steps = -(-len(self.new.ids("train")) // 64)
        return Guard(
            look=lambda module: self.on_old(replace(self.model, module=module)),
            prefer=lambda module: self.on_new(replace(self.model, module=module)),
            least=self.on_old(self.model) - self.plan.tolerance / 100,
            every=max(1, steps // LOOKS),
            report=lambda a, b: self.ctx.point(old=a, new=b if b is not None else float("nan")),
            most=None if self.plan.candidate is None else self.plan.candidate * LOOKS,
            after=self.offer,
        )

    def offer(self, guard: Guard) -> None:
        """The last good state, about once per epoch, before any way back to the old is looked for."""
        if guard.looks % LOOKS:
            return
        module = copy.deepcopy(self.model.module)
        module.load_state_dict(guard.good)
        number = guard.looks // LOOKS
        figures = {"candidate": number, "stage": f"epoch {number}", "new": guard.score}
        model = replace(self.model, module=module)
        self.ctx.offer(Candidate(number, model, None, figures, accepted=guard.strikes == 0))
