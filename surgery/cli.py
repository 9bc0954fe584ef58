"""The `surgery` command: without a word it starts the app; with one it does, headless, what a page does.

Every command goes through the same function as its page: it submits a job, waits for it and prints what it found.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from surgery import temporary, units
from surgery.cli_candidates import discard, make_current, settings
from surgery.cli_care import backup, doctor, restore
from surgery.cli_change import change, run
from surgery.cli_data import drift, import_data, join, must_keep, relabel, train_mlp
from surgery.cli_decide import compare, versions
from surgery.cli_fleet import fleet
from surgery.cli_jobs import json_object, line_of, wait, workspace
from surgery.cli_models import DOCUMENTS, ENDINGS, export, import_model, set_input, size
from surgery.data.reading import HEADERS, HOWS, NUMBERS, USES
from surgery.errors import MismatchError, SurgeryError
from surgery.network import operator_files
from surgery.workspace.settings import ANSWERS

APP = Path(__file__).resolve().parents[1] / "app.py"


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; exit status 0, or 1 with the reason on standard error."""
    options = parser().parse_args(words)
    try:
        if options.architectures:
            os.environ[operator_files.VARIABLE] = str(operator_files.register(Path(options.architectures).resolve()))
        status = int(options.command(options) or 0)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read our output has what it wanted, as `head` does
        return _unread()
    except SurgeryError as error:
        print(f"surgery: {error.what}", file=sys.stderr)
        for row in error.rows if isinstance(error, MismatchError) else ():
            print(f"  {row.kind:<10} {row.name}  file {row.file}  architecture {row.architecture}", file=sys.stderr)
        if error.fix:
            print(error.fix, file=sys.stderr)
        return 1


