"""VectorCache: embeddings on disk by content, for towers that do not learn and for teachers.

A folder holds `cache.json` (what made the vectors) and parts of two files each, `NAME.vectors` and `NAME.keys`. A
process appends to a part of its own, vectors before keys: what a kill leaves of a record has no key and is not seen.
"""

import copy
import hashlib
import json
import os
import re
import struct
import threading
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from zoo import regions
from zoo.embedder import Embedder, Tower, heads_hash
from zoo.errors import DiskFullError, FolderError, InputError, UnsafeFolderError, ZooError
from zoo.files import is_full
from zoo.fusion import is_default
from zoo.inputs.hashing import KEY_BYTES, item_key
from zoo.inputs.item import Item, as_item
from zoo.shards.fingerprints import check_fingerprint
from zoo.spec import need_one_vector
from zoo.strangers.folders import Place

_TOGETHER = 512  # vectors that are written at once: what a kill can cost
_RECENT = 2**16  # keys in a dictionary before they are sorted in with the others
_HALVES = struct.Struct("<QQ")  # a key as two numbers, which sort fast
_OWN = re.compile(r"\d+-[0-9a-f]{12}\.(keys|vectors)")
_KEYS = re.compile(r"[^.].*\.keys")


# ---------------------------------------------------------------------------------------------------- the cache


