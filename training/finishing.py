"""What comes before the first step and after the last: held-out pairs, their figures, the finished folder."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.embedder import Embedder
from zoo.evaluation.pairs import PairScores, evaluate_pairs

from .adapters import merge_lora, save_adapter
from .checkpoint import write_json
from .gather import wait_for_all, world
from .pairs import Pair, PairTable, Selection
from .recipe import Recipe
from .run import Run

SCORES = "scores.json"
_DTYPES = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}


def hold_out(
    pairs: Sequence[Pair] | PairTable, held_out: Sequence[Pair] | PairTable | None, recipe: Recipe
) -> tuple[Sequence[Pair] | PairTable, Sequence[Pair] | PairTable | None]:
    """(pairs to learn from, pairs for the figures): those given, or a random share of the pairs told by the seed."""
    count = round(recipe.holdout * len(pairs)) if recipe.holdout < 1 else round(recipe.holdout)
    if held_out is not None or count == 0:
        return pairs, held_out
    count = max(1, min(count, len(pairs) // 2))
    order = np.random.default_rng(recipe.seed).permutation(len(pairs))
    return Selection(pairs, np.sort(order[count:])), Selection(pairs, np.sort(order[:count]))


class Scoring:
    """Figures of the held-out pairs before and after, kept in scores.json as they come."""

    def __init__(
        self, out: Path, model: Embedder, pairs: Sequence[Pair] | PairTable | None, *, resume: bool, progress: bool
    ) -> None:
        self.path, self.model, self.pairs, self.progress = out / SCORES, model, pairs, progress
        self.found: dict[str, Any] = {}
        if resume and self.path.is_file():
            self.found = json.loads(self.path.read_text(encoding="utf-8"))

    def before(self) -> None:
        """Of the model as it was given; a resumed run has them already."""
        if "before" not in self.found:
            self._note("before")

    def after(self) -> None:
        """Of the model as it has become."""
        self._note("after")

    def score(self, when: str) -> PairScores | None:
        """The figures of "before" or "after", None without held-out pairs."""
        return PairScores.from_dict(self.found[when]) if when in self.found else None

    def _note(self, when: str) -> None:
        if self.pairs is not None and world()[0] == 0:
            if self.progress:
                print(f"{when} training: ranking {len(self.pairs):,} held-out pairs", flush=True)
            held = [self.pairs[row] for row in range(len(self.pairs))]
            groups = [pair.group for pair in held]
            scores = evaluate_pairs(self.model, [p.query for p in held], [p.positive for p in held], groups)
            self.found[when] = scores.to_dict()
            write_json(self.path, self.found)
        wait_for_all()


def conclude(run: Run, folder: Path) -> None:
    """The averaged weights into the model; adapters saved in peft's format, then merged; evaluation mode."""
    if run.average is not None:
        run.average.give()
    run.gather()
    if run.recipe.lora is not None:
        if world()[0] == 0:
            spec = run.model.spec
            save_adapter(run.model, folder / "adapter", base=spec.hub_id or spec.name, revision=spec.revision)
        merge_lora(run.model)
    run.model.eval()
    run.model.requires_grad_(True)


def write_model(
    model: Embedder,
    out: Path,
    stages: Sequence[Recipe],
    name: str | None,
    scoring: Scoring,
    data: dict[str, Any],
    *,
    report: bool,
) -> None:
    """The finished model, its card and the report, into the run's folder."""
    if world()[0] == 0:
        from .card import write_card
        from .report import keep_examples, write_report

        base = model.spec
        name = name or slug(out.resolve().name)
        if name != base.name:
            model.spec = replace(
                base,
                name=name,
                base=base.hub_id or base.base or base.name,
                hub_id="",
                source="",
                revision=None,
                packaged=False,
            )
        model.save_pretrained(out, _DTYPES[stages[-1].save_as])
        write_json(out / "data.json", data)
        write_card(model, out, stages, scoring, data)
        if report:
            if scoring.pairs is not None:
                keep_examples(out, scoring.pairs, scoring.score("before"), scoring.score("after"))
            write_report(out)
    wait_for_all()


def slug(name: str) -> str:
    """A folder's name as a model's: lower case, hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "model"
