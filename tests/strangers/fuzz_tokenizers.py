"""Target: tokenizer.json of four kinds of models, with all kinds of steps, opened as `load_model` opens it, and used."""

import base64
import copy
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from tests.strangers.fuzz import mutated_json
from zoo.encoders.tokenizing import load_tokenizer

_TEXTS = ("Two DOGS,  a café's 3,000 ﬁsh & 山の上\n[x]", "a" * 3000, "\ufdfa é\u0301 " * 400)
_ENDS = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
}
_ADDED = {"id": 1, "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False}
_ADDED |= {"normalized": False, "special": True}
# A map by which "a" becomes "bc": the root at 0, "a" in the block at 256, its replacement's place at 512.
_UNITS = {0: 256 << 10, 256 ^ 97: (256 ^ 97 ^ 512) << 10 | 1 << 8 | 97, 512: 1 << 31}
_MAP = struct.pack("<769I", 4 * 768, *(_UNITS.get(place, 0) for place in range(768))) + b"bc\0"
_WORDS = {"<unk>": 0, "<s>": 1, "a": 2, "b": 3, "ab": 4, "é": 5, "##b": 6}


def _kinds() -> list[dict[str, Any]]:
    plain = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [_ADDED], "post_processor": _ENDS}
    split = {"type": "Split", "pattern": {"Regex": r" ?\p{L}+|\s+(?!\S)"}, "behavior": "Isolated", "invert": False}
    rule = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}  # harmless once
    cut = {"max_length": 64, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    fill = {"strategy": {"Fixed": 77}, "direction": "Right", "pad_to_multiple_of": 8, "pad_id": 0}
    fill |= {"pad_type_id": 0, "pad_token": "<unk>"}
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    charsmap = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(_MAP).decode()}
    letters = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    words = [[word, -float(number)] for word, number in _WORDS.items()]
    return [
        plain
        | {
            "truncation": cut,
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, rule]},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, letters]},
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "vocab": _WORDS, "merges": [["a", "b"]]},
        },
        plain
        | {
            "padding": fill,
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": True,
                "handle_chinese_chars": True,
                "lowercase": True,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {
                "type": "WordPiece",
                "unk_token": "<unk>",
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": _WORDS,
            },
        },
        plain
        | {
            "normalizer": {"type": "Sequence", "normalizers": [charsmap, {"type": "Prepend", "prepend": "▁"}]},
            "pre_tokenizer": metaspace,
            "decoder": metaspace,
            "model": {"type": "Unigram", "unk_id": 0, "vocab": words, "byte_fallback": False},
        },
        plain
        | {
            "normalizer": {"type": "Strip", "strip_left": True, "strip_right": True},
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "WhitespaceSplit"},
                    {"type": "Punctuation", "behavior": "Isolated"},
                    {"type": "Digits", "individual_digits": True},
                    {"type": "FixedLength", "length": 5},
                ],
            },
            "post_processor": {"type": "BertProcessing", "sep": ["<s>", 1], "cls": ["<s>", 1]},
            "decoder": {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True},
            "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": _WORDS},
        },
    ]


GOOD = _kinds()


def prepare(folder: Path) -> None:
    """The first kind."""
    (folder / "tokenizer.json").write_text(json.dumps(GOOD[0]))


def opens(folder: Path) -> None:
    """As an encoder opens it, and a few texts."""
    tokenize = load_tokenizer(folder, 48)
    for text in _TEXTS:
        tokenize(text)


def change(folder: Path, random: Random) -> None:
    """One of the kinds with one to three changes: anywhere, or inside of one part, of which steps may also be repeated."""
    good = copy.deepcopy(random.choice(GOOD))
    content = b""
    if random.random() < 0.3:
        content = mutated_json(good, random)
    else:
        name = random.choice([key for key, value in good.items() if isinstance(value, dict | list)])
        rows = [value for value in _lists(good[name]) if value]
        if rows and random.random() < 0.4:
            row = random.choice(rows)
            row *= random.randrange(2, 60)
        changed = mutated_json(good.pop(name), random)
        content = json.dumps(good).encode()[:-1] + f', "{name}": '.encode() + changed + b"}"
    (folder / "tokenizer.json").write_bytes(content)


def _lists(value: Any) -> Iterator[list[Any]]:
    if isinstance(value, list):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _lists(inner)
