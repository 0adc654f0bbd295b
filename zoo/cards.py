"""`python -m zoo.cards`: writes the facts of every registered model into its card and into the README's table.

A card has three parts: the Hub's YAML front matter and the facts, both rendered from the `ModelSpec`, and notes that
people write and this program keeps. `model_cards/_template.md` is the skeleton of all of them.
"""

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from string import Template

from zoo.spec import ModelSpec

ROOT = Path(__file__).resolve().parent.parent
FACTS = re.compile(r"<!-- facts:start.*?<!-- facts:end -->", re.DOTALL)
NOTES = re.compile(r"<!-- notes:start.*?<!-- notes:end -->", re.DOTALL)
README_TABLE = re.compile(r"(<!-- models:start[^\n]*-->\n).*?(<!-- models:end -->)", re.DOTALL)

# The Hub's own task names (see huggingface.co/tasks) by what a model reads.
PIPELINE_TAGS = {
    frozenset({"text"}): "sentence-similarity",
    frozenset({"image"}): "image-feature-extraction",
    frozenset({"image", "text"}): "zero-shot-image-classification",
}
# Texts of licences that the Hub has no identifier for.
LICENSE_LINKS = {"dinov3-license": "https://ai.meta.com/resources/models-and-libraries/dinov3-license/"}


