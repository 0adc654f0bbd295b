"""What comes before the first step and after the last: held-out pairs, their figures, the finished folder."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from zoo.errors import InputError
from zoo.files import write_json
from zoo.inputs.identity import Contents
from zoo.tables.pairs import Pair, PairTable, Selection
from zoo.tables.splits import TRAIN, VALIDATION, SplitTable, leaves_of
from zoo.tables.table import Tables

from .adapters import merge_lora, save_adapter
from .gather import wait_for_all, world
from .kinds import kind_of
from .losses import Loss
from .recipe import Recipe
from .rows import root_of
from .run import Run
from .scoring import Scoring
from .temperatures import kept

_MOST_HELD_OUT = 5_000  # by a share: more would make the figures no surer and the ranking long
_MOST_COMPARED = 20_000
_DTYPES = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}


def hold_out(
    pairs: Sequence[Pair] | PairTable, held_out: Sequence[Pair] | PairTable | None, recipe: Recipe
) -> tuple[Sequence[Pair] | PairTable, Sequence[Pair] | PairTable | None]:
    """(pairs to learn from, pairs for the figures): those given, or the validation rows where a column says which they are,
    or a random share of the pairs determined by the seed.

    A query that is held out is in no pair that is learned, as far as there are 20,000 pairs or fewer; among more the
    rows alone are kept apart, so that they need not all be read.
    """
    if held_out is None and (own := _validation(pairs, recipe)) is not None:
        return pairs, own
    share = recipe.holdout < 1
    count = round(recipe.holdout * len(pairs)) if share else round(recipe.holdout)
    if held_out is not None or count == 0 or len(pairs) < 4:
        return pairs, held_out
    count = max(1, min(count, len(pairs) // 2, _MOST_HELD_OUT if share else len(pairs)))
    order = np.random.default_rng(recipe.seed).permutation(len(pairs))
    if len(pairs) <= _MOST_COMPARED:
        contents = Contents()
        keys = np.array([_query_number(pairs, row, contents) for row in range(len(pairs))])
        kept_back = np.isin(keys[order], np.unique(keys[order[:count]]))
        if kept_back.sum() <= len(pairs) // 2:  # else the queries are few and come often: rows it is
            return Selection(pairs, np.sort(order[~kept_back])), Selection(pairs, np.sort(order[kept_back]))
    return Selection(pairs, np.sort(order[count:])), Selection(pairs, np.sort(order[:count]))


def _validation(pairs: Sequence[Pair] | PairTable, recipe: Recipe) -> PairTable | None:
    """The validation rows of tables with a column of splits, or 5,000 of them; None where there are none."""
    good = root_of(pairs)
    whole = pairs if good is None else good.pairs
    leaves = [leaf for leaf in leaves_of(whole) if isinstance(leaf, SplitTable) and leaf.split == TRAIN]
    found = [own for leaf in leaves if (own := leaf.of_split(VALIDATION)) is not None]
    if not found:
        return None
    own = found[0] if len(found) == 1 else Tables(found)
    if len(own) <= _MOST_HELD_OUT:
        return own
    return Selection(own, np.sort(np.random.default_rng(recipe.seed).permutation(len(own))[:_MOST_HELD_OUT]))


def told_held_out(held_out: Sequence[Pair] | PairTable) -> str:
    """What the held-out pairs are, where a column of the data says it; "" else."""
    good = root_of(held_out)
    rows = held_out if good is None else good.pairs
    rows = rows.pairs if isinstance(rows, Selection) else rows
    leaves = leaves_of(rows)
    if not all(isinstance(leaf, SplitTable) and leaf.split == VALIDATION for leaf in leaves):
        return ""
    columns = ", ".join(dict.fromkeys(str(leaf.schemas[0].split) for leaf in leaves))
    many = f"{len(held_out):,} of {len(rows):,}" if len(held_out) < len(rows) else f"the {len(rows):,}"
    return f"held out: {many} validation rows by column {columns}"


def _query_number(pairs: Sequence[Pair] | PairTable, row: int, contents: Contents) -> int:
    """Equal for equal queries; a row that cannot be read is like no other."""
    try:
        return contents.number(pairs[row].query)
    except InputError:
        return -1 - row


def conclude(run: Run, folder: Path, chosen: dict[str, Any] | None = None) -> None:
    """The weights and the temperature that a stage ends with into the model; adapters saved in peft's format, then merged;
    evaluation mode.

    Args:
        chosen: of an earlier checkpoint; None for the last ones, averaged where the recipe says so.
    """
    if chosen is not None:
        run.put(chosen["model"])
        run.loss.load_state_dict(chosen["loss"])
    elif run.average is not None:
        run.average.give()
    run.model.logit_scale = kept(run.loss, run.model)
    run.model.calibration = {}  # of the weights from before
    run.gather()
    if run.recipe.lora is not None:
        if world()[0] == 0:
            spec = run.model.spec
            save_adapter(run.model, folder / "adapter", base=spec.hub_id or spec.name, revision=spec.revision)
        merge_lora(run.model)
    run.model.eval()
    run.model.requires_grad_(True)


def write_model(
    model: nn.Module,
    out: Path,
    stages: Sequence[Recipe],
    name: str | None,
    scoring: Scoring,
    data: dict[str, Any],
    *,
    loss: Loss,
    report: bool,
) -> None:
    """The finished model, its card and the report, into the run's folder; `loss` is that of the last stage."""
    if world()[0] == 0:
        from .card import write_card
        from .report import keep_examples, write_report

        kind = kind_of(model)
        kind.finish(model, name or slug(out.resolve().name), stages[-1], loss)
        kind.save(model, out, _DTYPES[stages[-1].save_as])
        write_json(out / "data.json", data)
        write_card(model, out, stages, scoring, data)
        if report:
            if scoring.pairs is not None and scoring.score("after") is not None:
                keep_examples(out, scoring.pairs, scoring.score("before"), scoring.score("after"))
            write_report(out)
    wait_for_all()


def slug(name: str) -> str:
    """A folder's name as a model's: lower case, hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "model"
