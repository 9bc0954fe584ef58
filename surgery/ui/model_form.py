"""What a file of weights cannot say: the names of its classes, the size of its input, its normalisation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from surgery.errors import ModelError
from surgery.network.facts import listed
from surgery.ui import panels, trained
from surgery.ui.messages import _
from surgery.ui.state import View

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
Stats = tuple[Sequence[float], Sequence[float]]  # mean, std per channel or feature


def ask(view: View, suggestion: Mapping[str, Any], *, stem: str) -> dict[str, Any] | None:
    """Draw the form; once it is sent, return what an import job needs besides the file.

    Raises:
        ModelError: the names of the classes are not as many as the outputs, or numbers are malformed.
    """
    output = _prediction(suggestion)
    if output is None:
        return None
    spec, returns = suggestion["input"], suggestion.get("returns", {})
    outputs = int(returns[output][-1]) if output in returns else int(suggestion["outputs"])
    with st.form("import_model", border=False):
        name = st.text_input(_("Name of this version"), value=stem[:120], max_chars=120)
        task = _task(outputs, view)
        labels = {"text": _("Alphabet, one character per line")}
        classes = st.text_area(
            labels.get(
                spec["kind"], _("Classes, one per line") if task == "classification" else _("Name of the target")
            ),
            value="\n".join(suggestion.get("classes") or _names(view, outputs, task)),
            height=110,
            help=_("In the order of the outputs; this model has {count}.").format(count=outputs),
        )
        fields = shape(spec, key="imported")
        mean, std = _normalisation(view, spec) if spec["kind"] != "text" else ((), ())
        kept = _precision()
        answer = trained.ask("model_trained_on") if view.dataset is not None else None
        with st.expander(_("Licence and source")):
            licence = st.text_input(
                _("Licence of the weights"),
                max_chars=120,
                placeholder="Apache-2.0",
                help=_("Every receipt of what is made of these weights names it."),
            )
            source = st.text_input(_("Where they come from"), max_chars=300, placeholder="https://…")
        sent = st.form_submit_button(_("Import model"), type="primary", icon=":material/download_done:")
    if not sent:
        return None
    return {
        "name": name,
        "architecture": {"name": suggestion["name"], "arguments": dict(suggestion["arguments"])},
        "input": {"kind": spec["kind"], "shape": fields, "mean": list(mean), "std": list(std)},
        "classes": named_classes(classes, outputs),
        "task": task,
        **({"precision": kept} if kept else {}),
        **({"trained_on": answer} if answer else {}),
        "licence": licence.strip(),
        "source": source.strip(),
        "output": output,
    }


def _prediction(suggestion: Mapping[str, Any]) -> str | None:
    """The path of the prediction among several outputs, "" of a single one; None until one is chosen."""
    returns, possible = suggestion.get("returns", {}), suggestion.get("predictions", ())
    if len(returns) < 2 or not possible:
        return ""
    st.caption(_("Outputs of the network: {outputs}").format(outputs=panels.plain(listed(returns))))
    if len(possible) == 1:
        st.caption(_("Prediction: {output}").format(output=panels.plain(possible[0])))
        return str(possible[0])
    chosen: str | None = st.selectbox(
        _("Prediction"),
        list(possible),
        index=None,
        format_func=lambda path: listed({path: returns[path]}),
        placeholder=_("Choose an output"),
        help=_("The output with one number per class, or with the target; the others are kept but not measured."),
    )
    return chosen


def named_classes(text: str, outputs: int) -> list[str]:
    """Return the lines of `text`, one class each.

    Raises:
        ModelError: not as many as outputs, or one name twice.
    """
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if len(names) != outputs:
        raise ModelError(
            f"{len(names)} classes are named, the model has {outputs} outputs.",
            f"Name {outputs} classes, one per line.",
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ModelError(f"The class {twice[0]!r} is named twice.", "Give every class a name of its own.")
    return names


def arguments(text: str) -> dict[str, Any]:
    """Read a constructor's arguments from JSON.

    Raises:
        ModelError: it is not a JSON object.
    """
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise ModelError(
            f"The arguments {text!r} are not JSON: {error}.", 'Write for instance {"num_classes": 10}.'
        ) from error
    if not isinstance(found, dict):
        raise ModelError(f"The arguments {text!r} are not a JSON object.", 'Write for instance {"num_classes": 10}.')
    return found


def value(text: str) -> Any:
    """One argument as it was typed: a number, a list or another JSON value, else text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()


