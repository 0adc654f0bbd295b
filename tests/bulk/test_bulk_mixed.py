"""Folders of images, videos, audio, documents and texts in one command: known by what they hold, found by kind, page and moment."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import zoo
from tests.bulk.bulk_support import inputs_of, quarantined
from tests.inputs.audio_files import sndfile, tones
from tests.inputs.pdfs import GREEN, Sheet, pdf
from tests.inputs.test_videos import avi, numbered
from zoo.bulk import embed_dataset
from zoo.cli import main
from zoo.errors import ArgumentError, FilterError, SilentAudioError, TableError
from zoo.index import SearchHit, read_manifest
from zoo.index.narrowing import check_kinds, narrowed
from zoo.inputs.silence import is_silent, refuse_silence
from zoo.shards.folder import ShardFolder
from zoo.vectors.reranking import document_of

pytest.importorskip("soxr", reason="audio needs soundfile, soxr and av (extra 'audio')")
RATE = 16_000
VIDEO = avi(numbered(20, 32, 32), fps=10)


@pytest.fixture(scope="module")
def model() -> zoo.Embedder:
    return zoo.build_model("omni-test").eval()


@pytest.fixture(scope="module")
def stuff(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What people have in one folder, liars among it."""
    folder = tmp_path_factory.mktemp("stuff")
    image = np.full((32, 48, 3), 99, np.uint8)
    Image.fromarray(image).save(folder / "photo.png")
    (folder / "clip.avi").write_bytes(VIDEO)
    (folder / "bell.wav").write_bytes(sndfile(tones(2.0, RATE), RATE))
    (folder / "paper.pdf").write_bytes(pdf([Sheet("one"), Sheet("two", GREEN)]))
    (folder / "BMW.txt").write_text("BMW, the blue one")  # which begins as BMP does
    (folder / "wide.md").write_bytes("a lighthouse".encode("utf-16"))
    (folder / "song.jpg").write_bytes(sndfile(tones(1.0, RATE, 1), RATE, "MP3"))
    (folder / "video.mp4").write_bytes(pdf([Sheet("three")]))
    Image.fromarray(image[:, ::-1] // 2).save(folder / "cover.wav", format="PNG")
    (folder / "silence.wav").write_bytes(sndfile(np.zeros(RATE, np.float32), RATE))
    (folder / "blink.wav").write_bytes(sndfile(tones(0.01, RATE), RATE))
    (folder / "empty.avi").write_bytes(VIDEO[: VIDEO.index(b"movi") + 4])  # a head, and no frame
    (folder / "latin.txt").write_bytes("caf\xe9 cr\xe8me".encode("latin-1"))
    (folder / "sheet.ods").write_bytes(b"PK\3\4")
    return folder


@pytest.fixture(scope="module")
def made(model, stuff, tmp_path_factory) -> tuple[Path, "zoo.bulk.BulkReport", list[str]]:
    out, notes = tmp_path_factory.mktemp("vectors") / "out", []
    return out, embed_dataset(model, stuff, out, progress=False, say=notes.append), notes


def rows(out: Path) -> dict[str, dict]:
    """The rows of a folder by id."""
    tables = [pq.read_table(shard.path).to_pylist() for shard in ShardFolder(out).finished()]
    return {row["id"]: row for table in tables for row in table}


def test_every_kind_goes_through_in_one_job_and_is_what_it_holds(made, model, stuff):
    out, report, notes = made
    found = rows(out)
    assert {name: row["kind"] for name, row in found.items()} == {
        "BMW.txt": "text",
        "bell.wav": "audio",
        "clip.avi": "video",
        "cover.wav": "image",
        "video.mp4#1": "document",
        "paper.pdf#1": "document",
        "paper.pdf#2": "document",
        "photo.png": "image",
        "silence.wav": "audio",
        "song.jpg": "audio",
        "wide.md": "text",
    }
    assert report.kinds == {"text": 2, "audio": 3, "video": 1, "image": 2, "document": 3}
    assert report.ignored == {"other": 1}
    page = zoo.DocumentPage(stuff / "paper.pdf", 2)
    asked = [stuff / "bell.wav", stuff / "cover.wav", "a lighthouse", page, stuff / "clip.avi", stuff / "song.jpg"]
    expected = model.encode_document(asked).numpy()
    names = ["bell.wav", "cover.wav", "wide.md", "paper.pdf#2", "clip.avi", "song.jpg"]
    np.testing.assert_allclose(np.stack([found[name]["vector"] for name in names]), expected, atol=1e-5)
    assert any("every kind of file" in note and "text files" in note for note in notes)
    (said,) = [note for note in notes if "not as what they are called" in note]
    assert all(
        one in said for one in ("song.jpg holds audio", "video.mp4 holds a document", "cover.wav holds an image")
    )


def test_bad_files_cost_themselves_and_silence_is_said(made):
    out, report, _ = made
    assert {one["id"]: one["reason"] for one in quarantined(out)} == {
        "blink.wav": "invalid-audio",
        "empty.avi": "corrupt-video",
        "latin.txt": "invalid-text",
    }
    assert (report.bad, report.silent, report.silences) == (3, 1, ["silence.wav"])


def test_again_nothing_is_new_and_what_moved_is_recognised(made, model, stuff, tmp_path):
    folder, out = tmp_path / "stuff", tmp_path / "out"
    shutil.copytree(stuff, folder)
    shutil.copytree(made[0], out)
    assert embed_dataset(model, folder, out, update=True, progress=False).new == 0
    (folder / "bell.wav").rename(folder / "ring.wav")
    (folder / "wide.md").rename(folder / "wide.txt")
    report = embed_dataset(model, folder, out, update=True, progress=False)
    assert (report.new, report.moved, report.removed) == (0, 2, 0)
    assert {name: rows(out)[name]["kind"] for name in ("ring.wav", "wide.txt")} == {
        "ring.wav": "audio",
        "wide.txt": "text",
    }


def test_moments_pages_and_whole_images_lie_in_one_folder(model, stuff, tmp_path):
    out = tmp_path / "out"
    report = embed_dataset(model, stuff, out, per=["second", "frame"], fps=2, progress=False)
    found = rows(out)
    places = {name: (row["kind"], row["page"], row["start"], row["end"]) for name, row in found.items()}
    assert places["paper.pdf#2"] == ("document", 2, None, None)
    assert places["bell.wav#2"] == ("audio", None, 1.0, 2.0)
    assert places["clip.avi#3"] == ("video", None, 1.3, 1.9)
    assert places["photo.png"] == ("image", None, None, None)
    assert places["wide.md"] == ("text", None, None, None)
    assert report.kinds["video"] == 4
    inputs = inputs_of(out)
    read = {
        name: document_of(SearchHit(name, 0.0, found[name]["reference"], found[name]), inputs)
        for name in ("paper.pdf#2", "bell.wav#2", "clip.avi#3", "photo.png", "wide.md")
    }  # as a reranker reads them
    assert read["paper.pdf#2"].image == zoo.DocumentPage(stuff / "paper.pdf", 2)
    assert read["bell.wav#2"].audio == zoo.Excerpt(stuff / "bell.wav", 1.0, 1.0)
    assert read["clip.avi#3"].image.shape == (32, 32, 3)
    assert (read["photo.png"].image, read["wide.md"].text) == (stuff / "photo.png", "a lighthouse")
    moment = model.encode(zoo.Excerpt(stuff / "bell.wav", 1.0, 1.0)).numpy()
    np.testing.assert_allclose(found["bell.wav#2"]["vector"], moment, atol=1e-5)
    assert embed_dataset(model, stuff, out, per=["frame", "second"], fps=2, progress=False).new == 0
    whole = embed_dataset(
        model, stuff, tmp_path / "whole", per=["document"], kind=["document", "image"], progress=False
    )
    assert whole.kinds == {"document": 2, "image": 2}


def test_how_long_a_file_is_is_found_out_once(model, tmp_path, monkeypatch):
    """To know it is to decode the file, and a job walks its source three times and more."""
    from zoo.bulk import parts

    measured: list[Path] = []
    for name in ("audio_length", "page_count"):
        length = getattr(parts, name)
        monkeypatch.setattr(parts, name, lambda source, length=length: (measured.append(source), length(source))[1])
    folder = tmp_path / "stuff"
    folder.mkdir()
    (folder / "bell.wav").write_bytes(sndfile(tones(2.0, RATE), RATE))
    (folder / "paper.pdf").write_bytes(pdf([Sheet("one")]))
    for expected in (3, 0):
        assert embed_dataset(model, folder, tmp_path / "out", per="second", progress=False).new == expected
        assert sorted(path.name for path in measured) == ["bell.wav", "paper.pdf"]
        measured.clear()


def test_kinds_are_chosen_and_others_are_counted(model, stuff, tmp_path):
    report = embed_dataset(model, stuff, tmp_path / "out", kind=["audio", "text"], progress=False)
    assert report.kinds == {"audio": 3, "text": 2}
    assert report.ignored == {"image": 1, "document": 2, "video": 2, "other": 1}
    reasons = {one["id"]: one["reason"] for one in quarantined(tmp_path / "out")}
    assert reasons["cover.wav"] == "unsupported-modality"
    alone = embed_dataset(model, stuff, tmp_path / "alone", kind="image", progress=False)
    assert (alone.vectors, alone.reasons) == (2, {"unsupported-modality": 1}), "a .jpg that is MP3 is no image"
    for wrong, error in ({"kind": "movie"}, TableError), ({"per": ["page", "document"]}, ArgumentError):
        with pytest.raises(error):
            embed_dataset(model, stuff, tmp_path / "none", **wrong, progress=False)
    with pytest.raises(TableError, match="there is no frame"):
        embed_dataset(model, stuff, tmp_path / "none", kind="audio", per="frame", progress=False)
    with pytest.raises(TableError, match="a column holds one"):
        (tmp_path / "table.csv").write_text("text\nhello\n")
        embed_dataset(model, tmp_path / "table.csv", tmp_path / "none", kind=["text", "image"], progress=False)


def test_a_first_document_among_images_costs_no_image(model, stuff, tmp_path):
    """A folder whose vectors have no column of kinds gets one, from what was there."""
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    shutil.copy(stuff / "photo.png", folder)
    small = zoo.build_model("mini-test").eval()
    embed_dataset(small, folder, out, progress=False)
    assert "kind" not in rows(out)["photo.png"]
    assert narrowed(read_manifest(out), ["image"]) is None
    shutil.copy(stuff / "paper.pdf", folder)
    report = embed_dataset(small, folder, out, progress=False)
    assert (report.new, report.kinds) == (2, {"image": 1, "document": 2})
    assert {name: row["kind"] for name, row in rows(out).items()} == {
        "photo.png": "image",
        "paper.pdf#1": "document",
        "paper.pdf#2": "document",
    }


@pytest.mark.parametrize(
    ("source", "kind", "where"),
    [
        ({"kind": "image"}, "image", None),
        ({"kind": "text"}, "text", None),
        ({"kind": "image+regions"}, "image", None),
        ({"kind": "image", "parts": {"per": "page", "columns": ["page"]}}, "document", '("page" IS NOT NULL)'),
        ({"kind": "image", "parts": {"per": "page", "columns": ["page"]}}, "image", '("page" IS NULL)'),
        ({"kind": "image", "parts": {"per": "frame", "columns": ["start", "end"]}}, "video", '("start" IS NOT NULL)'),
        ({"kind": "audio", "parts": {"per": "second", "columns": ["start", "end"]}}, "audio", None),
        ({"kind": "media", "kinds": {"column": "kind_", "of": ["audio"]}}, "audio", "(\"kind_\" = 'audio')"),
    ],
)
def test_folders_of_earlier_versions_are_asked_for_kinds(source, kind, where):
    manifest = {"source": source, "counts": {}}
    assert narrowed(manifest, [kind]) == where
    assert narrowed(manifest, [kind], "a = 1") == ("a = 1" if where is None else f"(a = 1) AND {where}")
    with pytest.raises(FilterError, match="there is no kind 'movie'"):
        narrowed(manifest, ["movie"])


def test_a_kind_that_is_not_there_is_refused(made, model):
    out, _, _ = made
    index = zoo.open_index(out, model=model, backend="exact")
    manifest = read_manifest(out)
    check_kinds(manifest, ["audio", "text"], index.count)
    index.delete(where="kind = 'video'")
    with pytest.raises(FilterError, match="there is no video among the vectors"):
        check_kinds(manifest, ["video"], index.count)
    with pytest.raises(FilterError, match="there is no audio among the vectors; there is image"):
        narrowed({"source": {"kind": "image"}, "counts": {}}, ["audio"])
    with pytest.raises(FilterError, match="do not say which is audio"):
        narrowed({"source": {"kind": "media"}, "counts": {}}, ["audio"])


def test_the_commands(model, stuff, tmp_path, capsys, monkeypatch):
    saved, out = str(model.save_pretrained(tmp_path / "model")), str(tmp_path / "out")
    assert main(["embed", str(stuff), "--out", out, "--model", saved, "--quiet"]) == 0
    told = capsys.readouterr().out
    assert "of 2 image, 1 video, 3 audio, 3 document, 2 text" in told
    assert "silence, whose vectors say nothing: silence.wav" in told
    assert main(["search", out, "a bell", "--kind", "audio", "--kind", "video", "--where", "id <> 'bell.wav'"]) == 0
    found = capsys.readouterr().out
    assert all(name in found for name in ("clip.avi", "song.jpg"))
    assert not any(name in found for name in ("bell.wav", "photo.png", "paper.pdf"))
    lines = [
        f":file {stuff / 'bell.wav'}",
        ":kind text",
        "a bell",
        ":kind movie",
        ":kind image, video",
        "a bell",
        ":kind",
        "a bell",
    ]
    (tmp_path / "queries").write_text("\n".join(lines))
    with (tmp_path / "queries").open() as typed:
        monkeypatch.setattr("sys.stdin", typed)
        assert main(["search", out, "-k", "99"]) == 2, "movie is no kind"
    captured = capsys.readouterr()
    kinds = [line.split("\t")[6] for line in captured.out.splitlines()[1:]]
    assert len(kinds) == 11 + 2 + 3 + 11
    assert (set(kinds[11:13]), set(kinds[13:16])) == ({"text"}, {"image", "video"})
    assert "there is no kind 'movie'" in captured.err
    assert main(["search", out, "--image", str(stuff / "silence.wav")]) == 2
    assert "is silence, in which there is nothing to look for" in capsys.readouterr().err


def test_silence_is_known_in_one_place(stuff, model):
    noise = np.random.default_rng(0).normal(0, 1e-3, RATE).astype(np.float32)
    dither = np.random.default_rng(0).integers(-1, 2, RATE).astype(np.float32) / 2**15
    late = np.concatenate([np.zeros(12 * RATE, np.float32), noise])
    silent = {
        "none": np.zeros(RATE, np.float32),
        "dither": dither,
        "long": np.zeros(12 * RATE, np.float32),
    }
    assert all(is_silent(zoo.Waveform(samples, RATE)) for samples in silent.values())
    assert not any(is_silent(zoo.Waveform(samples, RATE)) for samples in (noise, late, tones(0.01, RATE)))
    assert is_silent(zoo.Excerpt(zoo.Waveform(late, RATE), 2.0, 9.0))
    for query in (stuff / "silence.wav", (stuff / "silence.wav").read_bytes(), zoo.Item(audio=stuff / "silence.wav")):
        with pytest.raises(SilentAudioError, match="search with text"):
            refuse_silence(query)
    for query in (stuff / "bell.wav", stuff / "photo.png", "silence"):
        refuse_silence(query)
    mixed = [zoo.Waveform(silent["none"], RATE), stuff / "bell.wav", "a bell"]
    assert [one.silent for one in model.encode_stream(mixed)] == [True, False, False]
    assert all(error is None for _, _, error in model.encode_stream(mixed)), "a result is three things"
    with pytest.warns(UserWarning, match="silence, of which a vector says nothing: item 0"):
        assert len(model.encode(mixed)) == 3, "it is warned of, not lost"
