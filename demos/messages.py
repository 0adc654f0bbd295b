"""Errors of the zoo in words for visitors of a page: each names the remedy, and none a path of the server."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.errors import InputError, UnsupportedModalityError

if TYPE_CHECKING:
    from .gallery import Refused

_REMEDIES = {
    "silent-audio": "That recording is silence: there is nothing in it to look for. Is the microphone muted? Record it again.",
    "missing-file": "The image did not arrive. Upload it again.",
    "not-media": (
        "That file is not an image that can be read here. Use JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF; "
        "convert SVG to one of them first."
    ),
    "unread-heif": (
        "HEIC images are not read on this page. Convert it to JPEG or PNG first. Whoever runs the page can have them read: "
        'pip install "embedding-zoo[heif]", and for a page that others reach too, start it with --heif.'
    ),
    "corrupt-image": (
        "That image is damaged or cut off. Open it in an image viewer and save it again, or try another one."
    ),
    "image-too-large": "That image is too large: at most 64 megapixels are read. Scale it down and try again.",
    "no-frames": "That video ends before the part that was asked for. Choose an earlier part.",
    "corrupt-video": "That video is damaged, cut off or of a rare kind. Save it as MP4 (H.264), or try another one.",
    "video-too-large": "That video is too large. Scale it down or cut it, and try again.",
    "corrupt-audio": "That audio file is damaged, cut off or of a rare kind. Save it as FLAC or WAV, or try another one.",
    "audio-too-long": "That audio file is too long. Cut it, and try again.",
    "invalid-audio": "That audio file holds no usable audio: none at all, or values that are no audio. Try another one.",
    "corrupt-document": "That PDF is damaged or cut off. Save it again, or try another one.",
    "encrypted-document": "That PDF is encrypted. Save it without a password, and try again.",
    "document-too-large": "That PDF has too many or too large pages. Split it, and try again.",
    "invalid-pixels": "That image has pixel values that cannot be read. Save it as an ordinary 8-bit JPEG or PNG.",
    "empty-text": "Type a few words first, for example “a red motorbike”.",
    "unreadable-text": (
        "This model knows no part of that text: it is in another script, or has no spaces. Write it in a language that the "
        "model reads, or choose another model at the top of the page."
    ),
    "invalid-text": "That text cannot be read: it is too long or holds broken characters. Use a sentence or two.",
}


def explain(error: Exception, subject: str = "") -> str:
    """What went wrong and what to do, after `subject` ("holiday.jpg") if there is one."""
    if isinstance(error, UnsupportedModalityError):
        # Without the place in a list of one, and without where the upload lies.
        said = str(error).removeprefix("item 0: ").replace(f" ({error.what})", "")
        message = f"{said}. Choose another model at the top of the page."
    elif isinstance(error, InputError):
        message = explain_code(error.code, str(error))
    else:
        message = str(error)
    return f"{subject}: {message}" if subject else message


def explain_code(code: str, message: str) -> str:
    """The words for a kind of error, else the message."""
    return _REMEDIES.get(code, message)


def refusals(refused: Sequence["Refused"], most: int = 5) -> str:
    """Which files could not be read, and why, as a list for a page."""
    # File names are shown as code, so that none can act as Markdown.
    lines = [f"- `{one.name.replace('`', ' ')}`: {one.reason}" for one in refused[:most]]
    if len(refused) > most:
        lines.append(f"- and {len(refused) - most} more")
    noun = "file" if len(refused) == 1 else "files"
    return f"{len(refused)} {noun} could not be read:\n" + "\n".join(lines)
