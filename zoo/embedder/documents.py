"""Routes for documents: a tower that reads images reads every page of a PDF as one, and the document is the mean of its pages."""

from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from zoo.embedder.pages import PageTower
from zoo.embedder.tower import Tower
from zoo.encoders.base import Batch, Cut, Encoder
from zoo.encoders.prefetch import batches
from zoo.errors import DocumentTooLargeError, NotOfferedError
from zoo.inputs.document import page_count
from zoo.inputs.excerpts import PAGE_SIDE, DocumentPage
from zoo.inputs.item import Item, Tokens
from zoo.inputs.kinds import describe
from zoo.modalities import Modality
from zoo.similarity import finished
from zoo.spec import Similarity

MAX_PAGES = 1000
"""Pages that become one vector; of a longer document a mean says little."""
_AT_ONCE = 16  # pages that are read while as many others are embedded
_THREADS = 4
_OWNERS = "owners"


class DocumentRead(NamedTuple):
    """A document that is there and can be opened: an item for each page, whose image is drawn when it is embedded."""

    pages: tuple[Item, ...]


class DocumentEncoder(Encoder):
    """Reads an item with a document for an encoder of images: a page is an image, and the item's text goes with every one.

    Args:
        tower: whose encoder reads images, and no documents.
    """

    def __init__(self, tower: Tower | PageTower) -> None:
        super().__init__()
        self._tower = (tower,)  # in a tuple, so that it is not registered a second time
        self.modalities = tower.encoder.modalities - {"image"} | {"document"}
        self.width = tower.encoder.width

    @property
    def inner(self) -> Encoder:
        """The encoder of images."""
        return self._tower[0].encoder

    @property
    def batch_budget(self) -> int:  # type: ignore[override]
        """Of the inner encoder."""
        return self.inner.batch_budget

    def takes(self, modalities: Set[Modality], ordered: bool = False) -> bool:
        """Whether there is a document, no image, and the inner encoder reads the item with an image in its place."""
        alone = "document" in modalities and not {"image", "regions"} & modalities and not ordered
        return alone and self.inner.takes(modalities - {"document"} | {"image"})

    def prompted(self, item: Item, prompt: str) -> Item:
        given = self.inner.prompted(replace(item, document=None, image=item.document), prompt)
        return replace(given, document=item.document, image=None)

    def cut(self, item: Item) -> Cut | None:
        return self.inner.cut(replace(item, document=None, image=item.document))

    def text_tokens(self, item: Item) -> int | None:
        return self.inner.text_tokens(replace(item, document=None, image=item.document))

    def unknown_share(self, item: Item) -> float:
        return self.inner.unknown_share(item)

    def doubtful(self, read: DocumentRead, prompted: Item, item: Item) -> bool:
        return item.text is not None  # the pages, of which it could be seen, are not read yet

    def prepare_item(self, item: Item) -> DocumentRead:
        """Counts its pages.

        Raises:
            DocumentTooLargeError: over `MAX_PAGES`. Besides what `zoo.inputs.document.page_count` raises.
        """
        count = page_count(item.document)
        if count > MAX_PAGES:
            name = describe(item.document)
            raise DocumentTooLargeError(
                f"{name} has {count:,} pages; at most {MAX_PAGES:,} become one vector. One vector per page has any document: "
                'model.encode_track(…, "page")',
                what=name,
            )
        whole = replace(item, document=None)
        return DocumentRead(tuple(replace(whole, image=DocumentPage(item.document, n + 1)) for n in range(count)))

    def collate(self, reads: Sequence[DocumentRead]) -> Batch:
        """All pages of all documents, drawn here, in the inner encoder's batches of bounded length: `0.pixels`, `1.pixels`, ...

        Embedding alone needs no such batch (see `DocumentTower.over_pages`); training and fusion do.
        """
        batch = {_OWNERS: torch.tensor([owner for owner, read in enumerate(reads) for _ in read.pages])}
        for number, some in enumerate(_in_chunks(self.inner, reads)):
            batch |= {f"{number}.{key}": part for key, part in self.inner.collate([one for _, one in some]).items()}
        return batch

    def length(self, read: DocumentRead) -> float:
        return len(read.pages)

    def tokens(self, read: DocumentRead) -> int:
        """None: a document's text is not told from its pages, which are not read yet."""
        return 0

    def size(self, read: DocumentRead) -> int:
        return 1024  # its pages are drawn later

    def forward(self, batch: Batch) -> Tokens:
        """Never: pages become vectors before the document does (see `DocumentTower`)."""
        raise NotOfferedError("a document has no tokens of its own; its tower embeds it page by page")

    def preprocessing(self) -> dict[str, Any]:
        return {**self.inner.preprocessing(), "pages": {"max_side": PAGE_SIDE}}


