"""FG-CLIP 2 checkpoints: `"model_type": "fgclip2"`, SigLIP 2's two towers and three heads, whose own code the zoo does not run."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.encoders._logging import quiet
from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError
from zoo.formats import check_weights, read_object, weight_files
from zoo.formats.checks.safetensors_checks import check_size, no_parameters
from zoo.formats.checks.weight_checks import refuse_quantised
from zoo.formats.composites import check_parts
from zoo.formats.known import images
from zoo.formats.layout import Opening, register_layout
from zoo.formats.processors import open_images, patch_settings
from zoo.formats.scale import scale_of
from zoo.formats.settings import Ignore, Only, Table, read
from zoo.formats.tensors import read_tensors
from zoo.formats.tokenizer import read_tokenizer
from zoo.formats.transformers import PICKLES, OfTypes
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from zoo.embedder import Embedder

MODEL_TYPE = "fgclip2"
_SETTINGS = ("preprocessor_config.json", "processor_config.json")
_OWN = {
    "keep_len": 20,
    "longtext_len": 196,
}  # of text_config, beside SigLIP 2's, and what the authors' class has where it says nothing
# Theirs → ours, the longer first.
_IMAGE = {"vision_model.": "tower.", "dense_feature_head.": "dense."}
_TEXT = {
    "text_model.embeddings.position_embedding_ori.": "first.",
    "text_model.embeddings.position_embedding_res.": "rest.",
    "text_model.": "tower.",
    "longtext_head.": "long_head.",
    "boxtext_head.": "region_head.",
}
_USUAL = 256  # patches in every published file, whose own README reads images by their sizes all the same
_PROCESSOR = Table(
    images.PATCHES.followed | {"dynamic_max_patches"},
    images.PATCHES.inert,
    {
        **images.PATCHES.held,
        "auto_map": Only((None, {}), "Python code beside the weights; remove it: the zoo has its own"),
    },
)


@register_layout
class FgClip2(OfTypes):
    """What the authors publish, read without their code."""

    name = "fgclip2"
    order = 20
    looked_for = f'FG-CLIP 2: config.json with "model_type": "{MODEL_TYPE}", and model.safetensors'
    types = (MODEL_TYPE,)
    beside = _SETTINGS

    def check_config(self, config: Any, names: set[str], opening: Opening, where: str) -> None:
        """Refuses settings that are not followed."""
        _parts(config, Path(where), opening.ignore)

    def load(self, folder: Path, opening: Opening) -> "Embedder":
        """Its two towers, every tensor from the file, and none left over."""
        from zoo.embedder import Embedder, Tower
        from zoo.encoders.fgclip2 import TARGETS, FgClip2Image, FgClip2Text
        from zoo.heads import Identity
        from zoo.pooling import Cls

        where = folder / "config.json"
        vision, text, own = _parts(read_object(where), where, opening.ignore)
        with quiet():  # transformers, which knows no such model type, says so as it looks for the tokenizer's class
            tokenizer = read_tokenizer(folder, opening.ignore, dual=True)
        patches, processor = _images(folder, vision.get("patch_size", 16), opening.ignore)
        options = {
            "long_tokens": own["longtext_len"],
            "keep": own["keep_len"],
            "pad_id": tokenizer.pad_token_id or 0,
            "masked": "attention_mask" in tokenizer.model_input_names,
            "padding_side": tokenizer.padding_side,
        }
        files = weight_files({path.name for path in folder.iterdir()}, "model", PICKLES)
        check_weights(files, str(folder), "model.safetensors", opening.allow_pickle)
        weights = [folder / name for name in files if not name.endswith(".json")]
        check_size(
            lambda: _both(FgClip2Image(vision, patches, processor), FgClip2Text(text, **options)), weights, str(where)
        )
        tensors = read_tensors(folder, opening.allow_pickle)
        scale = scale_of(tensors.pop("logit_scale", None), tensors.pop("logit_bias", None), folder)
        with no_parameters():
            image = FgClip2Image(vision, patches, processor)
            words = FgClip2Text(text, **options, tokenizer=tokenizer)
        _fill({"image": image, "text": words}, tensors, folder)
        if image.width != words.width or words.region_head.out_features != image.width:
            raise UnrecognisedCheckpointError(
                f"{where}: images become vectors of {image.width} columns, texts of {words.width}, which cannot be compared"
            )
        spec = ModelSpec(
            name=opening.name,
            modalities=frozenset({"image", "regions", "text"}),
            dim=image.width,
            license="unknown",
            max_tokens=words.max_tokens,
            params=sum(p.numel() for part in (image, words) for p in part.parameters()),
            targets=TARGETS,
        )
        model = Embedder(spec, [Tower(image, Cls(), Identity()), Tower(words, Cls(), Identity())])
        model.logit_scale = scale
        return model


def _both(*parts: "nn.Module") -> "nn.Module":
    from torch import nn

    return nn.ModuleList(parts)


def _parts(config: Any, where: Path, ignore: Ignore) -> tuple[dict[str, Any], dict[str, Any], dict[str, int]]:
    """The settings of the vision and the text tower as SigLIP 2 has them, and those of the text that are FG-CLIP 2's own.

    Raises:
        UnreadSettingError: a setting that nothing reads. UnrecognisedCheckpointError: a part that is missing, or makes no sense.
    """
    from transformers import Siglip2TextConfig, Siglip2VisionConfig

    from zoo.encoders.config_checks import check_transformers

    check_transformers(config, str(where))
    refuse_quantised(config, str(where))
    parts = {name: config.get(name) for name in ("vision_config", "text_config")}
    if lost := [name for name, part in parts.items() if not isinstance(part, Mapping)]:
        raise UnrecognisedCheckpointError(f"{where} has no {lost[0]}; take the whole checkpoint")
    vision, text = (dict(part) for part in parts.values())
    own = {name: text.pop(name, usual) for name, usual in _OWN.items()}
    if wrong := [
        name for name, value in own.items() if isinstance(value, bool) or not isinstance(value, int) or value < 1
    ]:
        raise UnrecognisedCheckpointError(
            f"{where}: text_config.{wrong[0]} is {own[wrong[0]]!r:.40}, no number of positions"
        )
    vision["model_type"], text["model_type"] = Siglip2VisionConfig.model_type, Siglip2TextConfig.model_type
    whole = {name: value for name, value in config.items() if name not in ("auto_map", "architectures")}
    check_parts({**whole, "model_type": "siglip2", "vision_config": vision, "text_config": text}, where, ignore)
    try:
        made = Siglip2VisionConfig(**vision), Siglip2TextConfig(**text)
    except Exception as error:  # its own validation raises TypeError, ValueError and types of huggingface_hub
        reason = " ".join(str(error).split())[:300]
        raise UnrecognisedCheckpointError(f"{where} makes no sense: {reason}") from error
    if made[0].num_channels != 3 or not made[0].vision_use_head:
        raise UnrecognisedCheckpointError(
            f"{where}: FG-CLIP 2 reads RGB, 3 channels, and has a head that pools an image"
        )
    shapes = [{k: v for k, v in part.to_dict().items() if not k.startswith("_")} for part in made]
    return shapes[0], shapes[1], own


def _images(folder: Path, patch: Any, ignore: Ignore) -> tuple[int | None, dict[str, Any]]:
    """Most patches of an image, None for as many as suit its size, and the settings of SigLIP 2's image processor."""
    for name in _SETTINGS:
        if not (folder / name).is_file():
            continue
        settings = read_object(folder / name)
        settings = settings.get("image_processor") if name == "processor_config.json" else settings
        if not isinstance(settings, dict):
            continue
        settings = read(settings, _PROCESSOR, folder / name, ignore)
        by_size = settings.pop("dynamic_max_patches", None)
        if settings.get("image_processor_type") in ("Fgclip2ImageProcessor", "Fgclip2ImageProcessorFast"):
            settings["image_processor_type"] = "Siglip2ImageProcessor"
            by_size = True if by_size is None else by_size
        processor = open_images(settings, "siglip2", folder / name, ignore)
        settings = patch_settings(settings, processor, patch, folder / name, ignore)
        if by_size is None:
            by_size = processor.max_num_patches == _USUAL
        return None if by_size else processor.max_num_patches, settings
    raise UnrecognisedCheckpointError(f"{folder} has neither {_SETTINGS[0]} nor {_SETTINGS[1]}")


