"""How many bad inputs a bulk job, a miner or a run accepts: a number, or a share of the inputs."""

import math
from dataclasses import dataclass

from zoo.errors import ArgumentError

_ROUNDING = 1e-9  # 29 of 100 are 29 %, though 0.29 * 100 is a little less than 29


@dataclass(frozen=True)
class Limit:
    """At most `count` bad inputs, or at most `share` of the inputs; both None: any number."""

    count: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, value: "float | str | None") -> "Limit":
        """Reads 10, "10", "2%", 0.02 or None."""
        text = str(value).strip()
        try:
            if value is None:
                return cls()
            if text.endswith("%") and 0 <= float(text[:-1]) <= 100:
                return cls(share=float(text[:-1]) / 100)
            number = float(text)
            if 0 < number < 1:
                return cls(share=number)
            if number >= 0 and number.is_integer():
                return cls(count=int(number))
        except ValueError:
            pass
        raise ArgumentError(
            f'max_bad is {value!r}; expected a number of inputs such as 10, or a share such as "2%" (0.02)'
        )

    def allowed(self, inputs: int) -> float:
        """How many of all inputs may be bad: the limit itself, and one by any share, which says nothing of one alone."""
        if self.share is None:
            return math.inf if self.count is None else self.count
        return max(1, math.floor(self.share * inputs + _ROUNDING)) if self.share else 0

    def exceeded(self, bad: int, inputs: int) -> bool:
        """Whether `bad` are too many of all inputs; unlike `allowed`, which grants one to every share, by the share alone."""
        if self.count is not None:
            return bad > self.count
        return self.share is not None and bad > self.share * inputs + _ROUNDING

    def __str__(self) -> str:
        return f"{self.count:,}" if self.share is None else f"{self.share * 100:g}% of the inputs"
