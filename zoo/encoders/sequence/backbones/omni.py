"""Qwen2.5-Omni's thinker: Qwen2.5-VL that hears, without the layers that speak."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.encoders.sequence.backbones import Backbone, filled
from zoo.encoders.sequence.backbones.qwen import RENAMED

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

FPS = 2.0  # what the processor takes a video's frames a second to be, since no checkpoint's files say it


@dataclass(frozen=True)
class _Thinker(Backbone):
    def video_times(self, processor: Any, total: int, fps: float, frames: int) -> dict[str, float]:
        """Seconds from one patch of frames to the next: as the processor counts, whatever the video's own rate."""
        return {"second_per_grid_ts": processor.temporal_patch_size / FPS}

    def video_place(self, processor: Any, inputs: Mapping[str, Any]) -> str:
        """Frames alone, without the audio track."""
        return str(processor.replace_video_token(dict(inputs), 0, load_audio_from_video=False))

    def hear(self, processor: Any, samples: "np.ndarray") -> "tuple[dict[str, Tensor], str]":
        """Log-mel frames every 10 ms; four become a token.

        The processor fills every audio with silence up to 300 s and masks it; here up to a whole frame beyond the window of the
        last one, which gives the same frames at a fraction of the time.
        """
        part = processor.feature_extractor
        filled_to = -(-(len(samples) + part.n_fft) // part.hop_length) * part.hop_length
        inputs = part(
            samples,
            sampling_rate=part.sampling_rate,
            padding="max_length",
            max_length=filled_to,
            return_attention_mask=True,
            return_tensors="pt",
        )
        real = inputs["attention_mask"][0].bool()
        frames = int(real.sum())
        # A convolution of stride 2 and a pooling of 2 over the frames, as the audio layers have them:
        # 100 frames are 25 tokens.
        tokens = ((frames - 1) // 2 + 1 - 2) // 2 + 1
        if tokens < 1:
            raise ValueError(f"{len(samples)} samples are fewer than one token has")
        features = {
            "input_features": inputs["input_features"][..., real],  # (1, mels, frames)
            "feature_attention_mask": inputs["attention_mask"][:, real],
        }
        return features, str(processor.replace_audio_token({"num_audio_tokens": [tokens]}, 0))

    def heard(self, model: "nn.Module", inputs: "Mapping[str, Tensor]", tokens: Sequence[int]) -> "list[Tensor]":
        out = model.get_audio_features(**inputs, return_dict=True)  # type: ignore[operator]
        return list(out.pooler_output.split(list(tokens)))

    def arguments(self, model: "nn.Module", ids: "Tensor", features: dict[str, Any]) -> dict[str, Any]:
        """Audio goes into the embeddings here: `forward` takes its mel frames, and features of images and videos alone."""
        if "audio" not in features:
            return super().arguments(model, ids, features)
        others = {kind: out for kind, out in features.items() if kind != "audio"}
        embeds = model.get_input_embeddings()(ids)  # type: ignore[operator]
        embeds = filled(embeds, ids == model.config.audio_token_id, features["audio"].pooler_output)
        return {**super().arguments(model, ids, others), "inputs_embeds": embeds}

    def positions(
        self, model: "nn.Module", ids: "Tensor", types: "Tensor", mask: "Tensor", media: "Mapping[str, Tensor]"
    ) -> "Tensor":
        """Audio counts like text, one position per token; the library wants its mel frames where images or videos are there too."""
        times = media.get("second_per_grid_ts")
        grids = {name: grid for name, grid in media.items() if name.endswith("grid_thw")}
        if not grids:
            counted = (mask.cumsum(1) - 1).clamp(min=0)
            return counted.expand(3, *counted.shape).clone()
        frames = media.get("audio_seqlens")
        return model.get_rope_index(  # type: ignore[operator]
            ids, **grids, attention_mask=mask, audio_seqlens=frames, second_per_grids=times
        )[0]


OMNI_THINKER = _Thinker(
    ("qwen2_5_omni_thinker",),
    # Its class of its authors' own (modeling_omni_embed_nemotron) is the thinker's, but for the attention of its text layers.
    converted={"nvomniembed": {"model_type": "qwen2_5_omni_thinker"}},
    renamed={**RENAMED, r"^audio_tower\.": "model.audio_tower."},
    hears="WhisperFeatureExtractor",
    processor="Qwen2_5OmniProcessor",
)
