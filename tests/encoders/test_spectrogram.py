"""A timm backbone over log-mel spectrograms: the image against a formula of its own, what the vector depends on, and saving."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch

import zoo
from zoo.embedder import Embedder, Tower
from zoo.encoders.spectrogram import Spectrogram, SpectrogramAudio, masked
from zoo.errors import InvalidAudioError, UnrecognisedCheckpointError
from zoo.heads import Linear
from zoo.pooling import Mean

ARCH = "tf_efficientnet_lite0"
GRIDS = {"1": [4, 4], "2": [3, 4]}


@pytest.fixture(scope="module")
def model() -> Embedder:
    torch.manual_seed(0)
    encoder = SpectrogramAudio(ARCH, GRIDS, Spectrogram(height=64, width=96))
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.bias, std=0.1)  # a backbone that has learned nothing gives zero for silence
    spec = replace(
        zoo.get_spec("mini-test"),
        name="hears",
        modalities=frozenset({"audio"}),
        dim=24,
        image_size=None,
        max_tokens=None,
    )
    return Embedder(spec, [Tower(encoder, Mean(), Linear(encoder.width, 24))]).eval()


def make_audio(seconds: float, seed: int = 0, rate: int = 16_000) -> zoo.Waveform:
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(time))
    return zoo.Waveform((0.3 * np.sin(2 * np.pi * (300 + 200 * seed) * time) + 0.05 * noise).astype(np.float32), rate)


def test_the_image_is_that_of_the_formula():
    samples = np.asarray(make_audio(0.7).samples, dtype=np.float64)
    made = Spectrogram(height=96, width=1 + len(samples) // 160).image(torch.from_numpy(samples))[0].numpy()
    padded = np.pad(samples, 512)
    window = np.pad(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512), 256)
    frames = np.stack([padded[at : at + 1024] * window for at in range(0, len(padded) - 1023, 160)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges = 700 * (10 ** (np.linspace(*(2595 * np.log10(1 + np.array([30.0, 8000.0]) / 700)), 98) / 2595) - 1)
    hertz = np.linspace(0, 8000, 513)
    left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bank = np.maximum(0, np.minimum((hertz - left) / (middle - left), (right - hertz) / (right - middle)))
    energies = np.log(bank @ power.T + 1e-5)
    energies = (energies - energies.mean()) / (energies.std(ddof=1) + 0.5)
    assert np.abs(made - energies.clip(-3, 3) / 3).max() < 2e-3


def test_its_stages_are_those_of_timm():
    torch.manual_seed(0)
    whole = timm.create_model(ARCH, pretrained=False, num_classes=0).eval()
    encoder = SpectrogramAudio(ARCH, {"1": [1, 1]}, backbone=whole).eval()
    wave = torch.from_numpy(np.asarray(make_audio(1.0).samples))
    image = encoder.spectrogram.image(wave)[None].expand(-1, 3, -1, -1)
    with torch.inference_mode():
        states = whole.forward_intermediates(image, indices=[1], intermediates_only=True, norm=False)[0]
        states = whole.blocks[1](whole.blocks[0](whole.bn1(whole.conv_stem(image))))
        torch.testing.assert_close(encoder.embedded([wave]), torch.cat([states.mean((2, 3)), states.amax((2, 3))], 1))


def test_no_vector_depends_on_what_is_beside_it(model):
    recordings = [make_audio(0.1), make_audio(0.5, 1), make_audio(4.9, 2), make_audio(12.0, 3)]
    together, again = model.encode(recordings), model.encode(recordings)
    assert together.equal(again)
    for one, vector in zip(recordings, together, strict=True):
        torch.testing.assert_close(model.encode(one), vector, atol=1e-5, rtol=0)


def test_loudness_is_no_part_of_it_and_order_is(model):
    one = make_audio(2.0)
    louder = zoo.Waveform(one.samples * 2, one.rate)
    assert torch.nn.functional.cosine_similarity(model.encode(one), model.encode(louder), dim=0) > 0.99
    rising = np.sin(2 * np.pi * np.cumsum(np.linspace(200, 3000, 32_000)) / 16_000).astype(np.float32)
    there, back = (model.encode(zoo.Waveform(np.ascontiguousarray(way), 16_000)) for way in (rising, rising[::-1]))
    assert not torch.allclose(there, back, atol=1e-3)


def test_less_than_one_transform_is_refused_by_name(model):
    with pytest.raises(InvalidAudioError, match=r"has 10\.0 ms, and the model reads 64 ms or more"):
        model.encode(make_audio(0.01))


def test_training_sees_it_moved_and_with_parts_hidden_and_nothing_else_does(model):
    image = model.towers[0].encoder.spectrogram.image(torch.from_numpy(np.asarray(make_audio(1.0).samples)))
    images = image[None].repeat(40, 1, 1, 1)
    torch.manual_seed(0)
    views = masked(images)
    torch.manual_seed(0)
    assert views.equal(masked(images))
    assert views.shape == images.shape
    assert views.abs().max() <= 1
    assert len({view.numpy().tobytes() for view in views}) == 40
    hidden = (views == 0).double().mean()
    assert 0.1 < hidden < 0.6
    assert model.encode(make_audio(1.0)).equal(model.encode(make_audio(1.0)))


def test_silence_is_a_vector(model):
    assert torch.isfinite(model.encode(zoo.Waveform(np.zeros(8000, np.float32), 16_000))).all()


def test_saved_and_opened_again_it_gives_the_same(model, tmp_path):
    opened = zoo.load_model(model.save_pretrained(tmp_path / "hears"), device="cpu")
    assert opened.encode(make_audio(3.0, 5)).equal(model.encode(make_audio(3.0, 5)))
    assert opened.fingerprint() == model.fingerprint()


@pytest.mark.parametrize(
    ("arch", "grids", "spectrogram"),
    [
        ("resnet18", {"1": [1, 1]}, {}),
        (ARCH, {"9": [1, 1]}, {}),
        (ARCH, {}, {}),
        (ARCH, GRIDS, {"hop": 0}),
        (ARCH, GRIDS, {"low": 9000.0}),
    ],
)
def test_what_it_cannot_be_made_of_is_refused(arch, grids, spectrogram):
    with pytest.raises(UnrecognisedCheckpointError):
        SpectrogramAudio(arch, grids, spectrogram)
