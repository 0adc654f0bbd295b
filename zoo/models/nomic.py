"""nomic-embed-text: v1 and v1.5 on a BERT with rotary positions and gated layers, v2 on an XLM-RoBERTa with experts; the mean.

Nussbaum et al., 2024, arxiv:2402.01613; v2: Nussbaum and Duderstadt, 2025, arxiv:2502.07972. Every text has a prompt of its task:
`encode_query` and `encode_document` for search, `task="clustering"` and `task="classification"` for both roles. v1.5 shifts and scales
each vector before it is cut, as its authors' example does (`NormedMean`).
"""

from typing import Any

from zoo.models.parts import Embedder, ExpertsText, Identity, Mean, NormedMean, Tower
from zoo.models.text import NOMIC_PROMPTS, TEXT, Backbone, byte_tokenizer, text_embedder
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

PROMPTS = {**NOMIC_PROMPTS, "clustering": "clustering: ", "classification": "classification: "}
FACTS: Facts = {**TEXT, "license": "apache-2.0", "paper": "arxiv:2402.01613", "prompts": PROMPTS}
CUTS = (768, 512, 256, 128, 64)


def nomic_bert(*, layers: int, width: int, heads: int, vocab: int = 30_528, **changes: Any) -> dict[str, Any]:
    """Configuration of a NomicBERT, as transformers has it."""
    return {
        "model_type": "nomic_bert",
        "vocab_size": vocab,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
        **changes,
    }


def rotary_xlm_roberta(*, layers: int, width: int, heads: int, vocab: int = 250_048, **changes: Any) -> dict[str, Any]:
    """Configuration of the blocks of v2, which are those that transformers has for jina-embeddings-v3."""
    return {
        "model_type": "jina_embeddings_v3",
        "vocab_size": vocab,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        **changes,
    }


NOMIC = Backbone(nomic_bert(layers=12, width=768, heads=12), 136_731_648)


@register_model(
    hub_id="nomic-ai/nomic-embed-text-v1",
    revision="0759316f275aa0cb93a5b830973843ca66babcf5",
    languages=("en",),
    **NOMIC.facts,
    **FACTS,
)
def nomic_embed_text_v1(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, NOMIC.config, Mean())


@register_model(
    name="nomic-embed-text-v1.5",
    hub_id="nomic-ai/nomic-embed-text-v1.5",
    revision="b0753ae76394dd36bcfb912a46018088bca48be0",
    languages=("en",),
    dims=CUTS,
    pooling="NormedMean",  # its files name the mean, and its card what follows it
    **NOMIC.facts,
    **FACTS,
)
def nomic_embed_text_v1_5(spec: ModelSpec) -> Embedder:
    return text_embedder(spec, NOMIC.config, NormedMean())


@register_model(
    hub_id="nomic-ai/nomic-embed-text-v2-moe",
    revision="1066b6599d099fbb93dfcb64f9c37a7c9e503e85",
    languages=("multilingual",),
    dim=768,
    dims=(768, 256),
    params=475_292_928,
    max_tokens=512,
    **{**FACTS, "paper": "arxiv:2502.07972"},
)
def nomic_embed_text_v2_moe(spec: ModelSpec) -> Embedder:
    config = rotary_xlm_roberta(layers=12, width=768, heads=12)
    encoder = ExpertsText(config, spec.max_tokens, experts=8, top=2, every=2)
    return Embedder(spec, [Tower(encoder, Mean(), Identity())])


TINY: Facts = {**FACTS, "dim": 32, "dims": (32, 16), "max_tokens": 128}


@register_model(params=41_472, pooling="NormedMean", **TINY)
def nomic_test(spec: ModelSpec) -> Embedder:
    config = nomic_bert(layers=2, width=32, heads=4, vocab=260, max_position_embeddings=128, pad_token_id=0)
    return text_embedder(spec, config, NormedMean(), tokenizer=byte_tokenizer())


@register_model(params=58_400, **TINY)
def nomic_moe_test(spec: ModelSpec) -> Embedder:
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "max_position_embeddings": 128}
    config = rotary_xlm_roberta(layers=2, width=32, heads=4, vocab=260, **ids)
    tokenizer = byte_tokenizer(("<s>", "<pad>", "</s>", "<unk>"), "<s> $A </s>", "<unk>")
    encoder = ExpertsText(config, spec.max_tokens, experts=4, top=2, every=2, tokenizer=tokenizer)
    return Embedder(spec, [Tower(encoder, Mean(), Identity())])
