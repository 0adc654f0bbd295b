"""Over sixty kinds of bad and odd images, each with what must become of it: a vector, or the code of an error."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from zoo import Item

VECTOR = "vector"
NO_HEIC = "corrupt-image" if find_spec("pillow_heif") else "unread-heif"  # of what only begins like HEIC
Make = Callable[[Path], object]
KINDS: dict[str, tuple[str, Make]] = {}


def kind(name: str, outcome: str) -> Callable[[Make], Make]:
    def add(make: Make) -> Make:
        assert name not in KINDS
        KINDS[name] = (outcome, make)
        return make

    return add


def make_image(width: int = 64, height: int = 48) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 3 % 256, y * 5 % 256, (x + y) % 256], -1).astype(np.uint8))


def encoded(format: str, image: Image.Image | None = None, **options) -> bytes:
    buffer = io.BytesIO()
    (image or make_image()).save(buffer, format, **options)
    return buffer.getvalue()


def file(folder: Path, data: bytes, name: str = "x.jpg") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def png(width: int, height: int, idat: bytes = b"") -> bytes:
    """A PNG header that claims any size."""

    def chunk(tag: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", idat) + chunk(b"IEND", b"")


# ---- files that are no images
CONTENT = {
    "zero bytes": b"",
    "one byte": b"\xff",
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "pdf": b"%PDF-1.7\n",
    "plain text": b"just a caption",
    "random bytes": np.random.default_rng(0).bytes(3000),
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "zip": b"PK\x03\x04" + bytes(100),
    "a wave file": b"RIFF\x24\0\0\0WAVEfmt " + bytes(40),
    "gzip": b"\x1f\x8b\x08" + bytes(60),
    "nul bytes": bytes(4096),
}
for _name, _data in CONTENT.items():
    _code = {"a wave file": "unsupported-modality", "pdf": "corrupt-document", "heic": NO_HEIC}.get(_name, "not-media")
    kind(f"file of {_name}", _code)(lambda folder, data=_data: file(folder, data))

# ---- images cut off
for _format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
    for _share in (0.35, 0.9):
        # GIF may end early: what was read is a whole frame only if the image data was.
        kind(f"{_format} cut at {_share:.0%}", "corrupt-image")(
            lambda folder, f=_format, s=_share: file(folder, (d := encoded(f, make_image(200, 150)))[: int(len(d) * s)])
        )
for _bytes in (4, 12, 24, 40):
    kind(f"JPEG of its first {_bytes} bytes", "corrupt-image")(
        lambda folder, n=_bytes: file(folder, encoded("JPEG")[:n])
    )
kind("PNG without data", "corrupt-image")(lambda folder: file(folder, png(8, 8)))
kind("PNG with a damaged checksum", "corrupt-image")(
    lambda folder: file(folder, (d := bytearray(encoded("PNG"))) and bytes(d[:45] + bytes([d[45] ^ 255]) + d[46:]))
)
kind("PNG of width zero", "corrupt-image")(lambda folder: file(folder, png(0, 8)))
kind("JPEG with a letter after its end", VECTOR)(lambda folder: file(folder, encoded("JPEG") + b"trailing words"))

# ---- bombs
kind("bomb of 0.9 gigapixels", "image-too-large")(lambda folder: file(folder, png(30000, 30000)))
kind("bomb of 100 megapixels", "image-too-large")(lambda folder: file(folder, png(10000, 10000)))
kind("bomb wider than 2^31", "image-too-large")(lambda folder: file(folder, png(2**31 - 1, 5)))
kind("array of 65 megapixels", "image-too-large")(lambda folder: np.zeros((8200, 8000), np.uint8))

# ---- odd sizes
for _w, _h in ((1, 1), (1, 5000), (5000, 1), (2, 3), (1, 300), (3000, 2)):
    kind(f"{_w}x{_h}", VECTOR)(lambda folder, w=_w, h=_h: file(folder, encoded("PNG", make_image(w, h)), "x.png"))

# ---- all modes
for _mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"):
    kind(f"PNG mode {_mode}", VECTOR)(
        lambda folder, m=_mode: file(
            folder,
            encoded("PNG", make_image().convert("L").convert(m) if m in ("I", "I;16") else make_image().convert(m)),
            "x.png",
        )
    )
for _mode in ("CMYK", "F", "RGBX"):
    kind(f"TIFF mode {_mode}", VECTOR)(
        lambda folder, m=_mode: file(
            folder, encoded("TIFF", make_image().convert("L" if m == "F" else "RGB").convert(m)), "x.tif"
        )
    )
for _mode in ("CMYK", "L"):
    kind(f"JPEG mode {_mode}", VECTOR)(lambda folder, m=_mode: file(folder, encoded("JPEG", make_image().convert(m))))
for _mode in ("PA", "La", "RGBa", "HSV"):
    kind(f"PIL mode {_mode}", VECTOR)(
        lambda folder, m=_mode: make_image().convert({"PA": "P", "La": "LA", "RGBa": "RGBA"}.get(m, "RGB")).convert(m)
    )
kind("progressive JPEG", VECTOR)(lambda folder: file(folder, encoded("JPEG", progressive=True)))
kind("AVIF", VECTOR)(lambda folder: file(folder, encoded("AVIF"), "x.avif"))
kind("WebP, lossless and transparent", VECTOR)(
    lambda folder: file(folder, encoded("WEBP", make_image().convert("RGBA"), lossless=True), "x.webp")
)
kind("animated GIF", VECTOR)(
    lambda folder: file(folder, encoded("GIF", save_all=True, append_images=[make_image().rotate(90)]), "x.gif")
)
kind("interlaced palette with transparency", VECTOR)(
    lambda folder: file(folder, encoded("PNG", make_image().convert("P"), transparency=0), "x.png")
)
kind("JPEG named .png", VECTOR)(lambda folder: file(folder, encoded("JPEG"), "x.png"))
kind("PNG without suffix", VECTOR)(lambda folder: file(folder, encoded("PNG"), "x"))
kind("name with spaces, an umlaut and a smile", VECTOR)(lambda folder: file(folder, encoded("PNG"), "a ü 😀.png"))

# ---- places
kind("directory", "missing-file")(lambda folder: folder)
kind("missing file", "missing-file")(lambda folder: folder / "nowhere.jpg")
kind("name of 5000 letters", "missing-file")(lambda folder: folder / ("x" * 5000))
kind("name with a nul", "missing-file")(lambda folder: Path(f"{folder}/a\0b"))
kind("URL as a path", "missing-file")(lambda folder: Path("https://example.org/a.jpg"))


@kind("FIFO", "missing-file")
def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.jpg")
    return folder / "pipe.jpg"


@kind("device", "missing-file")
def _device(folder: Path) -> Path:
    return Path("/dev/zero")


@kind("dangling link", "missing-file")
def _dangling(folder: Path) -> Path:
    (folder / "link.jpg").symlink_to(folder / "gone.jpg")
    return folder / "link.jpg"


@kind("link to itself", "missing-file")
def _loop(folder: Path) -> Path:
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    return folder / "loop.jpg"


@kind("good link", VECTOR)
def _link(folder: Path) -> Path:
    (folder / "link.jpg").symlink_to(file(folder, encoded("JPEG"), "real.jpg"))
    return folder / "link.jpg"


# ---- objects
ARRAYS = {
    "NaN pixels": (np.full((8, 8, 3), np.nan, np.float32), "invalid-pixels"),
    "infinite pixels": (np.full((8, 8, 3), np.inf), "invalid-pixels"),
    "negative pixels": (np.full((8, 8, 3), -1.0), "invalid-pixels"),
    "pixels up to a million": (np.full((8, 8, 3), 1e6), "invalid-pixels"),
    "no pixels": (np.zeros((0, 8, 3), np.uint8), "invalid-pixels"),
    "five channels": (np.zeros((8, 8, 5), np.uint8), "invalid-pixels"),
    "complex pixels": (np.zeros((8, 8, 3), np.complex64), "invalid-pixels"),
    "unit floats": (np.random.default_rng(0).random((8, 8, 3)), VECTOR),
    "floats to 255": (np.random.default_rng(0).random((8, 8, 3)) * 255, VECTOR),
    "16-bit array": ((np.random.default_rng(0).random((8, 8)) * 65535).astype(np.uint16), VECTOR),
    "boolean array": (np.eye(8, dtype=bool), VECTOR),
    "channels first": (np.random.default_rng(0).integers(0, 255, (3, 8, 9), dtype=np.uint8), VECTOR),
    "grey with one channel": (np.random.default_rng(0).integers(0, 255, (8, 9, 1), dtype=np.uint8), VECTOR),
    "RGBA array": (np.random.default_rng(0).integers(0, 255, (8, 9, 4), dtype=np.uint8), VECTOR),
    "reversed view": (np.random.default_rng(0).integers(0, 255, (8, 9, 3), dtype=np.uint8)[::-1, ::-1], VECTOR),
    "four dimensions": (np.zeros((2, 8, 8, 3), np.uint8), "unsupported-type"),
    "one dimension": (np.zeros(16000, np.float32), "unsupported-type"),
}
for _name, (_array, _outcome) in ARRAYS.items():
    kind(_name, _outcome)(lambda folder, a=_array: a)

OBJECTS = {
    "None": (None, "unsupported-type"),
    "a number": (3.5, "unsupported-type"),
    "an object": (object(), "unsupported-type"),
    "bytes of a JPEG": (encoded("JPEG"), VECTOR),
    "empty bytes": (b"", "not-media"),
    "bytearray of a PNG": (bytearray(encoded("PNG")), VECTOR),
    "empty Item": (Item(), "empty-item"),
    "Item with a str as image": (Item(image="x.jpg"), "unsupported-type"),
    "Item with a number as image": (Item(image=5), "unsupported-type"),
    "Item with image bytes": (Item(image=encoded("JPEG")), VECTOR),
    "closed PIL image": (None, "corrupt-image"),
}
for _name, (_value, _outcome) in OBJECTS.items():
    if _name != "closed PIL image":
        kind(_name, _outcome)(lambda folder, v=_value: v)


@kind("PIL image whose file is cut off", "corrupt-image")
def _lazy(folder: Path) -> Image.Image:
    return Image.open(io.BytesIO(encoded("JPEG", make_image(200, 150))[:900]))
