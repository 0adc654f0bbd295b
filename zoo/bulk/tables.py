"""Tables as sources: lines of text, and the rows that `zoo.tables` reads, in one pass after another, never as a whole."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zoo.bulk.sources import ALL, RESERVED, Record, Source, SourceFacts, check_kind, check_read, stamp
from zoo.bulk.splits import SplitFilter
from zoo.errors import BadRowError, EmptyTextError, InputError, NoSplitError, TableError
from zoo.inputs.item import Item
from zoo.inputs.masks import mask_files
from zoo.tables.cells import Guess, from_cell, from_json, json_list, printable
from zoo.tables.choice import Choice, choose
from zoo.tables.fences import Fence, outside_told
from zoo.tables.lines import TOO_LONG, text_lines, undecoded
from zoo.tables.options import Options
from zoo.tables.readers import open_reader
from zoo.tables.reading import RawRow, RowReader
from zoo.tables.schema import Column, Part
from zoo.tables.sources import Found, find_tables
from zoo.tables.values import BadCellError, cell_value, find_file, region_cell, told_modality

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class Lines:
    """A text file with a text per line, before anything is read."""

    path: Path
    options: Options
    columns: Collection[str] = ()
    ignored: Collection[str] = ()
    reads: frozenset[str] = frozenset({"encoding"})

    def check(self, asked: Sequence[str], kind: str | None) -> None:
        """See `Opened`."""
        self.choose(asked, kind, ALL)

    def choose(self, asked: Sequence[str], kind: str | None, modalities: Collection[str]) -> Source:
        """See `Opened`."""
        check_kind(kind)
        if asked or kind not in (None, "text"):
            raise TableError(f"{self.path} is a text file with one text per line: it has no columns and no images")
        if self.options.split is not None:
            raise NoSplitError(
                f"{self.path} is a text file with one text per line: nothing says of which split they are"
            )
        check_read(self.path, "text", modalities)
        return LinesSource.open(self.path, self.options.encoding)


@dataclass
class LinesSource(SourceFacts):
    """A text file with one text per line; blank lines are counted in `ignored`. The attribute `text` is the line."""

    encoding: str | None = None

    @classmethod
    def open(cls, path: Path, encoding: str | None = None) -> Self:
        """A source over the file; nothing is read yet."""
        import pyarrow as pa

        folder = path.resolve().parent
        schema = pa.schema([("text", pa.string())])
        return cls(path, folder, "text", None, schema, base=folder, attribute="text", encoding=encoding)

    def count(self) -> int:
        """Number of lines that are not blank; also fills `ignored`."""
        self.ignored = Counter()
        kept, long = 0, set()
        for number, line in enumerate(text_lines(self.path, self.encoding, long), 1):
            there = bool(line.strip()) or number in long
            kept += there
            self.ignored["blank-line"] += not there
        self.ignored += Counter()  # drops a zero
        return kept

    def records(self) -> Iterator[Record]:
        """One record for each line; the id is the line's number, counted from 0."""
        long: set[int] = set()
        for number, line in enumerate(text_lines(self.path, self.encoding, long)):
            line = line.removesuffix("\n").removesuffix("\r")
            if line.strip() or number + 1 in long:
                reference, problem = f"{self.path.name}#{number}", undecoded(line)
                problem = TOO_LONG if number + 1 in long else problem
                error = (
                    BadRowError(f"{self.path.name}, line {number + 1}: {problem}", what=reference) if problem else None
                )
                value = None if error else line
                yield Record(str(number), reference, value, stamp(line), (printable(line),), error)


