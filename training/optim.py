"""What learns, and how fast: patterns of parameters, freezing, the optimiser's groups, schedules."""

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import nn

from zoo.embedder import Embedder, Tower

from .errors import RecipeError

Schedule = Literal["cosine", "linear", "constant", "wsd"]
_FUSED = {"cpu", "cuda", "xpu", "mps"}
# Where a transformer or a convolutional network says which of its blocks a parameter is in.
_BLOCK = re.compile(r"\.(layers?|blocks?|resblocks|stages|h)\.(\d+)(?=\.)")
_PROJECTION = re.compile(r"(.*[._])?proj(ection)?")


# ------------------------------------------------------------------------------------------------------- patterns


def select(model: Embedder, pattern: str) -> list[str]:
    """Names of the parameters that a pattern means, in the model's order.

    A pattern is the name of a parameter, or of a module for all that is in it; `*` and `?` stand for any letters, `4-7`
    between dots for the numbers 4 to 7. A modality at its beginning means the tower that reads it: `text`,
    `image.head`, `text.*.layer.0-3`, `*.bias`. Adapters do not change the name of the weight that they adapt.

    Raises:
        RecipeError: nothing has this name.
    """
    wanted = re.compile(pattern_regex(model, pattern))
    names = [name for name, _ in model.named_parameters()]
    found = [name for name in names if wanted.fullmatch(name.replace(".base_layer.", "."))]
    if not found:
        known = [short_name(model, part) for part in (*_modules(model), *names)]
        near = difflib.get_close_matches(pattern, dict.fromkeys(known), 4, 0.5) or known[:6]
        raise RecipeError(
            f"{model.spec.name} has no parameter {pattern!r}; near names are {', '.join(near)}. A module's name means all "
            "that is in it, * stands for any letters"
        )
    return found


def short_name(model: Embedder, name: str) -> str:
    """`towers.0.head.project` as `image.head.project`: what `select` reads back."""
    root, _, rest = name.partition(".")
    position, _, rest = rest.partition(".")
    if root != "towers" or not position:
        return name
    reads = sorted(model.towers[int(position)].encoder.modalities)
    mine = [modality for modality in reads if _tower(model, modality) == int(position)]
    return ".".join(filter(None, (mine[0], rest))) if mine else name


def freeze(model: Embedder, patterns: Iterable[str]) -> None:
    """Stops the parameters that the patterns name (see `select`) from learning; the others stay as they are."""
    parameters = dict(model.named_parameters())
    for pattern in patterns:
        for name in select(model, pattern):
            parameters[name].requires_grad_(False)


def frozen_towers(model: Embedder) -> tuple[int, ...]:
    """Positions of the readers (towers, fusion) in which nothing learns: their embeddings never change."""
    return tuple(i for i, t in enumerate(model.routes) if not any(p.requires_grad for p in t.parameters()))


def _tower(model: Embedder, modality: str) -> int | None:
    return next((i for i, tower in enumerate(model.towers) if modality in tower.encoder.modalities), None)


def _modules(model: Embedder) -> list[str]:
    return [
        name for name, module in model.named_modules() if name.count(".") > 0 and any(True for _ in module.parameters())
    ]


def pattern_regex(model: Embedder, pattern: str) -> str:
    """The regular expression that a pattern of `select` stands for."""
    parts = pattern.split(".")
    if (position := _tower(model, parts[0])) is not None:
        parts[:1] = ["towers", str(position)]
    return r"\.".join(_part(part) for part in parts) + r"(\..*)?"


def _part(part: str) -> str:
    if numbers := re.fullmatch(r"(\d+)-(\d+)", part):
        first, last = int(numbers[1]), int(numbers[2])
        return f"({'|'.join(str(n) for n in range(first, last + 1))})" if first <= last else r"(?!)"
    return re.escape(part).replace(r"\*", ".*").replace(r"\?", ".")


# --------------------------------------------------------------------------------------------------------- groups


