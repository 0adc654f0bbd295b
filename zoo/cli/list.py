"""List the models that load by name, or the rerankers.

A model that reads image+text takes both in one item: most have a tower for each and fuse the two vectors, the others
read both as one sequence (`zoo show NAME` tells which).
"""

import argparse
import sys
from typing import TYPE_CHECKING

from zoo.cli._shared import number_of_weights, print_json, print_table, short

if TYPE_CHECKING:
    from zoo.reranking import RerankerSpec
    from zoo.spec import ModelSpec

OTHERS = "†"  # of what reads other languages than English
EXAMPLES = (
    "zoo list",
    "zoo list 'siglip2-*'",
    "zoo list --modality image --max-params 100M",
    "zoo list --license 'apache*' --json",
    "zoo list --language zh",
    "zoo list --rerankers                 # what `zoo rerank` and `zoo search --rerank` take",
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
    parser.add_argument(
        "--rerankers", action="store_true", help="rerankers, which read a query and a document together"
    )
    parser.add_argument("--all", action="store_true", help="also the *-test models, which have random weights")
    parser.add_argument("--json", action="store_true", help="all facts, for machines")


def run(arguments: argparse.Namespace) -> int:
    """Prints the models; status 1 if there is none."""
    from zoo.registry import get_spec, list_models
    from zoo.reranking import get_reranker_spec, list_rerankers

    names = (list_rerankers if arguments.rerankers else list_models)(
        arguments.pattern,
        modality=arguments.modality,
        max_params=arguments.max_params,
        license=arguments.license,
        language=arguments.language,
        tests=arguments.all,
    )
    specs = [get_reranker_spec(name) if arguments.rerankers else get_spec(name) for name in names]
    if arguments.json:
        print_json([spec.to_dict() for spec in specs])
    elif not specs:
        what, command = ("reranker", "zoo list --rerankers") if arguments.rerankers else ("model", "zoo list")
        print(f"no {what} matches; `{command}` shows all", file=sys.stderr)
    elif arguments.rerankers:
        rows = [(spec.name, _reads(spec), short(spec.params), spec.license) for spec in specs]
        print_table(("name", "reads", "weights", "licence"), rows, numbers=("weights",))
    else:
        rows = [(spec.name, _reads(spec), short(spec.params), _dim(spec), spec.license) for spec in specs]
        print_table(("name", "reads", "weights", "dim", "licence"), rows, numbers=("weights", "dim"))
        if any(spec.similarity == "maxsim" for spec in specs):
            print("* one vector per token (late interaction)", file=sys.stderr)
    if not arguments.json and any(_reads(spec).endswith(OTHERS) for spec in specs):
        print(f"{OTHERS} texts in other languages than English too (zoo show NAME)", file=sys.stderr)
    return 0 if specs else 1


def _reads(spec: "ModelSpec | RerankerSpec") -> str:
    return "+".join(sorted(spec.modalities)) + (OTHERS if set(spec.languages) - {"en"} else "")


def _dim(spec: "ModelSpec") -> str:
    return f"{spec.dim}*" if spec.similarity == "maxsim" else str(spec.dim)
