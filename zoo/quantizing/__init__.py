"""Quantizing: models in int8, made of float32 ones by what real inputs give, and measured on others."""

from zoo.quantizing.making import left_float, quantize
from zoo.quantizing.measuring import Loss, loss_of

__all__ = ["Loss", "left_float", "loss_of", "quantize"]
