"""Data of one's own → questions: one way for files, folders, Hub data sets and pairs in memory, whatever they ask."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo.comparing.judgements import is_judged_folder, read_judged
from zoo.comparing.questions import Question, Source, classes, judged, retrieval
from zoo.errors import ArgumentError, BadRowError, InputError, QuestionsError
from zoo.inputs.identity import Row
from zoo.inputs.item import Item, as_item
from zoo.tables import Table, named_source, open_measured, open_sources
from zoo.tables.names import LABELS
from zoo.tables.options import Options, check_format
from zoo.tables.pairs import Pair
from zoo.tables.schema import Schema

_FOLDER = "the sub-folder's name"  # what a folder of images has in place of a column


def read_questions(
    data: Any, options: Options | None = None, *, class_prompt: str = "{}", words: Sequence[str] = ()
) -> list[Question]:
    """What some data asks: whatever of retrieval, classification, graded and judged pairs its columns say.

    Args:
        data: what `zoo.tables.open_pairs` takes, also as NAME=SOURCE: of its test rows where there are any, else the validation
            rows, else all. Or a folder with queries, corpus and qrels; an open table; a list of `Pair`, or of (query, target).
        class_prompt: how the name of a class is put to the model. words: of the command that asks it again.

    Raises:
        TableError: see `open_pairs`. QuestionsError: nothing that can be measured; its kind and message say why.
        ArgumentError: data of another type, or a prompt without {}.
    """
    if "{}" not in class_prompt:
        raise ArgumentError(
            f"class_prompt must hold {{}}, where the name of a class goes, not {class_prompt!r}; "
            'write class_prompt="a photo of a {}"'
        )
    options = options or Options()
    if isinstance(data, str | Path):
        name, place = named_source(data)
        if not str(place).startswith(("hf:", "pack:")) and is_judged_folder(Path(place).expanduser()):
            return read_judged(Path(place).expanduser(), name, options, tuple(words))
        table = open_measured(data, options) if options.split is None else open_sources([data], options)
        check_format(options, table)
    elif isinstance(data, Table):
        table = data
    else:
        return _asked(_pairs_of(data), Source("pairs", words=tuple(words)), None, class_prompt)
    source = Source(", ".join(table.names), table.schemas[0].chosen or "all", tuple(words), len(table), table=table)
    rows, bad = [], []
    for row in range(len(table)):
        try:
            rows.append(table[row])
        except BadRowError as error:
            bad.append(str(error))
    if not rows:
        more = f"; the first: {bad[0]}" if bad else ""
        raise QuestionsError(f"{source.name}: none of {len(table):,} rows is a pair{more}")
    return _asked(rows, replace(source, bad=tuple(bad)), table, class_prompt)


def _pairs_of(data: Any) -> list[Pair]:
    """Pairs in memory: as `Pair`, or (query, target) or (query, target, score) of anything that `encode` takes."""
    if isinstance(data, bytes) or not hasattr(data, "__iter__"):
        raise ArgumentError(
            f"pairs must be a file, a folder, a table or a list of (query, target), not {type(data).__name__}; write "
            'pairs=[("a cat", Path("cat.jpg")), …]'
        )
    found = []
    for number, one in enumerate(data):
        if isinstance(one, Pair):
            found.append(one)
            continue
        if not isinstance(one, tuple | list) or len(one) not in (2, 3):
            raise ArgumentError(f"pairs[{number}] must be (query, target) or (query, target, score), not {one!r:.60}")
        try:
            query, target = (as_item(value) for value in one[:2])
        except InputError as error:
            raise error.at(number) from None
        score = None if len(one) == 2 else _score(one[2], number)
        found.append(Pair(query, target, score=score, where=f"pairs[{number}]"))
    if not found:
        raise QuestionsError("there are no pairs to measure with; give at least one (query, target)")
    return found


def _score(value: Any, number: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ArgumentError(f"the score of pairs[{number}] must be a number from 0 to 1, not {value!r:.40}")
    return float(value)


def _asked(pairs: Sequence[Pair], source: Source, table: Table | None, class_prompt: str) -> list[Question]:
    """The questions of rows, by what their columns say."""
    scored = [pair for pair in pairs if pair.score is not None]
    if scored:
        column = (table.schemas[0].score if table is not None else None) or "score"
        queries, targets = [pair.query for pair in scored], [pair.positive for pair in scored]
        return [judged(source, queries, targets, [float(pair.score or 0) for pair in scored], column)]
    alone, labels = _labels(table, pairs)
    found = []
    if labels is not None:
        items = [pair.query for pair in pairs]
        found.append(classes(source, items, labels, class_prompt))
        if alone:  # a name asks for all items of its class; the other way round is the classification
            rows = [Row(Item(text=name), (item,)) for item, name in zip(items, labels, strict=True)]
            return [*found, retrieval(source, rows, both=False)]
    rows = [Row(pair.query, (pair.positive, *pair.extra_positives), pair.negatives, pair.group) for pair in pairs]
    return [*found, retrieval(source, rows)]


def _labels(table: Table | None, pairs: Sequence[Pair]) -> tuple[bool, list[str] | None]:
    """Whether names of classes are all that there is beside the items, and the class of every pair; None where there are none."""
    packed = table is not None and table.schemas[0].source.startswith("pack:")  # whose columns have other names
    if table is None or packed or any("text" in pair.query.modalities for pair in pairs):
        return False, None
    if all(map(_texts_are_labels, table.schemas)):
        return True, [pair.positive.text or "" for pair in pairs]
    named = all(schema.group is not None and schema.group.lower() in LABELS for schema in table.schemas)
    if named and all(pair.group and not pair.group.isdigit() for pair in pairs):
        return False, [pair.group for pair in pairs]
    return False, None


def _texts_are_labels(schema: Schema) -> bool:
    return len(schema.positive) == 1 and schema.positive[0].column.lower() in (*LABELS, _FOLDER)