@dataclass
class Tables:
    """Tables of one kind, opened: their columns and types are known.

    Attributes:
        source: what was asked for. gives_way: whether images that lie beside the tables go before them.
        types: Arrow type of every column. usual: the column that is meant where none is asked for.
    """

    source: Path | str
    found: Found
    options: Options
    gives_way: bool = False
    usual: str = ""
    readers: list[RowReader] = field(default_factory=list)
    types: "dict[str, pa.DataType]" = field(default_factory=dict)

    @classmethod
    def open(cls, source: Path | str, options: Options) -> Self:
        """Reads what tells the columns: footers, or whole files of text.

        Raises:
            TableError: nothing there, an unknown kind, or a damaged file.
        """
        if isinstance(source, str) and source.startswith("pack:"):
            from zoo.tables.packs import find_pack

            return cls(source, find_pack(source, options.split), options, usual="image")._read()
        told = isinstance(source, str) and source.startswith("hf:")
        place = source if told else Path(source).expanduser()
        found = find_tables(place, options.split, allow_outside=options.allow_outside)
        return cls(place, found, options)._read()

    @classmethod
    def in_folder(cls, folder: Path, options: Options, exclude: Path | None) -> Self | None:
        """The tables of a folder; None where it holds none."""
        found = find_tables(folder, options.split, exclude, allow_outside=options.allow_outside)
        if not found.files:
            return None
        usual = "file_name" if found.metadata else ""
        return cls(folder, found, options, not found.metadata and not found.constants, usual)._read()

    def _read(self) -> Self:
        from zoo.tables.files import one_kind

        one_kind(self.found.files)
        guesses: dict[str, Guess] = {}
        kinds: dict[str, list[pa.DataType]] = {}
        for path in self.found.files:
            name = path.name if self._alone() else self.found.name_of(path)
            reader = open_reader(path, self.options.format, name, self.found.constants.get(path, {}))
            for column, kind in reader.types(guesses).items():
                kinds.setdefault(column, []).append(kind)
            self.readers.append(reader)
        for column, found in kinds.items():  # a guess is of all files that were read before
            self.types[column] = found[-1] if column in guesses else _common_type(found, column, self.readers)
        return self

    @property
    def columns(self) -> Collection[str]:
        """See `Opened`."""
        return self.types

    @property
    def ignored(self) -> Collection[str]:
        """See `Opened`."""
        return [name for name in self.options.ignore if name in self.types]

    @property
    def reads(self) -> frozenset[str]:
        """See `Opened`."""
        return frozenset().union(*(reader.reads for reader in self.readers))

    def _alone(self) -> bool:
        """Whether the source is one file, and not a place where others may come to lie."""
        return self.found.metadata or (isinstance(self.source, Path) and self.source.is_file())

    def _name(self) -> str:
        return self.readers[0].name if len(self.readers) == 1 else str(self.source)

    def _seen(self) -> list[Column]:
        found = {column.name: column for reader in self.readers for column in reader.found()}
        return [column for column in found.values() if column.name not in self.options.ignore]

    def check(self, asked: Sequence[str], kind: str | None) -> None:
        """See `Opened`."""
        check_kind(kind)
        wanted = [entry for entry in asked if entry in self.types or not entry.startswith("split=")]
        if wanted:
            choose(self._name(), self._seen(), wanted, kind=kind)

    def choose(self, asked: Sequence[str], kind: str | None, modalities: Collection[str]) -> Source:
        """See `Opened`; columns that are ignored are as if they were not there."""
        import pyarrow as pa

        from zoo.tables.arrow import kept_type

        check_kind(kind)
        name, columns = self._name(), self._seen()
        said = {entry for entry in asked if entry.startswith("split=") and entry not in self.types}
        split = SplitFilter.of(name, columns, self.readers, self.options.split, self.found.by_split, said)
        wanted = [entry for entry in asked if entry not in said]
        choice = choose(name, columns, wanted, kind=kind, modalities=modalities, usual=self.usual)
        types = {column.name: kept_type(self.types[column.name]) for column in columns}
        for part in choice.parts if self.readers[0].spelled else ():
            types[part.column] = pa.string()  # a text is a text, even "1984"
        kept = [column for column, kind in types.items() if kind is not None]
        clean = dict(zip(kept, attribute_names(kept), strict=True))
        schema = pa.schema([(clean[column], types[column]) for column in kept])
        column = "+".join(part.column for part in choice.parts)
        used = {part.column for part in choice.parts}
        bare = [column for column, kind in types.items() if kind is None and column not in used]
        root = self.options.root
        return TableSource(
            self.source,
            self.found.base.resolve() if root is None else Path(root).expanduser().resolve(),
            choice.kind,
            column,
            schema,
            base=self.found.base.resolve(),
            media=next((part.column for part in choice.parts if part.modality != "text"), None),
            attribute=next((clean[part.column] for part in choice.parts if part.modality == "text"), None),
            regions=next((clean.get(part.column) for part in choice.parts if part.modality == "regions"), None),
            notes=self._notes(choice, bare),
            readers=self.readers,
            parts=choice.parts,
            names=kept,
            split=split,
            as_text=self.options.as_text,
            beside=root is None and not self.found.constants,
            alone=self._alone(),
            odd=self.found.odd,
            fence=replace(self.options, given=self.found.given).fence,
            outside=self.options.allow_outside or self.found.given is None,
            within=self.found.given if root is None else None,
        )

    def _notes(self, choice: Choice, bare: Sequence[str]) -> list[str]:
        """What was decided, a line each."""
        plural = "s" if len(choice.parts) > 1 else ""
        columns = "+".join(part.column for part in choice.parts)
        more = f"; also there: {', '.join(choice.others)} (--column)" if choice.others else ""
        notes = [f"embedding column{plural} {columns} ({choice.kind}){more}", *self.found.notes]
        notes += [f"{reader.name}: {note}" for reader in self.readers for note in reader.notes]
        return notes + [f"not kept beside the vectors, being bytes: {', '.join(bare)}"] * bool(bare)


