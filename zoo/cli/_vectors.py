"""What the commands over many vectors share: where they come from, and the files that their results go to."""

import argparse
import contextlib
import csv
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli._shared import (
    DEFAULT_MODEL,
    add_model_options,
    add_reading_options,
    check_output,
    existing,
    on_terminal,
    open_made_by,
    open_model,
    print_table,
    refuse_pair_options,
    separator,
    source,
)
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.vectors import Vectors

# Rows that are shown to a person; a pipe, --csv and --json get all.
SHOWN = 50
# After so many seconds of embedding it is said how to keep the vectors.
LONG = 30.0


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """SOURCE, how it is embedded where it is no folder of vectors, and `--where`."""
    parser.add_argument(
        "source", type=existing, metavar="SOURCE", help="what `zoo embed` made, or what it takes: a folder, a table"
    )
    add_model_options(parser, default=None)
    parser.add_argument("--where", metavar="SQL", help="rows that match: \"label = 'cat' AND year >= 2020\"")
    parser.add_argument("--column", action="append", default=[], metavar="C", help="of a table, as in `zoo embed`")
    parser.add_argument("--kind", choices=("text", "image", "video", "audio"), help="what the column holds")
    parser.add_argument("--split", metavar="S", help="rows of this split only, of a table or folder")
    add_reading_options(parser)


def add_result_options(parser: argparse.ArgumentParser, *, html: str) -> None:
    """`--csv`, `--html` and `--json`."""
    parser.add_argument("--csv", type=existing, metavar="FILE", help="write all rows as a table")
    parser.add_argument("--html", type=existing, metavar="FILE", help=html)
    parser.add_argument("--json", action="store_true", help="all of it on stdout, for machines")


@contextlib.contextmanager
def opened(
    arguments: argparse.Namespace,
    *,
    model: bool = True,
    check: "Callable[[Embedder], object] | None" = None,
) -> "Iterator[tuple[Vectors, Embedder | None]]":
    """The vectors of SOURCE, embedded for the time of the command where it is no folder of them; cheap checks come first.

    Args:
        model: whether the model is needed where the vectors are there. check: is called with it before anything is embedded.
    """
    from zoo.shards.folder import holds_vectors, unfinished
    from zoo.vectors import open_vectors

    check_output(arguments.csv)
    check_output(arguments.html)
    if holds_vectors(arguments.source):
        if arguments.model is not None and not model:
            raise ZooError(
                "--model is for what is embedded; the vectors are there already, and are compared as they are"
            )
        inputs = {"root": arguments.root, "allow_outside": arguments.allow_outside}
        arguments.root, arguments.allow_outside = None, False
        refuse_pair_options(arguments, "a table or a folder of images; the vectors are there already", "kind", "split")
        vectors = open_vectors(arguments.source, arguments.where, **inputs)
        if told := unfinished(vectors.manifest):
            print(f"{arguments.source}: {told}", file=sys.stderr)
        maker = open_made_by(arguments, arguments.source, vectors.manifest) if model else None
        if maker is not None and check is not None:
            check(maker)
        yield vectors, maker
        return
    arguments.model = arguments.model or DEFAULT_MODEL
    source(arguments.model)
    _check_source(arguments)
    maker = open_model(arguments)
    if check is not None:
        check(maker)
    try:
        room = tempfile.TemporaryDirectory(prefix="zoo-")
    except OSError as error:
        raise _no_room(arguments, error) from error
    with room as folder:
        yield _embed(arguments, maker, Path(folder)), maker


def _no_room(arguments: argparse.Namespace, error: Exception) -> ZooError:
    return ZooError(
        f"there is no room for the vectors of {arguments.source} among the temporary files ({getattr(error, 'strerror', None) or 'full'}): "
        f"set TMPDIR to a folder that has some, or keep them: zoo embed {arguments.source} --out DIR"
    )


def _check_source(arguments: argparse.Namespace) -> None:
    """What `embed_dataset` would refuse, before a model is loaded."""
    from zoo.bulk.opening import prepare
    from zoo.tables.options import Options, check_format

    options = Options(
        root=arguments.root,
        split=arguments.split,
        as_text=tuple(arguments.as_text),
        allow_outside=arguments.allow_outside,
        **_format(arguments),
    )
    found = prepare(_named(arguments.source), options)
    check_format(options, found)
    found.check(arguments.column, arguments.kind)


def _format(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"encoding": arguments.encoding, "separator": separator(arguments)}


def _named(source: Path) -> Path | str:
    """A folder or file; hf:ORG/NAME and pack:NAME are names."""
    return str(source) if str(source).startswith(("hf:", "pack:")) else source


def _embed(arguments: argparse.Namespace, model: "Embedder", folder: Path) -> "Vectors":
    from zoo.bulk import embed_dataset
    from zoo.errors import DiskFullError, TooManyBadItemsError
    from zoo.strangers.made import forget
    from zoo.vectors import open_vectors
    from zoo.vectors.opening import quarantine

    began = time.monotonic()
    try:
        embed_dataset(
            model,
            _named(arguments.source),
            folder,
            column=arguments.column or None,
            kind=arguments.kind,
            split=arguments.split,
            root=arguments.root,
            as_text=arguments.as_text,
            allow_outside=arguments.allow_outside,
            progress=sys.stderr.isatty(),
            say=lambda note: print(note, file=sys.stderr),
            **_format(arguments),
        )
    except TooManyBadItemsError:
        tell_bad(quarantine(folder))
        raise ZooError(f"no input of {arguments.source} can be embedded; the reasons are above") from None
    except DiskFullError as error:
        raise _no_room(arguments, error) from error
    vectors = open_vectors(folder, arguments.where, ours=True)
    forget(folder)  # it is gone with the command
    if time.monotonic() - began > LONG:
        kept = f"zoo embed {arguments.source} --out vectors/"
        print(f"next time quicker: {kept} keeps the vectors, and SOURCE may be vectors/", file=sys.stderr)
    return vectors


def tell_bad(bad: Sequence[dict[str, Any]]) -> None:
    """Lists on stderr what could not be embedded, and why."""
    if not bad:
        return
    shown = bad[:SHOWN] if sys.stderr.isatty() else bad
    print(f"{len(bad):,} inputs could not be embedded:", file=sys.stderr)
    for one in shown:
        print(f"  {one['message']}", file=sys.stderr)
    if len(shown) < len(bad):
        print(f"  and {len(bad) - len(shown):,} more: --csv and --json list them all", file=sys.stderr)


def print_rows(headers: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[str] = ()) -> None:
    """A table: to a person its first rows, saying how many more there are."""
    shown = rows[:SHOWN] if on_terminal() else rows
    if shown:
        print_table(headers, shown, numbers=numbers)
    if len(shown) < len(rows):
        print(f"and {len(rows) - len(shown):,} more: --csv FILE writes them all", file=sys.stderr)


def write_csv(path: Path, headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table of UTF-8, whole or not at all, and says so; raises ZooError."""
    from zoo.files import write

    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(headers)
    writer.writerows(rows)
    try:
        write(path, text.getvalue().encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise ZooError(f"cannot write {path}: {error.strerror or error}") from error
    print(f"{path}: written", file=sys.stderr)
