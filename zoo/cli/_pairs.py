"""Pairs of tables as commands measure them; `zoo eval --pairs`: recall both ways over them, as results like those of tasks."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.cli._shared import reading
from zoo.errors import TooManyBadItemsError, ZooError

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.evaluation.corpus import Corpus
    from zoo.evaluation.results import Result
    from zoo.inputs.item import Item
    from zoo.tables import Table
    from zoo.tables.options import Options

TASK = "pair-retrieval"
_SHOWN = 5


class Sides(NamedTuple):
    """What is measured: a query and a target in every place of the lists, their groups and names, and why rows are left out."""

    pairs: "Table"
    queries: "list[Item]"
    targets: "list[Item]"
    groups: list[str]
    names: list[str]
    bad: list[str]

    @property
    def name(self) -> str:
        """The data set's name."""
        return ", ".join(self.pairs.names)

    @property
    def split(self) -> str:
        """The split that was read, "all" where there is none."""
        return self.pairs.schemas[0].chosen or "all"


def read_all(arguments: argparse.Namespace, sources: Sequence[str], *, validation: bool = False) -> list[Sides]:
    """`read_pairs` of several sources; `--column` of one data set alone is said by its NAME.

    Raises:
        TableError: a column is said of a data set that there is not. Besides what `read_pairs` raises.
    """
    check_columns(arguments, sources)
    return [read_pairs(arguments, source, validation=validation) for source in sources]


def check_columns(arguments: argparse.Namespace, sources: Sequence[str]) -> None:
    """Raises TableError where `--column` is said of a data set that there is not."""
    from zoo.errors import TableError
    from zoo.tables import named_source

    names = [named_source(source)[0] for source in sources]
    for entry in arguments.column:
        of, colon, _ = entry.partition("=")[0].rpartition(":")
        if colon and of not in names:
            there = ", ".join(filter(None, names)) or "none (write NAME=SOURCE)"
            raise TableError(f"--column {entry}: no data set is called {of!r}; there are {there}")


def options_of(arguments: argparse.Namespace, source: str) -> "Options":
    """How a source is read; what `--column` says of other data sets is passed over."""
    from dataclasses import replace

    from zoo.tables import named_source

    told, own = reading(arguments), ("", named_source(source)[0])
    columns = {key: column for key, column in (told.columns or {}).items() if key.rpartition(":")[0] in own}
    return replace(told, columns=columns or None)


def read_pairs(arguments: argparse.Namespace, source: str, *, validation: bool = False) -> Sides:
    """The pairs of `--split`, else the test rows, else the validation rows, else all; before a model is loaded.

    Args:
        source: [NAME=]SOURCE; what `--column` says of other data sets is passed over. validation: the validation rows before the test rows, for what is chosen by them.

    Further positives of a row are pairs of their own; pairs graded below a half are none.

    Raises:
        TableError: see `zoo.tables.open_pairs`. TooManyBadItemsError: more rows are no pairs than `--max-bad` allows.
    """
    from zoo.errors import BadRowError
    from zoo.tables import open_held_out, open_measured, open_sources
    from zoo.tables.options import check_format
    from zoo.tables.pairs import RIGHT

    told = options_of(arguments, source)
    first = open_held_out if validation else open_measured
    pairs = first(source, told) if arguments.split is None else open_sources([source], told)
    check_format(told, pairs)
    for schema in pairs.schemas:
        print(schema, file=sys.stderr)
    found = Sides(pairs, [], [], [], [], [])
    low = 0
    for row in range(len(pairs)):
        try:
            pair = pairs[row]
        except BadRowError as error:
            found.bad.append(str(error))
            continue
        if not pair.right:
            low += 1
            continue
        for target in (pair.positive, *pair.extra_positives):
            found.queries.append(pair.query)
            found.targets.append(target)
            found.groups.append(pair.group)
            found.names.append(pair.name)
    if low:
        print(f"{low:,} rows are graded below {RIGHT}: they are no right pairs, and not measured", file=sys.stderr)
    tell_left_out(found.bad)
    check_bad(len(found.bad), len(pairs), arguments.max_bad)
    if not found.queries:
        raise ZooError(
            f"{source}: none of {len(pairs):,} rows is a right pair"
            + (f"; the first: {found.bad[0]}" if found.bad else "")
        )
    return found


