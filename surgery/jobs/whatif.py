"""What would happen: a model kept warm over its probe set, asked to do without some of its neurons.

A what-if silences and answers from the cut (see surgery.analysis.replay). A preview resolves a plan with the
operation's own code, predicts its harm the same way, and shrinks in memory for sizes; it writes nothing.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import psutil
import torch
from torch import BoolTensor, Tensor

from surgery.analysis.must_keep import coverage
from surgery.analysis.replay import GIBIBYTE, Recording, record, touched
from surgery.analysis.scan import Scan
from surgery.context import Context
from surgery.data.batches import Inputs
from surgery.data.dataset import Dataset
from surgery.edit import finetune
from surgery.edit.evaluate import MEANS_FROM, means_of, training_ids
from surgery.edit.gate import gate
from surgery.edit.shrink import shrink
from surgery.errors import DataError, JobError, ModelError, PlanError, SelectionError
from surgery.jobs import quality_answer, sketch, sketch_modules, sketch_share, sketch_slim
from surgery.jobs.neuron_answers import NeuronAnswers
from surgery.jobs.verdict import Probes, sizes
from surgery.measure.continuation import TEMPERATURE, write
from surgery.network.index import NeuronIndex
from surgery.network.model import Model
from surgery.network.slicing import Means
from surgery.operations.compose import Compose
from surgery.operations.compress import Compress
from surgery.operations.damage import Damage
from surgery.operations.extend import Extend
from surgery.operations.forget import Forget
from surgery.operations.patch import Patch
from surgery.operations.prune import Prune, Resolution
from surgery.operations.readapt import Readapt
from surgery.operations.self_compress import SelfCompress
from surgery.operations.slim_mlp import SlimMlp
from surgery.operations.split import Split
from surgery.plan import Plan
from surgery.workspace import Workspace

PATIENCE = 3.0  # seconds that averaging activations may take when there is no scan
# An estimate of a job's length: seconds to start a worker and to measure latency; a training step in forward passes.
STARTING, TIMING = 5.0, 3.0

Fill = Literal["mean", "zero"]
How = Literal["silence", "keep", "scale"]
STRONGEST = 10.0  # a factor above this tells about numbers, not about the model


@dataclass
class WhatIf:
    """A version over the probe set of a dataset; `model` lies on the CPU, the recording's copy on the device."""

    ws: Workspace
    version: str
    dataset: str
    model: Model
    data: Dataset
    probes: Probes
    recording: Recording
    device: str
    forward: float  # seconds per sample
    known: dict[str, Means] = field(default_factory=dict)

    @classmethod
    def open(cls, ws: Workspace, version: str, dataset: str, device: str = "cpu") -> WhatIf:
        """Load and warm up.

        Raises:
            ModelError: neurons of the network are not numbered. DataError, MeasureError: the data does not fit.
        """
        model = ws.model(version)
        data = ws.dataset(dataset).fitting(model.classes).without_test()
        if model.index is None:
            raise ModelError(
                f"The neurons of this network are not numbered: {model.support.reason}.", "It can only be inspected."
            )
        ids = data.probe_ids()
        if not len(ids):
            raise DataError(f"{data.name!r} has no samples to try a what-if on.", "Import data that is not only test.")
        probes = Probes.of(model, data, ids)
        inputs = Inputs.of(data, ids, model.input, device)
        warm = model if device == "cpu" else replace(model, module=copy.deepcopy(model.module).to(device))
        memory = min(GIBIBYTE, psutil.virtual_memory().available // 4)
        start = time.perf_counter()
        recording = record(warm, inputs, Context(device), memory=memory)
        forward = (time.perf_counter() - start) / max(len(ids), 1)
        return cls(ws, version, dataset, model, data, probes, recording, device, forward)

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer {"what": "whatif", "remove": [ids], "fill", "how", "factor"}, {"what": "preview", "plan": {…}},
        {"what": "regions", "neuron", "samples"} or {"what": "connections", "neuron"} (see `NeuronAnswers`), {"what":
        "donors", "target", "modules": [{version, digest}]} (see `sketch_modules.donors`), {"what": "similar", "other":
        version, "metric"} or {"what": "responses", "other", "layers": [own, other's]} (see `sketch_share`), {"what":
        "must_keep", "ids": [samples]} (see `analysis.must_keep.coverage`), or {"what": "write", "prompt",
        "temperature"}.

        Raises:
            SelectionError, PlanError: the selection or the plan cannot be used. JobError: another question.
        """
        start = time.perf_counter()
        match request:
            case {"what": "whatif", "remove": [*ids], **others}:
                how, factor = others.get("how", "silence"), others.get("factor", 0.0)
                answer = self.whatif(ids, _fill(others.get("fill", "mean")), how=how, factor=factor)
            case {"what": "regions", "neuron": int(neuron), "samples": [*ids]}:
                answer = self.about.regions(neuron, ids)
            case {"what": "connections", "neuron": int(neuron)}:
                answer = self.about.connections(neuron)
            case {"what": "preview", "plan": dict() as plan}:
                answer = self.preview(plan)
            case {"what": "donors", "target": str(target), "modules": [*modules]}:
                answer = sketch_modules.donors(self, target, modules)
            case {"what": "similar", "other": str(other), **others}:
                answer = sketch_share.similar(self, other, str(others.get("metric", "cka")))
            case {"what": "responses", "other": str(other), "layers": [str(one), str(two)]}:
                answer = sketch_share.responses(self, other, (one, two))
            case {"what": "must_keep", "ids": [*ids]}:
                answer = coverage(self.model, self.data, [int(id) for id in ids], Context(self.device))
            case {"what": "write", "prompt": str(prompt), **others}:
                temperature = float(others.get("temperature", TEMPERATURE))
                answer = {"text": write(self.model, prompt, Context(), temperature=temperature)}
            case {"what": "wiring" | "quality" as what}:
                answer = quality_answer.answer(what, self)
            case _:
                what = request.get("what")
                raise JobError(f"A probe cannot answer {what!r}.", "Ask for whatif, preview, regions or connections.")
        return {**answer, "seconds": time.perf_counter() - start}

    @cached_property
    def about(self) -> NeuronAnswers:
        """What is told of single neurons."""
        return NeuronAnswers(self.model, self.data)

    def whatif(
        self, chosen: Sequence[Any], fill: Fill = "mean", *, how: How = "silence", factor: float = 0.0
    ) -> dict[str, Any]:
        """Silence neurons and those coupled to them, keep only them in their layers, or scale them by `factor`.

        asked, removed, stay: neurons named; silenced or scaled; named but fixed, with the reasons in `reasons`.
        layers: {layer, before, after} neurons of every layer that loses some. rows, flips: see Probes.
        split, n: of the probe set. from_cut: the share of calls (0–1) that were not made again.

        Raises:
            SelectionError: an id that the version does not have, only neurons that stay, or another way or factor.
        """
        index = self._index
        asked = _mask(index, chosen)
        keep = index.close(~(others_of(index, asked) if how == "keep" else asked))
        fixed = asked & keep if how != "keep" else torch.zeros_like(asked)
        reasons = sorted({index.stays(group) for group in index.group[fixed].unique().tolist()})
        if len(ids := fixed.nonzero()) and len(ids) == int(asked.sum()):  # 0.0 would say that they do not matter
            raise SelectionError(
                f"None of the {len(ids)} selected neurons can be ablated: {'; '.join(reasons)}.",
                "Select other neurons.",
            )
        value = torch.where(keep, 1.0, _factor(how, factor))
        return {
            "how": how,
            "asked": int(asked.sum()),
            "removed": int((~keep).sum()),
            "stay": int(fixed.sum()),
            "reasons": [f"stays: {reason}" for reason in reasons],
            "layers": losses(index, keep) if how != "scale" else [],
            **self._consequences(value, self.means() if fill == "mean" and how != "scale" else None),
        }

    def preview(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        """What a plan would do: the answer of `whatif`, and besides

        coupled: neurons that go although nobody named them. sizes: rows of parameters, bytes and MACs.
        job_seconds: roughly how long the job will take.

        Raises:
            SelectionError: nothing can be removed, or a layer would become empty. PlanError: another plan's fault.
        """
        parsed = Plan.parse(json.dumps({"inputs": [self.version], "dataset": self.dataset, **plan}))
        operation = parsed.build()
        if isinstance(operation, Readapt):
            return sketch.relearned(self, operation, parsed)
        if isinstance(operation, Extend):
            return sketch.taught(self, operation, parsed)
        if isinstance(operation, Forget):
            return sketch.forgotten(self, operation, parsed)
        if isinstance(operation, Damage):
            return sketch.spoilt(self, operation, parsed)
        if isinstance(operation, Compress):
            return sketch.compressed(self, operation, parsed)
        if isinstance(operation, SlimMlp):
            return sketch_slim.slimmed(self, operation, parsed)
        if isinstance(operation, SelfCompress):
            return sketch_slim.squeezed(self, operation, parsed)
        if isinstance(operation, Split):
            return sketch_modules.divided(self, operation, parsed)
        if isinstance(operation, Compose):
            return sketch_modules.composed(self, operation, parsed)
        if isinstance(operation, Patch):
            return sketch_modules.transplanted(self, operation, parsed)
        if not isinstance(operation, Prune):
            raise PlanError(f"{operation.title} cannot be previewed.", "Run it: the original stays as it is.")
        resolution = resolve(operation, self.model)
        means = self.means(parsed.seed) if operation.fill == "mean" else None
        small, _ = shrink(self.model, resolution.keep, means)
        return {
            "title": operation.title,
            "asked": resolution.asked,
            "removed": resolution.removed,
            "stay": resolution.stay,
            "coupled": resolution.removed - (resolution.asked - resolution.stay),
            "reasons": list(resolution.reasons),
            "layers": losses(self._index, resolution.keep),
            **self._consequences(resolution.keep.float(), means),
            "sizes": sizes(self.model, small),
            "job_seconds": self._job_seconds(operation),
        }

    def means(self, seed: int = 0) -> Means:
        """What each reader receives on average: from the version's scan, else computed as the operation does.

        Without a scan the operation's own samples are used as far as they can be run in `PATIENCE` seconds.
        """
        if "scan" not in self.known and (scan := self._scan()):
            self.known["scan"] = scan.means
        name = "scan" if "scan" in self.known else f"seed {seed}"
        if name not in self.known:
            limit = max(256, min(MEANS_FROM, int(PATIENCE / max(self.forward, 1e-9))))
            self.known[name] = means_of(self.model, self.data, Context(self.device, seed), limit)
        return self.known[name]

    @property
    def _index(self) -> NeuronIndex:
        if self.model.index is None:
            raise ModelError("The neurons of this network are not numbered.", "It can only be inspected.")
        return self.model.index

    def _consequences(self, value: Tensor, means: Means | None) -> dict[str, Any]:
        """Run the probe set with every neuron multiplied by value: float[N]."""
        index, recording = self._index, self.recording
        with gate(recording.model.module, index, value, means):
            rerun = recording.rerun(touched(index, value != 1))
        before, after = recording.outputs, rerun.outputs
        return {
            "rows": self.probes.rows(self.model.task, before, after),
            "flips": self.probes.flips(self.model.task, before, after),
            "split": self.probes.split,
            "n": len(self.probes.ids),
            "from_cut": rerun.skipped,
        }

    def _scan(self) -> Scan | None:
        """The scan of this version on this dataset that saw most samples; never one of test samples."""
        anywhere = self.ws.scan_folder(self.version, self.dataset, {})
        same = anywhere.name.rpartition("-")[0]
        folders = [folder for folder in anywhere.parent.glob(f"{same}-*") if self.ws.scan_is_whole(folder)]
        scans = [Scan.load(folder) for folder in folders]
        return max((s for s in scans if s.inputs["role"] != "test"), key=lambda s: s.samples, default=None)

    def _job_seconds(self, operation: Prune) -> float:
        """Starting, averaging, fine-tuning, and measuring both models on test and on time."""
        averaged = min(len(training_ids(self.data)), MEANS_FROM)
        return self.seconds_for(averaged + finetune.passes(self.data, operation.epochs, rate=operation.rate))

    def seconds_for(self, passes: float) -> float:
        """How long a job takes that runs so many forward passes of one sample, and measures both models."""
        counts = self.ws.dataset(self.dataset).counts()
        measured = 2 * counts.get("test", counts.get("val", 0))
        return STARTING + TIMING + (passes + measured) * self.forward


def resolve(operation: Prune, model: Model) -> Resolution:
    """What the operation will remove, by its own word.

    Raises:
        SelectionError: as the operation does. PlanError: it cannot run on this model.
    """
    found = operation.resolve(model.index) if model.index else None
    problems = operation.check([model])
    if problems or found is None:
        raise PlanError(f"{operation.title} cannot run here: {' '.join(problems)}", "Choose another version.")
    return found


def losses(index: NeuronIndex, keep: Tensor) -> list[dict[str, Any]]:
    """{layer, before, after} for each layer that loses neurons."""
    counts = {name: (len(layer.rows), int(keep[layer.rows].sum())) for name, layer in index.layers.items()}
    return [{"layer": name, "before": old, "after": new} for name, (old, new) in counts.items() if new < old]


def _mask(index: NeuronIndex, ids: Sequence[Any]) -> BoolTensor:
    """bool[N], true at `ids`.

    Raises:
        SelectionError: an id that does not exist.
    """
    wrong = [i for i in ids if not isinstance(i, int) or isinstance(i, bool) or not 0 <= i < index.n]
    if wrong:
        raise SelectionError(
            f"There is no neuron {wrong[0]!r}: this version has neurons 0 to {index.n - 1}.",
            "Make the selection on this version, or map it through its old ids.",
        )
    mask = torch.zeros(index.n, dtype=torch.bool)
    mask[list(ids)] = True
    return mask  # type: ignore[return-value]


def others_of(index: NeuronIndex, asked: Tensor) -> Tensor:
    """bool[N]: the neurons beside the asked ones, in the layers of the points that stand for these."""
    points = index.group[asked & ~index.fixed].unique()
    layers = index.layer_of[points].unique()
    beside: Tensor = torch.isin(index.layer_of[index.group], layers) & ~torch.isin(index.group, points)
    return beside


def _factor(how: Any, factor: Any) -> float:
    """What the neurons concerned are multiplied by.

    Raises:
        SelectionError: an unknown way, or a factor that is no number in range.
    """
    if how in ("silence", "keep"):
        return 0.0
    if how != "scale":
        raise SelectionError(f"Neurons cannot be treated by {how!r}.", "Choose silence, keep or scale.")
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 0 <= factor <= STRONGEST:
        raise SelectionError(f"Neurons cannot be scaled by {factor!r}.", f"Choose a factor from 0 to {STRONGEST:.0f}.")
    return float(factor)


def _fill(given: Any) -> Fill:
    if given == "mean" or given == "zero":
        return "mean" if given == "mean" else "zero"
    raise SelectionError(f"A neuron cannot leave {given!r} behind.", "Choose mean or zero.")
