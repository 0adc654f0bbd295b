"""Audio: every format is the same samples, every segment the same as of the whole, channels, rates and ranges are what they are."""

import io

import numpy as np
import pytest
import torch

import zoo
from tests.inputs.audio_files import ffmpeg, sndfile, tones, wav
from zoo.errors import (
    ArgumentError,
    AudioTooLongError,
    InvalidAudioError,
    MissingFileError,
    NotMediaError,
    UnsupportedInputError,
)
from zoo.inputs import audio
from zoo.inputs.audio import container_of, iter_audio, load_audio, seconds_of, windows
from zoo.inputs.hashing import item_key
from zoo.inputs.item import as_item
from zoo.inputs.waveform import Waveform

soxr = pytest.importorskip("soxr", reason="audio needs soundfile, soxr and av (extra 'audio')")
RATE = 16_000
LIBSNDFILE = [
    ("WAV", "FLOAT", 0.0), ("WAV", "PCM_16", 2e-4), ("WAV", "PCM_24", 1e-6), ("WAV", "PCM_U8", 2e-2), ("WAV", "ULAW", 2e-2),
    ("FLAC", None, 2e-4), ("AIFF", None, 2e-4), ("AU", None, 2e-4), ("CAF", None, 2e-4), ("RF64", None, 2e-4), ("W64", None, 2e-4),
    ("AU", "G723_24", 0.1), ("OGG", "VORBIS", 0.1), ("OGG", "OPUS", 0.1), ("MP3", None, 0.1),
]  # fmt: skip
# Container, codec, and by how many samples at 16 kHz the codec's own delay may move it, where the container does not say.
FFMPEG = [
    ("ipod", "aac", {}, 0), ("mp4", "alac", {}, 0), ("mp4", "libmp3lame", {}, 0), ("mov", "pcm_s16le", {}, 0), ("matroska", "flac", {}, 0),
    ("webm", "libopus", {}, 0), ("adts", "aac", {}, 350), ("wv", "wavpack", {}, 0), ("ogg", "flac", {}, 0), ("ac3", "ac3", {}, 90),
    ("mp4", "aac", {"video": "mpeg4"}, 0), ("webm", "libopus", {"video": "libvpx"}, 0), ("matroska", "aac", {"video": "mpeg4"}, 0),
    ("avi", "libmp3lame", {"video": "mpeg4"}, 400), ("mpegts", "aac", {"video": "mpeg4"}, 350), ("mpeg", "mp2", {"video": "mpeg1video"}, 170),
    ("asf", "wmav2", {}, 800), ("flv", "libmp3lame", {"video": "flv1", "rate": 44100}, 800),
]  # fmt: skip


def delay_of(found: np.ndarray, expected: np.ndarray) -> int:
    """By how many samples `found` is late, by correlation."""
    count = min(len(found), len(expected))
    parts = (np.fft.rfft(signal[:count], 2 * count) for signal in (found, expected))
    product = next(parts) * np.conj(next(parts))
    place = int(np.fft.irfft(product).argmax())
    return place if place < count else place - 2 * count


@pytest.mark.parametrize(("format", "subtype", "within"), LIBSNDFILE)
def test_what_libsndfile_wrote_is_read_and_resampled_as_soxr_does(format, subtype, within):
    rate = {"OPUS": 48_000, "G723_24": 8000}.get(subtype, 44_100)
    signal = tones(5.3, rate)
    content = sndfile(signal, rate, format, subtype)
    whole = load_audio(content, rate=RATE)
    expected = soxr.resample(signal, rate, RATE, quality="HQ")
    assert (whole.rate, whole.source_rate, whole.samples.dtype) == (RATE, rate, np.float32)
    assert abs(len(whole.samples) - len(expected)) <= (200 if subtype == "G723_24" else 0)
    if within < 0.1:
        assert np.abs(whole.samples - expected).max() <= within
    else:  # lossy: alike, and at its place
        assert np.corrcoef(whole.samples[: len(expected)], expected)[0, 1] > 0.98
    assert delay_of(whole.samples, expected) == 0
    assert whole.samples.tobytes() == load_audio(content, rate=RATE).samples.tobytes()
    part = load_audio(content, rate=RATE, start=2.25, seconds=1.5)
    assert (part.start, part.seconds) == (2.25, 1.5)
    np.testing.assert_allclose(part.samples, whole.samples[36_000:60_000], atol=1e-6)


