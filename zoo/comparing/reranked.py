"""Retrieval with the first results of every query reranked: the same questions, asked of a model and a reranker together."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.arguments import wrong
from zoo.comparing.questions import TASKS, Question
from zoo.errors import QuestionsError
from zoo.evaluation.reordering import Reordering

if TYPE_CHECKING:
    from zoo.reranking import Reranker

TOP = 100


@dataclass(eq=False)
class Reranking:
    """A reranker, and how many results of a query it reads.

    Attributes:
        word: as a command names it. unread: why pairs have no score, each reason once.
    """

    model: "Reranker"
    word: str
    top: int = TOP
    unread: dict[str, None] = field(default_factory=dict)
    _known: dict[tuple[int, int, int], float] = field(default_factory=dict)  # models propose many of the same

    def name(self, model: str) -> str:
        """What a model with this reranker is called."""
        return f"{model} + {self.model.spec.name}"

    @property
    def protocol(self) -> str:
        """How results are told from those without it."""
        return f"first {self.top:,} reranked by {self.model.spec.name}"

    @property
    def words(self) -> tuple[str, ...]:
        """Of the command that measures again."""
        return "--rerank", self.word, *(("--rerank-top", str(self.top)) if self.top != TOP else ())

    def asked(self, question: Question) -> Question:
        """The question as it is asked where results are reranked: from queries to candidates alone.

        Raises:
            QuestionsError: the reranker does not read what is asked or found.
        """
        read = set().union(*(item.modalities for side in (question.left, question.right) for item in side))
        if unread := read - set(self.model.spec.modalities):
            raise QuestionsError(
                f"{self.model.spec.name} reads {', '.join(sorted(self.model.spec.modalities))}, and {question.source.name} has "
                f"{', '.join(sorted(unread))}; take a reranker that reads it"
            )
        return replace(question, both=False)

    def reordering(self, question: Question, asked: np.ndarray, ranked: np.ndarray) -> Reordering:
        """The order that it gives; `asked` and `ranked` are the places in the question's sides of what is numbered from 0."""

        def score(pairs: Sequence[tuple[int, int]]) -> np.ndarray:
            keys = [(id(question), int(asked[query]), int(ranked[found])) for query, found in pairs]
            new = list(dict.fromkeys(key for key in keys if key not in self._known))
            items = [(question.left[left], question.right[right]) for _, left, right in new]
            for index, value, error in self.model.score_stream(items):
                self._known[new[index]] = np.nan if error is not None else value
                if error is not None:
                    self.unread[f"{self.model.spec.name}: {error}"] = None
            return np.array([self._known[key] for key in keys])

        return Reordering(score, self.top)


def check_reranked(questions: Sequence[Any]) -> None:
    """Raises QuestionsError where results are to be reranked of what has none; nothing is opened."""
    for question in questions:
        name = question.source.name
        if not isinstance(question, Question):
            raise QuestionsError(f"--tasks {name} is not reranked; as data of your own it is: --data pack:{name}")
        if question.kind != "retrieval":
            raise QuestionsError(
                f"{name} asks for {TASKS[question.kind]}, which has no results to rerank; leave the reranker out, or give pairs that are right"
            )


def a_reranker(name: str, value: Any) -> Any:
    """A check of arguments: a reranker, or the name or folder of one."""
    if isinstance(value, str) or hasattr(value, "__fspath__") or hasattr(value, "score_stream"):
        return value
    raise wrong(name, value, "a reranker, its name or its folder", f'write {name}="qwen3vl-reranker-2b"')


def opened(reranker: Any, top: int, device: str | None, ignore: Sequence[str] = ()) -> Reranking:
    """The reranker of a name or folder, or one that is open."""
    from zoo.reranking import load_reranker

    if not hasattr(reranker, "score_stream"):
        return Reranking(load_reranker(reranker, device=device, ignore=ignore), str(reranker), top)
    return Reranking(reranker, reranker.spec.name, top)
