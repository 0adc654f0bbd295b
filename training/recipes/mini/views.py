"""Views: what a frozen image encoder sees of augmented images, read once and kept; the steps then train the head alone.

A step on vectors takes milliseconds where one on images takes seconds, so that a head sees its data hundreds of times.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from zoo.embedder import Embedder, Tower
from zoo.encoders.base import Batch, Encoder, one_token
from zoo.encoders.image import TimmImage
from zoo.heads import Named
from zoo.inputs.item import Item, Tokens
from zoo.tables.pairs import Pair, PairTable
from zoo.tables.words import classes

from ...checkpoint import last_checkpoint, save_checkpoint
from ...dataloader import Feed, TrainBatch
from ...errors import DamagedRunError, RecipeError
from ...grad_cache import Read
from ...optim import frozen_towers
from ...run import STRIDE
from ...samplers import BatchSampler
from .augment import COLOURS, augment
from .images import ImageData
from .regress import ridge_regression
from .steps import ImageFeed, tower_of
from .trunk import load_trunk

if TYPE_CHECKING:
    from .recipe import MiniRecipe

_BATCH = 32
_MOST_BYTES = 2**31


class Remembered(Encoder):
    """Stands for an image encoder that does not learn: of the training images it knows the vectors, others it asks for.

    Args:
        encoder: the one that it stands for. data: the images. vectors: `(views, images, width)`.
        tints: `(views, images)`, see `ImageBatch`. began: the head's projection before the first step.
    """

    def __init__(
        self, encoder: TimmImage, data: ImageData, vectors: Tensor, tints: Tensor, began: dict[str, Tensor]
    ) -> None:
        super().__init__()
        self.modalities, self.width, self.batch_budget = encoder.modalities, encoder.width, encoder.batch_budget
        self.data, self.vectors, self.tints, self.began = data, vectors, tints, began
        self._encoder = (encoder,)  # in a tuple it is no part of what is trained and saved

    @property
    def encoder(self) -> TimmImage:
        """The encoder that this one stands for."""
        return self._encoder[0]

    def prepare_item(self, item: Item) -> Tensor:
        return self.encoder.prepare_item(item)

    def collate(self, reads: Sequence[Tensor]) -> Batch:
        return {"vectors": torch.stack(list(reads))} if reads[0].ndim == 1 else self.encoder.collate(reads)

    @torch.no_grad()
    def forward(self, batch: Batch) -> Tokens:
        return one_token(batch["vectors"].float()) if "vectors" in batch else self.encoder(batch)

    def config(self) -> dict[str, Any]:
        return self.encoder.config()

    def preprocessing(self) -> dict[str, Any]:
        return self.encoder.preprocessing()


def begin_images(model: Embedder, pairs: "Sequence[Pair] | PairTable", recipe: "MiniRecipe", folder: Path) -> None:
    """Fills the image tower's trunk, remembers its views of the images, and solves where the head begins.

    Raises:
        RecipeError: the model's image tower is none of this trunk with a `Named` head.
        And those of `trunk.trunk_state`.
    """
    plan, tower = recipe.start, tower_of(model, "image")
    trunk = load_trunk(plan.trunk)
    state = {name: value for name, value in trunk.state_dict().items() if not name.startswith("classifier.")}
    wanted = tower.encoder.backbone.state_dict() if isinstance(tower.encoder, TimmImage) else {}
    if {name: value.shape for name, value in wanted.items()} != {name: value.shape for name, value in state.items()}:
        raise RecipeError(f"{model.spec.name}: its image tower is not built of the trunk {plan.trunk}")
    if not isinstance(tower.head, Named):
        raise RecipeError(f"{model.spec.name}: the head of its image tower has no names of classes (zoo.heads.Named)")
    tower.encoder.backbone.load_state_dict(state)
    data = ImageData(pairs, model, recipe.images.store_size)
    vectors, tints = _remembered(tower, data, recipe, folder)
    sizes = torch.bincount(data.groups)[data.groups].float().repeat(plan.views)
    targets = _targets(model, data).repeat(plan.views, 1)
    seen = vectors.flatten(0, 1).float()
    begin_head(tower.head, trunk.classifier, class_vectors(model), seen, targets, sizes**-plan.balance, plan.ridge)
    began = {name: value.detach().clone() for name, value in tower.head.project.named_parameters()}
    tower.encoder = Remembered(tower.encoder, data, vectors, tints, began)


@contextmanager
def head_alone(model: Embedder, recipe: "MiniRecipe") -> Iterator[Callable[[Feed], None]]:
    """While the steps run the trunk is remembered; yields what mixes the head with where it began after the last of them."""
    tower = tower_of(model, "image")
    began = tower.encoder.began

    def mix(feed: Feed) -> None:
        with torch.no_grad():
            for name, value in tower.head.project.named_parameters():
                value.copy_(torch.lerp(began[name], value, recipe.start.share))

    try:
        yield mix
    finally:
        tower.encoder = tower.encoder.encoder


class ViewFeed(ImageFeed):
    """Batches of remembered views: of each image one, drawn anew in every step."""

    def __init__(self, memory: Remembered, model: Embedder, recipe: "MiniRecipe", sampler: BatchSampler) -> None:
        super().__init__(memory.data, model, recipe, sampler)
        self.memory, self.tower = memory, model.towers[self.text]
        self._known: dict[tuple[int, ...], Tensor] | None = {} if self.text in frozen_towers(model) else None

    def batch(self, step: int) -> TrainBatch:
        """See `ImageFeed`."""
        torch.manual_seed(self.recipe.seed * STRIDE + step)
        rows = torch.as_tensor(self.sampler.rows(step))
        views = torch.randint(len(self.memory.vectors), (len(rows),))
        tints = self.memory.tints[views, rows]
        batch = self.data.batch(rows, colour_captions=self.recipe.images.colour_captions, tints=tints)
        queries = [Read(self.image, vector) for vector in self.memory.vectors[views, rows]]
        return TrainBatch(queries, self._targets(batch.ids), {"ignore": batch.ignore}, rows.tolist(), 0)

    @torch.no_grad()
    def _targets(self, texts: list[list[int]]) -> list[Read]:
        """Texts; of a tower that does not learn their vectors, computed when they are first met."""
        if self._known is None:
            return [Read(self.text, ids) for ids in texts]
        fresh = [key for key in dict.fromkeys(map(tuple, texts)) if key not in self._known]
        if fresh:
            device = next(self.tower.parameters()).device
            batch = {name: part.to(device) for name, part in self.tower.encoder.collate([*map(list, fresh)]).items()}
            self._known.update(zip(fresh, self.tower(batch).cpu(), strict=True))
        return [Read(self.text, vector=self._known[tuple(ids)]) for ids in texts]


def view_feed(model: Embedder, recipe: "MiniRecipe", sampler: BatchSampler) -> ViewFeed:
    """The feed of a model whose image tower remembers."""
    return ViewFeed(tower_of(model, "image").encoder, model, recipe, sampler)


@torch.no_grad()
def _remembered(tower: Tower, data: ImageData, recipe: "MiniRecipe", folder: Path) -> tuple[Tensor, Tensor]:
    """(vectors, tints) of all views; kept in `views/`, so that they are read once."""
    plan, shape = recipe.start, (recipe.start.views, len(data))
    state = last_checkpoint(folder / "views", _MOST_BYTES)
    if state is None:
        tower.encoder.eval()
        vectors = torch.empty(*shape, tower.encoder.width, dtype=torch.float16)
        tints = torch.full(shape, -1)
        size, device = tower.encoder.transform.size[0], next(tower.encoder.parameters()).device
        with tqdm(total=len(data) * plan.views, desc="views", unit=" images") as bar:
            for view in range(plan.views):
                for number, rows in enumerate(torch.arange(len(data)).split(_BATCH)):
                    torch.manual_seed((recipe.seed * plan.views + view) * STRIDE + number)
                    pixels = _seen(data, rows, view, size, recipe.images.tint, tints)
                    vectors[view, rows] = tower.pooler(tower.encoder({"pixels": pixels.to(device)})).half().cpu()
                    bar.update(len(rows))
        state = {"vectors": vectors, "tints": tints}
        save_checkpoint(folder / "views", 0, state)
    vectors, tints = state.get("vectors"), state.get("tints")
    good = isinstance(vectors, Tensor) and isinstance(tints, Tensor) and vectors.shape[:2] == tints.shape == shape
    good = good and vectors.is_floating_point() and vectors.shape[2:] == (tower.encoder.width,)
    if not good or not -1 <= int(tints.min()) <= int(tints.max()) < len(COLOURS):
        raise DamagedRunError(f"{folder / 'views'} holds no {plan.views} views of {len(data):,} images; delete it")
    return vectors, tints


def _seen(data: ImageData, rows: Tensor, view: int, size: int, tint: float, tints: Tensor) -> Tensor:
    """Pixels `(B, 3, size, size)`: of the first view whole images, of the others augmented ones, some of them repainted."""
    pixels = data.stored[rows]
    if view == 0:
        views = F.interpolate(pixels.float(), (size, size), mode="bilinear", antialias=True)
        return views.round_().clamp_(0, 255).to(torch.uint8)
    named = torch.tensor([bool(data.pairs[row].name) for row in rows.tolist()])
    painted = named & (torch.rand(len(rows)) < tint)
    tints[view, rows] = torch.where(painted, torch.randint(len(COLOURS), (len(rows),)), torch.tensor(-1))
    return augment(pixels, size, tints[view, rows])


def _targets(model: Embedder, data: ImageData) -> Tensor:
    """The vector of every pair's own text `(N, dim)`."""
    texts = sorted({pair.positive.text for pair in data.pairs})
    known = dict(zip(texts, model.encode(texts).cpu(), strict=True))
    return torch.stack([known[pair.positive.text] for pair in data.pairs])