def measure_pairs(sides: Sides, model: "Embedder", most_bad: str | None, command: str) -> "list[Result]":
    """Recall@1, 5 and 10, nDCG@10 and MRR both ways, with 95 % intervals; what cannot be embedded is left out and named.

    Raises:
        TooFewPairsError: nothing is left. TooManyBadItemsError: more was left out than `--max-bad` allows.
    """
    from zoo.evaluation.pairs import evaluate_pairs
    from zoo.evaluation.results import Result

    scores = evaluate_pairs(model, sides.queries, sides.targets, sides.groups)
    tell_left_out(scores.skipped)
    bad = len(sides.bad) + len(scores.skipped)
    check_bad(bad, len(sides.pairs), most_bad)
    notes = f"{scores.pairs:,} pairs, {len(scores.forward):,} queries, {scores.forward.candidates:,} candidates"
    facts: dict[str, Any] = {
        "dataset": sides.name,
        "task": TASK,
        "split": sides.split,
        "source": command,
        "date": date.today().isoformat(),
        "revision": model.spec.revision,
        "notes": notes + (f"; {bad:,} left out" if bad else ""),
    }
    query, target = scores.sides if scores.sides[0] != scores.sides[1] else ("query", "positive")
    ways = {"forward": f"{query} → {target}", "backward": f"{target} → {query}"}
    return [
        Result(metric=metric, value=value, low=low, high=high, direction=direction, **facts)
        for way, direction in ways.items()
        for metric, (value, low, high) in getattr(scores, way).intervals().items()
    ]


def corpus_of(sides: Sequence[Sides]) -> "Corpus":
    """The items of several tables."""
    from zoo.evaluation.corpus import Corpus, Told

    rows = (
        Told(*row, table)
        for table, one in enumerate(sides)
        for row in zip(one.queries, one.targets, one.groups, one.names, strict=True)
    )
    return Corpus(rows, [one.name for one in sides])


def command_of(arguments: argparse.Namespace, shown: str, sources: Sequence[str]) -> str:
    """The command that gives the figures again; of files their names alone, so that it tells nothing of this machine."""
    from zoo.tables import named_source

    words = ["zoo", "eval", shown]
    for one in sources:
        name, source = named_source(one)
        source = str(source) if str(source).startswith(("hf:", "pack:")) else Path(source).name
        words += ["--pairs", f"{name}={source}" if name else source]
    words += ["--mixed"] * arguments.mixed
    return " ".join(words[:3] + [shlex.quote(word) for word in [*words[3:], *reading_words(arguments)]])


def reading_words(arguments: argparse.Namespace) -> list[str]:
    """The options of a command that say how its tables are read."""
    words = []
    for option in ("column", "ignore", "as_text", "split", "encoding", "separator"):
        value = getattr(arguments, option)
        for entry in value if isinstance(value, list) else [value] if value is not None else []:
            words += [f"--{option.replace('_', '-')}", entry]
    return words


def tell_left_out(bad: Sequence[str]) -> None:
    """Says on stderr what is not measured, and why."""
    for reason in bad[:_SHOWN]:
        print(f"left out: {reason}", file=sys.stderr)
    if len(bad) > _SHOWN:
        print(f"and {len(bad) - _SHOWN:,} more", file=sys.stderr)


def check_bad(bad: int, count: int, most: str | None) -> None:
    """Raises TooManyBadItemsError where more rows cannot be measured than `--max-bad` allows."""
    from zoo.bulk.limit import Limit

    limit = Limit.parse(most)
    if limit.exceeded(bad, count):
        raise TooManyBadItemsError(
            f"{bad:,} of {count:,} rows cannot be measured; allowed are {limit}. Repair them, or allow more with --max-bad"
        )
