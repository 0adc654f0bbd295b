"""MiniRecipe: the numbers of a run in zoo-mini's way, beside those of any run."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import RecipeError
from ...recipe import Recipe, part_of
from .plans import Distillation, Images, ImageSize, Regression, Start, Student

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.inputs.identity import Answers
    from zoo.tables.pairs import Pair, PairTable

    from ...dataloader import Feed
    from ...samplers import BatchSampler


# Of any recipe, what the feed from memory does not follow: it augments in its own way, and its texts stand for themselves.
_UNREAD = (
    *("augment", "views", "negatives", "teacher"),
    *("query_prompt", "document_prompt", "query_prompt_name", "document_prompt_name"),
)


@dataclass(frozen=True)
class MiniRecipe(Recipe):
    """One stage in zoo-mini's way, from scratch.

    Attributes:
        images: how images are fed; None for the usual feed.
        distillation: of the text tower, before the first step; None leaves it as it is.
        student: what the text tower begins as; None leaves it as it is.
        start: of an image tower on a pretrained trunk, which then stands still; None trains all of it.
        regression: of the images, after the last step; None for none.
    """

    images: Images | None = None
    distillation: Distillation | None = None
    regression: Regression | None = None
    student: Student | None = None
    start: Start | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images is None and self.regression is not None:
            raise RecipeError(
                f"{self.name}: a regression is of the images in memory; say how they are fed: images=Images()"
            )
        if self.start is not None and (self.images is None or self.regression is not None or self.images.sizes):
            raise RecipeError(
                f"{self.name}: a start on a trunk feeds images of one size from memory and solves its own regression first: say "
                "images=Images() without sizes, and regression=None"
            )
        if self.start is not None and self.start.views > 1 and not self.images.augment:
            raise RecipeError(
                f"{self.name}: views of images that are not augmented are all the same; say views=1, or augment=True"
            )
        if self.images is None:
            return
        if self.losses:
            raise RecipeError(f"{self.name}: losses by data set and images, zoo-mini's own feed, do not go together")
        if unread := [name for name in _UNREAD if getattr(self, name)]:
            raise RecipeError(
                f"{self.name}: images, zoo-mini's own feed, reads no {unread[0]}; leave it out, or say images=None for the "
                "usual feed"
            )

    @classmethod
    def _read(cls, facts: dict[str, Any]) -> dict[str, Any]:
        facts = super()._read(facts)
        for name, kind in (
            ("distillation", Distillation),
            ("regression", Regression),
            ("student", Student),
            ("start", Start),
        ):
            if facts.get(name):
                facts[name] = part_of(kind, facts[name])
        if images := facts.get("images"):
            sizes = tuple(ImageSize(**size) for size in images.get("sizes", ()))
            facts["images"] = Images(**{**images, "sizes": sizes})
        return facts

    # What is done is imported when it is: the numbers alone need no data and no encoder.

    def prepare(self, model: "Embedder", pairs: "Sequence[Pair] | PairTable", folder: Path) -> None:
        """Distils the text tower, once, or makes it a part of its teacher; begins the image tower on its trunk."""
        from .steps import learn_text

        if self.distillation is not None:
            learn_text(model, pairs, self, folder)
        if self.student is not None:
            from .student import make_student

            make_student(model, pairs, self.student)
        if self.start is not None:
            from .views import begin_images

            begin_images(model, pairs, self, folder)

    def around(self, model: "Embedder") -> AbstractContextManager["Callable[[Any], None] | None"]:
        """Trains what the plan leaves to the steps: of a head whose other half a regression solves the first projection alone, on a
        trunk that stands still the head.
        """
        from .steps import first_projection
        from .views import head_alone

        return first_projection(model, self) if self.start is None else head_alone(model, self)

    def feed(
        self, model: "Embedder", pairs: "Sequence[Pair] | PairTable", sampler: "BatchSampler", answers: "Answers"
    ) -> "Feed | None":
        """Images from memory, where the recipe says how."""
        from .steps import ImageData, ImageFeed
        from .views import view_feed

        if self.images is None:
            return None
        if self.start is not None:
            return view_feed(model, self, sampler)
        return ImageFeed(ImageData(pairs, model, self.images.store_size, answers), model, self, sampler)
