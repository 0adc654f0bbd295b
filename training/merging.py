"""Merging: one model out of several of one architecture, without training: soups, task vectors, SLERP, TIES."""

import copy
import hashlib
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.embedder import Embedder
from zoo.errors import ZooError
from zoo.formats import read_json
from zoo.formats.saved import CONFIG, MODEL_TYPE, WEIGHTS
from zoo.items import Item
from zoo.registry import load_model

from .modes import keeps_statistics

Model = Embedder | Path
Combine = Callable[[list[Tensor]], Tensor]
_NO_MATTER = {"_name_or_path", "transformers_version", "torch_dtype", "dtype"}  # of a backbone's configuration


class DifferentModelsError(ZooError, ValueError):
    """Models that cannot be merged: another architecture, vocabulary or shape; the message names the first difference."""


class Merged(NamedTuple):
    """A merged model, and how much of each model is in it.

    Attributes:
        model: can be used and saved like any other. weights: one a model. scale: of the way from the base.
        losses: of the probe batches along the search, where there was one.
    """

    model: Embedder
    weights: tuple[float, ...]
    scale: float = 1.0
    losses: tuple[float, ...] = ()


# ------------------------------------------------------------------------------------------------ the methods


def uniform(models: Sequence[Model], weights: Sequence[float] | None = None) -> Embedder:
    """The weighted mean of all weights (model soup, Wortsman et al., 2022).

    Args:
        models: embedders, or folders of `save_pretrained`, whose tensors are read one at a time.
        weights: one a model, brought to a sum of 1; by default all equal.

    Raises:
        DifferentModelsError: they do not share one architecture.
    """
    shares = _shares(weights, len(models))
    return merge_with(models, lambda parts: _sum(parts, shares))


def greedy(models: Sequence[Model], score: Callable[[Embedder], float]) -> Merged:
    """The greedy soup: best first, a model joins the mean where the score does not fall (Wortsman et al., 2022, alg. 1).

    Args:
        score: of a model, higher is better; on data that are not the test.
    """
    alone = [score(model if isinstance(model, Embedder) else load_model(model, device="cpu")) for model in models]
    order = sorted(range(len(models)), key=lambda place: -alone[place])
    chosen, best = order[:1], alone[order[0]]
    for place in order[1:]:
        new = score(uniform([models[i] for i in (*chosen, place)]))
        if new >= best:
            chosen, best = [*chosen, place], new
    weights = tuple(1 / len(chosen) if i in chosen else 0.0 for i in range(len(models)))
    return Merged(uniform([models[i] for i in chosen]), weights)


def task_arithmetic(
    base: Model, models: Sequence[Model], scale: float = 0.4, weights: Sequence[float] | None = None
) -> Embedder:
    """base + scale · Σ w_k (model_k - base) (Ilharco et al., 2023, who find 0.3 to 0.5 good for several tasks).

    Args:
        weights: of the task vectors, by default 1 each; a negative one unlearns.
    """
    factors = [scale * w for w in (weights or [1.0] * len(models))]
    _check_count(factors, models)
    return merge_with([base, *models], lambda parts: _sum(parts, [1 - sum(factors), *factors]))


def slerp(first: Model, second: Model, share: float = 0.5) -> Embedder:
    """Each tensor on the arc between two (Shoemake, 1985): its direction turns evenly, its length changes linearly.

    Args:
        share: 0 is the first model, 1 the second.
    """
    return merge_with([first, second], lambda parts: slerp_tensors(*parts, share))


def ties(base: Model, models: Sequence[Model], density: float = 0.2, scale: float = 1.0) -> Embedder:
    """TIES (Yadav et al., 2023): trim task vectors, agree on a sign, average what agrees.

    Args:
        density: share of every tensor's changes that is kept, the largest. scale: of the merged task vector.
    """
    if not 0 < density <= 1:
        raise ValueError(f"density must be above 0 and at most 1, not {density}")

    def combine(parts: list[Tensor]) -> Tensor:
        vectors = torch.stack([_trimmed(part - parts[0], density) for part in parts[1:]])
        elected = vectors.sum(0).sign()
        agreeing = (vectors.sign() == elected) & (vectors != 0)
        return parts[0] + scale * vectors.where(agreeing, 0.0).sum(0) / agreeing.sum(0).clamp(min=1)

    return merge_with([base, *models], combine)


