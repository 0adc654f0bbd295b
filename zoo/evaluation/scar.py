"""SCaR (VIRTUE, Sony 2025): a region of an image finds its caption among ten, of which nine have a wrong object, relation or scene.

The metric is Hit@1 among the captions of the region's own row. Ties lose: the right caption stands first in every row, so that
a ranking which keeps the order of equals would call them hits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.callers import warn
from zoo.embedder import Embedder
from zoo.embedder.aiming import facing
from zoo.errors import NoResultError, UnsupportedModalityError
from zoo.evaluation.metrics import interval
from zoo.evaluation.results import Result
from zoo.inputs.item import Item
from zoo.inputs.regions import Box
from zoo.prompts import Role
from zoo.spec import need_one_vector

CAPTIONS = 10  # of every row
DIRECTION = "image + region → text"
METRIC = "hit@1"
# As VIRTUE's demo words the task; the published rows bring words of their own.
QUESTION = (
    "Find the caption that best describes the segmented object, considering both local details and global context in the "
    "given image."
)
_SHOWN = 5
_REGION = Item(image=b"", regions=(Box(0, 0, 9, 9),))  # of which only the modalities are asked for


@dataclass(frozen=True, eq=False)
class Sample:
    """One row: which of these captions is that of this region?

    Attributes:
        where: its place in words, for messages.
        image: a file or its bytes. box: the region, in pixels of the upright image.
        captions: the right one first. question: the task in words, "" for none.
        wrong: of every wrong caption what is wrong with it ("entity", "relation", "scene"), () where nobody says.
    """

    where: str
    image: Path | bytes
    box: Box
    captions: tuple[str, ...]
    question: str = ""
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Choices:
    """How a model chose, in the order of the images.

    Attributes:
        margins: `(samples, captions - 1)` by how much the right caption is nearer than each wrong one.
        wrong: of every sample, as `Sample.wrong`.
        bad: why samples are left out. told: whether the model read the question with the region.
    """

    margins: np.ndarray
    wrong: tuple[tuple[str, ...], ...]
    bad: tuple[str, ...]
    told: bool

    def hits(self, kind: str = "") -> np.ndarray:
        """Of every sample whether the right caption is strictly nearest; with a kind, among those that are wrong so.

        Only samples that have such captions count.
        """
        if not kind:
            return (self.margins > 0).all(1)
        rows = ((margins, np.array(wrong) == kind) for margins, wrong in zip(self.margins, self.wrong, strict=True))
        return np.array([(margins[chosen] > 0).all() for margins, chosen in rows if chosen.any()], dtype=bool)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is wrong with captions, in the order of the alphabet."""
        return tuple(sorted({kind for wrong in self.wrong for kind in wrong}))


def reads_question(model: Embedder) -> bool:
    """Whether the model reads the question, the image and the region as one; others get the image and the region alone.

    Fused, the question's vector would be added to that of the region, as if it described it.
    """
    item = replace(_REGION, text="?")
    try:
        return not model.route(item).encoder.parts(item)
    except UnsupportedModalityError:
        return False


