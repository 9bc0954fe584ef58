"""Memory asked of a clean process."""

from __future__ import annotations

from pathlib import Path

import pytest

from surgery.errors import MeasureError
from surgery.measure.resident import measured, resident
from surgery.network import store
from surgery.network.size import weight_bytes
from tests.patients import mlp


def test_a_clean_process_holds_the_weights_and_nothing_else(tmp_path: Path) -> None:
    models = [mlp((64, 512, 512, 3)), mlp((64, 512, 3))]
    folders = [tmp_path / "one", tmp_path / "two"]
    for model, folder in zip(models, folders, strict=True):
        store.save(model, folder)
    found = resident(folders)
    assert found["weights"] == weight_bytes(models) == measured(folders)["weights"]
    assert found["process"] >= found["weights"]


def test_what_cannot_be_loaded_says_so(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="Memory could not be measured"):
        resident([tmp_path / "nothing"])
