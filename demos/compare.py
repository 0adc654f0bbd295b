"""Compare models: one query and its results side by side, how far their spaces agree, and a board of measured figures."""

import tempfile
from collections.abc import Sequence
from html import escape
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from zoo.embedder import RankHit
from zoo.errors import EmptyTextError, InputError, ZooError
from zoo.vectors.agreement import linear_cka, neighbour_overlap

from . import board
from .chooser import Models
from .gallery import Gallery, GalleryFile, embed_files, example_queries, sample_images
from .handlers import Results, Search
from .labels import similarities
from .registry import register_demo
from .samples import EXAMPLES, SAMPLES, installed
from .visitors import private_folder, visitors_way
from .widgets import (
    TABLE_CSS,
    api_text,
    cosine_text,
    friendly,
    how_many,
    image_examples,
    image_input,
    in_range,
    results_gallery,
    shown,
    sources,
    user_error,
)

if TYPE_CHECKING:
    from torch import Tensor

    from zoo import Embedder

MOST = 4  # models: columns that fit beside each other
NEIGHBOURS = 10
_DIFFERENCES = 8  # rows of the table
EXPLANATION = (
    "One query, several models: what each of them finds, where they disagree, and how alike their spaces are. It is all computed "
    "here; the board has figures that were measured before."
)
WELCOME = "<p class='note'>Ask for something, and every model answers over the same images.</p>"


class Side(NamedTuple):
    """One of the models: as it is called on the page, and its vectors of the images that all models have."""

    name: str
    model: "Embedder"
    gallery: Gallery


