"""What was measured of a model: a row for every candidate, the machine's rates, and what each row says of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

HEADERS = (
    "of",
    "by",
    "items/s",
    "tokens/s",
    "speed",
    "p50 ms",
    "p95 ms",
    "MB",
    "reading",
    "products",
    "weights",
    "limit",
)
NUMBERS = HEADERS[2:-1]
_MOST = 0.5  # share from which on one thing is said to limit the others


@dataclass(frozen=True)
class Row:
    """One candidate at one kind of input.

    Attributes:
        of: "images", "texts", "recordings" or "videos". by: what embedded them.
        rate: inputs a second, reading included: the median of the rounds. tokens: tokens a second, of texts.
        ratio: the median over the rounds of how many times as fast as the first candidate it was in the same round.
        p50, p95: milliseconds of one input by itself, the median and the 95th percentile.
        mb: largest memory of a process that embeds with it alone, MB; None where the system does not tell it.
        reading: time that reading alone takes (decoding, resizing, tokenising), of the whole. products: operations a second of the
            forward pass alone, of the rate of float32 products of matrices. weights: bytes of weights a second that it reads, of the rate of
            memory. Shares, 1 is all; None of other libraries.
    """

    of: str
    by: str
    rate: float
    ratio: float
    p50: float
    p95: float
    tokens: float | None = None
    mb: float | None = None
    reading: float | None = None
    products: float | None = None
    weights: float | None = None

    @property
    def limit(self) -> str:
        """What limits it: "reading", else of the forward pass "products" or "weights", else "overhead", which is all that lies between:
        activations, small operations, Python. "" where no share is known.
        """
        if self.reading is None or self.products is None or self.weights is None:
            return ""
        if self.reading >= _MOST:
            return "reading"
        share, name = max((self.products, "products"), (self.weights, "weights"))
        return name if share >= _MOST else "overhead"


def shares(
    seconds: float, reading: float, forward: float, work: tuple[float, float], rates: tuple[float, float]
) -> dict[str, float]:
    """The three shares of a `Row`.

    Args:
        seconds, reading, forward: of the whole, of reading alone, and of the forward passes alone.
        work: operations, and bytes of weights. rates: of this machine, both a second.
    """
    return {
        "reading": reading / seconds,
        "products": work[0] / forward / rates[0],
        "weights": work[1] / forward / rates[1],
    }


@dataclass(frozen=True)
class Bench:
    """What `bench` measured.

    Attributes:
        model: its name. machine: in words. products, memory: this machine's rates: float32 operations a second of a product of
            matrices, and bytes a second that are read.
        inputs: kind → what was embedded, in words. flop: kind → operations for one input.
        rounds: in each of which every candidate ran once. rows: the first of each kind is what `ratio` is of.
        left_out: candidate → why it was not measured. busy: whether others were at work, in one line; "" where they were not.
    """

    model: str
    machine: str
    products: float
    memory: float
    inputs: Mapping[str, str]
    flop: Mapping[str, float]
    rounds: int
    rows: Sequence[Row]
    left_out: Mapping[str, str] = field(default_factory=dict)
    busy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; `from_dict` reads it."""
        found = asdict(self)
        for row, told in zip(self.rows, found["rows"], strict=True):
            told["limit"] = row.limit
        return found

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Bench":
        """What `to_dict` gave."""
        rows = [Row(**{name: one for name, one in row.items() if name != "limit"}) for row in value["rows"]]
        return cls(**{**value, "rows": rows})

    @property
    def table(self) -> list[tuple[str, ...]]:
        """The rows as texts, under `HEADERS`."""
        return [
            (
                row.of,
                row.by,
                f"{row.rate:,.1f}",
                "" if row.tokens is None else f"{row.tokens:,.0f}",
                f"{row.ratio:.2f}x",
                f"{row.p50:.1f}",
                f"{row.p95:.1f}",
                "" if row.mb is None else f"{row.mb:,.0f}",
                *("" if share is None else f"{share:.0%}" for share in (row.reading, row.products, row.weights)),
                row.limit,
            )
            for row in self.rows
        ]

    @property
    def notes(self) -> list[str]:
        """What a reader of the table has to know, a line each."""
        rates = f"float32 products {self.products / 1e9:,.0f} GFLOP/s, memory {self.memory / 1e9:,.1f} GB/s"
        lines = [f"{self.model} on {self.machine}: {rates}"]
        for kind, said in self.inputs.items():
            one = self.flop.get(kind)
            lines.append(f"{kind}: {said}" + (f"; {one / 1e9:,.2f} GFLOP each" if one else ""))
        reasons: dict[str, list[str]] = {}
        for name, why in self.left_out.items():
            reasons.setdefault(why, []).append(name)
        lines += [f"left out: {', '.join(names)}: {why}" for why, names in reasons.items()]
        return lines + [self.busy] * bool(self.busy)
