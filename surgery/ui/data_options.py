"""What a file cannot say itself, asked before its import: its first line, target, columns, splits, window, size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from surgery.data import limited
from surgery.data.columns import ColumnInfo
from surgery.data.reading import HEADERS, NUMBERS
from surgery.data.splits import SplitFound
from surgery.data.texts import CONTEXT, LONGEST
from surgery.ui import format
from surgery.ui.messages import _
from surgery.ui.panels import plain
from surgery.ui.state import View

FEW = 20  # different texts of a column that becomes one feature each by default
MOST = 40  # columns with a choice of their own; the others are left out
HOWS = {
    "number": _("Keep as a number"),
    "one-hot": _("One-hot (a feature per value)"),
    "ordinal": _("Ordinal (0, 1, 2 …)"),
    "days": _("Days since the first date"),
    "offset": _("Count from the smallest value"),
    "drop": _("Leave out"),
}
USES = {
    "train": _("Training"),
    "val": _("Validation"),
    "test": _("Test"),
    "deal": _("Split anew"),
    "drop": _("Leave out"),
}


def table(view: View, look: limited.Look) -> dict[str, Any]:
    """Which column is to be predicted, and as what; what becomes of the others."""
    for note in look.notes:
        st.caption(plain(note))
    infos = {column.name: column for column in look.columns}
    with st.expander(_("Columns"), icon=":material/table:"):
        shown = ["name", "dtype", "distinct", "example"]
        st.dataframe(pd.DataFrame(look.columns)[shown].head(200), hide_index=True)
    names, nothing = list(infos), _("(no target: unlabelled)")
    left, right = st.columns(2)
    target = left.selectbox(_("Target column"), [*names, nothing], index=len(names) - 1)
    tasks = {None: _("As the column suggests"), "classification": _("Classification"), "regression": _("Regression")}
    task = right.selectbox(_("Task"), list(tasks), format_func=lambda task: tasks[task])
    split = _split_column([column for column in look.columns if column.splits and column.name != target])
    chosen: dict[str, Any] = {"split": split} if split else {}
    if like := _like(view, infos):
        chosen["like"] = like
    else:
        chosen |= _columns([column for column in look.columns if column.name not in (target, split)])
    if target == nothing:
        return chosen | {"task": "unlabelled"}
    return chosen | {"target": target} | ({"task": task} if task else {})


def first_line(key: str) -> str:
    """What the first line of a text table is; "auto" until the user says so."""
    words = {
        "auto": _("Detect automatically"),
        "names": _("Column names"),
        "data": _("Data"),
        "ignore": _("Neither: skip it"),
    }
    return str(st.selectbox(_("First line"), HEADERS, format_func=words.__getitem__, key=key))


def spelling(columns: Sequence[ColumnInfo]) -> str:
    """How numbers are written, where some are no plain ones; the likely way is chosen beforehand."""
    odd = next((column for column in columns if column.written), None)
    if odd is None:
        return ""
    words = {"": _("Plain: 1234.5")}
    return str(
        st.selectbox(
            _("Number format"),
            NUMBERS,
            index=NUMBERS.index(odd.written),
            format_func=lambda value: words.get(value, value),
            help=_("For instance {example} in the column {name}.").format(
                example=plain(odd.shown), name=plain(odd.name)
            ),
            key="numbers",
        )
    )


def splits(found: Sequence[SplitFound]) -> dict[str, str]:
    """What becomes of each split that came with the file, and how many of its samples an earlier one has too."""
    if not found:
        return {}
    st.markdown(f"**{_('Splits in the file')}**")
    uses: dict[str, str] = {}
    for one in found:
        left, right = st.columns([2, 3], vertical_alignment="center")
        own = next(iter(uses_of(one)))
        left.markdown(f"{plain(one.name or _('(no name)'))} · {format.amount(one.count)}")
        if one.shared:
            words = _("{count} are also in another split, and are left out here")
            left.caption(words.format(count=format.amount(one.shared)))
        choice = right.selectbox(
            _("Use of {name}").format(name=plain(one.name)),
            list(USES),
            index=list(USES).index(own),
            format_func=USES.__getitem__,
            label_visibility="collapsed",
            key=f"split_{one.name}",
        )
        uses[one.name] = str(choice or own)
    if not {"train", "deal"} & set(uses.values()):
        st.info(_("No training samples: models can be measured on this dataset, not trained on it."))
    elif "val" not in uses.values():
        st.caption(_("No validation samples: 15% of the training samples are set aside for it."))
    return uses


def uses_of(one: SplitFound) -> list[str]:
    """What becomes of a split by its name: training samples stay that, also where a part is set aside."""
    return ["train" if one.use == "deal" else one.use]


def _split_column(columns: Sequence[ColumnInfo]) -> str | None:
    if not columns:
        return None
    nothing = _("(none: split anew)")
    names = [column.name for column in columns]
    chosen = st.selectbox(_("Split column"), [*names, nothing])
    return None if chosen == nothing else chosen


def _like(view: View, infos: Mapping[str, ColumnInfo]) -> str | None:
    """Whether columns are read as in the dataset in view, where the file has them."""
    if view.dataset is None or view.dataset.kind != "table":
        return None
    earlier = view.workspace.dataset(view.dataset.id)
    encoded = {one.column for one in earlier.reading.columns if one.how != "drop"} if earlier.reading else set()
    own = {name for one in (earlier.reading.columns if earlier.reading else ()) for name in one.features()}
    if not (encoded | set(earlier.features) - own) <= set(infos):
        return None
    words = _("Encode columns as in {name}").format(name=plain(view.dataset.name))
    why = _("The same features in the same order, with the same categories: what a model of it needs.")
    return view.dataset.id if st.checkbox(words, value=True, help=why) else None


def _columns(columns: Sequence[ColumnInfo]) -> dict[str, Any]:
    """What becomes of each column that is no plain number; which others are left out."""
    open_ = [one for one in columns if one.dtype in ("text", "date", "empty") or one.same]
    chosen: dict[str, str] = {}
    for one in open_[:MOST]:
        left, right = st.columns([2, 3], vertical_alignment="center")
        left.markdown(f"**{plain(one.name)}** · {plain(one.dtype)}")
        left.caption(plain(one.shown))
        options = _hows(one)
        how = right.selectbox(
            _("What {name} becomes").format(name=plain(one.name)),
            options,
            format_func=HOWS.__getitem__,
            label_visibility="collapsed",
            key=f"column_{one.name}",
        )
        chosen[one.name] = str(how or options[0])
    rest = [one.name for one in open_[MOST:]]
    if rest:
        st.caption(_("{count} more columns without numbers are left out.").format(count=format.amount(len(rest))))
    asked = {one.name for one in open_}
    counting = [one.name for one in columns if one.is_row_number]
    names = [one.name for one in columns if one.name not in asked]
    drop = [*st.multiselect(_("Columns to leave out"), names, default=counting), *rest]
    kept = {name: how for name, how in chosen.items() if how not in ("number", "drop")}
    drop += [name for name, how in chosen.items() if how == "drop"]
    return ({"drop": drop} if drop else {}) | ({"columns": kept} if kept else {})


def _hows(one: ColumnInfo) -> list[str]:
    """What a column may become, the likely one first."""
    if one.dtype == "date":
        return ["days", "drop"]
    if one.dtype == "empty":
        return ["drop"]
    if one.dtype == "text":
        some = ["one-hot", "ordinal", "drop"]
        return some if one.distinct <= FEW else ["drop", "one-hot", "ordinal"]
    return ["offset", "number", "drop"]


def window(view: View) -> dict[str, Any]:
    """How long the windows of a text are; the model's own context where a model is in."""
    usual = CONTEXT
    if view.version is not None:
        spec = view.workspace.inspect(view.version.id)["input"]
        usual = min(spec["shape"][0], LONGEST) if spec["kind"] == "text" else usual
    chosen = st.number_input(
        _("Context window (characters)"),
        2,
        LONGEST,
        usual,
        help=_("The model reads one window and predicts the next character."),
    )
    return {"context": int(chosen)}


def size(view: View) -> dict[str, Any]:
    """To which size images are brought; the model's own where a model is in."""
    own = _("The most common size in the file")
    choices: dict[str, list[int] | None] = {own: None}
    for side in (32, 48, 64, 96, 128, 224):
        choices[f"{side} × {side}"] = [side, side]
    if view.version is not None:
        spec = view.workspace.inspect(view.version.id)["input"]
        if spec["kind"] == "image":
            height, width = spec["shape"][1:]
            name = _("The model's input, {height} × {width}").format(height=height, width=width)
            choices = {name: [height, width], **choices}
    chosen = st.selectbox(
        _("Image size"), list(choices), help=_("Other sizes: the shorter side is resized, then the center is cropped.")
    )
    found = choices[chosen or own]
    return {"size": found} if found else {}
