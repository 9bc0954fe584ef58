"""One pass over the data: what every neuron does on every class, and the samples that excite it most.

The activation of a neuron is what its first reader receives, averaged over space. Maps are reduced while the model
runs and never kept, so memory does not depend on the number of samples; statistics are summed batch by batch.

Letters: N neurons, M neurons seen, C classes, b samples of a batch, s positions of a map.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from surgery.analysis.concepts import concepts
from surgery.analysis.folded import folded
from surgery.analysis.kept import Kept, Overall, StrongestClasses, applies
from surgery.analysis.reading import Reading
from surgery.analysis.responses import FILE, Responses, how_many
from surgery.analysis.watch import watch
from surgery.context import Context
from surgery.data.splits import spread
from surgery.errors import DataError, ModelError
from surgery.network.model import Model

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset

_TABLES = ("count", "mean", "var", "absolute", "active", "top_value", "top_sample", "top_position")


@dataclass(frozen=True)
class Scan:
    """What every neuron does. Rows of neurons that nobody reads (the logits) are 0, their samples −1.

    count: float32[C], samples per class. mean, var, absolute, active: float32[N, C], over the samples of a class: mean
        and (population) variance of the activation, mean |activation|, share of samples × positions above 0.
    top_value: float32[N, 9]; top_sample, top_position: int64[N, 9]: the strongest samples, best first, and the flat
        spatial position of the maximum (−1: the neuron has no positions, or fewer than 9 samples exist).
    means: layer -> float32[in], the mean that each input position of each layer receives.
    classes: names of the C classes. inputs: what the result was computed from; `digest` is its hash.
    responses: what a few hundred samples showed one by one; None in results of older versions.
    kept: beyond the memory rule of `analysis.kept` the tables are float32[N, 32], and this names each neuron's classes.
    """

    count: Tensor
    mean: Tensor
    var: Tensor
    absolute: Tensor
    active: Tensor
    top_value: Tensor
    top_sample: Tensor
    top_position: Tensor
    means: Mapping[str, Tensor]
    classes: tuple[str, ...]
    inputs: Mapping[str, Any]
    responses: Responses | None = None
    kept: Kept | None = None

    @property
    def overall(self) -> Overall:
        """Each neuron over all samples."""
        return self.kept.overall if self.kept else Overall.of(self.count, self.mean, self.var, self.active)

    @property
    def digest(self) -> str:
        """Names the model, data and parameters that the result was computed from."""
        return "sha256:" + hashlib.sha256(json.dumps(dict(self.inputs), sort_keys=True).encode()).hexdigest()

    @property
    def samples(self) -> int:
        """How many samples were seen."""
        return int(self.count.sum())

    def save(self, folder: Path) -> None:
        """Write `scan.safetensors`, `scan.json` and the responses into an existing folder."""
        tensors = {name: getattr(self, name).contiguous() for name in _TABLES}
        tensors |= {f"means/{name}": value.contiguous() for name, value in self.means.items()}
        if self.kept is not None:
            tensors |= {"kept/classes": self.kept.classes, "kept/overall": self.kept.overall.stacked()}
        save_file(tensors, folder / "scan.safetensors")
        about = {"classes": self.classes, "inputs": dict(self.inputs)}
        (folder / "scan.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
        if self.responses is not None:
            self.responses.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Scan:
        """Read what `save` wrote."""
        about = json.loads((folder / "scan.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "scan.safetensors")
        means = {name.removeprefix("means/"): value for name, value in tensors.items() if name.startswith("means/")}
        tables = {name: tensors[name] for name in _TABLES}
        responses = Responses.load(folder) if (folder / FILE).exists() else None
        kept = None
        if "kept/classes" in tensors:
            kept = Kept(tensors["kept/classes"], Overall(*tensors["kept/overall"]))
        classes, inputs = tuple(about["classes"]), about["inputs"]
        return cls(**tables, means=means, classes=classes, inputs=inputs, responses=responses, kept=kept)


def scan(
    model: Model, data: Dataset, ctx: Context, *, role: str = "train", limit: int | None = None, batch: int = 256
) -> Scan:
    """Run `model` once over the samples of `role` (at most `limit`, evenly over classes) and describe its neurons.

    Unlabelled data is one class "all"; for regression the classes are quintiles of the target. A dataset without
    training samples is scanned on its unlabelled ones. Beyond the memory rule of `analysis.kept` samples are visited
    class by class, else by rising id; of equal values the one visited first is the stronger.

    Raises:
        DataError: when there are no samples, or a text–image model is named that cannot be used. ModelError: when the
        network has no index, or gives NaN. Cancelled.
    """
    if model.index is None:
        raise ModelError(
            f"The neurons of this network are not numbered: {model.support.reason}.", "It can only be inspected."
        )
    role, ids, groups, classes = samples_of(data, role, limit, ctx.seed)
    module = model.module if ctx.device == "cpu" else copy.deepcopy(model.module).to(ctx.device)
    digest = weights_digest(module)
    module = folded(module, model.index, model.input.example(2, ctx.device))
    bounded = applies(model.index.n, len(classes))
    order = groups.argsort(stable=True) if bounded else torch.arange(len(ids))
    ids, groups = ids[order], groups[order]
    reading = Reading(module, model.index, model.input, len(classes), ctx.device, bounded=bounded)
    remembered = torch.from_numpy(spread(groups.numpy(), how_many(reading.moments.neurons), ctx.seed))
    reading.remember(remembered)
    batches = data.batches(ids.numpy(), model.input, size=batch, device=ctx.device)
    turn = 0
    with torch.inference_mode(), watch(module, model.index, reading.see, functional=reading.functional):
        for x, _, _ in ctx.track(batches, "scanning"):
            turns = torch.arange(turn, turn := turn + len(x))
            reading.begin(turns)
            module(x)
            reading.end(groups[turns])
    reading.check_finite()
    inputs = {
        "model": digest,
        "data": data.digest,
        "role": role,
        "limit": limit,
        "seed": ctx.seed,
        "samples": len(ids),
    }
    values = reading.sampled.of(reading.columns[model.index.point])
    rising = ids[remembered].argsort()
    own = remembered[rising]
    called, member = concepts(data, ids[own].numpy(), ctx)
    responses = Responses(values[:, rising], ids[own], groups[own], torch.from_numpy(member), called)
    return replace(_result(reading, ids, classes, inputs), responses=responses)


def weights_digest(module: nn.Module) -> str:
    """sha256 over names, shapes and bytes of a module's tensors: the same weights, the same digest."""
    total = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))
    return "sha256:" + total.hexdigest()


