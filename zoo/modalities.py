"""Modalities: what may go in (standard library only)."""

from typing import Literal

Modality = Literal["text", "image", "video", "audio", "document", "regions"]
MODALITIES: tuple[Modality, ...] = ("text", "image", "video", "audio", "document", "regions")
