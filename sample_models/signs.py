"""Signs of arithmetic drawn by this file as if they had been scanned with the digits: 8×8 gray pictures.

A sign is a few pen strokes on a 32×32 grid; each pixel of the picture counts the inked cells of a 4×4 block, as the
digits were made (scikit-learn's `load_digits`), and is stretched to 0 … 255 the same way. Place, size, slant, stroke
width and the ends of the strokes vary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

FINE, SIDE, BLOCK = 32, 8, 4
INK = 16  # cells of a block

Stroke = tuple[float, float, float, float]  # from x, y to x, y, in units of half a sign

_axis = np.arange(FINE) + 0.5
Y, X = np.meshgrid(_axis, _axis, indexing="ij")


def plus(_: RandomState) -> list[Stroke]:
    """One stroke across, one down."""
    return [(-1, 0, 1, 0), (0, -1, 0, 1)]


def minus(_: RandomState) -> list[Stroke]:
    """One stroke across."""
    return [(-1, 0, 1, 0)]


def times(_: RandomState) -> list[Stroke]:
    """Two strokes along the diagonals."""
    return [(-0.8, -0.8, 0.8, 0.8), (-0.8, 0.8, 0.8, -0.8)]


def equals(rng: RandomState) -> list[Stroke]:
    """Two strokes across, one above the other."""
    apart = rng.uniform(0.35, 0.6)
    return [(-1, -apart, 1, -apart), (-1, apart, 1, apart)]


SIGNS: dict[str, Callable[[RandomState], list[Stroke]]] = {"+": plus, "−": minus, "×": times, "=": equals}
CLASSES = tuple(SIGNS)


def picture(sign: str, rng: RandomState) -> NDArray[np.uint8]:
    """Draw one sign: uint8[8, 8, 1]."""
    size, width, angle = rng.uniform(8, 12.5), rng.uniform(1.6, 2.8), rng.normal(0, 0.12)
    x, y = FINE / 2 + rng.normal(0, 1.2, size=2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    inked = np.zeros((FINE, FINE), dtype=bool)
    for stroke in SIGNS[sign](rng):
        ends = size * (np.array(stroke).reshape(2, 2) + rng.normal(0, 0.09, size=(2, 2))) @ turn.T + (x, y)
        inked |= _distance(ends[0], ends[1]) < width
    blocks = inked.reshape(SIDE, BLOCK, SIDE, BLOCK).sum(axis=(1, 3))
    pixels: NDArray[np.uint8] = np.rint(blocks * (255 / INK)).astype(np.uint8)
    return pixels[:, :, None]


def _distance(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each cell lies from the line between two points."""
    dx, dy = end - start
    t = np.clip(((X - start[0]) * dx + (Y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    distance: NDArray[np.float64] = np.hypot(X - start[0] - t * dx, Y - start[1] - t * dy)
    return distance


def pictures(labels: NDArray[np.int64], seed: int) -> Iterator[NDArray[np.uint8]]:
    """Draw one sign for each class number in `labels`: uint8[8, 8, 1] each, the same for the same seed."""
    rng = RandomState(seed)
    for label in labels:
        yield picture(CLASSES[label], rng)
