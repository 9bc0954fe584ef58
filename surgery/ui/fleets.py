"""A fleet: who shares with whom, what it costs each, a stream replayed through it, the way back, the way out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from surgery import change, charts, jobs
from surgery.receipt import Receipt
from surgery.receipt_html import to_html
from surgery.ui import comparison, format, panels, progress, sharing
from surgery.ui.export import needs_said
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain
from surgery.ui.state import View
from surgery.workspace import Workspace
from surgery.workspace.rows import Fleet

FLEET = "fleet"  # ?fleet=
MEMORY = ("weights in memory", "memory of the process")


def choose(view: View) -> Fleet | None:
    """The fleet that the URL names, else the newest; None when there is none."""
    ws, project = view.workspace, view.project
    found = {fleet.id: fleet for fleet in ws.fleets(project.id)} if project else {}
    if not found:
        return None
    linked = st.query_params.get(FLEET) or next(iter(found))
    chosen = st.selectbox(
        _("Fleet"),
        list(found),
        index=list(found).index(linked) if linked in found else 0,
        format_func=lambda id: f"{found[id].number} · {found[id].name}",
        key=f"fleet_{linked}_{len(found)}",
        width=420,
    )
    st.query_params[FLEET] = str(chosen)
    fleet = found[str(chosen)]
    with st.popover(_("Rename"), icon=":material/edit:"):
        name = st.text_input(_("Name"), fleet.name, key=f"name_{fleet.id}", max_chars=120)
        if name.strip() and name != fleet.name:
            ws.rename_fleet(fleet.id, name)
            st.rerun()
    return fleet


def draw(view: View, fleet: Fleet) -> None:
    """Draw one fleet."""
    ws = view.workspace
    receipt = Receipt.from_json(ws.fleet_document(fleet.id, "receipt"))
    st.markdown(f"#### {plain(headline(fleet, receipt))}")
    if said := broken(fleet, receipt):
        st.warning(said, icon=":material/gpp_maybe:")
    if unguarded := receipt.cases.get("unguarded"):
        st.caption(
            _("Not held to must-keep cases, whose classes they do not know: {names}").format(
                names=plain(", ".join(unguarded))
            )
        )
    _members(ws, fleet, receipt)
    left, right = st.columns(2, gap="medium")
    with left, panels.panel():
        rows = {row["metric"]: row for row in receipt.table if row["metric"] in MEMORY}
        names = {"weights in memory": _("weights"), "memory of the process": _("whole process")}
        sharing.bars(
            {names[key]: rows[key]["before"] / 1e6 for key in rows},
            {names[key]: rows[key]["after"] / 1e6 for key in rows},
        )
    with right, panels.panel():
        kinds = ("bytes", "parameters", "MACs", "latency", change.SPREAD)
        costs = [row for row in receipt.table if row["metric"] in kinds]
        st.table(comparison.overall(costs, _("Apart"), _("Sharing")), border="horizontal", hide_index=True)
    with panels.panel(_("Watch it in use")):
        _replay(view, fleet)
    _away(view, fleet, receipt)


def headline(fleet: Fleet, receipt: Receipt) -> str:
    """`Weights 59.1 kB → 23.0 kB, 61 % less; 2 models go on from another`, of those that share now."""
    row = receipt.row("weights in memory") or {"before": 0}
    if not fleet.sharing:
        return _("Nobody shares now: weights {size}").format(size=format.size(row["before"]))
    names = list(fleet.members)
    rows = [row for row in receipt.tables["shares"] if row["chosen"] and names[int(row["guest"])] in fleet.sharing]
    count = plural("{count} model goes on from another", "{count} models go on from another", len(fleet.sharing))
    after = row["before"] - sum(row["saved"] for row in rows)
    return f"{sharing.memory(row['before'], after, None)}; {count}"


def broken(fleet: Fleet, receipt: Receipt) -> str:
    """Whose must-keep cases broke, and whether they run as before; "" when none did."""
    counts = Counter(str(case["member"]) for case in receipt.cases.get("broken", ()))
    if not counts:
        return ""
    said = ", ".join(f"{plain(name)} ({count})" for name, count in counts.items())
    text = _("Must-keep cases broke when sharing: {said}.").format(said=said)
    if still := [name for name in counts if name in fleet.sharing]:
        return text + " " + _("{names} shares all the same.").format(names=plain(", ".join(still)))
    return text + " " + _("They run as before.")


def _members(ws: Workspace, fleet: Fleet, receipt: Receipt) -> None:
    """Every member with what it says and gets right, and for a guest the switch back."""
    rows = {(row["metric"], row["scope"]): row for row in receipt.table}
    for name in fleet.members:
        agreement, accuracy = rows.get(("agreement", name)), rows.get(("accuracy", name))
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plain(name)}**  \n{said_of(fleet, name, agreement, accuracy)}", width="stretch")
            meaning = _("It runs as the version that it was, bit for bit; memory rises again.")
            if name in fleet.sharing:
                if st.button(_("Take back"), key=f"back_{name}", icon=":material/undo:", help=meaning):
                    ws.take_back(fleet.id, name)
                    st.rerun()
            elif name in fleet.hosts and st.button(_("Share again"), key=f"again_{name}", icon=":material/redo:"):
                ws.share_again(fleet.id, name)
                st.rerun()


def said_of(fleet: Fleet, name: str, agreement: Mapping[str, Any] | None, accuracy: Mapping[str, Any] | None) -> str:
    """A member's part in the fleet, and what it costs."""
    if name not in fleet.hosts:
        lends = [guest for guest, host in fleet.hosts.items() if host == name]
        text = _("lends to {names}; unchanged").format(names=plain(", ".join(lends))) if lends else _("unchanged")
    elif name in fleet.back:
        text = _(":orange[was taken back: runs as it was]")
    else:
        text = _("goes on from {host}").format(host=plain(fleet.hosts[name]))
    if agreement and name in fleet.hosts:
        text += " · " + _("agrees with itself on {share} of {n} {split} samples").format(
            share=format.percent(agreement["after"]), n=f"{agreement['n']:,}", split=agreement["split"]
        )
    if accuracy:
        text += " · " + _("accuracy {before} → {after}").format(
            before=format.percent(accuracy["before"]), after=format.percent(accuracy["after"])
        )
    return text


