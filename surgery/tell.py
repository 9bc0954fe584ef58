"""What came of a surgery, in the same few sentences on every page, in the receipt and on the command line.

Classes that the new version no longer has are a loss and come first; accuracy is told over the classes of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surgery import change, units
from surgery.change import Row, Verdict
from surgery.messages import _, plural

if TYPE_CHECKING:
    from surgery.receipt import Receipt

NAMED = 8  # classes in a sentence; the others are counted
FEWER_BITS = 0.8  # of the share of parameters: with less than that share of the bytes, weights have fewer bits
QUALITY = ("loss", "accuracy", "r2")  # the headline tells the first that was measured

Found = Mapping[tuple[str, str], Row]


@dataclass(frozen=True)
class Told:
    """The sentences about one result; "" for one that there is nothing to say in.

    removed: the classes that the new version no longer has. headline: quality, size, speed. worst_class: the class
    that loses most, with its verdict. preserved: what became of the preservation set.
    """

    removed: str
    headline: str
    worst_class: str
    verdict: Verdict
    preserved: str

    @property
    def line(self) -> str:
        """The result in one line: removed classes first."""
        return " · ".join(part for part in (self.removed, self.headline) if part)

    @property
    def lines(self) -> list[str]:
        """Everything, a sentence a line."""
        return [part for part in (self.removed, self.headline, self.worst_class, self.preserved) if part]


def tell(receipt: Receipt) -> Told:
    """Word a receipt."""
    removed, table = removed_classes(receipt), change.joined(receipt.table)
    worst, verdict = change.worst_class(table)
    return Told(
        removed=_removed(removed, receipt),
        headline=" · ".join(_headline(table, receipt)),
        worst_class=worst,
        verdict=verdict,
        preserved=preserved(receipt.cases) if receipt.cases else "",
    )


def removed_classes(receipt: Receipt) -> list[str]:
    """The classes of the version before that the new one no longer has, in their order."""
    after = set(receipt.classes.get("after", ()))
    return [name for name in receipt.classes.get("before", ()) if name not in after] if after else []


def preserved(cases: Mapping[str, Any]) -> str:
    """`0 of 48 protected samples broken, 1 fixed (50 in all)`."""
    return _("{broken} of {right} protected samples broken, {fixed} fixed ({n} in all)").format(
        broken=len(cases["broken"]), right=cases["right"], fixed=len(cases["mended"]), n=cases["n"]
    )


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:NAMED])
    more = len(names) - NAMED
    return shown if more <= 0 else _("{names} and {more} more").format(names=shown, more=f"{more:,}")


def _removed(names: Sequence[str], receipt: Receipt) -> str:
    if not names:
        return ""
    return _("{count} of {all} classes removed: {names}").format(
        count=f"{len(names):,}", all=f"{len(receipt.classes['before']):,}", names=some(names)
    )


def _headline(table: change.Table, receipt: Receipt) -> Iterator[str]:
    found = {(row["metric"], row["scope"]): row for row in table}
    quality = next((found[name, "overall"] for name in QUALITY if (name, "overall") in found), None)
    if quality is not None:
        yield from _quality(quality, _shared(receipt))
    if new := found.get(("new accuracy", "overall")):
        yield from _quality(new, 0)
    yield from _memory(found) if ("weights in memory", "overall") in found else _sizes(found)
    yield from _speed(found)


def _shared(receipt: Receipt) -> int:
    """How many classes both versions have, where they are not the same; 0 where they are."""
    before, after = (set(receipt.classes.get(side, ())) for side in ("before", "after"))
    return len(before & after) if before != after else 0


def _quality(row: Row, shared: int) -> Iterator[str]:
    name = change.title(row)
    if shared and row["before"] is not None:
        name = plural(
            "{name} over the {count} class of both", "{name} over the {count} classes of both", shared, name=name
        )
    if row["before"] is None:
        yield f"{name} {change.value(row, 'after')}"
    else:
        judged = change.verdict(row)
        said = _("{change}, not significant") if judged == "same" and row["change"] else "{change}"
        values = f"{change.value(row, 'before')} → {change.value(row, 'after')}"
        yield f"{name} {values} ({said.format(change=change.change(row))})"
        if between := change.interval(row):
            yield between
    yield change.measured_on(row)


def _memory(found: Found) -> Iterator[str]:
    """Of models that share layers."""
    row = found["weights in memory", "overall"]
    yield _("weights in memory {before} → {after}").format(
        before=units.size(row["before"]), after=units.size(row["after"])
    )
    agreed = [one["after"] for (metric, scope), one in found.items() if metric == "agreement" and scope != "overall"]
    if agreed:
        yield _("prediction agreement of every model {share} or more").format(share=units.percent(min(agreed)))


def _sizes(found: Found) -> Iterator[str]:
    row, size = found.get(("parameters", "overall")), found.get(("bytes", "overall"))
    if row is None or not row["before"]:
        return
    factor = row["after"] / row["before"]
    if factor >= 1.5:
        yield _("{factor}× the parameters").format(factor=f"{factor:.1f}")
    elif factor > 1:
        yield _("{share} more parameters").format(share=units.percent(factor - 1))
    elif factor < 1:
        yield _("{share} fewer parameters").format(share=units.percent(1 - factor))
    else:
        yield _("as many parameters")
    if size and size["before"] and size["after"] / size["before"] < FEWER_BITS * factor:
        yield _("{share} of the bytes").format(share=units.percent(size["after"] / size["before"]))


def _speed(found: Found) -> Iterator[str]:
    row = found.get(("latency", "batch 32"))
    if row and row["before"] and row["after"] and change.verdict(row) in ("better", "worse"):
        yield _("{factor}× the speed at batch 32 on this machine").format(factor=f"{row['before'] / row['after']:.1f}")
