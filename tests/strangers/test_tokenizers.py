"""A tokenizer is a program: what would grow, hang, end the process or answer otherwise each time is refused or made harmless."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tokenizers import Tokenizer

import zoo
from tests.formats.hostile_support import edit
from tests.reference.backbones import write_plain
from tests.strangers.fuzz import finds
from tests.strangers.harness import Sandbox
from tests.strangers.tokenizer_cases import CASES, part, pattern, replace
from zoo import loading
from zoo.encoders.rust import Core, naming
from zoo.errors import InvalidTextError, MissingWeightsError, UnrecognisedCheckpointError
from zoo.strangers import trial
from zoo.strangers.patterns import fault
from zoo.strangers.tokenizer_steps import LARGEST_GROWTH, growth_of

MINI = Path(zoo.__file__).parent / "weights" / "zoo-mini"
OPEN = "import sys, zoo; print(zoo.load_model(__import__('pathlib').Path(sys.argv[1])).encode('a cat').shape)"
ALWAYS = 4  # cases in every run


def gift(sandbox: Sandbox, change: Callable[[dict[str, Any]], None]) -> Path:
    """A good model with another tokenizer.json."""
    folder = sandbox.gift / "model"
    shutil.copytree(MINI, folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    change(content)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    "name", [*list(CASES)[:ALWAYS], *(pytest.param(name, marks=pytest.mark.slow) for name in list(CASES)[ALWAYS:])]
)
def test_a_tokenizer_that_would_do_harm(sandbox: Sandbox, name: str) -> None:
    change, said = CASES[name]
    sandbox.python(OPEN, gift(sandbox, change)).refused(said)


# ------------------------------------------------------------------------------------- the other files of a tokenizer

CONFIGS: list[tuple[str, Any, str]] = [
    ("model_max_length", "8", "model_max_length"),
    ("model_max_length", 1, "cannot be cut after 1 tokens"),
    ("model_max_length", -1, "model_max_length"),
    ("model_max_length", 1.5, "model_max_length"),
    ("model_max_length", 1e308, "model_max_length"),
    ("model_max_length", True, "model_max_length"),
    ("model_max_length", [8], "model_max_length"),
    ("max_len", {}, "max_len"),
    ("extra_ids", 10**9, "extra_ids"),
    ("offset", 10**12, "offset"),
    ("added_tokens_decoder", {"999999999999": {"content": "x"}}, "added_tokens_decoder.999999999999"),
    ("added_tokens_decoder", {"-1": {"content": "x"}}, "added_tokens_decoder.-1"),
    ("added_tokens_decoder", {str(i): {"content": str(i)} for i in range(250_000)}, "250,000 tokens"),
    ("extra_special_tokens", ["x" * 1_000_000], "extra_special_tokens"),
    ("bos_token", "$A:0 " * 1_000, "bos_token"),
    ("sp_model_kwargs", {"enable_sampling": True, "alpha": 0.1}, "otherwise each time"),
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of transformers' with a tokenizer.json and a tokenizer_config.json."""
    return write_plain(tmp_path_factory.mktemp("bert") / "plain", "bert")


def copied(sandbox: Sandbox, folder: Path) -> Path:
    return shutil.copytree(folder, sandbox.gift / "model")


@pytest.mark.parametrize(
    ("key", "value", "said"), [CONFIGS[0], *(pytest.param(*case, marks=pytest.mark.slow) for case in CONFIGS[1:])]
)
def test_a_number_of_tokenizer_config(sandbox: Sandbox, bert: Path, key: str, value: Any, said: str) -> None:
    folder = copied(sandbox, bert)
    edit(folder / "tokenizer_config.json", lambda settings: settings.update({key: value}))
    sandbox.python(OPEN, folder).refused(said)


@pytest.mark.slow
@pytest.mark.parametrize("length", [1e30, int(1e30), 2**63, 3, 0, None])
def test_a_length_that_authors_write(sandbox: Sandbox, bert: Path, length: Any) -> None:
    folder = copied(sandbox, bert)
    edit(folder / "tokenizer_config.json", lambda settings: settings.update(model_max_length=length))
    sandbox.python(OPEN, folder).harmless()


