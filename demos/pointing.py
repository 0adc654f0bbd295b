"""What pointing at a thing does, as plain methods: marks on an image to a region, its outline, its names, and places like it."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import gradio as gr

from zoo.embedder.aiming import facing
from zoo.errors import InputError, ZooError
from zoo.inputs.image import load_pixels
from zoo.inputs.regions import Box, Mask, Point, Region, checked_regions, mask_of

from .gallery import Gallery, GalleryFile, save_whole, shrink
from .handlers import TEMPERATURE, Results, Scores, Search, Visitor
from .labels import labels_of, nearest_words, shares, similarities
from .widgets import cosine_text, friendly, in_range, user_error

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from zoo import Embedder

MOST_MARKS = 100
_PLACE = ("image", "regions")  # what a text is compared with here
_NUMBERS = {"point": range(2, 3), "box": range(4, 5), "stroke": range(2, 20_001, 2)}  # how many a mark may have
_WORK, _GPU = (
    1e11,
    100,
)  # weights times regions that a page may embed for one question, a few seconds on a CPU; of a GPU so many times
_LEAST, _MOST = 2, 48  # gallery images whose regions are compared
_KEPT = 1000  # images of a gallery whose regions' vectors stay in memory
_READ_SIDE = 768  # of a gallery image whose regions are embedded
_OUTLINE_SIDE, _TOLERANCE, _PARTS = 320, 0.8, 30  # of the mask whose outline is drawn; in its pixels; parts at most
_LINE = (13, 148, 136)  # the page's teal
NOTHING = {
    "title": "Nothing pointed at yet",
    "note": "Click a thing in the image, drag a box around it, or paint over it.",
}
NO_TEXT = {
    "title": "This model reads no text",
    "note": "So it gives no names; the places that look like it are below.",
}


def grid() -> list[Box]:
    """The regions of an image that are compared: all of it, and nine of half its sides, which overlap."""
    halves = [Box.relative(x, y, x + 0.5, y + 0.5) for y in (0, 0.25, 0.5) for x in (0, 0.25, 0.5)]
    return [Box.relative(0, 0, 1, 1), *halves]


@dataclass(frozen=True)
class Stroke:
    """A line that was painted: its corners x, y, x, y, … and radius, in parts of the image's sides and of its width."""

    numbers: tuple[float, ...]
    radius: float


def marks_of(value: Any) -> list[Region | Stroke]:
    """The marks that the canvas sends, or a program: `{"marks": [{"kind": "point" | "box" | "stroke", "at": [x, y, …]}, …]}`.

    Raises:
        gr.Error: it is anything else.
    """
    marks = value.get("marks") if isinstance(value, dict) else value
    if not isinstance(marks, list | type(None)) or len(marks or ()) > MOST_MARKS:
        raise user_error(f"Marks are a list of at most {MOST_MARKS} points, boxes and strokes.")
    return [_mark(mark) for mark in marks or ()]


def _mark(mark: Any) -> Region | Stroke:
    kind, at = (mark.get("kind"), mark.get("at")) if isinstance(mark, dict) else (None, None)
    right = _NUMBERS.get(kind, ()) if isinstance(kind, str) else ()
    if not isinstance(at, list) or len(at) not in right or not all(map(_is_share, at)):
        raise user_error(
            "A mark is a point [x, y], a box [x0, y0, x1, y1] or a stroke [x, y, x, y, …], in parts of the image from 0 to 1."
        )
    if kind == "stroke":
        radius = mark.get("radius", 0.03)
        if not _is_share(radius) or not 0 < radius <= 0.5:
            raise user_error("The radius of a stroke is a part of the image's width, above 0 and up to 0.5.")
        return Stroke(tuple(at), radius)
    region = Point.relative(*at) if kind == "point" else Box.relative(*at)
    try:
        checked_regions([region])
    except InputError as error:
        raise user_error(
            "That box is too small to mean anything. Drag it from corner to corner of the thing."
        ) from error
    return region


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def regions_from(marks: Sequence[Region | Stroke], height: int, width: int) -> list[Region]:
    """The regions that marks are, of an image of this size: strokes together are a mask."""
    regions = [mark for mark in marks if not isinstance(mark, Stroke)]
    strokes = [mark for mark in marks if isinstance(mark, Stroke)]
    if strokes:
        regions.append(Mask(_painted(strokes, height, width)))
    return regions


