"""Tables of every kind, read in one way: pairs for training, mining and evaluation, items for `zoo.bulk`.

Which files a source is: `sources`, `files`. Rows as they stand, one reader per kind of file: `reading`, `delimited`, `jsonl`, `arrow`,
`webdataset`. What columns are by their names: `schema` for pairs, `choice` for items. What a cell holds: `cells`, `values`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from zoo.errors import NoSplitError, TableError
from zoo.tables.files import Constants, one_kind
from zoo.tables.options import Options, check_format
from zoo.tables.packs import PACKS, READERS, pack_pairs
from zoo.tables.schema import Column, Part, Schema, infer
from zoo.tables.sources import Found, find_tables
from zoo.tables.splits import TEST, TRAIN, VALIDATION, SplitTable, check_split, follow, leaves_of, only_split
from zoo.tables.table import Table, Tables
from zoo.tables.writing import write_pairs

__all__ = [
    "PACKS",
    "READERS",
    "Column",
    "Part",
    "Schema",
    "SplitTable",
    "Table",
    "Tables",
    "infer",
    "open_all",
    "open_pairs",
    "pack_pairs",
    "write_pairs",
]

_NAMED = re.compile(r"([A-Za-z][\w.-]*)=(.+)", re.DOTALL)


def open_pairs(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    root: Path | None = None,
    split: str | None = None,
    name: str = "",
    ignore: Sequence[str] = (),
    as_text: Sequence[str] = (),
    encoding: str | None = None,
    separator: str | None = None,
    allow_outside: bool = False,
) -> Table:
    """Pairs of a file, several files, a folder, a Hub data set or a data pack, read when asked for.

    - `pairs.csv`, `.tsv`, `.jsonl`, `.parquet`, `shard.tar`; files of text also as `.csv.gz`, `.zst`, `.bz2`, `.xz`; a glob or
      a range of them: `shards/{000..003}.tar`.
    - A folder of such files, or of partitions (`year=2024/part-0.parquet`), whose keys are columns; or of images: in
      sub-folders named after what they show, with `cat.txt` beside `cat.jpg`, or with metadata.csv, .jsonl or .parquet that
      names them in `file_name`.
    - `hf:org/name`, `hf:org/name/folder@revision`: a data set of the Hub.
    - `pack:photos`, `pack:emoji`, `pack:symbols`; `pack:audio`, recordings with texts of what sounds or is said; `pack:video`,
      clips with texts of what they show and how the camera moves; `pack:documents`, whose queries are texts and whose positives
      are images of pages; `pack:composed`, whose queries are an image with a text;
      `pack:regions`, whose queries are an image with a region, and whose negatives are the captions of its other regions.
    - `pack:words`: English words, other words for them and what they mean, to teach a text tower.
    - `pack:spoken`: digits said by synthetic voices, to teach an audio tower.

    Roles and modalities are determined by the columns' names (`schema.infer`), never by the letters of a value: `image,text`;
    `query,positive,negative`; `query_image`, `positive_text`, `negative_1_image`; `sentence1,sentence2,score`; and
    `group`, `label` or `class`, `dataset` or `task`, `teacher_scores`, `split`. Several columns of a role are one item.
    A cell may hold a list of positives (`captions`) or negatives: all of them train, a positive at a time.
    Other tools' tables: open_clip's `filepath,title`, Tevatron's `positive_passages` (title and text).

    Args:
        columns: meaning → column, where the names do not say it: {"query_image": "photo", "positive_text": "title"}.
        root: where relative paths begin, by default the file's folder.
        split: train (the default), validation or test, in any usual spelling, where a column `split` says of which split a
            row is, or the names of files or folders do; a Hub data set or a pack may have others. Where none is named and
            all rows are of one other split, they are those, and are not trained on.
        name: of the data set, by default the file's stem; a column `dataset` goes before it.
        ignore: columns that are read as if they were not there.
        as_text: words that are texts as they stand, though they often stand for a missing value: ["nan", "None"].
        encoding: of files of text that are not UTF-8 ("cp1252"); UTF-16 and UTF-32 are found, others are never guessed.
        separator: of the cells of CSV files, where two are as likely.
        allow_outside: whether tables that are found in a folder, an archive or a data set of the Hub may name files outside of
            it, and its links may lead there. Without it such a row is none; tables that are named themselves may always.

    Raises:
        TableError: nothing there, an unknown kind of file, no clear columns, no row of the split, or an encoding or a
            separator of what is no such file; the message names the file. Rows that are no pairs say so when they are read (BadRowError): `train` and `mine` set them aside up to
            `max_bad`, and `Table.check()` refuses them all.
        HubError, MissingPackError: the data set or pack cannot be had.
    """
    options = Options(columns, root, split, name, tuple(ignore), tuple(as_text), encoding, separator, allow_outside)
    table = _open(source, options)
    _check_met(table, ignore)
    check_format(options, table)
    return table


def open_all(
    sources: Iterable[str | Path],
    *,
    columns: Mapping[str, str] | None = None,
    root: Path | None = None,
    split: str | None = None,
    ignore: Sequence[str] = (),
    as_text: Sequence[str] = (),
    encoding: str | None = None,
    separator: str | None = None,
    allow_outside: bool = False,
) -> Table:
    """Several sources one after the other, each a data set of its own; `NAME=path` gives it a name.

    Raises:
        TableError: see `open_pairs`; no source; or two sources of one name.
    """
    options = Options(columns, root, split, "", tuple(ignore), tuple(as_text), encoding, separator, allow_outside)
    table = open_sources(sources, options)
    _check_met(table, ignore)
    check_format(options, table)
    return table


def open_sources(sources: Iterable[str | Path], options: Options) -> Table:
    """See `open_all`; names to ignore need not be columns, and what is said of columns may be said of one data set alone:
    {"classes:group": "label"}.
    """
    tables: list[Table] = []
    taken: dict[str, str] = {}
    named = [named_source(source) for source in sources]
    for name, place in named:
        columns = _columns_of(name, [other for other, _ in named], options.columns)
        table = _open(place, replace(options, name=name, columns=columns))
        if not name:
            for own in table.names if table.schemas[0].dataset is None else ():
                if own in taken:
                    raise TableError(f"{taken[own]} and {place} would both be the data set {own!r}; write NAME={place}")
                taken[own] = str(place)
        tables.append(table)
    if not tables:
        raise TableError("no pairs were named; give a file, a folder, hf:org/name or pack:photos")
    return tables[0] if len(tables) == 1 else Tables(tables)


def _columns_of(name: str, names: Sequence[str], columns: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """What is said of the columns of one data set; raises TableError where it is said of one that there is not."""
    said, own = {}, {}
    for key, column in (columns or {}).items():
        of, colon, meaning = key.rpartition(":")
        if colon and of not in names:
            there = ", ".join(filter(None, names)) or "none (write NAME=DATA)"
            raise TableError(f"column {key}={column}: no data set is called {of!r}; there are {there}")
        if of in ("", name):
            (own if colon else said)[meaning] = column
    return {**said, **own} or None


def _check_met(table: Table, ignore: Sequence[str]) -> None:
    """Whether all names to ignore are columns: a slip of the pen would else go unseen."""
    if unmet := sorted(set(ignore) - table.ignored):
        known = ", ".join(table.columns) or "none"
        raise TableError(f"ignore={unmet}: there is no such column; there are {known}")


def _open(source: str | Path, options: Options) -> Table:
    text, split = str(source), options.wanted
    if options.root is not None:
        options = replace(options, root=Path(options.root))
    if isinstance(source, str) and text.startswith("pack:"):
        from zoo.tables.pack_documents import DOCUMENTS, DocumentsTable
        from zoo.tables.pack_regions import REGIONS, RegionsTable
        from zoo.tables.packs import COMPOSED, ComposedTable, PackTable
        from zoo.tables.spoken import SPOKEN, SpokenTable
        from zoo.tables.words import WORDS, WordTable

        _only_files(text, options)
        if text == f"pack:{WORDS}":
            return WordTable(split, options.name or WORDS)
        if text == f"pack:{SPOKEN}":
            return SpokenTable(split, options.name or SPOKEN)
        if text == f"pack:{COMPOSED}":
            return ComposedTable(split, options.name or COMPOSED)
        if text == f"pack:{REGIONS}":
            return RegionsTable(split, options.name or REGIONS)
        if text == f"pack:{DOCUMENTS}":
            return DocumentsTable(split, options.name or DOCUMENTS)
        return PackTable(text.removeprefix("pack:"), split, options.name or text.removeprefix("pack:"))
    found = find_tables(source, split, allow_outside=options.allow_outside)
    options = replace(options, name=options.name or found.name, given=found.given)
    table = _open_found(found, options)
    only = only_split(table) if options.split is None else ""
    if only:
        table = _open(source, replace(options, split=only))
        for leaf in leaves_of(table):
            leaf.asked = False
        return table
    check_split(table, text, split, by_place=found.by_split)
    return table


def open_held_out(source: str | Path, options: Options) -> Table:
    """The validation rows of a source, else its test rows, else all of it: pairs to choose a model by.

    Args:
        source: as in `open_all`, also `NAME=path`. options: what they say of the columns of other data sets is of those
            to learn from, and passed over.

    Raises:
        TableError: see `open_pairs`.
    """
    own = ("", named_source(source)[0])
    columns = {key: column for key, column in (options.columns or {}).items() if key.rpartition(":")[0] in own}
    return _first_split(source, replace(options, columns=columns or None), (VALIDATION, TEST))


def open_measured(source: str | Path, options: Options) -> Table:
    """The test rows of a source, else its validation rows, else all of it: pairs to judge a model by.

    Args:
        source: as in `open_all`, also `NAME=path`.

    Raises:
        TableError: see `open_pairs`.
    """
    return _first_split(source, options, (TEST, VALIDATION))


def _first_split(source: str | Path, options: Options, splits: Sequence[str]) -> Table:
    pack = str(named_source(source)[1]).startswith("pack:")
    for split in splits:
        try:
            return open_sources([source], replace(options, split="val" if pack and split == VALIDATION else split))
        except NoSplitError:
            continue
    return open_sources([source], replace(options, split=TRAIN))


def named_source(source: str | Path) -> tuple[str, str | Path]:
    """`NAME=path` in two; a path that exists is a path."""
    match = _NAMED.fullmatch(source) if isinstance(source, str) else None
    return (match[1], match[2]) if match and not Path(source).exists() else ("", source)


def _open_found(found: Found, options: Options) -> Table:
    if not found.files:
        from zoo.tables.folder import open_images

        _only_files(str(found.base), options)
        table: Table = open_images(found.base, options)
    else:
        if found.constants:
            options = replace(options, root=options.root or found.base)
        table = _open_files(found.files, options, found.constants)
    if found.notes:
        first = table.schemas[0]
        table.schemas = [replace(first, notes=(*first.notes, *found.notes)), *table.schemas[1:]]
    return table


def _only_files(source: str, options: Options) -> None:
    if options.columns or options.root:
        raise TableError(f"{source} is no table: it takes no {'columns' if options.columns else 'root'}")


def _open_files(files: list[Path], options: Options, constants: Constants) -> Table:
    kind = one_kind(files)
    if kind == "parquet":
        from zoo.tables.parquet import ParquetTable

        return _followed(ParquetTable(files, options, constants), options)
    if kind == "tar":
        from zoo.tables.webdataset import ShardTable

        return _followed(ShardTable(files, options), options)
    from zoo.tables.rows import open_rows

    tables = [open_rows(path, options, constants) for path in files]
    return tables[0] if len(tables) == 1 else Tables(tables)


def _followed(table: Table, options: Options) -> Table:
    (schema,) = table.schemas
    return follow(table, schema, options.wanted)
