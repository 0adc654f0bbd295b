"""Where the demo's images come from, how they are embedded, and the thumbnails that the page may show."""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError
from zoo.files import writing
from zoo.inputs.image import load_pixels
from zoo.inputs.kinds import AUDIO_SUFFIXES, DOCUMENT_SUFFIXES, FORMATS, IMAGE_SUFFIXES, VIDEO_SUFFIXES

from .messages import explain
from .samples import EXAMPLES, SAMPLES, installed

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from zoo import Embedder

THUMBNAIL_SIDE = 512
MAX_FILES = 20_000
SUFFIXES = {"image": IMAGE_SUFFIXES, "video": VIDEO_SUFFIXES, "audio": AUDIO_SUFFIXES, "document": DOCUMENT_SUFFIXES}


@dataclass(frozen=True)
class GalleryFile:
    """One file of a gallery, an image in most: the file it is in, and words for screen readers and captions."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Refused:
    """A file that could not be embedded, and why."""

    name: str
    code: str
    reason: str


@dataclass(frozen=True, eq=False)
class Gallery:
    """Images and their vectors `(n, dim)`, row for row, in the space of the model called `model`.

    With late interaction a list of `(tokens, dim)`.

    Attributes:
        refused: what is left out, and why. seconds, embedded: how long it took, and how many were embedded then.
    """

    model: str
    files: tuple[GalleryFile, ...]
    vectors: "Tensor | list[Tensor]"
    refused: tuple[Refused, ...] = ()
    seconds: float = 0.0
    embedded: int = 0

    def __len__(self) -> int:
        return len(self.files)

    def points(self, rows: Sequence[int]) -> "Tensor":
        """One vector `(dim,)` for each of these images: their own, or the mean of their tokens'."""
        import torch

        return torch.stack([self.vectors[row].reshape(-1, self.vectors[row].shape[-1]).mean(0) for row in rows])

    def only(self, rows: Sequence[int]) -> "Gallery":
        """These images with their vectors."""
        vectors = (
            self.vectors[list(rows)] if not isinstance(self.vectors, list) else [self.vectors[row] for row in rows]
        )
        return Gallery(self.model, tuple(self.files[row] for row in rows), vectors)

    def with_those_of(self, other: "Gallery") -> "Gallery":
        """These images, then those of another gallery of the same model."""
        import torch

        both = isinstance(self.vectors, list)
        vectors = [*self.vectors, *other.vectors] if both else torch.cat([self.vectors, other.vectors])
        return replace(self, files=self.files + other.files, vectors=vectors)

    def __deepcopy__(self, memo: object) -> "Gallery":
        return self  # immutable, and Gradio copies what it keeps for a visitor


def sample_images() -> list[GalleryFile]:
    """The images that come with the installed packages; a package that is absent gives none."""
    return [GalleryFile(path, sample.caption) for path, sample in installed(SAMPLES)]


def example_queries() -> list[GalleryFile]:
    """Shipped images that are in no gallery, to search with."""
    return [GalleryFile(path, sample.caption) for path, sample in installed(EXAMPLES)]


def walk_images(folder: Path, *, limit: int = MAX_FILES) -> tuple[list[GalleryFile], list[Refused]]:
    """`walk_files` of images alone."""
    return walk_files(folder, ("image",), limit=limit)


def walk_files(
    folder: Path, kinds: Sequence[str], *, limit: int = MAX_FILES
) -> tuple[list[GalleryFile], list[Refused]]:
    """The files of some kinds under `folder`, as `zoo embed` walks it, and what is left out: links that lead out of it, and what
    may not be read.

    Args:
        kinds: "image", "video", "audio", "document".

    Raises:
        ZooError: no such folder, none of them in it, or more than `limit`.
    """
    from zoo.errors import OutsideError
    from zoo.tables.fences import Fence
    from zoo.tables.images import walk_images

    noun = "images" if tuple(kinds) == ("image",) else "files"
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ZooError(f"There is no folder {folder}. Give the path of a folder with {noun}.")
    root = folder.resolve()
    found: list[GalleryFile] = []
    left_out: list[Refused] = []
    for relative, error in walk_images(root, kind=tuple(kinds), fence=Fence(root)):
        name = relative.replace(os.sep, "/").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if isinstance(error, OutsideError):
            left_out.append(Refused(name, "stray-link", "The link leads out of the folder."))
        elif error is not None:
            left_out.append(Refused(name, error.code, explain(error)))
        elif name != relative.replace(os.sep, "/"):
            left_out.append(Refused(name, "file-name", "Its name is not Unicode. Rename it."))  # no page can say it
        elif (root / relative).is_symlink() and not (root / relative).exists():
            left_out.append(Refused(name, "stray-link", "The link leads nowhere."))
        else:
            found.append(GalleryFile(root / relative, name))
        if len(found) > limit:
            raise ZooError(
                f"{folder} holds more than {limit:,} {noun}, too many for one page. "
                "Choose a smaller folder, or use `zoo embed` and `zoo search`."
            )
    if not found:
        suffixes = ", ".join(sorted(frozenset().union(*(SUFFIXES[kind] for kind in kinds))))
        first = f" {left_out[0].name}: {left_out[0].reason}" if left_out else ""
        raise ZooError(f"No {noun} found in {folder} (looked for {suffixes}).{first}")
    return found, left_out


