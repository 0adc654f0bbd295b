"""Processors: opened, and held to their backbone on loading, so that what does not fit is not found at some item of a long job.

Files of a processor come with a checkpoint, from a stranger: sizes in them are held to what is decoded, before an image is made.
"""

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from zoo.encoders import tokenizing
from zoo.encoders._logging import quiet
from zoo.encoders.places import NAMING_A_PROCESSOR, check_hearing, check_processor_class, check_processor_files
from zoo.encoders.rust import opening
from zoo.encoders.sequence.backbones import backbone_of
from zoo.encoders.sequence.media import VISUAL, MediaReader
from zoo.errors import MissingWeightsError, OversizedError, UnrecognisedCheckpointError, ZooError
from zoo.inputs.image import MAX_PIXELS
from zoo.sequences import Limits, SequenceFormat
from zoo.strangers import trial

LEAST_VERSION = "5.18"
_MOST_SIDE, _MOST_CUTS = 8_192, 256
_EQUAL = {
    "patch_size": "patch_size",
    "merge_size": "spatial_merge_size",
    "temporal_patch_size": "temporal_patch_size",
    "pooling_kernel_size": "pooling_kernel_size",
}


def check_version(backbone: nn.Module) -> None:
    """Raises ZooError where this transformers cannot take features in place of images.

    Raises:
        UnrecognisedCheckpointError: the model takes no images.
    """
    import transformers

    if not hasattr(backbone, "get_image_features"):
        raise UnrecognisedCheckpointError(f"a {backbone.config.model_type} is no vision-language backbone")
    takes = inspect.signature(backbone.forward).parameters
    if not set(backbone_of(backbone.config.model_type).takes) & set(takes):
        raise ZooError(
            f"transformers {transformers.__version__} cannot run a {backbone.config.model_type} on features of its images; "
            f'vision-language models need transformers>={LEAST_VERSION}: pip install -U "transformers>={LEAST_VERSION}"'
        )


def check_processor(
    processor: Any,
    layout: SequenceFormat,
    media: Mapping[str, Limits],
    config: Any,
    readers: Mapping[str, MediaReader],
) -> None:
    """Holds a processor to the backbone and to the format.

    Args:
        processor: for text alone, a tokenizer. config: the backbone's. readers: each tries its own medium.

    Raises:
        MissingWeightsError: it is another model's, or damaged: other patches, marks that its tokenizer does not know, no
            image, or one with numbers that are not finite. OversizedError: sizes that no processor has.
    """
    kind = config.model_type
    vocabulary = getattr(processor, "tokenizer", processor).get_vocab()
    if unknown := [mark for mark in layout.instruction_marks if mark not in vocabulary]:
        raise MissingWeightsError(
            f"the tokenizer of this {kind} has no {unknown[0]!r}, by which its instructions are known"
        )
    for name in layout.marks:
        token, expected = getattr(processor, f"{name}_token", None), getattr(config, f"{name}_token_id", None)
        if token is None or expected is None:
            continue
        if vocabulary.get(token) != expected:
            raise MissingWeightsError(
                f"the tokenizer beside this {kind} has {token!r} as {vocabulary.get(token)}, its config.json as {expected}: "
                "they are of two models; copy the tokenizer's files from the model's own repository"
            )
    budgets = any(getattr(limits, name, ()) for limits in media.values() for name in ("pre_resize",))
    budgets = budgets or bool(getattr(media.get("image"), "pixels", ()))
    for name in ("image", "video"):
        part = getattr(processor, f"{name}_processor", None)
        if part is not None and name in layout.marks:
            _check_sizes(part, config, budgets, kind)
    for reader in readers.values():
        _try(reader, processor, config)


def _try(reader: MediaReader, processor: Any, config: Any) -> None:
    """Raises MissingWeightsError where a processor makes nothing of a small medium, or what the backbone cannot take."""
    kind, what = config.model_type, "image" if reader.kind == "image" else reader.kind
    try:
        inputs = reader.probe()
        if inputs is None:
            return
        finite = all(bool(t.isfinite().all()) for t in inputs.values() if t.is_floating_point())
    except Exception as error:  # whatever type transformers' own code raises
        reason = " ".join(str(error).split())[:200]
        raise MissingWeightsError(
            f"the processor beside this {kind}, a {type(processor).__name__}, reads no {what}: {type(error).__name__}: {reason}; "
            "copy its files from the model's own repository"
        ) from error
    pixels = inputs.get("pixel_values")
    side = getattr(config.vision_config, "image_size", None) if reader.kind == "image" else None
    wrong = pixels is not None and pixels.ndim >= 4 and isinstance(side, int) and set(pixels.shape[-2:]) != {side}
    if not finite or wrong:
        found = (
            f"of {tuple(pixels.shape[-2:])} pixels, its config.json has {side}"
            if wrong
            else "of numbers that are not finite"
        )
        raise MissingWeightsError(
            f"the processor beside this {kind} makes {what}s {found}; copy its files from the repository"
        )


