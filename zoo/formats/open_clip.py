"""open_clip: open_clip_config.json in a folder, and the pretrained tags that open_clip itself lists."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.encoders.config_checks import check_numbers
from zoo.encoders.open_clip_config import parse_name, tag_config, transform_of
from zoo.errors import ArgumentError, MissingWeightsError, UnrecognisedCheckpointError
from zoo.formats import TOKENIZER_FILES, check_weights, read_object, weight_files
from zoo.formats.checks.probing import check_vector
from zoo.formats.checks.safetensors_checks import check_size
from zoo.formats.known import open_clip as known
from zoo.formats.layout import Layout, Opening, register_layout
from zoo.formats.scale import scale_of
from zoo.formats.settings import NOTHING, Ignore, read
from zoo.formats.tokenizer import check_tokenizer
from zoo.formats.transformers import DUAL
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from zoo.embedder import Embedder
    from zoo.encoders.image_transform import PixelTransform

CONFIG = "open_clip_config.json"
_STEMS = ("open_clip_model", "open_clip_pytorch_model")


@register_layout
class OpenClip(Layout):
    """Dual towers that open_clip wrote, and its pretrained tags by name."""

    name = "open_clip"
    order = 10
    looked_for = "open_clip: open_clip_config.json and open_clip_model.safetensors"

    def recognise(self, names: set[str], read_json: Callable[[str], Any]) -> bool:
        """Whether open_clip wrote these files; where its weights are a pickle, and transformers' safetensors are there, those win."""
        if CONFIG not in names or any(file.endswith(".safetensors") for file in _own(names)):
            return CONFIG in names
        config = read_json("config.json") if "config.json" in names else None
        theirs = isinstance(config, dict) and config.get("model_type") in DUAL and weight_files(names, "model", ())
        return not theirs

    def files(self, names: set[str]) -> list[str]:
        """Configuration, one file of weights, tokenizer."""
        return sorted({n for n in names if n == CONFIG or n in TOKENIZER_FILES} | set(_weights(names)))

    def load(self, folder: Path, opening: Opening) -> "Embedder":
        """The dual towers of a folder with open_clip_config.json."""
        config = read(read_object(folder / CONFIG), known.CONFIG, folder / CONFIG, opening.ignore)
        preprocess = config.get("preprocess_cfg") or {}
        if not isinstance(config.get("model_cfg"), dict) or not isinstance(preprocess, dict):
            raise UnrecognisedCheckpointError(
                f'{folder / CONFIG} has no "model_cfg", or a "preprocess_cfg" that is no object'
            )
        check_numbers(preprocess, str(folder / CONFIG), "preprocess_cfg")
        model_cfg = _settings(config["model_cfg"], folder / CONFIG, opening.ignore)
        preprocess = read(preprocess, known.PREPROCESS, folder / CONFIG, opening.ignore, "preprocess_cfg.")
        files = _weights({path.name for path in folder.iterdir()})
        check_weights(files, str(folder), "open_clip_model.safetensors", opening.allow_pickle)
        model = _assemble(model_cfg, preprocess, folder / files[0], opening.name, folder, opening.ignore)
        if model_cfg["text_cfg"].get("hf_tokenizer_name") and any(
            (folder / file).is_file() for file in TOKENIZER_FILES
        ):
            check_tokenizer(folder, model.towers[1].encoder.tokenizer.tokenizer, opening.ignore)
        return model

    def open_name(self, name: str, opening: Opening) -> "Embedder":
        """`open_clip:<arch>/<tag>`: a pretrained tag, its weights fetched from the Hub repository that open_clip names."""
        from zoo.formats.fetching import repository_files
        from zoo.hub import download_files

        arch, tag = parse_name(name)
        model_cfg, pretrained = tag_config(arch, tag)
        parts = (pretrained.get("hf_hub") or "").strip("/").split("/")
        if len(parts) < 2:
            from open_clip import download_pretrained

            if opening.revision is not None:
                raise ArgumentError(
                    f"open_clip:{name} lies on no Hub, and has no revision {opening.revision!r}; leave it out"
                )
            check_weights([Path(pretrained["url"]).name], f"open_clip:{name}", "safetensors", opening.allow_pickle)
            return _assemble(model_cfg, pretrained, Path(download_pretrained(pretrained)), f"{arch}/{tag}", None)
        repo, file = "/".join(parts[:2]), "/".join(parts[2:])
        listing = repository_files(repo, opening.revision)
        names = set(listing.names)
        stem = Path(file).stem if file else None
        files = weight_files(names, stem, (file,)) if stem else _weights(names)
        check_weights(files, f"open_clip:{name} (hf:{repo})", "open_clip_model.safetensors", opening.allow_pickle)
        tokenizer = [n for n in sorted(names) if n in TOKENIZER_FILES]
        folder = download_files(listing, [*files, *tokenizer])
        model = _assemble(model_cfg, pretrained, folder / files[0], f"{arch}/{tag}", folder)
        model.spec = replace(model.spec, hub_id=repo, revision=listing.commit)
        return model