@pytest.mark.parametrize(
    ("format", "codec", "facts", "late"),
    [pytest.param(*row, marks=[] if row[1] in ("alac", "libopus", "wmav2") else pytest.mark.slow) for row in FFMPEG],
)
def test_what_ffmpeg_wrote_is_read_where_it_is(format, codec, facts, late):
    facts = dict(facts)
    rate = facts.pop("rate", 48_000)
    signal = tones(6.2, rate)
    content = ffmpeg(signal, rate, format, codec, **facts)
    whole = load_audio(content, rate=RATE)
    expected = soxr.resample(signal, rate, RATE)
    delay = delay_of(whole.samples, expected)
    assert abs(delay) <= late
    found, expected = whole.samples[max(delay, 0) :], expected[max(-delay, 0) :]
    count = min(len(found), len(expected)) - 2000
    assert np.corrcoef(found[:count], expected[:count])[0, 1] > 0.98
    part = load_audio(content, rate=RATE, start=3.5, seconds=1.25)
    np.testing.assert_allclose(part.samples, whole.samples[56_000:76_000], atol=1e-6)


def test_the_audio_track_of_a_video_begins_where_it_begins_in_the_video():
    signal = tones(3, 48_000)
    late = ffmpeg(signal, 48_000, "mp4", "aac", video="mpeg4", delay=0.5)
    found = load_audio(late, rate=RATE).samples
    assert not found[:7000].any()
    assert abs(delay_of(found, soxr.resample(signal, 48_000, RATE)) - 8000) <= 16  # MP4's edit lists count milliseconds


def test_an_mp3_of_many_blocks_is_what_ffmpeg_decodes_at_once():
    """soundfile's blocks are not: see `zoo.inputs.listening.SOUNDFILE`."""
    import av

    content = sndfile(tones(9, 44_100), 44_100, "MP3")
    with av.open(io.BytesIO(content)) as container:
        expected = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert load_audio(content, rate=44_100).samples.tobytes() == expected.tobytes()
    twice = load_audio(content + b"ID3\x04\0\0\0\0\0\x05aaaaa" + content, rate=44_100)
    assert twice.seconds == pytest.approx(2 * len(expected) / 44_100, abs=0.1)


@pytest.mark.parametrize(("seconds", "hop"), [(0.4, 0.25), (1.0, 0.0), (2.5, 1.0), (7.0, 0.0)])
def test_a_stream_of_windows_is_the_windows_of_the_whole_to_the_bit(seconds, hop):
    content = sndfile(tones(2.5, 44_100), 44_100, "FLAC")
    whole = load_audio(content, rate=8000)
    length, step = round(seconds * 8000), round((min(hop, seconds) or seconds) * 8000)
    expected = windows(whole.samples, length, step)
    found = list(iter_audio(content, rate=8000, seconds=seconds, hop=min(hop, seconds)))
    assert [round(one.start * 8000) for one in found] == [part.start for part in expected]
    assert all(
        one.samples.tobytes() == whole.samples[part].tobytes() for one, part in zip(found, expected, strict=True)
    )


def test_a_stream_longer_than_a_piece_is_the_whole_to_the_bit():
    wave = Waveform(tones(100, 8000), 8000)
    content = sndfile(tones(100, 8000), 8000, "WAV", "FLOAT")
    for source in (wave, content):
        whole = load_audio(source, rate=RATE).samples
        found = [one.samples for one in iter_audio(source, rate=RATE, seconds=7.5)]
        expected = [whole[part] for part in windows(whole, 120_000, 120_000)]
        assert [part.tobytes() for part in found] == [part.tobytes() for part in expected]


