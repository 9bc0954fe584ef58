"""One image file to pixels: by content, upright, gray or RGB, without alpha, at one size."""

from __future__ import annotations

import io
import re
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from surgery.data.limits import figure
from surgery.errors import DataError
from surgery.sandbox import described

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
MAX_PIXELS = 80_000_000
MAX_BYTES = 256 * 10**6  # that opening one image may take
MAX_HEADER = 65_536  # bytes of the head of a PPM, whose comments are read letter by letter
BYTES = {"1": 1, "L": 1, "P": 1, "LA": 4, "La": 4, "PA": 4, "RGB": 4, "RGBA": 4, "RGBa": 4, "RGBX": 4, "CMYK": 4}
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
        except (Exception, MemoryError) as error:  # of a damaged image a decoder may raise anything
            raise _refused("It cannot be read as an image", error) from error
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
        except (Exception, MemoryError) as error:
            raise _refused("It is not an image", error) from error
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


def enlarged(png: bytes, side: int = 72) -> bytes:
    """A small picture blown up by whole factors, so that its pixels stay sharp."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        factor = side // max(image.size)
        if factor < 2:
            return png
        target = io.BytesIO()
        image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST).save(target, "PNG")
    return target.getvalue()


def _refused(what: str, error: BaseException) -> DataError:
    if isinstance(error, MemoryError):
        return DataError(f"{what}: it needs more memory than an image may have.", "Save it smaller.")
    why = "it is of no known format" if isinstance(error, UnidentifiedImageError) else described(error)
    return DataError(f"{what}: {why}.", "Save it again as PNG or JPEG.")


def _opened(data: bytes, wanted: tuple[int, int] | None = None) -> Image.Image:
    """An image whose pixels are not yet decoded; a large JPEG will be decoded at a fraction of its size."""
    if data[:1] == b"P" and not _short_header(data):
        raise ValueError(f"its head is longer than {MAX_HEADER:,} bytes")
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"it has {image.width:,} × {image.height:,} pixels, at most {MAX_PIXELS:,} are read")
    if wanted is not None:
        if min(image.size) > 2 * max(wanted):
            image.draft(None, (max(wanted), max(wanted)))
        need = image.width * image.height * _bytes(image)
        if need > MAX_BYTES:
            raise ValueError(f"opening it needs {figure(need)}, an image may take {figure(MAX_BYTES)}; save it smaller")
    return image


def _bytes(image: Image.Image) -> int:
    """Bytes of a pixel while an image is opened: as it is stored, and where it is turned or converted a second time."""
    stored = BYTES.get(image.mode, 4)
    turned = image.getexif().get(EXIF_ORIENTATION, 1) != 1
    converted = image.mode not in ("L", "RGB") or image.format == "WEBP"
    return stored + (stored if turned else 0) + (4 if converted else 0)


def _short_header(data: bytes) -> bool:
    """Whether three numbers come after the mark of a PPM within MAX_HEADER bytes, comments aside."""
    text = re.sub(rb"#[^\r\n]*", b" ", data[2:MAX_HEADER])
    return len(data) < MAX_HEADER or len(text.split(maxsplit=3)) >= (2 if data[1:2] in b"14" else 3)


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
        return _over_white(image, "L" if gray else "RGB")
    return image.convert("L" if gray else "RGB")


def _over_white(image: Image.Image, mode: str) -> Image.Image:
    """Without its transparency, some rows at a time."""
    whole = Image.new(mode, image.size)
    rows = max(1, 1_000_000 // image.width)
    for top in range(0, image.height, rows):
        layer = image.crop((0, top, image.width, min(image.height, top + rows))).convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        whole.paste(Image.alpha_composite(ground, layer).convert(mode), (0, top))
    return whole
