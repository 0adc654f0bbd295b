"""What zoo-omni finds: every direction and pack, beside chance, beside a label pipeline, pages beside BM25.

`python -m benchmarks omni_figures` measures the packaged model on val, or with --folder another; with --test on test, which is used
once, and then writes model_cards/results/zoo-omni.json. A label pipeline has the same encoders: it says what an item is, by logistic regression on what the encoder sees in train's items,
and then ranks texts by what the text tower makes of that label.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from zoo.training.cached_embeddings import without_head

import zoo
from benchmarks.common import table
from zoo import Embedder, Item
from zoo.embedder.pages import passages
from zoo.evaluation.metrics import bounds, first_ranks
from zoo.evaluation.results import Result, rounded, today, write_results
from zoo.tables.pack_documents import read_pages
from zoo.tables.pack_files import read_pack

KS = (1, 5, 10)
TASK = "any-to-any-retrieval"
SHOWN = {"dog bark": "dalmatian dog", "helicopter": "helicopter", "rooster": "rooster", "clock tick": "watch"}
"""Sounds of the audio pack, and what the photos pack has that makes them: a direction that nothing was trained on."""
_K1, _B = 1.2, 0.75  # BM25's usual constants


@dataclass(frozen=True)
class Way:
    """One direction of one part of a pack.

    Attributes:
        scores: `(queries, documents)`. right: the same shape, bool. labels: of the label pipeline, like `scores`; None for none.
    """

    pack: str
    part: str
    direction: str
    scores: Tensor
    right: Tensor
    labels: Tensor | None = None

    def shares(self, scores: Tensor) -> list[float]:
        """Recall at 1, 5 and 10: the share of queries with a right document so early."""
        ranks = first_ranks(scores, self.right)
        return [float((ranks <= k).double().mean()) for k in KS]

    def chance(self) -> float:
        """Recall@1 of a random order."""
        return float(self.right.double().mean())


def classifier(
    model: Embedder, tower: int, items: Sequence[Item], labels: Sequence[str]
) -> Callable[[Sequence[Item]], Tensor]:
    """Items → log-probabilities `(n, labels)` in sorted order, by what is below a tower's head."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    below = without_head(model, model.towers[tower])
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=0.01))
    fitted.fit(below.encode(list(items)).numpy(), list(labels))
    assert list(fitted.classes_) == sorted(set(labels))
    return lambda asked: torch.from_numpy(fitted.predict_log_proba(below.encode(list(asked)).numpy())).float()


def same(left: Sequence[str], right: Sequence[str]) -> Tensor:
    """`(n, m)`: which are equal."""
    return torch.from_numpy(np.array(left)[:, None] == np.array(right)[None])


def audio(model: Embedder, split: str) -> list[Way]:
    """Recordings and what they are called: environmental sounds, digits (test's speaker is in no other split), and images never paired."""
    rows, taught = read_pack("audio", split), read_pack("audio", "train")
    found = []
    for source in ("esc10", "fsdd"):
        mine, before = ([row for row in some if row["source"] == source] for some in (rows, taught))
        labels = sorted({row["label"] for row in mine})
        of_label = {row["label"]: row["captions"] for row in before}
        captions = [of_label[label][0] for label in labels]
        asked = [(label, text) for label in labels for text in of_label[label]]
        vectors = model.encode([Item(audio=row["audio"]) for row in mine])
        said = classifier(model, 2, [Item(audio=row["audio"]) for row in before], [row["label"] for row in before])
        known = sorted({row["label"] for row in before})
        guessed = said([Item(audio=row["audio"]) for row in mine])
        texts, queries = model.encode(captions), model.encode([text for _, text in asked])
        named = model.encode(known)
        ours, theirs = [row["label"] for row in mine], labels
        piped = named[guessed.argmax(1)] @ texts.T
        back = guessed[:, (queries @ named.T).argmax(1)].T
        found += [
            Way("audio", source, "audio → text", vectors @ texts.T, same(ours, theirs), piped),
            Way("audio", source, "text → audio", queries @ vectors.T, same([label for label, _ in asked], ours), back),
        ]
        if source == "esc10":
            found += _never_paired(model, split, vectors, ours)
    return found


