"""Tiny checkpoints of video encoders, written by transformers, and its own reading of them: frames chosen by hand, its processors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from tests.reference.base import stir
from tests.reference.vocab import clip_bpe, unigram

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
PRISM = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 2,
    "num_spatial_layers": 2,
    "num_temporal_layers": 1,
    "num_auxiliary_layers": 1,
    "num_frames": 4,
    "image_size": 36,
    "tubelet_size": [1, 12, 12],
}
JEPA = {
    "hidden_size": 48,
    "crop_size": 32,
    "frames_per_clip": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "mlp_ratio": 2.0,
    "num_pooler_layers": 1,
    "pred_hidden_size": 24,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 1,
}
MAE = {
    **SMALL,
    "image_size": 32,
    "num_frames": 4,
    "decoder_hidden_size": 24,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 24,
}


@dataclass
class Clips:
    """How transformers itself reads a folder.

    Attributes:
        frames: how many its tower reads; `short` shows the "last" again, or each in its place ("spread").
        embed: videos as lists of `frames` frames `(H, W, 3)` → `(B, dim)`; texts likewise, where it reads any.
    """

    folder: Path
    frames: int
    short: str
    embed: Callable[[list[list[np.ndarray]]], Tensor]
    texts: Callable[[Sequence[str]], Tensor] | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def videos(self, videos: Sequence[np.ndarray]) -> Tensor:
        """Vectors `(B, dim)` of unit length of videos `(frames, H, W, 3)`; one at a time, so that no batch is trusted."""
        with torch.inference_mode():
            rows = [self.embed([[video[i] for i in self.taken(len(video))]])[0] for video in videos]
        return torch.nn.functional.normalize(torch.stack(rows), dim=-1)

    def taken(self, total: int) -> list[int]:
        """The frames that the tower should see of a video of so many: written out, not taken from the zoo."""
        if total >= self.frames:
            return [(place * (total - 1)) // (self.frames - 1) for place in range(self.frames)]
        if self.short == "last":
            return [*range(total), *[total - 1] * (self.frames - total)]
        return [place * total // self.frames for place in range(self.frames)]

    def of_texts(self, texts: Sequence[str]) -> Tensor:
        with torch.inference_mode():
            rows = [self.texts([text])[0] for text in texts]
        return torch.nn.functional.normalize(torch.stack(rows), dim=-1)


def write_xclip(folder: Path) -> Clips:
    """As microsoft/xclip-base-patch32: VideoMAE's image processor, CLIP's tokenizer."""
    vocab, merges = clip_bpe()
    tokenizer = transformers.CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)
    vision = {**SMALL, "image_size": 32, "patch_size": 16, "num_frames": 4}
    vision |= {"mit_hidden_size": 24, "mit_intermediate_size": 48, "mit_num_attention_heads": 2}
    text = {**SMALL, "vocab_size": len(vocab), "max_position_embeddings": 77}
    config = transformers.XCLIPConfig(vision_config=vision, text_config=text, projection_dim=24)
    model = stir(transformers.XCLIPModel(config)).eval()
    model.save_pretrained(folder)
    images = transformers.VideoMAEImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    transformers.XCLIPProcessor(images, tokenizer).save_pretrained(folder)

    def texts(batch: Sequence[str]) -> Tensor:
        inputs = tokenizer(list(batch), padding=True, truncation=True, return_tensors="pt")
        return model.get_text_features(**inputs).pooler_output

    def embed(videos: list[list[np.ndarray]]) -> Tensor:
        return model.get_video_features(**images(videos, return_tensors="pt")).pooler_output

    return Clips(folder, 4, "spread", embed, texts, {"dim": 24, "image_size": 32, "max_tokens": 77})


def _prism_frames() -> Any:
    # As the authors' script of conversion has it; the number of frames is another than the tower's for two of the four.
    return transformers.LlavaOnevisionVideoProcessor(
        size={"height": 36, "width": 36}, do_normalize=False, do_sample_frames=True, num_frames=8
    )


def write_videoprism(folder: Path) -> Clips:
    """As google/videoprism-base-f16r288."""
    model = stir(transformers.VideoPrismVisionModel(transformers.VideoPrismVisionConfig(**PRISM))).eval()
    model.save_pretrained(folder)
    frames = _prism_frames()
    frames.save_pretrained(folder)

    def embed(videos: list[list[np.ndarray]]) -> Tensor:
        arrays = [np.stack(video) for video in videos]
        inputs = frames(videos=arrays, do_sample_frames=False, return_tensors="pt")
        return model(**inputs).last_hidden_state.mean(1)

    return Clips(folder, 4, "spread", embed, facts={"dim": 32, "image_size": 36, "max_tokens": None})


def write_videoprism_lvt(folder: Path) -> Clips:
    """As google/videoprism-lvt-base-f16r288: T5's pieces without an end; texts made plain by the authors' rule."""
    vocab = unigram(["<pad>", "</s>", "<unk>"])
    tokenizer = transformers.VideoPrismTokenizer(vocab=vocab, extra_ids=0, model_max_length=64)
    text = {**SMALL, "vocab_size": len(tokenizer), "max_position_embeddings": 64}
    config = transformers.VideoPrismConfig(vision_config=PRISM, text_config=text)
    model = stir(transformers.VideoPrismClipModel(config)).eval()
    model.save_pretrained(folder)
    frames = _prism_frames()
    transformers.VideoPrismProcessor(video_processor=frames, tokenizer=tokenizer).save_pretrained(folder)

    def texts(batch: Sequence[str]) -> Tensor:
        inputs = tokenizer(list(batch), padding="max_length", truncation=True, max_length=64, return_tensors="pt")
        return model.get_text_features(inputs.input_ids, inputs.attention_mask).pooler_output

    def embed(videos: list[list[np.ndarray]]) -> Tensor:
        arrays = [np.stack(video) for video in videos]
        inputs = frames(videos=arrays, do_sample_frames=False, return_tensors="pt")
        return model.get_video_features(**inputs).pooler_output.squeeze(1)

    return Clips(folder, 4, "spread", embed, texts, {"dim": 32, "image_size": 36, "max_tokens": 64})


def _write_jepa(folder: Path, cls: Any, pool: Callable[[Any, Tensor], Tensor]) -> Clips:
    model = stir(cls(transformers.VJEPA2Config(**JEPA))).eval()
    model.save_pretrained(folder)
    frames = transformers.VJEPA2VideoProcessor(crop_size=32)
    frames.save_pretrained(folder)

    def embed(videos: list[list[np.ndarray]]) -> Tensor:
        inputs = frames(videos=[np.stack(video) for video in videos], return_tensors="pt")
        base = getattr(model, "vjepa2", model)
        return pool(model, base(**inputs, skip_predictor=True).last_hidden_state)

    return Clips(folder, 8, "last", embed, facts={"dim": 48, "image_size": 32, "max_tokens": None})


def write_vjepa2(folder: Path) -> Clips:
    """As facebook/vjepa2-vitl-fpc64-256."""
    return _write_jepa(folder, transformers.VJEPA2Model, lambda model, states: states.mean(1))


def write_vjepa2_classifier(folder: Path) -> Clips:
    """As facebook/vjepa2-vitl-fpc16-256-ssv2: the attentive pooler."""
    return _write_jepa(folder, transformers.VJEPA2ForVideoClassification, lambda model, states: model.pooler(states))


def _write_mae(folder: Path, cls: Any, tuned: bool) -> Clips:
    model = stir(cls(transformers.VideoMAEConfig(**MAE, use_mean_pooling=tuned))).eval()
    model.save_pretrained(folder)
    frames = transformers.VideoMAEImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    frames.save_pretrained(folder)

    def embed(videos: list[list[np.ndarray]]) -> Tensor:
        mean = model.videomae(**frames(videos, return_tensors="pt")).last_hidden_state.mean(1)
        return model.fc_norm(mean) if tuned else mean

    return Clips(folder, 4, "last", embed, facts={"dim": 32, "image_size": 32, "max_tokens": None})


def write_videomae(folder: Path) -> Clips:
    """As MCG-NJU/videomae-base, with the decoder of its training in the file."""
    return _write_mae(folder, transformers.VideoMAEForPreTraining, tuned=False)


def write_videomae_tuned(folder: Path) -> Clips:
    """As MCG-NJU/videomae-base-finetuned-kinetics."""
    return _write_mae(folder, transformers.VideoMAEForVideoClassification, tuned=True)


WRITERS: dict[str, Callable[[Path], Clips]] = {
    "xclip": write_xclip,
    "videoprism": write_videoprism,
    "videoprism-lvt": write_videoprism_lvt,
    "vjepa2": write_vjepa2,
    "vjepa2-classifier": write_vjepa2_classifier,
    "videomae": write_videomae,
    "videomae-tuned": write_videomae_tuned,
}
