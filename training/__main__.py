"""`python -m zoo.training NAME`: runs a named recipe on the data packs."""

import argparse
import json
import sys
from pathlib import Path

import torch

from zoo.errors import ZooError
from zoo.registry import build_model

from .data import PACKS, pack_pairs
from .recipes import RECIPES
from .trainer import finish, train

EPILOG = """examples:
  python -m zoo.training zoo-mini --out runs/zoo-mini            train the packaged model (about an hour on two cores)
  python -m zoo.training zoo-mini --out runs/zoo-mini --resume   go on where a stopped run was
  python -m zoo.training zoo-mini --out runs/zoo-mini --finish   write the model of a stopped run as it is now
  python -m zoo.training zoo-mini --show                         print the recipe and stop
  python -m zoo.training mini-test --out /tmp/try --packs emoji  half a minute, to see it work

The packs are read from the folder in the environment variable ZOO_DATA, by default ../shared/data beside the checkout.
"""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    arguments = argparse.ArgumentParser(
        prog="python -m zoo.training",
        description="Trains a model by a named recipe on the train splits of the data packs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("recipe", choices=sorted(RECIPES), help="which recipe")
    arguments.add_argument("--out", type=Path, help="folder of the run: recipe, checkpoints, finished model")
    arguments.add_argument(
        "--packs",
        nargs="+",
        choices=PACKS,
        default=list(PACKS),
        help="packs to learn from; one named twice comes twice as often",
    )
    arguments.add_argument("--steps", type=int, help="steps instead of the recipe's")
    arguments.add_argument("--seed", type=int, help="seed instead of the recipe's")
    arguments.add_argument("--resume", action="store_true", help="go on from the last whole checkpoint in --out")
    arguments.add_argument("--finish", action="store_true", help="write the model from the last checkpoint and stop")
    arguments.add_argument("--show", action="store_true", help="print the recipe as JSON and stop")
    return arguments


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options = parser().parse_args(arguments)
    changes = {name: value for name in ("steps", "seed") if (value := getattr(options, name)) is not None}
    try:
        recipe = RECIPES[options.recipe](**changes)
        if options.show:
            print(json.dumps(recipe.to_dict(), indent=2))
            return 0
        if options.out is None:
            parser().error("--out is needed: the folder for checkpoints and the finished model")
        torch.manual_seed(recipe.seed)
        model = build_model(recipe.model)
        pairs = pack_pairs("train", options.packs)
        if options.finish:
            print(f"model of step {finish(model, pairs, options.out)} written to {options.out}")
            return 0
        print(f"{recipe.model}: {len(pairs):,} pairs, {recipe.steps:,} steps of {recipe.batch_size}", flush=True)
        train(model, pairs, recipe, options.out, resume=options.resume)
    except (ZooError, ValueError) as error:
        print(f"zoo.training: {error}", file=sys.stderr)
        return 1
    print(f"model written to {options.out}; open it with load_model(Path({str(options.out)!r}))")
    return 0


if __name__ == "__main__":
    sys.exit(main())