def _never_paired(model: Embedder, split: str, vectors: Tensor, labels: Sequence[str]) -> list[Way]:
    photos = [row for row in read_pack("photos", split) if row["source"] == "caltech101"]
    images = model.encode([Item(image=row["image"]) for row in photos])
    rows = [place for place, label in enumerate(labels) if label in SHOWN]
    right = same([SHOWN[labels[row]] for row in rows], [photo["label"] for photo in photos])
    scores = vectors[rows] @ images.T
    looked = right.any(0)
    return [
        Way("audio", "esc10 and photos", "audio → image", scores, right),
        Way("audio", "esc10 and photos", "image → audio", scores.T[looked], right.T[looked]),
    ]


def video(model: Embedder, split: str) -> list[Way]:
    """Clips and their captions: what is seen and what the camera does; equal captions are one document."""
    rows = [row for row in read_pack("video", split) if row["motion"]]
    taught = [row for row in read_pack("video", "train") if row["motion"]]
    captions = sorted({row["captions"][0] for row in rows})
    vectors, texts = model.encode([Item(video=row["video"]) for row in rows]), model.encode(captions)
    own = [row["captions"][0] for row in rows]
    right = same(own, captions)
    # The pipeline names the motion by the seven numbers, the subject by the middle frame among train's subjects.
    moves = classifier(model, 3, [Item(video=row["video"]) for row in taught], [row["motion"] for row in taught])
    motions, subjects = sorted({row["motion"] for row in taught}), sorted({row["subjects"][0] for row in taught})
    still = model.encode([f"a {subject}" for subject in subjects])
    seen = (vectors @ still.T).argmax(1)
    done = moves([Item(video=row["video"]) for row in rows]).argmax(1)
    told = model.encode([f"{subjects[s]}, {motions[m]}" for s, m in zip(seen.tolist(), done.tolist(), strict=True)])
    subject = [row["subjects"][0] for row in rows]
    return [
        Way("video", "motion over photos", "video → text", vectors @ texts.T, right, told @ texts.T),
        Way("video", "motion over photos", "text → video", texts @ vectors.T, right.T, texts @ told.T),
        Way("video", "the subject alone", "video → text", vectors @ texts.T, _of(subject, captions, rows, "subject")),
        Way(
            "video",
            "the motion alone",
            "video → text",
            vectors @ texts.T,
            _of([r["motion"] for r in rows], captions, rows, "motion"),
        ),
    ]


def _of(wanted: Sequence[str], captions: Sequence[str], rows: Sequence[dict], what: str) -> Tensor:
    """Which captions name the same subject, or the same motion, as each clip."""
    of = {row["captions"][0]: row["subjects"][0] if what == "subject" else row["motion"] for row in rows}
    return same(wanted, [of[caption] for caption in captions])


def page_vectors(model: Embedder, split: str) -> tuple[Tensor, Tensor]:
    """Of the documents pack: pages by their text layer `(pages, dim)`, each the mean of its passages; and what is asked `(queries, dim)`."""
    found, asked = read_pages(split)
    parts = [list(passages(model.towers[1].encoder, page.text)) or ["page"] for page in found]
    vectors = model.encode([part for own in parts for part in own])
    owner = torch.tensor([page for page, own in enumerate(parts) for _ in own])
    text = torch.zeros(len(found), vectors.shape[1]).index_add(0, owner, vectors)
    return torch.nn.functional.normalize(text, dim=1), model.encode([query.text for query in asked])


def by_text(model: Embedder, split: str) -> tuple[Tensor, Tensor]:
    """Scores `(queries, pages)` of `page_vectors`, and which are right."""
    found, asked = read_pages(split)
    pages, queries = page_vectors(model, split)
    return queries @ pages.T, same([query.page for query in asked], [page.id for page in found])


