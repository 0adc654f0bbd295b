"""Vision-language checkpoints: config.json of a backbone that transformers knows, or an adapter (LoRA, DoRA) for one."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from zoo.callers import warn
from zoo.encoders.sequence.backbones import backbone_of, check_dtype, known_types
from zoo.errors import MissingWeightsError, UnreadSettingError, UnrecognisedCheckpointError
from zoo.formats import PROCESSOR_FILES, TOKENIZER_FILES, check_weights, read_json, read_object, weight_files
from zoo.formats.backbones import check_heads
from zoo.formats.checks.folder import check_folder
from zoo.formats.composites import check_parts
from zoo.formats.layout import Layout, Opening, register_layout
from zoo.formats.processors import check_files, check_prefixes
from zoo.formats.settings import NOTHING, Ignore
from zoo.formats.tokenizer import check_tokenizer
from zoo.formats.towers import kept
from zoo.registry import is_registered
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.embedder import Embedder
    from zoo.encoders.sequence import SequenceEncoder

ADAPTER = "adapter_config.json"
ADAPTERS = "adapters"  # folder of a checkpoint with an adapter for each of several tasks
FACTS, MODULES = "zoo.json", "modules.json"
# Known backbones without a class of transformers' own: said by name, not as an unknown layout.
WITHOUT_CLASS = {
    "llava_qwen": "LLaVA of its authors' own code (LlavaQwenForCausalLM, as LLaVE)",
    "phi3_v": "Phi-3.5-vision (Phi3VForCausalLM)",
}
# Known to transformers, but read in another way than as one sequence.
UNREAD = {"mllama": "Llama 3.2 Vision (as mmE5), whose text layers look at images by cross-attention"}
PICKLES = {"model": ("pytorch_model.bin",), "adapter_model": ("adapter_model.bin",)}


@register_layout
class VisionLanguage(Layout):
    """Backbones of transformers that read images and text as one sequence, and adapters for them."""

    name = "vlm"
    order = 10
    looked_for = (
        f'vision-language: config.json with "model_type" among {", ".join(sorted(known_types()))}, or {ADAPTER}'
    )
    told = frozenset({"sequence"})
    reads_adapters = True
    drops_towers = True

    def recognise(self, names: set[str], read_json: Callable[[str], Any]) -> bool:
        """Whether these files are an adapter, or the weights of a vision-language backbone."""
        if ADAPTER in names and "config.json" not in names:
            return True
        if "config.json" not in names:
            return False
        config = read_json("config.json")
        kind = _kind(config) if isinstance(config, dict) else None
        if MODULES in names and isinstance(kind, str) and backbone_of(kind).sentence is not None:
            return False  # these files say themselves how it is read
        return isinstance(kind, str) and (kind in known_types() or kind in WITHOUT_CLASS or kind in UNREAD)

    def files(self, names: set[str]) -> list[str]:
        """Configuration, weights (an adapter's alone where there is one), tokenizer and processor."""
        known = {"config.json", ADAPTER, *PROCESSOR_FILES, *TOKENIZER_FILES}
        known.add(f"{ADAPTERS}/{ADAPTER}")
        stem = "adapter_model" if ADAPTER in names else "model"
        tasks = _weights(names, "adapter_model", ADAPTERS) if f"{ADAPTERS}/{ADAPTER}" in names else []
        return sorted((names & known) | {*_weights(names, stem), *tasks})

    def check_config(self, config: Any, names: set[str], opening: Opening, where: str) -> None:
        """Refuses a backbone that cannot be read like the model that is told; where zoo.json tells it, `load` does."""
        self.check_like(opening.like, where)
        if isinstance(config, dict):
            check_dtype(str(config.get("model_type")), opening.dtype)
        if FACTS not in names:
            check_backbone(config, opening.like, where)

    def check_like(self, like: ModelSpec | None, where: str) -> None:
        """Raises where these files lack a part of the model that they are to be read like."""
        if like is not None and "regions" in like.modalities:
            raise MissingWeightsError(
                f"{where} lacks sam2_reducer_and_vlm_layer.pth, through which {like.name} sees the regions of an image; take the "
                "whole repository"
            )

    def load(self, folder: Path, opening: Opening) -> "Embedder":
        """The backbone, its adapter merged, read as the model `opening.like` is read."""
        return load_sequence(folder, opening, self)


def _kind(config: dict[str, Any]) -> Any:
    """The model type; LLaVE's repositories call themselves "qwen2", and would lose their vision layers as a text model."""
    return "llava_qwen" if "mm_vision_tower" in config else config.get("model_type")


def _weights(names: set[str], stem: str = "model", folder: str = "") -> list[str]:
    return weight_files(names, stem, PICKLES[stem], folder)


def load_sequence(
    folder: Path,
    opening: Opening,
    layout: VisionLanguage,
    build: "Callable[..., SequenceEncoder] | None" = None,
    own: Collection[str] = (),
) -> "Embedder":
    """The backbone, its adapter merged, read as the model `opening.like` is read.

    Args:
        build: makes the encoder of a SequenceEncoder's arguments. own: keys of config.json that the layout reads itself.

    Raises:
        UnrecognisedCheckpointError: nobody said how it is read, or it is another backbone than that model's.
        MissingWeightsError: weights, adapter or processor are missing, damaged or for another model.
    """
    from zoo.encoders.config_checks import check_transformers
    from zoo.encoders.sequence import SequenceEncoder
    from zoo.encoders.sequence.processor import opened

    name, like, local = opening.name, opening.like, opening.local
    allow_pickle, dtype, ignore = opening.allow_pickle, opening.dtype, opening.ignore
    if like is None and (folder / FACTS).is_file():
        like = ModelSpec.from_dict(read_json(folder / FACTS)["spec"])  # held to the schema by check_folder
    layout.check_like(like, str(folder))
    mine = read_object(folder / "config.json") if (folder / "config.json").is_file() else {}
    like = check_backbone(mine, like, str(folder))
    pooler = _pooler_of(like, str(folder))
    base = _base(folder, like, allow_pickle, local) if (folder / ADAPTER).is_file() else folder
    if base != folder:
        check_folder(base)  # transformers would add an adapter that lies there by itself
    config = {key: value for key, value in read_object(base / "config.json").items() if key not in own}
    check_backbone(config, like, str(base / "config.json"))
    check_dtype(str(config["model_type"]), opening.dtype)
    config, like = kept(config, like, opening.towers, str(base))
    check_transformers(config, str(base / "config.json"))
    # A registered model's files are its authors', and what transformers' own classes make of them is held equal to their code.
    told = like.hub_id == name and not local
    _check(told, lambda: check_heads(config, base / "config.json", ignore))
    _check(told, lambda: check_parts(_in_their_words(config), base / "config.json", ignore))
    backbone, projection = _parts(load_backbone(base, allow_pickle=allow_pickle, dtype=dtype, towers=config))
    files = folder if _has_processor(folder) else base
    processor = opened(files, backbone.config.model_type, like.format)
    if like.format.marks:
        _check(told, lambda: check_files(files, processor, ignore))
        _check(told, lambda: check_prefixes(files, processor, like.format, ignore))
    _check(told, lambda: check_tokenizer(files, getattr(processor, "tokenizer", processor), ignore))
    settings = {key: value for key, value in backbone.config.to_diff_dict().items() if key not in own}
    encoder = (build or SequenceEncoder)(
        settings | {"model_type": backbone.config.model_type},
        like.format,
        like.media,
        like.max_tokens or 4096,
        backbone=backbone,
        processor=processor,
    )
    model = _assembled(like, encoder, pooler, projection, name)
    if like.projection and projection is None:
        _read_projection(model, base, allow_pickle)
    if base != folder:
        _merge(model, backbone, folder, allow_pickle, ignore=ignore)
    if like.adapter:
        check_folder(folder / ADAPTERS, root=folder, adapter=True)
        _merge(model, backbone, folder / ADAPTERS, allow_pickle, like.adapter, ignore)
    return model


def _check(told: bool, check: Callable[[], None]) -> None:
    """Runs a check of settings; where they are a registered model's own, one that nothing reads is told and not refused."""
    try:
        check()
    except UnreadSettingError as error:
        if not told:
            raise
        warn(str(error))


def _pooler_of(like: ModelSpec, where: str) -> "nn.Module":
    """The pooler of the tower that a checkpoint is read like; an unusual one as its builder has it.

    Args:
        like: the model that it is read like: a registered one, or the facts of a zoo.json.

    Raises:
        UnrecognisedCheckpointError: a pooler that the zoo does not have, or one with weights of its own.
    """
    from zoo.formats.checks.safetensors_checks import no_memory
    from zoo.pooling import EveryToken, LastToken, Mean
    from zoo.registry import shape_of

    known = {"last": LastToken, "mean": Mean, "tokens": EveryToken}
    if like.pooling in known:
        return known[like.pooling]()
    if not is_registered(like.name):
        raise UnrecognisedCheckpointError(
            f"{where} is read like {like.name}, which is not registered, and pooled by {like.pooling!r}, which the zoo does not "
            'have; say which registered model it is like: load_model(..., like="gme-qwen2vl-2b")'
        )
    with no_memory(where):
        (tower,) = shape_of(like).towers
    if any(True for _ in tower.pooler.parameters()):
        raise UnrecognisedCheckpointError(
            f"{where}: the pooler of {like.name} has weights, and no checkpoint of a backbone says what they are called"
        )
    return tower.pooler


def _assembled(
    like: ModelSpec, encoder: "SequenceEncoder", pooler: "nn.Module", projection: "nn.Linear | None", name: str
) -> "Embedder":
    """The model around a loaded encoder.

    Args:
        projection: the head, where transformers' class has it.
    """
    from dataclasses import replace

    from zoo.embedder import Embedder, Tower
    from zoo.heads import Identity, Linear

    dim = like.dim if like.projection else encoder.width
    dim = projection.out_features if projection is not None else dim
    head = Linear(encoder.width, dim, bias=True) if like.projection else Identity()
    facts = {"name": name, "packaged": False, "source": "", "hub_id": "", "revision": None, "recipe": ""}
    spec = replace(like, **facts, dim=dim, dims=tuple(cut for cut in like.dims if cut <= dim))
    model = Embedder(spec, [Tower(encoder, pooler, head)])
    model.spec = replace(spec, params=sum(p.numel() for p in model.parameters()))
    if projection is not None:
        head.project = projection
    return model


def check_backbone(config: dict[str, Any], like: ModelSpec | None, where: str) -> ModelSpec:
    """The model that a checkpoint is read like, if it can be.

    Args:
        config: its config.json; empty for an adapter without one.

    Raises:
        UnrecognisedCheckpointError: it has no class of transformers, is read in another way or of another family, or
            nobody said how it is read.
    """
    kind = _kind(config)
    if kind in WITHOUT_CLASS:
        import transformers

        raise UnrecognisedCheckpointError(
            f"{where} is a {WITHOUT_CLASS[kind]}, for which transformers {transformers.__version__} has no class; the zoo runs "
            "no code of repositories for it. For the same tasks there are vlm2vec-qwen2vl-2b and vlm2vec-v2-qwen2vl-2b"
        )
    if kind in UNREAD:
        raise UnrecognisedCheckpointError(
            f"{where} is a {UNREAD[kind]}; the zoo reads images and text as one sequence only. For the same tasks there are "
            "vlm2vec-v2-qwen2vl-2b and gme-qwen2vl-2b"
        )
    if like is None or like.format is None:
        backbone = (
            f"one whose backbone is {known_types()[kind]}" if kind in known_types() else "one of the same backbone"
        )
        raise UnrecognisedCheckpointError(
            f"{where} is {'a vision-language model' if config else 'an adapter'}, and its files do not say how it makes vectors "
            "(prompt, positions, pooling). "
            f'Say which registered model it is like, {backbone} (`zoo show` says it): load_model(..., like="gme-qwen2vl-2b")'
        )
    if not config:
        return like
    if kind not in known_types():
        raise UnrecognisedCheckpointError(f"{where} is a {kind!r}; the zoo reads {', '.join(sorted(known_types()))}")
    if like.format.backbone and known_types()[kind] != like.format.backbone:
        raise UnrecognisedCheckpointError(
            f"{where} is a {kind}, {like.name} a {like.format.backbone}: their weights do not fit each other; open it like a "
            f"model of its own family"
        )
    if kind in backbone_of(kind).retrieval and like.similarity != "maxsim":
        raise UnrecognisedCheckpointError(
            f"{where} is a {kind}, with a vector for every token; {like.name} has one for an item: their weights do not fit each "
            "other; open it like a model of late interaction (`zoo list` marks them)"
        )
    return like


def load_backbone(
    folder: Path,
    *,
    allow_pickle: bool,
    dtype: "torch.dtype | None" = None,
    towers: Mapping[str, Any] = MappingProxyType({}),
) -> "nn.Module":
    """The base model (no vocabulary projection) of a folder, a retrieval model whole; old and new names are both read.

    Args:
        towers: its configuration, where some that its file has are left out.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForPreTraining

    from zoo.encoders.config_checks import check_transformers
    from zoo.formats.checks.weight_checks import check_names, refuse_quantised
    from zoo.formats.transformers import check_index, from_pretrained

    config = read_object(folder / "config.json")
    check_transformers(config, str(folder / "config.json"))
    refuse_quantised(config, str(folder))
    files = _weights({path.name for path in folder.iterdir()})
    check_weights(files, str(folder), "model.safetensors", allow_pickle)
    check_index(folder / "model.safetensors.index.json")
    check_index(folder / "pytorch_model.bin.index.json", ".bin")
    safe = [folder / file for file in files if file.endswith(".safetensors")]
    check_names(safe, backbone_of(config["model_type"]).renamed)
    retrieval = config["model_type"] in backbone_of(config["model_type"]).retrieval
    opens = AutoModelForPreTraining if retrieval else AutoModel
    options = _converted(config, str(folder / "config.json"))
    if any(
        towers.get(part, True) is None and config.get(part, True) is not None
        for part in backbone_of(config["model_type"]).towers
    ):
        options = {"config": AutoConfig.for_model(**towers)}
    return from_pretrained(opens, folder, allow_pickle, whole=True, dtype=dtype, **options)


def _parts(model: "nn.Module") -> "tuple[nn.Module, nn.Linear | None]":
    """The backbone, and the projection after it where transformers' class has one."""
    if model.config.model_type not in backbone_of(model.config.model_type).retrieval:
        return model, None
    return model.vlm, model.embedding_proj_layer


def _in_their_words(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration as transformers has it, where the repository has a name of its own for its kind."""
    change = backbone_of(config["model_type"]).converted.get(config["model_type"], {})
    parts = {key: {**(config.get(key) or {}), **part} for key, part in change.items() if isinstance(part, dict)}
    return {**config, **change, **parts}


def _converted(config: dict[str, Any], where: str) -> dict[str, Any]:
    """The configuration as an option of `from_pretrained`, where transformers does not know its kind; else none.

    Raises:
        UnrecognisedCheckpointError: its values are none of that kind.
    """
    if config["model_type"] not in backbone_of(config["model_type"]).converted:
        return {}
    from transformers import AutoConfig

    try:
        return {"config": AutoConfig.for_model(**_in_their_words(config))}
    except Exception as error:  # whatever type transformers' own checks raise
        raise UnrecognisedCheckpointError(
            f"{where} is no {config['model_type']}: {' '.join(str(error).split())}"
        ) from error


def _has_processor(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json"))


def _base(folder: Path, like: ModelSpec, allow_pickle: bool, local: bool) -> Path:
    """The folder of the model that an adapter is for; from the Hub where the adapter names a repository.

    Raises:
        MissingWeightsError: it names no base, or one without weights. HubError: no repository, or not in reach.
        UnsafeCheckpointError: the base has only pickles, which were not allowed.
    """
    from zoo.formats.fetching import snapshot

    settings = read_object(folder / ADAPTER)
    base = settings.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise MissingWeightsError(f"{folder / ADAPTER} names no base model; add base_model_name_or_path")
    if local and Path(base).expanduser().is_dir():
        return Path(base).expanduser()
    # The files of an adapter seldom say which version of its base it was trained on.
    revision = settings.get("revision") or (like.base_revision if base == like.base else None)
    if not isinstance(revision, str | None):
        raise UnrecognisedCheckpointError(f"{folder / ADAPTER} has the revision {str(revision)[:60]}, which is none")

    there: set[str] = set()

    def small(names: set[str]) -> list[str]:
        there.update(names)
        return ["config.json"]

    # Its kind and its files are looked at before gigabytes of it are fetched.
    where = f"hf:{base}, the base of {folder},"
    check_backbone(read_object(snapshot(base, revision, small) / "config.json"), like, where)
    check_weights(_weights(there), where, "model.safetensors", allow_pickle)
    return snapshot(base, revision, VisionLanguage().files)


def _read_projection(model: "Embedder", folder: Path, allow_pickle: bool) -> None:
    """Fills the layer after the backbone, which is no part of transformers' class, from the checkpoint's files.

    Raises:
        MissingWeightsError: they have no such layer, or one of another shape or with numbers that are not finite.
    """
    import torch
    from safetensors import safe_open

    name, layer = model.spec.projection, model.towers[0].head.project
    found = {}
    for file in _weights({path.name for path in folder.iterdir()}):
        if file.endswith(".safetensors"):
            with safe_open(folder / file, framework="pt") as tensors:
                found |= {key: tensors.get_tensor(key) for key in tensors.keys() if key.startswith(f"{name}.")}  # noqa: SIM118
        elif not file.endswith(".json") and allow_pickle:
            tensors = torch.load(folder / file, map_location="cpu", weights_only=True)
            found |= {key: tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
    wanted = {f"{name}.{part}": parameter for part, parameter in layer.named_parameters()}
    shapes = {key: tuple(tensor.shape) for key, tensor in found.items()}
    expected = {key: tuple(parameter.shape) for key, parameter in wanted.items()}
    if shapes != expected or not all(bool(tensor.isfinite().all()) for tensor in found.values()):
        raise MissingWeightsError(f"{folder} should have the layer {expected}, of finite numbers, and has {shapes}")
    with torch.no_grad():
        for key, parameter in wanted.items():
            parameter.copy_(found[key])


def _merge(
    model: "Embedder",
    backbone: "nn.Module",
    folder: Path,
    allow_pickle: bool,
    adapter: str | None = None,
    ignore: Ignore = NOTHING,
) -> None:
    """Adds an adapter to the backbone (and to the projection after it), under the names that peft knew them by.

    One of several (`adapter`) may also adapt a projection that this model does not have.
    """
    from torch import nn

    from zoo.formats.adapters import merge_adapter

    if not (folder / ADAPTER).is_file():
        raise MissingWeightsError(f"{folder} has no {ADAPTER}; {model.spec.name} is the sum of a model and an adapter")
    root = nn.Module()
    root.model = backbone
    if projection := model.spec.projection:
        setattr(root, projection, model.towers[0].head.project)
    unused = r"(?!model\.)" if adapter and not projection else None
    names = backbone_of(backbone.config.model_type).renamed
    options = {"allow_pickle": allow_pickle, "adapter": adapter, "unused": unused, "ignore": ignore}
    merge_adapter(root, folder, key_mapping=names, **options)