def slerp_tensors(a: Tensor, b: Tensor, share: float) -> Tensor:
    """A tensor between two of one shape; where they are (anti)parallel, linearly."""
    lengths = a.norm(), b.norm()
    if min(lengths) == 0:
        return torch.lerp(a, b, share)
    cosine = (a.flatten() @ b.flatten() / (lengths[0] * lengths[1])).clamp(-1, 1)
    angle = torch.arccos(cosine)
    if torch.sin(angle) < 1e-6:
        return torch.lerp(a, b, share)
    direction = torch.sin((1 - share) * angle) * a / lengths[0] + torch.sin(share * angle) * b / lengths[1]
    return direction / torch.sin(angle) * torch.lerp(*lengths, share)


def _trimmed(vector: Tensor, density: float) -> Tensor:
    keep = max(1, round(density * vector.numel()))
    least = vector.abs().flatten().kthvalue(vector.numel() - keep + 1).values
    return vector.where(vector.abs() >= least, 0.0)


def _sum(parts: list[Tensor], factors: Sequence[float]) -> Tensor:
    total = parts[0] * factors[0]
    for part, factor in zip(parts[1:], factors[1:], strict=True):
        total += factor * part
    return total


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    if count == 0:
        raise DifferentModelsError("there is no model to merge")
    weights = [1.0] * count if weights is None else list(weights)
    _check_count(weights, range(count))
    if not sum(weights) > 0:
        raise ValueError(f"weights must have a sum above 0, not {sum(weights)}")
    return [weight / sum(weights) for weight in weights]


def _check_count(weights: Sequence[float], models: Sequence[Any]) -> None:
    if len(weights) != len(models):
        raise ValueError(f"{len(weights)} weights for {len(models)} models; give one each")


# ------------------------------------------------------------------------------------------------ tensor by tensor


def merge_with(models: Sequence[Model], combine: Combine) -> Embedder:
    """A copy of the first model with combined parameters; one tensor of each model is in memory at a time.

    Float buffers, such as the statistics of batch normalisation, are averaged; others are the first model's.
    """
    sources = tensors_of(models)
    first = models[0]
    merged = copy.deepcopy(first) if isinstance(first, Embedder) else load_model(first, device="cpu")
    parameters = {name for name, _ in merged.named_parameters(remove_duplicate=False)}
    with torch.no_grad():
        for name, target in merged.state_dict().items():
            if not target.is_floating_point():
                continue
            # Double, so that the mean of equal numbers is that number.
            parts = [source[name].detach().to("cpu", torch.float64) for source in sources]
            target.copy_(combine(parts) if name in parameters else _sum(parts, [1 / len(parts)] * len(parts)))
    norms = sum(map(keeps_statistics, merged.modules()))
    if norms and len(models) > 1:
        warnings.warn(
            f"the statistics of {norms} batch normalisations were averaged, which is not what the merged weights would "
            "give; refresh_batch_norm measures them anew",
            stacklevel=3,
        )
    return merged