def samples_of(data: Dataset, role: str, limit: int | None, seed: int) -> tuple[str, Tensor, Tensor, tuple[str, ...]]:
    """(role, sample ids ascending, class of each, class names).

    Raises:
        DataError: when there are no samples.
    """
    ids = data.ids(role)
    if len(ids) == 0 and role == "train":
        role, ids = "unlabelled", data.ids("unlabelled")
    if len(ids) == 0:
        raise DataError(f"{data.name!r} has no samples in the role {role!r}.", "Choose another role or add samples.")
    if data.task == "unlabelled" or role == "unlabelled":
        classes: tuple[str, ...] = ("all",)
        groups = np.zeros(len(ids), dtype=np.int64)
    else:
        classes = data.groups
        groups = data.strata(ids)
    if limit is not None:
        chosen = spread(groups, limit, seed)
        ids, groups = ids[chosen], groups[chosen]
    return role, torch.from_numpy(ids), torch.from_numpy(groups), classes


def _result(reading: Reading, ids: Tensor, classes: tuple[str, ...], inputs: Mapping[str, Any]) -> Scan:
    """Spread the table of seen neurons over all N ids; ids: int64[n], the samples in the order they were seen."""
    column, moments = reading.columns, reading.moments
    unseen = column < 0

    def spread(table: Tensor, empty: float = 0) -> Tensor:
        rows = torch.cat([table, table.new_full((1, *table.shape[1:]), empty)])
        return rows[torch.where(unseen, len(table), column)]

    strongest = None
    if isinstance(moments, StrongestClasses):
        owners, overall, averages = moments.result()
        strongest = Kept(spread(owners, -1), Overall(*(spread(part) for part in overall.stacked())))
    else:
        averages = tuple(table.t() for table in (moments.mean, moments.var, moments.absolute, moments.active))
    mean, var, absolute, active = (spread(table.float()) for table in averages)
    values, turns, positions = reading.strongest.result()
    return Scan(
        count=moments.count.float(),
        mean=mean,
        var=var,
        absolute=absolute,
        active=active,
        top_value=spread(values),
        top_sample=spread(torch.where(turns < 0, -1, ids[turns]), -1),
        top_position=spread(positions, -1),
        means={name: value.float() for name, value in reading.means().items()},
        classes=classes,
        inputs=inputs,
        kept=strongest,
    )
