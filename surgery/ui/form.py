"""A form from an operation's own fields: the type chooses the widget, bounds and help come from the field.

A new surgery thus gets its form by declaring its parameters. Types that need the project (selections, versions,
layers) are drawn by pickers which the page passes in, by field name or by type.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

import streamlit as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from surgery.operations.base import FINER
from surgery.ui.messages import _

FEW = 4  # options that stand side by side; more are listed
Widget = Callable[[str, FieldInfo, str], Any]  # label, field, key -> value


def form(
    operation: type[BaseModel],
    *,
    key: str,
    given: Mapping[str, Any] | None = None,
    pickers: Mapping[object, Widget] | None = None,
) -> dict[str, Any]:
    """Draw a widget for each field that is not `given` and return all values by name; FINER ones fold away.

    Raises:
        TypeError: a field's type has neither a widget nor a picker.
    """
    values = dict(given or {})
    missing = {name: field for name, field in operation.model_fields.items() if name not in values}
    finer = {name: field for name, field in missing.items() if field.json_schema_extra == FINER}

    def draw(fields: Mapping[str, FieldInfo]) -> None:
        for name, field in fields.items():
            widget = chosen.get(name) or chosen.get(field.annotation) or _widget(name, field.annotation)
            values[name] = widget(field.title or name.replace("_", " ").capitalize(), field, f"{key}_{name}")

    chosen = pickers or {}
    draw({name: field for name, field in missing.items() if name not in finer})
    if finer:
        with st.expander(_("Finer settings")):
            draw(finer)
    return values


def _widget(name: str, annotation: Any) -> Widget:
    if get_origin(annotation) is Literal:
        return _choice
    drawn: Mapping[object, Widget] = {bool: _switch, int: _whole, float: _real, str: _text}
    if annotation in drawn:
        return drawn[annotation]
    if get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation):
        inner = next(kind for kind in get_args(annotation) if kind is not type(None))
        return _optional(_widget(name, inner))
    raise TypeError(f"Field {name!r} has type {annotation!r}, for which there is no widget: pass a picker for it.")


def _choice(label: str, field: FieldInfo, key: str) -> Any:
    options = get_args(field.annotation)
    if len(options) > FEW:
        place = options.index(_default(field, options[0]))
        return st.selectbox(label, options, index=place, key=key, help=field.description)
    return st.segmented_control(
        label, options, default=_default(field, options[0]), required=True, key=key, help=field.description
    )


def _switch(label: str, field: FieldInfo, key: str) -> bool:
    return st.toggle(label, value=bool(_default(field, False)), key=key, help=field.description)


def _text(label: str, field: FieldInfo, key: str) -> str:
    return st.text_input(label, value=str(_default(field, "")), key=key, help=field.description)


def _whole(label: str, field: FieldInfo, key: str) -> int:
    low, high = _bounds(field)
    value = int(_default(field, low) or low or 0)
    least, most = None if low is None else int(low), None if high is None else int(high)
    return int(st.number_input(label, least, most, value, step=1, key=key, help=field.description))


def _real(label: str, field: FieldInfo, key: str) -> float:
    low, high = _bounds(field)
    value = float(_default(field, low) or low or 0.0)
    return st.number_input(
        label, low, high, value, step=abs(value) / 10 or 0.01, format="%g", key=key, help=field.description
    )


def _bounds(field: FieldInfo) -> tuple[float | None, float | None]:
    """Return the smallest and largest value; an open bound counts as closed, and the operation itself refuses it."""
    found: dict[str, float] = {}
    for limit in field.metadata:
        for attribute, bound in (("ge", "low"), ("gt", "low"), ("le", "high"), ("lt", "high")):
            if hasattr(limit, attribute):
                found[bound] = float(getattr(limit, attribute))
    return found.get("low"), found.get("high")


def _optional(inner: Widget) -> Widget:
    def draw(label: str, field: FieldInfo, key: str) -> Any:
        wanted = st.toggle(label, value=_default(field, None) is not None, key=f"{key}_on", help=field.description)
        return inner(label, field, key) if wanted else None

    return draw


def _default(field: FieldInfo, fallback: Any) -> Any:
    return fallback if field.is_required() else field.get_default(call_default_factory=True)
