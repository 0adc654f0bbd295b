"""A folder's tokenizer as its files say: every setting followed, without effect, or refused; beginning and end included."""

import inspect
import json
from pathlib import Path
from typing import Any

from zoo.callers import warn
from zoo.encoders.rust import opening, panicked
from zoo.encoders.tokenizing import open_tokenizer
from zoo.errors import MissingWeightsError
from zoo.formats import read_object
from zoo.formats.known import tokenizer as known
from zoo.formats.settings import Ignore, Table, read

CONFIG, FILE = "tokenizer_config.json", "tokenizer.json"
_PROBE = "Two DOGS,  a café's 3,000 ﬁsh & 山の上\n[x]\tnaïve e-mails \U00013000"
_PARTS = ("normalizer", "pre_tokenizer", "post_processor")
# What arguments of the classes set, in transformers 4 too.
_BY_CLASS = (
    ("normalizer", "BertNormalizer", ("handle_chinese_chars", "lowercase", "strip_accents")),
    ("pre_tokenizer", "ByteLevel", ("add_prefix_space",)),
    ("post_processor", "RobertaProcessing", ("add_prefix_space", "trim_offsets")),
)
_NO_TYPES = ("gpt2", "gpt_neo", "gptj")  # backbones that would look token types up in the table of words


def table_of(cls: type) -> Table:
    """The settings of a tokenizer_config.json that this class of transformers reads."""
    arguments = {
        name
        for base in cls.__mro__
        if "__init__" in vars(base)
        for name in inspect.signature(base.__init__).parameters
        if name not in ("self", "args", "kwargs")
    }
    followed = {*known.FOLLOWED, *arguments, "auto_map"} - set(known.HELD)
    return Table(followed, {k: why for k, why in known.INERT.items() if k not in followed}, known.HELD)


def read_tokenizer(folder: Path, ignore: Ignore, kind: str = "", *, dual: bool = False, pair: bool = False) -> Any:
    """transformers' tokenizer of a folder, or a `tokenizers.Tokenizer` where there is only tokenizer.json.

    Args:
        kind: the backbone's type, whose token types may not be what the tokenizer's are.
        dual: for a dual encoder, which is given ids alone, by transformers' tokenizer in any case.
        pair: for a cross-encoder, which is given the types of the tokens of two texts too.

    Raises:
        UnreadSettingError: a setting that is not followed. MissingWeightsError: no tokenizer, or a damaged one.
    """
    tokenizer = open_tokenizer(folder, plain=not dual)
    settings = check_tokenizer(folder, tokenizer, ignore)
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is not None and (folder / CONFIG).is_file():
        _mend_ends(tokenizer, core, settings, folder / CONFIG, ignore)
        if not dual:
            _check_types(tokenizer, core, folder / CONFIG, ignore, kind, pair)
    return tokenizer


def check_tokenizer(folder: Path, tokenizer: Any, ignore: Ignore) -> dict[str, Any]:
    """Holds a folder's tokenizer files to what the class of its tokenizer reads; the settings of tokenizer_config.json.

    Raises:
        UnreadSettingError: one that is not followed. MissingWeightsError: a damaged file.
    """
    if (folder / FILE).is_file():
        _say_built(tokenizer, _check_file(folder / FILE, ignore), folder / FILE)
    if not (folder / CONFIG).is_file():
        return {}
    where = folder / CONFIG
    settings = read_object(where)
    _check_class(settings, where, ignore)
    return read(settings, table_of(type(tokenizer)), where, ignore)


def _check_file(path: Path, ignore: Ignore) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())  # far longer than a configuration; `tokenizers` has parsed it before
    except (OSError, ValueError) as error:
        raise MissingWeightsError(f"{path} cannot be read: {error}") from error
    read(content, known.FILE, path, ignore)
    model = content.get("model")
    read(model if isinstance(model, dict) else {}, known.MODEL, path, ignore, "model.")
    return content


def _say_built(tokenizer: Any, content: dict[str, Any], path: Path) -> None:
    """Warns where transformers 5 builds a tokenizer by its class and not by its file, and texts are split otherwise.

    What sentence-transformers computes with the installed transformers is followed. transformers 4 took the file, of which some
    arguments of the class changed two parts.
    """
    from transformers.tokenization_utils_tokenizers import TokenizersBackend

    cls, core = type(tokenizer), getattr(tokenizer, "backend_tokenizer", None)
    if core is None or cls is TokenizersBackend or "__init__" not in vars(cls):
        return
    built = {name: _state(getattr(core, name)) for name in _PARTS}
    file = {name: content.get(name) for name in _PARTS}
    for name, kind, keys in _BY_CLASS:
        if all((part[name] or {}).get("type") == kind for part in (built, file)):
            file[name] = {**file[name], **{key: built[name][key] for key in keys}}
    other = [name for name in _PARTS if file[name] != built[name]]
    try:
        other += _other_model(core, content["model"])
        same = not other or (other[-1] in _PARTS and _same_parts(core, file)) or _same_ids(core, {**content, **file})
    except BaseException as error:  # what the class does not look at may make no sense
        if not isinstance(error, Exception) and not panicked(error):
            raise
        same = False
    if not same:
        warn(
            f"{path} splits texts otherwise than transformers' {cls.__name__} does, which has its own {', '.join(other)}. The class "
            "counts, as for the installed transformers. For the file, which transformers 4 followed, write "
            '"tokenizer_class": "PreTrainedTokenizerFast" in tokenizer_config.json, which it heeds for most types'
        )


def _state(part: Any) -> Any:
    return None if part is None else json.loads(part.__getstate__())


