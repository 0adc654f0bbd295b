"""Files, bytes and arrays → pixels: the only room that knows decoders, and the one that distrusts every byte."""

import io
import os
import stat
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import (
    CorruptImageError,
    ImageTooLargeError,
    InputError,
    InvalidPixelsError,
    MissingFileError,
    NotMediaError,
    UnsupportedInputError,
)
from zoo.inputs.heif import chosen_way, is_heif, largest_size, open_image
from zoo.modalities import Modality

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

MAX_PIXELS = 64_000_000
MAX_FILE_BYTES = 512 * 2**20
# EPS would start Ghostscript, and sixty rare parsers are sixty chances for a bug.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".hif"}
)
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"})
_HEAD = 64
_READING = threading.Lock()
_EXIF_ORIENTATION = 0x0112
_TURNED = (
    "an image that no file opened (its PIL `format` is None) carries an orientation tag, and is turned as it says. If its pixels "
    "are upright already, take the tag away (PIL.ImageOps.exif_transpose turns and takes away), or pass the file"
)


def is_open_file(value: Any) -> bool:
    """Whether something is a file that was opened to read bytes, a `BytesIO`, or behaves like one."""
    return callable(getattr(value, "read", None)) and not isinstance(value, io.TextIOBase | Path)


def read_open_file(file: Any) -> bytes:
    """All bytes of an open file, from its beginning where it can go back there.

    Raises:
        MissingFileError: it is closed or cannot be read. UnsupportedInputError: it gives no bytes.
        ImageTooLargeError: over 512 MiB.
    """
    name = f"{type(file).__name__} {getattr(file, 'name', '')}".strip()
    try:
        with _READING:  # one file may stand in a list twice
            if getattr(file, "seekable", lambda: False)():
                file.seek(0)
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise MissingFileError(f"{name} cannot be read: {error}; open it again, in mode 'rb'", what=name) from error
    if not isinstance(content, bytes | bytearray | memoryview):
        found = type(content).__name__
        raise UnsupportedInputError(f"{name} gives {found}, not bytes; open it in mode 'rb'", what=name)
    if len(content) > MAX_FILE_BYTES:
        raise ImageTooLargeError(f"{name} has over {MAX_FILE_BYTES // 2**20} MiB; no more are read", what=name)
    return bytes(content)


def kind_of(source: Path | bytes) -> Modality:
    """The modality of a file or of bytes, told from how they begin and never from the name.

    Raises:
        MissingFileError: no such regular, readable file. NotMediaError: no media that the zoo knows.
    """
    head = head_of(source)
    kind = _kind_of_head(head)
    if kind is None:
        raise NotMediaError(f"{describe(source)} {_what_it_looks_like(head)}", what=describe(source))
    return kind


