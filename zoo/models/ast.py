"""AST, the Audio Spectrogram Transformer: everyday sounds in 527 classes of AudioSet (Gong et al., 2021, arxiv:2104.01778).

A vector is what its classifier sees; the classifier itself is left out.
"""

from typing import Any

from zoo.models.parts import AstAudio, Embedder, Identity, Mean, Tower
from zoo.registry import Facts, register_model
from zoo.spec import ModelSpec

AUDIO: Facts = {"modalities": {"audio"}, "demo": "omni"}
AST: Facts = {**AUDIO, "license": "apache-2.0", "paper": "arxiv:2104.01778"}


def ast_tower(spec: ModelSpec, features: dict[str, Any] | None = None, **config: Any) -> Embedder:
    """transformers' encoder with random weights."""
    return Embedder(spec, [Tower(AstAudio({"hidden_size": spec.dim, **config}, features or {}), Mean(), Identity())])


@register_model(
    dim=768,
    params=86_187_264,
    hub_id="MIT/ast-finetuned-audioset-10-10-0.4593",
    revision="f826b80d28226b62986cc218e5cec390b1096902",
    **AST,
)
def ast_audioset(spec: ModelSpec) -> Embedder:
    return ast_tower(spec)


@register_model(dim=32, params=23_744, **AST)
def ast_test(spec: ModelSpec) -> Embedder:
    small = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    shape = {"num_mel_bins": 32, "max_length": 64}
    return ast_tower(spec, shape, **shape, **small)
