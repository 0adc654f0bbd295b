"""Pages of documents that are read as text: a model's texts read the text of a page, its images a page that has none.

Where the image tower cannot read print, the text layer of a PDF says what the page is about, and an image of it does not.
"""

from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.embedder.tower import Tower
from zoo.encoders.base import Batch, Cut, Encoder, before_text
from zoo.errors import DocumentTooLargeError, NotOfferedError
from zoo.inputs.document import page_text
from zoo.inputs.item import Item, Tokens
from zoo.modalities import Modality
from zoo.similarity import finished
from zoo.spec import ModelSpec, Similarity

_LETTERS = 20  # a page with fewer letters and digits, such as a number at its foot, is an image
_MOST = 256  # passages of a page, some 25,000 words; a page of a novel has four


class PageRead(NamedTuple):
    """A page as its passages' reads, or as its image's."""

    passages: tuple[Any, ...]
    image: Any


class PageEncoder(Encoder):
    """Reads a page for an encoder of texts, or, where it has none, for one of images.

    Args:
        images, texts: the towers, which read these alone.
    """

    def __init__(self, images: Tower, texts: Tower) -> None:
        super().__init__()
        self._towers = (images, texts)  # in a tuple, so that they are not registered a second time
        self.modalities = frozenset({"image"})
        self.width = images.encoder.width

    @property
    def batch_budget(self) -> int:  # type: ignore[override]
        """Of the encoder of images."""
        return self._towers[0].encoder.batch_budget

    def takes(self, modalities: Set[Modality], ordered: bool = False) -> bool:
        """An image alone, which is a page (see `Routes.place`)."""
        return modalities == {"image"} and not ordered

    def prompted(self, item: Item, prompt: str) -> Item:
        """The page with what stands before each of its passages: its own instruction, else the prompt."""
        return replace(item, instruction=before_text(item, prompt) or None)

    def cut(self, item: Item) -> Cut | None:
        return None

    def prepare_item(self, item: Item) -> PageRead:
        """The passages of the page's text layer, each as long as the text encoder reads; its image, where it has no text.

        Raises:
            InputError: the page cannot be read. DocumentTooLargeError: it has over 256 passages.
        """
        images, texts = (tower.encoder for tower in self._towers)
        text, prompt = page_text(item.image), item.instruction or ""
        if sum(map(str.isalnum, text)) < _LETTERS:
            return PageRead((), images.prepare_item(replace(item, instruction=None)))
        parts = list(islice(passages(texts, text, prompt), _MOST + 1))
        if len(parts) > _MOST:
            name = str(item.image)
            raise DocumentTooLargeError(
                f"{name} has over {_MOST} passages of text, of which one vector says nothing; embed its text part by part",
                what=name,
            )
        return PageRead(tuple(texts.prepare_item(texts.prompted(Item(text=part), prompt)) for part in parts), None)

    def collate(self, reads: Sequence[PageRead]) -> Batch:
        """Pages of text as `texts.…` and `owners`, the others as `images.…` and `rows`."""
        images, texts = (tower.encoder for tower in self._towers)
        drawn = [row for row, read in enumerate(reads) if not read.passages]
        owners = [row for row, read in enumerate(reads) for _ in read.passages]
        batch: Batch = {"rows": torch.tensor(drawn, dtype=torch.long), "owners": torch.tensor(owners, dtype=torch.long)}
        if drawn:
            batch |= {
                f"images.{key}": part for key, part in images.collate([reads[row].image for row in drawn]).items()
            }
        if owners:
            told = texts.collate([passage for read in reads for passage in read.passages])
            batch |= {f"texts.{key}": part for key, part in told.items()}
        return batch

    def length(self, read: PageRead) -> float:
        return max(1, len(read.passages))

    def tokens(self, read: PageRead) -> int:
        """None: what a page says is not text that somebody typed."""
        return 0

    def size(self, read: PageRead) -> int:
        """Bytes of what was read."""
        images, texts = (tower.encoder for tower in self._towers)
        return sum(map(texts.size, read.passages)) if read.passages else images.size(read.image)

    def forward(self, batch: Batch) -> Tokens:
        """Never: passages become vectors before the page does (see `PageTower`)."""
        raise NotOfferedError("a page has no tokens of its own; its tower embeds it passage by passage")

    def preprocessing(self) -> dict[str, Any]:
        images, texts = (tower.encoder for tower in self._towers)
        return {"pages": "text", "letters": _LETTERS, "image": images.preprocessing(), "text": texts.preprocessing()}


