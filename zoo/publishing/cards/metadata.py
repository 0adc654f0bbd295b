"""Measured results → the Hub's metadata: the model-index block of the front matter, and `.eval_results` files."""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from zoo.evaluation.figures import named
from zoo.evaluation.results import BEFORE, DIFFERENCE, FILE, Result

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_DATASET = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# An entry of .eval_results has one value and no name for it, so the first of these that was measured is taken.
_MAIN = ("ndcg@10", "accuracy", "spearman", "v_measure", "map", "recall@1", "hit@1", "recall@5", "recall@10", "mrr")


def stated(results: Iterable[Result]) -> list[Result]:
    """What metadata repeats: our shares of whole data sets, and of parts only where a data set has no whole.

    The authors' figures were measured on other files than these and stay in the text.
    """
    ours = [result for result in results if result.ours and not result.unit and result.part not in (BEFORE, DIFFERENCE)]
    whole = {(result.dataset, result.task) for result in ours if not result.part}
    return [result for result in ours if not result.part or (result.dataset, result.task) not in whole]


def metric_names(results: Iterable[Result]) -> list[str]:
    """Metrics of `stated`, each once."""
    return list(dict.fromkeys(result.metric for result in stated(results)))


def model_index(results: Iterable[Result]) -> "list[EvalResult]":
    """The figures of `stated` for the Hub's older form, the model-index block of the front matter."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=result.task,
            # The Hub wants an identifier here; a data pack of ours has none there, and its name is taken.
            dataset_type=result.dataset if _DATASET.fullmatch(result.dataset) else _slug(result.dataset),
            dataset_name=named(result.dataset, result.protocol, result.part)
            + ("" if _DATASET.fullmatch(result.dataset) else " (not on the Hub)"),
            dataset_config=result.part or None,
            dataset_split=result.split or None,
            metric_type=result.metric,
            metric_name=f"{result.metric}, {result.direction}" if result.direction else None,
            metric_value=round(result.value, 6),
        )
        for result in stated(results)
    ]


def eval_results(results: Sequence[Result], repo: str) -> dict[str, str]:
    """The Hub's newer form: path in the repository → YAML, one file for each data set that is on the Hub.

    A data set without an identifier there has no file: an entry would name a leaderboard that does not exist. Of several
    metrics the usual one is given, since an entry holds one value and no name for it; the notes name it.
    """
    from huggingface_hub import EvalResultEntry, constants, eval_result_entries_to_yaml
    from huggingface_hub.utils import yaml_dump

    best: dict[tuple[str, str, str, str], Result] = {}
    for result in stated(results):
        key = (result.dataset, result.task, result.part, result.protocol)
        if _DATASET.fullmatch(result.dataset) and (key not in best or _rank(result) < _rank(best[key])):
            best[key] = result
    entries: dict[str, list[EvalResultEntry]] = {}
    for result in best.values():
        facts = [
            result.metric,
            result.protocol,
            result.direction,
            f"{result.split} split" if result.split else "",
            result.notes,
        ]
        again = f"again with `{result.source}`" if result.source else ""
        entry = EvalResultEntry(
            dataset_id=result.dataset,
            task_id=result.part or "default",
            value=round(result.value, 6),
            date=result.date or None,
            source_url=f"{constants.ENDPOINT}/{repo}/blob/main/{FILE}",
            source_name=f"{FILE} of this repository",
            notes=", ".join(fact for fact in (*facts, again) if fact),
        )
        entries.setdefault(result.dataset, []).append(entry)
    return {
        f".eval_results/{_slug(dataset)}.yaml": yaml_dump(eval_result_entries_to_yaml(rows), sort_keys=False)
        for dataset, rows in entries.items()
    }


def _rank(result: Result) -> int:
    return _MAIN.index(result.metric) if result.metric in _MAIN else len(_MAIN)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.") or "data"
