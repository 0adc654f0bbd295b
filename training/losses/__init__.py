"""Losses: plain modules over embeddings, which know tensors and never a model."""
