"""How vectors are finished, compared and packed: unit length or norms kept, cosine, dot product, MaxSim, int8, binary."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.errors import NormsLostError
from zoo.spec import ModelSpec, Similarity

Precision = Literal["float32", "int8", "binary"]
PRECISIONS: tuple[Precision, ...] = ("float32", "int8", "binary")


def finished(vectors: Tensor, kind: Similarity) -> Tensor:
    """What a head gives `(..., dim)` as embeddings, float32 at least: unit vectors, but with their norms for "dot"."""
    # Before the norm is taken: in bfloat16 it has 8 bits, and the vectors would be off unit length by up to 1 in 256.
    vectors = vectors if vectors.dtype == torch.float64 else vectors.float()
    return vectors if kind == "dot" else F.normalize(vectors, dim=-1)


def cut(vectors: Tensor, dim: int, kind: Similarity) -> Tensor:
    """Matryoshka: the first `dim` columns of embeddings, finished again; the whole length stays as it is."""
    # Finished after cutting: cut vectors are shorter than 1, each by another amount.
    return vectors if dim == vectors.shape[-1] else finished(vectors[..., :dim], kind)


def usable(vectors: Tensor, kind: Similarity) -> Tensor:
    """Which embeddings `(..., dim)` are ones, as booleans `(...)`: NaN, infinity and zero would rank silently wrong."""
    if kind == "dot":
        return vectors.isfinite().all(-1) & (vectors != 0).any(-1)
    # 0.01 lets half precision pass; zero and NaN do not, for NaN < 0.01 is false.
    return (vectors.norm(dim=-1) - 1).abs() < 0.01


def check_precision(spec: ModelSpec, precision: str) -> None:
    """Called before any work is done.

    Raises:
        ValueError: no such precision. NormsLostError: the model's norms count, and this precision drops them.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be float32, int8 or binary, not {precision!r}")
    if spec.similarity == "dot" and precision != "float32":
        raise NormsLostError(
            f"{spec.name} compares by dot product, and {precision} drops the norms of its vectors; keep "
            'precision="float32"'
        )


def similarity(a: Any, b: Any, kind: Similarity = "cosine") -> Tensor:
    """`(n, m)` of `(n, dim)` and `(m, dim)`, of one kind: see `cosine`, `dot` and `maxsim`."""
    return {"cosine": cosine, "dot": dot, "maxsim": maxsim}[kind](a, b)


def cosine(a: Any, b: Any) -> Tensor:
    """Cosine similarity `(n, m)`, -1 to 1, of vectors `(n, dim)` and `(m, dim)`.

    Both float or int8; or both packed binary, where it is 1 - 2 · Hamming distance / bits.

    Raises:
        ValueError: they differ in dim, or only one side is packed.
    """
    a, b = _pair(a, b)
    if a.dtype == torch.uint8:
        a, b = unpack(a), unpack(b)
        # Signs of -1 and 1: agreeing bits less differing ones, over all, which is 1 - 2 · Hamming / bits.
        return a @ b.T / a.shape[1]
    return F.normalize(a.float(), dim=-1) @ F.normalize(b.float(), dim=-1).T


def dot(a: Any, b: Any) -> Tensor:
    """Dot products `(n, m)` of float vectors `(n, dim)` and `(m, dim)`, norms and all.

    Raises:
        ValueError: they differ in dim. NormsLostError: int8 or binary vectors, which have no norms.
    """
    a, b = _pair(a, b)
    if packed := [str(x.dtype).removeprefix("torch.") for x in (a, b) if x.dtype in (torch.int8, torch.uint8)]:
        raise NormsLostError(f"a dot product needs the norms of float vectors, which {packed[0]} has dropped")
    return a.float() @ b.float().T


