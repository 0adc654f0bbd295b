"""`zoo train`, `zoo embed`, `zoo mine` and `zoo eval` read the same file the same way: rows, order, names, options."""

import argparse
import gzip
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.bulk.bulk_support import open_source
from tests.tables.train_tables import WRITERS, as_csv, as_jsonl, as_parquet, as_shard, as_tsv, png, shard, source_of
from zoo.cli import build_parser, main
from zoo.cli._pairs import read_pairs
from zoo.cli._shared import reading
from zoo.errors import TableError
from zoo.tables import open_sources
from zoo.tables.options import Options

pytestmark = pytest.mark.usefixtures("cache_home")

TEXTS = [f"an item, number {i}; é" for i in range(5)]
IMAGES = [png(40 * i, 20, 200) for i in range(5)]


def arguments_of(*words: str) -> argparse.Namespace:
    return build_parser().parse_args(list(words))


def content(value: Any) -> Any:
    return value.read_bytes() if isinstance(value, Path) else value


def as_trained(source: str | Path, *options: str) -> list[tuple[Any, str]]:
    """Image and text of every pair, as `zoo train`, `zoo mine` and `zoo merge` open them."""
    found = []
    for words in (["train", str(source)], ["mine", str(source)], ["merge", "a", "b", "--probe", str(source)]):
        told = reading(arguments_of(*words, "--out", "x", *options))
        pairs = open_sources([str(source)], told).check()
        found.append(
            [(content(pair.query.image), pair.positive.text) for pair in map(pairs.__getitem__, range(len(pairs)))]
        )
    assert found[0] == found[1] == found[2]
    return found[0]


def as_measured(source: str | Path, *options: str) -> list[tuple[Any, str]]:
    sides = read_pairs(arguments_of("eval", "--pairs", str(source), *options), str(source))
    return [(content(q.image), t.text) for q, t in zip(sides.queries, sides.targets, strict=True)]


def as_embedded(source: str | Path, *options: str) -> list[tuple[Any, str]]:
    """The same of every input of `zoo embed`, by the columns image and text."""
    told = arguments_of("embed", str(source), "--out", "x", *options)
    read = Options(
        root=told.root,
        split=told.split,
        ignore=tuple(told.ignore),
        as_text=tuple(told.as_text),
        encoding=told.encoding,
        separator=told.separator,
        allow_outside=told.allow_outside,
    )
    both = []
    for column in told.column or ("image", "text"):
        records = list(open_source(str(source), column=column, options=read).records())
        assert [record.error for record in records] == [None] * len(records)
        both.append([content(record.value) for record in records])
    return list(zip(*both, strict=True))


def rows(names: list[str]) -> list[dict[str, Any]]:
    return [{"image": name, "text": text} for name, text in zip(names, TEXTS, strict=True)]


