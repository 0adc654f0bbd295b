"""Two hours of video: read in bounded memory and in seconds, each frame the right one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.inputs.video_files import encoded, number_of, repeated
from zoo.inputs.video import _decoders, load_video

pytest.importorskip("av", reason="videos need PyAV (extra 'video')")
pytestmark = pytest.mark.slow

SIZE, LENGTH, TIMES = (160, 90), 1000, 180  # forty seconds, so often that they are two hours


@pytest.fixture(scope="module", params=["mp4 26", "mp4 14", "matroska 14", "mpegts 26", "mpegts 14"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    form, quality = request.param.split()
    data = encoded("libx264", "mp4", range(LENGTH), size=SIZE, gop=100, bframes=2, crf=quality)
    path = tmp_path_factory.mktemp("long") / "video"
    repeated(path, data, form, TIMES)
    assert (path.stat().st_size > 128 * 2**20) == (quality == "14")  # more than is kept, which is then demuxed again
    yield path
    path.unlink()


def peak(pid: int | str) -> float:
    """Most memory that a process had, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def test_frames_of_two_hours(path: Path):
    video = load_video(path, frames=64)
    assert video.total == LENGTH * TIMES
    assert [number_of(frame) for frame in video.frames] == (video.indices % LENGTH).tolist()
    np.testing.assert_allclose(video.seconds, video.indices / 25, atol=0.002)
    last = load_video(path, frames=64, start=7190.0, seconds=2.0)
    assert last.indices.tolist() == list(range(179_750, 179_800))
    assert [number_of(frame) for frame in last.frames] == (last.indices % LENGTH).tolist()
    keys = load_video(path, frames=16, sampling="keyframes")
    assert [number_of(frame) for frame in keys.frames] == (keys.indices % LENGTH).tolist()
    assert max(peak(pid) for pid in _decoders().pids) < 700  # PyAV, numpy and 128 MiB of packets among them


def test_a_model_embeds_two_hours(path: Path):
    model = zoo.build_model("vlm2vec-test")
    model.encode(zoo.Item(video=np.zeros((8, 90, 160, 3), np.uint8)))
    before = peak("self")
    assert model.encode(zoo.Item(video=path)).isfinite().all()
    assert peak("self") - before < 300


def test_a_hundred_segments_cost_little_more_than_one(path: Path):
    def spent() -> float:
        children = [Path(f"/proc/{pid}/schedstat").read_text().split()[0] for pid in _decoders().pids]
        return sum(map(int, children)) / 1e9

    load_video(path, frames=2, start=3600.0, seconds=1.0)
    before = spent()
    for second in range(100):
        video = load_video(path, frames=64, start=3600.0 + second, seconds=1.0)
        assert video.indices.tolist() == list(range(90_000 + 25 * second, 90_025 + 25 * second))
        assert [number_of(frame) for frame in video.frames] == (video.indices % LENGTH).tolist()
    assert spent() - before < 12  # with all packets looked at each time, over a minute
