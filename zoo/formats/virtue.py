"""VIRTUE checkpoints: a merged Qwen2-VL and the connector of its second network, SAM 2.1, whose weights lie elsewhere."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import HubError, MissingWeightsError, UnrecognisedCheckpointError, UnsafeCheckpointError
from zoo.formats import read_object
from zoo.formats.checks.folder import check_folder
from zoo.formats.checks.weight_checks import refuse_quantised
from zoo.formats.fetching import snapshot
from zoo.formats.layout import Opening, register_layout
from zoo.formats.settings import Only, Table, read
from zoo.formats.vlm import VisionLanguage, load_sequence

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.embedder import Embedder
    from zoo.encoders.segmenter import Segmenter
    from zoo.spec import ModelSpec

CONNECTOR = "sam2_reducer_and_vlm_layer.pth"
SETTINGS = "virtue_sam"  # of config.json
SAM = "sam2"  # a folder in the checkpoint's, for those who have no Hub
_SAM_FILES = ("config.json", "model.safetensors")
_PARTS = {"sam2_reducer": "reduce", "sam2vlm_layer": "project"}  # theirs → ours
# One matrix under two names, of which a file may have one.
_SHARED = "shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding"
_FOLLOWED = Table(
    {"checkpoint", "points_per_side"},
    {
        "config_path": "the shape is in the config.json beside SAM's weights",
        "feature_levels": "finer maps of SAM are handed on, and none is read",
    },
    {"enabled": Only((True,), "without SAM this is a VLM2Vec, and no VIRTUE was trained so")},
)


class Published(NamedTuple):
    """Where transformers' form of a SAM 2.1 lies."""

    repo: str
    revision: str | None = None


# By the names of Meta's own files, one of which config.json names.
SAMS: Mapping[str, Published] = {
    "sam2.1_hiera_tiny.pt": Published("facebook/sam2.1-hiera-tiny"),
    "sam2.1_hiera_small.pt": Published("facebook/sam2.1-hiera-small"),
    "sam2.1_hiera_base_plus.pt": Published(
        "facebook/sam2.1-hiera-base-plus", "b7320756a13354e7530a63935656d35b2f91a290"
    ),
    "sam2.1_hiera_large.pt": Published("facebook/sam2.1-hiera-large"),
}


@register_layout
class Virtue(VisionLanguage):
    """What the authors' `convert_hf_model.py` writes."""

    name = "virtue"
    order = 5  # before other vision-language models, which it would pass for
    looked_for = f"VIRTUE: config.json of a Qwen2-VL with {SETTINGS!r}, and {CONNECTOR}"

    def recognise(self, names: set[str], read_json: Callable[[str], Any]) -> bool:
        """Whether there is a connector beside a vision-language backbone."""
        return CONNECTOR in names and "config.json" in names and super().recognise(names, read_json)

    def files(self, names: set[str]) -> list[str]:
        """Those of the backbone, the connector, and SAM where it lies there too."""
        return sorted({*super().files(names), CONNECTOR, *(names & {f"{SAM}/{name}" for name in _SAM_FILES})})

    def check_config(self, config: Any, names: set[str], opening: Opening, where: str) -> None:
        """As of other vision-language models; also that the settings of SAM are followed, and the pickle allowed."""
        super().check_config(config, names, opening, where)
        _check(config, opening, where)

    def check_like(self, like: "ModelSpec | None", where: str) -> None:
        """Raises UnrecognisedCheckpointError where it is to be read like a model without SAM."""
        if like is not None and "regions" not in like.modalities:
            raise UnrecognisedCheckpointError(
                f"{where} is a VIRTUE, whose images come with what SAM sees of them, and {like.name} reads no regions; open it like "
                "virtue-2b-scar"
            )

    def load(self, folder: Path, opening: Opening) -> "Embedder":
        """The backbone, SAM and the connector, read as the model `opening.like` is read."""
        from zoo.encoders.segmented import SegmentedSequence

        settings = _check(read_object(folder / "config.json"), opening, str(folder / "config.json"))
        connector = _connector(folder / CONNECTOR)
        sam = _sam(_sam_folder(folder, settings["checkpoint"]), opening.dtype)

        def build(*facts: Any, **parts: Any) -> SegmentedSequence:
            width = parts["backbone"].config.get_text_config().hidden_size
            segmenter = _segmenter(sam, width, connector, folder / CONNECTOR)
            return SegmentedSequence(*facts, segmenter, settings["points_per_side"], **parts)

        return load_sequence(folder, opening, self, build, own=(SETTINGS,))


