"""What the sub-commands share: the options of a model, numbers for people, tables and JSON."""

import argparse
import contextlib
import logging
import math
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError
from zoo.strangers.terminal import console, json_text

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.inputs.item import Item
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
    add_like(parser)
    add_device(parser, more)


def add_like(parser: Any, of: str = "model") -> None:
    """`--like`, beside the argument called `of` that names a model; `with_like` puts the two together."""
    parser.add_argument(
        "--like",
        metavar="OTHER",
        help='the registered model whose prompt and pooling a checkpoint has: --like OTHER is "NAME like OTHER"',
    )
    parser.set_defaults(like_of=of)


def with_like(arguments: argparse.Namespace) -> None:
    """Puts `--like OTHER` after the name that it is of; raises ZooError where there is none, or where it says so itself."""
    from zoo.registry import LIKE

    if (other := getattr(arguments, "like", None)) is None:
        return
    name = getattr(arguments, of := arguments.like_of)
    if several := isinstance(name, list):
        if len(name) > 1:
            raise ZooError(
                f'--like {other} is of one model, and there are {len(name)}; write it behind the one: "NAME like {other}"'
            )
        name = "".join(name)
    if not name:
        raise ZooError(f"--like {other} is of a model that is named: add --{of} NAME")
    if LIKE in name:
        raise ZooError(f'"{name}" says what it is read like; leave --like {other} out')
    meant = f"{name}{LIKE}{other}"
    setattr(arguments, of, [meant] if several else meant)


def add_device(parser: argparse.ArgumentParser, more: str = "") -> None:
    """`--device` and `--ignore`, wherever a model is run; see `add_ignore`."""
    parser.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, mps (default: a GPU if there is one)")
    add_ignore(parser, more)


def add_backend(parser: argparse.ArgumentParser, option: str = "--backend") -> None:
    """`--backend`, wherever a model only embeds; called otherwise where an index has a backend of its own."""
    parser.add_argument(
        option,
        dest="model_backend",
        default="torch",
        metavar="NAME",
        help="what computes the vectors on a CPU: torch, openvino, onnx, or auto for what a trial finds fastest here; the same "
        "vectors (default: torch)",
    )


def add_pixels(parser: argparse.ArgumentParser) -> None:
    """`--pixels`, wherever a model embeds images of the user's."""
    parser.add_argument(
        "--pixels",
        choices=("exact", "scaled"),
        help="of large JPEG photos: decoded exactly, or scaled, which is faster and differs slightly (default: as the model says)",
    )


def say_backend(model: "Embedder", name: str) -> None:
    """On stderr, what computes a model and how far from torch's vectors."""
    if name != "torch":
        print(f"backend {model.backend}", file=sys.stderr, flush=True)


class _Stderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr, flush=True)


@contextlib.contextmanager
def telling(name: str = "zoo.backends") -> Iterator[None]:
    """What a room logs is on stderr meanwhile: what backend="auto" finds out may come long after a model was loaded."""
    log, handler = logging.getLogger(name), _Stderr()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)


def add_ignore(parser: argparse.ArgumentParser, more: str = "") -> None:
    """`--ignore`, wherever a checkpoint is opened; `more` is what else it may name."""
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="KEY",
        help=f"ignore this setting of a checkpoint's files, which the zoo does not follow; {more}repeat",
    )


def add_reading_options(parser: Any) -> None:
    """`--root`, `--allow-outside`, `--as-text`, `--encoding` and `--separator`, wherever a table is read; a parser or a group of one."""
    parser.add_argument("--root", type=existing, metavar="DIR", help="where relative paths in the table begin")
    add_outside(parser)
    parser.add_argument(
        "--as-text",
        action="append",
        default=[],
        metavar="WORD",
        help="keep this cell as text although it looks like a missing value: nan, None, …",
    )
    parser.add_argument(
        "--encoding",
        metavar="E",
        help="encoding of a text file that is not UTF-8: cp1252, gb18030, … (UTF-16 is detected)",
    )
    parser.add_argument(
        "--separator", metavar="C", help="cell separator of a CSV file, if it is ambiguous: ',', ';', '|' or tab"
    )


def add_outside(parser: Any) -> None:
    """`--allow-outside`, wherever files are opened that others have named."""
    parser.add_argument(
        "--allow-outside",
        action="store_true",
        help="open what a folder, archive or data set from somebody else names or links to, wherever it lies",
    )


def add_pair_options(parser: Any) -> None:
    """`--column`, and what `add_reading_options` adds, wherever pairs are read."""
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="[DATA:]ROLE=NAME",
        help="which column has which role, e.g. query_image=photo; for one data set only: classes:group=label; repeat",
    )
    add_reading_options(parser)


