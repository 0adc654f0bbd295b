"""Show what a model is like: its space, and how robust it is.

It measures the modality gap, alignment, uniformity, isotropy and hubness of the vectors, how similar long texts are to each other, and how much
recall@1 drops when inputs change: typos, paraphrases, other languages, JPEG, rotation and crops. docs/inspecting.md has the formulas.

It reads the data packs if they are here (environment variable ZOO_DATA), else the photos and recordings of the demo. --data takes pairs of
your own, as `zoo eval --pairs` does. What the model does not read is left out and reported.

--card keeps the figures with those of the model's card, and writes its block "What it is like".
"""

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli._shared import (
    add_device,
    add_like,
    add_pair_options,
    check_output,
    existing,
    positive,
    print_json,
    print_table,
    refuse_pair_options,
    source,
    waiting,
)
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.evaluation.inspecting import Inspection

EXAMPLES = (
    "zoo inspect zoo-mini",
    "zoo inspect ./runs/mine --html inspection.html",
    "zoo inspect zoo-mini --data captions.csv --column query_image=photo",
    "zoo inspect all-minilm-l6-v2 --json",
    "zoo inspect zoo-mini --card",
)

_NUMBERS = ("recall@1", "points lost", "cosine")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo inspect`."""
    parser.add_argument("model", metavar="NAME", help="anything that load_model opens: a name, ./FOLDER, hf:ORG/REPO")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="[NAME=]SOURCE",
        help="a table of pairs in place of the packs: a file, a folder, hf:ORG/NAME, pack:NAME; repeat",
    )
    parser.add_argument("--split", metavar="S", help="of --data (default: test where there is one, else val, else all)")
    parser.add_argument("--html", type=existing, metavar="FILE", help="write a page with small drawings")
    parser.add_argument("--json", action="store_true", help="the figures for machines on stdout")
    parser.add_argument("--card", action="store_true", help="keep the figures, and write the block of the model's card")
    parser.add_argument("--limit", type=positive, metavar="N", help="the most pairs of each data set (default: 500)")
    parser.add_argument(
        "--changed", type=positive, metavar="N", help="the most items of a side that are changed (default: 200)"
    )
    add_like(parser)
    add_device(parser, "or this column of --data; ")
    add_pair_options(parser)
    parser.add_argument("--max-bad", metavar="N|P%", help="fail where more rows of --data cannot be read")


def run(arguments: argparse.Namespace) -> int:
    """Measures, prints or writes; loads the data first, then the model."""
    name = source(arguments.model)
    check_output(arguments.html)
    if not arguments.data:
        refuse_pair_options(arguments, "pairs, and there are none: say --data", "split", "max_bad")
    from zoo.evaluation.cards import card_of
    from zoo.evaluation.inspecting import inspect_model
    from zoo.evaluation.inspecting.run import CHANGED, LIMIT
    from zoo.loading import load_model
    from zoo.tables.ignoring import settings_to_ignore

    if arguments.card and arguments.data:
        raise ZooError("--card is of the data packs, so that cards compare; leave --data out")
    card = card_of(name)[0] if arguments.card else None
    limit, changed = arguments.limit or LIMIT, arguments.changed or CHANGED
    pairs, tables = _data(arguments, limit) if arguments.data else (_demo(), [])
    with waiting(f"loading {arguments.model}"), settings_to_ignore(arguments.ignore, *tables) as settings:
        model = load_model(name, device=arguments.device, ignore=settings)
    found = inspect_model(model, pairs, limit=limit, changed=changed, source=_command(arguments))
    if card is not None:
        _keep(card, found)
    if arguments.html:
        _write(arguments.html, found.html)
    if arguments.json:
        print_json(found.to_dict())
    elif not arguments.html and card is None:
        _print(found)
    return 0


def _data(arguments: argparse.Namespace, limit: int) -> tuple[dict[str, Any], list[Any]]:
    """Samples of `--data` by name, and the tables that they are of."""
    from zoo.cli._pairs import read_all
    from zoo.evaluation.inspecting.material import Sample, spread

    sides = read_all(arguments, arguments.data)
    found: dict[str, Any] = {}
    for one in sides:
        groups = [group or str(number) for number, group in enumerate(one.groups)]
        rows = spread(list(zip(one.queries, one.targets, one.groups, strict=True)), groups, limit)
        queries, targets, kept = (list(column) for column in zip(*rows, strict=True))
        name = one.name if one.name not in found else f"{one.name} {len(found) + 1}"
        found[name] = Sample(name, one.split, queries, targets, kept)
    return found, [one.pairs for one in sides]


def _demo() -> "Mapping[str, Any] | None":
    """The demo's own images and recordings with their captions, where no data pack is here; None where one is."""
    from zoo.errors import MissingPackError
    from zoo.tables.pack_files import packs_folder

    try:
        packs_folder()
        return None
    except MissingPackError as error:
        from zoo.demos.samples import EXAMPLES as MORE
        from zoo.demos.samples import RECORDINGS, SAMPLES, installed
        from zoo.evaluation.inspecting.material import Sample
        from zoo.inputs.item import Item

        print(
            f"{error}; the demo's images and recordings are taken in their place, and figures of so few are rough",
            file=sys.stderr,
        )
        found = {}
        for name, kind, samples in (
            ("demo images", "image", (*SAMPLES, *MORE)),
            ("demo recordings", "audio", RECORDINGS),
        ):
            there = {sample.caption: path for path, sample in installed(samples)}
            texts = [Item(text=caption) for caption in there]
            found[name] = Sample(name, "", texts, [Item(**{kind: path}) for path in there.values()], [""] * len(there))
        return found


def _command(arguments: argparse.Namespace) -> str:
    """The command that gives the figures again; of folders and files their names alone, so that it tells nothing of this machine."""
    from zoo.tables import named_source

    folder = Path(arguments.model).expanduser()
    words = ["zoo", "inspect", f"./{folder.resolve().name}" if folder.is_absolute() else arguments.model]
    for one in arguments.data:
        name, place = named_source(one)
        place = str(place) if str(place).startswith(("hf:", "pack:")) else Path(place).name
        words += ["--data", f"{name}={place}" if name else place]
    for option in ("column", "ignore", "as_text", "split", "encoding", "separator", "limit", "changed"):
        value = getattr(arguments, option)
        for entry in value if isinstance(value, list) else [] if value is None else [value]:
            words += [f"--{option.replace('_', '-')}", str(entry)]
    return shlex.join(words)


def _keep(card: Path, found: "Inspection") -> None:
    """Writes the figures, and the block of the card from them."""
    from zoo.evaluation.inspecting.keeping import keep

    file = keep(card, found)
    print(f"{file} and the block of {card.name} are written", file=sys.stderr)


def _write(path: Path, text: str) -> None:
    from zoo.files import write

    try:
        write(path, text.encode("utf-8", "replace"))
    except OSError as error:
        raise ZooError(f"cannot write {path}: {error.strerror or error}") from error
    print(f"written: {path}", file=sys.stderr)


def _print(found: "Inspection") -> None:
    """The space, what changes cost, wording, languages and length: a table each."""
    from zoo.evaluation.inspecting.tasks import LANGUAGE, LENGTH, RECALL, ROBUSTNESS, SPACE, UNCHANGED, WORDING
    from zoo.evaluation.inspecting.telling import rows_of, shown

    space = [
        (f.metric, f.dataset, f.part or f.direction, shown(f), f.unit or "share", f.notes) for f in found.of(SPACE)
    ]
    print_table(("measure", "data", "of", "value", "unit", "over"), space, numbers=("value",))
    if changed := rows_of(found.of(ROBUSTNESS)):
        print()
        print_table(("changed", "data", "way", "recall@1", "points lost", "cosine"), changed, numbers=_NUMBERS)
    if said := rows_of(found.of(WORDING)):
        print()
        names = {"": "in other words", UNCHANGED: "by name"}
        rows = [(names.get(row[0], row[0]), *row[1:]) for row in said]
        print_table(("asked", "data", "way", "recall@1", "points lost", "cosine"), rows, numbers=_NUMBERS)
    if told := [figure for figure in found.of(LANGUAGE) if figure.metric == RECALL]:
        print()
        print_table(
            ("language", "recall@1", "over"), [(f.part, shown(f), f.notes) for f in told], numbers=("recall@1",)
        )
    if lengths := found.of(LENGTH):
        print()
        rows = [(f.part, shown(f), f"{f.dataset}, {f.notes}") for f in lengths]
        print_table(("length", "mean cosine", "over"), rows, numbers=("mean cosine",))
    for what, why in found.left_out.items():
        print(f"not measured: {what}: {why}", file=sys.stderr)
