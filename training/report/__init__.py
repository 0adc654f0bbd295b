"""The report of a run: report.html and report.md, made from the files in the run's folder and from nothing else."""

import argparse
import math
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, TypedDict

from zoo._version import __version__
from zoo.errors import ZooError
from zoo.evaluation.pairs import PairScores
from zoo.files import write_json
from zoo.strangers.folders import Place
from zoo.strangers.schema import Like, Range
from zoo.strangers.terminal import clean_output

from ..errors import DamagedRunError, NoRunError
from ..own import MOST_STEPS, Evaluation, Step, check_own, read_facts, read_rows
from ..recipe import MOST_STAGES
from ..scoring import Found, flattered, scores_in, told_kept
from ..verdict import GRADED, Scores, Verdict, judge
from . import sections as parts
from .examples import keep_examples, kept_examples
from .page import Code, Paragraph, Plots, Section, to_html, to_markdown
from .plots import can_draw

__all__ = ["keep_examples", "read_metrics", "write_report"]

_HEADLINES = ("loss", "steps", "epochs", "batch_size", "lr", "seed")
_COLUMNS = ("step", "loss", *parts.DIALS)
_LARGEST = 1e30  # of what is drawn
_PACKAGES = ("torch", "transformers", "timm", "accelerate", "peft", "numpy")
_NO_PLOTS = 'There are no plots: install matplotlib (pip install "embedding-zoo[train]") and make the report again.'


class Stage(TypedDict, total=False):
    """What a report needs of a stage of recipe.json; all else in it is shown as it is."""

    model: str
    name: Annotated[str, Like(r"[^/\\\0]{0,100}", "a name of a stage")]
    steps: Annotated[int, Range(0, MOST_STEPS)] | None


class Noted(Stage, total=False):
    """What it needs of recipe.json; of a run of one stage that may be in its place."""

    stages: Annotated[list[Stage], Range(0, MOST_STAGES)]


def write_report(out: Path) -> Path:
    """Writes report.html (one file, everything inside), report.md and the plots in `out/report`; returns the first.

    Reads, where they are there: recipe.json, data.json, scores.json, the metrics.jsonl and skipped.jsonl of all stages,
    and what `keep_examples` wrote. What is missing is left out. Without matplotlib there are no plots.

    Raises:
        NoRunError: `out` holds no recipe, scores or metrics. DamagedRunError: a file of them is damaged, or no run's.
        UnsafeFolderError: one is a link, a FIFO or a device, or far too large.
    """
    out = Path(out)
    check_own(out)
    recipe, data = read_facts(out / "recipe.json", Noted), read_facts(out / "data.json", dict[str, Any])
    found, before, after = read_scores(out)
    metrics, last = read_metrics(out), after.retrieval or before.retrieval
    if not (recipe or found or metrics["step"]):
        raise NoRunError(f"{out} holds no recipe.json, scores.json or metrics.jsonl; name the folder given to --out")
    stages = recipe.get("stages") or [recipe]
    # All is read before anything is drawn or written.
    evaluations, skipped, kept = read_evaluations(out, found, stages), _skipped(out, last), kept_examples(out)
    (Place.of(out) / "report").make()
    versions = _versions(out)
    sections: list[Section] = [
        (
            "",
            [
                *parts.summary(before, after, metrics, _verdict(found, before, after), _chosen(found)),
                *([] if can_draw() else [Paragraph(_NO_PLOTS, "note")]),
            ],
        ),
        (
            "Reranking of held-out pairs" if last is None and after.reranked else "Retrieval on held-out pairs",
            parts.held_out(before, after),
        ),
        ("Training", parts.training(metrics, evaluations)),
        ("The space of the vectors", parts.space(before.retrieval, after.retrieval)),
        ("Examples", parts.examples(kept, last)),
        ("Recipe", parts.recipe(stages)),
        ("Data", parts.data(data, skipped)),
        ("Versions", [Paragraph(" · ".join(f"{name} {version}" for name, version in versions.items()))]),
        ("Run it again", [Code(str(data["command"]))] if data.get("command") else []),
    ]
    sections = [(heading, blocks) for heading, blocks in sections if blocks]
    for plot in (
        plot for _, blocks in sections for block in blocks if isinstance(block, Plots) for plot in block.plots
    ):
        (Place.of(out) / "report" / f"{plot.name}.png").write(plot.png)
    names = list(dict.fromkeys(str(stage["model"]) for stage in stages if stage.get("model")))
    title = f"Training {', '.join(names)}" if names else f"Training in {out.resolve().name}"
    subtitle = " · ".join(f"{name} {stages[0][name]}" for name in _HEADLINES if stages[0].get(name) is not None)
    # "replace": a lone surrogate in somebody's text must not cost the report.
    (Place.of(out) / "report.md").write(to_markdown(title, subtitle, sections).encode("utf-8", "replace"))
    (Place.of(out) / "report.html").write(to_html(title, subtitle, sections, out).encode("utf-8", "replace"))
    return out / "report.html"


