"""Groups of vectors that lie together, by k-means, and names for them: words that the model reads, or the item in the middle."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.arguments import checked, optional, texts, whole
from zoo.arguments import model as a_model
from zoo.errors import ArgumentError
from zoo.vectors.classifying import label_vectors
from zoo.vectors.opening import Vectors

if TYPE_CHECKING:
    import numpy as np

    from zoo.embedder import Embedder

# Numbers of groups that are tried where none is asked for: more than that nobody looks through.
TRIED = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)
# Rows that the number of groups is found with, and rows from which k-means goes by batches.
SAMPLE, MANY = 4000, 20_000
# The best silhouette is often that of two coarse halves; the most groups whose silhouette is nearly as good say more. Of 338
# photos of 102 kinds it is best at 2 (0.12) and nearly so at 32 (0.11), where AMI with the kinds is 0.25 and no longer 0.15;
# HDBSCAN calls 55 % of them noise and more.
NEARLY = 0.85
# Columns that the number is found in: in hundreds of them everything is about equally far from everything.
COMPONENTS = 32


@dataclass(frozen=True)
class Cluster:
    """One group.

    Attributes:
        members: positions among the vectors, nearest to the centre first, so that `members[0]` is the one in the middle.
        scores: cosine of each to the centre. centre: unit vector `(dim,)`.
    """

    members: "np.ndarray"
    scores: "np.ndarray"
    centre: "np.ndarray"

    @property
    def middle(self) -> int:
        """The position of the member nearest to the centre (the medoid)."""
        return int(self.members[0])


@checked(k=optional(whole()), seed=whole(0))
def find_clusters(vectors: Vectors, k: int | None = None, *, seed: int = 0) -> list[Cluster]:
    """k-means over unit vectors, largest group first; the same seed gives the same groups.

    Args:
        k: number of groups; by default the largest of `TRIED` whose silhouette (Rousseeuw, 1987) in a sample is nearly the best.

    Raises:
        ArgumentError: fewer different vectors than groups, fewer than three vectors, or scikit-learn is not installed.
    """
    import numpy as np

    _need_sklearn()
    if k is not None and k > len(vectors):
        raise ArgumentError(f"{k} groups of {len(vectors)} items cannot be; ask for fewer")
    if k is None and len(vectors) < 3:
        raise ArgumentError(f"{len(vectors)} items are too few to find groups in; there must be three at least")
    matrix = vectors.floats()
    labels = _labels(matrix, k or _best_number(matrix, seed), seed)
    found = []
    for label in np.unique(labels):
        members = (labels == label).nonzero()[0]
        centre = matrix[members].mean(0)
        centre /= max(np.linalg.norm(centre), 1e-12)
        scores = matrix[members] @ centre
        order = (-scores).argsort(kind="stable")
        found.append(Cluster(members[order], scores[order], centre))
    if k is not None and len(found) < k:
        raise ArgumentError(
            f"there are only {len(found)} different vectors; ask for that many groups or fewer, not {k}"
        )
    return sorted(found, key=lambda one: (-len(one.members), one.middle))


def _labels(matrix: "np.ndarray", k: int, seed: int) -> "np.ndarray":
    import warnings

    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    kind = MiniBatchKMeans if len(matrix) > MANY else KMeans
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # fewer different vectors than groups: reported by the caller
        return kind(k, n_init=4, random_state=seed).fit_predict(matrix)


def _best_number(matrix: "np.ndarray", seed: int) -> int:
    """The most groups whose silhouette is nearly the best, in the main components of a sample."""
    import numpy as np
    from sklearn.decomposition import PCA
    from sklearn.metrics import silhouette_score

    random = np.random.default_rng(seed)
    rows = random.choice(len(matrix), SAMPLE, replace=False) if len(matrix) > SAMPLE else slice(None)
    sample = matrix[rows]
    if np.ptp(sample, axis=0).max() < 1e-6:
        raise ArgumentError("all vectors are the same; there are no groups in them")
    components = min(COMPONENTS, *sample.shape)
    sample = PCA(components, svd_solver="full", random_state=seed).fit_transform(sample)
    scores: dict[int, float] = {}
    for k in TRIED:
        if k <= max(2, len(sample) // 3):
            labels = _labels(sample, k, seed)
            if len(np.unique(labels)) == k:
                scores[k] = float(silhouette_score(sample, labels))
    best = max(scores.values())
    return max(k for k, score in scores.items() if score >= (best * NEARLY if best > 0 else best))


def _need_sklearn() -> None:
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        raise ArgumentError('grouping needs scikit-learn: pip install "embedding-zoo[cluster]"')


def vocabulary(path: Path | None = None) -> list[str]:
    """Words that groups can be called by: those of a file (UTF-8, one in each line), or the zoo's own in English.

    Lines that begin with "#" are none.

    Raises:
        ArgumentError: the file cannot be read, or holds fewer than two.
    """
    try:
        text = path.read_text("utf-8-sig") if path else (files("zoo.vectors") / "words.txt").read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"cannot read {path}: {error}") from error
    words = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"))
    if len(words) < 2:
        raise ArgumentError(f"{path} holds {len(words)} words; names are chosen among two or more")
    return words


@checked(model=a_model, words=texts)
def name_clusters(clusters: Sequence[Cluster], vectors: Vectors, model: "Embedder", words: Sequence[str]) -> list[str]:
    """A word for each group, none twice; "" where there are fewer words than groups.

    It is near to the centre, less half of how near it is to all vectors on average: some words are near to every image. By
    nearness alone most groups of clothes are a T-shirt, and with the whole average taken off some are a pizza.
    Words that the model's vocabulary does not know are left out.
    """
    import numpy as np

    known = [word for word, share in zip(words, model.unknown_share(words), strict=True) if share < 1]
    if len(known) < 2:
        raise ArgumentError(f"{model.spec.name} cannot read the words; name others, in a language that it reads")
    centres = np.stack([one.centre for one in clusters])
    sizes = np.array([len(one.members) for one in clusters])
    near = (centres - 0.5 * np.average(centres, axis=0, weights=sizes)) @ label_vectors(model, known, dim=vectors.dim).T
    names: dict[int, str] = {}
    for place in near.argsort(axis=None, kind="stable")[::-1]:
        group, word = (int(one) for one in np.unravel_index(place, near.shape))
        if group not in names and known[word] not in names.values():
            names[group] = known[word]
        if len(names) == len(clusters):
            break
    return [names.get(group, "") for group in range(len(clusters))]


def middle_names(clusters: Sequence[Cluster], vectors: Vectors) -> list[str]:
    """Each group called by the item in its middle: the name of its file, or its text."""
    texts, places = vectors.texts(), vectors.places()
    return [Path(places[one.middle]).name if texts is None else texts[one.middle] for one in clusters]
