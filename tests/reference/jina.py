"""jina-embeddings-v3 and -v5-text in the layout of their repositories, tiny and random, and what their authors' code computes of them.

v3 is written out: its authors' code needs another transformers. v5 is transformers' backbone with peft's adapter over it, as theirs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from zoo.models.text import byte_tokenizer

TASKS = ("retrieval.query", "retrieval.passage", "separation", "classification", "text-matching")
WIDTH, HEADS, LAYERS, HIDDEN, VOCAB, RANK, LIMIT = 32, 4, 2, 128, 260, 4, 130
Embed = Callable[..., Tensor]
# config.json of jinaai/jina-embeddings-v3, but for the sizes.
CONFIG_V3 = {
    "_name_or_path": "jinaai/jina-embeddings-v3",
    "architectures": ["XLMRobertaModel"],
    "attention_probs_dropout_prob": 0.1,
    "auto_map": {
        "AutoConfig": "jinaai/xlm-roberta-flash-implementation--configuration_xlm_roberta.XLMRobertaFlashConfig",
        "AutoModel": "jinaai/xlm-roberta-flash-implementation--modeling_lora.XLMRobertaLoRA",
        "AutoModelForMaskedLM": "jinaai/xlm-roberta-flash-implementation--modeling_xlm_roberta.XLMRobertaForMaskedLM",
        "AutoModelForPreTraining": "jinaai/xlm-roberta-flash-implementation--modeling_xlm_roberta.XLMRobertaForPreTraining",
    },
    "bos_token_id": 0,
    "classifier_dropout": None,
    "emb_pooler": None,
    "eos_token_id": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": WIDTH,
    "initializer_range": 0.02,
    "intermediate_size": HIDDEN,
    "layer_norm_eps": 1e-05,
    "load_trained_adapters": True,
    "lora_adaptations": list(TASKS),
    "lora_alpha": 1,
    "lora_dropout_p": 0.0,
    "lora_main_params_trainable": False,
    "lora_rank": RANK,
    "matryoshka_dimensions": [32, 64, 128, 256, 512, 768, 1024],
    "max_position_embeddings": LIMIT,
    "model_type": "xlm-roberta",
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "output_past": True,
    "pad_token_id": 1,
    "position_embedding_type": "rotary",
    "rotary_emb_base": 20000.0,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.30.2",
    "truncate_dim": None,
    "type_vocab_size": 1,
    "use_cache": True,
    "use_flash_attn": True,
    "vocab_size": VOCAB,
    "task_instructions": {
        "retrieval.query": "Represent the query for retrieving evidence documents: ",
        "retrieval.passage": "Represent the document for retrieval: ",
        "separation": "",
        "classification": "",
        "text-matching": "",
    },
}
PROMPTS_V3 = CONFIG_V3["task_instructions"]
SENTENCE_V3 = {
    "__version__": {"sentence_transformers": "3.1.0", "transformers": "4.41.2", "pytorch": "2.3.1+cu121"},
    "prompts": PROMPTS_V3,
    "default_prompt_name": None,
    "similarity_fn_name": "cosine",
}
XLMR_TOKENIZER = {
    "bos_token": "<s>",
    "clean_up_tokenization_spaces": True,
    "cls_token": "<s>",
    "eos_token": "</s>",
    "model_max_length": LIMIT,
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "tokenizer_class": "PreTrainedTokenizerFast",
    "unk_token": "<unk>",
}


def write_v3(folder: Path, seed: int = 3) -> Embed:
    """The repository's files; `embed(texts, task=None)` gives unit vectors, the task's instruction put before the texts."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int, scale: float, mean: float = 0.0) -> Tensor:
        return mean + scale * torch.randn(*shape, generator=generator)

    tensors: dict[str, Tensor] = {}

    def linear(name: str, out: int, into: int) -> None:
        lora = f"{name}.parametrizations.weight.0"
        tensors[f"{name}.parametrizations.weight.original"] = noise(out, into, scale=1.5 * into**-0.5)
        tensors[f"{lora}.lora_A"] = noise(len(TASKS), RANK, into, scale=into**-0.5)
        tensors[f"{lora}.lora_B"] = noise(len(TASKS), out, RANK, scale=1.0)
        tensors[f"{name}.bias"] = noise(out, scale=0.1)

    def table(name: str, rows: int) -> None:
        lora = f"{name}.parametrizations.weight.0"
        tensors[f"{name}.parametrizations.weight.original"] = noise(rows, WIDTH, scale=0.7)
        tensors[f"{lora}.lora_A"] = noise(len(TASKS), rows, RANK, scale=0.7)
        tensors[f"{lora}.lora_B"] = noise(len(TASKS), RANK, WIDTH, scale=0.7)

    table("roberta.embeddings.word_embeddings", VOCAB)
    table("roberta.embeddings.token_type_embeddings", 1)
    norms = ["roberta.emb_ln"]
    for layer in (f"roberta.encoder.layers.{i}" for i in range(LAYERS)):
        linear(f"{layer}.mixer.Wqkv", 3 * WIDTH, WIDTH)
        linear(f"{layer}.mixer.out_proj", WIDTH, WIDTH)
        linear(f"{layer}.mlp.fc1", HIDDEN, WIDTH)
        linear(f"{layer}.mlp.fc2", WIDTH, HIDDEN)
        norms += [f"{layer}.norm1", f"{layer}.norm2"]
    linear("roberta.pooler.dense", WIDTH, WIDTH)
    for norm in norms:
        tensors |= {f"{norm}.weight": noise(WIDTH, scale=0.1, mean=1.0), f"{norm}.bias": noise(WIDTH, scale=0.1)}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    put(folder / "config.json", CONFIG_V3)
    put(folder / "config_sentence_transformers.json", SENTENCE_V3)
    kinds = {"": "custom_st.Transformer", "1_Pooling": "sentence_transformers.models.Pooling"}
    rows = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(kinds.items())]
    put(folder / "modules.json", [{**rows[0], "kwargs": ["task"]}, rows[1]])
    put(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True})
    (folder / "custom_st.py").write_text('raise RuntimeError("code beside the weights was run")\n')
    tokenizer = byte_tokenizer(("<s>", "<pad>", "</s>", "<unk>"), "<s> $A </s>", "<unk>")
    tokenizer.save(str(folder / "tokenizer.json"))
    put(folder / "tokenizer_config.json", XLMR_TOKENIZER)
    tokenizer.enable_truncation(LIMIT)

    def embed(texts: Sequence[str], task: str | None = None) -> Tensor:
        before = PROMPTS_V3[task] if task else ""
        number = TASKS.index(task) if task else None
        rows = [_v3(tensors, torch.tensor(tokenizer.encode(before + text).ids), number) for text in texts]
        return F.normalize(torch.stack(rows), dim=-1)

    return embed