def parameter_groups(
    model: Embedder,
    loss: nn.Module | None,
    *,
    lr: float,
    weight_decay: float,
    rates: Mapping[str, float] | None = None,
    layer_decay: float = 1.0,
    temperature: float | None = 1.0,
) -> list[dict[str, Any]]:
    """Groups of an optimiser: parameters of one rate and one decay share a group, the order is always the same.

    Vectors and numbers (biases, norms, scales, the temperature) are not decayed.

    Args:
        loss: its own parameters learn too.
        rates: factors on lr by pattern (see `select`); where several name a parameter, the last one counts.
        layer_decay: factor on lr from a block to the one below it (ELECTRA, Clark et al., 2020, section 3.4): 1 for the
            top of each tower, `layer_decay ** n` for what lies n blocks under it, the embeddings lowest.
        temperature: factor on lr for the loss's parameters; None leaves them as they are.

    Returns:
        Dictionaries with `params`, `name`, `lr` and `weight_decay`.

    Raises:
        RecipeError: the model is frozen, or a pattern of `rates` names nothing.
    """
    factors = dict.fromkeys((name for name, _ in model.named_parameters()), 1.0)
    for pattern, factor in (rates or {}).items():
        if not factor > 0:
            raise ValueError(
                f"the rate of {pattern!r} must be above 0, not {factor}; to stop it from learning, freeze it"
            )
        factors.update(dict.fromkeys(select(model, pattern), factor))
    if layer_decay != 1.0:
        for position, tower in enumerate(model.towers):
            depth = depths(tower)
            top = max(depth.values(), default=0)
            for name, level in depth.items():
                if (whole := f"towers.{position}.{name}") in factors:  # not if another tower shares the parameter
                    # lr · decay^(top - level): the head at full rate, the embeddings slowest.
                    factors[whole] *= layer_decay ** (top - level)
    learning = [(name, p, factors[name]) for name, p in model.named_parameters() if p.requires_grad]
    if not learning:
        raise RecipeError(f"nothing of {model.spec.name} learns: all its parameters are frozen")
    if loss is not None and temperature is not None:
        learning += [(f"loss.{name}", p, temperature) for name, p in loss.named_parameters() if p.requires_grad]
    groups: dict[tuple[str, float, float], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter, factor in learning:
        key = ("loss" if name.startswith("loss.") else "", factor, weight_decay if parameter.ndim > 1 else 0.0)
        groups.setdefault(key, []).append((name, parameter))
    return [
        {
            "params": [parameter for _, parameter in members],
            "name": _title(model, [name for name, _ in members]) + ("" if decay or not weight_decay else ", vectors"),
            "lr": lr * factor,
            "weight_decay": decay,
        }
        for (_, factor, decay), members in groups.items()
    ]


def depths(tower: Tower) -> dict[str, int]:
    """How high each parameter of a tower lies: 0 for the embeddings, then block by block, the head highest.

    timm's backbones say it themselves (`group_matcher`); for the others the names do, as in BEiT (Bao et al., 2022).
    """
    names = [name for name, _ in tower.named_parameters()]
    for prefix, module in tower.named_modules():
        if hasattr(module, "group_matcher"):
            from timm.models import group_parameters

            levels = group_parameters(module, module.group_matcher(coarse=False), reverse=True)
            inside = {f"{prefix}.{name}": level for name, level in levels.items()}
            above = max(inside.values()) + 1
            return {name: inside.get(name, above) for name in names}
    where = {name: block_of(name) for name in names}
    stacks = {stack: i for i, stack in enumerate(dict.fromkeys(block[0] for block in where.values() if block))}
    blocks = sorted({block for block in where.values() if block}, key=lambda block: (stacks[block[0]], block[1:]))
    first = next((i for i, name in enumerate(names) if where[name]), len(names))

    def level(index: int, name: str) -> int:
        if where[name]:
            return 1 + blocks.index(where[name])
        early = index < first and not _PROJECTION.fullmatch(name)  # open_clip lists projections first
        low = name.startswith("encoder.") and (early or "embed" in name or "relative_attention" in name)
        return 0 if low else len(blocks) + 1

    return {name: level(i, name) for i, name in enumerate(names)}


def block_of(name: str) -> tuple[Any, ...] | None:
    """(stack, number, number in the stage, ...) of the block that a parameter of an encoder is in, None outside."""
    found = list(_BLOCK.finditer(name)) if name.startswith("encoder.") else []
    if not found:
        return None
    # T5's `block.3.layer.1` is the second part of one block.
    return (name[: found[0].start()], *(int(m[2]) for i, m in enumerate(found) if i == 0 or m[1] != "layer"))


def _title(model: Embedder, names: list[str]) -> str:
    """What the parameters have in common, tower by tower: `image.encoder.backbone + text`."""
    roots: dict[str, list[list[str]]] = {}
    for name in names:
        root = ".".join(name.split(".")[: 2 if name.startswith("towers.") else 1])
        roots.setdefault(root, []).append(name.split("."))
    return " + ".join(short_name(model, ".".join(_common(members))) for members in roots.values())


def _common(names: list[list[str]]) -> list[str]:
    first, last = min(names), max(names)
    end = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:end]


