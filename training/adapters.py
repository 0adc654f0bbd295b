"""LoRA and DoRA: small trained matrices beside a frozen backbone, kept in peft's format, merged to publish."""

import importlib.util
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypedDict

from torch import Tensor, nn

from zoo.embedder import Embedder, Tower
from zoo.encoders.int8 import need_float
from zoo.errors import AdapterMismatchError, ZooError
from zoo.files import save_tensors
from zoo.formats.adapters import (
    CONFIG,
    NAME,
    PREFIX,
    WEIGHTS,
    add_adapter,
    exact,
    fill,
    inject,
    map_names,
    read_settings,
    read_tensors,
    unfit,
    unload,
)
from zoo.formats.adapters.files import MOST_RANK
from zoo.formats.tensors import read_safetensors
from zoo.strangers.folders import Place
from zoo.strangers.schema import Range, check, parse

from .errors import AdapterError
from .optim import block_of, pattern_regex, select

_NAMES = re.compile(r"(\w|\\[.-]|\|)*")  # and no expression that could take for ever; see `zoo.formats.adapters.exact`
ADAPTER, TRAINED = "zoo_adapter.json", "trained.safetensors"


@dataclass(frozen=True)
class Lora:
    """How a model is adapted (LoRA, Hu et al., 2021; DoRA, Liu et al., 2024).

    Attributes:
        rank: of the added matrices. alpha: their product is multiplied by alpha / rank.
        dropout: of what the added matrices read, where they sit beside a linear layer.
        targets: layers that are adapted: "auto" for all linear layers, attention layers and convolutions in the blocks of
            the backbones, or names and patterns: "q_proj", "text", "image.*.attn", "text.*.layer.8-11.*" (see
            `zoo.training.optim.select`).
        also: patterns of parameters that train in full, such as projections within a backbone.
        train_heads: the towers' poolers and heads train in full.
        dora: learn lengths and directions of the weights apart.
        init: first values of the matrix that reads: "uniform" (Kaiming, peft's default) or "gaussian" with a deviation of
            1 / rank (VLM2Vec's). The other matrix begins as zeros.

    Of torch's own attention layers (open_clip's towers) queries, keys and values are adapted, without dropout; the output
    projection is not, and DoRA cannot adapt them: "auto" then leaves them out. So it does with convolutions in groups
    (depthwise ones), dilated ones and those that do not pad with zeros, which peft cannot merge.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ("auto",)
    also: tuple[str, ...] = ()
    train_heads: bool = True
    dora: bool = False
    init: Literal["uniform", "gaussian"] = "uniform"

    def __post_init__(self) -> None:
        for name in ("targets", "also"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        if not 1 <= self.rank <= MOST_RANK or not 0 < self.alpha < math.inf or not 0 <= self.dropout < 1:
            raise ValueError(
                f"LoRA needs rank from 1 to {MOST_RANK:,}, alpha above 0 and dropout from 0 to below 1, not {self.rank}, "
                f"{self.alpha} and {self.dropout}"
            )
        if self.init not in ("uniform", "gaussian"):
            raise ValueError(f"LoRA's first values must be uniform or gaussian, not {self.init!r}")


# ------------------------------------------------------------------------------------------------------ adding them


def backbone_of(tower: Tower) -> nn.Module | None:
    """The network of another library inside a tower's encoder: what peft adapts. None for encoders without."""
    return getattr(tower.encoder, "backbone", None) or getattr(tower.encoder, "tower", None)


def add_lora(model: Embedder, lora: Lora) -> Embedder:
    """Freezes the model, puts adapters beside the layers that `lora` names and returns the model, changed in place.

    Heads, poolers and what `lora.also` names go on learning in full. A tower without a layer to adapt keeps only those.
    Adapters are float32 beside half-precision weights. The embeddings are the same until the first step.

    Raises:
        AdapterError: no layer has such a name, or it cannot be adapted.
        AdapterError: a layer is quantised in a way that cannot be trained.

    QLoRA (Dettmers et al., 2023): linear layers of bitsandbytes are left to peft, which adapts them where bitsandbytes
    is installed; other quantised layers have no gradient and are refused.
    """
    from peft import LoraConfig

    check_lora(model, lora)
    also = [name for pattern in lora.also for name in select(model, pattern)]
    targets = _targets(model, lora)
    parameters = dict(model.named_parameters())
    # All first, then what learns: a parameter that nobody names must not learn by accident.
    model.requires_grad_(False)
    for position, names in targets.items():
        backbone = backbone_of(model.towers[position])
        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=exact(backbone, names),
            use_dora=lora.dora,
            init_lora_weights="gaussian" if lora.init == "gaussian" else True,
            bias="none",
        )
        inject(backbone, config)
    for name in also:  # peft freezes all else in a backbone
        parameters[name].requires_grad_(True)
    if lora.train_heads:
        for tower in model.towers:
            for part in _beside_encoder(tower):
                getattr(tower, part).requires_grad_(True)
    return model


