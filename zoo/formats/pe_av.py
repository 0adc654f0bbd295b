"""PE-AV checkpoints: config.json of transformers' PeAudioVideoModel, whose tied tensors are read once."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.encoders._logging import quiet
from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError
from zoo.formats import check_weights, read_object, weight_files
from zoo.formats.checks.safetensors_checks import check_size, no_parameters
from zoo.formats.composites import check_parts
from zoo.formats.layout import Opening, register_layout
from zoo.formats.settings import Ignore, Table, read
from zoo.formats.tensors import read_tensors
from zoo.formats.tokenizer import read_tokenizer
from zoo.formats.transformers import PICKLES, OfTypes, allowed, folder_config
from zoo.formats.video import PROCESSORS, frames_of
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.encoders.pe_av import PeAv

MODEL_TYPE = "pe_audio_video"
LONGEST = 512  # tokens of a text, in the authors' `PEAudioVisualTransform`
_AUDIO = "preprocessor_config.json"
_HEADS = {
    "text_audio_video_head": "text_audio_video",
    "video_model.text_video_head": "text_video",
    "audio_model.text_audio_head": "text_audio",
    "audio_model.audio_head": "audio",
    "video_model.video_head": "video",
    "audio_video_head": "audio_video",
    "audio_plus_text_head": "audio_text",
    "video_plus_text_head": "video_text",
}
# Theirs → ours, the first that matches; tied ones lie in several places.
_NAMES = (
    *((re.compile(rf"{re.escape(theirs)}\."), f"heads.{ours}.") for theirs, ours in _HEADS.items()),
    (re.compile(r"((audio|video)_model\.)?text_model\."), "text."),
    *(
        (re.compile(rf"({kind}_model|audio_video_encoder\.embedder)\.{kind}_encoder\.{inner}"), f"{ours}.")
        for kind, own in (("audio", "codec"), ("video", "vision"))
        for inner, ours in (("embedder\\.", own), ("", kind))
    ),
    (re.compile(r"audio_video_encoder\.embedder\."), "joint."),
    (re.compile(r"audio_video_encoder\."), "both."),
)
_SPARE = re.compile(r"logit_(scale|bias)$|(^|\.)final_norm\.|inv_freq$|rope\.(pos_embed|bands)$")
_HEARD = Table(
    {"feature_extractor_type", "sampling_rate", "hop_length"},
    {
        "processor_class": "the class that has this processor and the tokenizer side by side",
        "padding_side": "every audio is read alone",
        "padding_value": "every audio is read alone",
        "return_attention_mask": "every audio is read alone",
        "feature_size": "audio is mixed to one channel",
    },
)


@register_layout
class PeAudioVideo(OfTypes):
    """What transformers writes, and Meta publishes."""

    name = "pe_av"
    order = 28
    looked_for = f'PE-AV: config.json with "model_type": "{MODEL_TYPE}", and model.safetensors'
    types = (MODEL_TYPE,)
    beside = (_AUDIO, *PROCESSORS)

    def check_config(self, config: Any, names: set[str], opening: Opening, where: str) -> None:
        """Refuses settings that are not followed."""
        check_parts(config, Path(where), opening.ignore)

    def load(self, folder: Path, opening: Opening) -> "Embedder":
        """One tower with a head for every kind of item, every tensor from the file."""
        from zoo.embedder import Embedder, Tower
        from zoo.encoders.pe_av import TARGETS, PeAv
        from zoo.heads import Identity
        from zoo.pooling import Cls

        where = folder / "config.json"
        written = folder_config(folder, opening.allow_pickle)
        check_parts(written, where, opening.ignore)
        config = _config(folder)
        vision = config.audio_video_config.video_config.vision_config
        with quiet():
            tokenizer = read_tokenizer(folder, opening.ignore, dual=True)
        options: dict[str, Any] = {
            "transform": frames_of(folder, MODEL_TYPE, _side(vision, where), opening.ignore),
            "max_tokens": min(LONGEST, allowed(config.text_config.max_position_embeddings, tokenizer)),
            **_frames(folder),
        }
        _check_audio(folder, config.audio_video_config.audio_config.dac_config, opening.ignore)
        shape = _plain(config.to_dict())
        shape["audio_video_config"]["video_config"]["vision_config"] |= _labels(written, where, opening.ignore)
        files = weight_files({path.name for path in folder.iterdir()}, "model", PICKLES)
        check_weights(files, str(folder), "model.safetensors", opening.allow_pickle)
        check_size(
            lambda: PeAv(shape, **options), [folder / name for name in files if name[-5:] != ".json"], str(where)
        )
        tensors = read_tensors(folder, opening.allow_pickle)
        with no_parameters():
            encoder = PeAv(shape, **options, tokenizer=tokenizer)
        _fill(encoder, tensors, folder)
        spec = ModelSpec(
            name=opening.name,
            modalities=encoder.modalities,
            dim=encoder.width,
            license="unknown",
            image_size=encoder.transform.size[0],
            max_tokens=encoder.max_tokens,
            params=sum(p.numel() for p in encoder.parameters()),
            targets=TARGETS,
        )
        return Embedder(spec, [Tower(encoder, Cls(), Identity())])


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # its own validation raises TypeError, ValueError and types of huggingface_hub
        reason = " ".join(str(error).split())[:300]
        raise UnrecognisedCheckpointError(f"{folder / 'config.json'} makes no sense: {reason}") from error


def _side(vision: Any, where: Path) -> int:
    """Pixels of a frame's side, which the name of timm's architecture ends in, unless `model_args` has another."""
    args = vision.model_args or {}
    name = str(vision.architecture).rpartition("_")[2]
    side = args.get("img_size", int(name) if name.isdigit() else None)
    if not isinstance(side, int):
        raise UnrecognisedCheckpointError(
            f"{where}: no size of frames is to be read of {str(vision.architecture)[:80]!r}"
        )
    return side


def _labels(written: Mapping[str, Any], where: Path, ignore: Ignore) -> dict[str, int]:
    """The columns of timm's vector of a frame, which transformers 5.23 takes for two where they are read from a file inside another.

    Raises:
        UnreadSettingError: another pooling than the architecture's own, which nothing would follow.
    """
    vision = written["audio_video_config"]["video_config"]["vision_config"]
    if vision.get("global_pool", "map") != "map":
        why = "PE's own architectures pool by attention, map"
        ignore.refuse(where, "audio_video_config.video_config.vision_config.global_pool", vision["global_pool"], why)
    names = vision.get("label_names")
    count = vision.get("num_labels") or (len(names) if isinstance(names, list) else vision.get("num_classes", 1024))
    return {"num_labels": count}


def _frames(folder: Path) -> dict[str, Any]:
    """How many frames of a video are read: so many as the video processor says, where it samples; else all of them, up to a limit."""
    for name in PROCESSORS:
        if not (folder / name).is_file():
            continue
        settings = read_object(folder / name)
        settings = settings.get("video_processor") if name == PROCESSORS[0] else settings
        if not isinstance(settings, dict) or settings.get("feature_extractor_type"):
            continue
        if (count := settings.get("num_frames")) is None:
            return {}
        if isinstance(count, bool) or not isinstance(count, int) or not 2 <= count <= 1024:
            raise UnrecognisedCheckpointError(
                f"{folder / name}: num_frames is {count!r:.40}, no number of frames from 2 to 1,024"
            )
        return {"frames": count, "exact": True}
    return {}


def _check_audio(folder: Path, dac: Any, ignore: Ignore) -> None:
    """Holds the settings of the audio to those of the codec.

    Raises:
        UnreadSettingError: another rate or hop.
    """
    for name in (PROCESSORS[0], _AUDIO):
        if not (folder / name).is_file():
            continue
        settings, where = read_object(folder / name), folder / name
        settings = settings.get("feature_extractor") if name == PROCESSORS[0] else settings
        if not isinstance(settings, dict) or "sampling_rate" not in settings:
            continue
        settings = read(settings, _HEARD, where, ignore)
        for key, wanted in (("sampling_rate", dac.sampling_rate), ("hop_length", dac.hop_length)):
            if settings.get(key, wanted) != wanted:
                ignore.refuse(where, key, settings[key], f"the codec of its config.json reads {wanted}")


def _plain(config: Any) -> Any:
    """A configuration, and those inside it, without what transformers keeps to itself."""
    if isinstance(config, Mapping):
        spare = ("id2label", "label2id", "label_names", "num_classes")  # names of a thousand labels, which nobody gave
        kept = {key: value for key, value in config.items() if not str(key).startswith("_") and key not in spare}
        return {key: _plain(value) for key, value in kept.items() if value is not None}
    return [_plain(one) for one in config] if isinstance(config, list | tuple) else config


def _fill(encoder: "PeAv", tensors: Mapping[str, Any], folder: Path) -> None:
    """Puts every tensor of a file into its place.

    Raises:
        MissingWeightsError: one is missing, of another shape, or left over, or two that are tied differ.
    """
    import torch

    state, found, spare = encoder.state_dict(), {}, []
    for name, tensor in tensors.items():
        if _SPARE.search(name):
            continue
        ours = next((pattern.sub(place, name, count=1) for pattern, place in _NAMES if pattern.match(name)), "")
        if ours not in state:
            spare.append(name)
        elif ours in found and not torch.equal(found[ours], tensor):
            raise MissingWeightsError(
                f"{folder}: {name[:100]} is tied to another tensor, and differs from it; take another copy"
            )
        else:
            found[ours] = tensor
    expected = {name: tuple(tensor.shape) for name, tensor in state.items() if not _SPARE.search(name)}
    if lost := sorted(set(expected) - set(found)):
        raise MissingWeightsError(f"{folder} lacks {len(lost)} tensors of PE-AV, such as {lost[0][:100]}")
    if spare:
        raise MissingWeightsError(
            f"{folder} has {len(spare)} tensors that a PE-AV of its config.json does not have, such as {spare[0][:100]}: more layers "
            "than the configuration says, or parts of another model"
        )
    if other := sorted(name for name, shape in expected.items() if tuple(found[name].shape) != shape):
        raise MissingWeightsError(
            f"{folder} does not fit its config.json: {other[0][:100]} has the shape {tuple(found[other[0]].shape)}, not {expected[other[0]]}"
        )
    kept = {name: tensor for name, tensor in state.items() if name not in expected}
    encoder.load_state_dict(
        {**kept, **{name: tensor.float() for name, tensor in found.items()}}, strict=True, assign=True
    )
