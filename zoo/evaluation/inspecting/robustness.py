"""What is lost when an input is changed: by typos, paraphrases, other languages, length, compression, turns and crops."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from zoo.embedder import Embedder
from zoo.evaluation.inspecting.changes import CHANGES
from zoo.evaluation.inspecting.embedding import Embedding
from zoo.evaluation.inspecting.material import LANGUAGES, NAMES, PARAPHRASES, Material, cut_to
from zoo.evaluation.inspecting.measures import evenly, kept, mean_cosine
from zoo.evaluation.inspecting.sides import Embedded, Side, found_first
from zoo.evaluation.inspecting.tasks import COSINE, LANGUAGE, LENGTH, LOST, RECALL, ROBUSTNESS, UNCHANGED, WORDING
from zoo.evaluation.metrics import bootstrap, bootstrap_difference, interval, same
from zoo.evaluation.results import Result
from zoo.inputs.item import Item

_LEAST = 20  # names that can be read, for a mean of them


def changed_sides(sample: Embedded) -> list[Side]:
    """Sides whose items can be changed: texts and images, of texts that find texts those that ask."""
    sides = [side for side in sample.sides if side.kind in ("text", "image")]
    return sides[:1] if len(sides) == 2 and not sample.crossing else sides


def work(sample: Embedded, most: int) -> int:
    """How many items `robustness` will embed."""
    per_kind = {kind: sum(change.kind == kind for change in CHANGES) for kind in ("text", "image")}
    return sum(min(len(side), most) * per_kind[side.kind] for side in changed_sides(sample))


def robustness(embedding: Embedding, sample: Embedded, most: int) -> list[Result]:
    """Recall@1 of up to `most` items of a side as they are and changed, how much is lost, and the mean cosine to before."""
    found = []
    for side in changed_sides(sample):
        candidates, relevant, itself, other = sample.answers(side)
        chosen = evenly(len(side), most)
        items, clean = [side.items[place] for place in chosen], side.vectors[chosen]
        relevant, itself = relevant[chosen], itself[chosen]
        before = found_first(clean, candidates, relevant, itself)
        way = f"{side.name} → {other}"
        facts = {"split": sample.split, "direction": way, "notes": f"{len(chosen):,} of {len(side):,} items"}
        found.append(_mean(Result(sample.name, ROBUSTNESS, RECALL, 0.0, part=UNCHANGED, **facts), before))
        for change in CHANGES:
            if change.kind != side.kind:
                continue
            part = f"{change.name}, {change.level}"
            what = f"{sample.name}, {side.name}, {part}"
            vectors, there = embedding.of(what, items, side.role, side.other, change.make)
            if not there:
                continue
            after = np.zeros(len(items))  # what can no longer be embedded finds nothing
            after[there] = found_first(vectors, candidates, relevant[there], itself[there])
            result = Result(sample.name, ROBUSTNESS, RECALL, 0.0, part=part, **facts)
            found += [_mean(result, after), *_lost(result, before, after), _cosine(result, clean[there], vectors)]
    return found


def _mean(result: Result, values: np.ndarray) -> Result:
    """A share that was counted over the queries, with Wilson's interval."""
    return _with(result, RECALL, *interval(round(values.sum()), len(values)))


def _lost(result: Result, before: np.ndarray, after: np.ndarray) -> list[Result]:
    """How much lower the second is, of the same queries, with its bootstrap interval."""
    change = bootstrap_difference(after[:, None], before[:, None])[0]
    return [_with(result, LOST, change.value, change.low, change.high)]


def _cosine(result: Result, clean: Tensor, changed: Tensor) -> Result:
    value = bootstrap(kept(clean, changed)[:, None])[0]
    return _with(result, COSINE, *value, unit="cosine")


def _with(result: Result, metric: str, value: float, low: float | None, high: float | None, unit: str = "") -> Result:
    return replace(result, metric=metric, value=value, low=low, high=high, unit=unit)