@dataclass
class TableSource(SourceFacts):
    """Rows of tables: chosen columns make the item, and all columns but those of bytes are kept as attributes.

    Attributes:
        parts: columns of the item. names: of the columns kept as attributes, as the files spell them.
        beside: whether paths begin at the folder of their file, else at `root`. as_text: see `Options`.
        alone: whether rows are named by their number alone.
        odd: entries beside the tables that cannot be looked at: they may be tables too, and count as one bad input each.
        fence: the folder outside of which no file is opened. files: how many the records that were read have.
    """

    readers: list[RowReader] = field(default_factory=list)
    parts: tuple[Part, ...] = ()
    names: list[str] = field(default_factory=list)
    split: SplitFilter | None = None
    as_text: tuple[str, ...] = ()
    beside: bool = True
    alone: bool = True
    odd: tuple[InputError, ...] = ()
    fence: Fence | None = None
    files: int = 0

    def count(self) -> int:
        """Number of rows, bad ones included, and without those of other splits."""
        if self.split is None:
            return sum(reader.count() for reader in self.readers) + len(self.odd)
        self.ignored = Counter({"other-split": self.split.others}) if self.split.others else Counter()
        return self.split.rows + len(self.odd)

    def records(self) -> Iterator[Record]:
        """One record for each row, and before them the odd ones; the id is the row's number in its file, counted from 0."""
        for error in self.odd:
            name = printable(error.what)
            yield Record(name, name, None, stamp("odd", name), (None,) * len(self.names), error)
        needed = list(dict.fromkeys([*self.names, *(part.column for part in self.parts)]))
        needed += [self.split.column] if self.split is not None and self.split.column not in needed else []
        types = self.schema.types
        self.files = self.led_out = 0
        own = Fence(self.root)
        for reader in self.readers:
            root = reader.path.parent.resolve() if self.beside else self.root
            for row in reader.rows(needed):
                if self.split is None or self.split.keeps(row):
                    record = self._record(reader, row, types, root)
                    self._tell(record.value, own)
                    yield record

    def _tell(self, value: Any, own: Fence) -> None:
        """Counts the files of the user's own tables, and those that lie elsewhere."""
        for file in value.media if isinstance(value, Item) else (value,):
            if isinstance(file, Path):
                self.files += 1
                self.led_out += own.leaves(file)

    def told(self) -> list[str]:
        """What is worth a line once all records were read."""
        note = outside_told(self.led_out, self.files, self.root)
        return [note] if note else []

    def _record(self, reader: RowReader, row: RawRow, types: "Sequence[pa.DataType]", root: Path) -> Record:
        reference = f"{reader.name}#{row.number}"
        own = str(row.number) if self.alone else reference
        attributes = tuple(_kept(row.cells.get(name), kind) for name, kind in zip(self.names, types, strict=True))
        marks: list[str | bytes | int] = [repr(attributes)]
        try:
            if row.problem:
                raise BadCellError(row.problem)
            found, named = self._values(row.cells, root)
        except BadCellError as error:
            bad: InputError = BadRowError(f"{row.where}: {error}", what=reference)
            return Record(own, reference, None, stamp("bad", "None", *marks), attributes, bad)
        if not found:
            columns = " and ".join(repr(part.column) for part in self.parts)
            kind = EmptyTextError if self.kind == "text" else BadRowError
            bad = kind(f"{row.where}: there is nothing in column {columns}", what=reference)
            return Record(own, reference, None, stamp("bad", "None", *marks), attributes, bad)
        if named:
            reference = self._below(named, root)
        for value in found.values():
            files = [value] if isinstance(value, Path) else mask_files(value) if isinstance(value, tuple) else []
            marks += map(_file_mark, files)
        told = [reference if isinstance(value, Path) else value for value in found.values()]
        content = (
            told[0] if len(told) == 1 else stamp(*(part for pair in zip(found, told, strict=True) for part in pair))
        )
        value = next(iter(found.values())) if len(self.parts) == 1 else Item(**found)
        return Record(own, reference, value, stamp(content, *marks), attributes)

    def _values(self, cells: Mapping[str, Any], root: Path) -> tuple[dict[str, Any], str]:
        """What the item holds by modality, and the name of its file.

        Raises:
            BadCellError: a cell cannot serve.
        """
        found, named = {}, ""
        for part in self.parts:
            if part.modality == "regions":
                if regions := region_cell(part.column, cells.get(part.column), root, self.fence):
                    found["regions"] = regions
                continue
            cell = _single(part, cells.get(part.column))
            modality, value = cell_value(part, cell, self.as_text)
            if value is None:
                continue
            if modality == "text" and isinstance(cell, str):
                value = cell  # as it stands, with its spaces: the vector is that of `encode_document`
            if modality != "text" and isinstance(value, str):
                named = named or value
                value, _ = find_file(root, part, value, self.fence)
            if len(self.parts) > 1 and modality != "text":
                modality = told_modality(part, value)
            found[modality] = value
        if "regions" in found and "image" not in found:
            raise BadCellError("there are regions, and no image that they are of")
        return found, named

    def _below(self, name: str, root: Path) -> str:
        """A file as its reference: its way from the source's root."""
        inside = root.relative_to(self.root).as_posix() if root.is_relative_to(self.root) else "."
        return printable(name if inside == "." else f"{inside}/{name}")


