"""Search a gallery with text or images, describe an image with your own labels, and see the gallery as a map."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from . import compose, omni, regions, text
from . import map as gallery_map
from .chooser import Models
from .gallery import Gallery, GalleryFile, embed_files, example_queries, sample_images
from .handlers import MAX_UPLOADS, TEMPERATURE, Drawn, Results, Search, Visitor
from .registry import register_demo
from .samples import EXAMPLES, SAMPLES, installed
from .visitors import private_folder, visitors_way
from .widgets import (
    answered,
    api_text,
    how_many,
    image_examples,
    image_input,
    results_gallery,
    score_bars,
    shown,
    slider,
    sources,
    uploaded_path,
)

if TYPE_CHECKING:
    from zoo import Embedder

TITLE = "Embedding Zoo"
EXPLANATION = (
    "Search images by what they show. A model turns texts and images into vectors, and what means the same lies "
    "close together."
)
LABELS = "cat, dog, pagoda, flower, cup, mountain, boat, person, camera, rocket"
WELCOME = {
    "title": "Nothing asked yet",
    "note": "These are the images of the gallery. Type a few words above, or click one of the examples.",
}
BY_IMAGE = {"title": "Nothing asked yet", "note": "Add an image, or click one of the examples."}
DESCRIBE = {
    "title": "No image yet",
    "note": "Add an image, or click one of the examples; change the labels as you like.",
}
DESCRIBED = ("coffee.png", "chelsea.png", "china.jpg", "summit.jpg")
# The map grows inside its frame, which then scrolls; a click is still told in pixels of the image.
ZOOM = """(zoom) => {
  const frame = document.querySelector('#map'), image = frame?.querySelector('img');
  if (!image) return;
  for (let place = image.parentElement; place && place !== frame; place = place.parentElement) {
    place.style.overflow = 'visible'; place.style.maxHeight = 'none';
  }
  Object.assign(image.style, {maxWidth: 'none', maxHeight: 'none', objectFit: 'contain', height: 'auto', width: zoom * frame.clientWidth + 'px'});
  // Gradio takes an image that is shown larger than it is for one of its own size: it is given a place that makes its sum come out.
  image.getBoundingClientRect = () => {
    const box = Element.prototype.getBoundingClientRect.call(image), scale = box.width / image.naturalWidth, click = window.event;
    if (scale <= 1 || click?.type !== 'click') return box;
    const [x, y] = [(click.clientX - box.left) / scale, (click.clientY - box.top) / scale];
    return new DOMRect(click.clientX - x, click.clientY - y, image.naturalWidth, image.naturalHeight);
  };
}"""
Components = list[gr.components.Component]
PROGRESS = gr.Progress()


@register_demo("search")
def build(
    model: "Embedder",
    gallery: Gallery | Sequence[GalleryFile] | None = None,
    *,
    models: Models | None = None,
    local: bool = True,
    roots: Sequence[Path] = (),
    workspace: Path | None = None,
    queries: Sequence[str] = (),
    heif: bool = False,
    first: str = "text",
) -> gr.Blocks:
    """The search page; for a model that reads no images, the page of `omni` where it hears or watches, else that of `text`.

    Args:
        gallery: what is searched at first, embedded or not; by default the images that installed packages ship.
        models: what the model chooser offers; by default `model` and those whose weights are on this machine.
        local: whether only this machine's user sees the page. Then it offers folders and keeps one gallery for all
            tabs; otherwise uploads stay in their visitor's session.
        roots: the folders that may be indexed by path on a local page.
        workspace: private folder for thumbnails; by default one that goes with the process.
        queries: what to offer to try; by default words that stand out in the gallery.
        heif: whether a page that is not `local` decodes visitors' HEIC images, in a process of its own, or refuses them.
        first: the tab that is open at first, "text", "both" or "region".
    """
    if "image" not in model.spec.modalities:
        hears_or_watches = {"audio", "video"} & model.spec.modalities
        if hears_or_watches:
            return omni.build(model, local=local, workspace=workspace, heif=heif, roots=roots)
        return text.build(model)
    workspace = workspace or Path(tempfile.mkdtemp(prefix="images-", dir=private_folder()))
    if not isinstance(gallery, Gallery):
        gallery = embed_files(model, sample_images() if gallery is None else gallery)
    way = visitors_way(local=local, heif=heif)
    search = Search(models or Models(model), gallery, workspace, local=local, roots=roots, queries=queries, heif=way)
    # Static files are served from where they lie: with Gradio's own copies two visitors race for the same file.
    gr.set_static_paths([search.thumbnails.folder])
    page = _page(search, reads_text="text" in model.spec.modalities, first=first)
    page.visitors, page.routes_of_ours = search.visitors, search.originals.routes() if local else []
    page.thumbnails = search.thumbnails.folder
    return page


def _page(search: Search, reads_text: bool, first: str) -> gr.Blocks:
    with gr.Blocks(title=f"{TITLE} · search by meaning", analytics_enabled=False) as page:
        own = gr.State(None, time_to_live=12 * 3600)
        with gr.Row(equal_height=False, elem_id="top"):
            with gr.Column(scale=3, min_width=320):
                gr.Markdown(f"# {TITLE}\n{EXPLANATION}", elem_id="title")
            with gr.Column(scale=1, min_width=260):
                chooser = gr.Dropdown(search.models.choices(), value=search.current.model, label="Model")
                status = gr.Markdown(search.status(), elem_id="status")
                question = gr.Markdown(visible=False, elem_id="question")
                with gr.Row(visible=False) as answers:
                    fetch, leave = gr.Button("Fetch it", variant="primary", size="sm"), gr.Button("Not now", size="sm")
        with gr.Tabs(selected=first if reads_text or first == "region" else "image"):
            with gr.Tab("By text", id="text", visible=reads_text):
                text_results = _text_tab(search, own)
            with gr.Tab("By both", id="both", visible=reads_text):
                both_results = compose.tab(search, own)
            with gr.Tab("By image", id="image"):
                image_results = _image_tab(search, own)
            with gr.Tab("Point", id="region"):
                region_results = regions.tab(search, own)
            with gr.Tab("Describe", visible=reads_text):
                _labels_tab(search, own)
            with gr.Tab("Map"):
                map_parts = _map_tab(search, own)
            with gr.Tab("Add yours"):
                indexing = _index_tab(search, own)
        there = {image.path for image in search.start.files}
        shown_first = [sample for path, sample in installed(SAMPLES) if path in there]
        sources([*shown_first, *(sample for _, sample in installed(EXAMPLES))] if shown_first else [])
        _keep_fresh(
            search,
            page,
            own,
            (chooser, status, question, answers, fetch, leave),
            [*text_results, *both_results, *image_results, *region_results],
            map_parts,
            indexing,
        )
    page.queue(max_size=64, default_concurrency_limit=4)
    return page


def _text_tab(search: Search, own: gr.State) -> Components:
    samples = [[words] for words in search.queries()]
    query = gr.Textbox(
        label="What are you looking for?",
        placeholder=samples[0][0] if samples else "a cup of coffee",  # rather what finds something
        submit_btn="Search",
        autofocus=True,
        max_length=2000,
        elem_id="query",
    )
    examples = gr.Dataset(
        components=[gr.Textbox(visible=False)], samples=samples, label="Try", type="values", visible=bool(samples)
    )
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=300):
            found = results_gallery("Images", search.browse(), columns=4, elem_id="text-results")
        with gr.Column(scale=1, min_width=230):
            top_k, bars = how_many(), score_bars("Scores", WELCOME, elem_id="text-scores")
    call = {
        "fn": search.by_text,
        "inputs": [query, top_k, own],
        "outputs": [found, bars],
        "show_progress_on": [found, bars],
    }
    events = [
        query.submit(
            **call, api_name="search_by_text", api_description=api_text(search.by_text), concurrency_id="search"
        ),
        examples.click(lambda row: row[0], examples, query, api_visibility="private", show_progress="hidden").then(
            **call, api_visibility="private", concurrency_id="search"
        ),
    ]
    for event in events:
        answered(event, bars, found)
    return [found, bars, examples]


def _image_tab(search: Search, own: gr.State) -> Components:
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            image = image_input("An image to look for", height=240, elem_id="look-for")
            go = gr.Button("Find similar images", variant="primary")
            examples = image_examples(search.thumbnails, example_queries())
            with gr.Accordion("Or a video, audio or a PDF, as far as the model reads it", open=False):
                file = gr.File(label="A file to look for", height=140, elem_id="look-for-file")
                file.preprocess = uploaded_path  # type: ignore[method-assign]
            top_k, bars = how_many(), score_bars("Scores", BY_IMAGE, elem_id="image-scores")
        with gr.Column(scale=3, min_width=300):
            found = results_gallery("Images", search.browse(), columns=4, elem_id="image-results")
    call = {
        "fn": search.by_image,
        "inputs": [image, top_k, own],
        "outputs": [found, bars],
        "show_progress_on": [found, bars],
    }
    said = {"api_name": "search_by_image", "api_description": api_text(search.by_image)}
    events = [
        go.click(**call, **said, concurrency_id="search"),
        image.upload(**call, api_visibility="private", concurrency_id="search"),
    ]
    by_file = {**call, "fn": search.by_file, "inputs": [file, top_k, own], "concurrency_id": "search"}
    said = {"api_name": "search_by_file", "api_description": api_text(search.by_file)}
    events.append(file.upload(**by_file, **said))
    if examples:
        events.append(_when_picked(examples, image).then(**call, api_visibility="private", concurrency_id="search"))
    for event in events:
        answered(event, bars, found)
    return [found, bars]


def _labels_tab(search: Search, own: gr.State) -> None:
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            image = image_input("An image to describe", height=240, elem_id="describe")
            shipped = [image for image in sample_images() if image.path.name in DESCRIBED]
            examples = image_examples(search.thumbnails, shipped)
            labels = gr.Textbox(LABELS, label="Your labels, separated by commas", lines=3, max_length=5000)
            go = gr.Button("Choose the best label", variant="primary")
        with gr.Column(scale=2, min_width=300):
            bars = score_bars("How well each label fits", DESCRIBE, elem_id="label-scores")
            temperature = slider(
                "Temperature",
                0.01,
                0.2,
                value=TEMPERATURE,
                step=0.01,
                info="Divides the cosines before the softmax: smaller means more decided shares.",
            )
    call = {"fn": search.classify, "inputs": [image, labels, temperature, own], "outputs": bars}
    said = {"api_name": "classify_image", "api_description": api_text(search.classify)}
    events = [
        go.click(**call, **said, concurrency_id="search"),
        image.upload(**call, api_visibility="private", concurrency_id="search"),
    ]
    if examples:
        events.append(_when_picked(examples, image).then(**call, api_visibility="private", concurrency_id="search"))
    for event in events:
        answered(event, bars)


def _map_tab(search: Search, own: gr.State) -> Components:
    first, note, drawn = search.draw_map("PCA")
    path, words, around = search.neighbours(drawn[0])
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            gr.Markdown("Each image lies near those that mean something similar. Click one to see its neighbours.")
            method = gr.Radio(gallery_map.methods(), value="PCA", label="Projection", container=False)
            image = gr.Image(
                first, label="Map", show_label=False, interactive=False, buttons=["fullscreen"], elem_id="map"
            )
            zoom = slider("Zoom", 1, 6, value=1, step=0.5, elem_id="map-zoom")
            trust = gr.Markdown(note, elem_id="map-note")
        with gr.Column(scale=1, min_width=240):
            picked = gr.Image(path, label="Picked", show_label=False, interactive=False, buttons=[], elem_id="picked")
            caption = gr.Markdown(words, elem_id="picked-caption")
            gr.Markdown("Nearest to it in the model's space:", elem_id="near-head")
            near = results_gallery("Nearest to it", around, columns=2, elem_id="near")
    zoom.input(None, zoom, js=ZOOM, api_visibility="private", show_progress="hidden")
    layout = gr.State(drawn)
    method.change(
        search.draw_map,
        [method, own],
        [image, trust, layout],
        api_name="draw_map",
        api_description=api_text(search.draw_map),
        concurrency_id="map",
        concurrency_limit=1,
    )

    def pick(drawn: Drawn, event: gr.SelectData) -> tuple[str, str, Results]:
        return search.pick(drawn, event)

    silent = {"api_visibility": "private", "show_progress": "hidden"}
    chosen = image.select(pick, layout, [picked, caption, near], **silent)
    chosen.success(None, js=shown("#picked-caption", "nearest"), **silent)  # the map stays in view too
    return [method, image, trust, layout, picked, caption, near]


def _index_tab(search: Search, own: gr.State) -> list[Any]:
    where = "They stay on this machine." if search.local else "Only you see them, and they are deleted afterwards."
    gr.Markdown(f"Search your own images: they are embedded here and join the gallery. {where}")
    with gr.Row(equal_height=False):
        if search.local:
            with gr.Column(min_width=300):
                folder = gr.Textbox(
                    label="A folder on this machine",
                    placeholder="~/Pictures",
                    info=f"Its subfolders are read too. Allowed: {', '.join(str(root) for root in search.roots)}",
                    max_length=1000,
                    elem_id="folder",
                )
                index_folder = gr.Button("Index this folder", variant="primary")
        with gr.Column(min_width=300):
            files = gr.File(
                label="Or choose files" if search.local else f"Choose up to {MAX_UPLOADS} images",
                file_count="multiple",
                file_types=["image"],
                height=150,
            )
            index_files = gr.Button("Index these images", variant="secondary" if search.local else "primary")
    keep = gr.Checkbox(True, label="Keep the images that are in the gallery now", container=False)
    report = gr.Markdown(elem_id="report", min_height=60)

    def files_in(files: list[str] | None, keep: bool, own: Any, progress: gr.Progress = PROGRESS) -> tuple[Any, str]:
        return search.index_files(files, keep, own, progress)

    def folder_in(folder: str, keep: bool, own: Any, progress: gr.Progress = PROGRESS) -> tuple[Any, str]:
        return search.index_folder(folder, keep, own, progress)

    shared = {"concurrency_id": "index", "concurrency_limit": 1, "show_progress_on": report}
    done = [
        index_files.click(
            files_in,
            [files, keep, own],
            [own, report],
            api_name="index_files",
            api_description=api_text(search.index_files),
            **shared,
        )
    ]
    if search.local:
        call = {"fn": folder_in, "inputs": [folder, keep, own], "outputs": [own, report]}
        done.append(
            index_folder.click(**call, api_name="index_folder", api_description=api_text(search.index_folder), **shared)
        )
        done.append(folder.submit(**call, api_visibility="private", **shared))
    return done


def _keep_fresh(
    search: Search,
    page: gr.Blocks,
    own: gr.State,
    choice: tuple[Any, ...],
    results: Components,
    map_parts: Components,
    indexing: list[Any],
) -> None:
    """Connects what changes the gallery or the model with everything that shows them."""
    method, *map_outputs = map_parts
    layout, (text_found, text_bars, tries, *others) = map_outputs[2], results
    chooser, status, question, answers, fetch, leave = choice
    silent = {"api_visibility": "private", "show_progress": "hidden"}

    # What the page was written with. After a reload, or in another tab, a local page may have another gallery by now; where it
    # is still the same, as after a question of the chooser, nothing changes, and results stay.
    seen = gr.State(search.start)
    outputs_of_refresh = [seen, chooser, status, text_found, text_bars, *others]

    def refresh(own: Visitor, seen: Gallery) -> tuple[Any, ...]:
        now = search.current if own is None else own
        if now is seen:
            return tuple(gr.skip() for _ in outputs_of_refresh)
        browsing = search.browse(own)
        welcomes = WELCOME, browsing, compose.WELCOME, browsing, BY_IMAGE, None, regions.NOTHING, browsing
        return now, now.model, search.status(own), browsing, *welcomes

    def offer(own: Visitor, before: Drawn) -> Any:
        if (search.current if own is None else own) is before[0]:
            return gr.skip()
        samples = [[words] for words in search.queries(own)]
        return gr.Dataset(samples=samples, visible=bool(samples))

    def redraw(method: str, own: Visitor, before: Drawn) -> tuple[Any, ...]:
        if (search.current if own is None else own) is before[0]:
            return tuple(gr.skip() for _ in map_outputs)
        *image, drawn = search.draw_map(method, own)
        return *image, drawn, *search.neighbours(drawn[0])

    wanted = gr.State("")

    def choose(name: str, download: bool, own: Any, progress: gr.Progress = PROGRESS) -> tuple[Any, ...]:
        own, line, name_now, asked = search.choose_model(name, download, own, progress)
        return own, line, name_now, gr.Markdown(asked, visible=bool(asked)), gr.Row(visible=bool(asked)), name

    def fetched(name: str, own: Any, progress: gr.Progress = PROGRESS) -> tuple[Any, ...]:
        return choose(name, True, own, progress)

    outputs = [own, status, chooser, question, answers, wanted]
    shared = {"concurrency_id": "index", "show_progress_on": status}
    download = gr.Checkbox(visible=False)  # for programs: fetch without being asked
    said = {"api_name": "choose_model", "api_description": api_text(search.choose_model)}
    chosen = [
        chooser.input(choose, [chooser, download, own], outputs, **said, **shared),
        fetch.click(fetched, [wanted, own], outputs, api_visibility="private", **shared),
    ]
    leave.click(lambda: (gr.Markdown(visible=False), gr.Row(visible=False)), None, [question, answers], **silent)
    # What takes a while comes later, so that nobody waits for it, and no results go that were found meanwhile: words to try
    # are encoded first, and a map draws thousands of images.
    fresh = {"fn": refresh, "inputs": [own, seen], "outputs": outputs_of_refresh, **silent}
    offered = {"fn": offer, "inputs": [own, layout], "outputs": tries, **silent}
    drawn = {"fn": redraw, "inputs": [method, own, layout], "outputs": map_outputs, **silent}
    for change in [*indexing, *chosen]:
        change.success(**fresh).then(**offered).then(**drawn)
    page.load(**fresh).then(**offered).then(**drawn)


def _when_picked(examples: gr.Dataset, image: gr.Image) -> Any:
    return examples.click(lambda row: row[0], examples, image, api_visibility="private", show_progress="hidden")