def check_lora(model: Embedder, lora: Lora) -> None:
    """Raises what `add_lora` would raise; the model stays as it is."""
    need_float(model, "an adapter")
    if is_adapted(model):
        raise AdapterError(f"{model.spec.name} has adapters already; merge_lora them, or train those")
    for pattern in lora.also:
        select(model, pattern)
    _targets(model, lora)


def adapted(model: Embedder, lora: Lora) -> list[str]:
    """Names of the parameters that adapters would stand beside, and of those that would train in full."""
    names = [name for pattern in lora.also for name in select(model, pattern)]
    layers = [f"{_whole(model, i, name)}." for i, found in _targets(model, lora).items() for name in found]
    heads = model.towers if lora.train_heads else ()
    parts = [f"towers.{i}.{part}." for i, tower in enumerate(heads) for part in _beside_encoder(tower)]
    return names + [name for name, _ in model.named_parameters() if name.startswith((*layers, *parts))]


def _beside_encoder(tower: nn.Module) -> list[str]:
    """Names of a tower's other parts: pooler and head, or a reranker's classifier."""
    return [name for name, _ in tower.named_children() if name != "encoder"]


def is_adapted(model: Embedder) -> bool:
    """Whether the model carries adapters."""
    return bool(_adapted(model))


def trainable(model: nn.Module) -> str:
    """How much of a model learns: "12,288 of 48,192 weights learn (25.5 %)"."""
    count = sum(p.numel() for p in model.parameters())
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return f"{learning:,} of {count:,} weights learn ({100 * learning / max(1, count):.3g} %)"


def _adapted(model: Embedder) -> dict[int, nn.Module]:
    """Backbones with adapters, by the position of their tower."""
    found = {i: backbone_of(tower) for i, tower in enumerate(model.towers)}
    return {i: backbone for i, backbone in found.items() if hasattr(backbone, "peft_config")}


def _targets(model: Embedder, lora: Lora) -> dict[int, list[str]]:
    """Names of the layers to adapt inside each backbone, by the position of its tower."""
    layers = {i: dict(_layers(model, i)) for i in range(len(model.towers))}
    found: dict[int, dict[str, None]] = {i: {} for i in layers}
    for target in lora.targets:
        wanted = re.compile(rf"(.*\.)?{pattern_regex(model, target)}")
        hit = False
        for i, (name, layer) in ((i, pair) for i, inside in layers.items() for pair in inside.items()):
            reason = unfit(layer, lora.dora)
            if target == "auto":
                mine = _in_block(name) and not reason
            else:
                mine = bool(wanted.fullmatch(_whole(model, i, name)))
            if mine and reason:
                raise AdapterError(f"{_whole(model, i, name)} is {reason}; name the other layers, or auto")
            if mine:
                hit, found[i][name] = True, None
        if not hit:
            pairs = [pair for inside in layers.values() for pair in inside.items()]
            last = sorted({name.rpartition(".")[2] for name, layer in pairs if not unfit(layer, lora.dora)})
            what = "layer in blocks" if target == "auto" else f"layer {target!r}"
            have = (
                f"those that can be are called {', '.join(last)}"
                if last
                else "its backbones have none; train it in full"
            )
            raise AdapterError(f"{model.spec.name} has no {what} to adapt: {have}")
    return {i: list(names) for i, names in found.items() if names}


def _in_block(name: str) -> bool:
    """Whether a layer is in a block of its backbone; torchvision's and timm's ResNets count them within `layer1` to 4."""
    return bool(block_of(f"encoder.{name}.weight") or re.search(r"(^|\.)layer\d+\.\d+\.", name))


def _layers(model: Embedder, position: int) -> Iterator[tuple[str, nn.Module]]:
    """Layers of a tower's backbone that can be adapted; the inner parts of torch's attention are not called, so no."""
    backbone = backbone_of(model.towers[position])
    inside = None
    for name, module in backbone.named_modules() if backbone is not None else ():
        if inside is not None and name.startswith(inside):
            continue
        if isinstance(module, nn.MultiheadAttention):
            inside = f"{name}."
            if module._qkv_same_embed_dim:
                yield name, module
        elif isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            _check_quantized(model.spec.name, name, module)
            yield name, module
        elif type(module).__module__.startswith("torch.ao.nn.quantized"):
            raise AdapterError(
                f"{model.spec.name}: {name} was quantised by torch.ao and lets no gradient through; load the model in full "
                "precision, or its layers through bitsandbytes"
            )


