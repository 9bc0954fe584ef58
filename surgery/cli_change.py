"""Commands that change a model: run a plan, or name an operation and its parameters."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.cli_candidates import waiting
from surgery.cli_jobs import existing, wait, workspace
from surgery.errors import PlanError

if TYPE_CHECKING:
    from surgery.operations.base import Operation
    from surgery.plan import Plan


def run(options: argparse.Namespace) -> None:
    """Run a plan; print the outcome and the new version."""
    from surgery.plan import Plan

    execute(Plan.parse(_text_of(options.plan)), options.name)


def _text_of(path: Path) -> str:
    """A plan's file, or standard input for "-".

    Raises:
        PlanError: it cannot be read as text.
    """
    try:
        return sys.stdin.read() if str(path) == "-" else existing(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} cannot be read as a plan: {error}.", "Name the JSON file of a plan.") from error


def change(options: argparse.Namespace) -> None:
    """Make a plan of an operation and `name=value` words, and run it (or print it)."""
    from surgery.operations.base import find
    from surgery.plan import Plan

    ws = workspace()
    version = ws.version(options.version)
    dataset = options.dataset or ws.project(version.project).dataset
    if not dataset:
        raise PlanError("The project has no dataset.", "Import one with `surgery import-data`.")
    given, states = parameters(options.parameters, find(options.operation)), ws.must_keep(dataset)
    if options.must_keep is not None and not states:
        raise PlanError("The dataset has no must-keep cases.", "Draw some with `surgery must-keep`.")
    kept = states[0].ids if options.must_keep is not None else ()
    plan = Plan.of(
        operation=options.operation,
        parameters=given,
        inputs=(version.id, *options.donor),
        dataset=dataset,
        new=options.new,
        preserve={"ids": kept, "may_break": options.must_keep or 0},
        seed=options.seed,
    )
    if options.print:
        print(plan.model_dump_json(indent=2))
    else:
        execute(plan, options.name)


def parameters(words: Sequence[str], operation: type[Operation]) -> dict[str, Any]:
    """`name=value` words as parameters of an operation; a value is JSON, else text.

    Where the operation takes text, a number is text too: target=9, classes=9 and classes=[8,9] name classes.

    Raises:
        PlanError: a word without an equals sign.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise PlanError(f"{word!r} is no parameter.", "Write name=value, for instance parameters=0.5.")
        field = operation.model_fields.get(name)
        found[name] = _value(value, field.annotation if field else None)
    return found


def _value(text: str, wanted: Any) -> Any:
    """A parameter of the type `wanted`, as its word says it."""
    if wanted is str:
        return said if isinstance(said := _json(text), str) else text
    if wanted != tuple[str, ...]:
        return _json(text)
    said = _json(text, parse_int=str, parse_float=str)
    if isinstance(said, list):
        return said
    return [said] if isinstance(said, str) and text.startswith('"') else text.split(",")


def _json(text: str, **options: Any) -> Any:
    """What a text means as JSON; the text itself where it is none."""
    try:
        return json.loads(text, **options)
    except (ValueError, RecursionError):
        return text


def execute(plan: Plan, name: str | None) -> None:
    """Run a plan as a job and print what came of it."""
    from surgery.receipt import Receipt
    from surgery.standing import receipt_of
    from surgery.tell import tell

    ws = workspace()
    project = ws.version(plan.inputs[0]).project
    title = name or plan.build().title
    task = {"kind": "plan", "plan": plan.model_dump(mode="json")}
    result = wait(ws, task, project=project, title=title).result
    if "fleet" in result:
        made = ws.fleet(result["fleet"])
        print(f"fleet {made.id}  {made.digest}")
        print("\n".join(tell(Receipt.from_json(ws.fleet_document(made.id, "receipt"))).lines))
        if made.back:
            print(f"broke more than allowed, and run as before: {', '.join(made.back)}")
        return
    version = ws.version(result["version"])
    print(f"version {version.id}  {version.digest}")
    if receipt := receipt_of(ws, version):
        print("\n".join(tell(receipt).lines))
    if said := waiting(version):
        print(said)
