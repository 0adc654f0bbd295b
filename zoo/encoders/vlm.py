"""A vision-language backbone of transformers, reading text, pictures and films as one sequence."""

import inspect
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.encoders.base import Batch, Cut, Encoder
from zoo.encoders.checking import check_transformers
from zoo.encoders.fitting import check_processor, check_version
from zoo.encoders.places import NAMING_A_PROCESSOR, check_processor_class, check_processor_files
from zoo.encoders.quiet import quiet
from zoo.encoders.rendering import Prompt
from zoo.encoders.rust import Core, naming, opening
from zoo.encoders.shortening import encoder_of, shorten
from zoo.encoders.tokenizing import check_ids, check_text, held, pad
from zoo.encoders.unknown import Vocabulary
from zoo.encoders.visuals import Visual, Visuals
from zoo.errors import (
    EmptyItemError,
    InvalidTextError,
    MissingWeightsError,
    TooManyTokensError,
    UnrecognisedCheckpointError,
    UnsupportedModalityError,
)
from zoo.inputs.item import Item, Tokens, as_item
from zoo.reading import Reading
from zoo.spec import Modality
from zoo.strangers import trial

KINDS = ("image", "video")
_SHORTEST_PREFIX = 16  # tokens that all rows begin with, from where on computing them once pays


class Sequenced(NamedTuple):
    """One item as a sequence: token ids, which of them are pooled (None: all), its pictures and films in order."""

    ids: list[int]
    pooled: list[bool] | None
    visuals: tuple[Visual, ...]