def _kind_of_head(head: bytes) -> Modality | None:
    if head[:3] == b"\xff\xd8\xff" or head[:8] == b"\x89PNG\r\n\x1a\n" or head[:4] == b"GIF8" or head[:2] == b"BM":
        return "image"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "image"
    if head[:4] == b"RIFF":
        return {b"WEBP": "image", b"WAVE": "audio", b"AVI ": "video"}.get(head[8:12])  # type: ignore[return-value]
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in (b"avif", b"avis", b"mif1", b"msf1") or is_heif(head):
            return "image"
        return "audio" if brand == b"M4A " else "video"
    if head[:4] in (b"fLaC", b"OggS") or head[:3] == b"ID3" or head[:2] in (b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"):
        return "audio"
    if head[:4] == b"\x1a\x45\xdf\xa3" or head[:4] == b"\x00\x00\x01\xba":
        return "video"
    return None


def _what_it_looks_like(head: bytes) -> str:
    start = head.lstrip().lower()
    known = f"; the zoo reads {', '.join(FORMATS)} pictures"
    if not head:
        return "is empty (0 bytes)" + known
    if start.startswith((b"<!doctype html", b"<html")):
        return "is a web page (HTML), probably a failed download" + known
    if start.startswith((b"<svg", b"<?xml")):
        return "is SVG or XML; draw it to PNG first"
    if start.startswith(b"%pdf"):
        return "is a PDF; turn its pages into pictures first"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError:
        return "holds no media that the zoo knows" + known
    return "is a text file; read it and pass its text as str" + known


def describe(source: Any) -> str:
    """A short name of a picture's source for messages."""
    if isinstance(source, Path):
        return str(source)
    if isinstance(source, bytes):
        return f"{len(source)} bytes"
    shape = getattr(source, "shape", None) or getattr(source, "size", None)
    return f"{type(source).__name__} {tuple(shape)}" if isinstance(shape, tuple) else type(source).__name__


def read_bytes(path: Path) -> bytes:
    """A regular file's bytes; raises MissingFileError for anything else, ImageTooLargeError above 512 MiB."""
    size = _regular_size(path)
    if size > MAX_FILE_BYTES:
        raise ImageTooLargeError(
            f"{path} has {size / 2**20:.0f} MiB; at most {MAX_FILE_BYTES // 2**20} are read", what=str(path)
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingFileError(f"{path} cannot be read: {error.strerror or error}", what=str(path)) from error


def head_of(source: Path | bytes) -> bytes:
    """How a file or bytes begin, which tells what they are; raises MissingFileError for no regular, readable file."""
    if isinstance(source, bytes):
        return source[:_HEAD]
    _regular_size(source)
    try:
        with source.open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise MissingFileError(f"{source} cannot be read: {error.strerror or error}", what=str(source)) from error


def _regular_size(path: Path) -> int:
    # Asked before opening: opening a FIFO would wait for ever, a device would never end.
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        if os.path.islink(path):
            why = f"is a link to {os.readlink(path)}, which does not exist"
        elif str(path).startswith(("http:/", "https:/")):
            why = "is a URL, which is never fetched; download it and pass the file"
        else:
            reason = getattr(error, "strerror", None) or str(error)
            missing = isinstance(error, FileNotFoundError)
            why = f"does not exist (working directory {Path.cwd()})" if missing else f"cannot be opened: {reason}"
        raise MissingFileError(f"{path} {why}", what=str(path)) from error
    if stat.S_ISDIR(status.st_mode):
        raise MissingFileError(f"{path} is a folder; pass its files, or use `zoo embed`", what=str(path))
    if not stat.S_ISREG(status.st_mode):
        raise MissingFileError(f"{path} is no regular file (a pipe, socket or device)", what=str(path))
    return status.st_size


def load_pixels(source: Any) -> "np.ndarray":
    """Any picture as upright RGB: uint8 `(height, width, 3)`.

    EXIF orientation is applied, transparency laid on white, 16-bit and float pictures scaled by their range, the
    first frame of an animation and the primary image of a HEIC file taken.

    Raises:
        InputError: the subclass says whether the file is missing, no picture, damaged, too large or out of range.
    """
    if isinstance(source, str):
        raise UnsupportedInputError(
            f"a picture was given as the string {source[:60]!r}; pass pathlib.Path for a file", what=source[:60]
        )
    if isinstance(source, Path):
        return decode(read_bytes(source), str(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return decode(bytes(source), describe(bytes(source)))
    if is_open_file(source):
        return load_pixels(read_open_file(source))
    if hasattr(source, "getexif") or hasattr(source, "getbands"):
        return _guarded(lambda: _from_pil(source, describe(source)), describe(source))
    if hasattr(source, "ndim") and hasattr(source, "dtype"):
        return _from_array(source)
    raise UnsupportedInputError(f"{type(source).__name__} is no picture", what=type(source).__name__)


def _guarded(decode: Any, name: str) -> "np.ndarray":
    from PIL import Image

    try:
        return decode()
    except (InputError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError(f"{name} has more than {MAX_PIXELS:,} pixels", what=name) from error
    except Exception as error:
        # A decoder may raise anything on damaged bytes (struct.error, IndexError, SyntaxError, ...).
        raise CorruptImageError(f"{name} is damaged or cut off: {' '.join(str(error).split())}", what=name) from error


def decode(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> "np.ndarray":
    """The bytes of an image file as `load_pixels` gives them; `name` stands for them in messages.

    Raises:
        InputError: as `load_pixels`; ImageTooLargeError above `max_pixels`, before anything is decoded.
    """
    from PIL import Image, UnidentifiedImageError

    head = data[:_HEAD]
    kind, heif = _kind_of_head(head), is_heif(head)
    if kind != "image":
        found = f"holds {kind}, not a picture" if kind else _what_it_looks_like(head)
        raise NotMediaError(f"{name} {found}", what=name)
    if heif and (way := chosen_way()):
        return way(data, name)

    def opened() -> "np.ndarray":
        if heif:
            _check_size(largest_size(data), name, max_pixels)
        try:
            picture = open_image(data, name) if heif else Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError as error:
            raise CorruptImageError(f"{name} begins like a picture but cannot be read", what=name) from error
        with picture:
            _check_size(picture.size, name, max_pixels)
            if picture.format in ("JPEG", "MPO") and picture.mode in ("RGB", "L"):
                fast = _turbo_jpeg(data, picture)
                if fast is not None:
                    return fast
            return _from_pil(picture, name)

    return _guarded(opened, name)


def _turbo_jpeg(data: bytes, picture: "Image.Image") -> "np.ndarray | None":
    """libjpeg-turbo without PIL's copy: the same pixels at 1.6 times the speed. None where PIL should decide."""
    import simplejpeg

    try:
        pixels = simplejpeg.decode_jpeg(data, colorspace="RGB")
    except ValueError:
        return None
    if pixels.shape[:2] != (picture.height, picture.width):
        return None
    return _upright(pixels, picture.getexif().get(_EXIF_ORIENTATION, 1))


def _upright(pixels: "np.ndarray", orientation: int) -> "np.ndarray":
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in range(2, 9):
        import numpy as np

        return np.ascontiguousarray(pixels)
    return pixels


def _check_size(size: tuple[int, int], name: str, max_pixels: int = MAX_PIXELS) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise InvalidPixelsError(f"{name} has no pixels ({width}x{height})", what=name)
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"{name} has {width}x{height} = {width * height / 1e6:.0f} megapixels; at most {max_pixels / 1e6:.0f} are "
            "decoded: scale it down first",
            what=name,
        )


def _from_pil(picture: "Image.Image", name: str) -> "np.ndarray":
    import numpy as np
    from PIL import Image

    _check_size(picture.size, name)
    picture.load()  # some decoders turn the pixels themselves, and take the tag away
    # libheif has turned the pixels as the container says, whose EXIF says so once more.
    orientation = 1 if picture.format == "HEIF" else picture.getexif().get(_EXIF_ORIENTATION, 1)
    if picture.format is None and orientation in range(2, 9):
        warnings.warn(_TURNED, stacklevel=2)
    mode = picture.mode
    if mode.startswith("I;16") or mode in ("I", "F"):
        grey = _eight_bits(np.asarray(picture), name)
        return _upright(np.repeat(grey[:, :, None], 3, axis=2), orientation)
    if mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info:
        overlay = picture.convert("LA").convert("RGBA") if mode == "La" else picture.convert("RGBA")
        canvas = Image.new("RGBA", overlay.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(canvas, overlay)
    return _upright(np.array(picture.convert("RGB")), orientation)


def _from_array(array: Any) -> "np.ndarray":
    """`(H, W)`, `(H, W, 1|3|4)` or `(1|3|4, H, W)`; integers are 0..255 or 0..65535, floats 0..1 or 0..255."""
    import numpy as np

    is_tensor = hasattr(array, "detach")
    shape = tuple(array.shape)
    name = f"array {shape}"
    pixels = array.detach().cpu().float().numpy() if is_tensor and array.is_floating_point() else None
    if pixels is None:
        pixels = array.detach().cpu().numpy() if is_tensor else np.asarray(array)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    first_is_channels = pixels.ndim == 3 and shape[0] in (1, 3, 4)
    last_is_channels = pixels.ndim == 3 and pixels.shape[-1] in (1, 3, 4)
    if first_is_channels and (is_tensor or not last_is_channels) and array.ndim == 3:
        pixels = pixels.transpose(1, 2, 0)
    elif not last_is_channels:
        raise InvalidPixelsError(
            f"{name} is no picture; expected (height, width), (height, width, 1|3|4) or (1|3|4, height, width)",
            what=name,
        )
    _check_size((pixels.shape[1], pixels.shape[0]), name)
    pixels = _eight_bits(pixels, name)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 4:
        # In integers, rounded: no float copy of a large picture.
        colour, alpha = pixels[:, :, :3].astype(np.uint16), pixels[:, :, 3:].astype(np.uint16)
        return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    pixels = np.ascontiguousarray(pixels)
    return pixels if pixels.flags.writeable else pixels.copy()  # torch would warn of shared read-only memory


def _eight_bits(pixels: "np.ndarray", name: str) -> "np.ndarray":
    """Scales by range, so that neither 16-bit pictures turn white nor unit floats black."""
    import numpy as np

    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * 255
    if pixels.dtype.kind not in "iuf":
        raise InvalidPixelsError(f"{name} has pixels of type {pixels.dtype}; expected numbers", what=name)
    values = pixels.astype(np.float64 if pixels.dtype.itemsize > 4 else np.float32)
    if not np.isfinite(values).all():
        raise InvalidPixelsError(f"{name} holds NaN or infinite pixels", what=name)
    low, high = float(values.min()), float(values.max())
    if low < 0:
        raise InvalidPixelsError(
            f"{name} holds negative pixels ({low:.3g}); pass the picture before normalisation, 0..1 or 0..255",
            what=name,
        )
    if pixels.dtype.kind == "f":
        ranges = (1.0, 255.0, 65535.0)
    else:
        ranges = (65535.0,) if pixels.dtype.itemsize == 2 and pixels.dtype.kind == "u" else (255.0, 65535.0)
    top = next((limit for limit in ranges if high <= limit), None)
    if top is None:
        raise InvalidPixelsError(f"{name} holds pixels up to {high:.4g}; expected 0..1, 0..255 or 0..65535", what=name)
    return np.rint(values * (255.0 / top)).astype(np.uint8)
