"""Pages of documents and moments of videos and audio as rows: embedded, kept up to date, found again and shown."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import zoo
from tests.bulk.bulk_support import inputs_of, quarantined
from tests.embedder.test_tracks import wav
from tests.inputs.pdfs import BLUE, GREEN, Sheet, encrypted, pdf
from tests.inputs.test_videos import avi, numbered
from zoo.bulk import embed_dataset
from zoo.cli import main
from zoo.errors import ArgumentError, TableError
from zoo.inputs.video import load_video
from zoo.shards.folder import ShardFolder
from zoo.vectors.reranking import document_of

SHEETS = [Sheet("one"), Sheet("two", GREEN), Sheet("three", BLUE)]
VIDEO = avi(numbered(33, 20, 30), fps=10)


@pytest.fixture(scope="module")
def model() -> zoo.Embedder:
    return zoo.build_model("mini-test").eval()


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    """An image, a document of three pages in a folder, one without an ending, a bad one, and a text."""
    folder = tmp_path / "papers"
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(np.full((20, 30, 3), 99, np.uint8)).save(folder / "a.png")
    (folder / "sub" / "paper.pdf").write_bytes(pdf(SHEETS))
    (folder / "unnamed").write_bytes(pdf(SHEETS[:1]))
    (folder / "locked.pdf").write_bytes(encrypted())
    (folder / "notes.txt").write_text("hello")
    return folder


def stored(out: Path) -> list[dict]:
    """The rows of a folder, in the order of the inputs."""
    return [row for shard in ShardFolder(out).finished() for row in pq.read_table(shard.path).to_pylist()]


def ids(out: Path) -> list[str]:
    return [row["id"] for row in stored(out)]


def test_images_and_pages_of_documents_lie_in_one_folder(model, papers, tmp_path):
    out, notes = tmp_path / "out", []
    report = embed_dataset(model, papers, out, progress=False, say=notes.append)
    rows = stored(out)
    assert [row["id"] for row in rows] == ["a.png", *(f"sub/paper.pdf#{n}" for n in (1, 2, 3)), "unnamed#1"]
    assert [row["page"] for row in rows] == [None, 1, 2, 3, 1]
    assert [row["reference"] for row in rows[1:4]] == ["sub/paper.pdf"] * 3
    assert any("--kind image" in note for note in notes)
    assert [(bad["id"], bad["reason"]) for bad in quarantined(out)] == [("locked.pdf", "encrypted-document")]
    assert report.ignored == {"text": 1}
    pages = [zoo.DocumentPage(papers / "sub" / "paper.pdf", number) for number in (1, 2, 3)]
    expected = model.encode([papers / "a.png", *pages, zoo.DocumentPage(papers / "unnamed", 1)])
    np.testing.assert_allclose(np.stack([row["vector"] for row in rows]), expected.numpy(), atol=1e-5)
    index = zoo.open_index(out, model=model, backend="exact")
    best = index.search(model.encode(pages[1]), 1)[0]
    assert (best.id, best.attributes["page"]) == ("sub/paper.pdf#2", 2)
    assert document_of(best, inputs_of(out)).image == pages[1]  # what a reranker reads
    again = embed_dataset(model, papers, out, progress=False)
    assert (again.added, again.vectors) == (0, 5)


def test_what_changes_is_embedded_and_what_moves_is_recognised(model, papers, tmp_path):
    out = tmp_path / "out"
    embed_dataset(model, papers, out, kind="document", progress=False)
    assert ids(out) == ["sub/paper.pdf#1", "sub/paper.pdf#2", "sub/paper.pdf#3", "unnamed#1"]
    (papers / "sub" / "paper.pdf").rename(papers / "moved.pdf")
    (papers / "new.pdf").write_bytes(pdf(SHEETS[1:]))
    report = embed_dataset(model, papers, out, kind="document", update=True, progress=False)
    assert report.added == 2
    assert ids(out) == ["moved.pdf#1", "moved.pdf#2", "moved.pdf#3", "new.pdf#1", "new.pdf#2", "unnamed#1"]


def test_pages_that_look_alike_are_near_and_those_of_a_copied_file_the_same(model, tmp_path):
    from zoo.vectors import find_duplicates
    from zoo.vectors.opening import open_vectors

    folder = tmp_path / "papers"
    folder.mkdir()
    for name in ("a.pdf", "b.pdf"):
        (folder / name).write_bytes(pdf([Sheet(), Sheet()]))
    embed_dataset(model, folder, tmp_path / "out", progress=False)
    (group,) = find_duplicates(open_vectors(tmp_path / "out"))
    assert group.first == 0
    assert {copy.position: copy.same for copy in group.others} == {1: False, 2: True, 3: False}


def test_a_document_has_one_vector_where_that_is_asked_for(model, papers, tmp_path):
    out = tmp_path / "out"
    embed_dataset(model, papers, out, per="document", progress=False)
    assert ids(out) == ["a.png", "sub/paper.pdf", "unnamed"]
    expected = model.encode(papers / "sub" / "paper.pdf").numpy()
    np.testing.assert_allclose(stored(out)[1]["vector"], expected, atol=1e-5)
    images = tmp_path / "images"
    embed_dataset(model, papers, images, kind="image", progress=False)
    assert ids(images) == ["a.png"]


def test_a_bad_page_is_set_aside_alone(model, tmp_path):
    folder = tmp_path / "papers"
    folder.mkdir()
    (folder / "a.pdf").write_bytes(pdf([Sheet("one"), Sheet(lost=True), Sheet("three")]))
    embed_dataset(model, folder, tmp_path / "out", progress=False)
    assert ids(tmp_path / "out") == ["a.pdf#1", "a.pdf#3"]
    (bad,) = quarantined(tmp_path / "out")
    assert (bad["id"], bad["reason"]) == ("a.pdf#2", "corrupt-document")


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_a_column_of_documents(model, papers, tmp_path, form):
    table = papers / f"t.{form}"
    if form == "parquet":
        pq.write_table(pa.table({"pdf": [pdf(SHEETS), pdf(SHEETS[:1])], "title": ["long", "short"]}), table)
    elif form == "csv":
        table.write_text("pdf,title\nsub/paper.pdf,long\nunnamed,short\n")
    else:
        lines = ({"pdf": "sub/paper.pdf", "title": "long"}, {"pdf": "unnamed", "title": "short"})
        table.write_text("\n".join(map(json.dumps, lines)))
    embed_dataset(model, table, tmp_path / "out", column="pdf", progress=False)
    rows = stored(tmp_path / "out")
    assert [(row["id"], row["title"], row["page"]) for row in rows] == [
        ("0#1", "long", 1), ("0#2", "long", 2), ("0#3", "long", 3), ("1#1", "short", 1),
    ]  # fmt: skip
    expected = model.encode(zoo.DocumentPage(pdf(SHEETS), 2)).numpy()
    np.testing.assert_allclose(rows[1]["vector"], expected, atol=1e-5)


def test_frames_of_a_video_are_images_at_their_times(model, tmp_path):
    folder, out = tmp_path / "videos", tmp_path / "out"
    folder.mkdir()
    (folder / "a.avi").write_bytes(VIDEO)
    (folder / "cut.avi").write_bytes(VIDEO[:300])
    embed_dataset(model, folder, out, kind="video", per="frame", fps=2, progress=False)
    track = model.encode_track(folder / "a.avi", "frame", fps=2)
    rows = stored(out)
    assert [row["id"] for row in rows] == [f"a.avi#{n}" for n in range(1, 7)]
    np.testing.assert_allclose([row["start"] for row in rows], track.starts, atol=1e-6)
    np.testing.assert_allclose([row["end"] for row in rows], track.ends, atol=1e-6)
    np.testing.assert_allclose(np.stack([row["vector"] for row in rows]), track.vectors.numpy(), atol=1e-5)
    assert [bad["reason"] for bad in quarantined(out)] == ["corrupt-video"]
    assert embed_dataset(model, folder, out, kind="video", per="frame", fps=2, progress=False).added == 0
    from zoo.vectors.opening import open_vectors

    shown = open_vectors(out).shown(3)
    assert (shown == load_video(VIDEO, frames=99, fps=2).frames[3]).all()


def test_seconds_of_audio_are_read_as_audio_each(tmp_path):
    model = zoo.build_model("clap-test").eval()
    folder, out = tmp_path / "recordings", tmp_path / "out"
    folder.mkdir()
    (folder / "a.wav").write_bytes(wav(np.sin(np.arange(20_000) ** 1.3 / 90).astype(np.float32), 8000))
    embed_dataset(model, folder, out, kind="audio", per="second", seconds=1, hop=0.5, progress=False)
    rows = stored(out)
    assert [(row["start"], row["end"]) for row in rows] == [(0, 1), (0.5, 1.5), (1, 2), (1.5, 2.5)]
    expected = model.encode([zoo.Excerpt(folder / "a.wav", row["start"], 1) for row in rows])
    np.testing.assert_allclose(np.stack([row["vector"] for row in rows]), expected.numpy(), atol=1e-5)
    track = model.encode_track(folder / "a.wav", "second", hop=0.5)
    np.testing.assert_allclose(track.vectors.numpy(), expected.numpy(), atol=1e-4)
    assert embed_dataset(model, folder, out, kind="audio", per="second", hop=0.5, progress=False).added == 0


def test_what_has_no_such_parts_is_refused(model, papers, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "t.txt").write_text("a\nb\n")
    for source, options, words in (
        (tmp_path / "t.txt", {"per": "page"}, "of which there is no page"),
        (tmp_path / "t.txt", {"per": "document"}, "no documents"),
        (papers, {"per": "second"}, "of which there is no second"),
    ):
        with pytest.raises(TableError, match=words):
            embed_dataset(model, source, out, progress=False, **options)
    for options, words in (
        ({"fps": 2}, "fps is of --per frame"),
        ({"per": "page", "seconds": 2}, "seconds is of per='second'"),
        ({"regions": "grid", "per": "page"}, "regions are of whole images"),
    ):
        with pytest.raises(ArgumentError, match=words):
            embed_dataset(model, papers, out, progress=False, **options)
    with pytest.raises(TableError, match=r"holds documents, .*--modality image"):
        embed_dataset(zoo.build_model("text-test"), papers, out, kind="document", progress=False)
    assert not out.exists()


def test_search_says_the_page_and_shows_it(model, papers, tmp_path, capsys):
    checkpoint, out, page = model.save_pretrained(tmp_path / "model"), tmp_path / "out", tmp_path / "found.html"
    assert main(["embed", str(papers), "--out", str(out), "--model", str(checkpoint), "--quiet"]) == 0
    capsys.readouterr()
    image = tmp_path / "green.png"
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(image)
    assert main(["search", str(out), "--image", str(image), "--json", "--backend", "exact"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {match["attributes"]["page"] for match in found} == {None, 1, 2, 3}
    assert main(["search", str(out), "--image", str(image), "--html", str(page), "--backend", "exact"]) == 0
    assert main(["search", str(out), "--image", str(image), "--backend", "exact"]) == 0
    assert re.search(r"score +kind +page", capsys.readouterr().out)
    figures = re.findall(r'base64,([^"]+)"></?.*?#?(\S+pdf|unnamed|a\.png)<br><small>(.*?)</small>', page.read_text())
    colours = {}
    for data, name, rest in figures:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        colours[name.rpartition("> ")[2], rest] = pixels[len(pixels) // 4, len(pixels[0]) // 4].round(-1).tolist()
    by_page = {rest: colour for (name, rest), colour in colours.items() if "paper.pdf" in name}
    channels = {re.search(r"page: (\d)", rest)[1]: int(np.argmax(colour)) for rest, colour in by_page.items()}
    assert channels == {"1": 0, "2": 1, "3": 2}  # red, green, blue
