"""Eight bits after training, by ONNX Runtime: an ONNX file with integer weights, ready to run.

Convolutional networks are quantized with fixed ranges of their activations, found on samples; all others by the range
of each input as it comes, since attention does not bear fixed ones. No weight is trained.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from surgery import temporary
from surgery.errors import ModelError
from surgery.network.export import to_onnx
from surgery.network.model import Model

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SAMPLES = 256  # that find the ranges
INPUT = "input"


def to_int8(model: Model, samples: Iterable[Tensor], target: Path) -> None:
    """Write one file of 8-bit weights, one scale per output row. samples: batches as the model sees them.

    Raises:
        ModelError: ONNX Runtime is not installed, or cannot quantize this network.
    """
    try:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise ModelError(
            f"Eight bits after training need {error.name}.", 'Install it: pip install "model-surgery[int8]".'
        ) from error
    target.parent.mkdir(parents=True, exist_ok=True)
    with temporary.folder("int8") as scratch, _quiet():
        whole, ready = scratch / "whole.onnx", scratch / "ready.onnx"
        to_onnx(model, whole)
        how = {"per_channel": True, "weight_type": QuantType.QInt8}
        try:
            quant_pre_process(whole, ready)
            if any(isinstance(part, nn.modules.conv._ConvNd) for part in model.module.modules()):
                quantize_static(ready, target, _Reader(samples), quant_format=QuantFormat.QDQ, **how)
            else:
                quantize_dynamic(ready, target, **how)
        except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, IndexError) as error:
            target.unlink(missing_ok=True)
            raise ModelError(
                f"ONNX Runtime cannot quantize this network: {error}.", "Use Compress to few bits, or export ONNX."
            ) from error


def session(file: Path, threads: int) -> InferenceSession:
    """An ONNX file ready to run on this machine's processor.

    Raises:
        ModelError: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError("Running ONNX needs onnxruntime.", 'Install it: pip install "model-surgery[int8]".') from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


class _Reader:
    """Calibration samples in the form that ONNX Runtime asks for them."""

    def __init__(self, samples: Iterable[Tensor]) -> None:
        self._batches: Iterator[Tensor] = iter(samples)

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        """The next batch, None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch.cpu().numpy()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the quantizer says of normalisations that it leaves whole."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(before)