def _check_quantized(model: str, name: str, layer: nn.Module) -> None:
    if layer.weight.is_floating_point():
        return
    library = type(layer).__module__.partition(".")[0]
    if library != "bitsandbytes":
        raise AdapterError(f"{model}: {name} is a quantised {library} layer; only bitsandbytes' can be adapted")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise AdapterError(f"{model}: {name} is quantised; training beside it needs `pip install bitsandbytes`")


def _whole(model: Embedder, position: int, name: str) -> str:
    kind = "backbone" if hasattr(model.towers[position].encoder, "backbone") else "tower"
    return f"towers.{position}.encoder.{kind}.{name}"


# ---------------------------------------------------------------------------------------------------- saving them


def save_adapter(model: Embedder, folder: str | Path, base: str | None = None, revision: str | None = None) -> Path:
    """Writes the adapters as peft does (`adapter_config.json`, `adapter_model.safetensors`), one folder a backbone.

    A model with one adapted backbone fills `folder` itself, with several a folder inside each named after what its tower
    reads. `peft.PeftModel.from_pretrained(backbone, folder)` reads each. Parameters that train in full (heads, ...) lie
    beside them in `trained.safetensors`.

    Args:
        base, revision: the model that was adapted, for those who load the adapter; by default as the model's spec says.

    Raises:
        AdapterMismatchError: the model has no adapters.
    """
    from peft import get_peft_model_state_dict

    adapted = _adapted(model)
    if not adapted:
        raise AdapterMismatchError(f"{model.spec.name} has no adapters to save; add_lora comes first")
    folder = Path(folder)
    parts: dict[str, int] = {}
    for position in adapted:
        reads = "+".join(sorted(model.towers[position].encoder.modalities))
        parts["." if len(adapted) == 1 else f"{reads}-{position}" if reads in parts else reads] = position
    for part, position in parts.items():
        backbone = adapted[position]
        config = backbone.peft_config[NAME]
        config.base_model_name_or_path = base or model.spec.source or model.spec.hub_id or model.spec.name
        config.revision = revision or model.spec.revision
        # peft's own convention for a saved adapter: who loads it gets it frozen.
        config.inference_mode = True
        _make_way(folder, part, (CONFIG, WEIGHTS))
        config.save_pretrained(folder / part)
        config.inference_mode = False
        _sort_targets(folder / part / CONFIG)
        tensors = get_peft_model_state_dict(backbone, save_embedding_layers=False)
        tensors = {PREFIX + name: _whole_tensor(tensor) for name, tensor in tensors.items()}
        save_tensors(tensors, folder / part / WEIGHTS)
    full = {
        name.replace(".base_layer.", "."): _whole_tensor(p)
        for name, p in model.named_parameters()
        if p.requires_grad and "lora_" not in name
    }
    if full:
        _make_way(folder, ".", (TRAINED,))
        save_tensors(full, folder / TRAINED)
    facts = {"towers": parts, "trained": sorted(full)}
    (Place.of(folder) / ADAPTER).write((json.dumps(facts, indent=2) + "\n").encode())
    return folder


def _make_way(folder: Path, part: str, names: Sequence[str]) -> None:
    """A folder in which peft and safetensors write these files anew, into no link and no file of another name.

    Raises:
        UnsafeFolderError: a folder or a file there is a link, a FIFO or a device.
    """
    place = _place(folder, part)
    place.make()
    for name in names:
        if (place / name).is_file():
            (place / name).remove()


def _place(folder: Path, part: str) -> Place:
    """The folder of one backbone's adapter; raises UnsafeFolderError for a name that leads out."""
    return Place.of(folder) if part == "." else Place.of(folder) / part


class _Facts(TypedDict):
    """What zoo_adapter.json says: which folder is for which tower, and what was trained in full."""

    towers: Annotated[dict[str, Annotated[int, Range(0, 100)]], Range(1, 100)]
    trained: list[str]


def _facts(folder: Path) -> _Facts | None:
    """Of a folder of `save_adapter`, None of peft's own."""
    place = Place.of(folder) / ADAPTER
    if not place.is_file():
        return None
    facts = parse(place.read(), place, AdapterMismatchError)
    return check(facts, _Facts, place, AdapterMismatchError)


def _whole_tensor(tensor: Tensor) -> Tensor:
    whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # FSDP keeps a part in each process
    return whole.detach().cpu().contiguous()


