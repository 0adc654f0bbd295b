"""Merging: one model out of several of one architecture, without training: soups, task vectors, SLERP, TIES."""

import copy
import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo import regions
from zoo.callers import warn
from zoo.embedder import Embedder
from zoo.encoders.int8 import need_float
from zoo.errors import NotOfferedError
from zoo.formats import read_json, read_object
from zoo.formats.checks.config_schema import scale_of
from zoo.formats.checks.inside import check_inside
from zoo.formats.checks.safetensors_checks import read_header
from zoo.formats.quantized import KEY as QUANTIZED
from zoo.formats.zoo_native import CONFIG, MODEL_TYPE, WEIGHTS, read_config
from zoo.fusion import is_default
from zoo.inputs.item import Item
from zoo.loading import load_model
from zoo.spec import LogitScale

from .errors import DifferentModelsError
from .modes import keeps_statistics

Model = Embedder | Path
Combine = Callable[[list[Tensor]], Tensor]
_NO_MATTER = {"_name_or_path", "transformers_version", "torch_dtype", "dtype"}  # of a backbone's configuration


# Of an encoder's settings those that say how an input is read, and not what is computed from it.
_READING = {"transform", "processor", "patches", "max_tokens", "lower", "padding_side", "pad_id", "special_tokens"}
_READING |= {"reading", "pool_prompt"}
_SCALE = ("log", "bias")
_SHOWN = 6


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


def uniform(models: Sequence[Model], weights: Sequence[float] | None = None, *, keep: int | None = None) -> Embedder:
    """The weighted mean of all weights (model soup, Wortsman et al., 2022).

    Args:
        models: embedders, or folders of `save_pretrained`, whose tensors are read one at a time.
        weights: one a model, from 0, brought to a sum of 1; by default all equal.
        keep: place of the model whose prompts, poolers and preprocessing the merged one has, where they differ.

    Raises:
        DifferentModelsError: they do not share one architecture, or differ in what `keep` chooses.
    """
    shares = _shares(weights, len(models))
    return merge_with(models, lambda parts: _sum(parts, shares), like=kept(models, keep))


def greedy(models: Sequence[Model], score: Callable[[Embedder], float], *, keep: int | None = None) -> Merged:
    """The greedy soup: best first, a model joins the mean where the score does not fall (Wortsman et al., 2022, alg. 1).

    Args:
        score: of a model, higher is better; on data that are not the test. keep: as of `uniform`.
    """
    like = kept(models, keep)
    tensors_of(models, like=like)  # before the first is scored

    def mean(places: Sequence[int]) -> Embedder:
        shares = _shares(None, len(places))
        return merge_with([models[i] for i in places], lambda parts: _sum(parts, shares), like=like)

    alone = [score(model if isinstance(model, Embedder) else load_model(model, device="cpu")) for model in models]
    order = sorted(range(len(models)), key=lambda place: -alone[place])
    chosen, best = order[:1], alone[order[0]]
    for place in order[1:]:
        new = score(mean((*chosen, place)))
        if new >= best:
            chosen, best = [*chosen, place], new
    weights = tuple(1 / len(chosen) if i in chosen else 0.0 for i in range(len(models)))
    return Merged(mean(chosen), weights)


def task_arithmetic(
    base: Model,
    models: Sequence[Model],
    scale: float = 0.4,
    weights: Sequence[float] | None = None,
    *,
    keep: int | None = None,
) -> Embedder:
    """base + scale · Σ w_k (model_k - base) (Ilharco et al., 2023, who find 0.3 to 0.5 good for several tasks).

    Args:
        weights: of the task vectors, by default 1 each; a negative one unlearns. keep: as of `uniform`; how the base reads
            its inputs does not matter.
    """
    factors = [scale * w for w in ([1.0] * len(models) if weights is None else weights)]
    _check_count(factors, models)
    # base + Σ f_k (model_k - base) = (1 - Σ f_k) · base + Σ f_k · model_k: one weighted sum, no
    # copy of the task vectors.
    whole = [1 - sum(factors), *factors]
    return merge_with(models, lambda parts: _sum(parts, whole), base=base, like=kept(models, keep))


