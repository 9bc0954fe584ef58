"""What the runner of the benchmarks says of a figure, and of a table whose code has changed since."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import __main__ as runner
from benchmarks import provenance, results
from benchmarks.bases import DataMissing
from benchmarks.results import Section

TARGETS = tomllib.loads((Path(runner.__file__).parent / "targets.toml").read_text())
TREE = {
    "benchmarks/__init__.py": '"""Benchmarks."""',
    "benchmarks/toy.py": '"""A toy."""\nfrom surgery.edit import shrink\n\ndef measure():\n    import surgery.deep\n',
    "surgery/__init__.py": "",
    "surgery/edit/__init__.py": "",
    "surgery/edit/shrink.py": "from ..errors import SurgeryError\n",
    "surgery/errors.py": "class SurgeryError(Exception):\n    pass\n",
    "surgery/deep.py": "VALUE = 1\n",
    "surgery/other.py": "VALUE = 1\n",
}


def reading(**changed: str) -> Callable[[str], str | None]:
    """The tree, with other texts for some of its files."""
    return ({**TREE, **{name.replace("__", "/") + ".py": text for name, text in changed.items()}}).get


def test_a_benchmark_depends_on_what_it_imports_also_inside_functions_and_on_nothing_else() -> None:
    assert set(provenance.modules("toy", reading())) == TREE.keys() - {"surgery/other.py"}


@pytest.mark.parametrize(
    ("file", "text", "same"),
    [
        ("surgery__errors", 'class SurgeryError(Exception):\n    """All errors."""  # said\n', True),
        ("surgery__other", "VALUE = 2\n", True),
        ("surgery__errors", "class SurgeryError(Exception):\n    code = 1\n", False),
        ("surgery__deep", "VALUE = 2\n", False),
    ],
)
def test_docstrings_comments_and_other_modules_do_not_make_a_table_stale(file: str, text: str, same: bool) -> None:
    assert (provenance.digest("toy", reading(**{file: text})) == provenance.digest("toy", reading())) is same


@pytest.mark.parametrize("name", runner.NAMES)
def test_each_benchmark_has_targets_and_a_module(name: str) -> None:
    assert TARGETS[name]
    assert f"benchmarks/{name}.py" in provenance.modules(name)


def test_make_bench_runs_every_benchmark_also_after_one_whose_data_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[str] = []

    def run(name: str, options: object) -> bool:
        begun.append(name)
        if name == runner.NAMES[0]:
            raise DataMissing("CIFAR-10 is not there.")
        return True

    assert "-m benchmarks --quick --all" in (provenance.ROOT / "Makefile").read_text()
    monkeypatch.setattr(runner, "run", run)
    monkeypatch.setattr("sys.argv", ["benchmarks", "--quick", "--all"])
    assert runner.main() == 2
    assert begun == list(runner.NAMES)
    assert "not run: CIFAR-10 is not there." in capsys.readouterr().err


def test_no_target_has_a_bound_that_cannot_be_missed() -> None:
    for name, targets in TARGETS.items():
        for figure, target in targets.items():
            quick = target.get("quick", {})
            assert quick.get("at_least") != 0 or target.get("at_least") == 0, f"{name}.{figure} at least 0 says nothing"


@pytest.mark.parametrize(
    ("value", "target", "quick", "told"),
    [
        (1.0, {"at_least": 0.5, "goal": 1.5}, False, "holds, goal missed by 0.5"),
        (2.0, {"at_least": 0.5, "goal": 1.5}, False, "holds, goal reached"),
        (0.4, {"at_least": 0.5, "goal": 1.5}, False, "MISSED, goal missed by 1.1"),
        (1.3, {"at_most": 1.35, "goal": 1.2}, False, "holds, goal missed by 0.1"),
        (-2.0, {"goal": 0.0}, False, "goal missed by 2"),
        (0.0, {"goal": 0.0, "remark": "why"}, False, "goal reached"),
        (None, {"at_least": 0.5}, False, "missing"),
        (None, {"at_least": 0.5, "quick": {"left_out": True}}, True, "not checked"),
        (0.4, {"at_least": 0.5, "quick": {"at_least": 0.3}}, True, "holds"),
    ],
)
def test_a_missed_goal_never_holds(value: float | None, target: dict[str, object], quick: bool, told: str) -> None:
    assert runner.verdict(value, target, quick) == told


def test_a_section_says_whether_its_code_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FILE", tmp_path / "RESULTS.md")
    monkeypatch.setattr(provenance, "digest", lambda name: "aa11")
    monkeypatch.setattr(provenance, "commit", lambda: "abc123")
    results.record("toy", "python -m benchmarks toy", 3.0, "| figure |\n| --- |\n\nmore")
    (section,) = results.sections(results.FILE.read_text())
    assert (section.commit, section.code, section.body) == ("abc123", "aa11", "| figure |\n| --- |\n\nmore")
    assert results.current(section) and "**Current**" in results.FILE.read_text()
    monkeypatch.setattr(provenance, "digest", lambda name: "bb22")
    monkeypatch.setattr(provenance, "changed", lambda name, commit: ["surgery/edit/tune.py", "app.py"])
    results.refresh()
    text = results.FILE.read_text()
    assert "**Changed since** in 2 files that this benchmark imports (surgery/edit, app)." in text
    assert "**Current**" not in text and results.stale() == results.sections(text) == [section]


def test_a_section_without_a_commit_is_not_called_current() -> None:
    section = Section("toy", "2026-01-01 · `python -m benchmarks toy` · 3 s", "| figure |")
    assert not results.current(section) and results.state(section).startswith("**Unknown**")


def test_no_table_is_marked_current_whose_code_has_changed() -> None:
    """`python -m benchmarks --stale` brings the marks up to date."""
    text = results.FILE.read_text()
    for section in results.sections(text):
        own = text.split(f"\n## {section.name}\n")[1].split("\n## ")[0]
        assert ("**Current**" in own) <= results.current(section), f"{section.name} is marked as current"
