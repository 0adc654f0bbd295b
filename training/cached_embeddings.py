"""Vectors of what does not learn, computed once and kept on disk: locked towers, what a head that learns alone reads of its
tower, and the teacher of a loss.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from zoo.embedder import Embedder, Tower
from zoo.embedder.regional import RegionTower
from zoo.errors import InputError, NormsLostError
from zoo.heads import Identity
from zoo.inputs.item import Item, Tokens
from zoo.spec import ModelSpec
from zoo.tables.pairs import Pair, PairTable

from . import sharding
from .gather import wait_for_all, world
from .losses import Loss
from .optim import frozen_towers
from .recipe import Recipe
from .vector_cache import VectorCache, fill_cache
from .views import Views, fill_views

FOLDER = "vectors"
ITSELF = "itself"  # as a teacher's name: the model as it is when the stage begins


class Teacher(NamedTuple):
    """A frozen model's vectors by key, and the prompts that it puts before queries and targets."""

    vectors: VectorCache
    prefixes: tuple[str, str]


def role_prefixes(model: Embedder, recipe: Recipe | None = None) -> tuple[str, str]:
    """The text put before the queries and the targets: the recipe's, else the model's own by role; raises PromptError."""
    own = trained_prompts(model, recipe) if recipe else {}
    query, document = (
        own[role] if role in own else model.prompt_text(**model.for_role(role)) for role in ("query", "document")
    )
    return query, document


def trained_prompts(model: Embedder, recipe: Recipe) -> dict[str, str]:
    """The recipe's own prompts by role, so that the finished model puts them before texts as it was trained."""
    return {
        role: model.prompt_text(text or None, name or None)
        for role, text, name in (
            ("query", recipe.query_prompt, recipe.query_prompt_name),
            ("document", recipe.document_prompt, recipe.document_prompt_name),
        )
        if text or name
    }


def frozen_vectors(
    model: Embedder, pairs: Sequence[Pair] | PairTable, recipe: Recipe, folder: Path, *, progress: bool
) -> dict[int, VectorCache]:
    """Caches, filled, of the towers that do not learn, by position; not where augmentation makes their inputs new in every step."""
    caches: dict[int, VectorCache] = {}
    if not recipe.cache or sharding.wanted():  # sharded weights cannot run on one process's items alone
        return caches
    views = Views(recipe)
    for position in frozen_towers(model):
        changed = model.routes[position].encoder.modalities & views.augmentation.modalities
        if changed and not views.count:
            continue
        cache = VectorCache.for_towers(folder / FOLDER / f"tower{position}", model, [position])
        _fill(
            cache,
            model,
            pairs,
            role_prefixes(model, recipe),
            position,
            views=views if changed else None,
            progress=progress,
        )
        caches[position] = cache
    return caches


class LoneHead(NamedTuple):
    """A head that learns alone.

    Attributes:
        tower: whose head it is. below: a model of what is below the head, which shares its weights: its vectors are what the
            pooler gives `(n, width)`. reader: what reads the items in it.
    """

    tower: Tower
    below: Embedder
    reader: Tower | RegionTower


def lone_heads(model: Embedder) -> dict[int, LoneHead]:
    """Readers of which the head alone learns, by position."""
    found: dict[int, LoneHead] = {}
    for position, reader in enumerate(model.routes):
        tower = reader.headed_by
        if tower is None or model.spec.similarity == "maxsim":
            continue
        still = not any(p.requires_grad for part in (tower.encoder, tower.pooler) for p in part.parameters())
        if still and any(p.requires_grad for p in tower.head.parameters()):
            below = without_head(model, tower)
            mine = next(one for one in below.routes if one.encoder.modalities == reader.encoder.modalities)
            found[position] = LoneHead(tower, below, mine)
    return found


def without_head(model: Embedder, tower: Tower) -> Embedder:
    """A model of one tower, without its head: the vectors of items are what the pooler gives. It shares the weights."""
    place = model.device
    blank = Tokens(
        torch.zeros(1, 2, tower.encoder.width, device=place), torch.ones(1, 2, dtype=torch.bool, device=place)
    )
    with torch.no_grad():
        width = tower.pooler(blank).shape[-1]  # of several poolers together more than the encoder's
    spec = replace(model.spec, similarity="dot", dim=width, dims=(), pages="image")
    return Embedder(spec, [Tower(tower.encoder, tower.pooler, Identity())], region_rule=model.region_rule)


