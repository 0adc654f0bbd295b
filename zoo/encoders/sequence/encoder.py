"""SequenceEncoder: a transformer that reads one sequence of text and marked media."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.encoders.base import Batch, Cut, Encoder
from zoo.encoders.config_checks import check_transformers
from zoo.encoders.rust import Core, naming
from zoo.encoders.sequence.backbones import backbone_of, check_dtype
from zoo.encoders.sequence.content import content_of, media_read
from zoo.encoders.sequence.media import READERS, VISUAL, MediaReader, Medium, Setup
from zoo.encoders.sequence.placeholders import expand, span_of
from zoo.encoders.sequence.processor import check_processor, check_version, opened
from zoo.encoders.sequence.template import Prompt
from zoo.encoders.shortening import encoder_of, shorten
from zoo.encoders.tokenizing import check_ids, check_text, pad
from zoo.encoders.unknown import Vocabulary
from zoo.errors import (
    ArgumentError,
    InvalidTextError,
    MissingWeightsError,
    TooManyTokensError,
    UnrecognisedCheckpointError,
    UnsupportedModalityError,
)
from zoo.inputs.item import Item, Tokens
from zoo.sequences import (
    Limits,
    SequenceFormat,
    check_pooling,
    limits_of,
    limits_to_dict,
    pooling_of,
    to_reading,
)
from zoo.spec import ModelSpec

_SHORTEST_PREFIX = 16  # tokens that all rows begin with, from where on computing them once pays


class Sequenced(NamedTuple):
    """One item as a sequence: token ids, which of them are pooled (None: all), its media in order."""

    ids: list[int]
    pooled: list[bool] | None
    media: tuple[Medium, ...]


class SequenceEncoder(Encoder):
    """One transformer over text and marked media (Qwen2-VL, LLaVA, a text decoder ...): token states of its last layer.

    Without marked media it reads text alone, with an instruction, through the same format.

    Args:
        config: the backbone's configuration, `model_type` included.
        format: how an item becomes a sequence; with the weights it decides the vectors.
        media: limits of each medium, by modality.
        max_tokens: longest sequence. Text is cut to fit, as `format.truncation` says; media never are.
        assets: folder of the tokenizer and processors; without it (`build_model`) items raise MissingWeightsError.
        backbone: a loaded base model; None builds one with random weights.
        processor: a transformers processor (for text alone, a tokenizer), in place of `assets`.

    Raises:
        UnrecognisedCheckpointError: a medium that has no reader, or a backbone that takes no media.
    """

    interleaved = True
    assets_in_root = False  # a processor of transformers there would be taken for the whole model's
    batch_budget = 2048  # tokens: what stays in a CPU's caches

    def __init__(
        self,
        config: dict[str, Any],
        format: SequenceFormat | dict[str, Any],
        media: dict[str, dict[str, Any]],
        max_tokens: int,
        assets: Path | None = None,
        backbone: nn.Module | None = None,
        processor: Any = None,
    ) -> None:
        super().__init__()
        check_transformers(config)
        if max_tokens < 1:
            raise UnrecognisedCheckpointError(f"a model reads at least 1 token, not {max_tokens}")
        self.settings, self.max_tokens = dict(config), max_tokens
        self.format = format if isinstance(format, SequenceFormat) else SequenceFormat.from_dict(format)
        self.media: dict[str, Limits] = dict(limits_of(media, self.format))
        if unread := sorted(set(self.format.marks) - set(READERS)):
            raise UnrecognisedCheckpointError(
                f"no reader of {unread[0]} in sequences is known; known are {sorted(READERS)}"
            )
        self.prompt = Prompt(self.format.prompt)
        self.modalities, self.mixed = frozenset({"text", *self.format.marks}), self.format.mixed
        self.backbone = backbone if backbone is not None else random_backbone(config)
        if self._sees:
            check_version(self.backbone)
        self.family = backbone_of(self.backbone.config.model_type)
        self.width = self.family.width(self.backbone.config)
        self.readers: dict[str, MediaReader] = {}
        self.processor: Any = None
        if processor is not None:
            self.use_processor(processor)
        elif assets is not None:
            self.use_processor(opened(assets, self.settings["model_type"], self.format))

    @property
    def _sees(self) -> bool:
        """Whether the backbone's own vision layers read some of the marked media."""
        return bool(VISUAL & set(self.format.marks))

    def use_processor(self, processor: Any) -> None:
        """Takes the tokenizer, and the processors of media; the limits of the format take the place of theirs."""
        self.processor, self.tokenizer = processor, getattr(processor, "tokenizer", processor)
        self.tokenizer.add_tokens(
            [token for token in self.format.added_tokens if token not in self.tokenizer.get_vocab()]
        )
        core = getattr(self.tokenizer, "backend_tokenizer", None)
        self.core = Core(core) if core is not None else None
        self.vocabulary = Vocabulary(self.tokenizer)
        config = self.backbone.config
        if self.format.marks:
            self.family.complete(processor, config)
        setup = Setup(processor, config, self.family, self.format, self.media)
        self.readers = {kind: READERS[kind](setup) for kind in media_read() if kind in self.format.marks}
        check_processor(processor, self.format, self.media, config, self.readers)
        self.media_ids = [reader.token_id for reader in self.readers.values() if reader.marker]
        self.marks = [self.tokenizer.convert_tokens_to_ids(mark) for mark in self.format.instruction_marks]

    def check_pooler(self, pooler: nn.Module) -> None:
        """Raises ValueError where the pooled token has read no more than any other."""
        check_pooling(self.format, pooling_of(pooler))

    # ----------------------------------------------------------------------------------------------------- reading

    @property
    def rate(self) -> int:  # type: ignore[override]
        """Of its audio."""
        return getattr(self.readers.get("audio"), "rate", 0)

    def prompted(self, item: Item, prompt: str) -> Item:
        """The prompt is the instruction, unless the item has its own.

        Raises:
            UnsupportedModalityError: it has its own, or a text, and the format has no place for it.
        """
        if item.instruction and "instruction" not in self.prompt.names:
            self._no_place("instruction", item.instruction)
        placed = {"text", "content"} & self.prompt.names
        texts = [] if placed else [value for kind, value in content_of(item) if kind == "text" and value.strip()]
        if texts:
            self._no_place("text", texts[0])
        return replace(item, instruction=prompt) if prompt and item.instruction is None else item

    def _no_place(self, what: str, value: str) -> None:
        raise UnsupportedModalityError(
            f"the item has the {what} {value[:60]!r}, for which the prompt of this {self.backbone.config.model_type} model has no place; leave it out",
            what=value[:60],
        )

    def prepare_item(self, item: Item) -> Sequenced:
        """One sequence.

        Raises:
            InputError: an image, video or text that cannot be read, a text with the mark of a medium in it.
            UnsupportedModalityError: text and media, where they are read apart.
            TooManyTokensError: media and instruction alone are longer than `max_tokens`.
        """
        self._need_processor()
        content = self._content(item)
        if not self.format.mixed and len({kind == "text" for kind, _ in content}) > 1:
            raise UnsupportedModalityError(
                f"this {self.backbone.config.model_type} model reads text or images, not both in one item; encode them "
                "apart, and add their similarities"
            )
        media = tuple(self.readers[kind].read(value) for kind, value in content if kind in self.readers)
        texts = [value for kind, value in content if kind == "text"]
        if not media or any(text.strip() for text in texts):
            for text in texts:
                self._check_words(text)
        if item.instruction:
            self._check_words(item.instruction)
        content = [(kind, self._start(kind, value)) for kind, value in content]
        ids = self._ids(content, media, item.instruction or "")
        if len(ids) > self.max_tokens:
            if self.format.truncation == "text":
                ids = self._cut(content, media, item.instruction or "", len(ids))
            else:
                inside = self.format.truncation == "inside"
                end = [number for part in self._parts(self.prompt.end) for number in self._tokens(part)]
                ids = self._end_cut(ids, end if inside else [])
        check_ids(ids, self.backbone.get_input_embeddings().num_embeddings, self.backbone.config.model_type)
        return Sequenced(ids, self._pooled(ids), media)

    def _content(self, item: Item) -> list[tuple[str, Any]]:
        """(kind, value) of what the sequence is made of, in order; a kind without a reader stands in the prompt in its words."""
        content = content_of(item, self.format.media_first)
        return [part for kind, value in content for part in self._unfolded(kind, value)]

    def _unfolded(self, kind: str, value: Any) -> list[tuple[str, Any]]:
        """A part of an item as the media that it is read as."""
        return (self.readers[kind].unfold(value) if kind in self.readers else None) or [(kind, value)]

    def cut(self, item: Item) -> Cut | None:
        """Of items of text alone: for others the media would have to be decoded."""
        self._need_processor()
        content = content_of(item)
        if any(kind != "text" for kind, _ in content):
            return None
        content = [(kind, self._start(kind, value)) for kind, value in content]
        return Cut(self.max_tokens) if len(self._ids(content, (), item.instruction or "")) > self.max_tokens else None

    def text_tokens(self, item: Item) -> int | None:
        content = content_of(item)
        if any(kind != "text" for kind, _ in content):
            return None
        return len(self._ids(content, (), item.instruction or ""))

    def _need_processor(self) -> None:
        if self.processor is None:
            raise MissingWeightsError(
                f"this {self.backbone.config.model_type} encoder was built without its tokenizer and processor (build_model "
                "gives the shape only); use load_model to embed"
            )

    def unknown_share(self, item: Item) -> float:
        self._need_processor()
        return self.vocabulary.share(self._start("text", check_text(item.text)))

    def doubtful(self, read: Sequenced, prompted: Item, item: Item) -> bool:
        return self.vocabulary.doubtful(read.ids, item.text, None)

    def _start(self, kind: str, value: Any) -> Any:
        """Of a text what could be read of it."""
        if kind != "text":
            return value
        encode, weighs = encoder_of(self.core) if self.core is not None else (self._tokens, True)
        # Stripped, as the template may do.
        return shorten(value, self.max_tokens, lambda text: encode(text.strip()), weighs=weighs)

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _check_words(self, text: str) -> None:
        check_text(text)
        for marks, what in (
            ([r.marker for r in self.readers.values() if r.marker], "stands for an image or video"),
            (self.format.instruction_marks, "stands around the instruction"),
        ):
            if mark := next((mark for mark in marks if mark in text), None):
                raise InvalidTextError(
                    f"a text holds {mark!r}, which {what} in this model; take it out", what=text[:60]
                )

    def _ids(self, content: list[tuple[str, Any]], media: Sequence[Medium], instruction: str) -> list[int]:
        rendered = self.prompt.render(content, self.format, instruction)
        expanded = expand(rendered, media, self.readers)
        if self.core is not None:
            self.core.check(expanded)
        with naming(rendered):
            first, *others = self._parts(expanded)
            ids = list(self.tokenizer(first, add_special_tokens=self.format.special_tokens).input_ids)
            return ids + [number for part in others for number in self._tokens(part)]

    def _parts(self, text: str) -> list[str]:
        """Of the rendered prompt what becomes tokens by itself: mostly all of it."""
        return text.split(self.format.divided_at) if self.format.divided_at else [text]

    def _cut(self, content: list[tuple[str, Any]], media: Sequence[Medium], instruction: str, length: int) -> list[int]:
        """The sequence with as much of its last text as there is room for; media, marks and instruction stay whole."""
        last = max((i for i, (kind, _) in enumerate(content) if kind == "text"), default=None)
        text = content[last][1] if last is not None else ""
        while text and length > self.max_tokens:
            with naming(text):
                words = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            keep = min(len(words.input_ids) - 1, len(words.input_ids) - (length - self.max_tokens))
            # Cut in the text and tokenised again: ids cut from the middle may not be what the shorter text would give.
            end = words.offset_mapping[keep - 1][1] if keep > 0 else 0
            text = text[: min(end, len(text) - 1)]  # a letter of several tokens ends where each of them does
            content = [*content[:last], ("text", text), *content[last + 1 :]]
            ids = self._ids(content, media, instruction)
            length = len(ids)
        if length > self.max_tokens:
            tokens = sum(medium.tokens for medium in media)
            raise TooManyTokensError(
                f"the item makes {length:,} tokens without its last text, {tokens:,} of them of its images and videos; the "
                f"model reads {self.max_tokens:,}. Make them smaller, or fewer, or raise max_tokens if its backbone allows"
            )
        return ids

    def _end_cut(self, ids: list[int], end: list[int]) -> list[int]:
        """The sequence up to `max_tokens`, its closing marks cut off, as the authors' tokenizers cut; media stay whole.

        Args:
            end: what is put there all the same, the closing marks or nothing.

        Raises:
            TooManyTokensError: a medium would be cut, or nothing of the content left.
        """
        last = self.max_tokens - len(end)
        if last < 1:
            raise TooManyTokensError(f"the prompt ends in {len(end)} tokens, and the model reads {self.max_tokens}")
        if set(ids[last:]) & set(self.media_ids):
            raise TooManyTokensError(
                f"the item makes {len(ids):,} tokens, and cut at {self.max_tokens:,} it would end within or before an image or "
                "video, where the authors' code fails; put media first, or make them smaller, or fewer"
            )
        return ids[:last] + end

    def _pooled(self, ids: list[int]) -> list[bool] | None:
        """Which tokens are pooled, None for all."""
        span = self.format.span
        if span == "outside_instruction" and self.marks[0] in ids:
            first = ids.index(self.marks[0])
            last = ids.index(self.marks[1]) if self.marks[1] in ids else len(ids)  # cut within it
            return [not first <= i <= last for i in range(len(ids))]
        if span == "vision" and (ends := span_of(ids, self.media_ids, self.backbone.config)) is not None:
            return [ends[0] <= i <= ends[1] for i in range(len(ids))]
        return None

    def length(self, read: Sequenced) -> int:
        return len(read.ids)

    def size(self, read: Sequenced) -> int:
        return sum(tensor.nbytes for medium in read.media for tensor in medium.inputs.values())

    def collate(self, reads: Sequence[Sequenced], side: str = "right") -> Batch:
        """Ids, masks and positions `(batch, tokens)`; each distinct medium once, and where it goes.

        Args:
            side: of the padding; it does not change an embedding.
        """
        ids, mask = pad([read.ids for read in reads], self.tokenizer.pad_token_id or 0, side)
        batch = {"ids": ids, "mask": mask}
        if any(read.pooled is not None for read in reads):
            batch["pooled"], _ = pad([read.pooled or [True] * len(read.ids) for read in reads], 0, side)
        for kind, reader in self.readers.items():
            if all_of_kind := [medium for read in reads for medium in read.media if medium.kind == kind]:
                distinct = list({medium.key: medium for medium in all_of_kind}.values())
                place = {medium.key: i for i, medium in enumerate(distinct)}
                for name, tensor in reader.collate(distinct).items():
                    batch[f"{kind}.{name}"] = tensor
                batch[f"{kind}_order"] = torch.tensor([place[medium.key] for medium in all_of_kind])
                batch[f"{kind}_tokens"] = torch.tensor([medium.tokens for medium in distinct])
        batch["positions"] = self._positions(batch)
        return batch

    def _positions(self, batch: Batch) -> Tensor:
        """`(axes, batch, tokens)` for backbones with several axes, else `(batch, tokens)`."""
        mask = batch["mask"]
        # Counted over real tokens: padded on the left, a text would begin at another position than alone.
        counted = (mask.cumsum(1) - 1).clamp(min=0)
        if not hasattr(self.backbone, "get_rope_index"):
            return counted
        if self.format.positions == "sequential" or not self._has_media(batch):
            # Time, row and column of M-RoPE (Qwen2-VL): of text all three are the same.
            return counted.expand(3, *counted.shape).clone()
        # M-RoPE: rows and columns of media, as the backbone itself counts them.
        types = torch.zeros_like(batch["ids"])
        extras: dict[str, Tensor] = {}
        for kind, reader in self.readers.items():
            if reader.marker:
                types[batch["ids"] == reader.token_id] = reader.type
            if (order := batch.get(f"{kind}_order")) is not None:
                extras |= reader.positions(_inputs(batch, kind), order)
        return self.family.positions(self.backbone, batch["ids"], types, mask.long(), extras)

    def _has_media(self, batch: Batch) -> bool:
        return any(f"{kind}_order" in batch for kind in self.format.marks)

    # ----------------------------------------------------------------------------------------------------- forward

    def forward(self, batch: Batch) -> Tokens:
        ids, mask, positions = batch["ids"], batch["mask"], batch["positions"]
        # Here, since all layers share this configuration, a checkpoint may bring another, and another encoder may share the backbone.
        self.backbone.config.get_text_config().is_causal = self.format.attention == "causal"
        check_dtype(self.backbone.config.model_type, next(self.backbone.parameters()).dtype)
        pooled = mask & batch["pooled"].bool() if "pooled" in batch else mask
        features = self._features(batch)
        shared = self._shared_prefix(ids, mask)
        seen = self.family.arguments(self.backbone, ids[:, shared:], features)
        if not shared:
            out = self.backbone(attention_mask=mask.long(), position_ids=positions, use_cache=False, **seen)
            return Tokens(out.last_hidden_state, pooled)
        first = self.backbone(
            input_ids=ids[:1, :shared],
            attention_mask=mask[:1, :shared].long(),
            position_ids=positions[..., :1, :shared],
            use_cache=True,
        )
        # One prefix, (1, shared): its keys and values serve every row, since causal attention never looks ahead.
        first.past_key_values.batch_repeat_interleave(len(ids))
        rest = self.backbone(
            attention_mask=mask.long(),
            position_ids=positions[..., shared:],
            past_key_values=first.past_key_values,
            use_cache=True,
            **seen,
        )
        prefix = first.last_hidden_state.expand(len(ids), -1, -1)
        return Tokens(torch.cat([prefix, rest.last_hidden_state], 1), pooled)

    def _features(self, batch: Batch) -> dict[str, Any]:
        """Each distinct medium through its layers once, then in the order of the sequences."""
        return {
            kind: reader.features(
                self.backbone, _inputs(batch, kind), batch[f"{kind}_order"].tolist(), batch[f"{kind}_tokens"].tolist()
            )
            for kind, reader in self.readers.items()
            if f"{kind}_order" in batch
        }

    def _shared_prefix(self, ids: Tensor, mask: Tensor) -> int:
        """Tokens that all rows begin with and that are worth computing once: an instruction, the system's words.

        Only where later tokens cannot change them (causal attention), outside training, and before any medium.
        """
        text = self.backbone.config.get_text_config()
        plain = all(kind == "full_attention" for kind in getattr(text, "layer_types", None) or ())
        # GradCache's pass without gradient must draw the dropout of the one with it.
        if len(ids) < 2 or torch.is_grad_enabled() or self.training or self.format.attention != "causal" or not plain:
            return 0
        if not bool(mask[:, 0].all()):  # padded on the left
            return 0
        marks = torch.tensor(self.media_ids if self.processor is not None else [], device=ids.device)
        same = (ids == ids[:1]).all(0) & mask.all(0) & ~torch.isin(ids[0], marks)
        shared = int(same.long().cumprod(0).sum())
        # At least one token of each row must go through the second pass: the pooled one.
        shared = min(shared, int(mask.sum(1).min()) - 1)
        return shared if shared >= _SHORTEST_PREFIX else 0

    # ------------------------------------------------------------------------------------------------------ saving

    def config(self) -> dict[str, Any]:
        return {
            "config": self.settings,
            "format": self.format.to_dict(),
            "media": limits_to_dict(self.media),
            "max_tokens": self.max_tokens,
        }

    def save_assets(self, folder: Path) -> None:
        if self.processor is not None:
            self.processor.save_pretrained(folder)

    def preprocessing(self) -> dict[str, Any]:
        facts = {name: value for name, value in self.config().items() if name != "config"}
        return {**facts, **self._processing()}

    def hashed(self, pooler: nn.Module | None, spec: ModelSpec) -> dict[str, Any]:
        """In the words of before 0.2, so that vectors that were made then stay comparable."""
        names = {"projection": spec.projection, "adapter": spec.adapter}
        reading = to_reading(self.format, self.media, pooling=pooling_of(pooler), **names)
        return {"reading": reading, "max_tokens": self.max_tokens, **self._processing()}

    def _processing(self) -> dict[str, Any]:
        """How media are made ready, and by which version (resampling has changed before)."""
        if not self.readers:
            return {}
        import torchvision

        facts = {"image": {}, "video": {}} | {kind: reader.settings() for kind, reader in self.readers.items()}
        return {**facts, "torchvision": ".".join(torchvision.__version__.split(".")[:2])}