def _words(folder: Path) -> list[str]:
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    return sorted(vocabulary, key=vocabulary.get)


@pytest.mark.slow
def test_a_vocabulary_of_words_alone(sandbox: Sandbox, bert: Path) -> None:
    """What transformers builds of other files is tried as well."""
    folder = copied(sandbox, bert)
    (folder / "vocab.txt").write_text("\n".join(_words(folder)))
    sandbox.python(OPEN, folder).harmless()
    (folder / "vocab.txt").write_text("\n".join(["[UNK]", "x" * 1_000_000]))
    sandbox.python(OPEN, folder).refused("vocab.txt has a line of 1,000,000 bytes")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("spiece.model", b"\x1a\x18\x12\x16" + b"\xf0\xff\xff\xff" + bytes(18), "promises a trie"),
        ("spiece.model", b"\xff" * 100, "protocol buffer"),
        ("tokenizer.model", b"A" * 1_000_000 + b" 0\n", "a line of 1,000,002 bytes"),
        ("added_tokens.json", b'{"x": 1e99}', "added_tokens.json"),
        ("special_tokens_map.json", b"[]", "cannot be read"),
        ("tiktoken.model", b"YQ== 0\n", "tiktoken.model and no tokenizer.json"),
        ("tekken.json", b"{}", "tekken.json and no tokenizer.json"),
    ],
)
def test_other_files_of_a_vocabulary(sandbox: Sandbox, bert: Path, name: str, content: bytes, said: str) -> None:
    folder = copied(sandbox, bert)
    (folder / "vocab.txt").write_text("\n".join(_words(folder)))
    (folder / name).write_bytes(content)
    sandbox.python(OPEN, folder).refused(said)


@pytest.mark.slow
def test_a_tokenizer_json_of_another_version(sandbox: Sandbox, bert: Path) -> None:
    folder = copied(sandbox, bert)
    content = json.loads((folder / "tokenizer.json").read_text())
    CASES["doubles 40 times"][0](content)
    (folder / "tokenizer.1.0.json").write_text(json.dumps(content))
    edit(
        folder / "tokenizer_config.json", lambda settings: settings.update(fast_tokenizer_files=["tokenizer.1.0.json"])
    )
    sandbox.python(OPEN, folder).refused("tokenizer.1.0.json: normalizer.*times as long")


@pytest.mark.slow
def test_a_key_that_is_there_twice(sandbox: Sandbox) -> None:
    """`tokenizers` keeps the first where the second is null; Python's parser takes the second."""
    folder = gift(sandbox, CASES["doubles 40 times"][0])
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(f'{text.rstrip()[:-1]}, "normalizer": null}}')
    sandbox.python(OPEN, folder).refused("'normalizer' is there twice")


# ------------------------------------------------------------------------------------------------- tried, and while used

UNCHECKED = f"""
from zoo.strangers import tokenizers, trial
from zoo.encoders import rust
tokenizers.check_files = lambda folder: None
{OPEN}
"""


@pytest.mark.parametrize(
    "name",
    [
        "vast padding",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("doubles 40 times", "damaged map", "bytes as letters 40 times", "doubles in an added token")
        ),
    ],
)
def test_what_a_check_would_miss_ends_another_process(sandbox: Sandbox, name: str) -> None:
    sandbox.python(UNCHECKED, gift(sandbox, CASES[name][0])).refused(
        "tried in a process of its own, which (ended with status|took more than)"
    )


@pytest.mark.slow
def test_what_takes_for_ever_is_tried_elsewhere(sandbox: Sandbox) -> None:
    """The second takes too many steps at one place, for which Oniguruma panics; the first many at each of many places."""
    folder = gift(sandbox, pattern("a*a*(?=b)"))
    waits = UNCHECKED.replace(OPEN, f"trial._CHILD.seconds = 5\n{OPEN}")
    sandbox.python(waits, folder).refused("tried in a process of its own, which took more than 5 s")
    edit(folder / "tokenizer.json", CASES["repetitions in a row"][0])
    sandbox.python(waits, folder).refused("gives up on ordinary texts|took more than 5 s")


