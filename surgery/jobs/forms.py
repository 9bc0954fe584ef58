"""What a task of each kind holds: field by field, with the bounds in which its work makes sense.

A field that nobody knows, one that is missing, and a value out of bounds are refused when a task is submitted. What a
task names (versions, datasets, files) is looked up in `surgery.jobs.admission`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from surgery.data.reading import Header, How, Numbers, SplitUse
from surgery.data.texts import LONGEST
from surgery.errors import JobError
from surgery.fields import MOST, Seed, first_fault
from surgery.workspace.settings import TrainedOn

LARGEST = 64 * 2**20  # characters of a task as JSON
MONTH = 30 * 86_400.0  # seconds
SIDE = 4096  # pixels of a side, units of a layer

Key = Annotated[str, Field(min_length=1, max_length=200)]  # names a row of the catalogue
Name = Annotated[str, Field(max_length=200)]  # its length and characters are judged where it is kept
Count = Annotated[int, Field(ge=1, le=MOST, strict=True)]
Side = Annotated[int, Field(ge=1, le=SIDE, strict=True)]
Share = Annotated[float, Field(ge=0, le=1)]
Shape = Annotated[list[Annotated[int, Field(ge=1, le=10_000_000, strict=True)]], Field(min_length=1, max_length=3)]
Where = Annotated[str, Field(min_length=1, max_length=4096)]  # a path
Role = Literal["train", "val", "preserve", "unlabelled", "new", "test"]


class Form(BaseModel):
    """What every task may hold besides its own fields. device: by default any. architectures: SHA-256 of the file of
    constructors that its submitter was started with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: str
    device: Annotated[str, Field(max_length=100)] = ""
    architectures: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""


class OfPlan(Form):
    """A plan to run. name: of what it makes. current: whether the result becomes the current version."""

    plan: dict[str, Any]
    name: Name | None = None
    current: bool = True
    expected_current: str | None = None


class OfTake(Form):
    """A candidate of another job."""

    job: Key
    candidate: Annotated[int, Field(ge=0, le=MOST, strict=True)]
    name: Name | None = None
    current: bool = True
    expected_current: str | None = None


class OfVersion(Form):
    """Something about a version."""

    version: Key


class OfTakeOut(OfVersion):
    """A part of a version, by its place."""

    part: Annotated[int, Field(ge=0, le=MOST, strict=True)]
    name: Name | None = None


class OfExport(OfVersion):
    """A version in a form for use elsewhere: safetensors with a loader (zip), the weights alone (one safetensors file),
    ONNX, INT8 ONNX. dataset: whose samples int8 is calibrated on.
    """

    format: Literal["safetensors", "weights", "onnx", "int8"]
    dataset: Key | None = None


class OfSetInput(OfVersion):
    """Another input of the same weights."""

    shape: Shape
    mean: list[float]
    std: list[Annotated[float, Field(gt=0)]]
    name: Name


class OfPair(OfVersion):
    """A version on a dataset."""

    dataset: Key


