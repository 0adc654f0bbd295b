"""Alpha-CLIP's checkpoints: the authors' `clip_<size>_….pth`, a vision tower alone, beside or without the CLIP that it belongs to."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import HubError, MissingWeightsError, UnrecognisedCheckpointError, UnsafeCheckpointError
from zoo.formats.checks.folder import check_folder
from zoo.formats.layout import Layout, Opening, register_layout
from zoo.formats.open_clip import CONFIG, OpenClip
from zoo.formats.tensors import read_pickle

if TYPE_CHECKING:
    import torch

    from zoo.embedder import Embedder
    from zoo.encoders.alpha_clip import AlphaClipImage

CLIP = "clip"  # a folder in the checkpoint's, for those who have no Hub, or another size than OpenAI's
_FILE = re.compile(r"clip_[a-z]\d+\S*\.pth")
# (width, patch, positions) of the vision tower → open_clip's name of the CLIP that it was trained from.
_BASES = {
    (768, 16, 197): "ViT-B-16-quickgelu/openai",
    (1024, 14, 257): "ViT-L-14-quickgelu/openai",
    (1024, 14, 577): "ViT-L-14-336-quickgelu/openai",
}


@register_layout
class AlphaClip(Layout):
    """A folder with one of the authors' files, under the name that they gave it."""

    name = "alpha_clip"
    order = 25
    looked_for = "Alpha-CLIP: clip_b16_….pth or clip_l14_….pth, as its authors name them"

    def recognise(self, names: set[str], read_json: Callable[[str], Any]) -> bool:
        """Whether there is such a file, and no configuration of another library."""
        return bool(_files(names)) and not names & {"config.json", "modules.json", CONFIG}

    def files(self, names: set[str]) -> list[str]:
        """The file, and the CLIP in its folder."""
        return sorted({*_files(names), *(name for name in names if name.startswith(f"{CLIP}/"))})

    def load(self, folder: Path, opening: Opening) -> "Embedder":
        """CLIP with the authors' vision tower in place of its own."""
        from zoo.embedder import Embedder, Tower
        from zoo.encoders.alpha_clip import AlphaClipImage

        files = _files({path.name for path in folder.iterdir()})
        if len(files) > 1:
            raise UnrecognisedCheckpointError(
                f"{folder} holds several Alpha-CLIPs ({', '.join(files[:4])}); give each a folder of its own"
            )
        path = folder / files[0]
        if not opening.allow_pickle:
            raise UnsafeCheckpointError(f"{path} is a pickle; pass allow_pickle=True (only tensors are read from it)")
        tensors = _vision(read_pickle(path), path)
        clip = _base(folder, tensors, path, opening)
        image, text = clip.towers
        encoder = AlphaClipImage(image.encoder.model_cfg, image.encoder.transform, image.encoder.tower)
        _fill(encoder, tensors, path)
        spec = replace(
            clip.spec,
            name=opening.name,
            modalities=clip.spec.modalities | {"regions"},
            hub_id="",
            revision=None,
            params=sum(p.numel() for part in (encoder, text) for p in part.parameters()),
        )
        model = Embedder(spec, [Tower(encoder, image.pooler, image.head), text])
        model.logit_scale = clip.logit_scale
        return model


def _files(names: set[str]) -> list[str]:
    return sorted(name for name in names if _FILE.fullmatch(name))


def _vision(found: "dict[str, torch.Tensor]", path: Path) -> "dict[str, torch.Tensor]":
    """The tensors by open_clip's names.

    Raises:
        MissingWeightsError: it has none of a channel of what is meant. UnrecognisedCheckpointError: an adapter is not merged.
    """
    for prefix in ("module.", "visual."):
        if found and all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    if adapters := [name for name in found if "lora_" in name]:
        raise UnrecognisedCheckpointError(
            f"{path} has an adapter that was not merged ({adapters[0][:80]}); merge it first"
        )
    if "conv1_alpha.weight" not in found or "conv1.weight" not in found:
        raise MissingWeightsError(
            f"{path} has no conv1.weight and conv1_alpha.weight: it is no vision tower of Alpha-CLIP"
        )
    names = {"conv1.weight": "conv1.colours.weight", "conv1_alpha.weight": "conv1.alpha.weight"}
    return {
        names.get(name) or name.replace(".attn.in_proj.", ".attn.in_proj_"): tensor.float()
        for name, tensor in found.items()
    }


def _base(folder: Path, tensors: "Mapping[str, torch.Tensor]", path: Path, opening: Opening) -> "Embedder":
    """The CLIP that the tower belongs to: in the folder, else OpenAI's of its size, fetched.

    Raises:
        UnrecognisedCheckpointError: OpenAI has none of this size, or it has another activation. HubError: it is not in reach.
    """
    if (folder / CLIP).is_dir():
        check_folder(folder / CLIP, root=folder)
        clip = OpenClip().load(folder / CLIP, opening)
    else:
        patches = tensors["conv1.colours.weight"]
        shape = (patches.shape[0], patches.shape[-1], len(tensors.get("positional_embedding", ())))
        if shape not in _BASES:
            raise UnrecognisedCheckpointError(
                f"{path} has width, patch and positions {shape}, as no CLIP of OpenAI's; put the CLIP that it was trained from, as "
                f"open_clip writes it ({CONFIG}), into {folder / CLIP}"
            )
        try:
            clip = OpenClip().open_name(_BASES[shape], replace(opening, revision=None, local=False))
        except HubError as error:
            raise type(error)(
                f"{error}. The texts of Alpha-CLIP are read by OpenAI's CLIP, which is in a repository of its own; without the Hub "
                f"put its {CONFIG} and open_clip_model.safetensors into {folder / CLIP}"
            ) from error
    if not clip.towers[0].encoder.model_cfg.get("quick_gelu"):
        raise UnrecognisedCheckpointError(
            f"{folder / CLIP}: Alpha-CLIP was trained from OpenAI's CLIP, whose activation is QuickGELU, and this one has another"
        )
    return clip


def _fill(encoder: "AlphaClipImage", tensors: "Mapping[str, torch.Tensor]", path: Path) -> None:
    """Puts all tensors into the tower.

    Raises:
        MissingWeightsError: one is missing, left over, of another shape, or not finite.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in encoder.tower.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wrong := sorted(name for name in expected | shapes if expected.get(name) != shapes.get(name)):
        raise MissingWeightsError(
            f"{path} does not fit its CLIP: {wrong[0][:80]} has the shape {shapes.get(wrong[0])}, not {expected.get(wrong[0])}"
        )
    if bad := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise MissingWeightsError(f"{path}: {bad[0]} has NaN or infinite weights; take another copy")
    encoder.tower.load_state_dict(dict(tensors), strict=True)
