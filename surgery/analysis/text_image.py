"""Words for pictures, from a text–image model of the CLIP kind that the owner of the server has put into a folder.

A word is true of a picture when it is among the `TRUE` whose similarity to it lies highest above their average over all
pictures: so a word that fits everything fits nothing. The folder holds what transformers needs to load the model from
safetensors (`config.json`, `model.safetensors`, the files of tokenizer and image processor) and, if wanted, `words.txt`
with one phrase per line. Nothing is downloaded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.errors import DataError

VARIABLE = "SURGERY_TEXT_IMAGE"  # environment variable, so that workers know the folder too
TRUE = 3  # words per picture
BATCH = 32
MOST = 1_000  # words
PROMPT = "a photo of {}"
WORDS = (
    *("grass", "leaves", "trees", "flowers", "water", "waves", "sky", "clouds", "snow", "sand", "rocks", "mountains"),
    *("a road", "a field", "a forest", "a beach", "a city", "a building", "a room", "a wall", "a floor", "a window"),
    *("a face", "eyes", "ears", "a nose", "a mouth", "hair", "hands", "legs", "a tail", "wings", "feathers", "fur"),
    *(
        "horns",
        "a beak",
        "scales",
        "skin",
        "teeth",
        "a head",
        "a body seen from the side",
        "a body seen from the front",
    ),
    *("people", "a crowd", "a child", "an animal", "a bird", "a fish", "an insect", "a snake", "a dog", "a cat"),
    *("a horse", "a vehicle", "a car", "a truck", "a bus", "a bicycle", "a train", "an aircraft", "a ship", "a boat"),
    *("wheels", "headlights", "a sail", "an engine", "a mast", "metal", "wood", "glass", "stone", "plastic", "paper"),
    *("cloth", "leather", "brick", "food", "fruit", "vegetables", "bread", "a plate", "a cup", "a bottle", "a box"),
    *(
        "a chair",
        "a table",
        "a lamp",
        "a screen",
        "a keyboard",
        "a book",
        "a tool",
        "a toy",
        "clothes",
        "shoes",
        "a hat",
    ),
    *(
        "text",
        "letters",
        "digits",
        "a sign",
        "a logo",
        "a drawing",
        "a pattern",
        "stripes",
        "dots",
        "a grid",
        "spirals",
    ),
    *("circles", "corners", "straight lines", "curves", "a horizon", "vertical bars", "diagonal lines", "holes"),
    *("something red", "something orange", "something yellow", "something green", "something blue", "something purple"),
    *("something pink", "something brown", "something black", "something white", "something grey", "bright light"),
    *("darkness", "shadows", "reflections", "fog", "fire", "smoke", "a blurred picture", "a plain background"),
    *("a cluttered background", "a close-up", "something far away", "something at the edge", "many small things"),
)


def folder() -> Path | None:
    """Where the model lies; None when there is none."""
    given = os.environ.get(VARIABLE, "")
    return Path(given) if given else None


def words(home: Path) -> tuple[str, ...]:
    """The phrases that pictures may be described by: those of `words.txt`, or our own.

    Raises:
        DataError: the file holds no phrase, or more than anybody waits for.
    """
    file = home / "words.txt"
    if not file.exists():
        return WORDS
    lines = (line.strip() for line in file.read_text("utf-8", errors="replace").splitlines())
    found = tuple(dict.fromkeys(line for line in lines if line))
    if not 1 < len(found) <= MOST:
        raise DataError(f"{str(file)!r} holds {len(found):,} phrases.", f"Write 2 to {MOST:,}, one per line.")
    return found


def described(data: Dataset, samples: NDArray[np.int64], ctx: Context, home: Path) -> tuple[tuple[str, ...], Tensor]:
    """(K phrases, bool[S, K]: which are true of which sample of `data`, whose samples are images).

    Raises:
        DataError: the folder holds no such model, or transformers is not installed. Cancelled.
    """
    phrases = words(home)
    try:
        return phrases, _among_best(_similarity(data, samples, phrases, ctx, home))
    except ImportError as error:
        raise DataError(
            f"Describing pictures needs {error.name}, which is not installed.",
            f"Install it (pip install model-surgery[hf]), or unset {VARIABLE}.",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise DataError(
            f"The text–image model in {str(home)!r} cannot be used: {str(error).splitlines()[0][:200]}",
            f"Put a CLIP-type model with its tokenizer and image processor there, or unset {VARIABLE}.",
        ) from error


def _similarity(
    data: Dataset, samples: NDArray[np.int64], phrases: tuple[str, ...], ctx: Context, home: Path
) -> Tensor:
    """float[S, K]: the cosine of each picture with each phrase."""
    import transformers

    auto: Any = transformers
    given: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    model = auto.AutoModel.from_pretrained(home, use_safetensors=True, **given).eval().to(ctx.device)
    tokenizer = auto.AutoTokenizer.from_pretrained(home, **given)
    prepare = auto.AutoImageProcessor.from_pretrained(home, **given)
    texts = tokenizer([PROMPT.format(phrase) for phrase in phrases], padding=True, return_tensors="pt").to(ctx.device)
    rows = []
    with torch.inference_mode():
        said = _embedding(model.get_text_features(**texts))
        for start in ctx.track(range(0, len(samples), BATCH), "describing pictures"):
            raw = data.raw(samples[start : start + BATCH])  # uint8[b, h, w, c]
            pictures = list(raw.repeat(3 // raw.shape[3], axis=3))
            pixels = prepare(images=pictures, return_tensors="pt", input_data_format="channels_last")
            rows.append(_embedding(model.get_image_features(pixels["pixel_values"].to(ctx.device))) @ said.T)
    return torch.cat(rows).float().cpu()


def _embedding(found: Any) -> Tensor:
    """float[n, d] of length 1; transformers gives the tensor itself or a record of outputs."""
    return F.normalize(found if isinstance(found, Tensor) else found.pooler_output, dim=1)


def _among_best(similarity: Tensor) -> Tensor:
    """bool[S, K]: the phrases that stand out for each sample; similarity: float[S, K]."""
    above = similarity - similarity.mean(0)
    best = above.topk(min(TRUE, above.shape[1] - 1)).indices
    return torch.zeros(above.shape, dtype=torch.bool).scatter_(1, best, value=True)
