"""What a dataset is: an immutable folder with samples, targets and a role for every sample.

`dataset.json`, `x.npy` (uint8 [n, h, w, c], float32 [n, f], or uint16 [n, t] characters), `y.npy` (int64 class or
float32 target; absent when unlabelled) and `rows.parquet` (row, role, source, content). Samples are read by number when
they are needed; only targets and roles are kept in memory. Roles are disjoint. Ids are row numbers. Importing this
module is cheap.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from surgery.data.pixels import to_png
from surgery.data.reading import Reading
from surgery.data.rows import Ids, RowFile
from surgery.data.splits import ROLES, quintiles, spread
from surgery.errors import DataError, Problem

if TYPE_CHECKING:
    from surgery.data.batches import Batches

Kind = Literal["images", "table", "text"]
Task = Literal["classification", "regression", "unlabelled"]
FORMATS = (1, 2)  # 2: with a reading, which an older program would not keep to
QUINTILES = ("Q1 lowest", "Q2", "Q3", "Q4", "Q5 highest")


class Spec(Protocol):
    """What a model takes; `surgery.network.model.InputSpec` is one."""

    @property
    def kind(self) -> str:
        """One of "image", "table" and "text"."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, height, width), (features,) or (context,)."""

    @property
    def mean(self) -> tuple[float, ...]:
        """What is subtracted, per channel on the 0–1 scale or per feature."""

    @property
    def std(self) -> tuple[float, ...]:
        """What is then divided by."""

    @property
    def alphabet(self) -> tuple[str, ...]:
        """Of a text, what its numbers stand for."""


@dataclass(frozen=True, kw_only=True)
class Heading:
    """What is said about a dataset. classes: the label of each class, or the name of the one target of a regression.

    A text is a classification: a sample is a window of characters, its class the character that follows.
    """

    name: str
    kind: Kind
    task: Task
    classes: tuple[str, ...]
    features: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what import changed or left out, in plain sentences
    problems: tuple[Problem, ...] = ()  # every bad file or row
    reading: Reading | None = None  # of a table: how its columns became numbers, where they were none