def _other_model(core: Any, model: dict[str, Any]) -> list[str]:
    """The settings of a file's model that a tokenizer has otherwise, or may have: Unigram does not tell its own."""
    other = [key for key in model if getattr(core.model, key, model[key]) != model[key]]
    if "unk_id" in model and (model["unk_id"] in core.encode(_PROBE).ids) == model.get("byte_fallback", False):
        other += ["unk_id"]
    return [f"model.{key}" for key in other]


def _same_parts(core: Any, parts: dict[str, Any]) -> bool:
    """Whether a text becomes the same pieces and gets the same ends; found out without the words, which are many."""
    own, words = _tokenizer_of(parts), core.encode(_PROBE, add_special_tokens=False)
    ids = (words if own.post_processor is None else own.post_processor.process(words)).ids
    return _pieces(own) == _pieces(core) and ids == core.encode(_PROBE).ids


def _pieces(core: Any) -> list[str]:
    text = _PROBE if core.normalizer is None else core.normalizer.normalize_str(_PROBE)
    split = core.pre_tokenizer
    return [text] if split is None else [piece for piece, _ in split.pre_tokenize_str(text)]


def _same_ids(core: Any, content: dict[str, Any]) -> bool:
    from tokenizers import Tokenizer

    return bool(Tokenizer.from_str(json.dumps(content)).encode(_PROBE).ids == core.encode(_PROBE).ids)


def _check_class(settings: dict[str, Any], where: Path, ignore: Ignore) -> None:
    """Raises UnreadSettingError where only code beside the files knows how texts become tokens."""
    auto_map = settings.get("auto_map")
    names = auto_map.get("AutoTokenizer") if isinstance(auto_map, dict) else auto_map
    names = names if isinstance(names, list) else [names]
    other = [str(name) for name in names if name and str(name).rpartition(".")[2] not in known.SAME_CODE]
    if other:
        why = (
            f"texts are split by code of its authors' own, {other[0]}, which need not do what transformers' class does"
        )
        ignore.refuse(where, "auto_map", auto_map, why)


def _mend_ends(tokenizer: Any, core: Any, settings: dict[str, Any], where: Path, ignore: Ignore) -> None:
    """Beginning and end of a text as tokenizer_config.json says; transformers 5 does not heed it beside a tokenizer.json."""
    kind = str(settings.get("tokenizer_class", "")).removesuffix("Fast")
    with opening(f"the tokenizer in {where.parent}"):
        ids = core.encode("a").ids
    for key, token, place in (("add_bos_token", tokenizer.bos_token, 0), ("add_eos_token", tokenizer.eos_token, -1)):
        wanted, there = settings.get(key), token is not None and bool(ids) and ids[place] == core.token_to_id(token)
        if wanted not in (True, False) or wanted == there or (not wanted and kind not in known.HEED_ENDS):
            continue
        if wanted and token is None:
            if key == "add_eos_token":
                ignore.refuse(where, key, wanted, "the tokenizer has no eos_token")
            continue
        steps = _state(core.post_processor)
        changed = _with_end(steps, token, core.token_to_id(token), place, wanted)
        if changed is None:
            ignore.refuse(where, key, wanted, f"tokenizer.json ends its texts by {steps and steps.get('type')}")
            continue
        core.post_processor = _tokenizer_of({"post_processor": changed}).post_processor


def _with_end(steps: Any, token: str, number: int, place: int, wanted: bool) -> dict[str, Any] | None:
    """The post-processing of a tokenizer.json with a token at the beginning (0) or end (-1), or without; None: cannot be."""
    if steps is None:
        steps = {"type": "TemplateProcessing", "single": [_part("Sequence", "A")], "pair": [], "special_tokens": {}}
        steps["pair"] = [_part("Sequence", "A"), _part("Sequence", "B")]
    if steps["type"] == "ByteLevel":
        steps = {"type": "Sequence", "processors": [steps]}
    if steps["type"] == "Sequence":
        parts = steps["processors"]
        at = next((i for i, part in enumerate(parts) if part["type"] == "TemplateProcessing"), len(parts))
        template = _with_end(parts[at] if at < len(parts) else None, token, number, place, wanted)
        return template and {"type": "Sequence", "processors": [*parts[:at], template, *parts[at + 1 :]]}
    if steps["type"] != "TemplateProcessing":
        return None
    end = _part("SpecialToken", token)

    def ended(parts: list[Any]) -> list[Any]:
        if not wanted:
            return parts[1:] if place == 0 else parts[:-1]
        return [end, *parts] if place == 0 else [*parts, end]

    special = {**steps["special_tokens"], token: {"id": token, "ids": [number], "tokens": [token]}}
    return {**steps, "single": ended(steps["single"]), "pair": ended(steps["pair"]), "special_tokens": special}


def _part(kind: str, name: str) -> dict[str, Any]:
    return {kind: {"id": name, "type_id": 0}}


def _tokenizer_of(parts: dict[str, Any]) -> Any:
    """`tokenizers`' objects of parts of a tokenizer.json, in a tokenizer of no words."""
    from tokenizers import Tokenizer

    model = {"type": "BPE", "vocab": {}, "merges": []}
    return Tokenizer.from_str(json.dumps({"added_tokens": [], "model": model, **parts}))


def _check_types(tokenizer: Any, core: Any, where: Path, ignore: Ignore, kind: str, pair: bool) -> None:
    """Raises UnreadSettingError where a backbone would be told more of the tokens than which of them are real."""
    names = list(tokenizer.model_input_names)
    if "attention_mask" not in names:
        ignore.refuse(where, "model_input_names", names, "without attention_mask filler would be read as text")
    elif not pair and "token_type_ids" in names and (kind in _NO_TYPES or any(core.encode("a").type_ids)):
        ignore.refuse(where, "model_input_names", names, "the zoo gives every token the type 0, as of one text alone")
