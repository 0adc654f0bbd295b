"""The documents pack as pairs: a text that somebody looks for, and the image of the page that it stands on."""

import json
from typing import NamedTuple

import numpy as np

from zoo.errors import MissingPackError
from zoo.inputs.item import Item
from zoo.tables.pack_files import DOCUMENTS, packs_folder
from zoo.tables.pairs import Pair
from zoo.tables.schema import Part, Schema
from zoo.tables.table import MOST, Table


class PackPage(NamedTuple):
    """A page: its id, the paper that it is of, its number from 1, the file of its image, and the text on it."""

    id: str
    document: str
    number: int
    image: bytes
    text: str


class PageQuery(NamedTuple):
    """A text, the id of the page that it is on, and what it is there: "title", "figure caption", "sentence on the page"."""

    text: str
    page: str
    kind: str


def read_pages(split: str) -> tuple[list[PackPage], list[PageQuery]]:
    """The pages of a split, all in memory, and the queries that ask for them.

    Raises:
        MissingPackError: the pack is not here, or has no such split.
    """
    import pyarrow.parquet

    folder = packs_folder() / DOCUMENTS
    pages, queries = folder / f"pages-{split}.parquet", folder / "queries.jsonl"
    if missing := [path for path in (pages, queries) if not path.is_file()]:
        raise MissingPackError(f"{missing[0]} does not exist; set ZOO_DATA to the folder that holds {DOCUMENTS}/…")
    rows = pyarrow.parquet.read_table(pages, columns=["id", "doc", "page", "image", "text"]).to_pylist()
    asked = [json.loads(line) for line in queries.read_text(encoding="utf-8").splitlines()]
    found = [PackPage(row["id"], row["doc"], row["page"], row["image"], row["text"]) for row in rows]
    return found, [PageQuery(row["query"], row["page"], row["kind"]) for row in asked if row["split"] == split]


class DocumentsTable(Table):
    """`pack:documents`: text → image of its page, a data set for each kind of text.

    Raises:
        MissingPackError: the pack is not here.
    """

    def __init__(self, split: str, name: str) -> None:
        pages, self._queries = read_pages(split)
        self._images, self._split = {page.id: page.image for page in pages}, split
        kinds = sorted({query.kind for query in self._queries})
        self.names = [f"{name}-{kind.replace(' ', '-')}" for kind in kinds]
        self.datasets = np.array([kinds.index(query.kind) for query in self._queries], dtype=np.int64)
        query, page = (Part("query", "text"),), (Part("page", "image"),)
        self.schemas = [Schema(f"pack:{DOCUMENTS} ({split})", query, page, rows=len(self._queries), chosen=split)]

    def _pair(self, row: int) -> Pair:
        query = self._queries[row]
        return Pair(
            Item(text=query.text),
            Item(image=self._images[query.page]),
            dataset=self.names[self.datasets[row]],
            where=self.where(row),
        )

    def where(self, row: int) -> str:
        """See `Table`."""
        return f"pack:{DOCUMENTS}/{self._split}, {self._queries[row].kind} of {self._queries[row].page}"

    def problems(self, limit: int = 20, most: int | None = MOST, keep: object = None) -> list[str]:
        """None: the pack was checked when it was made."""
        return []