def _check(config: Mapping[str, Any], opening: Opening, where: str) -> dict[str, Any]:
    """The settings of SAM that are followed.

    Raises:
        UnrecognisedCheckpointError: there are none, or one that no VIRTUE has. UnreadSettingError: one that is not followed.
        UnsafeCheckpointError: the connector, a pickle, was not allowed.
    """
    from zoo.encoders.segmented import MOST_GRID

    settings = config.get(SETTINGS)
    if not isinstance(settings, Mapping):
        raise UnrecognisedCheckpointError(
            f"{where} has no {SETTINGS}, which says what SAM it was trained with and how; copy config.json from the model's own "
            "repository"
        )
    followed = read(settings, _FOLLOWED, where, opening.ignore, f"{SETTINGS}.")
    name = str(followed.get("checkpoint")).replace("\\", "/").rpartition("/")[2]
    if name not in SAMS:
        raise UnrecognisedCheckpointError(
            f"{where}: {SETTINGS}.checkpoint is {followed.get('checkpoint')!r:.80}; known are {', '.join(SAMS)}"
        )
    points = followed.get("points_per_side", 16)  # as the authors' code has it
    if type(points) is not int or not 1 <= points <= MOST_GRID:
        raise UnrecognisedCheckpointError(
            f"{where}: {SETTINGS}.points_per_side is {points!r:.40}; a grid has 1 to {MOST_GRID} points a side"
        )
    if not opening.allow_pickle:
        raise UnsafeCheckpointError(
            f"{where}: the connector is a pickle ({CONNECTOR}); pass allow_pickle=True (only tensors are read from it)"
        )
    return {"checkpoint": name, "points_per_side": points}


def _sam_folder(folder: Path, checkpoint: str) -> Path:
    """Where SAM's weights are: in the checkpoint's own folder, else fetched from their repository.

    Raises:
        MissingWeightsError: a file is missing. HubError: they are not there, or not in reach.
    """
    if (folder / SAM).is_dir():
        check_folder(folder / SAM, root=folder)
        return folder / SAM
    repo, revision = SAMS[checkpoint]
    try:
        return snapshot(repo, revision, lambda names: sorted(names & set(_SAM_FILES)))
    except HubError as error:
        raise type(error)(
            f"{error}. VIRTUE's second network, SAM 2.1, is in a repository of its own; without the Hub put its "
            f"{' and '.join(_SAM_FILES)} into {folder / SAM}"
        ) from error


def _sam(folder: Path, dtype: "torch.dtype | None") -> "nn.Module":
    """SAM's networks for single images; what it has for videos is left in the file.

    Raises:
        MissingWeightsError: files or tensors are missing or damaged. UnrecognisedCheckpointError: it is no SAM 2.
    """
    from transformers import Sam2Model

    from zoo.encoders.config_checks import check_transformers
    from zoo.encoders.segmenter import PARTS, sam_config
    from zoo.formats.transformers import from_pretrained

    if missing := [name for name in _SAM_FILES if not (folder / name).is_file()]:
        raise MissingWeightsError(f"SAM's {missing[0]} is missing in {folder}; VIRTUE reads no image without SAM")
    config = read_object(folder / "config.json")
    if config.get("model_type") not in ("sam2", "sam2_video"):
        raise UnrecognisedCheckpointError(
            f"{folder / 'config.json'} is a {config.get('model_type')!r:.40}, and no SAM 2"
        )
    check_transformers(config, str(folder / "config.json"))
    refuse_quantised(config, str(folder))
    parts = {name: config[name] for name in PARTS if isinstance(config.get(name), Mapping)}
    copies = {_SHARED[0]: _SHARED[1], _SHARED[1]: _SHARED[0]}
    return from_pretrained(Sam2Model, folder, False, whole=True, dtype=dtype, copies=copies, config=sam_config(parts))


def _connector(path: Path) -> dict[str, "torch.Tensor"]:
    """The connector's tensors by our names; only tensors are read from the pickle.

    Raises:
        MissingWeightsError: it is damaged, or has others.
    """
    import torch

    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
        found = {f"{_PARTS[part]}.{name}": tensor for part in held for name, tensor in held[part].items()}
        finite = all(bool(tensor.isfinite().all()) for tensor in found.values())
    except Exception as error:  # of a damaged file torch raises many types
        reason = " ".join(str(error).split())[:200]
        raise MissingWeightsError(f"{path} is no connector of VIRTUE ({' and '.join(_PARTS)}): {reason}") from error
    if not finite:
        raise MissingWeightsError(f"{path} has NaN or infinite weights; take another copy")
    return found


def _segmenter(sam: "nn.Module", width: int, connector: Mapping[str, "torch.Tensor"], where: Path) -> "Segmenter":
    """SAM with the connector's weights.

    Raises:
        MissingWeightsError: they are of another width, or lack a tensor.
    """
    from zoo.encoders.segmenter import Segmenter, told

    segmenter = Segmenter(told(sam.config), width, sam)
    state = segmenter.connector.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in state.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in connector.items()}
    if wrong := sorted(name for name in expected | shapes if expected.get(name) != shapes.get(name)):
        raise MissingWeightsError(
            f"{where} does not fit: {wrong[0]} has the shape {shapes.get(wrong[0])}, not {expected.get(wrong[0])}, between SAM of "
            f"width {sam.hidden_dim} and a language model of width {width}; is it another model's?"
        )
    segmenter.connector.load_state_dict(dict(connector))
    return segmenter
