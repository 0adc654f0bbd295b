"""train(): any model, any pairs, any loss; the loop, read from top to bottom."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from zoo.embedder import Embedder
from zoo.errors import InputError, ZooError
from zoo.fusion import add_combiner
from zoo.identity import Answers
from zoo.keys import item_key
from zoo.tables.pairs import Pair, PairTable, Selection, block_numbers, of_datasets

from . import sharding
from .checkpoint import last_checkpoint, save_checkpoint, write_json
from .checks import check_rows, check_run
from .feed import Feed, PairFeed, Skipped, list_skipped, sample_of
from .finishing import Scoring, conclude, hold_out, told_held_out, write_model
from .frozen import Teacher, frozen_vectors, role_prefixes, teacher_vectors
from .gather import broadcast, say, wait_for_all, world
from .logs import Log, device_of, make_accelerator, start_trackers
from .losses import Loss, build_loss
from .mini import PictureData, PictureFeed, first_projection, learn_text
from .offender import save_offender
from .recipe import Recipe, stages_of
from .repeats import repeats
from .rows import known_answers, root_of, set_aside, told_aside, uneven_lines, with_negatives
from .run import STRIDE, DivergedError, Run
from .samplers import BatchSampler, build_sampler
from .temperatures import Before
from .truncation import truncated
from .unread import check_unread, unread_lines

_DIGESTED = 64  # pairs whose content tells other data from these


class RecipeMismatchError(ZooError):
    """A folder holds a run of another recipe."""


def train(
    model: Embedder,
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
) -> Embedder:
    """Trains, writes checkpoints, curves and a report into `out`, and the finished model beside them.

    A resumed run gives the same bits as one that was never stopped: what is random in a step depends on the seed and
    the step alone. Started by `accelerate launch`, all processes share every batch, and learn what one would; but where
    layers draw dropout or measure a batch each process does so for its own rows, and the figures are alike, not equal.

    Args:
        model: changed in place. pairs: what to learn. recipe: every number, or a tuple of stages, done in order.
        out: folder of this run; `load_model(out)` opens the finished model.
        held_out: pairs for the figures before and after; by default the validation rows of a table with a column of
            splits, else `recipe.holdout` of the pairs.
        loss: a loss of your own in place of the one the recipe names. name: of the finished model; else the folder's.
        data: facts about the data for the report (source, schema).
        resume: go on from the last whole checkpoint in `out`; without one, start.
        progress: show a bar with loss, items/s and time left. trackers: "tensorboard", "wandb", "trackio".
        report: write report.html and report.md at the end.
        device: where to train, "cpu", "cuda:1" or "mps"; by default the best that is here. A launcher gives each process
            its own.

    Raises:
        ArgumentError: the device is not here.
        RecipeMismatchError: `out` holds a run of another recipe. DivergedError: the loss became NaN or infinite; the
        batch is saved in `out`. TooManyBadItemsError: more unreadable pairs than `max_bad`. DiskFullError: a checkpoint
        could not be written; the one before it is whole. And those of `zoo.training.checks`.
    """
    out = Path(out)
    check_unread(pairs, recipe, held_out, loss)
    accelerator = make_accelerator(trackers, out)
    place = device_of(accelerator, device)
    first, facts, bar = stages_of(recipe)[0], dict(data or {}), None if progress and world()[0] == 0 else False
    for stage in stages_of(recipe):
        if stage.combiner:
            add_combiner(model, stage.combiner, stage.seed)
        check_run(model, of_datasets(pairs, stage.datasets), stage, loss or build_loss(stage.loss))
    pairs = set_aside(pairs, first.max_bad, progress=bar)
    told_rows = [told_aside(pairs, out), *uneven_lines(pairs, recipe, loss)]
    pairs, held_out = hold_out(pairs, held_out, first)
    if held_out is not None and root_of(held_out) is None:
        held_out = set_aside(held_out, first.max_bad, progress=bar)
    stages = []
    for stage in stages_of(recipe):
        check_rows(of_stage(pairs, stage), stage, loss or build_loss(stage.loss))
        stages.append(planned(stage, of_stage(pairs, stage)))
        if lines := truncated(model, of_stage(pairs, stage), stage):
            facts[f"texts of {stage.name}"] = lines
            _say(lines, progress)
    if held_out is not None and (told := told_held_out(held_out)):
        facts["held out"] = told.removeprefix("held out: ")
        _say([told], progress)
    if "schema" not in (data or {}):  # which the command has shown
        _say([*unread_lines(pairs, recipe), *filter(None, told_rows)], progress)
    claim(out, stages, pairs, resume)
    list_aside(out, pairs, held_out)
    start_trackers(accelerator, stages)
    model.to(place)
    broadcast(model)
    answers = known_answers(pairs)
    scoring = Scoring(out, model, held_out, role_prefixes(model, stages[-1]), resume=resume, progress=progress)
    scoring.before()
    offset, before = None if len(stages) == 1 else 0, None
    for number, stage in enumerate(stages):
        folder = out if len(stages) == 1 else out / f"stage-{number + 1}-{stage.name}"
        mine = of_stage(pairs, stage)
        options = {"answers": answers_in(answers, pairs, mine), "progress": progress, "offset": offset}
        before = _train_stage(model, mine, stage, folder, loss, accelerator, before=before, **options)
        offset = None if offset is None else offset + stage.steps
    scoring.after()
    write_model(model, out, stages, name, scoring, {**facts, "pairs": len(pairs)}, report=report)
    accelerator.end_training()
    return model


def _say(lines: Sequence[str], progress: bool) -> None:
    for line in lines if progress else ():
        say(line)


def _train_stage(
    model: Embedder,
    pairs: Sequence[Pair] | PairTable,
    recipe: Recipe,
    folder: Path,
    loss: Loss | None,
    accelerator: Any,
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
    if recipe.distillation is not None:
        learn_text(model, pairs, recipe, folder)
    # Before the run is resumed: a model that is its own teacher is so as the stage found it.
    teacher = teacher_vectors(model, pairs, recipe, folder, loss or build_loss(recipe.loss), progress=progress)
    with first_projection(model, recipe) as solve:
        torch.manual_seed(recipe.seed * STRIDE)  # of a loss with layers of its own
        stage_loss = (loss or build_loss(recipe.loss)).to(model.device)
        run = Run(model, recipe, stage_loss, sharded=sharding.wanted(), before=before)
        if (state := last_checkpoint(folder / "checkpoints")) is not None:
            run.load(state)
        feed = make_feed(
            model, pairs, recipe, folder, progress=progress, teacher=teacher, answers=answers, loss=stage_loss
        )
        if progress and not stop:
            if run.begins and state is None:
                say(f"{recipe.name}: {run.begins}")
            say(f"{recipe.name}: {repeats(feed, stage_loss)}")
        log = Log(folder, run, recipe, accelerator, main=rank == 0, progress=progress, offset=offset)
        begun = run.step
        batches = feed.batches(run.step, run.step if stop else recipe.steps)
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                break
            waited = time.perf_counter() - asked
            try:
                figures = run.advance(batch)
            except DivergedError as error:
                where = save_offender(folder, run, batch, pairs)
                raise DivergedError(f"{error}; the batch is in {where}") from error
            log.step(figures, len(batch.queries) * processes, waited)
            if run.step % recipe.checkpoint_every == 0 or run.step == recipe.steps:
                state = run.state()
                if rank == 0:
                    save_checkpoint(folder / "checkpoints", run.step, state)
        share = log.close()
        if rank == 0 and run.step > begun:
            facts = {"waiting_for_data": share, "micro_batch": run.micro_batch, "processes": processes}
            write_json(folder / "timing.json", facts)
        conclude(run, folder)
        if solve is not None:
            solve(feed)
    wait_for_all()
    return Before(recipe.name, stage_loss)


def make_feed(
    model: Embedder,
    pairs: Sequence[Pair] | PairTable,
    recipe: Recipe,
    folder: Path,
    *,
    progress: bool,
    teacher: Teacher | None = None,
    answers: Answers | None = None,
    loss: Loss | None = None,
) -> Feed:
    """The batches of a stage: zoo-mini's own where the recipe says how pictures are fed, else those of any pairs.

    Args:
        answers: what is right for what, of these rows; read from them by default. loss: in place of the recipe's.
    """
    rank, processes = world()
    sampler = sampler_of(pairs, recipe)
    answers = known_answers(pairs) if answers is None else answers
    if recipe.pictures is not None:
        return PictureFeed(PictureData(pairs, model, recipe.pictures.store_size, answers), model, recipe, sampler)
    sound = root_of(pairs)
    skipped = Skipped(
        folder / ("skipped.jsonl" if rank == 0 else f"skipped-{rank}.jsonl"),
        recipe.max_bad,
        len(pairs) if sound is None else sound.inputs,
        None if sound is None else sound.bad,
    )
    return PairFeed(
        pairs,
        model,
        recipe,
        sampler,
        skipped,
        vectors=frozen_vectors(model, pairs, recipe, folder, progress=progress),
        teacher=teacher,
        answers=answers,
        all_positives=(loss or build_loss(recipe.loss)).all_positives,
        rank=rank,
        world=processes,
    )


def sampler_of(pairs: Sequence[Pair] | PairTable, recipe: Recipe) -> BatchSampler:
    """Which rows make the batches of a stage."""
    options = {"batch_size": recipe.batch_size, "seed": recipe.seed, "steps": recipe.steps}
    return build_sampler(recipe.sampler, pairs=pairs, blocks=block_numbers(pairs), **options)


def planned(recipe: Recipe, pairs: Sequence[Pair] | PairTable) -> Recipe:
    """The recipe with its steps worked out from its epochs: a sampler knows how many batches an epoch has."""
    if recipe.steps is not None:
        return recipe
    return replace(recipe, steps=max(1, round(recipe.epochs * sampler_of(pairs, recipe).steps_per_epoch)))


def of_stage(pairs: Sequence[Pair] | PairTable, recipe: Recipe) -> Sequence[Pair] | PairTable:
    """The rows of the data sets that the stage names, without those that have no hard negative where it says so."""
    if not recipe.datasets and recipe.without_negatives == "keep":
        return pairs
    mine = of_datasets(pairs, recipe.datasets)
    return mine if recipe.without_negatives == "keep" else Selection(pairs, with_negatives(pairs, mine.rows))


def list_aside(out: Path, pairs: Sequence[Pair] | PairTable, held_out: Sequence[Pair] | PairTable | None) -> None:
    """Lists in skipped.jsonl what was set aside, of the pairs and of those that are held out."""
    if world()[0] == 0:
        for part, facts in ((pairs, {}), (held_out, {"held_out": True})):
            if (sound := root_of(part)) is not None and sound.bad:
                list_skipped(out / "skipped.jsonl", sound.bad, **facts)


def answers_in(answers: Answers, pairs: Sequence[Pair] | PairTable, part: Any) -> Answers:
    """What is right for what among `part`, which `of_stage` gave of the pairs; all pairs still tell it."""
    return answers if part is pairs else answers.at(part.rows)


def finish(
    model: Embedder,
    pairs: Sequence[Pair] | PairTable,
    out: Path,
    *,
    held_out: Sequence[Pair] | PairTable | None = None,
    name: str | None = None,
    report: bool = True,
    device: str | torch.device | None = None,
) -> int:
    """Writes the model of a run that was stopped, from its last whole checkpoint; returns the step it had reached."""
    out = Path(out)
    state = last_checkpoint(out / "checkpoints")
    if state is None:
        raise RecipeMismatchError(f"{out} holds no checkpoint of a run of one stage; name the folder given to --out")
    recipe = Recipe.from_dict(json.loads((out / "recipe.json").read_text(encoding="utf-8"))["stages"][0])
    pairs, held_out = hold_out(set_aside(pairs, recipe.max_bad), held_out, recipe)
    if recipe.combiner:
        add_combiner(model, recipe.combiner, recipe.seed)
    accelerator = make_accelerator((), out)
    model.to(device_of(accelerator, device))
    scoring = Scoring(out, model, held_out, role_prefixes(model, recipe), resume=True, progress=False)
    options = {"answers": known_answers(pairs), "progress": False, "stop": True}
    _train_stage(model, pairs, recipe, out, None, accelerator, **options)
    scoring.after()
    write_model(model, out, [recipe], name, scoring, {"pairs": len(pairs)}, report=report)
    return state["step"]


def claim(out: Path, stages: Sequence[Recipe], pairs: Sequence[Pair] | PairTable, resume: bool) -> None:
    """Notes the recipe in the folder of a new run; for a resumed one, checks that it and the data are the same.

    Raises:
        RecipeMismatchError: the folder holds a run already and `resume` is not set, or a run of another recipe or of
        other pairs.
    """
    path, facts = out / "recipe.json", {"stages": [stage.to_dict() for stage in stages], "data": _digest(pairs)}
    found = path.is_file()
    wait_for_all()  # every process has looked before the first one writes
    if not found:
        if world()[0] == 0:
            out.mkdir(parents=True, exist_ok=True)
            write_json(path, facts)
        return
    old = json.loads(path.read_text(encoding="utf-8"))
    if not resume:
        raise RecipeMismatchError(f"{out} already holds a run; pass resume=True (--resume) or another folder")
    if old.get("data") != facts["data"]:
        raise RecipeMismatchError(
            f"{out} holds a run on other pairs; name another folder, or give the pairs of that run"
        )
    if old.get("stages") != facts["stages"]:
        changed = _difference(old.get("stages", []), facts["stages"])
        raise RecipeMismatchError(f"{out} holds a run with other {changed}; name another folder")


def _digest(pairs: Sequence[Pair] | PairTable) -> str:
    """Tells other pairs from these: how many there are, and what some of them hold."""
    digest = hashlib.sha256(str(len(pairs)).encode())
    for pair in sample_of(pairs, _DIGESTED):
        for item in pair.items():
            try:
                digest.update(item_key(item))
            except InputError:
                continue
    return digest.hexdigest()[:16]


def _difference(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> str:
    if len(old) != len(new):
        return f"stages ({len(old)}, not {len(new)})"
    changed = {name for a, b in zip(old, new, strict=True) for name in {*a, *b} if a.get(name) != b.get(name)}
    return ", ".join(sorted(changed))
