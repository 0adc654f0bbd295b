"""The parts of a reranker: its encoder around a backbone, as the rest of the zoo knows it, and random weights in its shape."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.reranking.spec import RerankerSpec
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.encoders.sequence import SequenceEncoder
    from zoo.reranking.reranker import Reranker


def of_backbone(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Of the facts of a backbone (`ON_QWEN3_VL["2b"]`) those that a reranker has too: it gives no vectors."""
    return {name: facts[name] for name in ("params", "base")}


def as_model(spec: RerankerSpec) -> ModelSpec:
    """The facts of what reads a reranker's sequences, for the layouts of checkpoints and for words on how it reads."""
    return ModelSpec(
        name=spec.name,
        modalities=spec.modalities,
        dim=1,
        license=spec.license,
        hub_id=spec.hub_id,
        max_tokens=spec.max_tokens,
        format=spec.judge.format,
        media=spec.judge.media,
    )


def encoder_of(
    spec: RerankerSpec, config: dict[str, Any], *, processor: Any = None, assets: Path | None = None
) -> "SequenceEncoder":
    """What reads a pair as one sequence, with random weights.

    Args:
        config: of the backbone. processor, assets: a transformers processor, or the folder of its files; with neither the
            encoder has its shape only.
    """
    from zoo.encoders.sequence import SequenceEncoder

    return SequenceEncoder(
        config, spec.judge.format, spec.judge.media, spec.max_tokens, assets=assets, processor=processor
    )


def wrapped(tokenizer: Any) -> Any:
    """transformers' tokenizer around one of `tokenizers`, as an encoder of sequences takes it; its first token fills."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=tokenizer.id_to_token(0))


def random_reranker(spec: RerankerSpec, config: dict[str, Any], processor: Any = None) -> "Reranker":
    """A reranker with random weights; without a processor it has its shape only."""
    import torch

    from zoo.reranking.judge import Judge

    encoder = encoder_of(spec, config, processor=processor)
    # Of the size of a difference of two tokens, so that scores are neither all 0.5 nor 0 and 1.
    return Judge(encoder, torch.randn(encoder.width) / encoder.width**0.5, spec)


def cross_encoder(spec: RerankerSpec, config: dict[str, Any], tokenizer: Any = None) -> "Reranker":
    """A cross-encoder with random weights; without a tokenizer it has its shape only.

    Args:
        config: of the backbone, `model_type` included.
    """
    from zoo.encoders.pair import PairText
    from zoo.reranking.cross_encoder import Classifier, CrossEncoder

    encoder = PairText(config, spec.max_tokens, tokenizer=tokenizer)
    return CrossEncoder(encoder, Classifier(encoder.backbone.config), spec)
