"""What the search page does, as plain methods: no component is touched here, so tests call them directly."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from zoo.embedder import RankHit
from zoo.errors import EmptyTextError, InputError, ZooError
from zoo.evaluation.instructions import TASKS
from zoo.fusion import WeightedSum
from zoo.inputs.heif import Way, decoding
from zoo.inputs.item import Item
from zoo.inputs.kinds import kind_of
from zoo.similarity import cosine, finished
from zoo.spec import Calibration

from . import map as gallery_map
from .chooser import Models
from .gallery import (
    Gallery,
    GalleryFile,
    Refused,
    Thumbnails,
    digest,
    embed_files,
    sample_images,
    save_small,
    save_whole,
    unique,
)
from .labels import labels_of, shares, similarities
from .messages import explain, refusals
from .originals import Originals
from .stored import folder_gallery, own_folder
from .visitors import Visitors
from .vocabulary import fitting, queries_for, reads_english
from .widgets import friendly, in_range, score_name, score_rows, user_error, warn

if TYPE_CHECKING:
    from torch import Tensor

    from zoo import Embedder

_SAME = 0.999  # cosine from which on an image of the gallery is the reference itself
_NUMBERS = {
    "cosine": "the cosine",
    "dot": "the dot product",
    "maxsim": "the mean over the question's tokens of their best cosine",
}
# For the shipped images; those where a model says that nothing fits are not offered.
EXAMPLE_TEXTS = ("a cup of coffee", "a pagoda", "a kitty", "snow-capped peaks", "sailing boats", "an orange flower")
BROWSE = 48  # images shown before anything was asked
SMALL_MODEL = 30_000_000  # weights
MAX_UPLOADS = 200
UPLOAD_SIDE = 1024  # uploaded images are kept at this size: more than any model here reads
TEMPERATURE = 0.02  # models trained like CLIP end between 0.01 and 0.02

Results = list[tuple[str, str]]
Scores = dict[str, Any]
Visitor = Gallery | None
Drawn = tuple[Gallery, gallery_map.MapLayout]


class Search:
    """One page's state and actions.

    A page on the user's own machine (`local`) has one gallery, which survives a reload; a public page keeps what a
    visitor uploads in that visitor's own session (`own`), unseen by others. `heif` decodes what visitors send as HEIC.
    """

    def __init__(
        self,
        models: Models,
        gallery: Gallery,
        workspace: Path,
        *,
        local: bool = True,
        roots: Sequence[Path] = (),
        queries: Sequence[str] = (),
        heif: Way | None = None,
    ) -> None:
        self.models = models
        self.start = self.current = gallery
        self.workspace = Path(workspace).resolve()
        self.thumbnails = Thumbnails(self.workspace / "images")
        self.visitors = Visitors(local=local)
        self.originals = Originals()
        self._queries, self.heif = list(queries), heif
        self.local = local
        self.roots = tuple(Path(root).expanduser().resolve() for root in roots)

    # Searching ---------------------------------------------------------------------------------------------------

    def by_text(self, query: str, top_k: int = 8, own: Visitor = None) -> tuple[Results, Scores]:
        """The images that fit the text best.

        Args:
            query: what to look for, in a few words or a sentence.
            top_k: how many images to return.
        """
        gallery, model = self.in_use(own)
        started = time.perf_counter()
        try:
            if not (query or "").strip():
                raise EmptyTextError("the query is empty")
            vector = model.encode_query(query, progress=False)
        except InputError as error:
            raise friendly(error) from error
        return self._found(model, gallery, vector, _count(top_k), started, asked="text")

    def by_image(self, image: str | None, top_k: int = 8, own: Visitor = None) -> tuple[Results, Scores]:
        """The images that look most like the one given.

        Args:
            image: the file to look for.
            top_k: how many images to return.
        """
        gallery, model = self.in_use(own)
        started = time.perf_counter()
        vector = self.embed_upload(model, image)
        return self._found(model, gallery, vector, _count(top_k), started, asked="image")

    def by_file(self, file: str | None, top_k: int = 8, own: Visitor = None) -> tuple[Results, Scores]:
        """The images nearest to a video, audio, a PDF or an image; of these what the model reads.

        Args:
            file: the file to look for.
            top_k: how many images to return.
        """
        gallery, model = self.in_use(own)
        started = time.perf_counter()
        if not file:
            raise user_error("Add a file first: a video, audio or a PDF.")
        try:
            asked = kind_of(Path(file))
        except InputError as error:
            raise user_error("That file is no video, audio, PDF or image that can be read here.") from error
        return self._found(model, gallery, self.embed_upload(model, file), _count(top_k), started, asked=asked)

    def by_both(
        self,
        image: str | None,
        text: str,
        instruction: str = "",
        share: float = 0.5,
        top_k: int = 8,
        own: Visitor = None,
    ) -> tuple[Results, Scores]:
        """The images that are like the one given, changed as the text says; the given one itself is left out.

        Args:
            image: the reference. text: what is to be different, for example "the same but in blue".
            instruction: the task in words, or the name of one of MMEB's; for models that read both as one sequence.
            share: weight of the image, 0 to 1, for models that read image and text apart and add the vectors.
            top_k: how many images to return.
        """
        gallery, model = self.in_use(own)
        started = time.perf_counter()
        share = in_range("Weight of the image", share, 0, 1)
        if not (text or "").strip():
            raise user_error("Say what is to be different, for example: the same but in blue.")
        reference = self.embed_upload(model, image)
        try:
            item = Item(image=Path(image), text=text)
            together = model.route(item).encoder.interleaved
            if together:
                task = (instruction or "").strip()
                task = TASKS[task].query if task in TASKS else task
                item = replace(item, instruction=task or None)
            if not together and isinstance(model.fusion, WeightedSum):
                asked = model.encode_query(text, progress=False)
                vector = finished(WeightedSum(share)(reference, asked), model.spec.similarity)
            else:
                with decoding(self.heif):
                    vector = model.encode_query(item, progress=False)
        except InputError as error:
            raise friendly(error) from error
        same = cosine if model.spec.similarity == "dot" else model.similarity  # norms tell nothing of sameness
        likeness = same(reference[None], gallery.vectors)[0] / (len(reference) if reference.ndim == 2 else 1)
        others = [row for row in range(len(gallery)) if likeness[row] < _SAME]
        return self._found(model, gallery, vector, _count(top_k), started, others)

    def classify(self, image: str | None, labels: str, temperature: float = TEMPERATURE, own: Visitor = None) -> Scores:
        """How well each label fits the image: its similarity, and its share (softmax of similarity / temperature).

        Args:
            image: the file to describe.
            labels: words or short phrases, separated by commas or line ends.
            temperature: the smaller, the more decided the shares.
        """
        temperature = in_range("Temperature", temperature, 1e-3, 100)
        words = labels_of(labels)
        _, model = self.in_use(own)
        return shares(model, self.embed_upload(model, image), words, temperature)

    # The gallery -------------------------------------------------------------------------------------------------

    def index_files(
        self,
        files: list[str] | None,
        keep: bool = True,
        own: Visitor = None,
        progress: Any = None,
    ) -> tuple[Visitor, str]:
        """Makes uploaded images searchable: they are embedded and join the gallery.

        Args:
            files: the uploaded images.
            keep: whether the images that are in the gallery now stay in it.
        """
        if not files:
            raise user_error("Choose some images first, then index them.")
        if len(files) > MAX_UPLOADS and not self.local:
            raise user_error(f"{len(files)} images at once are too many; choose at most {MAX_UPLOADS}.")
        # Small copies lie with what was uploaded, also of a program that says no cookie: it has a folder for each upload.
        folder = self.visitors.owner(Path(files[0])) or self.visitors.folder()
        try:
            with self.visitors.writing(folder):
                images, refused = self.copied(files, folder)
                if not images:
                    raise ZooError(f"None of them could be read. {refused[0].name}: {refused[0].reason}")
                gallery, model = self.in_use(own)
                there = set(gallery.files) if keep else set()
                both = unique([*(gallery.files if keep else ()), *images])
                new = [image for image in both if image not in there]
                made = embed_files(model, new, progress=_counter(progress)) if new else gallery.only(())
        except ZooError as error:
            raise friendly(error) from error
        return self._join(replace(made, refused=(*refused, *made.refused)), len(images), keep, own)

    def copied(self, files: Sequence[str], folder: Path) -> tuple[list[GalleryFile], list[Refused]]:
        """Small upright copies of files in a visitor's folder, and the files that cannot be read."""
        images, refused = [], []
        for name in files:
            # By content: what was uploaded before is not kept twice.
            target = folder / f"{hashlib.sha256(digest(Path(name)).encode()).hexdigest()[:32]}.jpg"
            try:
                if not target.exists():
                    with decoding(self.heif):
                        save_small(Path(name), target, UPLOAD_SIDE, quality=95)
            except InputError as error:
                refused.append(Refused(Path(name).name, error.code, explain(error)))
                continue
            images.append(GalleryFile(target, Path(name).name))
        return images, refused

    def index_folder(
        self, folder: str, keep: bool = True, own: Visitor = None, progress: Any = None
    ) -> tuple[Visitor, str]:
        """Makes the images of a folder on this machine searchable (offered on a local page only).

        Args:
            folder: path of the folder; its subfolders are searched too.
            keep: whether the images that are in the gallery now stay in it.
        """
        _, model = self.in_use(own)
        try:
            path = own_folder(folder, self.roots, local=self.local)
            made = folder_gallery(model, path, progress=_counter(progress))
        except ZooError as error:
            raise friendly(error) from error
        return self._join(made, len(made), keep, own)

    def choose_model(
        self, name: str, download: bool = False, own: Visitor = None, progress: Any = None
    ) -> tuple[Visitor, str, str, str]:
        """Changes the model; the gallery is embedded anew.

        Args:
            name: one of the models that the page offers.
            download: also where more than 500 MB have to be fetched first, which is otherwise asked.

        Returns:
            The visitor's gallery, the status line, the model in use, and what is to be asked first, "" for nothing.
        """
        gallery, _ = self.in_use(own)
        if name == gallery.model:
            return own, self.status(own), name, ""
        if not download and (question := self.models.question(name)):
            return own, self.status(own), gallery.model, question
        try:
            _report(progress, f"Loading {name}")
            model = self.models.get(name)
            changed = embed_files(model, gallery.files, progress=_counter(progress))
        except ZooError as error:
            warn(str(error), "The model was not changed")
            return own, self.status(own), gallery.model, ""
        return self._keep(changed, own), self.status(changed), name, ""

    def queries(self, own: Visitor = None) -> list[str]:
        """What to try: what the page was given for its first gallery; of the shipped images words that were chosen for
        them; of other galleries words that stand out."""
        gallery, model = self.in_use(own)
        if self._queries and gallery.files == self.start.files:
            return self._queries
        if not reads_english(model):
            return []
        shipped = {image.path for image in sample_images()}
        if {image.path for image in gallery.files} <= shipped:
            return fitting(model, gallery, EXAMPLE_TEXTS)
        return queries_for(model, gallery)

    def status(self, own: Visitor = None) -> str:
        """One line: what is searched, how long a vector is, and what not to expect of a tiny model."""
        gallery, model = self.in_use(own)
        noun = "image" if len(gallery) == 1 else "images"
        line = f"{len(gallery):,} {noun} · {model.spec.dim} dimensions"
        line += f" · texts in {model.spec.language_names}" if model.spec.languages else ""
        small = 0 < model.spec.params < SMALL_MODEL
        return line + ("  \nA small model: expect mistakes" if small else "")

    def browse(self, own: Visitor = None) -> Results:
        """The first images of the gallery, for a page where nothing was asked yet."""
        gallery, _ = self.in_use(own)
        return [self.shown(image) for image in gallery.files[:BROWSE]]

    # The map -----------------------------------------------------------------------------------------------------

    def draw_map(self, method: str = "PCA", own: Visitor = None) -> tuple[str, str, Drawn]:
        """The gallery as an image: similar images lie close together.

        Args:
            method: the projection from the model's space to the plane.
        """
        gallery, _ = self.in_use(own)
        return self.map_of(gallery, method)

    def map_of(self, gallery: Gallery, method: str) -> tuple[str, str, Drawn]:
        """The map of a gallery: its file, a sentence on how far to trust it, and where each image is."""
        import numpy as np

        count = min(len(gallery), gallery_map.MAX_ON_MAP)
        rows = np.linspace(0, len(gallery) - 1, count).round().astype(int)
        try:
            points, note = gallery_map.project(finished(gallery.points(rows), "cosine").numpy(), method)
        except ValueError as error:
            raise user_error(f"{error}.") from error
        centres, side = gallery_map.lay_out(points)
        try:
            image = gallery_map.draw([gallery.files[row].path for row in rows], centres, side)
        except (OSError, InputError) as error:
            raise user_error("An image is no longer there or was changed. Index the images again.") from error
        # By what it shows: however often a map is drawn, it is kept once. Two models may have one name, not the same places.
        shown = [method, gallery.model, str(centres.round().tolist()), *(str(gallery.files[row].path) for row in rows)]
        name = hashlib.sha256("\n".join(shown).encode("utf-8", "surrogateescape")).hexdigest()[:24]
        target = self._place_of(gallery.files) / f"map-{name}.png"
        try:
            with self.visitors.writing(target.parent):
                save_whole(image, target, "PNG")
        except ZooError as error:
            raise friendly(error) from error
        if count < len(gallery):
            note += f" {count} of the {len(gallery):,} images are drawn."
        return str(target), note, (gallery, gallery_map.MapLayout(centres, rows, side))

    def pick(self, drawn: Drawn, event: gr.SelectData) -> tuple[str, str, Results]:
        """The image nearest to a click on the map, its caption, and its nearest neighbours in the model's space."""
        gallery, layout = drawn
        return self.neighbours(gallery, layout.nearest(*event.index))

    def neighbours(self, gallery: Gallery, row: int = 0) -> tuple[str, str, Results]:
        """An image of the gallery, its caption, and the four images nearest to it in the model's space."""
        hits = self.models.get(gallery.model).rank(gallery.vectors[row], gallery.vectors, k=5)
        near = [self.shown(gallery.files[hit.index]) for hit in hits if hit.index != row][:4]
        path, caption = self.shown(gallery.files[row])
        return path, caption, near

    # Inside ------------------------------------------------------------------------------------------------------

    def in_use(self, own: Visitor) -> tuple[Gallery, "Embedder"]:
        """The gallery that a visitor searches, and its model."""
        gallery = self.current if own is None else own
        return gallery, self.models.get(gallery.model)

    def _place_of(self, images: Sequence[GalleryFile]) -> Path:
        """Where what shows all of them is kept: with the visitor whose images are among them."""
        owners = (self.visitors.owner(image.path) for image in images)
        return next((owner for owner in owners if owner is not None), self.thumbnails.folder)

    def _keep(self, gallery: Gallery, own: Visitor) -> Visitor:
        if not self.local:
            return gallery
        self.current = gallery
        return own

    def _join(self, made: Gallery, offered: int, keep: bool, own: Visitor) -> tuple[Visitor, str]:
        """A gallery in place of the one in use, or before it; and a report. `offered`: how many images it was made of."""
        gallery, _ = self.in_use(own)
        there = set(gallery.files) if keep else set()
        distinct = set(unique([*(gallery.files if keep else ()), *made.files])) - there
        fresh = made.only([row for row, image in enumerate(made.files) if image in distinct])
        searched = fresh.with_those_of(gallery) if keep else fresh
        report = f"**{_images(len(searched))} searchable now.** "
        if made.embedded:
            rate = made.embedded / max(made.seconds, 1e-6)
            report += f"{made.embedded:,} embedded in {made.seconds:.1f} s ({rate:.0f} per second)."
        if copies := offered - len(fresh) if keep else 0:
            report += f" {copies:,} {'was' if copies == 1 else 'were'} there already."
        if made.refused:
            report += f"\n\n{refusals(made.refused)}"
        return self._keep(searched, own), report

    def embed_upload(self, model: "Embedder", image: str | None) -> "Tensor":
        if not image:
            raise user_error("Add an image first: drop one in, paste it, or click an example.")
        try:
            with decoding(self.heif):
                return model.encode(Path(image), progress=False)
        except InputError as error:
            raise friendly(error) from error

    def _found(
        self,
        model: "Embedder",
        gallery: Gallery,
        vector: "Tensor",
        top_k: int,
        started: float,
        rows: Sequence[int] | None = None,
        asked: str = "",
    ) -> tuple[Results, Scores]:
        """The best images, of these rows of the gallery alone if any are named; `asked` is the query's modality."""
        scores = similarities(model, vector, gallery.vectors)
        hits = [RankHit(i, float(scores[i])) for i in scores.sort(descending=True, stable=True).indices.tolist()]
        if rows is not None:
            allowed = set(rows)
            hits = [hit for hit in hits if hit.index in allowed]
        hits = hits[:top_k]
        if not hits:
            raise user_error("The gallery holds nothing but this image. Add more images first.")
        elapsed = time.perf_counter() - started
        known = model.calibration.get(Calibration.key(asked, "image"))
        nothing = None if known is None else known.nothing
        found = [gallery.files[hit.index] for hit in hits]
        told = [(image.caption, hit.score) for image, hit in zip(found, hits, strict=True)]
        bars = score_rows(told, float(scores.mean()), score_name(model), nothing)
        if self.local:
            bars = [bar | self.originals.link(image) for bar, image in zip(bars, found, strict=True)]
        number = _NUMBERS[model.spec.similarity]
        note = f"The number is {number}. Bars run from the gallery's average image (empty) to the best match (full)."
        title = f"{len(gallery):,} images searched in {1000 * elapsed:.0f} ms"
        if nothing is not None and hits[0].score < nothing:
            title = f"Nothing clearly fits; these are the nearest of {len(gallery):,} images"
            note = f"The number is {number}. Of right answers 95 % lie above {nothing:.2f}, where a bar would be full."
        return [self.shown(image) for image in found], {"title": title, "rows": bars, "note": note}

    def shown(self, image: GalleryFile) -> tuple[str, str]:
        try:
            return str(self.thumbnails.of(image, self.visitors.owner(image.path))), image.caption
        except (OSError, InputError) as error:
            raise user_error(f"{image.caption} is no longer there or was changed. Index the images again.") from error


def _count(top_k: float) -> int:
    """How many results; any number from 1 on."""
    return int(in_range("Images to show", top_k, 1, 1_000_000))


def _images(count: int) -> str:
    return "1 image is" if count == 1 else f"{count:,} images are"


def _report(progress: Any, words: str) -> None:
    if progress is not None:
        progress(0, desc=words)


def _counter(progress: Any) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress((done, total), desc="Embedding images", unit="images")
