"""Alignment: every query lies where its positive lies, not only nearer to it than to the others."""

from torch import Tensor


def alignment(queries: Tensor, targets: Tensor) -> Tensor:
    """Mean of one minus the cosine of query i and target i (the first term of Wang and Isola, 2020).

    InfoNCE is content when the right text is nearer than the wrong ones; a picture may then lie far from all words,
    and a word that no batch held finds it by chance. Beside a text tower that stands still, this term brings pictures
    to where their words are.

    Args:
        queries: unit vectors `(B, D)`. targets: unit vectors `(B or more, D)`; later rows are not looked at.
    """
    return 1 - (queries * targets[: len(queries)]).sum(1).mean()
