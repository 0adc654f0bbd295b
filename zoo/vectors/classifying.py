"""Zero-shot classification: which of some labels each vector is nearest to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.arguments import checked, texts, whole
from zoo.arguments import model as a_model
from zoo.errors import ArgumentError
from zoo.index import check_model
from zoo.vectors.opening import Vectors

if TYPE_CHECKING:
    import numpy as np

    from zoo.embedder import Embedder

PLACE = "{}"  # of the label in a prompt
# What similarities are multiplied by before the softmax where the model does not say its own: CLIP's, at its upper bound.
SCALE = 100.0


@dataclass(frozen=True)
class Classified:
    """The best labels of each vector, best first.

    Attributes:
        labels: all of them. best: positions among them `(n, top)`.
        scores: similarity to the label `(n, top)`. shares: softmax over all labels `(n, top)`, 0 to 1.
    """

    labels: tuple[str, ...]
    best: "np.ndarray"
    scores: "np.ndarray"
    shares: "np.ndarray"

    def counts(self) -> dict[str, int]:
        """How many vectors each label is the best of, most first."""
        import numpy as np

        counted = np.bincount(self.best[:, 0], minlength=len(self.labels)) if len(self.best) else [0] * len(self.labels)
        pairs = sorted(zip(self.labels, map(int, counted), strict=True), key=lambda pair: -pair[1])
        return dict(pairs)


def check_labels(labels: Sequence[str], prompts: Sequence[str] = ()) -> tuple[str, ...]:
    """The labels without spaces around them; raises ArgumentError, before any model is loaded."""
    clean = tuple(label.strip() for label in labels)
    for number, label in enumerate(clean, start=1):
        if not label:
            raise ArgumentError(f"label {number} of {len(clean)} is empty; leave it out")
        if (first := clean.index(label) + 1) < number:
            raise ArgumentError(f"label {label!r} is given twice, as number {first} and {number}; leave one out")
    if len(clean) < 2:
        told = f"{clean[0]!r} alone" if clean else "no label"
        raise ArgumentError(f'{told} tells nothing apart; give two or more, such as "rose,tulip,something else"')
    for prompt in prompts:
        if prompt.count(PLACE) != 1:
            raise ArgumentError(
                f"prompt {prompt!r} has no one place for the label; write it as {PLACE}: 'a photo of a {{}}'"
            )
    return clean


@checked(model=a_model, labels=texts, prompts=texts)
def label_vectors(
    model: "Embedder", labels: Sequence[str], prompts: Sequence[str] = (), dim: int | None = None
) -> "np.ndarray":
    """Labels as vectors `(labels, dim)`: of several prompts the mean of the vectors, as in CLIP, section 3.1.4.

    Args:
        prompts: such as "a photo of a {}"; without one the label alone. Either way what stands there is a query, so that
            the model's own prompt for queries goes before it.

    Raises:
        ArgumentError: see `check_labels`; also for a label of which the model's vocabulary knows nothing.
    """
    import numpy as np

    clean = check_labels(labels, prompts)
    if "text" not in model.spec.modalities:
        reads = ", ".join(sorted(model.spec.modalities))
        raise ArgumentError(
            f"{model.spec.name} reads {reads} and no labels; take a model that reads text too (zoo list)"
        )
    unread = [label for label, share in zip(clean, model.unknown_share(clean), strict=True) if share >= 1]
    if unread:
        raise ArgumentError(
            f"{model.spec.name} cannot read {', '.join(map(repr, unread))}: its vocabulary knows nothing of it; write it in "
            f"another language or word (it reads {model.spec.language_names or 'text'})"
        )
    asked = [prompt.replace(PLACE, label) for label in clean for prompt in prompts or (PLACE,)]
    vectors = model.encode_query(asked, dim=dim, progress=False).numpy()
    means = vectors.reshape(len(clean), -1, vectors.shape[1]).mean(1)
    if model.spec.similarity == "dot":
        return means
    return means / np.linalg.norm(means, axis=1, keepdims=True)


@checked(model=a_model, labels=texts, prompts=texts, top=whole())
def classify(
    vectors: Vectors, model: "Embedder", labels: Sequence[str], *, prompts: Sequence[str] = (), top: int = 1
) -> Classified:
    """The `top` labels of each vector.

    Args:
        model: the one that made the vectors. prompts: as in `label_vectors`.

    Raises:
        ArgumentError: see `label_vectors`. FingerprintMismatchError: another model made the vectors.
    """
    import numpy as np
    import torch

    check_model(model, vectors.folder)
    kinds = label_vectors(model, labels, prompts, vectors.dim)
    top = min(top, len(kinds))
    scale = math.exp(model.logit_scale.log) if model.logit_scale else SCALE
    best, scores, shares = (
        [np.empty((0, top), np.int64)],
        [np.empty((0, top), np.float32)],
        [np.empty((0, top), np.float32)],
    )
    for start, stop in vectors.blocks():
        alike = torch.from_numpy(vectors.floats(start, stop, norms=model.spec.similarity == "dot") @ kinds.T)
        # Stable: of equal labels the one that was named first.
        order = alike.argsort(dim=1, descending=True, stable=True)[:, :top]
        best.append(order.numpy())
        scores.append(alike.gather(1, order).numpy())
        shares.append((alike * scale).softmax(1).gather(1, order).numpy())
    return Classified(check_labels(labels), *(np.concatenate(one) for one in (best, scores, shares)))