@pytest.mark.parametrize(
    ("count", "length", "hop", "starts"),
    [(1, 10, 10, [0]), (10, 10, 10, [0]), (11, 10, 10, [0, 1]), (20, 10, 10, [0, 10]), (25, 10, 5, [0, 5, 10, 15]), (26, 10, 10, [0, 10, 16])],
)  # fmt: skip
def test_windows_leave_nothing_out_and_the_last_is_whole(count, length, hop, starts):
    found = windows(count, length, hop)
    assert [part.start for part in found] == starts
    covered = np.zeros(count)
    for part in found:
        covered[part] = 1
        assert part.stop - part.start == min(length, count)
    assert covered.all()


@pytest.mark.parametrize(("length", "hop"), [(10, 11), (0, 1), (10, 0)])
def test_windows_that_would_leave_samples_out_are_refused(length, hop):
    with pytest.raises(ArgumentError, match="leave samples out"):
        windows(100, length, hop)


# Waveforms


def test_channels_are_the_shorter_axis_and_all_count_alike():
    left, right = tones(1, RATE), tones(1, RATE, 2)
    expected = (left + right) / 2
    stereo = np.stack([left, right])
    for samples in (stereo, stereo.T, torch.from_numpy(stereo), torch.from_numpy(stereo.T.copy())):
        np.testing.assert_allclose(load_audio(Waveform(samples, RATE), rate=RATE).samples, expected, atol=1e-7)
    six = np.stack([tones(0.5, RATE, seed) for seed in range(6)])
    for source in (Waveform(six, RATE), sndfile(six.T, RATE, "WAV", "FLOAT")):
        np.testing.assert_allclose(load_audio(source, rate=RATE).samples, six.mean(0), atol=1e-6)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([-128, 0, 64], np.int8), [-1, 0, 0.5]),
        (np.array([0, 128, 192], np.uint8), [-1, 0, 0.5]),
        (np.array([-(2**15), 0, 2**14], np.int16), [-1, 0, 0.5]),
        (np.array([-(2**31), 0, 2**30], np.int32), [-1, 0, 0.5]),
        (np.array([-1, 0, 0.5], np.float64), [-1, 0, 0.5]),
        (np.array([-2, 0, 0.5], np.float16), [-2, 0, 0.5]),
        (torch.tensor([-1, 0, 0.5], dtype=torch.bfloat16), [-1, 0, 0.5]),
    ],
)
def test_numbers_are_scaled_by_their_range(samples, expected):
    assert load_audio(Waveform(samples, RATE), rate=RATE).samples.tolist() == expected


@pytest.mark.parametrize(
    ("samples", "rate", "error", "match"),
    [
        (np.zeros((0,), np.float32), RATE, InvalidAudioError, "no samples"),
        (np.zeros((2, 0), np.float32), RATE, InvalidAudioError, "no samples"),
        (np.zeros((3, 3), np.float32), RATE, InvalidAudioError, "shape"),
        (np.zeros((100, 200), np.float32), RATE, InvalidAudioError, "64 channels"),
        (np.zeros((1, 2, 100), np.float32), RATE, InvalidAudioError, "shape"),
        (np.float32([0, np.nan, 1]), RATE, InvalidAudioError, "first at sample 1"),
        (np.float32([0, 1, np.inf]), RATE, InvalidAudioError, "first at sample 2"),
        (np.float32([0, 20_000]), RATE, InvalidAudioError, "divide by the range"),
        (np.zeros(9, np.int64), RATE, InvalidAudioError, "int64"),
        (np.zeros(9, bool), RATE, InvalidAudioError, "bool"),
        (np.zeros(9, np.complex64), RATE, InvalidAudioError, "complex64"),
        ([0.0, 0.5], RATE, UnsupportedInputError, "list"),
        (np.zeros(9, np.float32), 16, InvalidAudioError, "rate 16;"),
        (np.zeros(9, np.float32), 1_000_000, InvalidAudioError, "rate 1000000"),
        (np.zeros(9, np.float32), 44_100.5, InvalidAudioError, "44100.5"),
        (np.zeros(9, np.float32), True, InvalidAudioError, "rate True"),
        (np.zeros(9, np.float32), "16000", InvalidAudioError, "'16000'"),
    ],
)
def test_what_is_no_waveform_is_refused_by_name(samples, rate, error, match):
    with pytest.raises(error, match=match):
        load_audio(Waveform(samples, rate), rate=RATE)
    with pytest.raises(error, match=match):
        list(iter_audio(Waveform(samples, rate), rate=RATE, seconds=1))


