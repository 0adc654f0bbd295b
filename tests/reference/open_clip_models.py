"""Checkpoints written by open_clip (open_clip_config.json, open_clip_model.safetensors), read back by `local-dir:`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.push_to_hf_hub import save_config_for_hf
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from tests.reference.base import Reference, stir
from tests.reference.photos import open_rgb
from tests.reference.vocab import unigram

CLIP: dict[str, Any] = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
CUSTOM_TEXT = {**CLIP, "custom_text": True, "quick_gelu": False, "text_cfg": {**CLIP["text_cfg"], "context_length": 20}}
SIGLIP = {
    "embed_dim": 96,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 160,
        "timm_model_name": "test_vit3",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    },
    "text_cfg": {
        "context_length": 32,
        "vocab_size": 400,
        "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": 32,
        "heads": 2,
        "layers": 2,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
        "act_kwargs": {"approximate": "tanh"},
    },
}
MOBILECLIP = {
    "embed_dim": 24,
    "vision_cfg": {
        "image_size": 96,
        "timm_model_name": "fastvit_t8",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": None,
        "timm_drop": 0.0,
        "timm_drop_path": 0.0,
    },
    "text_cfg": {**CLIP["text_cfg"], "no_causal_mask": True},
    "custom_text": True,
}
COCA = {
    "embed_dim": 24,
    "vision_cfg": {
        **CLIP["vision_cfg"],
        "attentional_pool": True,
        "attn_pooler_heads": 2,
        "output_tokens": True,
    },
    "text_cfg": {**CLIP["text_cfg"], "context_length": 76, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {
        "context_length": 76,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 1,
        "attn_pooler_heads": 2,
    },
    "custom_text": True,
}
SIGLIP_PIXELS = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
MOBILECLIP_PIXELS = {"mean": [0.0] * 3, "std": [1.0] * 3, "interpolation": "bilinear", "resize_mode": "shortest"}
LONGEST_PIXELS = {"interpolation": "bilinear", "resize_mode": "longest", "fill_color": 128}


def _build(cfg: dict[str, Any]) -> nn.Module:
    cfg = json.loads(json.dumps(cfg))  # the constructors change what they are given
    if "multimodal_cfg" in cfg:
        cfg.pop("custom_text")
        return open_clip.CoCa(**cfg)
    if cfg.pop("custom_text", False):
        return open_clip.CustomTextCLIP(**cfg)
    return open_clip.CLIP(**cfg)


def _write(folder: Path, cfg: dict[str, Any], pixels: dict[str, Any] | None = None) -> Reference:
    model = stir(_build(cfg))
    preprocess = {**open_clip.transform.PreprocessCfg().__dict__, **(pixels or {})}
    preprocess["size"] = model.visual.image_size
    open_clip.set_model_preprocess_cfg(model, preprocess)
    save_config_for_hf(model, folder / "open_clip_config.json", model_config=cfg)
    if "fill_color" in preprocess and pixels and "fill_color" in pixels:
        written = json.loads((folder / "open_clip_config.json").read_text())
        written["preprocess_cfg"]["fill_color"] = preprocess["fill_color"]
        (folder / "open_clip_config.json").write_text(json.dumps(written, indent=2))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return open_clip_reference(folder)


def open_clip_reference(folder: Path) -> Reference:
    """open_clip's own reading of a checkpoint folder."""
    name = f"local-dir:{folder}"
    model, _, transform = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name)
    model.eval()
    normalize = transform.transforms[-1]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (normalize.mean, normalize.std))

    def pixels(paths: Sequence[Path]) -> Tensor:
        return torch.stack([(transform(open_rgb(path)) * std + mean) * 255 for path in paths])

    return Reference(
        folder,
        embed_texts=lambda texts: model.encode_text(tokenizer(list(texts))),
        embed_images=lambda paths: model.encode_image(torch.stack([transform(open_rgb(path)) for path in paths])),
        read_pixels=pixels,
        resize="pillow",
    )


def write_siglip(folder: Path) -> Reference:
    """A SigLIP: timm tower with attention pooling, squash resize, T5-like tokenizer beside the weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    core = Tokenizer(models.Unigram(unigram(["<pad>", "</s>", "<unk>"]), unk_id=2))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="</s>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    )
    tokenizer.save_pretrained(folder)
    return _write(folder, SIGLIP, SIGLIP_PIXELS)


WRITERS = {
    "open_clip-clip": lambda folder: _write(folder, CLIP),
    "open_clip-custom-text": lambda folder: _write(folder, CUSTOM_TEXT, LONGEST_PIXELS),
    "open_clip-siglip": write_siglip,
    "open_clip-mobileclip": lambda folder: _write(folder, MOBILECLIP, MOBILECLIP_PIXELS),
    "open_clip-coca": lambda folder: _write(folder, COCA),
}
