"""Evaluation: metrics over similarities, and benchmarks over data packs."""
