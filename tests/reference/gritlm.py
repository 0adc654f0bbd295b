"""GritLM in the layout of its repositories, tiny and random, and what its authors' `encode` computes of it, written out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from tests.reference.base import stir
from tests.reference.jina import put
from zoo.models.text import piece_tokenizer

LIMIT, WINDOW = 256, 8
Embed = Callable[..., Tensor]
SHAPE = {
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 48,
    "max_position_embeddings": LIMIT,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "sliding_window": WINDOW,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 260,
}
KINDS = {
    "gritlm-7b": {
        "architectures": ["MistralForCausalLM"],
        "auto_map": {
            "AutoModel": "modeling_gritlm7b.MistralModel",
            "AutoModelForCausalLM": "modeling_gritlm7b.MistralForCausalLM",
            "AutoModelForSequenceClassification": "modeling_gritlm7b.MistralForSequenceClassification",
        },
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        "model_type": "mistral",
        "transformers_version": "4.37.2",
    },
    "gritlm-8x7b": {
        "architectures": ["MixtralForCausalLM"],
        "auto_map": {
            "AutoModel": "modeling_gritlm8x7b.MixtralModel",
            "AutoModelForCausalLM": "modeling_gritlm8x7b.MixtralForCausalLM",
        },
        "model_type": "mixtral",
        "num_experts_per_tok": 2,
        "num_local_experts": 4,
        "output_router_logits": False,
        "router_aux_loss_coef": 0.02,
        "transformers_version": "4.37.2",
    },
}


def write(folder: Path, name: str, *, sentence: bool = False) -> Embed:
    """A repository's files; `embed(texts, instruction)` gives unit vectors, text by text.

    Args:
        sentence: whether sentence-transformers' files lie beside, which say that a prompt is not pooled.
    """
    folder.mkdir(parents=True)
    config = {**SHAPE, **KINDS[name]}
    spare = ("auto_map", "architectures", "torch_dtype", "transformers_version", "id2label", "label2id", "rope_theta")
    shape = {key: value for key, value in config.items() if key not in spare}
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
    built = transformers.AutoConfig.for_model(**{**shape, **rope, "sliding_window": None})
    backbone = stir(transformers.AutoModel.from_config(built, attn_implementation="eager"))
    state = {f"model.{key}": value.contiguous() for key, value in backbone.state_dict().items()}
    if name == "gritlm-8x7b":  # one tensor for each expert, as Mixtral's files have them
        state = _apart(state)
    state["lm_head.weight"] = torch.zeros(260, 32)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    put(folder / "config.json", config)
    tokenizer = piece_tokenizer(("<unk>", "<s>", "</s>"), "<s> $A", spaced=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    put(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": True,
            "add_eos_token": False,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "clean_up_tokenization_spaces": False,
            "legacy": True,
            "model_max_length": 1000000000000000019884624838656,
            "tokenizer_class": "LlamaTokenizer",
            "use_default_system_prompt": False,
        },
    )
    if sentence:
        kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
        rows = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(kinds.items())
        ]
        put(folder / "modules.json", rows)
        pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True, "include_prompt": False}
        put(folder / "1_Pooling" / "config.json", pooling)
        put(folder / "sentence_bert_config.json", {"max_seq_length": LIMIT, "do_lower_case": False})
    tokenizer.enable_truncation(LIMIT)

    def embed(texts: Sequence[str], instruction: str = "") -> Tensor:
        skipped = len(tokenizer.encode(instruction).ids) if instruction else 0
        rows = []
        with torch.inference_mode():
            for text in texts:
                ids = torch.tensor([tokenizer.encode(instruction + text).ids])
                every = torch.zeros(1, 1, ids.shape[1], ids.shape[1])  # no token is hidden, window or not
                rows.append(backbone(input_ids=ids, attention_mask=every).last_hidden_state[0, skipped:].mean(0))
        return F.normalize(torch.stack(rows), dim=-1)

    return embed


def _apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The experts of transformers 5, in one tensor a layer, as transformers 4 wrote them."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        layer, _, part = name.partition(".mlp.")
        if part == "gate.weight":
            found[f"{layer}.block_sparse_moe.gate.weight"] = tensor
        elif part == "experts.gate_up_proj":
            for i, both in enumerate(tensor):
                gate, up = both.chunk(2)
                found[f"{layer}.block_sparse_moe.experts.{i}.w1.weight"] = gate.contiguous()
                found[f"{layer}.block_sparse_moe.experts.{i}.w3.weight"] = up.contiguous()
        elif part == "experts.down_proj":
            for i, down in enumerate(tensor):
                found[f"{layer}.block_sparse_moe.experts.{i}.w2.weight"] = down.contiguous()
        else:
            found[name] = tensor
    return found
