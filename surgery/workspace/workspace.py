"""The workspace: projects, versions, datasets, selections, scans and events, kept for good.

    ws = Workspace()
    project = ws.create_project("Digits")
    ws.commit(project.id, model, name="Original")
    ws.undo(project.id)

Everything is in the catalogue and in immutable folders; a `Workspace` object itself remembers nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.workspace import (
    backup,
    commits,
    datasets,
    files,
    fleets,
    history,
    identity,
    must_keep,
    projects,
    scans,
    selections,
    trash,
    versions,
)
from surgery.workspace import events as audit
from surgery.workspace.commits import ANY, Draft
from surgery.workspace.rows import DatasetRow, Event, Fleet, MustKeep, Project, Selection, Version
from surgery.workspace.settings import TrainedOn
from surgery.workspace.store import open_store

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor

    from surgery.data.dataset import Dataset
    from surgery.network.fleet import Fleet as Network
    from surgery.network.model import Model
    from surgery.network.part import Part


class Workspace:
    """One folder of projects. Opening it makes what is missing and removes what killed processes left half written."""

    def __init__(self, home: Path | None = None, *, who: str | None = None, checks: bool = True) -> None:
        """Open the workspace in `home` (default: SURGERY_HOME, or the user's data folder) in the name of `who`.

        checks: compare what is opened with its checksums, once in each process; pages leave that to jobs and probes.

        Raises:
            WorkspaceError: the folder cannot be written, or it and the catalogue do not belong together.
        """
        self.store = open_store(home, who, checks=checks)
        self.home = self.store.home
        trash.sweep(self.store)
        backup.keep_copy(self.store)

    def acting_as(self, who: str) -> Workspace:
        """The same workspace in another person's name, without opening it again."""
        other = copy.copy(self)
        other.store = replace(self.store, who=who)
        return other

    @property
    def uploads(self) -> Path:
        """Where files from a browser wait for their import; the import job removes them."""
        return self.home / "uploads"

    @property
    def exports(self) -> Path:
        """Where exported files are made."""
        return self.home / "exports"

    # Projects

    def create_project(self, name: str) -> Project:
        """Add an empty project."""
        return projects.create(self.store, name)

    def projects(self, trashed: bool = False) -> list[Project]:
        """All projects, newest first."""
        return projects.listing(self.store, trashed)

    def project(self, project_id: str) -> Project:
        """One project. Raises NotFoundError."""
        return projects.get(self.store, project_id)

    def rename_project(self, project_id: str, name: str) -> Project:
        """Give another name."""
        return projects.rename(self.store, project_id, name)

    def set_tolerance(self, project_id: str, *, drop: float | None = None, class_drop: float | None = None) -> Project:
        """Set how many pp of accuracy a result may lose, overall and in any class, and still become current.

        Raises:
            WorkspaceError: a value is not between 0 and 100.
        """
        return projects.set_tolerance(self.store, project_id, drop, class_drop)

    def set_trained_on(self, project_id: str, dataset_id: str, answer: TrainedOn) -> Project:
        """Note whether the project's models were trained on a dataset. Raises WorkspaceError: no such answer."""
        return projects.set_trained_on(self.store, project_id, dataset_id, answer)

    def trash_project(self, project_id: str) -> Project:
        """Put into the trash. Raises WorkspaceError while jobs wait or run."""
        return projects.move(self.store, project_id, "trash")

    def discard_empty_project(self, project_id: str) -> bool:
        """Delete a project into which nothing was put and nothing is about to come; whether it was one."""
        return trash.discard_empty(self.store, project_id)

    def restore_project(self, project_id: str) -> Project:
        """Take out of the trash."""
        return projects.move(self.store, project_id, "ready")

    # Datasets

    def add_dataset(
        self,
        project_id: str,
        name: str,
        make: Callable[[Path], Dataset],
        *,
        job: str | None = None,
        trained_on: TrainedOn | None = None,
    ) -> DatasetRow:
        """Let `make` write a dataset into a fresh folder and commit it; a project's first one is put to use.

        job: the job that this finishes, in the same transaction. trained_on: whether the project's models were trained
        on it, where that is known.

        Raises:
            DiskFullError: nothing was written.
        """
        return datasets.add(self.store, project_id, name, make, job, trained_on)

    def datasets(self, project_id: str) -> list[DatasetRow]:
        """The datasets of a project, oldest first."""
        return datasets.listing(self.store, project_id)

    def dataset(self, dataset_id: str) -> Dataset:
        """Open the data of a dataset."""
        return datasets.open_dataset(self.store, dataset_id)

    def dataset_row(self, dataset_id: str) -> DatasetRow:
        """What the catalogue knows of a dataset. Raises NotFoundError."""
        return datasets.get(self.store, dataset_id)

    def use_dataset(self, project_id: str, dataset_id: str) -> Project:
        """Make a dataset the one that the project works on."""
        return projects.use_dataset(self.store, project_id, dataset_id)

    # Versions

    def commit(
        self,
        project_id: str,
        model: Model,
        *,
        name: str,
        parent: str | None = None,
        operation: str | None = None,
        plan: Mapping[str, Any] | None = None,
        receipt: Mapping[str, Any] | None = None,
        kept: Tensor | None = None,
        tables: Mapping[str, DataFrame] | None = None,
        parts: Sequence[Part] = (),
        make_current: bool = True,
        candidate: Sequence[str] = (),
        expected_current: str | None = ANY,
        job: str | None = None,
        sample: Tensor | None = None,
    ) -> Version:
        """Commit an immutable version: all of it, or nothing.

        operation: title shown for it; by default the plan's operation, or "import".
        kept: int64[N], the parent's id of each neuron, −1 = new. parts: those that lie in the model.
        candidate: why it waits for a decision and does not become current.
        expected_current: it becomes current only while this version is; the work itself is never refused.
        job: the job that this finishes, in the same transaction.
        sample: float[b, *input.shape], a few real samples on which the written model is run too.

        Raises:
            DiskFullError: nothing was written.
            ModelError: read back from its files, the model does not return what the one in memory does.
            Cancelled: `job` was ended meanwhile; nothing was written.
        """
        title = operation or (str(plan["operation"]) if plan else "import")
        draft = Draft(
            project=project_id,
            model=model,
            name=name,
            parent=parent,
            operation=title,
            plan=plan,
            receipt=receipt,
            kept=kept,
            tables=tables or {},
            parts=parts,
            make_current=make_current,
            candidate=candidate,
            expected_current=expected_current,
            job=job,
            sample=sample,
        )
        return commits.commit(self.store, draft)

    def versions(self, project_id: str, trashed: bool = False) -> list[Version]:
        """The versions of a project by number."""
        return versions.listing(self.store, project_id, trashed)

    def version(self, version_id: str) -> Version:
        """One version, also from the trash. Raises NotFoundError."""
        return versions.get(self.store, version_id)

    def model(self, version_id: str) -> Model:
        """Load the model of a version; imports torch."""
        return versions.model(self.store, version_id)

    def inspect(self, version_id: str) -> dict[str, Any]:
        """architecture.json of a version, without torch: name, classes, input, layers, support."""
        return versions.inspect(self.store, version_id)

    def verify(self, version_id: str) -> str:
        """Recompute the digest from the bytes on disk; raises WorkspaceError when it differs."""
        return versions.verify(self.store, version_id)

    def plan(self, version_id: str) -> dict[str, Any] | None:
        """The plan that made a version; None for a root."""
        return versions.document(self.store, version_id, "plan")

    def receipt(self, version_id: str) -> dict[str, Any] | None:
        """The receipt of a version; None for a root."""
        return versions.document(self.store, version_id, "receipt")

    def author(self, version_id: str) -> str:
        """Who committed a version; "" where it is not known."""
        return versions.author(self.store, version_id)

    def table(self, version_id: str, name: str) -> DataFrame:
        """A table that the operation left with a version. Raises NotFoundError."""
        return versions.table(self.store, version_id, name)

    def parts(self, version_id: str) -> list[dict[str, Any]]:
        """The parts that lie in a version, as its surgery left them: name, of (neurons of the version), neurons,
        classes; each for `network.part.Part.from_json`.
        """
        return versions.parts(self.store, version_id)

    def kept(self, version_id: str) -> list[int] | None:
        """For each neuron its id in the parent, −1 = new; None when not known."""
        return versions.kept(self.store, version_id)

    def rename_version(self, version_id: str, name: str) -> Version:
        """Give another name."""
        return versions.rename(self.store, version_id, name)

    def trash_version(self, version_id: str) -> Version:
        """Put into the trash. Raises WorkspaceError for the current version."""
        return versions.move(self.store, version_id, "trash")

    def discard(self, version_id: str) -> Version:
        """Put a candidate into the trash. Raises WorkspaceError for any other version."""
        return versions.discard(self.store, version_id)

    def restore_version(self, version_id: str) -> Version:
        """Take out of the trash."""
        return versions.move(self.store, version_id, "ready")

    # What is current

    def make_current(self, project_id: str, version_id: str, *, revision: int | None = None) -> Project:
        """Make a version current.

        Raises:
            ConflictError: the project is no longer at `revision`; names what happened since.
        """
        return history.make_current(self.store, project_id, version_id, revision)

    def undo(self, project_id: str, *, revision: int | None = None) -> Project:
        """Go back to what was current before. Raises WorkspaceError at the beginning, ConflictError like above."""
        return history.step(self.store, project_id, -1, revision)

    def redo(self, project_id: str, *, revision: int | None = None) -> Project:
        """Take back an undo. Raises WorkspaceError when there is none, ConflictError like above."""
        return history.step(self.store, project_id, +1, revision)

    def undo_target(self, project_id: str) -> str | None:
        """The version that undo would make current, None when there is nothing to undo."""
        return history.target(self.store, project_id, -1)

    def redo_target(self, project_id: str) -> str | None:
        """The version that redo would make current, None when there is nothing to redo."""
        return history.target(self.store, project_id, +1)

    # Selections

    def save_selection(self, project_id: str, version_id: str, name: str, ids: Sequence[int]) -> Selection:
        """Save neuron ids of a version under a name; the same name on that version is replaced.

        Raises:
            SelectionError: no ids, or one that the version does not have.
        """
        return selections.save(self.store, project_id, version_id, name, ids)

    def selections(self, project_id: str, version_id: str | None = None) -> list[Selection]:
        """The selections of a project, or of one version, oldest first."""
        return selections.listing(self.store, project_id, version_id)

    def selection(self, selection_id: str) -> Selection:
        """One selection. Raises NotFoundError."""
        return selections.get(self.store, selection_id)

    def delete_selection(self, selection_id: str) -> None:
        """Delete a selection."""
        selections.remove(self.store, selection_id)

    def map_selection(self, selection_id: str, version_id: str) -> tuple[list[int], list[int]]:
        """The selection in another version's numbering, and the ids (its own) that are lost there.

        Raises:
            SelectionError: the versions share no ancestor.
        """
        return selections.carry(self.store, selection_id, version_id)

    # Must-keep cases

    def save_must_keep(self, dataset_id: str, cases: Mapping[int, str], *, job: str | None = None) -> MustKeep:
        """Save a new state of the cases of a dataset that no surgery may break: sample -> why it is in.

        Raises:
            SelectionError: an unknown reason. DataError: no case, or one in test.
        """
        return must_keep.save(self.store, dataset_id, cases, job)

    def must_keep(self, dataset_id: str) -> list[MustKeep]:
        """All states of a dataset's must-keep cases, the newest first."""
        return must_keep.listing(self.store, dataset_id)

    # Fleets

    def add_fleet(self, project_id: str, name: str, write: Callable[[Path], str], **about: Any) -> Fleet:
        """Commit models that share their beginnings; arguments and errors are those of `fleets.add`."""
        return fleets.add(self.store, project_id, name, write, **about)

    def fleets(self, project_id: str, trashed: bool = False) -> list[Fleet]:
        """The fleets of a project, newest first."""
        return fleets.listing(self.store, project_id, trashed)

    def fleet(self, fleet_id: str) -> Fleet:
        """One fleet. Raises NotFoundError."""
        return fleets.get(self.store, fleet_id)

    def fleet_network(self, fleet_id: str) -> Network:
        """Load a fleet, guests that were taken back as they were. Imports torch; raises WorkspaceError."""
        return fleets.network(self.store, fleet_id)

    def fleet_document(self, fleet_id: str, name: str) -> dict[str, Any]:
        """The "plan" or "receipt" of a fleet."""
        return fleets.document(self.store, fleet_id, name)

    def fleet_table(self, fleet_id: str) -> DataFrame:
        """Every share that was tried for a fleet."""
        return fleets.table(self.store, fleet_id)

    def take_back(self, fleet_id: str, guest: str, *, why: str = "asked for") -> Fleet:
        """Let a guest run as the version that it was, bit for bit. Raises WorkspaceError: no such guest."""
        return fleets.set_back(self.store, fleet_id, guest, True, why)

    def share_again(self, fleet_id: str, guest: str) -> Fleet:
        """Undo `take_back`."""
        return fleets.set_back(self.store, fleet_id, guest, False, "asked for")

    def rename_fleet(self, fleet_id: str, name: str) -> Fleet:
        """Give another name."""
        return fleets.rename(self.store, fleet_id, name)

    def trash_fleet(self, fleet_id: str) -> Fleet:
        """Put into the trash; its members stay."""
        return fleets.move(self.store, fleet_id, "trash")

    def restore_fleet(self, fleet_id: str) -> Fleet:
        """Take out of the trash."""
        return fleets.move(self.store, fleet_id, "ready")

    # Scans, trash, events

    def scan_folder(self, version_id: str, dataset_id: str, params: Mapping[str, Any]) -> Path:
        """Where the scan of this model on this data with these parameters lies, or would lie."""
        return scans.folder(self.store, version_id, dataset_id, params)

    def has_scan(self, version_id: str, dataset_id: str, params: Mapping[str, Any]) -> bool:
        """Whether that scan was made, and is as it was written."""
        return self.scan_is_whole(self.scan_folder(version_id, dataset_id, params))

    def scan_is_whole(self, folder: Path) -> bool:
        """Whether a scan is there as it was written; one whose files have changed is set aside, to be made again."""
        return scans.whole(self.store, folder)

    def add_scan(
        self, version_id: str, dataset_id: str, params: Mapping[str, Any], make: Callable[[Path], object]
    ) -> Path:
        """Let `make` fill a fresh folder with the scan and put it in place. Raises DiskFullError."""
        return scans.add(self.store, version_id, dataset_id, params, make)

    def empty_trash(self, project_id: str | None = None) -> int:
        """Delete for good what lies in the trash; the bytes freed."""
        return trash.empty(self.store, project_id)

    def unknown_folders(self) -> list[str]:
        """Folders of work that the catalogue does not know ("versions/ID", …): `surgery doctor` takes them up."""
        return identity.unknown(self.store)

    def disk_use(self, project_id: str) -> int:
        """Bytes of a project's versions and datasets, those in the trash included."""
        versions = [*self.versions(project_id), *self.versions(project_id, trashed=True)]
        folders = [version.folder for version in versions] + [data.folder for data in self.datasets(project_id)]
        return sum(files.size(folder) for folder in folders)

    def events(self, project_id: str | None = None, limit: int = 100) -> list[Event]:
        """Who did what, newest first."""
        return audit.listing(self.store, project_id, limit)

    def record(
        self, what: str, *, project: str | None = None, subject: str | None = None, digest: str | None = None
    ) -> None:
        """Append to the events."""
        with self.store.write() as db:
            self.store.record(db, what, project=project, subject=subject, digest=digest)
