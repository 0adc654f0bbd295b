"""transformers: config.json with `"model_type"` of a dual encoder (CLIP, SigLIP, SigLIP 2) or of a text backbone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError, UnsafeCheckpointError
from zoo.formats import TOKENIZER_FILES, check_weights, weight_files
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from zoo.embedder import Embedder
    from zoo.encoders.pixels import PixelTransform
    from zoo.encoders.text import TransformersText

ORDER = 30
DUAL = ("clip", "siglip", "siglip2")
TEXT = [
    "albert",
    "bert",
    "camembert",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "eurobert",
    "gemma3_text",
    "llama",
    "mistral",
    "mpnet",
    "modernbert",
    "nomic_bert",
    "qwen2",
    "qwen3",
    "roberta",
    "roformer",
    "xlm-roberta",
]
DECODERS = ("gemma3_text", "llama", "mistral", "qwen2", "qwen3")
LOOKED_FOR = f'transformers: config.json with "model_type" among {", ".join((*DUAL, *TEXT))}, and model.safetensors'
PICKLES = ("pytorch_model.bin",)
RESAMPLING = {2: "bilinear", 3: "bicubic"}


def recognises(names: set[str], read: Callable[[str], Any]) -> bool:
    """Whether transformers wrote these files, and a model type that the zoo embeds with."""
    if "config.json" not in names:
        return False
    config = read("config.json")
    return isinstance(config, dict) and config.get("model_type") in (*DUAL, *TEXT)


def wanted(names: set[str]) -> list[str]:
    """Configuration, weights, tokenizer, preprocessing."""
    known = {"config.json", "preprocessor_config.json", "processor_config.json", *TOKENIZER_FILES}
    return sorted((names & known) | set(weight_files(names, "model", PICKLES)))


def load(folder: Path, *, name: str, trust_remote_code: bool, allow_pickle: bool) -> "Embedder":
    """Dual towers, or a text backbone with mean pooling (what sentence-transformers does without modules.json)."""
    from zoo.embedder import Embedder, Tower
    from zoo.heads import Identity
    from zoo.hub import read_json
    from zoo.pooling import Mean

    config = read_json(folder / "config.json")
    if config["model_type"] in DUAL:
        return load_dual(folder, name=name, allow_pickle=allow_pickle)
    encoder = load_text(folder, allow_pickle=allow_pickle)
    spec = text_spec(name, encoder, encoder.width)
    return Embedder(spec, [Tower(encoder, Mean(), Identity())])


def text_spec(name: str, encoder: "TransformersText", dim: int, **facts: Any) -> ModelSpec:
    """The facts of a text embedder that nobody registered."""
    params = sum(p.numel() for p in encoder.parameters())
    facts = {"license": "unknown", "params": params, "max_tokens": encoder.max_tokens, **facts}
    return ModelSpec(name=name, modalities=frozenset({"text"}), dim=dim, **facts)


def _read_config(folder: Path, allow_pickle: bool) -> dict[str, Any]:
    from zoo.hub import read_json

    config = read_json(folder / "config.json")
    if "auto_map" in config and config.get("model_type") not in (*DUAL, *TEXT):
        raise UnsafeCheckpointError(f"{folder} runs its own Python code (auto_map), which the zoo does not load")
    files = weight_files({path.name for path in folder.iterdir()}, "model", PICKLES)
    check_weights(files, str(folder), "model.safetensors", allow_pickle)
    return config


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' tables of unused tensors and its bars: what is missing is raised, the rest is no news."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def from_pretrained(cls: Any, folder: Path, allow_pickle: bool, **options: Any) -> "nn.Module":
    """A transformers model whose every tensor was in the file; tensors of other towers may be there too."""
    safe = any(path.suffix == ".safetensors" for path in folder.iterdir())
    try:
        with _quiet():
            model, report = cls.from_pretrained(
                folder, output_loading_info=True, use_safetensors=safe, trust_remote_code=False, **options
            )
    except Exception as error:
        # transformers wraps damaged files, wrong shapes and unknown settings in many types.
        reason = " ".join(str(error).split())[:300]
        raise MissingWeightsError(f"the weights in {folder} cannot be loaded: {reason}") from error
    missing = sorted(k for k in report["missing_keys"] if "pooler." not in k or "head" in k)
    mismatched = sorted(str(k) for k in report.get("mismatched_keys", ()))
    if missing or mismatched:
        raise MissingWeightsError(
            f"{folder} lacks {len(missing)} tensors of {cls.__name__} {missing[:3]}; {len(mismatched)} have another shape "
            f"{mismatched[:3]}"
        )
    return model.float()


def load_text(
    folder: Path, *, allow_pickle: bool, max_tokens: int | None = None, lower: bool = False, assets: Path | None = None
) -> "TransformersText":
    """A text backbone and its tokenizer.

    Args:
        max_tokens: longest text; by default what the tokenizer and the positions allow.
        assets: folder of the tokenizer, where it is another one.
    """
    from transformers import AutoModel, AutoTokenizer

    from zoo.encoders.text import TransformersText

    config = _read_config(folder, allow_pickle)
    backbone = from_pretrained(AutoModel, folder, allow_pickle)
    try:
        tokenizer = AutoTokenizer.from_pretrained(assets or folder, trust_remote_code=False)
    except Exception as error:
        raise MissingWeightsError(
            f"no usable tokenizer in {assets or folder}: {' '.join(str(error).split())[:300]}"
        ) from error
    if max_tokens is None:
        max_tokens = longest_text(backbone.config, tokenizer)
    side = "left" if config["model_type"] in DECODERS else "right"
    return TransformersText(
        backbone.config.to_diff_dict() | {"model_type": config["model_type"]},
        max_tokens=max_tokens,
        lower=lower,
        padding_side=side,
        backbone=backbone,
        tokenizer=tokenizer,
    )


def longest_text(config: Any, tokenizer: Any) -> int:
    """Tokens that positions and tokenizer allow: the smaller of the two."""
    positions = getattr(config, "max_position_embeddings", None) or 512
    return int(min(positions, getattr(tokenizer, "model_max_length", positions) or positions))


def load_dual(folder: Path, *, name: str, allow_pickle: bool) -> "Embedder":
    """CLIP, SigLIP or SigLIP 2 as two towers."""
    from transformers import AutoConfig, AutoTokenizer

    from zoo.embedder import Embedder, Tower
    from zoo.encoders.hf_dual import HfImage, HfNaflexImage, HfText, tower_class
    from zoo.heads import Identity
    from zoo.pooling import Cls

    _read_config(folder, allow_pickle)
    config = AutoConfig.from_pretrained(folder)
    kind = config.model_type
    if kind == "clip":
        # The towers' own projection_dim may be absent or wrong (512 by default); the whole model goes by its own.
        config.vision_config.projection_dim = config.text_config.projection_dim = config.projection_dim
    vision = from_pretrained(tower_class(kind, "image"), folder, allow_pickle, config=config.vision_config)
    text = from_pretrained(tower_class(kind, "text"), folder, allow_pickle, config=config.text_config)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise MissingWeightsError(f"no usable tokenizer in {folder}: {' '.join(str(error).split())[:300]}") from error
    max_tokens = min(config.text_config.max_position_embeddings, tokenizer.model_max_length)
    text_encoder = HfText(
        kind,
        text.config.to_dict(),
        max_tokens=max_tokens,
        pad_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0,
        tokenizer=tokenizer,
        tower=text,
    )
    processor = _image_settings(folder)
    if kind == "siglip2":
        patches = processor.get("max_num_patches", 256)
        image_encoder = HfNaflexImage(vision.config.to_dict(), patches, processor, vision)
        size = None
    else:
        transform = transform_of(kind, processor)
        image_encoder = HfImage(kind, vision.config.to_dict(), transform, vision)
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
    return Embedder(spec, [Tower(image_encoder, Cls(), Identity()), Tower(text_encoder, Cls(), Identity())])


def _image_settings(folder: Path) -> dict[str, Any]:
    from zoo.hub import read_json

    if (folder / "preprocessor_config.json").is_file():
        return read_json(folder / "preprocessor_config.json")
    if (folder / "processor_config.json").is_file():
        settings = read_json(folder / "processor_config.json").get("image_processor")
        if isinstance(settings, dict):
            return settings
    raise UnrecognisedCheckpointError(f"{folder} has neither preprocessor_config.json nor processor_config.json")


def transform_of(kind: str, settings: dict[str, Any]) -> "PixelTransform":
    """The pixel transform of a preprocessor_config.json, old or new."""
    from zoo.encoders.pixels import CLIP_MEAN, CLIP_STD, PixelTransform

    def sides(value: Any, default: int = 224) -> tuple[int, int]:
        if isinstance(value, dict):
            if "shortest_edge" in value:
                return (value["shortest_edge"],) * 2
            return value["height"], value["width"]
        return (value or default,) * 2

    plain = kind == "siglip"
    resize, crop = settings.get("size"), settings.get("crop_size")
    squash = plain or (isinstance(resize, dict) and "height" in resize)
    do_crop = settings.get("do_center_crop", not plain)
    resample = settings.get("resample", 3)
    if resample not in RESAMPLING:
        raise UnrecognisedCheckpointError(
            f"the image processor resizes by method {resample}; the zoo reads {RESAMPLING}"
        )
    return PixelTransform(
        size=sides(crop) if do_crop else sides(resize),
        resize="squash" if squash else "shortest",
        resize_size=sides(resize) if do_crop and sides(resize) != sides(crop) else None,
        interpolation=RESAMPLING[resample],
        crop_rounding="floor",
        engine="torch",
        mean=tuple(settings.get("image_mean") or ((0.5,) * 3 if plain else CLIP_MEAN)),
        std=tuple(settings.get("image_std") or ((0.5,) * 3 if plain else CLIP_STD)),
    )
