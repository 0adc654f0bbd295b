"""How a search with a filter is done: the planner, not the approximate index, is what keeps its recall.

An approximate index that is asked for few of its rows, or for rows that lie away from the query, finds a part of them: in the
literature (filtered approximate search, arXiv 2507.21989) recall falls to 0.1 at a selectivity of 2 %. So the matches are counted
first; few are all compared, and of many the index is searched as much wider as they are fewer.
"""

from dataclasses import dataclass

# Matches up to which all are compared, whichever is more: rows, or numbers of their vectors.
ROWS = 20_000
NUMBERS = 20_000_000


def compared(dim: int) -> int:
    """Matches that are all compared, where a vector has so many dimensions."""
    return max(ROWS, NUMBERS // dim)


@dataclass(frozen=True)
class Plan:
    """What a search does.

    Attributes:
        rows: in the index. matches: those that the filter keeps; all of them without one.
        exact: whether every match is compared; else an approximate index is searched. probes: partitions of it that are looked
            into, where there are so many. filtered: whether there is a filter.
    """

    rows: int
    matches: int
    exact: bool
    filtered: bool
    probes: int = 0

    def __str__(self) -> str:
        if not self.matches:
            return f"none of {self.rows:,} rows matches"
        which = f"{self.matches:,} of {self.rows:,} rows match the filter" if self.filtered else f"{self.rows:,} rows"
        if self.exact:
            return f"{which}: every one of them is compared"
        again = "; if fewer come back than there are, every match is compared" if self.filtered else ""
        return f"{which}: the approximate index is searched, up to {self.probes:,} partitions of it{again}"
