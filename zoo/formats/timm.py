"""timm: config.json with `"architecture"`, and the names of timm's own pretrained models (image only)."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.encoders.checking import check_numbers
from zoo.errors import MissingWeightsError, UnknownModelError, UnrecognisedCheckpointError
from zoo.formats import check_weights, read_object, weight_files
from zoo.formats.schema import check_folder, check_keys
from zoo.formats.settings import NOTHING, Ignore
from zoo.formats.sizes import check_size
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from zoo.embedder import Embedder
    from zoo.encoders.pixels import PixelTransform

ORDER = 40
CONFIG: dict[str, Any] = {
    "architecture": str,
    "model_args": dict[str, Any] | None,
    "pretrained_cfg": dict[str, Any] | None,
    "num_classes": int | None,
}
SIZES = (
    "input_size",
    "fixed_input_size",
    "test_input_size",
    "min_input_size",
    "pool_size",
    "num_classes",
    "num_features",
)
LOOKED_FOR = 'timm: config.json with "architecture", and model.safetensors'


def recognises(names: set[str], read: Callable[[str], Any]) -> bool:
    """Whether timm wrote these files."""
    if "config.json" not in names:
        return False
    config = read("config.json")
    return isinstance(config, dict) and isinstance(config.get("architecture"), str) and "model_type" not in config


def wanted(names: set[str]) -> list[str]:
    """Configuration and weights."""
    return sorted({"config.json", *weight_files(names, "model", ("pytorch_model.bin",))} & names)


def load(
    folder: Path, *, name: str, trust_remote_code: bool, allow_pickle: bool, ignore: Ignore = NOTHING
) -> "Embedder":
    """The vision tower of a folder that timm's `save_for_hf` or `push_to_hf_hub` wrote."""
    import timm

    from zoo.encoders.checking import check_timm

    check_folder(folder)
    config = check_keys(read_object(folder / "config.json"), CONFIG, str(folder / "config.json"))
    arch = config["architecture"]
    if arch not in timm.list_models():
        raise UnrecognisedCheckpointError(f"{folder}: this timm ({timm.__version__}) has no architecture {arch!r}")
    args = config.get("model_args") or {}
    check_timm(arch, args)
    for settings in (config, config.get("pretrained_cfg") or {}):  # timm takes the sizes of a picture from either
        check_numbers({key: settings[key] for key in SIZES if key in settings}, str(folder / "config.json"))
    files = weight_files({path.name for path in folder.iterdir()}, "model", ("pytorch_model.bin",))
    check_weights(files, str(folder), "model.safetensors", allow_pickle)
    shape = {"num_classes": config.get("num_classes", 0), **args}
    check_size(
        lambda: timm.create_model(arch, pretrained=False, **shape), [folder / files[0]], str(folder / "config.json")
    )
    try:
        # Without num_classes=0, for then timm would take a checkpoint with tensors missing.
        backbone = timm.create_model(f"local-dir:{folder}", pretrained=True)
        backbone.reset_classifier(0)
    except Exception as error:
        raise MissingWeightsError(
            f"{folder / files[0]} does not fit {arch}: {' '.join(str(error).split())[:300]}"
        ) from error
    # timm writes the size of the classifier among the arguments; ours has none.
    return image_tower(arch, name, backbone, {key: value for key, value in args.items() if key != "num_classes"})


def open_name(
    name: str, *, revision: str | None = None, allow_pickle: bool = False, ignore: Ignore = NOTHING
) -> "Embedder":
    """`timm:<name>`: one of timm's pretrained models, fetched from the repository that timm names."""
    import difflib

    import timm
    from timm.models import get_pretrained_cfg

    from zoo import hub

    known = timm.list_models(pretrained=True)
    settings = get_pretrained_cfg(name) if name in known or name in timm.list_models() else None
    if settings is None or not settings.has_weights:
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.4)
        raise UnknownModelError(
            f"timm has no pretrained model {name!r}; nearest: {', '.join(near) or 'see timm.list_models'}"
        )
    if not settings.hf_hub_id:
        check_weights([Path(str(settings.url or settings.file)).name], f"timm:{name}", "a Hub repository", allow_pickle)
        backbone = timm.create_model(name, pretrained=True, num_classes=0)
        return image_tower(settings.architecture, name, backbone, {})
    tag = f".{settings.tag}" if settings.tag else ""
    repo = (
        settings.hf_hub_id
        if not settings.hf_hub_id.endswith("/")
        else f"{settings.hf_hub_id}{settings.architecture}{tag}"
    )
    listing = hub.repository_files(repo, revision)
    names = set(listing.names)
    check_weights(
        [n for n in wanted(names) if n != "config.json"], f"timm:{name} (hf:{repo})", "model.safetensors", allow_pickle
    )
    folder = hub.download_files(listing, wanted(names))
    model = load(folder, name=name, trust_remote_code=False, allow_pickle=allow_pickle)
    model.spec = replace(model.spec, hub_id=repo, revision=listing.commit)
    return model


def transform_of(backbone: "nn.Module") -> "PixelTransform":
    """The evaluation transform that timm would build for this backbone."""
    import math

    from timm.data import resolve_model_data_config

    from zoo.encoders.pixels import PixelTransform

    data = resolve_model_data_config(backbone)
    size = tuple(data["input_size"][1:])
    scaled = tuple(math.floor(side / data["crop_pct"]) for side in size)
    mode = {"center": "shortest", "squash": "squash", "border": "longest"}[data["crop_mode"]]
    return PixelTransform(
        size=size,
        resize=mode,
        resize_size=None if scaled == size else scaled,
        interpolation="bilinear" if data["interpolation"] == "bilinear" else "bicubic",
        mean=data["mean"],
        std=data["std"],
        fill=tuple(round(255 * mean) for mean in data["mean"]) if mode == "longest" else 0,
    )


def image_tower(arch: str, name: str, backbone: "nn.Module | None", args: dict[str, Any]) -> "Embedder":
    """An image-only Embedder around a timm backbone; without one, a tower with random weights."""
    import timm

    from zoo.embedder import Embedder, Tower
    from zoo.encoders.image import TimmImage
    from zoo.heads import Identity
    from zoo.pooling import Cls

    backbone = backbone or timm.create_model(arch, pretrained=False, num_classes=0, **args)
    encoder = TimmImage(arch, transform_of(backbone), args=args, backbone=backbone)
    spec = ModelSpec(
        name=name,
        modalities=frozenset({"image"}),
        dim=encoder.width,
        license=backbone.pretrained_cfg.get("license") or "unknown",
        image_size=encoder.transform.size[0],
        params=sum(p.numel() for p in encoder.parameters()),
    )
    return Embedder(spec, [Tower(encoder, Cls(), Identity())])
