"""Static text embedders, a table of tokens and the mean: model2vec (Tulkens and van Dongen, 2024) and sentence-transformers' own.

They read no context and are hundreds of times faster than a transformer on a CPU. model2vec's tables are distilled from BGE, for potion
trained further on the teacher's vectors of whole texts.
"""

from zoo.models.parts import Embedder, Identity, Mean, StaticText, Tower
from zoo.models.text import ENGLISH, byte_tokenizer
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

MODEL2VEC: Facts = {**ENGLISH, "license": "mit", "max_tokens": 512}
STATIC: Facts = {**ENGLISH, "license": "apache-2.0", "dim": 1024, "dims": (1024, 512, 256, 128, 64, 32)}
BERT, LARGE, CODE, MANY = 29_528, 63_091, 63_457, 500_353  # tokens


def _model2vec(spec: ModelSpec, tokens: int) -> Embedder:
    encoder = StaticText(tokens, spec.dim, spec.max_tokens, drops_unknown=True)
    return Embedder(spec, [Tower(encoder, Mean(), Identity())])


def _static(spec: ModelSpec, tokens: int) -> Embedder:
    return Embedder(spec, [Tower(StaticText(tokens, spec.dim), Mean(), Identity())])


@register_model(
    hub_id="minishlab/potion-base-2M",
    revision="389b9f64be5aa4ae7a6bc6fe95ef20ce485ae5da",
    dim=64,
    params=64 * BERT,
    **MODEL2VEC,
)
def potion_base_2m(spec: ModelSpec) -> Embedder:
    return _model2vec(spec, BERT)


@register_model(
    hub_id="minishlab/potion-base-4M",
    revision="9b3cff412d30be9ae8603fe10224c224f3401869",
    dim=128,
    params=128 * BERT,
    **MODEL2VEC,
)
def potion_base_4m(spec: ModelSpec) -> Embedder:
    return _model2vec(spec, BERT)


@register_model(
    hub_id="minishlab/potion-base-8M",
    revision="bf8b056651a2c21b8d2565580b8569da283cab23",
    dim=256,
    params=256 * BERT,
    **MODEL2VEC,
)
def potion_base_8m(spec: ModelSpec) -> Embedder:
    return _model2vec(spec, BERT)


@register_model(
    hub_id="minishlab/potion-base-32M",
    revision="1e5a03f8eeb2c98b928fbbd846f22f816360919f",
    dim=512,
    params=512 * LARGE,
    **MODEL2VEC,
)
def potion_base_32m(spec: ModelSpec) -> Embedder:
    return _model2vec(spec, LARGE)


@register_model(
    hub_id="minishlab/potion-retrieval-32M",
    revision="6fc8051fab2a1e0ee76689cf08c853792ac285e7",
    dim=512,
    params=512 * LARGE,
    **MODEL2VEC,
)
def potion_retrieval_32m(spec: ModelSpec) -> Embedder:
    return _model2vec(spec, LARGE)


@register_model(
    hub_id="minishlab/potion-code-16M-v2",
    revision="d3daf3e31f36d78f75913030b8bdf4a505d5b833",
    dim=256,
    params=256 * CODE,
    **MODEL2VEC,
)
def potion_code_16m_v2(spec: ModelSpec) -> Embedder:
    return _model2vec(spec, CODE)


@register_model(
    hub_id="minishlab/potion-multilingual-128M",
    revision="73908c3438cf03b6a01bcb9611d62b23d0726f08",
    dim=256,
    params=256 * MANY,
    **{**MODEL2VEC, "languages": ("multilingual",)},
)
def potion_multilingual_128m(spec: ModelSpec) -> Embedder:
    return _model2vec(spec, MANY)


@register_model(
    hub_id="minishlab/M2V_base_output",
    revision="0b86653131492ba2a858911d5ccf84ae774b40f3",
    dim=256,
    params=256 * BERT,
    **MODEL2VEC,
)
def m2v_base_output(spec: ModelSpec) -> Embedder:
    return _model2vec(spec, BERT)


@register_model(
    hub_id="sentence-transformers/static-retrieval-mrl-en-v1",
    revision="f60985c706f192d45d218078e49e5a8b6f15283a",
    params=31_254_528,
    **STATIC,
)
def static_retrieval_mrl_en_v1(spec: ModelSpec) -> Embedder:
    return _static(spec, 30_522)


@register_model(
    hub_id="sentence-transformers/static-similarity-mrl-multilingual-v1",
    revision="7264ea07c5365a11d7e6d87dbb6195889a13054f",
    params=108_420_096,
    **{**STATIC, "languages": ("multilingual",)},
)
def static_similarity_mrl_multilingual_v1(spec: ModelSpec) -> Embedder:
    return _static(spec, 105_879)


@register_model(**{**MODEL2VEC, "languages": (), "dim": 32, "params": 8_320, "max_tokens": 64})
def model2vec_test(spec: ModelSpec) -> Embedder:
    encoder = StaticText(260, 32, spec.max_tokens, drops_unknown=True, tokenizer=byte_tokenizer())
    return Embedder(spec, [Tower(encoder, Mean(), Identity())])
