"""What the sub-commands share: the options of a model, numbers for people, tables and JSON."""

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.tables.options import Options

DEFAULT_MODEL = "zoo-mini"
PRECISIONS = ("float32", "int8", "binary")


def add_model_options(parser: argparse.ArgumentParser, *, default: str | None = DEFAULT_MODEL, more: str = "") -> None:
    """`--model`, `--device` and `--ignore`; `more` is what else that may name."""
    shown = f"default: {default}" if default else "default: the one that made the vectors"
    parser.add_argument(
        "--model",
        default=default,
        metavar="NAME",
        help=f"a name of `zoo list`, open_clip:ARCH/TAG, timm:NAME, hf:ORG/REPO, or ./FOLDER; a vision-language checkpoint "
        f'says whose prompt and pooling it has: "./FOLDER like gme-qwen2vl-2b" ({shown})',
    )
    add_device(parser, more)


def add_device(parser: argparse.ArgumentParser, more: str = "") -> None:
    """`--device` and `--ignore`, wherever a model is run; see `add_ignore`."""
    parser.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, mps (default: a GPU if there is one)")
    add_ignore(parser, more)


def add_ignore(parser: argparse.ArgumentParser, more: str = "") -> None:
    """`--ignore`, wherever a checkpoint is opened; `more` is what else it may name."""
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="KEY",
        help=f"read a checkpoint as if its files had not this setting, which the zoo does not follow; {more}repeat",
    )


def add_reading_options(parser: Any) -> None:
    """`--root`, `--as-text`, `--encoding` and `--separator`, wherever a table is read; a parser or a group of one."""
    parser.add_argument("--root", type=existing, metavar="DIR", help="where relative paths in the table begin")
    parser.add_argument(
        "--as-text",
        action="append",
        default=[],
        metavar="WORD",
        help="a text that looks like a missing one: nan, None, …",
    )
    parser.add_argument(
        "--encoding", metavar="E", help="of a file of text that is not UTF-8: cp1252, gb18030, … (UTF-16 is found)"
    )
    parser.add_argument(
        "--separator", metavar="C", help="of the cells of a CSV file, where it is not clear: ',', ';', '|' or tab"
    )


def add_pair_options(parser: Any) -> None:
    """`--column`, and what `add_reading_options` adds, wherever pairs are read."""
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="[DATA:]ROLE=NAME",
        help="e.g. query_image=photo; of one data set alone classes:group=label; repeat",
    )
    add_reading_options(parser)


def refuse_pair_options(arguments: argparse.Namespace, why: str, *more: str) -> None:
    """Raises ZooError for an option of `add_pair_options`, or one of `more`, where there are no pairs that it is of."""
    for option in (*more, "column", "root", "as_text", "encoding", "separator"):
        if getattr(arguments, option):
            raise ZooError(f"--{option.replace('_', '-')} is of {why}, or leave it out")


def reading(arguments: argparse.Namespace) -> "Options":
    """How the tables are read, by the options of `add_pair_options`, `--split` and `--ignore`."""
    from zoo.tables.options import Options

    return Options(
        columns=dict(assignment(entry) for entry in arguments.column) or None,
        root=arguments.root,
        split=arguments.split,
        ignore=tuple(arguments.ignore),
        as_text=tuple(arguments.as_text),
        encoding=arguments.encoding,
        separator=separator(arguments),
    )


