"""Videos of key frames alone: an MP4's own index says where they lie, and little else is read; what it does not tell, a full look does."""

import io
from pathlib import Path

import numpy as np
import pytest

from tests.inputs.video_files import encoded, number_of, repeated
from zoo.errors import CorruptVideoError
from zoo.inputs.sampling import frame_indices
from zoo.inputs.video import _bounds, load_video

av = pytest.importorskip("av", reason="videos need PyAV (extra 'video')")
COUNT, TIMES = 20, 150


class Counted(io.FileIO):
    """A file that counts the bytes that are read of it."""

    count = 0

    def read(self, size: int = -1) -> bytes:
        content = super().read(size)
        self.count += len(content)
        return content


def taken(path: Path, count: int = 8):
    """The facts, the numbers that the taken frames show, and the file, whose reader has been closed."""
    from zoo.inputs.tracks import UntoldError, VideoFile

    file = Counted(path)
    video = VideoFile(file, "mov", _bounds(), "it")
    for shown, indices, frames in video.attempts(lambda shown: frame_indices(len(shown.seconds), count)):
        try:
            numbers = [number_of(frame) for frame in frames]
        except UntoldError:
            continue
        by_index = video.packets.by_index
        video.close()
        return shown, indices, numbers, file.count, by_index
    raise AssertionError("no attempt gave the frames")


@pytest.mark.parametrize(("codec", "form"), [("mjpeg", "mov"), ("prores_ks", "mov"), ("libx264", "mp4")])
def test_little_is_read_of_key_frames_alone(codec, form, tmp_path, monkeypatch):
    path, quality = tmp_path / f"video.{form}", {"crf": "4"} if codec == "libx264" else {}
    repeated(path, encoded(codec, form, range(COUNT), gop=1, **quality), form, TIMES)
    shown, indices, numbers, read, by_index = taken(path, 4)
    assert by_index
    assert len(shown.seconds) >= COUNT * TIMES - 1  # whose last one stands for no time where nothing says how long
    assert numbers == (indices % COUNT).tolist()
    assert read < path.stat().st_size / 2
    monkeypatch.setattr("zoo.inputs.tracks.VideoFile._indexed", lambda self: None)
    looked, *_, all_read, by_index = taken(path, 4)
    assert not by_index
    assert all_read >= path.stat().st_size * 0.9
    assert len(looked.seconds) == len(shown.seconds)
    assert looked.fps == shown.fps
    np.testing.assert_array_equal(looked.seconds, shown.seconds)
    np.testing.assert_array_equal(looked.keys, shown.keys)


def test_an_index_with_other_times_than_the_frames_is_not_followed(tmp_path):
    path = tmp_path / "video.mov"
    with (
        av.open(io.BytesIO(encoded("mjpeg", "mov", range(COUNT)))) as source,
        av.open(path, "w", format="mov") as target,
    ):
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        step = round(1 / 25 / stream.time_base)
        late = [step // 2 if 5 <= number < 15 else 0 for number in range(COUNT)]  # shown later than decoded
        for number, packet in enumerate(packet for packet in source.demux(stream) if packet.size):
            packet.pts, packet.dts = number * step + late[number], number * step
            packet.stream = copy
            target.mux(packet)
    shown, indices, numbers, _, by_index = taken(path)
    assert not by_index
    assert numbers == indices.tolist()
    np.testing.assert_allclose(shown.seconds, [n / 25 + (0.02 if late[n] else 0) for n in range(COUNT)], atol=1e-3)
    assert [number_of(frame) for frame in load_video(path, frames=4).frames] == [0, 6, 12, 19]


def test_an_index_of_the_first_fragment_alone_is_not_followed(tmp_path):
    path = tmp_path / "video.mov"
    path.write_bytes(encoded("mjpeg", "mov", range(COUNT), muxing={"movflags": "frag_every_frame+empty_moov"}))
    shown, indices, numbers, *_ = taken(path)
    assert len(shown.seconds) == COUNT
    assert numbers == indices.tolist()


def test_an_index_of_more_than_there_is():
    data = encoded("mjpeg", "mov", range(COUNT), muxing={"moov_size": "20000"})
    with pytest.raises(CorruptVideoError, match="cut off"):
        load_video(data[: int(len(data) * 0.8)])
