"""A small folder of every text backbone that the zoo reads, plain and as sentence-transformers saves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transformers
from torch import nn

from tests.reference.base import stir
from tests.reference.vocab import wordpiece
from zoo.encoders.text import text_class

_SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 80,
}
_GROUPED = {"num_key_value_heads": 1, "head_dim": 16}
_T5 = {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
_OTHER: dict[str, dict[str, Any]] = {
    "albert": {**_SMALL, "embedding_size": 16},
    "distilbert": {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 80},
    "electra": {**_SMALL, "embedding_size": 16},
    "embedding_gemma2_text": {
        **_SMALL,
        **_GROUPED,
        "global_head_dim": 16,
        "num_global_key_value_heads": 1,
        "hidden_size_per_layer_input": 8,
        "embedding_dim": 24,
        "sliding_window": 4,
        "sliding_window_pattern": 2,
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 80},
    "gpt_neo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 2,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 4,
        "max_position_embeddings": 80,
    },
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 80, "rotary_dim": 4},
    "mt5": _T5,
    "rembert": {**_SMALL, "input_embedding_size": 16, "output_embedding_size": 24},
    "t5": _T5,
    "umt5": _T5,
}


def backbone(kind: str, **settings: Any) -> nn.Module:
    """A backbone of 2 layers with telling random weights, for `tokenizer()`'s ids."""
    shape = dict(_OTHER.get(kind) or _SMALL)
    if kind not in _OTHER:
        fields = vars(transformers.AutoConfig.for_model(kind))
        shape |= {key: value for key, value in _GROUPED.items() if key in fields}
    tokens = {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "cls", "sep", "mask")}
    config = transformers.AutoConfig.for_model(kind, **{**shape, "vocab_size": len(wordpiece()), **tokens, **settings})
    cls = text_class(kind)
    return stir(cls.from_config(config) if hasattr(cls, "from_config") else cls(config))


def tokenizer(**settings: Any) -> Any:
    """A WordPiece tokenizer of 64 tokens, [PAD] first; it gives no token types, which GPT-2 would read as words."""
    return transformers.BertTokenizer(
        vocab=wordpiece(), model_max_length=64, model_input_names=["input_ids", "attention_mask"], **settings
    )


def write_plain(folder: Path, kind: str, **settings: Any) -> Path:
    """A plain transformers folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer().save_pretrained(folder)
    backbone(kind, **settings).save_pretrained(folder)
    return folder


def write_sentence(folder: Path, plain: Path) -> Any:
    """A plain folder as sentence-transformers saves it, mean pooling; returns sentence-transformers' own model of it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    config = json.loads((plain / "config.json").read_text())
    first = Transformer(str(plain))
    width = config.get("embedding_dim") or first.model.config.hidden_size
    model = SentenceTransformer(modules=[first, Pooling(width, "mean"), Normalize()], device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return model
