"""What can I do here: where the project on view stands, three ways to start, the projects."""

import streamlit as st

import sample_models
from surgery.standing import standing
from surgery.ui import format, home, panels, results, shell
from surgery.ui.messages import _, plural
from surgery.ui.panels import plain
from surgery.workspace import Project

view = shell.page("home")
CREATE, NAME = "create_project", "new_project_name"  # keys of widgets
ws = view.workspace
projects = ws.projects()


def result_card(project: Project) -> None:
    """Open with what the project on view has: its current version against its original, as it was measured."""
    found = standing(ws, project)
    if found is None or found.told is None:
        return
    with st.container(border=True, key="result_card"):
        st.caption(
            _("{project} · v{number} {name}, current, against v{original}").format(
                project=plain(project.name),
                number=found.current.number,
                name=plain(found.current.name),
                original=found.original.number,
            )
        )
        results.sentences(found.told, large=True)
        with st.container(horizontal=True):
            if st.button(_("See before/after"), type="primary", icon=":material/compare_arrows:"):
                shell.go("compare", project=project.id, before=found.original.id, after=found.current.id)
            if st.button(_("Look at the neurons"), icon=":material/scatter_plot:"):
                shell.go("neurons", project=project.id)
            if st.button(_("How it was made"), icon=":material/account_tree:"):
                shell.go("versions", project=project.id)


def try_sample() -> None:
    """Offer the models that come with the product."""
    st.markdown(f"##### :material/experiment: {_('Try a sample')}")
    titles = {name: sample_models.info(name) for name in sample_models.names()}
    name = st.selectbox(
        _("Sample"), list(titles), format_func=lambda name: titles[name]["title"], label_visibility="collapsed"
    )
    st.caption(titles[name]["line"])
    if st.button(_("Open sample"), icon=":material/arrow_forward:"):
        shell.go("neurons", project=home.open_sample(ws, name, titles[name]["title"]))


def bring_model() -> None:
    """Begin an empty project."""
    st.markdown(f"##### :material/upload: {_('Bring my model')}")
    with st.form("new_project", border=False):
        st.text_input(
            _("Name of the project"),
            label_visibility="collapsed",
            placeholder=_("Name of the project"),
            max_chars=120,
            key=NAME,
        )
        st.caption(_("A file with weights and a dataset; nothing leaves this machine."))
        st.form_submit_button(_("Create project"), icon=":material/add:", key=CREATE)


def create_project() -> None:
    """Make the project that was asked for and go there, before anything that refreshes itself is drawn.

    A refresh of this page that meets the change of pages would leave the next one empty.
    """
    if st.session_state.get(CREATE):
        name = st.session_state.get(NAME, "").strip()
        shell.go("model_data", project=ws.create_project(name or _("My model")).id)


def go_on() -> None:
    """Return to where the work is."""
    st.markdown(f"##### :material/play_arrow: {_('Continue')}")
    if view.project is None:
        st.caption(_("Nothing to continue yet: open a sample or bring a model first."))
        return
    st.markdown(plain(view.project.name))
    st.caption(plain(home.line_of(ws, view.project)))
    if st.button(_("Continue"), icon=":material/arrow_forward:"):
        shell.go("neurons" if view.project.current else "model_data", project=view.project.id)


def project_row(project: Project) -> None:
    """Name, where it stands, disk use and what can be done with it."""
    name, outcome, use, made, menu = st.columns([3, 6, 1.2, 1.6, 0.9], vertical_alignment="center")
    with name:
        target = "pages/neurons.py" if project.current else "pages/model_data.py"
        st.page_link(target, label=plain(project.name), icon=":material/folder:", query_params={"project": project.id})
    outcome.caption(plain(home.line_of(ws, project)))
    use.caption(format.size(ws.disk_use(project.id)))
    made.caption(format.ago(project.created))
    with menu:
        home.project_menu(ws, project)


def trash() -> None:
    """What was deleted, until the trash is emptied."""
    gone = ws.projects(trashed=True)
    if not gone:
        return
    label = plural("Trash: {count} project", "Trash: {count} projects", len(gone))
    with st.expander(label, icon=":material/delete:"), panels.panel():
        for project in gone:
            name, action = st.columns([8, 2], vertical_alignment="center")
            name.markdown(plain(project.name))
            if action.button(_("Restore"), icon=":material/restore_from_trash:", key=f"restore_{project.id}"):
                ws.restore_project(project.id)
                st.rerun()
        home.empty_trash_button(ws)


with panels.panel():
    create_project()
with panels.panel():
    home.set_up(ws)
    if unknown := ws.unknown_folders():
        st.warning(
            plural(
                "{count} folder is not in the catalogue of this workspace. `surgery doctor` says what it is.",
                "{count} folders are not in the catalogue of this workspace. `surgery doctor` says what they are.",
                len(unknown),
            ),
            icon=":material/folder_off:",
        )
    if view.project is not None:
        result_card(view.project)
for column, draw in zip(st.columns(3, border=True), (try_sample, bring_model, go_on), strict=True):
    with column, panels.panel():
        draw()
st.markdown(f"##### {_('Projects')}")
if not projects:
    panels.empty(_("No project yet. Open a sample, or bring a model."))
for project in projects:
    with panels.panel():
        project_row(project)
trash()
