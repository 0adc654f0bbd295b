"""Search results and groups of vectors as one HTML file: thumbnails inside, nothing loaded from elsewhere."""

import base64
import html
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli._shared import waiting
from zoo.errors import ZooError
from zoo.files import write

if TYPE_CHECKING:
    from zoo.index import Match
    from zoo.inputs.regions import Region
    from zoo.vectors import Vectors
    from zoo.vectors.lookup import Inputs

SIDE = 256
# So many of one group are shown: a page with a thumbnail of each of 100,000 images opens in no browser.
SHOWN = 60
_GONE = '<p class="gone">'
_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #222; background: #fafafa }
h1 { font-size: 1.3rem; overflow-wrap: anywhere } h1 img { vertical-align: middle; border-radius: 6px }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(210px, 42%), 1fr)); gap: 1rem }
figure { margin: 0; background: #fff; border: 1px solid #ddd; border-radius: 6px; overflow: hidden }
figure img { display: block; width: 100%; height: 210px; object-fit: contain; background: #f0f0f0 }
figure p { margin: 0; padding: .8rem } .gone { color: #888; font-style: italic }
figcaption { padding: .5rem .8rem; overflow-wrap: anywhere; border-top: 1px solid #eee }
h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; overflow-wrap: anywhere } small { color: #666 } b { font-variant-numeric: tabular-nums }
"""


def write_page(
    path: Path,
    query: str | Path,
    found: "Sequence[Match]",
    manifest: dict[str, Any],
    inputs: "Inputs",
    change: str = "",
    regions: "Sequence[Region]" = (),
) -> None:
    """Writes the page.

    Args:
        query: the words, or the picture that was searched with.
        manifest: of the folder that was searched. inputs: where the pictures of it are, and which may be shown.
        change: the words beside an image. regions: what of it was looked for.
    """
    words = html.escape(query.name if isinstance(query, Path) else query)
    words += f" + {html.escape(change)}" if change else ""
    heading = f"{_picture(lambda: query, lambda: regions)} {words}" if isinstance(query, Path) else words
    figures = "\n".join(_figure(rank, match, manifest, inputs) for rank, match in enumerate(found, start=1))
    facts = f"{len(found)} of {manifest['counts']['vectors']:,}, by {html.escape(manifest['model'])}"
    _write(path, words, f"{heading} <small>{facts}</small>", f"<main>\n{figures}\n</main>")


def write_groups(
    path: Path,
    title: str,
    facts: str,
    groups: "Sequence[tuple[str, Sequence[tuple[int, str]]]]",
    vectors: "Vectors",
) -> None:
    """Writes a page with a heading for each group and what belongs to it below, side by side.

    Args:
        facts: one line for the top. groups: heading, and of each member its position among the vectors and a caption.
    """
    with waiting(f"drawing {path}"):
        listed = "\n".join(_groups(groups, vectors))
    _write(path, html.escape(title), f"{html.escape(title)} <small>{html.escape(facts)}</small>", listed)


def _groups(groups: "Sequence[tuple[str, Sequence[tuple[int, str]]]]", vectors: "Vectors") -> Iterator[str]:
    places, texts = vectors.places(), vectors.texts()
    for heading, members in groups:
        figures = []
        for position, caption in members[:SHOWN]:
            if texts is None:
                body = _picture(partial(vectors.shown, position), partial(vectors.regions, position))
            else:
                body = f"<p>{html.escape(texts[position])}</p>"
            told = f"<b>{html.escape(caption)}</b> {html.escape(places[position])}"
            figures.append(f"<figure>{body}<figcaption>{told}</figcaption></figure>")
        more = f"<p>and {len(members) - SHOWN:,} more: --csv lists them all</p>" if len(members) > SHOWN else ""
        listed = "\n".join(figures)
        yield f"<h2>{html.escape(heading)}</h2>\n<main>\n{listed}\n</main>{more}"


def _write(path: Path, title: str, heading: str, body: str) -> None:
    """A whole page of HTML that is escaped already."""
    page = (
        "<!doctype html>\n<html lang=en><meta charset=utf-8>\n"
        # Even if something escaped the escaping: no script, no request.
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; img-src data:; style-src "
        "'unsafe-inline'\">\n"
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n<h1>{heading}</h1>\n{body}\n</html>\n"
    )
    try:
        write(path, page.encode("utf-8", "replace"))
    except OSError as error:
        raise ZooError(f"cannot write {path}: {error.strerror or error}") from error
    if gone := body.count(_GONE):
        print(f"{gone:,} pictures are not shown; {path} says why", file=sys.stderr)


def _figure(rank: int, match: "Match", manifest: dict[str, Any], inputs: "Inputs") -> str:
    from zoo.vectors.opening import text_column

    main = text_column(manifest)
    if main is not None:
        text = match.attributes.get(main)
        body = f"<p>{html.escape(str(text))}</p>"
    else:
        body = _picture(partial(_embedded, inputs, match), partial(inputs.regions, match.attributes))
    boxed = manifest["source"].get("regions")
    rest = " · ".join(
        f"{html.escape(name)}: {html.escape(_shown(value))}"
        for name, value in match.attributes.items()
        if value not in (None, "") and name not in (main, boxed, manifest["source"].get("column"))
    )
    again = getattr(match, "rerank", None)  # of a reranker, where one has read it
    scores = f"{match.score:.3f}" + ("" if again is None else f", rerank {again:.3f}")
    caption = f"<b>{rank}. {scores}</b> {html.escape(match.reference)}<br><small>{rest}</small>"
    return f"<figure>{body}<figcaption>{caption}</figcaption></figure>"


def _shown(value: Any) -> str:
    """A value for a caption: nobody reads the sixteenth digit of a second."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:80]


def _embedded(inputs: "Inputs", match: "Match") -> Any:
    """What was embedded for a result: a file, or its page, segment or frame."""
    found = inputs.find(match.reference)
    return None if found is None else inputs.part(found, match.attributes)


def _picture(find: "Callable[[], Any]", regions: "Callable[[], Sequence[Region]]" = tuple) -> str:
    """An <img> with the thumbnail inside, of a video one of its frames, of a document a page, or the reason why there is none.

    Args:
        find: gives the file or bytes, or what of them is shown; raises ZooError for what is not to be shown. regions: gives what of it is outlined.
    """
    from PIL import Image

    from zoo.inputs.excerpts import DocumentPage, Excerpt
    from zoo.inputs.image import load_pixels
    from zoo.inputs.kinds import kind_of
    from zoo.inputs.outlines import outlined
    from zoo.inputs.video import load_video

    try:
        if (source := find()) is None:
            return f"{_GONE}the table that held this picture is not there any more</p>"
        if isinstance(source, Path | bytes) and kind_of(source) == "document":
            source = DocumentPage(source, 1)
        video = isinstance(source, Excerpt) or (isinstance(source, Path | bytes) and kind_of(source) == "video")
        pixels = load_video(source, frames=1).frames[0] if video else load_pixels(source)
        picture = Image.fromarray(outlined(pixels, regions(), SIDE))
    except ZooError as error:  # also where a video needs a library that is not here
        return f"{_GONE}{html.escape(str(error))}</p>"
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
