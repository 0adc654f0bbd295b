"""`python -m zoo.publishing.cards`: writes what is known of every registered model and reranker into its card and into the table of docs/models.md.

Facts come from the `ModelSpec`, figures from `model_cards/results/<name>.json`, what a model is like from
`model_cards/inspected/<name>.json`. What people wrote is kept;
`model_cards/_template.md` is where they start.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

from zoo.errors import HubError, InvalidCardError
from zoo.evaluation.blocks import block, fill, split
from zoo.evaluation.cards import BY_RESULTS, CARDS, beside, folder_of
from zoo.evaluation.figures import figures
from zoo.evaluation.inspecting.keeping import FOLDER as KEPT
from zoo.evaluation.inspecting.keeping import with_block
from zoo.evaluation.results import FILE, Result, read_results
from zoo.files import write
from zoo.formats.checks.inside import read_inside
from zoo.publishing.cards.facts import HUB_ID, fact_table, front_matter, summary, training_data, usage
from zoo.publishing.cards.reading import reading_text
from zoo.publishing.cards.rerankers import render_reranker
from zoo.publishing.paths import without_paths
from zoo.reranking import RerankerSpec, get_reranker_spec, is_reranker, list_rerankers
from zoo.spec import ModelSpec
from zoo.strangers.schema import check, parse
from zoo.strangers.terminal import clean_output

ROOT = Path(__file__).resolve().parents[3]
TEMPLATE = "_template.md"
MODELS_TABLE = re.compile(r"(<!-- models:start[^\n]*-->\n).*?(<!-- models:end -->)", re.DOTALL)
_LONGEST = 4 << 20  # bytes of a card
_BY = "written by `python -m zoo.publishing.cards` from the spec in zoo/models/; change it there"


class _Merge(TypedDict):
    """What is read of merge.json."""

    method: str
    models: list[str]
    weights: list[float]


def render(
    spec: ModelSpec, old: str, results: Sequence[Result] = (), others: Mapping[str, Sequence[Result]] | None = None
) -> str:
    """The whole card of a registered model.

    Args:
        old: the card as it is, or the template: its blocks are written anew, the rest is kept.
        others: figures of other models by name that stand beside its own.
    """
    kept, body = split(old)
    use = f"## Use\n\n```python\n{usage(spec)}\n```"
    parts = [f"# {spec.name}", summary(spec), fact_table(spec), training_data(spec.hub_id), use, reading_text(spec)]
    body = fill(body, "facts", "\n\n".join(part for part in parts if part), _BY)
    body = fill(body, "measured", figures(results, others), BY_RESULTS.format(name=spec.name))
    return f"{front_matter(spec, results=results, kept=kept)}\n{body}"


def _rendered(spec: ModelSpec | RerankerSpec, old: str, results: Sequence[Result], folder: Path) -> str:
    if isinstance(spec, RerankerSpec):
        return render_reranker(spec, old, results)
    return render(spec, old, results, beside(spec.name, folder))


def card_text(name: str | Path) -> str:
    """The card of a registered name, a folder, or "hf:<org>/<repo>[@revision]".

    Raises:
        UnknownModelError: no such name. InvalidCardError: a folder that has no card. HubError: the Hub has none.
    """
    from zoo import hub
    from zoo.registry import get_spec

    if folder := folder_of(name):
        if (text := _card_in(folder)) is None:
            raise InvalidCardError(
                f"{folder} holds no README.md; `zoo show {folder}` has its facts, and `zoo publish {folder} --to …` writes a card"
            )
        return text
    if str(name).startswith("hf:"):
        repo, _, revision = str(name).removeprefix("hf:").partition("@")
        if not HUB_ID.fullmatch(repo):
            raise HubError(f"{repo!r} is no Hub repository; write hf:<org>/<name>[@revision]")
        path = Path(hub.download(repo, "README.md", revision or None))
        return _card_in(path.parent) or ""
    spec = get_reranker_spec(str(name)) if is_reranker(str(name)) else get_spec(str(name))
    path = CARDS / f"{spec.name}.md"
    return (
        path.read_text(encoding="utf-8")
        if path.is_file()
        else _rendered(spec, "", measured(spec.name), CARDS / "results")
    )


def measured(source: Any) -> list[Result]:
    """Figures that are known of whatever `load_model` opens: those in a folder, or of a registered name; else [].

    Commands are given without the folders of this machine.

    Raises:
        ValueError: the file is there and holds no results.
    """
    folder = folder_of(source)
    if folder is None and not _registered(source):
        return []
    results = read_results(folder / FILE if folder else CARDS / "results" / f"{source}.json")
    return [replace(result, source=without_paths(result.source)) if result.ours else result for result in results]


def notes_of(source: Any) -> str:
    """The card of whatever `load_model` opens, for `published_card` to keep what people wrote into it; "" if none."""
    if folder := folder_of(source):
        text = _card_in(folder)
        return _merged(folder) if text is None else text
    path = CARDS / f"{source}.md" if _registered(source) else None
    return path.read_text(encoding="utf-8") if path and path.is_file() else ""


def _card_in(folder: Path) -> str | None:
    """The README.md of a folder, None where it has none; raises InvalidCardError for one that is no text."""
    content = read_inside(folder, "README.md", _LONGEST)
    try:
        return None if content is None else content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidCardError(f"{folder / 'README.md'} is no text in UTF-8: {error}") from error


def _registered(source: Any) -> bool:
    from zoo.registry import is_registered

    return isinstance(source, str) and (is_registered(source) or is_reranker(source))


def _merged(folder: Path) -> str:
    """The start of a card for what `zoo merge` wrote, "" for any other folder."""
    path = folder / "merge.json"
    if (content := read_inside(folder, path.name)) is None:
        return ""
    facts = check(parse(content, path, InvalidCardError), _Merge, path, InvalidCardError)
    parts = ", ".join(
        f"{Path(name).name} ({weight:.3f})" for name, weight in zip(facts["models"], facts["weights"], strict=False)
    )
    text = f"## Training\n\nMerged without training ({facts['method']}) from {parts}."
    return (
        f"---\nbase_model_relation: merge\n---\n{block('training', text, 'written by `zoo publish` from merge.json')}\n"
    )


def models_table(specs: Iterable[ModelSpec]) -> str:
    """The table of docs/models.md, test models left out."""
    rows = ["| name | reads | dim | weights | licence | from |", "| --- | --- | --- | --- | --- | --- |"]
    for spec in sorted(specs, key=lambda s: (not s.packaged, s.format is not None, s.family, s.name)):
        if not spec.hub_id and not spec.packaged:
            continue
        reads = ", ".join(sorted(spec.modalities))
        origin = f"[{spec.hub_id}](https://huggingface.co/{spec.hub_id})" if spec.hub_id else "in the package"
        name = f"[{spec.name}](../model_cards/{spec.name}.md)"
        weights = f"{spec.params / 1e9:.1f} B" if spec.params >= 10**9 else f"{round(spec.params / 1e6)} M"
        dim = f"{spec.dim} per token" if spec.similarity == "maxsim" else f"{spec.dim}"
        rows.append(f"| {name} | {reads} | {dim} | {weights} | {spec.license} | {origin} |")
    return "\n".join(rows) + "\n"


def outdated(
    folder: Path, table: Path, specs: Sequence[ModelSpec], rerankers: Sequence[RerankerSpec] = ()
) -> dict[Path, str]:
    """Files whose text differs from what specs and results say, with the text they should have."""
    template = (folder / TEMPLATE).read_text(encoding="utf-8")
    wanted: dict[Path, str] = {}
    for spec in (*specs, *rerankers):
        path = folder / f"{spec.name}.md"
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        results = folder / "results"
        new = _rendered(spec, old or template, read_results(results / f"{spec.name}.json"), results)
        new = with_block(new, path)
        if new != old:
            wanted[path] = new
    if table.exists():
        old = table.read_text(encoding="utf-8")
        new = MODELS_TABLE.sub(lambda m: m.group(1) + models_table(specs) + m.group(2), old)
        if new != old:
            wanted[table] = new
    return wanted


@clean_output()
def main(arguments: list[str] | None = None) -> int:
    """Writes the cards, or with `--check` says which are stale (exit status 1)."""
    from zoo.registry import get_spec, list_models

    parser = argparse.ArgumentParser(prog="python -m zoo.publishing.cards", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a card is stale")
    parser.add_argument("--folder", type=Path, default=CARDS, help="where the cards are")
    parser.add_argument("--table", type=Path, default=ROOT / "docs" / "models.md", help="page with the table of models")
    options = parser.parse_args(arguments)
    if not (options.folder / TEMPLATE).exists():
        print(f"no {TEMPLATE} in {options.folder}; run this in a checkout, or name the folder", file=sys.stderr)
        return 2
    specs = [get_spec(name) for name in list_models(tests=True)]
    rerankers = [get_reranker_spec(name) for name in list_rerankers(tests=True)]
    try:
        stale = outdated(options.folder, options.table, specs, rerankers)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    known = {spec.name for spec in (*specs, *rerankers)} | {Path(TEMPLATE).stem}
    files = [
        *options.folder.glob("*.md"),
        *options.folder.glob("results/*.json"),
        *options.folder.glob(f"{KEPT}/*.json"),
    ]
    orphans = [path for path in sorted(files) if path.stem not in known]
    for path in orphans:
        print(f"{path.name}: no model of that name is registered; delete the file or register the model")
    for path, text in stale.items():
        print(f"{path.name}: {'stale; run python -m zoo.publishing.cards' if options.check else 'written'}")
        if not options.check:
            write(path, text)
    return 1 if orphans or (options.check and stale) else 0