class VlmEncoder(Encoder):
    """A vision-language backbone (Qwen2-VL, LLaVA, ...): token states of its last layer, for one sequence an item.

    Args:
        config: the backbone's configuration, `model_type` included.
        reading: how an item becomes a sequence; with the weights it decides the vectors.
        max_tokens: longest sequence. Words are cut to fit, as `reading.truncation` says; pictures never are.
        assets: folder of the tokenizer and processors; without it (`build_model`) items raise MissingWeightsError.
        backbone: a loaded base model; None builds one with random weights.
        processor: a transformers processor, in place of `assets`.
    """

    interleaved = True
    assets_in_root = False  # a processor of transformers there would be taken for the whole model's

    def __init__(
        self,
        config: dict[str, Any],
        reading: Reading | dict[str, Any],
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
        self.reading = reading if isinstance(reading, Reading) else Reading.from_dict(reading)
        self.prompt = Prompt(self.reading.prompt)
        self.reads: frozenset[Modality] = frozenset(
            kind
            for kind, there in (("text", True), ("image", self.reading.image), ("video", self.reading.video))
            if there
        )
        self.backbone = backbone if backbone is not None else random_backbone(config)
        check_version(self.backbone)
        self.width = self.backbone.config.get_text_config().hidden_size
        self.visuals: Visuals | None = None
        if assets is not None or processor is not None:
            self.use_processor(processor if processor is not None else open_processor(assets, config["model_type"]))

    def use_processor(self, processor: Any) -> None:
        """Takes tokenizer, picture and film processors; the reading's pixel budgets take the place of theirs."""
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.tokenizer.add_tokens(
            [token for token in self.reading.added_tokens if token not in self.tokenizer.get_vocab()]
        )
        core = getattr(self.tokenizer, "backend_tokenizer", None)
        self.core = Core(core) if core is not None else None
        self.vocabulary = Vocabulary(self.tokenizer)
        self.visuals = Visuals(processor, self.reading, self.backbone.config)
        check_processor(processor, self.reading, self.backbone.config, self.visuals.probe)
        self.marks = [self.tokenizer.convert_tokens_to_ids(mark) for mark in self.reading.instruction_marks]

    @property
    def batch_budget(self) -> int:
        """Tokens of one forward pass: what stays in a CPU's cache, or keeps a GPU busy."""
        return 2048 if next(self.backbone.parameters()).device.type == "cpu" else 32768

    # ----------------------------------------------------------------------------------------------------- reading

    def prompted(self, item: Item, prompt: str) -> Item:
        """The prompt is the instruction, unless the item has its own."""
        return replace(item, instruction=prompt) if prompt and item.instruction is None else item

    def read(self, item: Item) -> Sequenced:
        """One sequence.

        Raises:
            InputError: a picture, film or text that cannot be read, a text with the mark of a picture in it.
            UnsupportedModalityError: words and pictures, where they are read apart.
            TooManyTokensError: pictures and instruction alone are longer than `max_tokens`.
        """
        self._need_processor()
        content = self.visuals.unfold(content_of(item))
        if not self.reading.mixed and len({kind == "text" for kind, _ in content}) > 1:
            what = "similarities" if self.reading.pooling == "tokens" else "vectors"
            raise UnsupportedModalityError(
                f"this {self.backbone.config.model_type} model reads words or pictures, not both in one item; encode them "
                f"apart, and add their {what}"
            )
        visuals = tuple(self.visuals.read(kind, value) for kind, value in content if kind in KINDS)
        texts = [value for kind, value in content if kind == "text"]
        if not visuals or any(text.strip() for text in texts):
            for text in texts:
                self._check_words(text)
        if item.instruction:
            self._check_words(item.instruction)
        content = [(kind, self._start(kind, value)) for kind, value in content]
        ids = self._ids(content, visuals, item.instruction or "")
        if len(ids) > self.max_tokens:
            reference = self.reading.truncation == "reference"
            ids = self._end_cut(ids) if reference else self._cut(content, visuals, item.instruction or "", len(ids))
        check_ids(ids, self.backbone.get_input_embeddings().num_embeddings, self.backbone.config.model_type)
        return Sequenced(ids, self._pooled(ids), visuals)

    def cut(self, item: Item) -> Cut | None:
        """Of items of text alone: for others the media would have to be decoded."""
        self._need_processor()
        content = content_of(item)
        if any(kind in KINDS for kind, _ in content):
            return None
        content = [(kind, self._start(kind, value)) for kind, value in content]
        return Cut(self.max_tokens) if len(self._ids(content, (), item.instruction or "")) > self.max_tokens else None

    def _need_processor(self) -> None:
        if self.visuals is None:
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
            (self.visuals.marks, "stands for a picture or film"),
            (self.reading.instruction_marks, "stands around the instruction"),
        ):
            if mark := next((mark for mark in marks if mark in text), None):
                raise InvalidTextError(
                    f"a text holds {mark!r}, which {what} in this model; take it out", what=text[:60]
                )

    def _ids(self, content: list[tuple[str, Any]], visuals: Sequence[Visual], instruction: str) -> list[int]:
        rendered = self.prompt.render(content, self.reading, instruction)
        expanded = self.visuals.expand(rendered, visuals)
        if self.core is not None:
            self.core.check(expanded)
        with naming(rendered):
            return list(self.tokenizer(expanded, add_special_tokens=self.reading.special_tokens).input_ids)

    def _cut(
        self, content: list[tuple[str, Any]], visuals: Sequence[Visual], instruction: str, length: int
    ) -> list[int]:
        """The sequence with as much of its last text as there is room for; pictures, marks and instruction stay whole."""
        last = max((i for i, (kind, _) in enumerate(content) if kind == "text"), default=None)
        text = content[last][1] if last is not None else ""
        while text and length > self.max_tokens:
            with naming(text):
                words = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            keep = min(len(words.input_ids) - 1, len(words.input_ids) - (length - self.max_tokens))
            end = words.offset_mapping[keep - 1][1] if keep > 0 else 0
            text = text[: min(end, len(text) - 1)]  # a letter of several tokens ends where each of them does
            content = [*content[:last], ("text", text), *content[last + 1 :]]
            ids = self._ids(content, visuals, instruction)
            length = len(ids)
        if length > self.max_tokens:
            tokens = sum(visual.tokens for visual in visuals)
            raise TooManyTokensError(
                f"the item makes {length:,} tokens without its last text, {tokens:,} of them of its pictures and films; the "
                f"model reads {self.max_tokens:,}. Make them smaller, or fewer, or raise max_tokens if its backbone allows"
            )
        return ids

    def _end_cut(self, ids: list[int]) -> list[int]:
        """The sequence up to `max_tokens`, its closing marks cut off, as the authors' tokenizers cut; pictures stay whole."""
        if set(ids[self.max_tokens :]) & set(self.visuals.token_ids):
            raise TooManyTokensError(
                f"the item makes {len(ids):,} tokens, and cut at {self.max_tokens:,} it would end within or before an image or "
                "video, where the authors' code fails; put media first, or make them smaller, or fewer"
            )
        return ids[: self.max_tokens]

    def _pooled(self, ids: list[int]) -> list[bool] | None:
        """Which tokens are pooled, None for all."""
        span = self.reading.span
        if span == "outside_instruction" and self.marks[0] in ids:
            first = ids.index(self.marks[0])
            last = ids.index(self.marks[1]) if self.marks[1] in ids else len(ids)  # cut within it
            return [not first <= i <= last for i in range(len(ids))]
        if span == "vision" and (ends := self.visuals.span(ids)) is not None:
            return [ends[0] <= i <= ends[1] for i in range(len(ids))]
        return None

    def length(self, read: Sequenced) -> int:
        return len(read.ids)

    def size(self, read: Sequenced) -> int:
        return sum(tensor.nbytes for visual in read.visuals for tensor in visual.inputs.values())

    def collate(self, reads: Sequence[Sequenced], side: str = "right") -> Batch:
        """Ids, masks and positions `(batch, tokens)`; each distinct picture once, and where it goes.

        Args:
            side: of the padding; it does not change an embedding.
        """
        ids, mask = pad([read.ids for read in reads], self.tokenizer.pad_token_id or 0, side)
        batch = {"ids": ids, "mask": mask}
        if any(read.pooled is not None for read in reads):
            batch["pooled"], _ = pad([read.pooled or [True] * len(read.ids) for read in reads], 0, side)
        for kind in KINDS:
            if all_of_kind := [visual for read in reads for visual in read.visuals if visual.kind == kind]:
                distinct = list({visual.key: visual for visual in all_of_kind}.values())
                place = {visual.key: i for i, visual in enumerate(distinct)}
                for name, tensor in self.visuals.collate(distinct).items():
                    batch[f"{kind}.{name}"] = tensor
                batch[f"{kind}_order"] = torch.tensor([place[visual.key] for visual in all_of_kind])
                batch[f"{kind}_tokens"] = torch.tensor([visual.tokens for visual in distinct])
        batch["positions"] = self._positions(batch)
        return batch

    def _positions(self, batch: Batch) -> Tensor:
        """`(axes, batch, tokens)` for backbones with several axes, else `(batch, tokens)`."""
        mask = batch["mask"]
        counted = (mask.cumsum(1) - 1).clamp(min=0)
        if not hasattr(self.backbone, "get_rope_index"):
            return counted
        if self.reading.positions == "sequential" or not any(f"{kind}_order" in batch for kind in KINDS):
            return counted.expand(3, *counted.shape).clone()
        return self.visuals.rope_index(self.backbone, batch)

    # ----------------------------------------------------------------------------------------------------- forward

    def forward(self, batch: Batch) -> Tokens:
        ids, mask, positions = batch["ids"], batch["mask"], batch["positions"]
        # Here, since all layers share this configuration, a checkpoint may bring another, and another encoder may share the backbone.
        self.backbone.config.get_text_config().is_causal = self.reading.attention == "causal"
        pooled = mask & batch["pooled"].bool() if "pooled" in batch else mask
        seen = self._seen(self._features(batch)) if any(f"{kind}_order" in batch for kind in KINDS) else {}
        shared = self._shared_prefix(ids, mask)
        if not shared:
            out = self.backbone(
                input_ids=ids, attention_mask=mask.long(), position_ids=positions, use_cache=False, **seen
            )
            return Tokens(out.last_hidden_state, pooled)
        first = self.backbone(
            input_ids=ids[:1, :shared],
            attention_mask=mask[:1, :shared].long(),
            position_ids=positions[..., :1, :shared],
            use_cache=True,
        )
        first.past_key_values.batch_repeat_interleave(len(ids))
        rest = self.backbone(
            input_ids=ids[:, shared:],
            attention_mask=mask.long(),
            position_ids=positions[..., shared:],
            past_key_values=first.past_key_values,
            use_cache=True,
            **seen,
        )
        prefix = first.last_hidden_state.expand(len(ids), -1, -1)
        return Tokens(torch.cat([prefix, rest.last_hidden_state], 1), pooled)

    def _features(self, batch: Batch) -> dict[str, Any]:
        """Each distinct picture and film through the vision layers once, then in the order of the sequences."""
        found = {}
        for kind in KINDS:
            if (order := batch.get(f"{kind}_order")) is None:
                continue
            inputs = {name.partition(".")[2]: tensor for name, tensor in batch.items() if name.startswith(f"{kind}.")}
            found[kind] = self.visuals_of(kind, inputs, order.tolist(), batch[f"{kind}_tokens"].tolist())
        return found

    def _seen(self, features: dict[str, Any]) -> dict[str, Any]:
        """The argument by which this backbone takes features in place of pictures."""
        if "mm_encoder_outputs" in inspect.signature(self.backbone.forward).parameters:
            return {"mm_encoder_outputs": features}
        return {"image_hidden_states": features["image"].pooler_output}  # ModernVBERT, and Idefics 3 before it

    def visuals_of(self, kind: str, inputs: Batch, order: list[int], tokens: list[int]) -> Any:
        """Features of pictures or films, as transformers hands them on inside a model (`mm_encoder_outputs`).

        Args:
            order: which of them each placeholder stands for. tokens: how long each one is.
        """
        kept = {n: t for n, t in inputs.items() if n not in ("second_per_grid_ts",)}
        dtype = next(self.backbone.parameters()).dtype
        kept = {n: t.to(dtype) if t.is_floating_point() else t for n, t in kept.items()}
        out = getattr(self.backbone, f"get_{kind}_features")(**kept, return_dict=True)
        features = out.pooler_output
        if isinstance(features, Tensor):  # LLaVA-OneVision's films, one closing token behind frames filled with zeros
            films = [torch.cat([features[i, : tokens[i] - 1], features[i, -1:]]) for i in order]
            out.pooler_output = torch.cat(films)[None]
        else:
            out.pooler_output = [features[i] for i in order]
        if getattr(out, "deepstack_features", None) is not None:
            layers = out.deepstack_features if self.reading.deepstack else []
            out.deepstack_features = [[layer[i] for i in order] for layer in layers]
        return out

    def _shared_prefix(self, ids: Tensor, mask: Tensor) -> int:
        """Tokens that all rows begin with and that are worth computing once: an instruction, the system's words.

        Only where later tokens cannot change them (causal attention), outside training, and before any picture.
        """
        text = self.backbone.config.get_text_config()
        plain = all(kind == "full_attention" for kind in getattr(text, "layer_types", None) or ())
        # GradCache's pass without gradient must draw the dropout of the one with it.
        if len(ids) < 2 or torch.is_grad_enabled() or self.training or self.reading.attention != "causal" or not plain:
            return 0
        if not bool(mask[:, 0].all()):  # padded on the left
            return 0
        marks = torch.tensor(self.visuals.token_ids if self.visuals else [], device=ids.device)
        same = (ids == ids[:1]).all(0) & mask.all(0) & ~torch.isin(ids[0], marks)
        shared = int(same.long().cumprod(0).sum())
        shared = min(shared, int(mask.sum(1).min()) - 1)
        return shared if shared >= _SHORTEST_PREFIX else 0

    # ------------------------------------------------------------------------------------------------------ saving

    def config(self) -> dict[str, Any]:
        return {"config": self.settings, "reading": self.reading.to_dict(), "max_tokens": self.max_tokens}

    def save_assets(self, folder: Path) -> None:
        if self.visuals is not None:
            self.processor.save_pretrained(folder)

    def preprocessing(self) -> dict[str, Any]:
        facts = {"reading": self.reading.to_dict(), "max_tokens": self.max_tokens}
        return {**facts, **(self.visuals.settings() if self.visuals else {})}


