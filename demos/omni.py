"""Search recordings, clips, images and documents with words or with a file: the demo of models that hear or watch."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from .gallery import Gallery, Picture, embed_pictures, joined
from .made import made_media
from .media import IN_WORDS, MediaSearch, input_of, kinds_of
from .registry import register_demo
from .visitors import Visitors, private_folder, visitors_way
from .widgets import answered, api_text, how_many, uploaded_path, user_error

if TYPE_CHECKING:
    from zoo import Embedder

EXAMPLES = {
    "audio": ("a bell", "a ticking clock", "rain"),
    "video": ("a cup of coffee", "a cat", "a rocket"),
    "image": ("a pagoda", "snow-capped peaks"),
    "document": (),
}
PROGRESS = gr.Progress()
# The template runs in the browser; the value is data to it and never code, and every string is escaped there.
_HTML = """${(() => {
  const safe = (text) => String(text).replace(/[&<>"']/g, (letter) => '&#' + letter.charCodeAt(0) + ';');
  const found = value || {};
  const player = (row) => ({
    audio: '<audio controls preload="none" src="' + safe(row.file) + '" aria-label="' + safe(row.label) + '"></audio>',
    video: '<video controls preload="metadata" playsinline src="' + safe(row.file) + '" aria-label="' + safe(row.label) + '"></video>',
    image: '<img loading="lazy" src="' + safe(row.file) + '" alt="' + safe(row.label) + '">',
    document: '<a href="' + safe(row.file) + '" target="_blank" rel="noopener">open the PDF</a>',
  })[row.kind] || '';
  const rows = (found.rows || []).map((row) => '<li>' + player(row) + '<span class="name">' + safe(row.label) + '</span>'
    + (row.text === undefined ? '' : '<span class="number">' + safe(row.text) + '</span><span class="track"><span style="width:'
    + Math.max(0, Math.min(100, 100 * row.bar)).toFixed(1) + '%"></span></span>') + '</li>').join('');
  return (found.title ? '<p class="head">' + safe(found.title) + '</p>' : '') + (rows ? '<ol>' + rows + '</ol>' : '')
    + (found.note ? '<p class="note">' + safe(found.note) + '</p>' : '');
})()}"""
_CSS = """
.head { font-weight: 600; margin: 0 0 .6rem 0; }
.note { color: var(--body-text-color-subdued); font-size: .82rem; margin: .7rem 0 0 0; }
ol { list-style: none; margin: 0; padding: 0; display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); }
li { display: grid; grid-template-columns: 1fr auto; column-gap: .6rem; align-content: start; align-items: baseline;
  padding: .7rem; border: 1px solid var(--border-color-primary); border-radius: var(--radius-lg); min-width: 0; }
audio, video, img { grid-column: 1 / -1; width: 100%; max-width: 100%; margin-bottom: .5rem; border-radius: var(--radius-md); }
video, img { aspect-ratio: 4 / 3; object-fit: contain; background: var(--background-fill-secondary); }
audio { height: 40px; }
a { grid-column: 1 / -1; margin-bottom: .5rem; }
.name { font-size: .92rem; line-height: 1.3; overflow-wrap: anywhere; min-width: 0; }
.number { font-variant-numeric: tabular-nums; font-size: .85rem; color: var(--body-text-color-subdued); }
.track { grid-column: 1 / -1; height: 7px; border-radius: 4px; background: var(--border-color-primary); margin-top: .4rem; }
.track > span { display: block; height: 100%; border-radius: 4px; background: var(--color-accent); }
"""


@register_demo("omni")
def build(
    model: "Embedder",
    gallery: Gallery | Sequence[Picture] | None = None,
    *,
    local: bool = True,
    workspace: Path | None = None,
    heif: bool = False,
    **_page: Any,
) -> gr.Blocks:
    """The page; options that concern pages of images alone are accepted and unused, so that every demo opens alike.

    Args:
        gallery: images that are there at first, embedded or not. Sounds and clips made by program join them.
        local: whether only this machine's user sees the page. workspace: private folder for what is made; by default one that goes
            with the process. heif: as of `search.build`.
    """
    folder = Path(workspace or tempfile.mkdtemp(prefix="media-", dir=private_folder())).resolve()
    gr.set_static_paths([folder])
    way = visitors_way(local=local, heif=heif)
    search = MediaSearch(model, _first(model, gallery, folder), Visitors(local=local), folder, way)
    page = _page_of(search)
    page.visitors = search.visitors
    return page


def _first(model: "Embedder", gallery: Gallery | Sequence[Picture] | None, folder: Path) -> Gallery | None:
    """What is there before anybody added something; None where that is nothing."""
    kinds = kinds_of(model)
    if gallery is None or "image" not in kinds:
        parts = []
    elif isinstance(gallery, Gallery):
        parts = [gallery]
    else:
        parts = [embed_pictures(model, gallery)]
    if made := made_media(kinds, folder):
        parts.append(embed_pictures(model, made, read=lambda path: input_of(model, path)))
    return joined(parts) if parts else None


def _page_of(search: MediaSearch) -> gr.Blocks:
    model, kinds = search.model, kinds_of(search.model)
    named = [IN_WORDS[kind] for kind in kinds]
    spoken = named[0] if len(named) == 1 else ", ".join(named[:-1]) + f" and {named[-1]}"
    by_words = "text" in model.spec.modalities
    how = "with words, or with a file" if by_words else "with a file"
    with gr.Blocks(title="Embedding Zoo · search by meaning", analytics_enabled=False) as page:
        gr.Markdown(
            f"# Embedding Zoo\nSearch {spoken} {how}: {model.spec.name} turns them into vectors, and what means the same lies "
            "close together.",
            elem_id="title",
        )
        own = gr.State(None, time_to_live=12 * 3600)
        if by_words:
            query = gr.Textbox(
                label="What are you looking for?",
                placeholder="a few words or a sentence",
                submit_btn="Search",
                autofocus=True,
                max_length=2000,
                elem_id="query",
            )
            tries = [[text] for kind in kinds for text in EXAMPLES[kind]]
            examples = gr.Dataset(components=[gr.Textbox(visible=False)], samples=tries, label="Try", type="values")
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                file, microphone, go, wanted, top_k = _file_inputs(kinds, by_words)
            with gr.Column(scale=2, min_width=300):
                found = gr.HTML(search.browse(), html_template=_HTML, css_template=_CSS, padding=True, elem_id="found")
                found.api_info = _api_info  # type: ignore[method-assign]
        shared = {"outputs": found, "concurrency_id": "search"}
        events = []
        if by_words:
            call = {"fn": search.by_text, "inputs": [query, wanted, top_k, own], **shared}
            picked = examples.click(
                lambda row: row[0], examples, query, api_visibility="private", show_progress="hidden"
            )
            events = [
                query.submit(**call, api_name="search_by_text", api_description=api_text(search.by_text)),
                picked.then(**call, api_visibility="private"),
            ]

        def by_file(
            file: str | None, recorded: str | None, kind: str, top_k: int, own: Gallery | None
        ) -> dict[str, Any]:
            if file and recorded:
                raise user_error("There are a file and a recording. Take away the one that is not meant.")
            return search.by_file(file or recorded, kind, top_k, own)

        rest = [wanted, top_k, own]
        looked = {"fn": by_file, "inputs": [file, microphone, *rest], **shared}
        events += [
            go.click(**looked, api_name="search_by_file", api_description=api_text(search.by_file)),
            file.upload(search.by_file, [file, *rest], **shared, api_visibility="private"),
            microphone.stop_recording(search.by_file, [microphone, *rest], **shared, api_visibility="private"),
        ]
        for event in events:
            answered(event, found)

        _adding(search, own, found, spoken)
        page.load(search.browse, own, found, api_visibility="private", show_progress="hidden")
    page.queue(max_size=64, default_concurrency_limit=4)
    return page


def _file_inputs(kinds: Sequence[str], by_words: bool) -> tuple[Any, ...]:
    """What one asks with besides words: file, microphone, button, kind of the results, their number."""
    file = gr.File(label="Or a file to look for" if by_words else "A file to look for", height=150, elem_id="look-for")
    microphone = gr.Audio(
        label="Or record something",
        sources=["microphone"],
        type="filepath",
        visible="audio" in kinds,
        elem_id="record",
    )
    microphone.preprocess = uploaded_path  # type: ignore[method-assign]
    go = gr.Button("Find what is like it", variant="primary")
    choices = [("all kinds", "all"), *((IN_WORDS[kind], kind) for kind in kinds)]
    wanted = gr.Radio(choices, value="all", label="Show", visible=len(kinds) > 1)
    top_k = how_many(48, 8, "Results to show")
    return file, microphone, go, wanted, top_k


def _adding(search: MediaSearch, own: gr.State, found: gr.HTML, spoken: str) -> None:
    """Files of one's own, and what happens when they are added."""
    with gr.Accordion(f"Add {spoken} of your own", open=search.start is None):
        files = gr.File(label="Choose files", file_count="multiple", height=150, elem_id="add")
        keep = gr.Checkbox(True, label="Keep what is there now", container=False)
        add, report = gr.Button("Add them", variant="secondary"), gr.Markdown(elem_id="report", min_height=40)

    def add_files(
        files: list[str] | None, keep: bool, own: Gallery | None, progress: gr.Progress = PROGRESS
    ) -> tuple[Gallery | None, str]:
        return search.add(files, keep, own, progress)

    added = add.click(
        add_files,
        [files, keep, own],
        [own, report],
        api_name="add_files",
        api_description=api_text(search.add),
        concurrency_id="index",
        concurrency_limit=1,
        show_progress_on=report,
    )
    silent = {"api_visibility": "private", "show_progress": "hidden"}
    added.success(search.browse, own, found, **silent)


def _api_info() -> dict[str, str]:
    return {
        "type": "object",
        "title": "Results",
        "description": "dict(title: str, rows: list[dict(label: str, kind: str, file: str, text: str, cosine: float)], note: str)",
    }
