"""transformers: config.json with `"model_type"` of a dual encoder (CLIP, SigLIP, SigLIP 2, TIPSv2) or of a text backbone."""

import math
from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from zoo.encoders._logging import quiet
from zoo.encoders.config_checks import positions_of
from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError, UnsafeCheckpointError
from zoo.formats import TOKENIZER_FILES, check_weights, read_json, read_object, weight_files
from zoo.formats.backbones import check_heads, check_text, native, own_class, read_config
from zoo.formats.checks.probing import check_states
from zoo.formats.checks.safetensors_checks import all_finite, check_size, read_header
from zoo.formats.checks.weight_checks import check_finite, check_left_over, refuse_quantised
from zoo.formats.composites import check_parts
from zoo.formats.known.config import ABSOLUTE, DECODERS, TEXT
from zoo.formats.layout import Layout, Opening, register_layout
from zoo.formats.processors import image_settings, open_images, patch_settings, transform_of
from zoo.formats.scale import read_scale
from zoo.formats.settings import NOTHING, Ignore
from zoo.formats.tokenizer import read_tokenizer
from zoo.spec import Attention, LogitScale, ModelSpec
from zoo.strangers.schema import shown

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.embedder import Embedder
    from zoo.encoders.text import TransformersText

DUAL = ("clip", "siglip", "siglip2", "tipsv2")
PICKLES = ("pytorch_model.bin",)


class OfTypes(Layout):
    """Base of layouts that transformers writes for some types of models: config.json, weights, and what stands beside.

    Attributes:
        types: values of "model_type". beside: files of preprocessing.
    """

    types: ClassVar[Collection[str]]
    beside: ClassVar[Collection[str]]

    def recognise(self, names: set[str], read_json: Callable[[str], Any]) -> bool:
        """Whether config.json is that of a model of one of the types."""
        config = read_json("config.json") if "config.json" in names else None
        return isinstance(config, dict) and str(config.get("model_type")) in self.types

    def files(self, names: set[str]) -> list[str]:
        """Configuration, weights, preprocessing and tokenizer; no code."""
        known = {"config.json", *self.beside, *TOKENIZER_FILES}
        return sorted((names & known) | set(weight_files(names, "model", PICKLES)))


@register_layout
class Transformers(Layout):
    """Dual encoders and text backbones of transformers' own classes."""

    name = "transformers"
    order = 30
    looked_for = f'transformers: config.json with "model_type" among {", ".join((*DUAL, *TEXT))}, and model.safetensors'
    told = frozenset({"attention"})

    def recognise(self, names: set[str], read_json: Callable[[str], Any]) -> bool:
        """Whether transformers wrote these files, and a model type that the zoo embeds with."""
        if "config.json" not in names:
            return False
        config = read_json("config.json")
        return isinstance(config, dict) and (native(config).get("model_type") in (*DUAL, *TEXT) or has_own_code(config))

    def files(self, names: set[str]) -> list[str]:
        """Configuration, weights, tokenizer, preprocessing; and code, which is run only where the caller trusts it."""
        known = {"config.json", "preprocessor_config.json", "processor_config.json", *TOKENIZER_FILES}
        code = {n for n in names if n.endswith(".py") and "/" not in n}
        return sorted((names & known) | code | set(weight_files(names, "model", PICKLES)))

    def check_config(self, config: Any, names: set[str], opening: Opening, where: str) -> None:
        """Refuses a backbone by its config.json."""
        refuse_code(config, where, opening.trust_remote_code)
        check_text(config, where, opening.ignore, opening.attention)

    def load(self, folder: Path, opening: Opening) -> "Embedder":
        """Dual towers, or a text backbone; it is pooled as the model that it is read like, else by the mean.

        The mean is what sentence-transformers takes without modules.json.
        """
        from zoo import pooling
        from zoo.embedder import Embedder, Tower
        from zoo.heads import Identity

        config = read_object(folder / "config.json")
        if config.get("model_type") in DUAL:
            return load_dual(folder, name=opening.name, allow_pickle=opening.allow_pickle, ignore=opening.ignore)
        encoder = load_text(
            folder,
            allow_pickle=opening.allow_pickle,
            trust_remote_code=opening.trust_remote_code,
            ignore=opening.ignore,
            attention=opening.attention,
            around=opening.around,
            closing=opening.closing,
        )
        like = opening.like if opening.like is not None and opening.like.format is None else None
        if like is not None:  # what no file of a plain backbone says
            encoder.pool_prompt = like.pool_prompt
            if like.max_tokens is not None and like.max_tokens < encoder.max_tokens:
                encoder.limit(like.max_tokens)
        spec = text_spec(opening.name, encoder, encoder.width, attention=opening.attention)
        named = "" if like is None else like.pooling
        pooler = getattr(pooling, named or "Mean")
        return Embedder(spec, [Tower(encoder, pooler(), Identity())])


