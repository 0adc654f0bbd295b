"""Ten hours of audio are read, in windows and as one item, in memory that does not grow with them (slow)."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.inputs.audio_files import tones

soundfile = pytest.importorskip("soundfile", reason="audio needs soundfile, soxr and av (extra 'audio')")
HOURS, RATE = 10, 8000
# Whatever is in the program's own memory: RLIMIT_DATA does not count files that are mapped.
PROGRAM = """
import re, resource, sys
from pathlib import Path
import zoo
from zoo.inputs.audio import iter_audio

def data():
    return 1024 * int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

path, what = Path(sys.argv[1]), sys.argv[2]
model = zoo.build_model("clap-test")
model.encode(zoo.Item(audio=Path(sys.argv[3])))
for _ in iter_audio(Path(sys.argv[3]), rate=16_000, seconds=1.0):
    pass
allowed = data() + 500 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
if what == "stream":
    count, last = 0, None
    for last in iter_audio(path, rate=16_000, seconds=30.0):
        count += 1
    print(count, last.start)
else:
    vector = model.encode(path)
    print(len(vector), f"{vector.norm().item():.4f}")
"""


@pytest.fixture(scope="module")
def ten_hours(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Ten hours, and one second of the same."""
    folder = tmp_path_factory.mktemp("long")
    minute = tones(60, RATE)
    with soundfile.SoundFile(folder / "long.flac", "w", RATE, 1, format="FLAC") as file:
        for number in range(60 * HOURS):
            file.write(np.roll(minute, 977 * number))
    soundfile.write(folder / "short.flac", minute[:RATE], RATE)
    return folder / "long.flac", folder / "short.flac"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc and RLIMIT_DATA are Linux's")
@pytest.mark.parametrize(("what", "expected"), [("stream", "1200 35970.0"), ("item", "24 1.0000")])
def test_ten_hours_take_bounded_memory(what: str, expected: str, ten_hours: tuple[Path, Path]) -> None:
    long, short = ten_hours
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, long, what, short], capture_output=True, text=True, timeout=3000, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[0] == expected
