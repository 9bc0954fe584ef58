"""Whatever is submitted is a job, or is refused in words before there is one: every field of every kind, spoilt."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import delete, func, select

from surgery import jobs
from surgery.data.dataset import Dataset
from surgery.errors import NotFoundError, SurgeryError
from surgery.jobs.kinds import KINDS
from surgery.network.model import Model
from surgery.network.part import Part
from surgery.operations.base import operations
from surgery.plan import Plan
from surgery.workspace import Workspace, catalogue, liveness, queue
from tests.patients import digits, mlp, writer

pytestmark = pytest.mark.hostile
Task = dict[str, Any]
MUTATIONS = 40  # of one valid task
KEPT = 0  # a training sample


class Idle:
    """An engine whose workers do nothing."""

    def launch(self, home: Path, job_id: str) -> queue.Worker:
        return queue.Worker(os.getpid(), -1.0, liveness.here(), None)

    def alive(self, worker: queue.Worker) -> bool:
        return True

    def stop(self, worker: queue.Worker) -> bool:
        return True

    def reap(self) -> None:
        """Nothing to reap."""


@dataclass
class World:
    """A project with one of everything, and another project."""

    ws: Workspace
    project: str
    own: dict[str, str]  # name -> id, of what is here
    alien: dict[str, str]  # what is in the trash, or in the other project

    def submit(self, task: Any) -> jobs.Job:
        return jobs.submit(self.ws, task, project=self.project, title="Try", engine=Idle())

    def rows(self) -> int:
        with self.ws.store.read() as db:
            return int(db.scalar(select(func.count()).select_from(catalogue.jobs)) or 0)

    def forget(self, id: str) -> None:
        with self.ws.store.write() as db:
            db.execute(delete(catalogue.jobs).where(catalogue.jobs.c.id == id))


def copied(data: Dataset) -> Callable[[Path], Dataset]:
    def make(folder: Path) -> Dataset:
        shutil.copytree(data.folder, folder, dirs_exist_ok=True)
        return Dataset.open(folder)

    return make


def with_parts() -> Model:
    """A network with a module for each class, which nobody will run."""
    model = digits()
    assert model.index is not None
    keep = torch.ones(model.index.n, dtype=torch.bool)
    parts = [Part(name, keep, (name,), head={"slope": torch.ones(1)}) for name in model.classes]
    return replace(model, parts=tuple(parts))


def described_only(folder: Path) -> str:
    """A fleet that nobody will load."""
    (folder / "model.safetensors").write_bytes(b"")
    return "sha256:0"


def furnish(ws: Workspace, name: str, datasets: dict[str, Dataset]) -> tuple[str, dict[str, str]]:
    project = ws.create_project(name).id
    own = {key: ws.add_dataset(project, key, copied(data)).id for key, data in datasets.items()}
    models = {
        "cnn": with_parts(),
        "other": digits(),
        "mlp": replace(mlp(), classes=datasets["table"].classes),
        "text_model": writer(0),
    }
    own |= {key: ws.commit(project, model, name=key, parts=model.parts).id for key, model in models.items()}
    members = {"a": own["cnn"], "b": own["other"]}
    own["fleet"] = ws.add_fleet(
        project, "Fleet", described_only, members=members, hosts={"b": "a"}, documents={}, tables={}
    ).id
    plan = plan_of(own, "compress", {"parameters": 0.5})
    job = queue.add(
        ws.store, {"kind": "plan", "plan": plan}, project=project, title="Old", lane="long", device="", limit=60
    )
    with ws.store.write() as db:
        queue.end(ws.store, db, job.id, "failed", "so")
    folder = job.folder / "candidates" / "1"
    folder.mkdir(parents=True)
    (folder / "candidate.json").write_text('{"accepted": true, "figures": {"candidate": 1}, "kept": null}')
    return project, {**own, "job": job.id}


def plan_of(own: dict[str, str], operation: str, parameters: Task, **more: Any) -> Task:
    plan = {"operation": operation, "parameters": parameters, "inputs": [own["cnn"]], "dataset": own["images"]}
    return Plan.of(**{**plan, **more}).model_dump(mode="json")


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory,
    pico_images: Dataset,
    pico_more: Dataset,
    pico_table: Dataset,
    pico_targets: Dataset,
    pico_text: Dataset,
) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SURGERY_DATABASE", raising=False)
        patch.setenv("SURGERY_DEVICES", "cpu")
        ws = Workspace(tmp_path_factory.mktemp("plans") / "home")
        data = {
            "images": pico_images,
            "more": pico_more,
            "table": pico_table,
            "targets": pico_targets,
            "text": pico_text,
        }
        project, own = furnish(ws, "Own", data)
        _, alien = furnish(ws, "Other", data)
        trashed = ws.commit(project, digits(), name="Trashed", make_current=False)
        ws.trash_version(trashed.id)
        ws.add_scan(own["cnn"], own["images"], {}, lambda folder: (folder / "scan").write_text(""))
        yield World(ws, project, own, {**{f"alien {key}": id for key, id in alien.items()}, "trashed": trashed.id})


def plans(own: dict[str, str]) -> dict[str, Task]:
    """One valid plan of every operation."""
    modules = [part.digest for part in with_parts().parts]
    return {
        "prune": plan_of(own, "prune", {"remove": [1]}, preserve={"ids": [KEPT], "may_break": 1}),
        "compress": plan_of(own, "compress", {"parameters": 0.5, "protect": [2, 3]}),
        "damage": plan_of(own, "damage", {}, device="cpu", seed=3),
        "split": plan_of(own, "split", {}),
        "forget": plan_of(own, "forget", {"classes": ["bars"]}),
        "self_compress": plan_of(own, "self_compress", {"kilobytes": 3}),
        "slim_mlp": plan_of(own, "slim_mlp", {}, inputs=[own["mlp"]], dataset=own["table"]),
        "extend": plan_of(own, "extend", {}, new=own["more"]),
        "readapt": plan_of(own, "readapt", {}, new=own["images"]),
        "patch": plan_of(own, "patch", {"target": "bars"}, inputs=[own["other"], own["cnn"]]),
        "compose": plan_of(own, "compose", {"modules": modules}),
        "share": plan_of(own, "share", {}, inputs=[own["cnn"], own["other"]]),
    }


def tasks(own: dict[str, str], path: Path) -> dict[str, Task]:
    """One valid task of every kind; of plans, one of every operation."""
    pair = {"version": own["cnn"], "dataset": own["images"]}
    scan = {**pair, "params": {}}
    given = {"kind": "table", "shape": [4], "mean": [0.0] * 4, "std": [1.0] * 4}
    architecture = {"name": "mlp", "arguments": {"sizes": [4, 8, 3]}}
    known: dict[str, Task] = {
        "take": {"job": own["job"], "candidate": 1, "current": False, "name": "Taken"},
        "take_out": {"version": own["cnn"], "part": 0, "name": "Part"},
        "compare": {"versions": [own["cnn"], own["other"]], "dataset": own["images"]},
        "scan": {**pair, "params": {"role": "train", "limit": 10, "batch": 4}},
        "criticality": scan,
        "must_keep": {**pair, "size": 6, "least": 1, "shares": {"hard": 1.0, "typical": 0.5}, "seed": 1},
        "sensitivity": {**scan, "seconds": 1.0},
        "slice_accuracy": {**scan, "score": "taylor", "criterion": "cosine", "fill": "mean", "theta": 0.9},
        "score_comparison": scan,
        "projection": scan,
        "drift": {**pair, "change": "fgsm", "strength": 0.5, "name": "Drifted"},
        "join": {"datasets": [own["images"], own["more"]], "name": "Joined"},
        "relabel": {"dataset": own["more"], "name": "Renamed", "classes": {"cross": "bars"}, "without": []},
        "import_model": {
            "path": str(path), "name": "M", "architecture": architecture, "input": given, "classes": ["a", "b", "c"],
            "task": "classification", "licence": "MIT", "source": "here",
        },
        "build_large": {"dataset": own["table"], "name": "L", "width": 8, "depth": 2, "epochs": 1.0, "seed": 0},
        "import_data": {
            "path": str(path), "name": "D", "target": "y", "task": "classification", "drop": ["a"], "seed": 1,
            "size": [8, 8], "context": 12, "same_names": "merge",
        },
        "inspect_model": {"path": str(path), "architecture": architecture},
        "check_model": pair,
        "set_input": {"version": own["cnn"], "shape": [1, 9, 9], "mean": [0.5], "std": [0.5], "name": "Fed"},
        "open_sample": {"sample": "digits"},
        "export": {"version": own["cnn"], "format": "int8", "dataset": own["images"]},
        "replay": {"fleet": own["fleet"], "datasets": [own["images"]], "share": 0.5, "seed": 2},
        "export_fleet": {"fleet": own["fleet"]},
        "propose_shares": {"plan": plans(own)["share"]},
    }  # fmt: skip
    found = {kind: {"kind": kind, "device": "cpu", **task} for kind, task in known.items()}
    return found | {f"plan {name}": {"kind": "plan", "plan": plan, "name": "P"} for name, plan in plans(own).items()}


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a task."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield (*above, key)
        yield from places(part, (*above, key))


class Odd:
    """Nothing that JSON knows."""


def poisons(world: World) -> list[Any]:
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    return [
        None, True, "", "x", -1, 0, 0.5, 10**30, 2**63, -(2**63), float("nan"), float("inf"), -float("inf"), 1e308,
        "../../etc/passwd", "/dev/null", str(world.ws.home), "a\0b", "\ud800", "a" * 5_000, "line\nbreak",
        [], {}, [None], [[1]], {"a": {"b": 1}}, [2**63], ["x", "x"], Odd(),
        b"bytes", {1, 2}, deep, *world.own.values(), *world.alien.values(),
    ]  # fmt: skip


def spoilt(task: Task, place: tuple[Any, ...], change: Any) -> Task:
    """The task with the value at a place changed by `change(container, key)`."""
    made = copy.deepcopy(task)
    inside: Any = made
    for key in place[:-1]:
        inside = inside[key]
    change(inside, place[-1])
    return made


def refused_or_accepted(world: World, task: Any) -> str | None:
    """Submit; what the refusal says, None when it became a job. Anything but a refusal in words fails the test."""
    before = world.rows()
    try:
        job = world.submit(task)
    except SurgeryError as error:
        assert error.what.strip() and "Error" not in error.what.split(":")[0], error.what
        assert world.rows() == before, f"refused, and a job all the same: {error.what}"
        return error.what
    assert world.rows() == before + 1
    world.forget(job.id)
    return None


def test_one_valid_task_of_every_kind_and_operation_is_accepted(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    given = tasks(world.own, tmp_path / "file")
    assert {task["kind"] for task in given.values()} == set(KINDS)
    assert set(plans(world.own)) == set(operations())
    assert {name: said for name, task in given.items() if (said := refused_or_accepted(world, task))} == {}


def test_every_field_of_every_kind_spoilt_is_refused_in_words_or_accepted(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    chance, bad = random.Random(7), poisons(world)
    for name, task in tasks(world.own, tmp_path / "file").items():
        ways = list(places(task))
        for place in ways:
            refused_or_accepted(world, spoilt(task, place, lambda inside, key: inside.pop(key)))
        for _ in range(MUTATIONS):
            value, place = chance.choice(bad), chance.choice(ways)
            refused_or_accepted(
                world, spoilt(task, place, lambda inside, key, value=value: inside.__setitem__(key, value))
            )
        assert refused_or_accepted(world, {**task, "surprise": 1}), f"{name} takes a field that nobody knows"
        for place in ways:
            if place[-1] in ("version", "dataset", "job", "fleet") or place[-2:-1] in (("inputs",), ("versions",)):
                for id in [*chance.sample(sorted(world.alien.values()), 3), world.alien["trashed"]]:
                    changed = spoilt(task, place, lambda inside, key, id=id: inside.__setitem__(key, id))
                    assert refused_or_accepted(world, changed), f"{name} takes what is not of its project at {place}"


@pytest.mark.parametrize("task", [None, 3, "plan", [], {}, {"kind": None}, {"kind": ["plan"]}, {"kind": "fly"}])
def test_what_is_no_task_is_refused(world: World, task: Any) -> None:
    assert refused_or_accepted(world, task)


@pytest.mark.parametrize("around", [{"project": "nowhere"}, {"project": None}, {"project": "\ud800"}, {"title": None},
                                    {"title": "a\nb"}, {"limit": float("nan")}, {"limit": -1}, {"limit": 1e300},
                                    {"limit": "long"}])  # fmt: skip
def test_what_stands_around_a_task_is_judged_too(world: World, around: Task) -> None:
    before = world.rows()
    task = {"kind": "open_sample", "sample": "digits"}
    with pytest.raises(SurgeryError):
        jobs.submit(world.ws, task, **{"project": world.project, "title": "Try", "engine": Idle(), **around})
    assert world.rows() == before


WRONG: dict[str, tuple[Task, str]] = {
    "no inputs": ({"inputs": []}, "inputs: it has 0 entries; the least is 1"),
    "too many inputs": ({"inputs": ["cnn", "other"]}, r"takes 1 model\(s\), 2 given"),
    "a seed beyond 64 bits": ({"seed": 2**200}, "seed: .* is too large; the most is 9223372036854775807"),
    "a seed below zero": ({"seed": -1}, "seed: -1 is too small; the least is 0"),
    "another project's version": ({"inputs": ["alien cnn"]}, "Version 1 'cnn' belongs to another project"),
    "a version in the trash": ({"inputs": ["trashed"]}, "Version 5 'Trashed' is in the trash"),
    "another project's dataset": ({"dataset": "alien images"}, "dataset 'images' belongs to another project"),
    "another kind of data": ({"dataset": "table"}, "takes image input, 'boxes' holds table"),
    "another task": (
        {"inputs": ["mlp"], "dataset": "targets"},
        "made for classification, the dataset 'sums' for regression",
    ),
    "other classes": ({"dataset": "more"}, "None of the 2 classes of .* has the name of a class of the model"),
    "an unknown device": ({"device": "cuda:77"}, "no device 'cuda:77'; it has cpu"),
    "a neuron beyond the last": ({"parameters": {"remove": [999]}}, "Neuron 999 does not exist"),
    "no neuron": ({"parameters": {"remove": []}}, "No neuron is selected"),
    "fixed neurons alone": ({"parameters": {"remove": "the outputs"}}, "None of the 1 selected neurons can be removed"),
    "an infinite rate": ({"parameters": {"remove": [1], "rate": float("inf")}}, "cannot be stored as JSON"),
    "a true neuron": ({"parameters": {"remove": [True]}}, "remove.ids.0: it must be a whole number, not True"),
    "a case of test": ({"preserve": {"ids": "test"}}, "is in test and cannot be a must-keep case"),
    "a case that does not exist": ({"preserve": {"ids": [10_000]}}, "has no sample 10000"),
    "new data that nothing learns": ({"operation": "extend", "parameters": {}}, "learns from new data, and the plan"),
    "a class that nobody knows": (
        {"operation": "forget", "parameters": {"classes": ["cat"]}},
        "does not know cat; it knows bars",
    ),
    "a network that cannot share": (
        {"operation": "share", "parameters": {}, "inputs": ["cnn", "mlp"]},
        "nothing computed for one serves the other",
    ),
    "data without validation": (
        {"operation": "readapt", "parameters": {}, "new": "more"},
        "None of the 2 classes of .* has the name of a class of the model",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_plan_that_cannot_run_is_refused_before_there_is_a_job(world: World, name: str) -> None:
    wrong, told = WRONG[name]
    known = {**world.own, **world.alien}
    plan: Task = {**plans(world.own)["prune"], "preserve": {"ids": [], "may_break": 0}, **copy.deepcopy(wrong)}
    plan["inputs"] = [known.get(one, one) for one in plan["inputs"]]
    plan |= {key: known.get(plan[key], plan[key]) for key in ("dataset", "new")}
    if plan["parameters"].get("remove") == "the outputs":
        plan["parameters"]["remove"] = [world.ws.version(plan["inputs"][0]).neurons - 1]
    if plan["preserve"]["ids"] == "test":
        plan["preserve"]["ids"] = [int(world.ws.dataset(world.own["images"]).ids("test")[0])]
    said = refused_or_accepted(world, {"kind": "plan", "plan": plan})
    assert said and re.search(told, said), said


def test_a_job_whose_input_went_into_the_trash_is_not_tried_again(world: World) -> None:
    version = world.ws.commit(world.project, digits(), name="Going", make_current=False)
    job = world.submit({"kind": "plan", "plan": plan_of(world.own, "damage", {}, inputs=[version.id])})
    jobs.cancel(world.ws, job.id, engine=Idle())
    world.ws.trash_version(version.id)
    with pytest.raises(NotFoundError, match="'Going' is in the trash"):
        jobs.retry(world.ws, job.id, engine=Idle())
    world.ws.restore_version(version.id)
    assert jobs.retry(world.ws, job.id, engine=Idle()).state in ("queued", "running")


def test_judging_imports_no_torch(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    given = [task for name, task in tasks(world.own, tmp_path / "file").items()]
    code = (
        "import json, sys; from pathlib import Path; from surgery.jobs.kinds import KINDS\n"
        "from surgery.workspace import Workspace\n"
        "home, project, tasks = json.loads(sys.stdin.read()); ws = Workspace(Path(home))\n"
        "for task in tasks: KINDS[task['kind']].prepare(ws, project, task)\n"
        "print('torch' in sys.modules)"
    )
    given_text = json.dumps([str(world.ws.home), world.project, given])
    done = subprocess.run([sys.executable, "-c", code], input=given_text, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("False", "")