def slerp(first: Model, second: Model, share: float = 0.5, *, keep: int | None = None) -> Embedder:
    """Each tensor on the arc between two (Shoemake, 1985): its direction turns evenly, its length changes linearly.

    Args:
        share: 0 is the first model, 1 the second. keep: as of `uniform`.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0, the first model, to 1, the second, not {share}")
    models = [first, second]
    return merge_with(models, lambda parts: slerp_tensors(*parts, share), like=kept(models, keep))


def ties(
    base: Model, models: Sequence[Model], density: float = 0.2, scale: float = 1.0, *, keep: int | None = None
) -> Embedder:
    """TIES (Yadav et al., 2023): trim task vectors, agree on a sign, average what agrees.

    Args:
        density: share of every tensor's changes that is kept, the largest. scale: of the merged task vector.
        keep: as of `task_arithmetic`.
    """
    if not 0 < density <= 1:
        raise ValueError(f"density must be above 0 and at most 1, not {density}")

    def combine(parts: list[Tensor]) -> Tensor:
        # TIES (Yadav et al., 2023): trim, elect a sign by the larger total mass, mean over those that agree with it.
        vectors = torch.stack([_trimmed(part - parts[0], density) for part in parts[1:]])
        elected = vectors.sum(0).sign()
        agreeing = (vectors.sign() == elected) & (vectors != 0)
        # The mean is over those that agree alone: counting the trimmed zeros would shrink what few models learned.
        return parts[0] + scale * vectors.where(agreeing, 0.0).sum(0) / agreeing.sum(0).clamp(min=1)

    return merge_with(models, combine, base=base, like=kept(models, keep))


def slerp_tensors(a: Tensor, b: Tensor, share: float) -> Tensor:
    """A tensor between two of one shape; where they are (anti)parallel, linearly."""
    lengths = a.norm(), b.norm()
    if min(lengths) == 0:
        return torch.lerp(a, b, share)
    cosine = (a.flatten() @ b.flatten() / (lengths[0] * lengths[1])).clamp(-1, 1)
    angle = torch.arccos(cosine)
    # sin(angle) divides: near 0 the arc is a line, and opposite tensors have no arc that is theirs alone.
    if torch.sin(angle) < 1e-6:
        return torch.lerp(a, b, share)
    # slerp(a, b; s) = (sin((1 - s)Ω) â + sin(sΩ) b̂) / sin Ω of the directions; the lengths go linearly.
    direction = torch.sin((1 - share) * angle) * a / lengths[0] + torch.sin(share * angle) * b / lengths[1]
    return direction / torch.sin(angle) * torch.lerp(*lengths, share)


def _trimmed(vector: Tensor, density: float) -> Tensor:
    keep = max(1, round(density * vector.numel()))
    # kthvalue counts from the smallest: the keep-th largest is number n - keep + 1. Equals at the border all stay.
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
    if not 0 < sum(weights) < math.inf:
        raise ValueError(f"weights must have a sum above 0, not {sum(weights)}")
    if min(weights) < 0:
        raise ValueError(
            f"weights of a mean must not be negative, such as {min(weights)}; task_arithmetic takes what a model has learned "
            "away from its base"
        )
    return [weight / sum(weights) for weight in weights]


def kept(models: Sequence[Model], keep: int | None) -> Model | None:
    """The model whose way of reading its inputs is kept; None where all must agree."""
    if keep is not None and not 0 <= keep < len(models):
        raise ValueError(f"keep is the place of one of the {len(models)} models, from 0, not {keep}")
    return None if keep is None else models[keep]


def _check_count(weights: Sequence[float], models: Sequence[Any]) -> None:
    if len(weights) != len(models):
        raise ValueError(f"{len(weights)} weights for {len(models)} models; give one each")


# ------------------------------------------------------------------------------------------------ tensor by tensor


def merge_with(
    models: Sequence[Model], combine: Combine, *, base: Model | None = None, like: Model | None = None
) -> Embedder:
    """A model like the first one with combined parameters; one tensor of each model is in memory at a time.

    Float buffers, such as the statistics of batch normalisation, are averaged; others are the first model's. The temperature
    is one more parameter; where a model states none, that of the first is kept. Weights are in the first one's type, which is
    float32 where a folder was loaded. A warning says where this is not what every model has.

    Args:
        combine: a tensor of each model → the merged one; the base's comes first.
        base: what they were trained from. Of it only the weights count.
        like: the model whose prompts, poolers and preprocessing are kept; None where all must agree.
    """
    sources, given = _sources(models, base=base, like=like), [*([base] if base is not None else []), *models]
    first = models[0] if like is None else like
    merged = copy.deepcopy(first) if isinstance(first, Embedder) else load_model(first, device="cpu")
    parameters = {name for name, _ in merged.named_parameters(remove_duplicate=False)}
    offset, others = len(given) - len(models), {}
    with torch.no_grad():
        for name, target in merged.state_dict().items():
            if not target.is_floating_point():
                target.copy_(sources[0].tensors[name])
                continue
            parts = [source.tensors[name].detach() for source in sources]
            for place, part in enumerate(parts[offset:], start=offset):
                if part.dtype != target.dtype:
                    others.setdefault(_title(given, place, offset), f"{_kind(part)}, not {_kind(target)}")
            # Double, so that the mean of equal numbers is that number.
            parts = [part.to("cpu", torch.float64) for part in parts]
            target.copy_(combine(parts) if name in parameters else _sum(parts, [1 / len(parts)] * len(parts)))
    names = [_title(given, place, offset) for place in range(len(given))]
    merged.logit_scale, told = merged_scale([source.scale for source in sources], combine, names, merged)
    if others:
        told += [f"stored in another type than the merged model: {'; '.join(f'{n}, {k}' for n, k in others.items())}"]
    for line in told:
        warn(line)
    norms = sum(map(keeps_statistics, merged.modules()))
    if norms and len(sources) > 1:
        warn(
            f"the statistics of {norms} batch normalisations were averaged, which is not what the merged weights would "
            "give; refresh_batch_norm measures them anew"
        )
    return merged


def merged_scale(
    scales: Sequence[LogitScale | None], combine: Combine, names: Sequence[str], like: Embedder
) -> tuple[LogitScale | None, list[str]]:
    """The temperature of several models as one more parameter, or that of `like` where not each of them has one; its bias,
    None where not each has one; and what is to be said of it.

    Args:
        combine: as of `merge_with`. names: of the models, for what is said. like: the model that the merged one is like.
    """
    if not any(scales):
        return None, []
    if None in scales:
        own, lacking = like.logit_scale, [name for name, scale in zip(names, scales, strict=True) if scale is None]
        stays = f"{own.temperature:.3g}, that of {like.spec.name}, is kept" if own else "the merged model has none"
        return own, [f"no temperature is merged, for {', '.join(lacking)} states none: {stays}"]
    values = [
        [torch.tensor(float(getattr(scale, part) or 0), dtype=torch.float64) for scale in scales] for part in _SCALE
    ]
    log, bias = (float(combine([value.clone() for value in parts])) for parts in values)
    lacking = [name for name, scale in zip(names, scales, strict=True) if scale.bias is None]
    if not lacking:
        return LogitScale(log, bias), []
    left = f"the merged model has no bias beside its temperature, as {', '.join(lacking)} has none"
    return LogitScale(log), [left] if len(lacking) < len(scales) else []


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


@torch.no_grad()
def refresh_batch_norm(model: Embedder, items: Sequence[Item], batch_size: int = 64) -> Embedder:
    """Measures the statistics of batch normalisation anew on some items (as for SWA, Izmailov et al., 2018)."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        # Weights were averaged, activations are not linear in them: their means and variances must be measured anew.
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


