"""PaliGemma and ModernVBERT: retrieval models alone are opened, by transformers' own classes for them."""

from zoo.encoders.sequence.backbones import Backbone
from zoo.encoders.sequence.backbones.qwen import RENAMED

RETRIEVAL = Backbone(
    retrieval={"colpali": "paligemma", "colmodernvbert": "modernvbert"},
    renamed=RENAMED,  # theirs have none of these names
)
