"""AV1: frames that no other one is made of are found in the heads of packets, and are left out at no one's cost."""

import io
from random import Random

import numpy as np
import pytest

from tests.strangers.fuzz import mutated
from zoo.inputs.av1 import Leaves
from zoo.inputs.video import load_video

av = pytest.importorskip("av", reason="videos need PyAV (extra 'video')")


@pytest.fixture(scope="module")
def video() -> bytes:
    """Three seconds in which a texture moves, in a pyramid of frames as SVT-AV1 makes it."""
    large = np.random.default_rng(0).integers(0, 256, (20, 24, 3)).astype(np.uint8).repeat(12, 0).repeat(12, 1)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libsvtav1", rate=24, options={"preset": "10", "svtav1-params": "lp=1:keyint=40"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(72):
            view = large[number : number + 96, 2 * (number % 30) : 2 * (number % 30) + 160]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view.copy(), "rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def packets(data: bytes) -> tuple[object, list[object], list[bool]]:
    container = av.open(io.BytesIO(data))
    stream = container.streams.video[0]
    tells = Leaves(bytes(stream.codec_context.extradata))
    found = [packet for packet in container.demux(stream) if packet.size]
    return stream.codec_context, found, [tells(memoryview(packet)) for packet in found]


def test_every_other_frame_is_the_same_without_them(video: bytes) -> None:
    context, found, leaves = packets(video)
    assert len(found) == 72
    assert 12 <= sum(leaves) < 40
    context.thread_count = 1
    whole = {frame.pts: frame.to_ndarray() for packet in [*found, None] for frame in context.decode(packet)}
    context.flush_buffers()
    kept = [packet for packet, leaf in zip(found, leaves, strict=True) if not leaf]
    few = {frame.pts: frame.to_ndarray() for packet in [*kept, None] for frame in context.decode(packet)}
    assert len(whole) == 72
    assert len(few) == len(kept)
    for time, pixels in few.items():
        assert np.array_equal(pixels, whole[time])


def test_any_frames_are_those_of_the_whole_video(video: bytes) -> None:
    whole = load_video(video, frames=72).frames
    for count in (1, 3, 8, 13):
        taken = load_video(video, frames=count)
        assert len(taken.frames) == count
        assert np.array_equal(taken.frames, whole[taken.indices])
    later = load_video(video, frames=5, start=1.2)
    assert np.array_equal(later.frames, whole[later.indices])


def test_without_its_sequence_or_with_a_wrong_one_nothing_is_left_out(video: bytes) -> None:
    _, found, leaves = packets(video)
    leaf = memoryview(found[leaves.index(True)])
    assert not Leaves(b"")(leaf)
    assert not Leaves(b"\x81\x01\x0c\x00")(leaf)
    assert not Leaves(b"")(memoryview(b""))


def test_whatever_bytes_come_the_answer_is_yes_or_no(video: bytes) -> None:
    context, found, _ = packets(video)
    random, extradata = Random(0), bytes(context.extradata)
    for _ in range(2000):
        tells = Leaves(mutated(extradata, random))
        assert tells(memoryview(mutated(bytes(random.choice(found)), random))) in (True, False)
