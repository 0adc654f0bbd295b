"""GroupScoring: the figures of held-out pairs where a reranker is trained: each right document among others."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from zoo.errors import InputError, TooFewPairsError
from zoo.evaluation.graded import GradedScores
from zoo.evaluation.reranked import Group, Score, evaluate_reranking
from zoo.inputs.identity import Answers, Row
from zoo.tables.pairs import Pair

from ..scoring import Scoring
from ..verdict import Scores
from .pair_model import PairModel
from .pair_scorer import PairScorer

CANDIDATES = (
    10  # documents that a held-out query ranks: its own, its hard negatives, others drawn among the held-out ones
)
_STREAM = 19  # tells the draw of these from other random streams


class GroupScoring(Scoring):
    """See `Scoring`. The candidates of a query are always the same ones, determined by the seed and all held-out pairs."""

    model: PairModel

    def measure(self, right: Sequence[Pair], graded: Sequence[Pair], encode: Score | None = None) -> Scores:
        """See `Scoring`; `encode` scores pairs, by default with the model as it is."""
        score = encode or PairScorer(self.model)
        groups = [self._groups[id(pair)] for pair in right]
        return Scores(
            None,
            _correlated(score, graded) if graded else None,
            evaluate_reranking(score, groups) if any(group.others for group in groups) else None,
        )

    @cached_property
    def _groups(self) -> dict[int, Group]:
        """The candidates of every right pair, by the pair itself."""
        pairs = self.pairs or []
        answers = Answers(Row(pair.query, (pair.positive,), pair.negatives, pair.group) for pair in pairs)
        documents = np.array([answers.of(row)[1] for row in range(len(pairs))], dtype=np.int64)
        found = {}
        for row, pair in enumerate(pairs):
            others, numbers = list(pair.negatives[: CANDIDATES - 1]), set(answers.of(row).tolist())
            spared = answers.right(answers.of(row)[:1], documents).spared(slice(0, 1))[0].numpy()
            for other in np.random.default_rng((self.seed, row, _STREAM)).permutation(np.flatnonzero(~spared)).tolist():
                if len(others) >= CANDIDATES - 1:
                    break
                if documents[other] not in numbers:
                    numbers.add(int(documents[other]))
                    others.append(pairs[other].positive)
            found[id(pair)] = Group(pair.query, pair.positive, others)
        return found


def _correlated(score: Score, pairs: Sequence[Pair]) -> GradedScores | None:
    """Logits of graded pairs beside their grades; raises TooFewPairsError where all that can be read have one grade."""
    found = score([(pair.query, pair.positive) for pair in pairs])
    rows = [row for row, one in enumerate(found) if not isinstance(one, InputError)]
    grades: Any = np.array([pairs[row].score for row in rows], dtype=np.float64)
    if len(np.unique(grades)) < 2:
        raise TooFewPairsError(
            f"the {len(rows)} graded pairs that can be read have one grade; there is no order in them"
        )
    skipped = tuple(f"document item {row}: {one}" for row, one in enumerate(found) if isinstance(one, InputError))
    return GradedScores(np.array(rows), grades, np.array([found[row] for row in rows]), skipped)
