"""SGPT: GPT-Neo and GPT-J as text embedders, their states averaged with weights that grow (Muennighoff, 2022, arxiv:2202.08904).

Queries stand in [ ], documents in { }: tokens of their own around those of a text ("specb"), so that no bracket becomes part of
another token. Attention stays causal. `encode` without a prompt puts none.
"""

from typing import Any

from zoo.models.parts import AroundText, Embedder, Identity, Tower, WeightedMean
from zoo.models.text import ENGLISH, Backbone, byte_tokenizer
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

SGPT: Facts = {
    **ENGLISH,
    "license": "unknown",
    "paper": "arxiv:2202.08904",
    "max_tokens": 300,
    "prompts": {"query": "[", "document": "{"},
    "around": {"[": "[ $A ]", "{": "{ $A }"},
}


def gpt_neo(*, layers: int, width: int, heads: int, **changes: Any) -> dict[str, Any]:
    """Configuration of a GPT-Neo backbone (Black et al., 2021), of which every other layer sees the last 256 tokens alone."""
    return {
        "model_type": "gpt_neo",
        "vocab_size": 50_257,
        "hidden_size": width,
        "num_layers": layers,
        "num_heads": heads,
        "attention_types": [[["global", "local"], layers // 2]],
        "max_position_embeddings": 2048,
        **changes,
    }


GPT_J = {"model_type": "gptj", "vocab_size": 50_400, "n_embd": 4096, "n_layer": 28, "n_head": 16, "rotary_dim": 64}
NEO_125M = Backbone(gpt_neo(layers=12, width=768, heads=12), 125_198_592)
NEO_1300M = Backbone(gpt_neo(layers=24, width=2048, heads=16), 1_315_575_808)
NEO_2700M = Backbone(gpt_neo(layers=32, width=2560, heads=20), 2_651_307_520)
GPTJ_5800M = Backbone(GPT_J, 5_844_393_984)


def sgpt(spec: ModelSpec, config: dict[str, Any], **options: Any) -> Embedder:
    """One tower of this backbone, whose texts stand in brackets."""
    encoder = AroundText(config, spec.max_tokens, dict(spec.around), **options)
    return Embedder(spec, [Tower(encoder, WeightedMean(), Identity())])


@register_model(
    hub_id="Muennighoff/SGPT-125M-weightedmean-msmarco-specb-bitfit", dim=768, params=NEO_125M.params, **SGPT
)
def sgpt_125m_weightedmean_msmarco_specb_bitfit(spec: ModelSpec) -> Embedder:
    return sgpt(spec, NEO_125M.config)


@register_model(
    name="sgpt-1.3b-weightedmean-msmarco-specb-bitfit",
    hub_id="Muennighoff/SGPT-1.3B-weightedmean-msmarco-specb-bitfit",
    dim=2048,
    params=NEO_1300M.params,
    **SGPT,
)
def sgpt_1300m_weightedmean_msmarco_specb_bitfit(spec: ModelSpec) -> Embedder:
    return sgpt(spec, NEO_1300M.config)


@register_model(
    name="sgpt-2.7b-weightedmean-msmarco-specb-bitfit",
    hub_id="Muennighoff/SGPT-2.7B-weightedmean-msmarco-specb-bitfit",
    dim=2560,
    params=NEO_2700M.params,
    **SGPT,
)
def sgpt_2700m_weightedmean_msmarco_specb_bitfit(spec: ModelSpec) -> Embedder:
    return sgpt(spec, NEO_2700M.config)


@register_model(
    name="sgpt-5.8b-weightedmean-msmarco-specb-bitfit",
    hub_id="Muennighoff/SGPT-5.8B-weightedmean-msmarco-specb-bitfit",
    dim=4096,
    params=GPTJ_5800M.params,
    **SGPT,
)
def sgpt_5800m_weightedmean_msmarco_specb_bitfit(spec: ModelSpec) -> Embedder:
    return sgpt(spec, GPTJ_5800M.config)


def gpt_tokenizer() -> Any:
    """A `tokenizers.Tokenizer` of the bytes as GPT-2's: <|endoftext|>, which ends no text, and nothing around one."""
    return byte_tokenizer(("<|endoftext|>",), "$A", None)


@register_model(**{**SGPT, "languages": (), "dim": 32, "params": 41_696, "max_tokens": 200})
def sgpt_test(spec: ModelSpec) -> Embedder:
    config = gpt_neo(layers=2, width=32, heads=4, vocab_size=257, max_position_embeddings=256, window_size=8)
    return sgpt(spec, config | {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}, tokenizer=gpt_tokenizer())
