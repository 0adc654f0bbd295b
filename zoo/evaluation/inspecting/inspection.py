"""Inspection: what was measured of a model's space and robustness, as figures, JSON, a page, and a block of its card."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypedDict

from zoo.errors import ResultsError
from zoo.evaluation.results import LONGEST, Result
from zoo.formats.checks.inside import read_inside
from zoo.strangers.schema import check, parse

if TYPE_CHECKING:
    from zoo.evaluation.inspecting.space import Plane, Spread

FILE = "inspection.json"


class _Facts(TypedDict):
    """An `Inspection` as JSON has it."""

    model: str
    reads: list[str]
    dim: int
    figures: list[dict[str, Any]]
    left_out: dict[str, str]


@dataclass(frozen=True)
class Inspection:
    """What a model is like.

    Attributes:
        model: its name. reads: its modalities. dim: of its vectors.
        figures: of `zoo.evaluation.inspecting.space`, tasks "space", and of `robustness`: "robustness", "paraphrases", "languages",
            "similarity by length". Each says its data, part, way, unit, 95 % interval, and over what it was counted.
        left_out: what was not measured → why.
        planes, spreads: what a page draws besides; they are not kept in JSON.
    """

    model: str
    reads: tuple[str, ...]
    dim: int
    figures: tuple[Result, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    planes: "tuple[Plane, ...]" = ()
    spreads: "tuple[Spread, ...]" = ()

    def of(self, task: str) -> list[Result]:
        """The figures of a task, in the order in which they were measured."""
        return [figure for figure in self.figures if figure.task == task]

    def value(self, metric: str, *, part: str = "", way: str = "", dataset: str = "") -> float:
        """The first figure of this metric, and of this part, way and data where they are given.

        Raises:
            ResultsError: there is none; the message says what was left out.
        """
        wanted = {"metric": metric, "part": part, "direction": way, "dataset": dataset}
        for figure in self.figures:
            if all(getattr(figure, name) == value for name, value in wanted.items() if value):
                return figure.value
        asked = ", ".join(value for value in wanted.values() if value)
        why = "; ".join(f"{what}: {reason}" for what, reason in self.left_out.items())
        raise ResultsError(f"{self.model} has no figure {asked}" + (f" (left out: {why})" if why else ""))

    @property
    def html(self) -> str:
        """A page with small drawings, everything inside; `zoo inspect NAME --html FILE` writes it."""
        from zoo.evaluation.inspecting.page import page

        return page(self)

    @property
    def markdown(self) -> str:
        """The block "What it is like" of a card."""
        from zoo.evaluation.inspecting.card import markdown

        return markdown(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, ready for JSON; `from_dict` reads them."""
        figures = [{k: v for k, v in asdict(f).items() if v not in (None, "") or k == "split"} for f in self.figures]
        facts = {"model": self.model, "reads": list(self.reads), "dim": self.dim}
        return {**facts, "figures": figures, "left_out": dict(self.left_out)}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Self:
        """What `to_dict` wrote; raises ResultsError naming what is unknown, missing or of another type."""
        found = check(facts, _Facts, "an inspection", ResultsError)
        if unknown := set(facts) - set(_Facts.__annotations__):
            raise ResultsError(f"an inspection has no {sorted(unknown)}; known are {list(_Facts.__annotations__)}")
        figures = tuple(Result.from_dict(figure) for figure in found["figures"])
        return cls(found["model"], tuple(found["reads"]), found["dim"], figures, dict(found["left_out"]))


def read_inspection(path: Path) -> Inspection | None:
    """The inspection of a file, None where there is none; raises ResultsError where it holds something else."""
    try:
        content = read_inside(path.parent, path.name, LONGEST)
        return None if content is None else Inspection.from_dict(parse(content, "it", ResultsError))
    except (OSError, ResultsError) as error:
        raise ResultsError(f"{path} holds no inspection: {error}") from error