def packed(pack: Callable[[bytes], bytes], write: Callable, suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        plain = write(rows(images_in(folder)), folder / "plain")
        path = folder / f"t{suffix}"
        path.write_bytes(pack(plain.read_bytes()))
        plain.unlink()
        return path

    return make


def images_in(folder: Path) -> list[str]:
    for number, image in enumerate(IMAGES):
        (folder / f"{number}.png").write_bytes(image)
    return [f"{number}.png" for number in range(len(IMAGES))]


def spelled(change: Callable[[str], bytes]) -> Callable[[Path], Path]:
    """A CSV file whose content is changed so."""

    def make(folder: Path) -> Path:
        path = as_csv(rows(images_in(folder)), folder / "t.csv")
        path.write_bytes(change(path.read_text()))
        return path

    return make


def in_metadata(folder: Path) -> Path:
    named = [{"file_name": row["image"], "text": row["text"]} for row in rows(images_in(folder))]
    as_csv(named, folder / "metadata.csv")
    return folder


def in_partitions(folder: Path) -> Path:
    for at in range(5):
        below = folder / f"year={2000 + at}" / "lang=de%2Fat"
        below.mkdir(parents=True)
        table = pa.table({"image": pa.array([IMAGES[at]], pa.binary()), "text": [TEXTS[at]]})
        pq.write_table(table, below / "part-0.parquet")
        (below / "_SUCCESS").touch()
        (below / ".part-0.parquet.crc").write_bytes(b"x")
    return folder


def in_partitions_of_paths(folder: Path) -> Path:
    every = rows([f"images/{name}" for name in images_in(folder)])
    (folder / "images").mkdir()
    for image in folder.glob("*.png"):
        image.rename(folder / "images" / image.name)
    data = folder / "data"
    for at, row in enumerate(every):
        (data / f"part={at}").mkdir(parents=True)
        as_parquet([{**row, "image": f"../{row['image']}"}], data / f"part={at}" / "0.parquet")
    return data


def in_parts(write: Callable, suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        every = rows(images_in(folder))
        folder = folder / "parts"
        folder.mkdir()
        for number, part in ((2, every[:2]), (10, every[2:])):
            write([{**row, "image": f"../{row['image']}"} for row in part], folder / f"part-{number}{suffix}")
        return folder

    return make


def as_bytes(folder: Path) -> Path:
    table = pa.table({"image": pa.array(IMAGES, pa.binary()), "text": pa.array(TEXTS).dictionary_encode()})
    pq.write_table(table, folder / "t.parquet", row_group_size=2)
    return folder / "t.parquet"


def in_a_shard(folder: Path) -> Path:
    files = {f"{i}.{kind}": value for i in range(5) for kind, value in (("png", IMAGES[i]), ("txt", TEXTS[i]))}
    return shard(folder / "t.tar", files)


def write(writer: Callable, suffix: str) -> Callable[[Path], Path]:
    return lambda folder: writer(rows(images_in(folder)), folder / f"t{suffix}")


def zstd(raw: bytes) -> bytes:
    return pa.compress(raw, codec="zstd", asbytes=True)


KINDS: dict[str, Callable[[Path], Path]] = {
    "csv": write(as_csv, ".csv"),
    "tsv": write(as_tsv, ".tsv"),
    "jsonl": write(as_jsonl, ".jsonl"),
    "parquet of paths": write(as_parquet, ".parquet"),
    "parquet of bytes": as_bytes,
    "tar": in_a_shard,
    "tar of json": write(as_shard, ".tar"),
    "csv.gz": packed(gzip.compress, as_csv, ".csv.gz"),
    "tsv.zst": packed(zstd, as_tsv, ".tsv.zst"),
    "jsonl.zst": packed(zstd, as_jsonl, ".jsonl.zst"),
    "metadata": in_metadata,
    "partitions": in_partitions,
    "partitions of paths": in_partitions_of_paths,
    "folder of csv": in_parts(as_csv, ".csv"),
    "folder of parquet": in_parts(as_parquet, ".parquet"),
    "utf-16": spelled(lambda text: text.encode("utf-16")),
    "mark": spelled(lambda text: text.encode("utf-8-sig")),
    "cr": spelled(lambda text: text.replace("\n", "\r").encode()),
    "crlf": spelled(lambda text: text.replace("\n", "\r\n").encode()),
    "sep=": spelled(lambda text: b"sep=,\r\n" + text.encode()),
}


# Found in a folder or an archive, and naming files outside of it.
LED_OUT = ("tar of json", "partitions of paths", "folder of csv", "folder of parquet")


@pytest.mark.parametrize("kind", KINDS)
def test_all_commands_read_the_same_rows_in_the_same_order(kind, tmp_path):
    source = KINDS[kind](tmp_path)
    expected = list(zip(IMAGES, TEXTS, strict=True))
    outside = ("--allow-outside",) if kind in LED_OUT else ()
    assert as_trained(source, *outside) == expected
    assert as_measured(source, *outside) == expected
    columns = ("--column", "file_name", "--column", "text") if kind == "metadata" else ()
    assert as_embedded(source, *columns, *outside) == expected


@pytest.mark.parametrize("kind", LED_OUT)
def test_a_table_that_was_found_names_nothing_outside(kind, tmp_path):
    source = KINDS[kind](tmp_path)
    with pytest.raises(TableError, match=r"5 of 5 rows are no pairs(.|\n)*leads out of (.|\n)*--allow-outside"):
        as_trained(source)
    records = list(open_source(source, column="image").records())
    assert all("leads out of" in str(record.error) for record in records)
    told = Options(root=tmp_path / "images" if "partitions" in kind else tmp_path)
    if kind == "tar of json":  # the user says where its files begin
        assert len(open_sources([source], told).check()) == 5


def test_a_folder_of_images_is_walked_in_one_order(tmp_path):
    for number, name in enumerate(["b cat/2.png", "a dog/z/1.png", "a dog/3.png", "c.png/9.png", "b cat/no-suffix"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(IMAGES[number])
    pairs = open_sources([tmp_path], Options())
    trained = [pairs[row].query.image for row in range(len(pairs))]
    assert trained == [record.value for record in open_source(tmp_path).records()]
    assert [path.name for path in trained] == ["3.png", "1.png", "2.png", "no-suffix", "9.png"]


def test_hub_data_sets_and_packs_in_bulk(tmp_path, client_hub, pack):
    source = source_of("hub", [{"query": f"a {i}", "positive": f"b {i}"} for i in range(5)], tmp_path, client_hub)
    records = list(open_source(source, column="positive").records())
    pairs = open_sources([source], Options())
    assert [record.value for record in records] == [pairs[row].positive.text for row in range(5)]
    assert records[3].reference == "rows.parquet#3"
    files = {
        f"data/{split}.jsonl.gz": gzip.compress(f'{{"text": "{split}"}}\n'.encode()) for split in ("train", "test")
    }
    client_hub.add(files, "datasets/org/splits")
    assert [record.value for record in open_source("hf:org/splits").records()] == ["test", "train"]
    (record,) = open_source("hf:org/splits", options=Options(split="test")).records()
    assert (record.id, record.value) == ("test.jsonl.gz#0", "test")
    pack("emoji")
    images = [record.value for record in open_source("pack:emoji", options=Options(split="val")).records()]
    pairs = open_sources(["pack:emoji"], Options(split="val"))
    assert images[:3] == [pairs[row].query.image for row in range(3)]
    assert len(images) == len(pairs)


# ------------------------------------------------------------------------------------------------ names

# Column → the modality of what it holds; "" for what is no part of an item.
NAMES = {
    **dict.fromkeys(
        ["text", "texts", "txt", "caption", "captions", "sentence", "Caption", "TEXT", "query_text"], "text"
    ),
    **dict.fromkeys(["query", "qry", "anchor", "question", "answer", "passage", "document", "positive", "pos"], "text"),
    **dict.fromkeys(
        ["image", "img", "images", "picture", "photo", "Image", "image_path", "img_path", "image_file"], "image"
    ),
    **dict.fromkeys(
        ["path", "file", "file_name", "filename", "filepath", "jpg", "png", "query_image", "pos_image"], "image"
    ),
    **dict.fromkeys(["video", "mp4", "3gp", "m2ts", "video_path", "target_video"], "video"),
    **dict.fromkeys(["audio", "wav", "audio_file", "query_audio"], "audio"),
    **dict.fromkeys(
        ["id", "title", "url", "query_id", "image_width", "caption_id", "words", "name", "description"], ""
    ),
    **dict.fromkeys(["sentence1", "queryText", "imageQuery", "text_2"], None),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_means_the_same_in_every_command(name, tmp_path):
    modality = NAMES[name]
    beside = {"text": "audio", "": "audio"}.get(modality or "", "caption")
    trained = ""
    for other in ("positive_text", "query_text", "query_audio", beside):
        path = as_jsonl([{name: "x", other: "y"}], tmp_path / "t.jsonl")
        try:
            (schema,) = open_sources([path], Options()).schemas
        except TableError:
            continue
        trained = next((part.modality for part in schema.parts if part.column == name), "")
        if trained:
            break
    try:
        embedded = open_source(as_csv([{name: "x", "n": 1}], tmp_path / "t.csv")).kind
    except TableError:
        embedded = ""
    assert embedded == trained
    assert modality is None or embedded == modality


def test_the_texts_beside_an_image_are_never_embedded_for_it(tmp_path):
    for header in ("img,caption", "image,text", "filepath,title", "photo,caption"):
        image, text = header.split(",")
        path = as_csv([{image: "a.png", text: "a"}], tmp_path / "t.csv")
        with pytest.raises(TableError, match=rf"several columns .*: {image}, {text}; .*--column {image}\+{text}"):
            open_source(path)
        assert open_source(path, modalities={"text"}).column == text
        assert open_source(path, kind="image").column == image
        assert open_source(path, column=f"{image}+{text}").kind == "image+text"
        assert open_source(path, column=[image, f"text={text}"]).kind == "image+text"


@pytest.mark.parametrize(
    ("column", "kind", "found"),
    [
        ("clip+title", "video", "video+text"),  # what is beside a medium is its text, unless it is said
        ("photo+title", None, "image+text"),
        (["clip", "title"], "video", "video+text"),
        ("video=clip+text=title", None, "video+text"),
        ("video=clip+title", None, "video+text"),
        (["image=a+b", "title"], None, "image+text"),
        ("a+b", "image", "image"),
        ("title", "image", "image"),
    ],
)
def test_any_columns_are_one_item_however_it_is_said(tmp_path, column, kind, found):
    path = as_csv([{"clip": "a.mp4", "title": "a", "a+b": "x.png", "photo": "x.png", "id": "1"}], tmp_path / "t.csv")
    assert open_source(path, column=column, kind=kind).kind == found


def test_columns_that_nobody_can_tell_are_asked_for(tmp_path):
    path = as_csv([{"clip": "a.mp4", "title": "a", "caption": "b"}], tmp_path / "t.csv")
    for column, message in [
        ("clip+title", "does column 'clip' of"),
        ("clip+caption", "does column 'clip' of"),
        (["video=clip", "title", "caption"], "does column 'title' of"),
        (["text=title", "caption"], "cannot be one item"),
        ("smell=clip+title", "'smell' .* is none of"),
        ("clip+gone", "has no column 'gone'"),
    ]:
        with pytest.raises(TableError, match=message):
            open_source(path, column=column)


def test_what_only_stands_in_for_another_column_is_not_asked_about(tmp_path):
    path = shard(tmp_path / "s.tar", {"a.txt": "file", "a.json": '{"caption": "field"}'})
    assert [record.value for record in open_source(path).records()] == ["file"]
    path = as_csv([{"file_name": "a.png", "image": "b.png"}], tmp_path / "t.csv")
    assert open_source(path).column == "image"


def test_columns_of_one_role_are_one_item(tmp_path):
    row = {"query_image": "a.png", "query_text": "a", "id": "1"}
    path = as_csv([row], tmp_path / "t.csv")
    (tmp_path / "a.png").write_bytes(IMAGES[0])
    source = open_source(path)
    (record,) = source.records()
    assert (source.kind, source.column) == ("image+text", "query_image+query_text")
    assert (record.value.image, record.value.text) == (tmp_path / "a.png", "a")
    assert record.reference == "a.png"
    with pytest.raises(TableError, match="several columns that could be embedded: query, positive"):
        open_source(as_csv([{"query": "a", "positive": "b"}], tmp_path / "u.csv"))
    with pytest.raises(TableError, match=r"columns query \(text\) and positive \(text\) cannot be one item"):
        open_source(tmp_path / "u.csv", column=["query", "positive"])
    with pytest.raises(TableError, match=r"'heading' .* is none of text, image, video, audio"):
        open_source(tmp_path / "u.csv", column="heading=query")


# ------------------------------------------------------------------------------------------------ options and bad rows


def test_the_commands_take_the_same_options(tmp_path, capsys):
    import zoo

    model = zoo.build_model("text-test").save_pretrained(tmp_path / "model")
    lines = ["frage;antwort;split;bemerkung"] + [
        f"qué {i};answer, {i};{'test' if i > 6 else 'train'};x" for i in range(9)
    ]
    lines[3] = "qué 2;nan;train;x"
    path = tmp_path / "t.csv"
    path.write_bytes("\r\n".join(lines).encode("cp1252"))
    told = ["--encoding", "cp1252", "--separator", ";", "--as-text", "nan", "--ignore", "bemerkung"]
    pairs = ["--column", "query=frage", "--column", "positive=antwort"]
    commands = {
        "train": ["train", str(path), "--model", str(model), "--dry-run", *pairs, "--split", "train"],
        "mine": ["mine", str(path), "--teacher", str(model), "--out", str(tmp_path / "m.jsonl"), *pairs, "--quiet"],
        "eval": ["eval", str(model), "--pairs", str(path), "--out", str(tmp_path / "r.json"), *pairs],
        "embed": ["embed", str(path), "--model", str(model), "--out", str(tmp_path / "v"), "--column", "text=antwort"],
    }
    for name, command in commands.items():
        assert main([*command]) == 2
        assert "not UTF-8 (byte 0xe9)" in capsys.readouterr().err
        assert main([*command, *told, *(["--split", "test"] if name == "embed" else [])]) == 0, capsys.readouterr().err
        capsys.readouterr()
    results = json.loads((tmp_path / "r.json").read_text())
    assert {(one["split"], one["metric"], one["direction"]) for one in results} >= {
        ("test", f"recall@{k}", way) for k in (1, 5, 10) for way in ("query → positive", "positive → query")
    }
    assert all(one["low"] <= one["value"] <= one["high"] for one in results)
    assert str(tmp_path) not in json.dumps(results)
    kept = pq.read_table(tmp_path / "v" / "shards")
    assert kept.column("antwort").to_pylist() == ["answer, 7", "answer, 8"]
    assert "bemerkung" not in kept.column_names


BAD = {
    "csv": 'query,positive\na,b\nc\nd,e,f\n,g\nh,"i"\nnan,j\n',
    "jsonl": '{"query": "a", "positive": "b"}\n{"query": \n[1]\n{"query": "", "positive": "g"}\n'
    '{"query": "h", "positive": "i"}\n{"query": "nan", "positive": "j"}\n',
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_rows_are_the_same_rows_in_every_command(kind, tmp_path, capsys):
    path = tmp_path / f"t.{kind}"
    path.write_text(BAD[kind])
    places = [f"line {n}" for n in ((3, 4, 5, 7) if kind == "csv" else (2, 3, 4, 6))]
    trained = [problem.split(":")[0].split(", ")[1] for problem in open_sources([path], Options()).problems()]
    embedded = [
        str(r.error).split(":")[0].split(", ")[1] for r in open_source(path, column="query").records() if r.error
    ]
    assert trained == embedded == places
    sides = read_pairs(arguments_of("eval", "--pairs", str(path)), str(path))
    assert [reason.split(":")[0].split(", ")[1] for reason in sides.bad] == places
    assert main(["eval", "text-test", "--pairs", str(path), "--max-bad", "50%"]) == 2
    assert "4 of 6 rows cannot be measured; allowed are 50% of the inputs" in capsys.readouterr().err


def test_images_go_before_a_table_that_lies_beside_them(tmp_path):
    images_in(tmp_path)
    as_csv([{"text": "a"}], tmp_path / "list.csv")
    source = open_source(tmp_path)
    assert source.kind == "image"
    assert source.notes == ["the images are embedded, and list.csv is not read: name it for its rows"]
    shutil.copy(tmp_path / "list.csv", tmp_path / "metadata.csv")
    with pytest.raises(TableError, match=r"metadata.csv"):
        open_source(tmp_path, column="file_name")


def test_damaged_files_are_read_alike_or_refused_by_name(tmp_path):
    draw = random.Random(0)
    every = [{"query": f'qu "é" {i}', "positive": f"po, s; {i}\tx" if i % 3 else f"plain {i}"} for i in range(6)]
    whole = {f"t.{kind}": write(every, tmp_path / f"t.{kind}").read_bytes() for kind, write in WRITERS.items()}
    whole |= {"t.jsonl.zst": zstd(whole["t.jsonl"]), "u.csv": whole["t.csv"].decode().encode("utf-16")}
    pieces = [b'"', b",", b";", b"\t", b"\n", b"\r", b"\0", b"\xff", b"\xe9", b"{", b"\\", b"nan", b"sep=;\n", b'""']
    seen = set()
    for number in range(160):
        name = list(whole)[number % len(whole)]
        content, at = bytearray(whole[name]), draw.randrange(len(whole[name]))
        change = draw.randrange(3)
        content[at : at + (0, 1, 40)[change]] = draw.choice(pieces) if change < 2 else b""
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(content)
        found, messages = [], []
        for read in (read_pairwise, read_by_column):
            try:
                found.append(read(path))
            except TableError as error:
                messages.append(str(error))
                found.append("refused")
        assert found[0] == found[1], path
        assert all(path.name in message for message in messages)
        seen.add(found[0] if found[0] == "refused" else "bad rows" if None in found[0] else "read")
    assert seen == {"refused", "bad rows", "read"}


def read_pairwise(path: Path) -> list[tuple[str, str] | None]:
    pairs, found = open_sources([path], Options()), []
    for row in range(len(pairs)):
        try:
            found.append((pairs[row].query.text, pairs[row].positive.text))
        except TableError:
            found.append(None)
    if not any(found):  # bulk fails at its end
        raise TableError(f"{path.name}: no row is one")
    return found


def read_by_column(path: Path) -> list[tuple[str, str] | None]:
    read = {name: open_source(path, column=name).records() for name in ("query", "positive")}
    # Bulk keeps the spaces around a text, so that the vector is that of `encode_document`; pairs are without them.
    sides = [[record.value and record.value.strip() for record in records] for records in read.values()]
    found = [None if None in row else row for row in zip(*sides, strict=True)]
    if not any(found):
        raise TableError(f"{path.name}: no row is one")
    return found
