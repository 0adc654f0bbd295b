"""Scales: how scores of different kinds compare, as a search among texts, images, clips and recordings needs it.

A model's similarities of texts with recordings lie elsewhere than its similarities of texts with images (the modality gap;
Liang et al., 2022, arXiv 2203.02053): a gallery of both that is ranked by them gives one kind alone. What compares is how far
a score stands above those of documents that do not answer, z = (score - mean) / scale, as `zoo calibrate` measured them for
each pair of kinds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from zoo.spec import Calibration

if TYPE_CHECKING:
    from zoo.embedder import Embedder


@dataclass(frozen=True)
class Scales:
    """The scales of one kind of query with every kind of documents.

    Attributes:
        asked: the query's modalities: "text", "image+text". known: the calibration of each kind of documents that was measured.
        model: its name, for what is said. why: the reason why none holds, where that is no missing measurement.
    """

    asked: str
    known: Mapping[str, Calibration] = field(default_factory=dict)
    model: str = "MODEL"
    why: str = ""

    @classmethod
    def of(
        cls,
        model: "Embedder",
        asked: str | Iterable[str],
        *,
        dim: int | None = None,
        precision: str = "float32",
        read_as: Mapping[str, str] | None = None,
        calibration: Mapping[str, Calibration] | None = None,
    ) -> Self:
        """Those of a model.

        Args:
            asked: the query's modalities ("text", or `item.modalities`). dim, precision: of the vectors that are compared; a
                calibration is of whole ones, and scores of shorter or binary vectors lie elsewhere.
            read_as: kinds whose vectors are of another kind, {"document": "image"} where pages are embedded as images; by default
                documents, as the model reads their pages (`ModelSpec.pages`), if none was measured.
            calibration: by pair; by default the model's own.
        """
        asked = asked if isinstance(asked, str) else "+".join(sorted(asked))
        name = model.spec.name
        if (dim is not None and dim != model.spec.dim) or precision == "binary":
            cut = "binary" if precision == "binary" else f"cut to {dim} of {model.spec.dim} dimensions"
            return cls(asked, model=name, why=f"the vectors are {cut}, and scales are of whole ones")
        pages = {} if "document" in model.spec.modalities else {"document": model.spec.pages}
        read_as = pages if read_as is None else read_as
        prefix = Calibration.key(pages.get(asked, asked), "")
        calibration = model.calibration if calibration is None else calibration
        known = {pair.removeprefix(prefix): one for pair, one in calibration.items() if pair.startswith(prefix)}
        for kind, read in read_as.items():
            if kind in known and read == pages.get(kind):
                continue  # read as the model reads it, it was measured itself
            known.pop(kind, None)
            if read in known:
                known[kind] = known[read]
        return cls(asked, known, name)

    def z(self, score: float, kind: str) -> float | None:
        """How many standard deviations a score stands above those of wrong documents; None where nobody measured."""
        one = self.known.get(kind)
        return None if one is None else (score - one.mean) / one.scale

    def fits(self, score: float, kind: str) -> bool | None:
        """Whether a document answers, if any does (`Calibration.nothing`); None where nobody measured that."""
        one = self.known.get(kind)
        return None if one is None or one.nothing is None else score >= one.nothing

    def compares(self, kinds: Iterable[str]) -> bool:
        """Whether scores are ranked by z: there are several kinds, and every one was measured."""
        kinds = set(kinds)
        return len(kinds) > 1 and kinds <= set(self.known)

    def order(self, scores: Sequence[float], kinds: Sequence[str]) -> list[int]:
        """Positions best first: by z where all kinds compare, else by the score itself; equals keep their order.

        Args:
            scores, kinds: of each document. What the kinds are is asked of these alone: of one kind it is the order of the scores.
        """
        ranked = self.ranked_by(scores, kinds)
        return sorted(range(len(ranked)), key=lambda place: -ranked[place])

    def ranked_by(self, scores: Sequence[float], kinds: Sequence[str]) -> list[float]:
        """What `order` ranks by: z of each, or its score."""
        if len(scores) != len(kinds):
            raise ValueError(f"every score has a kind, but there are {len(scores)} scores and {len(kinds)} kinds")
        if not self.compares(kinds):
            return [float(score) for score in scores]
        return [
            (float(score) - self.known[kind].mean) / self.known[kind].scale
            for score, kind in zip(scores, kinds, strict=True)
        ]

    def unmeasured(self, kinds: Iterable[str]) -> str:
        """Why documents of several kinds are ranked by their plain scores, and what to do; "" where they are not, or of one kind."""
        kinds = set(kinds)
        if len(kinds) < 2 or self.compares(kinds):
            return ""
        told = "scores of different kinds are on different scales, and are ranked as they are: "
        if self.why:
            return told + self.why
        missing = [Calibration.key(self.asked, kind) for kind in sorted(kinds - set(self.known))]
        return f"{told}{self.model} has no calibration of {', '.join(missing)}; `zoo calibrate FOLDER --pairs … --write` measures it"

    def nothing_fits(self, scores: Sequence[float], kinds: Sequence[str]) -> dict[str, float]:
        """Kinds of which even the best document does not answer, and its score; those that nobody measured are left out."""
        best: dict[str, float] = {}
        for score, kind in zip(scores, kinds, strict=True):
            best[kind] = max(float(score), best.get(kind, float(score)))
        return {kind: score for kind, score in best.items() if self.fits(score, kind) is False}
