"""Videos that are damaged, lie or are odd: the right frames or a named error, and the good ones beside them come through."""

import io
import random
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from tests.inputs.test_videos import damaged
from tests.inputs.video_files import KINDS, encoded, number_of, pattern
from zoo.errors import InputError
from zoo.inputs.containers import look
from zoo.inputs.kinds import kind_of
from zoo.inputs.video import load_video

av = pytest.importorskip("av", reason="videos need PyAV (extra 'video')")


def kind(name: str) -> bytes:
    return KINDS[name]().data


def part(name: str, share: float) -> bytes:
    """The beginning of a file."""
    data = kind(name)
    return data[: int(share * len(data))]


def patched(data: bytes, after: bytes, at: int, value: bytes) -> bytes:
    """A file with other bytes at some place after a word."""
    place = data.index(after) + at
    return data[:place] + value + data[place + len(value) :]


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + name + body


def all_times_alike(name: str) -> bytes:
    """MPEG-TS whose frames are all shown at once, as some recorders have it."""
    target = io.BytesIO()
    with av.open(io.BytesIO(kind(name))) as source, av.open(target, "w", format="matroska") as container:
        stream = source.streams.video[0]
        copy = container.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size:
                packet.pts = packet.dts = 0
                packet.stream = copy
                container.mux(packet)
    return target.getvalue()


def without_key_frames() -> bytes:
    """Frames that are all made of one that is not there."""
    target = io.BytesIO()
    with (
        av.open(io.BytesIO(kind("mp4 h264 one-group"))) as source,
        av.open(target, "w", format="matroska") as container,
    ):
        stream = source.streams.video[0]
        copy = container.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size and not packet.is_keyframe:
                packet.stream = copy
                container.mux(packet)
    return target.getvalue()


def alone(form: str, codec: str = "aac") -> bytes:
    """Audio without a video."""
    target = io.BytesIO()
    with av.open(target, "w", format=form) as container:
        stream = container.add_stream(codec, rate=48000, layout="mono", bit_rate=64000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 48000), np.int16), "s16", "mono")
        samples.sample_rate = 48000
        for resampled in av.AudioResampler(stream.codec_context.format, "mono", 48000).resample(samples):
            container.mux(stream.encode(resampled))
        container.mux(stream.encode(None))
    return target.getvalue()


