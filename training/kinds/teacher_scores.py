"""A teacher's scores of the pairs that a reranker learns from: computed once, and kept on disk beside the run."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from zoo.errors import InputError
from zoo.inputs.hashing import KEY_BYTES, item_key
from zoo.inputs.item import Item
from zoo.reranking import Reranker
from zoo.tables.pairs import Pair, PairTable

from ..cached_embeddings import FOLDER, ITSELF
from ..errors import PairsError
from ..gather import wait_for_all, world
from ..recipe import Recipe
from ..run import digest
from ..vector_cache import VectorCache
from .pair_model import PairModel
from .pair_scorer import PairScorer

_WINDOW = 256  # pairs that are scored before any is kept


class TeacherScores:
    """Logits of a teacher by query and candidate.

    Args:
        cache: of one dimension. name: of the teacher.
    """

    def __init__(self, cache: VectorCache, name: str) -> None:
        self.cache, self.name = cache, name

    def score(self, query: Item, document: Item) -> float:
        """The logit of a pair; raises PairsError where the teacher could not read it."""
        found = self.cache.vector(_key(query, document))
        if found is None:
            raise PairsError(
                f"the teacher {self.name} could not score a pair of the batch; take one that reads "
                f"{', '.join(sorted(query.modalities | document.modalities))}, or leave the pair out"
            )
        return float(found[0])


def teacher_scores(
    model: PairModel, pairs: Sequence[Pair] | PairTable, recipe: Recipe, folder: Path, *, progress: bool
) -> TeacherScores | None:
    """The scores that the recipe's teacher gives every query with its positives and its hard negatives; None without one.

    Args:
        model: what is trained, as it is before the stage: its own teacher where the recipe says "itself".
    """
    if not recipe.teacher:
        return None
    from zoo.reranking import load_reranker

    teacher = model.reranker if recipe.teacher == ITSELF else load_reranker(recipe.teacher, device=model.device)
    made_by = {
        "reranker": teacher.spec.name,
        "revision": teacher.spec.revision,
        "weights": digest(teacher.state_dict().values()),
    }
    cache = VectorCache(folder / FOLDER / "teacher-scores", made_by, 1)
    _fill(cache, teacher, pairs, progress=progress)
    return TeacherScores(cache, teacher.spec.name)


def _fill(cache: VectorCache, teacher: Reranker, pairs: Sequence[Pair] | PairTable, *, progress: bool) -> None:
    """Each process scores its share; pairs that cannot be read are left out, and met again by the feed."""
    from tqdm import tqdm

    rank, processes = world()
    rows = range(rank, len(pairs), processes)
    scorer = PairScorer(PairModel(teacher))
    waiting: dict[bytes, tuple[Item, Item]] = {}

    def keep() -> None:
        scores = scorer(list(waiting.values()))
        there = [(key, score) for key, score in zip(waiting, scores, strict=True) if not isinstance(score, InputError)]
        if there:
            cache.put([key for key, _ in there], torch.tensor([[score] for _, score in there]))
        waiting.clear()

    disable = None if progress and rank == 0 else True
    for row in tqdm(rows, f"{teacher.spec.name} scores the pairs", unit=" rows", disable=disable, delay=2):
        for query, document in _pairs(pairs, row):
            key = _key(query, document)
            if key not in cache:
                waiting[key] = (query, document)
        if len(waiting) >= _WINDOW:
            keep()
    keep()
    wait_for_all()  # all shares are on disk before any process reads the whole
    cache.refresh()


def _pairs(pairs: Sequence[Pair] | PairTable, row: int) -> Iterator[tuple[Item, Item]]:
    """The query of a row with all that a step may set beside it; nothing of a row that cannot be read."""
    try:
        pair = pairs[row]
        for document in (pair.positive, *pair.extra_positives, *pair.negatives):
            yield pair.query, document
    except InputError:
        return


def _key(query: Item, document: Item) -> bytes:
    return hashlib.blake2b(item_key(query) + item_key(document), digest_size=KEY_BYTES).digest()
