"""Named recipes, one short function each, a file for each family; a variant calls another and changes a field."""

import difflib
from collections.abc import Callable
from typing import Any

from ..adapters import Lora
from ..errors import RecipeError
from ..recipe import Recipe
from .mini import MiniRecipe, mini_test, zoo_mini, zoo_mini_v1
from .omni import zoo_omni
from .pairs import (
    composed,
    distilled,
    finetune,
    finetune_locked_image,
    finetune_locked_text,
    graded,
    hard_negatives,
    large_batch,
    lora,
    matryoshka,
    regions,
    regions_lora,
)
from .published import kalm, lg_anna, lightclip, llm_embedder, nv_embed, peg
from .rerankers import granite_reranker, reranker, reranker_distilled, reranker_listwise, reranker_lora
from .stages import progressive, qzhou, retrieval_first
from .vlm import instructcir_stages, umarvel_stages, vlm2vec

__all__ = [
    "RECIPES",
    "Lora",
    "MiniRecipe",
    "Recipe",
    "composed",
    "distilled",
    "finetune",
    "finetune_locked_image",
    "finetune_locked_text",
    "get_recipe",
    "graded",
    "granite_reranker",
    "hard_negatives",
    "instructcir_stages",
    "kalm",
    "large_batch",
    "lg_anna",
    "lightclip",
    "llm_embedder",
    "lora",
    "matryoshka",
    "mini_test",
    "nv_embed",
    "peg",
    "progressive",
    "qzhou",
    "read_recipe",
    "regions",
    "regions_lora",
    "reranker",
    "reranker_distilled",
    "reranker_listwise",
    "reranker_lora",
    "retrieval_first",
    "umarvel_stages",
    "vlm2vec",
    "zoo_mini",
    "zoo_mini_v1",
    "zoo_omni",
]

RECIPES: dict[str, Callable[..., Recipe | tuple[Recipe, ...]]] = {
    "finetune": finetune,
    "finetune-locked-text": finetune_locked_text,
    "finetune-locked-image": finetune_locked_image,
    "lora": lora,
    "hard-negatives": hard_negatives,
    "graded": graded,
    "large-batch": large_batch,
    "matryoshka": matryoshka,
    "distilled": distilled,
    "retrieval-first": retrieval_first,
    "qzhou": qzhou,
    "kalm": kalm,
    "nv-embed": nv_embed,
    "peg": peg,
    "lg-anna": lg_anna,
    "llm-embedder": llm_embedder,
    "lightclip": lightclip,
    "progressive": progressive,
    "composed": composed,
    "regions": regions,
    "regions-lora": regions_lora,
    "reranker": reranker,
    "reranker-listwise": reranker_listwise,
    "reranker-distilled": reranker_distilled,
    "reranker-lora": reranker_lora,
    "granite-reranker": granite_reranker,
    "vlm2vec": vlm2vec,
    "umarvel": umarvel_stages,
    "instructcir": instructcir_stages,
    "zoo-mini": zoo_mini,
    "zoo-mini-v1": zoo_mini_v1,
    "zoo-omni": zoo_omni,
    "mini-test": mini_test,
}


def get_recipe(name: str) -> Callable[..., Recipe | tuple[Recipe, ...]]:
    """A named recipe's function; raises RecipeError with the nearest names for an unknown one."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.4)
        hint = f"nearest: {', '.join(near)}; all: " if near else "there are "
        raise RecipeError(f"no recipe is called {name!r}; {hint}{', '.join(RECIPES)}")
    return RECIPES[name]


def read_recipe(facts: dict[str, Any]) -> Recipe:
    """A recipe as `Recipe.to_dict` wrote it, of whichever kind it is: all kinds are known here. Raises as `Recipe.from_dict`."""
    return Recipe.from_dict(facts)