def _v3(tensors: dict[str, Tensor], ids: Tensor, task: int | None) -> Tensor:
    """One text through XLMRobertaLoRA (modeling_lora.py, block.py, mha.py, rotary.py) with the adapter of a task: the mean of the states."""

    def weight(name: str, *, table: bool = False) -> Tensor:
        original, lora = (tensors[f"{name}.parametrizations.weight.{part}"] for part in ("original", "0.lora_A"))
        other = tensors[f"{name}.parametrizations.weight.0.lora_B"]
        if task is None:
            return original
        return original + (lora[task] @ other[task] if table else other[task] @ lora[task]) / RANK

    def apply(x: Tensor, name: str) -> Tensor:
        return x @ weight(name).T + tensors[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (WIDTH,), tensors[f"{name}.weight"], tensors[f"{name}.bias"], 1e-5)

    half = WIDTH // HEADS // 2
    angles = torch.arange(len(ids))[:, None] / 20000.0 ** (torch.arange(half) / half)  # (T, half)

    def turned(x: Tensor) -> Tensor:  # (T, heads, 2 · half)
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    words = weight("roberta.embeddings.word_embeddings", table=True)[ids]
    x = norm(words + weight("roberta.embeddings.token_type_embeddings", table=True)[0], "roberta.emb_ln")
    for i in range(LAYERS):
        layer = f"roberta.encoder.layers.{i}"
        q, k, v = apply(x, f"{layer}.mixer.Wqkv").view(len(ids), 3, HEADS, 2 * half).unbind(1)
        scores = torch.einsum("qhd,khd->hqk", turned(q), turned(k)) / (2 * half) ** 0.5
        mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).reshape(len(ids), WIDTH)
        x = norm(x + apply(mixed, f"{layer}.mixer.out_proj"), f"{layer}.norm1")
        x = norm(x + apply(F.gelu(apply(x, f"{layer}.mlp.fc1")), f"{layer}.mlp.fc2"), f"{layer}.norm2")
    return x.mean(0)


