"""Checkpoints written by timm: config.json with its own architecture name, and model.safetensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import save_for_hf
from torch import Tensor

from tests.reference.base import Reference, stir
from tests.reference.photos import open_rgb


def timm_reference(folder: Path) -> Reference:
    """timm's own pooled features of a checkpoint folder, by its `local-dir:` scheme."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    settings = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**settings, is_training=False)
    mean, std = (torch.tensor(settings[key]).view(3, 1, 1) for key in ("mean", "std"))

    def read(paths: Sequence[Path]) -> Tensor:
        return torch.stack([transform(open_rgb(path)) for path in paths])

    return Reference(
        folder,
        embed_images=lambda paths: model(read(paths)),
        read_pixels=lambda paths: (read(paths) * std + mean) * 255,
        resize="pillow",
    )


def _write(
    folder: Path, arch: str, *, model_args: dict[str, Any] | None = None, num_classes: int = 10, **pretrained: Any
) -> Reference:
    model_args = model_args or {}
    model = timm.create_model(arch, num_classes=num_classes, **model_args)
    model.pretrained_cfg = {**model.pretrained_cfg, **pretrained}
    stir(model)
    save_for_hf(model, folder, model_args=model_args or None, safe_serialization=True)
    return timm_reference(folder)


def write_dinov2_like(folder: Path) -> Reference:
    """A ViT with four register tokens, no position for the class token, and images of 112 instead of 160."""
    shape = {"img_size": 112, "reg_tokens": 4, "no_embed_class": True, "class_token": True, "init_values": 1e-5}
    pixels = {"crop_pct": 1.0, "interpolation": "bicubic", "input_size": (3, 112, 112)}
    return _write(folder, "test_vit", model_args=shape, num_classes=0, **pixels)


WRITERS: dict[str, Callable[[Path], Reference]] = {
    "timm-vit": lambda folder: _write(folder, "test_vit"),
    "timm-vit-map": lambda folder: _write(folder, "test_vit3", num_classes=0),
    "timm-convnext": lambda folder: _write(folder, "test_convnext", crop_pct=0.875, interpolation="bilinear"),
    "timm-resnet": lambda folder: _write(folder, "test_resnet", crop_mode="squash", crop_pct=1.0),
    "timm-border": lambda folder: _write(folder, "test_efficientnet", crop_mode="border", crop_pct=0.9),
    "timm-wide": lambda folder: _write(folder, "test_resnet", input_size=(3, 96, 128), crop_pct=0.9),
    "timm-dinov2-like": write_dinov2_like,
}
