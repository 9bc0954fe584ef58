"""What a probe says of the whole model: its wiring, and how right it is, class by class, with its worst samples.

Measured on the probe set (at most 1,000 samples, never test), from the outputs that the probe holds anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from surgery.measure.quality import mse, r2
from surgery.network.cost import macs_per_layer
from surgery.network.wiring import wiring

if TYPE_CHECKING:
    from surgery.jobs.verdict import Probes
    from surgery.jobs.whatif import WhatIf

WORST = 24  # samples
OF_A_CELL = 24  # samples of one kind of mistake

Answer = dict[str, Any]


def answer(what: str, probe: WhatIf) -> Answer:
    """{"what": "wiring"} or {"what": "quality"}."""
    if what == "wiring":
        assert probe.model.index is not None, "a probe has an index"
        drawn = wiring(probe.model.module, probe.model.index)
        macs = macs_per_layer(probe.model)
        return {**drawn, "layers": [{**layer, "macs": macs.get(layer["name"], 0)} for layer in drawn["layers"]]}
    return quality(probe.model.task, probe.recording.outputs, probe.probes)


def quality(task: str, outputs: Tensor, probes: Probes) -> Answer:
    """task, split, n, and by task:

    classification: accuracy, chance (the share of the commonest class), confidence (mean of the largest probability),
    classes {name, precision, recall, f1, n}, confusion [truth][answer] with a last column for answers that the
    dataset does not know, cells {"truth,answer": samples}, worst {sample, truth, answer, loss}, largest loss first.
    regression: r2, mse, worst {sample, truth, answer, loss = squared error}. Without labels only confidence.
    """
    found: Answer = {"task": task, "split": probes.split, "n": len(probes.ids), "labelled": probes.truth is not None}
    if task == "regression":
        return found | (_errors(outputs, probes) if probes.truth is not None else {})
    chance = outputs.float().softmax(1)
    found |= {"confidence": float(chance.amax(1).mean()), "outputs": outputs.shape[1]}
    return found | (_mistakes(chance, probes) if probes.truth is not None else {})


def _errors(outputs: Tensor, probes: Probes) -> Answer:
    answers, truth = outputs[:, 0].numpy(), np.asarray(probes.truth)
    loss = (answers.astype(float) - truth) ** 2
    return {"r2": r2(answers, truth), "mse": mse(answers, truth), "worst": _worst(probes, answers, truth, loss)}


def _mistakes(chance: Tensor, probes: Probes) -> Answer:
    """chance: float[n, outputs], the probabilities."""
    classes, truth = probes.data.classes, np.asarray(probes.truth)
    answers = probes.meaning[chance.argmax(1).numpy()]
    own = torch.from_numpy(probes.meaning[None] == truth[:, None])  # [n, outputs], the outputs that would be right
    loss = -(chance * own).sum(1).clamp(min=1e-12).log().numpy()
    count = len(classes)
    confusion = np.zeros((count, count + 1), dtype=np.int64)
    np.add.at(confusion, (truth, np.where(answers < 0, count, answers)), 1)
    return {
        "accuracy": float((answers == truth).mean()),
        "chance": float(np.bincount(truth).max() / len(truth)),
        "classes": [_class(name, place, confusion) for place, name in enumerate(classes)],
        "confusion": confusion.tolist(),
        "cells": _cells(probes, answers, truth, loss),
        "worst": _worst(probes, answers, truth, loss),
    }


def _class(name: str, place: int, confusion: np.ndarray) -> Answer:
    """Precision, recall, F1 of one class; None where nothing was answered or nothing is there."""
    hit = int(confusion[place, place])
    real, named = int(confusion[place].sum()), int(confusion[:, place].sum())
    return {
        "name": name,
        "precision": hit / named if named else None,
        "recall": hit / real if real else None,
        "f1": 2 * hit / (real + named) if real + named else None,
        "n": real,
    }


def _cells(probes: Probes, answers: np.ndarray, truth: np.ndarray, loss: np.ndarray) -> dict[str, list[int]]:
    """Some samples of every cell of the confusion matrix, the worst first."""
    cells: dict[str, list[int]] = {}
    for i in np.argsort(-loss, kind="stable").tolist():
        own = cells.setdefault(f"{truth[i]},{answers[i] if answers[i] >= 0 else len(probes.data.classes)}", [])
        if len(own) < OF_A_CELL:
            own.append(int(probes.ids[i]))
    return cells


def _worst(probes: Probes, answers: np.ndarray, truth: np.ndarray, loss: np.ndarray) -> list[Answer]:
    columns = {"sample": probes.ids, "truth": truth, "answer": answers, "loss": loss}
    order = np.argsort(-loss, kind="stable")[:WORST]
    return [{name: column[i].item() for name, column in columns.items()} for i in order.tolist()]
