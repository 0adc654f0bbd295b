"""Measured figures of models, one form for all: what evaluations write, cards show and the Hub's metadata repeats."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Self

from zoo.errors import ResultsError, UnsafeFolderError
from zoo.files import write_json
from zoo.formats.checks.inside import read_inside
from zoo.strangers.schema import check, parse

FILE = "results.json"
LONGEST = 16 << 20  # bytes; those of a hundred tasks have 60,000
# Value of `part` for figures of a model before it was trained, and for how much training changed them.
BEFORE, DIFFERENCE = "before training", "difference"


@dataclass(frozen=True)
class Result:
    """One figure.

    Attributes:
        dataset: the Hub's id ("org/name") or the name of a data pack ("photos").
        task: the kind of task, in the Hub's words where it has one ("image-text-retrieval").
        split, part: of the data; part is "" for all of it, and then it is the figure that the Hub's metadata repeats.
        protocol: of benchmarks that were scored by more than one ("v2.0.0", "local pool"), "" for the only one.
        metric: "recall@10", "ndcg@10", "accuracy", ...; direction tells the two ways of retrieval apart.
        value: a share from 0 to 1, or in `unit`. low, high: 95 % interval, where there is one (bootstrap, or Wilson's of a share).
        ours: measured by this project's code; False for figures that the model's authors state.
        source: for ours the command that gives it again, for the authors' where it is printed (a URL or a paper's table).
        date: ISO day of the measurement. revision: of the model. notes: anything that the reader must know.
    """

    dataset: str
    task: str
    metric: str
    value: float
    split: str = "test"
    part: str = ""
    direction: str = ""
    low: float | None = None
    high: float | None = None
    unit: str = ""
    ours: bool = True
    source: str = ""
    date: str = ""
    revision: str | None = None
    notes: str = ""
    protocol: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        """What two measurements of the same thing share; the later one replaces the earlier."""
        return (self.ours, self.dataset, self.task, self.split, self.part, self.direction, self.metric, self.protocol)

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Self:
        """Reads one object of the file; raises ResultsError naming what is unknown, missing or of another type."""
        return cls(**check(facts, cls, "a result", ResultsError))


def read_results(path: Path) -> list[Result]:
    """The figures of a file, [] where there is none.

    Raises:
        ResultsError: the file is no list of results; the message names it.
    """
    try:
        content = read_inside(path.parent, path.name, LONGEST)
        if content is None:
            return []
        rows = check(parse(content, "it", ResultsError), list[dict[str, Any]], "it", ResultsError)
        return [Result.from_dict(row) for row in rows]
    except (OSError, ResultsError, UnsafeFolderError) as error:
        raise ResultsError(f"{path} holds no results: {error}") from error


def write_results(path: Path, results: Iterable[Result]) -> None:
    """Adds figures to a file, each in place of an earlier one of the same thing; the file is whole or unchanged."""
    merged = {result.key: result for result in [*read_results(path), *results]}
    # `split` has a default that is not empty: "" must be written, or it would be read as "test".
    rows = [
        {k: v for k, v in asdict(result).items() if v not in (None, "") or k == "split"} for result in merged.values()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, rows)


def rounded(result: Result) -> Result:
    """A measured share with its interval to six digits: a card rounds to one decimal of a percent, and must not round twice."""
    ends = {name: getattr(result, name) for name in ("value", "low", "high")}
    return replace(result, **{name: end if end is None else round(end, 6) for name, end in ends.items()})


def today() -> str:
    """The day of a measurement, as ISO has it."""
    return date.today().isoformat()
