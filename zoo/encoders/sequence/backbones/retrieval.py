"""PaliGemma and ModernVBERT: retrieval models alone are opened, by transformers' own classes for them."""

from dataclasses import dataclass
from typing import Any

from zoo.encoders.sequence.backbones import Backbone
from zoo.encoders.sequence.backbones.qwen import RENAMED


@dataclass(frozen=True)
class _ModernVBert(Backbone):
    def arguments(self, features: dict[str, Any]) -> dict[str, Any]:
        """As Idefics 3 before it, it takes the features of images alone."""
        return {"image_hidden_states": features["image"].pooler_output}


# Their tensors have none of these old names.
PALIGEMMA = Backbone(retrieval={"colpali": "paligemma"}, renamed=RENAMED)
MODERNVBERT = _ModernVBert(retrieval={"colmodernvbert": "modernvbert"}, renamed=RENAMED)
