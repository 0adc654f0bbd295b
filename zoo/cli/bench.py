"""How fast a model is on this machine, and what limits it.

NAME embeds what it reads (images, texts, recordings, videos): photos of 640x480 pixels and texts made of everyday words, or files and texts of
your own. All backends that are installed run in turn, round by round, so that a busy moment hurts all alike; then each once more in a
process of its own, whose memory is measured. Beside them run other libraries, where they are installed and open the same weights. Nothing
else has to be installed, and a last line says what was left out, and why.

items/s is of whole calls, with reading (decoding, resizing, tokenising); speed is the median over the rounds of how many times as fast as the
first line a candidate was. p50 and p95 are of one input by itself. reading is the time that reading alone takes, of the whole. products are
the operations a second of the forward pass alone, of what this machine reaches in a product of large float32 matrices (int8 can be above
100 %). weights are the bytes of weights that it reads a second, of what this machine's memory gives. What is over 50 % limits the
model: reading calls for more cores or smaller files, products for int8 or a smaller model, weights for larger batches. If none is,
it is overhead: activations, small operations, Python.
"""

import argparse
import json
import sys
from pathlib import Path

from zoo.cli._shared import (
    add_device,
    add_like,
    check_output,
    existing,
    positive,
    print_json,
    print_table,
    source,
)
from zoo.errors import ZooError

EXAMPLES = (
    "zoo bench zoo-mini",
    "zoo bench all-minilm-l6-v2 --beside sentence-transformers --texts questions.txt",
    "zoo bench ./runs/mine --backend torch --backend openvino --images ~/Pictures --json bench.json",
    "zoo bench zoo-mini --threads 1 --count 64 --rounds 3",
)
STDOUT = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo bench`."""
    parser.add_argument("model", metavar="NAME", help="anything that load_model opens: a name, ./FOLDER, hf:ORG/REPO")
    parser.add_argument(
        "--backend",
        action="append",
        default=[],
        metavar="NAME",
        help="torch, openvino, onnx or auto; repeat (default: all installed)",
    )
    parser.add_argument(
        "--dtype",
        action="append",
        default=[],
        metavar="TYPE",
        help="float32, bfloat16, …, as load_model takes it; repeat (default: float32)",
    )
    parser.add_argument("--images", type=existing, metavar="DIR", help="embed the images of this folder")
    parser.add_argument("--texts", type=existing, metavar="FILE", help="embed the lines of this file")
    parser.add_argument(
        "--count", type=positive, metavar="N", help="inputs in a round (default: some tens of seconds' worth)"
    )
    parser.add_argument("--rounds", type=positive, metavar="N", help="after one that warms up (default: 5)")
    parser.add_argument(
        "--beside",
        metavar="A,B,…",
        help="other libraries: open_clip, transformers, sentence-transformers, fastembed; none (default: all installed)",
    )
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="of all libraries, on as many cores (default: all)"
    )
    parser.add_argument(
        "--json", nargs="?", const=STDOUT, metavar="FILE", help="the figures for machines, into a file or on stdout"
    )
    add_like(parser)
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; status 2 for an error."""
    from zoo.benching import bench
    from zoo.benching.job import BESIDE
    from zoo.benching.results import HEADERS, NUMBERS

    name = source(arguments.model)
    file = None if arguments.json in (None, STDOUT) else existing(arguments.json)
    check_output(file)
    beside = BESIDE
    if arguments.beside is not None:
        named = [one.strip() for one in arguments.beside.split(",") if one.strip()]
        beside = () if named == ["none"] else tuple(named)
    found = bench(
        name,
        backends=arguments.backend,
        dtypes=arguments.dtype or ["float32"],
        beside=beside,
        images=_images(arguments.images),
        texts=_texts(arguments.texts),
        count=arguments.count,
        rounds=arguments.rounds,
        threads=arguments.threads,
        device=arguments.device,
        ignore=arguments.ignore,
    )
    if arguments.json == STDOUT:
        print_json(found.to_dict())
        return 0
    print_table(HEADERS, found.table, numbers=NUMBERS)
    print()
    for line in found.notes:
        print(line)
    if file is not None:
        _write(file, json.dumps(found.to_dict(), indent=2))
    return 0


def _images(folder: Path | None) -> list[Path]:
    """The images of a folder and of those in it, by name."""
    if folder is None:
        return []
    from zoo.inputs.kinds import IMAGE_SUFFIXES

    if not folder.is_dir():
        raise ZooError(
            f"--images {folder}: " + ("it is a file; name its folder" if folder.exists() else "it does not exist")
        )
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not found:
        raise ZooError(f"--images {folder} holds no images; expected {', '.join(sorted(IMAGE_SUFFIXES)[:5])}, …")
    return found


def _texts(file: Path | None) -> list[str]:
    """The lines of a file, but for empty ones."""
    if file is None:
        return []
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ZooError(f"--texts {file}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from error
    if not (found := [line for line in lines if line]):
        raise ZooError(f"--texts {file} holds no text; write one on each line")
    return found


def _write(path: Path, text: str) -> None:
    from zoo.files import write

    try:
        write(path, text.encode("utf-8", "replace"))
    except OSError as error:
        raise ZooError(f"cannot write {path}: {error.strerror or error}") from error
    print(f"written: {path}", file=sys.stderr)
