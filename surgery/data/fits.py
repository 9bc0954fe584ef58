"""Whether a model can take the samples of a dataset, told by what both say of themselves. Importing this is cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.errors import DataError

if TYPE_CHECKING:
    from surgery.data.dataset import Dataset, Spec


def check(data: Dataset, spec: Spec, size: int = 1) -> None:
    """Say why a model cannot take these samples, before the first batch.

    Raises:
        DataError: another kind, shape, alphabet or number of features.
    """
    if size < 1:
        raise DataError(f"A batch of {size} samples is impossible.", "Choose a batch size of at least 1.")
    if {"images": "image"}.get(data.kind, data.kind) != spec.kind:
        raise DataError(f"The model takes {spec.kind} input, {data.name!r} holds {data.kind}.", "Choose matching data.")
    if spec.kind == "text":
        _check_text(data, spec)
        return
    if spec.kind == "image" and (len(spec.shape) != 3 or spec.shape[0] not in (1, 3)):
        raise DataError(
            f"The model takes images of shape {spec.shape}.",
            "Only (channels, height, width) with 1 or 3 channels works.",
        )
    if spec.kind == "table" and spec.shape != data.shape:
        raise DataError(
            f"The model takes {spec.shape} features, {data.name!r} has {data.shape}: {', '.join(data.features[:8])} ….",
            "Import the table with exactly the columns the model was trained on.",
        )
    for label, values in (("mean", spec.mean), ("std", spec.std)):
        if len(values) != spec.shape[0]:
            raise DataError(f"The input has {spec.shape[0]} channels or features but {len(values)} values of {label}.")
    if not all(value > 0 for value in spec.std):
        raise DataError(f"A std of {min(spec.std)} cannot be divided by.", "Give 1 for a constant feature.")


def _check_text(data: Dataset, spec: Spec) -> None:
    known = set(spec.alphabet)
    strange = [name for name in data.classes if name not in known]
    if strange:
        more = f" and {len(strange) - 8} more" if len(strange) > 8 else ""
        raise DataError(
            f"The model knows {len(spec.alphabet)} characters, but not these of {data.name!r}: "
            f"{' '.join(strange[:8])}{more}.",
            "Replace them in the text and import it again, or choose a model of its alphabet.",
        )
    if data.shape[0] < spec.shape[0]:
        raise DataError(
            f"The model reads {spec.shape[0]} characters, the windows of {data.name!r} have {data.shape[0]}.",
            f"Import the text again in windows of {spec.shape[0]} characters.",
        )
