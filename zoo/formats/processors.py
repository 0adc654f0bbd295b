"""transformers' image processors: what preprocessor_config.json or processor_config.json says, as our pixel transform.

The library's own class reads the settings, so that its defaults, its old spellings and its checks are the ones that count.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.encoders.config_checks import check_numbers
from zoo.encoders.transformers_dual import DUALS
from zoo.errors import UnrecognisedCheckpointError
from zoo.formats import read_object
from zoo.formats.known import images
from zoo.formats.settings import NOTHING, Ignore, Table, read

if TYPE_CHECKING:
    from zoo.encoders.image_transform import PixelTransform
    from zoo.sequences import SequenceFormat

# Pillow's codes of what torch can resize by; transformers fails at the first image by the others.
RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
OF_TYPE = {
    "clip": "CLIPImageProcessor",
    "siglip": "SiglipImageProcessor",
    "siglip2": "Siglip2ImageProcessor",
    "tipsv2": "Tipsv2ImageProcessor",
}


def image_settings(folder: Path, model_type: str, ignore: Ignore = NOTHING) -> tuple[dict[str, Any], Path]:
    """The settings of a folder's image processor and their file; those inside processor_config.json come first, as there.

    Raises:
        UnrecognisedCheckpointError: there are none. OversizedError: a size that no model has.
        UnreadSettingError: a setting that the zoo does not follow.
    """
    for name, key in (("processor_config.json", "image_processor"), ("preprocessor_config.json", None)):
        if not (folder / name).is_file():
            continue
        settings = read_object(folder / name)
        settings = settings.get(key) if key else settings
        if isinstance(settings, dict):
            check_numbers(settings, str(folder / name))
            table = images.PATCHES if DUALS[model_type].patches else images.IMAGES
            return read(settings, table, folder / name, ignore), folder / name
    raise UnrecognisedCheckpointError(f"{folder} has neither preprocessor_config.json nor processor_config.json")


def open_images(settings: Mapping[str, Any], model_type: str, where: Path, ignore: Ignore = NOTHING) -> Any:
    """transformers' image processor of these settings, once it is known to do what the zoo's pixel transform does.

    A class of SigLIP 2's own (`HfNaflexImage` calls it) comes with that model type alone.

    Raises:
        UnreadSettingError: a class that resizes in its own way. UnrecognisedCheckpointError: values that make no sense.
    """
    from transformers.models.auto.image_processing_auto import get_image_processor_class_from_name

    key = "image_processor_type" if settings.get("image_processor_type") else "feature_extractor_type"
    named = settings.get(key)
    native = OF_TYPE[model_type]
    name = str(named or native).replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast")
    cls = get_image_processor_class_from_name(name)
    if not (name == native or (not DUALS[model_type].patches and _is_plain(cls))):
        ignore.refuse(where, key, named, f"it resizes in a way of its own, which is not a {native}'s")
        cls = get_image_processor_class_from_name(native)
    values = {key: value for key, value in settings.items() if key not in images.NAMES}
    try:
        return cls(**values)
    except Exception as error:  # its checks raise TypeError, ValueError and types of huggingface_hub
        raise UnrecognisedCheckpointError(f"{where}: the image processor's settings make no sense: {error}") from error


def _is_plain(cls: Any) -> bool:
    """Whether a class of image processors differs from the common one in its default values alone."""
    from transformers.image_processing_backends import TorchvisionBackend

    if not isinstance(cls, type) or not issubclass(cls, TorchvisionBackend):
        return False
    between = cls.__mro__[: cls.__mro__.index(TorchvisionBackend)]
    own = {name for part in between for name, value in vars(part).items() if callable(value) or hasattr(value, "fget")}
    return own <= {"__init__", "valid_kwargs"} and cls.valid_kwargs is TorchvisionBackend.valid_kwargs


def transform_of(processor: Any, side: Any, where: Path, ignore: Ignore = NOTHING) -> "PixelTransform":
    """What a plain image processor of transformers does.

    Args:
        side: the tower's `image_size`: pixels, or (height, width).

    Raises:
        UnreadSettingError: images of several sizes, or of another than the tower's; a filter that torch does not have.
        UnrecognisedCheckpointError: values that make no sense.
    """
    from zoo.encoders.image_transform import PixelTransform

    tower = (side, side) if isinstance(side, int) else tuple(side)
    resized = _sides(processor, "size", where, ignore, tower) if processor.do_resize else None
    resize = "none" if resized is None else "shortest" if processor.size.shortest_edge else "squash"
    size = _sides(processor, "crop_size", where, ignore, tower) if processor.do_center_crop else resized
    if not processor.do_center_crop and resize != "squash":
        crops = getattr(type(processor), "do_center_crop", None)  # unless its file says that it does not
        key = "do_resize" if resize == "none" else "do_center_crop" if crops else "size"
        why = f"images would keep sizes of their own, and the tower reads {_text(tower)} alone"
        ignore.refuse(where, key, dict(processor.size) if key == "size" else False, why)
        size, resize, resized = tower, "squash", tower
    if size != tower:
        key = "crop_size" if processor.do_center_crop else "size"
        ignore.refuse(where, key, dict(getattr(processor, key)), f"the tower reads images of {_text(tower)} pixels")
        size = tower
    if processor.do_pad and processor.pad_size and _pair(processor.pad_size) != size:
        ignore.refuse(where, "pad_size", dict(processor.pad_size), f"the tower reads images of {_text(tower)} pixels")
    try:
        return PixelTransform(
            size=size,
            resize=resize,
            resize_size=resized if processor.do_center_crop and resized != size else None,
            interpolation=(processor.do_resize and _interpolation(processor.resample, where, ignore)) or "bicubic",
            crop_rounding="floor",
            engine="torch",
            mean=_channels(processor.image_mean) if processor.do_normalize else (0.0,) * 3,
            std=_channels(processor.image_std) if processor.do_normalize else (1.0,) * 3,
            scale=float(processor.rescale_factor) if processor.do_rescale else 1.0,
        )
    except (TypeError, ValueError) as error:
        raise UnrecognisedCheckpointError(f"{where}: the image processor's settings make no sense: {error}") from error


def patch_settings(
    settings: dict[str, Any], processor: Any, patch: int, where: Path, ignore: Ignore = NOTHING
) -> dict[str, Any]:
    """The settings of SigLIP 2's own processor, held to the tower's patches and to the filters that torch has.

    Raises:
        UnreadSettingError: other patches, or another filter. UnrecognisedCheckpointError: fewer than one patch.
    """
    settings = dict(settings)
    if processor.patch_size != patch:
        ignore.refuse(where, "patch_size", processor.patch_size, f"the tower reads patches of {patch} pixels")
        settings["patch_size"] = patch
    if not processor.max_num_patches or processor.max_num_patches < 1:
        raise UnrecognisedCheckpointError(f"{where} has max_num_patches = {processor.max_num_patches}; at least 1")
    if not _interpolation(processor.resample, where, ignore):
        del settings["resample"]
    return settings


def check_files(folder: Path, processor: Any, ignore: Ignore = NOTHING) -> None:
    """Holds the files of a vision-language model's processor to what transformers' own classes of its parts read.

    Raises:
        UnreadSettingError: a setting that none of them has.
    """
    parts = {name: getattr(processor, name, None) for name in ("image_processor", "video_processor")}
    own = {name: _arguments(part) for name, part in parts.items()}
    both = own["image_processor"] | own["video_processor"]  # once one file was read by both
    hears = getattr(processor, "feature_extractor", None)
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        if (folder / name).is_file():
            settings = read_object(folder / name)
            heard = (
                _check_audio(settings, hears, folder / name, ignore, "")
                if "feature_extractor_type" in settings
                else set()
            )
            read(settings, _with(images.PART, both | heard), folder / name, ignore)
    file = folder / "processor_config.json"
    if not file.is_file():
        return
    settings = read_object(file)
    whole = set(inspect.signature(type(processor).__init__).parameters)
    read(settings, _with(images.WHOLE, whole), file, ignore)
    for name, arguments in own.items():
        if isinstance(settings.get(name), dict):
            read(settings[name], _with(images.PART, arguments), file, ignore, f"{name}.")
    if isinstance(settings.get("feature_extractor"), dict):
        prefix = "feature_extractor."
        heard = _check_audio(settings["feature_extractor"], hears, file, ignore, prefix)
        read(
            settings["feature_extractor"],
            Table({"feature_extractor_type", "processor_class", *heard}),
            file,
            ignore,
            prefix,
        )


def _check_audio(settings: Mapping[str, Any], part: Any, where: Path, ignore: Ignore, prefix: str) -> set[str]:
    """The settings of a feature extractor: arguments of its class, and what it computes from these, held to what it computed.

    Raises:
        UnreadSettingError: a computed one is another in the file; the class would pass over it.
    """
    if part is None:
        return set()
    arguments = {
        name
        for base in type(part).__mro__
        if "__init__" in vars(base)
        for name in inspect.signature(base.__init__).parameters
        if name not in ("self", "args", "kwargs")
    }
    usual = type(part)()  # an unknown setting becomes an attribute of `part`
    computed = {
        name for name in settings if name not in arguments and isinstance(getattr(usual, name, None), int | float)
    }
    for name in computed:
        if settings[name] != getattr(part, name):
            why = f"the {type(part).__name__} computes it from its other settings, as {getattr(part, name)}"
            ignore.refuse(where, f"{prefix}{name}", settings[name], why)
    return {"padding_side", *arguments, *computed}


def own_images(folder: Path, cls: Any, ignore: Ignore = NOTHING) -> Any:
    """A folder's image processor of this class of transformers, which makes the images ready itself.

    Raises:
        UnrecognisedCheckpointError: no settings, of another class, or values that make no sense.
        UnreadSettingError: a setting that the class does not have.
    """
    for name, key in (("processor_config.json", "image_processor"), ("preprocessor_config.json", None)):
        settings = read_object(folder / name) if (folder / name).is_file() else {}
        settings = settings.get(key) if key else settings
        if not settings or not isinstance(settings, dict):
            continue
        file = folder / name
        check_numbers(settings, str(file))
        of = str(settings.get("image_processor_type", cls.__name__)).removesuffix("Fast")
        if of != cls.__name__:
            raise UnrecognisedCheckpointError(f"{file} is of a {of[:60]}, and here a {cls.__name__} is wanted")
        arguments = set(cls.valid_kwargs.__annotations__)
        settings = read(settings, _with(images.PART, arguments), file, ignore)
        try:
            return cls(**{key: value for key, value in settings.items() if key not in images.NAMES})
        except Exception as error:  # its checks raise TypeError, ValueError and types of huggingface_hub
            raise UnrecognisedCheckpointError(f"{file}: its settings make no sense: {error}") from error
    raise UnrecognisedCheckpointError(f"{folder} has neither preprocessor_config.json nor processor_config.json")


def check_prefixes(folder: Path, processor: Any, layout: "SequenceFormat", ignore: Ignore = NOTHING) -> None:
    """Holds the prompts that a processor of ColPali's family names in its file to the ones that the model is read with.

    Raises:
        UnreadSettingError: another `query_prefix` or `visual_prompt_prefix`, which transformers would put before an input.
    """
    from zoo.encoders.sequence.template import Prompt

    file = folder / "processor_config.json"
    if not file.is_file() or not hasattr(processor, "query_prefix"):
        return
    settings = read_object(file)
    prompt, bos = Prompt(layout.prompt), processor.tokenizer.bos_token or ""
    query = prompt.render([("text", "|")], layout, "").partition("|")[0].removeprefix(bos)
    image = prompt.render([("image", None)], layout, "")
    image = image.removeprefix(f"{layout.marks.get('image', '')}{bos}").removesuffix("\n")
    for key, ours in (("query_prefix", query), ("visual_prompt_prefix", image)):
        if settings.get(key) is not None and (theirs := getattr(processor, key)) != ours:
            ignore.refuse(file, key, theirs, f"the model is read with {ours!r} in its place; pass that as a prompt")


def _arguments(part: Any) -> set[str]:
    return set(part.valid_kwargs.__annotations__) if part is not None else set()


def _with(table: Table, followed: set[str]) -> Table:
    """The table with a class's own arguments, but for those without effect here."""
    return Table({*table.followed, *(followed - set(table.inert))}, table.inert, table.held)


