"""A dry run: everything that a run would need is built and checked, and one step of each stage is trained."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from zoo import arguments
from zoo.embedder import Embedder
from zoo.loading import best_device
from zoo.reranking import Reranker
from zoo.tables.pairs import Pair, PairTable, Selection

from .checks import check_rows, check_run
from .finalize import conclude, hold_out, told_held_out
from .gather import world
from .judging import learns_in_part, plan
from .kinds import kind_of, trained
from .leaks import check_held_out
from .lone import lone_items
from .losses import build_loss
from .parts import parts_of, stage_loss
from .recipe import Recipe, stages_of
from .repeats import repeats
from .rows import known_answers, negatives_each, negatives_of, set_aside, told_aside, uneven_lines
from .run import Run
from .temperatures import Before
from .trainer import answers_in, make_feed, of_stage, planned, sampler_of
from .unread import check_unread


def rehearse(
    model: Embedder | Reranker,
    pairs: Sequence[Pair] | PairTable,
    recipe: Recipe | Sequence[Recipe],
    *,
    held_out: Sequence[Pair] | PairTable | None = None,
    device: str | torch.device | None = None,
) -> dict[str, Any]:
    """Facts of a run that was not made; the model is changed by the steps and of no further use.

    Raises:
        ZooError: whatever `train` would raise before or at its first step.
    """
    check_unread(pairs, recipe, held_out)
    model = trained(model)
    kind = kind_of(model)
    kind.prepare(model, stages_of(recipe))
    first = stages_of(recipe)[0]
    pairs = set_aside(pairs, first.max_bad)
    said = [told_aside(pairs), *uneven_lines(pairs, recipe)]
    pairs, held_out = hold_out(pairs, held_out, first)
    model.to(best_device() if device is None else arguments.device("device", device))
    facts: dict[str, Any] = {"pairs": len(pairs), "held out": len(held_out) if held_out is not None else 0}
    if held_out is not None and (told := told_held_out(held_out)):
        facts["held-out rows"] = told.removeprefix("held out: ")
    if said := list(filter(None, said)):
        facts["rows"] = "; ".join(said)
    before: Before | None = None
    answers = known_answers(pairs)
    if (kept_out := check_held_out(held_out, answers, keep_leaks=stages_of(recipe)[0].keep_leaks)) is not None:
        facts["held out"] = len(kept_out.pairs)
        facts |= {"held-out pairs": "; ".join(kept_out.told)} if kept_out.told else {}
    for stage in stages_of(recipe):
        mine = of_stage(pairs, stage)
        own = answers_in(answers, pairs, mine)
        for part in parts_of(stage, pairs):
            rows = of_stage(pairs, part)
            check_run(model, rows, part, build_loss(part.loss))
            check_rows(model, rows, part, build_loss(part.loss))
        if lines := kind.truncated(model, mine, stage):
            facts[f"{stage.name}: texts"] = "; ".join(lines)
        stage, loss = planned(stage, mine), stage_loss(stage, mine)
        with tempfile.TemporaryDirectory() as folder:
            sampler = sampler_of(mine, stage)
            few = Selection(mine, sampler.rows(0))  # a frozen tower or a teacher need embed no more
            teacher = kind.teacher(model, few, stage, Path(folder), loss, progress=False)
            run = Run(model, stage, loss.to(model.device), before=before)
            shuffled = replace(stage, sampler="shuffled")
            places = negatives_each(negatives_of(mine), stage)  # as in the run, whatever these few have
            options = {"teacher": teacher, "answers": own.at(few.rows), "loss": loss, "negatives": places}
            feed = make_feed(model, few, shuffled, Path(folder), progress=False, **options)
            begun = time.perf_counter()
            batch = next(iter(feed.batches(0, 1)))
            read = time.perf_counter() - begun
            begun = time.perf_counter()
            figures = run.advance(batch)
            seconds = time.perf_counter() - begun
            partly, lone = learns_in_part(model), lone_items(model, own, sampler, stage)
            learning = sum(p.numel() for p in run.weights)
            before = Before(stage.name, loss)
            conclude(run, Path(folder))  # the next stage begins with whole weights that may all learn
        facts |= {f"{stage.name}: begins with": run.begins} if run.begins else {}
        facts |= {
            f"{stage.name}: batch": batch.told,
            f"{stage.name}: what repeats": repeats(feed, loss),
            f"{stage.name}: learning": f"{learning:,} of {sum(p.numel() for p in model.parameters()):,} weights",
            f"{stage.name}: loss of the first step": round(figures.loss, 4),
            f"{stage.name}: gradient norm": round(figures.grad_norm, 4),
            f"{stage.name}: seconds a step": f"{seconds:.2f} (first), reading its batch {read:.2f}",
            f"{stage.name}: the whole": f"{stage.steps:,} steps, about {stage.steps * seconds / 60:.1f} minutes",
        }
        facts |= {f"{stage.name}: batch normalisation": lone} if lone else {}
        when = plan(stage, facts["held out"], partly=partly, processes=world()[1])
        if when.every:
            facts[f"{stage.name}: evaluations"] = f"every {when.every:,} steps, of {when.pairs:,} held-out pairs"
        if run.micro_batch != stage.micro_batch:
            facts[f"{stage.name}: micro-batch"] = f"{run.micro_batch} (memory ran out with more)"
    return facts
