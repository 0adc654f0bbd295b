"""Towers and `encode`: routes, prompts, streams, fusion."""