def _own(names: set[str]) -> list[str]:
    """Weights under open_clip's own names, safetensors first."""
    choices = [weight_files(names, stem, (f"{stem}.bin", f"{stem}.pth")) for stem in _STEMS]
    safe = [files for files in choices if any(f.endswith(".safetensors") for f in files)]
    return next(iter(safe or [files for files in choices if files]), [])


def _weights(names: set[str]) -> list[str]:
    # Another library's model.safetensors may lie beside open_clip's pickle: it is taken only where there is nothing else.
    return _own(names) or weight_files(names, "model", ("pytorch_model.bin",))


def _settings(model_cfg: dict[str, Any], where: Path, ignore: Ignore) -> dict[str, Any]:
    """A model_cfg of which every key is followed or without effect, those that the caller ignores left out."""
    model_cfg = read(model_cfg, known.MODEL, where, ignore, "model_cfg.")
    for part, table in (
        ("vision_cfg", known.VISION),
        ("text_cfg", known.TEXT),
        ("multimodal_cfg", known.MULTIMODAL),
    ):
        if model_cfg.get(part) is None:
            model_cfg.pop(part, None)
            if part != "multimodal_cfg":
                raise UnrecognisedCheckpointError(
                    f"{where}: its model_cfg has no {part}: one of the two towers is not there; take the whole checkpoint"
                )
            continue
        if not isinstance(model_cfg[part], dict):
            raise UnrecognisedCheckpointError(f"{where}: the {part} of its model_cfg must be an object")
        model_cfg[part] = read(model_cfg[part], table, where, ignore, f"model_cfg.{part}.")
    return model_cfg


def whole_model(model_cfg: dict[str, Any]) -> "nn.Module":
    """open_clip's own model with random weights and its text tower apart (`CustomTextCLIP`, or `CoCa`)."""
    from open_clip.coca_model import CoCa
    from open_clip.model import CustomTextCLIP

    from zoo.encoders.config_checks import check_open_clip
    from zoo.encoders.open_clip import fetch_text_config

    check_open_clip(model_cfg)
    fetch_text_config(model_cfg.get("text_cfg") or {})
    settings = deepcopy(model_cfg)
    settings.pop("custom_text", None)
    settings.pop("output_dict", None)
    if "timm_model_name" in settings["vision_cfg"]:
        settings["vision_cfg"]["timm_model_pretrained"] = False
    if "hf_model_name" in settings["text_cfg"]:
        settings["text_cfg"]["hf_model_pretrained"] = False
    return (CoCa if "multimodal_cfg" in settings else CustomTextCLIP)(**settings)


def _assemble(
    model_cfg: dict[str, Any],
    preprocess: dict[str, Any],
    weights: Path,
    name: str,
    assets: Path | None,
    ignore: Ignore = NOTHING,
) -> "Embedder":
    from open_clip.factory import load_checkpoint

    where = f"{weights.parent}: the model_cfg of {name}"
    empty = check_size(lambda: whole_model(model_cfg), [weights], where)
    transform = transform_of(model_cfg, preprocess, weights.parent / CONFIG, ignore.refuse)
    check_vector(empty.visual, (1, 3, *transform.size), where)
    check_vector(empty.text, (1, model_cfg["text_cfg"].get("context_length", 77)), where, ids=True)
    try:
        model = whole_model(model_cfg)
    except (TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise UnrecognisedCheckpointError(f"{name}: open_clip cannot build its model_cfg: {error}") from error
    try:
        load_checkpoint(model, str(weights), strict=True, weights_only=True)
    except Exception as error:
        # open_clip converts many foreign layouts and fails in as many ways.
        reason = " ".join(str(error).split())[:300]
        raise MissingWeightsError(f"{weights} does not fit {name}: {reason}") from error
    towers = _towers(model_cfg, transform, name, model.visual, model.text, assets)
    towers.logit_scale = scale_of(model.logit_scale, getattr(model, "logit_bias", None), weights)
    return towers


def _towers(
    model_cfg: dict[str, Any],
    transform: "PixelTransform",
    name: str,
    visual: "nn.Module",
    text: "nn.Module",
    assets: Path | None,
) -> "Embedder":
    """An Embedder around open_clip's loaded towers."""
    from zoo.embedder import Embedder, Tower
    from zoo.encoders.open_clip import OpenClipImage, OpenClipText
    from zoo.heads import Identity
    from zoo.pooling import Cls

    towers = [
        Tower(OpenClipImage(model_cfg, transform, visual), Cls(), Identity()),
        Tower(OpenClipText(model_cfg, text, assets=assets), Cls(), Identity()),
    ]
    spec = ModelSpec(
        name=name,
        modalities=frozenset({"image", "text"}),
        dim=model_cfg["embed_dim"],
        license="unknown",
        image_size=transform.size[0],
        max_tokens=model_cfg["text_cfg"].get("context_length", 77),
        params=sum(p.numel() for tower in towers for p in tower.parameters()),
    )
    return Embedder(spec, towers)
