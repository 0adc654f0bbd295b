"""Videos: which frames are taken, that they are the right ones, every form of a video, every damage a named error."""

import io
import math
import random
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import zoo
import zoo.inputs.video
from zoo.errors import (
    CorruptVideoError,
    InputError,
    MissingFileError,
    MissingPackageError,
    NotMediaError,
    UnsupportedInputError,
    VideoTooLargeError,
)
from zoo.inputs.hashing import item_key
from zoo.inputs.sampling import SAMPLINGS, Sampling, frame_indices
from zoo.inputs.video import Video, load_video
from zoo.strangers.confined import Confined

pytest.importorskip("av", reason="videos need PyAV (extra 'video')")


def numbered(count: int, height: int = 6, width: int = 10) -> np.ndarray:
    """Frames `(count, height, width, 3)`, no two alike: red and green hold the number, blue the place."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[..., 0] = (np.arange(count) % 256)[:, None, None]
    frames[..., 1] = (np.arange(count) // 256 * 40)[:, None, None]
    frames[..., 2] = np.arange(height * width).reshape(height, width)
    return frames


def avi(frames: np.ndarray, fps: int = 10) -> bytes:
    """An AVI video without compression, so that its pixels are known exactly."""
    count, height, width, _ = frames.shape
    row = (3 * width + 3) // 4 * 4
    rows = np.zeros((count, height, row), np.uint8)
    rows[:, :, : 3 * width] = frames[:, ::-1, :, ::-1].reshape(count, height, -1)  # from the bottom, blue first
    size = row * height

    def chunk(name: bytes, body: bytes) -> bytes:
        return name + struct.pack("<I", len(body)) + body

    main = struct.pack("<14I", 10**6 // fps, 0, 0, 0x10, count, 0, 1, size, width, height, 0, 0, 0, 0)
    stream = b"vids" + struct.pack("<11I4H", 0, 0, 0, 0, 1, fps, 0, count, size, 0, 0, 0, 0, width, height)
    shape = struct.pack("<IiiHH6I", 40, width, height, 1, 24, 0, size, 0, 0, 0, 0)
    listed = chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", shape))
    movie, index = b"movi", b""
    for frame in rows:
        index += struct.pack("<4sIII", b"00db", 0x10, len(movie), size)
        movie += chunk(b"00db", frame.tobytes())
    body = chunk(b"LIST", b"hdrl" + chunk(b"avih", main) + listed) + chunk(b"LIST", movie) + chunk(b"idx1", index)
    return chunk(b"RIFF", b"AVI " + body)


@pytest.fixture(scope="module")
def clips():
    """Rows of real MP4 clips (H.264, 16 frames, 8 a second)."""
    from tests.conftest import data_pack

    return pq.read_table(data_pack("video") / "val.parquet").to_pylist()


# Which frames


@pytest.mark.parametrize("total", [1, 7, 8, 9, 64, 1000])
@pytest.mark.parametrize("source", ["file", "array"])
def test_eight_frames_evenly_spread(total, source, tmp_path):
    pixels = numbered(total)
    if source == "file":
        (tmp_path / "video").write_bytes(avi(pixels))
    video = load_video(tmp_path / "video" if source == "file" else pixels)
    # VLM2Vec: position k of 8 is frame k * (total - 1) / 7, cut; all frames where there are no more than 8.
    expected = [k * (total - 1) // 7 for k in range(8)] if total > 8 else list(range(total))
    assert video.indices.tolist() == expected
    assert video.total == total
    assert np.array_equal(video.frames, pixels[expected])
    assert video.frames.dtype == np.uint8
    if source == "file":
        assert video.fps == pytest.approx(10)
        np.testing.assert_allclose(video.seconds, video.indices / 10, atol=1e-4)
    else:
        assert video.fps == 0
        assert np.isnan(video.seconds).all()


@pytest.mark.parametrize(
    ("total", "rate", "frames", "fps", "count"),
    [
        (1000, 25.0, 64, 1.0, 40),  # 40 seconds
        (1000, 25.0, 32, 1.0, 32),  # cut to the most
        (1000, 25.0, 31, 1.0, 30),  # an even number
        (275, 25.0, 64, 1.0, 10),  # 11 seconds, made even
        (50, 25.0, 64, 1.0, 4),  # never fewer than 4
        (16, 8.0, 64, 2.0, 4),
        (16, 8.0, 64, 100.0, 16),  # no frame twice
        (3, 30.0, 64, 1.0, 2),
        (1, 30.0, 64, 1.0, 1),
        (1000, 25.0, 1, 1.0, 1),
    ],
)
def test_frames_a_second(total, rate, frames, fps, count):
    step = (total - 1) / (count - 1) if count > 1 else 0
    indices = frame_indices(total, frames, fps, rate)
    assert indices.tolist() == [round(k * step) for k in range(count)]


@pytest.mark.parametrize("total", range(1, 40))
def test_no_frame_twice_and_never_more_than_asked(total):
    for frames in range(1, 20):
        for fps in (0.0, 0.5, 3.0):
            indices = frame_indices(total, frames, fps, 7.5)
            assert (np.diff(indices) > 0).all()
            assert 1 <= len(indices) <= frames
            assert indices[0] == 0
            assert indices[-1] < total


def test_a_rate_without_times_is_spread_evenly():
    assert load_video(numbered(100), frames=5, fps=2.0).indices.tolist() == [0, 24, 49, 74, 99]


def test_a_rate_of_a_file():
    video = load_video(avi(numbered(100), fps=10), frames=16, fps=1.0)
    assert video.indices.tolist() == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]


# The right pixels


def test_real_clips_are_what_their_table_says(clips):
    for clip in clips[:20]:
        video = load_video(clip["video"], frames=64)
        assert video.total == len(video.frames) == clip["frames"]
        assert video.fps == pytest.approx(clip["fps"])
        assert video.frames.shape[1:] == (clip["height"], clip["width"], 3)
        np.testing.assert_allclose(video.seconds, np.arange(clip["frames"]) / clip["fps"], atol=1e-3)


def test_real_clips_as_another_decoder_reads_them(clips):
    decord = pytest.importorskip("decord", reason="the second decoder is not installed")
    for clip in clips:
        expected = decord.VideoReader(io.BytesIO(clip["video"]))[:].asnumpy()
        video = load_video(clip["video"], frames=5)
        assert np.array_equal(video.frames, expected[video.indices])


def test_chosen_frames_are_those_of_the_whole_video(clips):
    for clip in clips[:20]:
        whole = load_video(clip["video"], frames=64)
        for frames in (1, 3, 8):
            some = load_video(clip["video"], frames=frames)
            assert np.array_equal(some.frames, whole.frames[some.indices])


@pytest.mark.parametrize("start", [0.0, 0.5])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_way_to_take_frames_is_taken_of_a_file(sampling: Sampling, start: float, clips):
    """Also by the process that decodes, which can open no file and so import nothing that a way would need."""
    fps = 2.0 if sampling == "steps" else 0.0
    whole = load_video(clips[0]["video"], frames=64)
    some = load_video(clips[0]["video"], frames=6, fps=fps, sampling=sampling, start=start, seconds=1.0)
    assert len(some.frames) > 0
    assert np.array_equal(some.frames, whole.frames[some.indices])


def test_frames_change_where_the_clip_moves_and_not_where_it_stands_still(clips):
    moved = {}
    for clip in clips:
        frames = load_video(clip["video"], frames=2).frames.astype(float)
        moved.setdefault(clip["motion"], []).append(np.abs(frames[1] - frames[0]).mean())
    assert max(moved.pop("hold")) < min(map(max, moved.values()))


@pytest.mark.parametrize(
    ("matrix", "turns"), [((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)], ids=["right", "over", "left"]
)
def test_a_turned_video_is_upright(matrix, turns, clips):
    data = clips[0]["video"]
    upright = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    place = data.index(upright, data.index(b"tkhd"))  # of the track, not the video's own
    a, b, c, d = (65536 * value for value in matrix)
    turned = data[:place] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[place + len(upright) :]
    assert np.array_equal(load_video(turned).frames, np.rot90(load_video(data).frames, turns, (1, 2)))


def test_bytes_and_path_are_the_same_video(clips, tmp_path, monkeypatch):
    data = clips[1]["video"]
    paths = [tmp_path / "video.mp4", tmp_path / "without suffix", tmp_path / "b\udcffd.mp4", tmp_path / "concat:a|b"]
    monkeypatch.chdir(tmp_path)
    for path in [*paths, Path("concat:a|b")]:
        path.write_bytes(data)
        for a, b in zip(load_video(path), load_video(data), strict=True):
            assert np.array_equal(a, b)
    assert np.array_equal(load_video(memoryview(data)).frames, load_video(data).frames)


def test_eight_threads_at_once(clips):
    videos = [clip["video"] for clip in clips[:16]]
    alone = [load_video(video).frames for video in videos]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(load_video, videos * 4))
    for position, video in enumerate(together):
        assert np.array_equal(video.frames, alone[position % len(videos)])


# Arrays, lists, animations


def test_layouts_and_ranges_of_arrays():
    pixels = numbered(4, 12, 8)
    expected = load_video(pixels).frames
    channels_first = pixels.transpose(0, 3, 1, 2)
    alpha = np.concatenate([pixels, np.full((4, 12, 8, 1), 255, np.uint8)], -1)
    for source in (
        channels_first,
        torch.from_numpy(pixels),
        torch.from_numpy(channels_first.copy()),
        torch.from_numpy(channels_first / 255).float(),
        torch.from_numpy(channels_first.copy()).to(torch.bfloat16),
        pixels / 255,
        pixels.astype(np.float32),
        pixels.astype(np.uint16) * 257,
        alpha,
    ):
        assert np.array_equal(load_video(source).frames, expected)
    grey = pixels[..., 2:]
    assert np.array_equal(load_video(grey).frames, np.repeat(grey, 3, -1))


def test_a_dark_frame_keeps_the_range_of_its_video():
    video = np.zeros((2, 4, 4, 3), np.float32)
    video[0], video[1] = 1.0, 200.0
    assert load_video(video).frames[:, 0, 0, 0].tolist() == [1, 200]


def test_a_list_of_images(tmp_path):
    pixels = numbered(10)
    Image.fromarray(pixels[9]).save(tmp_path / "9.png")
    png = io.BytesIO()
    Image.fromarray(pixels[4]).save(png, "PNG")
    images = [Image.fromarray(frame) for frame in pixels]
    images[4], images[9], images[0] = png.getvalue(), tmp_path / "9.png", torch.from_numpy(pixels[0])
    video = load_video(images, frames=3)
    assert video.indices.tolist() == [0, 4, 9]
    assert np.array_equal(video.frames, pixels[[0, 4, 9]])
    assert (video.total, video.fps) == (10, 0.0)
    assert np.array_equal(load_video(tuple(images)).frames, load_video(images).frames)


def test_items_of_lists_have_keys():
    pixels = numbered(3)
    videos = [[Image.fromarray(frame) for frame in pixels] for _ in range(2)]
    keys = [item_key(zoo.Item(video=video)) for video in videos]
    assert keys[0] == keys[1]
    assert item_key(zoo.Item(video=videos[0][:2])) != keys[0]
    assert item_key(zoo.Item(video=videos[0][::-1])) != keys[0]
    assert item_key(zoo.Item(video=list(pixels))) != keys[0]


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_animations(form, tmp_path):
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]
    images = [Image.new("RGB", (12, 8), colour) for colour in colours]
    path = tmp_path / "animation"
    images[0].save(path, form, save_all=True, append_images=images[1:], duration=[100, 200, 300, 400], lossless=True)
    video = load_video(path)
    assert video.frames.shape == (4, 8, 12, 3)
    assert np.abs(video.frames[:, 0, 0].astype(int) - colours).max() <= 3
    np.testing.assert_allclose(video.seconds, [0, 0.1, 0.3, 0.6])
    assert video.fps == pytest.approx(4)
    two = load_video(path.read_bytes(), frames=2)
    assert two.indices.tolist() == [0, 3]
    assert np.array_equal(two.frames, video.frames[[0, 3]])


def test_an_image_is_a_video_of_one_frame():
    png = io.BytesIO()
    Image.fromarray(numbered(1)[0]).save(png, "PNG")
    video = load_video(png.getvalue())
    assert np.array_equal(video.frames, numbered(1))
    assert video.fps == 0


# Errors


def wav() -> bytes:
    return b"RIFF" + struct.pack("<I", 44) + b"WAVEfmt " + bytes(60)


def mp4_head() -> bytes:
    return struct.pack(">I", 24) + b"ftypisom" + bytes(12)


ERRORS = {
    "string": (lambda folder: "video.mp4", "unsupported-type"),
    "number": (lambda folder: 7, "unsupported-type"),
    "missing": (lambda folder: folder / "gone.mp4", "missing-file"),
    "folder": (lambda folder: folder, "missing-file"),
    "empty": (lambda folder: b"", "not-media"),
    "text": (lambda folder: b"just words", "not-media"),
    "audio": (lambda folder: wav(), "not-media"),
    "head alone": (lambda folder: mp4_head(), "corrupt-video"),
    "half a video": (lambda folder: avi(numbered(20))[:300], "corrupt-video"),
    "no frames": (lambda folder: numbered(0), "invalid-pixels"),
    "empty list": (lambda folder: [], "invalid-pixels"),
    "one image": (lambda folder: numbered(1)[0], "invalid-pixels"),
    "five dimensions": (lambda folder: numbered(4)[None], "invalid-pixels"),
    "two channels": (lambda folder: numbered(4)[..., :2], "invalid-pixels"),
    "NaN": (lambda folder: np.full((2, 4, 4, 3), math.nan), "invalid-pixels"),
    "negative": (lambda folder: -numbered(2).astype(np.float32), "invalid-pixels"),
    "sizes differ": (lambda folder: [numbered(1)[0], numbered(1, 8, 8)[0]], "invalid-pixels"),
    "missing image": (lambda folder: [numbered(1)[0], folder / "gone.png"], "missing-file"),
    "string in a list": (lambda folder: ["0001.png"], "unsupported-type"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name, tmp_path):
    make, code = ERRORS[name]
    with pytest.raises(InputError) as caught:
        load_video(make(tmp_path))
    assert caught.value.code == code
    assert len(str(caught.value)) > 15


def test_errors_say_where(tmp_path):
    with pytest.raises(InputError, match=r"frame 1 has 8x8 pixels and frame 0 10x6"):
        load_video([numbered(1)[0], numbered(1, 8, 8)[0]])
    with pytest.raises(MissingFileError, match=r"frame 1 of the video: .*gone\.png"):
        load_video([numbered(1)[0], tmp_path / "gone.png"])
    with pytest.raises(UnsupportedInputError, match=r"'a\.mp4'; pass pathlib\.Path"):
        load_video("a.mp4")
    with pytest.raises(InputError, match=r"^the clip is damaged"):
        load_video(avi(numbered(20))[:300], name="the clip")


def test_more_than_two_gibibytes(tmp_path):
    path = tmp_path / "long.mp4"
    with path.open("wb") as file:
        file.write(mp4_head())
        file.truncate(2**31 + 1)  # a hole: no room on the disk
    with pytest.raises(InputError, match=r"2\.0 GiB; at most 2"):
        load_video(path)


@pytest.mark.parametrize("form", ["video", "animation"])
def test_large_frames(form, monkeypatch):
    monkeypatch.setattr(zoo.inputs.video, "MAX_PIXELS", 59)
    source = avi(numbered(3))
    if form == "animation":
        out = io.BytesIO()
        Image.fromarray(numbered(1)[0]).save(out, "GIF", save_all=True, append_images=[Image.new("RGB", (10, 6))])
        source = out.getvalue()
    with pytest.raises(VideoTooLargeError, match="has frames of 10x6 pixels"):
        load_video(source)


def test_all_frames_together_are_bounded(monkeypatch):
    monkeypatch.setattr(zoo.inputs.video, "MAX_VIDEO_PIXELS", 8 * 60)
    video = avi(numbered(100))
    assert len(load_video(video, frames=8).frames) == 8
    with pytest.raises(InputError, match="in the 9 that are read") as caught:
        load_video(video, frames=9)
    assert caught.value.code == "video-too-large"


def test_without_pyav(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr(zoo.inputs.video, "_has_pyav", zoo.inputs.video._has_pyav.__wrapped__)
    with pytest.raises(MissingPackageError, match=r"pip install 'embedding-zoo\[video\]'"):
        load_video(avi(numbered(3)))
    assert len(load_video(numbered(3)).frames) == 3


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"frames": -1}, {"fps": -1.0}, {"fps": math.nan}, {"fps": math.inf}])
def test_numbers_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match="at least 1 frame and a rate"):
        load_video(numbered(3), **wrong)


def damaged(data: bytes, seed: int) -> bytes:
    dice = random.Random(seed)
    data = bytearray(data)
    place = dice.randrange(len(data))
    kind = seed % 4
    if kind == 0:
        del data[max(place, 16) :]
    elif kind == 1:
        for _ in range(dice.choice((1, 4, 30))):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    else:
        some = data[place : place + dice.randrange(1, 300)]
        data[place : place + len(some)] = bytes(len(some)) if kind == 2 else dice.randbytes(len(some))
    return bytes(data)


def test_damaged_video_are_frames_or_named_errors(clips):
    videos = [*(clip["video"] for clip in clips), avi(numbered(20))]
    seen = {True: 0, False: 0}
    for seed in range(160):
        try:
            video = load_video(damaged(videos[seed % len(videos)], seed))
        except (CorruptVideoError, NotMediaError, VideoTooLargeError):
            seen[False] += 1
        else:
            seen[True] += 1
            assert isinstance(video, Video)
            assert len(video.frames) == len(video.indices) == len(video.seconds) >= 1
            assert np.isnan(video.seconds).all() or (video.seconds >= 0).all()
    assert min(seen.values()) > 15


@pytest.mark.parametrize(
    ("decoder", "error", "said"),
    [
        ("dies", CorruptVideoError, "made to do harm: its decoder ended with status"),
        ("hangs", VideoTooLargeError, "too much work: its decoder took more than"),
        ("takes_all_memory", VideoTooLargeError, "needs too much memory"),
        ("says_no_size", CorruptVideoError, "gave no facts of a video"),
        ("fewer_frames", CorruptVideoError, "fewer frames"),
        ("other_frames", CorruptVideoError, "other frames than it says"),
        ("vast_frames", VideoTooLargeError, "has frames of 1000000x1000000"),
    ],
)
def test_a_decoder_that_was_taken_over_costs_one_video(decoder, error, said, monkeypatch):
    child = Confined(f"tests.inputs.heif_decoders:{decoder}")
    monkeypatch.setattr(zoo.inputs.video, "_decoders", lambda: child)
    for name in ("_SECONDS", "_SECONDS_A_FRAME"):
        monkeypatch.setattr(zoo.inputs.video, name, 0.02)
    monkeypatch.setattr(zoo.inputs.video, "_PATIENCE", 60 if decoder != "hangs" else 5)
    try:
        with pytest.raises(error, match=said):
            load_video(avi(numbered(3)) + b"die")
    finally:
        child.close()
