"""Search recordings, clips, images and documents with text or with a file: the demo of models that hear or watch."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from zoo.inputs.kinds import kind_of

from .asked import NAMES, input_of, kinds_of
from .found import found_list
from .gallery import Gallery, GalleryFile, embed_files, joined
from .made import USED, made_media
from .media import MediaSearch
from .registry import register_demo
from .samples import RECORDINGS, SAMPLES, Sample, installed
from .stored import sample_gallery
from .visitors import Visitors, private_folder, visitors_way
from .widgets import answered, api_text, how_many, sources

if TYPE_CHECKING:
    from zoo import Embedder

EXAMPLES = {
    "audio": ("a dog barks", "a ticking clock", "a rooster crows"),
    "video": ("a cup of coffee", "a cat", "a rocket"),
    "image": ("a pagoda",),
    "document": ("how to brew coffee",),
}
PROGRESS = gr.Progress()
# One press fewer each: a recording is attached when it ends, and a file is looked for when it is there, unless new words stand beside it.
_AT_ONCE = """() => {
  const box = document.querySelector('#ask');
  if (!box || box.dataset.ready) return;
  box.dataset.ready = 'yes';
  let before = 0;
  new MutationObserver(() => {
    box.querySelector('.confirm-button:not([disabled])')?.click();
    const files = box.querySelectorAll('.thumbnails .thumbnail-item, .thumbnails .thumbnail-wrapper').length;
    const text = box.querySelector('textarea'), more = files > before;
    before = files;
    if (!more || (text.value.trim() && text.value !== box.dataset.asked)) return;
    text.value = '';
    text.dispatchEvent(new Event('input', {bubbles: true}));
    setTimeout(() => box.querySelector('.submit-button')?.click());
  }).observe(box, {subtree: true, childList: true});
}"""
_ASKED = (
    """() => { const box = document.querySelector('#ask'); box.dataset.asked = box.querySelector('textarea').value; }"""
)


@register_demo("omni")
def build(
    model: "Embedder",
    gallery: Gallery | Sequence[GalleryFile] | None = None,
    *,
    local: bool = True,
    workspace: Path | None = None,
    heif: bool = False,
    roots: Sequence[Path] = (),
    queries: Sequence[str] = (),
    samples: bool = True,
    **_page: Any,
) -> gr.Blocks:
    """The page; options that concern pages of images alone are accepted and unused, so that every demo opens alike.

    Args:
        gallery: what is there at first: a gallery of any kinds, or images. samples: whether recordings, clips and PDFs that come
            with the zoo join it.
        local: whether only this machine's user sees the page; then it offers folders. workspace: private folder for what is made;
            by default one that goes with the process. heif, roots: as of `search.build`. queries: what to offer to try.
    """
    folder = Path(workspace or tempfile.mkdtemp(prefix="media-", dir=private_folder())).resolve()
    gr.set_static_paths([folder])
    way = visitors_way(local=local, heif=heif)
    start = _first(model, gallery, folder if samples else None)
    search = MediaSearch(model, start, Visitors(local=local), folder, way, roots=roots if local else ())
    page = _page_of(search, [*queries] or (_tries(model) if samples else []))
    page.visitors, page.thumbnails = search.visitors, search.thumbnails.folder
    page.routes_of_ours = search.originals.routes()
    return page


def _first(model: "Embedder", gallery: Gallery | Sequence[GalleryFile] | None, folder: Path | None) -> Gallery | None:
    """What is there before anybody added something, with samples where they have a folder; None where that is nothing."""
    kinds, parts = kinds_of(model), []
    if isinstance(gallery, Gallery):
        parts.append(gallery)
    elif gallery is not None and "image" in kinds:
        parts.append(embed_files(model, gallery))
    if folder is not None and (made := made_media(kinds, folder)):
        parts.append(sample_gallery(model, made, read=lambda path: input_of(model, path)))
    return _in_turn(joined(parts)) if parts else None


def _in_turn(gallery: Gallery) -> Gallery:
    """One file of each kind after the other, so that whoever opens the page sees them all."""
    by_kind: dict[str, list[int]] = {}
    for row, image in enumerate(gallery.files):
        by_kind.setdefault(kind_of(image.path), []).append(row)
    turns = [row for turn in zip_longest(*by_kind.values()) for row in turn if row is not None]
    return replace(gallery.only(turns), refused=gallery.refused)


def _tries(model: "Embedder") -> list[str]:
    """What to try on the samples."""
    return [text for kind in kinds_of(model) for text in EXAMPLES[kind]] if "text" in model.spec.modalities else []


def _page_of(search: MediaSearch, tries: Sequence[str]) -> gr.Blocks:
    model, kinds = search.model, kinds_of(search.model)
    named = [NAMES[kind] for kind in kinds]
    spoken = named[0] if len(named) == 1 else ", ".join(named[:-1]) + f" and {named[-1]}"
    by_text = "text" in model.spec.modalities
    how = "with text, or with a file" if by_text else "with a file"
    how += " or a recording" if "audio" in kinds else ""
    with gr.Blocks(title="Embedding Zoo · search by meaning", analytics_enabled=False) as page:
        gr.Markdown(
            f"# Embedding Zoo\nSearch {spoken} {how}: {model.spec.name} turns them into vectors, and what means the same lies "
            "close together.",
            elem_id="title",
        )
        own, asked = gr.State(None, time_to_live=12 * 3600), gr.State(None, time_to_live=12 * 3600)
        box = gr.MultimodalTextbox(
            label="What are you looking for?",
            placeholder="text, or a file" if by_text else "a file",
            sources=["upload", "microphone"] if "audio" in kinds else ["upload"],
            file_count="single",
            submit_btn="Search",
            autofocus=True,
            max_plain_text_length=2000,
            elem_id="ask",
        )
        rows = [[text] for text in tries]
        examples = gr.Dataset(
            components=[gr.Textbox(visible=False)], samples=rows, label="Try", type="values", visible=bool(rows)
        )
        with gr.Row(equal_height=False):
            choices = [("all kinds", "all"), *((NAMES[kind], kind) for kind in kinds)]
            wanted = gr.Radio(choices, value="all", label="Show", visible=len(kinds) > 1, scale=3, min_width=300)
            top_k = how_many(48, 8, "Results to show")
        found = found_list(search.browse(), elem_id="found")
        _searching(search, (box, examples), (wanted, top_k, own), found, asked)
        _adding(search, own, asked, found, spoken)
        sources(_shown_samples(search), "images and recordings")
        page.load(search.browse, [own], found, api_visibility="private", show_progress="hidden")
        page.load(None, js=_AT_ONCE, api_visibility="private", show_progress="hidden")
    page.queue(max_size=64, default_concurrency_limit=4)
    return page


def _shown_samples(search: MediaSearch) -> list[Sample]:
    """The samples that are there at first, those of which clips and PDFs are made among them."""
    there = [] if search.start is None else [image.path for image in search.start.files]
    names, made = {path.name for path in there}, any(path.suffix in (".mp4", ".pdf") for path in there)
    found = [sample for path, sample in installed(SAMPLES) if path in there or (made and path.name in USED)]
    return found + [sample for path, sample in installed(RECORDINGS) if path.name in names]


def _searching(
    search: MediaSearch, asking: tuple[Any, Any], how: tuple[Any, ...], found: gr.HTML, asked: gr.State
) -> None:
    """Connects what is asked with what is found; the moments and pages that fit follow when the results are there."""
    (box, examples), silent = asking, {"api_visibility": "private", "show_progress": "hidden"}
    call = {"fn": search.search, "inputs": [box, *how, asked], "outputs": [found, asked], "concurrency_id": "search"}
    call["show_progress_on"] = found
    again = {"fn": search.again, "inputs": [*how, asked], "outputs": [found, asked], **silent}
    explain = {"fn": search.explained, "inputs": [*how, asked], "outputs": found, "trigger_mode": "multiple", **silent}
    explain |= {"concurrency_id": "moments", "concurrency_limit": 2}
    picked = examples.click(lambda row: {"text": row[0], "files": []}, examples, box, **silent)
    wanted, top_k, _ = how
    asks = [
        box.submit(**call, api_name="search", api_description=api_text(search.search)),
        picked.then(**call, api_visibility="private"),
    ]
    for event in asks:
        answered(event, found)
        # A file that stays would be asked with again, together with the next words.
        event.success(lambda box: {"text": box["text"] or "", "files": []}, box, box, **silent).then(
            None, js=_ASKED, **silent
        )
        event.success(**explain)

    def like(kind: str, top_k: int, own: Any, before: Any, event: gr.EventData) -> tuple[Any, ...]:
        return (*search.like(event.index, kind, top_k, own, before), "all")

    more = found.select(like, [*how, asked], [found, asked, wanted], show_progress_on=found, api_visibility="private")
    answered(more, found)
    for event in (wanted.input(**again), top_k.release(**again), more):
        event.success(**explain)


def _adding(search: MediaSearch, own: gr.State, asked: gr.State, found: gr.HTML, spoken: str) -> None:
    """Files of one's own, and what happens when they are added."""
    where = "They stay on this machine." if search.visitors.local else "Only you see them, and they go when you go."
    with gr.Accordion(f"Add {spoken} of your own", open=search.start is None):
        gr.Markdown(f"They are embedded here, and searched with the rest. {where}")
        with gr.Row(equal_height=False):
            if search.visitors.local:
                with gr.Column(min_width=300):
                    folder = gr.Textbox(
                        label="A folder on this machine",
                        placeholder="~/Stuff",
                        info="Its subfolders are read too; or what zoo embed made of one. Allowed: "
                        + ", ".join(map(str, search.roots)),
                        max_length=1000,
                        elem_id="folder",
                    )
                    index = gr.Button("Add this folder", variant="secondary")
            with gr.Column(min_width=300):
                files = gr.File(label="Choose files", file_count="multiple", height=150, elem_id="add")
                add = gr.Button("Add them", variant="secondary")
        keep = gr.Checkbox(True, label="Keep what is there now", container=False)
        report = gr.Markdown(elem_id="report", min_height=40)

    def add_files(
        files: list[str] | None, keep: bool, own: Gallery | None, progress: gr.Progress = PROGRESS
    ) -> tuple[Gallery | None, str]:
        return search.add(files, keep, own, progress)

    def add_folder(
        folder: str, keep: bool, own: Gallery | None, progress: gr.Progress = PROGRESS
    ) -> tuple[Gallery | None, str]:
        return search.add_folder(folder, keep, own, progress)

    shared = {"outputs": [own, report], "concurrency_id": "index", "concurrency_limit": 1, "show_progress_on": report}
    said = {"api_name": "add_files", "api_description": api_text(search.add)}
    done = [add.click(add_files, [files, keep, own], **said, **shared)]
    if search.visitors.local:
        said = {"api_name": "add_folder", "api_description": api_text(search.add_folder)}
        done.append(index.click(add_folder, [folder, keep, own], **said, **shared))
        done.append(folder.submit(add_folder, [folder, keep, own], api_visibility="private", **shared))
    for added in done:
        added.success(
            lambda own: (search.browse(own), None),
            own,
            [found, asked],
            api_visibility="private",
            show_progress="hidden",
        )
