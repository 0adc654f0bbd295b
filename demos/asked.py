"""What a visitor asks with, a text, a file or both: its vector, and how it is told back to him."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from zoo.errors import EmptyTextError, InputError, UnsupportedInputError
from zoo.inputs.document import page_count
from zoo.inputs.heif import Way, decoding
from zoo.inputs.item import Item
from zoo.inputs.kinds import kind_of
from zoo.inputs.silence import refuse_silence
from zoo.inputs.spacing import audio_length, video_length

from .widgets import friendly, user_error

if TYPE_CHECKING:
    from torch import Tensor

    from zoo import Embedder
    from zoo.modalities import Modality

KINDS: tuple["Modality", ...] = ("image", "video", "audio", "document")
NAMES = {"image": "images", "video": "videos", "audio": "recordings", "document": "PDFs", "text": "texts"}
# A file is read as the first of these that the model reads: a video without images for it as its audio.
_READ_AS = {"video": ("video", "audio"), "image": ("image", "video")}


@dataclass(frozen=True, eq=False)
class Asked:
    """A query, embedded.

    Attributes:
        vector: `(dim,)`, with late interaction `(tokens, dim)`. modalities: what it is of. said: what it was, in words: "a
            recording of 3.2 s". seconds: how long it took. over: set when something else is asked, so that nobody looks any further.
    """

    vector: "Tensor"
    modalities: frozenset[str]
    said: str
    seconds: float
    over: Event = field(default_factory=Event)

    def __deepcopy__(self, memo: object) -> "Asked":
        return self  # immutable, and Gradio copies what it keeps for a visitor


def kinds_of(model: "Embedder") -> list["Modality"]:
    """The kinds of files that a model embeds."""
    return [kind for kind in KINDS if reads(model, kind)]


def read_as(model: "Embedder", kind: str) -> str:
    """The modality as which a model reads a file of a kind; "" where it reads none of it."""
    return next((other for other in _READ_AS.get(kind, (kind,)) if reads(model, other)), "")


def input_of(model: "Embedder", path: Path) -> Item:
    """A file as what the model reads of it: a video as its audio, and an animation as a video, where it reads those alone.

    Raises:
        InputError: the file is none that the zoo knows. UnsupportedInputError: or none that the model reads.
    """
    kind = kind_of(path)
    if other := read_as(model, kind):
        return Item(**{other: path})
    raise UnsupportedInputError(
        f"{model.spec.name} reads {', '.join(_named(model))}, and this is one of the {NAMES[kind]}",
        what=path.name,
    )


def reads(model: "Embedder", kind: str) -> bool:
    """Whether a model embeds items of one modality."""
    return any(reader.encoder.takes(frozenset({kind})) for reader in model.routes)


def ask(model: "Embedder", text: str, file: str | None, heif: Way | None = None) -> Asked:
    """Embeds what was asked.

    Args:
        text: "" for none. file: a recording, video, image or PDF; None for none. heif: decodes what visitors send as HEIC.

    Raises:
        gr.Error: neither, or what cannot be read, or is silent; the message says what to do.
    """
    started, text = time.perf_counter(), (text or "").strip()
    if text and not reads(model, "text"):
        raise user_error(f"{model.spec.name} reads no text. Ask with a file, of {' or '.join(_named(model))}.")
    try:
        if not file:
            if not text and not reads(model, "text"):
                raise user_error(f"Add a file first, of {' or '.join(_named(model))}.")
            if not text:
                raise EmptyTextError("the query is empty")
            vector = model.encode_query(text, progress=False)
            return Asked(vector, frozenset({"text"}), f"“{text}”", time.perf_counter() - started)
        with decoding(heif):
            item = input_of(model, Path(file))
            refuse_silence(item)
            said = _described(item)
            item = replace(item, text=text or None)
            said += f" and “{text}”" if text else ""
            vector = model.encode_query(item, progress=False)
    except InputError as error:
        raise friendly(error) from error
    return Asked(vector, item.modalities, said, time.perf_counter() - started)


def _named(model: "Embedder") -> list[str]:
    return [NAMES[kind] for kind in kinds_of(model)]


def _described(item: Item) -> str:
    """A file in words: "a recording of 3.2 s"; raises as the file's reader."""
    if item.audio is not None:
        return f"a recording of {length(audio_length(item.audio))}"
    if item.video is not None:
        try:
            return f"a video of {length(video_length(item.video).seconds)}"
        except UnsupportedInputError:  # frames without times, as of some animations
            return "a video"
    if item.document is not None:
        pages = page_count(item.document)
        return f"a PDF of {pages} page{'s' if pages > 1 else ''}"
    return "an image"


def length(seconds: float) -> str:
    """ "3.2 s", and from a minute on "1:05 min"."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)}:{int(seconds % 60):02} min"
