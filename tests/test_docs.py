"""Documentation that cannot rot: the README's session runs, its commands and variables exist, nothing is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import surgery
from surgery.cli import parser
from tests.patience import SECONDS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def commands() -> list[str]:
    groups = [action for action in parser()._actions if action.choices and not action.option_strings]
    return [name for group in groups for name in group.choices]


def test_the_session_in_the_readme_runs_as_it_stands(tmp_path: Path) -> None:
    (session,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len([line for line in session.splitlines() if line]) <= 10
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", session], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert (tmp_path / "smaller" / "model.safetensors").exists()


def test_every_command_is_in_the_readme_and_every_command_there_exists() -> None:
    written = re.findall(r"^\| `surgery ([a-z-]+)", README, re.M)
    assert sorted(written) == sorted(commands())


@pytest.mark.parametrize(
    "name", ["SURGERY_HOME", "SURGERY_TOKEN", "SURGERY_ARCHITECTURES", "SURGERY_DATABASE", "SURGERY_HOST"]
)
def test_the_variables_in_the_readme_are_read(name: str) -> None:
    assert f"`{name}`" in README
    sources = [path.read_text() for path in (ROOT / "surgery").rglob("*.py")]
    assert any(name in text for text in sources)


def test_links_and_pictures_in_the_documents_exist() -> None:
    for document in ("README.md", "SECURITY.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text()):
            if "://" not in target:
                assert (ROOT / target).exists(), f"{document} points to {target}"


def test_every_exported_name_can_be_had() -> None:
    for name in surgery.__all__:
        assert getattr(surgery, name) is not None
    assert not hasattr(surgery, "nothing")


def test_importing_the_package_stays_cheap() -> None:
    code = (
        "import sys, surgery, surgery.workspace, surgery.jobs, surgery.plan, surgery.operations.prune, surgery.cli;"
        "print([name for name in ('torch', 'umap', 'sklearn', 'streamlit') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert done.stdout.strip() == "[]"
