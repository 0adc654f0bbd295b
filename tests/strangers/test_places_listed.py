"""Every argument of transformers' own classes that names a place is listed: refused, or shown to open nothing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from zoo.encoders.places import INERT, REFUSED, REFUSED_OF_CONFIGS

# Words of a name by which an argument is looked at: a file, another model, another program's options.
NAMES = re.compile(
    r"(^|_)(file|files|path|paths|dir|directory|folder|url|uri|repo|repository|repo_id|hub|kernels|code|filename|checkpoint|"
    r"pretrained|gguf|remote|dataset|spm|backbone|passages|args|kwargs|cfg|implementation|map)(_|$)|"
    r"_(tokenizer|processor|extractor|option|config)$|speaker_embeddings"
)
OF_PROCESSORS = ("tokenization_*.py", "processing_*.py", "image_processing_*.py", "video_processing_*.py")
# Names that match, of what is no place.
_CALL = "what a caller passes; a file's are not read"
_NUMBERS = "numbers, switches, or a table of tokens"
NO_PLACE = {
    **dict.fromkeys(
        ("args", "kwargs", "processor_kwargs", "template_kwargs", "encoded_length_kwargs", "config"), _CALL
    ),
    **dict.fromkeys(("text_kwargs", "images_kwargs", "videos_kwargs", "audio_kwargs"), _CALL),
    **dict.fromkeys(
        (
            "_spm_precompiled_charsmap",
            "inv_coeff_init_option",
            "codebook_do_map_pixels",
            "num_code_groups",
            "hash_code_len",
            "vocabulary_map",
        ),
        _NUMBERS,
    ),
    **dict.fromkeys(("drop_path_rate", "path_dropout", "use_mem_eff_path", "deepstack_layer_map"), _NUMBERS),
    **dict.fromkeys(
        ("disable_custom_kernels", "use_mamba_kernels", "use_dummy_dataset", "relative_bias_args"), _NUMBERS
    ),
    **dict.fromkeys(("dataset_split", "dataset_revision"), INERT["dataset"]),
}
# Parts of a configuration are looked through like the whole; sizes and switches of a backbone name none.
PARTS = re.compile(
    r"_(config|configs)$|backbone_(out|channel|featmap|feature|hidden|batch|outputs)|_backbone$|pretrained_window"
)
FILES = {
    **dict.fromkeys(
        ("CONFIG_NAME", "GENERATION_CONFIG_NAME", "MODEL_CARD_NAME"), "numbers and words; held by check_transformers"
    ),
    **dict.fromkeys(
        ("FEATURE_EXTRACTOR_NAME", "IMAGE_PROCESSOR_NAME", "VIDEO_PROCESSOR_NAME"), "held by check_processor_files"
    ),
    **dict.fromkeys(("PROCESSOR_NAME", "AUDIO_TOKENIZER_NAME"), "held by check_processor_files"),
    **dict.fromkeys(("WEIGHTS_NAME", "SAFE_WEIGHTS_NAME"), "weights; pickles are refused"),
    **dict.fromkeys(("WEIGHTS_INDEX_NAME", "SAFE_WEIGHTS_INDEX_NAME"), "held by check_index"),
    **dict.fromkeys(
        ("ADAPTER_CONFIG_NAME", "ADAPTER_WEIGHTS_NAME", "ADAPTER_SAFE_WEIGHTS_NAME"), "held by check_folder"
    ),
    **dict.fromkeys(
        ("CHAT_TEMPLATE_FILE", "LEGACY_PROCESSOR_CHAT_TEMPLATE_FILE", "CHAT_TEMPLATE_DIR"), "templates, never run"
    ),
    **dict.fromkeys(("SPECIAL_TOKENS_MAP_FILE", "TOKENIZER_CONFIG_FILE"), "held by check_tokenizer_files"),
    **dict.fromkeys(("ADDED_TOKENS_FILE", "FULL_TOKENIZER_FILE", "TOKENIZER_FILE"), "tokens and their numbers"),
    **dict.fromkeys(("TIKTOKEN_VOCAB_FILE", "TIKTOKEN_LEGACY_NAME"), "a vocabulary in the folder"),
}


def _library() -> Path:
    import transformers

    return Path(transformers.__file__).parent


def _arguments(pattern: str) -> Iterator[tuple[str, str]]:
    """(argument, class) of the constructors and of the settings' own tables in the installed files."""
    for path in [*_library().glob(f"models/*/{pattern}"), *_library().glob(pattern)]:
        for cls in ast.walk(ast.parse(path.read_text())):
            if not isinstance(cls, ast.ClassDef):
                continue
            for part in cls.body:
                if isinstance(part, ast.FunctionDef) and part.name == "__init__":
                    yield from ((arg.arg, cls.name) for arg in (*part.args.args, *part.args.kwonlyargs))
                elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name) and "Kwargs" in cls.name:
                    yield part.target.id, cls.name


@pytest.mark.slow
def test_every_argument_of_tokenizers_and_processors_that_names_a_place_is_listed() -> None:
    found = {n: c for pattern in OF_PROCESSORS for n, c in _arguments(pattern) if NAMES.search(n)}
    assert {"audio_tokenizer", "vocab_file", "repo_path"} <= found.keys()
    assert {n: c for n, c in found.items() if n not in {**REFUSED, **INERT, **NO_PLACE}} == {}


@pytest.mark.slow
def test_every_field_of_a_configuration_that_names_a_place_is_listed() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    found = {field.name: kind for kind in CONFIG_MAPPING for field in fields(CONFIG_MAPPING[kind])}
    places = {name: kind for name, kind in found.items() if NAMES.search(name) and not PARTS.search(name)}
    assert {"detectron2_config_args", "model_args", "backbone"} <= places.keys()
    known = {*REFUSED_OF_CONFIGS, *INERT, *NO_PLACE}
    assert {name: kind for name, kind in places.items() if name not in known} == {}


def test_every_file_that_transformers_looks_for_is_listed() -> None:
    import transformers.tokenization_utils_base as base
    import transformers.tokenization_utils_tokenizers as backend
    from transformers import utils

    found = {**vars(utils), **vars(base), **vars(backend)}
    names = {name for name in found if re.search(r"[A-Z]_(NAME|FILE|DIR)$", name) and isinstance(found[name], str)}
    assert names - {"TRANSFORMERS_DYNAMIC_MODULE_NAME"} - FILES.keys() == set()


def test_what_is_refused_of_configurations_is_refused_of_all() -> None:
    assert set(REFUSED_OF_CONFIGS) <= REFUSED.keys()
    assert not REFUSED.keys() & INERT.keys()
