"""The samples as projects, ready to be looked at: made by the app's own jobs, packed, and unpacked in a moment.

`python -m sample_models.projects` makes every project in a workspace of its own, by the jobs that a user would start,
and packs each into `sample_models/NAME/project.zip`. `install` unpacks one. What depends on the machine (times) is not
packed: the app measures it where it is asked for.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sample_models
from surgery.context import Context
from surgery.workspace import DatasetRow, Version, Workspace
from surgery.workspace.package import Package, pack, unpack

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset

SCAN: dict[str, Any] = {}  # scan with the defaults
SHIPPED = 500_000  # bytes of a dataset that is packed; a larger one is drawn or written where it is installed
_FILE = "project.zip"
_ROWS, _ELSEWHERE = "rows.json", "elsewhere.json"
_HERE = Path(__file__).parent
FINISHED, _BELOW = "finished", "digits"  # the finished project is made of the digits sample
_DATE = (2026, 1, 1, 0, 0, 0)  # of every file in a zip: the same content gives the same bytes


def build(ws: Workspace, name: str, ctx: Context, *, projection: bool = True) -> str:
    """Make the project of a sample: models and data, scanned and sliced; its id.

    projection: also place the neurons on the map, which takes half a minute.
    """
    from sample_models import finished

    if name == FINISHED:
        return finished.build(ws, ctx, projection=projection)
    project = ws.create_project(str(sample_models.info(name)["title"])).id
    version, data = lay_out(ws, project, name, ctx)
    look(ws, project, version, data, ctx, projection=projection)
    return project


def lay_out(ws: Workspace, project: str, name: str, ctx: Context) -> tuple[Version, DatasetRow]:
    """Put a sample's models and data into an empty project; its own model and data."""
    from pandas import read_parquet

    from surgery.network import part, store

    title = str(sample_models.info(name)["title"])
    data = ws.add_dataset(project, title, lambda folder: sample_models.make_data(name, folder, ctx), trained_on="train")
    version = ws.commit(project, store.load(sample_models.model_folder(name)), name="Original")
    for other, folder in sample_models.members(name).items():
        ws.commit(
            project,
            store.load(folder),
            name=other,
            parts=part.load(folder),
            tables={path.stem: read_parquet(path) for path in sorted((folder / "tables").glob("*.parquet"))},
            make_current=False,
        )
    own = ws.dataset(data.id)
    for title in sample_models.further(name):
        ws.add_dataset(project, title, _further(name, title, lambda: own, ctx), trained_on="no")
    return version, data


def _further(name: str, title: str, own: Callable[[], Dataset], ctx: Context) -> Callable[[Path], Dataset]:
    return lambda folder: sample_models.make_further(name, title, own(), folder, ctx)


def look(ws: Workspace, project: str, version: Version, data: DatasetRow, ctx: Context, *, projection: bool) -> None:
    """Evaluate a version, scan it, place its neurons on the map, and find its slices."""
    from sample_models.perform import perform

    pair = {"version": version.id, "dataset": data.id}
    task = {**pair, "params": SCAN}
    perform(ws, project, f"Evaluate v{version.number}", {"kind": "check_model", **pair}, ctx)
    perform(ws, project, f"Scan v{version.number}", {"kind": "scan", **task}, ctx, follow=projection)
    perform(ws, project, f"Slices of v{version.number}", {"kind": "criticality", **task}, ctx)


def install(ws: Workspace, name: str, project: str, ctx: Context | None = None) -> None:
    """Put a sample into an empty project: unpacked, not made, except for data that are drawn. Imports no torch.

    Raises:
        NotFoundError: there is no such sample.
        Cancelled: `ctx` was cancelled; nothing was written.
    """
    package = read(name)
    unpack(ws.store, package, project, _makers(name, package, ctx or Context()))


def open_finished(ws: Workspace) -> str:
    """Put the finished project into a workspace, unless it is there; its id. A failed attempt goes to the trash.

    Raises:
        DiskFullError: nothing was written.
    """
    from sample_models import finished

    package = read(FINISHED)
    (result,) = (row["digest"] for row in package.rows["versions"] if row["id"] == package.project["current"])
    for project in ws.projects():
        if any(version.digest == result for version in ws.versions(project.id)):
            return project.id
    project = ws.create_project(finished.NAME)
    try:
        unpack(ws.store, package, project.id)
    except BaseException:
        ws.trash_project(project.id)
        raise
    return project.id


