"""Vectors: those of a folder of `zoo embed`, with the id, the place and the attributes of each."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.arguments import checked, flag, optional, path, text
from zoo.errors import DamagedShardError, IndexStateError
from zoo.index import iter_tables, read_manifest
from zoo.inputs.regions import Region
from zoo.shards.folder import QUARANTINE, read_vectors
from zoo.strangers.folders import Place
from zoo.vectors.lookup import Inputs

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

# Rows of float32 that are worked on at a time: what is computed of int8 or binary vectors is never there as a whole.
BLOCK = 8192
LONGEST_QUARANTINE = 2**28  # bytes: a million inputs that could not be embedded


@dataclass
class Vectors:
    """The vectors of a folder in memory, in the order of their source.

    Attributes:
        manifest: of the folder. rows: id, reference and attributes, a row for each vector.
        stored: `(n, length)` as on disk: float32, int8, or the packed signs of binary vectors (`length = dim / 8`).
        inputs: where their inputs are. bad: what could not be embedded, as quarantine.jsonl lists it.
    """

    folder: Path
    manifest: dict[str, Any]
    rows: "pa.Table"
    stored: "np.ndarray"
    inputs: Inputs
    bad: list[dict[str, Any]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def dim(self) -> int:
        """Columns of a vector, however it is stored."""
        return self.manifest["dim"]

    @property
    def precision(self) -> str:
        """ "float32", "int8" or "binary"."""
        return self.manifest["precision"]

    def floats(self, start: int = 0, stop: int | None = None, *, norms: bool = False) -> "np.ndarray":
        """Rows as float32 `(rows, dim)` of unit length; with `norms` as long as the model made them.

        Signs of binary vectors become ±1, divided by the root of dim.
        """
        import numpy as np
        import torch

        from zoo.similarity import unpack

        part = self.stored[start:stop]
        part = unpack(torch.from_numpy(part)).numpy() if self.precision == "binary" else part.astype(np.float32)
        return part if norms else part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)

    def blocks(self, size: int = BLOCK) -> Iterator[tuple[int, int]]:
        """(start, stop) of parts that are small enough to work on."""
        return ((start, min(start + size, len(self))) for start in range(0, len(self), size))

    def ids(self) -> list[str]:
        """The id of each vector."""
        return self.rows.column("id").to_pylist()

    def places(self) -> list[str]:
        """Where each vector's input is, for people: the whole path of a file, else its row, "captions.csv#12"."""
        return [place_of(reference, self.manifest) for reference in self.rows.column("reference").to_pylist()]

    def texts(self) -> list[str] | None:
        """The text that was embedded for each; None where it is images."""
        name = text_column(self.manifest)
        if name is None or name not in self.rows.column_names:
            return None
        return [str(one) for one in self.rows.column(name).to_pylist()]

    def input(self, position: int) -> Path | bytes | None:
        """The file or bytes of one; None where its table is gone. Of texts: see `texts`; raises OutsideError."""
        return self.inputs.find(self.rows.column("reference")[position].as_py())

    def shown(self, position: int) -> Any:
        """What of that file was embedded: itself, or its page, segment or frame; raises as `Inputs.part`."""
        found = self.input(position)
        return None if found is None else self.inputs.part(found, self.rows.slice(position, 1).to_pylist()[0])

    def part(self, position: int) -> tuple[Any, ...]:
        """Which page or moment of its file one is, as the columns say; () where it is of the whole."""
        said = self.manifest["source"].get("parts") or {}
        return tuple(self.rows.column(name)[position].as_py() for name in said.get("columns", ()))

    def regions(self, position: int) -> tuple[Region, ...]:
        """What of its image one is of; () where it is of the whole; raises as `Inputs.regions`."""
        name = self.manifest["source"].get("regions")
        return self.inputs.regions({name: self.rows.column(name)[position].as_py()}) if name is not None else ()

    def kept(self, where: str) -> "Vectors":
        """Those that a filter keeps (see `zoo.index.where`); raises FilterError."""
        from zoo.index.where import Filter

        mask = Filter(where, self.rows.schema).mask(self.rows)
        return Vectors(self.folder, self.manifest, self.rows.filter(mask), self.stored[mask], self.inputs, self.bad)


def text_column(manifest: dict[str, Any]) -> str | None:
    """The attribute that holds the embedded text; None where it was images."""
    source = manifest["source"]
    return embedded_text(source) if source["kind"] == "text" else None


def embedded_text(source: Mapping[str, Any]) -> str | None:
    """The attribute with the text that was embedded, alone or beside other media; None where there was none."""
    kinds = source["kind"].split("+")
    return (
        source.get("attribute") or (source.get("column") if kinds == ["text"] else None) or "text"
        if "text" in kinds
        else None
    )


def place_of(reference: str, manifest: dict[str, Any]) -> str:
    """Where an input is, for people: the whole path of a file, else its row, "captions.csv#12"."""
    whole = text_column(manifest) is None and "#" not in reference
    return str(Path(manifest["source"]["root"]) / reference) if whole else reference


@checked(folder=path, where=optional(text), root=optional(path), allow_outside=flag, ours=flag)
def open_vectors(
    folder: Path | str,
    where: str | None = None,
    *,
    root: Path | str | None = None,
    allow_outside: bool = False,
    ours: bool = False,
) -> Vectors:
    """Reads what `embed_dataset` wrote.

    Args:
        where: an SQL condition over the attributes, as in `search`.
        root, allow_outside: where the inputs are looked for, see `Inputs`. ours: whether the caller has just made the folder.

    Raises:
        IndexStateError: no vectors there. FilterError: a filter that is not understood.
    """
    import numpy as np
    import pyarrow as pa

    folder = Path(folder)
    manifest = read_manifest(folder)
    rows, parts = [], []
    for table in iter_tables(folder):
        parts.append(read_vectors(table))
        rows.append(table.drop_columns(["vector"]).replace_schema_metadata(None))
    if not rows:
        raise IndexStateError(f"{folder} holds no finished vectors yet; run the command that made it again")
    found = Vectors(
        folder,
        manifest,
        pa.concat_tables(rows, promote_options="default"),
        np.concatenate(parts),
        Inputs.of(folder, manifest, root, allow_outside=allow_outside, ours=ours),
        quarantine(folder),
    )
    return found if where is None else found.kept(where)


def quarantine(folder: Path) -> list[dict[str, Any]]:
    """What could not be embedded: id, reference, reason and message of each; raises DamagedShardError for anything else."""
    place = Place.of(folder) / QUARANTINE
    try:
        lines = place.read(LONGEST_QUARANTINE).splitlines()
    except FileNotFoundError:
        return []
    return [_bad(line, place) for line in lines]


def _bad(line: bytes, place: Place) -> dict[str, Any]:
    # Not `zoo.strangers.schema`, which takes a hundred times as long: there may be a million lines.
    try:
        found = json.loads(line)
        if all(isinstance(found[name], str) for name in ("id", "reference", "reason", "message")):
            return found
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise DamagedShardError(
        f"{place} is damaged: {line[:40]!r} says of no input why it was not embedded; remove the file"
    )
