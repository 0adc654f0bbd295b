"""Samplers: which rows make the batch of a step, determined by the seed and the step alone, so that a resumed run agrees."""

from .base import BatchSampler, Rows, build_sampler, describe_samplers, register_sampler

__all__ = [
    "BatchSampler",
    "Rows",
    "build_sampler",
    "describe_samplers",
    "register_sampler",
]
