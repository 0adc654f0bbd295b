"""Audio from folders and tables to vectors and back: every file below a folder, every form of a column, found again by text."""

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import zoo
from tests.bulk.bulk_support import open_source, quarantined, stored
from tests.every import standing_for
from tests.inputs.audio_files import ffmpeg, sndfile, tones
from zoo.bulk import embed_dataset
from zoo.cli import main
from zoo.errors import TableError

pytest.importorskip("soxr", reason="audio needs soundfile, soxr and av (extra 'audio')")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """Name → bytes, of several formats, rates and lengths."""
    made = [("WAV", "wav", 16_000), ("FLAC", "flac", 8000), ("OGG", "ogg", 44_100), ("MP3", "mp3", 44_100)]
    found = {
        f"{i}.{ending}": sndfile(tones(0.4 + i / 3, rate, i), rate, format)
        for i, (format, ending, rate) in enumerate(made)
    }
    found["4.m4a"] = ffmpeg(tones(0.7, 48_000, 4), 48_000, "ipod", "aac")
    return found


@pytest.fixture(scope="module")
def model() -> zoo.Embedder:
    return zoo.build_model("clap-test")


@pytest.fixture(scope="module")
def expected(model: zoo.Embedder, files: dict[str, bytes]) -> np.ndarray:
    return model.encode(list(files.values())).numpy()


@pytest.fixture
def folder(tmp_path: Path, files: dict[str, bytes]) -> Path:
    """The files, one of them without an ending, a broken one, and a text."""
    folder = tmp_path / "recordings"
    (folder / "b").mkdir(parents=True)
    for name, content in files.items():
        (folder / ("b/unnamed" if name == "1.flac" else name)).write_bytes(content)
    (folder / "broken.wav").write_bytes(b"RIFF\x10\0\0\0WAVEjunk")
    (folder / "notes.txt").write_text("hello")
    return folder


def test_a_folder_of_audio_is_embedded_and_found_by_text_and_by_a_file(
    folder, model, files, expected, tmp_path, capsys
):
    report = embed_dataset(model, folder, tmp_path / "out", progress=False)
    assert report.ignored == {"not-audio": 1}
    ids, vectors = stored(tmp_path / "out")
    assert ids == ["0.wav", "2.ogg", "3.mp3", "4.m4a", "b/unnamed"]
    np.testing.assert_allclose(vectors, expected[[0, 2, 3, 4, 1]], atol=1e-5)
    assert [(one["id"], one["reason"]) for one in quarantined(tmp_path / "out")] == [("broken.wav", "corrupt-audio")]
    assert embed_dataset(model, folder, tmp_path / "out", progress=False).new == 0
    index = zoo.open_index(tmp_path / "out", model=model, backend="exact")
    assert index.search(model.encode(folder / "3.mp3"), 1)[0].id == "3.mp3"
    scores = {match.id: match.score for match in index.search(model.encode_query("a bell"), 5)}
    assert scores == pytest.approx(dict(zip(ids, vectors @ model.encode("a bell").numpy(), strict=True)), abs=1e-5)
    saved = model.save_pretrained(tmp_path / "model")
    again = [
        "embed",
        str(folder),
        "--out",
        str(tmp_path / "cli"),
        "--model",
        str(saved),
        "--kind",
        "audio",
        "--device",
        "cpu",
    ]
    assert main(again) == 0
    asked = [
        "search",
        str(tmp_path / "cli"),
        "--file",
        str(folder / "2.ogg"),
        "-k",
        "1",
        "--json",
        "--backend",
        "exact",
    ]
    capsys.readouterr()
    assert main([*asked, "--model", str(saved), "--device", "cpu"]) == 0
    assert "2.ogg" in capsys.readouterr().out


def test_of_a_folder_of_audio_it_is_said_what_a_model_reads(folder):
    source = open_source(folder, modalities={"image", "audio"})
    assert (source.count(), source.ignored) == (6, {"text": 1})
    with pytest.raises(TableError, match="this model reads image and text only"):
        open_source(folder, kind="audio", modalities={"image", "text"})
    assert open_source(folder, kind="audio").count() == 6


def tables(place: Path, files: dict[str, bytes]) -> dict[str, tuple[Path, dict]]:
    """One table of every form that a column of audio has, and how it is asked for."""
    names, contents = list(files), list(files.values())
    for name, content in files.items():
        (place / name).write_bytes(content)
    feature = {
        "info": {
            "features": {
                "audio": {"_type": "Audio", "sampling_rate": 16_000},
                "id": {"_type": "Value", "dtype": "string"},
            }
        }
    }
    structs = pa.table({"audio": [{"bytes": c, "path": n} for n, c in files.items()], "id": names})
    pq.write_table(structs.replace_schema_metadata({"huggingface": json.dumps(feature)}), place / "structs.parquet")
    pq.write_table(pa.table({"clip": contents, "id": names}), place / "bytes.parquet")
    with (place / "paths.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["audio", "caption"], *([name, f"the text of {name}"] for name in names)])
    (place / "paths.jsonl").write_text("".join(json.dumps({"clip": name}) + "\n" for name in names))
    with tarfile.open(place / "shard.tar", "w") as tar:
        for name, content in files.items():
            for member, data in ((name, content), (f"{name[0]}.txt", b"a text")):
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return {
        "structs": (place / "structs.parquet", {}),
        "bytes": (place / "bytes.parquet", {}),
        "csv": (place / "paths.csv", {"column": "audio"}),
        "jsonl": (place / "paths.jsonl", {"column": "clip", "kind": "audio"}),
        "tar": (place / "shard.tar", {"kind": "audio"}),
    }


@pytest.mark.parametrize("form", standing_for(["structs", "bytes", "csv", "jsonl", "tar"], {"structs", "csv", "tar"}))
def test_every_form_of_a_column_is_read(form, model, files, expected, tmp_path):
    path, asked = tables(tmp_path, files)[form]
    report = embed_dataset(model, path, tmp_path / "out", progress=False, **asked)
    assert (report.vectors, report.bad) == (5, 0)
    np.testing.assert_allclose(stored(tmp_path / "out")[1], expected, atol=1e-5)


def test_audio_with_its_text_is_one_item(model, files, tmp_path):
    path, _ = tables(tmp_path, files)["csv"]
    embed_dataset(model, path, tmp_path / "out", column="audio+caption", progress=False)
    items = [zoo.Item(audio=content, text=f"the text of {name}") for name, content in files.items()]
    np.testing.assert_allclose(stored(tmp_path / "out")[1], model.encode(items).numpy(), atol=1e-5)


def test_a_model_learns_from_a_table_of_audio_and_captions(files, tmp_path):
    """Waveforms are read, changed by augmentation, and the vectors move: rows that cannot be heard are set aside by name."""
    from zoo.training import Recipe, open_pairs, train
    from zoo.training.skipped import SKIPPED

    path, _ = tables(tmp_path, files)["csv"]
    with path.open("a", newline="") as file:
        csv.writer(file).writerow(["gone.wav", "what is not there"])
    model = zoo.build_model("clap-test")
    clip = zoo.Waveform(tones(0.5, 16_000), 16_000)
    before = model.encode(clip)
    recipe = Recipe(epochs=2, batch_size=4, lr=1e-3, augment="gain=6,shift=0.2", max_bad=1, warmup=0.0)
    train(model, open_pairs(path), recipe, tmp_path / "run", progress=False, trackers=(), report=False)
    skipped = next((tmp_path / "run").rglob(SKIPPED)).read_text()
    assert "no audio" in skipped
    assert "gone.wav" in skipped
    assert (before - model.encode(clip)).norm() > 1e-3