class DocumentTower(nn.Module):
    """A tower of images in the form of one of documents. It owns no weights: they are the tower's.

    The vector is the mean of the pages' vectors, of unit length again; with late interaction the vectors of all pages' tokens,
    page after page.

    Args:
        tower: whose encoder reads images, and no documents.
    """

    def __init__(self, tower: Tower | PageTower) -> None:
        super().__init__()
        self.tower = tower
        self._encoder = (DocumentEncoder(tower),)

    @property
    def encoder(self) -> DocumentEncoder:
        """Reads and collates items with a document."""
        return self._encoder[0]

    @property
    def similarity(self) -> Similarity:
        """Of the model, as its tower says it."""
        return self.tower.similarity

    @property
    def headed_by(self) -> None:
        """As of `Tower`: its vectors are made of several."""
        return

    def forward(self, batch: Batch, layers: Sequence[int] = (), norms: bool = False) -> Tensor:
        """A batch of the encoder to embeddings `(batch, dim)`, float32 at least; `layers` as of `Tower`. `norms` changes
        nothing: a document's vector is made of its pages' unit vectors.
        """
        chunks = {key.partition(".")[0]: None for key in batch if key != _OWNERS}
        vectors: list[Tensor] = []
        for chunk in chunks:
            mine = {key.partition(".")[2]: part for key, part in batch.items() if key.partition(".")[0] == chunk}
            vectors += self.tower(mine, layers) if layers else self.tower(mine)
        return self._joined(vectors, batch[_OWNERS].tolist())

    def over_pages(
        self,
        reads: Sequence[DocumentRead],
        embed: Callable[[list[Any]], Tensor],
        batch_size: int | None = None,
    ) -> Tensor:
        """Embeddings `(documents, dim)` in bounded memory: pages are drawn a few at a time, while those before are embedded.

        Args:
            embed: makes vectors of what the inner encoder read. batch_size: pages of one forward pass.

        Raises:
            InputError: a page of one of the documents cannot be drawn or read.
        """
        owners = [owner for owner, read in enumerate(reads) for _ in read.pages]
        vectors: list[Tensor] = [torch.empty(0)] * len(owners)
        with closing(_in_chunks(self.encoder.inner, reads)) as chunks:
            for chunk in chunks:
                for batch in batches(chunk, self.encoder.inner, batch_size):
                    for (place, _), vector in zip(batch, embed([read for _, read in batch]), strict=True):
                        vectors[place] = vector
        return self._joined(vectors, owners)

    def _joined(self, vectors: Sequence[Tensor], owners: Sequence[int]) -> Tensor:
        """Vectors of pages to one of each document, in their order."""
        pages: list[list[Tensor]] = [[] for _ in range(max(owners) + 1)]
        for vector, owner in zip(vectors, owners, strict=True):
            pages[owner].append(vector)
        if self.similarity == "maxsim":  # padding is zero, and left out
            return pad_sequence([torch.cat([v[v.abs().amax(-1) > 0] for v in some]) for some in pages], True)
        # The mean of unit vectors is shorter than 1, the more the pages differ: made unit length again.
        return finished(torch.stack([torch.stack(some).mean(0) for some in pages]), self.similarity)


def documentary(towers: Sequence[Tower], pages: PageTower | None = None) -> list[DocumentTower]:
    """A route for every tower that reads images and no documents; of a model with a route for `pages`, by means of that alone."""
    if pages is not None:
        return [DocumentTower(pages)]
    return [
        DocumentTower(t) for t in towers if "image" in t.encoder.modalities and "document" not in t.encoder.modalities
    ]


def _in_chunks(encoder: Encoder, reads: Sequence[DocumentRead]) -> Iterator[list[tuple[int, Any]]]:
    """(number of the page among all, read) in chunks, the next one being read while one is out."""
    pages = [page for read in reads for page in read.pages]
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="zoo-read")
    try:
        waiting = []
        # One round more than there are chunks: the last one is still waiting when all have been submitted.
        for start in range(0, len(pages) + _AT_ONCE, _AT_ONCE):
            some = pages[start : start + _AT_ONCE]
            coming = [pool.submit(copy_context().run, encoder.prepare_item, page) for page in some]
            if waiting:
                yield [(start - _AT_ONCE + place, future.result()) for place, future in enumerate(waiting)]
            waiting = coming
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
