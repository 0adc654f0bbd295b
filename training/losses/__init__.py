"""Losses: plain modules over embeddings, which know tensors and never a model; one file each."""

from .base import Loss, build_loss, list_losses, register_loss

__all__ = ["Loss", "build_loss", "list_losses", "register_loss"]
