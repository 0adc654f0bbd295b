"""NV-Embed: a Mistral that reads both ways, its states pooled by latent attention (Lee et al., 2024, arxiv:2405.17428).

Read as the authors' own `encode`: an instruction before queries, left out of the pool; documents stand alone.
"""

from typing import Any

from zoo.models.parts import Embedder, Identity, LatentAttention, NvEmbedText, Tower
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

INSTRUCTION = "Instruct: {task}\nQuery: "
TASK = "Given a question, retrieve passages that answer the question"  # of the model cards' own example
FACTS: Facts = {
    "modalities": {"text"},
    "languages": ("en",),
    "license": "cc-by-nc-4.0",
    "paper": "arxiv:2405.17428",
    "instruction": INSTRUCTION,
    "prompts": {"query": INSTRUCTION.replace("{task}", TASK)},
    "pool_prompt": False,
    "demo": "search",
}
SIZE: Facts = {"dim": 4096, "params": 7_851_016_192, "max_tokens": 32768}


def mistral_7b() -> dict[str, Any]:
    """Configuration of Mistral-7B-v0.1 (Jiang et al., 2023, arxiv:2310.06825), its attention in both directions."""
    return {
        "model_type": "mistral",
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5,
        "sliding_window": None,
        "is_causal": False,
    }


@register_model(
    name="nv-embed-v1",
    hub_id="nvidia/NV-Embed-v1",
    revision="570834afd5fef5bf3a3c2311a2b6e0a66f6f4f2c",
    **SIZE,
    **FACTS,
)
def nv_embed_v1(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(NvEmbedText(mistral_7b(), spec.max_tokens), LatentAttention(4096), Identity())])


@register_model(
    name="nv-embed-v2",
    hub_id="nvidia/NV-Embed-v2",
    revision="7604d305b621f14095a1aa23d351674c2859553a",
    **SIZE,
    **FACTS,
)
def nv_embed_v2(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(NvEmbedText(mistral_7b(), spec.max_tokens), LatentAttention(4096), Identity())])


def tiny_mistral() -> dict[str, Any]:
    """A Mistral of 35 thousand weights that reads `tiny_tokenizer`'s tokens."""
    small = {
        "vocab_size": 258,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    return {**mistral_7b(), **small, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128}


def tiny_tokenizer() -> Any:
    """A `tokenizers.Tokenizer` of the bytes that begins every text with <s>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocab = {token: i for i, token in enumerate(["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer


@register_model(dim=32, params=40_896, max_tokens=128, **{**FACTS, "license": "apache-2.0", "languages": ()})
def nv_embed_test(spec: ModelSpec) -> Embedder:
    encoder = NvEmbedText(tiny_mistral(), spec.max_tokens, tokenizer=tiny_tokenizer())
    return Embedder(spec, [Tower(encoder, LatentAttention(32, latents=8, heads=2, head_dim=16), Identity())])