ALL = list(range(40))
MP4 = "mp4 h264 b-frames"
TEN_HOURS = struct.pack(">I", 36_000_000)
# Name → (file, the code of the error or the numbers of the frames; a function of these where several are right).
CASES: dict[str, tuple[Callable[[], bytes], str | list[int] | Callable[[list[int]], bool]]] = {
    "zero bytes": (lambda: b"", "not-media"),
    "head of an MP4": (lambda: box(b"ftyp", b"isom" + bytes(8)), "corrupt-video"),
    "MP4 without moov": (lambda: kind(MP4)[: kind(MP4).index(b"moov") - 4], "corrupt-video"),
    "MP4 cut in its moov": (lambda: kind(MP4)[: kind(MP4).index(b"stsz") + 40], "corrupt-video"),
    "MP4 whose frames are gone": (lambda: patched(kind(MP4), b"stco", 12, b"\x7f\xff\0\0"), "corrupt-video"),
    "MP4 of no frames": (lambda: patched(kind(MP4), b"stsz", 12, bytes(4)), "corrupt-video"),
    "MP4 of four billion frames": (lambda: patched(kind(MP4), b"stsz", 12, b"\xff" * 4), "corrupt-video"),
    "MP4 fragments, the last cut off": (lambda: part("mp4 h264 frag_keyframe+empty_moov", 0.6), "corrupt-video"),
    "MP4 of a codec that nobody knows": (lambda: patched(kind(MP4), b"avc1\0", 0, b"zoo1"), "corrupt-video"),
    "MP4 that is encrypted": (lambda: patched(kind(MP4), b"avc1\0", 0, b"encv"), "corrupt-video"),
    "MP4 that promises ten hours": (lambda: patched(kind(MP4), b"mvhd", 20, TEN_HOURS), ALL),
    "MP4 whose track promises ten hours": (lambda: patched(kind(MP4), b"mdhd", 20, TEN_HOURS), ALL),
    "MP4 that says it is huge": (lambda: patched(kind(MP4), b"avc1\0", 28, b"\xff\xff\xff\xff"), "video-too-large"),
    "MP4 that says it is tiny": (lambda: patched(kind(MP4), b"avc1\0", 28, b"\0\x10\0\x10"), ALL),
    "MP4 with a box of no end": (lambda: kind(MP4) + box(b"free", b"")[:4] + b"\xff\xff\xff\xff", ALL),
    "MP4 with a second moov": (lambda: kind(MP4) + kind(MP4)[kind(MP4).index(b"moov") - 4 :], ALL),
    "MP4 and rubbish": (lambda: kind(MP4) + bytes(range(256)) * 400, ALL),
    "MP4 of rubbish": (lambda: box(b"ftyp", b"isom" + bytes(8)) + bytes(range(256)) * 400, "corrupt-video"),
    "WebM of rubbish": (lambda: kind("webm libvpx")[:200] + bytes(range(1, 256)) * 400, "corrupt-video"),
    "TS of rubbish": (lambda: b"".join(b"\x47" + bytes(range(187)) for _ in range(500)), "corrupt-video"),
    "AVI of rubbish": (lambda: kind("avi mpeg4")[:300] + bytes(range(256)) * 400, "corrupt-video"),
    "ASF of rubbish": (lambda: kind("asf wmv2")[:60] + bytes(range(256)) * 400, "corrupt-video"),
    "FLV of rubbish": (lambda: b"FLV\x01\x05\0\0\0\x09" + bytes(range(256)) * 400, "corrupt-video"),
    "MPEG of rubbish": (lambda: b"\0\0\x01\xba" + bytes(range(256)) * 400, "corrupt-video"),
    "sequence header alone": (lambda: kind("mpeg2video mpeg2video")[:12], "corrupt-video"),
    "Ogg of rubbish": (lambda: b"OggS\0\x02" + bytes(20) + b"\x01\x2a\x80theora" + bytes(500), "corrupt-video"),
    **{
        f"{name} cut off": (
            lambda name=name: part(name, 0.6),
            # The last one may be shown later than some that are gone.
            lambda shown: shown[:-1] == ALL[: len(shown) - 1] and shown[-1] in ALL and 10 < len(shown) < 40,
        )
        for name in (
            "webm libvpx",
            "matroska libx264 b-frames",
            "mpegts libx264",
            "mpeg mpeg1video",
            "avi mpeg4",
            "flv flv",
        )
    },
    "AVI without its index": (lambda: part("avi mpeg4", 0.99), lambda shown: shown in (ALL, ALL[:39])),
    "WebM that promises ten hours": (
        lambda: patched(kind("webm libvpx"), b"\x44\x89\x88", 3, struct.pack(">d", 3.6e7)),
        ALL,
    ),
    "AVI of a billion frames a second": (
        lambda: patched(kind("avi mpeg4"), b"strh", 28, struct.pack("<II", 1, 10**9)),
        ALL,
    ),
    "AVI of no rate": (lambda: patched(kind("avi mpeg4"), b"strh", 28, bytes(8)), lambda shown: shown == ALL),
    "all frames at one time": (lambda: all_times_alike("mp4 h264 baseline"), ALL),
    "no key frame": (without_key_frames, "corrupt-video"),
    "two broadcasts joined": (lambda: kind("mpegts libx264 b-frames") * 2, ALL * 2),
    "two program streams joined": (lambda: kind("mpeg mpeg2video b-frames") * 2, ALL * 2),
    "two sizes joined": (
        lambda: kind("mpegts mpeg2video") + encoded("mpeg2video", "mpegts", size=(320, 192)),
        lambda shown: shown[:40] == ALL and len(shown) == 80,
    ),
    "one pixel high": (lambda: encoded("png", "mov", [1], size=(160, 1)), lambda shown: len(shown) == 1),
    "audio in MP4": (lambda: alone("mp4"), "not-media"),
    "audio in Matroska": (lambda: alone("matroska"), "not-media"),
    "audio in MPEG-TS": (lambda: alone("mpegts"), "not-media"),
    "audio in WMA": (lambda: alone("asf", "wmav2"), "not-media"),
}


def outcome(data: bytes) -> str | list[int]:
    """The numbers of the frames, or the code of the error."""
    try:
        return [number_of(frame) for frame in load_video(data, frames=100).frames]
    except InputError as error:
        return error.code


@pytest.mark.parametrize("name", CASES)
def test_the_right_frames_or_a_named_error(name: str):
    make, expected = CASES[name]
    found = outcome(make())
    assert expected(found) if callable(expected) else found == expected, found


def test_good_ones_come_through_between_the_bad():
    bad = [make() for make, expected in CASES.values() if expected == "corrupt-video"][::3]
    good = kind(MP4)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(outcome, [video for one in bad for video in (one, good)]))
    assert found[::2] == ["corrupt-video"] * len(bad)
    assert found[1::2] == [ALL] * len(bad)