def refuse_pair_options(arguments: argparse.Namespace, why: str, *more: str) -> None:
    """Raises ZooError for an option of `add_pair_options`, or one of `more`, where there are no pairs that it is of."""
    for option in (*more, "column", "root", "allow_outside", "as_text", "encoding", "separator"):
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
        allow_outside=arguments.allow_outside,
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
    parser.add_argument("--dim", type=positive, metavar="N", help="keep the first N dimensions of a Matryoshka model")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="precision of the vectors (default: float32)"
    )
    parser.add_argument(
        "--batch-size", type=positive, metavar="N", help="inputs at once (default: what suits the model)"
    )
    add_truncation(parser)


def add_truncation(parser: argparse.ArgumentParser, what: str = "a text") -> None:
    """`--truncation`."""
    parser.add_argument(
        "--truncation",
        choices=("cut", "error"),
        default="cut",
        help=f"of {what} that is longer than the model reads: cut its end, said once, or refuse it (default: cut)",
    )


def add_prompt_options(parser: argparse.ArgumentParser) -> None:
    """`--prompt` or `--prompt-name`, and `--against`."""
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument(
        "--prompt",
        metavar="TEXT",
        help="text put before each input, unchanged; for vision-language models their instruction",
    )
    prompt.add_argument(
        "--prompt-name", metavar="NAME", help="a prompt of the model by its name, such as query (zoo show NAME)"
    )
    add_against_option(parser)


def add_task_option(parser: argparse.ArgumentParser, role: str) -> None:
    """`--task`, and of queries `--example`."""
    parser.add_argument(
        "--task",
        metavar="TASK",
        help=f"what the {role} is of, in place of a prompt: in words, or a name of the model's (zoo show NAME)",
    )
    if role == "query":
        parser.add_argument(
            "--example",
            nargs=2,
            action="append",
            metavar=("QUERY", "ANSWER"),
            help="an example of the task, for models that take some; repeat",
        )


def task_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """`--task` and `--example` as arguments of `encode_query`; {} without them."""
    asked = {"task": arguments.task, "examples": [tuple(pair) for pair in arguments.example or ()] or None}
    return {name: value for name, value in asked.items() if value is not None}


def add_against_option(parser: argparse.ArgumentParser) -> None:
    """`--against`, wherever a model embeds texts."""
    parser.add_argument(
        "--against",
        metavar="TARGET",
        help="what texts are compared with, if the model has a different text vector for each target, such as regions (zoo show NAME)",
    )


def source(name: str) -> str | Path:
    """What was meant by a NAME: a folder that is there, else the name as it stands, for `load_model`.

    Worth asking before anything else is done: a name of no model and a folder that is not there are told at once.

    Raises:
        UnknownModelError: no such name, with the nearest ones. ZooError: no such folder.
    """
    from zoo.loading import is_source
    from zoo.registry import LIKE, get_spec, is_registered
    from zoo.reranking import is_reranker

    if LIKE in name and Path(name).expanduser().is_dir():  # "photos like these"
        return Path(name).expanduser()
    place, like, other = name.rpartition(LIKE) if LIKE in name else (name, "", "")
    folder = Path(place).expanduser()
    if folder.is_dir() and not is_registered(name):
        return f"{folder.resolve()}{like}{other}" if like else folder
    if place.startswith((".", "/", "~")):
        what = "is a file; name the folder that holds it" if folder.exists() else "does not exist"
        raise ZooError(f"{place} {what}; expected the folder of a model")
    if not is_source(place):
        if "/" in place:
            raise ZooError(f"there is no folder {name}; write hf:{name} for a repository of the Hub")
        if is_reranker(place):
            raise ZooError(
                f"{place} is a reranker, which gives scores and no vectors: `zoo rerank {place} …`, or `zoo search DIR … "
                f"--rerank {place}`"
            )
        get_spec(place)
    if like:
        get_spec(other)
    return name


def spelled(name: str) -> str:
    """A NAME as Python code would write it for `load_model`: a folder's plain name with "./" before it."""
    found = source(name)
    if not isinstance(found, Path) or found.is_absolute() or str(found).startswith("."):
        return str(found)
    return f"./{found}"


def open_model(arguments: argparse.Namespace) -> "Embedder":
    """Loads `--model` onto `--device`, and checks `--dim` against it."""
    from zoo.loading import load_model

    with waiting(f"loading {arguments.model}"):
        options = {name: getattr(arguments, name, None) for name in ("region", "pixels", "against")}
        options["backend"] = backend = getattr(arguments, "model_backend", "torch")
        model = load_model(source(arguments.model), device=arguments.device, ignore=arguments.ignore, **options)
    say_backend(model, backend)
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
    with console(stderr=True).status(one_line(message)):
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


