"""timm: one vision tower in a folder of its own, because timm wants config.json for itself."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import NotExportableError, UnsupportedModalityError
from zoo.files import share
from zoo.formats import read_json
from zoo.formats.timm import Timm
from zoo.inputs.item import Item
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from zoo.embedder import Embedder
    from zoo.encoders.image_transform import PixelTransform

LOADER = "timm"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
_CROPS = {"shortest": "center", "squash": "squash", "longest": "border"}


def write(model: "Embedder", folder: Path) -> list[str]:
    """Writes timm's config.json and model.safetensors of the image tower; returns their names.

    Raises:
        NotExportableError: timm has no such tower or preprocessing, or the folder holds another model's config.json.
    """
    from timm.models import save_for_hf

    if model.spec.similarity == "dot":
        raise NotExportableError("timm's files cannot say that norms count, as they do in this model")
    backbone, args, transform = _tower(model)
    if (folder / CONFIG).exists() and not serves(folder):
        raise NotExportableError(f"{folder} has a {CONFIG} of another layout; timm needs a folder of its own")
    pixels = _data_config(transform, backbone.pretrained_cfg.get("crop_pct"))
    save_for_hf(backbone, folder, model_args=args or None, safe_serialization=True)
    share(folder / WEIGHTS)
    config = read_json(folder / CONFIG)
    for key in ("test_input_size", "test_crop_pct", "crop_border_pixels"):
        config["pretrained_cfg"].pop(key, None)
    config["pretrained_cfg"] |= {**pixels, "license": model.spec.license}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return [CONFIG, WEIGHTS]


def serves(folder: Path) -> bool:
    """Whether timm's config.json and weights are there."""
    names = {name for name in (CONFIG, WEIGHTS) if (folder / name).is_file()}
    return len(names) == 2 and Timm().recognise(names, lambda file: read_json(folder / file))


def encode(
    folder: Path,
    items: Sequence[Item],
    *,
    batch_size: int = 32,
    dtype: "torch.dtype | None" = None,
    norms: bool = False,
) -> "Tensor":
    """Unit vectors `(n, dim)`, float32, of images by timm's `create_model` and `create_transform`.

    Args:
        norms: leave the vectors as timm gives them.

    Raises:
        UnsupportedModalityError: an item is no image.
        UnsafeCheckpointError: the configuration reaches for weights elsewhere.
    """
    import timm
    import torch
    from PIL import Image

    from zoo.encoders.config_checks import check_timm
    from zoo.inputs.image import load_pixels

    for item in items:
        if item.modalities != {"image"}:
            raise UnsupportedModalityError(f"timm reads images, not {sorted(item.modalities)}")
    dtype = dtype or torch.float32
    config = read_json(folder / CONFIG)
    check_timm(config["architecture"], config.get("model_args") or {})
    model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).to(dtype).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    rows = [torch.zeros(0, model.num_features)]
    with torch.inference_mode():
        for start in range(0, len(items), batch_size):
            images = [Image.fromarray(load_pixels(item.image)) for item in items[start : start + batch_size]]
            rows.append(model(torch.stack([transform(image) for image in images]).to(dtype)).float())
    vectors = torch.cat(rows[1:] or rows)
    return vectors if norms else torch.nn.functional.normalize(vectors, dim=-1)


def snippet(repo: str, spec: ModelSpec) -> str:
    """The shortest program that embeds an image with timm."""
    return f"""import timm
import torch
from PIL import Image

model = timm.create_model("hf-hub:{repo}", pretrained=True, num_classes=0).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
with torch.inference_mode():
    vector = model(transform(Image.open("photo.jpg").convert("RGB")).unsqueeze(0))
print(torch.nn.functional.normalize(vector, dim=-1))"""


