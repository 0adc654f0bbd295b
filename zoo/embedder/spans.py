"""Vectors of the spans of a text, which have read the whole of it: one forward pass for all of them (late chunking)."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from zoo.arguments import checked, flag, one_of, optional, whole
from zoo.embedder.cutting import TRUNCATIONS, Cuts, Truncation
from zoo.embedder.given import many_of
from zoo.embedder.passes import halved, to_device
from zoo.embedder.streaming import kept, not_finite, progress_bar, stream
from zoo.encoders.base import Encoder
from zoo.errors import (
    ArgumentError,
    EmptyTextError,
    InputError,
    NotOfferedError,
    TextTooLongError,
    UnsupportedInputError,
)
from zoo.inputs.item import Item, as_item
from zoo.pooling.spans import SPAN_POOLERS, pools_spans
from zoo.similarity import cut, usable

if TYPE_CHECKING:
    from zoo.embedder.embedder import Embedder
    from zoo.embedder.tower import Tower

SpanPooling = Literal["span_mean", "span_end"]
Range = tuple[int, int]


class WithSpans:
    """The method of `Embedder` for vectors of spans."""

    @checked(
        pooling=optional(one_of(*SPAN_POOLERS)),
        batch_size=optional(whole()),
        dim=optional(whole(None)),
        truncation=one_of(*TRUNCATIONS),
        progress=optional(flag),
    )
    def encode_spans(
        self: "Embedder",
        texts: Any,
        spans: Sequence[Any],
        *,
        pooling: SpanPooling | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        batch_size: int | None = None,
        dim: int | None = None,
        truncation: Truncation = "cut",
        progress: bool | None = None,
    ) -> Tensor | list[Tensor]:
        """Embeds spans of texts, each from the token states of its whole text: "late chunking" (Günther et al., 2024).

        A token belongs to every span that it overlaps, white space at its ends aside; a prompt and the tokens that the tokenizer puts
        around a text belong to none. What follows the pooler is the model's own: its head and unit length.

        Args:
            texts: one text or a list. spans: of one text a list of `(start, stop)` in characters, as of slices; of many such a list
                for each.
            pooling: "span_mean", the mean over a span's tokens, or "span_end", the state of its last token; by default the model's own
                pooler over the span's tokens.
            prompt, prompt_name, batch_size, dim, progress: as of `encode`.
            truncation: as of `encode`. With "cut" a span of which only the end is lost is pooled from what was read.

        Returns:
            `(spans, dim)` of one text, a list of these of many; float32 on the CPU, without gradients.

        Raises:
            ArgumentError: a span is empty or not inside its text, or the model's own pooler has no meaning for spans.
            EmptyTextError: a span has no token, such as white space alone. TextTooLongError: nothing of a span is read.
            NotOfferedError: the model does not tell where in a text its tokens stand. Besides what `encode` raises.
        """
        many = many_of(texts)
        items = [as_item(value) for value in ([texts] if many is None else many)]
        wanted = _ranges(items, [spans] if many is None else spans)
        _check(self, pooling)
        pooler = None if pooling is None else SPAN_POOLERS[pooling]()
        prefix, dim = self.prompt_text(prompt, prompt_name), self._cut(dim)
        bar, cuts = progress_bar(items, progress, self.spec.name), Cuts(self, truncation)

        def prepare(encoder: Encoder, item: Item, index: int) -> _Spanned:
            return _Spanned(encoder.prepare_prompted(item, prefix), encoder, item, prefix, wanted[index])

        def embed(model: "Embedder", tower: "Tower", reads: list[_Spanned], batch_size: int | None) -> list[Any]:
            return _vectors(model, tower, reads, pooler)

        run = {"batch_size": batch_size, "dim": None, "bar": bar, "cuts": cuts}
        found = [
            vectors if dim is None else cut(vectors, dim, self.spec.similarity)
            for vectors in kept(stream(self, items, prefix, embed=embed, prepare=prepare, **run), "raise")
        ]
        return found if many is not None else found[0]


class _Spanned(list[int]):
    """The ids of a text that remember which of them each span has."""

    def __init__(self, read: list[int], encoder: Encoder, item: Item, prompt: str, ranges: Sequence[Range]) -> None:
        super().__init__(read)
        self.__dict__ |= getattr(read, "__dict__", {})  # what the encoder remembers of them
        places = encoder.places(item, prompt, read)
        self.spans = [_tokens_of(places, item.text or "", *one) for one in ranges]


def _tokens_of(places: Sequence[Range], text: str, start: int, stop: int) -> Range:
    """The first token of a span and the one after its last.

    Args:
        places: of each token where it stands in the text, itself without the white space at its ends.

    Raises:
        TextTooLongError, EmptyTextError: it has none.
    """
    mine = [at for at, (first, last) in enumerate(places) if first < last and first < stop and start < last]
    if mine:
        return mine[0], mine[-1] + 1
    read = [place for place in places if place[0] < place[1]]
    if read and (start >= read[-1][1] or stop <= read[0][0]) and text[start:stop].strip():
        raise TextTooLongError(
            f"nothing is read of its span {start}:{stop}: the model reads characters {read[0][0]} to {read[-1][1]} of this text; split it",
            what=text[start : start + 60],
        )
    raise EmptyTextError(f"its span {start}:{stop} has no token; leave it out", what=repr(text[start:stop])[:60])


def _ranges(items: Sequence[Item], spans: Any) -> list[list[Range]]:
    """The spans of each text.

    Raises:
        ArgumentError: they are not as many lists as texts, or one is no part of its text. UnsupportedInputError: an item is no text.
    """
    if isinstance(spans, str | bytes) or not isinstance(spans, Sequence) or len(spans) != len(items):
        count = len(spans) if isinstance(spans, Sequence) else repr(spans)[:40]
        raise ArgumentError(
            f"spans must hold a list of (start, stop) for each of the {len(items)} texts, not {count}; of one text pass it as a str"
        )
    found = []
    for index, (item, own) in enumerate(zip(items, spans, strict=True)):
        if item.modalities != {"text"}:
            what = "+".join(sorted(item.modalities))
            raise UnsupportedInputError(f"spans are of texts, and this is {what}", what=what, index=index)
        if isinstance(own, str | bytes) or not isinstance(own, Sequence):
            raise ArgumentError(f"spans of item {index} must be a list of (start, stop), not {own!r:.40}")
        found.append([_range(one, item.text or "", f"spans of item {index}") for one in own])
    return found


def _range(span: Any, text: str, where: str) -> Range:
    pair = isinstance(span, Sequence) and not isinstance(span, str | bytes) and len(span) == 2
    whole = pair and all(hasattr(one, "__index__") and not isinstance(one, bool) for one in span)
    if not whole or not 0 <= span[0] < span[1] <= len(text):
        raise ArgumentError(
            f"{where}: {span!r:.60} is no (start, stop) with 0 <= start < stop <= {len(text)}, in characters of the text"
        )
    if not text[span[0] : span[1]].strip():
        raise EmptyTextError(f"{where}: {span!r} is white space alone; leave it out")
    return int(span[0]), int(span[1])


def _check(model: "Embedder", pooling: SpanPooling | None) -> None:
    """Raises ArgumentError, NotOfferedError or UnsupportedModalityError where a model gives no vectors of spans."""
    name = model.spec.name
    if model.spec.similarity == "maxsim":
        raise ArgumentError(f"every vector of {name} is a token's already: call encode, which gives (tokens, dim)")
    tower = model.route(Item(text="a"))
    if type(tower.encoder).places is Encoder.places:
        raise NotOfferedError(
            f"{type(tower.encoder).__name__} of {name} does not tell where in a text its tokens stand; embed the spans as texts"
        )
    if pooling is None and not pools_spans(tower.pooler):
        raise ArgumentError(
            f"{name} takes the first token's state for the whole text, which is no span's; say pooling='span_mean' or 'span_end'"
        )


@torch.inference_mode(False)
def _vectors(
    model: "Embedder", tower: "Tower", reads: list[_Spanned], pooler: nn.Module | None
) -> list[Tensor | InputError]:
    """The vectors of each text's spans, ordinary tensors on the CPU; out of memory halves the batch and tries again."""

    def run(some: list[_Spanned]) -> list[Tensor | InputError]:
        spans = [(row, *span) for row, read in enumerate(some) for span in read.spans]
        if not spans:
            return [torch.zeros(0, model.spec.dim) for _ in some]
        with model.eval_mode.during_pass(tower), torch.inference_mode():
            batch = to_device(tower.encoder.collate(some), model.device)
            found = tower.forward_spans(batch, spans, pooler).cpu()
        rows = found.clone().split([len(read.spans) for read in some])  # autograd takes no tensor of inference mode
        return [row if usable(row, model.spec.similarity).all() else not_finite() for row in rows]

    parts = halved(run, reads, model.device, partial(model._room.ran_out, tower.encoder))
    return [row for part in parts for row in part]