def _pair(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    a, b = (torch.atleast_2d(torch.as_tensor(x)) for x in (a, b))
    if (a.dtype == torch.uint8) != (b.dtype == torch.uint8) or a.shape[-1] != b.shape[-1]:
        raise ValueError(f"cannot compare {a.dtype} {tuple(a.shape)} with {b.dtype} {tuple(b.shape)}")
    return a, b


def maxsim(a: Any, b: Any) -> Tensor:
    """Late interaction `(n, m)` of two lists of token vectors `(tokens, dim)`; one such matrix counts as a list of one.

    The sum over a's tokens of the best match among b's (ColBERT, Khattab and Zaharia, 2020, eq. 3), up to the number of
    a's tokens. float, int8, or packed binary on both sides, whose bits are compared as signs.

    Raises:
        ValueError: they differ in dim or only one side is packed, an entry is no `(tokens, dim)`, or has no tokens.
    """
    a, b = ([x] if getattr(x, "ndim", 0) == 2 else list(x) for x in (a, b))
    a, b = ([torch.as_tensor(v) for v in some] for some in (a, b))
    wrong = next((v for v in (*a, *b) if v.ndim != 2 or not v.numel()), None)
    if wrong is not None:
        what = "no tokens" if wrong.ndim == 2 else "another shape"
        raise ValueError(f"maxsim compares lists of (tokens, dim); one has {what}: {tuple(wrong.shape)}")
    if not a or not b:
        return torch.zeros(len(a), len(b))
    kinds = {(v.shape[1], v.dtype == torch.uint8) for v in (*a, *b)}
    if len(kinds) > 1:
        found = ", ".join(f"{'binary' if packed else 'float or int8'} of {dim}" for dim, packed in sorted(kinds))
        raise ValueError(f"maxsim compares token vectors of one dim and precision; these differ: {found} columns")
    a, b = ([F.normalize(unpack(v) if v.dtype == torch.uint8 else v.float(), dim=-1) for v in x] for x in (a, b))
    queries, lengths = torch.cat(a), [len(v) for v in a]
    # One product per document for all queries' tokens together; the sum by query comes after it.
    best = torch.stack([(queries @ v.T).amax(1) for v in b], 1)  # (all tokens of a, m)
    return torch.stack([part.sum(0) for part in best.split(lengths)])


def mean_maxsim(a: Any, b: Any) -> Tensor:
    """`maxsim` by the number of a's tokens, -1 to 1: the mean over them of the best match, as BGE-M3's authors score (arxiv:2402.03216)."""
    a = [a] if getattr(a, "ndim", 0) == 2 else list(a)
    sums = maxsim(a, b)
    return sums / torch.tensor([len(vectors) for vectors in a], dtype=sums.dtype)[:, None] if a else sums


def lexical(a: Tensor, b: Tensor) -> Tensor:
    """Lexical matching `(n, m)` of sparse weights `(n, vocab)` and `(m, vocab)`, as `encode_sparse` gives them: the dot product.

    It sums the products of the weights of the tokens that both texts have: 0 where they share none, without an upper bound. One vector
    `(vocab,)` counts as a list of one.

    Raises:
        ValueError: a side is no sparse tensor, or they differ in vocabulary.
    """
    if wrong := [x for x in (a, b) if not isinstance(x, Tensor) or not x.is_sparse or x.ndim not in (1, 2)]:
        raise ValueError(
            f"lexical compares sparse tensors (n, vocab), as encode_sparse gives them, not {wrong[0]!r:.60}"
        )
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"cannot compare lexical weights over {a.shape[-1]:,} tokens with those over {b.shape[-1]:,}")
    a, b = (x[None] if x.ndim == 1 else x for x in (a, b))
    # One side a few rows at a time as an ordinary matrix: 64 of them over 250,000 tokens have 64 MB.
    some = (torch.arange(start, min(start + 64, len(a))) for start in range(0, len(a), 64))
    parts = [torch.sparse.mm(b, a.index_select(0, rows).to_dense().T).T for rows in some]
    return torch.cat([torch.zeros(0, len(b)), *parts])


def quantize(vectors: Tensor, precision: Precision) -> Tensor:
    """Unit vectors `(..., dim)` as float32, int8 `(..., dim)` or packed signs uint8 `(..., dim / 8)`.

    Neither keeps a norm (see `check_precision`).
    """
    if precision == "float32":
        return vectors
    if precision == "int8":
        # Each vector by its own largest value: a cosine does not see the factor, so none has to be stored.
        top = vectors.abs().amax(-1, keepdim=True).clamp(min=1e-12)
        return (vectors / top * 127).round().to(torch.int8)
    if vectors.shape[-1] % 8:
        raise ValueError(f"binary vectors need a dim divisible by 8, not {vectors.shape[-1]}")
    bits = (vectors > 0).view(*vectors.shape[:-1], -1, 8).to(torch.uint8)
    return (bits * _powers()).sum(-1, dtype=torch.uint8)


def unpack(packed: Tensor) -> Tensor:
    """Packed signs uint8 `(..., dim / 8)` as float32 `(..., dim)` of -1 and 1."""
    return ((packed[..., None] & _powers()) > 0).flatten(-2).float() * 2 - 1


def _powers() -> Tensor:
    return torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8)
