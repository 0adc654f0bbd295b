"""Queries to try on a visitor's own gallery: words of a fixed list whose first picture stands clearly above the rest."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .gallery import Gallery

if TYPE_CHECKING:
    from zoo import Embedder

MOST = 6
# How far the first picture stands above the second, in standard deviations of the word's similarities with the gallery.
# Chosen on the validation photos by `python -m benchmarks examples`.
MARGIN = 1.0
_FEWEST = 4  # pictures, below which "the rest" is nothing
# Everyday things, places, animals and actions, chosen before any gallery was seen.
WORDS: tuple[str, ...] = tuple(
    """
a dog; a cat; a horse; a cow; a sheep; a bird; a fish; a butterfly; an insect; a flower; a tree; a forest; grass; leaves;
a mountain; snow; ice; a beach; the sea; a river; a lake; a waterfall; a boat; a ship; a bridge; a road; a street at night;
a city from above; a skyscraper; a church; a castle; a house; a garden; a park; a field; a farm; the sky; clouds; a sunset;
a rainbow; the moon; stars; fire; fireworks; rain; fog; a car; a truck; a bus; a train; an airplane; a bicycle; a motorcycle;
a person; a woman; a man; a child; a baby; a family; friends; a crowd; a wedding; a party; a birthday cake; a concert;
a dancer; a football match; a swimmer; someone running; someone skiing; someone cooking; someone reading; a selfie; hands;
a smiling face; food; bread; a pizza; fruit; an apple; a banana; vegetables; meat; soup; ice cream; chocolate; a cup of coffee;
a glass of wine; a bottle; a table; a chair; a sofa; a bed; a kitchen; a bathroom; an office; a computer; a phone; a camera;
a book; a newspaper; a map; a letter; a screenshot; a receipt; a chart; a drawing; a painting; a sculpture; a toy; a clock;
shoes; a dress; a hat; glasses; a bag; jewellery; a window; a door; stairs; a sign; a flag; a lamp; a mirror; a piano; a guitar;
a tool; a machine; a shop; a market; a shelf of products; money; a pattern; a black and white photo
""".replace("\n", " ").split("; ")
)


def queries_for(model: "Embedder", gallery: Gallery) -> list[str]:
    """Up to six words, the clearest first and each for another picture; [] where no word passes.

    A word passes where its first picture stands `MARGIN` standard deviations above the second, and is not so far from it
    that nothing fits (`Embedder.calibration`).
    """
    if not reads_english(model) or len(gallery) < _FEWEST or isinstance(gallery.vectors, list):
        return []
    scores = model.similarity(model.encode_query(list(WORDS), progress=False), gallery.vectors)
    best, rows = scores.topk(2, dim=1)
    margins = (best[:, 0] - best[:, 1]) / scores.std(dim=1).clamp(min=1e-6)
    known = model.calibration.get("text>image")
    fits = best[:, 0] >= known.nothing if known else margins >= MARGIN
    return _distinct([(float(margins[i]), WORDS[i], int(rows[i, 0])) for i in range(len(WORDS)) if fits[i]])


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
