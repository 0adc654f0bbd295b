"""The data packs as questions: scored as `python -m zoo.evaluation` scores them, and kept row by row, so that models can be paired."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from zoo.comparing.questions import Source, side_of
from zoo.comparing.scoring import LEVEL, RESAMPLES, Scores
from zoo.comparing.vectors import VectorCache, encoded
from zoo.embedder.aiming import facing
from zoo.errors import UnknownTaskError
from zoo.evaluation.composed import FUSED, IMAGE, TEXT, composed_ranks
from zoo.evaluation.metrics import Interval, drawn_rows, first_ranks, interval, percentiles, resampled_means, same
from zoo.evaluation.packs import BENCHMARKS, IMAGE_TO_TEXT, KS, RETRIEVAL, TEXT_TO_IMAGE, ZERO_SHOT, Benchmark
from zoo.evaluation.pairs import Ranking
from zoo.evaluation.regions import IN_IMAGE, OWN, REGION_TO_TEXT, TEXT_TO_REGION, ways_of
from zoo.evaluation.regions import KS as REGION_KS
from zoo.evaluation.regions import TASK as REGION_TASK
from zoo.inputs.item import Item
from zoo.prompts import Role
from zoo.spec import need_one_vector
from zoo.tables.pack_files import COMPOSED, REGIONS, read_composed, read_pack
from zoo.tables.pack_regions import CELLS, SCENES, Scene, read_scenes

if TYPE_CHECKING:
    from zoo.comparing.contenders import Contender
    from zoo.embedder import Embedder

_BENCHMARKS = {benchmark.pack: benchmark for benchmark in BENCHMARKS}
NAMES = (*_BENCHMARKS, COMPOSED, REGIONS)
Rows = dict[str, np.ndarray]
Vectors = Callable[..., Tensor]  # items, their role, and another model than the one that is measured


@dataclass(frozen=True, eq=False)
class PackQuestion:
    """One pack. Its figures are those of `zoo.evaluation`: "recall@k" is the share of queries with a right one among their k best.

    Attributes:
        source: as of a question; the command of its figures is `zoo eval --tasks`.
    """

    source: Source
    kind: ClassVar[str] = "pack"

    @classmethod
    def of(cls, name: str, split: str | None = None) -> "PackQuestion":
        """By the pack's name, of the test split by default.

        Raises:
            UnknownTaskError: no such pack.
        """
        if name not in NAMES:
            raise UnknownTaskError(
                f"no pack is called {name!r}; models are compared on {', '.join(NAMES)}, or on --data of your own"
            )
        words = ("--tasks", name) + (("--split", split) if split else ())
        return cls(Source(name, split or "test", words))

    @property
    def name(self) -> str:
        """The pack."""
        return self.source.name

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        return read_pack(self.name, self.source.split)

    @cached_property
    def _scenes(self) -> dict[str, list[Scene]]:
        return {part: read_scenes(self.source.split, part) for part in (SCENES, CELLS)}

    @cached_property
    def left(self) -> Sequence[Item]:
        """What is shown of queries, and embedded to measure the speed: images, images with a text, or images with a region."""
        if self.name in _BENCHMARKS:
            return [Item(image=row["image"]) for row in self._rows]
        if self.name == COMPOSED:
            images, triplets = read_composed(self.source.split)
            return [Item(image=images[t.reference], text=t.text) for t in triplets]
        scenes = [scene for some in self._scenes.values() for scene in some]
        return [Item(image=scene.image, regions=(shape,)) for scene in scenes for shape in scene.shapes()]

    @cached_property
    def right(self) -> Sequence[Item]:
        """What is shown of candidates."""
        if self.name in _BENCHMARKS:
            benchmark = _BENCHMARKS[self.name]
            return [Item(text=text) for text in sorted({benchmark.text(row) for row in self._rows})]
        if self.name == COMPOSED:
            return [Item(image=image) for image in read_composed(self.source.split)[0].values()]
        return [
            Item(text=caption)
            for some in self._scenes.values()
            for caption in sorted({caption for scene in some for caption in scene.captions})
        ]

    @property
    def sides(self) -> tuple[str, str]:
        """What both sides are."""
        return side_of(self.left), side_of(self.right)

    def right_of(self, row: int, backward: bool = False) -> int | None:
        """See `Question`."""
        told = self._truth
        if not backward:
            return told[row]
        return told.index(row) if row in told else None

    @cached_property
    def _truth(self) -> list[int]:
        """Of every place on the left its right answer on the right."""
        if self.name in _BENCHMARKS:
            place = {item.text: at for at, item in enumerate(self.right)}
            return [place[_BENCHMARKS[self.name].text(row)] for row in self._rows]
        if self.name == COMPOSED:
            images, triplets = read_composed(self.source.split)
            place = {name: at for at, name in enumerate(images)}
            return [place[t.target] for t in triplets]
        found, offset = [], 0
        for scenes in self._scenes.values():
            captions = sorted({caption for scene in scenes for caption in scene.captions})
            place = {caption: offset + at for at, caption in enumerate(captions)}
            found += [place[caption] for scene in scenes for caption in scene.captions]
            offset += len(captions)
        return found

    def scores(self, model: "Embedder", contender: "Contender", cache: "VectorCache | None" = None) -> list[Scores]:
        """The figures of a model; what it has embedded is kept.

        Raises:
            UnsupportedModalityError: it does not read the pack. TokenVectorsError: late interaction.
        """
        need_one_vector(model.spec, "a comparison")

        def vectors(items: Sequence[Item], role: Role | None, reader: "Embedder" = model) -> Tensor:
            return contender.cut(model, encoded(reader, items, role, cache))

        if self.name in _BENCHMARKS:
            return self._images(vectors, _BENCHMARKS[self.name])
        return self._composed(model, vectors) if self.name == COMPOSED else self._regions(model, vectors)

    def _scores(self, task: str, direction: str, rows: Rows, headline: str, notes: str, **more: Any) -> Scores:
        """Figures that are shares of rows, with Wilson's interval."""
        table = np.stack(list(rows.values()), axis=1).astype(np.float64)
        found = {name: interval(int(column.sum()), len(column)) for name, column in rows.items()}
        drawn = more.pop("drawn", None)
        figures = more.pop("figures", {name: Interval(*told) for name, told in found.items()})
        return Scores(
            task,
            direction,
            tuple(rows),
            figures,
            resampled_means(table, RESAMPLES, seed=0) if drawn is None else drawn,
            headline,
            np.arange(len(table)),
            dataset=self.name,
            split=self.source.split,
            words=self.source.words,
            notes=notes,
            **more,
        )

    def _images(self, vectors: Vectors, benchmark: Benchmark) -> list[Scores]:
        """As `zoo.evaluation.packs.evaluate_pack` does for all sources together."""
        images = vectors(self.left, None)
        texts, labels = ([told(row) for row in self._rows] for told in (benchmark.text, benchmark.label))
        queries, classes = sorted(set(texts)), sorted(set(labels))
        similarity = images @ vectors([Item(text=text) for text in queries], None).T
        relevant = same(texts, queries)
        asked = vectors([Item(text=benchmark.prompt.format(label)) for label in classes], None)
        right = (images @ asked.T).argmax(1) == torch.tensor([classes.index(label) for label in labels])
        notes = f"{len(texts):,} images, {len(queries):,} texts"
        found = [
            self._scores(RETRIEVAL, way, _shares(of), "recall@1", notes, ranking=of, backward=backward)
            for way, backward, of in (
                (IMAGE_TO_TEXT, False, _ranking(similarity, relevant)),
                (TEXT_TO_IMAGE, True, _ranking(similarity.T, relevant.T)),
            )
        ]
        return [*found, self._scores(ZERO_SHOT, "", {"accuracy": right.numpy()}, "accuracy", notes)]

    def _composed(self, model: "Embedder", vectors: Vectors) -> list[Scores]:
        """As `zoo.evaluation.composed.evaluate_composed` does for all kinds of change together."""
        images, triplets = read_composed(self.source.split)
        ids = list(images)
        gallery = vectors([Item(image=images[name]) for name in ids], "document")
        asked = {
            FUSED: [Item(image=images[t.reference], text=t.text) for t in triplets],
            TEXT: [Item(text=t.text) for t in triplets],
            IMAGE: [Item(image=images[t.reference]) for t in triplets],
        }
        found, notes = [], f"{len(triplets):,} queries, {len(ids):,} images, the reference left out"
        for way, items in asked.items():
            similarity = model.similarity(vectors(items, "query"), gallery)
            similarity, relevant = composed_ranks(similarity, triplets, ids)
            ranking = _ranking(similarity, relevant)
            more = {"ranking": ranking if way == FUSED else None}
            found.append(
                self._scores(
                    "composed-image-retrieval",
                    way,
                    _shares(ranking),
                    "recall@10" if way == FUSED else "",
                    notes,
                    **more,
                )
            )
        return found

    def _regions(self, model: "Embedder", vectors: Vectors) -> list[Scores]:
        """As `zoo.evaluation.regions.evaluate_regions` does, in the model's own way to read regions."""
        found, offsets = [], [0, 0]
        way = next(
            name
            for name, rule in ways_of(model).items()
            if name == OWN or (rule is not None and rule == model.region_rule)
        )
        for part, scenes in self._scenes.items():
            captions = sorted({caption for scene in scenes for caption in scene.captions})
            texts = vectors([Item(text=text) for text in captions], "query", facing(model, [("image", "regions")]))
            items = [Item(image=scene.image, regions=(shape,)) for scene in scenes for shape in scene.shapes()]
            similarity = model.similarity(vectors(items, "document"), texts)
            truth = [caption for scene in scenes for caption in scene.captions]
            image = np.array([number for number, scene in enumerate(scenes) for _ in scene.regions])
            here = torch.stack([same([*dict.fromkeys(scene.captions)], captions).any(0) for scene in scenes])[image]
            relevant = same(truth, captions)
            own = (first_ranks(similarity.masked_fill(~here, -torch.inf), relevant) == 1).numpy()
            forward, backward = _ranking(similarity, relevant), _ranking(similarity.T, relevant.T)
            notes = f"{len(truth):,} regions of {len(scenes):,} images, {len(captions):,} captions"
            rows = {IN_IMAGE: own} | {f"recall@{k}": forward.ranks <= k for k in REGION_KS}
            figures, drawn = _over_images(rows, image)
            told = {"part": f"{part}, {way}"}
            moved = [_moved(one, *ends) for one, ends in ((forward, offsets), (backward, offsets[::-1]))]
            found.append(
                self._scores(
                    REGION_TASK,
                    REGION_TO_TEXT,
                    rows,
                    "recall@1",
                    notes,
                    figures=figures,
                    drawn=drawn,
                    ranking=moved[0],
                    **told,
                )
            )
            hits = {f"hit@{k}": backward.ranks <= k for k in REGION_KS}
            drawn = resampled_means(np.stack(list(hits.values()), 1).astype(np.float64), RESAMPLES, seed=0)
            low, high = percentiles(drawn, LEVEL)
            figures = {
                name: Interval(float(hit.mean()), float(a), float(b))
                for (name, hit), a, b in zip(hits.items(), low, high, strict=True)
            }
            more = {"figures": figures, "drawn": drawn, "ranking": moved[1], "backward": True}
            found.append(self._scores(REGION_TASK, TEXT_TO_REGION, hits, "hit@1", notes, **more, **told))
            offsets = [offsets[0] + len(truth), offsets[1] + len(captions)]
        return found


