"""Make a model int8: smaller, and several times as fast on a CPU.

The linear layers and convolutions become 8-bit integers. --calibrate names real inputs, of each kind that the model reads: a folder of
images, a file of texts, a table, or pack:NAME; some hundreds are chosen evenly, and what cannot be read is left out and told. A part of
the model that sees fewer than 8 stays float32.

Then it is measured what that costs: hit@1 both ways (is the first result right) over the pairs of --measure, in float32 and in int8, over the same queries (the
test rows, else the validation rows, else all; an input of these is not calibrated on as long as enough others are there). The model is written if every
figure loses half a point at most, or the 95 % interval of its paired difference holds 0, over 1,000 queries or more. Else nothing
is written, unless you say --force.

DIR then holds the model with its record, the figures (results.json) and a certificate for `zoo verify`. With an index made in float32
its vectors are not compared: embed again. --backend openvino measures, and later embeds, by that runtime's integers, which is faster than torch's.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli._pairs import TASK, Sides, read_pairs
from zoo.cli._shared import (
    add_backend,
    add_ignore,
    add_like,
    add_pair_options,
    check_folder,
    existing,
    positive,
    print_json,
    print_table,
    reading,
    say_backend,
    source,
    waiting,
)
from zoo.errors import InputError, ZooError

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.inputs.item import Item
    from zoo.quantizing import Loss

EXAMPLES = (
    "zoo quantize zoo-mini --calibrate pack:photos --measure pack:photos --out ./mini-int8",
    "zoo quantize all-minilm-l6-v2 --calibrate texts.txt --measure pairs.csv --out ./minilm-int8",
    "zoo quantize clip-vit-b32-openai --calibrate photos/ --calibrate captions.txt --measure test.csv --out ./clip-int8",
    'zoo encode "a cat" --model ./mini-int8 --backend openvino',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo quantize`."""
    parser.add_argument("model", metavar="NAME", help="anything that load_model opens: a name, ./FOLDER, hf:ORG/REPO")
    parser.add_argument(
        "--calibrate",
        required=True,
        action="append",
        metavar="SOURCE",
        help="real inputs: a folder, table, texts, or pack:NAME; repeat",
    )
    parser.add_argument(
        "--measure",
        required=True,
        action="append",
        metavar="[NAME=]SOURCE",
        help="pairs to measure on: a table, or pack:NAME; repeat",
    )
    parser.add_argument("--out", required=True, type=existing, metavar="DIR", help="a folder that is not there yet")
    parser.add_argument("--count", type=positive, default=300, metavar="N", help="inputs of each kind (default: 300)")
    parser.add_argument(
        "--split", metavar="S", help="of the pairs of --measure (default: test, else validation, else all)"
    )
    parser.add_argument("--force", action="store_true", help="write the model whatever it costs")
    add_like(parser)
    add_backend(parser)
    add_ignore(parser, "or this column of the pairs; ")
    add_pair_options(parser)
    parser.add_argument("--max-bad", metavar="N|P%", help="fail if more rows of --measure cannot be measured")
    parser.add_argument("--json", action="store_true", help="the figures for machines, on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Calibrates, measures, and writes what is accepted; status 1 where it is not."""
    from dataclasses import replace

    from zoo.comparing.measuring import shown_source
    from zoo.loading import load_model
    from zoo.quantizing import left_float, quantize
    from zoo.tables.ignoring import settings_to_ignore

    name = source(arguments.model)
    check_folder(arguments.out)
    if arguments.out.exists() and any(arguments.out.iterdir()):
        raise ZooError(f"{arguments.out} is not empty; name a folder that is not there yet")
    sides = [read_pairs(arguments, one) for one in arguments.measure]
    opened = [(one, _opened(arguments, one)) for one in arguments.calibrate]
    tables = [one.pairs for one in sides]
    with waiting(f"loading {arguments.model}"), settings_to_ignore(arguments.ignore, *tables) as settings:
        model = load_model(name, device="cpu", ignore=settings)
    lost: list[Exception] = []
    inputs = _chosen([item for _, told in opened for item in _items(told, model, lost)], sides, arguments.count, lost)
    inputs = _readable(inputs, model, lost)
    if lost:
        print(f"left out of calibration, {len(lost):,} that cannot be read; the first: {lost[0]}", file=sys.stderr)
    with waiting(f"calibrating on {len(inputs):,} inputs"):
        made = quantize(model, inputs, source=", ".join(shown_source(one) for one in arguments.calibrate))
    print(
        "calibrated on " + ", ".join(f"{count:,} of {what}" for what, count in made.quantized.calibrated.items()),
        file=sys.stderr,
    )
    for what in left_float(made):
        print(
            f"the tower for {what} stays float32: it saw too few inputs, or has no layers that can be int8",
            file=sys.stderr,
        )
    found = _measured(model, made, sides, arguments.model_backend)
    made.quantized = replace(made.quantized, measured=tuple(one.to_dict() for one in found))
    _tell(found, arguments.json)
    if not all(one.accepted for one in found) and not arguments.force:
        print(
            f"not written: {_why(found)}; calibrate on other inputs, or write it all the same with --force",
            file=sys.stderr,
        )
        return 1
    _write(made, arguments.out, found)
    print(f"written {arguments.out}: load_model({str(arguments.out)!r}, backend='openvino')", file=sys.stderr)
    return 0


def _opened(arguments: argparse.Namespace, given: str) -> Any:
    """A source of inputs: the pairs of a pack, or what `zoo embed` would read."""
    from dataclasses import replace

    from zoo.bulk.opening import prepare

    if given.startswith("pack:"):
        return read_pairs(arguments, given, validation=True)
    told = prepare(given, replace(reading(arguments), columns=None, split=None))
    told.check([], None)
    return told


def _items(told: Any, model: "Embedder", lost: list[Exception]) -> "list[Item]":
    """The inputs of a source; why others of it are none is added to `lost`."""
    from zoo.inputs.item import as_item

    if isinstance(told, Sides):
        return [*told.queries, *told.targets]
    found = []
    for record in told.choose([], None, model.spec.modalities).records():
        try:
            if record.error is not None:
                raise record.error
            found.append(as_item(record.value))
        except InputError as error:
            lost.append(error)
    return found


def _readable(items: "Sequence[Item]", model: "Embedder", lost: list[Exception]) -> "list[Item]":
    """Those that the model can read, so that one damaged file does not cost the others; why the rest cannot be is added to `lost`."""

    encoders, found = [reader.encoder for reader in model.routes], []
    for item in items:
        try:
            encoders[model.route_index(item)].prepare_prompted(item, "")
        except InputError as error:
            lost.append(error)
        else:
            found.append(item)
    return found


def _chosen(items: "Sequence[Item]", sides: Sequence[Sides], count: int, lost: list[Exception]) -> "list[Item]":
    """Of each kind up to `count` inputs, evenly; those that are measured only where too few others are there. Why an input has no content
    is added to `lost`."""
    from zoo.inputs.identity import Contents
    from zoo.quantizing.making import FEWEST

    contents = Contents()
    measured = {contents.number(item) for one in sides for item in (*one.queries, *one.targets)}
    kinds: dict[frozenset[str], dict[int, Item]] = {}
    for item in items:
        try:
            kinds.setdefault(frozenset(item.modalities), {}).setdefault(contents.number(item), item)
        except InputError as error:
            lost.append(error)
    found = []
    for kind, distinct in kinds.items():
        held_out = [item for number, item in distinct.items() if number not in measured]
        if len(held_out) < FEWEST:
            held_out = list(distinct.values())
            print(
                f"of {'+'.join(sorted(kind))} the inputs that are measured are calibrated on too: there are no others",
                file=sys.stderr,
            )
        step = max(1.0, len(held_out) / count)
        found += [held_out[int(place * step)] for place in range(min(count, len(held_out)))]
    return found


def _measured(model: "Embedder", made: "Embedder", sides: Sequence[Sides], backend: str) -> "list[Loss]":
    """What int8 costs, by a backend's integers where one is named; the model computes by torch again afterwards."""
    from zoo.backends import run_by
    from zoo.quantizing import loss_of

    for one in (model, made):
        run_by(one, backend)
        say_backend(one, backend)

    found = []
    for one in sides:
        with waiting(f"measuring {len(one.queries):,} pairs of {one.name} twice"):
            found += loss_of(model, made, one.queries, one.targets, one.groups, f"{one.name} {one.split}")
    run_by(made, "torch")
    return found


def _tell(found: "Sequence[Loss]", as_json: bool) -> None:
    if as_json:
        print_json([{**one.to_dict(), "accepted": one.accepted} for one in found])
        return
    rows = [
        (
            one.dataset,
            one.figure,
            f"{one.queries:,}",
            f"{one.float32:.1%}",
            f"{one.int8:.1%}",
            f"{100 * (one.int8 - one.float32):+.2f} [{100 * one.low:+.2f}, {100 * one.high:+.2f}]",
            "accepted" if one.accepted else "refused",
        )
        for one in found
    ]
    headers = ("data", "figure", "queries", "float32", "int8", "difference, points", "")
    print_table(headers, rows, numbers=headers[2:6])


def _why(found: "Sequence[Loss]") -> str:
    from zoo.quantizing.measuring import FEWEST_QUERIES, MOST_LOSS

    if few := [one for one in found if one.queries < FEWEST_QUERIES]:
        return f"{few[0].dataset} has {few[0].queries:,} queries, and {FEWEST_QUERIES:,} are needed to say what is lost"
    return f"int8 loses more than {100 * MOST_LOSS} points"


def _write(made: "Embedder", out: Path, found: "Sequence[Loss]") -> None:
    """The model, its figures and its certificate."""
    from zoo.evaluation.results import FILE, Result, today, write_results
    from zoo.publishing import certificate

    made.save_pretrained(out)
    facts = {"task": TASK, "split": "", "date": today()}
    write_results(
        out / FILE,
        [
            Result(
                dataset=one.dataset,
                metric=one.figure.partition(" ")[0],
                direction=one.figure.partition(" ")[2],
                value=round(one.int8, 6),
                notes=f"{one.queries:,} queries; {one.float32:.1%} in float32",
                **facts,
            )
            for one in found
        ],
    )
    certificate.make(made).save(out)
