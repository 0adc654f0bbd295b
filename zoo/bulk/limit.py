"""How many bad inputs a bulk job accepts: a number, or a share of the inputs."""

from dataclasses import dataclass

from zoo.bulk.errors import OptionError

# A share says nothing after three inputs.
ENOUGH = 100


@dataclass(frozen=True)
class Limit:
    """At most `count` bad inputs, or at most `share` of the inputs; both None: any number."""

    count: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, value: "int | str | None") -> "Limit":
        """Reads 10, "10", "2%" or None."""
        text = str(value).strip()
        try:
            if value is None:
                return cls()
            if text.endswith("%") and 0 <= float(text[:-1]) <= 100:
                return cls(share=float(text[:-1]) / 100)
            if int(text) >= 0:
                return cls(count=int(text))
        except ValueError:
            pass
        raise OptionError(f'max_bad is {value!r}; expected a number of inputs such as 10, or a share such as "2%"')

    def exceeded(self, bad: int, seen: int, *, final: bool = False) -> bool:
        """Whether `bad` of `seen` inputs are too many. A share is judged from the hundredth input, or at the end."""
        if self.count is not None:
            return bad > self.count
        return self.share is not None and bad > self.share * seen and (final or seen >= ENOUGH)

    def __str__(self) -> str:
        return f"{self.count:,}" if self.share is None else f"{self.share * 100:g}% of the inputs"
