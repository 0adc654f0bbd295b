"""Agreement of two models: CKA against the n x n form of the paper, neighbours against scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from zoo.errors import ArgumentError
from zoo.vectors import agreement


def _vectors(n: int, dim: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, dim))).float()


def test_cka_is_the_alignment_of_centred_gram_matrices():
    one, other = _vectors(40, 6, 0), _vectors(40, 9, 1)
    other[:, :3] += one[:, :3] * 2
    centre = np.eye(40) - 1 / 40
    first, second = (centre @ (v.double().numpy() @ v.double().numpy().T) @ centre for v in (one, other))
    # HSIC of the paper; its constants cancel.
    expected = np.trace(first @ second) / np.sqrt(np.trace(first @ first) * np.trace(second @ second))
    assert agreement.linear_cka(one, other) == pytest.approx(expected, abs=1e-9)


def test_cka_does_not_see_rotation_scale_and_shift():
    one = _vectors(30, 5, 2)
    rotation = torch.linalg.qr(_vectors(5, 5, 3).double()).Q.float()
    assert agreement.linear_cka(one, 3 * one @ rotation + 7) == pytest.approx(1, abs=1e-5)
    assert agreement.linear_cka(one, _vectors(30, 5, 4)) < 0.5


def test_neighbours_are_those_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(agreement, "_ROWS", 7)  # several blocks
    one, other = _vectors(50, 8, 5), _vectors(50, 4, 6)
    found = []
    for vectors in (one, other):
        nearest = NearestNeighbors(n_neighbors=6, metric="cosine").fit(vectors.numpy())
        found.append([set(row[1:]) for row in nearest.kneighbors(vectors.numpy(), return_distance=False)])
    expected = np.mean([len(mine & theirs) / 5 for mine, theirs in zip(*found, strict=True)])
    assert agreement.neighbour_overlap(one, other, k=5) == pytest.approx(expected)
    assert agreement.neighbour_overlap(one, one * 2, k=5) == 1


def test_what_cannot_be_compared_is_named():
    one = _vectors(10, 3, 7)
    for wrong in (one[:9], one[0], one[None]):
        with pytest.raises(ArgumentError, match="the same two or more items"):
            agreement.linear_cka(one, wrong)
    with pytest.raises(ArgumentError, match="all vectors of a side are the same"):
        agreement.linear_cka(one, torch.ones(10, 3))
    for k in (0, 10):
        with pytest.raises(ArgumentError, match="among the 9 other items"):
            agreement.neighbour_overlap(one, one, k=k)
