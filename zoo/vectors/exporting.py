"""Vectors for other programs: as a NumPy array, a Parquet file or an index of faiss, with their ids beside them."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from zoo.arguments import checked, one_of
from zoo.arguments import path as a_path
from zoo.errors import ExportError, NotSavedError
from zoo.files import writing_folder
from zoo.vectors.opening import Vectors

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Format = Literal["npy", "parquet", "faiss"]
FORMATS: tuple[Format, ...] = get_args(Format)
# A group of rows of Parquet: some megabytes of vectors.
GROUP = 4096


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        files: names in the folder, with what each is. notes: what a reader of them has to know.
    """

    folder: Path
    count: int
    files: dict[str, str]
    notes: tuple[str, ...]


def check_export(out: Path | str, to: Format) -> None:
    """Raises ExportError for a place that is taken or cannot be written, or a missing library; worth asking first."""
    out = Path(out).absolute()
    if out.exists() or out.is_symlink():
        raise ExportError(f"{out} is there already, and nothing is written over it; name another place, or delete it")
    if not out.parent.is_dir():
        raise ExportError(f"cannot write {out}: there is no folder {out.parent}")
    if not os.access(out.parent, os.W_OK):
        raise ExportError(f"cannot write {out}: no permission to write into {out.parent}")
    if to == "faiss":
        _faiss()


@checked(out=a_path, to=one_of(*FORMATS))
def export_vectors(vectors: Vectors, out: Path | str, to: Format) -> Exported:
    """Writes a new folder, and gives it its name once it is read back and equal.

    "npy": `vectors.npy` `(n, length)` as stored, with `rows.parquet` (id, reference, attributes) and `ids.txt` in the same
    order. "parquet": `vectors.parquet`, all of it in one table. "faiss": `index.faiss`, exact, with `rows.parquet` and
    `ids.txt`: row i of a result is line i. Each has `about.json`: the model, prompt, dim and precision.

    Raises:
        ExportError: see `check_export`; also a full disk. NotSavedError: what was read back differs.
    """
    out = Path(out).absolute()
    check_export(out, to)
    if not len(vectors):
        raise ExportError(f"there are no vectors to write to {out}")
    try:
        with writing_folder(out) as hidden:
            write = {"npy": _write_npy, "parquet": _write_parquet, "faiss": _write_faiss}[to]
            files, notes = write(vectors, hidden)
            if to != "parquet":
                _write_rows(vectors, hidden, files, notes)
            (hidden / "about.json").write_text(
                json.dumps(_about(vectors), indent=2, ensure_ascii=False) + "\n", "utf-8"
            )
            files["about.json"] = "model, prompt, dim and precision"
    except OSError as error:
        raise ExportError(f"cannot write {out}: {error.strerror or error}; nothing was left there") from error
    except RuntimeError as error:  # of faiss
        raise ExportError(
            f"cannot write {out}: {' '.join(str(error).split())[:200]}; nothing was left there"
        ) from error
    return Exported(out, len(vectors), files, tuple(notes))


def _about(vectors: Vectors) -> dict[str, Any]:
    manifest = vectors.manifest
    kept = ("model", "prompt", "prompt_name", "dim", "precision", "fingerprint", "attributes", "counts", "finished")
    return {"vectors": len(vectors), **{name: manifest[name] for name in kept if name in manifest}}


def _stored_as(vectors: Vectors) -> list[str]:
    """What is to be known of vectors that are no floats."""
    if vectors.precision == "int8":
        return ["int8: each vector is scaled by its own largest value to ±127; divide by its norm to compare by cosine"]
    if vectors.precision == "binary":
        return [f"binary: the signs of {vectors.dim} columns, eight in a byte, the first in the highest bit"]
    return []


def _same(what: str, written: Any, read: Any, equal: Callable[[Any, Any], bool]) -> None:
    if not equal(written, read):
        raise NotSavedError(f"{what} was read back and differs from what was written; nothing was left there")


def _equal_arrays(a: "np.ndarray", b: "np.ndarray") -> bool:
    return (
        a.shape == b.shape
        and a.dtype == b.dtype
        and all((a[i : i + GROUP] == b[i : i + GROUP]).all() for i in range(0, len(a), GROUP))
    )


