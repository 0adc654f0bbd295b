"""Turned positions that an NTK factor stretches for longer texts, in transformers' words (standard library only)."""

from typing import Any


def ntk_positions(theta: float, factor: float, columns: int) -> dict[str, Any]:
    """transformers' `rope_parameters` of fixed NTK positions: linear ones of a larger base.

    NTKScalingRotaryEmbedding (Alibaba-NLP/new-impl, modeling.py, by https://kexue.fm/archives/9706) turns pair i of a head's d
    columns, from one token to the next, by 1 / ((theta · factor) ** (2i/d) · factor ** (2/d)), whatever the length of the text.

    Args:
        theta: base of the positions, over 0. factor: up to 1 nothing is stretched. columns: d.
    """
    if factor <= 1:
        return {"rope_type": "default", "rope_theta": float(theta)}
    return {"rope_type": "linear", "rope_theta": float(theta * factor), "factor": float(factor ** (2 / columns))}