def _check_sizes(part: Any, config: Any, budgets: bool, kind: str) -> None:
    """Patches as the backbone's, and sizes that are decoded.

    Args:
        budgets: whether the format has budgets of pixels, which only processors of patches know.
    """
    vision = config.vision_config
    patches = hasattr(vision, "spatial_merge_size")
    cuts = patches or hasattr(vision, "pooling_kernel_size")  # into patches, of which some become one token
    for mine, theirs in _EQUAL.items():
        expected = getattr(vision, theirs, None)
        if cuts and expected is not None and getattr(part, mine, None) != expected:
            raise MissingWeightsError(
                f"the {type(part).__name__} beside this {kind} has {mine} = {getattr(part, mine, None)}, its config.json "
                f"{expected}; copy its files from the model's own repository"
            )
    if patches and not any(name.endswith("grid_thw") for name in part.model_input_names):
        raise MissingWeightsError(
            f"the {type(part).__name__} beside this {kind} cuts no patches; copy its files from the model's own repository"
        )
    if budgets and not patches:
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
        raise OversizedError(f"the {type(part).__name__} beside this {kind} cuts images in over {_MOST_CUTS} ways")


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


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, for models that read text alone; transformers' own, which says its special tokens.

    Raises:
        MissingWeightsError: there is none. UnsafeCheckpointError: its settings name other places.
    """
    return tokenizing.open_tokenizer(folder, plain=False)


def opened(folder: Path, backbone: str, layout: SequenceFormat) -> Any:
    """What a format needs of a folder: the processor, or of text alone the tokenizer; raises as `open_processor`."""
    if not layout.marks:
        return open_tokenizer(folder)
    return open_processor(folder, backbone, visual=bool(VISUAL & set(layout.marks)))


def open_processor(folder: Path, backbone: str = "", *, visual: bool = True) -> Any:
    """A folder's processor: tokenizer, images, videos, audio.

    Args:
        folder: has the files. backbone: its `model_type`, whose processor is taken where the files name one that is no
            class of transformers (jina-embeddings-v4). visual: whether it must read images.

    Raises:
        MissingWeightsError: files are missing or damaged. UnsafeCheckpointError: their settings name other places.
    """
    hears = backbone_of(backbone).hears
    check_processor_files(folder)
    if hears:
        check_hearing(folder, hears)
    trial.check_tokenizer(folder)
    with opening(f"the processor in {folder}"), quiet():
        processor = _processor_class(folder, backbone).from_pretrained(folder, trust_remote_code=False)
    if (visual and not hasattr(processor, "image_processor")) or getattr(processor, "tokenizer", None) is None:
        raise MissingWeightsError(
            f"{folder} has no processor for images (preprocessor_config.json or processor_config.json beside the tokenizer)"
        )
    with opening(f"the tokenizer in {folder}"):
        _keep_words(processor.tokenizer, folder / "tokenizer.json")
        tokenizing.held(processor.tokenizer, folder)
    return processor


def _processor_class(folder: Path, backbone: str) -> Any:
    from transformers import AutoProcessor
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING, processor_class_from_name

    files = [folder / name for name in NAMING_A_PROCESSOR]
    named = [json.loads(file.read_text("utf-8")).get("processor_class") for file in files if file.is_file()]
    # All of them: which file counts is transformers' own choice.
    known = [cls for name in named if isinstance(name, str) and (cls := processor_class_from_name(name)) is not None]
    for cls in known:
        check_processor_class(cls, folder, hears=backbone_of(backbone).hears)
    if known or not any(named) or backbone not in CONFIG_MAPPING:
        return AutoProcessor
    if own := backbone_of(backbone).processor:
        return processor_class_from_name(own)
    return PROCESSOR_MAPPING[CONFIG_MAPPING[backbone]]


def _keep_words(tokenizer: Any, file: Path) -> None:
    """Gives a tokenizer the normaliser and the splitting of its file back where transformers 5 built its own in their place.

    WeMM-Embedding's takes line breaks away before marks, which its prompt relies on; Llama's begins each piece of text between
    marks with a space.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not file.is_file():
        return
    from tokenizers import Tokenizer

    published = Tokenizer.from_file(str(file))
    backend.normalizer, backend.pre_tokenizer = published.normalizer, published.pre_tokenizer
