"""Queries to try on a visitor's own gallery: words of the zoo's list (`zoo cluster` has the same) whose first image stands clearly above the rest."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from zoo.embedder.aiming import facing
from zoo.vectors import vocabulary

from .gallery import Gallery

if TYPE_CHECKING:
    from torch import Tensor

    from zoo import Embedder

MOST = 6
# How far the first image stands above the second, in standard deviations of the word's similarities with the gallery.
# Chosen on the validation photos by `python -m benchmarks examples`.
MARGIN = 1.0
_FEWEST = 4  # images, below which "the rest" is nothing
# Weights times words that a page may spend on them, a few seconds on a CPU; with fewer than _FEW words it offers none.
_WORK, _FEW = 1e11, 50
_ENCODED: "WeakKeyDictionary[Embedder, dict[str | None, tuple[list[str], Tensor | None]]]" = WeakKeyDictionary()


def queries_for(model: "Embedder", gallery: Gallery) -> list[str]:
    """Up to six words, the clearest first and each for another image; [] where no word passes.

    A word passes where its first image stands `MARGIN` standard deviations above the second, and is not so far from it
    that nothing fits (`Embedder.calibration`).
    """
    if not reads_english(model) or len(gallery) < _FEWEST or isinstance(gallery.vectors, list):
        return []
    words, vectors = encoded_words(model)
    if not words:
        return []
    scores = model.similarity(vectors, gallery.vectors)
    best, rows = scores.topk(2, dim=1)
    margins = (best[:, 0] - best[:, 1]) / scores.std(dim=1).clamp(min=1e-6)
    known = model.calibration.get("text>image")
    nothing = None if known is None else known.nothing
    fits = margins >= MARGIN if nothing is None else best[:, 0] >= nothing
    return _distinct([(float(margins[i]), words[i], int(rows[i, 0])) for i in range(len(words)) if fits[i]])


def fitting(model: "Embedder", gallery: Gallery, words: Sequence[str]) -> list[str]:
    """Those of some words that find an image which fits, by the model's calibration; all of them where it has none."""
    known = model.calibration.get("text>image")
    if known is None or known.nothing is None or isinstance(gallery.vectors, list):
        return list(words)
    scores = model.similarity(model.encode_query(list(words), progress=False), gallery.vectors).amax(dim=1)
    return [word for word, best in zip(words, scores.tolist(), strict=True) if best >= known.nothing]


def encoded_words(model: "Embedder", of: Sequence[str] = ("image",)) -> "tuple[list[str], Tensor | None]":
    """The words, or as many of them as the model's size allows, with their vectors for items of these modalities; encoded once."""
    aimed, kept = facing(model, [of]), _ENCODED.setdefault(model, {})
    if aimed.against not in kept:
        words = vocabulary()
        count = min(len(words), int(_WORK / max(1, model.spec.params)))
        words = words[:: -(-len(words) // count)] if count >= min(_FEW, len(words)) else []
        kept[aimed.against] = words, aimed.encode_query(words, progress=False) if words else None
    return kept[aimed.against]


def _distinct(found: Sequence[tuple[float, str, int]]) -> list[str]:
    chosen: dict[int, str] = {}
    for margin, word, row in sorted(found, key=lambda one: -one[0]):
        if margin >= MARGIN and row not in chosen and len(chosen) < MOST:
            chosen[row] = word
    return list(chosen.values())


def reads_english(model: "Embedder") -> bool:
    """Whether the words mean something to a model; where its languages are not known, they may."""
    spoken = model.spec.languages
    return "text" in model.spec.modalities and (not spoken or bool({"en", "multilingual"} & set(spoken)))
