"""Forms from an operation's own fields, numbers as people read them, the lineage as a tree."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import BaseModel
from streamlit.testing.v1 import AppTest

from surgery.ui import format
from surgery.ui.form import form
from surgery.ui.lineage import tree
from surgery.ui.messages import plural
from surgery.workspace import Version
from tests.patience import SECONDS


def test_each_type_has_its_widget_and_default() -> None:
    app = AppTest.from_function(_form, default_timeout=SECONDS).run()
    assert app.session_state["values"] == {"ids": (1, 2), "fill": "mean", "epochs": 3, "rate": 1e-3, "safe": True}
    assert [field.label for field in app.number_input] == ["Epochs", "Learning rate"]
    epochs, rate = app.number_input
    assert (epochs.min, epochs.max, epochs.value) == (0, 50, 3)
    assert rate.help == "How far one step goes."
    epochs.set_value(5)
    app.toggle[0].set_value(False).run()
    assert app.session_state["values"]["epochs"] == 5
    assert app.session_state["values"]["safe"] is False


def test_a_picker_goes_before_the_widget() -> None:
    app = AppTest.from_function(_picked, default_timeout=SECONDS).run()
    assert app.session_state["values"] == {"layer": "conv2", "count": 7}


def test_an_optional_field_may_stay_empty() -> None:
    app = AppTest.from_function(_optional, default_timeout=SECONDS).run()
    assert app.session_state["values"] == {"limit": None}
    app.toggle[0].set_value(True).run()
    assert app.session_state["values"] == {"limit": 0.5}


def test_a_type_without_a_widget_is_named() -> None:
    class Operation(BaseModel):
        where: dict[str, int]

    with pytest.raises(TypeError, match="'where' has type"):
        form(Operation, key="f")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0, "0"), (0.97834, "0.978"), (1234.5, "1,234"), (2.5e7, "25,000,000")],
)
def test_three_significant_digits(value: float | None, text: str) -> None:
    assert format.digits(value) == text


def test_sizes_counts_and_durations() -> None:
    assert [format.size(value) for value in (0, 999, 1240, 186_293, 2.5e9)] == [
        "0 B",
        "999 B",
        "1.24 kB",
        "186 kB",
        "2.50 GB",
    ]
    assert [format.amount(value) for value in (7, 9_999, 43_700, 11_200_000)] == ["7", "9,999", "43.7 k", "11.2 M"]
    assert [format.seconds(value) for value in (8, 200, 7500)] == ["8 s", "3 min 20 s", "2 h 5 min"]
    assert format.percent(0.9784) == "97.8%"


def test_how_long_ago() -> None:
    now = datetime(2030, 1, 2, 12, tzinfo=UTC)
    assert format.ago(datetime(2030, 1, 2, 11, 59, 30, tzinfo=UTC), now) == "just now"
    assert format.ago(datetime(2030, 1, 2, 11, 58), now) == "2 minutes ago"
    assert format.ago(datetime(2030, 1, 1, 12, tzinfo=UTC).timestamp(), now) == "1 day ago"


def test_plural_fills_in_the_count() -> None:
    assert [plural("{count} row", "{count} rows", count) for count in (1, 2000)] == ["1 row", "2,000 rows"]


def test_children_stand_below_their_parent() -> None:
    versions = [_version("a", 1, None), _version("b", 2, "a"), _version("c", 3, "a"), _version("d", 4, "b")]
    assert [(node.branches, node.version.id) for node in tree(versions)] == [
        ("", "a"),
        ("├─ ", "b"),
        ("│  └─ ", "d"),
        ("└─ ", "c"),
    ]


def test_a_version_whose_parent_is_gone_is_a_root() -> None:
    assert [(node.branches, node.version.id) for node in tree([_version("b", 2, "gone"), _version("c", 3, "b")])] == [
        ("", "b"),
        ("└─ ", "c"),
    ]


def _version(id: str, number: int, parent: str | None) -> Version:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    return Version(id, "p", id, number, parent, moment, "sha256:", 0, 0, 0, "import", "ready", Path())


def _form() -> None:
    from typing import Literal

    import streamlit as st
    from pydantic import BaseModel, Field

    from surgery.ui.form import form

    class Operation(BaseModel):
        ids: tuple[int, ...]
        fill: Literal["mean", "zero"] = "mean"
        epochs: int = Field(3, ge=0, le=50)
        rate: float = Field(1e-3, gt=0, title="Learning rate", description="How far one step goes.")
        safe: bool = True

    st.session_state["values"] = form(Operation, key="f", given={"ids": (1, 2)})


def _picked() -> None:
    import streamlit as st
    from pydantic import BaseModel

    from surgery.ui.form import form

    class Operation(BaseModel):
        layer: tuple[str, ...]
        count: int

    pickers = {"layer": lambda label, field, key: "conv2", int: lambda label, field, key: 7}
    st.session_state["values"] = form(Operation, key="f", pickers=pickers)


def _optional() -> None:
    import streamlit as st
    from pydantic import BaseModel, Field

    from surgery.ui.form import form

    class Operation(BaseModel):
        limit: float | None = Field(None, ge=0.5)

    st.session_state["values"] = form(Operation, key="f")
