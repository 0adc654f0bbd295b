"""transformers text backbones, packed without padding where that pays."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.encoders.base import Batch, Cut, Encoder
from zoo.encoders.config_checks import check_transformers, positions_of
from zoo.encoders.program import Program
from zoo.encoders.tokenizing import MissingTokenizer, Tokenize, check_ids, check_limit, load_tokenizer, pad
from zoo.errors import NoSuchBlockError, NotOfferedError, TooManyTokensError
from zoo.inputs.item import Item, Tokens

PACKED = "zoo_packed"
# Backbones whose positions can be given and whose attention sees nothing but its own sequence.
_ENCODERS = {"bert": 0, "electra": 0, "gte": 0, "modernbert": 0, "roberta": 1, "xlm-roberta": 1, "camembert": 1}
_DECODERS = dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), 0)
PACKABLE = {**_ENCODERS, **_DECODERS}
# Backbones of which one half is built, where AutoModel would build the decoder too.
HALVES = {"mt5": "MT5EncoderModel", "t5": "T5EncoderModel", "umt5": "UMT5EncoderModel"}
# Where the length of a token's state has another name in the configuration.
WIDTHS = {"embedding_gemma2_text": "embedding_dim"}
ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")
# What pre-norm backbones call the norm after their last block.
FINAL_NORMS = ("final_norm", "norm", "ln_f", "final_layer_norm")


class TransformersText(Encoder):
    """A text backbone of transformers: token states of its last layer.

    Args:
        config: the backbone's configuration, `model_type` included.
        max_tokens: longest text in tokens, special tokens included; the rest is cut off.
        lower: lower-case before tokenising.
        padding_side: where the tokenizer fills shorter texts, kept for saving. Here they are filled on the right, where positions
            begin with the text, so that an embedding never depends on its batch.
        assets: folder with the tokenizer; without it (`build_model`) texts raise MissingWeightsError.
        backbone: a loaded backbone; None builds one with random weights.
        pool_prompt: whether the tokens of a prompt are pooled with the text's; they are read in any case.
    """

    modalities = frozenset({"text"})
    batch_budget = 2048

    def __init__(
        self,
        config: dict[str, Any],
        max_tokens: int,
        lower: bool = False,
        padding_side: str = "right",
        assets: Path | None = None,
        backbone: nn.Module | None = None,
        tokenizer: Any = None,
        pool_prompt: bool = True,
    ) -> None:
        super().__init__()
        from transformers import AutoConfig

        check_transformers(config)
        if backbone is None:
            cls, settings = text_class(config["model_type"]), AutoConfig.for_model(**config)
            backbone = cls.from_config(settings) if hasattr(cls, "from_config") else cls(settings)
        if getattr(backbone, "pooler", None) is not None:
            backbone.pooler = None  # ours pools; an unused layer would only be carried along
        if getattr(backbone.config, "use_cache", False):
            backbone.config.use_cache = False  # a decoder's keys and values, which nobody reads again
        self.settings, self.max_tokens, self.lower, self.padding_side = dict(config), max_tokens, lower, padding_side
        self.backbone, self.pool_prompt = backbone, pool_prompt
        self.width = getattr(backbone.config, WIDTHS.get(backbone.config.model_type, "hidden_size"))
        self.depth = getattr(backbone.config, "num_hidden_layers", 0)
        self.tokenize: Tokenize = MissingTokenizer(f"this {backbone.config.model_type} text encoder")
        if assets is not None or tokenizer is not None:
            self.tokenize = load_tokenizer(tokenizer or assets, max_tokens, lower)
        self._offset = PACKABLE.get(backbone.config.model_type)
        if self._offset is not None:
            _register_packed_attention()
            backbone.config._attn_implementation = PACKED

    def prompted(self, item: Item, prompt: str) -> Item:
        whole = super().prompted(item, prompt)
        if self.pool_prompt or whole is item:
            return whole
        return replace(whole, text=Prompted(whole.text, whole.text.removesuffix(item.text)))

    def prepare_item(self, item: Item) -> list[int]:
        config, text = self.backbone.config, item.text
        ids = check_ids(self.tokenize(self.written(text)), config.vocab_size, config.model_type)
        if not isinstance(text, Prompted) or self.pool_prompt:
            return ids
        skipped = self.skipped(text.prompt)
        if self.tokenize.only_ends(ids[skipped:]):
            raise TooManyTokensError(
                f"the prompt alone has {skipped} tokens and the model reads {len(ids)}, so that nothing of the text is left; "
                "shorten it"
            )
        return After(ids, skipped)

    def written(self, text: str) -> str:
        """What is tokenised of a text."""
        return text

    def skipped(self, prompt: str) -> int:
        """How many of a text's first tokens are not pooled, for they are a prompt's."""
        return self.tokenize.prompt_length(prompt)

    def cut(self, item: Item) -> Cut | None:
        return self.tokenize.cut(self.written(item.text))

    def text_tokens(self, item: Item) -> int | None:
        return self.tokenize.count(self.written(item.text))

    def unknown_share(self, item: Item) -> float:
        return self.tokenize.unknown_share(item.text)

    def doubtful(self, read: list[int], prompted: Item, item: Item) -> bool:
        return self.tokenize.vocabulary.doubtful(read, item.text, prompted.text.removesuffix(item.text))

    def places(self, item: Item, prompt: str, read: list[int]) -> list[tuple[int, int]]:
        whole, text = self.prompted(item, prompt).text, item.text or ""
        ids, places = self.tokenize.placed(self.written(whole))
        if ids != list(read) or not whole.endswith(text):
            raise NotOfferedError(
                f"{type(self).__name__} puts tokens of its own around a text, and does not tell where in it the others stand; embed "
                "the spans as texts"
            )
        begin, found = len(whole) - len(text), []
        for start, stop in places:
            start, stop = max(0, start - begin), min(len(text), stop - begin)
            own = text[start : max(start, stop)]
            start += len(own) - len(own.lstrip())
            found.append((start, start + len(own.strip())))
        return found

    def collate(self, reads: Sequence[list[int]]) -> Batch:
        ids, mask = pad(reads, self.backbone.config.pad_token_id or 0)
        if self.pool_prompt:
            return {"ids": ids, "mask": mask}
        skipped = torch.tensor([getattr(read, "skipped", 0) for read in reads])  # texts begin at the first place
        return {"ids": ids, "mask": mask, "pooled": mask & (torch.arange(ids.shape[1]) >= skipped[:, None])}

    def length(self, read: list[int]) -> int:
        return len(read)

    def limit(self, max_tokens: int) -> None:
        self.max_tokens = check_limit(max_tokens, positions_of(self.backbone.config))
        self.tokenize.limit(max_tokens)

    def forward(self, batch: Batch) -> Tokens:
        ids, mask = batch["ids"], batch["mask"]
        # On a GPU one padded call beats many small ones; on a CPU every padded token costs its full time.
        types = {"token_type_ids": batch["types"]} if "types" in batch else {}
        # What is traced for another runtime has one shape, whatever the lengths of the texts.
        packs = self._packs and ids.device.type == "cpu" and not torch.jit.is_tracing()
        if packs and not bool(mask.all()):
            states = self._packed(ids, mask, types)
        else:
            states = self.backbone(input_ids=ids, attention_mask=mask.long(), **types).last_hidden_state
        return Tokens(states, batch.get("pooled", mask), mask)

    def program(self) -> Program | str:
        return padded_texts()

    def forward_layers(self, batch: Batch, layers: Sequence[int]) -> list[Tokens]:
        """Also for pre-norm backbones block n is what a model cut to n blocks gives, its final norm included."""
        self._check_blocks(layers)
        ids, mask = batch["ids"], batch["mask"]
        out = self.backbone(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True)
        if len(out.hidden_states or ()) != self.depth + 1:
            raise NoSuchBlockError(f"this {self.backbone.config.model_type} backbone does not give its blocks' states")
        norm = next(
            (getattr(self.backbone, name) for name in FINAL_NORMS if hasattr(self.backbone, name)), nn.Identity()
        )
        last = out.last_hidden_state
        states = [last if n == self.depth else norm(out.hidden_states[n]) for n in layers]
        return [Tokens(one, batch.get("pooled", mask), mask) for one in states]

    def truncate(self, layers: int) -> "TransformersText":
        """Keeps the first blocks only, in place: how 2D Matryoshka and Starbucks models are used at a smaller depth.

        Saving and loading keep the smaller depth.

        Raises:
            NoSuchBlockError: there are fewer blocks, or the backbone does not keep them in one list.
        """
        self._check_blocks([layers])
        lists = [m for m in self.backbone.modules() if isinstance(m, nn.ModuleList) and len(m) == self.depth]
        if len(lists) != 1:
            raise NoSuchBlockError(f"cannot tell which part of this {self.backbone.config.model_type} are its blocks")
        del lists[0][layers:]
        config = self.backbone.config
        changes: dict[str, Any] = {"num_hidden_layers": layers}
        # One entry per block: transformers refuses a configuration whose list is longer than its depth.
        if getattr(config, "layer_types", None):
            changes["layer_types"] = list(config.layer_types[:layers])
        for name, value in changes.items():
            setattr(config, name, value)
            if name in self.settings or name == "num_hidden_layers":
                self.settings[config.attribute_map.get(name, name)] = value
        self.depth = layers
        return self

    @property
    def _packs(self) -> bool:
        """Whether texts can be read as one long row: dropout of the attention is drawn for each text apart, and a decoder's windows are
        transformers' to count.
        """
        config = self.backbone.config
        if (
            config.model_type in _DECODERS
            and (getattr(config, "sliding_window", None) or self.max_tokens) < self.max_tokens
        ):
            return False
        dropped = self.training and any(getattr(config, name, 0) for name in ATTENTION_DROPOUT)
        return self._offset is not None and not dropped

    def _check_blocks(self, layers: Sequence[int]) -> None:
        if wrong := [n for n in layers if not 1 <= n <= self.depth]:
            kind = self.backbone.config.model_type
            raise NoSuchBlockError(f"this {kind} encoder has blocks 1 to {self.depth}, not {wrong[0]}")

    def _packed(self, ids: Tensor, mask: Tensor, types: Batch) -> Tensor:
        """All real tokens as one long row; the attention is told where each text begins. Returns (B, T, W).

        Args:
            types: "token_type_ids" `(B, T)` where a sequence is two texts, else nothing.
        """
        order = mask.sum(1).argsort(stable=True)  # texts of one length share a call of the attention
        ids, mask = ids[order], mask[order]
        types = {name: tensor[order][mask][None] for name, tensor in types.items()}
        positions = (mask.cumsum(1) - 1)[mask]
        if self._offset:
            # RoBERTa's positions begin after the padding's own, at pad_id + 1.
            positions = positions + self._offset + (self.backbone.config.pad_token_id or 0)
        runs = [(length, len(list(same))) for length, same in groupby(mask.sum(1).tolist())]
        packed = self.backbone(input_ids=ids[mask][None], position_ids=positions[None], zoo_runs=runs, **types)
        states = packed.last_hidden_state.new_zeros(*mask.shape, self.width)  # (B, T, W)
        states[mask] = packed.last_hidden_state[0]
        return states[order.argsort()]

    def config(self) -> dict[str, Any]:
        return {
            "config": self.settings,
            "max_tokens": self.max_tokens,
            "lower": self.lower,
            "padding_side": self.padding_side,
            **({} if self.pool_prompt else {"pool_prompt": False}),
        }

    def save_assets(self, folder: Path) -> None:
        self.tokenize.save(folder)


def padded_texts() -> Program:
    """Of a text backbone: states of ids and mask `(B, T)`; "pooled" says which tokens are."""
    return Program(
        {"ids": ("batch", "tokens"), "mask": ("batch", "tokens")},
        lambda states, batch: Tokens(states, batch.get("pooled", batch["mask"]), batch["mask"]),
        frozenset({"pooled"}),
    )


class Prompted(str):
    """A text that remembers the prompt it begins with."""

    prompt: str

    def __new__(cls, text: str, prompt: str) -> "Prompted":
        whole = super().__new__(cls, text)
        whole.prompt = prompt
        return whole


class After(list[int]):
    """The ids of a text, of which the first `skipped` are a prompt's."""

    def __init__(self, ids: list[int], skipped: int) -> None:
        super().__init__(ids)
        self.skipped = skipped


