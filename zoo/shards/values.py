"""Vectors as they are stored, held to what a model gives: finite, of unit length where lengths say nothing, codes in their range."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

BLOCK = 8192  # rows looked at together: what is computed of a file that is mapped is never there as a whole
NEAR = 0.01  # of unit length, as `zoo.similarity.usable`


def wrong_vector(stored: "np.ndarray", precision: str, similarity: str) -> tuple[int, str] | None:
    """The first row that no model made, and what is wrong with it; None where all can be compared.

    Args:
        stored: `(rows, width)`, float32, int8, or uint8 of packed signs, of which every one is a vector.
        precision: "float32", "int8" or "binary". similarity: "cosine" or "dot", whose vectors keep their lengths.
    """
    if precision == "binary":
        return None
    for start in range(0, len(stored), BLOCK):
        block = stored[start : start + BLOCK]
        good = _codes(block) if precision == "int8" else _floats(block, similarity)
        if not good.all():
            row = int(good.argmin())
            return start + row, _why(block[row], precision)
    return None


def wrong_rows(rows: "pa.Table") -> str:
    """What is wrong with ids, references and attributes, as the end of a sentence; "" where all can be read."""
    import pyarrow as pa

    try:
        rows.validate(full=True)
    except (pa.ArrowException, ValueError) as error:
        return f"holds rows that cannot be read ({error})"
    for name in ("id", "reference"):
        if missing := rows.column(name).null_count:
            return f"holds {missing:,} rows without {name}"
    return ""


def _floats(block: "np.ndarray", similarity: str) -> "np.ndarray":
    import numpy as np

    if similarity == "dot":
        return np.isfinite(block).all(1) & (block != 0).any(1)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", block, block)  # not BLAS: its threads beside torch's cost both of them speed
        return np.abs(np.sqrt(squares) - 1) < NEAR


def _codes(block: "np.ndarray") -> "np.ndarray":
    """The largest number of a vector becomes 127 or -127, so that none is zero as a whole, or -128 anywhere."""
    return (block.min(1) > -128) & block.any(1)


def _why(row: "np.ndarray", precision: str) -> str:
    import numpy as np

    if precision == "int8":
        return "holds -128, which no code of a vector is" if (row == -128).any() else "is zero: it has no direction"
    if not np.isfinite(row).all():
        return "holds NaN or infinity"
    if not row.any():
        return "is zero: it has no direction"
    return f"has the length {float(np.linalg.norm(row.astype(np.float64))):.3g}; vectors of this model have 1"
