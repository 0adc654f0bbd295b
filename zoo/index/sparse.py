"""Sparse vectors of the texts beside the vectors of an index: which tokens count and how much, as a model such as BGE-M3 weighs them.

They are made from the texts in a pass of their own, and a text that was weighed before is not weighed again.
"""

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zoo.errors import ArgumentError
from zoo.index.text_rows import Best, Texts, check_columns, keep, read_ids, texts_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from torch import Tensor

    from zoo.embedder import Embedder
    from zoo.index.store import Store

NAME = "sparse-"
_ARRAYS = ("data", "rows", "first", "digests")
_CHUNK = 1024  # texts that are weighed together


class Weights(NamedTuple):
    """Weights by token: those of token t are `data[first[t]:first[t + 1]]`, of these `rows`; and a digest of each row's text `(n, 16)`."""

    data: "np.ndarray"
    rows: "np.ndarray"
    first: "np.ndarray"
    digests: "np.ndarray"


def check_sparse(model: "Embedder") -> None:
    """Raises ArgumentError where a model weighs no tokens."""
    if "sparse" not in model.spec.outputs:
        raise ArgumentError(
            f"{model.spec.name} gives no sparse vectors of texts, which are a list of their own; leave that out, or embed with a model "
            "that does (bge-m3)"
        )


class SparseIndex:
    """The sparse vectors of one version of an index, ready to be asked.

    Args:
        index: whose rows are searched. columns: attributes that hold their texts. model: that weighs them and the queries. files: texts
            that stand in no column.

    Raises:
        ArgumentError: there is no such column, or the model gives no sparse vectors.
    """

    def __init__(self, index: "Store", columns: Sequence[str], model: "Embedder", files: Texts | None = None) -> None:
        check_columns(index, columns, files)
        check_sparse(model)
        self.model, self.version = model, index.commit()
        family = blake2b(
            json.dumps(
                [model.fingerprint(), list(columns), *([] if files is None else ["files"])], sort_keys=True
            ).encode(),
            digest_size=8,
        ).hexdigest()
        version = blake2b(self.version.encode(), digest_size=8).hexdigest()
        folder = index.folder / f"{NAME}{family}-{version}"
        found = _opened(folder)
        if found is None:
            before = [one for path in sorted(folder.parent.glob(f"{NAME}{family}-*")) if (one := _opened(path))]
            rows, texts, whole = texts_of(index, columns, files)
            found = rows, _weighed(list(texts), model, before[-1][1] if before else None)
            if whole:
                keep(folder, rows, lambda draft: _save(draft, found[1]), f"{NAME}{family}-")
        rows, self._weights = found
        self._best = Best(rows)

    def search(self, index: "Store", text: str, k: int, where: str | None = None) -> list[str]:
        """Ids of the `k` rows whose sparse vectors have the largest dot product with the query's, best first; none of 0."""
        import numpy as np

        asked = self.model.encode_sparse(text, progress=False, **self.model.for_role("query")).coalesce()
        scores, (data, rows, first, _) = np.zeros(len(self._best.rows), np.float32), self._weights
        for token, weight in zip(asked.indices()[0].tolist(), asked.values().tolist(), strict=True):
            here = slice(first[token], first[token + 1])
            scores[rows[here]] += weight * data[here]  # a row has a token once
        return self._best(index, scores, k, where)


def _weighed(texts: list[str], model: "Embedder", before: Weights | None) -> Weights:
    """The weights of all texts; those that are among the earlier ones are taken from there."""
    import numpy as np

    digests = np.frombuffer(b"".join(blake2b(text.encode(), digest_size=16).digest() for text in texts), np.uint8)
    digests = digests.reshape(len(texts), 16)
    known = {} if before is None else {one.tobytes(): row for row, one in enumerate(before.digests)}
    old = np.array([known.get(one.tobytes(), -1) for one in digests], np.int64)
    parts = [] if before is None else [_taken(before, old)]
    new = [row for row, text in enumerate(texts) if old[row] < 0 and text.strip()]
    role = model.for_role("document")
    for start in range(0, len(new), _CHUNK):
        some = new[start : start + _CHUNK]
        found: Tensor = model.encode_sparse([texts[row] for row in some], **role).coalesce()
        which, tokens = found.indices().numpy()
        parts.append((np.array(some)[which], tokens, found.values().numpy()))
    rows, tokens, data = (
        np.concatenate(one) if parts else np.zeros(0, kind)
        for one, kind in zip(zip(*parts, strict=True) if parts else ((),) * 3, (int, int, np.float32), strict=True)
    )
    order = np.lexsort((rows, tokens))
    size = next(tower.outputs["sparse"].vocab for tower in model.towers if "sparse" in tower.outputs)
    first = np.searchsorted(tokens[order], np.arange(size + 1))
    return Weights(data[order].astype(np.float32), rows[order].astype(np.int32), first.astype(np.int64), digests)


def _taken(before: Weights, old: "np.ndarray") -> "tuple[np.ndarray, np.ndarray, np.ndarray]":
    """Row, token and weight of all rows that were there before; `old` is the row that each was, -1 for none."""
    import numpy as np

    tokens = np.repeat(np.arange(len(before.first) - 1), np.diff(before.first))
    order = np.argsort(before.rows, kind="stable")
    starts = np.searchsorted(before.rows[order], np.arange(len(before.digests) + 1))
    kept = np.flatnonzero(old >= 0)
    sizes = starts[old[kept] + 1] - starts[old[kept]]
    # Of each kept row the places of its weights in `order`, one after the other.
    places = np.repeat(starts[old[kept]] - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes) + np.arange(sizes.sum())
    at = order[places.astype(np.int64)]
    return np.repeat(kept, sizes), tokens[at], before.data[at]


def _save(draft: Path, weights: Weights) -> None:
    import numpy as np

    for name in _ARRAYS:
        np.save(draft / f"{name}.npy", getattr(weights, name), allow_pickle=False)


def _opened(folder: Path) -> "tuple[pa.Array, Weights] | None":
    """What was kept there; None where that is nothing, or is damaged and goes."""
    import numpy as np
    import pyarrow as pa

    if not folder.is_dir():
        return None
    with suppress(OSError, ValueError, KeyError, pa.ArrowException):
        ids = read_ids(folder)
        weights = Weights(*(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS))
        data, rows, first, digests = weights
        if len(ids) == len(digests) and len(data) == len(rows) == first[-1] and rows.max(initial=-1) < len(ids):
            return ids, weights
    shutil.rmtree(folder, ignore_errors=True)
    return None
