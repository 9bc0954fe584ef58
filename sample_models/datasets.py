"""The data sets of the samples: made by code into a dataset folder, so that none has to be shipped.

Three come out of scikit-learn's own installation, one is drawn. Roles are dealt by the product's own hash of the
content, so training, the app and every test see the same split.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from sample_models.surface import CLASSES, pictures
from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.data.load import from_arrays

PER_DEFECT = 300


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
    labels = np.tile(np.arange(len(CLASSES)), PER_DEFECT)
    drawn = ctx.track(pictures(labels, seed=0), "drawing plates", total=len(labels))
    return from_arrays(
        folder,
        np.stack(list(drawn)),
        labels,
        classes=CLASSES,
        name="Surface defects",
        task="classification",
        sources=[f"{CLASSES[label]} {number // len(CLASSES) + 1}" for number, label in enumerate(labels)],
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

LATER = {  # what the data looks like after a change, its kind and strength (see `surgery.data.drift`)
    "digits": ("Digits from a paler scanner", "contrast", 0.5),
    "surface_inspection": ("Plates under a brighter lamp", "brightness", 0.6),
}

MAKERS: dict[str, Callable[[Path, Context], Dataset]] = {
    "digits": digits,
    "surface_inspection": surface_inspection,
    "breast_cancer": breast_cancer,
    "diabetes": diabetes,
}
