"""What a page of results shows of an input: a thumbnail, a player that begins at the moment, a page of a document, the start of a text."""

import base64
import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import NotMediaError, ZooError

if TYPE_CHECKING:
    from zoo.inputs.regions import Region

SIDE = 256
GONE = '<p class="gone">'
SMALL = 3 * 2**19
"""Bytes of audio or of a video that stands in the page itself; larger files are played from where they lie."""
ROOM = 48 * 2**20
"""Bytes of audio and videos in one page."""
_EXCERPT, _RATE = 15.0, 22_050  # seconds and Hz of what is written anew, where no browser plays a format
_LETTERS = 400
_SILENT = '<p class="said">This is silence: its vector says nothing.</p>'
# By FFmpeg's names of containers. What else there is (AVI, MPEG, AIFF, AMR, …) no browser plays.
_TYPES = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "aac": "audio/aac",
    "ogg": "{}/ogg",
    "mov": "{}/mp4",
    "matroska": "{}/webm",
}
_Moment = tuple[float, float] | None


class Found(NamedTuple):
    """An input on a page.

    Attributes:
        whole: its file or bytes; None where its table is gone. part: what of it was embedded: itself, a page, an excerpt, or the
            pixels of a frame. moment: beginning and end of that in seconds.
    """

    whole: "Path | bytes | None"
    part: Any
    moment: _Moment = None


class Media:
    """Draws inputs for one page, and counts what it holds.

    Attributes:
        referenced: whether a player plays a file from where it lies. players: whether there are any.
    """

    def __init__(self) -> None:
        self.referenced = self.players = False
        self._left = ROOM

    def view(self, find: "Callable[[], Found]", regions: "Callable[[], Sequence[Region]]" = tuple) -> str:
        """HTML of an input, or the reason why there is none.

        Args:
            find: gives the input; raises ZooError for what is not to be shown. regions: gives what of an image is outlined.
        """
        from zoo.inputs.kinds import kind_of

        try:
            found = find()
            if found.whole is None:
                return f"{GONE}the table that held this image is not there any more</p>"
            try:
                kind = kind_of(found.whole)
            except NotMediaError:
                if (text := _beginning(found.whole)) is None:
                    raise
                return f"<p>{html.escape(text)}</p>"
            if kind == "audio":
                return self._player(found, "audio")
            if kind == "video":
                return self._player(found, "video", thumbnail(found.part, regions()))
            if kind == "document":
                return _linked(found, thumbnail(found.part, regions()))
            return _image(thumbnail(found.part, regions()))
        except ZooError as error:  # also where a video needs a library that is not here
            return f"{GONE}{html.escape(str(error))}</p>"
        except OSError as error:  # it went since it was looked at
            return f"{GONE}{html.escape(str(error.strerror or error))}</p>"

    def _player(self, found: Found, kind: str, poster: bytes | None = None) -> str:
        """A player that begins at the moment; of a video that no browser plays its frame, which opens the file."""
        from zoo.inputs.silence import is_silent

        source = self._source(found, kind)
        if source is None:
            why = f"{GONE}it is too large for this page, and lies in no file of its own</p>"
            return why if poster is None else _linked(found, poster)
        self.players = True
        begin = "" if found.moment is None or source.cut else f"#t={found.moment[0]:g},{found.moment[1]:g}"
        shown = f' poster="{_data(poster, "image/jpeg")}"' if poster is not None else ""
        player = f'<{kind} controls preload="metadata"{shown} src="{html.escape(source.address, quote=True)}{begin}"></{kind}>'
        return player + _SILENT * (kind == "audio" and is_silent(found.part))

    def _source(self, found: Found, kind: str) -> "_Source | None":
        """Where a player finds what it plays: in the page, in the file, or written anew; None for a video that none plays."""
        from zoo.inputs.audio import container_of
        from zoo.inputs.kinds import head_of

        whole = found.whole
        form = _TYPES.get(container_of(head_of(whole)) or "")  # type: ignore[arg-type]
        size = len(whole) if isinstance(whole, bytes) else whole.stat().st_size  # type: ignore[union-attr]
        if form is not None and size <= min(SMALL, self._left):
            self._left -= size
            content = whole if isinstance(whole, bytes) else whole.read_bytes()  # type: ignore[union-attr]
            return _Source(_data(content, form.format(kind)))
        if form is not None and isinstance(whole, Path):
            self.referenced = True
            return _Source(whole.resolve().as_uri())
        if kind == "video":
            return None
        content = _anew(whole, found.moment)
        if len(content) > self._left:
            return None
        self._left -= len(content)
        return _Source(_data(content, "audio/flac"), cut=True)