@pytest.mark.parametrize(
    ("source", "error", "match"),
    [
        (np.zeros(160, np.float32), UnsupportedInputError, "does not tell its rate"),
        ([0.0, 0.1], UnsupportedInputError, "does not tell its rate"),
        ({"bytes": b""}, UnsupportedInputError, "sampling_rate"),
        ("bark.wav", UnsupportedInputError, "pathlib.Path"),
        (None, UnsupportedInputError, "NoneType"),
        (b"", NotMediaError, "empty"),
        (b"%PDF-1.7 ...", NotMediaError, "document"),
        (b"\x89PNG\r\n\x1a\n", NotMediaError, "image"),
        (b"<!doctype html><p>404", NotMediaError, "web page"),
    ],
)
def test_what_is_no_audio_is_refused_by_name(source, error, match):
    with pytest.raises(error, match=match):
        load_audio(source, rate=RATE)


def test_files_paths_and_open_files_are_one(tmp_path):
    content = sndfile(tones(1, RATE), RATE, "FLAC")
    path = tmp_path / "a.anything"
    path.write_bytes(content)
    expected = load_audio(content, rate=8000).samples
    for source in (path, io.BytesIO(content), bytearray(content)):
        assert load_audio(source, rate=8000).samples.tobytes() == expected.tobytes()
    with pytest.raises(MissingFileError, match="does not exist"):
        load_audio(tmp_path / "gone.wav", rate=RATE)
    with pytest.raises(MissingFileError, match="is a folder"):
        load_audio(tmp_path, rate=RATE)


@pytest.mark.parametrize(
    "wrong",
    [{"rate": 100}, {"rate": "16000"}, {"rate": 16e3}, {"start": -1}, {"seconds": float("nan")}, {"seconds": float("inf")}, {"start": "1"}],
)  # fmt: skip
def test_arguments_are_checked_before_anything_is_read(wrong):
    with pytest.raises(ArgumentError):
        load_audio(b"", **{"rate": RATE, **wrong})


def test_a_segment_beyond_the_end_is_named():
    for source in (
        Waveform(tones(1, RATE), RATE),
        sndfile(tones(1, RATE), RATE),
        ffmpeg(tones(1, 48_000), 48_000, "ipod", "aac"),
    ):
        with pytest.raises(InvalidAudioError, match="no samples from 5 s on"):
            load_audio(source, rate=RATE, start=5)
        assert len(load_audio(source, rate=RATE, start=0.5, seconds=9).samples) == pytest.approx(8000, abs=600)


def test_what_is_too_long_is_refused_before_it_is_decoded_and_a_segment_is_read(monkeypatch):
    monkeypatch.setattr(audio, "MAX_SAMPLES", RATE)
    long = sndfile(tones(3, RATE), RATE, "FLAC")
    for source in (long, Waveform(tones(3, RATE), RATE)):
        with pytest.raises(AudioTooLongError, match=r"says that it has 3\.0 s; at 16,000 Hz at most 1\.0 s"):
            load_audio(source, rate=RATE)
        assert load_audio(source, rate=RATE, start=2, seconds=1).seconds == 1
    endless = wav(np.zeros(8000, np.int16).tobytes(), size=2**31 - 44)  # says nine hours, and has half a second
    assert load_audio(endless, rate=RATE).seconds == 0.5
    unknown = wav(np.zeros(3 * RATE, np.int16).tobytes(), size=0xFFFFFFFF)  # as who writes into a pipe
    with pytest.raises(AudioTooLongError):
        load_audio(unknown, rate=RATE)


def test_items_and_keys(tmp_path):
    wave = Waveform(tones(0.1, RATE), RATE)
    told = {"array": wave.samples, "sampling_rate": RATE}
    assert as_item(wave).audio is wave
    assert as_item(wave).modalities == {"audio"}
    assert load_audio(as_item(told).audio, rate=RATE).samples.tobytes() == wave.samples.tobytes()
    assert item_key(as_item(told)) == item_key(as_item(wave)) == item_key(zoo.Item(audio=told))
    assert item_key(as_item(wave)) != item_key(as_item(Waveform(wave.samples, 8000)))
    assert item_key(as_item(wave)) != item_key(as_item(Waveform(wave.samples[::-1], RATE)))


