"""The names of what is measured, and how to read it; without torch, so that cards and pages of kept figures need none."""

from typing import NamedTuple

SPACE, ROBUSTNESS, WORDING, LANGUAGE, LENGTH = "space", "robustness", "paraphrases", "languages", "similarity by length"
UNCHANGED = "unchanged"  # the part of a figure before any change
RECALL, LOST, COSINE = "recall@1", "recall@1 lost", "mean cosine"


class Measure(NamedTuple):
    """A measure: its unit ("" for a share from 0 to 1), and how to read it."""

    unit: str
    meaning: str


MEASURES = {
    "modality gap": Measure(
        "distance",
        "Distance of the middles of two kinds, 0 to 2. Scores of one kind do not compare with those of another.",
    ),
    "separability": Measure(
        "",
        "How often a plane tells two kinds apart: 50 % where they are mixed, 100 % where each has a region of its own.",
    ),
    "alignment": Measure("squared distance", "How far apart pairs are that belong together, 0 to 4: lower is better."),
    "uniformity": Measure(
        "log", "How evenly vectors are spread over the sphere, -4 to 0 in practice: lower is better."
    ),
    "mean cosine": Measure(
        "cosine", "How alike different things are: near 0 is good, near 1 everything points the same way."
    ),
    "effective rank": Measure("dimensions", "Over how many dimensions the vectors spread, by entropy."),
    "isoscore": Measure("", "Share of the dimensions that are used evenly: 0 % for a line, 100 % where all are alike."),
    "hubness": Measure(
        "skewness", "Whether a few things are found by everybody: near 0 there are no hubs, above 1 strong ones."
    ),
    "never found": Measure("", "Share of things that are among the ten nearest of nothing."),
}
