"""Hostile files of data, as generators: FAMILIES[name](random, folder) writes one file and returns where it is.

The same seed gives the same file. A file is never larger than a few megabytes; what it would take to read may be.
"""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Generator = Callable[[random.Random, Path], Path]
FAMILIES: dict[str, Generator] = {}
ODD_NAMES = (
    "a\u202eb",
    "nul\x00",
    "line\nbreak",
    "esc\x1b[31m",
    "\u2066iso",
    "x" * 5000,
    "9" * 6000,
    "=1+1",
    "<b>",
    "\ufeffbom",
    "\ufffe",
    "cafe\u0301",
    "é" * 200,
    "..",
    "a:b",
    "con",
)
EVIL_HEADERS = (
    "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 5), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 0), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (10**9, 3), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (True, 3), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': " + "(" * 400 + ")" * 400 + ", }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000,), }",
    "{'descr': '<U100000000', 'fortran_order': False, 'shape': (1000,), }",
    "{'descr': [('a', '<i4'), ('b', '<f8')], 'fortran_order': False, 'shape': (9,), }",
    "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (9,), }",
    "{'descr': '<c16', 'fortran_order': False, 'shape': (9, 2), }",
    "{'descr': '<f8', 'fortran_order': True, 'shape': (9, 2), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': " + str(tuple([1] * 70)) + ", }",
    "__import__('os').system('true')",
    "{" * 5000,
    "\ud7ff" * 100,
    "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999999999, 1), }",
    "[" * 9000 + "]" * 500,
)


def family(make: Generator) -> Generator:
    """Register a generator under its name."""
    FAMILIES[make.__name__] = make
    return make


def png(random: random.Random, size: tuple[int, int] = (6, 6), mode: str = "L", form: str = "PNG") -> bytes:
    """A small valid image."""
    pixels = np.frombuffer(random.randbytes(size[0] * size[1] * 3), np.uint8).reshape(*size, 3)
    target = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(target, form)
    return target.getvalue()


def good(random: random.Random, count: int = 5) -> list[tuple[str, bytes]]:
    """Two classes of valid images."""
    return [(f"{label}/{number}.png", png(random)) for label in "ab" for number in range(count)]


