"""Eight frames of a video file of each kind: the zoo, decord, torchcodec, and PyAV's plain loop, by what the processor spends."""

import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.common import machine, processor_seconds, table

SECONDS, RATE, SIZE, LARGE = 10, 25, (640, 360), (1920, 1080)
# Name → (codec, container, frames of a group at most, B-frames, options).
FILES: dict[str, tuple[str, str, int, int, dict[str, str]]] = {
    "MP4, H.264, groups of 250": ("libx264", "mp4", 250, 3, {"preset": "veryfast"}),
    "MP4, H.264, groups of 25": ("libx264", "mp4", 25, 2, {"preset": "veryfast"}),
    "MP4, H.265": ("libx265", "mp4", 60, 3, {"preset": "ultrafast", "x265-params": "log-level=0"}),
    "MP4, AV1": ("libsvtav1", "mp4", 120, 0, {"preset": "11"}),
    "Matroska, H.264": ("libx264", "matroska", 125, 3, {"preset": "veryfast"}),
    "WebM, VP9": ("libvpx-vp9", "webm", 120, 0, {"deadline": "realtime", "cpu-used": "8"}),
    "WebM, VP8": ("libvpx", "webm", 120, 0, {"deadline": "realtime", "cpu-used": "8"}),
    "AVI, MPEG-4": ("mpeg4", "avi", 60, 2, {}),
    "MPEG, MPEG-2": ("mpeg2video", "mpeg", 12, 2, {}),
    "MPEG-TS, H.264": ("libx264", "mpegts", 50, 2, {"preset": "veryfast"}),
    "FLV, Sorenson": ("flv", "flv", 60, 0, {}),
    "WMV": ("wmv2", "asf", 60, 0, {}),
    "MOV, Motion JPEG": ("mjpeg", "mov", 1, 0, {}),
    "1080p: MP4, H.264, groups of 250": ("libx264", "mp4", 250, 3, {"preset": "veryfast"}),
    "1080p: MP4, H.264, groups of 25": ("libx264", "mp4", 25, 2, {"preset": "veryfast"}),
}


def _write(
    path: Path, size: tuple[int, int], codec: str, form: str, gop: int, bframes: int, options: dict[str, str]
) -> None:
    """A video in which a photo-like texture moves: noise would be all bits, a plain colour none."""
    import av
    from PIL import Image

    dice = np.random.default_rng(0)
    coarse = dice.integers(0, 256, (60, 100, 3)).astype(np.uint8)
    large = np.asarray(Image.fromarray(coarse).resize((size[0] + 360, size[1] + 240), Image.Resampling.BICUBIC))
    with av.open(path, "w", format=form) as container:
        stream = container.add_stream(codec, rate=RATE, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = gop, bframes
        stream.bit_rate = 6 * size[0] * size[1]
        for number in range(SECONDS * RATE):
            x, y = number % 300, (2 * number) % 200
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(large[y : y + size[1], x : x + size[0]].copy(), "rgb24"))
            )
        container.mux(stream.encode(None))


def _plain(path: Path) -> np.ndarray:
    """All frames decoded, eight of them converted: as people write it."""
    import av

    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        frames = list(container.decode(video=0))
        return np.stack([frames[n].to_ndarray(format="rgb24") for n in _indices(len(frames))])


def _indices(total: int) -> list[int]:
    return np.linspace(0, total - 1, 8).astype(int).tolist()


def _zoo(path: Path) -> np.ndarray:
    from zoo.inputs.video import load_video

    return load_video(path, frames=8).frames


def _decord(path: Path) -> np.ndarray:
    import decord

    reader = decord.VideoReader(str(path), num_threads=1)
    return reader.get_batch(_indices(len(reader))).asnumpy()


def _torchcodec(path: Path) -> np.ndarray:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), dimension_order="NHWC")  # one thread, by default
    return decoder.get_frames_at(_indices(len(decoder))).data.numpy()


def _fails(read: Callable[[Path], np.ndarray], path: Path, expected: np.ndarray) -> str:
    """Why a reader is not measured, "" where it gives the frames."""
    try:
        found = read(path)
    except Exception as error:
        return f"fails ({type(error).__name__})"
    if found.shape != expected.shape:
        return f"gives frames {found.shape}"
    off = int((np.abs(found.astype(int) - expected).mean((1, 2, 3)) > 2).sum())
    return f"{off} of 8 frames are others" if off else ""


def _lend_ffmpeg() -> str:
    """Begins anew with PyAV's FFmpeg where torchcodec finds none; says how torchcodec has its FFmpeg, "" for not at all."""
    from importlib.util import find_spec

    if find_spec("torchcodec") is None:
        return ""
    try:
        from torchcodec.decoders import VideoDecoder

        VideoDecoder(b"no video")
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        if "Could not load" not in str(error):
            return os.environ.get("ZOO_FFMPEG", "the system's FFmpeg")
        if "ZOO_FFMPEG" in os.environ:
            return ""
    import av

    own = Path(av.__file__).parent.with_name("av.libs")
    folder = Path(tempfile.mkdtemp(prefix="zoo-ffmpeg-"))
    for file in (*own.glob("libav*.so.*"), *own.glob("libsw*.so.*")):
        name, _, version = file.name.partition("-")
        major = version.partition(".so.")[2].split(".")[0]
        (folder / f"{name}.so.{major}").symlink_to(file)
    environment = {**os.environ, "LD_LIBRARY_PATH": f"{folder}:{own}", "ZOO_FFMPEG": "PyAV's FFmpeg, lent to it"}
    os.execve(sys.executable, [sys.executable, "-m", "benchmarks", "videos"], environment)


def _spent() -> float:
    from zoo.inputs.video import _decoders

    return processor_seconds(_decoders().pids)


def main(repeat: int = 5) -> None:
    """Prints a table of each kind of file: ms of the processor, and how many times as long as the zoo's that is."""
    lent = _lend_ffmpeg()
    readers = {"zoo": _zoo, "decord, 1 thread": _decord, "torchcodec": _torchcodec, "PyAV, all frames": _plain}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for title, facts in FILES.items():
            path = Path(folder) / f"video.{facts[1]}"
            _write(path, LARGE if title.startswith("1080p") else SIZE, *facts)
            expected = _plain(path)
            why = {name: _fails(read, path, expected) for name, read in readers.items()}
            if why["zoo"]:
                raise AssertionError(f"{title}: the zoo {why['zoo']}")
            times: dict[str, list[float]] = {name: [] for name in readers if not why[name]}
            for _ in range(repeat):
                for name, spent in times.items():
                    start = _spent()
                    readers[name](path)
                    spent.append(_spent() - start)
            cells = []
            for name in readers:
                ratio = (
                    statistics.median(t / z for t, z in zip(times.get(name, []), times["zoo"], strict=False))
                    if name in times
                    else 0
                )
                cells.append(
                    f"{1000 * statistics.median(times[name]):.0f}, {ratio:.2f}x" if name in times else why[name]
                )
            rows.append([title, f"{path.stat().st_size / 2**20:.1f} MiB", *cells])
    about = f"torchcodec with {lent}" if lent else "torchcodec does not load"
    table(
        f"8 frames of {SECONDS} s, {SIZE[0]}x{SIZE[1]} where nothing else is said: ms ({machine()}; {about})",
        ["", "file", *readers],
        rows,
    )