def _kept(value: Any, kind: "pa.DataType") -> Any:
    return from_cell(value, kind) if isinstance(value, str) else from_json(value, kind)


def _single(part: Part, value: Any) -> Any:
    """A cell, of a list its one entry."""
    if part.many and isinstance(value, str) and (found := json_list(value)) is not None:
        value = found
    if not isinstance(value, list):
        return value
    if len(value) > 1:
        raise BadCellError(
            f"the {part.column} is a list of {len(value)}, and a row is one vector: write a row for each"
        )
    return value[0] if value else None


def _file_mark(path: Path) -> str:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return "absent"
    return f"{status.st_size} {status.st_mtime_ns}"


def _common_type(kinds: "Sequence[pa.DataType]", column: str, readers: Sequence[RowReader]) -> "pa.DataType":
    """A type that keeps the values of all files as they are; text where there is none."""
    import pyarrow as pa

    from zoo.tables.arrow import keeps

    if all(kind == kinds[0] for kind in kinds):
        return kinds[0]
    try:
        schemas = [pa.schema([(column, kind)]) for kind in kinds]
        found = pa.unify_schemas(schemas, promote_options="permissive").field(column).type
    except pa.ArrowException:
        return pa.string()
    exact = pa.types.is_float64(found) and all(reader.exact(column) for reader in readers)
    return found if all(keeps(found, kind, exact) for kind in kinds) else pa.string()


def attribute_names(names: Sequence[str]) -> list[str]:
    """The names under which columns are kept beside the vectors.

    "id" becomes "id_", since `id` is ours; dots, which stores read as nested fields, and a leading underscore, which
    they keep for themselves, are replaced. No two columns end up under one name, not even but for the case.
    """
    result: list[str] = []
    taken = set(RESERVED)
    for name in names:
        clean = name.replace(".", "_").lstrip("_") or "column"
        while clean.lower() in taken:
            clean += "_"
        taken.add(clean.lower())
        result.append(clean)
    return result