class Parameters(BaseModel):
    """The parameters of a scan."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role = "train"
    limit: Count | None = None
    batch: Annotated[int, Field(ge=1, le=65_536, strict=True)] = 256


class OfScan(OfPair):
    """A version scanned on a dataset."""

    params: Parameters


class OfSensitivity(OfScan):
    """For how many seconds to measure."""

    seconds: Annotated[float, Field(ge=0, le=MONTH)] = 300.0


class OfSlices(OfScan):
    """By what slices are cut."""

    score: Literal["avg", "var", "ens", "taylor", "deeplift"]
    criterion: Literal["cosine", "cka", "mass"]
    fill: Literal["mean", "zero"]
    theta: Share


class OfMustKeep(OfPair):
    """How many cases are drawn, and of which kinds."""

    size: Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
    least: Annotated[int, Field(ge=0, le=1_000_000, strict=True)]
    shares: dict[Literal["hard", "typical", "diverse"], Annotated[float, Field(ge=0, le=1_000_000)]]
    seed: Seed = 0


class OfCompare(Form):
    """Versions side by side."""

    versions: Annotated[list[Key], Field(min_length=1, max_length=1000)]
    dataset: Key


class OfDrift(Form):
    """A changed copy of a dataset. version: whom an attack is made against."""

    dataset: Key
    change: Literal["noise", "blur", "brightness", "contrast", "fgsm", "pgd"]
    strength: Share
    name: Name
    version: Key | None = None


class OfJoin(Form):
    """Datasets put together."""

    datasets: Annotated[list[Key], Field(min_length=1, max_length=1000)]
    name: Name


class OfRelabel(Form):
    """A dataset under other class names. without: classes that are left out."""

    dataset: Key
    classes: dict[str, str] = Field(default_factory=dict)
    without: list[str] = Field(default_factory=list)
    name: Name


class OfReplay(Form):
    """Streams through a fleet. share: of the inputs that are watched."""

    fleet: Key
    datasets: Annotated[list[Key], Field(min_length=1, max_length=1000)]
    share: Annotated[float, Field(gt=0, le=1)] = 0.25
    seed: Seed = 0


class OfFleet(Form):
    """Something about a fleet."""

    fleet: Key


class OfSample(Form):
    """A sample by its name."""

    sample: Key


class OfBuildLarge(Form):
    """A network to be trained on a table."""

    dataset: Key
    name: Name
    width: Side
    depth: Annotated[int, Field(ge=1, le=10, strict=True)]
    epochs: Annotated[float, Field(ge=1, le=1000)]
    seed: Seed = 0


class OfData(Form):
    """A file or folder to import as a dataset. like: the dataset whose reading of columns it takes over."""

    path: Where
    name: Name
    target: Annotated[str, Field(max_length=10_000)] | None = None
    task: Literal["classification", "regression", "unlabelled"] | None = None
    size: Annotated[list[Side], Field(min_length=2, max_length=2)] | None = None
    drop: list[str] = Field(default_factory=list)
    context: Annotated[int, Field(ge=2, le=LONGEST, strict=True)] | None = None
    same_names: Literal["keep", "merge"] = "keep"
    classes: dict[str, str] = Field(default_factory=dict)
    header: Header = "auto"
    numbers: Numbers = ""
    columns: dict[str, How] = Field(default_factory=dict)
    split: Annotated[str, Field(max_length=10_000)] | None = None
    splits: dict[str, SplitUse] = Field(default_factory=dict)
    like: Key | None = None
    trained_on: TrainedOn | None = None
    seed: Seed = 0


class Constructor(BaseModel):
    """An architecture by its name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Key
    arguments: dict[str, Any]


class InputForm(BaseModel):
    """What one sample looks like to a model."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["image", "table", "text"]
    shape: Shape
    mean: list[float] = Field(default_factory=list)
    std: list[Annotated[float, Field(gt=0)]] = Field(default_factory=list)
    alphabet: list[str] = Field(default_factory=list)


class OfFile(Form):
    """A file of weights to look into."""

    path: Where
    architecture: Constructor | None = None


class OfModel(OfFile):
    """A file of weights to import; without `input` it must be one that this product saved."""

    name: Name
    input: InputForm | None = None
    classes: Annotated[list[str], Field(min_length=1)] | None = None
    task: Literal["classification", "regression"] = "classification"
    precision: Literal["float32", "float16", "bfloat16", "float64"] | None = None
    trained_on: TrainedOn | None = None
    licence: Annotated[str, Field(max_length=1000)] = ""
    source: Annotated[str, Field(max_length=10_000)] = ""
    output: Annotated[str, Field(max_length=200)] = ""  # the path of the prediction, where there are several outputs


def plain(task: Mapping[str, Any]) -> dict[str, Any]:
    """A task as the catalogue will hold it.

    Raises:
        JobError: it holds what JSON cannot, a number that is not finite or text that cannot be stored, or is huge.
    """
    try:
        text = json.dumps(dict(task), allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise JobError(
            f"The task cannot be stored as JSON: {error}.", "Give finite numbers, text, lists and objects only."
        ) from error
    if len(text) > LARGEST:
        raise JobError(f"The task has {len(text):,} characters; at most {LARGEST:,} are taken.", "Name fewer things.")
    if "\\u0000" in text:
        raise JobError("The task holds the character NUL, which names and paths cannot have.", "Remove it.")
    found: dict[str, Any] = json.loads(text)
    return found


def filled(form: type[Form], task: Mapping[str, Any]) -> Form:
    """The task as its form reads it.

    Raises:
        JobError: names the field that is wrong.
    """
    try:
        return form.model_validate(task)
    except ValidationError as error:
        kind = task.get("kind")
        raise JobError(
            f"The task {kind!r} cannot be used: {first_fault(error, 'the task')}.",
            f"Its fields are {', '.join(form.model_fields)}.",
        ) from error