def front_matter(spec: ModelSpec) -> str:
    """The Hub's YAML block of a card, `---` lines included."""
    lines = [f"license: {spec.license}"]
    if spec.license.startswith("other: "):
        name = spec.license.removeprefix("other: ")
        lines = ["license: other", f"license_name: {name}"]
        if name in LICENSE_LINKS:
            lines.append(f"license_link: {LICENSE_LINKS[name]}")
    lines += ["library_name: embedding-zoo", f"pipeline_tag: {PIPELINE_TAGS.get(spec.modalities, 'any-to-any')}"]
    if spec.base or spec.hub_id:
        lines.append(f"base_model: {spec.base or spec.hub_id}")
    tags = ["embedding-zoo", "feature-extraction", *([spec.paper] if spec.paper else [])]
    return "\n".join(["---", *lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def fact_rows(spec: ModelSpec) -> dict[str, str]:
    """The rows of a card's fact table, in order; a fact that the model does not have has no row."""
    cuts = ", ".join(str(cut) for cut in spec.dims)
    facts = {
        "reads": ", ".join(sorted(spec.modalities)),
        "dim": str(spec.dim),
        "Matryoshka cuts": cuts,
        "weights": f"{spec.params:,}" if spec.params else "",
        "image size": f"{spec.image_size} px" if spec.image_size else "",
        "max tokens": f"{spec.max_tokens:,}" if spec.max_tokens else "",
        "licence": spec.license,
        "paper": f"[{spec.paper}]({paper_url(spec.paper)})" if spec.paper else "",
        "Hub repository": f"[{spec.hub_id}](https://huggingface.co/{spec.hub_id})" if spec.hub_id else "",
        "revision": f"`{spec.revision}`" if spec.revision else "",
        "starts from": spec.base or "",
        "opened as": f"`{spec.source}`" if spec.source else "",
        "family": f"`zoo/models/{spec.family}.py`",
        "demo": f"`demos/{spec.demo}.py`",
    }
    for role, prompt in spec.prompts.items():
        facts[f"prompt `{role}`"] = f"`{prompt!r}`"
    return {row: value for row, value in facts.items() if value}


def paper_url(paper: str) -> str:
    """Where to read it: "arxiv:2103.00020" → its arXiv page; anything else is taken for a URL."""
    return f"https://arxiv.org/abs/{paper.removeprefix('arxiv:')}" if paper.startswith("arxiv:") else paper


def summary(spec: ModelSpec) -> str:
    """One sentence on what goes in and what comes out."""
    what = {
        frozenset({"text"}): "Text embedder",
        frozenset({"image"}): "Image encoder",
        frozenset({"image", "text"}): "Dual tower for pictures and texts in one space",
    }.get(spec.modalities, "Embedder of " + ", ".join(sorted(spec.modalities)))
    if not spec.hub_id and not spec.packaged:
        return f"{what}, tiny and with random weights: it exists for tests and for writing code without a network."
    return f"{what}: vectors of {spec.dim} numbers, unit length."


def usage(spec: ModelSpec) -> str:
    """The shortest program that embeds with this model."""
    opener = "build_model" if not spec.hub_id and not spec.packaged else "load_model"
    lines = [f"from zoo import {opener}", "", f'model = {opener}("{spec.name}")']
    if spec.modalities == {"image"}:
        return "\n".join(["from pathlib import Path", "", *lines, 'model.encode([Path("cat.jpg"), Path("dog.jpg")])'])
    if spec.modalities == {"text"}:
        documents = '["Paris is the capital of France.", "Bread is baked."]'
        lines += [
            'query = model.encode_query("what is the capital of France?")',
            f"documents = model.encode_document({documents})",
            "model.similarity(query, documents)",
        ]
        return "\n".join(lines)
    lines += [
        'pictures = model.encode([Path("cat.jpg"), Path("dog.jpg")])',
        'texts = model.encode(["a photo of a cat", "a photo of a dog"])',
        "model.similarity(texts, pictures)",
    ]
    return "\n".join(["from pathlib import Path", "", *lines])


def render(spec: ModelSpec, template: str, notes: str | None = None) -> str:
    """The whole card; `notes` is the block kept from the card as it is, None for a new one."""
    table = "\n".join(["| fact | value |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in fact_rows(spec).items())])
    card = Template(template).substitute(
        front_matter=front_matter(spec), name=spec.name, summary=summary(spec), facts=table, use=usage(spec)
    )
    return card if notes is None else NOTES.sub(lambda _: notes, card)


def read_facts(card: str) -> dict[str, str]:
    """The fact table of a card's text: `fact_rows` of its spec, if the card is not stale.

    Raises:
        ValueError: no block between the markers.
    """
    block = FACTS.search(card)
    if block is None:
        raise ValueError("the card has no `<!-- facts:start … facts:end -->` block; run python -m zoo.cards")
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", block.group(), re.MULTILINE)
    return {row: value for row, value in rows if row not in ("fact", "---")}


def readme_table(specs: Iterable[ModelSpec]) -> str:
    """The README's table of models, test models left out."""
    rows = ["| name | reads | dim | weights | licence | from |", "| --- | --- | --- | --- | --- | --- |"]
    for spec in sorted(specs, key=lambda s: (not s.packaged, s.family, s.name)):
        if not spec.hub_id and not spec.packaged:
            continue
        reads = ", ".join(sorted(spec.modalities))
        origin = f"[{spec.hub_id}](https://huggingface.co/{spec.hub_id})" if spec.hub_id else "in the package"
        name = f"[{spec.name}](model_cards/{spec.name}.md)"
        rows.append(f"| {name} | {reads} | {spec.dim} | {round(spec.params / 1e6)} M | {spec.license} | {origin} |")
    return "\n".join(rows) + "\n"


def outdated(folder: Path, readme: Path, specs: list[ModelSpec]) -> dict[Path, str]:
    """Files whose text differs from what the specs say, with the text they should have.

    Packaged models are left alone: their training writes their card.
    """
    template = (folder / "_template.md").read_text(encoding="utf-8")
    wanted: dict[Path, str] = {}
    for spec in specs:
        path = folder / f"{spec.name}.md"
        if spec.packaged:
            continue
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        notes = NOTES.search(old)
        new = render(spec, template, notes.group() if notes else None)
        if new != old:
            wanted[path] = new
    if readme.exists():
        old = readme.read_text(encoding="utf-8")
        new = README_TABLE.sub(lambda m: m.group(1) + readme_table(specs) + m.group(2), old)
        if new != old:
            wanted[readme] = new
    return wanted


def main(arguments: list[str] | None = None) -> int:
    """Writes the cards, or with `--check` says which are stale (exit status 1)."""
    from zoo.registry import get_spec, list_models

    parser = argparse.ArgumentParser(prog="python -m zoo.cards", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a card is stale")
    parser.add_argument("--folder", type=Path, default=ROOT / "model_cards", help="where the cards are")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="file with the table of models")
    options = parser.parse_args(arguments)
    if not (options.folder / "_template.md").exists():
        print(f"no _template.md in {options.folder}; run this in a checkout, or name the folder", file=sys.stderr)
        return 2
    specs = [get_spec(name) for name in list_models()]
    stale = outdated(options.folder, options.readme, specs)
    known = {spec.name for spec in specs} | {"_template"}
    orphans = [path for path in sorted(options.folder.glob("*.md")) if path.stem not in known]
    for path in orphans:
        print(f"{path.name}: no model of that name is registered; delete the card or register the model")
    for path, text in stale.items():
        print(f"{path.name}: {'stale; run python -m zoo.cards' if options.check else 'written'}")
        if not options.check:
            path.write_text(text, encoding="utf-8")
    return 1 if orphans or (options.check and stale) else 0


if __name__ == "__main__":
    sys.exit(main())
