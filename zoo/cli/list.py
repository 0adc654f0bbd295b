"""List the models that load by name.

A model that reads image+text takes both in one item: most have a tower for each and fuse the two vectors, the others
read both as one sequence (`zoo show NAME` tells which).
"""

import argparse
import sys
from typing import TYPE_CHECKING

from zoo.cli._shared import number_of_weights, print_json, print_table, short

if TYPE_CHECKING:
    from zoo.spec import ModelSpec

OTHERS = "†"  # of what reads other languages than English
EXAMPLES = (
    "zoo list",
    "zoo list 'siglip2-*'",
    "zoo list --modality image --max-params 100M",
    "zoo list --license 'apache*' --json",
    "zoo list --language zh",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo list`."""
    parser.add_argument("pattern", nargs="?", default="*", help="shell pattern of the name (default: *)")
    parser.add_argument("--modality", choices=("text", "image", "video", "audio"), help="models that read this")
    parser.add_argument(
        "--max-params", type=number_of_weights, metavar="N", help="at most this many weights: 30M, 1.5B"
    )
    parser.add_argument("--license", metavar="L", help="shell pattern of the licence: mit, 'apache*'")
    parser.add_argument("--language", metavar="CODE", help="models that read texts in it: en, zh, de")
    parser.add_argument("--all", action="store_true", help="also the *-test models, which have random weights")
    parser.add_argument("--json", action="store_true", help="all facts, for machines")


def run(arguments: argparse.Namespace) -> int:
    """Prints the models; status 1 if there is none."""
    from zoo.registry import get_spec, list_models

    names = list_models(
        arguments.pattern,
        modality=arguments.modality,
        max_params=arguments.max_params,
        license=arguments.license,
        language=arguments.language,
        tests=arguments.all,
    )
    specs = [get_spec(name) for name in names]
    if arguments.json:
        print_json([spec.to_dict() for spec in specs])
    elif not specs:
        print("no model matches; `zoo list` shows all", file=sys.stderr)
    else:
        rows = [(spec.name, _reads(spec), short(spec.params), _dim(spec), spec.license) for spec in specs]
        print_table(("name", "reads", "weights", "dim", "licence"), rows, numbers=("weights", "dim"))
        if any(spec.similarity == "maxsim" for spec in specs):
            print("* one vector a token (late interaction)", file=sys.stderr)
        if any(_reads(spec).endswith(OTHERS) for spec in specs):
            print(f"{OTHERS} texts in other languages than English too (zoo show NAME)", file=sys.stderr)
    return 0 if specs else 1


def _reads(spec: "ModelSpec") -> str:
    return "+".join(sorted(spec.modalities)) + (OTHERS if set(spec.languages) - {"en"} else "")


def _dim(spec: "ModelSpec") -> str:
    return f"{spec.dim}*" if spec.similarity == "maxsim" else str(spec.dim)
