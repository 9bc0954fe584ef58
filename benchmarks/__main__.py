"""Run benchmarks, hold them against targets.toml, print a table and write RESULTS.md.

`--stale` lists the tables of RESULTS.md that were measured with other code than today's, and marks them there.

Exit status: 0 when every target holds, 1 when one is missed, 2 when data is missing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.bases import DataMissing

HERE = Path(__file__).parent
NAMES = (
    *("scan", "whatif", "prune_exact", "pages", "jobs", "criticality", "coverage", "slices", "sensitivity", "map"),
    *(
        "compress",
        "readapt",
        "extend",
        "split",
        "patch",
        "compose",
        "slim_mlp",
        "self_compress_cnn",
        "self_compress_lm",
        "similarity",
        "share",
        "faults",
        "hostile",
        "wrong",
    ),
)


def holds(value: float, target: dict[str, Any], quick: bool) -> bool:
    """Whether a figure meets its threshold (the quick form may declare one of its own)."""
    bounds = {**target, **(target.get("quick", {}) if quick else {})}
    return value <= bounds.get("at_most", float("inf")) and value >= bounds.get("at_least", float("-inf"))


def bound(target: dict[str, Any], quick: bool) -> str:
    """ "≤ 1.35 (goal 1.2)"."""
    bounds = {**target, **(target.get("quick", {}) if quick else {})}
    text = " ".join(f"{sign} {bounds[key]}" for key, sign in (("at_most", "≤"), ("at_least", "≥")) if key in bounds)
    return f"{text} (goal {bounds['goal']})" if "goal" in bounds else text


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    for row in rows:
        cells = [f"{v:.4g}" if isinstance(v, float) else "" if v is None else str(v) for v in map(row.get, names)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def verdict(value: float | None, target: dict[str, Any], quick: bool) -> str:
    """What became of one target: of its threshold, of its goal, or of both."""
    if quick and target.get("quick", {}).get("left_out"):
        return "not checked"
    if value is None:
        return "missing"
    told = []
    if target.keys() & {"at_most", "at_least"}:
        told.append("holds" if holds(value, target, quick) else "MISSED")
    if "goal" in target:
        short = value - target["goal"] if "at_most" in target else target["goal"] - value
        told.append("goal reached" if short <= 0 else f"goal missed by {short:.3g}")
    return ", ".join(told)


def judge(name: str, figures: dict[str, Any], quick: bool) -> list[dict[str, Any]]:
    """One row per target of a benchmark; a target without its figure is a miss, or not checked by the quick form."""
    targets = tomllib.loads((HERE / "targets.toml").read_text())[name]
    judged = []
    for figure, target in targets.items():
        value = figures.get(figure)
        judged.append(
            {
                "figure": figure,
                "measured": value,
                "target": bound(target, quick),
                "verdict": verdict(value, target, quick),
            }
        )
    return judged


def remarks(name: str, judged: list[dict[str, Any]]) -> str:
    """What targets.toml says about the targets that were missed: what was tried and why they resist."""
    targets = tomllib.loads((HERE / "targets.toml").read_text())[name]
    missed = [j["figure"] for j in judged if "missed" in j["verdict"].lower() and "remark" in targets[j["figure"]]]
    return "\n\n".join(f"{figure}: {targets[figure]['remark'].strip()}" for figure in missed)


def run(name: str, options: argparse.Namespace) -> bool:
    """Run one benchmark; print and store what it found; True when all its targets hold."""
    start = time.monotonic()
    found = importlib.import_module(f"benchmarks.{name}").measure(quick=options.quick)
    rows = found.pop("table", [])
    judged = judge(name, found, options.quick)
    other = [
        {"figure": key, "measured": value} for key, value in found.items() if key not in {j["figure"] for j in judged}
    ]
    parts = [table(judged), remarks(name, judged), *(table(part) for part in (other, rows) if part)]
    body = "\n\n".join(part for part in parts if part)
    command = f"python -m benchmarks {name}{' --quick' if options.quick else ''}"
    print(f"\n## {name}\n\n{body}")
    if not options.quick:
        results.record(name, command, time.monotonic() - start, body)
    missed = [j["figure"] for j in judged if j["verdict"].startswith(("MISSED", "missing"))]
    print(f"\n{name}: {'all targets hold' if not missed else 'missed ' + ', '.join(missed)}")
    if options.json:
        with Path(options.json).open("a") as stream:
            stream.write(json.dumps({"name": name, "figures": found, "table": rows}, default=str) + "\n")
    return not missed


def main() -> int:
    """Parse the command line and run what it names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--all", action="store_true", help="run every benchmark")
    parser.add_argument("--stale", action="store_true", help="list the tables whose code has changed since")
    parser.add_argument("--quick", action="store_true", help="at most a minute each; nothing is written")
    parser.add_argument("--json", help="append the figures to this file")
    options = parser.parse_args()
    names = NAMES if options.all else options.names
    unknown = [name for name in names if name not in NAMES]
    if unknown or not (names or options.stale):
        parser.error(f"no benchmark is called {', '.join(unknown)}" if unknown else f"name one of {', '.join(NAMES)}")
    if options.stale:
        results.refresh()
        for section in results.stale():
            print(f"{section.name}: {results.state(section)}")
    held, missing = [], []
    for name in names:
        try:
            held.append(run(name, options))
        except DataMissing as reason:
            missing.append(name)
            print(f"\n## {name}\n\nnot run: {reason}", file=sys.stderr)
    return 2 if missing else 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
