"""Losses and their parts: plain modules over embeddings, which know tensors and never a model; one file each."""

from .base import Loss, list_losses, register_loss, register_loss_part
from .building import build_loss
from .parts import Block, Mask, Mixer, Weight, Wrapper

__all__ = [
    "Block",
    "Loss",
    "Mask",
    "Mixer",
    "Weight",
    "Wrapper",
    "build_loss",
    "list_losses",
    "register_loss",
    "register_loss_part",
]
