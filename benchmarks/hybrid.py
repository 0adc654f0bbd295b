"""Vectors, words and both: how often a search finds the right text, with 95 % intervals over the queries.

Three sets of the data pack `text`: LIMIT's small corpus ("Who likes Joshua Trees?", 46 people and what each likes; Weller et al.,
2025), sentences and the paragraphs out of which they were taken (papers of JOSE), and names and keywords of emoji. Of LIMIT every
second query is val. On val it was chosen that terms of more than half of the texts are not asked for; the constant of the fusion is the
paper's. `--test` prints the same of test.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.common import machine, table

MODELS = ("zoo-mini", "all-minilm-l6-v2")
MEASURES = ("recall@1", "recall@10", "nDCG@10")
RRF = (60, 10)


class Searched(NamedTuple):
    """Queries, texts, and of each query the places of those that answer it."""

    queries: list[str]
    texts: list[str]
    right: list[set[int]]


def main(test: bool = False) -> None:
    """Prints a table for each set."""
    import zoo

    print(f"\n## Hybrid search, {'test' if test else 'val'}\n\n{machine()}")
    models = {name: zoo.load_model(name) for name in MODELS}
    for title, data in _sets("test" if test else "val"):
        rows = [row for name, model in models.items() for row in _rows(name, model, data)]
        head = ["", *MEASURES, "nDCG@10 above the vectors"]
        table(f"{title}: {len(data.queries)} queries, {len(data.texts)} texts", head, rows)


def _sets(split: str) -> list[tuple[str, Searched]]:
    import pyarrow.parquet as pq

    from zoo.tables.pack_files import packs_folder

    folder = packs_folder() / "text"
    passages = pq.read_table(folder / f"passages-{split}.parquet").to_pylist()
    found = [("LIMIT, small", _limit(folder / "limit-small", split))]
    found.append(("sentences of papers", _pairs([(row["query"], row["passage"]) for row in passages])))
    names = pq.read_table(folder / "multilingual-names.parquet", filters=[("split", "=", split)]).to_pylist()
    found.append(("names of emoji", _pairs([(row["name_en"], ", ".join(row["keywords_en"])) for row in names])))
    return found


def _pairs(pairs: Sequence[tuple[str, str]]) -> Searched:
    """One text answers a query; equal texts are one."""
    texts = list(dict.fromkeys(text for _, text in pairs))
    right: dict[str, set[int]] = {}
    for query, text in pairs:
        right.setdefault(query, set()).add(texts.index(text))
    return Searched(list(right), texts, list(right.values()))


def _limit(folder: Path, split: str) -> Searched:
    texts, queries, links = (
        [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("corpus", "queries", "qrels")
    )
    place = {row["_id"]: i for i, row in enumerate(texts)}
    right: dict[str, set[int]] = {}
    for row in links:
        right.setdefault(row["query-id"], set()).add(place[row["corpus-id"]])
    mine = queries[split == "test" :: 2]
    return Searched([row["text"] for row in mine], [row["text"] for row in texts], [right[row["_id"]] for row in mine])


def _rows(name: str, model: object, data: Searched) -> list[list[object]]:
    from zoo.evaluation.metrics import bootstrap, bootstrap_difference
    from zoo.index import ExactIndex, HybridIndex, reciprocal_rank_fusion

    with tempfile.TemporaryDirectory() as folder:
        index = ExactIndex.create(folder, fingerprint=model.fingerprint(), dim=model.spec.dim, columns=_text_column())
        ids = [str(i) for i in range(len(data.texts))]
        index.upsert(ids, model.encode_document(data.texts, progress=False), {"text": data.texts})
        hybrid, found = HybridIndex(index), {}
        for query, vector in zip(data.queries, model.encode_query(data.queries, progress=False), strict=True):
            dense = [hit.id for hit in index.search(vector, 100)]
            words = hybrid.bm25.search(index, query, 100)
            both = {
                f"both, rank + {k}": [one.id for one in reciprocal_rank_fusion({"dense": dense, "bm25": words}, k=k)]
                for k in RRF
            }
            assert both["both, rank + 60"][:100] == [hit.id for hit in hybrid.search(query, vector, 100)]
            for way, ranked in {"vectors": dense, "BM25": words, **both}.items():
                found.setdefault(way, []).append(ranked)
    figures = {
        way: np.array([_figures(one, right) for one, right in zip(ranked, data.right, strict=True)])
        for way, ranked in found.items()
    }
    rows = []
    for way, values in figures.items():
        cells = [f"{one.value:.3f} ({one.low:.3f}–{one.high:.3f})" for one in bootstrap(values)]
        gain = bootstrap_difference(figures["vectors"][:, 2:], values[:, 2:])[0]
        rows.append(
            [
                f"{name}: {way}",
                *cells,
                "" if way == "vectors" else f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})",
            ]
        )
    return rows


def _text_column() -> object:
    import pyarrow as pa

    return pa.schema([("text", pa.string())])


def _figures(ranked: Sequence[str], right: set[int]) -> tuple[float, float, float]:
    """Recall at 1 (whether the first is right) and at 10, and nDCG at 10."""
    hits = np.array([int(one) in right for one in ranked[:10]] + [False] * 10)[:10]
    discount = 1 / np.log2(np.arange(10) + 2)
    return float(hits[0]), hits.sum() / len(right), float(hits @ discount / discount[: len(right)].sum())


if __name__ == "__main__":
    main()
