"""Embed texts, images or regions; print or save the vectors.

--box, --point, --polygon and --mask select a region of the image. Several of them make one region (two points on the same thing, say);
with --each every one is a region of its own. Every model that reads images can embed regions; --region chooses how.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from zoo.cli._regions import add_region_options, add_rule_option, check_regions, to_json
from zoo.cli._regions import told as in_words
from zoo.cli._shared import (
    add_backend,
    add_model_options,
    add_pixels,
    add_task_option,
    add_vector_options,
    check_output,
    existing,
    on_terminal,
    open_model,
    print_json,
    print_table,
    task_of,
)
from zoo.errors import ZooError
from zoo.inputs.item import Item

EXAMPLES = (
    'zoo encode "a red motorbike"',
    'zoo encode "a cat" "a dog" --image cat.jpg     # with their similarities',
    "zoo encode --image cat.jpg --json",
    'zoo encode "a cat" "a dog" --out vectors.npy --precision int8',
    'zoo encode "a cat" --image photo.jpg --box 10,20,200,220        # the part of the image in the box',
    "zoo encode --image photo.jpg --point 50%,40% --point 55%,60%    # one thing, by two points on it",
    "zoo encode --image photo.jpg --box 10,20,90,99 --mask m.png --each   # a vector for each, and their similarities",
)
SHOWN = 3
LIKENESS = {
    "cosine": "cosine to the first",
    "dot": "dot product with the first",
    "maxsim": "MaxSim of the first to it",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo encode`."""
    parser.add_argument(
        "texts", nargs="*", metavar="TEXT", help="texts; an image is given by --image, and has a vector of its own"
    )
    parser.add_argument("--image", action="append", default=[], type=existing, metavar="FILE", help="an image; repeat")
    add_region_options(parser, each=True)
    add_rule_option(parser)
    add_model_options(parser)
    add_backend(parser)
    add_pixels(parser)
    add_vector_options(parser)
    add_task_option(parser, "query")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="the whole vectors, for machines")
    output.add_argument("--out", type=existing, metavar="FILE.npy", help="save them as a NumPy array (n, dim)")


def run(arguments: argparse.Namespace) -> int:
    """Embeds everything on the command line in one go."""
    check_regions(arguments, len(arguments.image))
    inputs = [*arguments.texts, *(arguments.image if not arguments.regions else _pointed_at(arguments))]
    if not inputs:
        raise ZooError('nothing to embed; pass texts in quotes and images as --image: zoo encode "a cat"')
    if arguments.out and arguments.out.suffix != ".npy":
        raise ZooError(f"--out {arguments.out}: expected a name that ends in .npy; for JSON: --json > {arguments.out}")
    check_output(arguments.out)
    for path in arguments.image:
        if not path.is_file():
            raise ZooError(f"{path} does not exist" if not path.exists() else f"{path} is no file; --image takes one")
    for text in arguments.texts:
        if _is_file(text):
            print(f"note: {text!r} is embedded as text; for the file, write --image {text}", file=sys.stderr)
    model = open_model(arguments)
    if arguments.out and model.spec.similarity == "maxsim" and len(inputs) > 1:
        raise ZooError(
            f"{model.spec.name} has one vector per token, and inputs differ in length: one .npy holds those of one input. Give one, or --json"
        )
    options: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in ("prompt", "prompt_name", "batch_size", "dim", "precision", "truncation")
    }
    # As items: what a text that is the name of a file means here is said above.
    items = [Item(text=value) if isinstance(value, str) else value for value in inputs]
    asked = task_of(arguments)
    encode = model.encode_query if asked else model.encode
    vectors = encode(items, progress=False, **options, **asked)
    if arguments.out:
        _save(vectors, arguments.out)
    elif arguments.json:
        print_json(
            {
                "model": model.spec.name,
                "dim": arguments.dim or model.spec.dim,
                "precision": arguments.precision,
                "vectors": [
                    {**_facts(value), "vector": row.tolist()} for value, row in zip(inputs, vectors, strict=True)
                ],
            }
        )
    else:
        _print(model, inputs, vectors)
    return 0


def _pointed_at(arguments: argparse.Namespace) -> list[Item]:
    """The image with its regions, or with each of them."""
    (image,), regions = arguments.image, arguments.regions
    return [Item(image=image, regions=some) for some in ([[one] for one in regions] if arguments.each else [regions])]


def _facts(value: Any) -> dict[str, Any]:
    """What is said of an input in JSON."""
    if isinstance(value, Item):
        return {"kind": "image", "input": str(value.image), "regions": to_json(value.regions)}
    return {"kind": "text" if isinstance(value, str) else "image", "input": str(value)}


def _is_file(text: str) -> bool:
    try:
        return len(text) < 4096 and Path(text).is_file()
    except (OSError, ValueError):
        return False


def _save(vectors: Any, path: Path) -> None:
    import numpy as np

    try:
        vectors = vectors[0] if isinstance(vectors, list) else vectors  # of one input's tokens
        np.save(path, vectors.numpy())
    except OSError as error:
        raise ZooError(f"cannot write {path}: {error.strerror or error}") from error
    print(f"{path}: {vectors.shape[0]} x {vectors.shape[1]} {str(vectors.dtype).removeprefix('torch.')}")


def _print(model: Any, inputs: list[Any], vectors: Any) -> None:
    late = model.spec.similarity == "maxsim"
    columns = f"{vectors[0].shape[1]} columns, one vector per token" if late else f"{vectors.shape[1]} columns"
    print(f"{model.spec.name}: {len(inputs)} x {columns}")
    alike = model.similarity(vectors[:1], vectors)[0].tolist()
    rows = []
    for value, vector, score in zip(inputs, vectors, alike, strict=True):
        row = (vector[0] if late else vector).tolist()
        shown = row[:SHOWN] if on_terminal() else row
        told = ", ".join(f"{x:+.3f}" if isinstance(x, float) else str(x) for x in shown)
        told += ", …" if len(shown) < len(row) else ""
        name = f"{value.image}: {in_words(value.regions)}" if isinstance(value, Item) else str(value)
        rows.append([f"{len(vector)} tokens, the first {told}" if late else told, f"{score:.3f}", name])
    likeness = LIKENESS[model.spec.similarity]
    print_table(("vector", likeness, "input"), rows, numbers=(likeness,))