def _replay(view: View, fleet: Fleet) -> None:
    """Let datasets run through the fleet one after the other, and see when a share ends."""
    ws, project = view.workspace, view.project
    if project is None:
        return
    known = {row.id: row.name for row in ws.datasets(project.id)}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        streams = st.multiselect(
            _("Streams, one after the other"),
            list(known),
            default=[view.dataset.id] if view.dataset else [],
            format_func=lambda id: known[id],
            key="streams",
            help=_("All their samples, in a shuffled order. Make a drifting one on Model & data."),
        )
        share = st.number_input(
            _("Watched inputs (%)"), 1.0, 100.0, 25.0, key="watched_share",
            help=_("So many are answered by the model as it was too, and the answers compared."), width=180,
        )  # fmt: skip
        task = {"kind": "replay", "fleet": fleet.id, "datasets": streams, "share": share / 100}
        if st.button(_("Replay"), icon=":material/play_arrow:", disabled=not (streams and fleet.sharing), key="replay"):
            jobs.submit(ws, task, project=project.id, title=_("Replay through fleet {n}").format(n=fleet.number))
            st.rerun()
    if not fleet.sharing:
        st.caption(_("Nobody shares now, so there is nobody to watch."))
    job = progress.latest(ws, project.id, {"kind": "replay", "fleet": fleet.id})
    if job is not None and job.state != "done":
        progress.watch(ws, job)
    elif job is not None:
        show_replay(job.result)


