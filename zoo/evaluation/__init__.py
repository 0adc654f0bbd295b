"""Evaluation: metrics over similarities, pairs of one's own, the data packs, and mteb's tasks; results in one form for cards.

`find_jobs` finds a task by name and `measure` gives its `Result`s; what they call has a file each: packs, queries, composed,
scar, mteb. Pairs are measured by `evaluate_pairs`, graded ones by `evaluate_graded`, galleries of
several kinds by `evaluate_mixed`, and `calibrate` says how similar a good match is.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.evaluation.calibration import calibrate, calibrate_all
    from zoo.evaluation.composed import evaluate_composed
    from zoo.evaluation.corpus import Corpus, Told
    from zoo.evaluation.graded import GradedScores, compare_graded, evaluate_graded
    from zoo.evaluation.inspecting import Inspection, inspect_model
    from zoo.evaluation.jobs import measure
    from zoo.evaluation.mixed import MixedScores, evaluate_mixed
    from zoo.evaluation.packs import evaluate_pack
    from zoo.evaluation.pairs import PairScores, compare, evaluate_pairs
    from zoo.evaluation.queries import evaluate_queries, query_scores
    from zoo.evaluation.results import Result, read_results, write_results
    from zoo.evaluation.scar import evaluate_scar
    from zoo.evaluation.scar_files import read_samples, write_samples
    from zoo.evaluation.scar_like import coco_scenes, scar_like
    from zoo.evaluation.tasks import find_jobs, known_tasks

__all__ = [
    "Corpus",
    "GradedScores",
    "Inspection",
    "MixedScores",
    "PairScores",
    "Result",
    "Told",
    "calibrate",
    "calibrate_all",
    "coco_scenes",
    "compare",
    "compare_graded",
    "evaluate_composed",
    "evaluate_graded",
    "evaluate_mixed",
    "evaluate_pack",
    "evaluate_pairs",
    "evaluate_queries",
    "evaluate_scar",
    "find_jobs",
    "inspect_model",
    "known_tasks",
    "measure",
    "query_scores",
    "read_results",
    "read_samples",
    "scar_like",
    "write_results",
    "write_samples",
]

# Found here, loaded when first used: a card reads results without torch.
_LAZY = {
    "Corpus": "corpus",
    "GradedScores": "graded",
    "Inspection": "inspecting",
    "MixedScores": "mixed",
    "PairScores": "pairs",
    "Result": "results",
    "Told": "corpus",
    "calibrate": "calibration",
    "calibrate_all": "calibration",
    "coco_scenes": "scar_like",
    "compare": "pairs",
    "compare_graded": "graded",
    "evaluate_composed": "composed",
    "evaluate_graded": "graded",
    "evaluate_mixed": "mixed",
    "evaluate_pack": "packs",
    "evaluate_pairs": "pairs",
    "evaluate_queries": "queries",
    "evaluate_scar": "scar",
    "find_jobs": "tasks",
    "inspect_model": "inspecting",
    "known_tasks": "tasks",
    "measure": "jobs",
    "query_scores": "queries",
    "read_results": "results",
    "read_samples": "scar_files",
    "scar_like": "scar_like",
    "write_results": "results",
    "write_samples": "scar_files",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"zoo.evaluation.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'zoo.evaluation' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
