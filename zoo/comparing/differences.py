"""Paired differences: how far one model is above another on the same rows."""

import numpy as np

from zoo.comparing.scoring import LEVEL
from zoo.evaluation.metrics import Difference, percentiles


def difference(change: float, drawn: np.ndarray) -> Difference:
    """A paired difference from those of rows drawn anew `(resamples,)`."""
    drawn = drawn[np.isfinite(drawn)]
    low, high = percentiles(drawn[:, None], LEVEL)
    tails = (np.array([(drawn <= 0).sum(), (drawn >= 0).sum()]) + 1) / (len(drawn) + 1)
    return Difference(change, float(low[0]), float(high[0]), float(min(1.0, 2 * tails.min())))


def is_clear(told: Difference) -> bool:
    """Whether the interval of a difference holds no 0."""
    return told.low > 0 or told.high < 0
