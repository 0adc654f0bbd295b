"""Pairs, where they come from, and how a batch of them is put together."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.embedder import Batch, Embedder
from zoo.errors import ZooError
from zoo.evaluation.packs import read_pack
from zoo.items import Item

from .augment import COLOURS, colour_of

PACKS = ("photos", "emoji", "symbols")
_OWN_TEXT = 0.4  # how often a pair is told by its positive itself; else any of its texts is drawn, it among them
_KEYWORD_LIMIT = 12


@dataclass(frozen=True, eq=False)
class Pair:
    """A query and what it should find.

    Attributes:
        query: a picture. positive: its text.
        also: further texts that are as right; one of them stands for the positive from time to time.
        group: pairs of one group show the same thing: they are never each other's negatives. "" is a group alone.
        name: what the thing is called ("motorbike"), for captions that say its colour; "" for none.
    """

    query: Item
    positive: Item
    also: tuple[Item, ...] = ()
    group: str = ""
    name: str = ""


def photo_pair(row: dict[str, Any]) -> Pair:
    """A photo with its class captions; a grocery product also with its kind and its description."""
    label, kind = row["label"], row["coarse"]
    texts = [
        *row["captions"],
        label,
        f"a {label}",
        f"a picture of a {label}",
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
    return _pair(row["image"], texts, group=f"photo:{row['captions'][0]}", name=name)


def emoji_pair(row: dict[str, Any]) -> Pair:
    """A drawing with its English name and keywords; the artists' drawings of one concept are a group."""
    name = row["names"]["en"]
    texts = [name, name, name, f"a drawing of {name}", *row["keywords"]["en"][:_KEYWORD_LIMIT]]
    return _pair(row["image"], texts, group=f"emoji:{row['group']}", name=name)


def symbol_pair(row: dict[str, Any]) -> Pair:
    """A pictogram with its cleaned name, its category and its tags."""
    name = row["text_en"]
    texts = [name, name, name, name, f"a drawing of {name}", row["category_en"].lower(), *row["tags"].split()[:4]]
    return _pair(row["image"], texts, group=f"symbol:{row['group']}", name="" if name.startswith("to ") else name)


def _pair(image: bytes, texts: Sequence[str], group: str, name: str) -> Pair:
    first, *rest = [Item(text=text) for text in texts if text.strip()]
    return Pair(Item(image=image), first, tuple(rest), group, name)


READERS = {"photos": photo_pair, "emoji": emoji_pair, "symbols": symbol_pair}


def pack_pairs(split: str = "train", packs: Sequence[str] = PACKS) -> list[Pair]:
    """Pairs of the data packs, in the order of `packs`."""
    return [READERS[pack](row) for pack in packs for row in read_pack(pack, split)]


class TableError(ZooError):
    """A table of pairs lacks a column, or a row is no pair; the message names the line."""


def read_csv(path: Path, *, image: str = "image", text: str = "text", root: Path | None = None) -> list[Pair]:
    """Pairs of a CSV file: one picture and its text a line.

    Args:
        image, text: the columns. root: folder of the pictures, by default the file's own.

    Raises:
        TableError: a column is missing, the file is empty, or a line has no text or names no picture.
    """
    import csv

    path = Path(path)
    folder = Path(root) if root is not None else path.parent
    pairs = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if missing := {image, text} - set(rows.fieldnames or ()):
            raise TableError(
                f"{path} has no column {', '.join(sorted(missing))}; it has {rows.fieldnames or 'no header'}"
            )
        for row in rows:
            name, words = (row[image] or "").strip(), (row[text] or "").strip()
            if not name or not words:
                raise TableError(f"{path}, line {rows.line_num}: the {'text' if name else 'image'} is empty")
            if not (folder / name).is_file():
                raise TableError(
                    f"{path}, line {rows.line_num}: no picture {folder / name}; say root=FOLDER if it is elsewhere"
                )
            pairs.append(Pair(Item(image=folder / name), Item(text=words), group=words))
    if not pairs:
        raise TableError(f"{path} holds a header and no pairs")
    return pairs


class PairBatch(NamedTuple):
    """What one step trains on.

    Attributes:
        queries, targets: batches of the two towers; row i of one belongs to row i of the other.
        tints: `(B,)` index into COLOURS that a picture is to be repainted in, -1 for none.
        ignore: `(B, B)`, True where a target is no fair negative of a query.
    """

    queries: Batch
    targets: Batch
    tints: Tensor
    ignore: Tensor


