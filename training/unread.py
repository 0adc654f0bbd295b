"""What of the data a run would not read: columns that matter stop it before it starts, others are named."""

import fnmatch
from collections.abc import Sequence
from typing import Any

from zoo.tables.names import MINED
from zoo.tables.pairs import Pair, PairTable, Selection, datasets_of, of_datasets
from zoo.tables.schema import Leftover, Schema
from zoo.tables.splits import TRAIN, SplitTable, leaves_of

from .dataloader import sample_of
from .errors import PairsError, UnreadColumnError
from .losses import Loss, build_loss
from .losses.building import losses_reading
from .parts import parts_of
from .recipe import Recipe, stages_of
from .recipes import RECIPES
from .samplers.base import sampler_reads

# What a column holds → (what is said of it, the name by which losses read it).
_HELD = {
    "score": ("grades the pairs (0: not alike)", "scores"),
    "label": ("says of what kind the rows are", ""),
    "teacher_scores": ("holds a teacher's scores", "teacher_scores"),
    "weights": ("holds weights of the pairs", "weights"),
}

Stage = tuple[Recipe, frozenset[str]]  # and what its loss and its sampler read


def check_unread(
    pairs: Sequence[Pair] | PairTable,
    recipe: Recipe | Sequence[Recipe],
    held_out: Sequence[Pair] | PairTable | None = None,
    loss: Loss | None = None,
) -> None:
    """Raises an error that names each column with a known meaning that no stage reads, and what to do.

    Grades must be read by every stage that learns from them: a pair graded 0 is no positive.

    Args:
        loss: in place of those that the recipe names.

    Raises:
        UnreadColumnError: there are such columns. PairsError: rows for validation or a test would be trained on.
    """
    for leaf in leaves_of(_whole(pairs)):
        if isinstance(leaf, SplitTable) and not leaf.asked and leaf.split != TRAIN:
            raise PairsError(
                f"{leaf.schemas[0].source}: all rows are of the split {leaf.split}, which is not trained on; to learn from "
                f"them all the same say so: --split {leaf.split} (open_pairs(..., split={leaf.split!r}))"
            )
    found = _problems(pairs, _stages(recipe, pairs, loss), loss)
    if held_out is not None:
        found += _problems(held_out, _stages(recipe, held_out, loss, strict=False), loss)
    if found:
        raise UnreadColumnError("\n".join(dict.fromkeys(found)))


def unread_lines(
    pairs: Sequence[Pair] | PairTable, recipe: Recipe | Sequence[Recipe], *, shown: bool = False
) -> list[str]:
    """What else is not read, in a line for each table: columns without a known meaning, data sets of no stage.

    Args:
        shown: the schemas were printed, which name such columns.
    """
    lines, stages = [], _stages(recipe, pairs, None)
    for leaf in leaves_of(_whole(pairs)):
        for schema in getattr(leaf, "schemas", ()):
            names = [] if shown else list(schema.unused)
            if schema.teacher_scores == MINED and not any("teacher_scores" in reads for _, reads in stages):
                names.append(MINED)
            if names:
                lines.append(f"{schema.source}: not read: {', '.join(names)}")
        if not any(_takes(stage, leaf) for stage, _ in stages):
            lines.append(f"no stage learns from the data set {', '.join(map(str, datasets_of(leaf)[1]))}")
    return lines


def _stages(
    recipe: Recipe | Sequence[Recipe], pairs: Sequence[Pair] | PairTable, loss: Loss | None, *, strict: bool = True
) -> list[Stage]:
    """Each stage, in parts where it has one loss for each kind of data, and what is read there."""
    parts = [part for stage in stages_of(recipe) for part in parts_of(stage, pairs, strict=strict)]
    return [(part, _reads(part, loss)) for part in parts]


def _reads(stage: Recipe, loss: Loss | None) -> frozenset[str]:
    loss = loss or build_loss(stage.loss)
    read = loss.reads | loss.may_read
    graded = {"scores"} if "labels" in read else set()  # of which a reranker's labels are made
    return read | graded | sampler_reads(stage.sampler)


def _whole(pairs: Any) -> Any:
    """The table of which rows were selected, where it tells its columns."""
    table = _whole(pairs.pairs) if isinstance(pairs, Selection) else pairs
    return table if hasattr(table, "schemas") else pairs


def _takes(stage: Recipe, table: Any) -> bool:
    """Whether a stage learns from some data set of a table."""
    names = datasets_of(table)[1] if stage.datasets else ()
    return not stage.datasets or any(fnmatch.fnmatchcase(str(n), p) for n in names for p in stage.datasets)


