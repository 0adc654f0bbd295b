"""nomic-embed-text in the layout of its repositories, tiny and random, and what its authors' code computes of it, written out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from tests.reference.jina import XLMR_TOKENIZER, put
from zoo.models.text import byte_tokenizer

WIDTH, HEADS, LAYERS, HIDDEN, VOCAB, EXPERTS, TOP = 32, 4, 2, 64, 260, 4, 2
Embed = Callable[[Sequence[str]], Tensor]
# What config.json of all of them has, as the authors' NomicBertConfig (GPT-2's names) writes it.
COMMON = {
    "architectures": ["NomicBertModel"],
    "attn_pdrop": 0.0,
    "auto_map": {
        "AutoConfig": "nomic-ai/nomic-bert-2048--configuration_hf_nomic_bert.NomicBertConfig",
        "AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel",
        "AutoModelForMaskedLM": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertForPreTraining",
    },
    "bos_token_id": None,
    "causal": False,
    "dense_seq_output": True,
    "embd_pdrop": 0.0,
    "eos_token_id": None,
    "fused_bias_fc": True,
    "fused_dropout_add_ln": True,
    "initializer_range": 0.02,
    "max_trained_positions": 64,
    "model_type": "nomic_bert",
    "n_embd": WIDTH,
    "n_head": HEADS,
    "n_inner": HIDDEN,
    "n_layer": LAYERS,
    "parallel_block": False,
    "parallel_block_tied_norm": False,
    "prenorm": False,
    "reorder_and_upcast_attn": False,
    "resid_pdrop": 0.0,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "torch_dtype": "float32",
    "use_cache": True,
    "use_flash_attn": True,
    "use_xentropy": True,
    "vocab_size": VOCAB,
}
V1 = {
    **COMMON,
    "activation_function": "swiglu",
    "layer_norm_epsilon": 1e-12,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "n_positions": 128,
    "pad_vocab_size_multiple": 64,
    "qkv_proj_bias": False,
    "rotary_emb_base": 1000,
    "transformers_version": "4.37.2",
    "type_vocab_size": 2,
    "use_rms_norm": False,
}
# As it is since transformers has the type: its own names beside the old ones, of which one counts fewer positions.
NEWER = {
    "max_position_embeddings": 64,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": HIDDEN,
    "layer_norm_eps": 1e-12,
    "hidden_act": "silu",
    "rope_parameters": {"rope_theta": 1000.0, "rope_type": "default"},
}
V2 = {
    **COMMON,
    "_name_or_path": "nomic-ai/nomic-xlm-2048",
    "activation_function": "gelu",
    "add_pooling_layer": False,
    "embd_pdrop": 0.1,
    "expert_choice_router": False,
    "ffn_div": 1,
    "layer_norm_epsilon": 1e-05,
    "mlp_fc1_bias": True,
    "mlp_fc2_bias": True,
    "moe_every_n_layers": 2,
    "moe_impl": "megablocks",
    "moe_normalize_expert_weights": False,
    "moe_resid_pdrop": 0.0,
    "moe_top_k": TOP,
    "n_positions": 128,
    "num_experts": EXPERTS,
    "num_shared_experts": 0,
    "pad_token_id": 1,
    "pad_vocab_size_multiple": 1,
    "qkv_proj_bias": True,
    "rotary_emb_base": 10000,
    "router_aux_loss_coef": 0.1,
    "transformers_version": "4.44.2",
    "type_vocab_size": 1,
    "use_rms_norm": None,
}


def write(
    folder: Path, *, moe: bool = False, normed: bool = False, newer: bool = False, cls: bool = False, seed: int = 11
) -> Embed:
    """A repository's files: v1, or v2 with experts; `embed(texts)` gives unit vectors.

    Args:
        normed: whether the mean is shifted and scaled before its length becomes 1, as the card of v1.5 has it. newer: the names that
            transformers writes stand beside the old ones. cls: the first token's state is taken, as in Arctic.
    """
    folder.mkdir(parents=True)
    config = V2 if moe else {**V1, **(NEWER if newer else {})}
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int, scale: float, mean: float = 0.0) -> Tensor:
        return mean + scale * torch.randn(*shape, generator=generator)

    tensors = {
        "embeddings.word_embeddings.weight": noise(VOCAB, WIDTH, scale=0.7),
        "embeddings.token_type_embeddings.weight": noise(config["type_vocab_size"], WIDTH, scale=0.7),
    }

    def linear(name: str, out: int, into: int, *, bias: bool = moe) -> None:
        tensors[f"{name}.weight"] = noise(out, into, scale=1.5 * into**-0.5)
        tensors.update({f"{name}.bias": noise(out, scale=0.1)} if bias else {})

    norms = ["emb_ln"]
    for i in range(LAYERS):
        layer = f"encoder.layers.{i}"
        linear(f"{layer}.attn.Wqkv", 3 * WIDTH, WIDTH)
        linear(f"{layer}.attn.out_proj", WIDTH, WIDTH)
        if moe and i % 2 == 1:
            linear(f"{layer}.mlp.router.layer", EXPERTS, WIDTH, bias=False)
            tensors[f"{layer}.mlp.experts.mlp.w1"] = noise(EXPERTS * HIDDEN, WIDTH, scale=0.3)
            tensors[f"{layer}.mlp.experts.mlp.w2"] = noise(EXPERTS * HIDDEN, WIDTH, scale=0.3)
            tensors[f"{layer}.mlp.experts.bias"] = noise(WIDTH, scale=0.3)
        else:
            for name in ("fc1",) if moe else ("fc11", "fc12"):
                linear(f"{layer}.mlp.{name}", HIDDEN, WIDTH)
            linear(f"{layer}.mlp.fc2", WIDTH, HIDDEN)
        norms += [f"{layer}.norm1", f"{layer}.norm2"]
    for norm in norms:
        tensors |= {f"{norm}.weight": noise(WIDTH, scale=0.1, mean=1.0), f"{norm}.bias": noise(WIDTH, scale=0.1)}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    put(folder / "config.json", config)
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    rows = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    put(folder / "modules.json", rows)
    put(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": not cls, "pooling_mode_cls_token": cls},
    )
    put(folder / "sentence_bert_config.json", {"max_seq_length": 100 if moe else 128, "do_lower_case": False})
    specials = ("<s>", "<pad>", "</s>", "<unk>") if moe else ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
    ends = ("<s> $A </s>", "<unk>") if moe else ("[CLS] $A [SEP]", "[UNK]")
    tokenizer = byte_tokenizer(specials, *ends)
    tokenizer.save(str(folder / "tokenizer.json"))
    bert = {
        "cls_token": "[CLS]",
        "pad_token": "[PAD]",
        "sep_token": "[SEP]",
        "unk_token": "[UNK]",
        "model_max_length": 8192,
    }
    put(
        folder / "tokenizer_config.json",
        {**(XLMR_TOKENIZER if moe else bert), "tokenizer_class": "PreTrainedTokenizerFast"},
    )
    tokenizer.enable_truncation(100 if moe else 128)

    def embed(texts: Sequence[str]) -> Tensor:
        states = [_states(tensors, config, torch.tensor(tokenizer.encode(text).ids)) for text in texts]
        vectors = torch.stack([one[0] if cls else one.mean(0) for one in states])
        return F.normalize(F.layer_norm(vectors, (WIDTH,)) if normed else vectors, dim=-1)

    return embed


def _states(tensors: dict[str, Tensor], config: dict, ids: Tensor) -> Tensor:
    """One text through the authors' NomicBertModel (modeling_hf_nomic_bert.py): states (T, W)."""

    def apply(x: Tensor, name: str) -> Tensor:
        return x @ tensors[f"{name}.weight"].T + tensors.get(f"{name}.bias", torch.zeros(()))

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(
            x, (WIDTH,), tensors[f"{name}.weight"], tensors[f"{name}.bias"], config["layer_norm_epsilon"]
        )

    half = WIDTH // HEADS // 2
    angles = torch.arange(len(ids))[:, None] / float(config["rotary_emb_base"]) ** (torch.arange(half) / half)

    def turned(x: Tensor) -> Tensor:  # (T, heads, 2 · half)
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def mlp(x: Tensor, name: str) -> Tensor:
        if f"{name}.fc11.weight" in tensors:
            return apply(apply(x, f"{name}.fc11") * F.silu(apply(x, f"{name}.fc12")), f"{name}.fc2")
        if f"{name}.fc1.weight" in tensors:
            return apply(F.gelu(apply(x, f"{name}.fc1")), f"{name}.fc2")
        into, back = (tensors[f"{name}.experts.mlp.{w}"].view(EXPERTS, HIDDEN, WIDTH) for w in ("w1", "w2"))
        shares = apply(x, f"{name}.router.layer").softmax(-1)
        rows = []
        for token, share in zip(x, shares, strict=True):
            best = share.argsort(descending=True)[:TOP]
            rows.append(sum(share[e] * (F.gelu(into[e] @ token) @ back[e]) for e in best))
        return torch.stack(rows) + tensors[f"{name}.experts.bias"]

    words = tensors["embeddings.word_embeddings.weight"][ids]
    x = norm(words + tensors["embeddings.token_type_embeddings.weight"][0], "emb_ln")
    for i in range(LAYERS):
        layer = f"encoder.layers.{i}"
        q, k, v = apply(x, f"{layer}.attn.Wqkv").view(len(ids), 3, HEADS, 2 * half).unbind(1)
        scores = torch.einsum("qhd,khd->hqk", turned(q), turned(k)) / (2 * half) ** 0.5
        mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).reshape(len(ids), WIDTH)
        x = norm(x + apply(mixed, f"{layer}.attn.out_proj"), f"{layer}.norm1")
        x = norm(x + mlp(x, f"{layer}.mlp"), f"{layer}.norm2")
    return x
