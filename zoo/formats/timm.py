"""timm: config.json with `"architecture"`, and the names of timm's own pretrained models (image only)."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.encoders.config_checks import check_numbers
from zoo.errors import ArgumentError, MissingWeightsError, UnknownModelError, UnrecognisedCheckpointError
from zoo.formats import check_weights, read_object, weight_files
from zoo.formats.checks.probing import check_vector
from zoo.formats.checks.safetensors_checks import check_size, no_memory
from zoo.formats.known import timm as known
from zoo.formats.layout import Layout, Opening, open_with, register_layout
from zoo.formats.settings import Ignore, read
from zoo.formats.transformers import refuse_code
from zoo.spec import ModelSpec
from zoo.strangers.schema import check_keys

if TYPE_CHECKING:
    from torch import nn

    from zoo.embedder import Embedder
    from zoo.encoders.image_transform import PixelTransform

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


@register_layout
class Timm(Layout):
    """Image encoders that timm wrote, and its pretrained models by name."""

    name = "timm"
    order = 40
    looked_for = 'timm: config.json with "architecture", and model.safetensors'

    def recognise(self, names: set[str], read_json: Callable[[str], Any]) -> bool:
        """Whether timm wrote these files."""
        if "config.json" not in names:
            return False
        config = read_json("config.json")
        return isinstance(config, dict) and isinstance(config.get("architecture"), str) and "model_type" not in config

    def files(self, names: set[str]) -> list[str]:
        """Configuration and weights."""
        return sorted({"config.json", *weight_files(names, "model", ("pytorch_model.bin",))} & names)

    def check_config(self, config: Any, names: set[str], opening: Opening, where: str) -> None:
        """Refuses one that asks for code of its own, which timm itself would never run."""
        refuse_code(config, where, opening.trust_remote_code)

    def load(self, folder: Path, opening: Opening) -> "Embedder":
        """The vision tower of a folder that timm's `save_for_hf` or `push_to_hf_hub` wrote.

        Raises:
            UnreadSettingError: a setting that the zoo does not follow. UnrecognisedCheckpointError: no such architecture, images
                of other channels than RGB, or no one vector. MissingWeightsError: weights that are not this model's.
        """
        import timm

        from zoo.encoders.config_checks import check_timm
        from zoo.encoders.image import check_channels, transform_of

        where = folder / "config.json"
        config = _settings(check_keys(read_object(where), CONFIG, str(where)), where, opening.ignore)
        arch = config["architecture"]
        if arch not in timm.list_models():
            raise UnrecognisedCheckpointError(f"{folder}: this timm ({timm.__version__}) has no architecture {arch!r}")
        args = config.get("model_args") or {}
        check_timm(arch, args)
        for settings in (config, config.get("pretrained_cfg") or {}):  # timm takes the sizes of an image from either
            check_numbers({key: settings[key] for key in SIZES if key in settings}, str(where))
            size = settings.get("input_size", [3])
            check_channels(args.get("in_chans", size[0] if isinstance(size, list) and size else size), where)
        files = weight_files({path.name for path in folder.iterdir()}, "model", ("pytorch_model.bin",))
        check_weights(files, str(folder), "model.safetensors", opening.allow_pickle)
        shape = {"num_classes": config.get("num_classes", 0), **args}
        check_size(lambda: timm.create_model(arch, pretrained=False, **shape), [folder / files[0]], str(where))
        try:
            with _beside(config, folder / files[0]) as place:
                # Without num_classes=0, for then timm would take a checkpoint with tensors missing.
                backbone = timm.create_model(f"local-dir:{place}", pretrained=True)
            backbone.reset_classifier(0)
        except Exception as error:
            raise MissingWeightsError(
                f"{folder / files[0]} does not fit {arch}: {' '.join(str(error).split())[:300]}"
            ) from error
        transform = transform_of(backbone, where, opening.ignore.refuse)
        # timm writes the size of the classifier among the arguments; ours has none.
        args = {key: value for key, value in args.items() if key != "num_classes"}
        return image_tower(arch, opening.name, backbone, _rebuilding(arch, args, backbone, transform, where), transform)

    def open_name(self, name: str, opening: Opening) -> "Embedder":
        """`timm:<name>`: one of timm's pretrained models, fetched from the repository that timm names."""
        import difflib

        import timm
        from timm.models import get_pretrained_cfg

        from zoo.formats.fetching import repository_files
        from zoo.hub import download_files

        names = timm.list_models(pretrained=True)
        settings = get_pretrained_cfg(name) if name in names or name in timm.list_models() else None
        if settings is None or not settings.has_weights:
            near = difflib.get_close_matches(name, names, n=5, cutoff=0.4)
            raise UnknownModelError(
                f"timm has no pretrained model {name!r}; nearest: {', '.join(near) or 'see timm.list_models'}"
            )
        if not settings.hf_hub_id:
            if opening.revision is not None:
                raise ArgumentError(
                    f"timm:{name} lies on no Hub, and has no revision {opening.revision!r}; leave it out"
                )
            check_weights(
                [Path(str(settings.url or settings.file)).name],
                f"timm:{name}",
                "a Hub repository",
                opening.allow_pickle,
            )
            backbone = timm.create_model(name, pretrained=True, num_classes=0)
            return image_tower(settings.architecture, name, backbone, {})
        tag = f".{settings.tag}" if settings.tag else ""
        repo = (
            settings.hf_hub_id
            if not settings.hf_hub_id.endswith("/")
            else f"{settings.hf_hub_id}{settings.architecture}{tag}"
        )
        listing = repository_files(repo, opening.revision)
        files = set(listing.names)
        check_weights(
            [n for n in self.files(files) if n != "config.json"],
            f"timm:{name} (hf:{repo})",
            "model.safetensors",
            opening.allow_pickle,
        )
        folder = download_files(listing, self.files(files))
        model = open_with(self, folder, replace(opening, name=name, trust_remote_code=False))
        model.spec = replace(model.spec, hub_id=repo, revision=listing.commit)
        return model


