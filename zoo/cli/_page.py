"""Search results as one HTML file: thumbnails inside, nothing loaded from elsewhere."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.bulk.shards import write_atomically
from zoo.errors import InputError, ZooError

if TYPE_CHECKING:
    from zoo.index import Match

SIDE = 256
_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #222; background: #fafafa }
h1 { font-size: 1.3rem; overflow-wrap: anywhere } h1 img { vertical-align: middle; border-radius: 6px }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 1rem }
figure { margin: 0; background: #fff; border: 1px solid #ddd; border-radius: 6px; overflow: hidden }
figure img { display: block; width: 100%; height: 210px; object-fit: contain; background: #f0f0f0 }
figure p { margin: 0; padding: .8rem } .gone { color: #888; font-style: italic }
figcaption { padding: .5rem .8rem; overflow-wrap: anywhere; border-top: 1px solid #eee }
small { color: #666 } b { font-variant-numeric: tabular-nums }
"""


def write_page(
    path: Path, query: str | Path, found: "Sequence[Match]", manifest: dict[str, Any], change: str = ""
) -> None:
    """Writes the page.

    Args:
        query: the words, or the picture that was searched with.
        manifest: of the folder that was searched; tells where the pictures are.
        change: the words beside a picture.
    """
    words = html.escape(query.name if isinstance(query, Path) else query)
    words += f" + {html.escape(change)}" if change else ""
    heading = f"{_picture(query)} {words}" if isinstance(query, Path) else words
    figures = "\n".join(_figure(rank, match, manifest) for rank, match in enumerate(found, start=1))
    facts = f"{len(found)} of {manifest['counts']['vectors']:,}, by {html.escape(manifest['model'])}"
    page = (
        "<!doctype html>\n<html lang=en><meta charset=utf-8>\n"
        # Even if something escaped the escaping: no script, no request.
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; img-src data:; style-src "
        "'unsafe-inline'\">\n"
        f"<title>{words}</title>\n<style>{_STYLE}</style>\n"
        f"<h1>{heading} <small>{facts}</small></h1>\n<main>\n{figures}\n</main>\n</html>\n"
    )
    try:
        write_atomically(path, page.encode("utf-8", "replace"))
    except OSError as error:
        raise ZooError(f"cannot write {path}: {error.strerror or error}") from error


def _figure(rank: int, match: "Match", manifest: dict[str, Any]) -> str:
    from zoo.bulk.lookup import find_input
    from zoo.cli.search import text_column

    main = text_column(manifest)
    if main is not None:
        text = match.attributes.get(main)
        body = f"<p>{html.escape(str(text))}</p>"
    else:
        body = _picture(find_input(manifest["source"], match.reference))
    rest = " · ".join(
        f"{html.escape(name)}: {html.escape(str(value)[:80])}"
        for name, value in match.attributes.items()
        if value not in (None, "") and name not in (main, manifest["source"]["column"])
    )
    caption = f"<b>{rank}. {match.score:.3f}</b> {html.escape(match.reference)}<br><small>{rest}</small>"
    return f"<figure>{body}<figcaption>{caption}</figcaption></figure>"


def _picture(source: Path | bytes | None) -> str:
    """An <img> with the thumbnail inside, or the reason why there is none."""
    from PIL import Image

    from zoo.media import load_pixels

    if source is None:
        return '<p class="gone">the table that held this picture is not there any more</p>'
    try:
        picture = Image.fromarray(load_pixels(source))
    except InputError as error:
        return f'<p class="gone">{html.escape(str(error))}</p>'
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
