"""How well words fit what a vector is of: a visitor's own labels with their shares, or the zoo's list."""

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError

from .vocabulary import encoded_words
from .widgets import cosine_text, friendly, score_name, score_rows, user_error

if TYPE_CHECKING:
    from torch import Tensor

    from zoo import Embedder

MAX_LABELS = 100
_MOST = 8  # words of the zoo's list that are shown


def similarities(model: "Embedder", query: "Tensor", others: "Tensor | list[Tensor]") -> "Tensor":
    """Similarities `(n,)`; with late interaction the mean over the query's tokens, so that long and short ones read alike."""
    return model.similarity(query[None], others)[0] / (len(query) if query.ndim == 2 else 1)


def labels_of(text: str) -> list[str]:
    """A visitor's labels, separated by commas or line ends.

    Raises:
        gr.Error: fewer than two, or too many.
    """
    words = list(dict.fromkeys(word.strip() for word in re.split(r"[,;\n]", text or "") if word.strip()))
    if len(words) < 2:
        raise user_error("Give at least two labels to choose from, for example: cat, dog, motorbike.")
    if len(words) > MAX_LABELS:
        raise user_error(f"{len(words)} labels are too many for one image; give at most {MAX_LABELS}.")
    return words


def shares(model: "Embedder", vector: "Tensor", words: list[str], temperature: float) -> dict[str, Any]:
    """Each label's similarity with the vector, and its share (softmax of similarity / temperature), for `score_bars`."""
    try:
        labelled = model.encode(words, progress=False)
    except InputError as error:
        raise friendly(error, "Labels") from error
    found = [
        (word, float(similarities(model, label, vector[None])[0])) for word, label in zip(words, labelled, strict=True)
    ]
    found.sort(key=lambda one: -one[1])
    weights = [math.exp((score - found[0][1]) / temperature) for _, score in found]
    name, number = score_name(model), "dot product" if model.spec.similarity == "dot" else "cosine"
    rows = [
        {
            "label": word,
            "text": f"{weight / sum(weights):.0%}  ·  {number} {cosine_text(score)}",
            "bar": weight / sum(weights),
            name: score,
        }
        for (word, score), weight in zip(found, weights, strict=True)
    ]
    note = (
        f"Shares: softmax of the {number}s at temperature {temperature:g}. They say which of your labels fits "
        "best, not whether any of them is right."
    )
    return {"title": f"Looks most like: {rows[0]['label']}", "rows": rows, "note": note}


def nearest_words(model: "Embedder", vector: "Tensor", of: Sequence[str] = ("image",)) -> dict[str, Any]:
    """The words of the zoo's list that are nearest to the vector of an item of these modalities, for `score_bars`; no rows where a page has no time for any."""
    words, vectors = encoded_words(model, of)
    if vectors is None:
        return {"title": "Type labels to choose from", "note": "This model is too large to try hundreds of words here."}
    scores = model.similarity(vectors, vector[None])[:, 0]
    best = scores.topk(min(_MOST, len(words)))
    told = [(words[row], score) for row, score in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
    note = f"The nearest of {len(words):,} words; bars run from the average word (empty) to the best (full). Or type your own labels."
    rows = score_rows(told, float(scores.mean()), score_name(model))
    return {"title": f"Looks most like: {told[0][0]}", "rows": rows, "note": note}
