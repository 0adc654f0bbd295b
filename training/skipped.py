"""Skipped: the rows of a run that something is wrong with, listed in its folder, and no more of them than is allowed."""

import json
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from zoo.bulk.limit import Limit
from zoo.errors import TooManyBadItemsError
from zoo.strangers.folders import Place
from zoo.tables.pairs import Pair, PairTable

from .gather import world
from .own import append, read_lines, read_rows
from .rows import check_limit, root_of

SKIPPED = "skipped.jsonl"
_PART = re.compile(r"(\w+) item (\d+): (.*)", re.DOTALL)  # as `evaluate_pairs` names what it could not embed


class _Entry(TypedDict):
    """A line of skipped.jsonl."""

    pair: str
    reason: str
    held_out: NotRequired[bool]


class Skipped:
    """Rows that something is wrong with: listed once each in a file, and no more of them than the recipe allows.

    Args:
        path: the file; the other processes' lie beside it, and count too. limit: as `Limit` reads it.
        count: all inputs. before: place and reason of those that were set aside before, which count too.
    """

    def __init__(self, path: Path | None, limit: Any, count: int, before: Mapping[str, str] | None = None) -> None:
        self.path, self.limit, self.count = path, Limit.parse(limit), count
        self.reasons: dict[str, str] = dict(before or {})
        self._lock = threading.Lock()
        self.reasons |= _listed(path)

    def add(self, pair: str, reason: str) -> None:
        """Notes a row; raises TooManyBadItemsError where that is one too many."""
        with self._lock:
            if pair in self.reasons:
                return
            self.reasons[pair] = reason
            if self.path is not None:
                list_skipped(self.path, {pair: reason})
                for other in self.path.parent.glob("skipped*.jsonl"):
                    self.reasons |= {} if other == self.path else _listed(other, mend=False)
            allowed = self.limit.allowed(self.count)
            if len(self.reasons) > allowed:
                share = f", {self.limit} of {self.count:,}" if self.limit.share is not None else ""
                raise TooManyBadItemsError(
                    f"{len(self.reasons):,} pairs cannot be read and the recipe allows {allowed:,} (max_bad{share}); the last "
                    f"is {pair}: {reason}" + (f"; all are in {self.path}" if self.path is not None else "")
                )


def list_skipped(path: Path, reasons: Mapping[str, str], **facts: Any) -> None:
    """Adds places and reasons to a file of skipped rows, those that are not in it yet."""
    known = _listed(path, every=True)
    lines = [
        json.dumps({"pair": place, "reason": reason, **facts}, ensure_ascii=False) + "\n"
        for place, reason in reasons.items()
        if place not in known
    ]
    if lines:
        append(path, "".join(lines))


def _listed(path: Path | None, *, mend: bool = True, every: bool = False) -> dict[str, str]:
    """Place and reason of the rows in a file; those that are held out only count with `every`."""
    if path is None:
        return {}
    if mend:
        drop_half_line(path)
    return {entry["pair"]: entry["reason"] for entry in read_rows(path, _Entry) if every or not entry.get("held_out")}


def drop_half_line(path: Path) -> None:
    """Drops from a file of lines the last one, where a kill left it half-written."""
    lines = list(read_lines(path))
    if lines and not lines[-1].endswith(b"\n"):
        (Place.of(path.parent) / path.name).write(b"".join(lines[:-1]))


def list_aside(out: Path, pairs: Sequence[Pair] | PairTable, held_out: Sequence[Pair] | PairTable | None) -> None:
    """Lists in skipped.jsonl what was set aside, of the pairs and of those that are held out."""
    if world()[0] == 0:
        for part, facts in ((pairs, {}), (held_out, {"held_out": True})):
            if (good := root_of(part)) is not None and good.bad:
                list_skipped(out / SKIPPED, good.bad, **facts)


def list_unread(
    out: Path,
    messages: Sequence[str],
    ranked: Sequence[Pair],
    pairs: Sequence[Pair] | PairTable,
    held_out: Sequence[Pair] | PairTable,
    max_bad: Any,
) -> None:
    """Lists held-out pairs that could not be embedded; those that were kept back of the pairs count with these.

    Args:
        messages: of `PairScores.skipped`. ranked: the pairs that they are of.

    Raises:
        TooManyBadItemsError: with what was set aside they are more than is allowed.
    """
    found: dict[str, str] = {}
    for message in messages:
        if match := _PART.fullmatch(message):
            row = int(match[2])
            found.setdefault(ranked[row].where or f"held-out pair {row}", f"the {match[1]}: {match[3]}")
    good, own = root_of(pairs), root_of(held_out)
    together = good is not None and good is own
    if found and world()[0] == 0:
        list_skipped(out / SKIPPED, found, **({} if together else {"held_out": True}))
    if own is not None:
        check_limit({**own.bad, **found}, max_bad, own.inputs)