def _unread() -> int:
    """End quietly, with the status of a program that the closed pipe has stopped."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be written goes nowhere
    return 128 + signal.SIGPIPE


Add = Callable[[str, Any, str], argparse.ArgumentParser]  # name, what it runs, help


def parser() -> argparse.ArgumentParser:
    """The command line, one sub-parser per command."""
    top = argparse.ArgumentParser(prog="surgery", description="See into a trained network and change it in parts.")
    top.add_argument("--architectures", metavar="FILE", help="Python file with constructors of your own networks")
    top.add_argument("--address", default="127.0.0.1", help="other than loopback needs SURGERY_TOKEN or OIDC")
    top.add_argument("--host", action="append", default=[], metavar="NAME", help="a name by which visitors address it")
    top.add_argument("--port", type=int, default=8501)
    top.add_argument("--no-browser", action="store_true", help="do not open a browser window")
    top.set_defaults(command=start)
    commands = top.add_subparsers(metavar="COMMAND")

    def add(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=function)
        return sub

    _bring(add)
    _look(add)
    _operate(add)
    _decide(add)
    _care(add)
    return top


def _bring(add: Add) -> None:
    """Models and datasets come in."""
    sub = add("import-model", import_model, "read weights into an architecture, as a new version")
    sub.add_argument("path", type=Path)
    sub.add_argument("--project", help="id or name; a new one is made when it does not exist")
    sub.add_argument("--architecture", help="name, for instance torchvision/resnet18; by default the best match")
    sub.add_argument("--arguments", type=json_object, default={}, help="constructor arguments as JSON")
    sub.add_argument("--config", type=Path, help="config.json of a Hugging Face image classifier")
    sub.add_argument("--input", type=json_object, help='{"kind": "image", "shape": [3,32,32], "mean": […], "std": […]}')
    sub.add_argument("--classes", help="comma-separated or a JSON list, in the order of the logits")
    sub.add_argument("--task", choices=("classification", "regression"), default="classification")
    sub.add_argument(
        "--precision", choices=("float32", "float16", "bfloat16", "float64"), help="to store, if not the file's"
    )
    sub.add_argument("--trained-on", choices=ANSWERS, help="whether it was trained on the project's dataset")
    sub.add_argument("--output", default="", help="which output is the prediction, where the network returns several")
    sub.add_argument("--licence", default="", help="of the weights; every receipt of what is made of them names it")
    sub.add_argument("--source", default="", help="where the weights come from: an address, a paper")

    sub = add("input", set_input, "measure which input suits a version, or give it another one, as a new version")
    sub.add_argument("version")
    sub.add_argument("--size", type=size, metavar="HEIGHTxWIDTH", help="of images, in pixels; 32 is 32x32")
    sub.add_argument("--mean", type=float, nargs="+", help="subtracted from values of 0 to 1; per channel, or one")
    sub.add_argument("--std", type=float, nargs="+", help="what is then divided by")
    sub.add_argument("--name", help="of the new version")

    sub = add("train-mlp", train_mlp, "train a large uniform MLP on a table, to slim it afterwards")
    sub.add_argument("dataset")
    sub.add_argument("--depth", type=int, default=3, help="hidden layers")
    sub.add_argument("--width", type=int, default=256, help="units in each")
    sub.add_argument("--epochs", type=float, default=40.0, help="at most")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--name", help="of the new version")

    _import_data(add("import-data", import_data, "import a dataset: images, npz, CSV, JSON records, Parquet, text"))

    sub = add("relabel", relabel, "rename classes of a dataset, put them together or leave some out: a new dataset")
    sub.add_argument("dataset")
    sub.add_argument("classes", nargs="*", metavar="OLD=NEW", help="automobile=auto")
    sub.add_argument("--by-order", metavar="VERSION", help="the names of this version's classes, in their order")
    sub.add_argument("--yes", action="store_true", help="the pairs that --by-order prints are right")
    sub.add_argument("--without", nargs="*", default=[], metavar="CLASS", help="classes to leave out")
    sub.add_argument("--name", help="of the new dataset")

    sub = add("drift", drift, "make a changed copy of a dataset, for trials")
    sub.add_argument("dataset")
    sub.add_argument("change", choices=("noise", "blur", "brightness", "contrast", "fgsm", "pgd"))
    sub.add_argument("--strength", type=float, default=0.5, help="0 to 1")
    sub.add_argument("--version", help="whom fgsm and pgd attack")

    sub = add("join", join, "put datasets together: all their samples and classes")
    sub.add_argument("datasets", nargs="+", metavar="DATASET")
    sub.add_argument("--name", help="of the new dataset")


def _import_data(sub: argparse.ArgumentParser) -> None:
    """The options of `surgery import-data`."""
    sub.add_argument("path", type=Path)
    sub.add_argument("--project", help="id or name; a new one is made when it does not exist")
    sub.add_argument("--target", help="target column of a table")
    sub.add_argument("--task", choices=("classification", "regression", "unlabelled"))
    sub.add_argument("--header", choices=HEADERS, help="what the first line of a text table is; by default found")
    sub.add_argument("--numbers", choices=NUMBERS[1:], help="how numbers are written, where they are no plain ones")
    sub.add_argument(
        "--column",
        action="append",
        default=[],
        dest="columns",
        metavar="NAME=HOW",
        help=f"what a column becomes: {', '.join(HOWS)}; may be given again",
    )
    sub.add_argument("--drop", action="append", default=[], metavar="NAME", help="column to leave out; again for more")
    sub.add_argument("--like", metavar="DATASET", help="read the columns as those of this earlier table")
    sub.add_argument("--split-column", metavar="NAME", help="column that names the split of each row")
    sub.add_argument(
        "--splits",
        nargs="*",
        default=[],
        metavar="NAME=USE",
        help=f"what becomes of a split of the file: {', '.join(USES)} (deal: split anew)",
    )
    sub.add_argument(
        "--classes", nargs="*", default=[], metavar="OLD=NEW", help="other names of classes: automobile=auto"
    )
    sub.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of the stored images")
    sub.add_argument("--context", type=int, help="characters of a window of text")
    sub.add_argument("--trained-on", choices=ANSWERS, help="whether the project's models were trained on it")
    sub.add_argument(
        "--same-names",
        choices=("keep", "merge"),
        help="classes whose names differ only in Unicode form, case or blanks: keep them apart (default) or merge them",
    )


def _look(add: Add) -> None:
    """What neurons do, and which cases must be kept."""
    sub = add("must-keep", must_keep, "draw or pin the cases of a dataset that no surgery may break")
    sub.add_argument("dataset")
    sub.add_argument("--draw", metavar="VERSION", help="draw cases anew with this version; pinned ones stay")
    sub.add_argument("--size", type=int, default=50, help="cases in all")
    sub.add_argument("--least", type=int, default=1, help="of each class")
    sub.add_argument("--pin", type=int, nargs="*", default=[], metavar="SAMPLE", help="samples to put in by hand")
    sub.add_argument("--contains", metavar="PHRASE", help="of a text, pin the windows in which it occurs")

    sub = add("scan", scan, "collect what every neuron does on a dataset")
    sub.add_argument("version")
    sub.add_argument("dataset")

    sub = add("slices", slices, "find which neurons each class needs")
    sub.add_argument("version")
    sub.add_argument("dataset")
    sub.add_argument("--theta", type=float, default=0.95, help="similarity that a slice keeps, 0 to 1")
    sub.add_argument("--score", choices=("avg", "var", "ens", "taylor", "deeplift"), default="taylor")
    sub.add_argument("--fill", choices=("mean", "zero"), default="mean", help="what a neuron outside leaves behind")

    sub = add("sensitivity", sensitivity, "measure how much worse the model gets without each neuron")
    sub.add_argument("version")
    sub.add_argument("dataset")
    sub.add_argument("--seconds", type=float, default=300.0, help="to measure for; another run goes on from there")


def _operate(add: Add) -> None:
    """Surgeries."""
    sub = add("run", run, "run a plan exported from the app")
    sub.add_argument("plan", type=Path, help="a JSON file, - for standard input")
    sub.add_argument("--name", help="name of the new version")

    sub = add("change", change, "run an operation: compress VERSION parameters=0.5 steps=3")
    sub.add_argument("operation", help="its name in a plan: prune, compress …")
    sub.add_argument("version")
    sub.add_argument("parameters", nargs="*", metavar="NAME=VALUE", help="its parameters; values are JSON")
    sub.add_argument("--dataset", help="by default the project's")
    sub.add_argument("--new", default="", metavar="DATASET", help="new data, for an operation that learns from it")
    sub.add_argument(
        "--donor",
        action="append",
        default=[],
        metavar="VERSION",
        help="a second version, for an operation that takes one",
    )
    sub.add_argument("--must-keep", type=int, metavar="MAY_BREAK", help="hold it to the dataset's must-keep cases")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--name", help="name of the new version")
    sub.add_argument("--print", action="store_true", help="print the plan instead of running it")


def _decide(add: Add) -> None:
    """Versions, comparisons, exports and jobs."""
    sub = add("versions", versions, "list projects, datasets and versions; move the current one")
    sub.add_argument("--project", help="id or name")
    sub.add_argument("--current", metavar="VERSION", help="make this version current")
    sub.add_argument("--undo", action="store_true", help="make the previous version current")
    sub.add_argument("--verify", metavar="VERSION", help="recompute the digest of a version from its bytes")

    sub = add("make-current", make_current, "make a version current, also a candidate")
    sub.add_argument("version")

    sub = add("discard", discard, "move a candidate, which waits for a decision, to the trash")
    sub.add_argument("version")

    sub = add("settings", settings, "print and change what a project allows, and what its models were trained on")
    sub.add_argument("--project", help="id or name")
    sub.add_argument("--max-drop", type=float, metavar="PP", help="of accuracy, before a result becomes a candidate")
    sub.add_argument("--max-class-drop", type=float, metavar="PP", help="the same in any class")
    sub.add_argument("--trained-on", choices=ANSWERS, help="whether the models were trained on the dataset")
    sub.add_argument("--dataset", help="by default the project's")

    sub = add("compare", compare, "measure versions side by side")
    sub.add_argument("versions", nargs="+", metavar="VERSION")
    sub.add_argument("--dataset", help="by default the project's")

    sub = add("export", export, "write a version for use elsewhere")
    sub.add_argument("version")
    sub.add_argument("target", type=Path, help="file to write: .safetensors, .zip (with a loader) or .onnx")
    sub.add_argument("--format", choices=(*ENDINGS, *DOCUMENTS), help="by default what the ending of the file says")
    sub.add_argument("--dataset", help="whose samples int8 is fitted to and measured on; by default the project's")

    sub = add("fleet", fleet, "list the fleets of a project; replay streams through one, take a guest back, export")
    sub.add_argument("fleet", nargs="?", help="its id; without one all are listed")
    sub.add_argument("--project", help="id or name")
    sub.add_argument("--replay", nargs="+", metavar="DATASET", help="let datasets run through it, one after the other")
    sub.add_argument("--watched", type=float, default=0.25, help="share of the inputs that are watched, 0 to 1")
    sub.add_argument("--take-back", metavar="MEMBER", help="let a guest run as it was, bit for bit")
    sub.add_argument("--share-again", metavar="MEMBER", help="undo that")
    sub.add_argument("--export", type=Path, metavar="FILE", help="write one bundle with a loader (zip)")

    sub = add("jobs", jobs_command, "list jobs; cancel or retry one")
    sub.add_argument("--cancel", metavar="JOB")
    sub.add_argument("--retry", metavar="JOB")
    sub.add_argument("--take", nargs=2, metavar=("JOB", "CANDIDATE"), help="make a version of a job's candidate")


def _care(add: Add) -> None:
    """The workspace as a whole."""
    sub = add(
        "doctor", doctor, "examine the workspace: every checksum, every row against its folder, what was left behind"
    )
    sub.add_argument("--repair", action="store_true", help="put right what can be put right; nothing is erased")

    sub = add("backup", backup, "write the whole workspace into one archive with checksums, also while jobs run")
    sub.add_argument("file", type=Path, metavar="FILE")

    sub = add("restore", restore, "make a workspace of an archive, in an empty folder")
    sub.add_argument("file", type=Path, metavar="FILE")
    sub.add_argument("--home", type=Path, help="the folder; by default SURGERY_HOME")


def start(options: argparse.Namespace) -> int:
    """Serve the app until Ctrl-C; refuse an address that others can reach without a login."""
    from surgery.ui import access, serve

    if options.host:
        os.environ[access.HOSTS] = ",".join([*options.host, os.environ.get(access.HOSTS, "")])
    access.refuse_unprotected(options.address)
    temporary.sweep()
    access.host_names(options.address)
    if not APP.exists():
        raise SurgeryError(f"{APP} is missing: the app runs from a checkout.", "Clone the project and run `make run`.")
    if _listens(options.address, options.port):
        raise SurgeryError(f"Port {options.port} is taken.", f"Try `surgery --port {options.port + 1}`.")
    url = f"http://{access.shown(options.address)}:{options.port}"
    print(f"Model Surgery: {url}   (stop with Ctrl-C)", flush=True)
    if sys.stdout.isatty() and not options.no_browser:
        threading.Thread(target=_open, args=(url, options), daemon=True).start()
    serve.serve(APP, address=options.address, port=options.port)
    return 0


def _open(url: str, options: argparse.Namespace) -> None:
    """Open the browser once the server listens."""
    for _ in range(150):
        if _listens(options.address, options.port):
            webbrowser.open(url)
            return
        time.sleep(0.2)


def _listens(address: str, port: int) -> bool:
    """Say whether a server answers there."""
    try:
        socket.create_connection((address.strip("[]"), port), timeout=2).close()
    except OSError:
        return False
    return True


def scan(options: argparse.Namespace) -> None:
    """Scan a version on a dataset."""
    ws = workspace()
    version = ws.version(options.version)
    task = {"kind": "scan", "version": version.id, "dataset": options.dataset, "params": {}}
    print(wait(ws, task, project=version.project, title=f"Scan {version.name}").result["folder"])


def slices(options: argparse.Namespace) -> None:
    """Print how many neurons each class's slice has, and how many no class needs."""
    from surgery.ui import slicing

    ws = workspace()
    version = ws.version(options.version)
    task = {"kind": "criticality", "version": version.id, "dataset": options.dataset, "params": {}}
    wait(ws, task, project=version.project, title=f"Slices of {version.name}")
    sliced = slicing.read(ws, version.id, options.dataset)
    if sliced is None:
        raise SurgeryError("The slices are gone.", "Run the command again.")
    members = sliced.members(options.score, options.fill, options.theta)
    for name, count in zip(sliced.seen.classes, members.sum(0), strict=True):
        print(f"{name}  {count:,} of {len(members):,} neurons")
    print(f"no class needs {(~members.any(1)).sum():,}")