class _Source(NamedTuple):
    """The address of what a player plays, and whether that is the moment alone."""

    address: str
    cut: bool = False


def thumbnail(part: Any, regions: "Sequence[Region]" = ()) -> bytes:
    """A small JPEG of an image, of a video one of its frames, of one document per page, its regions outlined.

    Raises:
        ZooError: it cannot be read.
    """
    from PIL import Image

    from zoo.inputs.excerpts import DocumentPage, Excerpt
    from zoo.inputs.image import load_pixels
    from zoo.inputs.kinds import kind_of
    from zoo.inputs.outlines import outlined
    from zoo.inputs.video import load_video

    if isinstance(part, Path | bytes) and kind_of(part) == "document":
        part = DocumentPage(part, 1)
    video = isinstance(part, Excerpt) or (isinstance(part, Path | bytes) and kind_of(part) == "video")
    pixels = load_video(part, frames=1).frames[0] if video else load_pixels(part)
    side = 2 * SIDE if isinstance(part, DocumentPage) else SIDE  # of a page more is to be made out
    buffer = io.BytesIO()
    Image.fromarray(outlined(pixels, regions, side)).save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def told(moment: _Moment) -> str:
    """A moment for people: 1:05–1:10."""
    return "" if moment is None else "–".join(map(_clock, moment))


def _clock(seconds: float) -> str:
    whole = f"{seconds % 60:04.1f}".removesuffix(".0")
    whole = whole.zfill(2)
    minutes = int(seconds // 60)
    return f"{minutes // 60}:{minutes % 60:02}:{whole}" if minutes >= 60 else f"{minutes}:{whole}"


def _image(content: bytes) -> str:
    return f'<img alt="" src="{_data(content, "image/jpeg")}">'


def _linked(found: Found, content: bytes) -> str:
    """A page of a document, which opens the document there, or what else opens in a program of its own."""
    if not isinstance(found.whole, Path):
        return _image(content)
    page = getattr(found.part, "number", None)
    address = found.whole.resolve().as_uri() + (f"#page={page}" if page is not None else "")
    return f'<a href="{html.escape(address, quote=True)}">{_image(content)}</a>'


def _data(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _anew(source: Any, moment: _Moment) -> bytes:
    """Audio, or its moment, as FLAC; of long audio the beginning.

    Raises:
        ZooError: it cannot be read.
    """
    import soundfile

    from zoo.inputs.audio import load_audio

    start, end = moment or (0.0, _EXCERPT)
    audio = load_audio(source, rate=_RATE, start=start, seconds=min(max(end - start, 0.1), _EXCERPT))
    buffer = io.BytesIO()
    soundfile.write(buffer, audio.samples.clip(-1, 1), _RATE, "PCM_16", format="FLAC")
    return buffer.getvalue()


def _beginning(source: Path | bytes) -> str | None:
    """The first letters of a file that is a text; None where it is none."""
    from zoo.tables.images import kind_by_name
    from zoo.tables.lines import whole_text

    if not isinstance(source, Path) or kind_by_name(source.name) != "text":
        return None
    text = whole_text(source).strip()
    return text if len(text) <= _LETTERS else text[:_LETTERS] + "…"
