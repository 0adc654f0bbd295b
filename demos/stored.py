"""Galleries whose vectors lie on disk: of a folder of pictures, kept between two starts, or made by `zoo embed`."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import DiskFullError, FolderError, TooManyBadItemsError, ZooError

from .gallery import MAX_PICTURES, Gallery, Picture, Refused, digest, embed_pictures, walk_pictures
from .messages import explain_code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from zoo import Embedder
    from zoo.shards.facts import Bad

Progress = Callable[[int, int], None]


def folder_gallery(model: "Embedder", folder: Path, *, progress: Progress | None = None) -> Gallery:
    """The pictures of a folder; what was embedded at an earlier start, by content, is not embedded again.

    The vectors lie in the user's cache, a folder for each model, and are those of `zoo embed --update`. Where they cannot
    lie there (another page is at it, a full disk, late interaction, a folder of tables) they are made in memory.

    Raises:
        ZooError: as `walk_pictures` and `embed_pictures`.
    """
    from zoo.bulk import embed_dataset
    from zoo.bulk.folder import Images
    from zoo.bulk.opening import prepare
    from zoo.tables.options import Options

    pictures, left_out = walk_pictures(folder)
    root, started = Path(folder).expanduser().resolve(), time.perf_counter()
    if model.spec.similarity != "maxsim" and isinstance(prepare(root, Options()), Images):
        out = cache_of(model, root)
        # The page shows pictures: whoever hears and watches besides is not to embed all that lies among them.
        kind = "image" if model.spec.modalities & {"video", "audio"} else None
        try:
            report = embed_dataset(
                model, root, out, kind=kind, update=True, progress=progress or False, **model.for_role("document")
            )
            found, bad = _vectors(out), {one.reference: one for one in _bad(out)}
            left_out += [_refused(bad[one.caption]) for one in pictures if one.caption in bad]
            made = _gallery(model, [one for one in pictures if one.caption in found], found)
            seconds = time.perf_counter() - started
            return replace(made, refused=tuple(left_out), seconds=seconds, embedded=report.new)
        except (FolderError, DiskFullError, TooManyBadItemsError):
            pass
    made = embed_pictures(model, pictures, progress=progress)
    return replace(made, refused=(*left_out, *made.refused))


def vectors_gallery(
    model: "Embedder", folder: Path, *, root: Path | None = None, allow_outside: bool = False
) -> Gallery:
    """The pictures that `zoo embed` embedded into a folder of vectors.

    Args:
        root, allow_outside: where they are looked for; see `zoo.vectors.lookup.Inputs`.

    Raises:
        IndexStateError: no vectors there. FingerprintMismatchError: of another model. ZooError: not of pictures in files.
    """
    from zoo.errors import OutsideError
    from zoo.index import check_model, read_manifest
    from zoo.vectors.lookup import Inputs

    manifest = read_manifest(folder)
    check_model(model, folder)
    if manifest["source"]["kind"] != "image":
        raise ZooError(f"{folder} holds vectors of {manifest['source']['kind']}; the page searches pictures")
    inputs = Inputs.of(folder, manifest, root, allow_outside=allow_outside)
    found, pictures, gone = _vectors(folder), [], []
    for reference in list(found)[: MAX_PICTURES + 1]:
        try:
            path = inputs.find(reference)
        except OutsideError as error:
            gone.append(Refused(reference, error.code, str(error)))
            continue
        if isinstance(path, bytes):
            raise ZooError(f"the pictures of {folder} lie inside {reference}; the page shows files: use `zoo search`")
        if path is not None and path.is_file():
            pictures.append(Picture(path, reference))
        else:
            gone.append(Refused(reference, "missing-file", "The file is not there any more."))
    if len(pictures) > MAX_PICTURES:
        raise ZooError(f"{folder} holds more than {MAX_PICTURES:,} pictures, too many for one page: use `zoo search`")
    if not pictures:
        if gone and gone[0].code == OutsideError.code:
            raise ZooError(f"none of the {len(found):,} pictures of {folder} is shown. {gone[0].reason}")
        raise ZooError(
            f"none of the {len(found):,} pictures of {folder} is where it was embedded; is the disk mounted?"
        )
    return replace(_gallery(model, pictures, found), refused=tuple(gone), embedded=0)


def sample_gallery(
    model: "Embedder", pictures: Sequence[Picture], read: Callable[[Path], Any] = lambda path: path
) -> Gallery:
    """What comes with the page; as long as neither it nor the model changes, it is embedded at the first start alone.

    Args:
        read: what the model is given of a file.

    Raises:
        ZooError: as `embed_pictures`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load, save

    from zoo.files import writing

    place = cache_of(model, "\n".join(digest(picture.path) for picture in pictures)).with_suffix(".safetensors")
    with contextlib.suppress(OSError, SafetensorError, KeyError):
        found = load(place.read_bytes())["vectors"]
        if found.shape == (len(pictures), model.spec.dim):
            return Gallery(model.spec.name, tuple(pictures), found)
    made = embed_pictures(model, pictures, read=read)
    if not made.refused and not isinstance(made.vectors, list):
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            with writing(place, durable=False) as part:
                part.write_bytes(save({"vectors": made.vectors.contiguous()}))
    return made


def kept_file(target: Path, key: str, made: Callable[[], bytes]) -> Path:
    """Writes what a program makes; what took it long is kept in the user's cache under a key that says all that it depends on."""
    from zoo.files import writing

    place = _cache() / "media" / hashlib.sha256(key.encode()).hexdigest()[:32]
    try:
        content = place.read_bytes()
    except OSError:
        content = made()
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            with writing(place, durable=False) as part:
                part.write_bytes(content)
    with writing(target, durable=False) as part:
        part.write_bytes(content)
    return target


def cache_of(model: "Embedder", what: Path | str) -> Path:
    """Where the vectors of a folder's pictures, or of what else is named, are kept for a model: a place of their own for both."""
    asked = json.dumps(model.fingerprint(**model.for_role("document")), sort_keys=True, default=str)
    name = hashlib.sha256(f"{asked}\n{what}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return _cache() / "galleries" / name


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedding-zoo"


def _gallery(model: "Embedder", pictures: list[Picture], found: "dict[str, Tensor]") -> Gallery:
    import torch

    vectors = (
        torch.stack([found[picture.caption] for picture in pictures]) if pictures else torch.empty(0, model.spec.dim)
    )
    return Gallery(model.spec.name, tuple(pictures), vectors)


def _vectors(folder: Path) -> "dict[str, Tensor]":
    """Vectors `(dim,)` as float32 by reference, in the order of the inputs."""
    import torch

    from zoo.index import iter_tables
    from zoo.index.base import as_float
    from zoo.shards.folder import read_vectors

    found: dict[str, Tensor] = {}
    for table in iter_tables(folder, ["reference", "vector"]):
        stored = read_vectors(table)
        kind = {"int8": "int8", "uint8": "binary"}.get(str(stored.dtype), "float32")
        rows = torch.from_numpy(as_float(stored, kind).copy())
        found |= dict(zip(table.column("reference").to_pylist(), rows, strict=True))
    return found


def _bad(folder: Path) -> "Iterator[Bad]":
    from zoo.shards.folder import ShardFolder

    for shard in ShardFolder(folder).finished():
        yield from shard.bad


def _refused(bad: "Bad") -> Refused:
    return Refused(bad.reference, bad.reason, explain_code(bad.reason, bad.message))
