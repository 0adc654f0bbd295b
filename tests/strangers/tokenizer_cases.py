"""Tokenizers that would harm who opens them: what each changes in a good tokenizer.json, and what must be said of it."""

import base64
import struct
from collections.abc import Callable
from typing import Any

Change = Callable[[dict[str, Any]], None]


def replace(pattern: str, content: str, kind: str = "String") -> dict[str, Any]:
    """A rule of a normaliser."""
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def normalizers(*steps: dict[str, Any]) -> Change:
    """The steps in the place of the normaliser."""
    return lambda content: content.update(normalizer={"type": "Sequence", "normalizers": list(steps)})


def splits(*steps: dict[str, Any]) -> Change:
    """The steps in the place of the pre-tokeniser."""
    return lambda content: content.update(pre_tokenizer={"type": "Sequence", "pretokenizers": list(steps)})


def pattern(text: str) -> Change:
    """A pre-tokeniser that splits by a regular expression."""
    return splits({"type": "Split", "pattern": {"Regex": text}, "behavior": "Isolated", "invert": False})


def part(**parts: Any) -> Change:
    """Other parts of the file."""
    return lambda content: content.update(parts)


def model(**settings: Any) -> Change:
    """Other settings of the model."""
    return lambda content: content["model"].update(settings)


def _charsmap(data: bytes) -> Change:
    return normalizers({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()})


def _token(content: str, number: int = 3) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "special"), False)
    return {"id": number, "content": content, "normalized": True, **flags}


def _template(single: list[Any], special: dict[str, Any] | None = None) -> Change:
    ends = {"type": "TemplateProcessing", "single": single, "pair": [text("A"), text("B")]}
    return part(post_processor={**ends, "special_tokens": special or {}})


def text(name: str) -> dict[str, Any]:
    """The place of a text in a template."""
    return {"Sequence": {"id": name, "type_id": 0}}


_PADDING = {
    "strategy": "BatchLongest",
    "direction": "Right",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "[PAD]",
}
_CUT = {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
_BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False}
_END = {"SpecialToken": {"id": "x", "type_id": 0}}

