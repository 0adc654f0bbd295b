"""Pairs → a file that `open_pairs` reads: CSV, TSV or JSONL with the media beside it, or Parquet with the media in it."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import TableError
from zoo.files import writing
from zoo.inputs.image import load_pixels
from zoo.inputs.item import Item
from zoo.inputs.region_json import region_to_dict
from zoo.strangers.folders import Place
from zoo.tables.names import MINED
from zoo.tables.pairs import Pair, PairTable

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
_MEDIA = ("image", "video", "audio")
_ENDINGS = ((b"\xff\xd8\xff", ".jpg"), (b"\x89PNG", ".png"), (b"GIF8", ".gif"), (b"fLaC", ".flac"), (b"OggS", ".ogg"))
_GROUP_BYTES, _GROUP_ROWS = 32 * 2**20, 1000  # a row group is read whole


def write_pairs(pairs: Sequence[Pair] | PairTable, path: Path | str) -> Path:
    """Writes pairs with columns `query_text`, `positive_image`, `query_regions`, `negatives_text`, `also_text`, `score`, `teacher_scores`,
    `group`, `dataset`, `query_instruction` and `positive_instruction`, of which those that nothing needs are left out;
    whole or not at all. Of mined pairs the scores are `mined_scores`. In a CSV or TSV file lists are JSON.

    Files stay where they are, their paths relative to the written file. Bytes and PIL images go into a Parquet file;
    beside the others into the folder `<stem>-media`. `Pair.name` and `Pair.where` are not kept.

    Args:
        path: ends in .csv, .tsv, .jsonl or .parquet.

    Raises:
        TableError: no pairs, another ending, or an item that no column holds (frames, waveforms, interleaved parts, an
        instruction of a negative that is not the positive's).
    """
    path = Path(path)
    suffix = path.suffix.lower()
    check_ending(path)
    if len(pairs) == 0:
        raise TableError(f"there are no pairs to write to {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    media = Place.of(path.parent) / f"{path.stem}-media"
    fresh = media.kind() is None
    try:
        with writing(path) as temporary:
            write = {".jsonl": _write_jsonl, ".parquet": _write_parquet}.get(suffix, _write_csv)
            write(pairs, temporary, path, _keeper(media))
    except BaseException:
        if fresh:
            media.remove_tree()
        raise
    return path


def check_ending(path: Path) -> None:
    """Raises TableError for a file whose ending is of none that pairs are written to."""
    if path.suffix.lower() not in ENDINGS:
        raise TableError(
            f"{path} ends in {path.suffix or 'nothing'}; pairs are written to {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
        )


def check_writable(pairs: Sequence[Pair], path: Path) -> None:
    """Raises TableError for pairs with an item that no column holds, before long work is done for them."""
    for _ in _rows(pairs, path):
        pass


def _keeper(media: Place) -> Callable[[bytes], str]:
    """What writes a medium into the folder beside the file, and tells its path."""

    def keep(content: bytes) -> str:
        ending = next((ending for head, ending in _ENDINGS if content.startswith(head)), "")
        ending = ".webp" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else ending
        file = media / (hashlib.blake2b(content, digest_size=16).hexdigest() + ending)
        if not file.is_file():
            media.make()
            file.write(content)
        return f"{media.name}/{file.name}"

    return keep


def _write_jsonl(pairs: Sequence[Pair] | PairTable, temporary: Path, path: Path, keep: Callable[[bytes], str]) -> None:
    with temporary.open("w", encoding="utf-8") as file:
        for row in _rows(pairs, path):
            row = {key: _map(value, lambda v: keep(v) if isinstance(v, bytes) else v) for key, value in row.items()}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_csv(pairs: Sequence[Pair] | PairTable, temporary: Path, path: Path, keep: Callable[[bytes], str]) -> None:
    columns = _columns(pairs, path)
    with temporary.open("w", encoding="utf-8", newline="") as file:
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)  # a lone CR too
        writer.writerow(columns)
        for row in _rows(pairs, path):
            row = {key: _map(value, lambda v: keep(v) if isinstance(v, bytes) else v) for key, value in row.items()}
            writer.writerow(
                json.dumps(v, ensure_ascii=False) if isinstance(v, list) else v for v in map(row.get, columns)
            )


def _columns(pairs: Sequence[Pair] | PairTable, path: Path) -> list[str]:
    """The columns that some pair needs: a file has them all from the start."""
    return list(dict.fromkeys(column for row in _rows(pairs, path) for column in row))


def _write_parquet(
    pairs: Sequence[Pair] | PairTable, temporary: Path, path: Path, keep: Callable[[bytes], str]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = _columns(pairs, path)
    media = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    kinds = {"score": pa.float64(), **dict.fromkeys(("teacher_scores", MINED), pa.list_(pa.float64()))}

    def kind(column: str) -> pa.DataType:
        held = media if column.endswith(_MEDIA) else pa.string()
        return kinds.get(column) or (pa.list_(held) if column.startswith(("negatives", "also")) else held)

    def written(column: str, value: Any) -> Any:
        if not column.endswith("_regions"):
            return _map(value, struct) if column.endswith(_MEDIA) else value
        each = column.startswith(("negatives", "also"))
        return [None if one is None else json.dumps(one) for one in value] if each else json.dumps(value)

    def struct(value: Any) -> Any:
        return {"bytes": value, "path": None} if isinstance(value, bytes) else {"bytes": None, "path": value}

    schema = pa.schema([(column, kind(column)) for column in columns])
    with pq.ParquetWriter(temporary, schema) as writer:
        rows: list[dict[str, Any]] = []
        size = 0
        for row in _rows(pairs, path):
            size += sum(len(v) for value in row.values() for v in _flat(value) if isinstance(v, bytes))
            rows.append({column: written(column, value) for column, value in row.items()})
            if len(rows) == _GROUP_ROWS or size > _GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows, size = [], 0
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _rows(pairs: Sequence[Pair] | PairTable, path: Path) -> Iterator[dict[str, Any]]:
    """Every pair as cells; media as bytes, or as a path relative to the file."""
    scores = getattr(pairs, "scores_column", "teacher_scores")
    for number in range(len(pairs)):
        pair = pairs[number]
        where = pair.where or f"pair {number}"
        row: dict[str, Any] = {}
        for role, item in (("query", pair.query), ("positive", pair.positive)):
            row |= {f"{role}_{modality}": value for modality, value in _cells(item, path, where).items()}
        for role, items in (("negatives", pair.negatives), ("also", pair.extra_positives)):
            found = [_cells(item, path, where) for item in items]
            modalities = dict.fromkeys(modality for cells in found for modality in cells)
            row |= {f"{role}_{modality}": [cells.get(modality) for cells in found] for modality in modalities}
        row |= _instructions(pair, where)
        row |= {"score": pair.score} if pair.score is not None else {}
        row |= {scores: list(pair.teacher_scores)} if pair.teacher_scores else {}
        row |= {"group": pair.group} if pair.group else {}
        row |= {"dataset": pair.dataset} if pair.dataset else {}
        yield row


def _instructions(pair: Pair, where: str) -> dict[str, str]:
    of_targets = {item.instruction or "" for item in (pair.positive, *pair.negatives, *pair.extra_positives)}
    if len(of_targets) > 1:
        raise TableError(f"{where}: its targets have different instructions {sorted(of_targets)}; only one is written")
    found = {"query_instruction": pair.query.instruction, "positive_instruction": pair.positive.instruction}
    return {column: words for column, words in found.items() if words}


def _cells(item: Item, path: Path, where: str) -> dict[str, Any]:
    if item.parts:
        raise TableError(f"{where}: an item of parts cannot be written; keep such pairs in Python")
    cells = {"text": item.text} if item.text is not None else {}
    for modality in _MEDIA:
        value = getattr(item, modality)
        if isinstance(value, Path):
            # The folders' links are followed, not the file's own: a cache's links have the names, with their endings.
            place = value.parent.resolve() / value.name
            cells[modality] = Path(os.path.relpath(place, path.parent.resolve())).as_posix()
        elif isinstance(value, bytes | bytearray | memoryview):
            cells[modality] = bytes(value)
        elif value is not None and modality == "image":
            cells[modality] = _png(value)
        elif value is not None:
            raise TableError(f"{where}: its {modality} is {type(value).__name__}; only files and bytes are written")
    if len(item.regions):
        cells["regions"] = [region_to_dict(region) for region in item.regions]
    return cells


def _png(image: Any) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(load_pixels(image)).save(buffer, "PNG")
    return buffer.getvalue()


def _map(value: Any, change: Any) -> Any:
    """The change of a value, or of each value of a list; of None nothing."""
    if isinstance(value, list):
        return [_map(entry, change) for entry in value]
    return None if value is None else change(value)


def _flat(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
