"""Hostile model files and configurations, by the hundreds: a sentence or a model, and nothing else happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from surgery.network.hf_options import OPTIONS
from tests.hostile.model_generators import (
    CLIP,
    FAMILIES,
    FORBIDDEN,
    HUGE,
    LLAMA,
    VIT,
    changed,
    described_parts,
    places,
    pointers,
)
from tests.patience import SECONDS

pytestmark = pytest.mark.hostile
ROOT = Path(__file__).parents[2]
SEEDS = 3  # of each family; the benchmark takes hundreds
SLOW = {"pickle: stream", "pickle: entries", "file: truncated", "file: bytes changed"}  # may start a process each
PICTURES = "hf/image-classification"


class Reader:
    """One process that reads all cases and watches itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with (folder.parent / "stderr").open("w") as errors:
            self.process = self._started(folder, errors)

    @staticmethod
    def _started(folder: Path, errors: IO[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.model_reader", str(folder)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": ":".join([str(ROOT), *filter(None, sys.path)]), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
        )

    def outcomes(self, cases: list[list[Any]]) -> list[dict[str, Any]]:
        """The end of each case."""
        return [self._outcome(case) for case in cases]

    def _outcome(self, case: list[Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, (case, (self.folder.parent / "stderr").read_text()[-2000:])
        end: dict[str, Any] = json.loads(line)
        return end


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    made = Reader(tmp_path_factory.mktemp("hostile") / "upload")
    yield made
    made.process.communicate(timeout=SECONDS)


def assert_harmless(cases: list[list[Any]], ends: list[dict[str, Any]]) -> None:
    """Every case is refused in a sentence that says what to do, or gives a model; nothing was opened or run."""
    for case, end in zip(cases, ends, strict=True):
        assert end["end"] != "wrong", (case, end)
        assert not end["events"], (case, end)
        assert not end["ran"], (case, end)
        if end["end"] == "refused":
            what, _, fix = end["said"].partition(" | ")
            assert what and fix and what.isprintable() and len(what) < 1500, (case, end)


def test_a_hostile_file_is_refused_in_a_sentence_or_gives_a_model(reader: Reader) -> None:
    cases = [["file", name, seed] for name in FAMILIES for seed in range(1 if name in SLOW else SEEDS)]
    ends = reader.outcomes(cases)
    assert_harmless(cases, ends)
    assert {end["end"] for end in ends} == {"refused", "model"}


def test_no_text_in_a_configuration_of_any_type_reaches_a_library_as_a_pointer(reader: Reader) -> None:
    texts = pointers(reader.folder)
    cases = []
    for number, (row, options) in enumerate(sorted(OPTIONS.items())):
        outer, _, inner = row.partition(".")
        for place, option in enumerate(sorted(options)):
            own = {option: texts[(number + place) % len(texts)]}
            cases.append(
                ["architecture", PICTURES, {"config": {"model_type": outer, **({inner: own} if inner else own)}}]
            )
    ends = reader.outcomes(cases)
    assert_harmless(cases, ends)
    assert {end["end"] for end in ends} == {"refused"}


@pytest.mark.parametrize("config", [VIT, CLIP, LLAMA], ids=["vit", "clip", "llama"])
def test_no_field_of_a_configuration_opens_or_runs_what_it_names(reader: Reader, config: dict[str, Any]) -> None:
    name = "hf/sequence-classification" if config is LLAMA else PICTURES
    texts, cases = pointers(reader.folder), [["architecture", name, {"config": config}]]
    for path, value in places(config):
        news: list[Any] = []
        if isinstance(value, dict):
            news = [{**value, one: texts[place % len(texts)]} for place, one in enumerate(FORBIDDEN)]
        elif path:
            news = [*texts, "planted", "planted_module", "os"]
        cases += [["architecture", name, {"config": changed(config, path, new)}] for new in news]
    ends = reader.outcomes(cases)
    assert ends[0]["end"] == "model"
    assert_harmless(cases, ends)


LIBRARIES = [
    ("timm/resnet10t", {"num_classes": 3, "stem_width": 16}),
    ("timm/vit_tiny_patch16_224", {"num_classes": 3, "img_size": 16, "patch_size": 4, "depth": 1, "act_layer": "relu"}),
    ("torchvision/vit_b_32", {"num_classes": 3, "image_size": 32}),
    ("torchvision/resnet18", {"num_classes": 3}),
    ("mlp", {"sizes": [4, 6, 3], "activation": "relu", "names": ["a", "b"]}),
    ("text/decoder", {"alphabet": 5, "context": 4, "width": 8, "depth": 1, "heads": 2}),
]


def test_no_argument_of_a_library_opens_or_runs_what_it_names(reader: Reader) -> None:
    texts, cases = pointers(reader.folder), [["architecture", *one] for one in LIBRARIES]
    for name, arguments in LIBRARIES:
        for place, forbidden in enumerate(FORBIDDEN):
            cases.append(["architecture", name, {**arguments, forbidden: texts[place % len(texts)]}])
            cases.append(["architecture", name, {**arguments, "options": {forbidden: texts[place % len(texts)]}}])
        for path, value in places(arguments):
            if path and not isinstance(value, dict):
                news = [*texts[:: 1 + 2 * (name[0] == "t")], "planted", "planted_module"]
                cases += [["architecture", name, changed(arguments, path, new)] for new in news]
    ends = reader.outcomes(cases)
    assert {end["end"] for end in ends[: len(LIBRARIES)]} == {"model"}
    assert_harmless(cases, ends)
    given = [json.dumps(case[2]) for case, end in zip(cases, ends, strict=True) if end["end"] == "model"]
    assert not [one for one in given if "/" in one or "__" in one or "planted." in one]


@pytest.mark.parametrize("kind", ["mlp", "packed", "digits", "composed"])
def test_no_field_of_a_description_opens_or_runs_what_it_names(reader: Reader, kind: str) -> None:
    about = described_parts(kind)[0]
    del about["layers"][1:]
    texts, cases = pointers(reader.folder), [["description", kind, json.dumps(about)]]
    for count, (path, value) in enumerate(places(about)):
        news: list[Any] = [HUGE[count % len(HUGE)], *(texts[(3 * count + place) % len(texts)] for place in range(3))]
        if isinstance(value, dict):
            news = [{**value, one: texts[place % len(texts)]} for place, one in enumerate(FORBIDDEN[count % 3 :: 3])]
        cases += [["description", kind, json.dumps(changed(about, path, new))] for new in news]
    cases = cases if kind != "composed" else [*cases[:1], *cases[1::5]]  # the largest description
    ends = reader.outcomes(cases)
    assert ends[0]["end"] == "model"
    assert_harmless(cases, ends)


def test_sizes_that_no_network_has_are_refused_quickly(reader: Reader) -> None:
    configs = [
        changed(VIT, (name,), new) for name in ("hidden_size", "num_hidden_layers", "image_size") for new in HUGE
    ]
    configs += [{**VIT, "hidden_size": 2**20, "num_hidden_layers": 10**6}, {**LLAMA, "num_hidden_layers": 10**6}]
    cases = [["architecture", PICTURES, {"config": config}] for config in configs]
    ends = reader.outcomes(cases)
    assert_harmless(cases, ends)
    refused = {
        json.dumps([config["hidden_size"], config["num_hidden_layers"], config["image_size"]])
        for config, end in zip(configs[: 3 * len(HUGE)], ends[: 3 * len(HUGE)], strict=True)
        if end["end"] == "refused"
    }
    for one in ([10**9, 2, 16], [24, 10**6, 16], [2**63, 2, 16], [-1, 2, 16], ["16", 2, 16]):
        assert json.dumps(one) in refused, one
