"""Alibaba's GTE encoders in the layout of their repositories, and the computation of their own code written out.

The tensors' names, the configurations and the computation are those of Alibaba-NLP/new-impl (modeling.py, configuration.py), which
Snowflake/snowflake-arctic-embed-m-v2.0 has under the names GteModel and GteConfig. That code needs transformers 4.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

import zoo
from tests.reference.text_published import Published
from zoo.models.gte import gte
from zoo.models.gte_qwen2 import stella_head
from zoo.models.parts import Cls, Mean
from zoo.models.text import byte_tokenizer, text_embedder

LIMIT = 200
_NAMES = {
    r"^layers": "encoder.layer",
    r"self_attn\.o_proj": "attention.o_proj",
    r"post_attention_layernorm": "attn_ln",
    r"post_mlp_layernorm": "mlp_ln",
}
_PACKED = {"attention.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")}
_PACKED |= {"mlp.up_gate_proj": ("mlp.up_proj", "mlp.gate_proj")}


def published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of transformers' GteModel under the names of the repositories: queries, keys and values lie in one matrix."""
    stored = {}
    for name, value in state.items():
        whole = next(((new, parts) for new, parts in _PACKED.items() if any(part in name for part in parts)), None)
        if whole is not None:
            new, parts = whole
            if parts[0] not in name:
                continue
            name, value = (
                name.replace(parts[0], new),
                torch.cat([state[name.replace(parts[0], part)] for part in parts]),
            )
        for pattern, replacement in _NAMES.items():
            name = re.sub(pattern, replacement, name)
        stored[name] = value
    return stored