@torch.no_grad()
def refresh_batch_norm(model: Embedder, items: Sequence[Item], batch_size: int = 64) -> Embedder:
    """Measures the statistics of batch normalisation anew on some items (as for SWA, Izmailov et al., 2018)."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
        norm.train()
    try:
        for tower in model.towers:
            mine = [item for item in items if model.route(item) is tower]
            # A batch of one has no variance to measure: it joins the one before.
            parts = [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]
            if len(parts) > 1 and len(parts[-1]) == 1:
                parts[-2:] = [parts[-2] + parts[-1]]
            for part in parts if any(module in norms for module in tower.modules()) else ():
                tower({k: tensor.to(model.device) for k, tensor in tower.encoder.prepare(part).items()})
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
    return model


class _Folder(Mapping[str, Tensor]):
    """The tensors of a folder of `save_pretrained`, read one at a time."""

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        self.file = safe_open(folder / WEIGHTS, framework="pt")
        self.names = list(self.file.keys())

    def __getitem__(self, name: str) -> Tensor:
        return self.file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def tensors_of(models: Sequence[Model]) -> list[Mapping[str, Tensor]]:
    """The tensors of each model by name; raises DifferentModelsError at the first difference between them."""
    opened = [m if isinstance(m, Embedder) or _is_ours(m) else load_model(m, device="cpu") for m in models]
    structures = [_structure(model) for model in opened]
    sources = [_Folder(m) if isinstance(m, Path) else m.state_dict() for m in opened]
    for place in range(1, len(models)):
        difference = _first_difference(structures[0], structures[place])
        difference = difference or _first_difference(_shapes(sources[0]), _shapes(sources[place]))
        if difference:
            names = [_name(model) for model in (models[0], models[place])]
            raise DifferentModelsError(
                f"model {place + 1} ({names[1]}) cannot be merged with model 1 ({names[0]}): {difference}; merge models "
                "that were trained from one base"
            )
    return sources


def _is_ours(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file() and read_json(folder / CONFIG).get("model_type") == MODEL_TYPE


def _name(model: Model) -> str:
    return model.spec.name if isinstance(model, Embedder) else str(model)


def _first_difference(left: dict[str, Any], right: dict[str, Any]) -> str:
    for part in dict.fromkeys([*left, *right]):
        if left.get(part) != right.get(part):
            shown = [str(side.get(part, "absent")) for side in (right, left)]
            words = (text if len(text) < 60 else text[:57] + "..." for text in shown)
            return f"its {part} is {' and not '.join(words)}"
    return ""


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {f"tensor {name}": tuple(tensor.shape) for name, tensor in sorted(tensors.items())}


def _structure(model: Model) -> dict[str, Any]:
    """What must be equal besides the tensors: the parts of every tower, their settings, and the vocabularies."""
    if isinstance(model, Path):
        config = read_json(model / CONFIG)
        towers, similarity = config["towers"], config["spec"].get("similarity", "cosine")
    else:
        towers = [
            {part: _describe(getattr(tower, part)) for part in ("encoder", "pooler", "head")} for tower in model.towers
        ]
        similarity = model.spec.similarity
    facts: dict[str, Any] = {"similarity": similarity, "number of towers": len(towers)}
    for place, tower in enumerate(towers):
        for part in ("encoder", "pooler", "head"):
            settings = dict(tower[part])
            facts[f"tower {place} {part}"] = settings.pop("kind").rpartition(":")[2]
            facts |= {f"tower {place} {part} {name}": value for name, value in _flat(settings)}
        if isinstance(model, Path):
            facts[f"tower {place} vocabulary"] = _vocabulary(model / tower["assets"]) if tower.get("assets") else ""
        else:
            with tempfile.TemporaryDirectory() as folder:
                model.towers[place].encoder.save_assets(Path(folder))
                facts[f"tower {place} vocabulary"] = _vocabulary(Path(folder))
    return facts


def _describe(part: nn.Module) -> dict[str, Any]:
    settings = part.config() if hasattr(part, "config") else {}
    return {"kind": type(part).__name__, **json.loads(json.dumps(settings))}


def _flat(settings: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        elif name not in _NO_MATTER:
            yield before + name, value


def _vocabulary(folder: Path) -> str:
    """A digest of what gives tokens their numbers; other settings of a tokenizer may differ."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return ""
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    return hashlib.sha256(json.dumps(model, sort_keys=True).encode()).hexdigest()[:12]
