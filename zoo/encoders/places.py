"""Other places that the files of a processor or tokenizer may name: refused before transformers reads what names one.

`REFUSED` and `INERT` hold every argument of transformers' own classes that names a file, a repository, another model or options
of another program. Two tests keep them whole: one lists the arguments from the installed signatures, and one shows that what is
passed over here opens nothing.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo.errors import MissingWeightsError, OversizedError, UnsafeCheckpointError

_SECOND = "opens a second model, from any folder or repository"
_OPENED = "is opened as it stands, wherever it lies"
_OTHER = "tells another program which files to open"
_OWN = "transformers takes the file of this folder in its place, or none"
_RECORD = "a record of where the file came from, which nothing opens"

# Key → why it is refused, wherever it stands in a file and whatever it holds, but for null and what is empty.
REFUSED = {
    **dict.fromkeys(("audio_tokenizer", "audio_tokenizer_class", "audio_tokenizer_name_or_path"), _SECOND),
    **dict.fromkeys(("alignment_tokenizer", "protein_tokenizer", "qformer_tokenizer"), _SECOND),
    **dict.fromkeys(("vocab", "merges", "merges_file", "spm_file", "source_spm", "target_spm", "gguf_file"), _OPENED),
    **dict.fromkeys(("monolingual_vocab_file", "src_vocab_file", "tgt_vocab_file", "target_vocab_file"), _OPENED),
    **dict.fromkeys(("emoji_file", "normalizer_file", "word_shape_file", "word_pronunciation_file"), _OPENED),
    **dict.fromkeys(("tokenizer_path", "tokenizer_object", "init_inputs", "model_file", "model_proto"), _OPENED),
    **dict.fromkeys(("repo_path", "class_info_file", "transformers_weights", "speaker_embeddings"), _OPENED),
    **dict.fromkeys(("mecab_option", "sudachi_config_path", "sudachi_resource_dir", "tesseract_config"), _OTHER),
    **dict.fromkeys(("detectron2_config_args", "backbone_kwargs", "use_pretrained_backbone", "pretrained_cfg"), _OTHER),
}
# Named like a place, and without effect.
INERT = {
    **dict.fromkeys(("tokenizer_file", "vocab_file", "special_tokens_map_file", "full_tokenizer_file"), _OWN),
    **dict.fromkeys(("name_or_path", "_name_or_path", "_commit_hash", "auto_map"), _RECORD),
    **dict.fromkeys(("image_processor", "video_processor", "tokenizer"), "the part of that name, in this folder"),
    "feature_extractor": "the part of that name, in this folder, by the class that the backbone has (check_processor_class)",
    "audio_processor": "of processors that the zoo does not open (check_processor_class)",
    **dict.fromkeys(("dataset", "index_name", "index_path", "passages_path"), "of RAG's retriever, which is not built"),
    "backbone": "a name of timm; held to a plain one by check_transformers, and built without its weights",
    "backbone_config": "the shape of a part; looked through like the file that it stands in",
    "model_args": "of timm; held by check_timm",
    **dict.fromkeys(
        ("sp_model_kwargs", "mecab_kwargs", "sudachi_kwargs", "jumanpp_kwargs"), "looked through: its keys are here"
    ),
    "post_processor_config": "the shape of a part; looked through like the file that it stands in",
    "tokenizer_class": "a name; it is looked up among transformers' own classes alone",
    **dict.fromkeys(("sudachi_dict_type", "subword_tokenizer_type", "word_tokenizer_type"), "one of a few words"),
}
# Of what is refused, what a config.json may not say either; what it says of timm is held by `zoo.encoders.config_checks`.
REFUSED_OF_CONFIGS = (
    "audio_tokenizer",
    "backbone_kwargs",
    "detectron2_config_args",
    "gguf_file",
    "transformers_weights",
    "use_pretrained_backbone",
)
# Texts and tokens, which may look like a path; nothing opens them.
_TEXTS = re.compile(
    r"(_tokens?|_tokens_decoder|_template|_templates|_schema|_prefix|_suffix|prompts?|description|license)$"
)
_TOKENS = ("added_tokens_decoder", "extra_special_tokens", "additional_special_tokens", "model_specific_special_tokens")
_PLACE = re.compile(r"^([/~\\]|[A-Za-z]:[/\\])|://|(^|[/\\])\.\.([/\\]|$)|^[\w.-]+/[\w./-]+$")
_VERSIONED = re.compile(r"tokenizer(\.[\w.-]+)?\.json")
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
_TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json")
NAMING_A_PROCESSOR = (*_PROCESSOR_FILES, "tokenizer_config.json", "config.json")
_SECOND_MODEL = "audio_tokenizer_config.json"
# Of feature extractors, whose constructors make tables of these sizes.
_MOST_OF_AUDIO = {
    **dict.fromkeys(("feature_size", "n_fft", "fft_length", "frame_length", "hop_length"), 65_536),
    **dict.fromkeys(("frame_length_ms", "hop_length_ms"), 1_000),
    "sampling_rate": 192_000,
    "chunk_length": 3_600,
    "n_samples": 1_000_000_000,
    "nb_max_frames": 10_000_000,
}
# Methods by which a class of transformers opens more than the files of its folder.
_OPENS = ("from_pretrained", "get_processor_dict", "_get_arguments_from_pretrained", "get_image_processor_dict")
_KINDS = {
    "image_processor_type": ("image_processing_auto", "get_image_processor_class_from_name"),
    "feature_extractor_type": ("image_processing_auto", "get_image_processor_class_from_name"),
    "video_processor_type": ("video_processing_auto", "video_processor_class_from_name"),
}


def check_tokenizer_files(folder: Path) -> None:
    """Refuses a tokenizer whose settings name other places.

    Raises:
        UnsafeCheckpointError: it names file, key and value. MissingWeightsError: a file that is no JSON.
    """
    for name in _TOKENIZER_FILES:
        if settings := _read(folder / name):
            _check(settings, folder / name)
            _check_versions(settings.get("fast_tokenizer_files"), folder / name)
            named = settings.get("tokenizer_class")
            if isinstance(named, str):
                _check_tokenizer_class(named, folder / name)


def check_processor_files(folder: Path) -> None:
    """Refuses a processor, and the tokenizer in it, whose settings name other places or classes that open them.

    Raises:
        UnsafeCheckpointError: it names file, key and value. MissingWeightsError: a file that is no JSON.
    """
    if (folder / _SECOND_MODEL).exists():
        raise UnsafeCheckpointError(
            f"{folder / _SECOND_MODEL} names a second model, from any folder or repository; the zoo opens none: remove the file"
        )
    check_tokenizer_files(folder)
    for name in _PROCESSOR_FILES:
        if settings := _read(folder / name):
            _check(settings, folder / name)
            for _, key, value in _walk(settings):
                if key in _KINDS and isinstance(value, str):
                    _check_part_class(value, key, folder / name)


def check_processor_class(cls: Any, where: object, *, hears: str = "") -> None:
    """Refuses a processor that is more than a tokenizer and a processor of images, videos and audio in the same folder.

    Args:
        hears: class of the feature extractor that it may have; "" for none.

    Raises:
        UnsafeCheckpointError: it has other parts, or a way of its own to open them.
    """
    from transformers import ProcessorMixin

    own = [
        name for name in _OPENS if getattr(cls, name, None) and _owner(cls, name) is not _owner(ProcessorMixin, name)
    ]
    other = set(cls.get_attributes()) - {"image_processor", "video_processor", "tokenizer"}
    other -= {"feature_extractor"} if hears else set()
    if "audio_tokenizer" in _arguments(cls):
        other.add("audio_tokenizer")
    if own or other:
        what = (
            f"has the parts {', '.join(sorted(other))}" if other else f"opens its files in a way of its own ({own[0]})"
        )
        raise UnsafeCheckpointError(
            f"{where} names the processor {cls.__name__}, which {what}; the zoo opens processors of a tokenizer, images and videos, "
            "and of audio where the backbone hears"
        )


def check_hearing(folder: Path, hears: str) -> None:
    """Refuses a feature extractor of another class than the one that the backbone has, and sizes that none has, before one is built.

    Raises:
        UnsafeCheckpointError: another class. OversizedError: a size, of which tables are made.
    """
    for name in _PROCESSOR_FILES:
        settings = _read(folder / name)
        for part in (settings, settings.get("feature_extractor")):
            if not isinstance(part, Mapping) or "feature_extractor_type" not in part:
                continue
            named = part["feature_extractor_type"]
            if named != hears:
                raise _refusal(folder / name, "feature_extractor_type", named, f"is not the {hears} of this backbone")
            for key, most in _MOST_OF_AUDIO.items():
                value = part.get(key)
                if value is not None and not (isinstance(value, int | float) and 0 < value <= most):
                    raise OversizedError(
                        f"{folder / name} has {key} = {value!r}; a feature extractor has at most {most:,}"
                    )


def check_config_places(config: Mapping[str, Any], where: str) -> None:
    """Refuses a config.json that names other files, or weights elsewhere, in any of its parts.

    Raises:
        UnsafeCheckpointError: it names the key.
    """
    for prefix, key, value in _walk(config):
        if key in REFUSED_OF_CONFIGS and _says(value):
            raise _refusal(where, f"{prefix}{key}", value, REFUSED[key])


def _check(settings: Mapping[str, Any], path: Path) -> None:
    for prefix, key, value in _walk(settings):
        if key in REFUSED and _says(value):
            raise _refusal(path, f"{prefix}{key}", value, REFUSED[key])
        if key in INERT or _TEXTS.search(key):
            continue
        for text in value if isinstance(value, list) else (value,):
            if isinstance(text, str) and _PLACE.search(text):
                raise _refusal(path, f"{prefix}{key}", text, "is the name of another place")


def _says(value: Any) -> bool:
    return value is not None and value is not False and value not in ("", {}, [])


def _check_versions(names: Any, path: Path) -> None:
    for name in names if isinstance(names, list) else ():
        if not isinstance(name, str) or not _VERSIONED.fullmatch(name):
            raise _refusal(
                path,
                "fast_tokenizer_files",
                name,
                "would be opened, and lies outside the folder or is no tokenizer.json",
            )


def _check_tokenizer_class(name: str, path: Path) -> None:
    from transformers import PreTrainedTokenizerBase
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    cls, base = tokenizer_class_from_name(name), _owner(PreTrainedTokenizerBase, "from_pretrained")
    if isinstance(cls, type) and _owner(cls, "from_pretrained") not in (base, None):
        raise _refusal(path, "tokenizer_class", name, "opens its files in a way of its own")


def _check_part_class(name: str, key: str, path: Path) -> None:
    """Refuses a class of image or video processors with an argument of `REFUSED`: some default to a repository."""
    import importlib

    module, function = _KINDS[key]
    find = getattr(importlib.import_module(f"transformers.models.auto.{module}"), function)
    cls = find(name.replace("FeatureExtractor", "ImageProcessor"))
    if not isinstance(cls, type):
        return
    named = sorted(_arguments(cls) & REFUSED.keys())
    if named or "get_image_processor_dict" in vars(cls):
        raise _refusal(path, key, name, f"opens other places ({', '.join(named) or 'its own files'})")


def _arguments(cls: type) -> set[str]:
    import inspect

    found = set(inspect.signature(cls.__init__).parameters)  # type: ignore[misc]
    kwargs = getattr(cls, "valid_kwargs", None)
    return found | set(getattr(kwargs, "__annotations__", ()))


def _owner(cls: type, name: str) -> type | None:
    return next((base for base in cls.__mro__ if name in vars(base)), None)


def _walk(settings: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(prefix, key, value) of every key of nested objects; of tokens' own tables only the name."""
    pending: list[tuple[str, Any]] = [("", settings)]
    while pending:
        prefix, value = pending.pop()
        if isinstance(value, list):
            pending += [(prefix, part) for part in value if isinstance(part, list | dict)]
        if not isinstance(value, Mapping):
            continue
        for key, inner in value.items():
            yield prefix, key, inner
            if key not in _TOKENS:
                pending.append((f"{prefix}{key}.", inner))


def _read(path: Path) -> dict[str, Any]:
    """The settings of a file, none where it is not there."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise MissingWeightsError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise MissingWeightsError(f"{path} cannot be read: it holds a {type(value).__name__}, not a JSON object")
    return value


def _refusal(where: object, key: str, value: Any, why: str) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f"{where} has {key} = {str(value)[:80]!r}, which {why}. A checkpoint's files name no other places: remove the key, if you "
        "trust the rest"
    )
