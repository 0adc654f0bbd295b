"""What `zoo train` does with its options."""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from zoo.arguments import device as device_here
from zoo.cli._shared import DEFAULT_MODEL, assignment, print_json, print_table, reading, source, spelled, waiting
from zoo.errors import ZooError
from zoo.registry import LIKE, build_model, get_spec, load_model
from zoo.tables import PACKS, open_held_out, open_sources
from zoo.tables.pairs import Pair, PairTable

from .checks import is_place
from .finishing import hold_out, slug
from .gather import is_main, say
from .losses.base import describe_losses
from .recipe import Recipe, RecipeError, stages_of
from .recipes import RECIPES, get_recipe
from .rehearsal import rehearse
from .rows import set_aside, told_aside, uneven_lines
from .samplers import describe_samplers
from .trainer import finish, of_stage, train
from .unread import check_unread, unread_lines

# Options of the command that are fields of the recipe.
_FIELDS = [
    "loss",
    "sampler",
    "epochs",
    "steps",
    "batch_size",
    "micro_batch",
    "negatives",
    "lr",
    "schedule",
    "warmup",
    "layer_decay",
    "ema",
    "precision",
    "teacher",
    "seed",
    "checkpoint_every",
    "holdout",
    "augment",
    "max_bad",
    "without_negatives",
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
    """Reads the pairs, shows what they are, and trains."""
    recipe = _recipe(arguments)
    device = None if arguments.device is None else device_here("--device", arguments.device)
    first = stages_of(recipe)[0]
    pairs, held_out = _pairs(arguments), _held_out(arguments)
    schemas = [*pairs.schemas, *(held_out.schemas if held_out is not None else ())]
    for schema in schemas[len(pairs.schemas) :]:
        say(f"held out: {schema}")
    check_unread(pairs, recipe, held_out)
    for line in unread_lines(pairs, recipe, shown=True):
        say(line)
    name = arguments.model or first.model or DEFAULT_MODEL
    _check_name(name)
    bar = None if is_main() else False
    rows = set_aside(pairs, first.max_bad, progress=bar)
    held_out = None if held_out is None else set_aside(held_out, first.max_bad, progress=bar)
    for line in filter(
        None, (told_aside(rows, None if arguments.dry_run else arguments.out), *uneven_lines(rows, recipe))
    ):
        say(line)
    ignored = {column for schema in schemas for column in schema.ignored}
    settings = [key for key in arguments.ignore if key not in ignored]  # the others are a checkpoint's
    torch.manual_seed(first.seed)
    with waiting(f"loading {name}") if is_main() else contextlib.nullcontext():
        scratch = arguments.from_scratch or bool(first.model)
        if scratch and settings:
            raise ZooError(f"--ignore {settings[0]}: there is no such column, and no checkpoint is read")
        model = build_model(name) if scratch else load_model(source(name), device="cpu", ignore=settings)
    say(f"{name}: {len(rows):,} pairs" + (f", {len(held_out):,} held out" if held_out is not None else ""))
    stages = [replace(stage, model=stage.model or name) for stage in stages_of(recipe)]
    if arguments.batch_size is None:
        stages = _fitted(stages, hold_out(rows, held_out, first)[0])
    finished = name if first.model == name else slug(arguments.out.resolve().name) if arguments.out else None
    if arguments.dry_run:
        return _report(rehearse(model, rows, stages, held_out=held_out, device=device))
    if arguments.finish:
        step = finish(model, rows, arguments.out, held_out=held_out, name=finished, device=device)
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
            data=_data_facts(arguments, pairs),
            resume=arguments.resume,
            trackers=() if trackers == ["none"] else trackers,
            device=device,
        )
    except KeyboardInterrupt:
        if is_main():
            print(f"stopped; go on with --resume (checkpoints are in {arguments.out})", file=sys.stderr)
        raise
    report = arguments.out / "report.html"
    say(f"model written to {arguments.out}; open it with load_model({_loadable(arguments.out)!r}); see {report}")
    return 0


def _recipe(arguments: argparse.Namespace) -> Recipe | tuple[Recipe, ...]:
    """The named recipe with the options' changes."""
    changes: dict[str, Any] = {f: v for f in _FIELDS if (v := getattr(arguments, f)) is not None}
    if "teacher" in changes:
        changes["teacher"] = spelled(changes["teacher"])
    if arguments.betas:
        changes["betas"] = tuple(_number(beta) for beta in arguments.betas.split(","))
    if arguments.freeze:
        changes["freeze"] = tuple(arguments.freeze)
    if arguments.rate:
        changes["rates"] = tuple((pattern, _number(factor)) for pattern, factor in map(assignment, arguments.rate))
    return get_recipe(arguments.recipe)(**changes)


def _fitted(stages: Sequence[Recipe], pairs: Sequence[Pair] | PairTable) -> list[Recipe]:
    """The recipe's own batch size gives way to few pairs; the user's does not."""
    return [replace(s, batch_size=max(2, min(s.batch_size, len(of_stage(pairs, s))))) for s in stages]


def _pairs(arguments: argparse.Namespace) -> PairTable:
    """The pairs of all data arguments; the schema is printed, and rows that cannot serve are named."""
    sources = list(arguments.data)
    if not sources:
        if not stages_of(get_recipe(arguments.recipe)())[0].model:
            raise ZooError("name the pairs to learn from: a file, a folder, hf:org/dataset or pack:photos")
        sources = [f"pack:{pack}" for pack in PACKS]
    pairs = open_sources(sources, reading(arguments))
    for schema in pairs.schemas:
        say(str(schema))
    return pairs


def _held_out(arguments: argparse.Namespace) -> PairTable | None:
    """The pairs of `--held-out`, None without it."""
    return open_held_out(arguments.held_out, reading(arguments)) if arguments.held_out else None


def _data_facts(arguments: argparse.Namespace, pairs: PairTable) -> dict[str, Any]:
    return {
        "sources": [str(source) for source in arguments.data] or [f"pack:{pack}" for pack in PACKS],
        "datasets": list(pairs.names),
        "schema": [str(schema) for schema in pairs.schemas],
        "command": "zoo train " + shlex.join(sys.argv[2:] if sys.argv[1:2] == ["train"] else sys.argv[1:]),
    }


def _report(facts: dict[str, Any]) -> int:
    facts.pop("rows", None)  # which were said
    # Too long for a cell.
    sentences = {name: value for name, value in facts.items() if name.endswith((": texts", ": what repeats"))}
    for text in sentences.values():
        say(text)
    print_table(["checked", ""], [[name, str(value)] for name, value in facts.items() if name not in sentences])
    return 0


def _check_name(name: str) -> None:
    """Raises UnknownModelError for a name of no model: the rows are looked at before one is loaded."""
    place = source(name)
    if isinstance(place, str) and LIKE not in place and not is_place(place):
        get_spec(place)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RecipeError(f"{text!r} is no number") from None


def _loadable(out: Path) -> str:
    text = str(out)
    return text if text.startswith(("./", "../", "/", "~")) else f"./{text}"