class _Source(NamedTuple):
    """A model's tensors by name, and its temperature."""

    tensors: Mapping[str, Tensor]
    scale: LogitScale | None


def tensors_of(
    models: Sequence[Model], *, base: Model | None = None, like: Model | None = None
) -> list[Mapping[str, Tensor]]:
    """The tensors of each model by name, the base's first.

    Args:
        base, like: as of `merge_with`.

    Raises:
        DifferentModelsError: they differ in what must be equal, or in how they read their inputs and `like` is not given.
    """
    return [source.tensors for source in _sources(models, base=base, like=like)]


def _sources(models: Sequence[Model], *, base: Model | None = None, like: Model | None = None) -> list[_Source]:
    """As `tensors_of`, and the temperatures."""
    given = [*models] if base is None else [base, *models]
    opened = [m if isinstance(m, Embedder) or _is_ours(m) else load_model(m, device="cpu") for m in given]
    for model in opened:
        _check_float(model)
    facts = [_facts(model) for model in opened]
    sources = [
        _Source(_Folder(m), scale_of(read_json(m / CONFIG), str(m)))
        if isinstance(m, Path)
        else _Source(m.state_dict(), m.logit_scale)
        for m in opened
    ]
    offset = int(base is not None)
    choices = [choosable for _, choosable in facts[offset:]]
    for place in range(1, len(given)):
        difference = _first_difference(facts[0][0], facts[place][0])
        difference = difference or _first_difference(_shapes(sources[0].tensors), _shapes(sources[place].tensors))
        if difference:
            titles = [_title(given, i, offset) for i in (place, 0)]
            raise DifferentModelsError(
                f"{titles[0]} cannot be merged with {titles[1]}: {difference}; merge models that were trained from one base"
            )
    for place in range(1, len(models) if like is None else 0):
        if wrong := _differences(choices[0], choices[place]):
            more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
            titles = [_title(given, i + offset, offset) for i in (place, 0)]
            raise DifferentModelsError(
                f"{titles[0]} cannot be merged with {titles[1]}: {'; '.join(wrong[:_SHOWN])}{more}. Say whose to keep: --keep "
                f"{_name(models[0])} (keep=0) or --keep {_name(models[place])} (keep={place})"
            )
    return sources


