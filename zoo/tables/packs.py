"""The data packs as pairs: photos, emoji, symbols, audio and videos, each with what it is called."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import MissingPackError, TableError
from zoo.inputs.item import Item
from zoo.tables.pack_files import COMPOSED, DOCUMENTS, REGIONS, packs_folder, read_composed, read_pack
from zoo.tables.pairs import Pair
from zoo.tables.parquet import RowGroups
from zoo.tables.schema import Part, Schema
from zoo.tables.sources import Found
from zoo.tables.splits import VALIDATION, split_name
from zoo.tables.table import MOST, Table, one_dataset

PACKS = ("photos", "emoji", "symbols")
"""Of images: what a run over the packs means where none is named. There are "audio" and "video" too."""
_KEYWORD_LIMIT = 12


def photo_pair(row: dict[str, Any]) -> Pair:
    """A photo with its class captions; a grocery product also with its kind and its description."""
    label, kind = row["label"], row["coarse"]
    texts = [
        *row["captions"],
        label,
        f"a {label}",
        f"an image of a {label}",
        f"the {label}",
        f"a close-up of a {label}",
    ]
    if row["source"] == "grocery":
        # The full caption carries brand and kind, and is what the pack is evaluated on: it comes as often as the rest.
        texts += [row["captions"][0]] * 3 + [
            kind.lower(),
            f"a {kind.lower()}",
            f"{label} in a shop",
            f"{label} ({kind})",
        ]
        texts += [row["description"]] if row["description"] else []
    name = kind.lower() if row["source"] == "grocery" else label
    return _pair(Item(image=row["image"]), texts, group=f"photo:{row['captions'][0]}", name=name)


def emoji_pair(row: dict[str, Any]) -> Pair:
    """A drawing with its English name and keywords; the artists' drawings of one concept are a group."""
    name = row["names"]["en"]
    texts = [name, name, name, f"a drawing of {name}", *row["keywords"]["en"][:_KEYWORD_LIMIT]]
    return _pair(Item(image=row["image"]), texts, group=f"emoji:{row['group']}", name=name)


def symbol_pair(row: dict[str, Any]) -> Pair:
    """A pictogram with its cleaned name, its category and its tags."""
    name = row["text_en"]
    texts = [name, name, name, name, f"a drawing of {name}", row["category_en"].lower(), *row["tags"].split()[:4]]
    group = f"symbol:{row['group']}"
    return _pair(Item(image=row["image"]), texts, group=group, name="" if name.startswith("to ") else name)


def audio_pair(row: dict[str, Any]) -> Pair:
    """A recording with the texts of its class; recordings of a class are a group."""
    return _pair(Item(audio=row["audio"]), row["captions"], group=f"audio:{row['label']}", name=row["label"])


def video_pair(row: dict[str, Any]) -> Pair:
    """A clip with its captions, which say what it shows and how the camera moves; clips of one caption are a group."""
    name = ", then ".join(row["subjects"])
    return _pair(Item(video=row["video"]), row["captions"], group=f"video:{row['captions'][0]}", name=name)


def _pair(medium: Item, texts: Sequence[str], group: str, name: str) -> Pair:
    first, *rest = [Item(text=text) for text in texts if text.strip()]
    return Pair(medium, first, extra_positives=tuple(rest), group=group, name=name)


def composed_pairs(split: str = "train") -> list[Pair]:
    """The triplets of the composed pack: reference image and a change described in text → changed image, all in memory."""
    images, triplets = read_composed(split)
    return [
        Pair(
            Item(image=images[t.reference], text=t.text),
            Item(image=images[t.target]),
            group=f"composed:{t.target}",
            dataset=COMPOSED,
            where=f"pack:{COMPOSED}/{split}, {t.reference}: {t.text}",
        )
        for t in triplets
    ]


READERS = {
    "photos": photo_pair,
    "emoji": emoji_pair,
    "symbols": symbol_pair,
    "audio": audio_pair,
    "video": video_pair,
}
_MEDIA = {"audio": "audio", "video": "video"}  # what a pack's first column holds; the others hold images
_GROUPS = {
    "photos": "captions",
    "audio": "label",
    "video": "captions",
}  # by which column rows are alike; else by `group`
_SETS = {"audio": "source"}  # by which column a pack is several data sets, which sound nothing alike


