"""Keys of items: a digest that is equal for equal content, in every process."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from zoo.errors import UnsupportedInputError
from zoo.inputs.excerpts import is_excerpt
from zoo.inputs.item import Item, as_item
from zoo.inputs.masks import MaskFile
from zoo.inputs.regions import Box, Mask, Point, Polygon
from zoo.inputs.waveform import as_waveform

KEY_BYTES = 16
_NONE = (4).to_bytes(8, "little") + b"none"
Files = Literal["stamp", "content", "size"]


def item_key(item: Item, prefix: str = "", *, files: Files = "stamp") -> bytes:
    """A digest `(16 bytes)` of an item's content: equal for equal items, in every process and on every machine.

    Args:
        prefix: the prompt's words, put before the text as `encode` puts them.
        files: how media count. By "stamp" a file is its absolute path, size and time of change, so that nothing has to
            be read, and bytes are their content; by "content" a file is the bytes in it; by "size" files and bytes are
            their length alone.

    Raises:
        UnsupportedInputError: something without a content that could be told. OSError: with "content", an unreadable file.
    """
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    text = prefix + item.text if prefix and item.text is not None and item.text.strip() else item.text
    for value in (text, item.image, item.video, item.audio, item.regions):
        if value is None:  # most are, and tables have millions of items
            digest.update(_NONE)
        else:
            _feed(digest, value, files)
    if item.document is not None:  # so that keys of all other items stay what they were
        _feed(digest, ("document", item.document), files)
    if item.instruction is not None or item.parts or (prefix and item.modalities != {"text"}):
        # A vision-language model reads the prompt with an image too; keys of texts stay what they were.
        _feed(digest, item.instruction if item.instruction is not None else prefix, files)
        for part in item.parts:
            digest.update(item_key(as_item(part), files=files))
    return digest.digest()


def _feed(digest: Any, value: Any, files: Files) -> None:
    """Adds a value, led by its kind and length, so that no two values read alike."""
    if isinstance(value, str):  # most are, and asking for a Sequence takes long
        parts = [b"text", value.encode("utf-8", "surrogatepass")]
    elif value is None or (isinstance(value, Sequence) and not len(value) and not isinstance(value, bytes)):
        digest.update(_NONE)
        return
    elif isinstance(value, Path | bytes | bytearray | memoryview):
        parts = _medium(value, files)
    elif is_excerpt(value):
        _feed(digest, (*value.told(), value.source), files)
        return
    elif isinstance(value, Box | Point | Polygon):
        told = (type(value).__name__, value.unit, *map(float, value.numbers))  # 1 and 1.0 are one place
        parts = [b"region", repr(told).encode()]
    elif isinstance(value, Mask):
        file = isinstance(value.pixels, MaskFile)
        parts = [b"mask", *(_medium(value.pixels.source, files) if file else _array(value.pixels))]
    elif isinstance(value, list | tuple):
        digest.update(b"many" + len(value).to_bytes(8, "little"))
        for one in value:
            _feed(digest, one, files)
        return
    elif hasattr(value, "getbands"):
        facts = (
            value.mode,
            value.size,
            value.getpalette(),
            value.info.get("transparency"),
            value.getexif().get(0x0112),
        )
        # "picture" is a mark of the digest: another would give every PIL image kept so far another identity.
        parts = [b"picture", repr(facts).encode(), value.tobytes()]
    elif hasattr(value, "dtype"):
        parts = [b"array", *_array(value)]
    elif (waveform := as_waveform(value)) is not None and hasattr(waveform.samples, "dtype"):
        parts = [b"waveform", str(waveform.rate).encode(), *_array(waveform.samples)]
    else:
        raise UnsupportedInputError(
            f"cannot tell a {type(value).__name__} from another by content; pass a path, bytes or an array",
            what=repr(value)[:80],
        )
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)


def _medium(value: Path | bytes | bytearray | memoryview, files: Files) -> list[bytes]:
    if not isinstance(value, Path):
        return [b"size", str(len(value)).encode()] if files == "size" else [b"bytes", bytes(value)]
    if files == "content":
        return [b"bytes", value.read_bytes()]
    stamp = _stamp(value)
    return [b"file", *stamp] if files == "stamp" else [b"size", stamp[1].split()[0]]


def _stamp(path: Path) -> list[bytes]:
    try:
        status = path.stat()
        facts = f"{status.st_size} {status.st_mtime_ns}"
    except OSError:
        facts = "absent"  # the encoder names the reason
    return [os.fsencode(os.path.abspath(path)), facts.encode()]


def _array(value: Any) -> list[bytes | memoryview]:
    if isinstance(value, Tensor):
        content = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    else:
        value = np.ascontiguousarray(value)
        content = value.reshape(-1).view(np.uint8)
    return [f"{value.dtype} {tuple(value.shape)}".encode(), content.tobytes()]
