"""What `share` found, as rows of its table in RESULTS.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Row = dict[str, Any]


def rows_of(
    guided: Sequence[dict[str, float]], runs: Sequence[Row], plans: Sequence[Row], rules: Sequence[Row]
) -> list[Row]:
    """Guides, where similarity misleads, plans, GEMEL's rule, every pair of cuts."""
    return [*_guides(guided), *_misled(runs), *_plans(plans), *_gemel(rules), *_every(runs)]


def _guides(guided: Sequence[dict[str, float]]) -> Iterator[Row]:
    for seed, one in enumerate(guided):
        yield {
            "what": f"r with merged accuracy, common {seed}, of every stage",
            "similarity": f"{one['r']:.3f} ({one['low']:.3f} – {one['high']:.3f}), Spearman {one['spearman']:.3f}",
            "others": f"size {one['bytes']:.2f}, MACs {one['macs']:.2f}, representation {one['numbers']:.2f}, "
            f"random {one['random']:.2f}",
            "n": one["cuts"],
        }
        yield {
            "what": f"r with merged accuracy, common {seed}, own stage and nearest other",
            "similarity": f"{one['near']:.3f}, Spearman {one['near spearman']:.3f}",
            "others": "",
            "n": one["near cuts"],
        }
        yield {
            "what": f"r with merged accuracy, common {seed}, all pairs",
            "similarity": f"{one['all']:.3f}",
            "others": "",
            "n": one["pairs"],
        }


def _misled(runs: Sequence[Row]) -> Iterator[Row]:
    """Where similarity misleads: the most similar cut of every pair that loses ten points or more."""
    for run in runs:
        found = sorted(run["cuts"], key=lambda one: -float(one["similarity"]))
        bad = next((one for one in found if run["alone"] - one["right"] >= 10), None)
        if bad is not None:
            yield {
                "what": f"{run['kind']} {run['seed']}: most similar of those that lose 10 points",
                "similarity": f"{_named(bad)}: {bad['similarity']:.3f}",
                "others": f"agreement {bad['agreement']:.3f}, accuracy {bad['right']:.1f} of {run['alone']:.1f}",
                "n": len(found),
            }


def _plans(plans: Sequence[Row]) -> Iterator[Row]:
    for one in plans:
        worst = "" if one["worst_lost"] is None else f", the worst loses {one['worst_lost']:.2f} points"
        error = "" if one["resident_error"] is None else f", measured to {one['resident_error']:.2%}"
        yield {
            "what": f"{one['kind']} {one['seed']}: plan at {one['limits']}",
            "similarity": "; ".join(one["shares"]) or "nothing is shared",
            "others": f"{one['accepted']} of {one['tried']} accepted{worst}; saves {one['saved'] / 1000:.0f} of "
            f"{one['weights'] / 1000:.0f} kB{error}",
            "n": one["tried"],
        }


def _gemel(rules: Sequence[Row]) -> Iterator[Row]:
    for one in rules:
        yield {
            "what": f"{one['kind']} {one['seed']}: GEMEL's rule{', retrained' if one['retrained'] else ''}",
            "similarity": f"{one['layers']} layers",
            "others": f"saves {one['saved'] / 1000:.1f} kB; ours with as much to lose, never retrained: "
            f"{one['ours'] / 1000:.1f} kB ({one['share']})",
            "n": "",
        }


def _every(runs: Sequence[Row]) -> Iterator[Row]:
    """Every pair of cuts that was tried, its figures seed by seed."""
    found: dict[tuple[str, str], list[tuple[float, Row]]] = {}
    for run in runs:
        for one in run["cuts"]:
            found.setdefault((run["kind"], _named(one)), []).append((run["alone"], one))
    for (kind, name), own in found.items():
        agreed = [f"{one['agreement']:.3f}" for _, one in own]
        lost = [f"{alone - one['right']:.1f}" for alone, one in own]
        yield {
            "what": f"{kind}: {name}",
            "similarity": " / ".join(f"{one['similarity']:.3f}" for _, one in own),
            "others": f"agreement {' / '.join(agreed)}, lost {' / '.join(lost)}",
            "n": len(own),
        }


def _named(one: Row) -> str:
    return f"{one['cut']} → {one['at']}{', adapted' if one['adapted'] else ''}"