def pack_pairs(split: str = "train", packs: Sequence[str] = PACKS) -> list[Pair]:
    """Pairs of the data packs, in the order of `packs`, all in memory."""
    return [READERS[pack](row) for pack in packs for row in read_pack(pack, split)]


class PackTable(Table):
    """One data pack, read a row group at a time.

    Raises:
        TableError: no such pack. MissingPackError: it is not here.
    """

    def __init__(self, pack: str, split: str, name: str) -> None:
        if pack not in READERS:
            raise TableError(
                f"no data pack is called {pack!r}; there are {', '.join([*READERS, COMPOSED, DOCUMENTS, REGIONS])}"
            )
        self._groups, self._read = RowGroups([_pack_file(pack, split)]), READERS[pack]
        self._where = f"pack:{pack}/{split}"
        self.schemas = [
            Schema(
                f"pack:{pack} ({split})",
                (Part(medium := _MEDIA.get(pack, "image"), medium),),
                (Part("names and captions", "text"),),
                group=_GROUPS.get(pack, "group"),
                rows=len(self._groups),
                chosen=split,
            )
        ]
        self.datasets, self.names = one_dataset(name, len(self._groups))
        if column := _SETS.get(pack):
            known, self.datasets = np.unique(
                [row[column] for row in read_pack(pack, split, [column])], return_inverse=True
            )
            self.names = [f"{name}-{one}" for one in known]

    def _pair(self, row: int) -> Pair:
        dataset = self.names[self.datasets[row]]
        return replace(self._read(self._groups.cells(row)), dataset=dataset, where=self.where(row))

    def where(self, row: int) -> str:
        """See `Table`."""
        return f"{self._where}, row {row}"

    def blocks(self) -> list[range]:
        """See `Table`."""
        return self._groups.blocks()

    def problems(self, limit: int = 20, most: int | None = MOST, keep: Any = None) -> list[str]:
        """None: the packs were checked when they were made."""
        return []


class ComposedTable(Table):
    """The composed pack as a table: few and small images, all in memory."""

    def __init__(self, split: str, name: str) -> None:
        self._pairs, self._split = [replace(pair, dataset=name) for pair in composed_pairs(split)], split
        query = (Part("reference", "image"), Part("text", "text"))
        shown = Schema(f"pack:{COMPOSED} ({split})", query, (Part("target", "image"),), group="target", chosen=split)
        self.schemas = [replace(shown, rows=len(self._pairs))]
        self.datasets, self.names = one_dataset(name, len(self._pairs))

    def _pair(self, row: int) -> Pair:
        return self._pairs[row]

    def where(self, row: int) -> str:
        """See `Table`."""
        return self._pairs[row].where

    def problems(self, limit: int = 20, most: int | None = MOST, keep: Any = None) -> list[str]:
        """None: the pack was checked when it was made."""
        return []


def _pack_file(pack: str, split: str) -> Path:
    path = packs_folder() / pack / f"{split}.parquet"
    if not path.is_file():
        raise MissingPackError(f"{path} does not exist; set ZOO_DATA to the folder that holds {pack}/{split}.parquet")
    return path


def find_pack(source: str, split: str | None) -> Found:
    """The files of a pack: of one split, or of all.

    Raises:
        TableError: no such pack, or one that holds pairs alone. MissingPackError: it is not here.
    """
    pack = source.removeprefix("pack:")
    if pack == COMPOSED:
        raise TableError(f"{source} holds pairs of an image with a text and an image; embed its folder of images")
    if pack == DOCUMENTS:
        raise TableError(f"{source} holds pairs of a text and the image of a page; embed a folder of PDFs or images")
    if pack == REGIONS:
        raise TableError(f"{source} holds pairs of a region and its caption; embed a folder of images by their regions")
    if pack not in READERS:
        raise TableError(f"no data pack is called {pack!r}; there are {', '.join(READERS)}")
    names = (split_name(split),) if split is not None else ("train", "val", "test")
    files = [_pack_file(pack, "val" if name == VALIDATION else name) for name in names]
    return Found(files, files[0].parent, pack, by_split=True)
