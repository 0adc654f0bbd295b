"""Videos of every kind: each frame that is taken is the one that it is said to be, at the time when a player shows it."""

import io
import shlex
import subprocess

import numpy as np
import pytest

from tests.inputs.video_files import KINDS, Made, encoded, number_of, pattern
from zoo.errors import CorruptVideoError, NoFramesError, UnsupportedInputError
from zoo.inputs.kinds import kind_of
from zoo.inputs.video import Video, load_video

av = pytest.importorskip("av", reason="videos need PyAV (extra 'video')")

QUICK = (
    "mp4 h264 b-pyramid",
    "mp4 h264 open-groups",
    "mp4 h264 refresh",
    "mp4 h264 444-odd-size",
    "mp4 libsvtav1",
    "mp4 h264 open-groups trimmed at 17",
    "mp4 h264 frag_keyframe+empty_moov",
    "mp4 libx264 of variable rate",
    "mov rpza",
    "webm libvpx piped",
    "avi libx264 b-frames",
    "avi mpeg4 packed",
    "matroska h264 of negative start",
    "svcd mpeg2video b-frames",
    "mpeg2video mpeg2video",
    "mpeg mpeg1video of 1",
    "mpegts mpeg2video without its first 40 packets",
    "m2ts h264",
    "flv flv",
    "asf wmv2",
    "3gp h263",
)


def numbers(video: Video, made: Made) -> list[int]:
    """What the frames show."""
    return [number_of(np.rot90(frame, -made.turns)) for frame in video.frames]


