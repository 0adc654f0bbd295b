"""The pieces that demos share: look, score bars, image upload, and errors in plain English."""

from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from .gallery import GalleryFile, Thumbnails
from .messages import explain
from .samples import Sample, credit_list

if TYPE_CHECKING:
    from zoo.embedder import Embedder

# No web fonts: the page is complete on a machine without a network.
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO_FONTS = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

# Gradio confines CSS to what lies inside the page's frame; these rules are for the frame itself.
HEAD = """<style>
.gradio-container { width: 100% !important; max-width: 1180px !important; margin: 0 auto !important; }
footer .divider { display: none; } /* there is one link, and on a phone none */
@media (max-width: 640px) { .gradio-container .app { padding: 14px !important; } }
</style>"""
CSS = """
#title h1 { font-size: 2rem; line-height: 1.1; letter-spacing: -0.02em; margin: .3rem 0 .4rem 0; }
#title p { color: var(--body-text-color-subdued); font-size: 1.05rem; margin-top: 0; }
#status p { color: var(--body-text-color-subdued); font-size: .85rem; margin: 0; padding-left: .85rem; }
#picked img { max-height: 260px; }
#map { overflow: auto !important; max-height: 85vh; }
#near .grid-wrap { min-height: 0; }
#picked-caption p { font-weight: 600; }
#map-note p, #near-head p { color: var(--body-text-color-subdued); font-size: .85rem; }
#query button, #change button, #ask .submit-button { background: var(--button-primary-background-fill); color: var(--button-primary-text-color);
  border-radius: var(--radius-md); padding: .35rem 1rem; font-weight: 600; }
#query button:hover, #change button:hover, #ask .submit-button:hover { background: var(--button-primary-background-fill-hover); }
.zoo-results .caption-label { left: 6px; right: 6px; bottom: 6px; max-width: none; font-size: .8rem; line-height: 1.25;
  text-align: left; padding: 3px 7px; white-space: normal; overflow-wrap: anywhere;
  display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; }
.zoo-results [data-testid=status-tracker] { animation: .2s .4s backwards zoo-wait; } /* quick answers do not flicker */
@keyframes zoo-wait { from { opacity: 0; } }
.zoo-results caption { display: block; max-width: 100%; overflow: hidden; text-overflow: ellipsis; }
.zoo-results button.thumbnail-lg { background: var(--background-fill-secondary); }
@media (min-width: 641px) { .zoo-results .grid-wrap { max-height: max(31rem, 72vh); } } /* a phone needs room to scroll past it */
@media (max-width: 640px) {
  .tab-container button { padding: 0 3px; font-size: .67rem; } /* seven stand side by side */
  #title h1 { font-size: 1.6rem; }
  #title p { font-size: .95rem; }
  .zoo-results .grid-container { grid-template-columns: repeat(2, minmax(0, 1fr)) !important; }
}
"""

# The template runs in the browser; the value is data to it and never code, and every string is escaped there.
_BARS_HTML = """${(() => {
  const safe = (text) => String(text).replace(/[&<>"']/g, (letter) => '&#' + letter.charCodeAt(0) + ';');
  const bars = value || {};
  const rows = (bars.rows || []).map((row) =>
    '<li><span class="what" title="' + safe(row.original || row.label) + '">' + (row.link
      ? '<a class="name" href="' + safe(row.link) + '" target="_blank" rel="noopener">' + safe(row.label) + '</a>'
        + '<button type="button" data-path="' + safe(row.original) + '">copy path</button>'
      : '<span class="name">' + safe(row.label) + '</span>') + '</span>'
    + '<span class="number">' + safe(row.text) + '</span>'
    + '<span class="track"><span style="width:' + Math.max(0, Math.min(100, 100 * row.bar)).toFixed(1)
    + '%"></span></span></li>').join('');
  return (bars.title ? '<p class="head">' + safe(bars.title) + '</p>' : '')
    + (rows ? '<ol>' + rows + '</ol>' : '') + (bars.note ? '<p class="note">' + safe(bars.note) + '</p>' : '');
})()}"""
_BARS_JS = """element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-path]');
  if (button) navigator.clipboard.writeText(button.dataset.path).then(() => { button.textContent = 'copied'; });
});"""
_BARS_CSS = """
.what { display: flex; flex-wrap: wrap; column-gap: .5rem; align-items: baseline; min-width: 0; }
.name { overflow: hidden; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; font-size: .92rem;
  line-height: 1.3; overflow-wrap: anywhere; text-align: left; }
.what a { color: inherit; padding: 0; }
.what button { padding: 0; border: 0; background: none; cursor: pointer; text-decoration: underline; white-space: nowrap;
  font-size: .75rem; font-weight: 400; color: var(--body-text-color-subdued); }
.head { font-weight: 600; margin: 0 0 .6rem 0; }
.note { color: var(--body-text-color-subdued); font-size: .82rem; line-height: 1.4; margin: .7rem 0 0 0; }
ol { list-style: none; margin: 0; padding: 0; }
li { display: grid; grid-template-columns: 1fr auto; column-gap: .6rem; align-items: baseline; padding: .22rem 0; }
.number { font-variant-numeric: tabular-nums; font-size: .85rem; color: var(--body-text-color-subdued); }
.track { grid-column: 1 / -1; height: 7px; border-radius: 4px; background: var(--border-color-primary); }
.track > span { display: block; height: 100%; border-radius: 4px; background: var(--color-accent);
  transition: width .35s ease; }
"""