@pytest.mark.slow
def test_a_text_that_grows_by_unicode_itself(sandbox: Sandbox) -> None:
    """One letter becomes six: a text within the bounds is beyond them once it is normalised."""
    folder = gift(sandbox, part(normalizer={"type": "NFKC"}))
    code = "import sys, zoo, pathlib; zoo.load_model(pathlib.Path(sys.argv[1])).encode('cat ' + '\\u3316' * 3_000_000)"
    sandbox.python(code, folder).refused("InvalidTextError: .*once it is normalised")
    sandbox.python(code.replace("3_000_000", "300_000"), folder).harmless()


@pytest.mark.slow
def test_dropout_of_a_saved_model_is_switched_off(sandbox: Sandbox) -> None:
    """Refused where every setting of a file is read (`check_tokenizer`); our own layout has none."""
    bpe = {
        "type": "BPE",
        "dropout": 0.5,
        "unk_token": "[UNK]",
        "vocab": {"[UNK]": 0, "a": 1, "aa": 2},
        "merges": ["a a"],
    }
    folder = gift(sandbox, part(model=bpe))
    code = "import sys, zoo, pathlib; model = zoo.load_model(pathlib.Path(sys.argv[1])).towers[1].encoder.tokenize"
    sandbox.python(f"{code}\nassert len({{tuple(model('aaaa aaaa')) for _ in range(40)}}) == 1", folder).harmless()


def _cores() -> tuple[Any, Any]:
    from tokenizers import Tokenizer, models, pre_tokenizers

    lacking = Tokenizer(models.WordLevel({"a": 0}, unk_token="[UNK]"))
    panicking = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    panicking.pre_tokenizer = pre_tokenizers.FixedLength(0)
    return lacking, panicking


def test_what_goes_wrong_in_rust_is_an_error_of_its_text() -> None:
    for core in _cores():
        with pytest.raises(InvalidTextError, match="cannot read the text 'x y'"):
            Core(core).encode("x y")
    with pytest.raises(KeyboardInterrupt), naming("x"):
        raise KeyboardInterrupt


# --------------------------------------------------------------------------------------------------- ordinary tokenizers

_SPM = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
_WORDS = {"type": "Split", "pattern": {"Regex": r" ?\p{L}+|\p{N}{1,3}"}, "behavior": "Isolated", "invert": False}
_LETTERS = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
# As transformers' converters build them, and the longest of them twice over.
ORDINARY = {
    "BERT": ([{"type": "BertNormalizer"}], [{"type": "BertPreTokenizer"}]),
    "CLIP": ([{"type": "NFC"}, replace(r"\s+", " ", "Regex"), {"type": "Lowercase"}], [_WORDS, _LETTERS]),
    "Llama 2": ([{"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")], []),
    "Qwen": ([{"type": "NFC"}], [_WORDS, _LETTERS]),
    "DeepSeek": ([], [*[_WORDS] * 3, {"type": "Digits", "individual_digits": True}, _LETTERS]),
    "ALBERT": (
        [
            *(
                replace("``", '"'),
                replace("''", '"'),
                {"type": "NFKD"},
                {"type": "StripAccents"},
                {"type": "Lowercase"},
            ),
            *({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},),
        ],
        [{"type": "WhitespaceSplit"}, _SPM],
    ),
    "40 marks each replaced by three": ([replace(chr(0x2010 + i), "...") for i in range(40)], [_SPM]),
}
PATTERNS = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*",
    r"[\p{Han}]+|[\p{Lu}\p{Lt}&&[^\p{Han}]]*[\p{Ll}\p{Lm}&&[^\p{Han}]]+(?i:'s|'t)?",
    r" ?[^(\s|[.,!?…。，、।۔،])]+",
    *("[一-龥぀-ゟ゠-ヿ]+", r"\d{1,3}(?=(?:\d{3})*\b)", r"(?=(\d{3})+(?!\d))", r"(?:\r?\n)+", r"\d+(?:[.,]\d+)*"),
    *(r"(?:\p{L}\p{M}*)+", r"[A-Za-z]+(?:['’][A-Za-z]+)?", r"^▁+$", r" +▁", r"\s{2,}|[\n\r\t]", r"https?://\S+"),
]


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_tokenizer_is_within_the_bounds(name: str) -> None:
    steps, split = ORDINARY[name]
    growth = growth_of(
        {"type": "Sequence", "normalizers": steps}, {"type": "Sequence", "pretokenizers": split}, "tokenizer.json"
    )
    assert growth.normalizing * growth.splitting <= LARGEST_GROWTH / 10


