from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from surgery.analysis.neurons import neurons, save
from surgery.analysis.scan import Scan, scan
from surgery.context import Context
from surgery.data.dataset import QUINTILES, Dataset
from surgery.errors import ModelError
from surgery.network.model import Model, Support
from tests.patients import mlp
from tests.pico import Residual, pico_model


def made(mean: list[list[float]], *, classes: tuple[str, ...] = ("a", "b", "c"), position: int = -1) -> Scan:
    """A scan of an MLP (8, 6, 3) whose first neurons have the given class means, 10 samples of each class."""
    size, count = 17, len(classes)
    table = torch.zeros(size, count)
    table[: len(mean)] = torch.tensor(mean)
    var = torch.zeros(size, count)
    var[: len(mean)] = 0.01 * (table[: len(mean)] != 0)
    top = torch.zeros(size, 9, dtype=torch.long)
    return Scan(
        count=torch.full((count,), 10.0),
        mean=table,
        var=var,
        absolute=table.abs(),
        active=(table > 0).float() * 0.38,
        top_value=torch.zeros(size, 9),
        top_sample=top,
        top_position=torch.full((size, 9), position),
        means={},
        classes=classes,
        inputs={},
    )


def sentence(mean: list[float], **options: object) -> str:
    return str(neurons(mlp(), made([mean], **options)).loc[0, "sentence"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        ([4.1, 1.0, 1.0], "Answers most to a (4.1× the average of other classes); active on 38 % of samples."),
        ([0.0, 3.0, 0.02], "Answers most to b (300× the average of other classes); active on 25 % of samples."),
        ([0.0, 3.0, 0.002], "Answers most to b (over 1,000× the average of other classes); active on 25 % of samples."),
        ([1.0, 1.05, 1.0], "Answers to all classes alike; active on 38 % of samples."),
        ([0.5, -0.1, -0.3], "Answers most to a (0.5 against -0.2 on other classes); active on 13 % of samples."),
        ([-0.1, -2.0, -2.0], "Answers most to a (-0.1 against -2 on other classes); active on 0 % of samples."),
        ([0.0, 0.0, 0.0], "Never active on these 30 samples."),
    ],
)
def test_sentences(mean: list[float], expected: str) -> None:
    assert sentence(mean) == expected


def test_positions_are_spoken_of_where_there_are_any() -> None:
    assert sentence([4.1, 1.0, 1.0], position=3).endswith("active on 38 % of positions.")


def test_a_constant_is_not_called_never_active() -> None:
    still = made([[0.31, 0.31, 0.31]])
    still.var.zero_()
    table = neurons(mlp(), still)
    assert table.loc[0, "sentence"] == "Always 0.31 on these 30 samples: it tells nothing apart."


def test_fifths_of_a_target_and_unlabelled_samples() -> None:
    text = sentence([1.0, 1.0, 1.0, 1.0, 3.0], classes=QUINTILES)
    assert text.startswith("Answers most to targets in the highest fifth (3× the average of other fifths)")
    assert sentence([0.5], classes=("all",)) == "Active on 38 % of samples, with a mean of 0.5."


def test_selectivity_and_top_class() -> None:
    table = neurons(mlp(), made([[4.0, 1.0, 1.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0], [-1.0, -3.0, -3.0]]))
    assert table["top_class"][:4].tolist() == ["a", "b", "", "a"]
    assert table["selectivity"][:4].tolist() == pytest.approx([3 / 5, 1.0, 0.0, 2 / 4])
    assert table["mean"][:4].tolist() == pytest.approx([2.0, 2 / 3, 1.0, -7 / 3])
    assert table["selectivity"].between(0, 1).all()


def test_a_class_without_samples_is_left_out() -> None:
    found = made([[4.0, 1.0, 0.0]])
    found.count[2] = 0
    row = neurons(mlp(), found).loc[0]
    assert row["selectivity"] == pytest.approx(3 / 5)
    assert row["sentence"].startswith("Answers most to a (4× the average")


def test_rows_are_ids_and_groups_share_their_place(pico_images: Dataset) -> None:
    model = pico_model(Residual())
    index = model.index
    table = neurons(model, scan(model, pico_images, Context()), scores={"harm": np.arange(index.n) / 10})
    assert table["id"].tolist() == list(range(index.n))
    assert table["group"].tolist() == index.group.tolist()
    assert table["point"].sum() == int(index.point.sum())
    assert table["harm"].tolist() == [i / 10 for i in range(index.n)]
    two = table[table["layer"] == "two"]
    assert two["position"].tolist() == list(range(6))
    assert not two["point"].any(), "the stem stands for the residual group"
    stem = table[table["layer"] == "stem"]
    assert np.array_equal(stem[["pca_x", "pca_y"]], two[["pca_x", "pca_y"]])
    assert stem["cluster"].tolist() == two["cluster"].tolist()
    assert set(table["kind"]) == {"conv", "linear"}
    assert table["map_x"].isna().all()


def test_outputs_are_named_and_never_placed(pico_images: Dataset) -> None:
    model = pico_model()
    table = neurons(model, scan(model, pico_images, Context()))
    outputs = table[table["logit"]]
    assert outputs["sentence"].tolist() == [f"The output for {name}." for name in model.classes]
    assert outputs["why_fixed"].tolist() == ["model output"] * 3
    assert outputs["pca_x"].isna().all()
    assert outputs["cluster"].tolist() == [""] * 3
    assert table.loc[~table["logit"], "pca_x"].notna().all()
    regression = replace(mlp((4, 8, 6, 1)), task="regression", classes=("price",))
    narrow = made([[1.0, 2.0, 3.0]])
    narrow = replace(narrow, **{name: getattr(narrow, name)[:15] for name in ("mean", "var", "active", "top_sample")})
    assert neurons(regression, narrow).iloc[-1]["sentence"] == "The model's output: price."


def test_the_table_survives_parquet_and_json(tmp_path: Path, pico_images: Dataset) -> None:
    model = pico_model()
    found = scan(model, pico_images, Context())
    save(model, found, tmp_path)
    table = neurons(model, found)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "neurons.parquet"), table)
    again = pd.read_json(io.StringIO(table.to_json(orient="records", double_precision=15)), orient="records")
    assert again["sentence"].tolist() == table["sentence"].tolist()
    assert again["id"].tolist() == table["id"].tolist()
    assert torch.equal(Scan.load(tmp_path).mean, found.mean)


def test_refuses_a_network_without_numbers(pico_images: Dataset) -> None:
    model: Model = pico_model()
    found = scan(model, pico_images, Context())
    with pytest.raises(ModelError, match="not numbered: too odd"):
        neurons(replace(model, index=None, support=Support("inspect", "too odd")), found)
