"""What the page of recordings, clips, images and documents does, as plain methods: no component is touched here."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

from zoo.errors import InputError, ZooError
from zoo.inputs.heif import Way, decoding
from zoo.inputs.kinds import kind_of
from zoo.scales import Scales
from zoo.shards.folder import holds_vectors

from .asked import NAMES, Asked, ask, input_of, kinds_of, read_as
from .gallery import Gallery, GalleryFile, Refused, Thumbnails, embed_files, unique
from .handlers import MAX_UPLOADS
from .labels import similarities
from .messages import explain, refusals
from .moments import Moments
from .originals import Originals
from .stored import folder_gallery, own_folder, vectors_gallery
from .visitors import QuotaError, Visitors
from .widgets import cosine_text, score_name, user_error

if TYPE_CHECKING:
    from zoo import Embedder

WELCOME = {"title": "Nothing asked yet", "note": "This is what can be found."}
BROWSE = 48  # files shown before anything was asked
_ALL = "all"
Found = dict[str, Any]


class MediaSearch:
    """One page's state and actions; what a visitor adds stays in his own session (`own`), on a local page too.

    Args:
        start: what is there at first, None for nothing. visitors: whose folders hold what was uploaded. folder: for small copies
            of what is there at first. heif: decodes what visitors send as HEIC. roots: folders that a local page may read.
    """

    def __init__(
        self,
        model: "Embedder",
        start: Gallery | None,
        visitors: Visitors,
        folder: Path,
        heif: Way | None = None,
        *,
        roots: Sequence[Path] = (),
    ) -> None:
        self.model, self.start, self.visitors, self.heif = model, start, visitors, heif
        self.thumbnails, self.originals = Thumbnails(folder / "images"), Originals()
        self.moments = Moments(model, self._place)
        self.served = folder
        self.roots = tuple(Path(root).expanduser().resolve() for root in roots)
        self._kinds: WeakKeyDictionary[Gallery, list[str]] = WeakKeyDictionary()

    # Searching ---------------------------------------------------------------------------------------------------

    def search(
        self,
        query: dict[str, Any] | None,
        kind: str = _ALL,
        top_k: int = 8,
        own: Gallery | None = None,
        before: Asked | None = None,
    ) -> tuple[Found, Asked]:
        """What fits words, a file or both best: dict(text=…, files=[one recording, video, image or PDF]).

        Args:
            query: what to look for. kind: "all", or the kind of what is wanted: "image", "video", "audio", "document".
            top_k: how many results to return. before: what was asked before this.
        """
        if before is not None:
            before.over.set()
        files = (query or {}).get("files") or []
        if len(files) > 1:
            raise user_error("There are several files. Take away those that are not meant.")
        asked = ask(self.model, (query or {}).get("text") or "", files[0] if files else None, self.heif)
        return self._answer(asked, kind, top_k, own)[0], asked

    def like(
        self, number: int, kind: str = _ALL, top_k: int = 8, own: Gallery | None = None, before: Asked | None = None
    ) -> tuple[Found, Asked]:
        """What is most like one of the files that are shown, of every kind.

        Args:
            number: its place among them, counted from 0. before: what they answer; None where nothing was asked.
        """
        gallery = self._gallery(own)
        shown = [] if gallery is None else self._rows_of(gallery, kind)[:BROWSE]
        if before is not None:
            before.over.set()
            _, shown = self._answer(before, kind, top_k, own)
        if not (isinstance(number, int) and 0 <= number < len(shown)):
            raise user_error("That file is not shown any more. Search again.")
        row = shown[number]
        read = read_as(self.model, self._kinds_of(gallery)[row])
        asked = Asked(gallery.vectors[row], frozenset({read}), f"“{gallery.files[row].caption}”", 0.0)
        return self._answer(asked, _ALL, top_k, own)[0], asked

    def again(
        self, kind: str = _ALL, top_k: int = 8, own: Gallery | None = None, before: Asked | None = None
    ) -> tuple[Found, Asked | None]:
        """What was asked before, with another kind or number of results; all that is there where nothing was."""
        if before is None:
            return self.browse(own, kind), None
        before.over.set()
        asked = replace(before, over=Event())
        return self._answer(asked, kind, top_k, own)[0], asked

    def _answer(self, asked: Asked, kind: str, top_k: int, own: Gallery | None) -> tuple[Found, list[int]]:
        """What was found, and which files of the gallery its rows are of."""
        gallery = self._gallery(own)
        if gallery is None:
            raise user_error("There is nothing to search yet. Add files first.")
        started, kinds = time.perf_counter(), self._kinds_of(gallery)
        rows = self._rows_of(gallery, kind)
        if not rows:
            raise user_error(f"There are no {NAMES.get(kind, kind)} among the files. Add some, or choose all kinds.")
        scores = similarities(self.model, asked.vector, gallery.vectors).tolist()
        scales = Scales.of(self.model, asked.modalities)
        ours, read = [scores[row] for row in rows], [read_as(self.model, kinds[row]) for row in rows]
        ranked = scales.ranked_by(ours, read)
        best = sorted(range(len(rows)), key=lambda place: -ranked[place])[: int(top_k)]
        middle = 0.0 if scales.compares(read) else sum(ranked) / len(ranked)
        span = max(ranked[best[0]] - middle, 1e-6)
        found = []
        for place in best:
            row = self._row(gallery.files[rows[place]], kinds[rows[place]])
            row |= {"text": cosine_text(ours[place]), "bar": max(0.0, (ranked[place] - middle) / span)}
            row[score_name(self.model)] = ours[place]
            if scales.fits(ours[place], read[place]) is False:
                row["weak"] = True
            found.append(row)
        seconds = asked.seconds + time.perf_counter() - started
        note = f"{len(rows):,} searched in {1000 * seconds:.0f} ms. {_compared(scales, read)}"
        nothing = scales.nothing_fits(ours, read)
        title = f"You asked with {asked.said}" if asked.modalities != {"text"} else f"Most like {asked.said}"
        if nothing and set(read) <= set(nothing):
            title += ": nothing clearly fits, these are the nearest"
        elif nothing:
            note += f" No {' and no '.join(NAMES[one] for one in sorted(nothing))} clearly fit."
        if any(row.get("weak") for row in found):
            note += " A pale bar is of what lies below where right answers do."
        if kind == _ALL and len(set(kinds)) == 1 and len(kinds_of(self.model)) > 1:
            note += f" All that is here are {NAMES[kinds[0]]}."
        return {"title": title, "rows": found, "note": note}, [rows[place] for place in best]

    def explained(
        self, kind: str = _ALL, top_k: int = 8, own: Gallery | None = None, asked: Asked | None = None
    ) -> Iterator[Found]:
        """What was found, with the moment or page that fits best: told file by file, as they become known.

        Each is marked as `late`, the last one as "all": it holds for the rows that are shown, and for no others that were asked
        for meanwhile.
        """
        if asked is None:
            yield {"late": True}
            return
        (found, rows), started = self._answer(asked, kind, top_k, own), time.monotonic()
        images = [self._gallery(own).files[row] for row in rows]
        found["late"] = True
        yield deepcopy(found)  # Gradio sends what differs from the one before, which it keeps
        for row, image in zip(found["rows"], images, strict=True):
            if asked.over.is_set():
                return
            if row["kind"] in ("image", ""):
                continue
            moment = None
            with suppress(QuotaError), decoding(self.heif), self.visitors.writing(self._place(image.path)):
                moment = self.moments.of(image, asked, started)
            if moment is not None:
                if "image" in moment:
                    moment["image"] = _address(moment["image"])
                row["moment"] = moment
                yield deepcopy(found)
        yield found | {"late": "all"}

    def browse(self, own: Gallery | None = None, kind: str = _ALL) -> Found:
        """What is there, in its order; of many the first."""
        gallery = self._gallery(own)
        if gallery is None:
            kinds = ", ".join(NAMES[kind] for kind in kinds_of(self.model))
            return {"title": "Nothing here yet", "note": f"Add {kinds} of your own below; then search them."}
        kinds, rows = self._kinds_of(gallery), self._rows_of(gallery, kind)
        told = dict(WELCOME)
        if len(rows) > BROWSE:
            told["note"] = f"These are {BROWSE} of {len(rows):,} that can be found."
        return {**told, "rows": [self._row(gallery.files[row], kinds[row]) for row in rows[:BROWSE]]}

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
        given = [GalleryFile(Path(file), Path(file).name) for file in files]
        folder = self.visitors.owner(given[0].path) or self.visitors.folder()
        try:
            with self.visitors.writing(folder), decoding(self.heif):
                made, refused = self._embedded(given, progress)
        except ZooError as error:
            raise user_error(explain(error)) from error
        return self._joined(made, refused, len(files), keep, own)

    def add_folder(
        self, folder: str, keep: bool = True, own: Gallery | None = None, progress: Any = None
    ) -> tuple[Gallery | None, str]:
        """Makes the files of a folder on this machine searchable, or what `zoo embed` made of one (offered on a local page only).

        Args:
            folder: path of the folder; its subfolders are searched too. keep: whether what is there now stays.
        """
        told = None if progress is None else lambda done, total: progress((done, total), unit="files")
        try:
            kinds = kinds_of(self.model)
            path = own_folder(folder, self.roots, local=self.visitors.local, noun="files")
            if holds_vectors(path):
                made = vectors_gallery(self.model, path, kinds=kinds)
            else:
                read = lambda path: input_of(self.model, path)  # noqa: E731
                made = folder_gallery(self.model, path, kinds=kinds, read=read, progress=told)
        except ZooError as error:
            raise user_error(explain(error)) from error
        offered = len(made) + len(made.refused)
        return self._joined(replace(made, refused=()) if len(made) else None, made.refused, offered, keep, own)

    def _embedded(self, given: Sequence[GalleryFile], progress: Any) -> tuple[Gallery | None, list[Refused]]:
        good, refused = [], []
        for image in given:
            try:
                input_of(self.model, image.path)
            except InputError as error:
                refused.append(Refused(image.caption, error.code, explain(error)))
            else:
                good.append(image)
        if not good:
            return None, refused
        told = None if progress is None else lambda done, total: progress((done, total), unit="files")
        made = embed_files(self.model, good, progress=told, read=lambda path: input_of(self.model, path))
        refused += made.refused
        return replace(made, refused=()), refused

    def _joined(
        self, made: Gallery | None, refused: Sequence[Refused], offered: int, keep: bool, own: Gallery | None
    ) -> tuple[Gallery, str]:
        """What was made with what is there, and a report."""
        if made is None:
            raise user_error(f"None of them could be read. {refused[0].name}: {refused[0].reason}")
        gallery = self._gallery(own) if keep else None
        whole = made if gallery is None else made.with_those_of(gallery)
        kept = set(unique(whole.files))
        whole = whole.only([row for row, image in enumerate(whole.files) if image in kept])
        counts = Counter(_kind(image.path) for image in made.files)
        several = ((counts[kind], word) for kind, word in NAMES.items() if counts[kind])
        kinds = ", ".join(f"{count:,} {word if count > 1 else word[:-1]}" for count, word in several)
        line = f"{len(made):,} of {offered:,} files were added ({kinds}); {len(whole):,} are there now."
        return whole, line + ("\n\n" + refusals(refused) if refused else "")

    # Inside ------------------------------------------------------------------------------------------------------

    def _gallery(self, own: Gallery | None) -> Gallery | None:
        return self.start if own is None else own

    def _kinds_of(self, gallery: Gallery) -> list[str]:
        """What each file is, looked at once; "" where it is gone."""
        if gallery not in self._kinds:
            self._kinds[gallery] = [_kind(image.path) for image in gallery.files]
        return self._kinds[gallery]

    def _rows_of(self, gallery: Gallery, kind: str) -> list[int]:
        return [row for row, one in enumerate(self._kinds_of(gallery)) if kind in (_ALL, one)]

    def _place(self, path: Path) -> Path:
        """Where what is made of a file is kept: with the visitor who brought it, else with what is there at first."""
        return self.visitors.owner(path) or self.thumbnails.folder

    def _row(self, image: GalleryFile, kind: str) -> dict[str, Any]:
        """A file as the page shows it; its `file` is an address of what the page has made, of an upload, or of this file alone."""
        row, owner = {"label": image.caption, "kind": kind}, self.visitors.owner(image.path)
        try:
            if kind == "image":  # a small copy, of any format, and wherever it lies
                with decoding(self.heif):
                    row["file"] = _address(self.thumbnails.of(image, owner))
                return row | ({"link": self.originals.link(image)["link"]} if self.visitors.local else {})
            image.path.stat()
            row["file"] = (
                _address(image.path)
                if owner is not None or image.path.is_relative_to(self.served)
                else self.originals.link(image)["link"]
            )
            return row | ({"image": _address(self.moments.page(image.path))} if kind == "document" else {})
        except (InputError, OSError):
            return {**row, "kind": "", "file": ""}  # it is gone, or damaged by now


def _address(path: Path | str) -> str:
    return "gradio_api/file=" + quote(str(path))


def _compared(scales: Scales, kinds: Sequence[str]) -> str:
    """What the bars say."""
    if scales.compares(kinds):
        return "Kinds are compared by how far each lies above its wrong answers (calibrated); bars run from there."
    if scales.unmeasured(kinds):
        return (
            "A bar begins at the mean of all. Similarities of different kinds are on different scales, and nobody has measured "
            "this model's (`zoo calibrate`): compare them within a kind."
        )
    return "A bar begins at the mean of all."


def _kind(path: Path) -> str:
    try:
        return kind_of(path)
    except InputError:
        return ""