def _fill(towers: "Mapping[str, nn.Module]", tensors: Mapping[str, Any], folder: Path) -> None:
    """Puts every tensor of a file into its place.

    Raises:
        MissingWeightsError: one is missing, of another shape, or left over.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in towers}
    spare = []
    for name, tensor in tensors.items():
        for of, names in (("image", _IMAGE), ("text", _TEXT)):
            if prefix := next((theirs for theirs in names if name.startswith(theirs)), ""):
                found[of][names[prefix] + name.removeprefix(prefix)] = tensor.float()
                break
        else:
            spare.append(name)
    for of, tower in towers.items():
        expected = {name: tuple(tensor.shape) for name, tensor in tower.state_dict().items()}
        here = {name: tuple(tensor.shape) for name, tensor in found[of].items() if not name.endswith("position_ids")}
        if lost := sorted(set(expected) - set(here)):
            raise MissingWeightsError(f"{folder} lacks {len(lost)} tensors of the {of} tower, such as {lost[0][:80]}")
        spare += sorted(set(here) - set(expected))
        if other := sorted(name for name in expected if expected[name] != here[name]):
            raise MissingWeightsError(
                f"{folder} does not fit its config.json: {other[0]} of the {of} tower has the shape {here[other[0]]}, not "
                f"{expected[other[0]]}"
            )
        tower.load_state_dict({name: found[of][name] for name in expected}, strict=True, assign=True)
    if spare:
        raise MissingWeightsError(
            f"{folder} has {len(spare)} tensors that an FG-CLIP 2 of its config.json does not have, such as {spare[0][:80]}: more "
            "layers than the configuration says, or parts of another model"
        )