def has_own_code(config: dict[str, Any]) -> bool:
    """Whether only Python code beside the weights knows how to build this model."""
    auto_map = config.get("auto_map")
    known = (
        *DUAL,
        *TEXT,
        "zoo",
    )  # ours name code for transformers only (see zoo.publishing.exports); the zoo never runs it
    return native(config).get("model_type") not in known and isinstance(auto_map, dict) and "AutoModel" in auto_map


def refuse_code(config: Any, where: str, trust_remote_code: bool) -> None:
    """Raises UnsafeCheckpointError where a config.json asks for code that the caller does not trust."""
    if not isinstance(config, dict) or not has_own_code(config):
        return
    if not trust_remote_code:
        raise UnsafeCheckpointError(
            f"{where} ({config.get('model_type')}) is built by Python code of its own (auto_map), which could do anything. "
            "Read it; if you trust it, pass trust_remote_code=True, from the Hub with revision=<full commit>"
        )
    if elsewhere := [str(name) for name in config["auto_map"].values() if "--" in str(name)]:
        raise UnsafeCheckpointError(
            f"{where} takes its code from another repository ({', '.join(elsewhere)}), which no revision pins; the zoo runs "
            "only code that lies beside the weights"
        )


def text_spec(name: str, encoder: "TransformersText", dim: int, **facts: Any) -> ModelSpec:
    """The facts of a text embedder that nobody registered."""
    params = sum(p.numel() for p in encoder.parameters())
    facts = {"license": "unknown", "params": params, "max_tokens": encoder.max_tokens, **facts}
    facts["pool_prompt"] = getattr(encoder, "pool_prompt", True)
    return ModelSpec(name=name, modalities=frozenset({"text"}), dim=dim, **facts)


def folder_config(folder: Path, allow_pickle: bool, trust_remote_code: bool = False) -> dict[str, Any]:
    """The config.json of a folder of transformers', once its weights are ones that may be read.

    Raises:
        UnsafeCheckpointError: code, places or pickles that the caller does not trust. MissingWeightsError: no weights.
        UnrecognisedCheckpointError: quantised weights, or no JSON object.
    """
    from zoo.encoders.config_checks import check_transformers

    config = read_object(folder / "config.json")
    check_transformers(config, str(folder / "config.json"))
    refuse_code(config, str(folder), trust_remote_code)
    refuse_quantised(config, str(folder))
    files = weight_files({path.name for path in folder.iterdir()}, "model", PICKLES)
    check_weights(files, str(folder), "model.safetensors", allow_pickle)
    check_index(folder / "model.safetensors.index.json")
    check_index(folder / "pytorch_model.bin.index.json", ".bin")
    return config


def check_index(path: Path, kind: str = ".safetensors") -> set[str]:
    """The shards that an index names, none without one: they lie beside it; transformers would follow any path."""
    if not path.is_file():
        return set()
    index = read_json(path)
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict):
        raise UnrecognisedCheckpointError(f'{path} has no "weight_map"')
    for shard in (found := set(map(str, shards.values()))):
        if PurePath(shard).name != shard or not shard.endswith(kind):
            raise UnsafeCheckpointError(f"{path} names {shard!r}, which is outside the folder or no {kind} file")
    return found