def _sort_targets(path: Path) -> None:
    # peft keeps them in a set: the same adapter would give another file each time.
    config = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_adapter(model: Embedder, folder: str | Path, *, key_mapping: Mapping[str, str] | None = None) -> Embedder:
    """Puts saved adapters into a plain model, changed in place; all weights of the base are frozen.

    Reads `save_adapter`'s folders, and those of peft where only one tower of the model has a backbone.

    Args:
        key_mapping: regular expressions and what replaces them in the names of the adapter's tensors, for adapters of an
            older layout of the backbone: `{r"^model\\.layers": "model.language_model.layers"}` (Qwen2-VL before
            transformers 5).

    Raises:
        AdapterMismatchError: any tensor is missing, left over or of another shape (peft itself only warns, and goes on
            with an adapter that does nothing). The model is then as it was.
    """
    from peft import LoraConfig

    folder = Path(folder)
    need_float(model, "an adapter")
    if is_adapted(model):
        raise AdapterMismatchError(f"{model.spec.name} has adapters already; merge_lora them first")
    parts = _parts(model, folder)
    full = _trained(model, folder)
    done: list[nn.Module] = []
    model.requires_grad_(False)
    try:
        for part, backbone in parts.items():
            done.append(backbone)
            if _facts(folder) is None:  # of peft itself, and perhaps of older names than target_modules fits
                add_adapter(backbone, part, key_mapping=key_mapping or {})
                continue
            read_settings(part / CONFIG)  # what of its configuration the zoo does not follow is refused
            config = LoraConfig.from_pretrained(part)
            for names in (config.target_modules, config.exclude_modules):
                if isinstance(names, str) and not _NAMES.fullmatch(names):
                    raise AdapterMismatchError(
                        f"{part / CONFIG} names layers by an expression; `save_adapter` lists them"
                    )
            config.inference_mode = False  # peft saves it as True, and would freeze what it loads
            inject(backbone, config)
            tensors, where = read_tensors(part)
            names = map_names(tensors, key_mapping or {}, where)
            fill(backbone, {names[old]: tensor for old, tensor in tensors.items()}, where)
    except BaseException as error:
        for backbone in done:
            unload(backbone, merge=False)
        model.requires_grad_(True)
        if isinstance(error, ValueError | RuntimeError | KeyError) and not isinstance(error, ZooError):
            raise AdapterMismatchError(f"{folder} does not fit {model.spec.name}: {error}") from error
        raise
    parameters = {name.replace(".base_layer.", "."): p for name, p in model.named_parameters()}
    for name, tensor in full.items():
        parameters[name].data.copy_(tensor)
        parameters[name].requires_grad_(True)
    return model


def _trained(model: Embedder, folder: Path) -> dict[str, Tensor]:
    """Parameters that were trained in full, by their plain names."""
    facts = _facts(folder)
    full = read_safetensors(folder / TRAINED) if (Place.of(folder) / TRAINED).is_file() else {}
    own = dict(model.named_parameters())
    wrong = set(full) ^ set(full if facts is None else facts["trained"])
    wrong |= {name for name, tensor in full.items() if name not in own or own[name].shape != tensor.shape}
    if wrong:
        raise AdapterMismatchError(
            f"{folder / TRAINED} does not fit {model.spec.name}: {min(wrong)} is missing, unknown or of another shape"
        )
    return full


def _parts(model: Embedder, folder: Path) -> dict[Path, nn.Module]:
    """Folders of peft and the backbones that they are for."""
    facts = _facts(folder)
    if facts is not None:
        towers = facts["towers"]
    else:
        backbones = [i for i, tower in enumerate(model.towers) if backbone_of(tower) is not None]
        towers = {".": backbones[0]} if backbones else {}
        if len(backbones) != 1:
            raise AdapterMismatchError(
                f"{folder} does not say for which of the {len(backbones)} backbones of {model.spec.name} it is: {ADAPTER} is "
                "missing; load it with peft.PeftModel.from_pretrained(backbone_of(tower), folder)"
            )
    found = {}
    for part, position in towers.items():
        backbone = backbone_of(model.towers[position]) if position < len(model.towers) else None
        missing = [name for name in (CONFIG, WEIGHTS) if not (_place(folder, part) / name).is_file()]
        if backbone is None or missing:
            what = f"has no {missing[0]}" if missing else f"is for tower {position}, which {model.spec.name} has not"
            raise AdapterMismatchError(f"{folder / part} {what}")
        found[folder / part] = backbone
    return found


# --------------------------------------------------------------------------------------------------- merging them


def merge_lora(model: Embedder) -> Embedder:
    """Adds the adapters to the weights and takes them out: the model has its plain structure again, changed in place.

    The embeddings stay equal to about 1e-6 in float32; half-precision weights round the sum. Everything learns again, as
    in a model just built. A model without adapters stays as it is.

    Raises:
        AdapterError: the sum would be rounded to the few bits of a quantised weight.
    """
    for position, backbone in _adapted(model).items():
        for name, layer in backbone.named_modules():
            if isinstance(layer, nn.Linear) and not layer.weight.is_floating_point():
                raise AdapterError(
                    f"{_whole(model, position, name)} is quantised and cannot hold the sum; load the base in full "
                    "precision, load_adapter into it, and merge that"
                )
    for backbone in _adapted(model).values():
        unload(backbone, merge=True)
        model.requires_grad_(True)
    return model
