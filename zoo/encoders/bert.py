"""BERT's blocks in plain torch: a text backbone that is there without importing transformers, and pads nothing."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.encoders.base import Batch
from zoo.encoders.program import Program
from zoo.encoders.text import TransformersText, padded_texts
from zoo.encoders.tokenizing import MissingTokenizer, Tokenize, check_limit, load_tokenizer
from zoo.inputs.item import Tokens

_EPS = 1e-12  # BERT's own; torch's default of 1e-5 would give other vectors


class BertText(TransformersText):
    """`TransformersText` of a BERT (Devlin et al., 2018) without dropout, whose blocks are ours: the same weights by the same names
    give the same vectors, and a model of it is loaded in half the time.

    Args:
        vocab_size, width, layers, heads: of the backbone. hidden: width of the layer inside a block. positions: longest text.
        max_tokens: longest text that is read, special tokens included. assets, tokenizer: see `TransformersText`.

    Raises:
        ValueError: there are no blocks, the width cannot be shared out to the heads, or texts are longer than positions.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int,
        layers: int,
        heads: int,
        hidden: int,
        positions: int,
        max_tokens: int,
        assets: Path | None = None,
        tokenizer: Any = None,
    ) -> None:
        nn.Module.__init__(self)
        if min(layers, heads) < 1 or width % heads:
            raise ValueError(
                f"{layers} blocks of the width {width} with {heads} heads are no BERT; heads share the width"
            )
        self.settings = {
            "vocab_size": vocab_size,
            "width": width,
            "layers": layers,
            "heads": heads,
            "hidden": hidden,
            "positions": positions,
        }
        self.backbone = Bert(**self.settings)
        self.max_tokens, self.width, self.depth = check_limit(max_tokens, positions), width, layers
        self.pool_prompt = True
        self.tokenize: Tokenize = MissingTokenizer("this BERT text encoder")
        if assets is not None or tokenizer is not None:
            self.tokenize = load_tokenizer(tokenizer or assets, max_tokens)

    def forward(self, batch: Batch) -> Tokens:
        if torch.jit.is_tracing():  # lengths of texts are not of a program's shape
            return Tokens(self.backbone.padded(batch["ids"], batch["mask"]), batch["mask"])
        return Tokens(self.backbone(batch["ids"], batch["mask"])[-1], batch["mask"])

    def program(self) -> Program | str:
        return padded_texts()

    def forward_layers(self, batch: Batch, layers: Sequence[int]) -> list[Tokens]:
        self._check_blocks(layers)
        states = self.backbone(batch["ids"], batch["mask"])
        return [Tokens(states[layer - 1], batch["mask"]) for layer in layers]

    def truncate(self, layers: int) -> "BertText":
        self._check_blocks([layers])
        del self.backbone.encoder.layer[layers:]
        self.depth = self.settings["layers"] = layers
        return self

    def config(self) -> dict[str, Any]:
        return {**self.settings, "max_tokens": self.max_tokens}


class Bert(nn.Module):
    """Token ids → the states after every block; parameters are named as transformers names them."""

    def __init__(self, vocab_size: int, width: int, layers: int, heads: int, hidden: int, positions: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(
            model_type="bert", vocab_size=vocab_size, pad_token_id=0, max_position_embeddings=positions
        )
        self.embeddings = nn.Module()
        self.embeddings.word_embeddings = nn.Embedding(vocab_size, width, padding_idx=0)
        self.embeddings.position_embeddings = nn.Embedding(positions, width)
        self.embeddings.token_type_embeddings = nn.Embedding(2, width)
        self.embeddings.LayerNorm = nn.LayerNorm(width, eps=_EPS)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(_Block(width, heads, hidden) for _ in range(layers))
        self.apply(_small)

    def forward(self, ids: Tensor, mask: Tensor) -> list[Tensor]:
        """Args: ids, mask: `(B, T)`, texts from the first place on. Returns one `(B, T, width)` a block, 0 where nothing is."""
        # Sorted by length, so that texts of one length lie side by side; below `ids[mask]` is `(N,)`, the tokens of all
        # texts one after the other, without padding.
        order = mask.sum(1).argsort(stable=True)  # texts of one length share a call of the attention
        ids, mask = ids[order], mask[order]
        # `(N,)` the place of each token in its own text: 0, 1, 2, ...
        places = (mask.cumsum(1) - 1)[mask]
        states = self._embedded(ids[mask], places)
        # [(length, texts of it), ...]; the lengths of all runs times their texts add up to N.
        runs = [(length, len(list(same))) for length, same in groupby(mask.sum(1).tolist()) if length]
        back, out = order.argsort(), []
        for block in self.encoder.layer:
            states = block(states, runs)
            # Only what is handed out is padded: `(N, width)` to `(B, T, width)`, in the order in which the texts came.
            padded = states.new_zeros(*mask.shape, states.shape[-1])
            padded[mask] = states
            out.append(padded[back])
        return out

    def padded(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The last block's states `(B, T, width)` without packing, as one program of tensors has it; anything where nothing is."""
        states = self._embedded(ids, torch.arange(ids.shape[1], device=ids.device)[None])
        seen = mask[:, None, None, :]  # (B, 1, 1, T): no token sees what is not there
        for block in self.encoder.layer:
            states = block.after(states, block.attended(block.projected(states), seen))
        return states

    def _embedded(self, ids: Tensor, places: Tensor) -> Tensor:
        parts = self.embeddings
        return parts.LayerNorm(
            parts.word_embeddings(ids) + parts.position_embeddings(places) + parts.token_type_embeddings.weight[0]
        )


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention = nn.Module()
        self.attention.self = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
        self.attention.output = _residual(width, width)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, hidden)})
        self.output = _residual(hidden, width)

    def forward(self, states: Tensor, runs: list[tuple[int, int]]) -> Tensor:
        """States `(N, width)` of all texts one after the other; runs: (length, how many of it) in their order."""
        seen, start = [], 0
        projected = self.projected(states)
        for length, count in runs:
            stop = start + length * count
            # No mask: nothing is padded.
            own = [x[start:stop].view(count, length, -1) for x in projected]
            seen.append(self.attended(own, None).reshape(stop - start, -1))
            start = stop
        return self.after(states, torch.cat(seen))

    def projected(self, states: Tensor) -> list[Tensor]:
        """Queries, keys and values, each of the shape of the states."""
        return [self.attention.self[name](states) for name in ("query", "key", "value")]

    def attended(self, projected: list[Tensor], mask: Tensor | None) -> Tensor:
        """What queries, keys and values `(B, T, width)` make of each other, of the same shape."""
        # (B, T, heads, width / heads) to (B, heads, T, width / heads).
        own = (x.view(*x.shape[:2], self.heads, -1).transpose(1, 2) for x in projected)
        return F.scaled_dot_product_attention(*own, attn_mask=mask).transpose(1, 2).flatten(2)

    def after(self, states: Tensor, seen: Tensor) -> Tensor:
        """The block's states, of those before it and what its attention has seen."""
        # Post-norm, as in the paper: LayerNorm(x + f(x)), where later transformers have x + f(LayerNorm(x)).
        out = self.attention.output
        states = out["LayerNorm"](states + out["dense"](seen))
        return self.output["LayerNorm"](states + self.output["dense"](F.gelu(self.intermediate["dense"](states))))


def _residual(width: int, out: int) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(width, out), "LayerNorm": nn.LayerNorm(out, eps=_EPS)})


def _small(module: nn.Module) -> None:
    # N(0, 0.02²), BERT's initializer_range.
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
