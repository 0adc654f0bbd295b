"""What the page of recordings, clips, images and documents does, as plain methods: no component is touched here."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from zoo.errors import EmptyTextError, InputError, UnsupportedInputError, ZooError
from zoo.inputs.heif import Way, decoding
from zoo.inputs.item import Item
from zoo.inputs.kinds import kind_of
from zoo.inputs.silence import refuse_silence

from .gallery import Gallery, Picture, Refused, Thumbnails, embed_pictures, unique
from .handlers import MAX_UPLOADS
from .labels import similarities
from .messages import explain, refusals
from .visitors import Visitors
from .widgets import friendly, score_name, score_rows, user_error

if TYPE_CHECKING:
    from torch import Tensor

    from zoo import Embedder
    from zoo.modalities import Modality

KINDS: tuple["Modality", ...] = ("image", "video", "audio", "document")
IN_WORDS = {"image": "images", "video": "videos", "audio": "recordings", "document": "PDFs", "text": "words"}
WELCOME = {"title": "Nothing asked yet", "note": "This is what can be found."}
_ALL = "all"


def kinds_of(model: "Embedder") -> list["Modality"]:
    """The kinds of files that a model embeds; of a video without pictures for it, its sound."""
    return [kind for kind in KINDS if _reads(model, kind)]


def input_of(model: "Embedder", path: Path) -> Item:
    """A file as what the model reads of it: a video as its sound, and an animation as a video, where it reads those alone.

    Raises:
        InputError: the file is none that the zoo knows. UnsupportedInputError: or none that the model reads.
    """
    kind = kind_of(path)
    for other in {"video": ("video", "audio"), "image": ("image", "video")}.get(kind, (kind,)):
        if _reads(model, other):
            return Item(**{other: path})
    raise UnsupportedInputError(
        f"{model.spec.name} reads {', '.join(IN_WORDS[one] for one in kinds_of(model))}, and this is one of the {IN_WORDS[kind]}",
        what=path.name,
    )


def _reads(model: "Embedder", kind: str) -> bool:
    return any(reader.encoder.takes(frozenset({kind})) for reader in model.readers)


class MediaSearch:
    """One page's state and actions; what a visitor adds stays in his own session (`own`), on a local page too.

    Args:
        start: what is there at first, None for nothing. visitors: whose folders hold what was uploaded. folder: for small copies
            of the images that are there at first. heif: decodes what visitors send as HEIC.
    """

    def __init__(
        self, model: "Embedder", start: Gallery | None, visitors: Visitors, folder: Path, heif: Way | None = None
    ) -> None:
        self.model, self.start, self.visitors, self.heif = model, start, visitors, heif
        self.thumbnails = Thumbnails(folder / "pictures")

    # Searching ---------------------------------------------------------------------------------------------------

    def by_text(self, query: str, kind: str = _ALL, top_k: int = 8, own: Gallery | None = None) -> dict[str, Any]:
        """What fits the words best.

        Args:
            query: what to look for, in a few words or a sentence.
            kind: "all", or the kind of what is wanted: "image", "video", "audio", "document".
            top_k: how many results to return.
        """
        started = time.perf_counter()
        try:
            if not (query or "").strip():
                raise EmptyTextError("the query is empty")
            vector = self.model.encode_query(query, progress=False)
        except InputError as error:
            raise friendly(error) from error
        return self._found(vector, kind, int(top_k), own, started, "text")

    def by_file(self, file: str | None, kind: str = _ALL, top_k: int = 8, own: Gallery | None = None) -> dict[str, Any]:
        """What is most like a file.

        Args:
            file: a recording, video, image or PDF, of the kinds that the model reads.
            kind: "all", or the kind of what is wanted. top_k: how many results to return.
        """
        started = time.perf_counter()
        if not file:
            raise user_error("Choose a file to look for first.")
        try:
            item = input_of(self.model, Path(file))
            with decoding(self.heif):
                refuse_silence(item)
                vector = self.model.encode_query(item, progress=False)
        except InputError as error:
            raise friendly(error) from error
        (asked,) = item.modalities
        return self._found(vector, kind, int(top_k), own, started, asked)

    def browse(self, own: Gallery | None = None) -> dict[str, Any]:
        """All that is there, in its order."""
        gallery = self._gallery(own)
        if gallery is None:
            kinds = ", ".join(IN_WORDS[kind] for kind in kinds_of(self.model))
            return {"title": "Nothing here yet", "note": f"Add {kinds} of your own below; then search them."}
        return {**WELCOME, "rows": [self._row(picture) for picture in gallery.pictures]}

    def _found(
        self, vector: "Tensor", kind: str, top_k: int, own: Gallery | None, started: float, asked: str
    ) -> dict[str, Any]:
        gallery = self._gallery(own)
        if gallery is None:
            raise user_error("There is nothing to search yet. Add files first.")
        rows = [row for row, picture in enumerate(gallery.pictures) if kind in (_ALL, _kind(picture))]
        if not rows:
            raise user_error(f"There are no {IN_WORDS.get(kind, kind)} among the files. Add some, or choose all kinds.")
        scores = similarities(self.model, vector, gallery.vectors)
        best = sorted(rows, key=lambda row: -float(scores[row]))[:top_k]
        told = [(gallery.pictures[row].caption, float(scores[row])) for row in best]
        bars = score_rows(told, float(scores.mean()), score_name(self.model))
        found = [{**self._row(gallery.pictures[row]), **bar} for row, bar in zip(best, bars, strict=True)]
        milliseconds = 1000 * (time.perf_counter() - started)
        note = f"{len(rows)} searched in {milliseconds:.0f} ms. A bar begins at the mean of all."
        if len({_kind(gallery.pictures[row]) for row in rows}) > 1:
            note += " Similarities of different kinds are on different scales: compare them within a kind."
        return {"title": f"Most like the {'words' if asked == 'text' else asked}", "rows": found, "note": note}

    # Adding ------------------------------------------------------------------------------------------------------

    def add(
        self, files: Sequence[str] | None, keep: bool = True, own: Gallery | None = None, progress: Any = None
    ) -> tuple[Gallery | None, str]:
        """Makes uploaded files searchable.

        Args:
            files: recordings, videos, images and PDFs, of the kinds that the model reads.
            keep: whether what is there now stays.
        """
        if not files:
            raise user_error("Choose some files first, then add them.")
        if len(files) > MAX_UPLOADS:
            raise user_error(f"{len(files)} files at once are too many; choose at most {MAX_UPLOADS}.")
        gallery = self._gallery(own) if keep else None
        given = [Picture(Path(file), Path(file).name) for file in files]
        folder = self.visitors.owner(given[0].path) or self.visitors.folder()
        try:
            with self.visitors.writing(folder), decoding(self.heif):
                made, refused = self._embedded(given, progress)
        except ZooError as error:
            raise friendly(error) from error
        if made is None:
            raise user_error(f"None of them could be read. {refused[0].name}: {refused[0].reason}")
        whole = made if gallery is None else gallery.with_those_of(made)
        kept = set(unique(whole.pictures))
        whole = whole.only([row for row, picture in enumerate(whole.pictures) if picture in kept])
        line = f"{len(made)} of {len(files)} files were added; {len(whole)} are there now."
        return whole, line + ("\n\n" + refusals(refused) if refused else "")

    def _embedded(self, given: Sequence[Picture], progress: Any) -> tuple[Gallery | None, list[Refused]]:
        good, refused = [], []
        for picture in given:
            try:
                input_of(self.model, picture.path)
            except InputError as error:
                refused.append(Refused(picture.caption, error.code, explain(error)))
            else:
                good.append(picture)
        if not good:
            return None, refused
        told = None if progress is None else lambda done, total: progress((done, total), unit="files")
        made = embed_pictures(self.model, good, progress=told, read=lambda path: input_of(self.model, path))
        refused += made.refused
        return replace(made, refused=()), refused

    def _gallery(self, own: Gallery | None) -> Gallery | None:
        return self.start if own is None else own

    def _row(self, picture: Picture) -> dict[str, Any]:
        kind, path = _kind(picture), picture.path
        if kind == "image":  # of any format, and wherever it lies
            with decoding(self.heif):
                path = self.thumbnails.of(picture, self.visitors.owner(path))
        return {"label": picture.caption, "kind": kind, "file": "gradio_api/file=" + quote(str(path))}


def _kind(picture: Picture) -> str:
    """What a file is; "" where it is gone."""
    try:
        return kind_of(picture.path)
    except InputError:
        return ""
