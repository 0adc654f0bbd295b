"""Text embedders on the encoder of T5: Sentence-T5 (arxiv:2108.08877), GTR (arxiv:2112.07899) and Instructor (arxiv:2212.09741).

The decoder is not built. The mean of all tokens goes through a dense layer without bias to 768 dimensions. Instructor, trained on
from GTR, reads an instruction before queries and documents alike and leaves it out of the mean; another one is `task=`, of the
authors' form "Represent the <domain> <kind of text> for <purpose>: ".
"""

from typing import Any

from zoo.models.parts import DenseStack, Embedder, Mean
from zoo.models.text import ENGLISH, Backbone, text_embedder
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

T5: Facts = {**ENGLISH, "license": "apache-2.0", "dim": 768}
ST5: Facts = {**T5, "paper": "arxiv:2108.08877", "max_tokens": 256}
GTR: Facts = {**T5, "paper": "arxiv:2112.07899", "max_tokens": 512}
INSTRUCTOR: Facts = {
    **T5,
    "paper": "arxiv:2212.09741",
    "max_tokens": 512,
    "pool_prompt": False,
    "instruction": "Represent the {task}: ",
    # The authors' own example of a search.
    "prompts": {
        "query": "Represent the Wikipedia question for retrieving supporting documents: ",
        "document": "Represent the Wikipedia document for retrieval: ",
    },
}


def t5(*, layers: int, width: int, hidden: int, heads: int, head: int = 64, vocab: int = 32_128) -> dict[str, Any]:
    """Configuration of T5's encoder (Raffel et al., 2020, arxiv:1910.10683); `head` is the width of one of its heads."""
    return {
        "model_type": "t5",
        "vocab_size": vocab,
        "d_model": width,
        "d_kv": head,
        "d_ff": hidden,
        "num_layers": layers,
        "num_heads": heads,
        "feed_forward_proj": "relu",
    }


def t5_head(width: int, dim: int) -> Any:
    """The dense layer after the pooling: no bias, no activation."""
    return DenseStack([{"kind": "dense", "width": width, "dim": dim, "bias": False, "activation": "Identity"}])


BASE = Backbone(t5(layers=12, width=768, hidden=3072, heads=12), 110_218_368)
LARGE = Backbone(t5(layers=24, width=1024, hidden=4096, heads=16), 335_726_080)
XL = Backbone(t5(layers=24, width=1024, hidden=16_384, heads=32, head=128), 1_241_696_256)
XXL = Backbone(t5(layers=24, width=1024, hidden=65_536, heads=128, head=128), 4_865_577_984)


def _t5(spec: ModelSpec, backbone: Backbone) -> Embedder:
    width = backbone.config["d_model"]
    return text_embedder(spec, backbone.config, Mean(), t5_head(width, spec.dim), pool_prompt=spec.pool_prompt)


@register_model(
    hub_id="sentence-transformers/sentence-t5-base",
    revision="50c53e206f8b01c9621484a3c0aafce4e55efebf",
    params=BASE.params,
    **ST5,
)
def sentence_t5_base(spec: ModelSpec) -> Embedder:
    return _t5(spec, BASE)


@register_model(
    hub_id="sentence-transformers/sentence-t5-large",
    revision="1fc08ea477205aa54a3e5b13f0971ae16b86410a",
    params=LARGE.params,
    **ST5,
)
def sentence_t5_large(spec: ModelSpec) -> Embedder:
    return _t5(spec, LARGE)


@register_model(
    hub_id="sentence-transformers/sentence-t5-xl",
    revision="2965d31b368fb14117688e0bde77cbd720e91f53",
    params=XL.params,
    **ST5,
)
def sentence_t5_xl(spec: ModelSpec) -> Embedder:
    return _t5(spec, XL)


@register_model(
    hub_id="sentence-transformers/sentence-t5-xxl",
    revision="4d122282ba80e807e9e6eb8c358269e92796365d",
    params=XXL.params,
    **ST5,
)
def sentence_t5_xxl(spec: ModelSpec) -> Embedder:
    return _t5(spec, XXL)


@register_model(
    hub_id="sentence-transformers/gtr-t5-base",
    revision="7027e9594267928589816394bdd295273ddc0739",
    params=BASE.params,
    **GTR,
)
def gtr_t5_base(spec: ModelSpec) -> Embedder:
    return _t5(spec, BASE)


@register_model(
    hub_id="sentence-transformers/gtr-t5-large",
    revision="a2c8ac47f998531948d4cbe32a0b577a7037a5e3",
    params=LARGE.params,
    **GTR,
)
def gtr_t5_large(spec: ModelSpec) -> Embedder:
    return _t5(spec, LARGE)


@register_model(
    hub_id="sentence-transformers/gtr-t5-xl",
    revision="23a8d667a1ad2578af181ce762867003c498d1bf",
    params=XL.params,
    **GTR,
)
def gtr_t5_xl(spec: ModelSpec) -> Embedder:
    return _t5(spec, XL)


@register_model(
    hub_id="sentence-transformers/gtr-t5-xxl",
    revision="73f2a9156a3dcc2194dfdb2bf201cd7d17e17884",
    params=XXL.params,
    **GTR,
)
def gtr_t5_xxl(spec: ModelSpec) -> Embedder:
    return _t5(spec, XXL)


@register_model(hub_id="hkunlp/instructor-base", params=BASE.params, **INSTRUCTOR)
def instructor_base(spec: ModelSpec) -> Embedder:
    return _t5(spec, BASE)


@register_model(hub_id="hkunlp/instructor-large", params=LARGE.params, **INSTRUCTOR)
def instructor_large(spec: ModelSpec) -> Embedder:
    return _t5(spec, LARGE)


@register_model(hub_id="hkunlp/instructor-xl", params=XL.params, **INSTRUCTOR)
def instructor_xl(spec: ModelSpec) -> Embedder:
    return _t5(spec, XL)


def t5_tokenizer() -> Any:
    """A `tokenizers.Tokenizer` laid out as T5's: pieces that begin with a space as "▁", "</s>" after a text; letters are its words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    letters = [chr(code) for code in (*range(33, 127), *range(0xC0, 0x180))]
    blanks = [f"<extra_id_{number}>" for number in range(99, -1, -1)]  # what T5 filled in as it was pretrained
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in letters)]
    tokenizer = Tokenizer(models.Unigram([*pieces, *((blank, 0.0) for blank in blanks)], unk_id=2))
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>", *blanks])
    spaces = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), spaces])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


@register_model(**{**INSTRUCTOR, "languages": (), "dim": 24, "params": 27872, "max_tokens": 200})
def instructor_test(spec: ModelSpec) -> Embedder:
    tokenizer = t5_tokenizer()
    config = t5(layers=2, width=32, hidden=48, heads=4, head=8, vocab=tokenizer.get_vocab_size())
    return text_embedder(spec, config, Mean(), t5_head(32, 24), tokenizer=tokenizer, pool_prompt=False)


@register_model(**{**ST5, "languages": (), "dim": 24, "params": 27872, "max_tokens": 200})
def sentence_t5_test(spec: ModelSpec) -> Embedder:
    tokenizer = t5_tokenizer()
    config = t5(layers=2, width=32, hidden=48, heads=4, head=8, vocab=tokenizer.get_vocab_size())
    return text_embedder(spec, config, Mean(), t5_head(32, 24), tokenizer=tokenizer)