def _write_npy(vectors: Vectors, folder: Path) -> tuple[dict[str, str], list[str]]:
    import numpy as np

    path = folder / "vectors.npy"
    np.save(path, vectors.stored)
    _same(path.name, vectors.stored, np.load(path, mmap_mode="r"), _equal_arrays)
    rows, columns = vectors.stored.shape
    return {path.name: f"{rows:,} x {columns} {vectors.stored.dtype}"}, _stored_as(vectors)


def _write_parquet(vectors: Vectors, folder: Path) -> tuple[dict[str, str], list[str]]:
    import pyarrow as pa

    from zoo.shards.facts import vector_type

    kind = vector_type(vectors.dim, vectors.precision)
    flat = pa.array(vectors.stored.reshape(-1), kind.value_type)
    column = pa.FixedSizeListArray.from_arrays(flat, type=kind)
    table = vectors.rows.add_column(2, pa.field("vector", kind), column)
    path = folder / "vectors.parquet"
    _save(table, path)
    return {path.name: f"{len(table):,} rows of {', '.join(table.column_names)}"}, _stored_as(vectors)


def _write_faiss(vectors: Vectors, folder: Path) -> tuple[dict[str, str], list[str]]:
    faiss, path = _faiss(), folder / "index.faiss"
    notes = []
    if vectors.precision == "binary":
        index = faiss.IndexBinaryFlat(vectors.dim)
        index.add(vectors.stored)
        faiss.write_index_binary(index, str(path))
        again = faiss.read_index_binary(str(path))
        written, read = vectors.stored, faiss.vector_to_array(again.xb).reshape(vectors.stored.shape)
        notes.append("binary: distances are Hamming's; the cosine is 1 - 2 x distance / dim")
    else:
        # Of vectors that are compared by dot product the norms count; all others are of unit length, int8 ones made so.
        written = vectors.floats(norms=vectors.precision == "float32")
        index = faiss.IndexFlatIP(vectors.dim)
        index.add(written)
        faiss.write_index(index, str(path))
        again = faiss.read_index(str(path))
        read = again.reconstruct_n(0, again.ntotal)
        if vectors.precision == "int8":
            notes.append("int8: faiss has no inner product of int8, so they are float32 of unit length in index.faiss")
    _same(path.name, written, read, _equal_arrays)
    return {path.name: f"{type(index).__name__}, {index.ntotal:,} x {vectors.dim}"}, notes


def _write_rows(vectors: Vectors, folder: Path, files: dict[str, str], notes: list[str]) -> None:
    """Ids, references and attributes, and the ids once more as a file that every program reads."""
    _save(vectors.rows, folder / "rows.parquet")
    files["rows.parquet"] = f"{', '.join(vectors.rows.column_names)}, in the order of the vectors"
    ids = vectors.ids()
    if any(len(one.splitlines()) != 1 for one in ids):
        notes.append("an id holds a line break, so there is no ids.txt: take the ids of rows.parquet")
        return
    text = "".join(f"{one}\n" for one in ids)
    (folder / "ids.txt").write_text(text, "utf-8")
    _same("ids.txt", ids, (folder / "ids.txt").read_text("utf-8").split("\n")[:-1], lambda a, b: a == b)
    files["ids.txt"] = "an id in each line, in the order of the vectors"


def _save(table: "pa.Table", path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd", row_group_size=GROUP)
    _same(path.name, table, pq.read_table(path), lambda a, b: a.schema.equals(b.schema) and _equal_tables(a, b))


def _equal_tables(a: "pa.Table", b: "pa.Table") -> bool:
    """As `Table.equals`, but that NaN is as good as NaN."""
    return a.equals(b) or all(
        x.equals(y) or x.to_pylist().__repr__() == y.to_pylist().__repr__()
        for x, y in zip(a.columns, b.columns, strict=True)
    )


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ExportError('an index of faiss needs faiss: pip install "embedding-zoo[faiss]"') from error
    return faiss
