"""Measure what a model's scores mean, and when nothing fits.

Afterwards scores of different kinds can be compared, and a page can say that nothing fits.

On pairs that belong together, as `zoo eval --pairs` reads them (the validation rows if there are any), it measures two things for every pair
of kinds: how similar the model finds items that do not belong together (mean and scale), and the score that 95 % of right
answers exceed (nothing). A best match below that score answers nothing. The table also says how often this verdict is right here: of queries
whose answers were removed (told), and how often it is wrong, of queries that have one (missed).

Several --pairs form one corpus: recordings and images that no table pairs are measured too, and count as right answers to each
other if the same text or name belongs to both. If fewer than 30 have such an answer, the value stays open ("-"). Items of one kind
look for others of their group.

A search among several kinds ranks by (score - mean) / scale; `zoo eval --mixed` measures what that changes.

--write keeps the result in the config.json of a model's folder, where `zoo search` and `zoo demo` read it; no vector changes. A certificate in that
folder no longer matches: make a new one with `zoo verify FOLDER --write`.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli._pairs import tell_left_out
from zoo.cli._shared import (
    add_device,
    add_like,
    add_pair_options,
    check_output,
    print_json,
    print_table,
    source,
    waiting,
)
from zoo.errors import ZooError
from zoo.strangers.folders import Place

if TYPE_CHECKING:
    from zoo.evaluation.calibration import Measured

EXAMPLES = (
    "zoo calibrate zoo-mini --pairs pack:photos",
    "zoo calibrate ./runs/mine --pairs captions.csv --split val --write",
    "zoo calibrate siglip2-vit-b16-256 --pairs hf:org/name --json",
    "zoo calibrate ./omni --pairs pack:photos --pairs pack:audio --pairs pack:video --write   # also audio>image, image>video, …",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo calibrate`."""
    parser.add_argument("model", metavar="NAME", help="anything that load_model opens: a name, ./FOLDER, hf:ORG/REPO")
    parser.add_argument(
        "--pairs",
        required=True,
        action="append",
        metavar="[NAME=]SOURCE",
        help="a table of pairs, or pack:NAME; repeat: all are one corpus",
    )
    parser.add_argument("--split", metavar="S", help="of the pairs (default: val where there is one, else all)")
    add_like(parser)
    add_device(parser, "or this column of the pairs; ")
    add_pair_options(parser)
    parser.add_argument("--max-bad", metavar="N|P%", help="fail if more rows of --pairs cannot be measured")
    parser.add_argument("--write", action="store_true", help="keep it in the config.json of the model's folder")
    parser.add_argument("--json", action="store_true", help="for machines, on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Measures every pair of kinds, prints, and writes if asked to."""
    from zoo.cli._pairs import corpus_of, read_all
    from zoo.evaluation.calibration import calibrate_all
    from zoo.loading import load_model
    from zoo.tables.ignoring import settings_to_ignore

    name = source(arguments.model)
    config = _config(arguments.model) if arguments.write else None
    sides = read_all(arguments, arguments.pairs, validation=True)
    tables = [one.pairs for one in sides]
    with waiting(f"loading {arguments.model}"), settings_to_ignore(arguments.ignore, *tables) as settings:
        model = load_model(name, device=arguments.device, ignore=settings)
    with waiting(f"comparing {sum(len(one.queries) for one in sides):,} pairs"):
        found, left_out = calibrate_all(model, corpus_of(sides))
    tell_left_out(left_out)
    if arguments.json:
        print_json([_facts(one) for one in found])
    else:
        headers = ("way", "mean", "scale", "nothing", "queries", "documents", "told", "missed")
        print_table(headers, [_row(one) for one in found], numbers=headers[1:])
    if config is not None:
        _write(config, {one.pair: one.calibration.to_dict() for one in found})
    return 0


def _facts(one: "Measured") -> dict[str, object]:
    return {**vars(one), "calibration": one.calibration.to_dict()}


def _row(one: "Measured") -> tuple[str, ...]:
    numbers = ("-" if value is None else f"{value:.4f}" for value in vars(one.calibration).values())
    shares = ("-" if share is None else f"{share:.1%}" for share in (one.empty, one.missed))
    return (one.pair, *numbers, f"{one.queries:,}", f"{one.documents:,}", *shares)


def _config(model: str) -> Path:
    """config.json of a folder of ours; raises ZooError where there is none, before anything is measured."""
    path = Path(model).expanduser() / "config.json"
    try:
        ours = _read(path).get("model_type") == "zoo"
    except (OSError, ValueError, AttributeError):
        ours = False
    if ours:
        check_output(path)
        return path
    raise ZooError(
        f"--write keeps it in a folder of the zoo's own layout, and {model} is none: load_model(...).save_pretrained makes one"
    )


def _read(path: Path) -> dict[str, Any]:
    """What config.json holds; raises UnsafeFolderError where it is a link, which would be replaced by a file."""
    return (Place.of(path.parent) / path.name).read_json()


def _write(path: Path, found: dict[str, dict[str, float | None]]) -> None:
    from zoo.files import write_json

    config = _read(path)
    config["calibration"] = dict(sorted({**config.get("calibration", {}), **found}.items()))
    write_json(path, config)
    print(f"{path}: calibration of {', '.join(found)} is written", file=sys.stderr)
    if (path.parent / "certificate.json").exists():
        print(f"next: zoo verify {path.parent} --write, for the certificate is of the file before", file=sys.stderr)