def _painted(strokes: Sequence[Stroke], height: int, width: int) -> "np.ndarray":
    """What strokes cover, bool `(height, width)`."""
    import numpy as np
    from PIL import Image, ImageDraw

    canvas = Image.new("1", (width, height))
    pen = ImageDraw.Draw(canvas)
    for stroke in strokes:
        radius = max(0.5, stroke.radius * width)
        corners = [(x * width, y * height) for x, y in zip(stroke.numbers[::2], stroke.numbers[1::2], strict=True)]
        if len(corners) > 1:
            pen.line(corners, fill=1, width=max(1, round(2 * radius)), joint="curve")
        for x, y in (corners[0], corners[-1]):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
            canvas.putpixel((min(int(x), width - 1), min(int(y), height - 1)), 1)  # of a thing thinner than a pixel
    return np.array(canvas, bool)


def outline(mask: "np.ndarray") -> list[list[float]]:
    """The outlines of a mask's parts and holes, largest first: corners x, y, x, y, … in parts of the sides."""
    import numpy as np
    from PIL import Image
    from skimage.measure import approximate_polygon, find_contours

    scale = min(1.0, _OUTLINE_SIDE / max(mask.shape))
    height, width = (max(1, round(side * scale)) for side in mask.shape)
    small = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BOX))
    # Framed by nothing, so that an outline closes at the image's border; small parts stay, at any share of a pixel.
    level = 127.5 if (small > 127).any() else small.max() / 2
    lines = sorted(find_contours(np.pad(small.astype(float), 1), level), key=len, reverse=True)[:_PARTS]
    found = []
    for line in lines:
        corners = approximate_polygon(line, _TOLERANCE) if len(line) > 8 else line
        # A pixel's middle lies at its number, less the frame's, and a half.
        places = (corners[:, ::-1] - 0.5) / (width, height)
        found.append([round(float(number), 4) for number in places.clip(0, 1).ravel()])
    return found


