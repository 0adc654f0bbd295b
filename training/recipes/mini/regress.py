"""Regression of images on their texts: the second projection of a `Blend` head, in closed form.

InfoNCE is content when the right text is nearer than the wrong ones; an image may then lie far from all words, and a
word that no batch held finds images by chance. Least squares bring images to where their words are. Alone they
tell near things apart less well; blended with the trained projection they help it, also for unseen things.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.embedder import Tower
from zoo.heads import Blend

from .augment import augment
from .images import ImageData
from .plans import Regression

_BATCH = 256


@torch.no_grad()
def solve_second(head: Blend, image: Tower, text: Tower, data: ImageData, plan: Regression) -> None:
    """Fills `head.second` from augmented views of the pairs' images and their own texts."""
    targets = torch.cat([text(data.text.collate([data.ids[row] for row in rows.tolist()])) for rows in _rows(data.own)])
    vectors, wanted, weights = [], [], []
    data.shrink(plan.size + plan.size // 8)
    sizes = torch.bincount(data.groups)[data.groups].float()
    for _ in range(plan.views):
        for rows in _rows(torch.arange(len(data))):
            views = augment(data.stored[rows], plan.size)
            vectors.append(image.pooler(image.encoder({"pixels": views})))
            wanted.append(targets[rows])
            # Rows of a group of n weigh n^-balance each: at 1 all groups count alike, at 0 all rows.
            weights.append(sizes[rows] ** -plan.balance)
    weight, bias = ridge_regression(torch.cat(vectors), torch.cat(wanted), torch.cat(weights), plan.ridge)
    head.second.project.weight.copy_(weight)
    head.second.project.bias.copy_(bias)


def _rows(values: Tensor) -> list[Tensor]:
    return list(values.split(_BATCH))


def ridge_regression(inputs: Tensor, targets: Tensor, weights: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Weight `(D, W)` and bias `(D,)` of the affine map with the least weighted squared error.

    Args:
        inputs: `(N, W)`. targets: `(N, D)`. weights: `(N,)`, scaled to a mean of one. ridge: added to the diagonal.
    """
    # A column of ones: its weight is the bias. In double, since normal equations square the condition number.
    ones = F.pad(inputs.double(), (0, 1), value=1.0)
    scaled = ones * (weights / weights.mean()).double()[:, None]
    matrix = ones.T @ scaled + ridge * torch.eye(ones.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(matrix, scaled.T @ targets.double()).float()  # (W + 1, D)
    return solution[:-1].T.contiguous(), solution[-1].contiguous()
