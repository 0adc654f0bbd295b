"""The card of a finished run and its figures: README.md and results.json in its folder, written from what was measured."""

import re
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo._version import __version__
from zoo.cards import figures, fill, front_matter, summary, usage
from zoo.cards.blocks import split
from zoo.cards.facts import fact_table
from zoo.embedder import Embedder
from zoo.evaluation.pairs import PairScores, compare
from zoo.evaluation.results import BEFORE, DIFFERENCE, FILE, Result, read_results, write_results
from zoo.publish import without_paths

from .recipe import Recipe

if TYPE_CHECKING:
    from .finishing import Scoring

_BY = "written by `zoo train`"
_WAYS = {"forward": "query → target", "backward": "target → query"}
_LIMITS = """## Limits

What it has not seen it may not know: judge it on your own data before you rely on it. The data's licence and the base
model's apply."""
_KEPT_FIELDS = (
    "loss",
    "steps",
    "batch_size",
    "micro_batch",
    "lr",
    "schedule",
    "sampler",
    "freeze",
    "teacher",
    "ema",
    "seed",
)


def write_card(model: Embedder, out: Path, stages: Sequence[Recipe], scoring: "Scoring", data: dict[str, Any]) -> Path:
    """Writes README.md and results.json; returns the card's path. What people wrote into an older card is kept."""
    spec, path = model.spec, out / "README.md"
    # The folders of this machine are nobody's business once the card is published; data.json has them.
    command = without_paths(data.get("command") or "")
    if found := run_results(scoring.score("before"), scoring.score("after"), command):
        write_results(out / FILE, found)
    results = read_results(out / FILE)
    kept, body = split(path.read_text(encoding="utf-8") if path.is_file() else _start())
    if spec.base:
        kept.setdefault("base_model_relation", "finetune")
    if datasets := _hub_datasets(data.get("sources") or []):
        kept.setdefault("datasets", datasets)
    facts = [f"# {spec.name}", summary(spec, weights=True), fact_table(spec), "## Use"]
    facts.append(f"```python\n{usage(spec, f'./{out.name}')}\n```")
    training = [
        "## Training",
        f"{spec.base or 'A model of the zoo'}, trained on {data.get('pairs', 0):,} pairs by the Embedding Zoo {__version__}.",
        *(_stage(stage) for stage in stages),
        *([f"Made by `{command}`."] if command else []),
    ]
    measured = figures(results) or "## Figures\n\nNo pairs were held out, so nothing was measured."
    for name, text in {"facts": "\n\n".join(facts), "measured": measured, "training": "\n\n".join(training)}.items():
        body = fill(body, name, text, _BY)
    path.write_text(f"{front_matter(spec, repo='', results=results, kept=kept)}\n{body}", encoding="utf-8")
    return path


def run_results(before: PairScores | None, after: PairScores | None, command: str) -> list[Result]:
    """Both ways of retrieval over the held-out pairs: before, after, and the difference; [] without held-out pairs."""
    if before is None or after is None:
        return []
    sides = set(after.sides)
    facts: dict[str, Any] = {
        "dataset": "held-out pairs",
        "task": "image-text-retrieval" if sides == {"image", "text"} else "retrieval",
        "split": "",
        "source": command,
        "date": date.today().isoformat(),
        "notes": f"{after.pairs:,} held-out pairs",
    }
    differences, found = compare(before, after), []
    for way, title in _WAYS.items():
        of_part = {
            BEFORE: getattr(before, way).intervals(),
            "": getattr(after, way).intervals(),
            DIFFERENCE: differences[way],
        }
        found += [
            Result(
                metric=metric,
                value=round(float(one.value), 6),
                low=round(float(one.low), 6),
                high=round(float(one.high), 6),
                part=part,
                direction=title,
                **facts,
            )
            for part, intervals in of_part.items()
            for metric, one in intervals.items()
        ]
    return found


def _start() -> str:
    return f"<!-- notes:start: written by hand and kept -->\n{_LIMITS}\n<!-- notes:end -->\n"


def _hub_datasets(sources: Iterable[str]) -> list[str]:
    found = (re.match(r"hf:([\w.-]+/[\w.-]+)", source) for source in sources)
    return list(dict.fromkeys(match.group(1) for match in found if match))


def _stage(recipe: Recipe) -> str:
    facts = recipe.to_dict()
    rows = [f"| {name} | {facts[name]} |" for name in _KEPT_FIELDS if facts[name] not in (None, "", [], 0.0)]
    return "\n".join([f"**{recipe.name}**", "", "| | |", "| --- | --- |", *rows])
