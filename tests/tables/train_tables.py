"""The same rows as every kind of table that `open_pairs` reads."""

import csv
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Rows = Sequence[dict[str, Any]]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # as the Hub's data sets have it


def png(*colour: int) -> bytes:
    """A small image of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(buffer, "PNG")
    return buffer.getvalue()


RED, BLUE = png(220, 20, 20), png(20, 20, 220)


def as_csv(rows: Rows, path: Path, separator: str = ",") -> Path:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            cells = (row.get(column) for column in columns)
            writer.writerow(
                json.dumps(cell) if isinstance(cell, list) else "" if cell is None else cell for cell in cells
            )
    return path


def as_tsv(rows: Rows, path: Path) -> Path:
    return as_csv(rows, path, "\t")


def as_jsonl(rows: Rows, path: Path) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def as_parquet(rows: Rows, path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=3)
    return path


def as_shard(rows: Rows, path: Path) -> Path:
    """Samples of a .json each."""
    return shard(path, {f"{number:04}.json": json.dumps(row).encode() for number, row in enumerate(rows)})


def shard(path: Path, files: dict[str, str | bytes]) -> Path:
    """A tar of these files."""
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            content = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


WRITERS: dict[str, Callable[[Rows, Path], Path]] = {
    "csv": as_csv,
    "tsv": as_tsv,
    "jsonl": as_jsonl,
    "parquet": as_parquet,
    "tar": as_shard,
}
KINDS = [*WRITERS, "hub"]


def source_of(kind: str, rows: Rows, folder: Path, hub: Any) -> str | Path:
    """The rows as a table of this kind; "hub" is a data set of a Parquet file, whose name says no split."""
    if kind != "hub":
        return WRITERS[kind](rows, folder / f"rows.{kind}")
    content = as_parquet(rows, folder / "rows.parquet").read_bytes()
    hub.clear()
    hub.add({"data/rows.parquet": content}, "datasets/org/rows")
    return "hf:org/rows"
