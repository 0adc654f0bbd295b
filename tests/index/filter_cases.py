"""Clustered vectors with filters of every selectivity, random and correlated with the clusters: the table of arXiv 2507.21989's collapse."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from zoo.index.predicates import Predicate, among, between

COLUMNS = pa.schema([("cluster", pa.int64()), ("dice", pa.float64())])
K = 10


class Case(NamedTuple):
    """A row of the table: a filter, and which rows it keeps."""

    name: str
    where: Predicate
    kept: np.ndarray


class Filtered(NamedTuple):
    """Vectors `(n, dim)`, their columns, queries, and the filters that are asked of them."""

    matrix: np.ndarray
    columns: dict[str, list]
    queries: np.ndarray
    cases: list[Case]


def made(rows: int, dim: int, queries: int, clusters: int = 100, seed: int = 0) -> Filtered:
    """Vectors around centres; of a correlated filter whole clusters match, so that most queries lie away from all matches."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(clusters, dim))
    of = random.integers(0, clusters, rows)
    matrix = _unit(centres[of] + 0.7 * random.normal(size=(rows, dim)))
    asked = _unit(centres[random.integers(0, clusters, queries)] + 0.7 * random.normal(size=(queries, dim)))
    dice = random.random(rows)
    cases = [
        Case(f"random {100 * share:g} %", between("dice", high=share), dice <= share)
        for share in (0.5, 0.1, 0.02, 0.005)
    ]
    for share in (0.5, 0.02):
        chosen = list(range(round(share * clusters)))
        cases.append(Case(f"clusters {100 * share:g} %", among("cluster", chosen), np.isin(of, chosen)))
    return Filtered(matrix, {"cluster": of.tolist(), "dice": dice.tolist()}, asked, cases)


def recall(found: list[list[str]], data: Filtered, case: Case) -> float:
    """Share of the ten nearest matches that were found, over all queries; ids are the numbers of rows."""
    scores = np.where(case.kept, data.queries @ data.matrix.T, -np.inf)
    right = np.argsort(-scores, axis=1)[:, : min(K, int(case.kept.sum()))]
    shares = [len(set(map(int, ids)) & set(best)) / len(best) for ids, best in zip(found, right.tolist(), strict=True)]
    return float(np.mean(shares))


def _unit(matrix: np.ndarray) -> np.ndarray:
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)