def assignment(text: str) -> tuple[str, str]:
    """NAME=VALUE in two."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise ZooError(f"{text!r} is not written NAME=VALUE")
    return name, value


def separator(arguments: argparse.Namespace) -> str | None:
    """`--separator` as one letter."""
    return "\t" if arguments.separator in ("tab", "\\t") else arguments.separator


def add_vector_options(parser: argparse.ArgumentParser) -> None:
    """`--prompt`, `--prompt-name`, `--dim`, `--precision` and `--batch-size`."""
    add_prompt_options(parser)
    parser.add_argument("--dim", type=positive, metavar="N", help="keep the first N columns of a Matryoshka model")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of the vectors (default: float32)")
    parser.add_argument(
        "--batch-size", type=positive, metavar="N", help="inputs at once (default: what suits the model)"
    )


def add_prompt_options(parser: argparse.ArgumentParser) -> None:
    """`--prompt` or `--prompt-name`."""
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument(
        "--prompt",
        metavar="TEXT",
        help="text put before each input as it stands; to vision-language models their instruction",
    )
    prompt.add_argument(
        "--prompt-name", metavar="NAME", help="a prompt of the model by its name, such as query (zoo show NAME)"
    )


def source(name: str) -> str | Path:
    """What was meant by a NAME: a folder that is there, else the name as it stands, for `load_model`."""
    from zoo.registry import LIKE, PREFIXES, is_registered

    if LIKE in name and Path(name).expanduser().is_dir():  # "photos like these"
        return Path(name).expanduser()
    place, like, other = name.rpartition(LIKE) if LIKE in name else (name, "", "")
    folder = Path(place).expanduser()
    if folder.is_dir() and not is_registered(name):
        return f"{folder.resolve()}{like}{other}" if like else folder
    if "/" in name and not name.startswith((*PREFIXES, ".", "/", "~")):
        raise ZooError(f"there is no folder {name}; write hf:{name} for a repository of the Hub")
    return name


def spelled(name: str) -> str:
    """A NAME as Python code would write it for `load_model`: a folder's plain name with "./" before it."""
    found = source(name)
    if not isinstance(found, Path) or found.is_absolute() or str(found).startswith("."):
        return str(found)
    return f"./{found}"


def open_model(arguments: argparse.Namespace) -> "Embedder":
    """Loads `--model` onto `--device`, and checks `--dim` against it."""
    from zoo.registry import load_model

    with waiting(f"loading {arguments.model}"):
        model = load_model(source(arguments.model), device=arguments.device, ignore=arguments.ignore)
    dim = getattr(arguments, "dim", None)
    if dim is not None and dim > model.spec.dim:
        raise ZooError(f"--dim {dim}: {model.spec.name} gives vectors of {model.spec.dim} columns")
    return model


@contextlib.contextmanager
def waiting(message: str) -> Iterator[None]:
    """Shows on a terminal what takes so long; says nothing elsewhere."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(one_line(message)):
        yield


def positive(text: str) -> int:
    """A whole number from 1 (for argparse)."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return number


def integer(text: str) -> int:
    """A whole number (for argparse)."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, such as 10") from None


def real(text: str) -> float:
    """A finite number (for argparse)."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is no number, such as 0.5")
    return number


def number_of_weights(text: str) -> int:
    """Reads 30M, 1.5B, 800k or 12345 (for argparse)."""
    units = {"k": 1e3, "m": 1e6, "b": 1e9}
    unit = units.get(text[-1:].lower())
    try:
        number = float(text[:-1]) * unit if unit else float(text)
        return int(number)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of weights, such as 30M or 1.5B") from None


def short(number: int) -> str:
    """151277313 as "151M"; 0 means unknown."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            value = number / size
            return f"{value:.1f}{unit}" if value < 10 else f"{value:.0f}{unit}"
    return str(number) if number else "-"


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    print()


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[str] = ()) -> None:
    """A table no wider than the terminal (80 columns where there is none); `numbers` are set right-aligned.

    The last column gives way: what does not fit is cut with "…".
    """
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[one_line(cell) for cell in row] for row in rows]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, header in enumerate(headers):
        natural = max(cell_len(header), *(cell_len(row[place]) for row in cells))
        table.add_column(
            header,
            justify="right" if header in numbers else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=None if place == len(headers) - 1 else natural,
        )
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))  # as Text: a file called "[red].jpg" is no markup
    Console(highlight=False).print(table)


def one_line(text: str) -> str:
    """The text without line breaks and control characters."""
    return "".join(c if c.isprintable() else " " for c in str(text))


def existing(path: str) -> Path:
    """A path with `~` expanded (for argparse)."""
    return Path(path).expanduser()