def paraphrases(embedding: Embedding, material: Material, sample: Embedded | None) -> list[Result]:
    """How often free-form queries find what they mean first, against the plain name of the same thing.

    Args:
        sample: photos and the captions of `material.labels`; without it a query should find its label among all labels.
    """
    if sample is None or sample.left is None or sample.right is None or sample.relevant is None:
        return _among_labels(embedding, material)
    captions = {item.text: place for place, item in enumerate(sample.left.items)}
    asked = []
    for query in material.paraphrases:
        places = [captions[c] for label in query.labels if (c := material.labels.get(label, "")) in captions]
        if places:
            asked.append((query.query, places))
    vectors, there = embedding.of(PARAPHRASES, [Item(text=text) for text, _ in asked], "query", sample.left.other)
    if not there:
        return []
    plain, free, cosines = [], [], []
    for vector, (_, places) in zip(vectors, (asked[place] for place in there), strict=True):
        right = sample.relevant[places].any(0, keepdim=True)
        names = sample.left.vectors[places]
        plain.append(found_first(names, sample.right.vectors, right.expand(len(places), -1)).mean())
        free.append(float(found_first(vector[None], sample.right.vectors, right)[0]))
        cosines.append(float(torch.cosine_similarity(vector[None], names).max()))
    way, images = f"{sample.left.name} → {sample.right.name}", len(sample.right)
    facts = {"split": sample.split, "direction": way, "notes": f"{len(there)} queries, {images:,} items"}
    before, after = np.array(plain), np.array(free)
    result = Result(PARAPHRASES, WORDING, RECALL, 0.0, **facts)
    named = _with(
        Result(PARAPHRASES, WORDING, RECALL, 0.0, part=UNCHANGED, **facts), RECALL, *bootstrap(before[:, None])[0]
    )
    nearest = _with(result, COSINE, *bootstrap(np.array(cosines)[:, None])[0], unit="cosine")
    return [named, _mean(result, after), *_lost(result, before, after), nearest]


def _among_labels(embedding: Embedding, material: Material) -> list[Result]:
    labels = list(dict.fromkeys(material.labels.values()))
    names, known = embedding.of("labels", [Item(text=text) for text in labels], "document", ("text",))
    queries = [Item(text=query.query) for query in material.paraphrases]
    vectors, there = embedding.of(PARAPHRASES, queries, "query", ("text",))
    if not known or not there:
        return []
    place = {labels[label]: column for column, label in enumerate(known)}
    relevant = torch.zeros(len(there), len(known), dtype=torch.bool)
    for row, index in enumerate(there):
        for label in material.paraphrases[index].labels:
            if (column := place.get(material.labels[label])) is not None:
                relevant[row, column] = True
    rows = relevant.any(1)
    vectors, relevant = vectors[rows], relevant[rows]
    cosines = torch.nn.functional.cosine_similarity(vectors[:, None], names[None], dim=2)
    nearest = cosines.masked_fill(~relevant, -torch.inf).amax(1).double().numpy()
    notes = f"{len(vectors)} queries, {len(known)} labels"
    result = Result(PARAPHRASES, WORDING, RECALL, 0.0, direction="query → label", notes=notes)
    return [
        _mean(result, found_first(vectors, names, relevant)),
        _with(result, COSINE, *bootstrap(nearest[:, None])[0], unit="cosine"),
    ]


def languages(embedding: Embedding, material: Material) -> list[Result]:
    """How often the name of a thing in another language finds its English name first; what cannot be read finds nothing."""
    if material.names is None:
        return []
    english = material.names.english
    pool, known = embedding.of(f"{NAMES}, English", [Item(text=name) for name in english], "query", ("text",))
    if not known:
        return []
    found = []
    stated = set(embedding.model.spec.languages)
    for code, texts in material.names.others.items():
        asked = [texts[place] for place in known]
        what = f"{NAMES}, {LANGUAGES[code]}"
        vectors, there = embedding.of(what, [Item(text=text) for text in asked], "query", noted=False)
        first = np.zeros(len(asked))
        right = same([english[place] for place in known], [english[place] for place in known])
        if there:
            first[there] = found_first(vectors, pool, right[there])
        unread = len(asked) - len(there)
        notes = f"{len(asked)} names" + (f", {unread} cannot be read" if unread else "")
        notes += ", among its languages" if stated & {code, "multilingual"} else ""
        facts = {"split": material.names.split, "part": LANGUAGES[code], "direction": "text → English", "notes": notes}
        result = Result(NAMES, LANGUAGE, RECALL, 0.0, **facts)
        found.append(_mean(result, first))
        if len(there) >= _LEAST:  # a mean of two says nothing
            found.append(_cosine(result, pool[there], vectors))
    return found


def by_length(embedding: Embedding, material: Material, limit: int) -> list[Result]:
    """Mean cosine of different texts at each length; long texts that are all alike are a collapse (Zhou et al., 2024)."""
    found = []
    for words, texts in cut_to(material.texts, limit).items():
        what = f"{words} words"
        vectors, there = embedding.of(f"{material.texts_of}, {what}", [Item(text=text) for text in texts], "document")
        if len(there) < 2:
            continue
        truncated = sum(_truncated(embedding.model, texts[place]) for place in there)
        notes = f"{len(there)} texts" + (f", {truncated} truncated by the model" if truncated else "")
        facts = {"split": "", "part": what, "unit": "cosine", "notes": notes}
        found.append(Result(material.texts_of, LENGTH, COSINE, mean_cosine(vectors), **facts))
    return found


def _truncated(model: Embedder, text: str) -> bool:
    item, prompt = Item(text=text), model.prompt_text(**model.for_role("document"))
    encoder = model.routes[model.route_index(item)].encoder
    return encoder.cut(encoder.prompted(item, prompt)) is not None
