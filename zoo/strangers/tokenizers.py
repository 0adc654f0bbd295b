"""Files of a tokenizer that others made, held to what a tokenizer can be before `tokenizers` or transformers reads them.

`tokenizers` runs what its file says, and where that asks for too much memory it ends the whole process; see `trial` for what is
tried besides. The bounds stand far above every tokenizer of the registered families.
"""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError
from zoo.strangers import charsmap
from zoo.strangers.schema import Range, check, check_keys, parse
from zoo.strangers.tokenizer_steps import DECODERS, Growth, Short, growth_of, steps_of

CONFIG, FILE = "tokenizer_config.json", "tokenizer.json"
_WHOLE = re.compile(r"tokenizer(\.[\w.-]+)?\.json")
_NAMES = (
    *(CONFIG, "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt"),
    *("spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "tekken.json", "tiktoken.model"),
)
LONGEST_FILE = 200_000_000  # bytes; Gemma's has 33 million
MOST_ID = 16_777_216
MOST_ADDED, LONGEST_ADDED = 200_000, 1_000  # Emu3 has 33,000 for its images; Gemma's longest has 31 characters
_DEEPEST = 64
_MOST_TOKENS = 1_000_000  # of a filled or cut text
_MOST_ENDS = 1_000  # special tokens around a text; Whisper has four
_MOST_SQUARES = 1_000_000_000  # of the lengths of all words: Gemma's 262,000 have 20 million
_LONGEST_WORD = 1_000  # letters of a word that WordPiece looks up, with the cube of them; BERT's has 100

_Id = Annotated[int, Range(0, MOST_ID)]
_Side = Literal["Left", "Right"]
_TRUNCATION: dict[str, Any] = {
    "max_length": Annotated[int, Range(0, 2**53)],  # nothing is allocated by it
    "strategy": Literal["LongestFirst", "OnlyFirst", "OnlySecond"],
    "stride": Annotated[int, Range(0, 2**53)],
    "direction": _Side,
}
_PADDING: dict[str, Any] = {
    "strategy": str | dict[str, Annotated[int, Range(0, _MOST_TOKENS)]],
    "direction": _Side,
    "pad_to_multiple_of": Annotated[int, Range(0, 65_536)] | None,
    "pad_id": _Id,
    "pad_type_id": _Id,
    "pad_token": Annotated[str, Range(0, LONGEST_ADDED)],
}
_ADDED: dict[str, Any] = {
    "id": _Id,
    "content": Annotated[str, Range(0, LONGEST_ADDED)],
    **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), bool),
}
_MODEL: dict[str, Any] = {
    "type": Literal["BPE", "WordPiece", "WordLevel", "Unigram"],
    "unk_token": Annotated[str, Range(0, LONGEST_ADDED)] | None,
    "unk_id": _Id | None,
    "dropout": float | None,
    "continuing_subword_prefix": Short | None,
    "end_of_word_suffix": Short | None,
    "max_input_chars_per_word": Annotated[int, Range(1, _LONGEST_WORD)],
    **dict.fromkeys(("fuse_unk", "byte_fallback", "ignore_merges"), bool | None),
}
_CONFIG_NUMBERS = 1_000_000  # of any number there but lengths and ids: some become so many tokens, as extra_ids does
_LENGTHS = ("model_max_length", "max_len", "max_length", "max_len_single_sentence", "max_len_sentences_pair")


def files_of(folder: Path) -> list[Path]:
    """The files of a folder that transformers makes a tokenizer of.

    Raises:
        UnrecognisedCheckpointError: one is longer than any tokenizer.
    """
    found = [path for path in sorted(folder.iterdir()) if path.name in _NAMES or is_whole(path)]
    found = [path for path in found if path.is_file()]
    for path in found:
        if (size := path.stat().st_size) > LONGEST_FILE:
            raise UnrecognisedCheckpointError(f"{path} has {size:,} bytes; no tokenizer is so large")
    return found


def is_whole(path: Path) -> bool:
    """Whether a file says all of a tokenizer: tokenizer.json, or what transformers takes in its place by a version in its name."""
    return _WHOLE.fullmatch(path.name) is not None


def check_files(folder: Path) -> None:
    """Holds the files of a folder's tokenizer to what a tokenizer can be.

    Raises:
        UnrecognisedCheckpointError: a number, a step or a size that no tokenizer has. MissingWeightsError: a damaged file.
    """
    alone = not (folder / FILE).is_file()
    for path in files_of(folder):
        if is_whole(path):
            check_file(_object(path), str(path))
        elif path.name in (CONFIG, "special_tokens_map.json"):
            check_config(_object(path), path)
        elif path.name in ("added_tokens.json", "vocab.json"):
            check_words(check(_object(path), dict[str, _Id], path), path)
        elif alone and path.name in ("tekken.json", "tiktoken.model"):
            raise UnrecognisedCheckpointError(
                f"{folder} has {path.name} and no {FILE}, which the zoo reads in its place: save the tokenizer by transformers"
            )
        elif alone and path.suffix == ".model":
            _check_pieces(path)
        elif path.suffix == ".txt":
            _check_lines(path, path.read_bytes().split(b"\n"))


