"""Does a language model keep its loss in a seventh of its bytes, and are learned bits worth more than equal ones?

A decoder of four blocks on characters of Shakespeare; the same extra epochs for all: bits learned, then held; uniform
bits with learned reaches; the base unchanged. Bytes are those of the file, in percent of the base's. Ours is asked for
the bytes that uniform 4 (15 % at most) and 3 bits take, and for a tenth. Loss in nats per character on validation (what
the operation looked at to go back, with no limit set) and on test; intervals are Student's t over seeds, of paired
differences.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np

from benchmarks.language import base, loss, text
from benchmarks.rows import row
from benchmarks.self_compress_cnn import exact, low
from surgery.context import Context
from surgery.edit.few_bits import Course, FewBits, learn
from surgery.edit.tune import tune
from surgery.network.model import Model
from surgery.network.size import bytes_of
from surgery.operations.self_compress import SelfCompress

SEEDS = (0, 1, 2)
LEARNED, HELD, RATE = 4.0, 3.0, 1e-3
BITS = (4.0, 3.0)
TENTH, MOST = 0.10, 0.1499  # of the bytes of the base; uniform 4 bits take a little more than the second
ALLOWED = 0.05  # nats


@cache
def more(seed: int) -> Model:
    """The base with the same extra epochs."""
    return tune(base(seed), text().without_test(), Context(seed=seed), epochs=LEARNED + HELD, rate=RATE)


@cache
def uniform(seed: int, bits: float) -> Model:
    """Equally many bits for every row, reaches learned."""
    model = base(seed)
    training = FewBits.of(model, bits)
    training.original = model.module
    learn(training, text().without_test(), Context(seed=seed), Course(LEARNED + HELD, RATE, distil=1.0))
    return training.settle()


def ours(seed: int, size: float) -> Model:
    """Bits learned down to a size, without a limit on what is lost."""
    plan = SelfCompress(kilobytes=size / 1000, tolerance=100, epochs=LEARNED, frozen=HELD, rate=RATE)
    return plan.operate([base(seed)], text().without_test(), Context(seed=seed)).models[0]


def one(seed: int, method: str, bits: float) -> dict[str, Any]:
    """One line: a method at the bytes of uniform bits, or at a share below 1 of all bytes."""
    start, whole = time.monotonic(), bytes_of(base(seed))
    if method == "more":
        name, model = "base, more epochs", more(seed)
    elif method == "uniform":
        name, model = f"uniform {bits:g}", uniform(seed, bits)
    elif bits < 1:
        name, model = f"ours, {bits:.0%}", ours(seed, bits * whole)
    else:
        name, model = f"ours, as {bits:g}", ours(seed, min(bytes_of(uniform(seed, bits)), MOST * whole))
    return {
        "method": name,
        "seed": seed,
        "% of bytes": round(100 * bytes_of(model) / whole, 2),
        "validation": round(loss(model, "val"), 4),
        "test": round(loss(model, "test"), 4),
        "base": round(loss(base(seed), "val"), 4),
        "seconds": round(time.monotonic() - start),
    }


def measure(*, quick: bool) -> dict[str, Any]:
    """Figures over all seeds; the quick form looks at exactness alone."""
    if quick:
        return {"decoded": exact("shift_reports"), "table": []}
    kinds = [("more", 0.0), *((method, bits) for bits in BITS for method in ("uniform", "ours")), ("ours", TENTH)]
    table = [
        row("self_compress_lm", f"{method}/{bits:g}/{seed}", lambda s=seed, m=method, b=bits: one(s, m, b))
        for seed in SEEDS
        for method, bits in kinds
    ]

    def of(method: str, column: str = "validation") -> np.ndarray:
        return np.array([line[column] for line in table if line["method"] == method])

    best = of("base, more epochs")
    figures: dict[str, Any] = {
        "bytes_at_4": round(float(of("ours, as 4", "% of bytes").mean()) / 100, 4),
        "lost_at_4": round(float((of("ours, as 4") - best).mean()), 4),
    }
    for bits in ("4", "3"):
        ahead = of(f"uniform {bits}") - of(f"ours, as {bits}")
        figures[f"ahead_of_uniform_at_{bits}"] = round(float(ahead.mean()), 4)
        figures[f"ahead_of_uniform_at_{bits}_low"] = low(ahead.tolist(), 4)
    figures["spare_at_a_tenth"] = round(ALLOWED - float((of("ours, 10%") - best).mean()), 4)
    return {**figures, "decoded": exact("shift_reports"), "table": table}
