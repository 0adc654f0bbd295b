"""Galleries whose vectors lie on disk: of a folder of files, kept between two starts, or made by `zoo embed`."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import DiskFullError, FolderError, InputError, TooManyBadItemsError, ZooError
from zoo.inputs.kinds import kind_of
from zoo.similarity import finished

from .gallery import MAX_FILES, Gallery, GalleryFile, Refused, digest, embed_files, walk_files
from .messages import explain_code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from zoo import Embedder
    from zoo.shards.facts import Bad

Progress = Callable[[int, int], None]


def own_folder(text: str, roots: Sequence[Path], *, local: bool, noun: str = "images") -> Path:
    """The folder that somebody typed on a page.

    Args:
        roots: the folders that may be read. local: whether only this machine's user sees the page. noun: what it is to hold.

    Raises:
        ZooError: the page is not local, nothing was typed, or it lies outside of `roots`, links followed.
    """
    if not local:
        raise ZooError(f"Folders of the server cannot be indexed on a shared page. Upload the {noun} instead.")
    if not (text or "").strip():
        raise ZooError(f"Type the path of a folder with {noun}, for example ~/Pictures.")
    path = Path(text.strip()).expanduser()
    if not any(path.resolve().is_relative_to(root) for root in roots):
        allowed = ", ".join(str(root) for root in roots) or "none"
        raise ZooError(
            f"{text} is outside the folders that this page may read ({allowed}). "
            "Start it with --photos FOLDER to allow another one."
        )
    return path


def folder_gallery(
    model: "Embedder",
    folder: Path,
    *,
    kinds: Sequence[str] = (),
    read: Callable[[Path], Any] = lambda path: path,
    progress: Progress | None = None,
) -> Gallery:
    """The images of a folder, or its files of some kinds; what was embedded at an earlier start, by content, is not embedded again.

    The vectors lie in the user's cache, a folder for each model, and are those of `zoo embed --update`. Where they cannot
    lie there (another page is at it, a full disk, late interaction, a folder of tables) they are made in memory.

    Args:
        kinds: of "image", "video", "audio" and "document"; by default images alone. read: what the model is given of a file.

    Raises:
        ZooError: as `walk_files` and `embed_files`.
    """
    from zoo.bulk import embed_dataset
    from zoo.bulk.folder import Images
    from zoo.bulk.opening import prepare
    from zoo.tables.options import Options

    images, left_out = walk_files(folder, kinds or ("image",))
    root, started = Path(folder).expanduser().resolve(), time.perf_counter()
    if model.spec.similarity != "maxsim" and isinstance(prepare(root, Options()), Images):
        out = cache_of(model, "\n".join([str(root), *kinds]))
        # A page of images: whoever hears and watches besides is not to embed all that lies among them.
        alone = "image" if model.spec.modalities & {"video", "audio"} else None
        asked: dict[str, Any] = {"kind": list(kinds) or alone, **model.for_role("document")}
        if kinds:  # however many are damaged, the others are there; and a document is one result
            asked |= {"max_bad": None, "per": "document" if "document" in kinds else None}
        try:
            report = embed_dataset(model, root, out, update=True, progress=progress or False, **asked)
            found, bad = _vectors(model, out), {one.reference: one for one in _bad(out)}
            left_out += [_refused(bad[one.caption]) for one in images if one.caption in bad]
            made = _gallery(model, [one for one in images if one.caption in found], found)
            seconds = time.perf_counter() - started
            return replace(made, refused=tuple(left_out), seconds=seconds, embedded=report.new)
        except (FolderError, DiskFullError, TooManyBadItemsError):
            pass
    made = embed_files(model, images, progress=progress, read=read)
    return replace(made, refused=(*left_out, *made.refused))


def vectors_gallery(
    model: "Embedder",
    folder: Path,
    *,
    kinds: Sequence[str] = (),
    root: Path | None = None,
    allow_outside: bool = False,
) -> Gallery:
    """The images, or files of some kinds, that `zoo embed` embedded into a folder of vectors.

    Args:
        kinds: as of `folder_gallery`. A file whose parts have vectors has their mean here.
        root, allow_outside: where they are looked for; see `zoo.vectors.lookup.Inputs`.

    Raises:
        IndexStateError: no vectors there. FingerprintMismatchError: of another model. ZooError: not of such files.
    """
    from zoo.errors import OutsideError
    from zoo.index import check_model, read_manifest
    from zoo.vectors.lookup import Inputs

    manifest = read_manifest(folder)
    check_model(model, folder)
    held, noun = manifest["source"]["kind"], "files" if kinds else "images"
    if held not in ((*kinds, "media") if kinds else ("image",)):
        raise ZooError(f"{folder} holds vectors of {held}; the page searches {noun}")
    inputs = Inputs.of(folder, manifest, root, allow_outside=allow_outside)
    found, images, gone = _vectors(model, folder), [], []
    for reference in list(found)[: MAX_FILES + 1]:
        try:
            path = inputs.find(reference)
        except OutsideError as error:
            gone.append(Refused(reference, error.code, str(error)))
            continue
        if isinstance(path, bytes):
            raise ZooError(f"the {noun} of {folder} lie inside {reference}; the page shows files: use `zoo search`")
        if path is None or not path.is_file():
            gone.append(Refused(reference, "missing-file", "The file is not there any more."))
        elif kinds and (kind := _kind(path)) not in kinds:
            gone.append(Refused(reference, "not-shown", f"The page shows no {kind or 'text'}."))
        else:
            images.append(GalleryFile(path, reference))
    if len(images) > MAX_FILES:
        raise ZooError(f"{folder} holds more than {MAX_FILES:,} {noun}, too many for one page: use `zoo search`")
    if not images:
        if gone and gone[0].code != "missing-file":
            raise ZooError(f"none of the {len(found):,} {noun} of {folder} is shown. {gone[0].reason}")
        raise ZooError(f"none of the {len(found):,} {noun} of {folder} is where it was embedded; is the disk mounted?")
    return replace(_gallery(model, images, found), refused=tuple(gone), embedded=0)


def sample_gallery(
    model: "Embedder",
    images: Sequence[GalleryFile],
    read: Callable[[Path], Any] = lambda path: path,
    *,
    progress: Progress | None = None,
) -> Gallery:
    """What comes with the page; as long as neither it nor the model changes, it is embedded at the first start alone.

    Args:
        read: what the model is given of a file.

    Raises:
        ZooError: as `embed_files`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load, save

    from zoo.files import writing

    place = cache_of(model, "\n".join(digest(image.path) for image in images)).with_suffix(".safetensors")
    with contextlib.suppress(OSError, SafetensorError, KeyError):
        found = load(place.read_bytes())["vectors"]
        if found.shape == (len(images), model.spec.dim):
            return Gallery(model.spec.name, tuple(images), found)
    made = embed_files(model, images, progress=progress, read=read)
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
    """Where the vectors of a folder's images, or of what else is named, are kept for a model: a place of their own for both."""
    asked = json.dumps(model.fingerprint(**model.for_role("document")), sort_keys=True, default=str)
    name = hashlib.sha256(f"{asked}\n{what}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return _cache() / "galleries" / name


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedding-zoo"


def _gallery(model: "Embedder", images: list[GalleryFile], found: "dict[str, Tensor]") -> Gallery:
    import torch

    vectors = torch.stack([found[image.caption] for image in images]) if images else torch.empty(0, model.spec.dim)
    return Gallery(model.spec.name, tuple(images), vectors)


def _vectors(model: "Embedder", folder: Path) -> "dict[str, Tensor]":
    """Vectors `(dim,)` as float32 by reference, in the order of the inputs; of several of one file, which are of its parts, the mean."""
    import torch

    from zoo.index import iter_tables
    from zoo.index.base import as_float
    from zoo.shards.folder import read_vectors

    found: dict[str, list[Tensor]] = {}
    for table in iter_tables(folder, ["reference", "vector"]):
        stored = read_vectors(table)
        kind = {"int8": "int8", "uint8": "binary"}.get(str(stored.dtype), "float32")
        rows = torch.from_numpy(as_float(stored, kind).copy())
        for reference, row in zip(table.column("reference").to_pylist(), rows, strict=True):
            found.setdefault(reference, []).append(row)
    return {
        reference: rows[0] if len(rows) == 1 else finished(torch.stack(rows).mean(0), model.spec.similarity)
        for reference, rows in found.items()
    }


def _kind(path: Path) -> str:
    try:
        return kind_of(path)
    except InputError:
        return ""


def _bad(folder: Path) -> "Iterator[Bad]":
    from zoo.shards.folder import ShardFolder

    for shard in ShardFolder(folder).finished():
        yield from shard.bad


def _refused(bad: "Bad") -> Refused:
    return Refused(bad.reference, bad.reason, explain_code(bad.reason, bad.message))
