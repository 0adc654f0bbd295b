"""Silence among the pairs of a run: said, and trained on all the same."""

import warnings

import numpy as np
import pytest
from zoo.training import Pair, train
from zoo.training.skipped import SKIPPED

import zoo
from tests.inputs.audio_files import tones
from tests.training.train_support import fresh, quick
from zoo.inputs.item import Item

pytest.importorskip("soxr", reason="audio needs soundfile, soxr and av (extra 'audio')")
RATE = 16_000


def test_a_silent_recording_is_warned_of_and_trained_on(tmp_path):
    samples = [tones(0.3, RATE, seed) for seed in range(5)] + [np.zeros(RATE // 3, np.float32)]
    pairs = [
        Pair(Item(text=f"a bell, number {i}"), Item(audio=zoo.Waveform(one, RATE)), where=f"bells, line {i + 1}")
        for i, one in enumerate(samples)
    ]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        train(fresh("clap-test"), pairs, quick(steps=2), tmp_path / "run", progress=False, trackers=(), report=False)
    told = [str(one.message) for one in said if "silence" in str(one.message)]
    assert told == ["bells, line 6: its audio is silence, from which there is nothing to learn"]
    assert not (tmp_path / "run" / SKIPPED).exists(), "it is not left out"