def _tower(model: "Embedder") -> tuple["nn.Module", dict[str, Any], "PixelTransform"]:
    """Backbone, arguments and transform of the image tower, whose pooled vector is the embedding."""
    from zoo.encoders.image import TimmImage
    from zoo.encoders.open_clip import OpenClipImage
    from zoo.heads import Identity
    from zoo.pooling import Cls

    tower = next((tower for tower in model.towers if tower.encoder.modalities == {"image"}), None)
    if tower is None:
        raise NotExportableError(f"{model.spec.name} has no tower for images alone")
    encoder = tower.encoder
    if type(tower.head) is not Identity or type(tower.pooler) is not Cls:
        after = f"{type(tower.pooler).__name__} and {type(tower.head).__name__}"
        raise NotExportableError(f"timm ends with the backbone's pooled vector; here {after} follow it")
    if isinstance(encoder, TimmImage) and encoder.tokens == "pooled":
        # timm writes a classifier's size among the arguments; there is none.
        args = {key: value for key, value in encoder.args.items() if key != "num_classes"}
        return _timms(encoder.arch, encoder.backbone), args, encoder.transform
    trunk = getattr(encoder.tower, "trunk", None) if isinstance(encoder, OpenClipImage) else None
    if trunk is None or len(encoder.tower.head) or trunk.num_classes:
        raise NotExportableError(
            f"timm has no vision tower like this {type(encoder).__name__}, or a projection follows"
        )
    vision = encoder.model_cfg["vision_cfg"]
    args = {"global_pool": vision["timm_pool"]} if vision.get("timm_pool") else {}
    return trunk, args, encoder.transform


def _timms(arch: str, backbone: "nn.Module") -> "nn.Module":
    """The backbone as timm's own class, which knows what its files say."""
    import timm

    from zoo.encoders.efficientnet import EfficientNetLite

    if not isinstance(backbone, EfficientNetLite):
        return backbone
    made = timm.create_model(arch, pretrained=False, num_classes=0)
    made.load_state_dict(backbone.state_dict())
    return made


def _data_config(transform: "PixelTransform", known_crop: float | None) -> dict[str, Any]:
    """timm's words for our transform."""
    from zoo.encoders.image_transform import UNIT

    if transform.resize == "none" or transform.scale != UNIT:
        what = "a crop without a resize" if transform.resize == "none" else "another scale of pixels than 1/255"
        raise NotExportableError(f"timm's preprocessing knows no {what.removeprefix('a ')}")
    if transform.pixels != "exact":
        raise NotExportableError("timm decodes photos whole, and this model scaled: load it with pixels='exact'")
    border = tuple(round(255 * mean) for mean in transform.mean)
    fill = (transform.fill,) * 3 if isinstance(transform.fill, int) else transform.fill
    if transform.resize == "longest" and fill != border:
        raise NotExportableError(f"timm fills a border with the mean colour {border}, not {fill}")
    crops = transform.resize == "shortest" or transform.resize_size not in (None, transform.size)
    if crops and transform.crop_rounding != "round":
        raise NotExportableError("timm rounds the offset of a crop, which is floored here")
    return {
        "input_size": [3, *transform.size],
        "crop_pct": _crop_pct(transform, known_crop),
        "crop_mode": _CROPS[transform.resize],
        "interpolation": transform.interpolation,
        "mean": list(transform.mean),
        "std": list(transform.std),
    }


def _crop_pct(transform: "PixelTransform", known: float | None) -> float:
    """The share of the resized image that is kept, so that timm's own rounding gives back our `resize_size`."""
    wanted = transform.resize_size or transform.size
    pairs = list(zip(transform.size, wanted, strict=True))
    # Half a pixel more, because floor(size / (size / resized)) can be one less than resized.
    choices = [known or 0, 1.0, *(size / (resized + 0.5) for size, resized in pairs)]
    for pct in choices:
        if pct and all(math.floor(size / pct) == resized for size, resized in pairs):
            return pct
    raise NotExportableError(f"timm has no crop that makes {wanted} out of {transform.size}")
