"""What a card says of a reranker: front matter, facts, use and how it reads; `zoo show` says the same."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zoo.evaluation.blocks import fill, split
from zoo.evaluation.figures import figures
from zoo.evaluation.results import Result
from zoo.publishing.cards.facts import HUB_ID, paper_url, training_data
from zoo.publishing.cards.reading import reading_rows
from zoo.reranking import RerankerSpec
from zoo.reranking.parts import as_model

_BY = "written by `python -m zoo.publishing.cards` from the spec in zoo/rerankers/; change it there"
_BY_RESULTS = "written by `python -m zoo.publishing.cards` from results/{name}.json; change it there"
WRITTEN = ("license", "license_name", "language", "library_name", "pipeline_tag", "base_model", "tags")
_ROWS = ("backbone", "positions", "images", "videos", "too long")  # of `reading_rows`; the others are of vectors


def front_matter(spec: RerankerSpec, kept: Mapping[str, Any]) -> str:
    """The Hub's YAML block of a card, `---` lines included; of `kept` is taken over what this program does not write."""
    from huggingface_hub import ModelCardData

    other = spec.license.startswith("other: ")
    base = spec.base or spec.hub_id
    data = ModelCardData(
        license="other" if other else spec.license,
        license_name=spec.license.removeprefix("other: ") if other else None,
        language=list(spec.languages) or kept.get("language"),
        library_name="embedding-zoo",
        pipeline_tag="text-ranking",
        base_model=base if HUB_ID.fullmatch(base) else None,
        tags=["embedding-zoo", *_kinds(spec), *([spec.paper] if spec.paper else [])],
        **{key: value for key, value in kept.items() if key not in WRITTEN},
    )
    return f"---\n{data.to_yaml(original_order=list(WRITTEN))}\n---"


def _kinds(spec: RerankerSpec) -> list[str]:
    if spec.judge is None:
        return ["reranker", "cross-encoder"]
    return ["reranker"] if spec.modalities == {"text"} else ["reranker", "multimodal-reranker"]


def gives(spec: RerankerSpec) -> str:
    """What a score is, in words."""
    if spec.judge is not None:
        answers = f"`{spec.judge.yes}` against `{spec.judge.no}`" if spec.judge.no else f"`{spec.judge.yes}`"
        if spec.activation == "sigmoid":
            return f"probability of {answers} as the next word"
        return f"logit of {answers} as the next word, below and above 0"
    return "sigmoid of a logit, 0 to 1" if spec.activation == "sigmoid" else "a logit, below and above 0"


def fact_rows(spec: RerankerSpec) -> dict[str, str]:
    """The rows of a card's fact table, in order; a fact that the reranker does not have has no row."""
    facts = {
        "reads": ", ".join(sorted(spec.modalities)),
        "weights": f"{spec.params:,}" if spec.params else "",
        "max tokens": f"{spec.max_tokens:,}, of query and document together",
        "languages": spec.language_names,
        "licence": spec.license,
        "paper": f"[{spec.paper}]({paper_url(spec.paper)})" if spec.paper else "",
        "Hub repository": f"[{spec.hub_id}](https://huggingface.co/{spec.hub_id})" if spec.hub_id else "",
        "revision": f"`{spec.revision}`" if spec.revision else "",
        "starts from": spec.base or "",
        "family": f"`zoo/rerankers/{spec.family}.py`" if spec.family else "",
        "score": gives(spec),
    }
    return {row: value for row, value in facts.items() if value}


def fact_table(spec: RerankerSpec) -> str:
    """`fact_rows` as Markdown."""
    rows = (f"| {name} | {value} |" for name, value in fact_rows(spec).items())
    return "\n".join(["| fact | value |", "| --- | --- |", *rows])