class Pointing:
    """What the tab does on a page: opens images, and answers marks. The vectors of gallery regions go when their gallery goes."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self._boxes = grid()
        self._vectors: WeakKeyDictionary[Gallery, OrderedDict[GalleryFile, Any]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def opened(self, image: str | None) -> dict[str, Any]:
        """The value of the canvas for an image: an upright copy without transparency that every browser shows, and no marks."""
        return {"src": "" if not image else f"/gradio_api/file={self._copy(image)}", "marks": []}

    def picked(self, row: int, own: Visitor = None) -> str:
        """The file of one of the gallery's images that the page shows."""
        shown = self.search.browse(own)
        if not isinstance(row, int) or not 0 <= row < len(shown):
            raise user_error("The gallery has changed. Choose an image again.")
        return shown[row][0]

    def by_region(
        self,
        image: str | None,
        marks: Any,
        labels: str = "",
        top_k: int = 8,
        own: Visitor = None,
    ) -> "Iterator[tuple[Any, Scores, Results]]":
        """What is pointed at in an image: its outline, at once; then its names with scores, and the places most like it in the gallery.

        Args:
            image: the image.
            marks: {"marks": [{"kind": "point", "at": [x, y]}, …]}; "box" with [x0, y0, x1, y1] and "stroke" with [x, y, x, y, …]
                and a radius, all in parts of the upright image's sides, 0 to 1. Together they are one region.
            labels: words to choose from, separated by commas; without any, the zoo's list.
            top_k: how many places to return.
        """
        found = marks_of(marks)
        if not image or not found:
            yield gr.HTML(outline=[]), NOTHING if image else {**NOTHING, "title": "No image yet"}, gr.skip()
            return
        count = int(in_range("Places to show", top_k, 1, _MOST))
        words = labels_of(labels) if (labels or "").strip() else []
        turn = marks.get("turn") if isinstance(marks, dict) else None
        gallery, model = self.search.in_use(own)
        path = self._copy(image)
        try:
            pixels = load_pixels(path)
            regions = regions_from(found, *pixels.shape[:2])
            mask = mask_of(regions, pixels)
            drawn = gr.HTML(outline=[turn, *outline(mask)])
            yield drawn, gr.skip(), gr.skip()
            # A model that reads regions itself gets them as they were marked; others the same pixels, found once.
            meant = regions if "regions" in model.spec.modalities else Mask(mask)
            vector = model.encode_regions(pixels, [meant], progress=False)[0]
            names = self._names(model, vector, words)
            yield drawn, names, gr.skip()
            places = self._similar(model, gallery, vector, path, count)
        except InputError as error:
            raise friendly(error) from error
        except ZooError as error:
            raise user_error(str(error)) from error
        yield drawn, names, places  # all of it, for programs

    def _copy(self, image: str) -> Path:
        """The file that the page shows of an image: a visitor's upload as a small upright copy beside it, a gallery image as it is."""
        path, visitors = Path(image), self.search.visitors
        folder = visitors.owner(path)
        if folder is None:
            return path
        try:
            with visitors.writing(folder):
                images, refused = self.search.copied([image], folder)
        except ZooError as error:
            raise friendly(error) from error
        if refused:
            raise user_error(refused[0].reason)
        return images[0].path

    def _names(self, model: "Embedder", vector: "Tensor", words: list[str]) -> Scores:
        if "text" not in model.spec.modalities:
            return NO_TEXT
        if words:
            return shares(facing(model, [_PLACE]), vector, words, TEMPERATURE)
        return nearest_words(model, vector, _PLACE)

    def _similar(self, model: "Embedder", gallery: Gallery, vector: "Tensor", path: Path, count: int) -> Results:
        """The best place of each gallery image, best first, drawn on it; the image that is pointed at is left out."""
        likeness = similarities(model, vector, gallery.vectors)
        work = _WORK * (1 if model.device.type == "cpu" else _GPU)
        most = int(min(_MOST, max(_LEAST, work / (max(1, model.spec.params) * len(self._boxes)))))
        found = []
        for row in likeness.argsort(descending=True).tolist():
            file = gallery.files[row]
            if path in (file.path, self._shown(file)):
                continue
            scores = similarities(model, vector, self._regions(model, gallery, file))
            best = int(scores.argmax())
            found.append((float(scores[best]), file, self._boxes[best]))
            if len(found) == most:
                break
        found.sort(key=lambda one: -one[0])
        return [
            (str(self._drawn(file, box)), f"{cosine_text(score)} · {file.caption}")
            for score, file, box in found[:count]
        ]

    def _regions(self, model: "Embedder", gallery: Gallery, file: GalleryFile) -> "Tensor | list[Tensor]":
        """The vectors of the grid's regions of a gallery image, embedded when first asked for."""
        with self._lock:
            kept = self._vectors.setdefault(gallery, OrderedDict())
            if file in kept:
                kept.move_to_end(file)
                return kept[file]
        image, asked = shrink(file.path, _READ_SIDE), model.for_role("document")
        made = model.encode_regions(image, self._boxes, progress=False, **asked)
        with self._lock:
            kept[file] = made
            while len(kept) > _KEPT:
                kept.popitem(last=False)
        return made

    def _shown(self, file: GalleryFile) -> Path:
        try:
            return self.search.thumbnails.of(file, self.search.visitors.owner(file.path))
        except (OSError, InputError) as error:
            raise user_error(f"{file.caption} is no longer there or was changed. Index the images again.") from error

    def _drawn(self, file: GalleryFile, box: Box) -> Path:
        """A gallery image's thumbnail with a box drawn on it, beside the thumbnail."""
        from PIL import Image, ImageDraw

        shown = self._shown(file)
        target = shown.with_name(f"{hashlib.sha256(f'{shown.name} {box}'.encode()).hexdigest()[:24]}.jpg")
        if not target.exists():
            with Image.open(shown) as opened:
                image = opened.convert("RGB")
            pen = ImageDraw.Draw(image)
            left, top, right, bottom = (n * side for n, side in zip(box.numbers, image.size * 2, strict=True))
            line = max(1, round(max(image.size) / 100))
            for colour, width in (((255, 255, 255), 2 * line), (_LINE, line)):
                pen.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=width)
            save_whole(image, target, "JPEG", quality=88)
        return target
