"""EmbeddingGemma 2: a bidirectional text encoder with a vision and an audio tower, each of which a checkpoint may leave out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.encoders.sequence.backbones import Backbone, filled
from zoo.sequences import EMBEDDING_GEMMA2, AudioLimits, ImageLimits, Limits, VideoLimits

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

_SECONDS = 30.0  # max_length of Gemma4AudioFeatureExtractor, 480,000 samples; no file says it


@dataclass(frozen=True)
class _EmbeddingGemma2(Backbone):
    def width(self, config: Any) -> int:
        """Of the states after the last projection, which the model has for each token."""
        return int(config.get_text_config().embedding_dim)

    def limits(self, processor: Any) -> Mapping[str, Limits]:
        """Frames a second and how many at most; seconds of audio that the feature extractor's default cuts at."""
        part = processor.video_processor
        for name, wanted in (("add_timestamps", False), ("overflow_strategy", "uniform"), ("do_sample_frames", True)):
            if getattr(part, name) != wanted:
                raise ValueError(f"video_processor.{name} is {getattr(part, name)!r}, where the zoo follows {wanted!r}")
        if not part.max_frames or not part.fps:
            raise ValueError(f"its video_processor takes {part.fps} frames a second and {part.max_frames} at most")
        return {
            "image": ImageLimits(),
            "video": VideoLimits(frames=int(part.max_frames), fps=float(part.fps), sampling="steps"),
            "audio": AudioLimits(seconds=_SECONDS),
        }

    def video_place(self, processor: Any, inputs: Mapping[str, Any]) -> str:
        """Frames one after the other, without their times."""
        place = processor.replace_video_token(dict(inputs), 0, videos_kwargs={}, load_audio_from_video=False)
        return str(place)

    def hear(self, processor: Any, samples: "np.ndarray") -> "tuple[dict[str, Tensor], str]":
        """Log-mel frames of 20 ms, one every 10 ms; four become a token."""
        part = processor.feature_extractor
        inputs = part(
            [samples], max_length=len(samples), return_tensors="pt"
        )  # its own length would cut what is longer
        mask = inputs["input_features_mask"].bool()
        if not processor.compute_sscp(mask[0]):
            raise ValueError(f"{len(samples)} samples are fewer than one token has")
        place = processor.replace_audio_token({"input_features_mask": mask}, 0)
        return {"input_features": inputs["input_features"], "input_features_mask": mask}, str(place)

    def heard(self, model: "nn.Module", inputs: "Mapping[str, Tensor]", tokens: Sequence[int]) -> "list[Tensor]":
        out = model.get_audio_features(**inputs, return_dict=True)  # type: ignore[operator]
        return [states[real] for states, real in zip(out.pooler_output, out.attention_mask.bool(), strict=True)]

    def arguments(self, model: "nn.Module", ids: "Tensor", features: dict[str, Any]) -> dict[str, Any]:
        """Embeddings, filled here: `forward` takes media themselves, and no features."""
        if not features:
            return {"input_ids": ids}
        config = model.config
        places = {kind: ids == getattr(config, f"{kind}_token_id") for kind in features}
        text = ids
        for place in places.values():
            # A placeholder's own embedding is never used: it is replaced below.
            text = text.masked_fill(place, config.text_config.pad_token_id)  # type: ignore[union-attr]
        embeds = model.get_input_embeddings()(text)  # type: ignore[operator]
        for kind, place in places.items():
            embeds = filled(embeds, place, features[kind].pooler_output)
        return {"inputs_embeds": embeds}


FAMILY = _EmbeddingGemma2(
    ("embedding_gemma2",),
    takes=("inputs_embeds",),
    hears="Gemma4AudioFeatureExtractor",
    towers={"vision_config": ("image", "video"), "audio_config": ("audio",)},
    sentence=EMBEDDING_GEMMA2,
    longest=8192,
    unfit={"float16": "its activations exceed that type's range, and vectors would be NaN or degraded"},
)
