"""Audio on the wire: the vectors of `encode`, in every way that a client may send it, and what is bad refused with its place."""

import base64

import numpy as np
import pytest

import zoo
from tests.inputs.audio_files import ffmpeg, sndfile, tones
from tests.serving.serve_support import serving
from zoo.serving import Limits

pytest.importorskip("soxr", reason="audio needs soundfile, soxr and av (extra 'audio')")
WAV = sndfile(np.stack([tones(0.6, 44_100), tones(0.6, 44_100, 1)], 1), 44_100)
LONG = ffmpeg(tones(4, 48_000), 48_000, "mp3", "libmp3lame")


def url(content: bytes, kind: str = "audio/wav") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@pytest.fixture(scope="module")
def served():
    model = zoo.build_model("clap-test")
    with serving(model, limits=Limits(audio_seconds=3)) as served:
        served.model = model
        yield served


def test_audio_has_the_vector_of_encode_however_it_is_sent(served):
    data = base64.b64encode(WAV).decode()
    inputs = [
        {"audio": url(WAV)},
        {"audio": {"data": data}},
        {"content": [{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}]},
        {"content": [{"type": "audio_url", "audio_url": {"url": url(WAV, "audio/mpeg")}}]},
    ]
    expected = served.model.encode(WAV).numpy()
    np.testing.assert_allclose(served.embed(inputs).vectors(), np.stack([expected] * 4), atol=1e-5)
    both = served.embed({"text": "a bell", "audio": url(WAV)}).vectors()[0]
    np.testing.assert_allclose(both, served.model.encode(zoo.Item(text="a bell", audio=WAV)).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (LONG, "audio-too-long", "over 3.0 s"),
        (WAV[:20], "corrupt-audio", "damaged"),
        (sndfile(np.zeros(0, np.float32), 16_000), "invalid-audio", "no samples"),
        (b"no audio", "not-media", "text file"),
        (b"", "not-media", "empty"),
    ],
)
def test_bad_audio_is_refused_with_its_place(served, content, code, words):
    answer = served.embed([{"audio": url(WAV)}, {"audio": url(content)}, {"audio": url(WAV)}])
    assert answer.status == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == ("input[1]", code)
    assert words in error["message"]
    assert served.embed({"audio": url(WAV)}).status == 200


def test_silence_is_embedded_and_said_and_as_a_query_refused(served):
    silent = {"audio": url(sndfile(np.zeros(16_000, np.float32), 16_000))}
    answer = served.embed([{"audio": url(WAV)}, silent, "a bell"])
    assert answer.status == 200
    assert answer.json()["warnings"] == ["input[1] is silence: its vector says nothing"]
    assert "warnings" not in served.embed({"audio": url(WAV)}).json()
    for input_type, status in (("document", 200), ("query", 400)):
        answer = served.embed([{"audio": url(WAV)}, silent], input_type=input_type)
        assert answer.status == status
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == ("input[1]", "silent-audio")
    assert served.embed({"audio": url(WAV)}, input_type="query").status == 200