def read_scores(out: Path) -> tuple[dict[str, Any], Scores, Scores]:
    """What scores.json holds, and the figures before and after in it; raises DamagedRunError where they are none."""
    found = read_facts(out / "scores.json", Found)
    try:
        return found, scores_in(found, "before"), scores_in(found, "after")
    except ValueError as error:
        raise DamagedRunError(f"{out / 'scores.json'} holds no scores ({error}); delete it to go without") from error


def read_evaluations(out: Path, found: dict[str, Any], stages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rankings of held-out pairs during the run, all stages in one count of steps; step 0 is before training."""
    rows: list[dict[str, Any]] = []
    offset = 0
    for number, stage in enumerate(stages, start=1):
        folder = out if len(stages) == 1 else out / f"stage-{number}-{stage.get('name')}"
        lines = read_rows(folder / "evaluations.jsonl", Evaluation)
        rows += [{**row, "step": row["step"] + offset} for row in lines]
        done = found.get("kept", {}).get(stage.get("name"), {}).get("steps")
        offset += done or stage.get("steps") or 0
    return rows


def _chosen(found: dict[str, Any]) -> str:
    """Which checkpoint the model is, and what that makes of its figures."""
    kept = told_kept(found)
    return f"{kept[:1].upper()}{kept[1:]}. {flattered(found)}".strip() if kept else ""


def _verdict(found: dict[str, Any], before: Scores, after: Scores) -> Verdict | None:
    """What may be said of a run that is over; None of one that is not."""
    if "verdict" not in found and after == Scores():
        return None
    return judge(before, after, found.get("verdict", {}).get("measure") == GRADED)


def read_metrics(out: Path) -> parts.Metrics:
    """Columns of all stages' metrics.jsonl by name, NaN where absent; "step" goes on from stage to stage.

    A step logged twice, as by a run that was killed and resumed, counts as it was logged last; half lines do not count.
    """
    rows: list[dict[str, Any]] = []
    for path in (out / "metrics.jsonl", *sorted(out.glob("stage-*/metrics.jsonl"), key=_stage_number)):
        offset, mine = rows[-1]["step"] if rows else 0, {}
        for row in read_rows(path, Step):
            mine[row["step"]] = {name: _number(row.get(name)) for name in _COLUMNS} | {"step": row["step"] + offset}
        rows += [mine[step] for step in sorted(mine)]
    return {name: [float(row[name]) for row in rows] for name in _COLUMNS}


def _number(value: Any) -> float:
    """NaN for what is no number, and for those that cannot be drawn."""
    return float(value) if isinstance(value, int | float) and abs(value) <= _LARGEST else math.nan


def _skipped(out: Path, scores: PairScores | None) -> list[str]:
    """What training and evaluation left out, a line each."""
    files = [*sorted(out.glob("skipped*.jsonl")), *sorted(out.glob("stage-*/skipped*.jsonl"), key=_stage_number)]
    lines = [": ".join(map(str, entry.values())) for path in files for entry in read_rows(path, dict[str, Any])]
    return [*dict.fromkeys(lines), *(f"held out, {text}" for text in (scores.skipped if scores is not None else ()))]


def _versions(out: Path) -> dict[str, str]:
    """Those of the run: noted when its first report is written, and read afterwards."""
    path = out / "report" / "versions.json"
    if noted := read_facts(path, dict[str, str]):
        return noted
    found = {"embedding-zoo": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    write_json(path, found)
    return found


def _stage_number(path: Path) -> tuple[int, str]:
    number = path.parent.name.split("-")[1]
    return (int(number) if number.isdecimal() else 0), str(path)


@clean_output()
def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m zoo.training.report",
        description="Makes the report of a run again, from the files in its folder.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="what was given to --out")
    options = parser.parse_args(arguments)
    try:
        print(write_report(options.folder))
    except (ZooError, OSError) as error:
        print(f"zoo.training.report: {error}", file=sys.stderr)
        return 1
    return 0