def show_replay(result: Mapping[str, Any]) -> None:
    """The curve of agreement and what happened."""
    for event in result["events"]:
        st.error(
            _(
                "**{guest}** was taken back after {inputs} inputs, in {stream}: agreement {now} fell below {limit}. "
            ).format(
                guest=plain(event["guest"]),
                inputs=f"{event['inputs']:,}",
                stream=plain(event["stream"]),
                now=format.percent(event["agreement"]),
                limit=format.percent(event["limit"]),
            )
            + (_("It answers bit for bit as before.") if event["identical"] else _("Its answers differ from before.")),
            icon=":material/undo:",
        )
    if not result["events"]:
        st.success(
            _("{inputs} inputs, {watched} of them watched, and everybody stayed within the limit.").format(
                inputs=f"{result['inputs']:,}", watched=f"{result['watched']:,}"
            ),
            icon=":material/verified_user:",
        )
    if result["skipped"]:
        st.warning(_("{count} samples hold no numbers and were left out.").format(count=f"{result['skipped']:,}"))
    looks = pd.DataFrame(result["looks"])
    if looks.empty:
        return
    gone = {(event["guest"], event["inputs"]) for event in result["events"]}
    looks["gone"] = [(guest, inputs) in gone for guest, inputs in zip(looks["guest"], looks["inputs"], strict=True)]
    title = _("Agreement of those who share with themselves, and its limit")
    figure = charts.watched(looks, starts=result["starts"], title=title, dark=st.context.theme.type == "dark")
    st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="replay_chart", alt=title)


def _away(view: View, fleet: Fleet, receipt: Receipt) -> None:
    """Take it along, or throw it away."""
    ws, project = view.workspace, view.project
    if project is None:
        return
    task = {"kind": "export_fleet", "fleet": fleet.id}
    job = progress.latest(ws, project.id, task)
    with st.container(horizontal=True, vertical_alignment="center"):
        if job is not None and job.state == "done" and (file := Path(job.result["file"])).is_file():
            label = _("Bundle (zip), {size}").format(size=format.size(file.stat().st_size))
            st.download_button(label, file.read_bytes(), file.name, "application/zip", icon=":material/download:")
            if needs := job.result.get("needs"):
                st.caption(needs_said(needs))
        elif (job is None or not job.active) and st.button(
            _("Prepare: one bundle with loader (zip)"), icon=":material/deployed_code:", key="bundle"
        ):
            jobs.submit(ws, task, project=project.id, title=_("Export fleet {n}").format(n=fleet.number))
            st.rerun()
        st.download_button(
            _("Receipt (HTML)"),
            to_html(receipt, name=fleet.name, parent=", ".join(fleet.members)),
            f"fleet{fleet.number}.html",
            "text/html",
            icon=":material/receipt_long:",
        )
        if st.button(_("Delete"), icon=":material/delete:", type="tertiary", key="delete_fleet"):
            ws.trash_fleet(fleet.id)
            del st.query_params[FLEET]
            st.rerun()
    if job is not None and job.state != "done":
        progress.watch(ws, job)
    st.caption(_("The models themselves stay as they are; every member is a version of this project."))
    _events(ws, project.id, fleet)


def _events(ws: Workspace, project: str, fleet: Fleet) -> None:
    """What happened to it."""
    own = [event for event in ws.events(project, limit=500) if event.subject == fleet.id]
    rows: Sequence[Mapping[str, str]] = [{_("When"): format.ago(one.when), _("What"): plain(one.what)} for one in own]
    with st.expander(_("Activity log"), icon=":material/history:", expanded=bool(fleet.back)):
        st.table(pd.DataFrame(rows), border="horizontal", hide_index=True)


def trashed(view: View) -> None:
    """Deleted fleets, to be restored."""
    ws = view.workspace
    for fleet in ws.fleets(view.project.id, trashed=True) if view.project else []:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(_("Deleted: fleet {number} {name}").format(number=fleet.number, name=plain(fleet.name)))
            if st.button(
                _("Restore"), key=f"restore_{fleet.id}", icon=":material/restore_from_trash:", type="tertiary"
            ):
                ws.restore_fleet(fleet.id)
                st.rerun()