# Name → the change, and what is said. The first few are in every run.
CASES: dict[str, tuple[Change, str]] = {
    "doubles 40 times": (normalizers(*[replace("a", "aa")] * 40), "normalizer.*times as long"),
    "damaged map": (_charsmap(struct.pack("<I", 2**32 - 16) + bytes(16)), "map of characters promises a trie"),
    "nested repetition": (pattern("(a+)+$"), "pre_tokenizer.*for ever"),
    "vast padding": (part(padding={**_PADDING, "strategy": {"Fixed": 10**12}}), "padding.*Fixed"),
    "a million letters": (normalizers(replace("a", "b" * 1_000_000)), "content is .*0 to 100 characters"),
    "doubles by another letter": (normalizers(*[replace("a", "bb"), replace("b", "aa")] * 20), "times as long"),
    "doubles by a regex": (normalizers(*[replace(".", "aa", "Regex")] * 40), "times as long"),
    "doubles before each letter": (normalizers(*[replace("(?=.)", "x", "Regex")] * 40), "times as long"),
    "doubles in nested sequences": (
        part(
            normalizer={
                "type": "Sequence",
                "normalizers": [{"type": "Sequence", "normalizers": [replace("a", "a" * 99)] * 3}] * 3,
            }
        ),
        "times as long",
    ),
    "doubles in an added token": (
        lambda content: (normalizers(*[replace("a", "aa")] * 40)(content), content["added_tokens"].append(_token("a"))),
        "times as long",
    ),
    "empty pattern": (normalizers(replace("", "bbbb")), "pattern.*not empty"),
    "too many steps": (normalizers(*[replace("a", "b")] * 101), "over 100 steps"),
    "sequences in each other": (lambda content: content.update(normalizer=_nested(30)), "deep"),
    "bytes as letters 40 times": (splits(*[_BYTES] * 40), "times as long"),
    "bytes as letters in the normaliser": (normalizers(*[{"type": "ByteLevel"}] * 40), "times as long"),
    "spaces before pieces 12 times": (
        splits(*[{"type": "Metaspace", "replacement": "_", "prepend_scheme": "always", "split": True}] * 12),
        "pre_tokenizer.*times as long",
    ),
    "a step that is not known": (normalizers({"type": "Foo", "prepend": "x"}), "type 'Foo'"),
    "a step without a name": (normalizers({"prepend": "x"}), "type 'None'"),
    "empty map": (_charsmap(b""), "map of characters"),
    "map that leads beyond": (_charsmap(struct.pack("<II", 4, 0x3FFFF << 10) + b"x\0"), "beyond its end"),
    "map that is no base64": (normalizers({"type": "Precompiled", "precompiled_charsmap": "!!!!"}), "no base64"),
    "map that is a number": (normalizers({"type": "Precompiled", "precompiled_charsmap": 5}), "must be a text"),
    "repetitions in a row": (pattern("a*a*a*a*b"), "for ever"),
    "alternatives that are one": (pattern("(a|a)*b"), "for ever"),
    "repetition of a repetition of a class": (pattern(r"([\p{L}]+)*\d"), "for ever"),
    "counted repetitions": (pattern("((((a{1000}){1000}){1000}){1000})"), "counts repetitions"),
    "a pattern that refers back": (pattern(r"(.*)\1\1"), "refers to"),
    "a pattern that calls itself": (pattern(r"(?<x>a|b\g<x>c)"), "cannot be judged"),
    "5,000 groups": (pattern("(" * 4990 + "a" + ")" * 4990), "cannot be judged|deep"),
    "a pattern of a megabyte": (pattern("a|" * 500_000), "characters"),
    "nested repetition in a lookahead": (pattern("(?=(a+)+$)"), "for ever"),
    "nested repetition in a rule": (normalizers(replace("(a+)+$", "b", "Regex")), "for ever"),
    "nested repetition in a decoder": (part(decoder=replace("(a+)+$", "b", "Regex")), "for ever"),
    "pieces of nothing": (splits({"type": "FixedLength", "length": 0}), "length is 0"),
    "a delimiter of two letters": (splits({"type": "CharDelimiterSplit", "delimiter": "ab"}), "delimiter"),
    "vast multiple": (part(padding={**_PADDING, "pad_to_multiple_of": 10**12}), "pad_to_multiple_of"),
    "stride beyond the cut": (part(truncation={**_CUT, "stride": 9}), "stride"),
    "negative cut": (part(truncation={**_CUT, "max_length": -1}), "max_length"),
    "cut that is a text": (part(truncation={**_CUT, "max_length": "8"}), "max_length"),
    "the text 100,000 times": (_template([text("A")] * 100_000), "once"),
    "the text twice, 40 times": (
        lambda content: (
            _template([text("A"), text("A")])(content),
            content.update(post_processor={"type": "Sequence", "processors": [content["post_processor"]] * 40}),
        ),
        "once",
    ),
    "100,000 ends": (
        _template([text("A"), *[_END] * 100_000], {"x": {"id": "x", "ids": [1], "tokens": ["x"]}}),
        "adds .* tokens",
    ),
    "an end of 100,000 tokens": (
        _template([text("A"), _END], {"x": {"id": "x", "ids": [1] * 100_000, "tokens": ["x"] * 100_000}}),
        "100,000 ids",
    ),
    "a token of a megabyte": (lambda content: content["added_tokens"].append(_token("x" * 1_000_000)), "content"),
    "300,000 tokens": (part(added_tokens=[_token(f"x{i}", i) for i in range(300_000)]), "300,000 tokens"),
    "tokens that are numbers": (part(added_tokens=[5]), "added_tokens"),
    "dropout that is a text": (model(dropout="0.5"), "dropout"),
    "sampling": (model(alpha=0.5, nbest_size=64), "otherwise each time"),
    "ids of four billion": (model(vocab={"[UNK]": 0, "a": 2**32 - 1}), "ids in its vocabulary"),
    "ids that are texts": (model(vocab={"[UNK]": "0"}), "ids in its vocabulary"),
    "words of a billion letters": (model(max_input_chars_per_word=10**9), "max_input_chars_per_word"),
    "a prefix of a megabyte": (model(continuing_subword_prefix="x" * 1_000_000), "continuing_subword_prefix"),
    "an unknown token that is not there": (model(unk_token="[NO]"), "unk_token"),
    "words of 100,000 letters": (model(vocab={"[UNK]": 0, "x" * 100_000: 1}), "words of 100,000 letters"),
    "a vocabulary that is a number": (model(vocab=5), "vocabulary"),
    "no model": (part(model=None), "model"),
    "another kind of model": (model(type="Foo"), "type"),
}


def _nested(depth: int) -> dict[str, Any]:
    step: dict[str, Any] = replace("a", "b")
    for _ in range(depth):
        step = {"type": "Sequence", "normalizers": [step]}
    return step
