"""The layers as boxes of the layer map: sizes, a number for the colour, blocks folded where there are many."""

from __future__ import annotations

import html
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from surgery import charts
from surgery.ui import format
from surgery.ui.messages import _, plural
from surgery.ui.scans import Seen
from surgery.ui.slicing import Sliced

MOST = 24  # boxes before blocks are folded
SENSITIVITY = "sensitivity.parquet"  # in the scan's folder, with the reason TIME_UP where only time was missing
TIME_UP = "not tested: the time was up"


def folded(names: Sequence[str], opened: Collection[str]) -> list[str]:
    """The box that each layer is in: its own, or the block that its name begins with; opened blocks show theirs."""
    blocks = charts.stages(names, most=MOST)
    return [name if blocks[name] in opened else blocks[name] for name in names]


def boxes(layers: Sequence[Mapping[str, Any]], inside: Sequence[str], values: Mapping[str, float]) -> pd.DataFrame:
    """Columns name, parameters, macs, neurons, layers, value (NaN = unknown), text; one row per box in order.

    inside: the box of each layer. values: layer -> the number that colours it.
    """
    table = pd.DataFrame(layers).assign(box=inside, value=[values.get(layer["name"], np.nan) for layer in layers])
    found = table.groupby("box", sort=False).agg(
        parameters=("parameters", "sum"),
        macs=("macs", "sum"),
        neurons=("neurons", "sum"),
        layers=("name", "size"),
        kind=("kind", "first"),
        value=("value", "mean"),
    )
    found = found.reset_index(names="name")
    return found.assign(text=[_spoken(row) for row in found.to_dict("records")])


def joined(pairs: Sequence[Sequence[int]], inside: Sequence[str], names: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of layers as pairs of boxes, without what stays inside one; −1, the input, stays."""
    place = {name: number for number, name in enumerate(names)}
    moved = [tuple(-1 if end < 0 else place[inside[end]] for end in pair) for pair in pairs]
    return sorted({(one, other) for one, other in moved if one != other})


def criticality(seen: Seen, sliced: Sliced) -> dict[str, float]:
    """Layer -> the mean over its neurons of the effect on the loss of the class that needs each most."""
    return _by_layer(seen, dict(zip(seen.ids, sliced.scores["taylor"].max(1).tolist(), strict=True)))


def sensitivity(seen: Seen) -> dict[str, float] | None:
    """Layer -> the mean rise of the loss when one of its tested neurons is silenced; None where nobody measured it."""
    table = harm(seen)
    if table is None:
        return None
    tested = table[table["tested"]]
    return _by_layer(seen, dict(zip(tested["id"].tolist(), tested["loss_change"].tolist(), strict=True)))


def harm(seen: Seen) -> pd.DataFrame | None:
    """What was measured so far of silencing neurons one by one (see `surgery.measure.sensitivity`); None: nothing."""
    file = seen.folder / SENSITIVITY
    return pd.read_parquet(file) if file.exists() else None


def unmeasured(seen: Seen) -> int:
    """How many groups of neurons could still be tested."""
    table = harm(seen)
    if table is None:
        return int((~seen.points["fixed"]).sum())
    return int((table["reason"] == TIME_UP).sum())


def neurons(seen: Seen, layers: Collection[str]) -> tuple[int, ...]:
    """The ids under which the neurons of some layers can be chosen."""
    own = seen.table[seen.table["layer"].isin(list(layers)) & ~seen.table["logit"]]
    return tuple(sorted(set(own["group"].tolist())))


def _by_layer(seen: Seen, values: Mapping[int, float]) -> dict[str, float]:
    """The mean of a number per group over the neurons of every layer; layers without one are left out."""
    hidden = seen.table[~seen.table["logit"]]
    mean = hidden["group"].map(values).groupby(hidden["layer"]).mean().dropna()
    return {str(name): float(value) for name, value in mean.items()}


def _spoken(row: Mapping[Any, Any]) -> str:
    lines = [
        f"<b>{html.escape(str(row['name']))}</b>",
        plural("{count} layer", "{count} layers", row["layers"]) if row["layers"] > 1 else str(row["kind"]),
        plural("{count} neuron", "{count} neurons", row["neurons"]),
        _("{count} parameters").format(count=format.amount(row["parameters"])),
        _("{count} multiply-adds").format(count=format.amount(row["macs"])),
    ]
    if not np.isnan(row["value"]):
        lines.append(_("colour: {value}").format(value=format.digits(row["value"])))
    return "<br>".join(lines)
