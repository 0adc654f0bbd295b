"""Vectors of a question's sides: one pass of a model over distinct items, kept on disk by what made them and by content.

    <folder>/<model and prompt>/<any name>.safetensors    keys (n, 16) and vectors (n, dim) of one pass

Files of the user's own; what is damaged counts as not there. Over the limit the folder loses what was not used for longest.
"""

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from zoo.embedder.aiming import facing
from zoo.errors import InputError, QuestionsError, UnsupportedModalityError
from zoo.files import save_tensors, writing
from zoo.fusion import fingerprint, is_default
from zoo.inputs.hashing import KEY_BYTES, item_key
from zoo.inputs.item import Item
from zoo.prompts import Role
from zoo.spec import need_one_vector

if TYPE_CHECKING:
    from zoo.comparing.questions import Question
    from zoo.embedder import Embedder

MOST = 4 * 2**30  # bytes of vectors on disk: some two million of 512 dimensions


@dataclass(frozen=True, eq=False)
class Side:
    """Vectors of one side of a question.

    Attributes:
        vectors: `(n, dim)`, of what could not be embedded zeros. there: `(n,)` what could. skipped: why the others could not.
        fresh: how many were embedded now, and not found on disk.
    """

    vectors: Tensor
    there: np.ndarray
    skipped: tuple[str, ...]
    fresh: int


def check_reads(model: "Embedder", question: "Question") -> None:
    """Raises UnsupportedModalityError where a kind of items is none that the model reads; TokenVectorsError of late interaction."""
    need_one_vector(model.spec, "a comparison")
    for side in (question.left, question.right):
        for modalities, item in {item.modalities: item for item in side}.items():
            try:
                model.route(item)
            except UnsupportedModalityError as error:
                raise UnsupportedModalityError(
                    f"{model.spec.name} reads {', '.join(sorted(model.spec.modalities))}, and {question.source.name} has "
                    f"{' with '.join(sorted(modalities))}"
                ) from error


def embed(model: "Embedder", question: "Question", cache: "VectorCache | None" = None) -> tuple[Side, Side]:
    """Both sides of a question: each distinct item once, in the role that it has."""
    sides = question.left, question.right
    kinds = [{item.modalities for item in side} for side in sides] if model.spec.targets else [set(), set()]
    found = [
        _embedded(facing(model, others), side, _asked(model, role), cache)
        for side, others, role in zip(sides, reversed(kinds), question.roles, strict=True)
    ]
    return found[0], found[1]


def encoded(model: "Embedder", items: Sequence[Item], role: Role | None, cache: "VectorCache | None" = None) -> Tensor:
    """Vectors `(n, dim)` of items in a role.

    Raises:
        QuestionsError: one cannot be embedded; the message is the reason.
    """
    side = _embedded(model, items, _asked(model, role), cache)
    if side.skipped:
        raise QuestionsError(f"{model.spec.name}: {side.skipped[0]}")
    return side.vectors


def _asked(model: "Embedder", role: Role | None) -> dict[str, Any]:
    return {} if role is None else model.for_role(role)


def _embedded(model: "Embedder", items: Sequence[Item], asked: dict[str, Any], cache: "VectorCache | None") -> Side:
    vectors, there, skipped = torch.zeros(len(items), model.spec.dim), np.zeros(len(items), bool), []
    kept = None if cache is None else cache.of(model, asked)
    keys = [None] * len(items) if kept is None else [_key(item) for item in items]
    if kept is not None:
        for place, vector in kept.find(keys):
            vectors[place], there[place] = vector, True
    missing = np.flatnonzero(~there)
    for index, vector, error in model.encode_stream((items[place] for place in missing), **asked):
        place = missing[index]
        if vector is not None:
            vectors[place], there[place] = vector, True
        elif error is not None:
            error.index = None  # its place here is none that the user knows
            skipped.append(str(error))
    if kept is not None and cache is not None:
        fresh = [place for place in missing if there[place] and keys[place] is not None]
        kept.add([keys[place] for place in fresh], vectors[fresh])  # type: ignore[misc]
        cache.trim()
    return Side(vectors, there, tuple(skipped), len(missing))


def _key(item: Item) -> bytes | None:
    """A digest of the content; of videos and documents, which are large, of the file's size and time of change. None: cannot be told."""
    try:
        return item_key(item, files="stamp" if item.video is not None or item.document is not None else "content")
    except (InputError, OSError):
        return None  # whoever reads it will say so


class VectorCache:
    """Vectors on disk.

    Args:
        folder: made when something is kept. most: bytes that it may hold. again: finds nothing, so that all is embedded anew.
    """

    def __init__(self, folder: Path, most: int = MOST, *, again: bool = False) -> None:
        self.folder, self.most, self.again = Path(folder), most, again

    def of(self, model: "Embedder", asked: dict[str, Any]) -> "_Kept":
        """Those of a model with a prompt."""
        marks = {**model.fingerprint(**asked, regions=True)}
        if not is_default(model.fusion):
            marks["fusion"] = fingerprint(model.fusion)
        key = hashlib.sha256(json.dumps(marks, sort_keys=True).encode()).hexdigest()[:24]
        return _Kept(self.folder / key, model.spec.dim, self.again)

    def trim(self) -> None:
        """Deletes what was not used for longest, until the rest is within the limit."""
        files = []
        for path in self.folder.glob("*/*.safetensors"):
            with contextlib.suppress(OSError):  # another process may delete it
                files.append((path.stat().st_mtime_ns, path.stat().st_size, path))
        over = sum(size for _, size, _ in files) - self.most
        for _, size, path in sorted(files):
            if over <= 0:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            over -= size


class _Kept:
    """The vectors of one model and prompt."""

    def __init__(self, folder: Path, dim: int, again: bool) -> None:
        self.folder, self.dim, self.again = folder, dim, again

    def find(self, keys: Sequence[bytes | None]) -> Iterator[tuple[int, Tensor]]:
        """Place and vector of every key that is there."""
        wanted = {key: place for place, key in enumerate(keys) if key is not None}
        for path in sorted(self.folder.glob("*.safetensors")) if not self.again and wanted else ():
            found = self._read(path)
            if found is None:
                continue
            here = [(at, place) for at, key in enumerate(found[0]) if (place := wanted.pop(key, None)) is not None]
            for at, place in here:
                yield place, found[1][at]
            if here:
                with contextlib.suppress(OSError):
                    os.utime(path)

    def _read(self, path: Path) -> tuple[list[bytes], Tensor] | None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors = load_file(path)
            keys, vectors = tensors["keys"], tensors["vectors"]
            sound = keys.shape == (len(vectors), KEY_BYTES) and vectors.shape[1:] == (self.dim,)
            if not sound or keys.dtype != torch.uint8 or vectors.dtype != torch.float32 or not vectors.isfinite().all():
                return None
            return [row.tobytes() for row in keys.numpy()], vectors
        except (OSError, SafetensorError, KeyError, ValueError):
            return None

    def add(self, keys: Sequence[bytes], vectors: Tensor) -> None:
        """Keeps vectors; where the disk is full, or may not be written, nothing is kept."""
        if not keys:
            return
        both = {
            "keys": torch.from_numpy(np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES).copy()),
            "vectors": vectors.contiguous(),
        }
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with writing(self.folder / f"{uuid.uuid4().hex}.safetensors", durable=False) as path:
                save_tensors(both, path)
