"""Rerankers: what they score, their registry, saving and opening."""
