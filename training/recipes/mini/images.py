"""Image–text pairs kept in memory: images as uint8, texts as token ids, captions that may say a colour."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.embedder import Embedder
from zoo.inputs.identity import Answers
from zoo.inputs.item import Item
from zoo.tables.pairs import Pair, answers_of

from .augment import COLOURS, colour_of

_OWN_TEXT = 0.4  # how often a pair is described by its positive itself; else any of its texts is drawn, it among them


class ImageBatch(NamedTuple):
    """Some pairs of a `ImageData`.

    Attributes:
        pixels: uint8 `(B, 3, S, S)`. ids: token ids of the captions.
        tints: `(B,)` index into COLOURS that an image is to be repainted in, -1 for none.
        ignore: `(B, B)`, True where a target is no fair negative of a query.
    """

    pixels: Tensor
    ids: list[list[int]]
    tints: Tensor
    ignore: Tensor


class ImageData:
    """Image–text pairs, read once and kept in memory: images as uint8, texts as token ids.

    Args:
        pairs: what to learn. model: its encoders read the pairs.
        store_size: side in pixels at which images are kept, None for the encoder's own.
        answers: which texts are right for which images; read from the pairs by default.
    """

    def __init__(
        self, pairs: Sequence[Pair], model: Embedder, store_size: int | None = None, answers: Answers | None = None
    ) -> None:
        if not pairs:
            raise ValueError("no pairs to train on")
        self.pairs = pairs
        self.image, self.text = model.route(pairs[0].query).encoder, model.route(pairs[0].positive).encoder
        self.pixels = self._read_images(store_size)
        texts = sorted({item.text for pair in pairs for item in (pair.positive, *pair.extra_positives)})
        self.ids = [self.text.prepare_item(Item(text=text)) for text in texts]
        index = {text: position for position, text in enumerate(texts)}
        self.own = torch.tensor([index[pair.positive.text] for pair in pairs])
        self.choices = [[index[item.text] for item in (pair.positive, *pair.extra_positives)] for pair in pairs]
        self.answers = answers_of(pairs) if answers is None else answers
        self.groups = torch.from_numpy(np.unique(self.answers.sets, return_inverse=True)[1])
        self.queries, self.numbers = (torch.empty(len(many), dtype=torch.long) for many in (pairs, texts))
        for row, choices in enumerate(self.choices):
            self.queries[row], *numbers = self.answers.of(row)[: 1 + len(choices)].tolist()
            self.numbers[choices] = torch.tensor(numbers)
        self.colours = torch.tensor(
            [colour_of(p) if pair.name else -1 for p, pair in zip(self.pixels, pairs, strict=True)]
        )
        self.stored = self.pixels
        self._coloured: dict[tuple[str, int], list[int]] = {}

    def __len__(self) -> int:
        return len(self.pairs)

    def _read_images(self, store_size: int | None) -> Tensor:
        transform = self.image.transform
        if store_size is not None:
            transform = replace(transform, size=(store_size, store_size), resize_size=None)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return torch.stack(list(pool.map(lambda pair: transform.read(pair.query.image), self.pairs)))

    def shrink(self, side: int) -> None:
        """Gives images of this side from now on, of the stored size at most: small views need no large originals."""
        side = min(side, self.pixels.shape[-1])
        if self.stored.shape[-1] != side:
            parts = self.pixels.split(512)
            shrunk = [F.interpolate(part, (side, side), mode="bilinear", antialias=True) for part in parts]
            self.stored = self.pixels if side == self.pixels.shape[-1] else torch.cat(shrunk)

    def batch(
        self, rows: Tensor, *, colour_captions: float = 0.0, tint: float = 0.0, tints: Tensor | None = None
    ) -> ImageBatch:
        """Some pairs, their captions drawn at random.

        Args:
            colour_captions, tint: see `Images`. tints: what the images have been repainted in, in place of a draw.
        """
        rng, painted = torch.rand(len(rows)), tints
        tints = torch.full((len(rows),), -1) if painted is None else painted
        said = torch.full((len(rows),), -1)  # colour that the caption says
        seen = self.colours[rows].clone()  # colour that the image has
        chosen, ids = [], []
        for place, row in enumerate(rows.tolist()):
            name = self.pairs[row].name
            if painted is not None and painted[place] >= 0:
                seen[place] = said[place] = painted[place]
            elif name and rng[place] < tint:
                tints[place] = seen[place] = said[place] = int(torch.randint(len(COLOURS), ()))
            elif name and rng[place] < tint + colour_captions and seen[place] >= 0:
                said[place] = seen[place]
            chosen.append(self._draw(row))
            ids.append(self._called(name, int(said[place])) if said[place] >= 0 else self.ids[chosen[-1]])
        queries, whole = self.queries[rows], slice(None)
        same = self.answers.right(queries, self.numbers[self.own[rows]]).spared(whole)
        # A caption with a colour is wrong for an image of the same thing in another colour, right where it agrees.
        other_colour = (said[None] >= 0) & (seen[:, None] >= 0) & (said[None] != seen[:, None])
        plain = self.answers.right(queries, self.numbers[torch.tensor(chosen)]).spared(whole) & (said[None] < 0)
        ignore = (same & ~other_colour) | plain
        return ImageBatch(self.stored[rows], ids, tints, ignore)

    def _draw(self, row: int) -> int:
        if torch.rand(()) < _OWN_TEXT:
            return int(self.own[row])
        choices = self.choices[row]
        return choices[int(torch.randint(len(choices), ()))]

    def _called(self, name: str, colour: int) -> list[int]:
        key = (name, colour)
        if key not in self._coloured:
            self._coloured[key] = self.text.prepare_item(Item(text=f"a {list(COLOURS)[colour]} {name}"))
        return self._coloured[key]