def text_class(model_type: str) -> Any:
    """transformers' class of a text backbone; AutoModel, or the encoder's own of a pair of encoder and decoder."""
    import transformers

    return getattr(transformers, HALVES.get(model_type, "AutoModel"))


def _packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    zoo_runs: list[tuple[int, int]] | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention inside each text of a packed row; texts of equal length that follow each other share one call."""
    if zoo_runs is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        if attention_mask is not None and torch.jit.is_tracing():
            # A place of the padding may have nothing in its window, of which other runtimes make NaN: it sees itself.
            where = torch.arange(query.shape[2], device=query.device)
            attention_mask = attention_mask | (where[:, None] == where)
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    heads, width = query.shape[1], query.shape[3]
    # As transformers' masks have it: a decoder's configuration may say that it sees both ways.
    causal = getattr(module, "is_causal", False) and getattr(module.config, "is_causal", True)
    shared = key.shape[1] != heads  # keys and values of several heads
    parts, start = [], 0
    for length, count in zoo_runs:
        stop = start + length * count
        # (heads, count · length, width) → (count, heads, length, width): texts of one length
        # are a batch without padding.
        q, k, v = (x[0, :, start:stop].view(-1, count, length, width).transpose(0, 1) for x in (query, key, value))
        window = None
        if sliding_window is not None and length > sliding_window:
            where = torch.arange(length, device=query.device)
            # transformers hands over ModernBERT's radius plus one, as flash attention counts it: so <, not <=.
            window = (where[:, None] - where).abs() < sliding_window
        part = F.scaled_dot_product_attention(q, k, v, window, scale=scaling, is_causal=causal, enable_gqa=shared)
        parts.append(part.transpose(1, 2).reshape(count * length, heads, width))
        start = stop
    return torch.cat(parts)[None], None


def _register_packed_attention() -> None:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if PACKED not in ALL_ATTENTION_FUNCTIONS:
        ALL_ATTENTION_FUNCTIONS.register(PACKED, _packed_attention)
        ALL_MASK_ATTENTION_FUNCTIONS.register(PACKED, sdpa_mask)
