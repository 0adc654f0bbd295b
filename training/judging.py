"""Judge: held-out pairs are ranked while a stage is trained; the best weights are kept, and it may be stopped early."""

import json
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from zoo.errors import TooFewPairsError
from zoo.evaluation.pairs import WAYS
from zoo.evaluation.reranked import MEASURES

from .checkpoint import checkpoints_in, keep_newest, last_checkpoint, remove_checkpoint, save_checkpoint, step_of
from .errors import PairsError
from .gather import decided, world
from .kinds import kind_of
from .logs import Log, keep_until
from .own import Evaluation, append, read_rows
from .recipe import Recipe
from .run import Run
from .scoring import Scoring
from .verdict import FEWEST, HOW, RETRIEVAL, Scores, deciding

EVALUATIONS, BEST = "evaluations.jsonl", "best"
_SHARE = 0.035  # of a run's work that goes into evaluations by default; what is not counted fits into five percent
_MOST, _WANTED = 20, 3  # evaluations by default; for so many fewer pairs are ranked
_MOST_PAIRS = 1_000  # more choose no better, and take their time each time
_PASSES = 3.0  # forward passes that a step costs an item: backward is two of them
_PASSES_IN_PART = 2.0  # where part of the model stands still, so that backward is shorter


class Plan(NamedTuple):
    """Steps between evaluations, 0 for none but those by the clock, and how many held-out pairs each ranks."""

    every: int
    pairs: int


def plan(recipe: Recipe, count: int, *, partly: bool = False, processes: int = 1) -> Plan:
    """The recipe's, else as many evaluations as are about 3.5 % of the run's work, the first before the first step.

    Determined by counts alone, so that the same recipe over the same pairs evaluates the same steps on any machine. Where few
    would fit fewer pairs are ranked, but no fewer than can tell anything.

    Args:
        count: held-out pairs. partly: some weights of what learns stand still.
        processes: that share a batch; one of them evaluates.
    """
    pairs = min(count, _MOST_PAIRS)
    if recipe.evaluate_every is not None or recipe.evaluate_minutes is not None or not count:
        return Plan(recipe.evaluate_every or 0, pairs)
    # In forward passes of one item, the unit that an evaluation costs too: counts alone, no clock, so any
    # machine plans the same.
    work = (_PASSES_IN_PART if partly else _PASSES) * recipe.batch_size / processes * recipe.steps
    pairs = min(pairs, max(FEWEST, math.floor(_SHARE * work / (1 + _WANTED))))
    times = min(_MOST, recipe.steps, math.floor(_SHARE * work / pairs) - 1)
    # One alone, at the end, chooses nothing.
    return Plan(math.ceil(recipe.steps / times) if times > 1 else 0, pairs)


def learns_in_part(model: nn.Module) -> bool:
    """Whether a tower that learns has weights that stand still."""
    learning = [[p.requires_grad for p in reader.parameters()] for reader in model.routes]
    return any(any(some) and not all(some) for some in learning)


def check_evaluations(stages: Sequence[Recipe], scoring: Scoring) -> None:
    """Raises PairsError where a stage is to be evaluated as it goes and there is nothing held out to do it by."""
    for stage in stages:
        asked = [f"{n}={v}" for n in ("evaluate_every", "evaluate_minutes", "patience") if (v := getattr(stage, n))]
        if asked and not len(scoring):
            raise PairsError(f"{stage.name}: {asked[0]} needs held-out pairs and there are none; {HOW}")
        if stage.patience and not (plan(stage, len(scoring)).every or stage.evaluate_minutes):
            raise PairsError(
                f"{stage.name}: patience={stage.patience} needs evaluations, of which a run of {stage.steps} steps has none by "
                f"default; say evaluate_every (--evaluate-every {max(1, stage.steps // _MOST)})"
            )


