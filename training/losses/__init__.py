"""Losses and their parts: plain modules over embeddings or a reranker's logits, which know tensors and never a model; one file each."""

from .base import Loss, list_losses, register_loss, register_loss_part
from .building import build_loss
from .parts import Block, Mask, Mixer, Weight, Wrapper
from .rerank import RerankLoss

__all__ = [
    "Block",
    "Loss",
    "Mask",
    "Mixer",
    "RerankLoss",
    "Weight",
    "Wrapper",
    "build_loss",
    "list_losses",
    "register_loss",
    "register_loss_part",
]
