"""transformers' video encoders: X-CLIP, VideoPrism, V-JEPA 2 and VideoMAE, and how their files say frames are made ready."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from zoo.encoders.config_checks import check_numbers
from zoo.errors import UnrecognisedCheckpointError
from zoo.formats import read_object
from zoo.formats.composites import check_parts
from zoo.formats.known import images
from zoo.formats.layout import Opening, register_layout
from zoo.formats.processors import transform_of
from zoo.formats.settings import Ignore, read
from zoo.formats.tokenizer import read_tokenizer
from zoo.formats.transformers import OfTypes, allowed, folder_config, from_pretrained, shape_of
from zoo.spec import LogitScale, ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from zoo.embedder import Embedder, Tower
    from zoo.encoders.image_transform import PixelTransform

PROCESSORS = ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json")
# By model type: transformers' classes that make each frame ready by itself, first the one where a file names none.
READERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "xclip": ("VideoMAEImageProcessor", "CLIPImageProcessor", "VideoMAEVideoProcessor"),
        "videoprism": ("LlavaOnevisionVideoProcessor",),
        "videoprism_vision_model": ("LlavaOnevisionVideoProcessor",),
        "vjepa2": ("VJEPA2VideoProcessor",),
        "videomae": ("VideoMAEVideoProcessor", "VideoMAEImageProcessor"),
        "pe_audio_video": ("PeVideoVideoProcessor",),  # of `zoo.formats.pe_av`
    }
)
_TYPES = tuple(kind for kind in READERS if kind != "pe_audio_video")
CLASSIFIERS = ("VJEPA2ForVideoClassification", "VideoMAEForVideoClassification")


@register_layout
class Video(OfTypes):
    """Encoders of videos, alone or beside one of texts."""

    name = "video"
    order = 29
    looked_for = f'video: config.json with "model_type" among {", ".join(_TYPES)}, and model.safetensors'
    types = _TYPES
    beside = PROCESSORS

    def check_config(self, config: Any, names: set[str], opening: Opening, where: str) -> None:
        """Refuses a head that is another model's."""
        if isinstance(config, Mapping):
            _check_head(config, where, opening.ignore)

    def load(self, folder: Path, opening: Opening) -> "Embedder":
        """A tower of videos, and of X-CLIP and VideoPrism-LVT one of texts."""
        from zoo.embedder import Embedder

        written, where = folder_config(folder, opening.allow_pickle), folder / "config.json"
        check_parts(written, where, opening.ignore)
        _check_head(written, where, opening.ignore)
        config = _config(folder)
        towers, scale = LOADERS[config.model_type](folder, config, opening)
        video = towers[0].encoder
        texts = [tower for tower in towers if "text" in tower.encoder.modalities]
        spec = ModelSpec(
            name=opening.name,
            modalities=frozenset().union(*(tower.encoder.modalities for tower in towers)),
            dim=video.width,
            license="unknown",
            image_size=video.transform.size[0],
            max_tokens=texts[0].encoder.max_tokens if texts else None,
            params=sum(p.numel() for tower in towers for p in tower.parameters()),
        )
        model = Embedder(spec, towers)
        model.logit_scale = scale
        return model


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # its own validation raises TypeError, ValueError and types of huggingface_hub
        reason = " ".join(str(error).split())[:300]
        raise UnrecognisedCheckpointError(f"{folder / 'config.json'} makes no sense: {reason}") from error


def _check_head(config: Mapping[str, Any], where: object, ignore: Ignore) -> None:
    """Raises UnreadSettingError for a classifier whose head hides what its vectors would be."""
    names = config.get("architectures")
    names = [str(name) for name in names] if isinstance(names, list) else []
    other = [name for name in names if name.endswith("ForVideoClassification") and name not in CLASSIFIERS]
    if other:
        ignore.refuse(where, "architectures", names, "of this kind the zoo reads encoders, and no classifier's pooling")


def _is_classifier(config: Any) -> bool:
    return any(str(name) in CLASSIFIERS for name in config.architectures or ())