class PairDataset:
    """Picture–text pairs, read once and kept in memory: pictures as uint8, texts as token ids.

    Args:
        pairs: what to learn. model: its encoders read the pairs.
        store_size: side in pixels at which pictures are kept, None for the encoder's own.
    """

    def __init__(self, pairs: Sequence[Pair], model: Embedder, store_size: int | None = None) -> None:
        if not pairs:
            raise ValueError("no pairs to train on")
        self.pairs = pairs
        self.image, self.text = model.route(pairs[0].query).encoder, model.route(pairs[0].positive).encoder
        self.pixels = self._read_pictures(store_size)
        texts = sorted({item.text for pair in pairs for item in (pair.positive, *pair.also)})
        self.ids = [self.text.read(Item(text=text)) for text in texts]
        index = {text: position for position, text in enumerate(texts)}
        self.own = torch.tensor([index[pair.positive.text] for pair in pairs])
        self.choices = [[index[item.text] for item in (pair.positive, *pair.also)] for pair in pairs]
        names: dict[str, int] = {}
        self.groups = torch.tensor(
            [names.setdefault(pair.group or f"#{i}", len(names)) for i, pair in enumerate(pairs)]
        )
        # fits[g, t]: text t is right for the pairs of group g.
        self.fits = torch.zeros(len(names), len(texts), dtype=torch.bool)
        for group, choices in zip(self.groups.tolist(), self.choices, strict=True):
            self.fits[group, choices] = True
        self.colours = torch.tensor(
            [colour_of(p) if pair.name else -1 for p, pair in zip(self.pixels, pairs, strict=True)]
        )
        self.stored = self.pixels
        self._coloured: dict[tuple[str, int], list[int]] = {}

    def __len__(self) -> int:
        return len(self.pairs)

    def _read_pictures(self, store_size: int | None) -> Tensor:
        transform = self.image.transform
        if store_size is not None:
            transform = replace(transform, size=(store_size, store_size), resize_size=None)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return torch.stack(list(pool.map(lambda pair: transform.read(pair.query.image), self.pairs)))

    def shrink(self, side: int) -> None:
        """Gives pictures of this side from now on, of the stored size at most: small views need no large originals."""
        side = min(side, self.pixels.shape[-1])
        if self.stored.shape[-1] != side:
            parts = self.pixels.split(512)
            shrunk = [F.interpolate(part, (side, side), mode="bilinear", antialias=True) for part in parts]
            self.stored = self.pixels if side == self.pixels.shape[-1] else torch.cat(shrunk)

    def batch(self, rows: Tensor, *, colour_captions: float = 0.0, tint: float = 0.0) -> PairBatch:
        """Some pairs, their captions drawn at random; the arguments are those of `Recipe`."""
        luck, tints = torch.rand(len(rows)), torch.full((len(rows),), -1)
        said = torch.full((len(rows),), -1)  # colour that the caption says
        seen = self.colours[rows].clone()  # colour that the picture has
        chosen, ids = [], []
        for place, row in enumerate(rows.tolist()):
            name = self.pairs[row].name
            if name and luck[place] < tint:
                tints[place] = seen[place] = said[place] = int(torch.randint(len(COLOURS), ()))
            elif name and luck[place] < tint + colour_captions and seen[place] >= 0:
                said[place] = seen[place]
            chosen.append(self._draw(row))
            ids.append(self._called(name, int(said[place])) if said[place] >= 0 else self.ids[chosen[-1]])
        groups, texts = self.groups[rows], torch.tensor(chosen)
        same = groups[:, None] == groups[None]
        # A caption with a colour is wrong for a picture of the same thing in another colour, right where it agrees.
        other_colour = (said[None] >= 0) & (seen[:, None] >= 0) & (said[None] != seen[:, None])
        plain = self.fits[groups][:, texts] & (said[None] < 0)
        ignore = (same & ~other_colour) | plain
        return PairBatch({"pixels": self.stored[rows]}, self.text.collate(ids), tints, ignore)

    def _draw(self, row: int) -> int:
        if torch.rand(()) < _OWN_TEXT:
            return int(self.own[row])
        choices = self.choices[row]
        return choices[int(torch.randint(len(choices), ()))]

    def _called(self, name: str, colour: int) -> list[int]:
        key = (name, colour)
        if key not in self._coloured:
            self._coloured[key] = self.text.read(Item(text=f"a {list(COLOURS)[colour]} {name}"))
        return self._coloured[key]


def row_order(count: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Rows of a step: every epoch is a shuffle of its own, told by the seed alone, so that a resumed run agrees.

    The rows that do not fill a batch at the end of an epoch are left out of it.
    """
    size = min(batch_size, count)
    per_epoch = count // size
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step // per_epoch)
    start = step % per_epoch * size
    return torch.randperm(count, generator=generator)[start : start + size]
