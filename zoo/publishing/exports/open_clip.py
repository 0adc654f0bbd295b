"""open_clip: the towers that it has itself, as open_clip_config.json and open_clip_model.safetensors in the root."""

import json
import math
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import NotExportableError, UnrecognisedCheckpointError, UnsupportedModalityError
from zoo.files import save_tensors
from zoo.formats import read_json
from zoo.formats.open_clip import CONFIG
from zoo.inputs.item import Item
from zoo.prompts import name_for, text_of
from zoo.spec import LogitScale, ModelSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from zoo.embedder import Embedder
    from zoo.encoders.image_transform import PixelTransform
    from zoo.encoders.open_clip import OpenClipImage, OpenClipText

LOADER = "open_clip"
WEIGHTS = "open_clip_model.safetensors"


def write(model: "Embedder", folder: Path) -> list[str]:
    """Writes configuration, weights and a Hugging Face tokenizer's files; returns their names.

    open_clip also wants a temperature: the model's own, or open_clip's initial one where it has none. A bias, such as
    SigLIP's, is written where the model has one.

    Raises:
        NotExportableError: open_clip has no such towers, or no such preprocessing.
    """
    import torch

    if model.spec.similarity == "dot":
        raise NotExportableError("open_clip compares by cosine: its files cannot say that norms count")
    image, text = _towers(model)
    assert text.tokenizer  # loads it, or says what is missing, before anything is written
    scale = model.logit_scale or LogitScale(math.log(1 / 0.07))
    bias = {} if scale.bias is None else {"init_logit_scale": scale.log, "init_logit_bias": scale.bias}
    model_cfg = _model_cfg(image, text, model.spec.hub_id) | bias
    config = {"model_cfg": model_cfg, "preprocess_cfg": _preprocess_cfg(image)}
    states = {"visual": image.tower.state_dict(), "text": text.tower.state_dict()}
    # Cloned: a file of safetensors may hold no tensor twice, and some towers tie theirs.
    weights = {
        f"{part}.{name}": tensor.detach().cpu().contiguous().clone()
        for part, state in states.items()
        for name, tensor in state.items()
    }
    weights["logit_scale"] = torch.tensor(scale.log)
    weights |= {} if scale.bias is None else {"logit_bias": torch.tensor(scale.bias)}
    folder.mkdir(parents=True, exist_ok=True)
    before = {path.name for path in folder.iterdir()}
    (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    save_tensors(weights, folder / WEIGHTS)
    text.save_assets(folder)
    return sorted({path.name for path in folder.iterdir()} - before | {CONFIG, WEIGHTS})


def serves(folder: Path) -> bool:
    """Whether open_clip's two files are there."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def encode(
    folder: Path, items: Sequence[Item], *, batch_size: int = 32, dtype: "torch.dtype | None" = None
) -> "Tensor":
    """Unit vectors `(n, dim)`, float32, by open_clip's `create_model_and_transforms`, `encode_image`, `encode_text`.

    Raises:
        UnsupportedModalityError: an item is neither a text nor an image.
        UnrecognisedCheckpointError: the configuration describes no model.
        UnsafeCheckpointError: the configuration reaches for code or weights elsewhere.
    """
    import open_clip
    import torch
    from PIL import Image

    from zoo.encoders.config_checks import check_open_clip
    from zoo.inputs.image import load_pixels

    for item in items:
        if item.modalities not in ({"text"}, {"image"}):
            raise UnsupportedModalityError(f"open_clip reads a text or an image, not {sorted(item.modalities)} in one")
    dtype = dtype or torch.float32
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict) or not isinstance(config.get("model_cfg"), dict):
        raise UnrecognisedCheckpointError(f'{folder / CONFIG} has no "model_cfg"')
    check_open_clip(config["model_cfg"])
    # Unset, transformers would ask on the terminal whether a tokenizer's code may run.
    trust = {"trust_remote_code": False} if config["model_cfg"]["text_cfg"].get("hf_tokenizer_name") else {}
    name = f"local-dir:{folder}"
    precision = {torch.float16: "pure_fp16", torch.bfloat16: "pure_bf16"}.get(dtype, "fp32")
    model, _, preprocess = open_clip.create_model_and_transforms(name, precision=precision)
    tokenizer = open_clip.get_tokenizer(name, **trust)
    model.eval()
    of = {
        "text": lambda batch: model.encode_text(tokenizer([item.text for item in batch]), normalize=True),
        "image": lambda batch: model.encode_image(
            torch.stack([preprocess(Image.fromarray(load_pixels(item.image))) for item in batch]).to(dtype),
            normalize=True,
        ),
    }
    vectors = torch.zeros(len(items), config["model_cfg"]["embed_dim"])
    with torch.inference_mode():
        for kind, embed in of.items():
            rows = [row for row, item in enumerate(items) if item.modalities == {kind}]
            for start in range(0, len(rows), batch_size):
                chunk = rows[start : start + batch_size]
                vectors[chunk] = embed([items[row] for row in chunk]).float()
    return vectors


def snippet(repo: str, spec: ModelSpec) -> str:
    """The shortest program that embeds an image and a text with open_clip."""
    prompt = text_of(spec, prompt_name=name_for(spec, "query"))
    texts = json.dumps([prompt + "a red bicycle", prompt + "two dogs in the snow"], ensure_ascii=False)
    return f"""import open_clip
import torch
from PIL import Image

model, _, preprocess = open_clip.create_model_and_transforms("hf-hub:{repo}")
tokenizer = open_clip.get_tokenizer("hf-hub:{repo}")
model.eval()
with torch.inference_mode():
    image = model.encode_image(preprocess(Image.open("photo.jpg")).unsqueeze(0), normalize=True)
    texts = model.encode_text(tokenizer({texts}), normalize=True)
print(image @ texts.T)"""


def _towers(model: "Embedder") -> tuple["OpenClipImage", "OpenClipText"]:
    """The two encoders that open_clip has too, whose vectors nothing changes any more."""
    from zoo.encoders.open_clip import OpenClipImage, OpenClipText
    from zoo.heads import Identity
    from zoo.pooling import Cls

    kinds = [type(tower.encoder) for tower in model.towers]
    if sorted(kind.__name__ for kind in kinds) != ["OpenClipImage", "OpenClipText"]:
        raise NotExportableError(f"open_clip has no towers like these: {', '.join(kind.__name__ for kind in kinds)}")
    for tower in model.towers:
        if type(tower.head) is not Identity or type(tower.pooler) is not Cls:
            after = f"{type(tower.pooler).__name__} and {type(tower.head).__name__}"
            raise NotExportableError(f"open_clip ends with the tower's own vector; here {after} follow it")
    by_kind = {type(tower.encoder): tower.encoder for tower in model.towers}
    return by_kind[OpenClipImage], by_kind[OpenClipText]


def _model_cfg(image: "OpenClipImage", text: "OpenClipText", hub_id: str) -> dict[str, Any]:
    """Both halves in one, each tower apart as the zoo keeps them (`custom_text`)."""
    quick = {bool(encoder.model_cfg.get("quick_gelu")) for encoder in (image, text)}
    if len(quick) > 1 or image.width != text.width:
        raise NotExportableError("the towers differ in quick_gelu or embed_dim, of which open_clip has one for both")
    vision_cfg, text_cfg = (deepcopy(e.model_cfg[k]) for e, k in ((image, "vision_cfg"), (text, "text_cfg")))
    for cfg in (vision_cfg, text_cfg):
        cfg.pop("output_tokens", None)  # CoCa's tokens serve its decoder, which an embedder does not have
    if text_cfg.get("hf_tokenizer_name") and hub_id:
        text_cfg["hf_tokenizer_name"] = hub_id  # its files go along, so that one repository is enough
    quick_gelu = {"quick_gelu": True} if True in quick else {}
    return {
        "embed_dim": image.width,
        **quick_gelu,
        "custom_text": True,
        "vision_cfg": vision_cfg,
        "text_cfg": text_cfg,
    }


def _preprocess_cfg(image: "OpenClipImage") -> dict[str, Any]:
    """open_clip's words for our transform; it takes the size from the tower."""
    from zoo.encoders.image_transform import UNIT

    transform: PixelTransform = image.transform
    side = image.model_cfg["vision_cfg"].get("image_size", 224)
    size = (side, side) if isinstance(side, int) else tuple(side)
    levels = {transform.fill} if isinstance(transform.fill, int) else set(transform.fill)
    wrong = ""
    if transform.size != size:
        wrong = f"images of {transform.size} for a tower of {size}"
    elif transform.resize_size not in (None, size):
        wrong = f"a crop from {transform.resize_size}"
    elif transform.crop_rounding != "round" and transform.resize == "shortest":
        wrong = "a crop whose offset is floored"
    elif len(levels) > 1:
        wrong = f"a padding of colour {transform.fill}"
    elif transform.resize == "none":
        wrong = "a crop without a resize"
    elif transform.interpolation not in ("bicubic", "bilinear"):
        wrong = f"a {transform.interpolation} interpolation"
    elif transform.pixels != "exact":
        wrong = "a scaled decoding of photos: load it with pixels='exact'"
    elif transform.scale != UNIT:
        wrong = f"a scale of pixels other than 1/255 ({transform.scale:g})"
    elif transform.resize == "shortest" and size[0] != size[1] and transform.interpolation != "bicubic":
        wrong = "a bilinear resize to an oblong"
    if wrong:
        raise NotExportableError(f"open_clip's preprocessing knows no {wrong.removeprefix('a ')}")
    return {
        "mean": list(transform.mean),
        "std": list(transform.std),
        "interpolation": transform.interpolation,
        "resize_mode": transform.resize,
        "fill_color": levels.pop(),
    }