def content_of(item: Item) -> list[tuple[str, Any]]:
    """(kind, value) of an item's pictures, films and texts in the order in which they are read: media before text."""
    if item.parts:
        return [(kind, value) for part in item.parts for kind, value in content_of(as_item(part))]
    values = (("image", item.image), ("video", item.video), ("text", item.text))
    found = [(kind, value) for kind, value in values if value is not None]
    if not found:
        raise EmptyItemError("an item needs a text, picture or film; this one has none", what="Item()")
    return found


def random_backbone(config: dict[str, Any]) -> nn.Module:
    """The base model of a configuration, without the projection to the vocabulary."""
    from transformers import AutoConfig, AutoModel

    return AutoModel.from_config(AutoConfig.for_model(**config))


def open_processor(folder: Path, backbone: str = "") -> Any:
    """A folder's processor: tokenizer, pictures, films.

    Args:
        folder: has the files. backbone: its `model_type`, whose processor is taken where the files name one that is no
            class of transformers (jina-embeddings-v4).

    Raises:
        MissingWeightsError: files are missing or damaged. UnsafeCheckpointError: their settings name other places.
    """
    check_processor_files(folder)
    trial.check_tokenizer(folder)
    with opening(f"the processor in {folder}"), quiet():
        processor = _processor_class(folder, backbone).from_pretrained(folder, trust_remote_code=False)
    if not hasattr(processor, "image_processor") or getattr(processor, "tokenizer", None) is None:
        raise MissingWeightsError(
            f"{folder} has no processor for pictures (preprocessor_config.json or processor_config.json beside the tokenizer)"
        )
    with opening(f"the tokenizer in {folder}"):
        _keep_words(processor.tokenizer, folder / "tokenizer.json")
        held(processor.tokenizer, folder)
    return processor


def _processor_class(folder: Path, backbone: str) -> Any:
    from transformers import AutoProcessor
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING, processor_class_from_name

    files = [folder / name for name in NAMING_A_PROCESSOR]
    named = [json.loads(file.read_text("utf-8")).get("processor_class") for file in files if file.is_file()]
    # All of them: which file counts is transformers' own choice.
    known = [cls for name in named if isinstance(name, str) and (cls := processor_class_from_name(name)) is not None]
    for cls in known:
        check_processor_class(cls, folder)
    if known or not any(named) or backbone not in CONFIG_MAPPING:
        return AutoProcessor
    return PROCESSOR_MAPPING[CONFIG_MAPPING[backbone]]


def _keep_words(tokenizer: Any, file: Path) -> None:
    """Gives a tokenizer the normaliser and the splitting of its file back where transformers 5 built its own in their place.

    WeMM-Embedding's takes line breaks away before marks, which its prompt relies on; Llama's begins each piece of text between
    marks with a space.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not file.is_file():
        return
    from tokenizers import Tokenizer

    published = Tokenizer.from_file(str(file))
    backend.normalizer, backend.pre_tokenizer = published.normalizer, published.pre_tokenizer