def decoded(data: bytes) -> list[np.ndarray]:
    """All frames as PyAV gives them one after the other."""
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in KINDS])
def test_every_frame_is_the_one_that_it_is_said_to_be(name: str):
    made = KINDS[name]()
    expected = decoded(made.data)
    shown = made.shown or [number_of(frame) for frame in expected]
    whole = load_video(made.data, frames=64)
    assert kind_of(made.data) == "video"
    assert numbers(whole, made) == shown
    assert whole.total == len(shown)
    assert whole.indices.tolist() == list(range(len(shown)))
    assert np.array_equal(np.rot90(whole.frames, -made.turns, (1, 2)), expected)
    times = whole.seconds if made.shown else whole.seconds - whole.seconds[0]
    np.testing.assert_allclose(times, made.seconds or np.arange(len(shown)) / made.rate, atol=0.002)
    assert not made.rate or whole.fps == pytest.approx(made.rate, abs=0.01)
    for frames in (1, 3, 8):
        some = load_video(made.data, frames=frames)
        assert np.array_equal(some.frames, whole.frames[some.indices])
        assert np.array_equal(some.seconds, whole.seconds[some.indices])


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_another_build_of_ffmpeg_reads_the_same(name: str, tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="FFmpeg as a program is not installed").get_ffmpeg_exe()
    made = KINDS[name]()
    (tmp_path / "video").write_bytes(made.data)
    command = [ffmpeg, "-loglevel", "error", "-i", tmp_path / "video", "-map", "0:v:0", "-fps_mode", "passthrough"]
    command += ["-sws_flags", "bilinear", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    answer = subprocess.run(command, capture_output=True, check=True)
    video = load_video(made.data, frames=64)
    assert len(answer.stdout) == video.frames.size
    other = np.frombuffer(answer.stdout, np.uint8).reshape(video.frames.shape)
    if any(word in name for word in ("interlaced", "10-bit")):  # colours between pixels are put in by other rules
        assert np.abs(other.astype(int) - video.frames).mean() < 2
    else:
        assert np.array_equal(other, video.frames)


@pytest.mark.parametrize(
    ("name", "starts"),
    [
        *(
            (name, [0, 12, 24, 36])
            for name in ("mp4 libsvtav1", "webm libvpx-vp9", "flv flv", "avi msmpeg4", "asf wmv2", "mpegts mpeg4")
        ),
        ("mov rpza", [0]),
    ],
)
def test_only_what_a_frame_needs_is_decoded(name: str, starts: list[int], monkeypatch: pytest.MonkeyPatch):
    from zoo.inputs import tracks
    from zoo.inputs.containers import look
    from zoo.inputs.sampling import Choice
    from zoo.inputs.video import _bounds

    runs: list[int] = []
    decoded = tracks.VideoFile._decoded
    monkeypatch.setattr(
        tracks.VideoFile, "_decoded", lambda self, first, *a, **k: runs.append(first) or decoded(self, first, *a, **k)
    )
    data = KINDS[name]().data
    video = tracks.VideoFile(io.BytesIO(data), look(io.BytesIO(data), name).form, _bounds(), name)
    taken = next(video.attempts(lambda shown: Choice(4).indices(*shown, name)))
    assert [number_of(frame) for frame in taken.frames] == [0, 13, 26, 39]
    assert runs == starts


# ---- What FFmpeg as a program writes, and PyAV does not: two passes, hidden frames, cuts as editors make them.

WRITTEN = {
    "hidden frames of VP8": (
        "webm",
        "-c:v libvpx -auto-alt-ref 1 -lag-in-frames 25 -b:v 200k -deadline good -cpu-used 4",
        2,
    ),
    "hidden frames of VP9": (
        "webm",
        "-c:v libvpx-vp9 -auto-alt-ref 6 -lag-in-frames 25 -b:v 200k -deadline good -cpu-used 4",
        2,
    ),
    "hidden frames of AV1": ("mp4", "-c:v libaom-av1 -cpu-used 8 -lag-in-frames 25 -b:v 200k", 1),
    "Theora": ("ogv", "-c:v libtheora -q:v 7", 1),
    "layers of time": ("mp4", "-c:v libx265 -preset ultrafast -x265-params temporal-layers=3:bframes=3:b-pyramid=1", 1),
    "23.976 a second": ("mov", "-c:v libx264 -bf 3 -video_track_timescale 24000", 1),
    "fields of MPEG-2": ("mpg", "-c:v mpeg2video -flags +ildct+ilme -bf 2 -q:v 3", 1),
    "no start in MPEG-TS": ("ts", "-c:v libx264 -bf 3 -output_ts_offset 30000", 1),
    "soft change of rate": ("mkv", "-c:v libx264 -bf 2 -vf 'setpts=N/25/TB+gt(N\\,20)*0.5/TB' -fps_mode vfr", 1),
    "a cut in MP4": ("mp4", "-c:v libx264 -bf 3 -g 12", 1, "-ss 0.7 -c copy"),
    "a cut in MP4 with open groups": ("mp4", "-c:v libx264 -bf 3 -g 12 -x264-params open-gop=1", 1, "-ss 0.7 -c copy"),
    "a cut in MKV": ("mkv", "-c:v libx264 -bf 3 -g 12", 1, "-ss 0.7 -c copy"),
    "a cut in MPEG-TS": ("ts", "-c:v mpeg2video -bf 2 -g 12", 1, "-ss 0.7 -c copy"),
    "turned by its head": ("mp4", "-c:v libx264", 1, "-c copy", "-display_rotation 90"),
    "mirrored by its head": ("mp4", "-c:v libx264", 1, "-c copy", "-display_hflip"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITTEN)
def test_what_ffmpeg_writes(name: str, tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="FFmpeg as a program is not installed").get_ffmpeg_exe()
    form, coding, passes, *copying = WRITTEN[name]
    rate = "24000/1001" if "23.976" in name else "25"
    frames = b"".join(pattern(number).tobytes() for number in range(120))

    def run(*arguments: str, given: bytes = b"") -> bytes:
        command = [ffmpeg, "-y", "-loglevel", "error", *arguments]
        return subprocess.run(command, input=given, capture_output=True, check=True, cwd=tmp_path).stdout

    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "160x96", "-r", rate, "-i", "-")
    for number in range(passes):
        two = ("-pass", str(number + 1)) if passes > 1 else ()
        run(*raw, "-pix_fmt", "yuv420p", *shlex.split(coding), *two, f"first.{form}", given=frames)
    if copying:
        before = shlex.split(" ".join(copying[1:]))
        run(*before, "-i", f"first.{form}", *shlex.split(copying[0]), f"second.{form}")
    path = tmp_path / f"{'second' if copying else 'first'}.{form}"
    shown = run(
        "-i",
        path.name,
        "-map",
        "0:v:0",
        "-fps_mode",
        "passthrough",
        "-sws_flags",
        "bilinear",
        "-pix_fmt",
        "rgb24",
        "-f",
        "rawvideo",
        "-",
    )
    whole = load_video(path, frames=200)
    other = np.frombuffer(shown, np.uint8).reshape(-1, *whole.frames.shape[1:])
    assert whole.total == len(other) == len(whole.frames)
    assert np.abs(other.astype(int) - whole.frames).mean((1, 2, 3)).max() < (3 if "fields" in name else 0.001)
    assert (np.diff(whole.seconds) > 0).all()
    if "change" not in name:
        np.testing.assert_allclose(
            whole.seconds - whole.seconds[0],
            np.arange(len(other)) * (1001 / 24000 if "23.976" in name else 0.04),
            atol=0.002,
        )
    some = load_video(path, frames=7)
    assert np.array_equal(some.frames, whole.frames[some.indices])


# ---- Segments and key frames.


@pytest.mark.parametrize("name", ["mp4 h264 open-groups", "mpegts libx264 b-frames"])
@pytest.mark.parametrize("start", [0.0, 0.36, 0.5, 1.2])
def test_frames_of_a_segment(name: str, start: float):
    made = KINDS[name]()
    part = load_video(made.data, frames=64, start=start, seconds=0.4)
    first = int(np.ceil(start * 25 - 1e-6))
    assert numbers(part, made) == list(range(first, min(first + 10, 40)))
    assert part.indices.tolist() == numbers(part, made)
    assert part.total == 40
    np.testing.assert_allclose(part.seconds, part.indices / 25, atol=1e-6)
    two = load_video(made.data, frames=2, start=start, seconds=0.4)
    assert two.indices.tolist() == [part.indices[0], part.indices[-1]]


def test_seconds_one_after_the_other_are_the_whole():
    made = KINDS["mp4 libx264 of variable rate"]()
    shown = [0, 1, 2, 10, 11, 30, 31, 32, 33, 60, 61, 90]
    seen = [load_video(made.data, frames=64, start=second, seconds=1.0).indices.tolist() for second in range(4)]
    assert seen == [[n for n, time in enumerate(shown) if time // 25 == second] for second in range(4)]
    # Between two frames that are far apart, the one that is shown meanwhile.
    assert load_video(made.data, start=0.5, seconds=0.2).indices.tolist() == [4]


def test_segments_that_are_none():
    made = KINDS["mp4 h264 baseline"]()
    with pytest.raises(NoFramesError, match=r"ends at 1\.600 s, and a segment from 2 s"):
        load_video(made.data, start=2.0)
    with pytest.raises(UnsupportedInputError, match="has no times"):
        load_video(np.zeros((4, 8, 8, 3), np.uint8), start=1.0)
    for wrong in ({"start": -1.0}, {"seconds": -0.1}, {"start": float("nan")}, {"seconds": float("inf")}):
        with pytest.raises(ValueError, match="a segment of a video starts at"):
            load_video(made.data, **wrong)


@pytest.mark.parametrize(("name", "step"), [("mp4 h264 b-frames", 12), ("avi mpeg4 b-frames", 12), ("mp4 mjpeg", 1)])
def test_key_frames(name: str, step: int):
    made = KINDS[name]()
    expected = [frame for frame in range(40) if frame % step == 0]
    with av.open(io.BytesIO(made.data)) as container:
        stream = container.streams.video[0]
        stream.codec_context.skip_frame = "NONKEY"
        alone = [number_of(frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
    video = load_video(made.data, frames=64, sampling="keyframes")
    assert numbers(video, made) == alone
    if step == 1 or name.startswith("avi"):
        assert alone == expected
    assert load_video(made.data, frames=2, sampling="keyframes").indices.tolist() == [alone[0], alone[-1]]
    part = load_video(made.data, frames=64, sampling="keyframes", start=0.04, seconds=0.08)
    assert numbers(part, made) == ([1, 2] if step == 1 else [1])  # no key frame in it: its first frame


def test_a_rate_of_key_frames_is_refused():
    with pytest.raises(ValueError, match="key frames stand where they stand"):
        load_video(b"", fps=1.0, sampling="keyframes")
    with pytest.raises(ValueError, match="sampling is one of uniform, steps, keyframes, not 'every'"):
        load_video(b"", sampling="every")


def test_key_frames_of_what_has_no_others():
    pixels = np.arange(9 * 4 * 4 * 3, dtype=np.uint8).reshape(9, 4, 4, 3)
    assert load_video(pixels, frames=3, sampling="keyframes").indices.tolist() == [0, 4, 8]


# ---- Files larger than what is kept of one: demuxed again, with seeking.


@pytest.mark.parametrize("far", [0, 2**40])
@pytest.mark.parametrize(
    "name",
    [
        "mp4 h264 open-groups",
        "matroska libx264 b-frames",
        "mp4 h264 open-groups trimmed at 17",
        "mpeg mpeg2video b-frames",
        "mpegts libx264 b-frames",
        "mpegts with audio",
        "svcd mpeg2video b-frames",
        "webm libvpx",
    ],
)
def test_what_is_not_kept_is_demuxed_again(name: str, far: int, monkeypatch: pytest.MonkeyPatch):
    from zoo.inputs import packets, tracks
    from zoo.inputs.containers import look
    from zoo.inputs.sampling import Choice
    from zoo.inputs.video import _bounds

    made = KINDS[name]()
    monkeypatch.setattr(packets, "_KEPT", 0)
    monkeypatch.setattr(tracks, "_FAR", far)
    file = io.BytesIO(made.data)
    video = tracks.VideoFile(file, look(file, name).form, _bounds(), name)
    for frames in (1, 3, 64, 2):
        taken = next(video.attempts(lambda shown, frames=frames: Choice(frames).indices(*shown, name)))
        assert np.array_equal(np.stack(list(taken.frames)), load_video(made.data, frames=frames).frames)


def test_a_long_video_is_known_again_and_not_after_it_changed(monkeypatch: pytest.MonkeyPatch, tmp_path):
    from dataclasses import asdict

    from zoo.inputs import decoding
    from zoo.inputs.sampling import Choice
    from zoo.inputs.video import _bounds

    monkeypatch.setattr(decoding, "_LONG", 10)
    looked: list[str] = []
    scanned = decoding.VideoFile._scanned
    monkeypatch.setattr(decoding.VideoFile, "_scanned", lambda self: looked.append(self.name) or scanned(self))
    path = tmp_path / "video"

    def seen(name: str, **choice: float) -> list[int]:
        with path.open("rb") as file:
            answer = decoding.decoded(file.fileno(), name, "mov", asdict(Choice(**choice)), None, asdict(_bounds()))
            return [number_of(frame) for facts, frame in answer if not facts]

    path.write_bytes(encoded("libx264", "mp4", range(40), bframes=2))
    assert seen("first", frames=3) == [0, 19, 39]
    assert seen("again", frames=64, start=0.4, seconds=0.2) == [10, 11, 12, 13, 14]
    assert seen("back", frames=1) == [0]
    assert looked == ["first"]
    path.write_bytes(encoded("libx264", "mp4", range(100, 140), bframes=2))
    assert seen("changed", frames=2) == [100, 139]
    assert looked == ["first", "changed"]
    path.write_bytes(KINDS["mp4 h264 baseline"]().data[:9000])
    with pytest.raises(CorruptVideoError):
        seen("cut")
    path.write_bytes(encoded("libx264", "mp4", range(40)))
    assert seen("whole again", frames=1) == [0]
    decoding._known.clear()


@pytest.mark.parametrize("promised", [0, 1, 4, 5])
def test_tracks_of_flv_are_found_whatever_its_head_promises(promised: int) -> None:
    from zoo.inputs.containers import look

    tag = lambda kind: bytes([kind, 0, 0, 5, *[0] * 7, *b"frame", 0, 0, 0, 16])  # noqa: E731
    head = b"FLV\1" + bytes([promised]) + (9).to_bytes(4, "big") + bytes(4)
    for first, second in ((8, 9), (9, 8)):
        data = head + tag(18) + 10 * tag(first) + tag(second)
        assert look(io.BytesIO(data), "a.flv").tracks == {"audio", "video"}
    late = head + 150 * tag(9) + tag(8)  # a player that trusts the head waits no longer for it
    assert look(io.BytesIO(late), "a.flv").tracks == (
        {"video", "audio"} if promised & 4 or not promised & 1 else {"video"}
    )
