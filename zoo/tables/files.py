"""Which files a source is (a path, a glob, a range, a folder), what kind each is by its name, and how it is opened."""

import bz2
import gzip
import io
import lzma
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from glob import glob
from pathlib import Path, PurePath
from typing import Any, BinaryIO
from urllib.parse import unquote
from zlib import error as ZlibError

from zoo.errors import InputError, TableError
from zoo.tables.bounds import COPIES, LEAST_ROWS, PACKED_RATIO, PIECE, ROWS_A_BYTE
from zoo.tables.fences import Fence
from zoo.tables.walking import listed

KINDS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".tar": "tar",
}
PACKED = (".gz", ".zst", ".bz2", ".xz")
Constants = Mapping[Path, Mapping[str, Any]]  # cells that all rows of a file share, which it does not hold
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def suffix_of(path: PurePath) -> str:
    """The ending that says what a file is, in lower case; that of its packing is passed over: ".csv" of pairs.csv.gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def stem_of(path: PurePath) -> str:
    """The name without these endings: "pairs" of pairs.csv.gz."""
    return PurePath(path.stem).stem if path.suffix.lower() in PACKED else path.stem


def kind_of_table(path: Path) -> str:
    """csv, jsonl, parquet or tar.

    Raises:
        TableError: no such kind, with what to do about it.
    """
    suffix = suffix_of(path)
    kind, packed = KINDS.get(suffix), path.suffix.lower() in PACKED
    if kind is None:
        remedy = f"expected {', '.join(KINDS)}, the first four also with {', '.join(PACKED)}; it ends in {suffix or 'nothing'}"
        remedy = "write one object per line (.jsonl)" if suffix == ".json" else remedy
        remedy += "; save the sheet as CSV" if suffix in (".xlsx", ".xls", ".xlsm", ".ods") else ""
        remedy = "unpack it first" if suffix in (".zip", ".7z", ".rar", ".tgz") else remedy
        raise TableError(f"{path} is no table that is read here; {remedy}")
    if packed and kind == "tar":
        raise TableError(
            f"{path} is a compressed tar, in which no sample can be found by its offset; unpack it to a plain .tar"
        )
    if packed and kind == "parquet":
        raise TableError(f"{path} is a packed Parquet file, whose rows cannot be found in it; unpack it first")
    return kind


def open_bytes(path: Path) -> BinaryIO:
    """The content of a file, unpacked while it is read; see `unpacking` for the errors.

    Reading on raises TableError where much more comes out than the file holds.
    """
    packed = path.suffix.lower()
    if packed not in PACKED:
        return path.open("rb")
    if packed == ".zst":
        import pyarrow as pa

        content: Any = pa.input_stream(str(path), compression="zstd")
    else:
        content = _Xz(path) if packed == ".xz" else {".gz": gzip.open, ".bz2": bz2.open}[packed](path, "rb")
    return io.BufferedReader(_Unpacked(content, path), 2**17)


class _Unpacked(io.RawIOBase):
    """What comes out of a packed file, counted: bytes, and lines, each of which takes its time even where it is empty."""

    def __init__(self, content: Any, path: Path) -> None:
        self._content, self._path, self._count, self._lines = content, path, 0, 0
        size = path.stat().st_size
        self._most, self._most_lines = max(COPIES, PACKED_RATIO * size), max(LEAST_ROWS, ROWS_A_BYTE * size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._content.readinto(buffer)
        self._count += count
        if self._count > self._most:
            raise TableError(
                f"{self._path}: over {PACKED_RATIO} times as many bytes come out as it holds; it is made to fill the memory, or "
                "damaged. If you know it, unpack it first"
            )
        piece = bytes(memoryview(buffer)[:count])
        self._lines += max(piece.count(b"\n"), piece.count(b"\r"))
        if self._lines > self._most_lines:
            raise TableError(
                f"{self._path}: over {self._most_lines:,} lines come out of so small a file; it is made to take for ever, or damaged. "
                "If you know it, unpack it first"
            )
        return count

    def close(self) -> None:
        self._content.close()
        super().close()


class _Xz(io.RawIOBase):
    """An .xz file; what asks for more memory than any usual one is damaged."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._begin()

    def _begin(self) -> None:
        self._unpacker = lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=PIECE)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._unpacker.eof:  # one stream may follow another, with zeros between them
                rest = (self._unpacker.unused_data or self._file.read(2**16)).lstrip(b"\0")
                while not rest and (rest := self._file.read(2**16)):
                    rest = rest.lstrip(b"\0")
                if not rest:
                    return 0
                self._begin()
            else:
                rest = self._file.read(2**16) if self._unpacker.needs_input else b""
                if self._unpacker.needs_input and not rest:
                    raise EOFError("Compressed file ended before the end-of-stream marker was reached")
            if out := self._unpacker.decompress(rest, len(buffer)):
                buffer[: len(out)] = out
                return len(out)

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def unpacking(path: Path) -> Iterator[None]:
    """Turns what goes wrong while a file is read into a TableError that names it."""
    try:
        yield
    except (EOFError, ZlibError, lzma.LZMAError) as error:
        raise TableError(f"{path} is damaged or cut off: {error}") from error
    except OSError as error:
        why = error.strerror if error.strerror and error.errno else f"damaged, cut off or not packed: {error}"
        raise TableError(f"{path} cannot be read: {why}") from error