def check_file(content: dict[str, Any], where: str) -> Growth:
    """Holds the content of a tokenizer.json to what a tokenizer can be; how much longer it can make a text.

    Raises:
        UnrecognisedCheckpointError: it is otherwise; the message names the place and the value.
    """
    growth = growth_of(content.get("normalizer"), content.get("pre_tokenizer"), where)
    steps_of(content.get("decoder"), DECODERS, "decoders", f"{where}: decoder")
    _check_added(content.get("added_tokens"), f"{where}: added_tokens")
    check_ends(content.get("post_processor"), f"{where}: post_processor")
    _check_cut(content, where)
    _check_model(content.get("model"), f"{where}: model")
    return growth


def check_config(settings: dict[str, Any], where: Path) -> None:
    """Holds the numbers and lengths of a tokenizer_config.json, or special_tokens_map.json, to what transformers can make.

    Raises:
        UnrecognisedCheckpointError: it names the key.
    """
    for key, value in settings.items():
        if key in _LENGTHS and value is not None:
            # "As long as you like" is 1e30 there, a whole number of 31 digits.
            if type(value) not in (int, float) or not 0 <= value <= 1e31 or value != int(value):
                raise UnrecognisedCheckpointError(
                    f"{where} has {key} = {str(value)[:60]}; it must be a number of tokens"
                )
        elif key != "chat_template":
            _check_inside(key, value, where)
    decoder = settings.get("added_tokens_decoder")
    if isinstance(decoder, dict):
        if len(decoder) > MOST_ADDED:
            raise UnrecognisedCheckpointError(f"{where} adds {len(decoder):,} tokens; at most {MOST_ADDED:,}")
        if wrong := next((key for key in decoder if not (key.isascii() and key.isdigit() and len(key) < 9)), None):
            raise UnrecognisedCheckpointError(f"{where} has added_tokens_decoder.{wrong[:40]}, which is no token's id")
    kwargs = settings.get("sp_model_kwargs")
    if kwargs and (not isinstance(kwargs, dict) or any(kwargs.values())):
        raise UnrecognisedCheckpointError(
            f"{where} has sp_model_kwargs = {str(kwargs)[:60]}; with sampling the same text is split otherwise each time: remove it"
        )


def _check_inside(key: str, value: Any, where: Path) -> None:
    """Numbers that no setting has, and texts that no token is."""
    rest, seen = [value], 0
    while rest:
        one = rest.pop()
        seen += 1
        if isinstance(one, dict | list):
            rest += one.values() if isinstance(one, dict) else one
        longest = LONGEST_ADDED if key.endswith(("_token", "_tokens")) else 100 * LONGEST_ADDED
        wrong = isinstance(one, str) and len(one) > longest
        number = isinstance(one, int | float) and not isinstance(one, bool)
        most = MOST_ID if key.endswith("_id") else _CONFIG_NUMBERS
        if wrong or (number and abs(one) > most) or seen > 20 * MOST_ADDED:
            raise UnrecognisedCheckpointError(f"{where} has {key} = {str(one)[:60]}; no tokenizer has so much")


def _object(path: Path) -> dict[str, Any]:
    try:
        if (size := path.stat().st_size) > LONGEST_FILE:
            raise UnrecognisedCheckpointError(f"{path} has {size:,} bytes; no tokenizer is so large")
        value = parse(path.read_bytes(), path, MissingWeightsError, deepest=_DEEPEST)
    except OSError as error:
        raise MissingWeightsError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise MissingWeightsError(f"{path} cannot be read: it holds a {type(value).__name__}, not a JSON object")
    return value


def _check_added(tokens: Any, where: str) -> None:
    check(tokens, list | None, where)
    if len(tokens or ()) > MOST_ADDED:
        raise UnrecognisedCheckpointError(f"{where} has {len(tokens):,} tokens; at most {MOST_ADDED:,}")
    for token in tokens or ():
        if not _is_token(token):  # a tenth of the time of the check, which says what is wrong
            check_keys(token, _ADDED, where)


def _is_token(token: Any) -> bool:
    if not isinstance(token, dict) or len(token) != len(_ADDED):
        return False
    number, content, *flags = map(token.get, _ADDED)
    plain = type(number) is int and type(content) is str and all(type(flag) is bool for flag in flags)
    return plain and 0 <= number <= MOST_ID and len(content) <= LONGEST_ADDED


def check_ends(part: Any, where: str) -> None:
    """Holds what is put around a text to a bounded number of tokens, and the text to once.

    Args:
        part: the post_processor of a tokenizer.json.

    Raises:
        UnrecognisedCheckpointError: more, or a step that is not known.
    """
    added, rest, seen = 0, [part], 0
    while rest:
        step = rest.pop()
        if step is None:
            continue
        seen += 1
        kind = step.get("type") if isinstance(step, dict) else None
        if seen > 100:
            raise UnrecognisedCheckpointError(f"{where} has over 100 steps")
        if kind == "Sequence":
            rest += check_keys(step, {"processors": list}, where, required=True)["processors"]
        elif kind == "TemplateProcessing":
            added += _template(step, where)
        elif kind in ("BertProcessing", "RobertaProcessing"):
            check_keys(step, {"sep": tuple[str, _Id], "cls": tuple[str, _Id]}, where, required=True)
            added += 2
        elif kind != "ByteLevel":
            raise UnrecognisedCheckpointError(f"{where} has a step of the type {str(kind)[:40]!r}")
        if added > _MOST_ENDS:
            raise UnrecognisedCheckpointError(f"{where} adds {added:,} tokens to a text; at most {_MOST_ENDS:,}")