def evaluate_scar(
    model: Embedder, samples: Sequence[Sample], bad: Sequence[str] = (), *, progress: bool | None = None
) -> Choices:
    """Which captions a model chooses. A caption of many rows is embedded once; a row that cannot be embedded costs itself alone.

    Memory: a vector for every distinct caption.

    Args:
        samples: all with as many captions. bad: why rows are no samples, which are counted with those that fail here.
        progress: bars, as `encode` shows them.

    Raises:
        NoResultError: no sample is left. UnsupportedModalityError: the model reads no regions of images, or no texts.
    """
    need_one_vector(model.spec, "SCaR")
    for item in (_REGION, Item(text="?")):
        model.route(item)
    total, reasons, told = len(samples) + len(bad), list(bad), reads_question(model)
    # Rows of one image side by side: what it costs once, a batch pays once.
    samples = sorted(samples, key=lambda sample: str(sample.image) if isinstance(sample.image, Path) else "")
    texts = list(dict.fromkeys(caption for sample in samples for caption in sample.captions))
    places = {text: place for place, text in enumerate(texts)}
    vectors, lost = torch.zeros(len(texts), model.spec.dim), {}
    for place, vector, why in _embedded(facing(model, [_REGION.modalities]), texts, "document", progress):
        if vector is None:
            lost[texts[place]] = why
        else:
            vectors[place] = vector
    whys = {sample.where: lost[caption] for sample in samples for caption in sample.captions if caption in lost}
    reasons += [f"{where}: {why}" for where, why in whys.items()]
    kept = [sample for sample in samples if sample.where not in whys]
    chosen: list[tuple[tuple[str, ...], np.ndarray]] = []
    for place, vector, why in _embedded(model, [_query(sample, told) for sample in kept], "query", progress):
        sample = kept[place]
        if vector is None:
            reasons.append(f"{sample.where}: {why}")
        else:
            captions = vectors[[places[caption] for caption in sample.captions]]
            chosen.append((sample.wrong, _margins(model, vector, captions)))
    if not chosen:
        first = f"; the first of {len(reasons):,} reasons: {reasons[0]}" if reasons else ""
        raise NoResultError(f"none of {total:,} rows can be measured{first}")
    _name(reasons, total)
    wrong, margins = zip(*chosen, strict=True)
    return Choices(np.stack(margins), wrong, tuple(reasons), told)


def scar_results(choices: Choices, *, dataset: str, task: str, split: str, part: str = "") -> list[Result]:
    """Hit@1 with Wilson's interval; where it is known what is wrong with captions, also among those of each kind.

    Args:
        dataset, task, split, part: as `Result` has them.
    """
    notes = [f"{len(choices.margins):,} regions, {choices.margins.shape[1] + 1} captions each, ties lose"]
    if not choices.told:
        notes.append("the question is not read")
    if choices.bad:
        notes.append(f"{len(choices.bad):,} of {len(choices.bad) + len(choices.margins):,} rows left out")
    facts: dict[str, Any] = {"dataset": dataset, "task": task, "split": split, "direction": DIRECTION}
    parts = {part: choices.hits(), **{f"wrong {kind}": choices.hits(kind) for kind in choices.kinds}}
    found = []
    for name, hits in parts.items():
        share = interval(int(hits.sum()), len(hits))
        notes_of = "; ".join(notes) if name == part else f"{len(hits):,} regions, among captions with a {name} alone"
        found.append(
            Result(metric=METRIC, value=share.value, low=share.low, high=share.high, part=name, notes=notes_of, **facts)
        )
    return found


def _query(sample: Sample, told: bool) -> Item:
    return Item(image=sample.image, regions=(sample.box,), text=(sample.question or None) if told else None)


def _embedded(
    model: Embedder, inputs: Sequence[Any], role: Role, progress: bool | None
) -> Iterator[tuple[int, Tensor | None, str]]:
    """The place of every input with its vector, or with why there is none."""
    for place, vector, error in model.encode_stream(inputs, progress=progress, **model.for_role(role)):
        yield place, vector, "" if error is None else str(error).removeprefix(f"item {place}: ")


def _margins(model: Embedder, query: Tensor, captions: Tensor) -> np.ndarray:
    """Similarity of a query `(dim,)` to the first caption less that to each other one, `(captions - 1,)`."""
    similarity = model.similarity(query[None], captions)[0].double()
    # Equal vectors are a tie, whatever order their products were added in.
    equal = (captions[1:] == captions[0]).all(1)
    return (similarity[0] - similarity[1:]).masked_fill(equal, 0.0).numpy()


def _name(reasons: Sequence[str], total: int) -> None:
    if reasons:
        more = f"; and {len(reasons) - _SHOWN:,} more" if len(reasons) > _SHOWN else ""
        warn(f"{len(reasons):,} of {total:,} rows are left out: {'; '.join(reasons[:_SHOWN])}{more}")