def _problems(pairs: Sequence[Pair] | PairTable, stages: Sequence[Stage], loss: Loss | None) -> list[str]:
    found = []
    for leaf in leaves_of(_whole(pairs)):
        takers = [(stage, reads) for stage, reads in stages if _takes(stage, leaf)]
        if not takers:
            continue
        blind = [stage for stage, reads in takers if "scores" not in reads]
        if not getattr(leaf, "schemas", ()):
            scores = [pair.score for stage in blind for pair in _sample(leaf, stage) if pair.score is not None]
            if scores:
                told = f"from {min(scores):g} to {max(scores):g}"
                found.append(
                    f"the pairs have a score ({told}), and {_readers(blind, loss)} does not read it: all of them would be "
                    f"trained as right pairs. {_ways('scores', blind[0], loss)}, or take it out: dataclasses.replace(pair, score=None)"
                )
            continue
        for schema in leaf.schemas:
            found += _columns(schema, takers, blind, loss)
    return found


def _sample(pairs: Sequence[Pair] | PairTable, stage: Recipe) -> list[Pair]:
    """Pairs that a stage learns from: all that are in memory, some of a table."""
    mine = of_datasets(pairs, stage.datasets) if stage.datasets else pairs
    if isinstance(pairs, list | tuple):
        return [mine[row] for row in range(len(mine))]
    return sample_of(mine) if len(mine) else []


def _columns(schema: Schema, takers: Sequence[Stage], blind: list[Recipe], loss: Loss | None) -> list[str]:
    """A message for each column of a table that matters and is not read."""
    found = []
    if schema.score is not None and blind:
        found.append(
            f"{schema.source}: column {schema.score} grades the pairs (0: not alike), and {_readers(blind, loss)} does not "
            f"read it: all of them would be trained as right pairs. {_ways('scores', blind[0], loss)}, or, where all are right, "
            f"{_ignore(schema.score)}"
        )
    stages = [stage for stage, _ in takers]
    taught = any("teacher_scores" in reads for _, reads in takers)
    if schema.teacher_scores not in (None, MINED) and not taught:
        found.append(
            f"{schema.source}: column {schema.teacher_scores} holds a teacher's scores, and {_readers(stages, loss)} does not "
            f"read them. {_ways('teacher_scores', stages[0], loss)}, or {_ignore(schema.teacher_scores)}"
        )
    return found + [_left(schema, left, _trains(stages[0], loss)) for left in schema.left]


def _left(schema: Schema, left: Leftover, trains: str) -> str:
    column, kind = left
    start, ways = f"{schema.source}: column {column}", [_ignore(column)]
    if "." in column:  # a field of passages
        return f"{start} {_HELD.get(kind, ('is not read', ''))[0]}, and nothing reads it there: {ways[0]}"
    if kind in ("score", "teacher_scores"):
        fact, name = ("score", "scores") if kind == "score" else (kind, kind)
        ways = [f"--column {fact}={column} with a loss that reads it ({_listed(losses_reading(name, trains))})", *ways]
    elif kind == "label":
        ways = [
            f"--column group={column} if every row is a right pair and rows of one {column} are never negatives of each other",
            f"--column score={column} if it grades the pairs",
            *ways,
        ]
    elif kind == "weights":
        ways = [*(f"the loss {name}" for name in losses_reading(kind, trains)), *ways]
    else:
        what = kind if kind != "media" else "image"
        ways = [f"--column also_{what}={column} if it is a further right one", *ways]
        return f"{start} is a further {what} that is no part of a pair: {', or '.join(ways)}"
    return f"{start} {_HELD[kind][0]}, and no loss of this run reads it: {', or '.join(ways)}"


def _readers(stages: Sequence[Recipe], loss: Loss | None) -> str:
    """Who does not read it, in words."""
    if loss is not None:
        return f"the loss {type(loss).__name__}"
    of = f" of the stage {stages[0].name}" if len(stages) > 1 else ""
    return f"the loss {stages[0].loss}{of}"


def _ways(name: str, stage: Recipe, loss: Loss | None) -> str:
    """Losses and recipes that read it, of the kind of model that the stage trains."""
    trains = _trains(stage, loss)
    recipes = [known for known, make in RECIPES.items() if any(_fits(own, name, trains) for own in stages_of(make()))]
    written = f"Take a loss that reads it ({_listed(losses_reading(name, trains))})"
    return written + (f" or a recipe that does (--recipe {', '.join(recipes)})" if recipes else "")


def _fits(stage: Recipe, name: str, trains: str) -> bool:
    return name in _reads(stage, None) and _trains(stage, None) == trains


def _trains(stage: Recipe, loss: Loss | None) -> str:
    return (loss or build_loss(stage.loss)).trains


def _ignore(column: str) -> str:
    return f"leave it out: --ignore {column} (open_pairs(..., ignore=[{column!r}]))"


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "there is none"