class Comparing:
    """The actions of the page; `search` has its visitors, thumbnails and the way in which uploads are decoded."""

    def __init__(self, search: Search, sides: Sequence[Side]) -> None:
        self.search, self.sides = search, list(sides)
        self.files = sides[0].gallery.files

    def by_text(self, query: str, top_k: int = 8) -> list[Any]:
        """The images that fit the text best, by each model.

        Args:
            query: what to look for, in a few words or a sentence.
            top_k: how many images of each model.
        """
        if not (query or "").strip():
            raise friendly(EmptyTextError("the query is empty"))
        try:
            asked = [
                side.model.encode_query(query, progress=False) if "text" in side.model.spec.modalities else None
                for side in self.sides
            ]
        except InputError as error:
            raise friendly(error) from error
        if not any(vector is not None for vector in asked):
            raise user_error("None of these models reads text. Search by an image.")
        return self._answer(asked, top_k)

    def by_image(self, image: str | None, top_k: int = 8) -> list[Any]:
        """The images that look most like the one given, by each model.

        Args:
            image: the file to look for.
            top_k: how many images of each model.
        """
        return self._answer([self.search.embed_upload(side.model, image) for side in self.sides], top_k)

    def _answer(self, asked: "Sequence[Tensor | None]", top_k: float) -> list[Any]:
        """Where the models differ, as HTML, then the results of each."""
        count = int(in_range("Images to show", top_k, 1, 1_000_000))
        hits = [
            None if vector is None else _ranked(side, vector) for side, vector in zip(self.sides, asked, strict=True)
        ]
        ranks = [None if found is None else {hit.index: r for r, hit in enumerate(found, 1)} for found in hits]
        return [self._differences(ranks, count), *(self._column(hits, ranks, side, count) for side in range(len(hits)))]

    def _column(
        self, hits: Sequence[list[RankHit] | None], ranks: Sequence[dict[int, int] | None], side: int, count: int
    ) -> Results:
        found = []
        for rank, hit in enumerate((hits[side] or [])[:count], 1):
            path, caption = self.search.shown(self.files[hit.index])
            elsewhere = [other[hit.index] for i, other in enumerate(ranks) if i != side and other is not None]
            far = f" · elsewhere {', '.join(f'#{r}' for r in elsewhere)}" if any(r > count for r in elsewhere) else ""
            found.append((path, f"{rank}. {caption} · {cosine_text(hit.score)}{far}"))
        return found

    def _differences(self, ranks: Sequence[dict[int, int] | None], count: int) -> str:
        """A table of the images whose ranks differ most, of those that any model has among its first ones."""
        there = [(side, of) for side, of in zip(self.sides, ranks, strict=True) if of is not None]
        left = [side.name for side, of in zip(self.sides, ranks, strict=True) if of is None]
        told = "".join(f"<p class='note'>{escape(name)} reads no text.</p>" for name in left)
        if len(there) < 2:
            return told
        first = {row for _, of in there for row, rank in of.items() if rank <= count}
        spread = {row: max(of[row] for _, of in there) - min(of[row] for _, of in there) for row in first}
        rows = sorted((row for row in first if spread[row]), key=lambda row: -spread[row])[:_DIFFERENCES]
        common = [row for row in first if all(of[row] <= count for _, of in there)]
        said = f"<p>{len(common)} of the first {min(count, len(self.files))} are the same for all.</p>"
        if not rows:
            return told + said + "<p>All of them rank these images alike.</p>"
        head = "".join(f"<th class='n'>{escape(side.name)}</th>" for side, _ in there)
        body = "".join(
            f"<tr><td>{escape(self.files[row].caption)}</td>"
            + "".join(f"<td class='n'>{of[row]}</td>" for _, of in there)
            + "</tr>"
            for row in rows
        )
        return f"{told}{said}<table><thead><tr><th>rank of</th>{head}</tr></thead><tbody>{body}</tbody></table>"

    def agreement(self) -> str:
        """How alike the spaces are, of each two models: linear CKA and shared nearest neighbours, over the images shown here."""
        count = len(self.files)
        if count < 3:
            return "<p class='note'>Three images or more tell how far models agree.</p>"
        k, rows = min(NEIGHBOURS, count - 1), list(range(count))
        points = [side.gallery.points(rows) for side in self.sides]
        lines = []
        for one, other in combinations(range(len(self.sides)), 2):
            names = f"{escape(self.sides[one].name)} and {escape(self.sides[other].name)}"
            figures = linear_cka(points[one], points[other]), neighbour_overlap(points[one], points[other], k)
            lines.append(
                f"<tr><td>{names}</td>" + "".join(f"<td class='n'>{one:.2f}</td>" for one in figures) + "</tr>"
            )
        head = f"<th>of {count:,} images</th><th class='n'>CKA</th><th class='n'>{k} neighbours shared</th>"
        note = (
            f"CKA (Kornblith et al., 2019) is 1 where one space is a rotation of the other. Shared neighbours are the share of each image's "
            f"{k} nearest that both models name; by chance {k / (count - 1):.2f}."
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table><p class='note'>{note}</p>"

    def maps(self, method: str = "PCA") -> list[str]:
        """The gallery as each model sees it.

        Args:
            method: the projection from a model's space to the plane.
        """
        return [self.search.map_of(side.gallery, method)[0] for side in self.sides]


def _ranked(side: Side, vector: "Tensor") -> list[RankHit]:
    """All images, best first; equal scores keep the gallery's order, so that models of equal vectors rank alike."""
    scores = similarities(side.model, vector, side.gallery.vectors)
    order = scores.sort(descending=True, stable=True).indices.tolist()
    return [RankHit(row, float(scores[row])) for row in order]


@register_demo("compare")
def build(
    model: "Embedder",
    gallery: Gallery | Sequence[GalleryFile] | None = None,
    *,
    others: Sequence["Embedder"] = (),
    galleries: Sequence[Gallery] = (),
    names: Sequence[str] = (),
    models: Models | None = None,
    local: bool = True,
    roots: Sequence[Path] = (),
    workspace: Path | None = None,
    queries: Sequence[str] = (),
    heif: bool = False,
) -> gr.Blocks:
    """The page that compares a model with others.

    Args:
        others: the models beside `model`. galleries: theirs, where `gallery` is embedded already. names: as the page calls all of
            them, where their own are not to be told apart. The rest as of `search.build`.

    Raises:
        ZooError: fewer than two models, more than four, or one that reads no images.
    """
    together = [model, *others]
    if not 2 <= len(together) <= MOST:
        raise ZooError(f"a page compares 2 to {MOST} models, not {len(together)}")
    for one in together:
        if "image" not in one.spec.modalities:
            raise ZooError(f"{one.spec.name} reads no images, and the page compares models over images; leave it out")
    if isinstance(gallery, Gallery):
        every = [gallery, *galleries]
    else:
        every = [embed_files(one, sample_images() if gallery is None else gallery) for one in together]
    called = list(names) or _names(together)
    sides = [Side(*one) for one in zip(called, together, _in_common(every), strict=True)]
    workspace = workspace or Path(tempfile.mkdtemp(prefix="images-", dir=private_folder()))
    way = visitors_way(local=local, heif=heif)
    search = Search(
        models or Models(model), sides[0].gallery, workspace, local=local, roots=roots, queries=queries, heif=way
    )
    gr.set_static_paths([search.thumbnails.folder])
    page = _page(Comparing(search, sides))
    page.visitors, page.thumbnails = search.visitors, search.thumbnails.folder
    return page


def _names(models: Sequence["Embedder"]) -> list[str]:
    """The models' names; equal ones are numbered."""
    names = [model.spec.name for model in models]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    ]