def unique(images: Iterable[GalleryFile]) -> list[GalleryFile]:
    """The images without byte-for-byte copies; the first of each stays."""
    images = list(images)
    # Only files of equal size can be copies, so most files are never read here.
    same_size = Counter(_size(image.path) for image in images)
    kept: dict[tuple[int, str], GalleryFile] = {}
    for image in images:
        size = _size(image.path)
        kept.setdefault((size, digest(image.path) if same_size[size] > 1 else ""), image)
    return list(kept.values())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def digest(path: Path) -> str:
    """The SHA-256 of a file's bytes; of what cannot be read its path."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return str(path)  # embedding it will say what is wrong


def embed_files(
    model: "Embedder",
    images: Sequence[GalleryFile],
    *,
    progress: Callable[[int, int], None] | None = None,
    read: Callable[[Path], Any] = lambda path: path,
) -> Gallery:
    """Embeds the images; those that cannot be read are set aside with the reason.

    Args:
        progress: called with (done, total) as it goes on. read: what the model is given of a file.

    Raises:
        ZooError: not one image could be embedded.
    """
    import torch

    started = time.perf_counter()
    kept: list[GalleryFile] = []
    vectors: list[Tensor] = []
    refused: list[Refused] = []
    asked = model.for_role("document")
    # In chunks, because a stream reads far ahead and a progress bar should move all the time.
    chunk = max(32, min(512, len(images) // 20))
    for start in range(0, len(images), chunk):
        some = images[start : start + chunk]
        for image, result in zip(
            some, model.encode_stream([read(one.path) for one in some], progress=False, **asked), strict=True
        ):
            if result.error is None:
                kept.append(image)
                vectors.append(result.vector)
            else:
                refused.append(Refused(image.caption, result.error.code, explain(result.error)))
        if progress is not None:
            progress(start + len(some), len(images))
    if not kept:
        first = f" The first one: {refused[0].reason}" if refused else ""
        raise ZooError(f"None of the {len(images)} files could be embedded.{first}")
    seconds = time.perf_counter() - started
    found = vectors if model.spec.similarity == "maxsim" else torch.stack(vectors).cpu()
    return Gallery(model.spec.name, tuple(kept), found, tuple(refused), seconds, len(kept))


def joined(galleries: Sequence[Gallery]) -> Gallery:
    """Several of one model as one, each content once: where it came first."""
    whole = galleries[0]
    for other in galleries[1:]:
        whole = whole.with_those_of(other)
    kept = set(unique(whole.files))
    rows = {image: row for row, image in reversed(list(enumerate(whole.files))) if image in kept}
    refused = tuple(one for gallery in galleries for one in gallery.refused)
    return replace(whole.only(sorted(rows.values())), refused=refused)


class Thumbnails:
    """Small JPEG copies in one private folder, made when first shown: the only images the page serves."""

    def __init__(self, folder: Path, side: int = THUMBNAIL_SIDE) -> None:
        self.folder = Path(folder).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.side = side

    def of(self, image: GalleryFile, folder: Path | None = None) -> Path:
        """The thumbnail's file, in another folder if one is named; its name tells nothing of where the original lies."""
        status = image.path.stat()
        key = f"{image.path}|{status.st_mtime_ns}|{status.st_size}|{self.side}"
        target = (folder or self.folder) / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.jpg"
        if not target.exists():
            save_small(image.path, target, self.side)
        return target


def save_small(path: Path, target: Path, side: int, *, quality: int = 88) -> None:
    """Writes an image, at most `side` pixels long, as a JPEG; raises InputError as `shrink` does."""
    save_whole(shrink(path, side), target, "JPEG", quality=quality)


def save_whole(image: "Image.Image", target: Path, kind: str, **options: Any) -> None:
    """Writes an image aside and renames it, so that another visitor never sees half a file."""
    with writing(target, durable=False) as part:
        image.save(part, kind, **options)


def shrink(path: Path, side: int) -> "Image.Image":
    """The upright RGB image, scaled down so that its longer side is at most `side` pixels.

    Raises:
        InputError: as `zoo.inputs.image.load_pixels`.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.format == "JPEG" and image.mode in ("RGB", "L"):
                # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, which is what makes maps of big folders quick.
                image.draft(image.mode, (side, side))
                small = ImageOps.exif_transpose(image).convert("RGB")
                small.thumbnail((side, side), Image.Resampling.LANCZOS)
                return small
    except Exception:
        pass  # odd files go the careful way, which also words the error
    small = Image.fromarray(load_pixels(path))
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small
