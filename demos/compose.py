"""Composed search: a reference image and text that say what is to be different ("the same but in blue")."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from zoo.evaluation.instructions import TASKS

from .gallery import GalleryFile, sample_images
from .registry import register_demo
from .widgets import answered, api_text, how_many, image_input, results_gallery, score_bars, slider

if TYPE_CHECKING:
    from zoo import Embedder

    from .chooser import Models
    from .gallery import Gallery
    from .handlers import Search

# Shipped images, and changes of them that other shipped images answer.
EXAMPLES = (("summit.jpg", "in black and white"), ("chelsea.png", "walking"), ("astronaut.png", "inside a spacecraft"))
WELCOME = {
    "title": "Nothing asked yet",
    "note": "Add an image, say what is to be different, and press Search; or click one of the examples.",
}


@register_demo("compose")
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
    """The search page, opened at composed search; the arguments are those of `search.build`."""
    from . import search

    return search.build(
        model,
        gallery,
        models=models,
        local=local,
        roots=roots,
        workspace=workspace,
        queries=queries,
        heif=heif,
        first="both",
    )


def tab(search: "Search", own: gr.State) -> list[gr.components.Component]:
    """Reference image, words, instruction; returns the components that show results."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=280):
            image = image_input("Start from", height=220, elem_id="reference")
            words = gr.Textbox(
                label="What is to be different?",
                placeholder="the same but in blue",
                submit_btn="Search",
                max_length=2000,
                elem_id="change",
            )
            examples = _examples(search)
            reads_both = any(tower.encoder.interleaved for tower in search.models.get(search.start.model).towers)
            with gr.Accordion("Instruction, and how the two are combined", open=reads_both):
                instruction = gr.Dropdown(
                    [
                        ("none", ""),
                        *((f"{task.about} ({name})", name) for name, task in TASKS.items()),
                    ],
                    value="",
                    allow_custom_value=True,
                    label="Instruction",
                    info="For models that read image and text as one sequence: a task of MMEB, or your own words.",
                    elem_id="instruction",
                )
                share = slider(
                    "Weight of the image",
                    0,
                    1,
                    value=0.5,
                    step=0.05,
                    info="For models that read them apart and add the vectors: 1 is the image alone, 0 the text alone.",
                )
        with gr.Column(scale=2, min_width=300):
            found = results_gallery("Images", search.browse(), columns=3, elem_id="both-results")
        with gr.Column(scale=1, min_width=220):
            top_k, bars = how_many(), score_bars("Scores", WELCOME, elem_id="both-scores")
    call = {
        "fn": search.by_both,
        "inputs": [image, words, instruction, share, top_k, own],
        "outputs": [found, bars],
        "show_progress_on": [found, bars],
        "concurrency_id": "search",
    }
    events = [words.submit(**call, api_name="search_by_both", api_description=api_text(search.by_both))]
    if examples is not None:
        picked = examples.click(
            lambda row: (row[0], row[1]), examples, [image, words], api_visibility="private", show_progress="hidden"
        )
        events.append(picked.then(**call, api_visibility="private"))
    for event in events:
        answered(event, bars, found)
    return [found, bars]


def _examples(search: "Search") -> gr.Dataset | None:
    by_name = {image.path.name: image for image in sample_images()}
    samples = [[str(search.thumbnails.of(by_name[name])), words] for name, words in EXAMPLES if name in by_name]
    if not samples:
        return None
    parts = [gr.Image(visible=False), gr.Textbox(visible=False)]
    return gr.Dataset(components=parts, samples=samples, headers=["GalleryFile", "Change"], label="Try", type="values")