def _check_float(model: Model) -> None:
    """Raises NotOfferedError where a model is int8."""
    if not isinstance(model, Path):
        need_float(model, "merging")
    elif QUANTIZED in read_json(model / CONFIG):
        raise NotOfferedError(
            f"{model} is int8, and merging needs weights in float32; merge the models that it was made of"
        )


def _title(given: Sequence[Model], place: int, offset: int) -> str:
    return f"the base ({_name(given[0])})" if place < offset else f"model {place - offset + 1} ({_name(given[place])})"


def _differences(left: dict[str, Any], right: dict[str, Any]) -> list[str]:
    """Each fact that is not equal, with the right value and the left one."""
    parts = dict.fromkeys([*left, *right])
    return [
        found for part in parts if (found := _first_difference(*({part: side.get(part)} for side in (left, right))))
    ]


def _is_ours(folder: Path) -> bool:
    """Whether it is a folder of `save_pretrained`, which is then held to what `load_model` holds it to."""
    if not ((folder / WEIGHTS).is_file() and (folder / CONFIG).is_file()):
        return False
    check_inside(folder / CONFIG, folder.resolve())
    if read_object(folder / CONFIG).get("model_type") != MODEL_TYPE:
        return False
    read_config(folder)
    read_header(folder / WEIGHTS)
    return True


def _name(model: Model) -> str:
    return model.spec.name if isinstance(model, Embedder) else str(model)


def _first_difference(left: dict[str, Any], right: dict[str, Any]) -> str:
    for part in dict.fromkeys([*left, *right]):
        if left.get(part) != right.get(part):
            shown = [_shown(side.get(part)) for side in (right, left)]
            words = (text if len(text) < 60 else text[:57] + "..." for text in shown)
            return f"its {part} is {' and not '.join(words)}"
    return ""


