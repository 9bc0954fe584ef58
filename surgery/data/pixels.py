"""One image file to pixels: by content, upright, gray or RGB, without alpha, at one size."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from surgery.errors import DataError

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
MAX_PIXELS = 80_000_000
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    struct.error,
    Image.DecompressionBombError,
)
GRAY = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N")
EXIF_ORIENTATION, FIRST_TURNED = 0x0112, 5  # from 5 on, width and height change places


def decode(data: bytes, size: tuple[int, int], mode: str) -> tuple[NDArray[np.uint8], bool]:
    """uint8[height, width, 1 or 3] of an image file, and whether it had another size.

    size: (height, width); other sizes are scaled by their shorter side and cropped at the centre. mode: "L" or "RGB".

    Raises:
        DataError: no image, too many pixels, damaged or with more than 8 or 16 bits.
    """
    wanted = (size[1], size[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged metadata: the pixels decide
        try:
            image = _upright(_opened(data, wanted))
            resized = image.size != wanted
            image = ImageOps.fit(image, wanted, Image.Resampling.BILINEAR) if resized else image
            pixels = np.asarray(image if image.mode == mode else image.convert(mode))
        except UNREADABLE as error:
            raise DataError(f"It cannot be read as an image: {error}.", "Save it again as PNG or JPEG.") from error
    return pixels if pixels.ndim == 3 else pixels[..., None], resized


def measure(data: bytes) -> tuple[tuple[int, int], bool]:
    """((height, width), is gray) from the head of an image file.

    Raises:
        DataError: no image, or too many pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = _opened(data)
            turned = image.getexif().get(EXIF_ORIENTATION, 1) >= FIRST_TURNED
        except UNREADABLE as error:
            raise DataError(f"It is not an image: {error}.", "Save it again as PNG or JPEG.") from error
    width, height = image.size
    return ((width, height) if turned else (height, width)), image.mode in GRAY


def thumbnail(data: bytes, side: int = 256) -> bytes:
    """A PNG of an image file, at most `side` pixels wide and high.

    Raises:
        DataError: as in `decode`.
    """
    (height, width), gray = measure(data)
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return to_png(decode(data, size, "L" if gray else "RGB")[0])


def to_png(pixels: NDArray[np.uint8]) -> bytes:
    """PNG of uint8[height, width, 1 or 3]."""
    target = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(target, "PNG")
    return target.getvalue()


def _opened(data: bytes, wanted: tuple[int, int] | None = None) -> Image.Image:
    """An image whose pixels are not yet decoded; a large JPEG will be decoded at a fraction of its size."""
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"it has {image.width:,} × {image.height:,} pixels, at most {MAX_PIXELS:,} are read")
    if wanted is not None and min(image.size) > 2 * max(wanted):
        image.draft(None, (max(wanted), max(wanted)))
    return image


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says, in mode L or RGB, transparent pixels over white."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in ("L", "RGB"):
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("it has 32 bits per pixel")
    gray = image.mode in GRAY
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        image = Image.alpha_composite(ground, layer)
    return image.convert("L" if gray else "RGB")
