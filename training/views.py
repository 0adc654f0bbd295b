"""Views: a fixed number of augmented versions of every item, so that what does not learn is computed once for each of them.

Determined by the item's content, the recipe's augmentation and seed: every process makes the same ones, and a killed run goes on with them.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from zoo.embedder import Embedder
from zoo.encoders.base import Encoder
from zoo.errors import InputError
from zoo.inputs.hashing import KEY_BYTES, item_key
from zoo.inputs.item import Item

from .augmentation import Augmentation
from .read_cache import ReadCache
from .recipe import Recipe
from .vector_cache import VectorCache

_DRAWN = 2  # tells the stream of the views from the others
_AT_ONCE = 16  # items whose views are computed together


class Views:
    """How a recipe's items are changed before a tower reads them: anew in every step, or into one of its `views`.

    Args:
        recipe: whose `augment`, `views` and `seed` count.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.augmentation = Augmentation.parse(recipe.augment)
        self.count, self._told = recipe.views, f"{recipe.augment}\n{recipe.seed}"

    def draw(self, item: Item, seed: Sequence[int]) -> int:
        """Which view of an item a step trains; 0 is the item unchanged."""
        if not self.count or not item.modalities & self.augmentation.modalities:
            return 0
        return int(np.random.default_rng((_DRAWN, *seed)).integers(self.count))

    def key(self, item: Item, prefix: str, view: int) -> bytes:
        """Of a view in a cache; that of the unchanged item is the item's own."""
        key = item_key(item, prefix)
        if not view:
            return key
        return hashlib.blake2b(f"{view}\n{self._told}\n".encode() + key, digest_size=KEY_BYTES).digest()

    def read(
        self,
        encoder: Encoder,
        item: Item,
        prefix: str,
        seed: Sequence[int],
        view: int,
        decoded: ReadCache | None = None,
    ) -> Any:
        """What an encoder reads of the item as it is changed.

        Args:
            seed: of the step, where there are no views. decoded: keeps what takes long to decode, and is changed after it is read.

        Raises:
            InputError: it cannot be read.
        """
        unchanged = bool(self.count) and not view
        if self.count:
            seed = tuple(np.frombuffer(self.key(item, prefix, view), "<u4").tolist())
        plain = item if unchanged else self.augmentation.item(item, seed)
        changed = encoder.prompted(plain, prefix)
        keep = decoded is not None and plain is item and item.modalities != {"text"}
        value = decoded.read(encoder, changed) if keep else encoder.prepare_item(changed)
        return value if unchanged else self.augmentation.read(value, item, seed)


@torch.no_grad()
def fill_views(
    cache: VectorCache, model: Embedder, items: Iterable[Item], prefix: str, views: Views, *, progress: bool
) -> None:
    """Puts the vectors of all views but the unchanged one into a cache, a few items at a time; items that cannot be read are left out."""
    was = model.training
    model.eval()
    bar = tqdm(desc=f"{views.count} views", unit=" items", disable=not progress, delay=2)
    try:
        for some in _few(items):
            missing = {views.key(item, prefix, view): (item, view) for item in some for view in range(1, views.count)}
            missing = {key: each for key, each in missing.items() if key not in cache}
            found: dict[int, dict[bytes, Any]] = {}
            for key, (item, view) in missing.items():
                try:
                    position = model.route_index(item)
                    value = views.read(model.routes[position].encoder, item, prefix, (), view)
                except InputError:  # met again, and said, by the feed
                    continue
                found.setdefault(position, {})[key] = value
            for position, reads in found.items():
                reader = model.routes[position]
                batch = reader.encoder.collate([*reads.values()])
                cache.put([*reads], reader({name: part.to(model.device) for name, part in batch.items()}))
            bar.update(len(some))
    finally:
        bar.close()
        model.train(was)


def _few(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while some := list(islice(iterator, _AT_ONCE)):
        yield some
