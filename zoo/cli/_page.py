"""Search results and groups of vectors as one HTML file: thumbnails and short media inside, nothing loaded from a network."""

import html
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli._media import GONE, Found, Media, told
from zoo.cli._shared import waiting
from zoo.errors import ZooError
from zoo.files import write

if TYPE_CHECKING:
    from zoo.index import SearchHit
    from zoo.inputs.regions import Region
    from zoo.vectors import Vectors
    from zoo.vectors.lookup import Inputs

# So many of one group are shown: a page with a thumbnail of each of 100,000 images opens in no browser.
SHOWN = 60
_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #222; background: #fafafa }
h1 { font-size: 1.3rem; overflow-wrap: anywhere } h1 img { vertical-align: middle; border-radius: 6px }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(210px, 42%), 1fr)); gap: 1rem }
figure { margin: 0; background: #fff; border: 1px solid #ddd; border-radius: 6px; overflow: hidden }
figure img { display: block; width: 100%; height: 210px; object-fit: contain; background: #f0f0f0 }
figure video { display: block; width: 100%; height: 210px; background: #222 }
figure audio { display: block; width: 100%; margin: 78px 0 } h1 audio, h1 video { vertical-align: middle; max-height: 160px; max-width: 100% }
@media (max-width: 560px) { figure:has(audio) { grid-column: 1 / -1 } figure audio { margin: 1rem 0 } }
figure .said { padding: 0 .8rem .8rem; color: #a33 }
figure p { margin: 0; padding: .8rem } .gone { color: #888; font-style: italic }
figcaption { padding: .5rem .8rem; overflow-wrap: anywhere; border-top: 1px solid #eee }
h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; overflow-wrap: anywhere } small { color: #666 } b { font-variant-numeric: tabular-nums }
"""


def write_page(
    path: Path,
    query: str | Path,
    found: "Sequence[SearchHit]",
    manifest: dict[str, Any],
    inputs: "Inputs",
    change: str = "",
    regions: "Sequence[Region]" = (),
) -> None:
    """Writes the page.

    Args:
        query: the words, or the image that was searched with.
        manifest: of the folder that was searched. inputs: where the images of it are, and which may be shown.
        change: the text beside an image. regions: what of it was looked for.
    """
    words = html.escape(query.name if isinstance(query, Path) else query)
    words += f" + {html.escape(change)}" if change else ""
    media = Media()
    asked = media.view(lambda: Found(query, query), lambda: regions) if isinstance(query, Path) else ""
    heading = f"{asked} {words}"
    figures = "\n".join(_figure(rank, match, manifest, inputs, media) for rank, match in enumerate(found, start=1))
    facts = f"{len(found)} of {manifest['counts']['vectors']:,}, by {html.escape(manifest['model'])}"
    _write(path, words, f"{heading} <small>{facts}</small>", f"<main>\n{figures}\n</main>", media)


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
    media = Media()
    with waiting(f"drawing {path}"):
        listed = "\n".join(_groups(groups, vectors, media))
    _write(path, html.escape(title), f"{html.escape(title)} <small>{html.escape(facts)}</small>", listed, media)


def _groups(
    groups: "Sequence[tuple[str, Sequence[tuple[int, str]]]]", vectors: "Vectors", media: Media
) -> Iterator[str]:
    places, texts = vectors.places(), vectors.texts()
    for heading, members in groups:
        figures = []
        for position, caption in members[:SHOWN]:
            if texts is None:
                body = media.view(partial(_found, vectors, position), partial(vectors.regions, position))
            else:
                body = f"<p>{html.escape(texts[position])}</p>"
            told = f"<b>{html.escape(caption)}</b> {html.escape(places[position])}"
            figures.append(f"<figure>{body}<figcaption>{told}</figcaption></figure>")
        more = f"<p>and {len(members) - SHOWN:,} more: --csv lists them all</p>" if len(members) > SHOWN else ""
        listed = "\n".join(figures)
        yield f"<h2>{html.escape(heading)}</h2>\n<main>\n{listed}\n</main>{more}"


def _found(vectors: "Vectors", position: int) -> Found:
    whole = vectors.input(position)
    row = vectors.rows.slice(position, 1).to_pylist()[0]
    return Found(whole, whole and vectors.inputs.part(whole, row), vectors.inputs.moment(row))


def _write(path: Path, title: str, heading: str, body: str, media: Media) -> None:
    """A whole page of HTML that is escaped already."""
    played = f" media-src data:{' file:' * media.referenced};" if media.players else ""
    page = (
        "<!doctype html>\n<html lang=en><meta charset=utf-8>\n"
        # Even if something escaped the escaping: no script, no request.
        f"<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; img-src data:;{played} style-src "
        '\'unsafe-inline\'">\n<meta name=viewport content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n<h1>{heading}</h1>\n{body}\n</html>\n"
    )
    try:
        write(path, page.encode("utf-8", "replace"))
    except OSError as error:
        raise ZooError(f"cannot write {path}: {error.strerror or error}") from error
    if gone := body.count(GONE):
        print(f"{gone:,} images are not shown; {path} says why", file=sys.stderr)


def _figure(rank: int, match: "SearchHit", manifest: dict[str, Any], inputs: "Inputs", media: Media) -> str:
    from zoo.vectors.opening import text_column

    main = text_column(manifest)
    if main is not None:
        text = match.attributes.get(main)
        body = f"<p>{html.escape(str(text))}</p>"
    else:
        body = media.view(partial(_embedded, inputs, match), partial(inputs.regions, match.attributes))
    boxed = manifest["source"].get("regions")
    moment = told(inputs.moment(match.attributes))
    times = (manifest["source"].get("parts") or {}).get("columns", ())[-2:] if moment else ()
    rest = " · ".join(
        [html.escape(moment)] * bool(moment)
        + [
            f"{html.escape(name)}: {html.escape(_shown(value))}"
            for name, value in match.attributes.items()
            if value not in (None, "") and name not in (main, boxed, manifest["source"].get("column"), *times)
        ]
    )
    again = getattr(match, "rerank", None)  # of a reranker, where one has read it
    ranks = "".join(f", {name} rank {rank}" for name, rank in getattr(match, "ranks", {}).items())  # of a hybrid search
    scores = f"{match.score:.3f}{ranks}" + ("" if again is None else f", rerank {again:.3f}")
    scores += "" if getattr(match, "fits", None) is not False else ", less than what fits"
    caption = f"<b>{rank}. {scores}</b> {html.escape(match.reference)}<br><small>{rest}</small>"
    return f"<figure>{body}<figcaption>{caption}</figcaption></figure>"


def _shown(value: Any) -> str:
    """A value for a caption: nobody reads the sixteenth digit of a second."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:80]


def _embedded(inputs: "Inputs", match: "SearchHit") -> Found:
    """What was embedded for a result: a file, or its page, segment or frame."""
    whole = inputs.find(match.reference)
    part = None if whole is None else inputs.part(whole, match.attributes)
    return Found(whole, part, inputs.moment(match.attributes))