class VectorCache:
    """Vectors on disk by key; safe for many threads, and for many processes that write at once.

    Args:
        folder: made where it is missing.
        fingerprint: JSON-able facts of what made the vectors; must agree with those that the folder was begun with.
        dim: length of a vector. dtype: how vectors are kept; they are always given as float32.

    Raises:
        FingerprintMismatchError: the folder's vectors were made differently. FolderError: it cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: Mapping[str, Any],
        dim: int,
        dtype: Literal["float32", "float16"] = "float32",
    ) -> None:
        self.folder, self.dim, self.dtype = Path(folder), dim, np.dtype(dtype)
        facts = {**json.loads(json.dumps(dict(fingerprint))), "dim": dim, "dtype": self.dtype.name}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            stored = _read_or_write(Place.of(self.folder), facts)
        except (OSError, ValueError, UnsafeFolderError) as error:
            raise FolderError(f"{self.folder} cannot be a cache of vectors ({error}); name another folder") from error
        check_fingerprint(stored, facts, self.folder, "Name another folder, or delete this one.")
        self._lock = threading.RLock()
        self._own: _Part | None = None
        self._process = os.getpid()
        self.refresh()

    @classmethod
    def for_towers(cls, folder: Path, model: Embedder, towers: Sequence[int] | None = None, **options: Any) -> Self:
        """A cache for some towers of a model, all by default: its fingerprint is of their weights and preprocessing.

        Prompts are part of the keys; the weights of other towers, which may be learning, do not matter.
        """
        whole = range(len(model.towers if is_default(model.fusion) else model.routes))
        chosen = whole if towers is None else towers
        return cls(folder, tower_fingerprint(model, chosen), model.spec.dim, **options)

    def refresh(self) -> None:
        """Sees what other processes have written since this one opened the cache."""
        with self._lock:
            own = {self._own.name} if self._own is not None else set()
            names = sorted(name.removesuffix(".keys") for name in os.listdir(self.folder) if _KEYS.fullmatch(name))
            self._parts = [_Part(self.folder, name, self.dim, self.dtype) for name in names if name not in own]
            if self._own is not None:
                self._parts.append(self._own)
            keys = np.concatenate([np.empty((0, 2), "<u8"), *(part.read_keys() for part in self._parts)])
            parts = np.repeat(np.arange(len(self._parts)), [part.rows for part in self._parts])
            rows = np.concatenate([np.empty(0, np.int64), *(np.arange(part.rows) for part in self._parts)])
            # By the first half alone: of 2^64 values two digests share one next to never, and then the
            # later one is computed anew.
            order = np.argsort(keys[:, 0], kind="stable")
            self._keys, self._where = np.asfortranarray(keys[order]), np.stack([parts, rows], 1)[order]
            self._recent: dict[bytes, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._keys) + len(self._recent)

    def __contains__(self, key: bytes) -> bool:
        return bool(self._find([key])[0][0] >= 0)

    def _find(self, keys: Sequence[bytes]) -> np.ndarray:
        """Part and row of every key `(n, 2)`, -1 where there is none."""
        wanted = np.frombuffer(b"".join(keys), "<u8").reshape(len(keys), 2)
        found = np.full((len(keys), 2), -1)
        if len(self._keys):
            places = np.searchsorted(self._keys[:, 0], wanted[:, 0]).clip(max=len(self._keys) - 1)
            same = (self._keys[places] == wanted).all(1)
            found[same] = self._where[places[same]]
        if self._recent:
            for i in np.flatnonzero(found[:, 0] < 0).tolist():
                found[i] = self._recent.get(keys[i], (-1, -1))
        return found

    def get(self, keys: Sequence[bytes]) -> tuple[Tensor, np.ndarray]:
        """Vectors of some keys, float32 `(n, dim)`, and the positions of those that are missing, whose rows are 0."""
        vectors = np.zeros((len(keys), self.dim), np.float32)
        if not len(keys):
            return torch.from_numpy(vectors), np.empty(0, np.int64)
        with self._lock:
            found = self._find(keys)
            for number in np.unique(found[found[:, 0] >= 0, 0]).tolist():
                mine = found[:, 0] == number
                vectors[mine] = self._parts[number].vectors()[found[mine, 1]]
        return torch.from_numpy(vectors), np.flatnonzero(found[:, 0] < 0)

    def vector(self, key: bytes) -> Tensor | None:
        """The vector of one key, float32 `(dim,)`; None where there is none."""
        with self._lock:
            where = self._recent.get(key)
            if where is None and len(self._keys):  # one key at a time is worth its own way: feeds ask for each item
                first, second = _HALVES.unpack(key)
                place = min(int(self._keys[:, 0].searchsorted(np.uint64(first))), len(self._keys) - 1)
                if self._keys[place, 0] == first and self._keys[place, 1] == second:
                    where = self._where[place].tolist()
            if where is None:
                return None
            return torch.from_numpy(self._parts[where[0]].vectors()[where[1]].astype(np.float32))

    def put(self, keys: Sequence[bytes], vectors: Tensor | np.ndarray) -> None:
        """Keeps vectors `(n, dim)`; when this returns they are on the disk. A key that is there keeps its vector.

        Raises:
            DiskFullError: no space left. ValueError: the shape is not `(n, dim)`, or a value is not finite.
        """
        vectors = np.ascontiguousarray(torch.as_tensor(vectors).detach().cpu().float().numpy(), self.dtype)
        if vectors.shape != (len(keys), self.dim):
            raise ValueError(f"{len(keys)} keys need vectors ({len(keys)}, {self.dim}), not {vectors.shape}")
        if not np.isfinite(vectors).all():
            raise ValueError("vectors to keep must be finite; these hold NaN or infinity")
        first: dict[bytes, int] = {}
        for i, key in enumerate(keys):
            first.setdefault(key, i)
        if not first:
            return
        with self._lock:
            known = self._find(list(first))[:, 0] >= 0
            fresh = [i for i, there in zip(first.values(), known.tolist(), strict=True) if not there]
            if not fresh:
                return
            if self._own is None or self._process != os.getpid():  # after a fork the part belongs to the parent
                self._process = os.getpid()
                self._own = _Part(self.folder, f"{os.getpid()}-{uuid.uuid4().hex[:12]}", self.dim, self.dtype)
                self._parts.append(self._own)
            start = self._own.rows
            try:
                self._own.append([keys[i] for i in fresh], vectors[fresh])
            except ZooError:
                self._own = None  # others may have seen some of these records: they are never written over
                raise
            number = len(self._parts) - 1
            self._recent.update((keys[i], (number, start + place)) for place, i in enumerate(fresh))
            if len(self._recent) > max(_RECENT, len(self._keys) // 2):
                self.refresh()


class _Part:
    """Two files that one process appends to, or has appended to."""

    def __init__(self, folder: Path, name: str, dim: int, dtype: np.dtype) -> None:
        self.name, self.dim, self.dtype = name, dim, dtype
        self._keys, self._vectors = folder / f"{name}.keys", folder / f"{name}.vectors"
        self.rows = 0
        self._mapped: np.ndarray | None = None
        place = Place.of(folder)
        sizes = [_size(place / path.name) for path in (self._keys, self._vectors)]
        # What a kill cut off counts for nothing: whole records that both files have.
        self.rows = min(sizes[0] // KEY_BYTES, sizes[1] // (dim * dtype.itemsize))

    def read_keys(self) -> np.ndarray:
        """`(rows, 2)`, two halves of a key each."""
        if not self.rows:
            return np.empty((0, 2), "<u8")
        return np.fromfile(self._keys, "<u8", count=self.rows * 2).reshape(-1, 2)

    def vectors(self) -> np.ndarray:
        """`(rows, dim)`, mapped from the disk."""
        if self._mapped is None or len(self._mapped) < self.rows:
            self._mapped = np.memmap(self._vectors, self.dtype, "r", shape=(self.rows, self.dim))
        return self._mapped

    def append(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        size = self.dim * self.dtype.itemsize
        try:
            # Vectors before keys: after a kill in between there are vectors without keys, which nobody sees and the
            # next append overwrites.
            _write(self._vectors, self.rows * size, vectors.tobytes())
            _write(self._keys, self.rows * KEY_BYTES, b"".join(keys))
        except OSError as error:
            if is_full(error):
                raise DiskFullError(
                    f"no space left for vectors in {self._vectors.parent} ({error.strerror}); free some, or set cache=False; "
                    "what was kept before is whole"
                ) from error
            raise FolderError(f"cannot write vectors to {self._vectors.parent}: {error}") from error
        self.rows += len(keys)


def _write(path: Path, offset: int, content: bytes) -> None:
    """Writes at a place of a file and waits for the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        view = memoryview(content)
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size(place: Place) -> int:
    """Bytes of a file, 0 where there is none; raises FolderError for a link, a FIFO or a device in its place."""
    try:
        return place.status().st_size if place.is_file() else 0  # type: ignore[union-attr]
    except UnsafeFolderError as error:
        raise FolderError(f"{place.parent} cannot be a cache of vectors ({error})") from error


