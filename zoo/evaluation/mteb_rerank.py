"""mteb's retrieval tasks in two stages, as mteb defines them: what a model found first, in the order of a reranker."""

import logging
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from zoo.errors import EmptyItemError, InputError, NoResultError
from zoo.evaluation.mteb import MODALITIES, ModelMeta, rows_of
from zoo.evaluation.mteb_media import value_of
from zoo.inputs.item import Item

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from torch.utils.data import DataLoader

    from zoo.reranking import Reranker

logger = logging.getLogger(__name__)


class SecondStage(NamedTuple):
    """What ranks the first `top` results of every query anew; `shown` is how the command names it."""

    reranker: "Reranker"
    shown: str
    top: int


class ZooCrossEncoder:
    """A reranker of the zoo as mteb takes it (its CrossEncoderProtocol), with the reranker's own instruction.

    A pair that cannot be read, such as one with an empty text, ranks below all others.

    Attributes:
        skipped: pairs without a score, by reason; `seen`: all pairs. Both add up until they are cleared.
    """

    def __init__(self, reranker: "Reranker", revision: str | None = None) -> None:
        self.reranker, spec = reranker, reranker.spec
        self.mteb_model_meta = ModelMeta(
            loader=None,
            name=spec.hub_id or f"embedding-zoo/{spec.name}",
            revision=revision or spec.revision or "unknown",
            release_date=None,
            languages=None,
            n_parameters=None,
            memory_usage_mb=None,
            max_tokens=spec.max_tokens,
            embed_dim=None,
            license=None,
            open_weights=None,
            public_training_code=None,
            public_training_data=None,
            framework=["PyTorch"],
            similarity_fn_name=None,
            use_instructions=None,
            training_datasets=None,
            model_type=["cross-encoder"],
        )
        self.seen, self.skipped = 0, Counter()

    def predict(
        self,
        inputs1: "DataLoader | Iterable[Mapping[str, Any]]",
        inputs2: "DataLoader | Iterable[Mapping[str, Any]]",
        *,
        task_metadata: "TaskMetadata",
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Scores `(pairs,)` of the rows of two loaders, queries and documents."""
        lost: dict[int, InputError] = {}
        kept: list[int] = []
        total = 0

        def pairs() -> Iterator[tuple[Item, Item]]:
            nonlocal total
            for total, rows in enumerate(zip(rows_of(inputs1), rows_of(inputs2), strict=True), start=1):
                try:
                    pair = tuple(map(self._item, rows))
                except InputError as error:
                    lost[total - 1] = error
                    continue
                kept.append(total - 1)
                yield pair

        found: dict[int, float] = {}
        for index, score, error in self.reranker.score_stream(pairs(), progress=False):
            if error is None:
                found[kept[index]] = score
            else:
                lost[kept[index]] = error
        self.seen += total
        self.skipped.update(error.code for error in lost.values())
        if total and not found:
            raise min(lost.items())[1]
        if lost:
            where = f"{task_metadata.name} ({hf_subset}, {hf_split})"
            logger.warning(f"{where}: {len(lost):,} of {total:,} pairs have no score: {min(lost.items())[1]}")
        below = min(found.values(), default=0.0) - 1
        return torch.tensor([found.get(at, below) for at in range(total)])

    def _item(self, row: Mapping[str, Any]) -> Item:
        """What the reranker reads of a row."""
        own = [name for name in MODALITIES if name in self.reranker.spec.modalities]
        reads = {name: row[name] for name in own if row.get(name) is not None and str(row[name]).strip()}
        if not reads:
            raise EmptyItemError(f"this entry has no {' or '.join(sorted(self.reranker.spec.modalities))}", what="None")
        return Item(**{name: value_of(name, value, self.reranker.encoder) for name, value in reads.items()})


def reranked_task(wrapped: Any, task: Any, second: SecondStage) -> tuple[Any, Any, ZooCrossEncoder]:
    """The results of a task by the model alone, and with its first results in the order of a reranker; the latter's encoder.

    A reranking task of mteb brings its candidates along: of these all are ranked, and the model's own are its figures alone.

    Raises:
        NoResultError: the task is not about ranking, or it failed.
    """
    import mteb

    if not hasattr(task, "convert_to_reranking"):
        raise NoResultError(
            f"{task.metadata.name} ranks nothing (it is of the type {task.metadata.type}); leave --rerank out"
        )
    options = {"cache": None, "overwrite_strategy": "always", "show_progress_bar": False}
    cross = ZooCrossEncoder(second.reranker)
    with tempfile.TemporaryDirectory() as folder:
        first = mteb.evaluate(wrapped, task, prediction_folder=folder, **options)
        _check(first, task)
        if not task.data_loaded:
            task.load_data()
        if any(split["top_ranked"] is None for subset in task.dataset.values() for split in subset.values()):
            task.convert_to_reranking(Path(folder), top_k=second.top)
        after = mteb.evaluate(cross, task, **options)
    _check(after, task)
    return first, after, cross


def _check(found: Any, task: Any) -> None:
    if found.exceptions:
        raise NoResultError(f"{task.metadata.name}: {found.exceptions[0].exception}")