def zipped(path: Path, files: Iterable[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip of entries, of which several may have one name."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = compression
            archive._didModify = True
            archive.NameToInfo.pop(name, None)
            archive.writestr(entry, content)
    return path


def written(path: Path, content: bytes) -> Path:
    """A file of these bytes."""
    path.write_bytes(content)
    return path


def damaged(random: random.Random, content: bytes) -> bytes:
    """Some bytes changed, cut off or repeated."""
    found = bytearray(content)
    for _ in range(random.randint(1, 12)):
        place = random.randrange(len(found))
        found[place] = random.randrange(256)
    if random.random() < 0.3:
        del found[random.randrange(len(found)) :]
    if random.random() < 0.2:
        start = random.randrange(max(1, len(found)))
        found[start:start] = found[start : start + 200] * random.randint(1, 9)
    return bytes(found) or b"\0"


def npy(header: str, body: bytes = bytes(80), version: int = 1) -> bytes:
    """An .npy stream with any header."""
    text = header.encode("utf-8", "surrogatepass") + b"\n"
    length = struct.pack("<H", len(text) % 65536) if version == 1 else struct.pack("<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + body


def table(rows: int = 60) -> pa.Table:
    """A table that can be imported."""
    return pa.table({"a": np.arange(rows) * 0.5, "b": np.arange(rows), "y": [f"c{row % 3}" for row in range(rows)]})


def parquet(path: Path, made: pa.Table, **options: Any) -> Path:
    """A Parquet file."""
    pq.write_table(made, path, **options)
    return path


# Zips of images


@family
def damaged_zip(random: random.Random, folder: Path) -> Path:
    path = zipped(folder / "a.zip", good(random), random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    return written(path, damaged(random, path.read_bytes()))


@family
def zip_of_damaged_images(random: random.Random, folder: Path) -> Path:
    forms = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
    bad = [
        (f"a/bad{number}.img", damaged(random, png(random, (9, 9), "RGB", random.choice(forms)))) for number in range(9)
    ]
    return zipped(folder / "a.zip", good(random) + bad)


@family
def zip_with_odd_names(random: random.Random, folder: Path) -> Path:
    odd = [(f"{random.choice(ODD_NAMES)[:3000]}/{n}.png", png(random)) for n in range(6)]
    return zipped(folder / "a.zip", good(random) + odd)


@family
def zip_with_names_twice(random: random.Random, folder: Path) -> Path:
    twice = [("a/1.png", png(random)) for _ in range(random.randint(1, 3))]
    return zipped(folder / "a.zip", good(random) + twice)


@family
def zip_with_alike_classes(random: random.Random, folder: Path) -> Path:
    labels = random.sample(["Cat", "cat", "cat ", "caf\u00e9", "cafe\u0301", "CAT", "dog"], 4)
    return zipped(folder / "a.zip", [(f"{label}/{n}.png", png(random)) for label in labels for n in range(4)])


@family
def zip_that_leads_outside(random: random.Random, folder: Path) -> Path:
    name = random.choice(("../x.png", "/etc/x.png", "C:\\x.png", "a\\..\\..\\x.png", "c:/x.png"))
    return zipped(folder / "a.zip", [*good(random), (name, png(random))])


@family
def zip_that_lies_about_its_entries(random: random.Random, folder: Path) -> Path:
    content = bytearray(zipped(folder / "a.zip", good(random)).read_bytes())
    end = content.rindex(b"PK\x05\x06")
    struct.pack_into(
        "<HHI", content, end + 8, *(random.choice((0, 7, 65535)) for _ in range(2)), random.choice((1, 99))
    )
    if random.random() < 0.5:
        place = content.index(b"PK\x01\x02") + random.choice((20, 24, 42))
        struct.pack_into("<I", content, place, random.choice((0, 5, 2**31, 2**32 - 1)))
    return written(folder / "a.zip", bytes(content))


@family
def zip_bomb(random: random.Random, folder: Path) -> Path:
    return zipped(folder / "a.zip", [*good(random), ("a/zeros.bmp", bytes(random.choice((2, 3)) * 10**8))])


@family
def image_of_many_pixels(random: random.Random, folder: Path) -> Path:
    """A valid PNG of one color that takes hundreds of megabytes."""
    side = random.choice((7_000, 8_900, 30_000))
    kind, width = random.choice(((0, 1), (2, 3), (6, 4), (3, 1)))

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    deflate, row, packed = zlib.compressobj(9), bytes(1 + width * side), b""
    rows = side if side < 10_000 else 10
    packed = b"".join(deflate.compress(row) for _ in range(rows)) + deflate.flush()
    palette = chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes(256)) if kind == 3 else b""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, kind, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + head + palette + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    return zipped(folder / "a.zip", [*good(random), ("a/large.png", content)])


@family
def ppm_with_a_long_comment(random: random.Random, folder: Path) -> Path:
    mark = random.choice((b"P5", b"P6", b"P2", b"P3", b"Pf"))
    content = mark + b"\n#" + b"c" * random.choice((200_000, 5_000_000)) + b"\n2 2\n255\n" + bytes(12)
    return zipped(folder / "a.zip", [*good(random), ("a/slow.ppm", content)])


@family
def plain_ppm_of_comments(random: random.Random, folder: Path) -> Path:
    body = b"".join(b"#" + b"x" * random.randint(0, 40) + b"\n1 " for _ in range(50_000))
    return zipped(folder / "a.zip", [*good(random), ("a/slow.ppm", b"P3\n900 900\n255\n" + body)])


@family
def gif_of_many_blocks(random: random.Random, folder: Path) -> Path:
    comment = b"\x21\xfe" + b"".join(b"\xff" + bytes(255) for _ in range(random.choice((100, 12_000)))) + b"\0"
    content = b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + comment * random.randint(1, 3) + b";"
    return zipped(folder / "a.zip", [*good(random), ("a/slow.gif", content)])


@family
def gif_of_a_huge_canvas(random: random.Random, folder: Path) -> Path:
    content = bytearray(png(random, (9, 9), "P", "GIF"))
    struct.pack_into("<HH", content, 6, random.choice((8_000, 65_535)), random.choice((8_000, 65_535)))
    return zipped(folder / "a.zip", [*good(random), ("a/large.gif", bytes(content))])


@family
def tiff_of_many_tags(random: random.Random, folder: Path) -> Path:
    """Every tag points to the same two megabytes."""
    count, body = random.choice((50, 2_000)), bytes(2_000_000)
    start = 10 + 12 * count + 4
    tags = b"".join(struct.pack("<HHII", 256 + number, 1, len(body), start) for number in range(count))
    content = b"II*\0" + struct.pack("<IH", 8, count) + tags + bytes(4) + body
    return zipped(folder / "a.zip", [*good(random), ("a/tags.tif", content)])


@family
def png_of_many_chunks(random: random.Random, folder: Path) -> Path:
    content = png(random)
    text = b"tEXt" + b"k\0v"
    chunk = struct.pack(">I", 3) + text + struct.pack(">I", zlib.crc32(text))
    itxt = b"zTXt" + b"k\0\0" + zlib.compress(bytes(random.choice((10**6, 10**8))))
    bomb = struct.pack(">I", len(itxt) - 4) + itxt + struct.pack(">I", zlib.crc32(itxt))
    many = content[:33] + chunk * random.choice((10, 100_000)) + bomb + content[33:]
    return zipped(folder / "a.zip", [*good(random), ("a/chunks.png", many)])


@family
def folder_with_odd_files(random: random.Random, folder: Path) -> Path:
    path = folder / random.choice(("images", "t.csv", "x.npz"))
    for name, content in good(random):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    if hasattr(os, "mkfifo"):
        os.mkfifo(path / "a" / "pipe.png")
    (path / "a" / "gone.png").symlink_to(path / "nowhere")
    (path / "a" / "device.png").symlink_to(random.choice(("/dev/zero", "/dev/random")))
    (path / "b" / "loop").symlink_to(path)
    Path(os.fsdecode(os.fsencode(path) + b"/b/bad\xff.png")).write_bytes(png(random))
    return path


@family
def special_file(random: random.Random, folder: Path) -> Path:
    kind = random.choice(("pipe", "device", "empty", "gone", "link"))
    path = folder / f"t.{random.choice(('csv', 'zip', 'parquet', 'txt'))}"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "link":
        path.symlink_to(path)
    return path


# Arrays


@family
def npz_of_an_evil_header(random: random.Random, folder: Path) -> Path:
    evil = npy(random.choice(EVIL_HEADERS), version=random.choice((1, 2, 3)))
    fine = io.BytesIO()
    np.save(fine, np.arange(3) % 2)
    x, y = random.choice(((evil, fine.getvalue()), (fine.getvalue(), evil), (evil, evil)))
    return zipped(folder / "a.npz", [("x.npy", x), ("y.npy", y)])


@family
def npz_of_any_type(random: random.Random, folder: Path) -> Path:
    kinds = ["?", "i1", ">i8", "u2", "f2", ">f8", "g", "c16", "S5", "U5", "M8[s]", "m8[s]", "V9", "u8"]
    rows = random.choice((0, 1, 40))
    values = np.frombuffer(random.randbytes(32 * rows * 3), np.uint8)

    def made(kind: str, shape: tuple[int, ...]) -> Any:
        dtype = np.dtype(kind)
        raw = np.resize(values, int(np.prod(shape)) * dtype.itemsize).tobytes()
        return np.frombuffer(raw, dtype).reshape(shape) if raw else np.zeros(shape, dtype)

    x = made(random.choice(kinds), random.choice(((rows, 3), (rows, 4, 4), (rows, 3, 4, 4), (rows,), (rows, 1))))
    with np.errstate(all="ignore"):
        np.savez(folder / "a.npz", x=x, y=made(random.choice(kinds), random.choice(((rows,), (rows, 1), (rows, 2)))))
    return folder / "a.npz"


@family
def npz_of_odd_labels(random: random.Random, folder: Path) -> Path:
    labels: list[Any] = [random.choice((*ODD_NAMES, "\ud800", "nan", "", "-")) for _ in range(40)]
    if random.random() < 0.5:
        y: Any = np.array([b"caf\xe9", b"na\xc3\xafve", b"\xff\xfe\x00x"] * 14, dtype="S8")[:40]
    else:
        y = np.array([label[:300] for label in labels])
    extra = {"classes": np.array(labels[:4])} if random.random() < 0.3 else {}
    np.savez(folder / "a.npz", x=np.random.default_rng(0).random((40, 3)), y=y, **extra)
    return folder / "a.npz"


@family
def npz_of_wide_texts(random: random.Random, folder: Path) -> Path:
    count = random.choice((40, 200))
    header = f"{{'descr': '<U{random.choice((20_000, 50_000))}', 'fortran_order': False, 'shape': ({count},), }}"
    rows = io.BytesIO()
    np.save(rows, np.eye(count))
    width = int(header.split("<U")[1].split("'")[0]) * 4
    return zipped(folder / "a.npz", [("x.npy", rows.getvalue()), ("y.npy", npy(header, bytes(width * count)))])


@family
def npz_of_wide_rows(random: random.Random, folder: Path) -> Path:
    shape = random.choice(((1, 9_000, 9_000), (2, 40_000_000), (1, 3, 4_000, 4_000)))
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    return zipped(folder / "a.npz", [("x.npy", npy(head, bytes(int(np.prod(shape)))))])


@family
def npz_of_extreme_numbers(random: random.Random, folder: Path) -> Path:
    x = np.random.default_rng(random.randrange(99)).random((60, *random.choice(((3,), (4, 4)))))
    extremes = np.array([np.nan, np.inf, -np.inf, 1e300, -1e300, 5e-324, 0.0])
    x.reshape(-1)[:: random.randint(2, 9)] = np.resize(extremes, x.reshape(-1)[::2].size)[0]
    y = np.resize(random.sample(extremes.tolist(), 3), 60)
    np.savez(folder / "a.npz", x=x, y=y if random.random() < 0.5 else np.arange(60) % 3)
    return folder / "a.npz"


@family
def damaged_npz(random: random.Random, folder: Path) -> Path:
    save = random.choice((np.savez, np.savez_compressed))
    save(folder / "a.npz", x=np.random.default_rng(0).random((50, 4)), y=np.arange(50) % 3)
    return written(folder / "a.npz", damaged(random, (folder / "a.npz").read_bytes()))


# Tables of text


@family
def damaged_csv(random: random.Random, folder: Path) -> Path:
    lines = "a,b,y\n" + "".join(f"{row},{row / 7},{row % 3}\n" for row in range(80))
    return written(folder / "t.csv", damaged(random, lines.encode(random.choice(("utf-8", "utf-16", "utf-16-le")))))


@family
def csv_of_any_bytes(random: random.Random, folder: Path) -> Path:
    letters = [
        b",",
        b'"',
        b"\n",
        b"\r",
        random.choice((b"\0", b".")),
        b"\xff",
        b";",
        b"1",
        b"a",
        b"\t",
        "\u202e".encode(),
        b"\xed\xa0\x80",
        b"|",
    ]
    body = b"".join(random.choice(letters) for _ in range(random.choice((10, 3_000, 200_000))))
    return written(folder / "t.csv", b"a,b,y\n" * random.randint(0, 1) + body)


@family
def csv_of_one_row(random: random.Random, folder: Path) -> Path:
    size = random.choice((500_000, 5_000_000))
    unit = random.choice((b"1,", b'"\n",', b"x", b'"', b"\n", b'""'))
    return written(folder / "t.csv", b"a,b,y\n1,2,0\n" + unit * (size // len(unit)))


@family
def csv_of_many_columns(random: random.Random, folder: Path) -> Path:
    count = random.choice((9_000, 10_001, 400_000))
    header = ",".join(f"c{number}" for number in range(count))
    return written(folder / "t.csv", f"{header}\n".encode() + (b"1," * count)[:-1] + b"\n" + (b"2," * count)[:-1])


@family
def csv_of_odd_names(random: random.Random, folder: Path) -> Path:
    shown = [name for name in ODD_NAMES if "\0" not in name] if random.random() < 0.8 else ODD_NAMES
    names = random.sample(shown, 3)
    head = ",".join('"' + name.replace('"', '""') + '"' for name in [*names, "y"])
    rows = "".join(f'1,{row},3,"{random.choice(shown)[:200]}"\n' for row in range(40))
    return written(folder / "t.csv", f"{head}\n{rows}".encode("utf-8", "surrogatepass"))


@family
def csv_of_odd_numbers(random: random.Random, folder: Path) -> Path:
    odd = ("1e400", "-0", "٣", "1_000", "0x1F", "nan", "∞", "1e-400", "9" * 5000, "1,5", "TRUE", "+", "1 2", "½")
    rows = "".join(f'{random.choice(odd)!s},"{random.choice(odd)}",{row % 2}\n' for row in range(60))
    return written(folder / "t.csv", f"a,b,y\n{rows}".encode())


# Parquet


@family
def damaged_parquet(random: random.Random, folder: Path) -> Path:
    codec = random.choice(("none", "snappy", "zstd", "gzip", "brotli"))
    path = parquet(folder / "t.parquet", table(), compression=codec)
    return written(path, b"PAR1" + damaged(random, path.read_bytes()[4:]))


@family
def parquet_of_a_large_dictionary(random: random.Random, folder: Path) -> Path:
    """A hundred bytes for every gigabyte."""
    rows, size = random.choice((20_000, 300_000)), random.choice((10_000, 1_000_000))
    indices = pa.array(np.zeros(rows, np.int32))
    text = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * size]))
    made = pa.table({"text": text, "n": np.zeros(rows), "y": np.arange(rows) % 2})
    return parquet(folder / "t.parquet", made, compression=random.choice(("zstd", "snappy", "brotli")))


@family
def parquet_of_many_rows(random: random.Random, folder: Path) -> Path:
    rows = random.choice((200_000, 1_000_000))
    made = pa.table({"a": np.zeros(rows, np.float32), "y": np.zeros(rows, np.int8)})
    return parquet(folder / "t.parquet", made, compression="zstd", row_group_size=rows)


@family
def parquet_that_declares_many_rows(random: random.Random, folder: Path) -> Path:
    """Its summary, where numbers are stored in seven bits a byte, promises more rows than there are."""
    path = parquet(folder / "t.parquet", table(60))
    content = bytearray(path.read_bytes())
    length = struct.unpack("<I", content[-8:-4])[0]
    footer = content[-8 - length : -8]
    places = [place for place, byte in enumerate(footer) if byte == 120]  # zigzag of 60
    for place in random.sample(places, min(len(places), random.randint(1, 6))):
        footer[place : place + 1] = b"\xfe\xff\xff\xff\x07"
    content[-8 - length :] = footer + struct.pack("<I", len(footer)) + b"PAR1"
    return written(path, bytes(content))


@family
def parquet_of_one_giant_cell(random: random.Random, folder: Path) -> Path:
    size = random.choice((5_000_000, 200_000_000))
    made = pa.table({"a": pa.array(["z" * size, "b"] * 2), "n": np.arange(4), "y": np.arange(4) % 2})
    return parquet(folder / "t.parquet", made, compression=random.choice(("zstd", "brotli")), use_dictionary=False)


@family
def parquet_of_nested_columns(random: random.Random, folder: Path) -> Path:
    rows = 40
    lists = pa.array([[1.0] * random.choice((0, 1, 5_000)) for _ in range(rows)])
    struct_ = pa.array([{"x": row, "y": {"z": [row]}} for row in range(rows)])
    made = pa.table({"list": lists, "struct": struct_, "struct.x": np.arange(rows), "y": np.arange(rows) % 2})
    return parquet(folder / "t.parquet", made)


@family
def parquet_of_odd_types(random: random.Random, folder: Path) -> Path:
    rows = 40
    columns = {
        "decimal": pa.array([None if row == 3 else row for row in range(rows)]).cast(pa.decimal128(30, 4)),
        "time": pa.array(range(rows), pa.int64()).cast(pa.time64("us")),
        "year": pa.array([2**60 + row for row in range(rows)], pa.int64()).cast(pa.timestamp("us")),
        "half": pa.array(np.arange(rows, dtype=np.float16)),
        "binary": pa.array([random.randbytes(5) for _ in range(rows)]),
        "null": pa.nulls(rows),
        "u64": pa.array(np.full(rows, 2**64 - 1, np.uint64)),
        "odd\u202e\x00": np.arange(rows),
    }
    kept = random.sample(sorted(columns), random.randint(2, len(columns)))
    return parquet(folder / "t.parquet", pa.table({name: columns[name] for name in kept} | {"y": np.arange(rows) % 2}))


@family
def parquet_of_many_columns(random: random.Random, folder: Path) -> Path:
    count = random.choice((300, 10_001))
    return parquet(folder / "t.parquet", pa.table({f"c{number}": [1, 2] for number in range(count)}))


@family
def parquet_of_many_row_groups(random: random.Random, folder: Path) -> Path:
    return parquet(folder / "t.parquet", table(400), row_group_size=random.choice((1, 7)))


# Texts and anything else


@family
def text_of_any_characters(random: random.Random, folder: Path) -> Path:
    letters = [chr(random.randrange(32, random.choice((128, 0xD7FF)))) for _ in range(random.choice((3, 60, 700)))]
    text = "".join(random.choice([*letters, "\u202e", "\x00"[: random.randint(0, 1)], "\n"]) for _ in range(30_000))
    content = text.encode() + random.choice((b"", b"\xff", b"\xed\xa0\x80"))
    return written(folder / "t.txt", content)


@family
def random_bytes(random: random.Random, folder: Path) -> Path:
    mark = random.choice((b"", b"PK\x03\x04", b"PAR1", b"\x93NUMPY", b"GIF89a", b"PK\x05\x06", b"\xff\xfe", b"II*\0"))
    content = mark + random.randbytes(random.choice((0, 9, 5_000))) + random.choice((b"", b"PAR1", bytes(22)))
    return written(folder / f"t.{random.choice(('zip', 'npz', 'csv', 'parquet', 'txt'))}", content or b"\0")