def _template(step: dict[str, Any], where: str) -> int:
    """The number of tokens that a template adds to a text."""
    here = f"{where}: TemplateProcessing"
    special = dict[str, dict[str, Any]]
    check_keys(step, {"single": list[special], "pair": list[special], "special_tokens": special}, here, required=True)
    sizes = {}
    for name, token in step["special_tokens"].items():
        check_keys(token, {"id": str, "ids": list[_Id], "tokens": list[str]}, here, required=True)
        if not len(token["ids"]) == len(token["tokens"]) <= _MOST_ENDS:
            raise UnrecognisedCheckpointError(f"{here}: {name[:40]!r} has {len(token['ids']):,} ids")
        sizes[name] = len(token["ids"])
    added = 0
    for key in ("single", "pair"):
        texts: list[str] = []
        for piece in step[key]:
            for kind, about in piece.items():
                if kind == "Sequence":
                    texts.append(str(about.get("id")))
                elif key == "single":
                    added += sizes.get(str(about.get("id")), 1)
        if len(texts) > len({*texts} & {"A", "B"[: key == "pair"]}):
            raise UnrecognisedCheckpointError(
                f"{here}: {key} has {len(texts):,} texts; it must have each of its texts once"
            )
    return added


def _check_cut(content: dict[str, Any], where: str) -> None:
    cut, filled = content.get("truncation"), content.get("padding")
    if cut is not None:
        check_keys(cut, _TRUNCATION, f"{where}: truncation")
        if cut.get("stride", 0) and cut["stride"] >= cut.get("max_length", 0):
            raise UnrecognisedCheckpointError(
                f"{where}: truncation has stride {cut['stride']:,}, which must be below its max_length {cut.get('max_length')}"
            )
    if filled is not None:
        check_keys(filled, _PADDING, f"{where}: padding")


def _check_model(model: Any, where: str) -> None:
    check_keys(model, _MODEL, where)
    sampled = [key for key in ("alpha", "nbest_size") if model.get(key)]
    if sampled:
        raise UnrecognisedCheckpointError(f"{where} has {sampled[0]}: the same text would be split otherwise each time")
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        check_words(vocabulary, where)
        ids = vocabulary.values()
        if not set(map(type, ids)) <= {int} or not 0 <= min(ids, default=0) <= max(ids, default=0) <= MOST_ID:
            raise UnrecognisedCheckpointError(f"{where} has ids in its vocabulary that are none of 0 to {MOST_ID:,}")
    elif not isinstance(vocabulary, list) or not all(_is_piece(piece) for piece in vocabulary):
        raise UnrecognisedCheckpointError(f"{where} has no vocabulary of words with ids, or of words with scores")
    else:
        check_words((piece for piece, _ in vocabulary), where)
    unknown, kind = model.get("unk_token"), model.get("type")
    if kind in ("WordPiece", "WordLevel") and unknown is not None and unknown not in vocabulary:
        raise UnrecognisedCheckpointError(
            f"{where} has unk_token {unknown[:40]!r}, which is not in its vocabulary; no text with an unknown word could be read"
        )


def check_words(words: Iterable[str], where: object) -> None:
    """Holds words of a vocabulary to lengths of which transformers can look for every way to split each in two.

    Raises:
        UnrecognisedCheckpointError: that would take the square of a vast length.
    """
    squares = sum(len(word) ** 2 for word in words)
    if squares > _MOST_SQUARES:
        raise UnrecognisedCheckpointError(
            f"{where} has words of {math.isqrt(squares):,} letters; no vocabulary has so long ones"
        )


def _is_piece(piece: Any) -> bool:
    return isinstance(piece, list) and len(piece) == 2 and isinstance(piece[0], str) and type(piece[1]) in (int, float)


# --------------------------------------------------------------------------------- vocabularies without a tokenizer.json


def _check_pieces(path: Path) -> None:
    """A sentencepiece model's map of characters; a file of tiktoken's, which bears the same name, has short lines."""
    data = path.read_bytes()
    try:
        if (found := charsmap.of_model(data)) is not None:
            charsmap.growth_of(found)
    except charsmap.CharsmapError as error:
        if not data[:1].isalnum() and data[:1] not in b"+/":
            raise UnrecognisedCheckpointError(f"{path}: it {error}") from error
        _check_lines(path, data.split(b"\n"))


def _check_lines(path: Path, lines: Iterable[bytes]) -> None:
    if (longest := max(map(len, lines), default=0)) > 2 * LONGEST_ADDED:
        raise UnrecognisedCheckpointError(f"{path} has a line of {longest:,} bytes; no token is so long")
