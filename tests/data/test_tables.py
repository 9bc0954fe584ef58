"""CSV and Parquet: what is taken for a target, a feature, a missing value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from surgery.data.dataset import Dataset
from surgery.data.load import columns, import_data, peek, sniff
from surgery.errors import DataError

RANDOM = np.random.default_rng(0)


def frame(rows: int = 60) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "size": RANDOM.normal(size=rows),
            "age": RANDOM.integers(1, 90, rows),
            "kind": np.array(["k10", "k2", "k1"])[np.arange(rows) % 3],
            "price": RANDOM.random(rows) * 100,
        }
    )


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    (path / "t.csv").write_text(text, encoding=encoding)
    return path / "t.csv"


def test_text_target_is_a_classification(tmp_path: Path) -> None:
    table = frame()
    table.to_csv(tmp_path / "t.csv", index=False)
    data = import_data(tmp_path / "t.csv", tmp_path / "d", name="n", target="kind")
    assert (data.task, data.classes) == ("classification", ("k1", "k2", "k10"))
    assert data.features == ("size", "age", "price") and data.shape == (3,)
    assert np.array_equal(data.raw(range(60)), table[["size", "age", "price"]].to_numpy(np.float32))
    assert [data.classes[label] for label in data.labels(range(60))] == table["kind"].tolist()
    assert data.source(0) == "line 2"


def test_parquet_is_the_same_as_csv(tmp_path: Path) -> None:
    table = frame()
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_parquet(tmp_path / "t.parquet")
    one = import_data(tmp_path / "t.csv", tmp_path / "one", name="n", target="kind")
    two = import_data(tmp_path / "t.parquet", tmp_path / "two", name="n", target="kind")
    assert one.digest == two.digest and two.source(0) == "row 1"


def test_number_target_is_a_regression_split_by_fifths(tmp_path: Path) -> None:
    frame(500).to_csv(tmp_path / "t.csv", index=False)
    data = import_data(tmp_path / "t.csv", tmp_path / "d", name="n", target="price", drop=["kind"])
    assert (data.task, data.classes, data.features) == ("regression", ("price",), ("size", "age"))
    assert data.labels([0]).dtype == np.float32
    assert np.bincount(data.strata(range(500))[data.ids("test")]).tolist() == [15] * 5


@pytest.mark.parametrize(
    ("values", "task", "expected", "classes"),
    [
        ([3, 1, 2, 10], None, "classification", ("1", "2", "3", "10")),
        ([3, 1, 2, 10], "regression", "regression", ("y",)),
        ([-1, 1, -1, 1], None, "classification", ("-1", "1")),
        ([0.5, 1.5, 0.5, 1.5], None, "regression", ("y",)),
        ([0.5, 1.5, 0.5, 1.5], "classification", "classification", ("0.5", "1.5")),
        (["True", "False", "True", "False"], None, "classification", ("False", "True")),
    ],
)
def test_the_task_is_told_by_the_target(
    tmp_path: Path, values: list[object], task: str, expected: str, classes: tuple[str, ...]
) -> None:
    table = pd.DataFrame({"x": RANDOM.random(40), "y": values * 10})
    table.to_csv(tmp_path / "t.csv", index=False)
    data = import_data(tmp_path / "t.csv", tmp_path / "d", name="n", target="y", task=task)  # type: ignore[arg-type]
    assert (data.task, data.classes) == (expected, classes)


def test_many_integers_are_a_regression(tmp_path: Path) -> None:
    pd.DataFrame({"x": RANDOM.random(60), "y": range(60)}).to_csv(tmp_path / "t.csv", index=False)
    assert import_data(tmp_path / "t.csv", tmp_path / "d", name="n", target="y").task == "regression"


def test_no_target_is_asked_for_when_unlabelled(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "t.csv", index=False)
    data = import_data(tmp_path / "t.csv", tmp_path / "d", name="n", task="unlabelled", drop=["kind"])
    assert data.counts() == {"unlabelled": 60} and data.shape == (3,)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiter_and_encoding_are_found(tmp_path: Path, delimiter: str, encoding: str) -> None:
    lines = [delimiter.join(("größe", "y")), *(delimiter.join((str(n), "ab"[n % 2])) for n in range(10))]
    data = import_data(written(tmp_path, "\r\n".join(lines), encoding), tmp_path / "d", name="n", target="y")
    assert data.features == ("größe",) and len(data) == 10


def test_bad_rows_are_named_with_line_reason_and_fix(tmp_path: Path) -> None:
    lines = ["a,b,y", *(f"{n},{n * 2},{n % 2}" for n in range(20)), "1,abc,0", "1,,1", "1,2", "inf,2,0", "1,2,", ""]
    data = import_data(written(tmp_path, "\n".join(lines)), tmp_path / "d", name="n", target="y")
    assert len(data) == 20
    assert [(p.where, p.reason) for p in data.problems] == [
        ("line 24", "It has 2 fields, the header has 3."),
        ("line 22", "'b' holds 'abc', which is not a finite number."),
        ("line 23", "'b' is missing."),
        ("line 25", "'a' holds 'inf', which is not a finite number."),
        ("line 26", "'y' is missing."),
    ]
    assert all(problem.fix for problem in data.problems)
    assert data.notes == ("5 of 25 files or rows were left out; each is listed.",)


def test_quoted_values_may_span_lines(tmp_path: Path) -> None:
    text = 'a,"the ""big"" one",y\n' + "\n".join(f'{n},"{n}\n",{n % 2}' for n in range(10))
    data = import_data(written(tmp_path, text), tmp_path / "d", name="n", target="y")
    assert data.features == ("a", 'the "big" one') and len(data) == 10 and data.source(0) == "line 3"


def test_true_and_false_are_numbers_as_features(tmp_path: Path) -> None:
    text = "a,b,y\n" + "\n".join(f"{n % 2 == 0},{n},{n % 2}" for n in range(10))
    data = import_data(written(tmp_path, text), tmp_path / "d", name="n", target="y")
    assert data.raw(range(4))[:, 0].tolist() == [1, 0, 1, 0]


def test_a_nameless_row_number_is_left_out(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "t.csv")
    data = import_data(tmp_path / "t.csv", tmp_path / "d", name="n", target="kind")
    assert data.features == ("size", "age", "price")
    assert data.notes == ("'column 1' has no name and counts the rows: it was left out.",)


def test_parquet_types_become_numbers_or_text(tmp_path: Path) -> None:
    table = frame(30)
    table["flag"] = table["age"] > 40
    table["kind"] = table["kind"].astype("category")
    table["gap"] = pd.array([None if n == 4 else n for n in range(30)], dtype="Int64")
    table["when"] = pd.date_range("2020", periods=30)
    table.to_parquet(tmp_path / "t.parquet")
    assert {info.name: info.dtype for info in columns(tmp_path / "t.parquet")} == {
        "size": "number",
        "age": "integer",
        "kind": "text",
        "price": "number",
        "flag": "boolean",
        "gap": "integer",
        "when": "date",
    }
    data = import_data(tmp_path / "t.parquet", tmp_path / "d", name="n", target="kind", drop=["when"])
    assert [(p.where, p.reason) for p in data.problems] == [("row 5", "'gap' is missing.")]
    assert isinstance(data, Dataset) and len(data) == 29


def test_columns_tell_what_could_be_the_target(tmp_path: Path) -> None:
    frame().assign(nothing="", few=np.arange(60) % 5).to_csv(tmp_path / "t.csv", index=False)
    infos = {info.name: info for info in columns(tmp_path / "t.csv")}
    assert (infos["kind"].dtype, infos["kind"].distinct, infos["kind"].example) == ("text", 3, "k10")
    assert (infos["few"].task, infos["kind"].task, infos["price"].task) == (
        "classification",
        "classification",
        "regression",
    )
    assert infos["nothing"].dtype == "empty"


def test_sniff_and_peek(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "t.csv", index=False)
    frame().to_parquet(tmp_path / "t.parquet")
    for name, kind in (("t.csv", "csv"), ("t.parquet", "parquet")):
        path = tmp_path / name
        assert (sniff(path).kind, sniff(path).entries) == (kind, 60)
        assert [label for _, label in peek(path, 3)] == [""] * 3
        shown = peek(path, 6, target="kind")
        assert sorted(label for _, label in shown) == ["k1", "k1", "k10", "k10", "k2", "k2"]
        assert isinstance(shown[0][0], dict) and list(shown[0][0]) == ["size", "age", "price"]


def test_small_blocks_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame().to_csv(tmp_path / "t.csv", index=False)
    one = import_data(tmp_path / "t.csv", tmp_path / "one", name="n", target="kind")
    monkeypatch.setattr("surgery.data.tablefile.CELLS", 28)
    assert import_data(tmp_path / "t.csv", tmp_path / "two", name="n", target="kind").digest == one.digest


def test_consecutive_numbers_are_good_column_names(tmp_path: Path) -> None:
    pd.DataFrame({"0": RANDOM.random(20), "1": RANDOM.random(20), "2": np.arange(20) % 2}).to_csv(
        tmp_path / "t.csv", index=False
    )
    assert import_data(tmp_path / "t.csv", tmp_path / "d", name="n", target="2").features == ("0", "1")


def test_a_wrong_target_is_corrected(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"no target column 'prize'; .*Did you mean 'price'\?"):
        import_data(tmp_path / "t.csv", tmp_path / "d", name="n", target="prize")
