"""Why a result was found: which moment of a video or recording, or which page of a PDF, fits the query best."""

import hashlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import InputError
from zoo.inputs.audio import longer_than
from zoo.inputs.document import load_pages, page_count
from zoo.inputs.excerpts import DocumentPage
from zoo.inputs.item import Item
from zoo.inputs.spacing import audio_length, video_length
from zoo.inputs.video import load_video

from .asked import Asked, input_of, reads
from .gallery import THUMBNAIL_SIDE, GalleryFile, save_whole
from .labels import similarities

if TYPE_CHECKING:
    from torch import Tensor

    from zoo import Embedder

MOST_FRAMES, MOST_SEGMENTS, MOST_PAGES = 24, 60, 40
"""Parts of one file that are looked at: of longer ones they lie further apart, and of PDFs the first pages are."""
MOST_HOURS = 2.0
PATIENCE = 10.0  # seconds that looking through the results of one search may take; what is not seen then has no moment
_KEPT = 256  # files whose parts are remembered
_FASTEST = 4.0  # frames a second
_LEAST = 1.0  # seconds of a segment
_MOMENT = 1e-3
_SURELY_SHORT = 4 * 2**20  # bytes: no audio that anybody listens to is so small and lasts for hours


class _Parts(NamedTuple):
    """Vectors of the parts of a file, and where each is: start and end in seconds, or the number of a page and of all pages."""

    vectors: "Tensor | list[Tensor]"
    places: list[tuple[float, float]]
    per: str


class Moments:
    """The best part of a file for a query; a file's parts are embedded once, when it is first among the results.

    Args:
        place: the folder in which the image of a page or frame is kept for a file, which the page serves.
    """

    def __init__(self, model: "Embedder", place: Callable[[Path], Path]) -> None:
        self.model, self._place = model, place
        self._known: OrderedDict[str, _Parts | None] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, image: GalleryFile, asked: Asked, started: float | None = None) -> dict[str, Any] | None:
        """Where a file fits best: `start` and `end` in seconds, or `page` and `pages`; `parts`, how well each does, 0..1; and `image`.

        Args:
            started: when looking began (`time.monotonic`); after `PATIENCE` nothing more is embedded.

        Returns:
            None where it has no parts that the model reads, or only one, or there is no time, or it cannot be read any more.
        """
        try:
            parts = self._parts(image.path, started)
            if parts is None or len(parts.places) < 2:
                return None
            scores = similarities(self.model, asked.vector, parts.vectors)
            best = int(scores.argmax())
            first, last = parts.places[best]
            told = {"parts": [round(float(one), 3) for one in _spread(scores)]}
            if parts.per == "page":
                return {**told, "page": int(first), "pages": int(last), "image": self.page(image.path, int(first))}
            told |= {"start": round(first, 3), "end": round(last, 3)}
            return told | ({"image": self._frame(image.path, first)} if parts.per == "frame" else {})
        except (InputError, OSError):
            return None

    def page(self, path: Path, number: int = 1) -> str:
        """The file of a small image of a PDF's page; raises InputError where it cannot be drawn."""
        return self._image(
            path,
            f"page {number}",
            lambda: next(load_pages(path, pages=[number], max_side=THUMBNAIL_SIDE, text=False)).pixels,
        )

    def _frame(self, path: Path, start: float) -> str:
        return self._image(
            path, f"at {start}", lambda: load_video(path, frames=1, start=start, seconds=_MOMENT).frames[0]
        )

    def _image(self, path: Path, what: str, made: Callable[[], Any]) -> str:
        target = self._place(path) / f"{hashlib.sha256(f'{_mark(path)}|{what}'.encode()).hexdigest()[:24]}.jpg"
        if not target.exists():
            from PIL import Image

            image = Image.fromarray(made())
            image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
            save_whole(image, target, "JPEG", quality=88)
        return str(target)

    def _parts(self, path: Path, started: float | None) -> _Parts | None:
        key = _mark(path)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        if started is not None and time.monotonic() - started > PATIENCE:
            return None
        parts = self._embedded(path)
        with self._lock:
            self._known[key] = parts
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return parts

    def _embedded(self, path: Path) -> _Parts | None:
        item, asked = input_of(self.model, path), self.model.for_role("document")
        if item.document is not None:
            return self._pages(path, asked) if reads(self.model, "image") else None
        if item.video is not None:
            seconds = video_length(path).seconds
            if not seconds or math.isnan(seconds):
                return None
            if reads(self.model, "image"):
                fps = min(_FASTEST, MOST_FRAMES / seconds)
                return _of("frame", self.model.encode_track(item, "frame", fps=fps, progress=False, **asked))
        elif item.audio is not None:
            if path.stat().st_size > _SURELY_SHORT and longer_than(path, 3600 * MOST_HOURS):
                return None
            seconds = audio_length(path)
        else:
            return None
        if seconds <= _LEAST:
            return None
        each = max(_LEAST, seconds / MOST_SEGMENTS)
        return _of("second", self.model.encode_track(item, "second", seconds=each, progress=False, **asked))

    def _pages(self, path: Path, asked: dict[str, Any]) -> _Parts:
        count = page_count(path)
        looked = range(1, min(count, MOST_PAGES) + 1)
        pages = [Item(image=DocumentPage(path, number)) for number in looked] if count > 1 else []
        vectors = self.model.encode(pages, progress=False, **asked) if pages else []
        return _Parts(vectors, [(number, count) for number in looked], "page")


def _of(per: str, track: Any) -> _Parts:
    return _Parts(track.vectors, list(zip(track.starts.tolist(), track.ends.tolist(), strict=True)), per)


def _spread(scores: "Tensor") -> "Tensor":
    """Scores from 0, the least, to 1, the best."""
    return (scores - scores.min()) / (scores.max() - scores.min()).clamp_min(1e-6)


def _mark(path: Path) -> str:
    status = path.stat()
    return f"{path}|{status.st_mtime_ns}|{status.st_size}"
