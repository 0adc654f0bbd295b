"""More text embedders in the layout of their repositories (see `text_published`): T5's encoder, GPT-Neo and GPT-J, and of code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import zoo
from tests.reference.text_published import QWEN_SPECIALS, Published
from zoo.models.code import CORNSTACK, JINA, MODE, roberta
from zoo.models.parts import Cls, LastToken
from zoo.models.qwen2_text import qwen2
from zoo.models.sgpt import gpt_tokenizer, sgpt
from zoo.models.text import byte_tokenizer, text_embedder

T5_CONFIG = {
    "architectures": ["T5EncoderModel"],
    "decoder_start_token_id": 0,
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "initializer_factor": 1.0,
    "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-06,
    "n_positions": 512,
    "num_decoder_layers": 2,
    "output_past": True,
    "pad_token_id": 0,
    "relative_attention_num_buckets": 32,
    "task_specific_params": {"summarization": {"early_stopping": True, "max_length": 200, "prefix": "summarize: "}},
    "torch_dtype": "float32",
    "transformers_version": "4.9.2",
    "use_cache": True,
}
T5_TOKENIZER = {
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "extra_ids": 100,
    "additional_special_tokens": [f"<extra_id_{number}>" for number in range(100)],
    "sp_model_kwargs": {},
    "special_tokens_map_file": None,
    "name_or_path": "t5-base",
    "model_max_length": 512,
    "tokenizer_class": "T5Tokenizer",
}


def _t5(name: str, test: str = "sentence-t5-test", **changes: Any) -> Published:
    options = {"limit": 200, "dense": ("2_Dense",), "tied": ("encoder.embed_tokens.weight",), **changes}
    return Published(name, test, T5_CONFIG, "mean_tokens", T5_TOKENIZER, **options)


GPT_CONFIG = {
    "_name_or_path": "model",
    "bos_token_id": 0,
    "embed_dropout": 0,
    "eos_token_id": 0,
    "gradient_checkpointing": False,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "torch_dtype": "float32",
    "transformers_version": "4.11.3",
    "use_cache": True,
}
NEO_CONFIG = {
    **GPT_CONFIG,
    "activation_function": "gelu_new",
    "architectures": ["GPTNeoModel"],
    "attention_dropout": 0,
    "attention_layers": ["global", "local"],
    "intermediate_size": None,
    "resid_dropout": 0,
}
GPTJ_CONFIG = {
    **GPT_CONFIG,
    "activation_function": "gelu_new",
    "architectures": ["GPTJModel"],
    "attn_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "n_inner": None,
    "resid_pdrop": 0.0,
    "rotary": True,
    "scale_attn_weights": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50, "temperature": 1.0}},
    "tokenizer_class": "GPT2Tokenizer",
}
GPT_TOKENIZER = {
    "add_prefix_space": False,
    "bos_token": "<|endoftext|>",
    "eos_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "errors": "replace",
    "model_max_length": 2048,
    "name_or_path": "model",
    "special_tokens_map_file": None,
    "tokenizer_class": "GPT2Tokenizer",
}
CLOSING = {"[": "]", "{": "}"}


def _sgpt_of_the_authors(folder: Path, texts: Sequence[str]) -> Tensor:
    """The README's tokenize_with_specb and weighted mean, on one text after the other; of 200 tokens at most."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    vectors = []
    for text in texts:
        first = text[0] if text[0] in CLOSING else ""
        room = 200 - 2 * len(first)
        ids = tokenizer(text.removeprefix(first), truncation=True, max_length=room).input_ids
        if first:
            around = [tokenizer.encode(one, add_special_tokens=False)[0] for one in (first, CLOSING[first])]
            ids = [around[0], *ids, around[1]]
        states = model(torch.tensor([ids])).last_hidden_state[0]
        weights = torch.arange(1, len(ids) + 1)[:, None].float()
        vectors.append((states * weights).sum(0) / weights.sum())
    return torch.stack(vectors)


def _gptj(spec: zoo.ModelSpec) -> zoo.Embedder:
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "vocab_size": 257, "n_positions": 256}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    return sgpt(spec, {"model_type": "gptj", **shape, **ends}, tokenizer=gpt_tokenizer())


