"""Video files of every kind that PyAV can write; each frame carries its number as a pattern that survives any codec.

`KINDS` names them: containers, codecs, structures of groups of frames, rates, sizes, and what editors and recorders make of
them (trimmed without coding anew, piped, cut off at the front, turned).
"""

import io
import os
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

BITS, BLOCK = 10, 16
WIDTH, HEIGHT = BITS * BLOCK, 96


def pattern(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A frame uint8 `(height, width, 3)` that shows its number: ten bits as white and black, and below them the reverse.

    What is under these moves and changes from frame to frame, so that frames cannot be told apart from each other by chance.
    """
    y, x = np.mgrid[:height, :width]
    frame = np.stack([(x + 7 * number) % 160 + 40, (y + 3 * number) % 120 + 60, (x + y - 5 * number) % 140 + 50], -1)
    for bit in range(BITS):
        white = number >> bit & 1
        frame[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 235 if white else 20
        frame[BLOCK : 2 * BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 20 if white else 235
    return frame.astype(np.uint8)


def number_of(frame: np.ndarray) -> int:
    """The number that a frame shows; -1 where its bits and their reverse disagree, or have no room."""
    if len(frame) < 2 * BLOCK:
        return -1
    middles = np.arange(BITS) * BLOCK + BLOCK // 2
    upper, lower = (
        np.array([frame[top + 4 : top + 12, m - 4 : m + 4].astype(float).mean() > 128 for m in middles])
        for top in (0, BLOCK)
    )
    return int((upper << np.arange(BITS)).sum()) if (upper != lower).all() else -1


class Made(NamedTuple):
    """A file and what is true of it: the numbers of the frames that a player shows, and when (seconds; None: `number / rate`)."""

    data: bytes
    shown: list[int]
    rate: float
    seconds: list[float] | None = None
    turns: int = 0
    """Quarters of a circle, against the clock, by which a player turns it."""


class _Pipe(io.RawIOBase):
    """Where nothing can be sought, as where a browser records to."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, data: Any) -> int:
        self.content += bytes(data)
        return len(data)

    def writable(self) -> bool:
        return True


# What each codec wants: the format of its pixels, and options that are fast.
_FAST: dict[str, dict[str, str]] = {
    "libx264": {"preset": "ultrafast", "crf": "26"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=0:pools=none"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}
_PIXELS = {
    **dict.fromkeys(("prores_ks", "prores", "cfhd", "v210"), "yuv422p10le"),
    **dict.fromkeys(("mjpeg", "amv", "ljpeg"), "yuvj420p"),
    **dict.fromkeys(("png", "qtrle", "cinepak", "rawvideo", "jpegls", "jpeg2000", "apng"), "rgb24"),
    **dict.fromkeys(("flashsv", "flashsv2", "zlib", "targa"), "bgr24"),
    **dict.fromkeys(("msvideo1", "rpza"), "rgb555le"),
    "huffyuv": "yuv422p",
    "zmbv": "bgr0",
    "svq1": "yuv410p",
    "dvvideo": "yuv411p",
}
_COARSE = frozenset(
    {
        "mpeg4",
        "mpeg1video",
        "mpeg2video",
        "flv",
        "h263",
        "wmv1",
        "wmv2",
        "msmpeg4",
        "msmpeg4v2",
        "libvpx",
        "libvpx-vp9",
        "svq1",
    }
)


def encoded(
    codec: str,
    form: str,
    numbers: Sequence[int] = range(40),
    *,
    rate: int = 25,
    pixels: str = "",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    gop: int = 12,
    bframes: int = 0,
    times: Sequence[int] | None = None,
    piped: bool = False,
    audio: bool = False,
    muxing: dict[str, str] | None = None,
    **options: str,
) -> bytes:
    """A file of frames of those numbers.

    Args:
        times: when each frame is shown, in frames of `rate`; by default one after the other. piped: written without seeking.
        audio: with a track of silence beside, that begins at 0. options: of the encoder, with _ for -.
    """
    import av

    os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder tells of all that it does
    target = _Pipe() if piped else io.BytesIO()
    chosen = {**_FAST.get(codec, {}), **{name.replace("_", "-"): value for name, value in options.items()}}
    with av.open(target, "w", format=form, container_options=muxing or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=chosen)
        stream.width, stream.height, stream.pix_fmt = *size, pixels or _PIXELS.get(codec, "yuv420p")
        context = stream.codec_context
        context.gop_size, context.max_b_frames, context.thread_count = gop, bframes, 1
        stream.time_base = context.time_base = Fraction(1, rate)
        if codec in _COARSE:
            stream.bit_rate = 2_000_000
        if audio:
            _silence(container)
        for place, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(pattern(number, *size), "rgb24")
            frame.pts, frame.time_base = (times[place] if times else place), Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return bytes(target.content) if isinstance(target, _Pipe) else target.getvalue()


def _silence(container: Any, seconds: float = 1.6) -> None:
    import av

    name = {"asf": "wmav2", "avi": "mp2", "mpegts": "mp2", "mpeg": "mp2", "dvd": "mp2", "webm": "libopus"}.get(
        container.format.name, "aac"
    )
    stream = container.add_stream(name, rate=48000, layout="mono", bit_rate=64000)
    samples = av.AudioFrame.from_ndarray(np.zeros((1, int(48000 * seconds)), np.int16), "s16", "mono")
    samples.sample_rate = 48000
    for part in av.AudioResampler(stream.codec_context.format, "mono", 48000).resample(samples):
        container.mux(stream.encode(part))
    container.mux(stream.encode(None))


def copied(data: bytes, form: str, first: int, count: int, *, shift: int = 0, **muxing: str) -> tuple[bytes, list[int]]:
    """Frames of a file of 25 a second without coding them anew, as editors trim, and the numbers of all that it holds.

    It begins with the key frame before `first`, which becomes time 0, and ends where the decoder has come to `first + count`.

    Args:
        shift: frames by which all times are moved.
    """
    import av

    target, numbers = io.BytesIO(), []
    with av.open(io.BytesIO(data)) as source, av.open(target, "w", format=form, container_options=muxing) as container:
        stream = source.streams.video[0]
        unit = round(1 / (25 * stream.time_base))
        packets = [packet for packet in source.demux(stream) if packet.size]
        origin = stream.start_time or 0
        begin = max(n for n, p in enumerate(packets) if p.is_keyframe and p.pts <= origin + first * unit)
        copy = container.add_stream_from_template(stream)
        for packet in packets[begin:]:
            if packet.dts is not None and packet.dts >= origin + (first + count) * unit:
                break
            numbers.append(round((packet.pts - origin) / unit))
            packet.pts, packet.dts = (
                t if t is None else t - origin + (shift - first) * unit for t in (packet.pts, packet.dts)
            )
            packet.stream = copy
            container.mux(packet)
    return target.getvalue(), sorted(numbers)


def repeated(path: Path, data: bytes, form: str, times: int) -> None:
    """Writes a file that shows a video so many times, without coding it anew."""
    import av

    with av.open(io.BytesIO(data)) as source:
        stream = source.streams.video[0]
        packets = [
            (bytes(packet), packet.pts, packet.dts, packet.is_keyframe)
            for packet in source.demux(stream)
            if packet.size
        ]
        length = stream.duration
        with av.open(path, "w", format=form) as container:
            copy = container.add_stream_from_template(stream)
            for turn in range(times):
                for content, pts, dts, is_key in packets:
                    packet = av.Packet(content)
                    packet.pts, packet.dts = pts + turn * length, dts + turn * length
                    packet.time_base, packet.is_keyframe, packet.stream = stream.time_base, is_key, copy
                    container.mux(packet)


def turned(data: bytes, matrix: tuple[int, int, int, int]) -> bytes:
    """An MP4 whose track says that a player turns it."""
    upright = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    place = data.index(upright, data.index(b"tkhd"))
    a, b, c, d = (65536 * value for value in matrix)
    return data[:place] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[place + len(upright) :]


def _whole(codec: str, form: str, count: int = 40, **options: Any) -> Made:
    return Made(encoded(codec, form, range(count), **options), list(range(count)), options.get("rate", 25))


def _rated(codec: str, form: str, times: Sequence[int]) -> Made:
    """A variable rate: the frames are shown at those times, in 25ths of a second."""
    numbers = list(range(len(times)))
    data = encoded(codec, form, numbers, times=times, bframes=2 * (codec == "libx264"))
    return Made(data, numbers, 0.0, [(time - times[0]) / 25 for time in times])


def _trimmed(codec: str, form: str, first: int, shift: int = 0, **options: Any) -> Made:
    muxing = {"avoid_negative_ts": "disabled"} if shift else {}
    data, numbers = copied(
        encoded(codec, "mp4" if form == "mov" else form, **options), form, first, 14, shift=shift, **muxing
    )
    # The times of an MP4 begin where it was cut; what lies before is there to be decoded, and is not shown.
    numbers = [number for number in numbers if number >= first or form not in ("mp4", "mov")]
    return Made(data, numbers, 0.0, [(number - numbers[0]) / 25 for number in numbers])


def _cut(codec: str, form: str, lost: int, **options: Any) -> Made:
    """A broadcast that was joined in the middle: packets of 188 bytes are gone at the front. What is shown is read by a test."""
    return Made(encoded(codec, form, **options)[188 * lost :], [], 25)


def _later(muxing: dict[str, str]) -> Made:
    """An MP4 that says when a frame is decoded and how much later it is shown, and not that its time begins there."""
    made = _whole("libx264", "mp4", bframes=2, muxing=muxing)
    return made._replace(seconds=[(number + 2) / 25 for number in made.shown])


def _packed() -> Made:
    """DivX's AVI: a frame and the B-frame before it in one packet, and then a packet that says "nothing new"."""
    import av

    target, made = io.BytesIO(), _whole("mpeg4", "avi", bframes=1)
    with av.open(io.BytesIO(made.data)) as source, av.open(target, "w", format="avi") as container:
        stream = source.streams.video[0]
        copy = container.add_stream_from_template(stream)
        parts = [bytes(packet) for packet in source.demux(stream) if packet.size]
        is_b = [part[part.index(b"\0\0\x01\xb6") + 4] >> 6 == 2 for part in parts]
        packets: list[bytes] = []
        for part, late in zip(parts, is_b, strict=True):
            packets.append(b"\0\0\x01\xb6\x50\0\x7f" if late else part)
            if late:
                packets[-2] += part
        head, mark, frame = packets[0].partition(b"\0\0\x01\xb6")
        packets[0] = head + b"\0\0\x01\xb2DivX503b1393p\0" + mark + frame
        for number, content in enumerate(packets):
            packet = av.Packet(content)
            packet.pts = packet.dts = number
            packet.time_base, packet.stream = stream.time_base, copy
            container.mux(packet)
    return made._replace(data=target.getvalue())


def _turned(matrix: tuple[int, int, int, int], turns: int) -> Made:
    made = _whole("libx264", "mp4", bframes=2)
    return made._replace(data=turned(made.data, matrix), turns=turns)


_H264 = {
    "baseline": {"profile": "baseline"},
    "b-frames": {"bframes": 3},
    "b-pyramid": {"bframes": 7, "x264_params": "b-pyramid=normal:ref=4"},
    "open-groups": {"bframes": 3, "x264_params": "open-gop=1"},
    "all-intra": {"gop": 1},
    "one-group": {"gop": 250, "bframes": 2},
    "refresh": {"gop": 12, "x264_params": "intra-refresh=1"},
    "interlaced": {"bframes": 2, "x264_params": "tff=1"},
    "422": {"pixels": "yuv422p"},
    "444-odd-size": {"pixels": "yuv444p", "size": (171, 97)},
    "10-bit": {"pixels": "yuv420p10le", "bframes": 2},
    "grey": {"pixels": "gray"},
    "slices": {"x264_params": "slices=4", "bframes": 2},
    "audio": {"bframes": 2, "audio": True},
    "24-a-second": {"rate": 24},
    "60-a-second": {"rate": 60, "bframes": 2},
}
_H265 = {
    "low-delay": {"x265_params": "log-level=0:pools=none:bframes=0"},
    "b-frames": {"x265_params": "log-level=0:pools=none:bframes=4:open-gop=0"},
    "open-groups": {"x265_params": "log-level=0:pools=none:bframes=4:open-gop=1:keyint=12:min-keyint=12"},
    "layers-of-time": {"x265_params": "log-level=0:pools=none:bframes=3:temporal-layers=3"},
    "all-intra": {"gop": 1},
    "10-bit": {"pixels": "yuv420p10le"},
    "444": {"pixels": "yuv444p"},
}
_PLAIN = (
    *(
        ("mov", codec)
        for codec in (
            "mpeg4",
            "mjpeg",
            "prores_ks",
            "prores",
            "qtrle",
            "png",
            "rawvideo",
            "cfhd",
            "v210",
            "svq1",
            "rpza",
        )
    ),
    *(
        ("avi", codec)
        for codec in ("mpeg4", "msmpeg4", "msmpeg4v2", "mjpeg", "huffyuv", "ffvhuff", "ffv1", "libx264", "magicyuv")
    ),
    *(
        ("avi", codec)
        for codec in ("rawvideo", "msvideo1", "snow", "asv1", "ljpeg", "jpegls", "zlib", "targa", "amv", "zmbv")
    ),
    *(
        ("matroska", codec)
        for codec in ("libx264", "libx265", "libsvtav1", "libvpx", "libvpx-vp9", "ffv1", "mpeg2video", "mpeg4", "mjpeg")
    ),
    *(("webm", codec) for codec in ("libvpx", "libvpx-vp9", "libsvtav1")),
    *(("mp4", codec) for codec in ("libx265", "libsvtav1", "mpeg4", "libvpx-vp9", "mjpeg", "mpeg2video")),
    *(("3gp", codec) for codec in ("mpeg4", "libx264")),
    *(("mpeg", codec) for codec in ("mpeg1video", "mpeg2video")),
    *(("dvd", "mpeg2video"), ("svcd", "mpeg2video"), ("vcd", "mpeg1video"), ("vob", "mpeg2video")),
    *(("mpeg1video", "mpeg1video"), ("mpeg2video", "mpeg2video")),
    *(("mpegts", codec) for codec in ("libx264", "libx265", "mpeg2video", "mpeg4")),
    *(("flv", codec) for codec in ("flv", "libx264", "flashsv", "flashsv2")),
    *(("asf", codec) for codec in ("wmv1", "wmv2", "msmpeg4")),
)
_B_FRAMES = frozenset({"mpeg4", "mpeg1video", "mpeg2video", "libx264"})


@cache
def _kinds() -> dict[str, Callable[[], Made]]:
    kinds: dict[str, Callable[[], Made]] = {}

    def add(name: str, make: Callable[..., Made], *arguments: Any, **options: Any) -> None:
        kinds[name] = lambda: make(*arguments, **options)

    for name, options in _H264.items():
        add(f"mp4 h264 {name}", _whole, "libx264", "mp4", **options)
    for name, options in _H265.items():
        add(f"mp4 h265 {name}", _whole, "libx265", "mp4", **options)
    for form, codec in _PLAIN:
        add(f"{form} {codec}", _whole, codec, form)
        if codec in _B_FRAMES:
            add(f"{form} {codec} b-frames", _whole, codec, form, bframes=2)
    add("avi mpeg4 packed", _packed)
    add("avi libx264 open-groups", _whole, "libx264", "avi", bframes=3, x264_params="open-gop=1")
    add("3gp h263", _whole, "h263", "3gp", size=(176, 144))
    for count in (1, 2, 3, 7, 31):
        for form, codec in (
            ("mp4", "libx264"),
            ("mpeg", "mpeg1video"),
            ("mpeg", "mpeg2video"),
            ("webm", "libvpx"),
            ("avi", "mpeg4"),
        ):
            add(f"{form} {codec} of {count}", _whole, codec, form, count)
    for form, codec in (("matroska", "libx264"), ("webm", "libvpx"), ("webm", "libvpx-vp9"), ("matroska", "mpeg4")):
        add(f"{form} {codec} piped", _whole, codec, form, piped=True)
        add(f"{form} {codec} live", _whole, codec, form, piped=True, muxing={"live": "1"})
    for flags in (
        "frag_keyframe+empty_moov",
        "frag_every_frame+empty_moov+default_base_moof",
        "dash+frag_keyframe",
    ):
        add(f"mp4 h264 {flags}", _later, {"movflags": flags})
    add("mp4 h264 no edit list", _later, {"use_editlist": "0"})
    add("m2ts h264", _whole, "libx264", "mpegts", bframes=2, muxing={"mpegts_m2ts_mode": "1"})
    for form in ("mpegts", "asf", "mpeg", "matroska", "avi"):
        add(
            f"{form} with audio",
            _whole,
            {"mpegts": "libx264", "asf": "wmv2", "mpeg": "mpeg2video"}.get(form, "mpeg4"),
            form,
            audio=True,
        )
    for first in (5, 12, 17):  # within the first group, at a key frame, within a later group
        for name, codec, options in (
            ("h264", "libx264", {"bframes": 2}),
            ("h264 open-groups", "libx264", {"bframes": 3, "x264_params": "open-gop=1"}),
            ("h265 open-groups", "libx265", _H265["open-groups"]),
            ("mpeg4", "mpeg4", {"bframes": 2}),
        ):
            add(f"mp4 {name} trimmed at {first}", _trimmed, codec, "mp4", first, **options)
        add(f"mov h264 trimmed at {first}", _trimmed, "libx264", "mov", first, bframes=2)
        add(f"matroska h264 trimmed at {first}", _trimmed, "libx264", "matroska", first, bframes=2)
    for form, codec in (
        ("mp4", "libx264"),
        ("matroska", "libx264"),
        ("webm", "libvpx"),
        ("mp4", "mpeg4"),
        ("asf", "wmv2"),
        ("flv", "flv"),
    ):
        add(f"{form} {codec} of variable rate", _rated, codec, form, [0, 1, 2, 10, 11, 30, 31, 32, 33, 60, 61, 90])
    add(
        "matroska h264 of negative start",
        _trimmed,
        "libx264",
        "matroska",
        12,
        bframes=2,
        shift=-5,
    )
    for name, matrix, turns in (("right", (0, 1, -1, 0), 3), ("over", (-1, 0, 0, -1), 2), ("left", (0, -1, 1, 0), 1)):
        add(f"mp4 h264 turned {name}", _turned, matrix, turns)
    for lost in (40, 100):
        add(f"mpegts libx264 without its first {lost} packets", _cut, "libx264", "mpegts", lost, bframes=2)
        add(f"mpegts mpeg2video without its first {lost} packets", _cut, "mpeg2video", "mpegts", lost, bframes=2)
    return kinds


KINDS = _kinds()
"""Name → what makes the file."""
