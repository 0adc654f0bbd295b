"""Whether a processor fits its backbone and reads a picture at all: found out on loading, not at some item of a long job.

Files of a processor come with a checkpoint, from a stranger: sizes in them are held to what is decoded, before a picture is made.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import MissingWeightsError, OversizedError, UnrecognisedCheckpointError, ZooError
from zoo.inputs.image import MAX_PIXELS
from zoo.reading import Reading

LEAST_VERSION = "5.18"
_MOST_SIDE, _MOST_CUTS = 8_192, 256
_PROBE = (61, 47)  # no multiple of any patch
_EQUAL = {"patch_size": "patch_size", "merge_size": "spatial_merge_size", "temporal_patch_size": "temporal_patch_size"}


def check_version(backbone: nn.Module) -> None:
    """Raises ZooError where this transformers cannot take features in place of pictures.

    Raises:
        UnrecognisedCheckpointError: the model takes no pictures.
    """
    import transformers

    if not hasattr(backbone, "get_image_features"):
        raise UnrecognisedCheckpointError(f"a {backbone.config.model_type} is no vision-language backbone")
    takes = inspect.signature(backbone.forward).parameters
    if not {"mm_encoder_outputs", "image_hidden_states"} & set(takes):
        raise ZooError(
            f"transformers {transformers.__version__} cannot run a {backbone.config.model_type} on features of its pictures; "
            f'vision-language models need transformers>={LEAST_VERSION}: pip install -U "transformers>={LEAST_VERSION}"'
        )


def check_processor(processor: Any, reading: Reading, config: Any, read: Callable[[Tensor], dict[str, Tensor]]) -> None:
    """Holds a processor to the backbone and to the reading.

    Args:
        config: the backbone's. read: what becomes of a picture `(3, height, width)`.

    Raises:
        MissingWeightsError: it is another model's, or damaged: other patches, marks that its tokenizer does not know, no
            picture, or one with numbers that are not finite. OversizedError: sizes that no processor has.
    """
    kind = config.model_type
    vocabulary = processor.tokenizer.get_vocab()
    if unknown := [mark for mark in reading.instruction_marks if mark not in vocabulary]:
        raise MissingWeightsError(
            f"the tokenizer of this {kind} has no {unknown[0]!r}, by which its instructions are known"
        )
    for name in ("image", "video"):
        token, expected = getattr(processor, f"{name}_token", None), getattr(config, f"{name}_token_id", None)
        if not getattr(reading, name) or token is None or expected is None:
            continue
        if vocabulary.get(token) != expected:
            raise MissingWeightsError(
                f"the tokenizer beside this {kind} has {token!r} as {vocabulary.get(token)}, its config.json as {expected}: "
                "they are of two models; copy the tokenizer's files from the model's own repository"
            )
    for part, used in (
        (processor.image_processor, reading.image),
        (getattr(processor, "video_processor", None), reading.video),
    ):
        if part is not None and used:
            _check_sizes(part, config, reading, kind)
    if not reading.image:
        return
    try:
        with torch.device("cpu"):  # also where a shape alone is built, on the meta device
            inputs = read(torch.arange(3 * _PROBE[0] * _PROBE[1]).remainder(251).to(torch.uint8).view(3, *_PROBE))
        finite = all(bool(t.isfinite().all()) for t in inputs.values() if t.is_floating_point())
    except Exception as error:  # whatever type transformers' own code raises
        reason = " ".join(str(error).split())[:200]
        raise MissingWeightsError(
            f"the processor beside this {kind}, a {type(processor).__name__}, reads no picture: {type(error).__name__}: {reason}; "
            "copy its files from the model's own repository"
        ) from error
    pixels = inputs.get("pixel_values")
    side = getattr(config.vision_config, "image_size", None)
    wrong = pixels is not None and pixels.ndim >= 4 and isinstance(side, int) and set(pixels.shape[-2:]) != {side}
    if not finite or wrong:
        what = (
            f"of {tuple(pixels.shape[-2:])} pixels, its config.json has {side}"
            if wrong
            else "of numbers that are not finite"
        )
        raise MissingWeightsError(
            f"the processor beside this {kind} makes pictures {what}; copy its files from the repository"
        )


def _check_sizes(part: Any, config: Any, reading: Reading, kind: str) -> None:
    """Patches as the backbone's, and sizes that are decoded."""
    vision = config.vision_config
    patches = hasattr(vision, "spatial_merge_size")
    for mine, theirs in _EQUAL.items():
        expected = getattr(vision, theirs, None)
        if patches and expected is not None and getattr(part, mine, None) != expected:
            raise MissingWeightsError(
                f"the {type(part).__name__} beside this {kind} has {mine} = {getattr(part, mine, None)}, its config.json "
                f"{expected}; copy its files from the model's own repository"
            )
    if patches and not any(name.endswith("grid_thw") for name in part.model_input_names):
        raise MissingWeightsError(
            f"the {type(part).__name__} beside this {kind} cuts no patches; copy its files from the model's own repository"
        )
    if (reading.pixels or reading.pre_resize or reading.pre_frames) and not patches:
        raise MissingWeightsError(f"a {kind} has no budget of pixels; its {type(part).__name__} knows sides only")
    for name, value in _numbers(part):
        if not 0 < value <= (MAX_PIXELS if patches else _MOST_SIDE):  # with patches, they are areas
            raise OversizedError(
                f"the {type(part).__name__} beside this {kind} has {name} = {value:,}; no processor has that"
            )
    edges = [getattr(part.size, key, None) for key in ("shortest_edge", "longest_edge")] if patches else []
    if len(edges) == 2 and all(edges) and edges[0] > edges[1]:
        raise MissingWeightsError(
            f"the {type(part).__name__} beside this {kind} has at least {edges[0]:,} and at most {edges[1]:,} pixels; copy its "
            "files from the model's own repository"
        )
    if len(getattr(part, "image_grid_pinpoints", None) or ()) > _MOST_CUTS:
        raise OversizedError(f"the {type(part).__name__} beside this {kind} cuts pictures in over {_MOST_CUTS} ways")


def _numbers(part: Any) -> Iterator[tuple[str, int]]:
    """The sizes of an image or video processor by name."""
    for name in ("size", "crop_size", "pad_size", "max_image_size"):
        sides = getattr(part, name, None)
        values = sides if isinstance(sides, dict) else vars(sides) if hasattr(sides, "__dict__") else {"": sides}
        for key, value in values.items():
            if isinstance(value, int | float):
                yield f"{name}.{key}".rstrip("."), value
    for pair in getattr(part, "image_grid_pinpoints", None) or ():
        yield from (("image_grid_pinpoints", side) for side in pair)