def above_zero(text: str) -> float:
    """A number over 0 (for argparse)."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number over 0")
    return value


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


def port(text: str) -> int:
    """A port, or 0 for any free one (for argparse)."""
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port from 0 to 65535")
    return int(text)


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
    print(json_text(value, indent=2))


def on_terminal() -> bool:
    """Whether stdout is read by a person; what a pipe or file gets is plain and complete."""
    return sys.stdout.isatty()


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[str] = ()) -> None:
    """A table; `numbers` are set right-aligned.

    On a terminal it is as wide as that is: the last column gives way, cut with "…", unless it is a number; all others
    stay whole, even where the lines get longer than the terminal. Elsewhere nothing is cut and nothing coloured.
    """
    from rich.cells import cell_len

    cells = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(headers, *cells, strict=True)]
    last = "" if headers[-1] in numbers else headers[-1]
    if on_terminal():
        others = sum(widths[:-1]) + 2 * len(widths[:-1])
        least = min(widths[-1], max(len(last), _LEAST)) if last else widths[-1]
        widths[-1] = min(widths[-1], max(shutil.get_terminal_size().columns - others, least))
    for row in (headers, ["─" * width for width in widths], *cells):
        print(
            "  ".join(_set(*cell) for cell in zip(row, widths, [h in numbers for h in headers], strict=True)).rstrip()
        )


_DESCRIBED = 60  # columns of a terminal that an item gets
_LEAST = 12  # columns of a terminal that the last column of a table keeps


def _set(text: str, width: int, right: bool) -> str:
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) > width:
        return set_cell_size(text, max(width - 1, 0)).rstrip() + "…"
    filling = " " * (width - cell_len(text))
    return filling + text if right else text + filling


def open_made_by(arguments: argparse.Namespace, folder: Path, manifest: Mapping[str, Any]) -> "Embedder":
    """The model that made the vectors of a folder, or what `--model` names in its place; see `maker_of`."""
    from zoo.bulk.makers import maker_of
    from zoo.loading import load_model

    made_by = (
        manifest["model"] if arguments.model else maker_of(folder, manifest, ours=getattr(arguments, "adopt", False))
    )
    try:
        with waiting(f"loading {arguments.model or made_by}"):
            name = source(arguments.model) if arguments.model else made_by
            made = manifest["fingerprint"]
            options = {"region": made.get("region"), "pixels": made.get("pixels")}
            options["backend"] = getattr(arguments, "model_backend", "torch")
            model = load_model(name, device=arguments.device, ignore=arguments.ignore, **options)
            say_backend(model, options["backend"])
            if target := getattr(arguments, "against", None) or made.get("against"):
                model.against = target
            kind = manifest["source"]["kind"].split("+")
            usual = model.spec.targets[:1] == (model.against,) and not getattr(arguments, "against", None)
            if usual and "text" not in kind and (fitting := model.spec.target_of([kind])):
                model.against = fitting
            return model
    except ZooError as error:
        if arguments.model:
            raise
        hint = f"{folder} was made by {made_by!r}; if it lies elsewhere now, name it with --model"
        raise type(error)(f"{error}. {hint}") from error


def check_folder(path: Path) -> None:
    """Raises ZooError where a folder could not be made or written into, before any work is done for it."""
    if path.exists() and not path.is_dir():
        raise ZooError(f"{path} is a file; --out takes a folder")
    nearest = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise ZooError(f"cannot write into {path}: {nearest} is no folder")
    if not os.access(nearest, os.W_OK):
        raise ZooError(f"cannot write into {path}: no permission to write into {nearest}")


def check_output(path: Path | None) -> None:
    """Raises ZooError where a file could not be written, before any work is done for it; an existing one is replaced."""
    if path is None:
        return
    folder = path.absolute().parent
    if path.is_dir():
        raise ZooError(f"cannot write {path}: it is a folder; name a file in it")
    if not folder.is_dir():
        raise ZooError(f"cannot write {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise ZooError(f"cannot write {path}: no permission to write into {folder}")


def one_line(text: str) -> str:
    """The text without line breaks and control characters."""
    return "".join(c if c.isprintable() else " " for c in str(text))


def existing(path: str) -> Path:
    """A path with `~` expanded (for argparse)."""
    return Path(path).expanduser()


def described(item: "Item") -> str:
    """An item on one line, short on a terminal."""
    parts = [one_line(item.text)] if item.text is not None else []
    for kind in ("image", "video", "audio"):
        value = getattr(item, kind)
        if isinstance(value, bytes):
            parts.append(f"[{kind}, {len(value):,} bytes]")
        elif value is not None:
            parts.append(str(value.name) if isinstance(value, Path) else f"[{kind}]")
    text = " + ".join(parts)
    return text if len(text) <= _DESCRIBED or not on_terminal() else text[: _DESCRIBED - 1] + "…"
