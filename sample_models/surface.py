"""Defects on brushed metal, drawn by this file: 48×48 gray pictures for the surface inspection sample.

Six kinds the sample's model knows; two more are there to be taught.

Nothing here was photographed. Each picture is a plate (brushing along one direction, uneven light, sensor noise) plus
one defect, a function of position that darkens or brightens the plate. Contrast, place, size and direction vary, and
most plates carry faint wear that is no defect, so that a small network has something to get wrong.

Legacy `RandomState`, because NumPy promises its stream for ever: the same seed gives the same pictures anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter1d

SIDE = 48  # pixels of a finished picture
FINE = 2  # drawn at this multiple, then averaged: smooth edges without a drawing library
MARGIN = 10.0  # a defect's centre keeps this distance from the border, in pixels

Field = NDArray[np.float64]

_axis = (np.arange(SIDE * FINE) + 0.5) / FINE
Y, X = np.meshgrid(_axis, _axis, indexing="ij")  # [96, 96], in pixels of the finished picture


def _centre(rng: RandomState) -> tuple[float, float]:
    """A place for a defect: x and y in pixels."""
    x, y = rng.uniform(MARGIN, SIDE - MARGIN, size=2)
    return float(x), float(y)


def _turned(x: float, y: float, angle: float) -> tuple[Field, Field]:
    """Coordinates along and across a direction (radians) through (x, y)."""
    along = (X - x) * np.cos(angle) + (Y - y) * np.sin(angle)
    across = -(X - x) * np.sin(angle) + (Y - y) * np.cos(angle)
    return along, across


def _ridge(distance: Field, width: float) -> Field:
    """A soft line: 1 at distance 0, falling off over `width` pixels."""
    height: Field = np.exp(-((distance / width) ** 2))
    return height


def _within(value: Field, limit: float, softness: float) -> Field:
    """1 where |value| < limit, 0 outside, with an edge `softness` pixels wide."""
    return 1.0 / (1.0 + np.exp(np.clip((np.abs(value) - limit) / softness, -50, 50)))


def _segment(start: tuple[float, float], end: tuple[float, float]) -> Field:
    """Distance of each pixel to the line segment from start to end."""
    (x0, y0), (x1, y1) = start, end
    length = (x1 - x0) ** 2 + (y1 - y0) ** 2
    t = np.clip(((X - x0) * (x1 - x0) + (Y - y0) * (y1 - y0)) / length, 0, 1)
    return np.hypot(X - x0 - t * (x1 - x0), Y - y0 - t * (y1 - y0))


def _cloud(rng: RandomState, size: float) -> Field:
    """Smooth noise with unit deviation and lumps of about `size` pixels."""
    noise: Field = gaussian_filter(rng.standard_normal(X.shape), size * FINE, mode="wrap")
    noise /= noise.std()
    return noise


def scratch(rng: RandomState) -> Field:
    """A thin, slightly bent groove that glints: bright with a dark shoulder, across the brushing."""
    along, across = _turned(*_centre(rng), angle=rng.uniform(0.35, np.pi - 0.35))
    across = across + rng.uniform(-0.006, 0.006) * along**2
    extent = _within(along, rng.uniform(9, 20), 1.2)
    return extent * (1.1 * _ridge(across, 0.9) - 0.55 * _ridge(across - 1.7, 0.9))


def pit(rng: RandomState) -> Field:
    """A few round holes: dark, with a bright rim on the side away from the light."""
    total = np.zeros_like(X)
    x, y = _centre(rng)
    for _ in range(rng.randint(2, 6)):
        dx, dy = rng.normal(0, 6.5, size=2)
        radius = rng.uniform(1.1, 2.6)
        hole = np.hypot(X - x - dx, Y - y - dy)
        rim = np.hypot(X - x - dx - 0.7, Y - y - dy - 0.7)
        total += 0.6 * _ridge(rim - radius - 0.3, 0.7) - 1.2 * _within(hole, radius, 0.35)
    return np.clip(total, -1.3, 0.8)


def _walk(rng: RandomState, start: tuple[float, float], angle: float, steps: int) -> list[tuple[float, float]]:
    """The corners of a jagged path."""
    path = [start]
    for _ in range(steps):
        angle += rng.normal(0, 0.25)
        turn = angle + rng.uniform(-0.8, 0.8)
        length = rng.uniform(2.5, 5.0)
        x, y = path[-1]
        path.append((x + length * float(np.cos(turn)), y + length * float(np.sin(turn))))
    return path


def crack(rng: RandomState) -> Field:
    """A dark, jagged line that gets thinner and branches."""
    angle = rng.uniform(0, 2 * np.pi)
    x, y = _centre(rng)
    back = rng.uniform(6, 12)
    trunk = _walk(rng, (x - back * np.cos(angle), y - back * np.sin(angle)), angle, rng.randint(5, 9))
    fork = trunk[rng.randint(1, 4)]
    branch = _walk(rng, fork, angle + rng.choice([-1, 1]) * rng.uniform(0.6, 1.1), rng.randint(2, 4))
    total = np.zeros_like(X)
    for path, width in ((trunk, 0.95), (branch, 0.7)):
        for number, (start, end) in enumerate(pairwise(path)):
            thin = width * (1 - 0.5 * number / len(path))
            total = np.maximum(total, _ridge(_segment(start, end), thin))
    return -1.2 * total


def stain(rng: RandomState) -> Field:
    """A dried drop: a soft, irregular patch with a darker edge; the brushing stays visible through it."""
    x, y = _centre(rng)
    reach = np.hypot((X - x) / rng.uniform(0.8, 1.3), (Y - y) / rng.uniform(0.8, 1.3))
    edge = reach - rng.uniform(6, 11) + 2.2 * _cloud(rng, 4)
    return -0.38 * _within(np.maximum(edge, 0), 0.6, 0.5) - 0.3 * _ridge(edge, 1.3)


def inclusion(rng: RandomState) -> Field:
    """Foreign matter rolled in: ragged dark slivers side by side, stretched along the brushing."""
    total = np.zeros_like(X)
    x, y = _centre(rng)
    for _ in range(rng.randint(2, 5)):
        along, across = _turned(x + rng.normal(0, 4), y + rng.normal(0, 2.6), angle=rng.normal(0, 0.06))
        ragged = across + 0.45 * _cloud(rng, 1.5)
        shape = np.hypot(along / rng.uniform(4, 9), ragged / rng.uniform(0.8, 1.5))
        total = np.maximum(total, _within(shape, 1.0, 0.12))
    return -(0.85 + 0.2 * _cloud(rng, 1.0)) * total


def roll_mark(rng: RandomState) -> Field:
    """The print of a damaged roll: the same short bar again and again at one spacing, lit from one side."""
    spacing = rng.uniform(6.5, 11)
    along, across = _turned(*_centre(rng), angle=rng.normal(0, 0.12))
    beat = (along + rng.uniform(0, spacing)) % spacing - spacing / 2
    bar = _ridge(beat, 1.1) - 0.8 * _ridge(beat - 1.9, 1.0)
    return 0.62 * bar * _within(across, rng.uniform(5, 11), 1.0)


DEFECTS: dict[str, Callable[[RandomState], Field]] = {
    "crack": crack,
    "inclusion": inclusion,
    "pit": pit,
    "roll mark": roll_mark,
    "scratch": scratch,
    "stain": stain,
}
CLASSES = tuple(DEFECTS)


def dent(rng: RandomState) -> Field:
    """A smooth hollow: dark on the side of the light, bright on the other."""
    x, y = _centre(rng)
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(4, 8)
    along, across = _turned(x, y, angle)
    hollow = _ridge(np.hypot(along, across * rng.uniform(0.8, 1.25)), reach)
    return 1.9 * (along / reach) * hollow


def chatter(rng: RandomState) -> Field:
    """Waves that a trembling tool leaves: fine parallel ripples across a patch of the plate."""
    along, across = _turned(*_centre(rng), angle=rng.normal(np.pi / 2, 0.5))
    wave = np.sin(2 * np.pi * along / rng.uniform(3.2, 5) + rng.uniform(0, 2 * np.pi))
    return 0.5 * wave * _within(across, rng.uniform(9, 16), 2.0) * _within(along, rng.uniform(9, 16), 2.0)


MORE_DEFECTS: dict[str, Callable[[RandomState], Field]] = {"chatter": chatter, "dent": dent}
MORE_CLASSES = tuple(MORE_DEFECTS)


def _grain(rng: RandomState, length: float) -> Field:
    """Horizontal streaks of about `length` pixels with unit deviation."""
    noise: Field = rng.standard_normal(X.shape)
    for _ in range(2):
        noise = uniform_filter1d(noise, round(length * FINE), axis=1, mode="wrap")
    noise /= noise.std()
    return noise


def plate(rng: RandomState) -> Field:
    """Brushed metal without a defect, about 0 … 1: horizontal grain, uneven light."""
    grain = 0.055 * _grain(rng, rng.uniform(14, 40)) + 0.03 * _grain(rng, 5)
    along, across = _turned(*_centre(rng), angle=rng.uniform(0, 2 * np.pi))
    light = rng.uniform(-0.004, 0.004) * along + rng.uniform(0.02, 0.10) * _ridge(across, 18)
    return rng.uniform(0.42, 0.62) + grain + light


def wear(rng: RandomState) -> Field:
    """Faint use marks that are no defect: hairlines and specks."""
    total = np.zeros_like(X)
    for _ in range(rng.randint(0, 3)):
        along, across = _turned(*_centre(rng), angle=rng.uniform(0, np.pi))
        total += rng.uniform(-0.10, 0.10) * _ridge(across, 0.6) * _within(along, rng.uniform(4, 14), 1.0)
    for _ in range(rng.randint(0, 4)):
        x, y = rng.uniform(0, SIDE, size=2)
        total -= rng.uniform(0.05, 0.14) * _within(np.hypot(X - x, Y - y), rng.uniform(0.5, 1.0), 0.3)
    return total


def picture(defect: str, rng: RandomState) -> NDArray[np.uint8]:
    """Draw one plate with one defect: uint8[48, 48, 1]."""
    strength = rng.uniform(0.13, 0.42)
    fine = plate(rng) + wear(rng) + strength * (DEFECTS | MORE_DEFECTS)[defect](rng)
    coarse = fine.reshape(SIDE, FINE, SIDE, FINE).mean(axis=(1, 3))
    noisy = coarse + 0.018 * rng.standard_normal(coarse.shape)
    pixels: NDArray[np.uint8] = np.clip(np.rint(255 * noisy), 0, 255).astype(np.uint8)
    return pixels[:, :, None]


def pictures(labels: NDArray[np.int64], seed: int, classes: Sequence[str] = CLASSES) -> Iterator[NDArray[np.uint8]]:
    """Draw one plate for each class number in `labels`: uint8[48, 48, 1] each, the same for the same seed."""
    rng = RandomState(seed)
    for label in labels:
        yield picture(classes[label], rng)
