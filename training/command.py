"""What `zoo train` does with its options."""

import argparse
import contextlib
import re
import shlex
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from zoo.arguments import device as device_here
from zoo.cli._rerank import meant, of_reranker
from zoo.cli._shared import (
    DEFAULT_MODEL,
    assignment,
    check_folder,
    print_json,
    print_table,
    reading,
    source,
    spelled,
    waiting,
)
from zoo.embedder import Embedder
from zoo.errors import ZooError
from zoo.loading import load_model
from zoo.registry import build_model, is_registered
from zoo.reranking import Reranker, build_reranker, get_reranker_spec, load_reranker
from zoo.tables import PACKS, open_held_out, open_sources
from zoo.tables.ignoring import settings_to_ignore
from zoo.tables.options import check_format
from zoo.tables.pairs import Pair, PairTable

from .claims import check_free, is_finished
from .dry_run import rehearse
from .errors import RecipeError
from .finalize import hold_out, slug
from .gather import is_main, say
from .losses.building import describe_losses
from .losses.by_data import loss_of
from .outside import is_place
from .recalling import Recalled
from .recipe import Recipe, stages_of
from .recipes import RECIPES, get_recipe
from .rows import set_aside, told_aside, uneven_lines
from .samplers import describe_samplers
from .trainer import finish, of_stage, planned, train
from .unread import check_unread, unread_lines

# Options of the command that are fields of the recipe.
_FIELDS = [
    "sampler",
    "epochs",
    "steps",
    "batch_size",
    "micro_batch",
    "negatives",
    "random_negatives",
    "lr",
    "schedule",
    "warmup",
    "layer_decay",
    "region",
    "ema",
    "precision",
    "teacher",
    "seed",
    "checkpoint_every",
    "holdout",
    "augment",
    "views",
    "max_bad",
    "without_negatives",
    "evaluate_every",
    "evaluate_minutes",
    "keep",
    "patience",
    "keep_leaks",
    "keep_checkpoints",
]


def show_names() -> int:
    """Prints recipes, losses and samplers with a line each."""
    recipes = [[name, (make.__doc__ or "").split("\n")[0]] for name, make in RECIPES.items()]
    print_table(["recipe", "what it does"], recipes)
    print()
    print_table(["loss", "what it does"], describe_losses())
    print()
    print_table(["sampler", "what it does"], describe_samplers())
    return 0


def show_recipe(arguments: argparse.Namespace) -> int:
    """Prints the recipe as JSON: a list of stages."""
    print_json([stage.to_dict() for stage in stages_of(_recipe(arguments))])
    return 0


def start(arguments: argparse.Namespace) -> int:
    """Trains, or goes on with the run that lies in `--out`: what is not said anew is as it was said then."""
    if arguments.dry_run and not is_main():
        return 0  # one process is enough to look
    recalled = Recalled(arguments)
    if arguments.out is None and not arguments.dry_run:
        raise ZooError("--out is needed: the folder for checkpoints, curves and the finished model")
    if arguments.out is not None:
        check_folder(arguments.out)
    if not (arguments.resume or arguments.finish or arguments.dry_run):
        check_free(arguments.out)
    if arguments.resume and recalled.unchanged and is_finished(arguments.out):
        return _finished(arguments.out)
    with recalled.in_place():
        return _start(arguments, recalled)