def from_pretrained(
    cls: Any,
    folder: Path,
    allow_pickle: bool,
    *,
    trust_remote_code: bool = False,
    whole: bool = False,
    dtype: "torch.dtype | None" = None,
    copies: Mapping[str, str] = MappingProxyType({}),
    spare: tuple[str, ...] = ("pooler.",),
    **options: Any,
) -> "nn.Module":
    """A transformers model whose every tensor was in the file, and finite; tensors of other towers may be there too.

    Args:
        whole: the model is the checkpoint's only one, so that none of its parts' tensors may be left over.
        dtype: of the weights, float32 if None; never more memory than they take in it.
        copies: a tensor that a file may leave out → the one that it is equal to.
        spare: parts of names that a file may leave out, for nothing reads them (but for those of a head).
    """
    import torch

    dtype = dtype or torch.float32
    names = {path.name for path in folder.iterdir()}
    files = weight_files(names, "model", PICKLES)
    safe = any(name.endswith(".safetensors") for name in files)
    if not trust_remote_code:  # a trusted author's own code builds what it likes
        weights = [folder / name for name in files if not name.endswith(".json")]
        check_size(lambda: _without_weights(cls, folder, options.get("config")), weights, str(folder / "config.json"))
    try:
        with quiet():
            model, report = cls.from_pretrained(
                folder,
                output_loading_info=True,
                use_safetensors=safe,
                trust_remote_code=trust_remote_code,
                ignore_mismatched_sizes=True,  # they are an error below, which names them
                dtype=dtype,
                **options,
            )
    except Exception as error:
        # transformers wraps damaged files, wrong shapes and unknown settings in many types.
        reason = " ".join(str(error).split())[:300]
        remedy = "; take a whole copy of it" if isinstance(error, FileNotFoundError) else ""  # a shard of the index
        raise MissingWeightsError(f"the weights in {folder} cannot be loaded: {reason}{remedy}") from error
    left_out = [k for k in report["missing_keys"] if k in copies and copies[k] not in report["missing_keys"]]
    state = model.state_dict() if left_out else {}
    for name in left_out:
        state[name].copy_(state[copies[name]])
    missing = {k for k in report["missing_keys"] if not any(part in k for part in spare) or "head" in k}
    missing = sorted(missing - set(left_out))
    mismatched = sorted(str(k) for k in report.get("mismatched_keys", ()))
    if missing or mismatched:
        raise MissingWeightsError(
            f"{folder} lacks {len(missing)} tensors of {cls.__name__} {missing[:3]}; {len(mismatched)} have another shape "
            f"{mismatched[:3]}"
        )
    if whole:
        check_left_over(model, report["unexpected_keys"], folder)
    stored = [folder / name for name in files if name.endswith(".safetensors")]
    if not safe or not all(all_finite(path, dtype) for path in stored):
        check_finite(model, folder)  # which names the one that is not, or finds it in a part that nothing reads
    # Else as loaded: `to` would round the frequencies of rotary positions, which transformers keeps in float32.
    return model.float() if dtype == torch.float32 else model


def _without_weights(cls: Any, folder: Path, config: Any) -> "nn.Module":
    """The model that `from_pretrained` will fill, of random weights; built on the meta device it takes no memory."""
    from transformers import AutoConfig

    config = deepcopy(config) if config else AutoConfig.from_pretrained(folder, trust_remote_code=False)
    return cls.from_config(config, trust_remote_code=False) if hasattr(cls, "from_config") else cls(config)