def find_files(path: Path) -> tuple[list[Path], str]:
    """The one file or folder of a path, or the files of a glob or a range in their natural order; and a name for them.

    Raises:
        TableError: nothing there.
    """
    if path.is_dir():
        return [path], path.resolve().name
    if path.is_file():
        return [path], stem_of(path)
    if not _RANGE.search(str(path)) and not any(mark in str(path) for mark in "*?["):
        what = "is no file or folder" if path.exists() else f"does not exist (working directory {Path.cwd()})"
        raise TableError(f"{path} {what}")
    files: list[Path] = []
    for pattern in _spelled(str(path)):
        found = sorted((p for p in map(Path, glob(pattern, recursive=True)) if not is_hidden(p)), key=natural)
        if not found:
            raise TableError(f"{pattern} matches no file (working directory {Path.cwd()})")
        files += found
    stem = re.sub(r"[*?\[\]{}.]+|\d+", "", stem_of(path)).strip("-_ ")
    return files, stem or path.resolve().parent.name


def tables_in(folder: Path, odd: list[InputError] | None = None, fence: Fence | None = None) -> list[Path]:
    """The tables that lie in a folder itself, in their natural order; hidden files are left out.

    Args:
        odd: takes the errors of entries that cannot be looked at. fence: the folder out of which no link is followed.
    """
    files = (entry.path for entry in listed(folder, [] if odd is None else odd, fence=fence) if entry.is_file)
    return sorted((path for path in files if suffix_of(path) in KINDS and not is_hidden(path)), key=natural)


