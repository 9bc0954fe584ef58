"""A small patient for the pages: a residual network on drawings, with a real scan, and a probe answering in place."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
import torch

from surgery.analysis import neurons
from surgery.analysis.scan import scan
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.jobs import probe
from surgery.jobs.whatif import WhatIf
from surgery.network.architectures import build
from surgery.network.model import Architecture, InputSpec, Model, Support
from surgery.network.trace import trace
from surgery.plan import Plan, run
from surgery.workspace import DatasetRow, Project, Version, Workspace
from tests.patients import writer


@dataclass(frozen=True)
class Patient:
    """A project with one version, a dataset and, if asked for, a scan."""

    ws: Workspace
    project: Project
    version: Version
    dataset: DatasetRow

    @property
    def link(self) -> dict[str, str]:
        """The query that names the project."""
        return {"project": self.project.id}

    def operate(self, remove: list[int]) -> Version:
        """Prune for real, as the worker does."""
        plan = Plan(
            operation="prune",
            parameters={"remove": {"ids": remove}},
            inputs=(self.version.id,),
            dataset=self.dataset.id,
        )
        data = self.ws.dataset(self.dataset.id)
        outcome, receipt = run(plan, [self.ws.model(self.version.id)], data, Context())
        return self.ws.commit(
            self.project.id,
            outcome.models[0],
            name="Smaller",
            parent=self.version.id,
            plan=plan.model_dump(mode="json"),
            receipt=receipt.to_json(),
            kept=outcome.kept,
            tables=outcome.tables,
        )

    def scan(self, version: Version) -> None:
        """Scan a version for real."""
        model = self.ws.model(version.id)
        found = scan(model, self.ws.dataset(self.dataset.id), Context())
        self.ws.add_scan(version.id, self.dataset.id, {}, lambda folder: neurons.save(model, found, folder))


def admit(
    ws: Workspace, data: Dataset, *, scanned: bool = True, support: Support | None = None, outputs: Sequence[str] = ()
) -> Patient:
    """A project on a copy of `data` with an untrained network of full support, or of the given one.

    outputs: what the network tells apart, where the data does not say it.
    """
    project = ws.create_project("Drawings")
    ws.set_tolerance(project.id, drop=100, class_drop=100)  # untrained: what it loses does not matter

    def copied(folder: Path) -> Dataset:
        shutil.copytree(data.folder, folder, dirs_exist_ok=True)
        return Dataset.open(folder)

    dataset = ws.add_dataset(project.id, data.name, copied)
    model = network(data, outputs)
    version = ws.commit(project.id, replace(model, support=support or model.support), name="Original")
    patient = Patient(ws, ws.project(project.id), version, dataset)
    if scanned:
        patient.scan(version)
    return patient


def network(data: Dataset, classes: Sequence[str] = ()) -> Model:
    """Convolutions with a residual add for images, a perceptron for tables, with random weights; a writer for texts."""
    if data.kind == "text":
        return writer()
    torch.manual_seed(0)
    classes = classes or data.classes
    images, outputs = data.kind == "images", len(classes)
    cnn = Architecture("sample/digits_cnn", {"widths": [4, 6, 5], "classes": outputs})
    architecture = cnn if images else Architecture("mlp", {"sizes": [4, 8, 6, outputs]})
    module = build(architecture).eval()
    mean, std = data.statistics("unlabelled" if data.task == "unlabelled" else "train")
    spec = InputSpec("image" if images else "table", data.shape, mean, std)
    index, support = trace(module, torch.randn(2, *data.shape))
    task = "regression" if data.task == "regression" else "classification"
    return Model(module, architecture, spec, task, tuple(classes), index, support)


def answer_in_place(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """Let the probe's own code answer in this process; returns the list into which the questions go."""
    st.cache_data.clear()
    asked: list[Mapping[str, Any]] = []

    def ask(ws: Workspace, version: str, dataset: str, request: Mapping[str, Any]) -> dict[str, Any]:
        asked.append(request)
        return WhatIf.open(ws, version, dataset).answer(request)

    monkeypatch.setattr(probe, "ask", ask)
    return asked
