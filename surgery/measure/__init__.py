"""What a model is worth and what it costs, always as the same rows. Importing this is cheap: torch comes with use."""

from __future__ import annotations

from surgery.measure.measurement import ORIGINAL, Measurement, compare, measure
from surgery.measure.normalisation import check_normalisation

__all__ = ["ORIGINAL", "Measurement", "check_normalisation", "compare", "measure"]
