"""Streams samples into a dataset folder: contents go to disk as they come. What stays in memory is a hash, a target, a
role and a source name per sample: about 250 bytes, whatever its size.

Roles that did not come with the data are dealt at the end, when all contents are known. Splits that did come are
added in the order test, val, train; a sample that an earlier one already has is refused, so that test stays honest.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from surgery.data.dataset import Dataset, Heading, check_roles
from surgery.data.findings import Findings
from surgery.data.labels import check_classes
from surgery.data.names import visible
from surgery.data.splits import SHARES, quintiles, split
from surgery.errors import DataError, DiskFullError

DTYPES = {"classification": np.int64, "regression": np.float32, "unlabelled": np.int64}
NAMED = {"train": "training", "val": "validation", "test": "test"}
GROUP = 10_000  # rows per group of rows.parquet: what finding one source name has to read


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    """Turn "no space left" into a DiskFullError that names the disk and how much is free."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise DiskFullError(
                f"The system allows no larger files in {folder}.", "Raise the limit (ulimit -f), then import again."
            ) from error
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(
            "The disk is full.", f"Free some space on the disk of {folder}, then import again."
        ) from error


class Writer:
    """One import into `folder`: `add` blocks of samples, then `finish`.

    row_shape: (height, width, channels) of uint8 images, (features,) of a float32 table, or with dtype uint16
    (context,) characters of a text.
    """

    def __init__(self, folder: Path, row_shape: tuple[int, ...], dtype: type[np.generic] | None = None) -> None:
        self.folder = folder
        self.row_shape = row_shape
        self.dtype = np.dtype(dtype or (np.uint8 if len(row_shape) == 3 else np.float32))
        self.count = 0
        self._given: dict[bytes, str] = {}  # content -> split, for splits that came with the data
        self._shared: Counter[tuple[str, str]] = Counter()  # (split, earlier split) -> samples left out of the first
        self._content: list[bytes] = []
        self._targets: list[NDArray[np.float64]] = []
        self._sources: list[pa.Array] = []
        self._roles: list[NDArray[np.str_]] = []
        with disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = (folder / "x.npy").open("wb")
            self._header()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            with disk(self.folder):
                self._file.close()
        except DiskFullError:
            if error is None:
                raise

    def reserve(self, count: int) -> None:
        """Refuse an import of `count` samples that cannot fit.

        Raises:
            DiskFullError: with both sizes.
        """
        size = count * int(np.prod(self.row_shape)) * self.dtype.itemsize
        free = shutil.disk_usage(self.folder).free
        if size > free:
            raise DiskFullError(
                f"The samples need {size / 1e9:,.2f} GB, the disk has {free / 1e9:,.2f} GB free.",
                "Free some space, or import fewer or smaller samples.",
            )

    def add(
        self,
        samples: NDArray[Any],
        targets: NDArray[Any] | None,
        sources: Sequence[str],
        *,
        role: str | Sequence[str] = "",
        findings: Findings | None = None,
    ) -> None:
        """Append samples [k, *row_shape] with provisional class numbers or targets [k].

        role: the one they came in, or one each; "" = to be dealt. With `findings`, samples that another given split
        already has are skipped.
        """
        samples = np.ascontiguousarray(samples, dtype=self.dtype)
        content = [hashlib.blake2b(sample.data, digest_size=16).digest() for sample in samples]
        if findings is not None and isinstance(role, str):
            fresh = [i for i, key in enumerate(content) if self._is_fresh(key, role, sources[i], findings)]
            if len(fresh) < len(samples):
                samples, sources = samples[fresh], [sources[i] for i in fresh]
                content = [content[i] for i in fresh]
                targets = None if targets is None else targets[fresh]
        with disk(self.folder):
            self._file.write(samples.data)
        self.count += len(samples)
        self._content.append(b"".join(content))
        self._targets.append(np.zeros(len(samples)) if targets is None else np.asarray(targets, np.float64))
        self._sources.append(pa.array(map(visible, sources), pa.string()))
        self._roles.append(np.broadcast_to(np.asarray(role, dtype="U10"), len(samples)))

    def targets(self) -> NDArray[np.float64]:
        """float64[n]: what `add` was given, 0 where there was none."""
        return np.concatenate([np.zeros(0), *self._targets])

    def finish(
        self, heading: Heading, findings: Findings, *, targets: NDArray[Any] | None = None, seed: int = 0
    ) -> Dataset:
        """Deal the roles, write what is left and open the dataset.

        targets: final class numbers or targets [n], where those given to `add` were provisional.

        Raises:
            DataError: nothing usable, one class only, or too few different samples to choose on.
            DiskFullError: the disk is full.
        """
        if not self.count:
            raise DataError(
                f"Nothing in {heading.name!r} can be used.", "See the listed problems.", problems=findings.problems()
            )
        targets = (self.targets() if targets is None else targets).astype(DTYPES[heading.task])
        if heading.task == "classification" and heading.kind != "text":  # a rare character is nobody's mistake
            check_classes(heading.classes, targets, findings)
        self._require_splits(findings)
        roles = self._deal(heading, targets, seed)
        self._conclude(heading, targets, roles, findings)
        notes = tuple(map(visible, findings.notes))
        heading = replace(heading, name=visible(heading.name), notes=notes, problems=findings.problems())
        with disk(self.folder):
            self._file.seek(0)
            self._header()
            self._file.close()
            if heading.task != "unlabelled":
                np.save(self.folder / "y.npy", targets, allow_pickle=False)
            self._write_rows(roles)
            self._write_heading(heading, self._digest(heading, targets, roles))
        return Dataset.open(self.folder)

    def _is_fresh(self, content: bytes, role: str, source: str, findings: Findings) -> bool:
        earlier = self._given.get(content, role)
        if earlier != role:
            self._shared[role or "train", earlier] += 1
            findings.skip(
                source,
                f"The same sample is also in {earlier}; it was left out here, so that {earlier} stays honest.",
                f"Remove it here, or from {earlier}.",
            )
        elif role in SHARES:  # train comes last: nothing is compared with it
            self._given[content] = role
        return earlier == role

    def _deal(self, heading: Heading, targets: NDArray[Any], seed: int) -> NDArray[np.str_]:
        roles = np.concatenate(self._roles)
        if heading.task == "unlabelled":
            return np.where(roles == "", "unlabelled", roles)
        strata = quintiles(targets) if heading.task == "regression" else targets
        content = np.frombuffer(b"".join(self._content), dtype="S16")
        undealt = roles == ""
        if undealt.any():
            shares = {role: share for role, share in SHARES.items() if role not in roles}
            roles[undealt] = split(content[undealt], strata[undealt], shares, seed)
            if "val" not in roles:
                raise DataError(
                    f"{heading.name!r} has too few different samples to set some aside: {len(np.unique(content))}.",
                    "Add samples: each choice is made on samples that were not trained on.",
                )
        check_roles(np.unique(roles).tolist())
        return roles

    def _require_splits(self, findings: Findings) -> None:
        """Say how many samples of a split an earlier one has too.

        Raises:
            DataError: all of them: nothing of the split is left.
        """
        given = np.concatenate(self._roles)
        for (name, earlier), count in self._shared.items():
            left = int(np.isin(given, [name, ""] if name == "train" else [name]).sum())
            if not left:
                raise DataError(
                    f"Every {NAMED[name]} sample is also in {earlier}: nothing is left of {name}.",
                    f"Import it with --splits {earlier}=drop to have {name} split anew, or bring other samples.",
                    problems=findings.problems(),
                )
            findings.notes.append(
                f"{count:,} of {count + left:,} {NAMED[name]} samples are also in {earlier}; "
                f"they were left out of {name}."
            )

    def _conclude(self, heading: Heading, targets: NDArray[Any], roles: NDArray[np.str_], findings: Findings) -> None:
        """Say how many were left out, which classes nobody can learn, and where nothing can be trained on."""
        if heading.task != "unlabelled" and "train" not in roles:
            only = " and ".join(sorted(NAMED[role] for role in set(roles.tolist()) & set(NAMED)))
            findings.notes.append(
                f"There are only {only} samples: models can be measured on this dataset, not trained on it. To train "
                "on it, import it with its split dealt anew (--splits NAME=deal)."
            )
        if findings.skipped:
            total = findings.skipped + self.count
            findings.notes.append(f"{findings.skipped:,} of {total:,} files or rows were left out; each is listed.")
        if heading.task == "classification" and heading.kind != "text" and "train" in roles:
            learnt = set(targets[roles == "train"].tolist())
            for number in sorted(set(targets.tolist()) - learnt):
                findings.warn(
                    f"class {heading.classes[number]!r}",
                    "It has no training samples.",
                    "Add some, or remove the class.",
                )

    def _digest(self, heading: Heading, targets: NDArray[Any], roles: NDArray[np.str_]) -> str:
        facts = [heading.kind, heading.task, heading.classes, heading.features, self.row_shape]
        digest = hashlib.sha256(json.dumps(facts).encode())
        for part in (b"".join(self._content), targets.tobytes(), "\n".join(roles.tolist()).encode()):
            digest.update(part)
        return f"sha256:{digest.hexdigest()}"

    def _write_rows(self, roles: NDArray[np.str_]) -> None:
        content = pa.py_buffer(b"".join(self._content))
        table = pa.table(
            {
                "row": np.arange(self.count),
                "role": pa.array(roles.tolist()).dictionary_encode(),
                "source": pa.chunked_array(self._sources, pa.string()),
                "content": pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), self.count, [None, content]),
            }
        )
        pq.write_table(table, self.folder / "rows.parquet", row_group_size=GROUP)

    def _write_heading(self, heading: Heading, digest: str) -> None:
        shape = (self.row_shape[2], *self.row_shape[:2]) if len(self.row_shape) == 3 else self.row_shape
        facts = {"format": 2, **asdict(heading), "shape": shape, "digest": digest}
        if facts["reading"] is None:  # older programs can open it
            facts = {**facts, "format": 1}
            del facts["reading"]
        (self.folder / "dataset.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False), "utf-8")

    def _header(self) -> None:
        """The .npy header; NumPy pads it so that the final count fits in the same bytes."""
        facts = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.count, *self.row_shape)}
        np.lib.format.write_array_header_1_0(self._file, facts)