def statistics(text: str, channels: int) -> list[float]:
    """Read one number per channel, or one for all.

    Raises:
        ModelError: another count, or not numbers.
    """
    try:
        values = [float(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise ModelError(f"{text!r} is not a list of numbers.", "Write numbers with blanks between them.") from error
    if len(values) == 1:
        values *= channels
    if len(values) != channels:
        raise ModelError(
            f"{len(values)} numbers are given for {channels} channels.", "Give one for each, or one for all."
        )
    return values


def _task(outputs: int, view: View) -> str:
    tasks = {"classification": _("Classification"), "regression": _("Regression")}
    regression = outputs == 1 or (view.dataset is not None and view.dataset.task == "regression")
    if outputs > 1:
        return "classification"
    return str(
        st.segmented_control(
            _("Task"),
            list(tasks),
            format_func=lambda name: tasks[name],
            default="regression" if regression else "classification",
            required=True,
        )
    )


def _precision() -> str:
    """The number format to store the weights in; "" for the file's own."""
    found = st.selectbox(
        _("Stored precision"),
        ["", "float32", "float16", "bfloat16"],
        format_func=lambda kind: kind or _("As in the file"),
        help=_("Computing is always done in float32; sizes and accuracy are those of the stored weights."),
    )
    return found or ""


def _names(view: View, outputs: int, task: str) -> Sequence[str]:
    """The dataset's classes where they are as many as the outputs, else numbers."""
    if view.dataset is not None and len(view.dataset.classes) == outputs:
        return view.dataset.classes
    return ["target"] if task == "regression" else [str(number) for number in range(outputs)]


def shape(spec: Mapping[str, Any], *, key: str) -> list[int]:
    """Draw the fields of an input's size, named by `key`; its features stay."""
    channels, *size = spec["shape"]
    if spec["kind"] == "text":
        return [int(st.number_input(_("Characters it reads"), 1, None, channels, key=f"{key}_context"))]
    if spec["kind"] == "table":
        return [channels]
    names = (_("Height (pixels)"), _("Width (pixels)"))
    fields = zip(st.columns(2), names, size, strict=True)
    return [
        channels,
        *(int(column.number_input(name, 1, 4096, side, key=f"{key}_{name}")) for column, name, side in fields),
    ]


def _normalisation(view: View, spec: Mapping[str, Any]) -> Stats:
    choices = _choices(view, spec)
    chosen = st.selectbox(
        _("Normalisation"),
        list(choices),
        help=_("What was done to the inputs in training: (value − mean) ÷ std, pixels on the scale 0–1."),
    )
    own = st.expander(_("Own mean and std"))
    mean = own.text_input(_("Mean"), placeholder="0.5 0.5 0.5", help=_("Filled in, these go before the choice above."))
    std = own.text_input(_("Std"), placeholder="0.25 0.25 0.25")
    channels = spec["shape"][0]
    if mean or std:
        return statistics(mean or "0", channels), statistics(std or "1", channels)
    return choices[chosen or next(iter(choices))]


def _choices(view: View, spec: Mapping[str, Any]) -> dict[str, Stats]:
    """Normalisations by name, the guessed one first."""
    channels = spec["shape"][0]
    guessed: Stats = (tuple(spec["mean"]), tuple(spec["std"]))
    plain: Stats = ((0.0,) * channels, (1.0,) * channels)
    known: dict[str, Stats] = {_("None: values as they are") if spec["kind"] == "table" else _("None: 0–1"): plain}
    if spec["kind"] == "image":
        known[_("−1 to 1")] = ((0.5,) * channels, (0.5,) * channels)
        if channels == 3:
            known["ImageNet"] = IMAGENET
    if measured := _measured(view, channels):
        known[_("Of the dataset's training samples")] = measured
    first = next((name for name, stats in known.items() if stats == guessed), None)
    ordered = {first or _("As suggested"): guessed}
    return ordered | known


def _measured(view: View, channels: int) -> Stats | None:
    """The dataset's own statistics, where it has as many channels or features."""
    if view.dataset is None:
        return None
    data = view.workspace.dataset(view.dataset.id)
    if data.shape[0] != channels or not data.counts().get("train"):
        return None
    return data.statistics()