def _over_images(rows: Rows, image: np.ndarray) -> tuple[dict[str, Interval], np.ndarray]:
    """Figures and draws of shares of regions, whose images are drawn anew with all of their regions (`zoo.evaluation.regions`)."""
    values = np.stack(list(rows.values()), 1).astype(np.float64)
    sums = np.zeros((image.max() + 1, values.shape[1] + 1))
    np.add.at(sums, image, np.column_stack([values, np.ones(len(values))]))
    drawn = np.concatenate([times @ sums / len(sums) for times in drawn_rows(len(sums), RESAMPLES, 0)])
    drawn = drawn[:, :-1] / drawn[:, -1:]
    low, high = percentiles(drawn, LEVEL)
    told = zip(rows, values.mean(0), low, high, strict=True)
    return {name: Interval(float(value), float(a), float(b)) for name, value, a, b in told}, drawn


def _ranking(similarity: Tensor, relevant: Tensor) -> Ranking:
    """What came first for every query, and where the first right one stands; ties count against the query."""
    ranks = first_ranks(similarity, relevant)
    first = similarity.masked_fill(relevant & (ranks > 1)[:, None], -torch.inf).argmax(1)
    none = np.zeros((len(ranks), len(KS)))
    return Ranking(
        similarity.shape[1],
        KS,
        np.arange(len(ranks)),
        first.numpy(),
        ranks.numpy(),
        relevant.sum(1).numpy(),
        none,
        none[:, 0],
    )


def _moved(ranking: Ranking, rows: int, candidates: int) -> Ranking:
    """The ranking of a part, by numbers of the whole."""
    return ranking.of(np.arange(rows, rows + len(ranking)), np.arange(candidates, candidates + ranking.candidates))


def _shares(ranking: Ranking) -> Rows:
    return {f"recall@{k}": ranking.ranks <= k for k in KS}
