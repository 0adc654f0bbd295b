"""pack:spoken: digits by synthetic voices, the same each time, narrow as the pack's recordings, and called as these are."""

import subprocess
import sys

import numpy as np
import pytest

from zoo.errors import MissingPackageError, TableError
from zoo.tables import open_pairs, spoken


def test_every_digit_is_said_by_many_voices_and_called_as_the_packs_are() -> None:
    table = open_pairs("pack:spoken")
    assert len(table) > 1000
    pairs = [table[row] for row in range(0, len(table), 50)]
    assert len({pair.group for pair in pairs}) == 10
    assert len({pair.where for pair in pairs}) == len(pairs)
    audio = open_pairs("pack:audio")
    assert audio.names == ["audio-esc10", "audio-fsdd"]
    known = {
        (pair.group.removeprefix("audio:"), pair.positive.text, pair.extra_positives[0].text)
        for pair in map(audio.__getitem__, range(len(audio)))
    }
    for pair in pairs:
        assert (pair.group.removeprefix("audio:"), pair.positive.text, pair.extra_positives[0].text) in known
        audio = pair.query.audio
        assert (audio.rate, audio.samples.dtype) == (16_000, np.float32)
        assert np.abs(audio.samples).max() == pytest.approx(0.5)
        assert 0.1 < len(audio.samples) / 16_000 < 3
        power = np.abs(np.fft.rfft(audio.samples)) ** 2
        assert power[len(power) * 9 // 16 :].sum() < 1e-3 * power.sum()  # nothing above 4.5 kHz


def test_it_is_the_same_in_every_process() -> None:
    code = (
        "import hashlib; from zoo.tables.spoken import spoken; d = hashlib.sha256(); "
        "[d.update(f'{a} {b}'.encode() + c.tobytes()) for a, b, c in spoken()]; print(d.hexdigest())"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert len(runs[0].stdout) > 60
    assert runs[0].stdout == runs[1].stdout


def test_another_split_and_a_missing_package_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TableError, match="has the split train alone, not 'val"):
        open_pairs("pack:spoken", split="val")
    spoken.spoken.cache_clear()
    monkeypatch.setattr(spoken, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'embedding-zoo\[spoken\]'"):
        open_pairs("pack:spoken")