def _start(arguments: argparse.Namespace, recalled: Recalled) -> int:
    """Reads the pairs, shows what they are, and trains."""
    named = stages_of(_recipe(arguments))
    device = None if arguments.device is None else device_here("--device", arguments.device)
    recipe = recalled.stages(_changes(arguments, recalled.given)) if recalled.recipe else named
    name = arguments.model or named[0].model or DEFAULT_MODEL
    reranks = _is_reranker(name, recipe)
    if not reranks:
        source(name)  # a name of no model is reported before the rows are looked at
    pairs, held_out = _opened(arguments, recalled)
    tables = [table for table in (pairs, held_out) if table is not None]
    check_unread(pairs, recipe, held_out)
    for line in unread_lines(pairs, recipe, shown=True):
        say(line)
    bar = None if is_main() else False
    rows = set_aside(pairs, recipe[0].max_bad, progress=bar)
    held_out = None if held_out is None else set_aside(held_out, recipe[0].max_bad, progress=bar)
    for line in filter(
        None, (told_aside(rows, None if arguments.dry_run else arguments.out), *uneven_lines(rows, recipe))
    ):
        say(line)
    stages = [replace(stage, model=stage.model or name) for stage in recipe]
    learned = hold_out(rows, held_out, stages[0])[0]
    if arguments.batch_size is None and not recalled.recipe:
        stages = _fitted(stages, learned)
    if arguments.resume and is_finished(arguments.out, [planned(stage, of_stage(learned, stage)) for stage in stages]):
        return _finished(arguments.out)
    torch.manual_seed(stages[0].seed)
    loading = waiting(f"loading {name}") if is_main() else contextlib.nullcontext()
    with loading, settings_to_ignore(arguments.ignore, *tables) as settings:
        scratch = arguments.from_scratch or bool(named[0].model)
        if scratch and settings:
            raise ZooError(f"--ignore {settings[0]}: there is no such column, and no checkpoint is read")
        model = _model(name, reranks, scratch, settings)
    say(f"{name}: {len(rows):,} pairs" + (f", {len(held_out):,} held out" if held_out is not None else ""))
    finished = name if named[0].model == name else slug(arguments.out.resolve().name) if arguments.out else None
    if arguments.dry_run:
        return _report(rehearse(model, rows, stages, held_out=held_out, device=device))
    facts = _data_facts(arguments, recalled, pairs)
    if arguments.finish:
        options = {"data": facts, "progress": True, "device": device, "allow_outside": True}  # as `recalled` allowed
        step = finish(model, rows, arguments.out, held_out=held_out, name=finished, **options)
        say(f"model of step {step} written to {arguments.out}")
        return 0
    trackers = arguments.log or ["tensorboard"]
    try:
        train(
            model,
            rows,
            stages,
            arguments.out,
            held_out=held_out,
            name=finished,
            data=facts,
            resume=arguments.resume,
            trackers=() if trackers == ["none"] else trackers,
            device=device,
        )
    except KeyboardInterrupt:
        if is_main():
            print(f"stopped; go on with: zoo train --resume {shlex.quote(str(arguments.out))}", file=sys.stderr)
        raise
    report = arguments.out / "report.html"
    say(f"model written to {arguments.out}; open it with {_opening(arguments.out)}; see {report}")
    return 0


def _finished(out: Path) -> int:
    say(
        f"{out}: finished already; open the model with {_opening(out)}, or lengthen the run with more "
        "--epochs or --steps"
    )
    return 0


def _is_reranker(name: str, recipe: Sequence[Recipe]) -> bool:
    """Whether what a NAME opens is a reranker: its name or its files say so, or of a place elsewhere the loss.

    Raises:
        UnknownModelError: no reranker has this name.
    """
    wanted = all(loss_of(stage).trains == "rerankers" for stage in recipe) and not is_registered(name)
    if meant(name) or (wanted and not (is_place(name) or Path(name).is_dir())):
        get_reranker_spec(name)
        return True
    return of_reranker(name) or (wanted and is_place(name))


def _model(name: str, reranks: bool, scratch: bool, settings: Sequence[str]) -> Embedder | Reranker:
    """What is trained, on the CPU."""
    if reranks:
        return build_reranker(name) if scratch else load_reranker(spelled(name), device="cpu", ignore=settings)
    return build_model(name) if scratch else load_model(source(name), device="cpu", ignore=settings)


def _opened(arguments: argparse.Namespace, recalled: Recalled) -> tuple[PairTable, PairTable | None]:
    """The pairs to learn and those held out, as the arguments name them; their schemas are printed."""
    try:
        pairs, held_out = _pairs(arguments), _held_out(arguments)
        check_format(reading(arguments), pairs, *([held_out] if held_out is not None else []))
    except ZooError as error:
        if recalled.recipe is None or "data" in recalled.given:
            raise
        began = f"the run in {arguments.out} began in {recalled.folder} with: {recalled.began}"
        raise ZooError(f"{error}\n({began}; where its data have moved, name them)") from error
    for schema in held_out.schemas if held_out is not None else ():
        say(f"held out: {schema}")
    return pairs, held_out


