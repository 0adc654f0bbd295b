"""Scoring: the figures of the held-out pairs before, during and after a run, and what they let one say."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from zoo.embedder import Embedder
from zoo.errors import TooFewPairsError
from zoo.evaluation.graded import GradedScores, evaluate_graded
from zoo.evaluation.pairs import Encode, PairScores, evaluate_pairs
from zoo.evaluation.reranked import RerankedScores
from zoo.files import write_json
from zoo.tables.pairs import Pair, PairTable

from .gather import say, wait_for_all, world
from .leaks import one_by_one
from .losses import Loss
from .own import read_facts
from .verdict import Scores, Verdict, counted, judge, lines, show

SCORES = "scores.json"
_STREAM = 17  # tells the choice of these from other random streams


class Kept(TypedDict):
    """Which checkpoint a stage ended with."""

    step: int
    steps: int
    told: str
    chosen: NotRequired[bool]


class Measure(TypedDict, total=False):
    """The figure that a verdict is about."""

    measure: str


# What scores.json holds; `PairScores`, `GradedScores` and `RerankedScores` check their own.
Found = TypedDict(
    "Found",
    {
        "before": dict[str, Any] | None,
        "after": dict[str, Any] | None,
        "graded before": dict[str, Any] | None,
        "graded after": dict[str, Any] | None,
        "reranked before": dict[str, Any] | None,
        "reranked after": dict[str, Any] | None,
        "why": str,
        "kept": dict[str, Kept],
        "verdict": Measure,
    },
    total=False,
)


class Scoring:
    """Figures of the held-out pairs of an embedder, kept in scores.json as they come; a kind of its own defines `measure`.

    Args:
        out: the run's folder. model: what is trained. pairs: held out; None without.
        prompts: of queries and targets. resume: go on from the figures that are in the folder.
        progress: say what is done. graded: as of `by_grade`; grades then decide where the pairs have some.
        seed: of the choice of those that are ranked during training.

    Attributes:
        pairs: those that are right, a list of positives as a row for each; None where there are none.
        graded: those that have a grade.
    """

    def __init__(
        self,
        out: Path,
        model: Embedder,
        pairs: Sequence[Pair] | PairTable | None,
        prompts: tuple[str, str],
        *,
        resume: bool,
        progress: bool,
        graded: bool = False,
        seed: int = 0,
    ) -> None:
        self.path, self.model, self.prompts, self.progress, self.by_grade = (
            out / SCORES,
            model,
            prompts,
            progress,
            graded,
        )
        held = [] if pairs is None else one_by_one(pairs)[0]
        self.pairs = [pair for pair in held if pair.right] or None
        self.graded = [pair for pair in held if pair.score is not None]
        if len({pair.score for pair in self.graded}) < 2:
            self.graded = []
        self.seed = seed
        self.found: dict[str, Any] = {}
        if resume:
            self.found = read_facts(self.path, Found)

    def __len__(self) -> int:
        """How many pairs are held out: right ones, or graded ones where these are more."""
        return max(len(self.pairs or ()), len(self.graded))

    def before(self) -> None:
        """Of the model as it was given; a resumed run has them already."""
        if "before" not in self.found:
            self._note("before")

    def after(self) -> None:
        """Of the model as it has become; a model without a usable vector has none."""
        try:
            self._note("after")
        except TooFewPairsError as error:
            self.keep("after", None)
            self.keep("why", str(error))

    def now(self, encode: Any = None, most: int | None = None) -> Scores:
        """Of the model as it is; nothing is kept.

        Args:
            encode: as of `measure`. most: pairs of each kind, always the same ones; None for all.
        """
        right, graded = (self._some(side, most) for side in (self.pairs or [], self.graded))
        return self.measure(right, graded if len({pair.score for pair in graded}) > 1 else [], encode)

    def measure(self, right: Sequence[Pair], graded: Sequence[Pair], encode: Encode | None = None) -> Scores:
        """The figures of some pairs that are right, and of some with grades; None for those of no pairs.

        Args:
            encode: in place of the model's `encode_stream`.
        """
        return Scores(
            self._ranked(right, encode) if right else None, self._correlated(graded, encode) if graded else None
        )

    def _some(self, pairs: Sequence[Pair], most: int | None) -> Sequence[Pair]:
        """So many of them at most, determined by the seed, in their order."""
        if most is None or len(pairs) <= most:
            return pairs
        order = np.random.default_rng((self.seed, _STREAM)).permutation(len(pairs))
        return [pairs[row] for row in np.sort(order[:most]).tolist()]

    def scores(self, when: str) -> Scores:
        """The figures of "before" or "after"."""
        return scores_in(self.found, when)

    def score(self, when: str) -> PairScores | None:
        """The ranking of "before" or "after", None without held-out pairs."""
        return self.scores(when).retrieval

    def unread(self, when: str) -> tuple[str, ...]:
        """What could not be read of the right pairs "before" or "after", and why."""
        scores = self.scores(when)
        ranked = scores.retrieval or scores.reranked
        return ranked.skipped if ranked is not None else ()

    def note_kept(self, stage: str, facts: dict[str, Any]) -> None:
        """Notes which checkpoint a stage ended with."""
        self.keep("kept", {**self.found.get("kept", {}), stage: facts})

    def keep(self, name: str, facts: Any) -> None:
        """Notes further facts beside the figures."""
        self.found[name] = facts
        if world()[0] == 0:
            write_json(self.path, self.found)

    @property
    def verdict(self) -> Verdict:
        """What may be said of the run."""
        return judge(self.scores("before"), self.scores("after"), self.by_grade)

    def conclude(self) -> None:
        """Says whether it got better, in the folder and to who is looking."""
        verdict = self.verdict
        self.keep("verdict", {**verdict._asdict(), "difference": verdict.difference and verdict.difference._asdict()})
        if self.progress and world()[0] == 0:
            before, after = self.scores("before"), self.scores("after")
            show(lines(before, after), verdict, told_kept(self.found), counts=counted(after))

    def _note(self, when: str) -> None:
        if (self.pairs or self.graded) and world()[0] == 0:
            if self.progress:
                say(f"{when} training: ranking {len(self.pairs or self.graded):,} held-out pairs")
            scores = self.measure(self.pairs or [], self.graded)
            for name, one in zip(_kept_as(when), scores, strict=True):
                if one is not None or not name.startswith("reranked"):
                    self.found[name] = None if one is None else one.to_dict()
            write_json(self.path, self.found)
        wait_for_all()

    def _ranked(self, pairs: Sequence[Pair], encode: Encode | None = None) -> PairScores:
        queries, targets = [p.query for p in pairs], [p.positive for p in pairs]
        groups = [pair.group for pair in pairs]
        return evaluate_pairs(self.model, queries, targets, groups, prompts=self.prompts, encode=encode)

    def _correlated(self, pairs: Sequence[Pair], encode: Encode | None = None) -> GradedScores:
        queries, targets, grades = zip(*((p.query, p.positive, p.score) for p in pairs), strict=True)
        return evaluate_graded(self.model, queries, targets, grades, prompts=self.prompts, encode=encode)


def by_grade(loss: Loss) -> bool:
    """Whether a run is judged by grades: every loss that its data have reads them. Beside a loss that tells right pairs
    from others it is judged by the rankings, in which graded pairs count too.
    """
    return all({"scores", "labels"} & one.reads for one in loss.used())


def scores_in(found: dict[str, Any], when: str) -> Scores:
    """The figures of "before" or "after" from what scores.json holds; raises KeyError, TypeError or ValueError of others."""
    kinds = (PairScores, GradedScores, RerankedScores)
    parts = [found.get(name) for name in _kept_as(when)]
    return Scores(*(kind.from_dict(part) if part else None for kind, part in zip(kinds, parts, strict=True)))


def _kept_as(when: str) -> tuple[str, str, str]:
    """What the parts of `Scores` are called in scores.json."""
    return when, f"graded {when}", f"reranked {when}"


def told_kept(found: dict[str, Any]) -> str:
    """Which checkpoint the model is, from what scores.json holds; "" where there was nothing to choose from."""
    stages = found.get("kept") or {}
    told = [facts["told"] if len(stages) == 1 else f"{name}: {facts['told']}" for name, facts in stages.items()]
    return "; ".join(told)


def flattered(found: dict[str, Any]) -> str:
    """That the figures after are of a model chosen by them; "" where there was nothing to choose."""
    if any(facts.get("chosen") for facts in (found.get("kept") or {}).values()):
        return "The held-out pairs also chose the checkpoint, so its figures flatter a little: judge it on pairs of a test."
    return ""