def frames_of(folder: Path, model_type: str, side: Any, ignore: Ignore) -> "PixelTransform":
    """How a folder's files say that each frame is made ready, once that is what the zoo's pixel transform does.

    How many frames are taken its configuration says; the processors' own sampling is of calls that hand over whole videos.

    Args:
        side: the tower's `image_size`: pixels, or (height, width).

    Raises:
        UnreadSettingError: a setting that is not followed. UnrecognisedCheckpointError: no settings, or without sense.
    """
    for name in PROCESSORS:
        if not (folder / name).is_file():
            continue
        settings, file = read_object(folder / name), folder / name
        if name == "processor_config.json":
            settings = settings.get("video_processor") or settings.get("image_processor")
        if not isinstance(settings, dict):
            continue
        check_numbers(settings, str(file))
        settings = read(settings, images.FRAMES, file, ignore)
        return transform_of(_processor(settings, model_type, file, ignore), side, file, ignore)
    raise UnrecognisedCheckpointError(
        f"{folder} has none of {', '.join(PROCESSORS)}, so that nothing says how frames are read"
    )


def _processor(settings: dict[str, Any], model_type: str, where: Path, ignore: Ignore) -> Any:
    import transformers

    keys = ("video_processor_type", "image_processor_type", "feature_extractor_type")
    key = next((key for key in keys if settings.get(key)), keys[0])
    named = str(settings.get(key) or READERS[model_type][0])
    name = named.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast")
    if name not in READERS[model_type]:
        why = f"a {model_type} is read by {' or '.join(READERS[model_type])}, which treat each frame by itself"
        ignore.refuse(where, key, named, why)
        name = READERS[model_type][0]
    values = {key: value for key, value in settings.items() if key not in images.FRAME_NAMES}
    try:
        processor = getattr(transformers, name)(**values)
    except Exception as error:  # its checks raise TypeError, ValueError and types of huggingface_hub
        raise UnrecognisedCheckpointError(f"{where}: the settings of frames make no sense: {error}") from error
    # V-JEPA 2's class scales by the crop, whatever the file says of the size.
    said = values.get("size")
    if name == "VJEPA2VideoProcessor" and said not in (None, plain := {"shortest_edge": processor.size.shortest_edge}):
        ignore.refuse(where, "size", said, f"transformers takes {plain} for this crop_size")
    return processor


# ------------------------------------------------------------------------------------------------------- one function a family

Loaded = tuple[list["Tower"], LogitScale | None]


def _whole(cls: str, folder: Path, opening: Opening, **options: Any) -> "nn.Module":
    import transformers

    return from_pretrained(getattr(transformers, cls), folder, opening.allow_pickle, whole=True, **options)


def _video(family: str, tower: "nn.Module", config: Any, folder: Path, opening: Opening, **more: Any) -> Any:
    from zoo.encoders.transformers_video import FAMILIES, HfVideo

    side = getattr(config, FAMILIES[family].side)
    transform = frames_of(folder, config_type(family), side, opening.ignore)
    try:
        return HfVideo(family, {**shape_of(config), **more}, transform, tower)
    except ValueError as error:
        raise UnrecognisedCheckpointError(f"{folder / 'config.json'}: {error}") from error


def config_type(family: str) -> str:
    """The model type of a checkpoint whose tower is of this family."""
    return family.removesuffix("_attentive")


def _texts(cls: Any, model: Any, config: Any, folder: Path, opening: Opening) -> Any:
    tokenizer = read_tokenizer(folder, opening.ignore, dual=True)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    longest = allowed(config.text_config.max_position_embeddings, tokenizer)
    settings = shape_of(model.text_model.config)
    return cls(config.model_type, settings, longest, pad_id=pad, tokenizer=tokenizer, tower=model.text_model)


