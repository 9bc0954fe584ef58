"""What a model is worth and what it costs, always as the same rows. Importing this is cheap: torch comes with use."""

from __future__ import annotations

from surgery.measure.cases import cases
from surgery.measure.continuation import continuations, write
from surgery.measure.feeding import Fed, check_input
from surgery.measure.int8 import int8
from surgery.measure.intervals import measured_intervals
from surgery.measure.measurement import ORIGINAL, Measurement, compare, measure
from surgery.measure.quality import class_names

__all__ = [
    "ORIGINAL",
    "Fed",
    "Measurement",
    "cases",
    "check_input",
    "class_names",
    "compare",
    "continuations",
    "int8",
    "measure",
    "measured_intervals",
    "write",
]