def load_text(
    folder: Path,
    *,
    allow_pickle: bool,
    trust_remote_code: bool = False,
    max_tokens: int | None = None,
    lower: bool = False,
    assets: Path | None = None,
    ignore: Ignore = NOTHING,
    attention: Attention | None = None,
    around: Mapping[str, str] = MappingProxyType({}),
    closing: Mapping[str, str] = MappingProxyType({}),
) -> "TransformersText":
    """A text backbone and its tokenizer.

    Args:
        around: prompts that are tokens around a text's (see `ModelSpec.around`).
        closing: how texts with an instruction end (see `Opening.closing`).
        attention: how the backbone's tokens see each other, where the files do not say it.
        trust_remote_code: build a backbone that transformers does not know by the Python code beside its weights.
        max_tokens: longest text; by default what the tokenizer and the positions allow.
        assets: folder of the tokenizer, where it is another one.
    """
    from transformers import AutoModel

    from zoo.encoders.around import AroundText
    from zoo.encoders.in_context import InContextText
    from zoo.encoders.text import TransformersText, text_class

    config, where = native(folder_config(folder, allow_pickle, trust_remote_code)), folder / "config.json"
    kind = config.get("model_type")
    tokenizer = read_tokenizer(assets or folder, ignore, str(kind))
    if trust_remote_code and has_own_code(config):
        backbone = from_pretrained(AutoModel, folder, allow_pickle, trust_remote_code=True)
    elif kind in TEXT:
        options = {"config": read_config(config, where, ignore, attention)}
        backbone = from_pretrained(text_class(kind), folder, allow_pickle, whole=True, **options)
    else:
        raise UnrecognisedCheckpointError(
            f"{where} is of the type {kind!r}, which the zoo does not embed texts with; it reads {', '.join(TEXT)}"
        )
    if max_tokens is None:
        max_tokens = longest_text(backbone.config, tokenizer)
    side = "left" if kind in DECODERS and kind not in ABSOLUTE else "right"
    build = partial(AroundText, around=around) if around else TransformersText
    build = partial(InContextText, **closing) if closing else build
    encoder = build(
        backbone.config.to_diff_dict() | {"model_type": kind},
        max_tokens=max_tokens,
        lower=lower,
        padding_side=side,
        backbone=backbone,
        tokenizer=tokenizer,
    )
    check_states(encoder, where)
    return encoder


def longest_text(config: Any, tokenizer: Any) -> int:
    """Tokens that positions and tokenizer allow: the smaller of the two; raises UnrecognisedCheckpointError."""
    return allowed(positions_of(config) or 512, tokenizer)


def allowed(positions: int, tokenizer: Any) -> int:
    """So many tokens, or fewer where the tokenizer says so; transformers takes whatever its file holds."""
    said = getattr(tokenizer, "model_max_length", None) or positions
    if isinstance(said, bool) or not isinstance(said, int | float) or not said >= 1:
        raise UnrecognisedCheckpointError(
            f"tokenizer_config.json: model_max_length is {shown(said)}, no number of tokens"
        )
    return int(min(positions, said))


def load_dual(folder: Path, *, name: str, allow_pickle: bool, ignore: Ignore = NOTHING) -> "Embedder":
    """CLIP, SigLIP, SigLIP 2 or TIPSv2 as two towers."""
    from transformers import AutoConfig

    from zoo.embedder import Embedder, Tower
    from zoo.encoders.transformers_dual import DUALS, HfImage, HfNaflexImage, HfText
    from zoo.heads import Identity
    from zoo.pooling import Cls

    written = folder_config(folder, allow_pickle)
    check_heads(written, folder / "config.json", ignore)
    if own := own_class(written):
        why = f"its authors' own class, {own}, need not compute what transformers' own class of this type does"
        ignore.refuse(folder / "config.json", "auto_map", written["auto_map"], why)
    check_parts(written, folder / "config.json", ignore)
    tokenizer = read_tokenizer(folder, ignore, dual=True)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # its own validation raises TypeError, ValueError and types of huggingface_hub
        reason = " ".join(str(error).split())[:300]
        raise UnrecognisedCheckpointError(f"{folder / 'config.json'} makes no sense: {reason}") from error
    kind, dual = config.model_type, DUALS[config.model_type]
    _check_vectors(config, folder / "config.json")
    settings, file = image_settings(folder, kind, ignore)
    images = open_images(settings, kind, file, ignore)
    if dual.projects:
        # The towers' own projection_dim may be absent or wrong (512 by default); the whole model goes by its own.
        config.vision_config.projection_dim = config.text_config.projection_dim = config.projection_dim
    if dual.patches:
        settings = patch_settings(settings, images, config.vision_config.patch_size, file, ignore)
    else:
        transform = transform_of(images, config.vision_config.image_size, file, ignore)
    vision, text, scale = _towers(kind, folder, allow_pickle, config)
    max_tokens = allowed(config.text_config.max_position_embeddings, tokenizer)
    text_encoder = HfText(
        kind,
        shape_of(text.config),
        max_tokens=max_tokens,
        pad_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0,
        padding_side=tokenizer.padding_side if dual.fills else "right",
        tokenizer=tokenizer,
        tower=text,
    )
    if dual.patches:
        image_encoder = HfNaflexImage(shape_of(vision.config), images.max_num_patches, settings, vision)
        size = None
    else:
        image_encoder = HfImage(kind, shape_of(vision.config), transform, vision)
        size = transform.size[0]
    spec = ModelSpec(
        name=name,
        modalities=frozenset({"image", "text"}),
        dim=image_encoder.width,
        license="unknown",
        image_size=size,
        max_tokens=max_tokens,
        params=sum(p.numel() for p in (*vision.parameters(), *text.parameters())),
    )
    model = Embedder(spec, [Tower(image_encoder, Cls(), Identity()), Tower(text_encoder, Cls(), Identity())])
    model.logit_scale = scale
    return model