def _sides(processor: Any, key: str, where: Path, ignore: Ignore, tower: tuple[int, int]) -> tuple[int, int]:
    value = getattr(processor, key)
    given = dict(value) if value is not None else {}
    if set(given) == {"shortest_edge"} and key == "size":
        return (given["shortest_edge"],) * 2
    if set(given) != {"height", "width"}:
        ignore.refuse(where, key, given, "the zoo reads a height and a width, and of `size` a shortest edge alone")
        return tower
    return given["height"], given["width"]


def _pair(size: Any) -> tuple[Any, Any]:
    return size.height, size.width


def _text(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def _interpolation(code: Any, where: Path, ignore: Ignore) -> str | None:
    """The filter's name; None for one that is not followed, where the caller wants it ignored."""
    import torch
    from torch.nn import functional as F

    name = RESAMPLING.get(int(code) if code is not None else 2)  # None is bilinear there
    if name == "lanczos":
        try:
            F.interpolate(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), size=(4, 4), mode=name, antialias=True)
        except (NotImplementedError, ValueError):  # transformers would take bicubic, and say so in a log
            name = None
    if name is None:
        ignore.refuse(where, "resample", int(code), f"torch resizes by {RESAMPLING} alone, and so does transformers")
    return name


def _channels(value: Any) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (float(value),) * 3