def _in_common(galleries: Sequence[Gallery]) -> list[Gallery]:
    """The galleries with the files that all models could embed, in one order."""
    there = set.intersection(*(set(gallery.files) for gallery in galleries))
    order = [file for file in galleries[0].files if file in there]
    found = []
    for gallery in galleries:
        row_of = {file: row for row, file in enumerate(gallery.files)}
        found.append(gallery.only([row_of[file] for file in order]))
    return found


def _page(comparing: Comparing) -> gr.Blocks:
    sides = comparing.sides
    with gr.Blocks(title="Embedding Zoo · compare models", analytics_enabled=False) as page:
        gr.Markdown(f"# Embedding Zoo\n{EXPLANATION}", elem_id="title")
        with gr.Tabs():
            with gr.Tab("Side by side"):
                _search_tab(comparing)
            with gr.Tab("Agreement"):
                _agreement_tab(comparing)
            with gr.Tab("Board"):
                board.tab()
        there = {file.path for file in sides[0].gallery.files}
        credited = [sample for path, sample in installed(SAMPLES) if path in there]
        sources([*credited, *(sample for _, sample in installed(EXAMPLES))] if credited else [])
    page.queue(max_size=64, default_concurrency_limit=4)
    return page


def _search_tab(comparing: Comparing) -> None:
    search, sides = comparing.search, comparing.sides
    reads_text = any("text" in side.model.spec.modalities for side in sides)
    samples = [[query] for query in search.queries()] if reads_text else []
    query = gr.Textbox(
        label="What are you looking for?",
        placeholder=samples[0][0] if samples else "a cup of coffee",
        submit_btn="Search",
        max_length=2000,
        elem_id="query",
        visible=reads_text,
    )
    tries = gr.Dataset(
        components=[gr.Textbox(visible=False)], samples=samples, label="Try", type="values", visible=bool(samples)
    )
    with gr.Accordion("Or search by an image", open=not reads_text), gr.Row():
        image = image_input("An image to look for", height=200, elem_id="look-for")
        with gr.Column():
            go = gr.Button("Find similar images", variant="primary")
            examples = image_examples(search.thumbnails, example_queries())
    top_k = how_many(24, 6, "Images of each model")
    with gr.Row(equal_height=False):
        columns = []
        for place, side in enumerate(sides):
            with gr.Column(min_width=260):
                gr.Markdown(f"### {escape(side.name)}\n{_facts(side.model)}", elem_id=f"side-{place}")
                columns.append(results_gallery(side.name, search.browse(), columns=2, elem_id=f"found-{place}"))
    differing = gr.HTML(WELCOME, css_template=TABLE_CSS, elem_id="differing", padding=True)
    call: dict[str, Any] = {"outputs": [differing, *columns], "concurrency_id": "search"}
    text = {"fn": comparing.by_text, "inputs": [query, top_k], **call}
    like = {"fn": comparing.by_image, "inputs": [image, top_k], **call}
    silent = {"api_visibility": "private"}
    events = [
        query.submit(**text, api_name="compare_by_text", api_description=api_text(comparing.by_text)),
        tries.click(lambda row: row[0], tries, query, show_progress="hidden", **silent).then(**text, **silent),
        go.click(**like, api_name="compare_by_image", api_description=api_text(comparing.by_image)),
    ]
    if examples is not None:
        picked = examples.click(lambda row: row[0], examples, image, show_progress="hidden", **silent)
        events.append(picked.then(**like, **silent))
    for event in events:
        event.success(None, js=shown("#side-0"), show_progress="hidden", **silent)
        event.failure(lambda: [WELCOME, *([] for _ in sides)], None, call["outputs"], show_progress="hidden", **silent)


def _facts(model: "Embedder") -> str:
    """Size, dimension and licence of a model, in a line."""
    spec = model.spec
    return f"{spec.params / 1e6:,.0f} M weights · {spec.dim} dimensions · {escape(spec.license)}"


def _agreement_tab(comparing: Comparing) -> None:
    from . import map as gallery_map

    gr.HTML(comparing.agreement(), css_template=TABLE_CSS, elem_id="agreement", padding=True)
    with gr.Row():
        method = gr.Dropdown(gallery_map.methods(), value="PCA", label="Projection", min_width=160)
        draw = gr.Button("Draw the maps", variant="secondary")
    with gr.Row(equal_height=False):
        maps = []
        for place, side in enumerate(comparing.sides):
            with gr.Column(min_width=300):
                maps.append(
                    gr.Image(
                        label=side.name,
                        type="filepath",
                        interactive=False,
                        buttons=["fullscreen"],
                        elem_id=f"map-{place}",
                    )
                )
    draw.click(
        comparing.maps,
        [method],
        maps,
        api_name="maps",
        api_description=api_text(comparing.maps),
        concurrency_id="index",
    )
