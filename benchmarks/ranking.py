"""How fast a large pool is ranked, exactly: the share of the machine's matrix product that is left, and the memory beside the vectors.

`python -m benchmarks.ranking [CANDIDATES] [DIM]`: by default a million candidates of 512 dimensions, 1,024 queries, in the memory of
2.2 GB. The product is measured between the rankings, so that a busy moment hurts both alike.
"""

import sys
import time

import numpy as np
import torch
from torch.nn.functional import normalize

from benchmarks.common import machine, table
from zoo.evaluation.ranking import QUERIES, TILE, Links, places_of

ROUNDS = 3
NOISE = {"right ones come first": 0.6, "right ones lie in the middle": 6.0, "right ones lie anywhere": 40.0}


def product(queries: torch.Tensor, candidates: torch.Tensor) -> float:
    """Operations per second of the bare matrix product, block by block, over a tenth of the candidates."""
    out = torch.empty(len(queries), TILE)
    part = candidates[: len(candidates) // 10 // TILE * TILE]
    start = time.perf_counter()
    for first in range(0, len(part), TILE):
        torch.mm(queries, part[first : first + TILE].T, out=out)
    return 2 * queries.numel() * len(part) / (time.perf_counter() - start)


def resident(kind: str) -> float:
    """Memory of this process in MB: "VmRSS" now, "VmHWM" at most."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(kind)) / 1024


def main(count: int = 1_000_000, dim: int = 512) -> None:
    """Prints a row for each kind of model, from one that finds everything to one that finds nothing."""
    generator = torch.Generator().manual_seed(0)
    candidates = torch.empty(count, dim)
    for start in range(0, count, TILE):  # in place: a copy would be most of the memory
        part = candidates[start : start + TILE]
        part.copy_(normalize(torch.randn(part.shape, generator=generator)))
    gold = torch.randint(count, (QUERIES,), generator=generator)
    right = Links.of(np.arange(QUERIES), gold.numpy())
    before, rows = resident("VmRSS"), []
    for name, noise in NOISE.items():
        drawn = normalize(torch.randn(QUERIES, dim, generator=generator))
        queries = normalize(candidates[gold] + noise * drawn)
        product(queries, candidates)
        shares, speeds = [], []
        for _ in range(ROUNDS):
            peaks = [product(queries, candidates)]
            start = time.perf_counter()
            places = places_of(queries, candidates, right)
            speeds.append(2 * queries.numel() * count / (time.perf_counter() - start))
            peaks.append(product(queries, candidates))
            shares.append(speeds[-1] / np.mean(peaks))
        rows.append([name, int(np.median(places.first)), np.median(speeds) / 1e9, float(np.median(shares))])
    head = ["", "median place", "Gflop/s", "share of the product"]
    table(f"{QUERIES:,} queries over {count:,} candidates of {dim} dimensions: {machine()}", head, rows)
    print(f"\nmemory beside the vectors: {resident('VmHWM') - before:,.0f} MB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
