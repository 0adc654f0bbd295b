"""English words and what they mean as pairs of texts: what a text tower is taught on that is to read short free English.

Nouns of WordNet with their synonyms and definitions, from the lists that timm carries; names and keywords of the data packs'
train splits; the sentences of the text pack; and phrases put together from all these words. Nothing that a model is measured
on is read: neither other splits nor the paraphrases of `zoo/evaluation/`.
"""

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from zoo.inputs.item import Item
from zoo.tables.made import MadeTable
from zoo.tables.pack_files import packs_folder, read_pack
from zoo.tables.pairs import Pair
from zoo.tables.schema import Part

WORDS = "words"
_SEED = 0
_PHRASES = 40_000
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n")
_LETTER = re.compile(r"[A-Za-z]{2}")  # a note or a digit alone is no word
_WORD = re.compile(r"[a-z]{3,}")
_NAMED = (
    "{}",
    "a {}",
    "the {}",
    "a photo of a {}",
    "an image of a {}",
    "a drawing of a {}",
    "a close-up of a {}",
    "a small {}",
    "two {}s",  # also "two shortss": right plurals would need 16 pieces of words more than the packaged tower has
    "my old {}",
    "a kind of {}",
    "a {} on a table",
    "someone with a {}",
)
_MEANT = ("{}", "{}", "{}", "a photo of {}", "something that is {}", "this is {}")
_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey")
_PHRASE = (
    "something to {0}",
    "something for {0}",
    "things that {0}",
    "a place to {0}",
    "a place for {0}",
    "I want to {0}",
    "it is used for {0}",
    "a {0} {1}",
    "{0} and {1}",
    "a {0} with a {1}",
    "a {0} on a {1}",
    "a {0} in the {1}",
    "a {0} of {1}",
    "{0} for {1}",
    "people with {0} and {1}",
    "an animal that {0}",
    "what you {0} with",
    "{0}",
)


class WordTable(MadeTable):
    """`pack:words`: see the module. The same rows in the same order wherever the packs and timm are the same.

    Raises:
        TableError: another split than train is asked for. MissingPackError: a pack is not here.
    """

    def __init__(self, split: str, name: str) -> None:
        super().__init__(WORDS, split, name, Part("word", "text"), Part("meaning", "text"), word_pairs)

    def _pair(self, row: int) -> Pair:
        word, meaning = self._rows[row]
        return Pair(Item(text=word), Item(text=meaning), dataset=self._name, where=self.where(row))


def nouns() -> dict[str, tuple[list[str], str]]:
    """WordNet's nouns that ImageNet-21k has: number of the synset → (its synonyms, its definition), as timm lists them."""
    lists = files("timm.data") / "_info"
    found = [
        dict(line.split("\t") for line in (lists / f"imagenet_synset_to_{what}.txt").read_text("utf-8").splitlines())
        for what in ("lemma", "definition")
    ]
    return {synset: (words.split(", "), found[1].get(synset, "")) for synset, words in found[0].items()}


def classes() -> list[tuple[list[str], str]]:
    """The 1,000 classes of ImageNet in the order of every classifier: (synonyms, definition)."""
    known = nouns()
    order = (files("timm.data") / "_info" / "imagenet_synsets.txt").read_text("utf-8").split()
    return [known[synset] for synset in order]


def word_pairs() -> tuple[tuple[str, str], ...]:
    """(word or phrase, another way to say it, or its meaning), some 114,000, each once; phrases have any other beside them."""
    return _pairs_with(packs_folder())


@cache
def _pairs_with(folder: Path) -> tuple[tuple[str, str], ...]:
    draw = random.Random(_SEED)
    own = [pair for pairs in (_of_nouns(draw), _of_packs(draw), _of_passages()) for pair in pairs]
    counts = Counter(word for pair in own for text in pair for word in _WORD.findall(text.lower()))
    # Common words come more often, rare ones still come.
    stock = draw.choices(sorted(counts), [counts[word] ** 0.5 for word in sorted(counts)], k=8 * _PHRASES)
    phrases = [_phrase(draw, stock) for _ in range(2 * _PHRASES)]
    rows = [*own, *zip(phrases[::2], phrases[1::2], strict=True)]
    return tuple(dict.fromkeys(row for row in rows if row[0] != row[1] and all(map(_LETTER.search, row))))


def _of_nouns(draw: random.Random) -> Iterator[tuple[str, str]]:
    common = {tuple(words) for words, _ in classes()}
    for words, meaning in nouns().values():
        times = 3 if tuple(words) in common else 1  # what a camera meets
        for word in words[:4]:
            for _ in range(times):
                if meaning:
                    yield draw.choice(_NAMED).format(word), draw.choice(_MEANT).format(meaning)
        for word in words[1:3]:
            yield draw.choice(_NAMED).format(words[0]), draw.choice(_NAMED).format(word)


def _of_packs(draw: random.Random) -> Iterator[tuple[str, str]]:
    for row in {
        row["captions"][0]: row for row in read_pack("photos", "train", ["captions", "label", "coarse", "description"])
    }.values():
        names = [*row["captions"], row["label"], f"a {row['label']}", row["coarse"].lower()]
        yield from ((row["captions"][0], name) for name in names)
        yield from ((f"a {colour} {row['label']}", row["label"]) for colour in draw.sample(_COLOURS, 3))
        for sentence in _SENTENCE.split(row["description"] or ""):
            yield sentence, row["captions"][0]
    for row in {row["names"]["en"]: row for row in read_pack("emoji", "train", ["names", "keywords"])}.values():
        name = row["names"]["en"]
        yield from ((draw.choice(_NAMED).format(name), word) for word in row["keywords"]["en"])
    for row in read_pack("symbols", "train", ["text_en", "tags"]):
        yield row["text_en"], f"a drawing of {row['text_en']}"
        yield from ((row["text_en"], tag) for tag in row["tags"].split())


def _of_passages() -> Iterator[tuple[str, str]]:
    import pyarrow.parquet

    path = packs_folder() / "text" / "passages-train.parquet"
    rows = pyarrow.parquet.read_table(path, columns=["title", "query", "passage"]).to_pylist() if path.is_file() else []
    for row in rows:
        parts = [part.strip() for part in _SENTENCE.split(f"{row['query']}\n{row['passage']}")]
        yield from ((part, row["title"]) for part in parts if 10 < len(part) < 200)


def _phrase(draw: random.Random, stock: Sequence[str]) -> str:
    words = [draw.choice(stock) for _ in range(draw.randint(2, 4))]
    if draw.random() < 0.25:
        return " ".join(words)
    if draw.random() < 0.15:
        return f"a {draw.choice(_COLOURS)} {words[0]}"
    return draw.choice(_PHRASE).format(*words)
