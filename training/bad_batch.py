"""The batch at which a loss stopped being a number, kept for whoever looks into it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.files import write_json
from zoo.inputs.item import Item
from zoo.inputs.region_json import regions_to_json
from zoo.tables.pairs import Pair, PairTable, place_of

from .checkpoint import save_checkpoint
from .dataloader import Batch
from .gather import world
from .run import Run


def save_bad_batch(folder: Path, run: Run, batch: Batch, pairs: Sequence[Pair] | PairTable) -> Path:
    """Writes `bad_batch/step-<n>/` with what the model read (safetensors) and `pairs.json` with where it came from."""
    reads = [read.value if read.vector is None else read.vector for read in batch.reads]
    state = {"reads": [_plain(read) for read in reads], "extras": dict(batch.extras), "rows": list(batch.rows)}
    rank, processes = world()
    where = save_checkpoint(folder / "bad_batch" / (f"process-{rank}" if processes > 1 else ""), run.step, state)
    facts = [{"row": row, "from": place_of(pairs, row), **_words(pairs[row])} for row in batch.rows]
    write_json(where / "pairs.json", {"step": run.step, "loss": run.recipe.loss, "pairs": facts})
    return where


def _words(pair: Pair) -> dict[str, str]:
    return {"query": _shown(pair.query), "positive": _shown(pair.positive)}


def _shown(item: Item) -> str:
    parts = [item.text] if item.text is not None else []
    for modality in ("image", "video", "audio"):
        value = getattr(item, modality)
        if value is not None:
            parts.append(str(value) if isinstance(value, Path) else f"[{modality} in memory]")
    parts += [regions_to_json(item.regions)] if len(item.regions) else []
    return " + ".join(parts)


def _plain(value: Any) -> Any:
    """Tensors, numbers and lists as they are; anything else in words."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value] if not all(isinstance(v, int) for v in value) else torch.tensor(value)
    return value if value is None or isinstance(value, int | float | str) else repr(value)
