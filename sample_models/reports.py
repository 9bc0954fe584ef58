"""Shift reports of a plate mill, written by this file: plain text for the sample of a language model.

No plant, plate or person in it exists. A report is a few lines of fixed kinds with words and numbers that vary and hang
together: what is held back is never more than what was made, a cause comes with its remedy, and the same plate keeps
its number within an entry. So a small model has something to learn, and something to get wrong.

Legacy `RandomState`, because NumPy promises its stream for ever: the same seed gives the same text anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from numpy.random import RandomState

SHIFTS = ("Early", "Late", "Night")
LINES = ("A", "B", "C")
PLACES = (
    "near the left edge",
    "near the right edge",
    "in the middle",
    "across a corner",
    "along the rolling direction",
)
DEPTHS = ("shallow", "deep", "barely visible", "clearly felt by hand")
DEFECTS = ("scratch", "dent", "stain", "crack", "pore", "seam")
CAUSES = {
    "a worn roller": "roller changed",
    "grit in the coolant": "filter cleaned",
    "a loose guide": "guide tightened",
    "hot spots in the furnace": "burner adjusted",
    "a dull knife": "knife ground",
    "oil on the table": "table wiped down",
}
VERDICTS = ("passed", "passed with a note", "held back", "scrapped")
WEATHER = ("dry and cold", "damp", "hot", "windy, doors kept shut", "mild")


def text(characters: int, seed: int = 0) -> str:
    """Reports one after another, at least so many characters of them, ended with the last report."""
    rng = RandomState(seed)
    reports: list[str] = []
    length = 0
    while length < characters:
        reports.append(_report(rng, len(reports) + 1))
        length += len(reports[-1])
    return "".join(reports)


def _report(rng: RandomState, number: int) -> str:
    """A heading, the count, some entries, and an empty line."""
    kinds: Sequence[Callable[[RandomState], str]] = (_defect, _defect, _cause, _measure, _note)
    entries = [kinds[rng.randint(len(kinds))](rng) for _ in range(rng.randint(2, 6))]
    made = int(rng.randint(120, 480))
    held = int(rng.randint(0, made // 30))
    head = f"Report {number}: {_one(rng, SHIFTS)} shift, line {_one(rng, LINES)}. Weather {_one(rng, WEATHER)}."
    count = f"{made} plates rolled, {held or 'none'} held back."
    return "\n".join([head, count, *entries]) + "\n\n"


def _defect(rng: RandomState) -> str:
    plate, defect = int(rng.randint(1000, 10_000)), _one(rng, DEFECTS)
    size = f"{rng.randint(2, 60)} mm"
    entry = f"Plate {plate}: {defect} of {size} {_one(rng, PLACES)}, {_one(rng, DEPTHS)}; {_one(rng, VERDICTS)}."
    return entry + (f" Plate {plate} was turned and looked at again." if rng.rand() < 0.25 else "")


def _cause(rng: RandomState) -> str:
    cause = _one(rng, tuple(CAUSES))
    return f"The {_plural(_one(rng, DEFECTS))} came from {cause}: {CAUSES[cause]} at {_time(rng)}."


def _measure(rng: RandomState) -> str:
    gauge, wanted = rng.randint(30, 90) / 10, rng.randint(30, 90) / 10
    word = "too thin" if gauge < wanted else "too thick" if gauge > wanted else "as ordered"
    return f"Gauge at {_time(rng)}: {gauge:.1f} mm, ordered {wanted:.1f} mm, {word}."


def _note(rng: RandomState) -> str:
    minutes = 5 * int(rng.randint(1, 13))
    notes = (
        f"Line stood still for {minutes} minutes, {_one(rng, tuple(CAUSES))}.",
        f"Handed over to the next shift at {_time(rng)} without open points.",
        "Coolant topped up; level is in the green.",
        f"Drill: alarm at {_time(rng)}, everyone out after {rng.randint(2, 9)} minutes.",
    )
    return _one(rng, notes)


def _plural(defect: str) -> str:
    return defect + ("es" if defect.endswith("ch") else "s")


def _time(rng: RandomState) -> str:
    return f"{rng.randint(24):02d}:{5 * rng.randint(12):02d}"


def _one(rng: RandomState, words: Sequence[str]) -> str:
    return words[rng.randint(len(words))]