def _makers(name: str, package: Package, ctx: Context) -> dict[str, Callable[[Path], object]]:
    """What makes each dataset that is not packed, by its id: the sample's own first, its further ones from that."""
    from surgery.data.dataset import Dataset

    packed = {file.split("/")[1] for file in package.files if file.startswith("datasets/")}
    rows = sorted(package.rows["datasets"], key=lambda row: row["created"])
    made: list[Path] = []

    def own(folder: Path) -> object:
        made.append(folder)
        return sample_models.make_data(name, folder, ctx)

    makers: dict[str, Callable[[Path], object]] = {}
    for row in rows:
        if row["id"] not in packed:
            further = row["name"] in sample_models.further(name)
            makers[row["id"]] = _further(name, row["name"], lambda: Dataset.open(made[0]), ctx) if further else own
    return makers


def write(name: str, package: Package) -> None:
    """Write a package as a zip; a file of `sample_models`, or of the package of the digits, is only named."""
    known = {path.read_bytes(): path.relative_to(_HERE).as_posix() for path in _HERE.rglob("*.safetensors")}
    if name == FINISHED and (_HERE / _BELOW / _FILE).exists():
        known |= {content: f"{_BELOW}!{file}" for file, content in read(_BELOW).files.items()}
    elsewhere = {file: known[content] for file, content in package.files.items() if content in known}
    inside = {_ROWS: json.dumps(package.rows, indent=1).encode(), _ELSEWHERE: json.dumps(elsewhere, indent=1).encode()}
    inside |= {file: content for file, content in package.files.items() if file not in elsewhere}
    with zipfile.ZipFile(_HERE / name / _FILE, "w") as out:
        for file, content in inside.items():
            out.writestr(zipfile.ZipInfo(file, _DATE), content, zipfile.ZIP_LZMA)


@lru_cache(maxsize=2)
def read(name: str) -> Package:
    """The package of a sample.

    Raises:
        NotFoundError: there is no such sample.
    """
    if name != FINISHED:
        sample_models.model_folder(name)
    with zipfile.ZipFile(_HERE / name / _FILE) as found:
        content = {info.filename: found.read(info) for info in found.infolist()}
    rows, elsewhere = (json.loads(content.pop(name)) for name in (_ROWS, _ELSEWHERE))
    return Package(rows, content | {file: _content(place) for file, place in elsewhere.items()})


def _content(place: str) -> bytes:
    """A file of `sample_models`, or one in the package of a sample: "digits!scans/…"."""
    name, inside, file = place.partition("!")
    return read(name).files[file] if inside else (_HERE / place).read_bytes()


def packed(ws: Workspace, project: str) -> Package:
    """A project that `build` made as a package that says nothing of the machine it was made on."""
    large = [data.id for data in ws.datasets(project) if data.bytes > SHIPPED]
    package = pack(ws.store, project, without=large)
    return Package(package.rows, {file: _portable(file, content) for file, content in package.files.items()})


def _portable(file: str, content: bytes) -> bytes:
    """A receipt without times, which another machine would not confirm; any other file as it is."""
    if not file.endswith("receipt.json"):
        return content
    receipt: dict[str, Any] = json.loads(content)
    receipt["table"] = [row for row in receipt["table"] if not row["metric"].startswith("latency")]
    return json.dumps(receipt, indent=1).encode()


def main(names: list[str]) -> None:
    """Make and pack the projects of the named samples, or of all and the finished one."""
    from surgery.standing import said

    for name in names or [*sample_models.names(), FINISHED]:
        with tempfile.TemporaryDirectory() as home:
            ws = Workspace(Path(home), who="Model Surgery")
            project = build(ws, name, Context())
            (_HERE / name).mkdir(exist_ok=True)
            write(name, packed(ws, project))
            print(f"{name}: {(_HERE / name / _FILE).stat().st_size:,} bytes. {said(ws, ws.project(project))}")


if __name__ == "__main__":
    main(sys.argv[1:])