def how_it_reads(spec: RerankerSpec) -> dict[str, str]:
    """What → in words, in order."""
    if spec.judge is None:
        return {
            "pair": "query and document in one row, as its tokenizer puts two texts: `[CLS] query [SEP] document [SEP]`",
            "too long": "the longer of the two texts is truncated first",
            "instruction": "none; one is refused",
        }
    rows = {row: words for row, words in reading_rows(as_model(spec)).items() if row in _ROWS}
    where = {"prompt": "stands by itself in the prompt", "query": "stands before the text of the query"}[
        spec.judge.asked
    ]
    kinds = ", ".join(kind for kind in spec.judge.kinds if kind in spec.modalities)
    return rows | {
        "instruction": f"of the query; it {where}",
        "order": f"{kinds}, in query and document; of parts, as given",
    }


def sequence(spec: RerankerSpec) -> str:
    """What a judge is given for a query and a document of text, in quotation marks, line breaks as \\n."""
    from zoo.encoders.sequence.template import Prompt

    judge = spec.judge
    query = "{query}" if judge.asked == "prompt" else "{instruction} {query}"
    content = [("text", judge.query), ("text", query), ("text", judge.document), ("text", "{document}")]
    instruction = "{instruction}" * (judge.asked == "prompt")
    return repr(Prompt(judge.format.prompt).render(content, judge.format, instruction))


def summary(spec: RerankerSpec, *, weights: bool = False) -> str:
    """One sentence on what goes in and what comes out.

    Args:
        weights: it has trained ones, wherever they are; else the spec says.
    """
    media = {"text": "texts", "image": "images", "video": "videos"}
    *others, last = [media[kind] for kind in ("text", "image", "video") if kind in spec.modalities]
    kinds = f"{', '.join(others)} and {last}" if others else last
    scale = " from 0 to 1" if spec.activation == "sigmoid" else ""
    what = f"Reranker: reads a query and a document, of {kinds}, together, and scores{scale}"
    if spec.hub_id or weights:
        return f"{what} how well the one answers the other."
    if spec.name.endswith("-test"):
        return f"{what}, tiny and with random weights: it exists for tests and for writing code without a network."
    return f"{what}. No weights are published: it is the way in which checkpoints of one's own are asked."


def opened(spec: RerankerSpec) -> str:
    """The call that opens a reranker by its name, or a checkpoint of one's own where no weights are published."""
    if spec.hub_id:
        return f'load_reranker("{spec.name}")'
    if spec.name.endswith("-test"):
        return f'build_reranker("{spec.name}")'
    return f'load_reranker("./my-checkpoint", like="{spec.name}")'


def usage(spec: RerankerSpec, place: str = "") -> str:
    """The shortest program that ranks with this reranker, by its name or from a folder."""
    call = f'load_reranker("{place}")' if place else opened(spec)
    first = "from pathlib import Path\n\n" if "image" in spec.modalities else ""
    other = 'Path("photo.jpg")' if first else '"a red car"'
    return (
        f"{first}from zoo import {call.partition('(')[0]}\n\nreranker = {call}\n"
        f'for index, score in reranker.rerank("a red bicycle", ["a bicycle in the rain", {other}]):\n'
        "    print(index, score)"
    )


def render_reranker(spec: RerankerSpec, old: str, results: Iterable[Result] = ()) -> str:
    """The whole card of a registered reranker.

    Args:
        old: the card as it is, or the template: its blocks are written anew, the rest is kept.
    """
    kept, body = split(old)
    results: Sequence[Result] = list(results)
    reads = "\n".join(f"- {what}: {words}" for what, words in how_it_reads(spec).items())
    parts = [
        f"# {spec.name}",
        summary(spec),
        fact_table(spec),
        training_data(spec.hub_id),
        f"## Use\n\n```python\n{usage(spec)}\n```",
        f"## How it reads\n\n{reads}",
    ]
    if spec.judge is not None:
        parts[-1] += f"\n\nWhat it is given for texts, to the letter:\n\n- `{sequence(spec)}`"
    body = fill(body, "facts", "\n\n".join(part for part in parts if part), _BY)
    body = fill(body, "measured", figures(results), _BY_RESULTS.format(name=spec.name))
    return f"{front_matter(spec, kept)}\n{body}"