def _shown(value: Any) -> str:
    return (
        "absent"
        if value is None
        else repr(value)
        if isinstance(value, str) and not value.isidentifier()
        else str(value)
    )


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {f"tensor {name}": tuple(tensor.shape) for name, tensor in sorted(tensors.items())}


def _facts(model: Model) -> tuple[dict[str, Any], dict[str, Any]]:
    """What must be equal besides the tensors (the parts of every tower, their settings, the vocabularies), and how inputs
    are read, of which one may be chosen: prompts, poolers, preprocessing, the rules of fusion and of regions, Matryoshka cuts.
    """
    if isinstance(model, Path):
        config = read_json(model / CONFIG)
        towers, spec, rules = (
            config["towers"],
            config["spec"],
            {role: config.get(role) for role in ("fusion", "region")},
        )
    else:
        towers = [
            {part: _describe(getattr(tower, part)) for part in ("encoder", "pooler", "head")} for tower in model.towers
        ]
        fusion, region = model.fusion, model.region_rule
        rules = {
            "fusion": None if is_default(fusion) else _describe(fusion),
            "region": None if regions.is_default(region) else _describe(region),
        }
        spec = model.spec.to_dict()
    fixed: dict[str, Any] = {"similarity": spec.get("similarity", "cosine"), "number of towers": len(towers)}
    choosable: dict[str, Any] = {f"prompt {name}": text for name, text in spec.get("prompts", {}).items()}
    choosable |= {f"prompt of the role {role}": name for role, name in (spec.get("roles") or {}).items()}
    for role, rule in rules.items():
        if rule is not None:
            choosable |= {f"{role} {name}": value for name, value in rule.items() if name != "kind"}
            choosable[role] = rule["kind"].rpartition(":")[2]
    choosable |= {"default prompt": spec.get("default_prompt_name"), "dims": list(spec.get("dims") or ())}
    for place, tower in enumerate(towers):
        for part in ("encoder", "pooler", "head"):
            settings = dict(tower[part])
            mine = choosable if part == "pooler" else fixed
            mine[f"tower {place} {part}"] = settings.pop("kind").rpartition(":")[2]
            for name, value in _flat(settings):
                reads = part == "pooler" or name.partition(".")[0] in _READING
                (choosable if reads else fixed)[f"tower {place} {part} {name}"] = value
        if isinstance(model, Path):
            assets = (model / tower["assets"]) if tower.get("assets") else None
            vocabulary, reading = _assets(assets) if assets is not None else ("", {})
        else:
            with tempfile.TemporaryDirectory() as folder:
                model.towers[place].encoder.save_assets(Path(folder))
                vocabulary, reading = _assets(Path(folder))
        fixed[f"tower {place} vocabulary"] = vocabulary
        choosable |= {f"tower {place} {name}": value for name, value in reading.items()}
    return fixed, choosable


def _describe(part: nn.Module | regions.RegionRule) -> dict[str, Any]:
    settings = part.config() if hasattr(part, "config") else {}
    return {"kind": type(part).__name__, **json.loads(json.dumps(settings))}


def _flat(settings: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        elif name not in _NO_MATTER:
            yield before + name, value


def _assets(folder: Path) -> tuple[str, dict[str, Any]]:
    """A digest of what gives tokens their numbers, "" without a tokenizer, and what else the files say of reading an input."""
    facts: dict[str, Any] = {}
    if (path := folder / "preprocessor_config.json").is_file():
        facts = {f"processor {name}": value for name, value in _flat(read_json(path))}
    path = folder / "tokenizer.json"
    if not path.is_file():
        return "", facts
    whole = json.loads(path.read_text(encoding="utf-8"))
    for name in ("normalizer", "pre_tokenizer", "post_processor"):
        facts[f"tokenizer {name}"] = json.dumps(whole.get(name), sort_keys=True)
    return hashlib.sha256(json.dumps(whole["model"], sort_keys=True).encode()).hexdigest()[:12], facts
