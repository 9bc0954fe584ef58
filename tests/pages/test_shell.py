"""The frame: the guard of the way in, the view from the URL, links, errors inside their panels."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from surgery.errors import SurgeryError
from surgery.ui import panels, shell, state
from surgery.workspace import Job, Project, Version, Workspace
from tests.pages.conftest import ROOT, OpenPage, failures
from tests.patience import SECONDS


def test_every_page_begins_with_the_guard() -> None:
    """A page that forgets it would run past the login on the first deep link to a fresh server."""
    for entry in shell.entries():
        source = (ROOT / entry.path).read_text()
        statements = [line for line in source.splitlines() if re.match(r"\S", line)]
        code = [line for line in statements if not line.startswith(('"""', "import ", "from ", "#", ")"))]
        assert code[0].startswith(f'view = shell.page("{entry.name}"'), entry.path


def test_a_page_run_past_the_app_goes_back_through_it(ws: Workspace, project: Project) -> None:
    """Without the fixture `running_server`, AppTest runs the page's file directly, as a fresh server does."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS).run()
    app.query_params["project"] = project.id
    app.switch_page("pages/versions.py").run()
    assert "No jobs running" in links(app)
    assert "##### v2 Pruned" in page_text(app)
    assert app.query_params == {"project": project.id}


def test_projects_of_the_same_name_are_told_apart(ws: Workspace, open_page: OpenPage) -> None:
    made = [ws.create_project(name) for name in ("Twins", "Twins", "Twins (2)")]
    for project, name in zip(made, ("Twins", "Twins (2)", "Twins (2) (2)"), strict=True):
        app = open_page("versions", project=project.id)
        assert failures(app) == []
        assert panels.plain(name) in [menu.label for menu in app.get("menu_button")]


def test_pages_and_menu_agree() -> None:
    assert {entry.path for entry in shell.entries()} == {f"pages/{path.name}" for path in (ROOT / "pages").glob("*.py")}


def test_no_page_brings_torch_into_the_app() -> None:
    """A page is up before torch is: seconds, and hundreds of megabytes for each app."""
    modules = {f"surgery.ui.{path.stem}" for path in (ROOT / "surgery" / "ui").glob("*.py")}
    for entry in shell.entries():
        for statement in ast.walk(ast.parse((ROOT / entry.path).read_text())):
            if isinstance(statement, ast.ImportFrom) and statement.module:
                modules.add(statement.module)
            elif isinstance(statement, ast.Import):
                modules |= {name.name for name in statement.names}
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
    code += "print([name for name in ('torch', 'umap', 'sklearn') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code, *sorted(modules)], cwd=ROOT, capture_output=True, text=True)
    assert (found.returncode, found.stdout.strip()) == (0, "[]"), found.stderr


def test_every_word_on_a_page_can_be_translated() -> None:
    """A catalogue is extracted from the source: only plain texts can be found there, never f-strings."""
    for path in [*(ROOT / "pages").glob("*.py"), *(ROOT / "surgery" / "ui").glob("*.py")]:
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ("_", "plural"):
                texts = call.args[: 1 if call.func.id == "_" else 2]
                assert all(isinstance(text, ast.Constant) for text in texts), f"{path.name}, line {call.lineno}"


def test_the_url_names_the_project_and_follows_the_current_version(
    open_page: OpenPage, ws: Workspace, project: Project, versions: list[Version]
) -> None:
    ws.create_project("Another, newer one")
    app = open_page("versions", project=project.id)
    assert app.query_params == {"project": project.id}
    assert "v2 Pruned" in page_text(app)
    ws.undo(project.id)
    assert "##### v1 Original" in page_text(app.run())


def test_a_version_that_is_not_current_is_pinned_in_the_url(
    open_page: OpenPage, project: Project, versions: list[Version]
) -> None:
    app = open_page("versions", project=project.id, version=versions[0].id)
    assert "##### v1 Original" in page_text(app)
    assert app.query_params["version"] == versions[0].id


@pytest.mark.parametrize("name", ["project", "version"])
def test_a_link_to_what_is_gone_says_so_and_shows_what_is_there(
    open_page: OpenPage, project: Project, name: str
) -> None:
    query = {"project": project.id} | {name: "feedfacefe"}
    app = open_page("versions", **query)
    assert "feedfacefe" in failures(app)[0]
    assert "Next step:" in failures(app)[0]
    assert "##### v2 Pruned" in page_text(app)
    assert app.query_params == {"project": project.id}


def test_a_page_without_a_project_offers_the_way_there(open_page: OpenPage) -> None:
    app = open_page("versions")
    assert [box.value for box in app.info] == ["There is no project yet."]
    assert app.button(key="missing_project").label == "Go to Home"


def test_the_bar_counts_running_jobs_and_the_end_is_greeted(
    open_page: OpenPage, project: Project, running: Callable[..., Job], finish: Callable[..., None]
) -> None:
    job = running(project.id)
    app = open_page("versions", project=project.id)
    assert "1 job running" in links(app)
    finish(job)
    app.run()
    assert "No jobs running" in links(app)
    assert [toast.value for toast in app.toast] == ["Finished: Prune 3 neurons"]


def test_an_error_stays_inside_its_panel() -> None:
    app = AppTest.from_function(_two_panels, default_timeout=SECONDS).run()
    (shown,) = failures(app)
    assert "Row 7 has no label" in shown
    assert "Likely cause:" in shown
    assert "Fill it in" in shown
    assert "the other panel" in page_text(app)
    assert "row 7" in app.table[0].value.to_string()


def test_an_unexpected_error_is_no_traceback_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = AppTest.from_function(_broken_panel, default_timeout=SECONDS).run()
    (shown,) = failures(app)
    assert "Something failed" in shown
    assert "secret path" not in shown + app.code[0].value
    reference = re.findall(r"reference ([0-9a-f]{8})", shown)[0]
    assert reference in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_code_in_an_advice_is_shown_as_code() -> None:
    app = AppTest.from_function(_advice_with_code, default_timeout=SECONDS).run()
    assert app.code[-1].value == "import torch\ntorch.save(x)"


def test_names_cannot_draw_links_or_images() -> None:
    app = AppTest.from_function(_hostile_name, default_timeout=SECONDS).run()
    assert app.markdown[0].value == r"\!\[x\]\(http\://evil/p\.png\) \:red\[hot\] \$a\$"


def test_every_error_has_a_likely_cause() -> None:
    kinds, waiting = set(), [SurgeryError]
    while waiting:
        kind = waiting.pop()
        kinds.add(kind)
        waiting += kind.__subclasses__()
    known = tuple(kind for kind, _ in panels._causes())
    assert all(issubclass(kind, known) for kind in kinds)


def test_the_log_is_written_beside_the_workspace(ws: Workspace, tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    state._log_to(log)
    state.logging.getLogger("surgery.ui").error("reference 1234")
    assert "reference 1234" in log.read_text()


def page_text(app: AppTest) -> str:
    """All Markdown of the page."""
    return "\n".join(element.value for element in [*app.markdown, *app.caption])


def links(app: AppTest) -> list[str]:
    """The labels of all links to pages."""
    return [element.proto.label for element in app.get("page_link")]


def _two_panels() -> None:
    import streamlit as st

    from surgery.errors import DataError, Problem
    from surgery.ui import panels

    with panels.panel("One"):
        raise DataError("Row 7 has no label.", "Fill it in.", [Problem("row 7", "no label", "Fill it in.")])
    with panels.panel("Two"):
        st.markdown("the other panel")


def _broken_panel() -> None:
    from surgery.ui import panels

    with panels.panel():
        raise ZeroDivisionError("secret path")


def _advice_with_code() -> None:
    from surgery.errors import ModelFileError
    from surgery.ui import panels

    panels.show_error(ModelFileError("It is a pickle.", "Convert it:\n\nimport torch\ntorch.save(x)"))


def _hostile_name() -> None:
    import streamlit as st

    from surgery.ui.panels import plain

    st.markdown(plain("![x](http://evil/p.png) :red[hot] $a$"))
