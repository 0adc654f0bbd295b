"""A folder with queries, a corpus and judgements of which document answers which query, as BEIR and TREC write them.

`corpus.jsonl` and `queries.jsonl` have a column `_id` or `id` beside what is embedded; `qrels.tsv`, or `qrels/test.tsv`, has a row for
each judgement: query, document and grade. Any kind of table serves, and any modality.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo.comparing.questions import Question, Source, retrieval
from zoo.errors import (
    DuplicateIdError,
    NoCandidatesError,
    NoRightAnswerError,
    NoSplitError,
    NotACandidateError,
    QuestionsError,
    TableError,
)
from zoo.inputs.identity import Contents, Row
from zoo.inputs.item import Item
from zoo.tables.choice import choose
from zoo.tables.files import KINDS, suffix_of
from zoo.tables.options import Options
from zoo.tables.readers import open_reader
from zoo.tables.schema import Part
from zoo.tables.splits import split_word
from zoo.tables.values import BadCellError, cell_value, find_file, region_cell, told_modality

_IDS = ("_id", "id", "qid", "docid", "doc_id", "query_id", "corpus_id", "corpus-id", "query-id")
_QUERY, _DOCUMENT = ("query-id", "query_id", "qid", "query"), ("corpus-id", "corpus_id", "docid", "doc_id", "document")
_GRADE = ("score", "relevance", "grade", "label")
_LARGEST = 1e6  # of a grade
_SHOWN = 3


def is_judged_folder(folder: Path) -> bool:
    """Whether a folder holds queries, a corpus and judgements."""
    return folder.is_dir() and _table(folder, "corpus") is not None and _table(folder, "queries") is not None


def read_judged(folder: Path, name: str, options: Options, words: tuple[str, ...]) -> list[Question]:
    """The question of such a folder: every judged query among the whole corpus.

    Queries without any judgement are left out, since others may be of another split; they are counted in the notes.

    Raises:
        DuplicateIdError, NotACandidateError, NoRightAnswerError, NoCandidatesError: see `zoo.errors`; the message names the id and
            the file. TableError: a file of them is missing, or cannot be read. NoSplitError: no judgements of that split.
    """
    if options.columns:
        key, column = next(iter(options.columns.items()))
        raise TableError(f"{folder} has queries, a corpus and judgements: it takes no columns ({key}={column})")
    options = replace(options, given=folder)
    for path in (*folder.glob("*"), *folder.glob("qrels/*")) if options.fence is not None else ():
        if suffix_of(path) in KINDS and options.fence.leaves(path):
            raise TableError(options.fence.refusal(path.name))
    judgements, split = _judgements_file(folder, options.split)
    bad: list[str] = []
    documents = _items(_table(folder, "corpus"), options, bad)
    queries = _items(_table(folder, "queries"), options, bad)
    if not documents:
        why = f"; the first: {bad[0]}" if bad else ""
        raise NoCandidatesError(f"{folder}: the corpus is empty, so there is nothing to be found{why}")
    grades = _grades(judgements, options, queries, documents)
    contents, rows = Contents(), []
    gains: dict[tuple[int, int], float] = {}
    for number, told in grades.items():
        right = {document: grade for document, grade in told.items() if grade > 0}
        if not right:
            raise NoRightAnswerError(
                f"{judgements}: query {number!r} has {len(told):,} judgements, and none of them names a right document; give it one "
                "with a grade above 0, or leave the query out"
            )
        if queries[number] is None or all(documents[one] is None for one in right):
            continue  # which cannot be read, and is told
        answers = tuple(item for one in right if (item := documents[one]) is not None)
        rows.append(Row(queries[number], answers))
        query = contents.number(queries[number])
        for one, grade in right.items():
            if (item := documents[one]) is not None:
                key = (query, contents.number(item))
                gains[key] = max(grade, gains.get(key, 0.0))
    unjudged = len(queries) - len(grades)
    if not rows:
        raise QuestionsError(f"{folder}: no query can be asked; the first reason: {bad[0]}")
    note = f"{unjudged:,} queries without a judgement not asked" if unjudged else ""
    count = len(queries) + len(documents)
    source = Source(name or folder.resolve().name, split, words, count, tuple(bad), note=note)
    graded = gains if len(set(gains.values())) > 1 else None
    ranked = [item for item in documents.values() if item is not None]
    return [retrieval(source, rows, candidates=ranked, gains=graded, contents=contents, both=False)]


def _table(folder: Path, stem: str) -> Path | None:
    """The table of a name, of any kind."""
    found = sorted(path for path in folder.glob(f"{stem}.*") if suffix_of(path) in KINDS and path.is_file())
    return found[0] if found else None


def _judgements_file(folder: Path, split: str | None) -> tuple[Path, str]:
    """The file of judgements, and which split it is of: the test split where none is asked for, else validation, else any."""
    if (alone := _table(folder, "qrels")) is not None:
        if split is not None:
            raise NoSplitError(f"{alone} does not say of which split it is; leave --split {split} out")
        return alone, "all"
    inside = sorted(path for path in folder.glob("qrels/*") if suffix_of(path) in KINDS and path.is_file())
    if not inside:
        raise TableError(
            f"{folder} has queries and a corpus, and no judgements; write qrels.tsv with the columns query-id, corpus-id and score"
        )
    told = {split_word(path.name.partition(".")[0]): path for path in inside}
    wanted = [split_word(split)] if split is not None else ["test", "validation", *told]
    for one in wanted:
        if one in told:
            return told[one], one or told[one].name.partition(".")[0]
    raise NoSplitError(f"{folder}/qrels has no split {split!r}; it has {', '.join(path.name for path in inside)}")


def _items(path: Path | None, options: Options, bad: list[str]) -> dict[str, Item | None]:
    """What a table embeds, by its ids; None where a row cannot be read, which `bad` takes.

    Raises:
        DuplicateIdError: an id comes twice. TableError: no column of ids, or none that can be embedded.
    """
    assert path is not None
    reader = open_reader(path, options.format)
    reader.types()
    columns = [column for column in reader.found() if column.name not in options.ignore]
    names = [column.name for column in columns]
    if (column := next((name for name in _IDS if name in names), None)) is None:
        raise TableError(f"{path} has no column of ids, such as _id; it has {', '.join(names) or 'none'}")
    parts = choose(path.name, [one for one in columns if one.name != column]).parts
    titled = [part.modality for part in parts] == ["text"] and "title" in names
    found: dict[str, Item | None] = {}
    for row in reader.rows():
        number = _id(row.cells.get(column))
        if row.problem or number is None:
            bad.append(f"{row.where}: {row.problem or f'the {column} is empty'}")
            continue
        if number in found:
            raise DuplicateIdError(
                f"{row.where}: the id {number!r} comes twice, so it cannot be told which of the two a judgement means; give each its own"
            )
        found[number] = None
        try:
            item = _item(parts, row.cells, path.parent, options)
            head = row.cells.get("title") if titled else None
            found[number] = replace(item, text=f"{head} {item.text}".strip()) if isinstance(head, str) else item
        except BadCellError as error:
            bad.append(f"{row.where}: {error}")
    return found


def _item(parts: Sequence[Part], cells: Mapping[str, Any], root: Path, options: Options) -> Item:
    """What a row embeds; raises BadCellError where a cell cannot serve."""
    found: dict[str, Any] = {}
    for part in parts:
        if part.modality == "regions":
            found["regions"] = region_cell(part.column, cells.get(part.column), root, options.fence)
            continue
        modality, value = cell_value(part, cells.get(part.column), options.as_text)
        if value is not None and modality != "text" and isinstance(value, str):
            value, there = find_file(options.root or root, part, value, options.fence)
            if not there:
                raise BadCellError(f"the {part.column}: there is no file {value}")
        if value is not None:
            found[told_modality(part, value) if modality != "text" else modality] = value
    if not set(found) - {"regions"}:
        raise BadCellError(f"there is nothing in {' and '.join(part.column for part in parts)}")
    return Item(**found)


def _id(value: Any) -> str | None:
    """An id as a text: 7 and "7" are one."""
    text = (
        "" if value is None else str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()
    )
    return text or None


def _rows(path: Path, options: Options) -> Iterator[tuple[str, Any, Any, Any]]:
    """Place, query, document and grade of every judgement; TREC's files have no header, and a column that nobody reads."""
    reader = open_reader(path, options.format)
    reader.types()
    columns = {name.lower(): name for name in reader.columns}
    meant = [next((columns[name] for name in names if name in columns), None) for names in (_QUERY, _DOCUMENT, _GRADE)]
    if meant[0] is None or meant[1] is None:
        raise TableError(
            f"{path}: expected the columns query-id, corpus-id and score; it has {', '.join(reader.columns)}. A file without a header "
            "gets one as its first line"
        )
    for row in reader.rows():
        if row.problem:
            raise TableError(f"{row.where}: {row.problem}")
        query, document, grade = (None if name is None else row.cells.get(name) for name in meant)
        yield row.where, query, document, 1 if meant[2] is None else grade