def _read_or_write(folder: Place, facts: dict[str, Any]) -> dict[str, Any]:
    """The facts in the folder's cache.json, which is made from these where it is missing; raises ValueError for others."""
    place = folder / "cache.json"
    if not place.is_file():
        others = [name for name in folder.names() if not name.startswith(".cache.json.")]
        if others and not place.is_file():  # asked again: another process may have begun in between
            raise ValueError(f"it holds {others[0]} and no cache.json")
        draft = place.path.with_name(f".cache.json.{os.getpid()}-{uuid.uuid4().hex[:12]}")
        draft.write_text(json.dumps(facts, indent=1, sort_keys=True), encoding="utf-8")
        try:
            os.link(draft, place.path)  # unlike a rename, never takes the place of what another process wrote
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            os.replace(draft, place.path)
        draft.unlink(missing_ok=True)
    found = place.read_json()
    if not isinstance(found, dict):
        raise ValueError("its cache.json holds no object")
    return found


def forget(folder: Path) -> None:
    """Removes a cache's own files from its folder, should it be there; all else stays."""
    place = Place.of(folder)
    for name in place.names() if place.is_folder() else ():
        if name == "cache.json" or _OWN.fullmatch(name):
            (place / name).remove()


def tower_fingerprint(model: Embedder, towers: Iterable[int]) -> dict[str, Any]:
    """What must agree for two vectors of these towers to be comparable; JSON-able. A sample of every weight is read."""
    digest = hashlib.sha256()
    for position in towers:
        tower = model.routes[position]
        facts = tower.encoder.hashed(getattr(tower, "pooler", None), model.spec)
        digest.update(json.dumps(facts, sort_keys=True).encode())
        for name, tensor in sorted(tower.state_dict().items()):
            values = tensor.detach().flatten()
            # Some 64 values of each tensor are enough: a step of training changes nearly all of them.
            sample = values[:: max(1, len(values) // 64)].double().cpu().numpy().tobytes()
            digest.update(f"{name}{tuple(tensor.shape)}".encode() + sample)
    facts = {"model": model.spec.name, "revision": model.spec.revision, "towers": digest.hexdigest()[:16]}
    if not regions.is_default(model.region_rule):
        facts["region"] = regions.described(model.region_rule)
    if model.spec.similarity == "dot":
        made_of = (part for position in towers for part in model.routes[position].modules() if isinstance(part, Tower))
        facts |= {"similarity": "dot", "heads": heads_hash(made_of)}
    return facts


# ---------------------------------------------------------------------------------------------------- filling it


def fill_cache(
    model: Embedder,
    items: Iterable[Any],
    cache: VectorCache,
    *,
    prompt: str | None = None,
    prompt_name: str | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> dict[int, InputError]:
    """Embeds the items that a cache does not have, in bounded memory; each content once.

    Args:
        items: whatever `encode` takes, read once and in order. prompt, prompt_name: as of `encode`.
        progress: a bar with items/s and time left; by default on a terminal when it takes over two seconds.

    Returns:
        The reason by position for items that cannot be embedded.
    """
    from tqdm import tqdm

    need_one_vector(model.spec, "a cache of vectors")
    prefix = model.prompt_text(prompt, prompt_name)
    errors: dict[int, InputError] = {}
    waiting: deque[tuple[int, bytes]] = deque()
    running: set[bytes] = set()
    failed: dict[bytes, InputError] = {}
    again: list[tuple[int, bytes]] = []  # items met a second time before the first was done
    total = len(items) if hasattr(items, "__len__") else None
    disable = None if progress is None else not progress
    bar = tqdm(total=total, desc="vectors", unit=" items", disable=disable, delay=0 if progress else 2)

    def missing() -> Iterator[Item]:
        for position, value in enumerate(items):
            bar.update()
            try:
                item = as_item(value)
                key = item_key(item, prefix)
            except InputError as error:
                errors[position] = error.at(position)
                continue
            if key in running or key in failed:
                again.append((position, key))
            elif key not in cache:
                running.add(key)
                waiting.append((position, key))
                yield item

    ready: dict[bytes, Tensor] = {}

    def keep() -> None:
        if ready:
            cache.put(list(ready), torch.stack(list(ready.values())))
            running.difference_update(ready)
            ready.clear()

    options = {"prompt": prompt, "prompt_name": prompt_name, "batch_size": batch_size}
    with bar:
        try:
            for result in model.encode_stream(missing(), progress=False, **options):
                position, key = waiting.popleft()
                if result.vector is not None:
                    ready[key] = result.vector
                else:
                    errors[position] = failed[key] = result.error.at(position)
                if len(ready) >= _TOGETHER:
                    keep()
        finally:  # also where the items end in an error
            keep()
    errors |= {position: copy.copy(failed[key]).at(position) for position, key in again if key in failed}
    return errors


def encode_cached(
    model: Embedder,
    items: Iterable[Any],
    cache: VectorCache,
    *,
    prompt: str | None = None,
    prompt_name: str | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
    on_error: Literal["raise", "nan"] = "raise",
) -> Tensor:
    """`encode` that computes only what the cache does not have: vectors `(n, dim)` in the order of the items.

    Args:
        items: gone through twice, so no iterator. The other arguments are those of `fill_cache`.
        on_error: "nan" gives a row of NaN to an item that cannot be embedded; either way the others are kept.

    Raises:
        InputError: an item cannot be embedded; the first, after all others have been.
    """
    if on_error not in ("raise", "nan"):
        raise ValueError(f"on_error must be raise or nan, not {on_error!r}")
    options = {"prompt": prompt, "prompt_name": prompt_name, "batch_size": batch_size, "progress": progress}
    errors = fill_cache(model, items, cache, **options)
    if errors and on_error == "raise":
        raise errors[min(errors)]
    prefix = model.prompt_text(prompt, prompt_name)
    keys = [bytes(KEY_BYTES) if i in errors else item_key(as_item(value), prefix) for i, value in enumerate(items)]
    vectors, missing = cache.get(keys)
    vectors[torch.from_numpy(missing)] = torch.nan
    return vectors
