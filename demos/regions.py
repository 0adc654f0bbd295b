"""Point at a thing: click, drag a box or paint, and see its name and the places most like it in the gallery."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from zoo.errors import ZooError

from .canvas import pointing_canvas
from .gallery import GalleryFile
from .pointing import NOTHING, Pointing
from .registry import register_demo
from .widgets import FAILED, api_text, how_many, image_input, results_gallery, score_bars

if TYPE_CHECKING:
    from zoo import Embedder

    from .chooser import Models
    from .gallery import Gallery
    from .handlers import Search

PREFERRED = ("astronaut.png", "coffee.png")  # to point at first: several things to point at


@register_demo("regions")
def build(
    model: "Embedder",
    gallery: "Gallery | Sequence[GalleryFile] | None" = None,
    *,
    models: "Models | None" = None,
    local: bool = True,
    roots: Sequence[Path] = (),
    workspace: Path | None = None,
    queries: Sequence[str] = (),
    heif: bool = False,
) -> gr.Blocks:
    """The search page, opened at pointing; the arguments are those of `search.build`.

    Raises:
        ZooError: the model reads no images.
    """
    from . import search

    if "image" not in model.spec.modalities:
        raise ZooError(
            f"{model.spec.name} reads no images, so there is nothing to point at; choose one that does (zoo list)"
        )
    return search.build(
        model,
        gallery,
        models=models,
        local=local,
        roots=roots,
        workspace=workspace,
        queries=queries,
        heif=heif,
        first="region",
    )


def tab(search: "Search", own: gr.State) -> list[gr.components.Component]:
    """The image to point at, names, and places; returns the components that show results, and the images to pick from."""
    pointing = Pointing(search)
    shown = search.browse()
    names = [image.path.name for image in search.start.files[: len(shown)]]
    first = shown[next((names.index(name) for name in PREFERRED if name in names), 0)][0] if shown else None
    with gr.Row(equal_height=False, elem_id="region-row"):
        with gr.Column(scale=2, min_width=300, elem_id="region-image"):
            canvas = pointing_canvas(pointing.opened(first), elem_id="region-canvas")
        with gr.Column(scale=1, min_width=260):
            bars = score_bars("Names", NOTHING, elem_id="region-names")
            labels = gr.Textbox(
                label="Your labels, separated by commas",
                placeholder="a cup, a spoon, a plate",
                info="Without any, the nearest words of the zoo's list.",
                submit_btn="Name it",
                max_length=5000,
                elem_id="region-labels",
            )
            top_k = how_many(48, 8, "Places to show")
    gr.Markdown("Places like it in the gallery:", elem_id="region-head")
    found = results_gallery("Places like it", columns=4, object_fit="contain", elem_id="region-results")
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=260):
            image = image_input("Your own image", height=220, value=first, elem_id="region-image")
        with gr.Column(scale=3, min_width=300):
            picks = results_gallery(
                "Or point at one of these", shown, columns=6, allow_preview=False, elem_id="region-picks"
            )
    _connect(pointing, own, (canvas, labels, top_k, image, picks), bars, found)
    return [found, bars, picks]


def _connect(pointing: Pointing, own: gr.State, given: tuple[Any, ...], bars: gr.HTML, found: gr.Gallery) -> None:
    canvas, labels, top_k, image, picks = given
    silent: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    call = {
        "fn": pointing.by_region,
        "inputs": [image, canvas, labels, top_k, own],
        "outputs": [canvas, bars, found],
        "show_progress_on": [bars, found],
        "concurrency_id": "search",
        "trigger_mode": "always_last",
    }
    said = {"api_name": "search_by_region", "api_description": api_text(pointing.by_region)}
    for event in (canvas.input(**call, **said), labels.submit(**call, api_visibility="private")):
        event.failure(lambda: (gr.HTML(outline=[]), FAILED, None), None, [canvas, bars, found], **silent)

    def opened(path: str | None) -> tuple[Any, ...]:
        return pointing.opened(path), NOTHING, None

    def picked(own: Any, event: gr.SelectData) -> str:
        return pointing.picked(event.index, own)

    picks.select(picked, own, image, **silent)
    image.change(opened, image, [canvas, bars, found], **silent)