def _grades(
    path: Path, options: Options, queries: dict[str, Item | None], documents: dict[str, Item | None]
) -> dict[str, dict[str, float]]:
    """Query → document → grade; a judgement twice must say the same."""
    found: dict[str, dict[str, float]] = {}
    for where, *cells, grade in _rows(path, options):
        query, document = map(_id, cells)
        try:
            value = float(grade)
        except (TypeError, ValueError):
            value = float("nan")
        if not -_LARGEST <= value <= _LARGEST:
            raise TableError(f"{where}: the grade is {grade!r:.40}, not a number such as 0, 1 or 2")
        if query not in queries:
            raise QuestionsError(f"{where}: there is no query {query!r}{_some(queries)}")
        if document not in documents:
            raise NotACandidateError(
                f"{where}: the document {document!r} of query {query!r} is not in the corpus{_some(documents)}; add it there, or take "
                "the judgement away"
            )
        told = found.setdefault(query, {})
        if told.setdefault(document, value) != value:
            raise QuestionsError(
                f"{where}: {query!r} and {document!r} are judged twice, {told[document]:g} and {value:g}"
            )
    if not found:
        raise QuestionsError(f"{path} holds no judgements")
    return found


def _some(known: dict[str, Any]) -> str:
    """A few ids that there are, for messages."""
    return f" (there are {', '.join(map(repr, list(known)[:_SHOWN]))}, …)" if known else " (there are none)"