def test_a_change_of_size_is_scaled_to_the_first():
    video = load_video(CASES["two sizes joined"][0](), frames=80)
    small = np.asarray(Image.fromarray(pattern(7, 320, 192)).resize((160, 96), Image.Resampling.BILINEAR))
    assert video.frames.shape == (80, 96, 160, 3)
    assert np.abs(video.frames[47].astype(int) - small).mean() < 8
    assert np.abs(video.frames[40].astype(int) - small).mean() > 8


@pytest.mark.parametrize("codec", ["png", "qtrle"])
def test_what_is_transparent_is_composited_on_white(codec: str):
    target = io.BytesIO()
    pixels = np.dstack([pattern(5), np.tile(np.linspace(0, 255, 160).astype(np.uint8), (96, 1))])
    with av.open(target, "w", format="mov") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "rgba" if codec == "png" else "argb"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgba")))
        container.mux(stream.encode(None))
    alpha = pixels[..., 3:] / 255.0
    expected = pixels[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(load_video(target.getvalue()).frames[0] - expected).max() <= 1.01


# ---- What the head of a file says.

HEADS = (
    "mp4 h264 audio",
    "matroska libx264",
    "avi with audio",
    "mpeg with audio",
    "mpegts with audio",
    "m2ts h264",
    "flv flv",
)
HEADS += ("asf with audio", "mpeg2video mpeg2video")
AUDIO = (
    ("mp4", "aac"),
    ("mov", "aac"),
    ("3gp", "aac"),
    ("matroska", "aac"),
    ("webm", "libopus"),
    ("asf", "wmav2"),
    ("ogg", "libopus"),
)
AUDIO += (("mpegts", "aac"), ("flv", "aac"), ("mpeg", "mp2"), ("avi", "mp2"))


@pytest.mark.parametrize("name", HEADS)
def test_the_size_stands_in_the_head(name: str):
    found = look(io.BytesIO(kind(name)), name)
    assert found.tracks == ({"video", "audio"} if "audio" in name else {"video"})
    assert found.size in ((160, 96), None)
    assert found.size is not None or found.form in ("mpeg", "mpegts", "flv")


@pytest.mark.parametrize(("form", "codec"), AUDIO)
def test_a_container_of_audio_alone_is_audio(form: str, codec: str, tmp_path):
    data = alone(form, codec)
    (tmp_path / "any.mp4").write_bytes(data)
    assert kind_of(data) == kind_of(tmp_path / "any.mp4") == "audio"


@pytest.mark.parametrize(
    "text",
    [
        b"The free world is wide",
        b"sum skip it",
        b"GGGGGG" * 300,
        b"Make mdata",
        b"RIFF1234AVI",
        b"OggSomething",
        b"FLV?",
    ],
)
def test_a_text_is_no_video(text: bytes):
    with pytest.raises(InputError) as caught:
        load_video(text)
    assert caught.value.code in ("not-media", "corrupt-video")


def test_changed_heads_are_read_without_an_error_of_another_kind():
    dice = random.Random(7)
    seen = set()
    for name in HEADS:
        data = kind(name)[:6000] + kind(name)[-3000:]
        for _ in range(60):
            changed = bytearray(data[: dice.choice((8, 40, 300, 9000))])
            for _ in range(dice.randrange(1, 12)):
                changed[dice.randrange(min(len(changed), 700))] = dice.choice((0, 1, 0x7F, 0xFF, dice.randrange(256)))
            try:
                seen.add(look(io.BytesIO(changed), name).tracks)
            except InputError as error:
                seen.add(error.code)
    assert {frozenset(), frozenset({"video"}), frozenset({"video", "audio"}), "not-media"} <= seen


@pytest.mark.slow
def test_changes_of_every_kind_are_frames_or_named_errors():
    dice = random.Random(11)
    names = [name for name in KINDS if " of " not in name]
    codes: set[str] = set()
    for name in dice.sample(names, 100):
        for _ in range(5):
            try:
                video = load_video(damaged(kind(name), dice.randrange(10**9)), frames=dice.choice((1, 3, 64)))
            except InputError as error:
                codes.add(error.code)
            else:
                assert len(video.frames) == len(video.indices) == len(video.seconds) >= 1
                assert (np.diff(video.indices) > 0).all()
                assert np.isnan(video.seconds).all() or ((np.diff(video.seconds) > 0).all() and video.seconds[0] >= 0)
    assert "corrupt-video" in codes <= {"corrupt-video", "video-too-large", "not-media"}
