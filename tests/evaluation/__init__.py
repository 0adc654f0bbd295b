"""Metrics, packs, mteb."""