TABLE_CSS = """
div { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; margin: 0; border: 0; }
th, td { padding: .35rem .6rem; text-align: left; border: 0; border-bottom: 1px solid var(--border-color-primary); }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
p { margin: 0 0 .6rem 0; }
.note { color: var(--body-text-color-subdued); font-size: .85rem; line-height: 1.4; margin-top: .6rem; }
"""


def theme() -> gr.themes.Base:
    """The zoo's look, in fonts that are on the visitor's machine."""
    look = gr.themes.Soft(
        primary_hue="teal", secondary_hue="teal", neutral_hue="slate", font=list(FONTS), font_mono=list(MONO_FONTS)
    )
    return look.set(
        block_title_background_fill="none",
        block_title_padding="0",
        block_title_text_color="*body_text_color",
        block_title_text_weight="600",
        block_border_width="1px",
        block_border_color="*border_color_primary",
        input_border_width="1px",
        input_border_color="*border_color_primary",
        block_label_background_fill="*background_fill_primary",
        block_label_background_fill_dark="*background_fill_primary",
        block_label_text_color="*body_text_color",
        block_label_text_color_dark="*body_text_color",
    )


def user_error(message: str) -> gr.Error:
    """A message for the visitor that does not fill the terminal with a traceback."""
    # Gradio shows messages as HTML, and they may repeat what the visitor typed.
    return gr.Error(escape(message, quote=False), title="That did not work", duration=12, print_exception=False)


def warn(message: str, title: str) -> None:
    """A message for the visitor that stops nothing."""
    gr.Warning(escape(message, quote=False), title=title, duration=15)


def friendly(error: Exception, subject: str = "") -> gr.Error:
    """An error of the zoo as a message for the visitor."""
    return user_error(explain(error, subject))


def score_bars(label: str, value: dict[str, Any] | None = None, **options: Any) -> gr.HTML:
    """A list of named bars. Its value is `{"title", "rows": [{"label", "text", "bar" (0..1), ...}], "note"}`."""
    bars = gr.HTML(
        value=value,
        label=label,
        html_template=_BARS_HTML,
        css_template=_BARS_CSS,
        js_on_load=_BARS_JS,
        padding=True,
        **options,
    )
    # On the instance, because Gradio writes a .pyi file beside every subclass of a component.
    bars.api_info = lambda: {  # type: ignore[method-assign]
        "type": "object",
        "title": "Scores",
        "description": "dict(title: str, rows: list[dict(label: str, text: str, bar: float, cosine: float)]); "
        "of a model that compares by dot product `dot` stands for `cosine`",
    }
    return bars


def score_name(model: "Embedder") -> str:
    """The key of a score in the rows of `score_bars`: "dot" where norms count, else "cosine"."""
    return "dot" if model.spec.similarity == "dot" else "cosine"


def score_rows(
    scores: Sequence[tuple[str, float]], average: float, name: str = "cosine", nothing: float | None = None
) -> list[dict[str, Any]]:
    """Rows for `score_bars` from (label, score), best first: bars run from `average` (empty) to the best (full).

    Args:
        nothing: where the best lies below this score, so that nothing fits, no bar is full.
    """
    full = scores[0][1] if nothing is None else max(scores[0][1], nothing)
    span = max(full - average, 1e-6)
    return [
        {"label": label, "text": cosine_text(score), "bar": max(0.0, (score - average) / span), name: score}
        for label, score in scores
    ]


def cosine_text(cosine: float) -> str:
    """Two decimals, and never "-0.00"."""
    return f"{round(cosine, 2) + 0.0:.2f}"


