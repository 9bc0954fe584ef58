"""The data sets of the samples: made by code into a dataset folder, so that none has to be shipped.

Some samples have further ones: their data as it might come later, and classes that their model has yet to learn.

Three come out of scikit-learn's own installation, one is drawn. Roles are dealt by the product's own hash of the
content, so training, the app and every test see the same split.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from sample_models import reports, signs, surface
from surgery.context import Context
from surgery.data import drift
from surgery.data.dataset import Dataset
from surgery.data.load import from_arrays
from surgery.data.texts import from_text

PER_DEFECT, PER_SIGN = 300, 120
CHARACTERS, CONTEXT = 240_000, 48


def digits(folder: Path, ctx: Context) -> Dataset:
    """1,797 scanned digits of 8×8 pixels; gray levels 0 … 16 stretched to 0 … 255."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x = np.rint(found.images * (255 / 16)).astype(np.uint8)
    return from_arrays(
        folder, x, found.target, classes=[str(digit) for digit in range(10)], name="Digits", task="classification"
    )


def surface_inspection(folder: Path, ctx: Context) -> Dataset:
    """1,800 drawn plates of 48×48 pixels, 300 of each defect."""
    return _plates(folder, ctx, surface.CLASSES, "Surface defects", seed=0)


def _plates(folder: Path, ctx: Context, classes: tuple[str, ...], name: str, seed: int) -> Dataset:
    labels = np.tile(np.arange(len(classes)), PER_DEFECT)
    drawn = ctx.track(surface.pictures(labels, seed, classes), "drawing plates", total=len(labels))
    return from_arrays(
        folder,
        np.stack(list(drawn)),
        labels,
        classes=classes,
        name=name,
        task="classification",
        sources=[f"{classes[label]} {number // len(classes) + 1}" for number, label in enumerate(labels)],
    )


def breast_cancer(folder: Path, ctx: Context) -> Dataset:
    """569 tumours, 30 properties of their cell nuclei, malignant or benign."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    return from_arrays(
        folder,
        found.data,
        found.target,
        classes=[str(label) for label in found.target_names],
        name="Tumour cells",
        task="classification",
        features=[str(feature) for feature in found.feature_names],
    )


def diabetes(folder: Path, ctx: Context) -> Dataset:
    """442 patients, 10 measurements in raw units, and the progression of diabetes one year later."""
    from sklearn.datasets import load_diabetes

    found = load_diabetes(scaled=False)
    features = [_DIABETES.get(str(feature), str(feature)) for feature in found.feature_names]
    return from_arrays(
        folder,
        found.data,
        found.target,
        classes=["progression after one year"],
        name="Diabetes progression",
        task="regression",
        features=features,
    )


def shift_reports(folder: Path, ctx: Context) -> Dataset:
    """240,000 written characters in windows of 48."""
    return from_text(reports.text(CHARACTERS), folder, name="Shift reports", context=CONTEXT, ctx=ctx)


_DIABETES = {  # scikit-learn's short names, in its own description's words
    "bmi": "body mass index",
    "bp": "blood pressure",
    "s1": "total cholesterol",
    "s2": "low-density lipoproteins",
    "s3": "high-density lipoproteins",
    "s4": "cholesterol / HDL",
    "s5": "log of triglycerides",
    "s6": "blood sugar",
}


def more_defects(_: Dataset, folder: Path, ctx: Context) -> Dataset:
    """600 drawn plates with defects that the sample's model does not know."""
    return _plates(folder, ctx, surface.MORE_CLASSES, NEW_DEFECTS, seed=1)


def more_signs(_: Dataset, folder: Path, ctx: Context) -> Dataset:
    """480 drawn signs of arithmetic, which the sample's model does not know."""
    labels = np.tile(np.arange(len(signs.CLASSES)), PER_SIGN)
    drawn = ctx.track(signs.pictures(labels, seed=0), "drawing signs", total=len(labels))
    return from_arrays(
        folder, np.stack(list(drawn)), labels, classes=signs.CLASSES, name=NEW_SIGNS, task="classification"
    )


Further = Callable[[Dataset, Path, Context], Dataset]  # from a sample's data


def _later(title: str, kind: str, strength: float) -> Further:
    """The sample's data after a change (see `surgery.data.drift`)."""
    return lambda data, folder, ctx: drift.make(
        data, folder, lambda ids: drift.drifted(data, ids, kind, strength), ctx, name=title
    )


PALE, BRIGHT = "Digits from a paler scanner", "Plates under a brighter lamp"
BLURRED = "Plates out of focus"
NEW_SIGNS, NEW_DEFECTS = "Signs beside the digits", "Defects of a new kind"

FURTHER: dict[str, dict[str, Further]] = {
    "digits": {NEW_SIGNS: more_signs, PALE: _later(PALE, "contrast", 0.5)},
    "surface_inspection": {NEW_DEFECTS: more_defects, BRIGHT: _later(BRIGHT, "brightness", 0.6)},
    "inspection_line": {BLURRED: _later(BLURRED, "blur", 0.6)},
}

MAKERS: dict[str, Callable[[Path, Context], Dataset]] = {
    "digits": digits,
    "surface_inspection": surface_inspection,
    "two_inspectors": surface_inspection,
    "inspection_line": surface_inspection,
    "breast_cancer": breast_cancer,
    "diabetes": diabetes,
    "shift_reports": shift_reports,
}