@dataclass(frozen=True, kw_only=True)
class Dataset(Heading):
    """A dataset on disk.

    shape: of one sample as models see it: (channels, height, width), (features,) or (context,).
    """

    folder: Path
    shape: tuple[int, ...]
    digest: str  # "sha256:…" of contents, targets, roles, classes and shape
    hidden: tuple[str, ...] = ()  # roles that this view refuses to open
    new: Dataset | None = None  # data that came later, beside it: what an operation is to learn from
    among: tuple[int, ...] | None = None  # of this view alone: its classes' numbers in the files
    must: tuple[int, ...] = ()  # of this view alone: samples taken out of train and val into preserve

    @classmethod
    def open(cls, folder: Path) -> Dataset:
        """The dataset in `folder`.

        Raises:
            DataError: there is none, or a newer version of the program wrote it.
        """
        try:
            facts = json.loads((folder / "dataset.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{folder.name!r} holds no readable dataset: {error}.", "Import the dataset again."
            ) from error
        if facts.pop("format", None) not in FORMATS:
            raise DataError(f"The dataset in {folder.name!r} has an unknown format.", "Open it with a newer version.")
        facts["problems"] = tuple(Problem(**problem) for problem in facts["problems"])
        if facts.get("reading"):
            facts["reading"] = Reading.of(facts["reading"])
        lists = {key: tuple(value) for key, value in facts.items() if isinstance(value, list)}
        return cls(folder=folder, **(facts | lists))

    def __len__(self) -> int:
        return len(self._roles)

    def counts(self) -> dict[str, int]:
        """How many samples each role has; roles without any are left out."""
        found = {role: int((self._roles == number).sum()) for number, role in enumerate(ROLES)}
        return {role: count for role, count in found.items() if count and role not in self.hidden}

    def ids(self, role: str) -> Ids:
        """int64[k]: the samples of `role`, rising.

        Raises:
            DataError: the role is unknown, or hidden from this view.
        """
        if role not in ROLES:
            raise DataError(f"There is no role {role!r}.", f"Roles are {', '.join(ROLES)}.")
        if role in self.hidden:
            raise DataError(
                f"The {role} samples of {self.name!r} are closed here.",
                "An operation must not choose on what measures it: use val or preserve.",
            )
        return np.flatnonzero(self._roles == ROLES.index(role))

    def labels(self, ids: ArrayLike) -> NDArray[Any]:
        """int64[k] classes, or float32[k] targets of a regression.

        Raises:
            DataError: the dataset is unlabelled, or an id is out of range or closed.
        """
        if self._targets is None:
            raise DataError(f"The dataset {self.name!r} has no labels.", "Choose something that needs no labels.")
        targets = self._targets[self._checked(ids)]
        return targets if self.among is None else np.searchsorted(self.among, targets)

    def raw(self, ids: ArrayLike) -> NDArray[Any]:
        """The stored samples: uint8[k, h, w, c], float32[k, f] or uint16[k, t] places in `classes`.

        Raises:
            DataError: an id is out of range or closed.
        """
        return self._samples.read(self._checked(ids))

    def picture(self, sample: int) -> bytes:
        """One sample as PNG.

        Raises:
            DataError: the dataset holds no images.
        """
        if self.kind != "images":
            raise DataError(f"{self.name!r} holds {self.kind}: sample {sample} has no picture.", "Show it otherwise.")
        return to_png(self.raw([sample])[0])

    def row(self, sample: int) -> dict[str, float]:
        """One sample of a table: feature name -> value.

        Raises:
            DataError: the dataset holds images.
        """
        if self.kind != "table":
            raise DataError(f"{self.name!r} holds {self.kind}: sample {sample} has no row.", "Show it otherwise.")
        return dict(zip(self.features, self.raw([sample])[0].tolist(), strict=True))

    def text(self, sample: int) -> tuple[str, str]:
        """The characters of one window, and the one that follows.

        Raises:
            DataError: the dataset holds no text.
        """
        from surgery.data.texts import spelled

        if self.kind != "text":
            raise DataError(f"{self.name!r} holds {self.kind}: sample {sample} has no text.", "Show it otherwise.")
        return spelled(self.classes, self.raw([sample])[0]), spelled(self.classes, self.labels([sample]))

    def source(self, sample: int) -> str:
        """Where a sample came from: a file name, "line 18" of a CSV, "row 17" of an array."""
        return self.sources([sample])[0]

    def sources(self, ids: ArrayLike) -> list[str]:
        """Where samples came from, in the order of `ids`."""
        wanted = self._checked(ids)
        found: dict[int, str] = {}
        file, start = pq.ParquetFile(self.folder / "rows.parquet"), 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if len(own := wanted[(wanted >= start) & (wanted < start + count)]):
                column = file.read_row_group(group, columns=["source"]).column("source")
                found |= {number: str(column[number - start].as_py()) for number in own.tolist()}
            start += count
        if missing := [number for number in wanted.tolist() if number not in found]:
            raise DataError(
                f"rows.parquet of {self.name!r} ends before sample {missing[0]}.", "Import the dataset again."
            )
        return [found[number] for number in wanted.tolist()]

    def batches(
        self, ids: ArrayLike, spec: Spec, *, size: int = 256, device: str = "cpu", seed: int | None = None
    ) -> Batches:
        """The samples `ids` as a model takes them, `size` at a time, in order or shuffled by `seed`.

        Yields (x: float32[b, *spec.shape] normalised, or int64[b, context] of a text, y: int64[b] | float32[b] | None,
        ids: int64[b] on the CPU). Images are resized (bilinear) and turned from gray to RGB or back where `spec.shape`
        differs.

        Raises:
            DataError: `spec` cannot take these samples, or an id is out of range or closed.
        """
        from surgery.data.batches import Batches

        return Batches(self, self._checked(ids), spec, size, device, seed)

    def preview(self, limit: int = 12, seed: int = 0) -> Ids:
        """int64[≤ limit]: samples in turn from every class, to show; never from test while there are others."""
        shown = self._all(lambda role: role != "test")
        shown = shown if len(shown) else self._all(lambda role: True)
        return shown[spread(self.strata(shown), limit, seed, even=True)]

    def probe_ids(self, limit: int = 1000, seed: int = 0) -> Ids:
        """int64[≤ limit]: the probe set, stratified from val (without one from train, then new, then unlabelled)."""
        for role in ("val", "train", "new", "unlabelled"):
            ids = self.ids(role)
            if len(ids):
                return ids[spread(self.strata(ids), limit, seed)]
        return self.ids("val")

    def strata(self, ids: ArrayLike) -> Ids:
        """int64[k]: the place of each sample in `groups`; 0 when unlabelled."""
        if self.kind == "text":
            return self.group_of(self.labels(ids))
        if self.task == "classification":
            return self.labels(ids)
        if self.task == "regression" and np.size(ids):
            return quintiles(self.labels(ids))
        return np.zeros(len(self._checked(ids)), dtype=np.int64)

    def group_of(self, classes: Ids) -> Ids:
        """int64[k]: the place in `groups` of numbered classes: themselves, or of characters their kinds."""
        if self.kind != "text":
            return classes
        from surgery.data.texts import group

        place = {name: number for number, name in enumerate(self.groups)}
        kinds: Ids = np.array([place[group(name)] for name in self.classes], dtype=np.int64)
        return kinds[classes]

    @property
    def groups(self) -> tuple[str, ...]:
        """What samples are told apart by: classes, fifths of the target's range, or kinds of characters."""
        if self.kind == "text":
            from surgery.data.texts import GROUPS, group

            found = set(map(group, self.classes))
            return tuple(name for name in GROUPS if name in found)
        return QUINTILES if self.task == "regression" else self.classes

    def statistics(self, role: str = "train") -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, std) of `role`, per channel on the 0–1 scale or per feature; the std of a constant is given as 1.

        A text has none.

        Raises:
            DataError: no sample has this role.
        """
        if self.kind == "text":
            return (), ()
        ids = self.ids(role)
        if not len(ids):
            raise DataError(f"{self.name!r} has no {role} samples to take statistics of.", "Name another role.")
        channels = self._samples.shape[-1]
        origin, total, square = np.zeros(1), np.zeros(1), np.zeros(1)  # origin: keeps large offsets from eating digits
        for start in range(0, len(ids), 256):
            block = self._samples.read(ids[start : start + 256])
            values = block.reshape(len(block), -1).astype(np.float64)
            if not start:
                origin = np.tile(values.reshape(-1, channels).mean(0), values.shape[1] // channels)
            values -= origin
            total = total + values.sum(0)
            square = square + np.einsum("nv,nv->v", values, values)
        scale = 255 if self.kind == "images" else 1
        mean = total.reshape(-1, channels).mean(0) / len(ids)
        std = np.sqrt(np.maximum(square.reshape(-1, channels).mean(0) / len(ids) - mean**2, 0)) / scale
        mean = (mean + origin[:channels]) / scale
        return tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist())

    def without_test(self) -> Dataset:
        """The same dataset with test closed, also of the new data beside it: what operations receive."""
        return replace(self, hidden=("test",), new=self.new.without_test() if self.new else None)

    def fitting(self, classes: Sequence[str]) -> Dataset:
        """For a model of `classes`: only samples of these, where it knows by name some of the dataset's but not all."""
        shared = [number for number, name in enumerate(self.classes) if name in classes]
        strict = 0 < len(shared) == len(classes) < len(self.classes)
        if self.task != "classification" or self.kind == "text" or not strict:
            return self
        among = tuple(number if self.among is None else self.among[number] for number in shared)
        return replace(self, classes=tuple(self.classes[number] for number in shared), among=among)

    def preserving(self, ids: Sequence[int]) -> Dataset:
        """The same dataset with cases that must be kept: they leave train and val and have the role preserve.

        Raises:
            DataError: there are none, there are no labels to keep them by, or one is of another role (test above all).
        """
        must = tuple(sorted({int(id) for id in ids}))
        if not must:
            raise DataError("The set of must-keep cases is empty.", "Choose at least one case, or leave the set out.")
        if self.task == "unlabelled":
            raise DataError(f"{self.name!r} has no labels to keep cases by.", "Import it with its labels.")
        whole = replace(self, must=(), hidden=())
        roles = whole._roles[whole._checked(must)]
        for id, role in zip(must, roles, strict=True):
            if role < 0:
                continue  # of a class that this view does not have
            if ROLES[role] not in ("train", "val", "preserve"):
                raise DataError(
                    f"Sample {id} of {self.name!r} is in {ROLES[role]} and cannot be a must-keep case.",
                    "A result must not be chosen on what measures it: take cases from val or train.",
                )
        return replace(self, must=must)

    def with_new(self, other: Dataset) -> Dataset:
        """The same dataset with new data beside it.

        Raises:
            DataError: it is of another kind or task, without labels, or has other features.
        """
        if (other.kind, other.task) != (self.kind, self.task) or self.task == "unlabelled":
            raise DataError(
                f"{other.name!r} holds {other.kind} for {other.task}, {self.name!r} holds {self.kind} for {self.task}.",
                "New data has to be labelled and of the same kind.",
            )
        if self.kind == "table" and other.features != self.features:
            odd = next(iter(set(other.features) ^ set(self.features)), "")
            how = f"for instance {odd!r}" if odd else "in another order"
            raise DataError(
                f"{other.name!r} has other features than {self.name!r}, {how}: a model tells them by their place.",
                f"Import it read like {self.name!r}: surgery import-data PATH --like DATASET.",
            )
        return replace(self, new=other)

    @cached_property
    def _samples(self) -> RowFile:
        return RowFile.open(self.folder / "x.npy")

    @cached_property
    def _targets(self) -> NDArray[Any] | None:
        return None if self.task == "unlabelled" else np.load(self.folder / "y.npy", allow_pickle=False)

    @cached_property
    def _roles(self) -> NDArray[np.int8]:
        """int8[n]: position in ROLES."""
        column = pq.read_table(self.folder / "rows.parquet", columns=["role"]).column("role").to_pylist()
        number = {role: position for position, role in enumerate(ROLES)}
        roles = np.array([number[role] for role in column], dtype=np.int8)
        if self.among is not None and self._targets is not None:
            roles[~np.isin(self._targets, self.among)] = -1  # samples of other classes have no role here
        if self.must:
            own = np.array(self.must)
            roles[own[roles[own] >= 0]] = number["preserve"]
        return roles

    def _all(self, wanted: Any) -> Ids:
        numbers = [number for number, role in enumerate(ROLES) if role not in self.hidden and wanted(role)]
        return np.flatnonzero(np.isin(self._roles, numbers))

    def _checked(self, ids: ArrayLike) -> Ids:
        wanted = np.asarray(ids, dtype=np.int64).reshape(-1)
        outside = wanted[(wanted < 0) | (wanted >= len(self))]
        if len(outside):
            raise DataError(f"{self.name!r} has no sample {outside[0]}.", f"Sample ids run from 0 to {len(self) - 1}.")
        if self.hidden:
            closed = np.isin(self._roles[wanted], [ROLES.index(role) for role in self.hidden])
            if closed.any():
                raise DataError(
                    f"Sample {wanted[closed][0]} of {self.name!r} is closed here: it is in {' or '.join(self.hidden)}.",
                    "An operation must not choose on what measures it: use val or preserve.",
                )
        return wanted


def check_roles(roles: Sequence[str]) -> None:
    """Refuse a role that does not exist.

    Raises:
        DataError: naming it.
    """
    unknown = sorted(set(roles) - set(ROLES))
    if unknown:
        raise DataError(f"There is no role {unknown[0]!r}.", f"Roles are {', '.join(ROLES)}.")
