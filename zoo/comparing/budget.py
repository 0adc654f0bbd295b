"""Budgets: what a model may cost, what its licence must allow, what it must read; and who is within."""

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.errors import ArgumentError

if TYPE_CHECKING:
    from zoo.comparing.comparison import Entry

COMMERCIAL = "commercial"
# Licences that are known to allow commercial use; of others the user has to decide by reading them.
_FREE = re.compile(r"apache-2\.0|mit|isc|unlicense|bsd(-[23]-clause)?|cc0-1\.0|cc-by(-sa)?-\d\.0")
_UNITS = {"k": 1e3, "m": 1e6, "b": 1e9}
NUMBERS = {
    "ms": "milliseconds for one query, at most",
    "mb": "memory of the process in MB, at most",
    "size": "MB of weights, at most",
    "params": "weights, at most: 30M, 1.5B",
    "rate": "items a second, at least",
    "dim": "dimensions of a vector, at most",
}
TEXTS = {"license": "commercial, or a pattern: 'apache*'", "languages": "codes, joined with +: de+fr"}


@dataclass(frozen=True)
class Budget:
    """What a model must keep to; None or () where anything goes. The fields are those of `NUMBERS` and `TEXTS`."""

    ms: float | None = None
    mb: float | None = None
    size: float | None = None
    params: float | None = None
    rate: float | None = None
    dim: float | None = None
    license: str | None = None
    languages: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: "str | Budget | None") -> "Budget":
        """Reads "ms=20,mb=500,license=commercial,languages=de+fr".

        Raises:
            ArgumentError: what is no such text; the message names the entry and what there is.
        """
        if text is None or isinstance(text, Budget):
            return text or cls()
        if not isinstance(text, str):
            raise ArgumentError(
                f'a budget must be a str such as "ms=20,mb=500", not {text!r:.60} ({type(text).__name__})'
            )
        found: dict[str, object] = {}
        for entry in filter(None, (part.strip() for part in text.split(","))):
            name, equals, value = (part.strip() for part in entry.partition("="))
            if name not in (*NUMBERS, *TEXTS) or not equals or not value:
                known = ", ".join(f"{key}=…" for key in (*NUMBERS, *TEXTS))
                raise ArgumentError(f"{entry!r} is no entry of a budget; write some of {known}, joined by commas")
            if name in found:
                raise ArgumentError(f"the budget says {name} twice; say it once")
            if name == "languages":
                found[name] = tuple(value.lower().split("+"))
                if wrong := [code for code in found[name] if not re.fullmatch("[a-z]{2,3}", code)]:  # type: ignore[attr-defined]
                    raise ArgumentError(
                        f"languages={value} in the budget: {wrong[0]!r} is no code of a language, such as de; join several with +"
                    )
            else:
                found[name] = value.lower() if name == "license" else _number(name, value)
        return cls(**found)  # type: ignore[arg-type]

    def __bool__(self) -> bool:
        return self != Budget()

    def __str__(self) -> str:
        told = {name: value for name, value in vars(self).items() if value not in (None, ())}
        return ",".join(
            f"{n}={'+'.join(v) if isinstance(v, tuple) else v if isinstance(v, str) else f'{v:g}'}"
            for n, v in told.items()
        )

    def refusals(self, entry: "Entry") -> list[str]:
        """What keeps a model out, in words; nothing of one that is within.

        Raises:
            ArgumentError: a cost is asked for that was not measured.
        """
        spec, cost, found = entry.spec, entry.cost, []
        facts = {
            "ms": (None if cost is None else cost.ms, "ms for one query"),
            "mb": (None if cost is None else cost.mb, "MB of memory"),
            "size": (entry.size, "MB of weights"),
            "params": (entry.params, "weights"),
            "rate": (None if cost is None else cost.rate, "items/s"),
            "dim": (entry.dim, "dimensions"),
        }
        for name, (value, what) in facts.items():
            limit = getattr(self, name)
            if limit is None:
                continue
            if value is None:
                if name in ("ms", "rate") or (name == "mb" and cost is None):
                    raise ArgumentError(
                        f"{name}={limit:g} needs a measurement, and the speed was not measured; leave --no-speed out"
                    )
                found.append(f"its {what} could not be measured")
            elif value < limit if name == "rate" else value > limit:
                found.append(f"{value:,.4g} {what}" if value < 1e4 else f"{value:,.0f} {what}")
        found += self._license(spec.license, spec.non_commercial)
        if self.languages and "multilingual" not in spec.languages:
            missing = [code for code in self.languages if code not in spec.languages]
            reads = ", ".join(spec.languages) or "no language that is stated"
            found += [f"it reads {reads}, not {', '.join(missing)}"] * bool(missing)
        return found

    def _license(self, license: str, forbidden: bool) -> list[str]:
        if self.license is None:
            return []
        if self.license != COMMERCIAL:
            return [] if fnmatch.fnmatchcase(license, self.license) else [f"its licence is {license}"]
        if forbidden:
            return [f"its licence {license} forbids commercial use"]
        known = _FREE.fullmatch(license) is not None
        return (
            []
            if known
            else [f"its licence {license} is not known to allow commercial use (if it does: license={license})"]
        )


def _number(name: str, text: str) -> float:
    unit = _UNITS.get(text[-1:].lower()) if name == "params" else None
    try:
        value = float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentError(f"{name}={text} in the budget: expected a number above 0 ({NUMBERS[name]})")
    return value


def within(entries: "Sequence[Entry]", budget: Budget) -> "tuple[list[Entry], dict[str, str]]":
    """The models that keep to a budget, and of all others by name what keeps them out."""
    told = {entry.name: "; ".join(budget.refusals(entry)) for entry in entries}
    return [entry for entry in entries if not told[entry.name]], {name: why for name, why in told.items() if why}
