"""Generative rerankers of text in the layout of their repositories, with tiny random weights, and their authors' code in short."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.reference.text_published import put

MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
MERGES = [("y", "e"), ("ye", "s"), ("n", "o"), ("?", "Ċ")]  # the last joins what pieces keep apart
LIMIT = 400
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "head_dim": 8,
    "hidden_act": "silu",
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 48,
    "max_position_embeddings": 512,
    "max_window_layers": 2,
    "model_type": "qwen3",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.3",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 265,
}
QWEN2 = {
    **{key: value for key, value in QWEN3.items() if key not in ("attention_bias", "head_dim")},
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
}
QWEN_TOKENIZER = {
    "add_bos_token": False,
    "add_prefix_space": False,
    "bos_token": None,
    "clean_up_tokenization_spaces": False,
    "eos_token": "<|im_end|>",
    "errors": "replace",
    "model_max_length": 131072,
    "pad_token": "<|endoftext|>",
    "split_special_tokens": False,
    "tokenizer_class": "Qwen2Tokenizer",
    "unk_token": None,
}


def write(
    folder: Path, shape: Mapping[str, Any] = QWEN3, *, tied: bool = True, files: Mapping[str, Any] | None = None
) -> Path:
    """The files of a repository. shape: of config.json. files: further ones, by their names."""
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM

    folder.mkdir(parents=True)
    config = {**shape, "tie_word_embeddings": tied}
    put(folder / "config.json", config)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.float32)
        with torch.no_grad():
            for weight in model.parameters():
                weight.normal_(0, 0.2) if weight.ndim > 1 else weight.add_(torch.randn_like(weight) * 0.05)
    state = {
        name: tensor.clone() for name, tensor in model.state_dict().items() if not tied or name != "lm_head.weight"
    }
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    words = [*MARKS, *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in MERGES)]
    core = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=MERGES))
    core.add_special_tokens(list(MARKS))
    core.normalizer, core.decoder = normalizers.NFC(), decoders.ByteLevel()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    put(folder / "tokenizer.json", json.loads(core.to_str()))
    put(folder / "tokenizer_config.json", QWEN_TOKENIZER)
    for name, content in (files or {}).items():
        put(folder / name, content)
    return folder


def by_qwen(folder: Path, pairs: Sequence[tuple[str, str]], instruction: str | None = None) -> Tensor:
    """examples/qwen3_reranker_transformers.py of QwenLM/Qwen3-Embedding, one pair at a time."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    start = '<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'  # fmt: skip
    first = tokenizer.encode(start, add_special_tokens=False)
    last = tokenizer.encode("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", add_special_tokens=False)
    answers = [tokenizer.convert_tokens_to_ids(word) for word in ("no", "yes")]
    task = instruction or "Given a web search query, retrieve relevant passages that answer the query"
    found = []
    for query, document in pairs:
        text = f"<Instruct>: {task}\n<Query>: {query}\n<Document>: {document}"
        most = LIMIT - len(first) - len(last)
        own = tokenizer(text, truncation="longest_first", max_length=most, return_attention_mask=False).input_ids
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([first + own + last])).logits[0, -1, answers]
        found.append(logits.log_softmax(0)[1].exp())
    return torch.stack(found)


def by_mixedbread(folder: Path, pairs: Sequence[tuple[str, str]], instruction: str | None = None) -> Tensor:
    """mxbai_rerank/mxbai_rerank_v2.py of mixedbread-ai/mxbai-rerank, one pair at a time, where the query is no longer than it may be."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False).input_ids

    task = "You are a search relevance expert who evaluates how well documents match search queries. For each query-document pair, carefully analyze the semantic relationship between them, then provide your binary relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:"  # fmt: skip
    first = ids(
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    )
    last = ids("\n") + ids(task) + ids("<|im_end|>\n<|im_start|>assistant\n")
    found = []
    for query, document in pairs:
        asked = "\n".join([*([f"instruction: {instruction}"] if instruction else []), f"query: {query}"])
        content = ids(asked) + ids("\n") + ids(f"document: {document}")
        most = LIMIT - len(first) - len(last)
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([first + content[:most] + last])).logits[0, -1]
        found.append(logits[ids("1")[0]] - logits[ids("0")[0]])
    return torch.stack(found)