@torch.no_grad()
def begin_head(
    head: Named,
    classifier: torch.nn.Linear,
    names: Tensor,
    vectors: Tensor,
    targets: Tensor,
    weights: Tensor,
    ridge: float,
) -> None:
    """Fills a head with the trunk's own classifier, what its classes are called, and the ridge regression of images on texts.

    Args:
        classifier: of the trunk. names: its classes' text vectors `(classes, dim)`, see `class_vectors`.
        vectors: what the trunk sees of the images `(N, width)`. targets: their texts' vectors `(N, dim)`. weights: `(N,)`.
        ridge: see `regress.ridge_regression`.
    """
    head.classify.load_state_dict(classifier.state_dict())
    head.names.copy_(names - names.mean(0))
    weight, bias = ridge_regression(vectors, targets, weights, ridge)
    head.project.weight.copy_(weight)
    head.project.bias.copy_(bias - targets.mean(0))  # like the names, around the mean


def class_vectors(model: Embedder) -> Tensor:
    """A unit vector `(1000, dim)` for each class of ImageNet: the mean of what it is called, alone and "a photo of a …", and of
    what it is.
    """
    texts, parts = [], []
    for words, meaning in classes():
        own = [*words, *(f"a photo of a {word}" for word in words), meaning]
        parts.append(len(own))
        texts += own
    means = []
    for vectors in model.encode(texts).split(parts):
        called, meant = F.normalize(vectors[:-1].mean(0), dim=0), vectors[-1]
        means.append(2 * called + 0.7 * meant)
    return F.normalize(torch.stack(means), dim=1)
