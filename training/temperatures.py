"""Where the temperatures of a loss begin, and where the model's own ends.

One that somebody named begins there. Else it goes on where the stage before ended, and in the first stage at the
checkpoint's own, so that a run does not throw away what CLIP or SigLIP have learned; else at the loss's default.

A bias fits the scale beside it: of a checkpoint both are taken or none, and a loss that adds none leaves the model none.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from zoo.embedder import Embedder
from zoo.spec import LogitScale

from .losses.base import Loss, Temperature
from .losses.by_data import ByData


class Before(NamedTuple):
    """The stage before: its name, and its loss as it ended."""

    name: str
    loss: Loss


def begin(loss: Loss, model: Embedder, before: Before | None = None) -> str:
    """Sets the temperatures that nobody named, and says where each begins: "temperature 0.01, the checkpoint's own".

    Args:
        loss: changed in place. model: whose `logit_scale` is the checkpoint's own. before: the stage before this one.

    Returns:
        "" for a loss without a temperature.
    """
    if isinstance(loss, ByData):
        parts = [(loss.patterns[i], begin(loss.of(i), model, before)) for i in loss.in_use]
        return "; ".join(f"{pattern}: {said}" for pattern, said in parts if said)
    said = []
    for owner, temperature in temperatures(loss):
        where = "as named" if temperature.named else _begin(owner, temperature, model.logit_scale, before)
        bias = getattr(owner, "bias", None) if owner.of_model else None
        shown = f"temperature {temperature.scale.reciprocal().item():.3g}"
        shown += f" and bias {bias.item():.3g}" if bias is not None else ""
        said.append(f"{shown}, {where}{'' if temperature.learn else ', fixed'}")
    return "; ".join(dict.fromkeys(said))


def kept(loss: Loss, model: Embedder) -> LogitScale | None:
    """What the model's own temperature and bias are after it was trained with a loss; as they were where the loss has no
    temperature of that kind. A softmax adds no bias: an old one, learned with another scale, is not kept beside the new.
    """
    for owner, temperature in temperatures(loss):
        if owner.of_model:
            return LogitScale(temperature.log, owner.bias.item() if hasattr(owner, "bias") else None)
    return model.logit_scale


def temperatures(loss: Loss) -> Iterator[tuple[Loss, Temperature]]:
    """Every temperature in a loss that some data have, and the part of the loss that it belongs to."""
    for part in loss.used():
        for name, module in part.named_modules():
            if isinstance(module, Temperature):
                yield part.get_submodule(name.rpartition(".")[0]), module


def _begin(owner: Loss, temperature: Temperature, own: LogitScale | None, before: Before | None) -> str:
    """Sets one temperature that nobody named; returns where from."""
    if owner.of_model:
        with_bias = hasattr(owner, "bias")
        if own is None or (with_bias and own.bias is None):
            return "the loss's default"
        temperature.begin(own.log)
        if with_bias and not owner.bias_named:
            with torch.no_grad():
                owner.bias.fill_(own.bias)
        passed = before is not None and any(other.of_model for other, _ in temperatures(before.loss))
        return f"where the stage {before.name} ended" if passed else "the checkpoint's own"
    if before is not None and temperature.learn:
        for other, ended in temperatures(before.loss):
            if type(other) is type(owner) and ended is not temperature:
                temperature.begin(ended.log)
                return f"where the stage {before.name} ended"
    return "the loss's default"
