"""The neurons in hand: what a click, a lasso, a legend row or a pasted list has chosen on one version.

The ids live here and in the URL, not in the chart: a figure that is drawn anew forgets its own selection. A choice
that is worth keeping is saved under a name in the workspace. Ids are neuron ids, ascending and without repeats.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

import streamlit as st

from surgery.errors import NotFoundError, SelectionError
from surgery.ui.messages import _, plural
from surgery.ui.state import View

Ids = tuple[int, ...]
How = Literal["replace", "add", "subtract"]
PARAMETER = "neurons"  # ?neurons=3.7-12.40 (dots, because a comma would be escaped)
LONGEST = 1500  # characters in the URL; a longer choice has to be saved to be linked
_RANGE = re.compile(r"(\d+)(?:\s*[-–]\s*(\d+))?")


def combine(old: Iterable[int], new: Iterable[int], how: How) -> Ids:
    """The choice after `new` has replaced `old`, been added to it or been taken out of it."""
    before, given = set(old), set(new)
    return tuple(sorted({"replace": given, "add": before | given, "subtract": before - given}[how]))


def invert(chosen: Iterable[int], among: Iterable[int]) -> Ids:
    """Everything of `among` that is not chosen."""
    return tuple(sorted(set(among) - set(chosen)))


def spell(ids: Sequence[int], *, comma: str = ", ", dash: str = "–") -> str:
    """Ascending ids in short: `3, 7–12, 40`."""
    starts = [ids[0], *(b for a, b in pairwise(ids) if b != a + 1)] if ids else []
    ends = [*(a for a, b in pairwise(ids) if b != a + 1), ids[-1]] if ids else []
    return comma.join(f"{a}" if a == b else f"{a}{dash}{b}" for a, b in zip(starts, ends, strict=True))


def parse(text: str, leaders: Mapping[int, int]) -> Ids:
    """Read ids such as `3, 7–12 40`; a neuron of a coupled group stands for the group.

    leaders: id -> the id under which it can be chosen; outputs have none.

    Raises:
        SelectionError: a word is no id, or an id cannot be chosen.
    """
    ids: set[int] = set()
    for word in re.sub(r"\s*[-–]\s*", "-", text).replace(",", " ").replace(";", " ").replace(".", " ").split():
        ids.update(_span(word))
    unknown = sorted(ids - set(leaders))
    if unknown:
        raise SelectionError(
            _("There is no neuron {ids} on this map.").format(ids=spell(unknown[:20])),
            _("Its ids go from {first} to {last}; outputs cannot be chosen.").format(
                first=min(leaders, default=0), last=max(leaders, default=0)
            ),
        )
    return led(ids, leaders)


def led(ids: Iterable[int], leaders: Mapping[int, int]) -> Ids:
    """The ids under which these can be chosen; those that cannot are left out."""
    return tuple(sorted({leaders[i] for i in ids if i in leaders}))


def _span(word: str) -> range:
    match = _RANGE.fullmatch(word)
    if match is None:
        raise SelectionError(
            _("{word!r} is not a neuron id.").format(word=word[:40]), _("Write ids and ranges like 3, 7-12, 40.")
        )
    first, last = int(match[1]), int(match[2] or match[1])
    if last - first > 1_000_000:
        raise SelectionError(_("The range {word} is too long.").format(word=word), _("Write a shorter range."))
    return range(first, last + 1)


def chosen(view: View, leaders: Mapping[int, int]) -> Ids:
    """The neurons in hand on this version: of this session, or else those that the URL names."""
    key = _key(view)
    if key not in st.session_state:
        st.session_state[key] = _from_url(view, leaders)
    return led(st.session_state[key], leaders)


def choose(view: View, ids: Iterable[int]) -> None:
    """Take these neurons in hand, and put them into the URL if there is room."""
    now = tuple(sorted(set(ids)))
    st.session_state[_key(view)] = now
    show_in_url(now)


def show_in_url(ids: Ids) -> None:
    """Let the URL name the neurons in hand."""
    text = spell(ids, comma=".", dash="-")
    if text and len(text) <= LONGEST:
        st.query_params[PARAMETER] = text
    elif PARAMETER in st.query_params:
        del st.query_params[PARAMETER]


def _from_url(view: View, leaders: Mapping[int, int]) -> Ids:
    """What `?selection=<saved>` or `?neurons=<ids>` names; an unreadable link chooses nothing and says so."""
    try:
        saved = st.query_params.get("selection")
        if saved and view.version is not None:
            ids, lost = view.workspace.map_selection(saved, view.version.id)
            if lost:
                words = plural(
                    "{count} neuron of the selection is gone", "{count} neurons of the selection are gone", len(lost)
                )
                st.toast(_("{lost} in this version.").format(lost=words), icon=":material/filter_alt_off:")
            return led(ids, leaders)
        return parse(st.query_params.get(PARAMETER, ""), leaders)
    except (SelectionError, NotFoundError) as error:
        st.toast(f"{error.what} {error.fix}", icon=":material/link_off:")
        return ()


def _key(view: View) -> str:
    return f"surgery.selection.{view.version.id if view.version else ''}"