def image_input(label: str, **options: Any) -> gr.Image:
    """An image upload that hands over the file's path unread, so that the zoo's own reader judges it."""
    image = gr.Image(label=label, type="filepath", sources=["upload", "clipboard"], buttons=["fullscreen"], **options)
    # Gradio's own reading raises the decoder's words on a bad file; ours come with a remedy.
    image.preprocess = uploaded_path  # type: ignore[method-assign]
    return image


def uploaded_path(payload: Any) -> str | None:
    """The file of an upload as it came, whatever the component would make of it."""
    if payload is None:
        return None
    if not payload.path:
        raise user_error("Send it as an uploaded file.")
    return payload.path


def fetch_nothing(page: gr.Blocks) -> None:
    """A page that refuses web addresses in place of uploads.

    Gradio downloads them, of any size and for whichever component they are sent to, and keeps them until the page ends.
    """
    prepare = page.preprocess_data

    async def preprocess_data(function: Any, inputs: list[Any], *more: Any, **options: Any) -> list[Any]:
        if _has_address(inputs):
            raise user_error("Send it as an uploaded file.")
        return await prepare(function, inputs, *more, **options)

    page.preprocess_data = preprocess_data  # type: ignore[method-assign]


def _has_address(value: Any) -> bool:
    if isinstance(value, dict):
        path = value.get("path")
        return (isinstance(path, str) and path.startswith(("http://", "https://"))) or any(
            map(_has_address, value.values())
        )
    return isinstance(value, list) and any(map(_has_address, value))


def results_gallery(label: str, value: Sequence[tuple[str, str]] = (), **options: Any) -> gr.Gallery:
    """A responsive grid of thumbnails with captions; a click enlarges one."""
    return gr.Gallery(
        value=list(value),
        label=label,
        show_label=False,
        elem_classes=["zoo-results"],
        height="auto",
        buttons=["fullscreen"],
        interactive=False,
        **{"object_fit": "cover", **options},
    )


FAILED = {
    "title": "No results",
    "note": "The message says why. What was found before is gone, so that nothing is mixed up.",
}


def shown(place: str, where: str = "start") -> str:
    """JavaScript that brings a place into view: on a narrow window, where what was found lies below the fields, always."""
    return f"""() => {{
      const place = document.querySelector('{place}'), top = place?.getBoundingClientRect().top;
      if (innerWidth < 700 || top < 0 || top > innerHeight) place?.scrollIntoView({{behavior: 'smooth', block: '{where}'}});
    }}"""


def answered(event: Any, bars: gr.HTML, found: gr.Gallery | None = None) -> None:
    """What follows a search: its results come into view, and after an error those of the search before go."""
    silent = {"api_visibility": "private", "show_progress": "hidden"}
    place = found if found is not None else bars
    event.success(None, js=shown(f"#{place.elem_id}"), **silent)
    if found is None:
        event.failure(lambda: FAILED, None, bars, **silent)
    else:
        event.failure(lambda: (None, FAILED), None, [found, bars], **silent)


def how_many(most: int = 48, value: int = 8, label: str = "Images to show") -> gr.Slider:
    """How many results are wanted."""
    return slider(label, 1, most, value=value, step=1)


def slider(label: str, least: float, most: float, **options: Any) -> gr.Slider:
    """A number from `least` to `most`; what else a program may send is answered in words."""
    made = gr.Slider(least, most, label=label, buttons=[], **options)
    # Gradio lets NaN pass, and rounds it.
    made.preprocess = lambda value: in_range(label, value, least, most)  # type: ignore[method-assign]
    return made


def in_range(label: str, value: Any, least: float, most: float) -> float:
    """A number as it is; raises gr.Error for what is none, or lies outside."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and least <= value <= most):
        raise user_error(f"{label}: give a number from {least:g} to {most:g}, not {value!r:.40}.")
    return value


def image_examples(thumbnails: Thumbnails, images: Sequence[GalleryFile]) -> gr.Dataset | None:
    """Images to click on instead of uploading one; None where none is installed."""
    if not images:
        return None
    samples = [[str(thumbnails.of(image))] for image in images]
    return gr.Dataset(components=[gr.Image(visible=False)], samples=samples, label="Try", type="values")


def sources(samples: Sequence[Sample], what: str = "images") -> None:
    """Whose the samples are that the page shows, and under which licences; nothing where it shows none."""
    if samples:
        with gr.Accordion(f"Where the sample {what} come from", open=False, elem_id="sources"):
            gr.Markdown(credit_list(samples))


def api_text(action: Callable[..., Any]) -> str:
    """A handler's docstring up to its arguments, as the description of its API endpoint."""
    return " ".join((action.__doc__ or "").split("Args:")[0].split())
