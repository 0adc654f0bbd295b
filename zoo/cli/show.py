"""Show the facts of one model, and how to load it."""

import argparse
from typing import TYPE_CHECKING

from zoo.cli._shared import print_json, short

if TYPE_CHECKING:
    from zoo.spec import ModelSpec

EXAMPLES = ("zoo show zoo-mini", "zoo show zoo-mini --json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo show`."""
    parser.add_argument("name", help="a name of `zoo list`")
    parser.add_argument("--json", action="store_true", help="for machines")


def _together(spec: "ModelSpec") -> str | None:
    if not {"image", "text"} <= spec.modalities:
        return None
    if spec.reading and not spec.reading.mixed:
        return "not in one item: words or pictures"
    return "read as one sequence" if spec.reading else "each read by its own tower, and fused (zoo.fusion)"


def run(arguments: argparse.Namespace) -> int:
    """Prints what the registry knows; loads nothing."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from zoo.cards import reading_rows
    from zoo.registry import get_spec

    spec = get_spec(arguments.name)
    if arguments.json:
        print_json(spec.to_dict())
        return 0
    shorter = [cut for cut in spec.dims if cut != spec.dim]
    opener = "load_model" if spec.hub_id or spec.source or spec.packaged else "build_model"
    facts = {
        "name": spec.name,
        "reads": ", ".join(sorted(spec.modalities)),
        "picture with text": _together(spec),
        "dim": f"{spec.dim}"
        + (" for every token" if spec.similarity == "maxsim" else "")
        + (f" (also {', '.join(map(str, shorter))})" if shorter else ""),
        "similarity": "dot product, of vectors with their norms" if spec.similarity == "dot" else None,
        "weights": f"{short(spec.params)} ({spec.params:,})" if spec.params else None,
        "picture": f"{spec.image_size} x {spec.image_size} pixels" if spec.image_size else None,
        "text": f"up to {spec.max_tokens:,} tokens" if spec.max_tokens else None,
        "languages": ", ".join(spec.languages),
        "licence": spec.license + (" (non-commercial only)" if spec.non_commercial else ""),
        "from": spec.source or spec.hub_id or ("inside the package" if spec.packaged else "random weights, for tests"),
        "revision": spec.revision,
        "base": spec.base,
        "paper": spec.paper,
        **{f"prompt {name}": repr(text) for name, text in spec.prompts.items()},
        "default prompt": spec.default_prompt_name,
        **{f"prompt of a {role}": name for role, name in spec.roles.items()},
        **{row: words for row, words in reading_rows(spec).items() if row != "one item"},
        "in Python": f'zoo.{opener}("{spec.name}").encode(["a red motorbike"])',
        "in a shell": f'zoo encode "a red motorbike" --model {spec.name}' if opener == "load_model" else None,
    }
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(name, Text(value))
    Console(highlight=False).print(table)
    return 0