def describe(groups: Sequence[Mapping[str, Any]]) -> str:
    """A table of the groups: name, tensors, weights, rate and decay."""
    rows = [("group", "tensors", "weights", "lr", "decay")]
    for group in groups:
        weights = sum(p.numel() for p in group["params"])
        rows.append(
            (
                group["name"],
                str(len(group["params"])),
                f"{weights:,}",
                f"{group['lr']:.3g}",
                f"{group['weight_decay']:g}",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join(lines)


def adamw(
    groups: list[dict[str, Any]], *, betas: tuple[float, float] = (0.9, 0.98), eps: float = 1e-8
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter, 2019) in one fused kernel where the device has it; the second beta as in CLIP."""
    parameters = [p for group in groups for p in group["params"]]
    fused = all(p.device.type in _FUSED and p.is_floating_point() for p in parameters)
    return torch.optim.AdamW(groups, lr=groups[0]["lr"], betas=betas, eps=eps, fused=fused or None)


# ------------------------------------------------------------------------------------------------------ schedules


def schedule(kind: Schedule, step: int, steps: int, warmup: int = 0, *, decay: float = 0.1) -> float:
    """Factor on the learning rate at this step, 0 to 1.

    All kinds rise as `(step + 1) / warmup`, so that no step is wasted at 0 (transformers begins there, one step later).

    Args:
        kind: after the warm-up, "cosine" is half a wave over the *whole* run, `(1 + cos(pi * step / steps)) / 2`:
            transformers' begins when the warm-up ends and is a little higher, by at most 0.1 where a tenth of the run is
            warm-up. "linear" goes from 1 to 0 over the rest, as transformers'. "constant" stays. "wsd" stays too and
            falls at the end as `1 - sqrt(share of the fall that is done)` (Hägele et al., 2024; ModernBERT and Granite
            Embedding were trained so).
        step: 0 to steps - 1. decay: share of the run in which "wsd" falls.

    Raises:
        ValueError: no such kind.
    """
    rise = min(1.0, (step + 1) / max(1, warmup))
    if kind == "constant":
        return rise
    if kind == "cosine":
        return rise * 0.5 * (1 + math.cos(math.pi * step / steps))
    if kind == "linear":
        # 1 when the warm-up ends, 1 / (steps - warmup) at the last step: no step has a rate of 0.
        return rise if step < warmup else (steps - step) / (steps - warmup)
    if kind == "wsd":
        fall = max(1, round(decay * steps))
        return rise * (1 - math.sqrt(max(0, step - (steps - fall)) / fall))
    raise ValueError(f"no schedule is called {kind!r}; there are {', '.join(get_args(Schedule))}")
