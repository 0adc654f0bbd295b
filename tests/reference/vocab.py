"""Small tokenizers of every kind in use, trained on a page of text."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

PAGE = (
    "a red motorbike stands beside the old harbour at dawn while gulls circle above the water and fishing boats",
    "two dogs playing in the snow with a yellow ball and a small cat watching from the window of a wooden house",
    "a plate with pasta tomatoes and basil on a table next to a glass of water and a cup of coffee",
    "photo of a café in Zürich with a naïve façade; it's the cat's pyjamas, isn't it? e-mail me @ home, 3 x 7 = 21!",
    "the quick brown fox jumps over the lazy dog 0123456789 THE QUICK BROWN FOX Two DOGS Playing Photo",
    "query: what is search? passage: search finds the nearest vector. Represent this sentence for searching:",
)
BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_SIZE = 400


def wordpiece(lower: bool = True, specials: list[str] = BERT_SPECIALS) -> dict[str, int]:
    """A WordPiece vocabulary: special tokens, every letter, and two words in three, so that some break in pieces."""
    # By hand, as `unigram`: those two trainers of `tokenizers` break ties at random, differently in every run.
    splitter = pre_tokenizers.BertPreTokenizer()
    normalize = normalizers.BertNormalizer(lowercase=lower).normalize_str
    words = sorted({word for line in PAGE for word, _ in splitter.pre_tokenize_str(normalize(line))})
    letters = sorted(set("".join(words)))
    kept = [word for index, word in enumerate(words) if index % 3 and len(word) > 1]
    pieces = dict.fromkeys([*specials, *letters, *(f"##{letter}" for letter in letters), *kept, "##ing", "##ed", "##s"])
    return {piece: index for index, piece in enumerate(pieces)}


def byte_bpe(specials: list[str] = ROBERTA_SPECIALS) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A byte-level BPE vocabulary and its merges (RoBERTa, ModernBERT, GPT)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=_SIZE, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(PAGE, trainer)
    return _vocab_and_merges(tokenizer)


def space_bpe(specials: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A BPE vocabulary over text whose spaces became "▁", with a token for each byte (Gemma, SigLIP 2)."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(" ", "▁")])
    all_bytes = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=_SIZE + 256, special_tokens=[*specials, *all_bytes])
    tokenizer.train_from_iterator(PAGE, trainer)
    return _vocab_and_merges(tokenizer)


def unigram(specials: list[str] = ROBERTA_SPECIALS) -> list[tuple[str, float]]:
    """A unigram vocabulary with log probabilities (XLM-R, T5, SigLIP): the longer a piece, the likelier."""
    words = sorted({f"▁{word}" for line in PAGE for word in line.split()})
    letters = sorted({"▁"}.union(*words))
    pieces = [*letters, *(word for index, word in enumerate(words) if index % 3), "ing", "er", "▁th", "▁s"]
    scores = {piece: -9.0 + 0.5 * len(piece) - index / 1000 for index, piece in enumerate(dict.fromkeys(pieces))}
    return [(piece, 0.0) for piece in specials] + list(scores.items())


def clip_bpe(merges: int = 300) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The head of CLIP's own vocabulary: its bytes and its first merges, from open_clip's bundled file."""
    import open_clip.tokenizer

    pairs = list(_clip_merges(merges))
    alphabet = list(open_clip.tokenizer.bytes_to_unicode().values())
    pieces = [*alphabet, *(piece + "</w>" for piece in alphabet), *("".join(pair) for pair in pairs)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    return {piece: index for index, piece in enumerate(pieces)}, pairs


def _clip_merges(count: int) -> Iterator[tuple[str, str]]:
    import open_clip.tokenizer

    with gzip.open(open_clip.tokenizer.default_bpe(), "rt", encoding="utf-8") as lines:
        next(lines)  # version
        for _ in range(count):
            first, second = next(lines).split()
            yield first, second


def _vocab_and_merges(tokenizer: Tokenizer) -> tuple[dict[str, int], list[tuple[str, str]]]:
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]