def _towers(
    kind: str, folder: Path, allow_pickle: bool, config: Any
) -> "tuple[nn.Module, nn.Module, LogitScale | None]":
    """The vision and the text tower, every tensor from the file, and none of theirs left over; and the temperature."""
    import transformers

    from zoo.encoders.transformers_dual import DUALS, tower_class

    if name := DUALS[kind].whole:
        both = from_pretrained(getattr(transformers, name), folder, allow_pickle, whole=True, config=config)
        return both.vision_model, both.text_model, LogitScale(-math.log(both.temperature.item()))
    vision = from_pretrained(tower_class(kind, "image"), folder, allow_pickle, config=config.vision_config)
    text = from_pretrained(tower_class(kind, "text"), folder, allow_pickle, config=config.text_config)
    _check_spare(folder, {"vision_model": vision, "text_model": text})
    names = {path.name for path in folder.iterdir()}
    return vision, text, read_scale([folder / file for file in weight_files(names, "model", PICKLES)])


def _check_spare(folder: Path, towers: "dict[str, nn.Module]") -> None:
    """Raises MissingWeightsError where the file has tensors of a tower that nothing read, such as more layers."""
    read = {name for prefix, tower in towers.items() for key in tower.state_dict() for name in (key, f"{prefix}.{key}")}
    for path in sorted(folder.glob("model*.safetensors")):
        spare = [
            n for n in read_header(path) if n.startswith(tuple(f"{prefix}." for prefix in towers)) and n not in read
        ]
        if left := [name for name in spare if not name.endswith("position_ids")]:
            raise MissingWeightsError(
                f"{path} has {len(left)} tensors that the towers of its config.json do not have, such as {left[0][:80]}: more "
                "layers than the configuration says, or parts of another model"
            )


def _check_vectors(config: Any, where: Path) -> None:
    """Raises UnrecognisedCheckpointError where two towers do not end in vectors of one space."""
    from zoo.encoders.transformers_dual import DUALS, width_of

    kind, vision, text = config.model_type, config.vision_config, config.text_config
    if vision.num_channels != 3:
        raise UnrecognisedCheckpointError(
            f"{where}: this {kind} reads images of {vision.num_channels} channels, and the zoo gives RGB, 3 of them"
        )
    if DUALS[kind].projects:
        return
    if not getattr(vision, "vision_use_head", True):
        raise UnrecognisedCheckpointError(
            f"{where} has vision_config.vision_use_head = false: this {kind} has no head that pools an image into one vector, as "
            "the vision towers inside language models; take a checkpoint with its head"
        )
    if vision.hidden_size != (width := width_of(kind, text)):
        raise UnrecognisedCheckpointError(
            f"{where}: images of this {kind} become vectors of {vision.hidden_size} columns and texts of {width}, "
            "which cannot be compared"
        )


def shape_of(config: Any) -> dict[str, Any]:
    """A configuration without what transformers keeps to itself, such as the folder that it was read from."""
    return {key: value for key, value in config.to_dict().items() if not key.startswith("_")}
