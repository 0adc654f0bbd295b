"""PaliGemma and ModernVBERT: retrieval models alone are opened, by transformers' own classes for them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.encoders.sequence.backbones import Backbone
from zoo.encoders.sequence.backbones.qwen import RENAMED

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class _ModernVBert(Backbone):
    def arguments(self, model: "nn.Module", ids: "Tensor", features: dict[str, Any]) -> dict[str, Any]:
        """As Idefics 3 before it, it takes the features of images alone."""
        seen = {"image_hidden_states": features["image"].pooler_output} if features else {}
        return {"input_ids": ids, **seen}


# Their tensors have none of these old names.
PALIGEMMA = Backbone(retrieval={"colpali": "paligemma"}, renamed=RENAMED)
MODERNVBERT = _ModernVBert(retrieval={"colmodernvbert": "modernvbert"}, renamed=RENAMED)
