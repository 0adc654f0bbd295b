"""Two towers of transformers' CLIP, SigLIP or SigLIP 2 → one checkpoint of its own, which sentence-transformers opens too."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.encoders.transformers_dual import DUALS, HfImage, HfNaflexImage, HfText
from zoo.errors import NotExportableError
from zoo.formats.processors import RESAMPLING
from zoo.fusion import is_default
from zoo.heads import Identity
from zoo.pooling import Cls
from zoo.publishing.exports import sentence
from zoo.publishing.exports.text import write_backbone
from zoo.publishing.exports.tokenizers import unfit as unfit_tokenizer
from zoo.publishing.exports.tokenizers import write_tokenizer
from zoo.spec import LogitScale

if TYPE_CHECKING:
    from torch import nn

    from zoo.embedder import Embedder

CLASSES = {
    "clip": ("CLIPConfig", "CLIPModel", "CLIPImageProcessor"),
    "siglip": ("SiglipConfig", "SiglipModel", "SiglipImageProcessor"),
    "siglip2": ("Siglip2Config", "Siglip2Model", "Siglip2ImageProcessor"),
}
RESAMPLE = {name: code for code, name in RESAMPLING.items()}


def unfit(model: "Embedder") -> str:
    """Why a model has no such form, "" where it has."""
    encoders = {type(tower.encoder): tower.encoder for tower in model.towers}
    text = encoders.get(HfText)
    image = encoders.get(HfImage) or encoders.get(HfNaflexImage)
    if len(model.towers) != 2 or text is None or image is None:
        return "it is not the two towers of a CLIP or SigLIP of transformers"
    if any(type(t.pooler) is not Cls or type(t.head) is not Identity for t in model.towers):
        return "its towers have heads that transformers' model does not have"
    if not is_default(model.fusion):
        return "transformers has no place for its rule of fusing an image with a text"
    kind = text.model_type
    if kind not in CLASSES:
        return f"{kind} goes out with the zoo's own code"
    if text.lower or DUALS[kind].patches != isinstance(image, HfNaflexImage):
        return f"its towers are not those of one {kind}"
    if isinstance(image, HfImage):
        transform = image.transform
        if image.model_type != kind or transform.resize == "longest" or transform.fill:
            return "transformers has no such preprocessing of images"
        if transform.engine != "torch":
            return "transformers resizes images with torch"
        if transform.pixels != "exact":
            return "transformers decodes photos exactly"
        if transform.interpolation not in RESAMPLE:
            return f"transformers has no {transform.interpolation} interpolation in torch"
        if transform.crop_rounding != "floor" and transform.resize != "squash":
            return "transformers rounds the place of the crop another way"
    return unfit_tokenizer(text.tokenize, text.pad_id)


def write(model: "Embedder", folder: Path) -> None:
    """config.json, model.safetensors, preprocessor_config.json, tokenizer, modules.json, zoo.json."""
    import transformers

    text = next(t.encoder for t in model.towers if isinstance(t.encoder, HfText))
    image = next(t.encoder for t in model.towers if t.encoder is not text)
    kind = text.model_type
    config_class, model_class, processor_class = CLASSES[kind]
    facts = {"text_config": text.tower.config.to_dict(), "vision_config": image.tower.config.to_dict()}
    if DUALS[kind].projects:
        facts["projection_dim"] = text.width
    whole = getattr(transformers, model_class)(getattr(transformers, config_class)(**facts))
    _fill(whole, image.tower, text.tower, model.logit_scale)
    write_backbone(whole.to(next(text.tower.parameters()).dtype), folder)
    processor = {"image_processor_type": processor_class, "processor_class": model_class.replace("Model", "Processor")}
    sentence.write_json(folder / "preprocessor_config.json", processor | _pixels(image))
    write_tokenizer(folder, text.tokenize, pad_id=text.pad_id, side=text.padding_side, mask=not DUALS[kind].fills)

    how: dict[str, dict[str, Any]] = {}
    # SigLIP pools the last place of a text that is filled up to its full length, as it was trained.
    if DUALS[kind].fills:
        how["text"] = {"padding": "max_length", "max_length": text.max_tokens}
    if isinstance(image, HfNaflexImage):  # transformers' processor of both kinds has a number of its own
        how["image"] = {"max_num_patches": image.patches}
    method = {name: f"get_{name}_features" for name in ("text", "image")}
    settings: dict[str, Any] = {
        "transformer_task": "feature-extraction",
        "modality_config": {
            name: {"method": call, "method_output_name": "pooler_output"} for name, call in method.items()
        },
        "module_output_name": "sentence_embedding",
    }
    settings |= {"processing_kwargs": how} if how else {}
    sentence.write_json(folder / "sentence_bert_config.json", settings)
    unit = [] if model.spec.similarity == "dot" else [(sentence.NORMALIZE, "1_Normalize")]
    sentence.write_modules(folder, [(sentence.TRANSFORMER, ""), *unit])
    sentence.write_settings(folder, model.spec)
    sentence.write_facts(folder, model.spec)


def _fill(whole: "nn.Module", vision: "nn.Module", text: "nn.Module", scale: LogitScale | None) -> None:
    """Both towers' weights and the temperature into the whole model; a temperature that the model has not stays as
    transformers sets it. transformers' CLIP has no place for a bias, which its softmax would not see; its SigLIP must have
    one, which is 0 where nothing is added.
    """
    names = set(whole.state_dict())
    tensors = {}
    for part, tower in (("vision_model", vision), ("text_model", text)):
        # CLIP's towers with projection name their tensors as the whole does, SigLIP's as a part of it.
        for name, value in tower.state_dict().items():
            tensors[name if name in names else f"{part}.{name}"] = value
    missing, unknown = whole.load_state_dict(tensors, strict=False)
    if unknown or any(not name.startswith("logit_") for name in missing):
        raise NotExportableError(f"{type(whole).__name__} lacks {missing[:3]} and does not know {unknown[:3]}")
    if scale is not None:
        whole.logit_scale.data.fill_(scale.log)
        if hasattr(whole, "logit_bias"):
            whole.logit_bias.data.fill_(scale.bias or 0.0)


def _pixels(image: HfImage | HfNaflexImage) -> dict[str, Any]:
    """The image's preprocessing in transformers' words."""
    if isinstance(image, HfNaflexImage):
        return {**image.processor_settings, "max_num_patches": image.patches}
    transform = image.transform
    height, width = transform.size
    resize = transform.resize_size or transform.size
    squash = transform.resize == "squash"
    crop = not squash or resize != transform.size
    facts: dict[str, Any] = {
        "do_convert_rgb": True,
        "do_resize": transform.resize != "none",
        "size": {"height": resize[0], "width": resize[1]} if squash else {"shortest_edge": resize[0]},
        "resample": RESAMPLE[transform.interpolation],
        "do_rescale": True,
        "rescale_factor": transform.scale,
        "do_normalize": True,
        "image_mean": list(transform.mean),
        "image_std": list(transform.std),
        "do_center_crop": crop,
    }
    return facts | ({"crop_size": {"height": height, "width": width}} if crop else {})
