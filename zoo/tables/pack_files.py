"""The files of the data packs: where they are, and their rows as they stand."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from zoo.errors import MissingPackError

COMPOSED = "composed"  # the pack whose queries are an image with a change described in text
DOCUMENTS = "documents"  # the pack of pages, with texts that are looked for
REGIONS = "regions"  # the pack of images whose regions have captions


def packs_folder() -> Path:
    """Where the data packs are: the environment variable ZOO_DATA, else `../shared/data` beside the checkout.

    Raises:
        MissingPackError: no such folder.
    """
    named = os.environ.get("ZOO_DATA")
    folder = Path(named).expanduser() if named else Path(__file__).resolve().parents[3] / "shared" / "data"
    if not folder.is_dir():
        where = "ZOO_DATA" if named else "the default beside the checkout"
        raise MissingPackError(f"no data packs in {folder} ({where}); set ZOO_DATA to the folder that holds photos/ …")
    return folder


def read_pack(pack: str, split: str, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """Rows of one split of a pack, as its README describes them, with all columns or these.

    Raises:
        MissingPackError: the pack or the split is not there.
    """
    import pyarrow.parquet

    path = packs_folder() / pack / f"{split}.parquet"
    if not path.is_file():
        raise MissingPackError(f"{path} does not exist; set ZOO_DATA to the folder that holds {pack}/{split}.parquet")
    return pyarrow.parquet.read_table(path, columns=columns).to_pylist()


class Triplet(NamedTuple):
    """A reference image, what is to be changed, and the image that shows it changed; images by id."""

    reference: str
    text: str
    target: str
    kind: str


def read_composed(split: str) -> tuple[dict[str, bytes], list[Triplet]]:
    """The images of a split by id, and its triplets; two of the pack's 2,096 name images of two splits and are left out.

    Raises:
        MissingPackError: the pack is not there, or has no such split.
    """
    import pyarrow.parquet

    folder = packs_folder() / COMPOSED
    images, lines = folder / "images.parquet", folder / "triplets.jsonl"
    if missing := [path for path in (images, lines) if not path.is_file()]:
        raise MissingPackError(f"{missing[0]} does not exist; set ZOO_DATA to the folder that holds {COMPOSED}/…")
    table = pyarrow.parquet.read_table(images, filters=[("split", "=", split)])
    rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    triplets = [Triplet(*(row[field] for field in Triplet._fields)) for row in rows if row["split"] == split]
    images_of = dict(zip(table["id"].to_pylist(), table["image"].to_pylist(), strict=True))
    triplets = [t for t in triplets if {t.reference, t.target} <= images_of.keys()]
    if not triplets:
        raise MissingPackError(f"{lines} has no split {split!r}; it has {sorted({row['split'] for row in rows})}")
    return images_of, triplets