V5_TASKS = ("retrieval", "text-matching", "clustering", "classification")
CONFIG_V5 = {
    "architectures": ["JinaEmbeddingsV5Model"],
    "task_names": list(V5_TASKS),
    "auto_map": {
        "AutoConfig": "configuration_jina_embeddings_v5.JinaEmbeddingsV5Config",
        "AutoModel": "modeling_jina_embeddings_v5.JinaEmbeddingsV5Model",
    },
    "attention_bias": False,
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "model_type": "jina_embeddings_v5",
    "torch_dtype": "float32",
}
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 258,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "rope_theta": 1000000,
    "rope_scaling": None,
}
# What nano's config.json has besides, and small's.
NANO_KEYS = {
    "bos_token": "<|begin_of_text|>",
    "eos_token": "<|end_of_text|>",
    "hidden_dropout": 0.0,
    "is_decoder": False,
    "mask_token": "<|mask|>",
    "mask_token_id": 1,
    "num_key_value_heads": 4,
    "pad_token": "<|end_of_text|>",
    "pad_token_id": 0,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": False,
    "transformers_version": "4.40.0.dev0",
}
SMALL_KEYS = {
    "head_dim": 8,
    "max_window_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
}
SENTENCE_V5 = {
    "__version__": {"sentence_transformers": "5.1.2", "transformers": "4.57.0", "pytorch": "2.8.0"},
    "prompts": {"query": "Query: ", "document": "Document: "},
    "default_prompt_name": "document",
    "similarity_fn_name": "cosine",
}
LORA = {
    "alpha_pattern": {},
    "auto_mapping": None,
    "base_model_name_or_path": "jinaai/jina-embeddings-v5-text",
    "bias": "none",
    "corda_config": None,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": "gaussian",
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 4,
    "lora_bias": False,
    "lora_dropout": 0.1,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "peft_type": "LORA",
    "r": 4,
    "rank_pattern": {},
    "revision": None,
    "target_modules": ["gate_proj", "v_proj", "q_proj", "down_proj", "o_proj", "k_proj", "up_proj"],
    "task_type": "FEATURE_EXTRACTION",
    "trainable_token_indices": None,
    "use_dora": False,
    "use_rslora": False,
}


def write_v5(folder: Path, *, nano: bool) -> Embed:
    """The repository's files; `embed(texts, task, prompt)` gives unit vectors by peft's unmerged adapter, text by text."""
    import transformers

    from tests.reference.base import stir

    folder.mkdir(parents=True)
    own = {**SMALL, **(NANO_KEYS if nano else SMALL_KEYS)}
    kinds = (
        (transformers.EuroBertConfig, transformers.EuroBertModel)
        if nano
        else (transformers.Qwen3Config, transformers.Qwen3Model)
    )
    shape = {
        key: value for key, value in own.items() if key not in ("rope_theta", "rope_scaling", "transformers_version")
    }
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000}}
    backbone = stir(kinds[1](kinds[0](**shape, **rope)))
    state = {name: tensor.contiguous() for name, tensor in backbone.state_dict().items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    put(folder / "config.json", {**CONFIG_V5, **own})
    put(folder / "config_sentence_transformers.json", SENTENCE_V5)
    put(
        folder / "modules.json",
        [
            {
                "idx": 0,
                "name": "transformer",
                "path": "",
                "type": "custom_st.Transformer",
                "kwargs": ["task", "truncate_dim"],
            }
        ],
    )
    (folder / "custom_st.py").write_text('raise RuntimeError("code beside the weights was run")\n')
    generator = torch.Generator().manual_seed(7)
    layers = [name for name, part in backbone.named_modules() if isinstance(part, torch.nn.Linear)]
    for task in V5_TASKS:
        lora = {}
        for name in layers:
            out, into = backbone.get_submodule(name).weight.shape
            lora[f"base_model.model.{name}.lora_A.weight"] = torch.randn(4, into, generator=generator) * into**-0.5
            lora[f"base_model.model.{name}.lora_B.weight"] = torch.randn(out, 4, generator=generator) * 0.5
        place = folder / "adapters" / task
        put(place / "adapter_config.json", {**LORA, "lora_dropout": 0.05 if task == "classification" else 0.1})
        save_file(lora, place / "adapter_model.safetensors", {"format": "pt"})
    ends = ("<|begin_of_text|>", "<|mask|>") if nano else ("<|endoftext|>", "<|im_end|>")
    tokenizer = byte_tokenizer(ends, "$A <|begin_of_text|>" if nano else "$A <|endoftext|>", None)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"eos_token": ends[0], "pad_token": ends[0], "model_max_length": 256}
    put(folder / "tokenizer_config.json", {**named, "tokenizer_class": "PreTrainedTokenizerFast"})
    tokenizer.enable_truncation(256)

    def embed(texts: Sequence[str], task: str, prompt: str) -> Tensor:
        from peft import PeftModel

        adapted = PeftModel.from_pretrained(
            kinds[1].from_pretrained(folder, config=backbone.config), folder / "adapters" / task
        ).eval()
        rows = []
        with torch.inference_mode():
            for text in texts:
                ids = torch.tensor([tokenizer.encode(prompt + text).ids])
                rows.append(adapted(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0, -1])
        return F.normalize(torch.stack(rows), dim=-1)

    return embed


def put(path: Path, value: Any) -> None:
    """JSON, in folders that are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False))


def reread(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, for tests that change one."""
    return load_file(path)
