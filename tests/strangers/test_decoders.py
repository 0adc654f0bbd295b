"""Videos and images of strangers: their names, what they say of other files, their size; and decoders that die of them."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.strangers.fuzz import finds
from tests.strangers.harness import Sandbox
from tests.strangers.videos import CONTENTS, gif, mp4

pytest.importorskip("av", reason="videos need PyAV (extra 'video')")
VIDEO = "from pathlib import Path\nfrom zoo.inputs.video import load_video\nimport sys\nfor name in sys.argv[1:]:\n    video = load_video(Path(name))\n    print(video.frames.shape, video.frames[0, 0, 0].tolist())"
FAST = {"avi-playlist", "mp4-url", "gif-frames"}
NAMES = [
    "clip%d.png",
    "concat:a|b",
    "http:x.mp4",
    "a\nb.mp4",
    "data:,x",
    "subfile,,start,0,end,9,,:x",
    "-i",
    "list.m3u8",
]


@pytest.fixture
def port() -> Iterator[int]:
    """Where somebody listens; who was reached by a video fails the test."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server.getsockname()[1]
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in CONTENTS])
def test_what_a_video_holds(name: str, port: int, sandbox: Sandbox):
    make, said = CONTENTS[name]
    (sandbox.gift / "video.mp4").write_bytes(make(port))
    answer = sandbox.python(VIDEO, sandbox.gift / "video.mp4")
    if said:
        answer.refused(said)
    else:
        assert answer.harmless().out == "(1, 16, 16, 3) [0, 0, 0]\n"


@pytest.mark.parametrize("name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])])
def test_a_name_is_only_a_name(name: str, sandbox: Sandbox):
    (sandbox.gift / name).write_bytes(mp4())
    Image.open(sandbox.home / "photos" / "cat.png").save(sandbox.home / "clip1.png")
    for number in range(1, 4):
        (sandbox.gift / f"clip{number}.png").symlink_to(sandbox.home / "clip1.png")
    answer = sandbox.python(VIDEO, sandbox.gift / name).harmless()
    assert answer.out == "(1, 48, 64, 3) [0, 0, 0]\n"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["fifo", "device", "folder", "sparse", "gone"])
def test_what_is_no_file(what: str, sandbox: Sandbox):
    place = sandbox.gift / "video.mp4"
    if what == "fifo":
        os.mkfifo(place)
    elif what == "device":
        place.symlink_to("/dev/zero")
    elif what == "folder":
        place.mkdir()
    elif what == "sparse":
        with place.open("wb") as file:
            file.write(mp4())
            file.truncate(3 * 2**30)
    sandbox.python(VIDEO, place, reads=[Path("/dev/zero")]).refused(
        "no regular file|is a folder|at most 2|does not exist"
    )


def test_one_bad_video_does_not_lose_the_others(sandbox: Sandbox):
    for name, content in {"a.mp4": mp4(), "b.mp4": mp4(reference=b"url \0\0\0\0x"), "c.gif": gif(8, 8, 3)}.items():
        (sandbox.gift / name).write_bytes(content)
    code = "from pathlib import Path\nimport sys, zoo\nmodel = zoo.build_model('qwen3vl-test')\n"
    code += "items = [zoo.Item(video=Path(p)) for p in sys.argv[1:]]\n"
    code += "for one in model.encode_stream(items):\n    print(one.error and one.error.code)"
    answer = sandbox.python(code, *(sandbox.gift / name for name in ("a.mp4", "b.mp4", "c.gif"))).harmless()
    assert answer.out.split() == ["None", "corrupt-video", "None"]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["gif", "mp4"])
def test_ten_thousand_changes(target: str, sandbox: Sandbox):
    assert not finds(sandbox, f"tests.strangers.fuzz_{target}", 10_000)