class PageTower(nn.Module):
    """The towers of texts and of images in the form of one of pages: a page is the mean of its passages. It owns no weights.

    Args:
        images, texts: the towers, which read these alone.
    """

    def __init__(self, images: Tower, texts: Tower) -> None:
        super().__init__()
        self.images, self.texts = images, texts
        self._encoder = (PageEncoder(images, texts),)

    @property
    def encoder(self) -> PageEncoder:
        """Reads and collates pages."""
        return self._encoder[0]

    @property
    def similarity(self) -> Similarity:
        """Of the model, as its towers say it."""
        return self.images.similarity

    @property
    def headed_by(self) -> None:
        """As of `Tower`: its vectors are made of several."""
        return

    def forward(self, batch: Batch, layers: Sequence[int] = (), norms: bool = False) -> Tensor:
        """A batch of the encoder to embeddings `(batch, dim)`; `norms` changes nothing: a mean has no norm of its own.

        Raises:
            NotOfferedError: layers are asked for, which towers of two kinds do not share.
        """
        if layers:
            raise NotOfferedError("the layers of a page are those of its texts; compare texts")
        rows, owners = batch["rows"], batch["owners"]
        mine = {side: _of(batch, f"{side}.") for side in ("images", "texts")}
        # `(pages,)` how many passages each has, 0 for those that are read as images.
        counts = owners.bincount(minlength=len(rows) + len(owners.unique()))
        found: Tensor | None = None
        if len(owners):
            vectors = self.texts(mine["texts"])
            # A page is the mean of its passages' vectors: their sum by owner, divided by their count.
            sums = vectors.new_zeros(len(counts), vectors.shape[-1]).index_add(0, owners, vectors)
            found = sums / counts.clamp(min=1)[:, None]
        if len(rows):
            drawn = self.images(mine["images"])
            found = drawn.new_zeros(len(counts), drawn.shape[-1]) if found is None else found
            found = found.index_copy(0, rows, drawn)
        return finished(found, self.similarity)


def paged(towers: Sequence[Tower], spec: ModelSpec) -> PageTower | None:
    """The route of a model whose pages are read as text; None of any other.

    Raises:
        ValueError: the spec says so, and there is no tower of texts alone beside one of images alone.
    """
    if spec.pages != "text":
        return None
    alone = {kind: next((t for t in towers if t.encoder.modalities == {kind}), None) for kind in ("image", "text")}
    if alone["image"] is None or alone["text"] is None or spec.similarity == "maxsim":
        raise ValueError(f"{spec.name}: pages are read as text by a tower of texts alone, beside one of images alone")
    return PageTower(alone["image"], alone["text"])


def passages(encoder: Encoder, text: str, prompt: str = "") -> Iterator[str]:
    """A text in parts, none longer than an encoder reads, each as long as whole words allow; a longer word is a part, and is cut.

    Args:
        encoder: of texts, whose `cut` says what is too long. prompt: what will stand before every part, and takes its room.
    """
    words, start = text.split(), 0

    def fits(count: int) -> bool:
        part = Item(text=" ".join(words[start : start + count]))
        return encoder.cut(encoder.prompted(part, prompt)) is None

    while start < len(words):
        few, many = 1, min(len(words) - start, _longest(encoder))
        while few < many:  # the most words that are not cut
            middle = (few + many + 1) // 2
            few, many = (middle, many) if fits(middle) else (few, middle - 1)
        yield " ".join(words[start : start + few])
        start += few


def _longest(encoder: Encoder) -> int:
    return getattr(encoder, "max_tokens", None) or 512  # a word is a token or more


def _of(batch: Batch, begin: str) -> Batch:
    return {key.removeprefix(begin): part for key, part in batch.items() if key.startswith(begin)}