class Judge:
    """Of one stage. Nothing of it moves the training: its bits are those of a run without.

    Its state is the lines of evaluations.jsonl up to the run's step: a resumed run drops later ones and has them again.

    Args:
        folder: of the stage. run, recipe: what is trained. scoring: has the held-out pairs. log: is told of the figures.
    """

    def __init__(self, folder: Path, run: Run, recipe: Recipe, scoring: Scoring, log: Log) -> None:
        self.run, self.recipe, self.scoring, self.log = run, recipe, scoring, log
        self.plan = plan(recipe, len(scoring), partly=learns_in_part(run.model), processes=world()[1])
        self.path, self.best_folder = folder / EVALUATIONS, folder / BEST
        self.main = world()[0] == 0
        self.wanted = len(scoring) > 0 and bool(self.plan.every or recipe.evaluate_minutes)
        self.encode = kind_of(run.model).held_out(run)
        self.since = time.monotonic()
        if self.main:
            keep_until(self.path, run.step)
            for path in checkpoints_in(self.best_folder):
                if step_of(path) > run.step:
                    remove_checkpoint(path)
        self.rows = list(read_rows(self.path, Evaluation)) if self.main else []
        # Of a run that was over the best weights are dropped where they are those of the last checkpoint.
        lost = self.main and not self._saved() and self.best is not None and self.best["step"] == run.step
        if recipe.keep == "best" and decided(lost, run.model.device):
            with run.shown():
                self._save(run.learned())

    @property
    def best(self) -> dict[str, Any] | None:
        """The evaluation with the highest figure, of equal ones the last."""
        return max(self.trained, key=lambda row: (row["figure"], row["step"]), default=None)

    @property
    def trained(self) -> list[dict[str, Any]]:
        """The evaluations after steps of the stage."""
        return [row for row in self.rows if row["step"]]

    @property
    def over(self) -> bool:
        """Whether the recipe's patience is at its end; the same on all processes."""
        if not self.recipe.patience or not self.wanted:
            return False
        return decided(self._fruitless >= self.recipe.patience, self.run.model.device)

    @property
    def _fruitless(self) -> int:
        """How many evaluations have come after the first with the highest figure."""
        figures = [row["figure"] for row in self.trained]
        return len(figures) - 1 - figures.index(max(figures)) if figures else 0

    def look(self) -> None:
        """After a step: evaluates where it is time to, and keeps the weights where they are the best so far."""
        if self.wanted and self._due():
            self._evaluate()

    def begin(self) -> None:
        """Before the first step: where the curve begins."""
        if self.wanted and not self.run.step:
            self._evaluate()

    def _evaluate(self) -> None:
        begun = time.perf_counter()
        with self.run.shown():
            scores = Scores()
            if self.main or self.run.sharded:  # sharded weights are whole on no process: all run the same passes
                with suppress(TooFewPairsError):  # no vector is usable: the worst figure there is
                    scores = self.scoring.now(self.encode, self.plan.pairs)
            better = decided(self.main and self._note(scores), self.run.model.device)
            if better and self.recipe.keep == "best":
                self._save(self.run.learned())
        seconds = time.perf_counter() - begun
        if self.main:
            row = self.rows[-1]
            best = self.best or row
            told = f"held-out {row['measure'].split()[0].rstrip(',')} {100 * row['figure']:.1f} (best {100 * best['figure']:.1f} at {best['step']})"
            self.log.evaluated(row["figures"], told, seconds)
        self.since = time.monotonic()

    def settle(self) -> None:
        """After a checkpoint: no resumed run goes back before it, and one best is enough."""
        if self.main:
            keep_newest(self.best_folder, 1)

    def chosen(self) -> dict[str, Any] | None:
        """Weights ("model") and loss that the stage ends with where they are not its last; None where they are."""
        if self.recipe.keep == "last" or not decided(bool(self._saved()), self.run.model.device):
            return None
        state = last_checkpoint(self.best_folder, self.run.most_bytes)
        return None if state is None or state["step"] == self.run.step else state

    def told(self) -> dict[str, Any]:
        """Which checkpoint the stage ends with and why, for the report and for people."""
        run, best = self.run.step, self.best
        if best is None or (len(self.trained) == 1 and best["step"] == run):  # nothing to choose from
            short = len(self.scoring) > 0 and not self.wanted and self.recipe.evaluate_every is None
            more = f" (to choose from several: --evaluate-every {max(1, run // 5)})" if short else ""
            return {"step": run, "steps": run, "told": f"kept: the last checkpoint, step {run}{more}"}
        last, name = self.rows[-1], best["measure"]
        many = f"{len(self.trained)} evaluation{'s' if len(self.trained) > 1 else ''}"
        patience = self.recipe.patience or 0
        early = 0 < patience <= self._fruitless and run < self.recipe.steps
        if self.recipe.keep == "last":
            kept = run
            told = f"kept: the last checkpoint, step {run}; the best of {many} was at step {best['step']}"
        else:
            kept, told = best["step"], f"kept: the best of {many}, step {best['step']} of {run}"
        told += f" ({name}: {100 * best['figure']:.1f}"
        told += ")" if best is last else f"; at the last {100 * last['figure']:.1f})"
        if early:
            told = f"stopped early at step {run} of {self.recipe.steps}: {patience} evaluations without a better one; {told}"
        return {
            "step": kept,
            "steps": run,
            "measure": name,
            "early": early,
            "told": told,
            "chosen": self.recipe.keep == "best",
        }

    def _due(self) -> bool:
        step, minutes = self.run.step, self.recipe.evaluate_minutes
        if (self.plan.every and step % self.plan.every == 0) or step == self.recipe.steps:
            return True
        late = minutes is not None and time.monotonic() - self.since >= 60 * minutes
        return minutes is not None and decided(late, self.run.model.device)

    def _note(self, scores: Scores) -> bool:
        """Adds a line; whether it is the best so far."""
        found = deciding(scores, self.scoring.by_grade)
        name, figure = found if found is not None else (RETRIEVAL, 0.0)
        row = {"step": self.run.step, "measure": name, "figure": figure, "figures": _figures(scores)}
        self.rows.append(row)
        append(self.path, json.dumps(row) + "\n")
        return self.best is row  # never before the first step: then there would be nothing to save

    def _save(self, weights: dict[str, Tensor]) -> None:
        if self.main:
            state = {"step": self.run.step, "model": weights, "loss": self.run.loss.state_dict()}
            save_checkpoint(self.best_folder, self.run.step, state, keep=None)

    def _saved(self) -> list[Path]:
        return checkpoints_in(self.best_folder)


def _figures(scores: Scores) -> dict[str, float]:
    """By name, for curves and dashboards."""
    found: dict[str, float] = {}
    if scores.retrieval is not None:
        for way in WAYS:
            ranking = getattr(scores.retrieval, way)
            found |= {
                f"{way} {name}": float(ranking.values(name).mean()) for name in ("recall@1", "recall@5", "recall@10")
            }
        found["ndcg@10"] = deciding(Scores(scores.retrieval), False)[1]  # type: ignore[index]
    if scores.reranked is not None:
        found |= {name: float(scores.reranked.values(name).mean()) for name in MEASURES}
    if scores.graded is not None:
        found["spearman"] = scores.graded.spearman().value
    return found
