"""A comparison of models on data of one's own: measured together, told as a table, a page, results, and the best within a budget."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.comparing.budget import Budget, within
from zoo.comparing.costs import Cost
from zoo.comparing.differences import difference, is_clear
from zoo.comparing.page import page
from zoo.comparing.scoring import LEVEL, Scores
from zoo.comparing.telling import table
from zoo.errors import NothingFitsError
from zoo.evaluation.metrics import Difference, Interval
from zoo.evaluation.results import Result, rounded, today
from zoo.files import write

if TYPE_CHECKING:
    from zoo.comparing.questions import Question
    from zoo.spec import ModelSpec

Key = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Entry:
    """A model that was measured.

    Attributes:
        name: as it was named. word: as a command names it. spec: its facts. dim: of the vectors that were compared.
        params: how many weights it has. size: of its weights in MB, as they lie in memory. scores: by their key. unread: why questions
            could not be asked of it, by data set. cost: what it costs here, None where that was not measured. notes: what else to know.
    """

    name: str
    word: str
    spec: "ModelSpec"
    dim: int
    params: int
    size: float
    scores: Mapping[Key, Scores]
    unread: Mapping[str, str] = field(default_factory=dict)
    cost: Cost | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """Which model to take.

    Attributes:
        name: of the best that is within the budget. beside: those within it that are not clearly worse. refused: of all that are
            not within it what keeps them out.
    """

    name: str
    beside: tuple[str, ...]
    refused: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models side by side.

    Attributes:
        entries: those that were measured, in the order in which they were named. left_out: why others were not, by name.
        questions: what was asked. budget: within which one is to be chosen. words: of the command that compares again, behind the
            models' names. decoded: images that were decoded, and how often one did not have to be again.
    """

    entries: tuple[Entry, ...]
    left_out: Mapping[str, str]
    questions: "Sequence[Question]"
    budget: Budget = field(default_factory=Budget)
    words: tuple[str, ...] = ()
    decoded: tuple[int, int] = (0, 0)
    bad: tuple[str, ...] = ()

    @property
    def keys(self) -> list[Key]:
        """Of all scores, in order."""
        return list(dict.fromkeys(key for entry in self.entries for key in entry.scores))

    @property
    def ranked(self) -> list[Entry]:
        """The models that could be asked everything, the best first."""
        whole = [entry for entry in self.entries if not entry.unread]
        return sorted(whole, key=lambda entry: -self.quality(entry).value)

    def quality(self, entry: Entry) -> Interval:
        """The mean of its headline figures over all questions and ways, with the 95 % interval over rows drawn anew."""
        told = [scores.figures[scores.headline] for scores in entry.scores.values() if scores.headline]
        if len(told) == 1:
            return told[0]
        low, high = np.nanquantile(self._drawn(entry), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Interval(float(np.mean([one.value for one in told])), float(low), float(high))

    def _drawn(self, entry: Entry) -> np.ndarray:
        counted = [scores for scores in entry.scores.values() if scores.headline]
        return np.mean([scores.drawn[:, scores.measures.index(scores.headline)] for scores in counted], axis=0)

    def difference(self, entry: Entry, other: Entry) -> Difference:
        """How much the quality of `other` is above that of `entry`, paired over the same rows."""
        change = self.quality(other).value - self.quality(entry).value
        return difference(change, self._drawn(other) - self._drawn(entry))

    def differences(self, entry: Entry, other: Entry, key: Key) -> dict[str, Difference]:
        """By measure, how much `other` is above `entry` on one question, paired over the same rows."""
        a, b = entry.scores[key], other.scores[key]
        found = {}
        for place, measure in enumerate(a.measures):
            change = b.figures[measure].value - a.figures[measure].value
            found[measure] = difference(change, b.drawn[:, place] - a.drawn[:, place])
        return found

    def choice(self, budget: "str | Budget | None" = None) -> Choice:
        """Which model to take within a budget, by default the comparison's own.

        Raises:
            NothingFitsError: none is within it, or none could be asked everything. ArgumentError: no such budget, or of a cost that was
                not measured.
        """
        wanted = self.budget if budget is None else Budget.parse(budget)
        fitting, refused = within(self.ranked, wanted)
        refused |= {entry.name: "; ".join(entry.unread.values()) for entry in self.entries if entry.unread} | dict(
            self.left_out
        )
        if not fitting:
            told = "; ".join(f"{name}: {why}" for name, why in refused.items())
            within_it = f"within {wanted}" if wanted else "that reads all of the data"
            raise NothingFitsError(f"no model is {within_it}: {told or 'there is none'}; allow more, or compare others")
        best, *others = fitting
        beside = tuple(entry.name for entry in others if self.difference(best, entry).high >= 0)
        return Choice(best.name, beside, refused)

    def best(self, budget: "str | Budget | None" = None) -> str:
        """The name of the best model within a budget; see `choice`."""
        return self.choice(budget).name

    @property
    def table(self) -> str:
        """What was found, for a terminal."""
        return table(self)

    @property
    def figures(self) -> str:
        """The tables alone, without which model to take."""
        return table(self, choose=False)

    @property
    def html(self) -> str:
        """The page: one file, everything inside, nothing loaded from elsewhere."""
        return page(self)

    def write_html(self, path: str | Path) -> Path:
        """Writes the page; the file is whole, or as it was. Raises OSError where it cannot be written."""
        path = Path(path).expanduser()
        write(path, self.html.encode("utf-8", "replace"))
        return path

    def command(self, key: Key | None = None, entry: Entry | None = None) -> str:
        """What measures again: a figure of a model, or the whole comparison."""
        words = self.words if entry is None or key is None else entry.scores[key].words
        if not words:  # pairs in memory
            return f"zoo.compare({[one.word for one in self.entries]!r}, pairs)"
        if entry is None or key is None:
            names = [
                *dict.fromkeys(one.word for one in self.entries),
                *self.left_out,
            ]  # reranked, one stands there twice
            return " ".join(map(shlex.quote, ["zoo", "compare", *names, *self.words]))
        names = [entry.word]
        if self._together(key):
            names = list(dict.fromkeys(one.word for one in self.entries if key in one.scores))
        return " ".join(map(shlex.quote, ["zoo", "eval", *names, *entry.scores[key].words]))

    def _together(self, key: Key) -> bool:
        """Whether rows were left out on account of another model, so that the figure belongs to all of them."""
        return any("every model" in entry.scores[key].notes for entry in self.entries if key in entry.scores)

    def results(self, entry: Entry) -> list[Result]:
        """The figures of a model in the form that cards show; `zoo.evaluation.results.write_results` keeps them."""
        facts: dict[str, Any] = {"date": today(), "revision": entry.spec.revision}
        found = []
        for key, scores in entry.scores.items():
            told = {"dataset": scores.dataset, "task": scores.task, "split": scores.split, "part": scores.part}
            told |= {"direction": scores.direction, "source": self.command(key, entry), "notes": scores.notes}
            told |= {"protocol": scores.protocol}
            for metric, (value, low, high) in scores.figures.items():
                found.append(rounded(Result(metric=metric, value=value, low=low, high=high, **told, **facts)))
        if (cost := entry.cost) is not None:
            told = {"task": "speed", "split": "", "source": self.command(), **facts}
            told["notes"] = f"measured here in turn with {len(self.entries) - 1} others, {cost.threads} threads"
            rows = [(f"one {cost.asked}", "latency", cost.ms, "ms"), (cost.ranked, "throughput", cost.rate, "items/s")]
            rows += [] if cost.mb is None else [("process that embeds", "peak memory", cost.mb, "MB")]
            found += [
                Result(of, metric=name, value=round(value, 3), unit=unit, **told) for of, name, value, unit in rows
            ]
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON: results by model, differences to the best, and which one to take."""
        ranked = self.ranked
        facts: dict[str, Any] = {
            "command": self.command(),
            "models": {entry.name: [asdict(result) for result in self.results(entry)] for entry in self.entries},
            "quality": {entry.name: self.quality(entry)._asdict() for entry in ranked},
            "differences": [
                {
                    "of": entry.name,
                    "to": ranked[0].name,
                    **dict(zip(_KEY, key, strict=True)),
                    "metric": measure,
                    **told._asdict(),
                }
                | {"clear": is_clear(told)}
                for entry in ranked[1:]
                for key in self.keys
                for measure, told in self.differences(ranked[0], entry, key).items()
            ],
            "left_out": dict(self.left_out)
            | {entry.name: "; ".join(entry.unread.values()) for entry in self.entries if entry.unread},
            "rows_left_out": list(self.bad),
            "budget": str(self.budget),
        }
        try:
            choice = self.choice()
            facts["best"] = {
                "name": choice.name,
                "not_clearly_worse": list(choice.beside),
                "refused": dict(choice.refused),
            }
        except NothingFitsError as error:
            facts["best"] = {"name": None, "why": str(error)}
        return facts


_KEY = ("dataset", "task", "split", "part", "direction")
