"""What there is to search at first besides images: recordings that come with the zoo, clips and PDFs made by program."""

import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zoo.files import writing
from zoo.inputs.image import load_pixels

from .gallery import GalleryFile, digest, sample_images
from .papers import PAPERS, written
from .samples import RECORDINGS, installed
from .stored import kept_file

if TYPE_CHECKING:
    import numpy as np

RATE = 16_000  # Hz
_FRAMES, _FPS, _SIDE = 16, 8, 256
_HOW = (_FRAMES, _FPS, _SIDE, 1)  # of clips that are kept: the last number goes up when what makes them changes


class _Clip(NamedTuple):
    """Sample images by file name, one scene each, and how the camera moves over them."""

    names: tuple[str, ...]
    motion: str


_CLIPS = (
    _Clip(("coffee.png",), "pans to the right"),
    _Clip(("chelsea.png",), "zooms in"),
    _Clip(("rocket.jpg",), "pans to the left"),
    _Clip(("harbour.jpg",), "pans to the right"),
    _Clip(("airplane.jpg", "coffee.png", "sheep.jpg"), "zooms in"),
    _Clip(("astronaut.png",), "zooms out"),
    _Clip(("skyscrapers.jpg",), "pans to the left"),
    _Clip(("sheep.jpg",), "pans to the right"),
    _Clip(("nebula.jpg", "chelsea.png", "harbour.jpg"), "zooms out"),
    _Clip(("apollo-earth.jpg",), "zooms out"),
    _Clip(("airplane.jpg",), "zooms in"),
    _Clip(("skyscrapers.jpg", "rocket.jpg", "nebula.jpg"), "pans to the right"),
)
USED = {name for clip in _CLIPS for name in clip.names} | {
    sheet.image for sheets in PAPERS.values() for sheet in sheets if sheet.image
}
"""File names of the sample images of which clips and PDFs are made."""
_TOGETHER = {"a dog barks, then it rains, then a rooster crows": ("dog.mp3", "rain.mp3", "rooster.mp3")}


def made_media(modalities: Collection[str], folder: Path) -> list[GalleryFile]:
    """Recordings, clips and PDFs for a model of these modalities, as files in a folder; clips where PyAV is installed."""
    found: list[GalleryFile] = []
    images = {image.path.name: image for image in sample_images()}
    if "audio" in modalities:
        found += _recordings(folder)
    if "video" in modalities and find_spec("av") is not None:
        found += _clips(images, folder)
    if "document" in modalities and find_spec("pypdfium2") is not None:
        paths = {name: image.path for name, image in images.items()}
        for name, sheets in PAPERS.items():
            content = written(sheets, paths)
            found.append(GalleryFile(_kept(folder / f"{name.replace(' ', '-')}.pdf", content), f"{name}.pdf"))
    return found


def _kept(path: Path, content: bytes) -> Path:
    with writing(path, durable=False) as part:
        part.write_bytes(content)
    return path


def _recordings(folder: Path) -> list[GalleryFile]:
    """Those that come with the zoo, and one made of several, to see which of its moments fits."""
    from zoo.inputs.audio import load_audio

    there = {path.name: (path, sample.caption) for path, sample in installed(RECORDINGS)}
    # Copies, because the page serves files of its own folder alone.
    found = [GalleryFile(_kept(folder / name, path.read_bytes()), caption) for name, (path, caption) in there.items()]
    for caption, names in _TOGETHER.items():
        if all(name in there for name in names) and find_spec("soundfile") is not None:
            content = _wav(load_audio(there[name][0], rate=RATE).samples for name in names)
            found.append(GalleryFile(_kept(folder / "together.wav", content), caption))
    return found


def _wav(parts: Iterable["np.ndarray"]) -> bytes:
    """Samples `(n,)` in -1..1, one part after the other."""
    import wave

    import numpy as np

    file = io.BytesIO()
    with wave.open(file, "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(2)
        audio.setframerate(RATE)
        for samples in parts:
            audio.writeframes((samples.clip(-1, 1) * 32767).astype(np.int16).tobytes())
    return file.getvalue()


def _clips(images: dict[str, GalleryFile], folder: Path) -> Iterator[GalleryFile]:
    for clip in _CLIPS:
        if not all(name in images for name in clip.names):
            continue
        paths = [images[name].path for name in clip.names]
        target = folder / ("-".join(path.stem for path in paths) + ".mp4")
        key = "\n".join([str(_HOW), clip.motion, *map(digest, paths)])
        path = kept_file(target, key, lambda paths=paths, motion=clip.motion: _videoed(paths, motion))
        shown = ", then ".join(images[name].caption for name in clip.names)
        yield GalleryFile(path, f"{shown}: the camera {clip.motion}")


def _videoed(paths: Sequence[Path], motion: str) -> bytes:
    """An MP4 of a square window that moves over each of the images for two seconds."""
    import av
    import numpy as np
    from PIL import Image

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        # One thread and no rate control: the same bytes each time on one machine.
        stream = container.add_stream(
            "libx264", rate=_FPS, options={"crf": "24", "preset": "ultrafast", "threads": "1"}
        )
        stream.width = stream.height = _SIDE
        stream.pix_fmt = "yuv420p"
        for path in paths:
            image = Image.fromarray(load_pixels(path))
            for step in range(_FRAMES):
                box = _window(image.size, motion, step / (_FRAMES - 1))
                frame = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def _window(size: tuple[int, int], motion: str, done: float) -> tuple[float, float, float, float]:
    """What of an image is seen when a part of the motion is done, 0..1: left, top, right and bottom."""
    width, height = size
    side, across = 0.8 * min(size), done
    if motion.startswith("zooms"):
        side = min(size) * (1 - 0.5 * (done if motion == "zooms in" else 1 - done))
        across = 0.5
    elif motion == "pans to the left":
        across = 1 - done
    left, top = (width - side) * across, (height - side) / 2
    return left, top, left + side, top + side