def _sgpt(name: str, config: dict[str, Any], mask: str, **changes: Any) -> Published:
    options = {"limit": 200, "normalize": False, "plain": _sgpt_of_the_authors, **changes}
    buffers = {f"h.{layer}.attn.{mask}": (1, 1, 256, 256) for layer in range(2)}
    buffers |= {f"h.{layer}.attn.{mask.replace('bias', 'masked_bias')}": () for layer in range(2)}
    tokenizer = GPT_TOKENIZER
    drop = ("pad_token_id",)
    return Published(name, "sgpt-test", config, "weightedmean_tokens", tokenizer, drop=drop, buffers=buffers, **options)


ROBERTA_CONFIG = {
    "architectures": ["RobertaModel"],
    "attention_probs_dropout_prob": 0.1,
    "gradient_checkpointing": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "output_past": True,
    "position_embedding_type": "absolute",
    "torch_dtype": "float32",
    "transformers_version": "4.12.0",
    "use_cache": True,
}
ROBERTA_TOKENIZER = {
    "add_prefix_space": False,
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
    "errors": "replace",
    "model_max_length": 1000000000000000019884624838656,
    "tokenizer_class": "RobertaTokenizer",
}
QWEN_CONFIG = {
    "architectures": ["Qwen2Model"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_window_layers": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.50.0",
    "use_cache": True,
    "use_sliding_window": False,
}


def _unixcoder_of_the_authors(folder: Path, texts: Sequence[str]) -> Tensor:
    """unixcoder.py's tokenize in the mode <encoder-only> and its mean; of 120 tokens at most, on one text after the other."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    vectors = []
    for text in texts:
        mode = ["<encoder-only>", "</s>"] if text.startswith(MODE) else []
        tokens = tokenizer.tokenize(text.removeprefix(MODE))[: 120 - 2 - len(mode)]
        ids = tokenizer.convert_tokens_to_ids(["<s>", *mode, *tokens, "</s>"])
        vectors.append(model(torch.tensor([ids])).last_hidden_state[0].mean(0))
    return torch.stack(vectors)


def _first_state(folder: Path, texts: Sequence[str]) -> Tensor:
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    read = [tokenizer(text, truncation=True, max_length=120, return_tensors="pt") for text in texts]
    return torch.stack([model(**one).last_hidden_state[0, 0] for one in read])


def _codebert(spec: zoo.ModelSpec) -> zoo.Embedder:
    config = roberta(layers=2, width=32, heads=4, vocab=261, positions=122)
    tokenizer = byte_tokenizer(("<s>", "<pad>", "</s>", "<unk>", "<mask>"), "<s> $A </s>", "<unk>")
    return text_embedder(spec, config, Cls(), tokenizer=tokenizer)


def _qwen2(spec: zoo.ModelSpec) -> zoo.Embedder:
    config = qwen2(layers=2, width=32, hidden=48, heads=4, vocab=258, num_key_value_heads=2)
    tokenizer = byte_tokenizer(("<|endoftext|>", "<|im_end|>"), "$A", None)
    return text_embedder(spec, {**config, "pad_token_id": 0}, LastToken(), tokenizer=tokenizer)


def _code(name: str, config: dict[str, Any], **changes: Any) -> Published:
    options = {"modules": False, "build": None, **changes}
    return Published(name, "unixcoder-test", config, "cls_token", ROBERTA_TOKENIZER, **options)


def _causal(name: str, prompts: dict[str, str]) -> Published:
    tokenizer = {**QWEN_SPECIALS, "padding_side": "left"}
    options = {"limit": 256, "build": _qwen2, "drop": ("pad_token_id",)}
    return Published(name, "gte-qwen2-test", QWEN_CONFIG, "lasttoken", tokenizer, prompts, **options)


CASES = {
    case.name: case
    for case in (
        _t5("sentence-t5-base"),
        _t5("gtr-t5-large", limit=180),
        _t5("instructor-large", "instructor-test"),
        _sgpt("sgpt-125m-weightedmean-msmarco-specb-bitfit", NEO_CONFIG, "attention.bias"),
        _sgpt("sgpt-5.8b-weightedmean-msmarco-specb-bitfit", GPTJ_CONFIG, "bias", build=_gptj),
        _code("unixcoder-base", ROBERTA_CONFIG, plain=_unixcoder_of_the_authors),
        _code("codebert-base", ROBERTA_CONFIG, plain=_first_state, build=_codebert),
        _causal("nomic-embed-code", dict(CORNSTACK["prompts"])),
        _causal("jina-code-embeddings-0.5b", dict(JINA["prompts"])),
    )
}
