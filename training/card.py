"""The card of a finished run: README.md in its folder, written from what was measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo._version import __version__
from zoo.cards import front_matter
from zoo.embedder import Embedder
from zoo.evaluation.pairs import PairScores, compare

from .recipe import Recipe

if TYPE_CHECKING:
    from .finishing import Scoring

_WAYS = {"forward": "query → target", "backward": "target → query"}
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
    """Writes README.md with the Hub's front matter, the use, the figures and the recipe; returns its path."""
    spec = model.spec
    parts = [
        front_matter(spec),
        f"# {spec.name}",
        f"{spec.base or 'A model of the zoo'}, trained on {data.get('pairs', 0):,} pairs by the Embedding Zoo "
        f"{__version__}. It reads {', '.join(sorted(spec.modalities))} and gives unit vectors of {spec.dim} numbers.",
        f'```python\nfrom zoo import load_model\n\nmodel = load_model("./{out.name}")\nmodel.encode(["some words"])\n```',
        "## Figures",
        _figures(scoring.score("before"), scoring.score("after")),
        "## Training",
        *(_stage(stage) for stage in stages),
    ]
    if data.get("command"):
        parts.append(f"Made by `{data['command']}`.")
    parts.append(
        "## Limits\n\nWhat it has not seen it may not know: judge it on your own data before you rely on it. The data's "
        "licence and the base model's apply."
    )
    path = out / "README.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _figures(before: PairScores | None, after: PairScores | None) -> str:
    if before is None or after is None:
        return "No pairs were held out, so nothing was measured."
    lines = [
        f"Measured on {after.pairs:,} held-out pairs; in brackets the 95 % bootstrap interval of the difference.",
        "",
        "| direction | measure | before | after | difference |",
        "| --- | --- | --- | --- | --- |",
    ]
    differences = compare(before, after)
    for way, title in _WAYS.items():
        old, new = getattr(before, way).intervals(), getattr(after, way).intervals()
        for measure, difference in differences[way].items():
            lines.append(
                f"| {title} | {measure} | {old[measure].value:.3f} | {new[measure].value:.3f} | {difference.value:+.3f} "
                f"({difference.low:+.3f} to {difference.high:+.3f}) |"
            )
    return "\n".join(lines)


def _stage(recipe: Recipe) -> str:
    facts = recipe.to_dict()
    rows = [f"| {name} | {facts[name]} |" for name in _KEPT_FIELDS if facts[name] not in (None, "", [], 0.0)]
    return "\n".join([f"**{recipe.name}**", "", "| | |", "| --- | --- |", *rows])
