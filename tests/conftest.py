"""Tiny datasets that most tests can use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.data.load import from_arrays
from surgery.data.texts import from_text
from surgery.measure.resident import measured

DRAWINGS = ("bars", "columns", "square")
SIDES = ("long", "wide", "high")


@pytest.fixture(scope="session", autouse=True)
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test registers an operator's file in the settings of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SURGERY_CONFIG", str(tmp_path_factory.mktemp("settings")))
        yield


@pytest.fixture
def measured_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet's memory is measured in this process, for tests of other things: two clean ones take seconds."""
    monkeypatch.setattr("surgery.measure.fleet.resident", measured)


@pytest.fixture(scope="session")
def pico_images(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """60 gray 8×8 drawings of three classes: horizontal bars, vertical columns, a filled square, each with noise."""
    return drawn(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="session")
def pico_many(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """300 drawings as `pico_images`."""
    return drawn(tmp_path_factory.mktemp("data") / "many", 300)


def drawn(folder: Path, count: int = 60) -> Dataset:
    """What `pico_images` holds, or more of it."""
    generator = np.random.default_rng(0)
    clean = np.zeros((3, 8, 8, 1))
    clean[0, ::2], clean[1, :, ::2], clean[2, 2:6, 2:6] = 180, 180, 180
    y = np.arange(count) % 3
    x = (clean[y] + generator.uniform(0, 60, (count, 8, 8, 1))).astype(np.uint8)
    return from_arrays(folder, x, y, classes=DRAWINGS, name="drawings", task="classification")


@pytest.fixture(scope="session")
def pico_more(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """60 drawings as `pico_images`, of two other classes: a cross and a frame."""
    return drawn_more(tmp_path_factory.mktemp("data") / "more")


def drawn_more(folder: Path) -> Dataset:
    """What `pico_more` holds."""
    generator = np.random.default_rng(4)
    clean = np.zeros((2, 8, 8, 1))
    clean[0, 3:5], clean[0, :, 3:5] = 180, 180
    clean[1, 1:7, 1:7] = 180
    clean[1, 2:6, 2:6] = 0
    y = np.arange(60) % 2
    x = (clean[y] + generator.uniform(0, 60, (60, 8, 8, 1))).astype(np.uint8)
    return from_arrays(folder, x, y, classes=("cross", "frame"), name="further drawings", task="classification")


@pytest.fixture(scope="session")
def pico_table(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """90 rows of four features in three classes; the class is the largest of the first three features."""
    return boxed(tmp_path_factory.mktemp("data") / "table")


def boxed(folder: Path) -> Dataset:
    """What `pico_table` holds."""
    x = np.random.default_rng(1).normal(5.0, 2.0, (90, 4)).astype(np.float32)
    y = x[:, :3].argmax(1)
    features = ("length", "width", "height", "noise")
    return from_arrays(folder, x, y, classes=SIDES, name="boxes", task="classification", features=features)


@pytest.fixture(scope="session")
def pico_targets(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """90 rows of four features with one number to predict: a weighted sum."""
    return summed(tmp_path_factory.mktemp("data") / "targets")


def summed(folder: Path) -> Dataset:
    """What `pico_targets` holds."""
    x = np.random.default_rng(2).normal(0.0, 1.0, (90, 4)).astype(np.float32)
    y = (x @ np.array([1.0, -2.0, 0.5, 0.0])).astype(np.float32)
    return from_arrays(folder, x, y, classes=("sum",), name="sums", task="regression")


WORDS = ("the cat sat", "a dog ran", "no bird sang", "The sun set at 7", "we ate 12 figs")


@pytest.fixture(scope="session")
def pico_text(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """About 6,000 characters of short sentences in windows of 12."""
    return written(tmp_path_factory.mktemp("data") / "text")


def written(folder: Path, context: int = 12) -> Dataset:
    """What `pico_text` holds."""
    return from_text(sentences(), folder, name="sentences", context=context, ctx=Context())


def sentences(count: int = 440) -> str:
    """Sentences in a seeded order, each on a line of its own."""
    order = np.random.default_rng(5).integers(len(WORDS), size=count)
    return "".join(f"{WORDS[place]}.\n" for place in order)