def partitions_in(
    folder: Path,
    exclude: Path | None = None,
    odd: list[InputError] | None = None,
    fence: Fence | None = None,
) -> dict[Path, dict[str, Any]]:
    """The tables of a partitioned folder in their natural order, each with the keys that its folders say.

    `year=2024/lang=de/part-0.parquet`; as Spark, DuckDB and pyarrow write them. Empty for other folders.

    Args:
        exclude: a folder that is not looked into. odd: takes the errors of entries that cannot be looked at. fence: the folder
            out of which no link is followed.

    Raises:
        TableError: two files have other keys, or a table lies in a folder without one.
    """
    from zoo.tables.cells import Guess, from_cell

    odd = [] if odd is None else odd
    here = listed(folder, [], fence=fence)
    below = [entry.path for entry in here if entry.is_folder and not entry.name.startswith((".", "_"))]
    below = [path for path in below if exclude is None or path.resolve() != exclude.resolve()]
    if not any("=" in path.name for path in below):
        return {}
    found: dict[Path, dict[str, Any]] = {}
    inside = [entry.path for entry in here if entry.is_file]
    inside += [path for one in below if "=" in one.name for path in _files_below(one, folder, odd, fence)]
    for path in sorted(filter(partial(_is_part, folder), inside), key=natural):
        parts = path.relative_to(folder).parts
        keys = [unquote(part).partition("=") for part in parts[:-1] if "=" in part]
        found[path] = {key: None if value == _NO_VALUE else value for key, _, value in keys}
    if not any(found.values()):
        return {}
    others = (
        path for one in below if "=" not in one.name for path in _files_below(one, folder, odd, fence)
    )  # images, perhaps
    if (stray := next(filter(partial(_is_part, folder), others), None)) is not None:
        raise TableError(
            f"{folder} holds partitions, and {stray.relative_to(folder)} is of none; move it away, or name the files"
        )
    guesses: dict[str, Guess] = {}
    first = next(iter(found), folder)
    for path, keys in found.items():
        if keys.keys() != found[first].keys():
            raise TableError(
                f"{folder}: {path.relative_to(folder)} is of the partition {', '.join(keys) or 'none'}, and "
                f"{first.relative_to(folder)} of {', '.join(found[first]) or 'none'}; the folders of all files name the same keys"
            )
        for key, value in keys.items():
            guesses.setdefault(key, Guess()).see_cell(value or "")
    types = {key: guess.arrow() for key, guess in guesses.items()}
    return {path: {key: from_cell(value, types[key]) for key, value in keys.items()} for path, keys in found.items()}


def _is_part(folder: Path, path: Path) -> bool:
    """Whether a file below a partitioned folder is one of its tables, and not what programs put beside them."""
    hidden = any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    return suffix_of(path) in KINDS and not hidden


def _files_below(folder: Path, root: Path, odd: list[InputError], fence: Fence | None) -> Iterator[Path]:
    """The files below a folder; linked and hidden folders are not entered."""
    pending = [folder]
    while pending:
        for entry in listed(pending.pop(), odd, root, fence):
            if entry.is_folder and not entry.linked:
                pending += [] if entry.name.startswith((".", "_")) else [entry.path]
            elif entry.is_file:
                yield entry.path


def names_of(files: Sequence[Path], constants: Constants) -> list[str]:
    """What places call files: their names, in a partitioned folder with the folders of the partition."""
    return ["/".join(path.parts[-1 - len(constants.get(path, ())) :]) for path in files]


def one_kind(files: Sequence[Path]) -> str:
    """The kind of files that are read as one table.

    Raises:
        TableError: of one of them there is none, they are of several, or one is another in packed form.
    """
    kinds = {path: kind_of_table(path) for path in files}
    if len(set(kinds.values())) > 1:
        names = ", ".join(sorted({path.suffix for path in files}))
        raise TableError(
            f"{files[0].parent} holds tables of several kinds ({names}); name the files: *{files[0].suffix}"
        )
    whole: dict[Path, Path] = {}
    for path in files:
        plain = path.with_suffix("") if path.suffix.lower() in PACKED else path
        if (other := whole.setdefault(plain, path)) != path:
            raise TableError(f"{other} and {path.name} are one table, plain and packed, or packed twice; name the one")
    return kinds[files[0]]


def is_hidden(path: Path) -> bool:
    """Whether a file is one that programs put beside data: .part, ._a.csv, _SUCCESS, _metadata."""
    return path.name.startswith(".") or (path.name.startswith("_") and suffix_of(path) not in KINDS)


def natural(path: Path) -> list[tuple[int, str]]:
    """For sorting: part-2 before part-10."""
    return [(int(piece or 0), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", str(path))]


def _spelled(pattern: str) -> list[str]:
    """`{000..003}` written out."""
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = match[1], match[2]
    if int(last) < int(first):
        raise TableError(f"the range {match[0]} in {pattern} ends before it begins")
    numbers = (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
    return [done for number in numbers for done in _spelled(pattern[: match.start()] + number + pattern[match.end() :])]