def sequence(spec: ModelSpec, config: dict[str, Any], processor: Any = None) -> SequenceEncoder:
    """The encoder of a registered model, its backbone with random weights; without a processor it has the shape only.

    Args:
        spec: has the format and the limits. config: of the backbone, `model_type` included.

    Raises:
        ArgumentError: the facts lack the format or the longest sequence.
    """
    return SequenceEncoder(config, *facts_of(spec), processor=processor)


def facts_of(spec: ModelSpec) -> tuple[SequenceFormat, dict[str, Any], int]:
    """The format, the limits of media and the longest sequence of a model; raises as `sequence`."""
    if spec.format is None or spec.max_tokens is None:
        lacks = (
            "format=SequenceFormat(...)" if spec.format is None else "max_tokens, the longest sequence that it reads"
        )
        raise ArgumentError(f"{spec.name} is a model of sequences, and its facts lack {lacks}")
    return spec.format, dict(spec.media), spec.max_tokens


def _inputs(batch: Batch, kind: str) -> Batch:
    """The inputs of one medium, by the names that its processor gave them."""
    return {name.partition(".")[2]: tensor for name, tensor in batch.items() if name.startswith(f"{kind}.")}


def random_backbone(config: dict[str, Any]) -> nn.Module:
    """The base model of a configuration, without the projection to the vocabulary."""
    from transformers import AutoConfig, AutoModel

    return AutoModel.from_config(AutoConfig.for_model(**config))