def _recipe(arguments: argparse.Namespace) -> Recipe | tuple[Recipe, ...]:
    """The named recipe with the options' changes."""
    return get_recipe(arguments.recipe)(**_changes(arguments))


def _changes(arguments: argparse.Namespace, given: Collection[str] | None = None) -> dict[str, Any]:
    """Fields of the recipe that options set; only those of some options, where these are named."""
    options = vars(arguments) if given is None else {name: getattr(arguments, name) for name in given}
    changes: dict[str, Any] = {field: options[field] for field in _FIELDS if options.get(field) is not None}
    if "teacher" in changes:
        teacher = changes["teacher"]
        changes["teacher"] = teacher if meant(teacher) else spelled(teacher)
    plain, by_data = _losses(options.get("loss") or [])
    changes |= ({"loss": plain} if plain else {}) | ({"losses": by_data} if by_data else {})
    if options.get("betas"):
        changes["betas"] = tuple(_number(beta) for beta in options["betas"].split(","))
    if options.get("freeze"):
        changes["freeze"] = tuple(options["freeze"])
    if options.get("rate"):
        changes["rates"] = tuple((pattern, _number(factor)) for pattern, factor in map(assignment, options["rate"]))
    return changes


def _losses(written: Sequence[str]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Of --loss the one for all data, "" without it, and those for some: `retrieval*=infonce(temperature=0.02)`."""
    named = [re.fullmatch(r"([^(=:\s]+)=(.+)", text) for text in written]
    plain = [text for text, found in zip(written, named, strict=True) if found is None]
    if len(plain) > 1:
        raise ZooError(
            f"--loss {plain[0]} and --loss {plain[1]}: give one, or say for which data: --loss 'sts*={plain[1]}'"
        )
    return "".join(plain), tuple((found[1], found[2]) for found in named if found is not None)


def _fitted(stages: Sequence[Recipe], pairs: Sequence[Pair] | PairTable) -> list[Recipe]:
    """The recipe's own batch size gives way to few pairs; the user's does not."""
    return [replace(s, batch_size=max(2, min(s.batch_size, len(of_stage(pairs, s))))) for s in stages]


def _pairs(arguments: argparse.Namespace) -> PairTable:
    """The pairs of all data arguments; the schema is printed."""
    sources = list(arguments.data)
    if not sources:
        sources = _own_sources(arguments)
    pairs = open_sources(sources, reading(arguments))
    for schema in pairs.schemas:
        say(str(schema))
    return pairs


def _own_sources(arguments: argparse.Namespace) -> list[str]:
    """The data packs that a recipe names, all that have images for one that names a model alone.

    Raises:
        ZooError: a recipe for anybody's pairs.
    """
    stages = stages_of(get_recipe(arguments.recipe)())
    if not stages[0].model:
        raise ZooError("name the pairs to learn from: a file, a folder, hf:org/dataset or pack:photos")
    named = dict.fromkeys(pack for stage in stages for pack in stage.datasets or PACKS)
    return [f"pack:{pack}" for pack in named]


def _held_out(arguments: argparse.Namespace) -> PairTable | None:
    """The pairs of `--held-out`, None without it."""
    return open_held_out(arguments.held_out, reading(arguments)) if arguments.held_out else None


def _data_facts(arguments: argparse.Namespace, recalled: Recalled, pairs: PairTable) -> dict[str, Any]:
    return {
        "sources": [str(source) for source in arguments.data] or _own_sources(arguments),
        "datasets": list(pairs.names),
        "schema": [str(schema) for schema in pairs.schemas],
        "command": recalled.told,
        "started": recalled.notes,
    }


def _report(facts: dict[str, Any]) -> int:
    facts.pop("rows", None)  # which were said
    # Too long for a cell.
    long = (": texts", ": what repeats", ": batch normalisation")
    sentences = {name: value for name, value in facts.items() if name.endswith(long)}
    for text in sentences.values():
        say(text)
    print_table(["checked", ""], [[name, str(value)] for name, value in facts.items() if name not in sentences])
    return 0


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RecipeError(f"{text!r} is no number") from None


def _opening(out: Path) -> str:
    """The call that opens the model in a run's folder."""
    place = str(out) if str(out).startswith(("./", "../", "/", "~")) else f"./{out}"
    return f"{'load_reranker' if of_reranker(str(out)) else 'load_model'}({place!r})"
