"""Bad and odd audio: each is heard as long as it is, or is a named error of its item; what it does to its decoder harms nobody."""

from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.inputs.audio_files import ffmpeg, sndfile, tones
from tests.inputs.bad_audio import KINDS, RATE
from zoo.errors import InputError
from zoo.inputs.audio import DecodedAudio, load_audio
from zoo.inputs.item import as_item

pytest.importorskip("soxr", reason="audio needs soundfile, soxr and av (extra 'audio')")


def test_there_are_at_least_sixty_kinds():
    assert len(KINDS) >= 60


@pytest.fixture(scope="module")
def model() -> zoo.Embedder:
    return zoo.build_model("clap-test")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Name → what is expected, and the input."""
    found = {}
    for number, (name, (expected, make)) in enumerate(KINDS.items()):
        place = tmp_path_factory.mktemp(f"kind{number}")
        found[name] = (expected, make(place))
    return found


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_heard_or_a_named_error(name, made):
    expected, value = made[name]
    if isinstance(expected, float):
        audio = load_audio(as_item(value).audio, rate=RATE)
        assert np.isfinite(audio.samples).all()
        assert audio.seconds == pytest.approx(expected, abs=0.25 if expected >= 1 else 0.01)
        return
    with pytest.raises(InputError) as caught:
        load_audio(as_item(value).audio, rate=RATE)
    assert caught.value.code == expected
    assert len(str(caught.value)) < 600


def test_the_good_ones_come_through_in_order_and_each_bad_one_is_named(made, model):
    values = [value for _, value in made.values()]
    results = list(model.encode_stream(values, progress=False))
    assert [result.index for result in results] == list(range(len(values)))
    for (name, (expected, _)), result in zip(made.items(), results, strict=True):
        if name == "FLAC that promises ten hours":  # which an encoder would read, were they there
            expected = "corrupt-audio"
        if isinstance(expected, str):
            assert (result.vector, result.error.code, result.error.index) == (None, expected, result.index)
        else:
            assert result.error is None
            assert result.vector.norm().item() == pytest.approx(1, abs=1e-5)


def samples() -> dict[str, bytes]:
    """A small file of every decoder."""
    signal = tones(0.3, 48_000)
    return {
        "wav": sndfile(signal, 48_000, "WAV", "IMA_ADPCM"),
        "flac": sndfile(signal, 48_000, "FLAC"),
        "vorbis": sndfile(signal, 48_000, "OGG"),
        "opus": sndfile(signal, 48_000, "OGG", "OPUS"),
        "alac": sndfile(signal, 48_000, "CAF", "ALAC_16"),
        "mp3": ffmpeg(signal, 48_000, "mp3", "libmp3lame"),
        "m4a": ffmpeg(signal, 48_000, "ipod", "aac"),
        "adts": ffmpeg(signal, 48_000, "adts", "aac"),
        "webm": ffmpeg(signal, 48_000, "webm", "libopus"),
        "wma": ffmpeg(signal, 48_000, "asf", "wmav2"),
        "wavpack": ffmpeg(signal, 48_000, "wv", "wavpack"),
    }


def outcome(content: bytes) -> DecodedAudio | InputError:
    try:
        return load_audio(content, rate=RATE)
    except InputError as error:
        return error


@pytest.mark.parametrize("rounds", [4, pytest.param(150, marks=pytest.mark.slow)])
def test_changed_bytes_are_audio_or_a_named_error(rounds):
    rng = np.random.default_rng(rounds)
    found = {"heard": 0, "named": 0}
    for name, content in samples().items():
        for _ in range(rounds):
            changed = bytearray(content)
            for place in rng.integers(0, len(changed), rng.integers(1, 12)):
                changed[place] = rng.integers(256)
            result = outcome(bytes(changed[: len(changed) - int(rng.integers(0, len(changed) // 2))]))
            found["heard" if isinstance(result, DecodedAudio) else "named"] += 1
            assert isinstance(result, DecodedAudio) or result.code != "bad-input", name
        assert isinstance(outcome(content), DecodedAudio), f"after the damaged ones no good {name} is read"
    assert found["heard"] > rounds
    assert found["named"] > rounds


def test_a_file_that_grows_or_shrinks_meanwhile_is_only_itself(tmp_path: Path):
    path = tmp_path / "a.wav"
    path.write_bytes(sndfile(tones(1, RATE), RATE))
    before = load_audio(path, rate=RATE)
    path.write_bytes(path.read_bytes()[:1000])
    assert load_audio(path, rate=RATE).seconds < before.seconds
