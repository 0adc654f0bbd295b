"""`zoo eval --mixed`: searches among the items of several tables, of several kinds, as results like those of tasks."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from zoo.cli._pairs import Sides, check_bad, corpus_of, read_all, tell_left_out

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.evaluation.mixed import MixedScores
    from zoo.evaluation.results import Result

TASK = "mixed-retrieval"


def measure_mixed(
    sides: Sequence[Sides], model: "Embedder", arguments: argparse.Namespace, command: str
) -> "list[Result]":
    """Searches among all items of several tables, by plain and by calibrated scores; see `zoo.evaluation.mixed`.

    The scales are the model's own. Where it lacks one, all are measured here on the validation rows, if others are asked with.

    Raises:
        TooFewPairsError: no query has right answers of several kinds. UnsupportedModalityError: a kind that the model does not read.
        TooManyBadItemsError: more was left out than `--max-bad` allows.
    """
    from zoo.evaluation.calibration import calibrate_all
    from zoo.evaluation.mixed import evaluate_mixed, measured_whole
    from zoo.evaluation.results import Result

    corpus, calibration, scales = corpus_of(sides), model.calibration, "of the model"
    corpus.check_read(model)
    if arguments.split is None and not measured_whole(corpus, calibration):
        others = read_all(arguments, arguments.pairs, validation=True)
        if all(one.split != own.split for one, own in zip(others, sides, strict=True)):
            measured, left_out = calibrate_all(model, corpus_of(others))
            tell_left_out(left_out)
            calibration, scales = {one.pair: one.calibration for one in measured}, "measured on the validation rows"
    found, gaps, skipped = evaluate_mixed(model, corpus, calibration)
    tell_left_out(skipped)
    bad = sum(len(one.bad) for one in sides) + len(skipped)
    check_bad(bad, sum(len(one.pairs) for one in sides), arguments.max_bad)
    facts = {
        "dataset": ", ".join(one.name for one in sides), "task": TASK, "split": sides[0].split, "source": command,
        "date": date.today().isoformat(), "revision": model.spec.revision,
    }  # fmt: skip
    results = [figure for one in found for figure in _mixed_figures(one, scales, bad, facts)]
    for missing in dict.fromkeys(one.missing for one in found if one.missing):
        print(f"no calibrated figures: {missing}", file=sys.stderr)
    return results + [
        Result(metric="modality gap", value=gap, direction=f"{a} - {b}", part="centroids", unit="distance", **facts)
        for (a, b), gap in gaps.items()
    ]


def _mixed_figures(one: "MixedScores", scales: str, bad: int, facts: dict[str, Any]) -> "Iterator[Result]":
    """The figures of one kind of query; `scales`: where they are from."""
    import numpy as np

    from zoo.evaluation.metrics import bootstrap
    from zoo.evaluation.mixed import K
    from zoo.evaluation.results import Result

    among = ", ".join(f"{count:,} {kind}" for kind, count in one.documents.items())
    notes = f"{len(one):,} queries with right answers of several kinds, among {among}" + f"; {bad:,} left out" * bool(
        bad
    )
    for part, ranking in (("plain", one.plain), ("calibrated", one.calibrated)):
        if ranking is None:
            continue
        told = facts | {"part": part, "notes": notes + f"; scales {scales}" * (part == "calibrated")}
        names, arrays = (f"recall@{K}", f"ndcg@{K}", f"apart@{K}"), (ranking.recall, ranking.ndcg, ranking.apart)
        for name, (value, low, high) in zip(names, bootstrap(np.stack(arrays, axis=1)), strict=True):
            yield Result(metric=name, value=value, low=low, high=high, direction=f"{one.asked} → all", **told)
        for kind, share in ranking.shares.items():
            yield Result(metric=f"share@{K}", value=float(share.mean()), direction=f"{one.asked} → {kind}", **told)
    for kind, share in one.right.items():
        told = facts | {"part": "right answers", "notes": notes}
        yield Result(metric="share", value=float(share.mean()), direction=f"{one.asked} → {kind}", **told)
