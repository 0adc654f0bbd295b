"""What open_clip says of its models: their names, the settings of an architecture and a tag, and how images are prepared."""

from pathlib import Path
from typing import Any

from zoo.encoders.config_checks import Refuse, refuse_setting
from zoo.encoders.image_transform import CLIP_MEAN, CLIP_STD, PixelTransform
from zoo.errors import UnknownModelError, UnrecognisedCheckpointError

_MODES = ("shortest", "longest", "squash")


def parse_name(name: str) -> tuple[str, str]:
    """Architecture and tag of `<arch>/<tag>`; raises UnknownModelError with what open_clip has instead."""
    import difflib

    import open_clip

    arch, _, tag = name.rpartition("/")
    arch = arch.replace("/", "-")
    if arch not in open_clip.list_models():
        near = difflib.get_close_matches(arch or name, open_clip.list_models(), n=4, cutoff=0.4)
        raise UnknownModelError(
            f"open_clip has no architecture {arch or name!r} (write open_clip:<arch>/<tag>); nearest: {', '.join(near)}"
        )
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if tag not in tags:
        raise UnknownModelError(f"open_clip has no weights {tag!r} for {arch}; it has: {', '.join(tags) or 'none'}")
    return arch, tag


def tag_config(arch: str, tag: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """open_clip's model_cfg of an architecture, as the tag was trained, and the tag's own settings."""
    import open_clip

    model_cfg = open_clip.get_model_config(arch)
    pretrained = dict(open_clip.get_pretrained_cfg(arch, tag) or {}) if tag else {}
    if "quick_gelu" in pretrained:
        # open_clip only warns here, and gives wrong vectors.
        model_cfg["quick_gelu"] = bool(pretrained["quick_gelu"])
    return model_cfg, pretrained


def transform_of(
    model_cfg: dict[str, Any],
    preprocess: dict[str, Any],
    where: Path | str = "open_clip",
    refuse: Refuse = refuse_setting,
) -> PixelTransform:
    """The pixel transform that open_clip would build from these settings, in the size of the tower.

    Args:
        where: begins the messages. refuse: what happens to a setting that is not followed.

    Raises:
        UnreadSettingError: another size than the tower's, a filter or a way of resizing that open_clip does not know.
        UnrecognisedCheckpointError: values that make no sense.
    """
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    usual = PreprocessCfg()
    merged = merge_preprocess_dict(usual, preprocess)
    size, said = _pair(model_cfg["vision_cfg"].get("image_size", 224)), preprocess.get("size")
    if said is not None and _pair(said) != size:
        refuse(where, "preprocess_cfg.size", said, f"the tower reads images of {size[0]}x{size[1]} pixels")
    # At inference open_clip takes "random" for bicubic.
    for key, good in (("interpolation", ("bicubic", "bilinear", "random")), ("resize_mode", _MODES)):
        if merged[key] not in good:
            refuse(where, f"preprocess_cfg.{key}", merged[key], f"open_clip knows {', '.join(good)}")
            merged[key] = getattr(usual, key)
    # An oblong is resized by its own default, whatever it is told.
    bilinear = merged["interpolation"] == "bilinear" and (merged["resize_mode"] != "shortest" or size[0] == size[1])
    try:
        return PixelTransform(
            size=size,
            resize=merged["resize_mode"],
            interpolation="bilinear" if bilinear else "bicubic",
            mean=_channels(merged["mean"] or CLIP_MEAN),
            std=_channels(merged["std"] or CLIP_STD),
            fill=merged["fill_color"],
        )
    except (TypeError, ValueError) as error:
        raise UnrecognisedCheckpointError(f"{where}: its preprocess_cfg makes no sense: {error}") from error


def _pair(size: Any) -> tuple[Any, ...]:
    return tuple(size) if isinstance(size, list | tuple) else (size, size)


def _channels(value: Any) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,) * 3
