"""Show the card of a model or reranker: facts, figures, limits.

The cards of registered names are in `model_cards/`; the folder of a run or of a published model holds its own.
"""

import argparse

from zoo.cli._rerank import meant
from zoo.cli._shared import existing, on_terminal, source
from zoo.strangers.terminal import console

EXAMPLES = (
    "zoo card zoo-mini",
    "zoo card runs/mine",
    "zoo card hf:me/my-model",
    "zoo card siglip2-vit-b16-256 --raw",
    "zoo card qwen3vl-reranker-2b",
    "zoo card zoo-mini --write card.md",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo card`."""
    parser.add_argument(
        "name", help="a name of `zoo list` or `zoo list --rerankers`, a folder, or hf:ORG/REPO[@REVISION]"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--raw", action="store_true", help="the Markdown as it is, with the Hub's front matter")
    how.add_argument("--write", type=existing, metavar="FILE", help="write that to a new file")


def run(arguments: argparse.Namespace) -> int:
    """Prints the card; loads no model."""
    from zoo.errors import ZooError
    from zoo.publishing import cards
    from zoo.reranking import get_reranker_spec

    name = arguments.name
    if meant(name):
        get_reranker_spec(name)  # a misspelled one is reported with the nearest rerankers
    text = cards.card_text(name if meant(name) else source(name))
    if arguments.raw:
        print(text, end="")
    elif arguments.write:
        try:
            with arguments.write.open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise ZooError(
                f"--write {arguments.write}: {error.strerror}; name a new file in a folder that exists"
            ) from error
        print(f"written: {arguments.write}")
    else:
        _show(text)
    return 0


def _show(text: str) -> None:
    import re

    from rich.markdown import Markdown

    from zoo.evaluation.blocks import split

    # The front matter repeats the facts for programs, and the markers are for them too.
    body = re.sub(r"<!--.*?-->", "", split(text)[1], flags=re.DOTALL)
    if on_terminal():
        console().print(Markdown(body, hyperlinks=False))
    else:
        print(body.strip())  # Markdown is plain text; set for a page it would be cut to one's width