def tokens(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As gte-multilingual-base: inside a model that also weighs tokens for sparse search."""
    inside = {f"new.{name}": value for name, value in published(state).items()}
    return inside | {"classifier.weight": torch.randn(1, 32) / 8, "classifier.bias": torch.randn(1) / 8}


def classifying(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As gte-multilingual-reranker-base: the backbone, with its pooler, is called `new`."""
    stored = published({name.removeprefix("gte."): value for name, value in state.items()})
    return {name if name.startswith("classifier.") else f"new.{name}": value for name, value in stored.items()}


def logits(folder: Path, pairs: Sequence[tuple[str, str]]) -> Tensor:
    """NewForSequenceClassification on each pair alone."""
    stored, tokenizer = load_file(folder / "model.safetensors"), Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(json.loads((folder / "config.json").read_text())["max_position_embeddings"])
    found = []
    for query, document in pairs:
        state = states(folder, tokenizer.encode(query, document).ids)[0]
        state = F.linear(state, stored["new.pooler.dense.weight"], stored["new.pooler.dense.bias"]).tanh()
        found.append(F.linear(state, stored["classifier.weight"], stored["classifier.bias"])[0])
    return torch.stack(found)


def frequencies(config: dict[str, Any]) -> Tensor:
    """RotaryEmbedding and NTKScalingRotaryEmbedding: by how much each pair of columns turns from a token to the next."""
    width = config["hidden_size"] // config["num_attention_heads"]
    scaling = config.get("rope_scaling")
    factor = scaling["factor"] if scaling else 1.0
    plain = 1.0 / ((config["rope_theta"] * factor) ** (torch.arange(0, width, 2).float() / width))
    return plain / factor ** (2 / width)


def states(folder: Path, ids: Sequence[int]) -> Tensor:
    """NewModel on one text: token states (T, W)."""
    config = json.loads((folder / "config.json").read_text())
    stored = {name.removeprefix("new."): value for name, value in load_file(folder / "model.safetensors").items()}
    width, heads, length = config["hidden_size"], config["num_attention_heads"], len(ids)

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (width,), stored[f"{name}.weight"], stored[f"{name}.bias"], config["layer_norm_eps"])

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ stored[f"{name}.weight"].T + stored.get(f"{name}.bias", torch.zeros(()))

    angles = torch.arange(length).float()[:, None] * frequencies(config)  # (T, width of a head / 2)
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]

    def turned(x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=-1)
        return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)

    x = stored["embeddings.word_embeddings.weight"][list(ids)]
    if config["type_vocab_size"]:
        x = x + stored["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings.LayerNorm")
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"
        query, key, value = (
            linear(x, f"{name}.attention.qkv_proj").view(length, 3, heads, -1).unbind(1)
        )  # (T, heads, width)
        scores = torch.einsum("qhw,khw->hqk", turned(query), turned(key)) / (width // heads) ** 0.5
        seen = torch.einsum("hqk,khw->qhw", scores.softmax(-1), value).reshape(length, width)
        x = norm(x + linear(seen, f"{name}.attention.o_proj"), f"{name}.attn_ln")
        up, gate = linear(x, f"{name}.mlp.up_gate_proj").chunk(2, dim=-1)
        x = norm(x + linear(F.gelu(gate) * up, f"{name}.mlp.down_proj"), f"{name}.mlp_ln")
    return x


def _each(folder: Path, texts: Sequence[str]) -> list[Tensor]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(LIMIT)
    return [states(folder, tokenizer.encode(text).ids) for text in texts]


def first(folder: Path, texts: Sequence[str]) -> Tensor:
    return torch.stack([one[0] for one in _each(folder, texts)])


def weights(folder: Path, texts: Sequence[str]) -> Tensor:
    """GTEEmbedding of gte-multilingual-base (scripts/gte_embedding.py): how much each token counts, (n, vocab).

    By the token itself; the script has one weight for all tokens that are written alike.
    """
    layer = load_file(folder / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(LIMIT)
    found = torch.zeros(len(texts), len(layer["new.embeddings.word_embeddings.weight"]))
    for row, text in zip(found, texts, strict=True):
        ids = tokenizer.encode(text).ids
        logits = states(folder, ids) @ layer["classifier.weight"][0] + layer["classifier.bias"]
        for token, weight in zip(ids, logits.tolist(), strict=True):
            if token not in (0, 1, 2, 3):  # <s>, <pad>, </s>, <unk>
                row[token] = max(row[token].item(), weight)
    return found


def _stella(folder: Path, texts: Sequence[str]) -> Tensor:
    dense = load_file(folder / "2_Dense_1024" / "model.safetensors")
    pooled = torch.stack([one.mean(0) for one in _each(folder, texts)])
    return F.linear(pooled, dense["linear.weight"], dense["linear.bias"])


def _arctic_parts(spec: zoo.ModelSpec) -> zoo.Embedder:
    encoder = zoo.build_model("gte-test").towers[0].encoder
    return text_embedder(spec, encoder.settings, Cls(), tokenizer=encoder.tokenize.tokenizer)


def _english(spec: zoo.ModelSpec, types: int, pooler: Any, head: Any = None) -> zoo.Embedder:
    config = gte(layers=2, width=32, heads=4, vocab=260, types=types, theta=500.0, ntk=2.0)
    ids = {"pad_token_id": 0, "max_position_embeddings": 256}
    return text_embedder(spec, config | ids, pooler, head, tokenizer=byte_tokenizer())


def _base_parts(spec: zoo.ModelSpec) -> zoo.Embedder:
    return _english(spec, 0, Cls())


def _large_parts(spec: zoo.ModelSpec) -> zoo.Embedder:
    return _english(spec, 2, Cls())


def _stella_parts(spec: zoo.ModelSpec) -> zoo.Embedder:
    return _english(spec, 2, Mean(), stella_head(32, 32))


def _code(prefix: str = "") -> dict[str, Any]:
    heads = ("MaskedLM", "MultipleChoice", "QuestionAnswering", "SequenceClassification", "TokenClassification")
    classes = {f"AutoModelFor{head}": f"{prefix}modeling.NewFor{head}" for head in heads}
    return {"AutoConfig": f"{prefix}configuration.NewConfig", "AutoModel": f"{prefix}modeling.NewModel", **classes}


CONFIG: dict[str, Any] = {
    "architectures": ["NewModel"],
    "attention_probs_dropout_prob": 0.0,
    "auto_map": _code("Alibaba-NLP/new-impl--"),
    "classifier_dropout": None,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "layer_norm_type": "layer_norm",
    "logn_attention_clip1": False,
    "logn_attention_scale": False,
    "model_type": "new",
    "pack_qkv": True,
    "position_embedding_type": "rope",
    "torch_dtype": "float32",
    "transformers_version": "4.39.1",
    "unpad_inputs": False,
    "use_memory_efficient_attention": False,
}
_MULTILINGUAL = {
    **CONFIG,
    "architectures": ["NewModel", "NewForTokenClassification"],
    "classifier_dropout": 0.0,
    "num_labels": 1,
    "rope_scaling": {"factor": 8.0, "type": "ntk"},
    "rope_theta": 20000,
    "torch_dtype": "float16",
}
_ENGLISH = {**CONFIG, "rope_scaling": {"factor": 2.0, "type": "ntk"}, "rope_theta": 500000}
_FAST = {"unpad_inputs": True, "use_memory_efficient_attention": True}
_STELLA = {**_ENGLISH, **_FAST, "auto_map": _code(), "rope_theta": 160000, "transformers_version": "4.42.3"}
_ARCTIC = {
    **CONFIG,
    "architectures": ["GteModel"],
    "auto_map": {
        "AutoConfig": "configuration_hf_alibaba_nlp_gte.GteConfig",
        "AutoModel": "modeling_hf_alibaba_nlp_gte.GteModel",
    },
    "matryoshka_dimensions": [256],
    "model_type": "gte",
    "rope_scaling": None,
    "rope_theta": 160000,
    "transformers_version": "4.39.3",
    "unpad_inputs": "true",
    "use_memory_efficient_attention": "true",
}
_XLMR = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "clean_up_tokenization_spaces": True,
    "model_max_length": 32768,
    "tokenizer_class": "PreTrainedTokenizerFast",
}
_BERT = {
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "clean_up_tokenization_spaces": True,
    "model_max_length": 32768,
    "tokenizer_class": "PreTrainedTokenizerFast",
}
_SAME: dict[str, Any] = {"limit": LIMIT, "plain": first, "stored": published}
_STELLA_PROMPTS = {
    "s2p_query": "Instruct: Given a web search query, retrieve relevant passages that answer the query.\nQuery: ",
    "s2s_query": "Instruct: Retrieve semantically similar text.\nQuery: ",
}
CASES = {
    case.name: case
    for case in (
        Published(
            "gte-multilingual-base", "gte-test", _MULTILINGUAL, "cls_token", _XLMR, **{**_SAME, "stored": tokens}
        ),
        Published("gte-base-en-v1.5", "gte-test", _ENGLISH, "cls_token", _BERT, build=_base_parts, **_SAME),
        Published("gte-large-en-v1.5", "gte-test", _STELLA, "cls_token", _BERT, build=_large_parts, **_SAME),
        Published(
            "stella-en-400m-v5",
            "gte-test",
            _STELLA,
            "mean_tokens",
            {**_BERT, "model_max_length": 512},
            _STELLA_PROMPTS,
            dense=("2_Dense_1024",),
            normalize=False,
            build=_stella_parts,
            **{**_SAME, "plain": _stella},
        ),
        Published(
            "snowflake-arctic-embed-m-v2.0",
            "gte-test",
            _ARCTIC,
            "cls_token",
            _XLMR,
            {"query": "query: "},
            build=_arctic_parts,
            **_SAME,
        ),
    )
}