def pooled_vectors(
    model: Embedder, pairs: Sequence[Pair] | PairTable, recipe: Recipe, folder: Path, loss: Loss, *, progress: bool
) -> dict[int, VectorCache]:
    """Caches, filled, of what the heads of `lone_heads` read, by position: a step then costs the head alone."""
    caches: dict[int, VectorCache] = {}
    if not recipe.cache or sharding.wanted() or loss.layers:
        return caches
    views = Views(recipe)
    for position, (_, below, reader) in lone_heads(model).items():
        changed = reader.encoder.modalities & views.augmentation.modalities
        if changed and not views.count:
            continue
        cache = VectorCache.for_towers(folder / FOLDER / f"pooled{position}", below, [below.routes.index(reader)])
        _fill(
            cache,
            below,
            pairs,
            role_prefixes(model, recipe),
            position,
            of=model,
            views=views if changed else None,
            progress=progress,
        )
        caches[position] = cache
    return caches


def check_teacher(spec: ModelSpec, loss: Loss) -> None:
    """Raises NormsLostError where a part of the loss mixes in the teacher's cosines, and the teacher has none."""
    refusing = [part for part in loss.modules() if spec.similarity not in getattr(part, "teachers", {spec.similarity})]
    if refusing:
        raise NormsLostError(
            f"the teacher {spec.name} compares by dot product, and the loss {type(refusing[-1]).__name__} as it is set reads "
            "its cosines; take cosine=0, or a teacher of unit vectors"
        )


def teacher_vectors(
    model: Embedder, pairs: Sequence[Pair] | PairTable, recipe: Recipe, folder: Path, loss: Loss, *, progress: bool
) -> Teacher | None:
    """The teacher's vectors of all items; None for a recipe without a teacher.

    Args:
        model: what is trained, as it is before the stage: its own teacher where the recipe says "itself".
        loss: what reads them.

    Raises:
        NormsLostError: the loss mixes in the teacher's cosines, and the teacher compares by dot product.
    """
    if not recipe.teacher:
        return None
    from zoo.loading import load_model

    itself = recipe.teacher == ITSELF
    teacher = model if itself else load_model(recipe.teacher, device=model.device)
    check_teacher(teacher.spec, loss)
    cache = VectorCache.for_towers(folder / FOLDER / "teacher", teacher)
    prefixes = role_prefixes(teacher, recipe if itself else None)
    _fill(cache, teacher, pairs, prefixes, None, progress=progress)
    return Teacher(cache, prefixes)


def _fill(
    cache: VectorCache,
    model: Embedder,
    pairs: Sequence[Pair] | PairTable,
    prefixes: tuple[str, str],
    position: int | None,
    *,
    of: Embedder | None = None,
    views: Views | None = None,
    progress: bool,
) -> None:
    """Each process computes its share; items that cannot be read are left out, and met again by the feed.

    Args:
        position: of the reader whose items they are, None for all; in the model `of`, by default `model` itself.
        views: of the items, where these are augmented: all of them are computed.
    """
    rank, processes = world()
    for side, prefix in enumerate(prefixes):
        # Every `processes`-th row: no process waits for one that got all the long items of a sorted table.
        items = _items(pairs, range(rank, len(pairs), processes), side, of or model, position)
        fill_cache(model, items, cache, prompt=prefix, progress=progress if rank == 0 else False)
        if views is not None:
            items = _items(pairs, range(rank, len(pairs), processes), side, of or model, position)
            fill_views(cache, model, items, prefix, views, progress=progress and rank == 0)
    # All shares are on disk before any process reads the whole.
    wait_for_all()
    cache.refresh()


def _items(
    pairs: Sequence[Pair] | PairTable, rows: Sequence[int], side: int, model: Embedder, position: int | None
) -> Iterator[Item]:
    """Queries (side 0) or targets (side 1) of some rows that go to a tower, None for any."""
    for row in rows:
        try:
            pair = pairs[row]
            for item in (pair.query,) if side == 0 else (pair.positive, *pair.extra_positives, *pair.negatives):
                encoder = model.routes[model.route_index(item)].encoder
                if position is None or model.route_index(item) == position:
                    yield item
                else:  # of a fused item the part that this tower reads
                    yield from (part for part in encoder.parts(item) if model.route_index(part) == position)
        except InputError:
            continue
