"""Small trained models with their data in seven samples, and one finished project: to start without a file.

Each folder `sample_models/NAME/` holds the stored model, `sample.json` (what it is and how it is trained, written by
hand), `results.json` and `card.md` (measured and written by `python -m sample_models.train`), and `project.zip`, the
project that a user gets (made by `python -m sample_models.projects`). Datasets come out of scikit-learn, or are drawn
or written. Importing this package imports neither torch nor scikit-learn.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.errors import NotFoundError

if TYPE_CHECKING:
    from surgery.context import Context
    from surgery.data.dataset import Dataset
    from surgery.network.model import Origin
    from surgery.workspace import Workspace

_HERE = Path(__file__).parent
_NAMES = (
    *("digits", "surface_inspection", "two_inspectors", "inspection_line"),
    *("breast_cancer", "diabetes", "shift_reports"),
)


def names() -> list[str]:
    """The samples, in the order in which they are offered."""
    return list(_NAMES)


def model_folder(name: str) -> Path:
    """Where the trained model of a sample is stored, for `surgery.network.store.load`.

    Raises:
        NotFoundError: there is no such sample.
    """
    if name not in _NAMES:
        raise NotFoundError(f"There is no sample {name!r}.", f"Choose one of {', '.join(_NAMES)}.")
    return _HERE / name


def members(name: str) -> dict[str, Path]:
    """The other models that a sample has beside its own: title -> folder of the model, perhaps with its modules and
    tables as parquet files.

    Raises:
        NotFoundError: there is no such sample.
    """
    folder = model_folder(name)
    return {str(one["name"]): folder / str(one["folder"]) for one in info(name).get("members", ())}


def info(name: str) -> dict[str, Any]:
    """Everything `sample.json` says (title, line, kind, task, data, licences, limits), the card's text as "card" and,
    once trained, the measured values as "results".

    Raises:
        NotFoundError: there is no such sample.
    """
    folder = model_folder(name)
    found: dict[str, Any] = json.loads((folder / "sample.json").read_text("utf-8"))
    for key, file in (("results", folder / "results.json"), ("card", folder / "card.md")):
        if file.exists():
            text = file.read_text("utf-8")
            found[key] = json.loads(text) if file.suffix == ".json" else text
    return found


def origin(name: str) -> Origin:
    """Where the weights of a sample come from.

    Raises:
        NotFoundError: there is no such sample.
    """
    from surgery.network.model import Origin

    title = str(info(name)["title"])
    return Origin(f"Sample {title}", "Apache-2.0", f"python -m sample_models.train {name}")


def make_data(name: str, folder: Path, ctx: Context | None = None) -> Dataset:
    """Make the data set of a sample in `folder`, the same every time; seconds at most.

    Raises:
        NotFoundError: there is no such sample.
        Cancelled: `ctx` was cancelled.
    """
    from sample_models.datasets import MAKERS
    from surgery.context import Context

    model_folder(name)
    return MAKERS[name](folder, ctx or Context())


def further(name: str) -> list[str]:
    """The names of a sample's other data sets: as its data might come later, and with classes yet to be taught."""
    from sample_models.datasets import FURTHER

    model_folder(name)
    return list(FURTHER.get(name, ()))


def make_further(name: str, title: str, data: Dataset, folder: Path, ctx: Context | None = None) -> Dataset:
    """Make one of a sample's other data sets. data: what `make_data` made.

    Raises:
        NotFoundError: the sample has none of that name.
    """
    from sample_models.datasets import FURTHER
    from surgery.context import Context

    if title not in further(name):
        raise NotFoundError(f"The sample {name!r} has no data {title!r}.", f"It has {further(name) or 'none'}.")
    return FURTHER[name][title](data, folder, ctx or Context())


def open_finished(ws: Workspace) -> str:
    """Install the finished digits project in a workspace, unless it is there; its project id. Imports no torch."""
    from sample_models import projects

    return projects.open_finished(ws)
