"""What jobs do with fleets: commit one, replay a stream through it, take it away."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.context import Context
from surgery.errors import JobError
from surgery.jobs.reception import forget_old_exports
from surgery.workspace import Workspace
from surgery.workspace.rows import Job

if TYPE_CHECKING:
    from surgery.network.model import Model
    from surgery.operations.base import Outcome
    from surgery.plan import Plan
    from surgery.receipt import Receipt


def names_of(ws: Workspace, versions: Sequence[str]) -> list[str]:
    """What versions of one project are called in a fleet; their numbers tell equal names apart."""
    rows = [ws.version(id) for id in versions]
    return [f"v{row.number} {row.name}" for row in rows]


def propose(ws: Workspace, job: Job, ctx: Context) -> dict[str, Any]:
    """Look for shares without making any. Task: plan.

    Result: shares, rows as of `Sharing.table`; names of the members; before and after, bytes of all weights; refusal,
    why nothing passes, or "". The plan itself, run later, comes to the same.
    """
    from surgery.network.size import weight_bytes
    from surgery.operations.share import Share
    from surgery.plan import Plan
    from surgery.receipt import rows

    plan = Plan.model_validate(job.task["plan"])
    operation = plan.build()
    if not isinstance(operation, Share):
        raise JobError(f"{operation.title} proposes no shares.", "Give a plan of the operation share.")
    models = [ws.model(version) for version in ctx.track(plan.inputs, "loading")]
    data = ws.dataset(plan.dataset)
    data = data.preserving(plan.preserve.ids) if plan.preserve.ids else data
    ctx = Context(ctx.device, plan.seed, ctx.report, ctx.cancelled)
    work = operation.on(models, data.without_test(), ctx)
    chosen = work.choose()
    before = weight_bytes(models)
    return {
        "shares": rows(work.table(chosen)),
        "names": names_of(ws, plan.inputs),
        "before": before,
        "after": before - sum(one.loan.saved for one in chosen),
        "refusal": "" if chosen else work.refusal(),
    }


def commit(
    ws: Workspace,
    job: Job,
    plan: Plan,
    models: Mapping[str, Model],
    outcome: Outcome,
    receipt: Receipt,
    ctx: Context,
) -> None:
    """Commit models that share as a fleet; a guest that breaks more must-keep cases than allowed is back at once."""
    from surgery.edit.lend import fleet_of
    from surgery.network import fleet_store, proof
    from surgery.plan import shares_by

    ctx.report({"stage": "saving", "done": 0, "total": 1, "seconds": 0.0})
    names = list(models)
    shares = shares_by(names, outcome)
    broken = Counter(str(case["member"]) for case in receipt.cases.get("broken", ()))
    name = job.task.get("name") or job.title
    host = next(iter(models.values()))

    def write(folder: Path) -> str:
        fleet = fleet_of(models, shares)
        digest = fleet_store.save(fleet, models, folder)
        samples = [host.input.example(2)]  # a fleet normalizes for each member itself
        proof.same(fleet_store.load(folder), fleet, samples, f"Fleet {name!r}")
        return digest

    ws.add_fleet(
        job.project,
        name,
        write,
        members=dict(zip(names, plan.inputs, strict=True)),
        hosts={guest: host for guest, (host, _) in shares.items()},
        documents={"plan": plan.model_dump(mode="json"), "receipt": receipt.to_json()},
        tables=outcome.tables,
        back=[guest for guest in shares if broken[guest] > plan.preserve.may_break],
        job=job.id,
    )


def replay(ws: Workspace, job: Job, ctx: Context) -> dict[str, Any]:
    """Let streams run through a fleet, watched. Task: fleet, datasets (one after the other), and optionally share of
    the inputs that are watched (0–1) and seed.

    A guest that leaves its limit is taken back there and then, and runs on as it was. Result: what
    `measure.monitor.replay` returns.
    """
    from surgery.measure.monitor import replay

    fleet = ws.fleet(job.task["fleet"])
    network = ws.fleet_network(fleet.id)
    originals = {guest: ws.model(fleet.members[guest]) for guest in fleet.sharing}
    table = ws.fleet_table(fleet.id)
    chosen = table[table["chosen"]]
    names = list(fleet.members)
    levels = {
        names[int(row["guest"])]: (float(row["agreement"]), int(row["samples"])) for row in chosen.to_dict("records")
    }
    streams = [(ws.dataset_row(id).name, ws.dataset(id)) for id in job.task["datasets"]]

    def took_back(guest: str, why: str) -> None:
        ws.take_back(fleet.id, guest, why=why)

    return replay(
        network,
        originals,
        {guest: levels[guest] for guest in originals},
        next(iter(originals.values())).input,  # all members take one shape
        streams,
        Context(ctx.device, int(job.task.get("seed", 0)), ctx.report, ctx.cancelled),
        watched=float(job.task.get("share", 0.25)),
        took_back=took_back,
    )


def export(ws: Workspace, job: Job, ctx: Context) -> dict[str, Any]:
    """Write a fleet as it runs now. Task: fleet.

    Result: file, a zip of one weights file, description, definitions and a loader that needs torch, safetensors and the
    members' libraries; guests that were taken back are in it whole. needs: as of `reception.export`.
    """
    from surgery.network import export as exporting
    from surgery.network import export_check, fleet_store

    forget_old_exports(ws)
    fleet = ws.fleet(job.task["fleet"])
    ctx.report({"stage": "writing", "done": 0, "total": None, "seconds": 0.0})
    stem = ws.exports / job.id / f"fleet{fleet.number}"
    stem.parent.mkdir(parents=True)
    stored = fleet.folder
    if fleet.back:
        stored = stem.parent / "stored"
        members = {name: ws.model(version) for name, version in ctx.track(fleet.members.items(), "loading")}
        fleet_store.save(ws.fleet_network(fleet.id), members, stored)
    exporting.to_folder(stored, stem)
    example = ws.model(next(iter(fleet.members.values()))).input.example(2)
    needs = export_check.check(stem, ws.fleet_network(fleet.id), example, f"fleet {fleet.number} {fleet.name}")
    file = shutil.make_archive(str(stem), "zip", stem)
    shutil.rmtree(stem)
    return {"file": str(Path(file)), "needs": needs}