def test_heads_tell_containers():
    assert container_of(b"ID3\x04\0\0\0\0\0\x05aaaaa\xff\xf1\x50\x80") == "aac"
    assert container_of(b"ID3\x04\0\0\0\0\x7f\x7faaaaa") == "mp3"
    assert container_of(b"\0\0\0\x18ftypavif") is None
    assert container_of(b"\0\0\0\x18ftypM4A ") == "mov"
    assert container_of(b"#EXTM3U\nhttp://example.org/a.ts") is None


def test_a_decoder_that_takes_too_long_costs_one_item(monkeypatch):
    content = sndfile(tones(60, RATE), RATE, "FLAC")
    monkeypatch.setattr(audio, "_SECONDS", 1e-4)
    monkeypatch.setattr(audio, "_AUDIO_A_SECOND", 1e9)
    with pytest.raises(AudioTooLongError, match=r"too much work: its decoder took more than .* s"):
        load_audio(content, rate=RATE)
    monkeypatch.undo()
    assert load_audio(content, rate=RATE).seconds == 60


def test_real_recordings_are_what_libsndfile_reads_and_as_long_as_they_are():
    """Sounds of ESC-10 (Ogg Vorbis) and spoken digits (FLAC), both at the rate that is asked for."""
    import pyarrow.parquet as pq
    import soundfile

    from tests.conftest import data_pack

    rows = pq.read_table(data_pack("audio") / "val.parquet", columns=["duration", "audio", "source"]).to_pylist()
    assert len({row["source"] for row in rows}) == 2
    for row in rows[::12]:
        content = row["audio"]["bytes"] if isinstance(row["audio"], dict) else row["audio"]
        audio = load_audio(content, rate=RATE)
        assert audio.seconds == pytest.approx(row["duration"], abs=1e-3)
        assert np.array_equal(audio.samples, soundfile.read(io.BytesIO(content), dtype="float32")[0])


def test_long_audio_lies_in_a_file_and_is_the_same(monkeypatch):
    content = sndfile(tones(3, 44_100), 44_100, "FLAC")
    short = audio.map_audio(content, rate=RATE).samples
    monkeypatch.setattr(audio, "_IN_MEMORY_SECONDS", 2.0)
    mapped = audio.map_audio(content, rate=RATE)
    assert isinstance(mapped.samples, np.memmap)
    assert not isinstance(short, np.memmap)
    assert (mapped.seconds, mapped.source_rate) == (3.0, 44_100)
    assert np.array_equal(mapped.samples, short)


def test_how_long_audio_is_is_what_its_windows_end_at(tmp_path):
    path = tmp_path / "a.flac"
    path.write_bytes(sndfile(tones(3.21, 44_100), 44_100, "FLAC"))
    (tmp_path / "b.mp3").write_bytes(sndfile(tones(2.5, 22_050), 22_050, "MP3"))
    for source in (path, tmp_path / "b.mp3", zoo.Waveform(tones(0.7, 16_000), 16_000)):
        *_, last = iter_audio(source, rate=8000, seconds=1.0)
        assert seconds_of(source) == pytest.approx(last.start + last.seconds, abs=1e-3)
    assert seconds_of(path) == pytest.approx(3.21, abs=1e-3)
    assert seconds_of(zoo.Excerpt(path, 1.0, 1.5)) == pytest.approx(1.5, abs=1e-3)
    with pytest.raises(InvalidAudioError, match="no samples"):
        seconds_of(sndfile(np.zeros(0, np.float32), 8000))


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 7, 8, 9, 64])
def test_the_mean_of_channels_is_numpys_to_the_bit(channels: int) -> None:
    from zoo.inputs.listening import _mean

    samples = np.random.default_rng(channels).standard_normal((1001, channels)).astype(np.float32)
    assert np.array_equal(_mean(samples.T), samples.mean(1, dtype=np.float32))
    assert np.array_equal(_mean(np.ascontiguousarray(samples.T)), samples.T.copy().mean(0, dtype=np.float32))
