"""Log-mel spectrograms are those of transformers' extractors, at the sizes of published checkpoints, in the quietest bands too."""

import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional as F

from zoo.encoders import mel
from zoo.encoders.clap import ClapAudio, _sixteen_bits

DECIBELS, LOGARITHMS = 1e-5, 1e-6  # how far from the reference: a unit or two of the last place of what is compared


def clip(rate: int, seconds: float) -> torch.Tensor:
    """A loud tone over faint noise: most bands are 80 dB below the loudest, and the second half is digital silence."""
    time = np.arange(round(rate * seconds)) / rate
    samples = 0.9 * np.sin(2 * np.pi * 440 * time) + 1e-4 * np.random.default_rng(0).standard_normal(len(time))
    return torch.from_numpy((samples * (time < seconds / 2)).astype(np.float32))


@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
@pytest.mark.parametrize("seconds", [0.7, 10.0])
def test_claps_decibels(truncation: str, seconds: float) -> None:
    settings = {"frequency_min": 50, "frequency_max": 14_000, "truncation": truncation}
    tower = {"depths": [1, 1], "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 16, "hidden_size": 32}
    encoder = ClapAudio({**tower, "enable_fusion": truncation == "fusion"}, settings)
    samples = clip(48_000, seconds)
    extractor = transformers.ClapFeatureExtractor(**settings)
    expected = extractor(_sixteen_bits(samples).numpy(), sampling_rate=48_000, return_tensors="pt")["input_features"][0]
    found, _ = encoder._spectrograms(samples)
    assert found.min() == -100
    assert found.max() > 20
    torch.testing.assert_close(found, expected.float(), atol=DECIBELS, rtol=0)


@pytest.mark.parametrize("seconds", [0.025, 0.5, 11.0])
def test_kaldis_energies(seconds: float) -> None:
    samples = clip(16_000, seconds)
    expected = transformers.ASTFeatureExtractor(do_normalize=False)(
        samples.numpy(), sampling_rate=16_000, return_tensors="pt"
    )["input_values"][0]
    found = mel.kaldi(samples, 128, 16_000, 1024).float()
    assert not expected[len(found) :].any()
    torch.testing.assert_close(found, expected[: len(found)], atol=LOGARITHMS, rtol=0)


@pytest.mark.parametrize(("seconds", "hop"), [((0.4, 3.0), 160), ((30.0,), 160), ((0.01, 1.0), 170), ((29.9995,), 170)])
def test_whispers_logarithms_and_the_silence_after(seconds: tuple[float, ...], hop: int) -> None:
    clips = [clip(16_000, length) for length in seconds]
    extractor = transformers.WhisperFeatureExtractor(hop_length=hop)
    expected = extractor([c.numpy() for c in clips], sampling_rate=16_000, return_tensors="pt")["input_features"]
    found = mel.whisper(torch.stack([F.pad(c, (0, 480_000 - len(c))) for c in clips]), 80, 16_000, 400, hop)
    torch.testing.assert_close(found, expected, atol=LOGARITHMS, rtol=0)


def test_groups_of_filters_hear_what_the_whole_bank_hears() -> None:
    power = torch.rand(7, 513, generator=torch.Generator().manual_seed(0))
    asked = (513, 70, 50.0, 14_000.0, 48_000, None, "htk")
    heard = mel.bank(torch.device("cpu"), *asked)
    assert heard.last - heard.first < 400  # what lies over 14 kHz is not even squared
    expected = power @ mel.filters(power, *asked)
    torch.testing.assert_close(heard(power[:, heard.first : heard.last]), expected)
    assert heard(power[:, heard.first : heard.last]).shape == (7, 70)
