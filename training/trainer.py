"""train(): any model, any pairs, any loss; the loop, read from top to bottom."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from zoo.embedder import Embedder
from zoo.files import write_json
from zoo.inputs.identity import Answers
from zoo.reranking import Reranker
from zoo.strangers.made import made_here
from zoo.tables.pairs import Pair, PairTable, Selection, block_numbers, of_datasets

from . import sharding
from .bad_batch import save_bad_batch
from .checkpoint import checkpoints_in, last_checkpoint, save_checkpoint
from .checks import check_rows, check_run
from .claims import check_same, claim, held, note, run_in, stage_folder, tidy
from .dataloader import Feed
from .errors import DivergedError, RecipeError, RecipeMismatchError
from .finalize import conclude, hold_out, told_held_out, write_model
from .gather import broadcast, say, wait_for_all, world
from .judging import Judge, check_evaluations
from .kinds import kind_of, trained
from .leaks import check_held_out
from .logs import Log, device_of, make_accelerator, start_trackers
from .lone import lone_items
from .losses import Loss, build_loss
from .modes import apart
from .outside import check_teachers
from .own import check_own
from .parts import check_batches, part_numbers, parts_of, stage_loss
from .recipe import Recipe, stages_of
from .recipes import read_recipe
from .repeats import repeats
from .rows import known_answers, root_of, set_aside, told_aside, uneven_lines, with_negatives
from .run import STRIDE, Run
from .samplers import BatchSampler, build_sampler
from .scoring import Scoring, by_grade
from .skipped import Skipped, list_aside, list_unread
from .temperatures import Before
from .unread import check_unread, unread_lines


def train(
    model: Embedder | Reranker,
    pairs: Sequence[Pair] | PairTable,
    recipe: Recipe | Sequence[Recipe],
    out: Path,
    *,
    held_out: Sequence[Pair] | PairTable | None = None,
    loss: Loss | None = None,
    name: str | None = None,
    data: dict[str, Any] | None = None,
    resume: bool = False,
    progress: bool = True,
    trackers: Sequence[str] = ("tensorboard",),
    report: bool = True,
    device: str | torch.device | None = None,
) -> Embedder | Reranker:
    """Trains, writes checkpoints, curves and a report into `out`, and the finished model beside them.

    A resumed run gives the same bits as one that was never stopped: what is random in a step depends on the seed and
    the step alone. Started by `accelerate launch`, all processes share every batch, and learn what one would; but where
    layers draw dropout or measure a batch each process does so for its own rows, and the figures are alike, not equal.

    Args:
        model: an embedder or a reranker, changed in place. pairs: what to learn. recipe: every number, or a tuple of stages, done in order.
        out: folder of this run; `load_model(out)` opens the finished model, `load_reranker(out)` a reranker.
        held_out: pairs for the figures before, during and after, by which the best checkpoint is chosen; by default the
            validation rows of a table with a column of splits, else `recipe.holdout` of the pairs. Those that are learned
            too are left out.
        loss: a loss of your own in place of the one the recipe names. name: of the finished model; else the folder's.
        data: facts about the data for the report (source, schema).
        resume: go on from the last whole checkpoint in `out`, for longer where the recipe has more steps than before;
            without one, start.
        progress: show a bar with loss, items/s and time left. trackers: "tensorboard", "wandb", "trackio".
        report: write report.html and report.md at the end.
        device: where to train, "cpu", "cuda:1" or "mps"; by default the best that is here. A launcher gives each process
            its own.

    Raises:
        ArgumentError: the device is not here.
        RecipeMismatchError: `out` holds a run, or with `resume` one of another recipe or other data. PairsError: all
        held-out pairs are learned too, or there are none to stop early by. DivergedError: the loss became NaN or infinite; the
        batch is saved in `out`. TooManyBadItemsError: more unreadable pairs than `max_bad`. DiskFullError: a checkpoint
        could not be written; the one before it is whole. And those of `zoo.training.checks`.
    """
    out, facts, given = Path(out), dict(data or {}), model
    model = trained(given)
    check_own(out)
    notes = facts.pop("started", None)
    if loss is not None and any(stage.losses for stage in stages_of(recipe)):
        raise RecipeError("a loss of your own stands for all data; leave out losses of the recipe, or loss=")
    check_unread(pairs, recipe, held_out, loss)
    accelerator = make_accelerator(trackers, out)
    place = device_of(accelerator, device)
    _check_stages(model, pairs, stages_of(recipe), loss)
    pairs, held_out, stages = _prepared(model, pairs, held_out, stages_of(recipe), loss, out, facts, progress)
    with held(out):
        claimed = claim(out, stages, resume, notes)
        model.to(place)
        broadcast(model)
        answers = known_answers(pairs)
        kept_out = check_held_out(held_out, answers, keep_leaks=stages[0].keep_leaks)
        if kept_out is not None and kept_out.told:
            facts["held-out pairs"] = "; ".join(kept_out.told)
            _say(kept_out.told, progress)
        known = kept_out and kept_out.pairs
        note(out, claimed, answers, known)
        list_aside(out, pairs, held_out)
        scoring = scoring_of(out, model, pairs, known, stages, loss, resume=resume, progress=progress)
        start_trackers(accelerator, stages)
        scoring.before()
        if unread := scoring.unread("before"):
            list_unread(out, unread, scoring.pairs, pairs, held_out, stages[0].max_bad)
        learned = _train_stages(model, pairs, stages, out, loss, accelerator, scoring, answers, progress)
        scoring.after()
        scoring.conclude()
        facts |= {"pairs": len(pairs), "lengthened": run_in(out).get("lengthened", [])}
        write_model(model, out, stages, name, scoring, facts, loss=learned, report=report)
        tidy(out, stages)
    accelerator.end_training()
    return given


def _say(lines: Sequence[str], progress: bool) -> None:
    for line in lines if progress else ():
        say(line)


def _check_stages(
    model: nn.Module, pairs: Sequence[Pair] | PairTable, stages: Sequence[Recipe], loss: Loss | None
) -> None:
    """What a sample of the data tells of every stage; a model that is to learn to fuse gets what it needs for it."""
    kind_of(model).prepare(model, stages)
    for stage in stages:
        for part in parts_of(stage, pairs):
            check_run(model, of_datasets(pairs, part.datasets), part, loss or build_loss(part.loss))


def _prepared(
    model: nn.Module,
    pairs: Sequence[Pair] | PairTable,
    held_out: Sequence[Pair] | PairTable | None,
    stages: Sequence[Recipe],
    loss: Loss | None,
    out: Path,
    facts: dict[str, Any],
    progress: bool,
) -> tuple[Sequence[Pair] | PairTable, Sequence[Pair] | PairTable | None, list[Recipe]]:
    """All rows looked at once: (pairs to learn from, held-out ones, the stages with their steps); what there is to tell of
    them is said and noted in `facts`.
    """
    first, bar = stages[0], None if progress and world()[0] == 0 else False
    shown = "schema" in facts  # by the command
    pairs = set_aside(pairs, first.max_bad, progress=bar)
    aside, uneven = told_aside(pairs, out), uneven_lines(pairs, stages, loss)
    facts |= {"set aside": f"{len(pairs.bad):,} of {pairs.inputs:,} inputs"} if pairs.bad else {}
    facts |= {"hard negatives": "; ".join(uneven)} if uneven else {}
    pairs, held_out = hold_out(pairs, held_out, first)
    if held_out is not None and root_of(held_out) is None:
        held_out = set_aside(held_out, first.max_bad, progress=bar)
    ready = [_ready(model, pairs, stage, loss, facts, progress) for stage in stages]
    if held_out is not None and (told := told_held_out(held_out)):
        facts["held out"] = told.removeprefix("held out: ")
        _say([told], progress)
    _say([] if shown else [*unread_lines(pairs, stages), *filter(None, [aside, *uneven])], progress)
    return pairs, held_out, ready


def _ready(
    model: nn.Module,
    pairs: Sequence[Pair] | PairTable,
    stage: Recipe,
    loss: Loss | None,
    facts: dict[str, Any],
    progress: bool,
) -> Recipe:
    """A stage with its steps, once its rows are known to serve; what is truncated of their texts is said."""
    for part in parts_of(stage, pairs):
        check_rows(model, of_stage(pairs, part), part, loss or build_loss(part.loss))
    mine = of_stage(pairs, stage)
    if lines := kind_of(model).truncated(model, mine, stage):
        facts[f"texts of {stage.name}"] = lines
        _say(lines, progress)
    return planned(stage, mine)


def _train_stages(
    model: nn.Module,
    pairs: Sequence[Pair] | PairTable,
    stages: Sequence[Recipe],
    out: Path,
    loss: Loss | None,
    accelerator: Any,
    scoring: Scoring,
    answers: Answers,
    progress: bool,
) -> Loss:
    """One stage after the other, each from where the one before it ended; returns the loss of the last."""
    offset, before = None if len(stages) == 1 else 0, None
    for number, stage in enumerate(stages):
        folder, mine = stage_folder(out, stages, number), of_stage(pairs, stage)
        options = {"answers": answers_in(answers, pairs, mine), "progress": progress, "offset": offset}
        before = _train_stage(model, mine, stage, folder, loss, accelerator, scoring, before=before, **options)
        offset = None if offset is None else offset + stage.steps
    return before.loss


def _train_stage(
    model: nn.Module,
    pairs: Sequence[Pair] | PairTable,
    recipe: Recipe,
    folder: Path,
    loss: Loss | None,
    accelerator: Any,
    scoring: Scoring,
    *,
    answers: Answers,
    progress: bool,
    offset: int | None = None,
    stop: bool = False,
    before: Before | None = None,
) -> Before:
    """One stage from its last checkpoint to its last step; `stop` leaves out the steps that are still to be done.

    Returns:
        What the next stage has `before` it.
    """
    rank, processes = world()
    folder.mkdir(parents=True, exist_ok=True)
    recipe.prepare(model, pairs, folder)
    # Each stage seeds anew: a resumed stage must not depend on how many numbers the ones before it drew.
    torch.manual_seed(recipe.seed * STRIDE)  # of a loss with layers of its own
    loss = stage_loss(recipe, pairs, loss).to(model.device)
    # Before the run is resumed: a model that is its own teacher is so as the stage found it.
    teacher = kind_of(model).teacher(model, pairs, recipe, folder, loss, progress=progress)
    with recipe.around(model) as conclusion:
        # Inside `recipe.around`: it may change what learns, and the optimiser's groups are made from that.
        run = Run(model, recipe, loss, sharded=sharding.wanted(), before=before)
        if (state := last_checkpoint(folder / "checkpoints", run.most_bytes)) is not None:
            run.load(state)
        # After `Run`, which freezes: towers in which nothing learns are embedded here, once for the whole stage.
        feed = make_feed(model, pairs, recipe, folder, progress=progress, teacher=teacher, answers=answers, loss=loss)
        if progress and not stop:
            if run.begins and state is None:
                # A resumed run begins where its checkpoint says; the line would be of numbers that no longer hold.
                say(f"{recipe.name}: {run.begins}")
            say(f"{recipe.name}: {repeats(feed, loss)}")
            for line in filter(None, (apart(model, processes), lone_items(model, feed.answers, feed.sampler, recipe))):
                say(f"{recipe.name}: {line}")
        log = Log(folder, run, recipe, accelerator, main=rank == 0, progress=progress, offset=offset)
        judge = Judge(folder, run, recipe, scoring, log)
        if not stop:
            judge.begin()
        begun = run.step
        batches = feed.batches(run.step, run.step if stop else recipe.steps)
        while not judge.over:
            asked = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                break
            waited = time.perf_counter() - asked
            try:
                figures = run.advance(batch)
            except DivergedError as error:
                where = save_bad_batch(folder, run, batch, pairs)
                raise DivergedError(f"{error}; the batch is in {where}") from error
            log.step(figures, len(batch.rows) * processes, waited)
            judge.look()
            # After the evaluation: a run that is killed in between has it again.
            if run.step % recipe.checkpoint_every == 0 or run.step == recipe.steps or judge.over:
                state = run.state()
                if rank == 0:
                    save_checkpoint(folder / "checkpoints", run.step, state, keep=recipe.checkpoints_kept)
                    judge.settle()
        shares = log.close()
        if rank == 0 and run.step > begun:
            write_json(folder / "timing.json", {**shares, "micro_batch": run.micro_batch, "processes": processes})
        scoring.note_kept(recipe.name, judge.told())
        conclude(run, folder, judge.chosen())
        if conclusion is not None:
            conclusion(feed)
    wait_for_all()
    return Before(recipe.name, loss)


def make_feed(
    model: nn.Module,
    pairs: Sequence[Pair] | PairTable,
    recipe: Recipe,
    folder: Path,
    *,
    progress: bool,
    teacher: Any = None,
    answers: Answers | None = None,
    loss: Loss | None = None,
    negatives: int | None = None,
) -> Feed:
    """The batches of a stage: those of its kind of recipe, else those of any pairs.

    Args:
        answers: what is right for what, of these rows; read from them by default. loss: in place of the recipe's.
        negatives: see `RowFeed`.
    """
    rank, processes = world()
    sampler = sampler_of(pairs, recipe)
    answers = known_answers(pairs) if answers is None else answers
    if (own := recipe.feed(model, pairs, sampler, answers)) is not None:
        return own
    own_loss = stage_loss(recipe, pairs, loss)
    good = root_of(pairs)
    skipped = Skipped(
        folder / ("skipped.jsonl" if rank == 0 else f"skipped-{rank}.jsonl"),
        recipe.max_bad,
        len(pairs) if good is None else good.inputs,
        None if good is None else good.bad,
    )
    return kind_of(model).feed(
        model,
        pairs,
        recipe,
        folder,
        own_loss,
        progress=progress,
        teacher=teacher,
        sampler=sampler,
        skipped=skipped,
        answers=answers,
        parts=part_numbers(recipe, pairs),
        negatives=negatives,
        rank=rank,
        world=processes,
    )


def scoring_of(
    out: Path,
    model: nn.Module,
    pairs: Sequence[Pair] | PairTable,
    held_out: Sequence[Pair] | None,
    stages: Sequence[Recipe],
    loss: Loss | None,
    *,
    resume: bool,
    progress: bool,
) -> Scoring:
    """What ranks the held-out pairs of a run: with the prompts of its last stage, and by what that learns of `pairs`."""
    graded = by_grade(stage_loss(stages[-1], of_stage(pairs, stages[-1]), loss))
    options = {"resume": resume, "progress": progress, "graded": graded, "seed": stages[0].seed}
    scoring = kind_of(model).scoring(out, model, held_out, stages[-1], **options)
    check_evaluations(stages, scoring)
    return scoring


def sampler_of(pairs: Sequence[Pair] | PairTable, recipe: Recipe) -> BatchSampler:
    """Which rows make the batches of a stage."""
    options = {"batch_size": recipe.batch_size, "seed": recipe.seed, "steps": recipe.steps}
    sampler = build_sampler(recipe.sampler, pairs=pairs, blocks=block_numbers(pairs), **options)
    check_batches(sampler, recipe, pairs)
    return sampler


def planned(recipe: Recipe, pairs: Sequence[Pair] | PairTable) -> Recipe:
    """The recipe with its steps worked out from its epochs: a sampler knows how many batches an epoch has."""
    if recipe.steps is not None:
        if recipe.losses:
            sampler_of(pairs, recipe)  # which must keep them apart: told before long work
        return recipe
    return replace(recipe, steps=max(1, round(recipe.epochs * sampler_of(pairs, recipe).steps_per_epoch)))


def of_stage(pairs: Sequence[Pair] | PairTable, recipe: Recipe) -> Sequence[Pair] | PairTable:
    """The rows of the data sets that the stage names, without those that have no hard negative where it says so."""
    if not recipe.datasets and recipe.without_negatives == "keep":
        return pairs
    mine = of_datasets(pairs, recipe.datasets)
    if recipe.without_negatives == "keep":
        return mine
    if not recipe.losses:
        return Selection(pairs, with_negatives(pairs, mine.rows))
    kept = []
    for part in parts_of(recipe, pairs):  # a loss that looks at none has no reason to leave rows out
        rows = of_datasets(pairs, part.datasets).rows
        kept.append(with_negatives(pairs, rows) if build_loss(part.loss).hard_negatives else rows)
    return Selection(pairs, np.sort(np.concatenate(kept)))


def answers_in(answers: Answers, pairs: Sequence[Pair] | PairTable, part: Any) -> Answers:
    """What is right for what among `part`, which `of_stage` gave of the pairs; all pairs still tell it."""
    return answers if part is pairs else answers.at(part.rows)


def finish(
    model: Embedder | Reranker,
    pairs: Sequence[Pair] | PairTable,
    out: Path,
    *,
    held_out: Sequence[Pair] | PairTable | None = None,
    name: str | None = None,
    report: bool = True,
    progress: bool = False,
    data: dict[str, Any] | None = None,
    device: str | torch.device | None = None,
    allow_outside: bool = False,
) -> int:
    """Writes the model of a run that was stopped, from its last whole checkpoint; returns the step it had reached.

    Args:
        allow_outside: open the teacher that the folder names, also where the folder was not made here.
    """
    out = Path(out)
    stages = run_in(out).get("stages")
    if not stages or not checkpoints_in(out / "checkpoints"):
        raise RecipeMismatchError(f"{out} holds no checkpoint of a run of one stage; name the folder given to --out")
    recipe = read_recipe(stages[0])
    if not (allow_outside or made_here(out)):
        check_teachers(out, [recipe])
    pairs, held_out = hold_out(set_aside(pairs, recipe.max_bad), held_out, recipe)
    model = trained(model)
    kind_of(model).prepare(model, [recipe])
    accelerator = make_accelerator((), out)
    model.to(device_of(accelerator, device))
    answers = known_answers(pairs)
    kept_out = check_held_out(held_out, answers, keep_leaks=recipe.keep_leaks)
    check_same(out, run_in(out), answers, kept_out and kept_out.pairs)
    known = kept_out and kept_out.pairs
    scoring = scoring_of(out, model, pairs, known, [recipe], None, resume=True, progress=progress)
    options = {"answers": answers, "progress": False, "stop": True}
    ended = _train_stage(model, pairs, recipe, out, None, accelerator, scoring, **options)
    scoring.after()
    scoring.conclude()
    facts = {**(data or {}), "pairs": len(pairs)}
    write_model(model, out, [recipe], name, scoring, facts, loss=ended.loss, report=report)
    return scoring.found["kept"][recipe.name]["steps"]