def _xclip(folder: Path, config: Any, opening: Opening) -> Loaded:
    from zoo.embedder import Tower
    from zoo.encoders.transformers_dual import HfText
    from zoo.encoders.transformers_video import XClipVideo
    from zoo.heads import Identity, Linear
    from zoo.pooling import Cls

    vision = config.vision_config
    if vision.mit_hidden_size != config.projection_dim:
        raise UnrecognisedCheckpointError(
            f"{folder / 'config.json'}: frames are projected to {config.projection_dim} columns (projection_dim), and the transformer "
            f"over them reads {vision.mit_hidden_size} (vision_config.mit_hidden_size)"
        )
    model = _whole("XCLIPModel", folder, opening, config=config)
    video = _video("xclip", XClipVideo(model), vision, folder, opening, projection_dim=config.projection_dim)
    texts = _texts(HfText, model, config, folder, opening)
    head = Linear(texts.width, config.projection_dim)
    head.project = model.text_projection
    return [Tower(video, Cls(), Identity()), Tower(texts, Cls(), head)], LogitScale(model.logit_scale.item())


def _videoprism(folder: Path, config: Any, opening: Opening) -> Loaded:
    from zoo.embedder import Tower
    from zoo.encoders.transformers_video import CanonicalText
    from zoo.heads import Identity
    from zoo.pooling import Cls

    widths = config.vision_config.hidden_size, config.text_config.hidden_size
    if widths[0] != widths[1]:
        raise UnrecognisedCheckpointError(
            f"{folder / 'config.json'}: videos become vectors of {widths[0]} columns and texts of {widths[1]}, which cannot be compared"
        )
    model = _whole("VideoPrismClipModel", folder, opening, config=config)
    video = _video("videoprism", model.video_model, config.vision_config, folder, opening)
    texts = _texts(CanonicalText, model, config, folder, opening)
    return [Tower(video, Cls(), Identity()), Tower(texts, Cls(), Identity())], None


def _videoprism_vision(folder: Path, config: Any, opening: Opening) -> Loaded:
    from zoo.embedder import Tower
    from zoo.heads import Identity
    from zoo.pooling import Mean

    tower = _whole("VideoPrismVisionModel", folder, opening, config=config)
    return [Tower(_video(config.model_type, tower, config, folder, opening), Mean(), Identity())], None


def _vjepa2(folder: Path, config: Any, opening: Opening) -> Loaded:
    from zoo.embedder import Tower
    from zoo.encoders.transformers_video import Attentive
    from zoo.heads import Identity
    from zoo.pooling import Cls, Mean

    if not _is_classifier(config):
        tower = _whole("VJEPA2Model", folder, opening, config=config).encoder
        return [Tower(_video("vjepa2", tower, config, folder, opening), Mean(), Identity())], None
    tower = Attentive(_whole("VJEPA2ForVideoClassification", folder, opening, config=config, spare=()))
    return [Tower(_video("vjepa2_attentive", tower, config, folder, opening), Cls(), Identity())], None


def _videomae(folder: Path, config: Any, opening: Opening) -> Loaded:
    from zoo.embedder import Tower
    from zoo.heads import DenseStack, Identity
    from zoo.pooling import Mean

    if not _is_classifier(config):
        tower = _whole("VideoMAEModel", folder, opening, config=config)
        return [Tower(_video("videomae", tower, config, folder, opening), Mean(), Identity())], None
    if not config.use_mean_pooling:
        why = "its classifier reads the first patch of the first frame, for VideoMAE has no class token; no such one is published"
        opening.ignore.refuse(folder / "config.json", "use_mean_pooling", False, why)
    model = _whole("VideoMAEForVideoClassification", folder, opening, config=config)
    head = DenseStack([{"kind": "layer_norm", "width": config.hidden_size}]) if config.use_mean_pooling else Identity()
    if config.use_mean_pooling:
        head.layers[0] = model.fc_norm
    return [Tower(_video("videomae", model.videomae, config, folder, opening), Mean(), head)], None


LOADERS: Mapping[str, Callable[[Path, Any, Opening], Loaded]] = MappingProxyType(
    {
        "xclip": _xclip,
        "videoprism": _videoprism,
        "videoprism_vision_model": _videoprism_vision,
        "vjepa2": _vjepa2,
        "videomae": _videomae,
    }
)
