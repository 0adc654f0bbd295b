"""Exact rankings: against a full sort in float64, with ties, repeats and every way that the work is divided."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from zoo.errors import NoRightAnswerError, VectorError
from zoo.evaluation import ranking
from zoo.evaluation.metrics import first_ranks, relevant_places
from zoo.evaluation.ranking import Links, places_of

DEPTH = 10


def case(kind: str, queries: int, count: int, dim: int):
    """Vectors of a kind, and which candidates are right, and which left out."""
    asked, ranked = torch.randn(queries, dim), torch.randn(count, dim)
    if kind == "whole numbers":
        asked, ranked = asked.round(), ranked.round()
    elif kind == "all alike":
        ranked[:] = ranked[0]
    elif kind == "repeats":
        ranked = ranked[torch.randint(max(1, count // 5), (count,))]
    elif kind == "nearly alike":  # by less than float32 can tell of a dot product
        ranked = normalize(ranked[:1] + 1e-7 * ranked)
    right = torch.rand(queries, count) < 0.1
    right[torch.arange(queries), torch.randint(count, (queries,))] = True
    return asked, ranked, right, (torch.rand(queries, count) < 0.1) & ~right


@pytest.mark.parametrize("kind", ["any", "whole numbers", "all alike", "repeats", "nearly alike"])
@pytest.mark.parametrize(
    ("rows", "tile", "spare", "many", "strip"), [(1024, 4096, 22, 50, 256), (7, 16, 0, 1000, 4), (1024, 16, 3, 1, 8)]
)
def test_places_are_those_of_a_full_sort(kind, rows, tile, spare, many, strip, monkeypatch):
    torch.manual_seed(rows + tile)
    settings = {"QUERIES": rows, "TILE": tile, "_SPARE": spare, "_MANY": many, "_STRIP": strip}
    for name, value in settings.items():
        monkeypatch.setattr(ranking, name, value)
    for queries, count, dim in ((1, 1, 3), (3, 9, 1), (20, 150, 8), (33, 300, 17)):
        asked, ranked, right, out = case(kind, queries, count, dim)
        exact = asked.double() @ ranked.double().T
        # What differs by the rounding of float64 alone is a tie.
        exact = ((exact * 2**44).round() / 2**44).masked_fill(out, -torch.inf)
        links = Links.of(*right.nonzero().T.numpy())
        found = places_of(asked, ranked, links, Links.of(*out.nonzero().T.numpy()), depth=DEPTH)
        assert (found.first == first_ranks(exact, right).numpy()).all()
        held, inside = np.zeros((queries, DEPTH), bool), found.right > 0
        held[links.rows[inside], found.right[inside] - 1] = True
        wanted = relevant_places(exact, right, DEPTH)
        assert (held == wanted.numpy()).all()
        for row, top in enumerate(found.top):
            best = exact[row].sort(descending=True).values[: min(DEPTH, int((~out[row]).sum()))]
            kept = top[top >= 0]
            assert len(set(kept)) == len(kept) == len(best)
            assert exact[row, kept].tolist() == pytest.approx(best.tolist(), abs=1e-9)
            assert bool(right[row, top[0]]) == bool(wanted[row, 0]), "a tie for the first place goes to the wrong one"


def test_blocks_and_threads_change_nothing(monkeypatch):
    torch.manual_seed(1)
    asked, ranked = normalize(torch.randn(50, 64)), normalize(torch.randn(3000, 64))
    ranked[1000:2000] = ranked[:1000]
    right = Links.of(np.arange(50), np.arange(50))
    whole = places_of(asked, ranked, right)
    monkeypatch.setattr(ranking, "TILE", 37)
    monkeypatch.setattr(ranking, "QUERIES", 11)
    again = places_of(asked, ranked, right)
    assert all((a == b).all() for a, b in zip(whole[:2], again[:2], strict=True))
    assert (whole.first > 1).all(), "an equal wrong one stands before"


def test_what_cannot_be_ranked_is_named():
    one = torch.eye(3)
    with pytest.raises(NoRightAnswerError, match="query 1 has no right candidate"):
        places_of(one, one, Links.of([0, 2], [0, 2]))
    with pytest.raises(VectorError, match="0 candidates"):
        places_of(one, one[:0], Links.of([0], [0]))
    broken = one.clone()
    broken[1, 1] = float("nan")
    for queries, candidates, what in ((broken, one, "query 1"), (one, broken, "candidate 1")):
        with pytest.raises(VectorError, match=f"{what} holds NaN"):
            places_of(queries, candidates, Links.of([0, 1, 2], [0, 1, 2]))