def sensitivity(options: argparse.Namespace) -> None:
    """Print the neurons whose removal costs most, how many were tested, and why others were not."""
    import pandas as pd

    ws = workspace()
    version = ws.version(options.version)
    about = {"version": version.id, "dataset": options.dataset, "params": {}, "seconds": options.seconds}
    title = f"Sensitivity of {version.name}"
    result = wait(ws, {"kind": "sensitivity", **about}, project=version.project, title=title).result
    table = pd.read_parquet(Path(result["folder"]) / "sensitivity.parquet")
    for row in table[table["tested"]].nlargest(10, "loss_change").to_dict("records"):
        loss, accuracy = units.signed_digits(row["loss_change"]), units.points(row["accuracy_change"])
        print(f"neuron {row['id']}  loss {loss}  accuracy {accuracy}")
    print(f"tested {result['tested']:,} of {result['all']:,} groups of neurons")
    for reason, count in table.loc[~table["tested"], "reason"].value_counts().items():
        print(f"{count:,} {reason}")


def jobs_command(options: argparse.Namespace) -> None:
    """List, cancel, retry."""
    from surgery import jobs

    ws = workspace()
    if options.cancel:
        jobs.cancel(ws, options.cancel)
    if options.retry:
        print(jobs.retry(ws, options.retry).id)
    if options.take:
        print(jobs.take(ws, options.take[0], _number(options.take[1])).id)
    for job in jobs.jobs(ws):
        print(line_of(job))


def _number(word: str) -> int:
    """The number of a candidate.

    Raises:
        SurgeryError: it is none.
    """
    if not word.isdecimal() or len(word) > 9:
        raise SurgeryError(f"{word!r} is not the number of a candidate.", "Give one that the job's table shows.")
    return int(word)


if __name__ == "__main__":
    sys.exit(main())