def test_ordinary_patterns() -> None:
    assert {pattern: said for pattern in PATTERNS if (said := fault(pattern))} == {}


@pytest.mark.slow
def test_growth_is_never_less_than_what_happens() -> None:
    """Seeded rules of few letters, on texts of those letters."""
    from tokenizers import normalizers

    random = Random(7)
    for _ in range(400):
        steps = []
        for _ in range(random.randrange(1, 6)):
            content = "".join(random.choices("abcé ", k=random.randrange(4)))
            rule = random.choice(("a", "b", "ab", "cé", " ")), random.choice((r"\s*", "a+", ".", "b|c", "(?=c)"))
            steps.append(replace(rule[0], content) if random.random() < 0.6 else replace(rule[1], content, "Regex"))
        steps.insert(random.randrange(len(steps) + 1), {"type": random.choice(("NFKD", "NFC", "Lowercase", "Nmt"))})
        whole = {"type": "Sequence", "normalizers": steps}
        try:
            most = growth_of(whole, None, "x").normalizing
        except UnrecognisedCheckpointError:
            continue
        tokenizer = json.dumps(
            {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}, "normalizer": whole}
        )
        normalizer = Tokenizer.from_str(tokenizer).normalizer
        assert isinstance(normalizer, normalizers.Normalizer)
        for _ in range(8):
            text = "".join(random.choices("abcé Aﷺİ", k=200))
            found = ""
            with suppress(InvalidTextError), naming(text):  # Replace panics on some of them
                found = normalizer.normalize_str(text)
            # What stands for an empty match at the end comes once, and then grows.
            assert len(found) <= most * (len(text) + 2 * len(steps)), (steps, text)


def test_what_passed_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(trial, "_tried", lambda content, where: tried.append(where) or len(tried) > 1)
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        content = json.loads((MINI / "tokenizer.json").read_text())
        content["added_tokens"].append({"id": 0, "content": f"<{tmp_path}>"})  # bytes that nobody has tried
        (tmp_path / name / "tokenizer.json").write_text(json.dumps(content))
        trial.check_tokenizer(tmp_path / name)
        trial.check_tokenizer(tmp_path / name)
    assert len(tried) == 2  # the first could not be tried, and is not remembered
    (tmp_path / "two" / "tokenizer.json").write_text("{")
    with trial.trusting():
        trial.check_tokenizer(tmp_path / "two")
    with pytest.raises(MissingWeightsError, match="cannot be read"):
        trial.check_tokenizer(tmp_path / "two")


@pytest.mark.slow
def test_ten_thousand_tokenizers(sandbox: Sandbox) -> None:
    assert finds(sandbox, "tests.strangers.fuzz_tokenizers", 10_000) == []


@pytest.mark.parametrize(
    ("name", "revision", "known"),
    [("bge-small-en-v1.5", None, True), ("bge-small-en-v1.5", "main", False), ("e5-small-v2", None, False)],
)
def test_only_a_pinned_revision_is_known(name: str, revision: str | None, known: bool, monkeypatch: Any) -> None:
    class Opened(Exception):
        pass

    def opened(*arguments: Any, **options: Any) -> None:
        raise Opened(trial._TRUSTED.get())

    monkeypatch.setattr(loading, "_open_source", opened)
    with pytest.raises(Opened) as found:
        zoo.load_model(name, revision=revision)
    assert found.value.args == (known,)
    assert not trial._TRUSTED.get()
