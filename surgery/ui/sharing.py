"""Which shares would work, before one is made: proposed by a job, ticked by a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from surgery import charts, jobs
from surgery.jobs import Job
from surgery.operations.share import Share
from surgery.plan import Plan
from surgery.ui import format, must_keep, panels, pickers, progress, running
from surgery.ui.form import form
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain
from surgery.ui.state import View
from surgery.workspace import Project, Version

Row = Mapping[str, Any]
MEGABYTE, FLOAT = 1e6, 4  # bytes


def draw(view: View, members: Sequence[Version]) -> None:
    """Settings on the left; what was found, and the way on, on the right."""
    project = view.project
    if project is None:
        return
    left, right = st.columns([4, 9], gap="large")
    with left, panels.panel():
        plan = _plan(view, members)
    task = {"kind": "propose_shares", "plan": plan.model_dump(mode="json")}
    with left:
        if st.button(_("Look for shares"), type="primary", icon=":material/search:", key="propose"):
            title = _("Look for shares among {count} models").format(count=len(members))
            jobs.submit(view.workspace, task, project=project.id, title=title)
            st.rerun()
        st.caption(_("Nothing is changed yet."))
    job = progress.latest(view.workspace, project.id, task)
    with right, panels.panel():
        if job is None:
            panels.empty(_("Look for shares to see what these models could have in common, and what it would cost."))
        elif job.state != "done":
            progress.watch(view.workspace, job)
        else:
            _found(view, project, plan, job)


def _plan(view: View, members: Sequence[Version]) -> Plan:
    whole = sum(FLOAT * version.parameters for version in members)
    st.caption(_("All parameters in memory now: {size}").format(size=format.size(whole)))
    parameters = form(Share, key="share", given={"shares": ()})
    dataset = view.dataset.id if view.dataset else ""
    preserve = must_keep.required(view.workspace, dataset)
    return Plan(
        operation="share",
        parameters=parameters,
        inputs=tuple(version.id for version in members),
        dataset=dataset,
        preserve=preserve,
        seed=0,
        device=pickers.device(view, key="share_device"),
    )


def called(chosen: Sequence[Row], names: Sequence[str]) -> str:
    """`v2, v4 on v1`: the fleet's name, by the numbers of its versions."""
    guests: dict[str, list[str]] = {}
    for row in chosen:
        guests.setdefault(names[int(row["host"])].split()[0], []).append(names[int(row["guest"])].split()[0])
    return "; ".join(f"{', '.join(own)} on {host}" for host, own in guests.items())


def _found(view: View, project: Project, plan: Plan, job: Job) -> None:
    """What the job found."""
    result = job.result
    names, rows = result["names"], result["shares"]
    chosen = [row for row in rows if row["chosen"]]
    budget = plan.parameters.get("budget")
    if not chosen:
        st.warning(plain(result["refusal"]), icon=":material/block:")
    ticked = [row for row in chosen if _ticked(row, names)]
    after = result["before"] - sum(row["saved"] for row in ticked)
    if chosen:
        st.markdown("#### " + memory(result["before"], after, budget))
        left_alone(names, ticked)
        title = plural("Make {count} share", "Make {count} shares", len(ticked))
        if st.button(title, type="primary", icon=":material/hub:", disabled=not ticked, key="share_now"):
            shares = [{key: row[key] for key in ("host", "cut", "guest", "at")} for row in ticked]
            chosen_plan = plan.model_copy(update={"parameters": {**plan.parameters, "shares": shares}})
            running.start(view.workspace, project, chosen_plan, title, name=called(ticked, names))
    st.markdown(f"##### {_('Everything that was tried')}")
    st.dataframe(table(rows, names), hide_index=True, column_config=_columns())


def _ticked(row: Row, names: Sequence[str]) -> bool:
    """One share that would be made, with a box to leave it out."""
    with st.container(border=True):
        wanted = st.checkbox(
            _("**{guest}** goes on at `{at}` from `{cut}` of **{host}**").format(
                guest=plain(names[int(row["guest"])]), at=row["at"], cut=row["cut"], host=plain(names[int(row["host"])])
            ),
            value=True,
            key=f"take_{row['guest']}_{row['at']}_{row['host']}_{row['cut']}",
        )
        st.caption(
            _(
                "saves {saved} · agrees with itself on {agreement} of {n} unlabelled samples (at least {limit} is "
                "asked) · similarity {similarity} · {adapter}"
            ).format(
                saved=format.size(row["saved"]),
                agreement=format.percent(row["agreement"]),
                n=f"{int(row['samples']):,}",
                limit=format.percent(row["limit"]),
                similarity=format.percent(row["similarity"]),
                adapter=_("with a fitted adapter") if row["adapter"] == "linear" else _("taken as it is"),
            )
        )
    return wanted


def memory(before: float, after: float, budget: float | None) -> str:
    """`Weights 59.1 kB → 23.0 kB, 61 % less; fits the 30 kB asked for`."""
    said = _("Weights {before} → {after}, {share} less").format(
        before=format.size(before), after=format.size(after), share=format.percent(1 - after / max(before, 1))
    )
    if budget is None:
        return said
    asked = format.size(budget * MEGABYTE)
    fits = _("; fits the {asked} asked for") if after <= budget * MEGABYTE else _("; {asked} were asked for")
    return said + fits.format(asked=asked)


def left_alone(names: Sequence[str], chosen: Sequence[Row]) -> None:
    """Say who shares with nobody."""
    busy = {int(row[key]) for row in chosen for key in ("guest", "host")}
    alone = [plain(name) for place, name in enumerate(names) if place not in busy]
    if alone:
        st.caption(_("Shares with nobody: {names}").format(names=", ".join(alone)))


def table(rows: Sequence[Row], names: Sequence[str]) -> pd.DataFrame:
    """What was tried, in words; refused ones with the condition that failed."""
    return pd.DataFrame(
        [
            {
                "verdict": _("chosen") if row["chosen"] else _("would pass") if row["accepted"] else _("refused"),
                "reason": row["reason"] or "",
                "guest": names[int(row["guest"])],
                "at": row.get("at") or "–",
                "host": names[int(row["host"])] if row.get("host") is not None else "–",
                "cut": row.get("cut") or "–",
                "adapter": row.get("adapter") or "–",
                "similarity": _percent(row.get("similarity")),
                "agreement": _percent(row.get("agreement")),
                "saved": format.size(row.get("saved")),
            }
            for row in sorted(rows, key=lambda row: (not row["chosen"], not row["accepted"], -(row.get("saved") or 0)))
        ]
    )


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _columns() -> dict[str, Any]:
    percent = st.column_config.NumberColumn
    return {
        "verdict": _("verdict"),
        "reason": st.column_config.TextColumn(_("why"), width="medium"),
        "guest": _("model"),
        "at": _("goes on at"),
        "host": _("from model"),
        "cut": _("at its"),
        "adapter": _("adapter"),
        "similarity": percent(_("similarity"), format="%.1f %%"),
        "agreement": percent(_("agreement"), format="%.1f %%"),
        "saved": _("saves"),
    }


def bars(before: Mapping[str, float], after: Mapping[str, float]) -> None:
    """Memory of the fleet as two bars."""
    frame = pd.DataFrame([{"scope": name, "before": before[name], "after": after[name]} for name in before])
    figure = charts.before_after(
        frame, title=_("Memory, measured in a process of its own"), unit="MB", better="lower",
        dark=st.context.theme.type == "dark",
    )  # fmt: skip
    st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="fleet_memory", alt=_("Memory before and after"))
