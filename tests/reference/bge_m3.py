"""BAAI/bge-m3 in the files of its repository, with tiny random weights, and its three outputs written out after FlagEmbedding's code.

The repository has its weights as pytorch_model.bin, and the two layers beside it as `torch.save(layer.state_dict())`. What is computed
of them follows FlagEmbedding 1.4.2: `EncoderOnlyEmbedderM3ModelForInference` and `M3Embedder.encode_single_device`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.reference.text_published import MODES, MODULES, put

WIDTH, LIMIT = 32, 48
PIECES = ("▁", *"abcdefghijklmnopqrstuvwxyz", "▁cat", "▁a", "▁dog", "猫")
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
TEXTS = ("a cat", "a cat and a cat and one more cat", "unknown: Ж Ж", "猫", "dog", "a long text of many words " * 10)
CONFIG = {
    "_name_or_path": "",
    "architectures": ["XLMRobertaModel"],
    "attention_probs_dropout_prob": 0.1,
    "bos_token_id": 0,
    "classifier_dropout": None,
    "eos_token_id": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": WIDTH,
    "initializer_range": 0.02,
    "intermediate_size": 64,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 130,
    "model_type": "xlm-roberta",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "output_past": True,
    "pad_token_id": 1,
    "position_embedding_type": "absolute",
    "torch_dtype": "float32",
    "transformers_version": "4.33.0",
    "type_vocab_size": 1,
    "use_cache": True,
    "vocab_size": len(SPECIAL) + len(PIECES) + 1,
}
MASK = CONFIG["vocab_size"] - 1  # the last row, as <mask> is in the repository


class Expected(NamedTuple):
    """Of one text: dense `(W,)`, lexical weights `(vocab,)`, token vectors `(tokens, W)`."""

    dense: Tensor
    sparse: Tensor
    tokens: Tensor


def write(folder: Path, *, side: str | None = None, heads: bool = True) -> Path:
    """The repository's files. `side`: padding_side of its tokenizer. heads: with the two layers beside it."""
    from transformers import XLMRobertaConfig, XLMRobertaModel

    folder.mkdir(parents=True)
    put(folder / "config.json", CONFIG)
    torch.manual_seed(3)
    model = XLMRobertaModel(XLMRobertaConfig(**CONFIG))
    for weight in model.parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=0.15)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    if heads:
        for name, rows in (("sparse_linear", 1), ("colbert_linear", WIDTH)):
            layer = nn.Linear(WIDTH, rows)
            nn.init.normal_(layer.weight, std=1)  # so that tokens differ in weight, and some have none
            torch.save(layer.state_dict(), folder / f"{name}.pt")
    _write_tokenizer(folder, side)
    rows = zip(("Transformer", "Pooling", "Normalize"), ("", "1_Pooling", "2_Normalize"), strict=True)
    put(
        folder / "modules.json",
        [{"idx": i, "name": str(i), "path": path, "type": MODULES + kind} for i, (kind, path) in enumerate(rows)],
    )
    flags = {f"pooling_mode_{mode}": mode == "cls_token" for mode in MODES[:4]}
    put(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": WIDTH, **flags})
    put(folder / "sentence_bert_config.json", {"max_seq_length": LIMIT, "do_lower_case": False})
    versions = {"sentence_transformers": "2.2.2", "transformers": "4.33.0", "pytorch": "2.1.2+cu121"}
    put(folder / "config_sentence_transformers.json", {"__version__": versions})
    return folder


def _write_tokenizer(folder: Path, side: str | None) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = [
        *((token, 0.0) for token in SPECIAL),
        *((piece, -2.0 + len(piece)) for piece in PIECES),
        ("<mask>", 0.0),
    ]
    core = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    core.add_special_tokens([*SPECIAL, "<mask>"])
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    ends = [("<s>", 0), ("</s>", 2)]
    core.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> </s> $B </s>", ends)
    put(folder / "tokenizer.json", json.loads(core.to_str()))
    named = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>", "pad_token": "<pad>"}
    named |= {"sep_token": "</s>", "unk_token": "<unk>"}
    put(folder / "special_tokens_map.json", named)
    settings: dict[str, Any] = {**named, "clean_up_tokenization_spaces": True, "model_max_length": 8192}
    settings |= {"tokenizer_class": "XLMRobertaTokenizer", "sp_model_kwargs": {}}
    put(folder / "tokenizer_config.json", settings | ({"padding_side": side} if side else {}))


def expected(folder: Path, texts: Sequence[str]) -> list[Expected]:
    """Each text alone, without any padding."""
    from transformers import AutoTokenizer, XLMRobertaModel

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = XLMRobertaModel.from_pretrained(folder, dtype=torch.float32).eval()
    weigh, project = (
        torch.load(folder / f"{name}.pt", weights_only=True) for name in ("sparse_linear", "colbert_linear")
    )
    found = []
    for text in texts:
        ids = tokenizer(text, truncation=True, max_length=LIMIT, return_tensors="pt").input_ids
        with torch.inference_mode():
            states = model(ids).last_hidden_state[0]
        weights = F.relu(F.linear(states, weigh["weight"], weigh["bias"]))[:, 0]
        sparse = torch.zeros(CONFIG["vocab_size"])
        for token, weight in zip(ids[0].tolist(), weights.tolist(), strict=True):
            sparse[token] = max(sparse[token].item(), weight)
        sparse[[0, 2, 1, 3]] = 0  # cls, eos, pad, unk
        tokens = F.linear(states[1:], project["weight"], project["bias"])
        found.append(Expected(F.normalize(states[0], dim=-1), sparse, F.normalize(tokens, dim=-1)))
    return found
