"""How often the first image of a query to try is right, by how far it stands above the rest: why MARGIN is what it is.

Galleries are drawn from the validation photos; a word counts where some caption of the gallery holds it, and its first
image is right where one of its own captions does.
"""

import random
import re

from zoo.demos.vocabulary import MARGIN

import zoo
from zoo.tables import open_pairs
from zoo.vectors import vocabulary

GALLERIES, SIZES = 60, (30, 100, 300)
STEPS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.5)


def main() -> None:
    """Prints the table for zoo-mini."""
    model = zoo.load_model("zoo-mini")
    pairs = list(open_pairs("pack:photos", split="val"))
    captions = [" ".join([pair.positive.text, *(item.text for item in pair.extra_positives)]).lower() for pair in pairs]
    images = model.encode([pair.query for pair in pairs], progress=False)
    spoken = vocabulary()
    words = model.encode_query(spoken, progress=False)
    names = [re.compile(rf"\b{re.sub(r'^(a|an|the|someone|a glass of|a cup of) ', '', word)}s?\b") for word in spoken]
    nothing = model.calibration["text>image"].nothing
    draw, found = random.Random(0), []
    for _ in range(GALLERIES):
        rows = draw.sample(range(len(pairs)), draw.choice(SIZES))
        scores = model.similarity(words, images[rows])
        best, first = scores.topk(2, dim=1)
        margins = (best[:, 0] - best[:, 1]) / scores.std(dim=1)
        for word, name in enumerate(names):
            if best[word, 0] >= nothing and any(name.search(captions[row]) for row in rows):
                found.append((float(margins[word]), bool(name.search(captions[rows[int(first[word, 0])]]))))
    print(f"{'margin':>8} {'words':>6} {'first is right':>15}")
    for least in STEPS:
        right = [one for margin, one in found if margin >= least]
        print(
            f"{least:8.1f} {len(right):6} {sum(right) / max(1, len(right)):15.1%}{'  <- MARGIN' if least == MARGIN else ''}"
        )


if __name__ == "__main__":
    main()
