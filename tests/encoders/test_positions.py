"""Where a token stands: the first one under either padding, and the last one that a long text is cut to."""

from __future__ import annotations

import json
import random
import string
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

import zoo
from tests.reference import TEXTS, write
from tests.reference.sentence_models import sentence_reference
from zoo import pooling
from zoo.encoders import shortening
from zoo.encoders.rust import Core
from zoo.encoders.tokenizing import FastTokenizer
from zoo.inputs.item import Item, Tokens

BOUND = 1e-5


# ------------------------------------------------------------------------------------------------------ the first token


@pytest.mark.parametrize("names", [["Cls"], ["Cls", "Mean", "LastToken"]])
def test_the_first_real_token(names: list[str]) -> None:
    states, mask = torch.randn(3, 5, 4), torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    out = pooling.Concat(names)(Tokens(states, mask))
    torch.testing.assert_close(out[:, :4], torch.stack([states[0, 0], states[1, 2], states[2, 0]]))


def _with_tokenizer(folder: Path, **changes: Any) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that pools [CLS], whose tokenizer fills on the left."""
    folder = tmp_path_factory.mktemp("left") / "model"
    write("sentence-cls", folder)
    _with_tokenizer(folder, padding_side="left")
    return folder


def test_padding_on_the_left_changes_nothing(left: Path) -> None:
    """One at a time in sentence-transformers, where nothing is filled; ours in one batch, packed and not."""
    from sentence_transformers import SentenceTransformer

    expected = torch.from_numpy(SentenceTransformer(str(left), device="cpu").encode(TEXTS, batch_size=1))
    model = zoo.load_model(left)
    assert (model.encode(TEXTS) - expected).abs().max() < BOUND
    tower = model.towers[0]
    with torch.no_grad():
        batch = tower.encoder.prepare([Item(text=text) for text in TEXTS])
        tower.encoder.train()  # training is not packed
        for module in tower.encoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        assert (tower(batch) - expected).abs().max() < BOUND


# ----------------------------------------------------------------------------------------------- the last of a long text

DICE = random.Random(7)
RUN = "".join(DICE.choice(string.ascii_letters + string.digits + "+/") for _ in range(24_000))
LONG = {
    "words": "The quick brown fox, it's 3 o'clock! " * 900,
    "spaces before": " " * 24_000 + "kitty sits on the mat " * 30,
    "spaces between": ("kitty" + " " * 3000) * 40,
    "hex": RUN.lower(),
    "base64": RUN,
    "one letter": "a" * 24_000,
    "marks": "a" + "".join(DICE.choice("\u0300\u0301\u0323\u0316\u0327") for _ in range(24_000)) + " kitty" * 300,
    "marked letters": "".join(DICE.choice("abc ") + "\u0300\u0323\u0301" * 9 for _ in range(1500)),
    "no spaces": "山の上の白い雲。中文没有空格" * 2000,
    "rules": "-" * 24_000,
    "lines": "a\nbc\r\n\td" * 4000,
}
_CORPUS = [text[:3000:2] + " " + text[:300] for text in LONG.values()] + list(TEXTS)


@cache
def _learned(kind: str) -> str:
    """A tokenizer of each model that texts are split by, learned from the texts themselves."""
    if kind == "WordPiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=400, special_tokens=["[UNK]"], show_progress=False)
    elif kind == "BPE of bytes":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    elif kind == "BPE of whole texts":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        trainer = trainers.BpeTrainer(
            vocab_size=300, special_tokens=["<unk>"], max_token_length=12, show_progress=False
        )
        tokenizer.train_from_iterator([text[:150] for text in _CORPUS], trainer)
        return tokenizer.to_str()
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=300, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
        )
        pieces = [" ".join(text[i : i + 14] for i in range(0, 700, 14)) for text in _CORPUS]
        tokenizer.train_from_iterator(pieces, trainer)
        return tokenizer.to_str()
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return tokenizer.to_str()


@pytest.mark.parametrize("kind", ["WordPiece", "BPE of bytes", "BPE of whole texts", "Unigram"])
def test_a_text_is_cut_by_tokens(kind: str) -> None:
    """Equal to tokenising all of it and cutting then, on either side."""
    whole, wrong = Tokenizer.from_str(_learned(kind)), []
    for name, text in LONG.items():
        ids = whole.encode(text).ids
        for side, limit in (("right", 4), ("right", 60), ("left", 60)):
            ours = FastTokenizer(Tokenizer.from_str(_learned(kind)), limit)
            ours.tokenizer.enable_truncation(limit, direction=side)
            if ours(text) != (ids[:limit] if side == "right" else ids[-limit:]):
                wrong.append((name, side, limit))
    assert wrong == []


@pytest.mark.parametrize("kind", ["WordPiece", "BPE of bytes", "Unigram"])
@pytest.mark.parametrize("name", ["words", "lines", "hex", "no spaces"])
def test_of_a_long_text_little_is_tokenised(kind: str, name: str) -> None:
    text, tried = LONG[name] * 40, []
    tokenizer = Tokenizer.from_str(_learned(kind))
    encode, weighs = shortening.encoder_of(Core(tokenizer))
    kept = shortening.shorten(text, 64, lambda piece: tried.append(len(piece)) or encode(piece), weighs=weighs)
    assert len(kept) < len(text) / 8
    assert sum(tried) < len(text)


@pytest.mark.parametrize("name", sorted(set(LONG) - {"one letter", "no spaces"}))  # of which WordPiece knows nothing
def test_long_texts_equal_sentence_transformers(name: str, left: Path) -> None:
    """Whole tokenizers, with their special tokens, from a folder."""
    model = zoo.load_model(left)
    expected = sentence_reference(left).texts([LONG[name]])
    assert (model.encode([LONG[name]]) - expected).abs().max() < BOUND


def _open_clip_tokenizers(folder: Path) -> list[Any]:
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    write("sentence-mean", folder)
    return [
        SimpleTokenizer(context_length=24),
        SimpleTokenizer(context_length=24, clean="whitespace"),
        HFTokenizer(str(folder), context_length=24),
        HFTokenizer(str(folder), context_length=24, clean="canonicalize"),
    ]


def test_open_clip_cuts_by_tokens_too(tmp_path: Path) -> None:
    """Of every tokenizer that it has: white space and entities are cleaned before anything is cut."""
    from zoo.encoders.open_clip import OpenClipText

    texts = LONG | {"entities": "&amp;amp;lt; " * 2000, "broken": "cafÃ© " * 2000 + "山"}
    texts = {name: text if "spaces" in name else text[:5000] for name, text in texts.items()}
    del texts["marks"]  # by open_clip's own, written in Python, in minutes
    cfg = {"embed_dim": 8, "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}}
    for tokenizer in _open_clip_tokenizers(tmp_path / "bert"):
        encoder = OpenClipText(cfg, tower=torch.nn.Identity(), tokenizer=tokenizer)
        wrong = [
            name
            for name, text in texts.items()
            if not torch.equal(encoder.prepare_item(Item(text=text)), tokenizer([text])[0])
        ]
        assert wrong == []


def test_a_vision_language_model_cuts_by_tokens() -> None:
    """Blanks before a text that its prompt takes off, and a run that is one word."""
    encoder = zoo.build_model("gme-test").towers[0].encoder
    plain = "kitty sits " * 60
    limit = encoder.max_tokens
    base = encoder.prepare_item(Item(text=plain)).ids
    for text in (plain + " " * 90_000 + "x", plain * 400):
        assert len(encoder.prepare_item(Item(text=text)).ids) <= limit
    assert len(base) <= limit
    run = "kitty" + " " * 3000
    whole = encoder._ids([("text", run * 40)], (), "")
    ours = encoder.prepare_item(Item(text=run * 40)).ids
    tail = len(encoder._ids([("text", "")], (), ""))
    assert len(ours) == min(limit, len(whole))
    assert ours[: limit - tail] == whole[: limit - tail]
