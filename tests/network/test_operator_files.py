"""An operator's file is known by its content: what a version was made with, and nothing else, rebuilds it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from surgery.edit.compose import Member, compose
from surgery.errors import ModelError
from surgery.network import architectures, operator_files, store
from surgery.network.architectures import build, load_operator_file
from surgery.network.load import assemble
from surgery.network.model import Architecture, InputSpec, Model

FILE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(torch.{activation}(self.first(x)))


ARCHITECTURES = {{"net": Net}}
"""
SPEC = InputSpec("table", (4,), (0.0,) * 4, (1.0,) * 4)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SURGERY_CONFIG", str(tmp_path / "settings"))
    monkeypatch.delenv("SURGERY_ARCHITECTURES", raising=False)
    restarted(monkeypatch)


def restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process."""
    monkeypatch.setattr(architectures, "_custom", {})
    monkeypatch.setattr(architectures, "_sources", {})


def given(folder: Path, activation: str) -> Path:
    """An operator's file that was registered, and is the one in use."""
    (folder / "own.py").write_text(FILE.format(activation=activation))
    copy = operator_files.register(folder / "own.py")
    load_operator_file(copy)
    return copy


def made() -> Model:
    torch.manual_seed(0)
    architecture = Architecture("custom/net")
    return assemble(build(architecture).state_dict(), architecture, input=SPEC, classes="abc")


def test_a_version_opens_without_the_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(tmp_path, "relu")
    model = made()
    store.save(model, tmp_path / "stored")
    restarted(monkeypatch)
    (tmp_path / "own.py").unlink()
    x = torch.randn(3, 4)
    assert torch.equal(store.load(tmp_path / "stored")(x), model(x))


def test_a_file_that_was_edited_since_changes_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(tmp_path, "relu")
    old = made()
    store.save(old, tmp_path / "old")
    restarted(monkeypatch)
    given(tmp_path, "tanh")
    new = made()
    store.save(new, tmp_path / "new")
    x = torch.randn(3, 4)
    assert not torch.allclose(old(x), new(x))
    olds, news = store.load(tmp_path / "old"), store.load(tmp_path / "new")
    assert torch.equal(olds(x), old(x))
    assert torch.equal(news(x), new(x))
    pair = compose([Member(olds), Member(news)], SPEC, "abc", torch.ones(3, 6), torch.zeros(3))
    store.save(pair, tmp_path / "pair")
    restarted(monkeypatch)
    assert torch.equal(store.load(tmp_path / "pair")(x), pair(x))
    store.export(tmp_path / "pair", tmp_path / "export", "safetensors")
    assert len(list((tmp_path / "export").glob("definition_custom_*.py"))) == 2


def test_code_that_was_never_registered_here_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(tmp_path, "relu")
    store.save(made(), tmp_path / "stored")
    restarted(monkeypatch)
    monkeypatch.setenv("SURGERY_CONFIG", str(tmp_path / "another user"))
    (copy,) = (tmp_path / "stored" / "definitions").iterdir()
    assert copy.read_text() == (tmp_path / "own.py").read_text()
    with pytest.raises(ModelError, match=r"custom/net needs a Python file .* that was never registered here") as error:
        store.load(tmp_path / "stored")
    assert error.value.fix == f"Read {copy}. If you trust it, start once with: surgery --architectures {copy}"
    operator_files.register(copy)
    assert store.load(tmp_path / "stored").architecture.source == copy.stem


def test_a_changed_copy_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = given(tmp_path, "relu")
    store.save(made(), tmp_path / "stored")
    restarted(monkeypatch)
    copy.write_text("raise SystemExit('this must not run')")
    with pytest.raises(ModelError, match="never registered here"):
        store.load(tmp_path / "stored")
    for foreign in (tmp_path / "stored" / "definitions").iterdir():
        foreign.write_text("raise SystemExit('this must not run')")
    with pytest.raises(ModelError, match="never registered here"):
        store.load(tmp_path / "stored")


def test_a_model_from_before_files_were_kept_takes_the_file_that_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(tmp_path, "relu")
    store.save(made(), tmp_path / "stored")
    about = (tmp_path / "stored" / store.DESCRIPTION).read_text()
    (source,) = operator_files.folder().iterdir()
    (tmp_path / "stored" / store.DESCRIPTION).write_text(about.replace(f'"source": "{source.name}"', '"source": ""'))
    shutil.rmtree(tmp_path / "stored" / "definitions")
    assert store.load(tmp_path / "stored").architecture.source == ""
    restarted(monkeypatch)
    with pytest.raises(ModelError, match="There is no architecture 'custom/net'"):
        store.load(tmp_path / "stored")


def test_what_cannot_be_registered_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="There is no Python file"):
        operator_files.register(tmp_path / "none.py")
    (tmp_path / "file").write_text("")
    (tmp_path / "own.py").write_text("ARCHITECTURES = {}")
    monkeypatch.setenv("SURGERY_CONFIG", str(tmp_path / "file"))
    with pytest.raises(ModelError, match=r"own\.py cannot be registered") as error:
        operator_files.register(tmp_path / "own.py")
    assert error.value.fix == "Set SURGERY_CONFIG to a folder that you may write to."
    assert operator_files.registered("../" * 20) is None