def _settings(config: dict[str, Any], where: Path, ignore: Ignore) -> dict[str, Any]:
    """A config.json of which every key is followed or without effect, those that the caller ignores left out."""
    config = {key: value for key, value in config.items() if value is not None}
    if "pretrained_cfg" not in config:
        return read(config, known.OLD_CONFIG, where, ignore)
    inner = read(config["pretrained_cfg"], known.PRETRAINED, where, ignore, "pretrained_cfg.")
    return {**read(config, known.CONFIG, where, ignore), "pretrained_cfg": inner}


@contextmanager
def _beside(config: dict[str, Any], weights: Path) -> Iterator[Path]:
    """A folder with these settings and these weights alone: timm reads it as a whole, and by itself."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        (Path(folder) / weights.name).symlink_to(weights.resolve())
        yield Path(folder)


def _rebuilding(
    arch: str, args: dict[str, Any], backbone: "nn.Module", transform: "PixelTransform", where: Path
) -> dict[str, Any]:
    """The arguments by which timm builds this backbone again, without its file: its image size may stand in that alone.

    Raises:
        UnrecognisedCheckpointError: none do, or the backbone makes no vector of the images that its file describes.
    """
    import timm

    wanted = {key: tensor.shape for key, tensor in backbone.state_dict().items()}
    for size in ({}, {"img_size": list(transform.size)}):
        try:
            with no_memory(str(where)):
                again = timm.create_model(arch, pretrained=False, **{"num_classes": 0, **args, **size})
        except TypeError:  # an architecture without img_size
            continue
        if {key: tensor.shape for key, tensor in again.state_dict().items()} == wanted:
            check_vector(again, (1, 3, *transform.size), str(where))
            return {**args, **size}
    raise UnrecognisedCheckpointError(
        f"{where}: the weights are of another shape than {arch} with model_args {args}; write them with timm's save_for_hf"
    )


def image_tower(
    arch: str,
    name: str,
    backbone: "nn.Module | None",
    args: dict[str, Any],
    transform: "PixelTransform | None" = None,
) -> "Embedder":
    """An image-only Embedder around a timm backbone; without one, a tower with random weights."""
    from zoo.embedder import Embedder, Tower
    from zoo.encoders.image import timm_image
    from zoo.heads import Identity
    from zoo.pooling import Cls

    encoder = timm_image(arch, args, backbone, transform)
    spec = ModelSpec(
        name=name,
        modalities=frozenset({"image"}),
        dim=encoder.width,
        license=encoder.backbone.pretrained_cfg.get("license") or "unknown",
        image_size=encoder.transform.size[0],
        params=sum(p.numel() for p in encoder.parameters()),
    )
    return Embedder(spec, [Tower(encoder, Cls(), Identity())])