def pages(model: Embedder, split: str) -> list[Way]:
    """Texts and the page that they are on, by the page's text layer, by its image, and by BM25 on the text."""
    found, asked = read_pages(split)
    text, right = by_text(model, split)
    queries = model.encode([query.text for query in asked])
    images = model.encode([Item(image=page.image) for page in found])
    words = _bm25([query.text for query in asked], [page.text for page in found])
    ways = []
    for kind in ["all", *sorted({query.kind for query in asked})]:
        rows = [row for row, query in enumerate(asked) if kind in ("all", query.kind)]
        ways += [
            Way("documents", kind, "text → page, by its text", text[rows], right[rows], words[rows]),
            Way("documents", kind, "text → page, by its image", (queries @ images.T)[rows], right[rows]),
        ]
    return ways


def _bm25(queries: Sequence[str], documents: Sequence[str]) -> Tensor:
    """Okapi BM25 (Robertson and Zaragoza, 2009) `(queries, documents)`."""
    split = [re.findall(r"\w+", text.lower()) for text in documents]
    counts, lengths = [Counter(words) for words in split], [len(words) for words in split]
    mean, having = sum(lengths) / len(lengths), Counter(word for words in split for word in set(words))
    scores = torch.zeros(len(queries), len(documents))
    for row, query in enumerate(queries):
        for word in re.findall(r"\w+", query.lower()):
            weight = log(1 + (len(documents) - having[word] + 0.5) / (having[word] + 0.5))
            for column, own in enumerate(counts):
                often = own[word]
                scores[row, column] += (
                    weight * often * (_K1 + 1) / (often + _K1 * (1 - _B + _B * lengths[column] / mean))
                )
    return scores


def results(ways: Sequence[Way], split: str, command: str) -> list[Result]:
    """As cards show them: recall with intervals, and recall@1 of the pipeline and of chance."""
    found = []
    for way in ways:
        count = len(way.scores)
        facts = {"dataset": way.pack, "task": TASK, "split": split, "part": way.part, "direction": way.direction}
        facts |= {"source": command, "date": today(), "notes": f"{count:,} queries, {way.scores.shape[1]:,} documents"}
        for k, share in zip(KS, way.shares(way.scores), strict=True):
            found.append(rounded(Result(metric=f"recall@{k}", value=share, **facts, **bounds(share, count))))
        if way.labels is not None:
            beside = "BM25" if way.pack == "documents" else "label pipeline"
            value = way.shares(way.labels)[0]
            found.append(rounded(Result(metric=f"recall@1 of {beside}", value=value, **facts, **bounds(value, count))))
        found.append(rounded(Result(metric="recall@1 by chance", value=way.chance(), **facts)))
    return found


def main(folder: Path | None = None, *, test: bool = False) -> None:
    """Measures and prints; on test also writes."""
    torch.set_num_threads(2)
    model = zoo.load_model(folder or "zoo-omni", device="cpu")
    split = "test" if test else "val"
    ways = [way for measure in (audio, video, pages) for way in measure(model, split)]
    rows: list[list[object]] = []
    for way in ways:
        shares = [f"{share:.3f}" for share in way.shares(way.scores)]
        piped = "" if way.labels is None else f"{way.shares(way.labels)[0]:.3f}"
        size = tuple(map(str, way.scores.shape))
        rows.append([way.pack, way.part, way.direction, *size, *shares, piped, f"{way.chance():.3f}"])
    header = ["pack", "part", "direction", "queries", "documents", "R@1", "R@5", "R@10", "pipeline R@1", "chance"]
    table(f"zoo-omni on {split}", header, rows)
    if test:
        path = Path("model_cards/results/zoo-omni.json")
        write_results(path, results(ways, split, "python -m benchmarks omni_figures --test"))
        print(f"written {path}")


if __name__ == "__main__":
    main()
