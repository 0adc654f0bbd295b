"""Filters that keep recall: recall@10 and time by selectivity, random and correlated with the vectors, beside filtered graphs.

The collapse that is known of filtered approximate search (arXiv 2507.21989): an HNSW graph or inverted lists that are asked for few of
their rows, or for rows away from the query, find a part of them. `zoo LanceDB, index alone` is the zoo's own approximate index without
its planner.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.common import machine, table
from tests.index.filter_cases import COLUMNS, Case, Filtered, K, made, recall

ROWS, DIM, QUERIES = 100_000, 64, 100
Search = Callable[[Case], list[list[str]]]


def main() -> None:
    """Prints a table: a row for each bucket."""
    data = made(ROWS, DIM, QUERIES, clusters=500)
    print(f"\n## Filters, {ROWS:,} x {DIM}, {QUERIES} queries\n\n{machine()}")
    with tempfile.TemporaryDirectory() as folder:
        exact, lance = _zoo(data, Path(folder))
        candidates = {**_faiss(data), **exact, **lance}
        rows: list[list[object]] = []
        for case in data.cases:
            cells: list[object] = [case.name, f"{int(case.kept.sum()):,}"]
            for search in candidates.values():
                search(case)  # counted and read once
                start = time.perf_counter()
                found = search(case)
                spent = (time.perf_counter() - start) * 1000 / QUERIES
                cells.append(f"{recall(found, data, case):.3f} ({spent:.2f} ms)")
            rows.append(cells)
    table("recall@10 (per query, all in one call)", ["filter", "matches", *candidates], rows)


def _faiss(data: Filtered) -> dict[str, Search]:
    try:
        import faiss
    except ImportError:
        return {}
    graph = faiss.IndexHNSWFlat(DIM, 16, faiss.METRIC_INNER_PRODUCT)
    graph.add(data.matrix)
    lists = faiss.IndexIVFFlat(faiss.IndexFlatIP(DIM), DIM, 316, faiss.METRIC_INNER_PRODUCT)
    lists.train(data.matrix)
    lists.add(data.matrix)

    def of(index: object, parameters: Callable[..., object]) -> Search:
        def search(case: Case) -> list[list[str]]:
            chosen = faiss.IDSelectorBatch(np.flatnonzero(case.kept))
            _, found = index.search(data.queries, K, params=parameters(sel=chosen))  # type: ignore[attr-defined]
            return [[str(one) for one in row if one >= 0] for row in found.tolist()]

        return search

    def after(case: Case) -> list[list[str]]:
        _, found = graph.search(data.queries, 100)
        return [[str(one) for one in row if one >= 0 and case.kept[one]][:K] for row in found.tolist()]

    return {
        "faiss HNSW, selector": of(graph, lambda sel: faiss.SearchParametersHNSW(sel=sel, efSearch=64)),
        "faiss IVF, selector": of(lists, lambda sel: faiss.SearchParametersIVF(sel=sel, nprobe=16)),
        "faiss HNSW, filtered after": after,
    }


def _zoo(data: Filtered, folder: Path) -> tuple[dict[str, Search], dict[str, Search]]:
    from zoo.index import ExactIndex, LanceIndex

    def filled(kind: type, name: str) -> object:
        index = kind.create(folder / name, fingerprint={"model": "none", "dim": DIM}, dim=DIM, columns=COLUMNS)
        for start in range(0, ROWS, 16384):
            some = slice(start, start + 16384)
            columns = {column: values[some] for column, values in data.columns.items()}
            index.upsert([str(row) for row in range(ROWS)[some]], data.matrix[some], columns)
        return index

    exact = filled(ExactIndex, "exact")
    found: dict[str, Search] = {"zoo exact": lambda case: _ids(exact.search(data.queries, K, where=case.where))}
    try:
        from lancedb.index import IvfSq
    except ImportError:
        return found, {}
    lance = filled(LanceIndex, "lance")
    # As many partitions as the index of millions of rows has: what is known of such is seen on few.
    lance._table.create_index("vector", config=IvfSq(distance_type="cosine", num_partitions=316))

    def alone(case: Case) -> list[list[str]]:
        plan = replace(lance._plan(case.where, exact=False), exact=False, probes=20)
        return _ids(lance._nearest(data.queries, K, case.where, plan))

    planned: Search = lambda case: _ids(lance.search(data.queries, K, where=case.where))  # noqa: E731
    return found, {"zoo LanceDB": planned, "zoo LanceDB, index alone": alone}


def _ids(found: list) -> list[list[str]]:
    return [[hit.id for hit in hits] for hits in found]
