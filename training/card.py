"""The card of a finished run and its figures: README.md and results.json in its folder, written from what was measured."""

import re
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from torch import nn

from zoo._version import __version__
from zoo.evaluation.blocks import split
from zoo.evaluation.graded import compare_graded
from zoo.evaluation.metrics import Difference, Interval
from zoo.evaluation.pairs import compare
from zoo.evaluation.reranked import compare_reranking
from zoo.evaluation.results import BEFORE, DIFFERENCE, FILE, Result, read_results, write_results
from zoo.publishing.cards import figures, fill
from zoo.publishing.paths import without_paths
from zoo.strangers.folders import Place

from .kinds import kind_of
from .recipe import Recipe
from .scoring import Scoring, flattered, told_kept
from .verdict import Scores

_BY = "written by `zoo train`"
_WAYS = {"forward": "query → target", "backward": "target → query"}
_LIMITS = """## Limits

What it has not seen it may not know: judge it on your own data before you rely on it. The data's licence and the base
model's apply."""
_KEPT_FIELDS = (
    "loss",
    "steps",
    "batch_size",
    "negatives",
    "random_negatives",
    "micro_batch",
    "lr",
    "schedule",
    "sampler",
    "freeze",
    "teacher",
    "ema",
    "seed",
)


def write_card(model: nn.Module, out: Path, stages: Sequence[Recipe], scoring: Scoring, data: dict[str, Any]) -> Path:
    """Writes README.md and results.json; returns the card's path. What people wrote into an older card is kept."""
    spec, path = model.spec, out / "README.md"
    # The folders of this machine are nobody's business once the card is published; data.json has them.
    command = without_paths(data.get("command") or "")
    if found := run_results(scoring.scores("before"), scoring.scores("after"), command):
        write_results(out / FILE, found)
    results = read_results(out / FILE)
    place = Place.of(out) / path.name
    kept, body = split(place.read_text() if place.is_file() else _start())
    if spec.base:
        kept.setdefault("base_model_relation", "finetune")
    if datasets := _hub_datasets(data.get("sources") or []):
        kept.setdefault("datasets", datasets)
    kind = kind_of(model)
    facts = [f"# {spec.name}", *kind.facts(spec, f"./{out.name}")]
    training = [
        "## Training",
        f"{spec.base or 'A model of the zoo'}, trained on {data.get('pairs', 0):,} pairs by the Embedding Zoo {__version__}.",
        *(_stage(stage) for stage in stages),
        _told(scoring),
        *([f"Made by `{command}`."] if command else []),
    ]
    measured = figures(results) or "## Figures\n\nNo pairs were held out, so nothing was measured."
    for name, text in {"facts": "\n\n".join(facts), "measured": measured, "training": "\n\n".join(training)}.items():
        body = fill(body, name, text, _BY)
    place.write(f"{kind.front_matter(spec, results, kept)}\n{body}".encode())
    return path


def run_results(before: Scores, after: Scores, command: str) -> list[Result]:
    """What was measured on the held-out pairs: before, after and the difference."""
    facts: dict[str, Any] = {"split": "", "source": command, "date": date.today().isoformat()}
    found: list[Result] = []
    if before.graded is not None and after.graded is not None:
        parts = (before.graded.spearman(), after.graded.spearman(), compare_graded(before.graded, after.graded))
        facts["dataset"], facts["notes"] = "held-out graded pairs", f"{len(after.graded):,} held-out graded pairs"
        for part, one in zip((BEFORE, "", DIFFERENCE), parts, strict=True):
            found.append(_result(one, metric="spearman", task="sentence-similarity", part=part, **facts))
    if before.reranked is not None and after.reranked is not None:
        ways = (
            before.reranked.intervals(),
            after.reranked.intervals(),
            compare_reranking(before.reranked, after.reranked),
        )
        count = f"{len(after.reranked):,} held-out queries, {after.reranked.candidates.mean():.3g} candidates each"
        facts |= {"dataset": "held-out pairs", "notes": count, "task": "text-ranking"}
        for part, by_measure in zip((BEFORE, "", DIFFERENCE), ways, strict=True):
            found += [_result(one, metric=m, part=part, **facts) for m, one in by_measure.items()]
    if before.retrieval is None or after.retrieval is None:
        return found
    crossing = set(after.retrieval.sides) == {"image", "text"}
    facts["task"] = "image-text-retrieval" if crossing else "retrieval"
    facts["dataset"], facts["notes"] = "held-out pairs", f"{after.retrieval.pairs:,} held-out pairs"
    differences = compare(before.retrieval, after.retrieval)
    for way, title in _WAYS.items():
        of_part = {
            BEFORE: getattr(before.retrieval, way).intervals(),
            "": getattr(after.retrieval, way).intervals(),
            DIFFERENCE: differences[way],
        }
        for part, intervals in of_part.items():
            found += [_result(one, metric=m, part=part, direction=title, **facts) for m, one in intervals.items()]
    return found


def _result(one: Interval | Difference, **facts: Any) -> Result:
    value, low, high = (round(float(part), 6) for part in one[:3])
    return Result(value=value, low=low, high=high, **facts)


def _told(scoring: Scoring) -> str:
    """Whether it got better, and which checkpoint the model is."""
    verdict, kept = scoring.verdict, told_kept(scoring.found)
    said = f"**{verdict.text}**" if verdict.kind == "worse" else verdict.text
    parts = [said, f"{kept[:1].upper()}{kept[1:]}." if kept else "", flattered(scoring.found)]
    return " ".join(filter(None, parts))


def _start() -> str:
    return f"<!-- notes:start: written by hand and kept -->\n{_LIMITS}\n<!-- notes:end -->\n"


def _hub_datasets(sources: Iterable[str]) -> list[str]:
    found = (re.match(r"hf:([\w.-]+/[\w.-]+)", source) for source in sources)
    return list(dict.fromkeys(match.group(1) for match in found if match))


def _stage(recipe: Recipe) -> str:
    facts = recipe.to_dict()
    rows = [f"| {name} | {facts[name]} |" for name in _KEPT_FIELDS if facts[name] not in (None, "", [], 0.0)]
    return "\n".join([f"**{recipe.name}**", "", "| | |", "| --- | --- |", *rows])
