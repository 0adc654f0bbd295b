"""A 2-D map of a gallery: vectors → points → one image of thumbnails, and back from a click to an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from .gallery import shrink

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

SIZE = (1200, 720)  # pixels
MAX_ON_MAP = 500
SMALLEST_FOR_NEIGHBOURS = 12  # below this t-SNE and UMAP have no neighbourhoods to keep


@dataclass(frozen=True, eq=False)
class MapLayout:
    """Where the thumbnails are: `centres` `(n, 2)` in pixels of the map, `rows` their rows in the gallery."""

    centres: "np.ndarray"
    rows: "np.ndarray"
    side: int

    def nearest(self, x: float, y: float) -> int:
        """The gallery row of the thumbnail nearest to a pixel."""
        import numpy as np

        return int(self.rows[np.square(self.centres - (x, y)).sum(1).argmin()])

    def __deepcopy__(self, memo: object) -> "MapLayout":
        return self


def methods() -> list[str]:
    """The projections that this installation can compute; PCA always can."""
    extra = {"t-SNE": "sklearn", "UMAP": "umap"}
    return ["PCA", *(name for name, package in extra.items() if find_spec(package))]


def project(vectors: "np.ndarray", method: str = "PCA", seed: int = 0) -> tuple["np.ndarray", str]:
    """Points `(n, 2)` in 0..1 for vectors `(n, dim)`, and one sentence on how far to trust them.

    Raises:
        ValueError: the method is not one of `methods()`.
    """
    import numpy as np

    if method not in methods():
        raise ValueError(f"unknown projection {method!r}; this installation has {', '.join(methods())}")
    vectors = np.asarray(vectors, dtype=np.float64)
    too_few = method != "PCA" and len(vectors) < SMALLEST_FOR_NEIGHBOURS
    if method == "PCA" or too_few:
        points, kept = _pca(vectors)
        note = f"PCA: these two directions hold {kept:.0%} of the differences between the images."
        if too_few:
            note = f"{method} needs at least {SMALLEST_FOR_NEIGHBOURS} images, so this is PCA. " + note
        return _to_unit(points), note
    # scikit-learn refuses a perplexity that is not below the number of points; 15 is UMAP's own default.
    neighbours = min(15, len(vectors) // 3)
    if method == "t-SNE":
        from sklearn.manifold import TSNE

        points = TSNE(perplexity=neighbours, metric="cosine", init="random", random_state=seed).fit_transform(vectors)
    else:
        from umap import UMAP

        points = UMAP(n_neighbors=neighbours, metric="cosine", random_state=seed, n_jobs=1).fit_transform(vectors)
    note = f"{method}: neighbours on the map are neighbours in the model; distances across the map mean little."
    return _to_unit(np.asarray(points, dtype=np.float64)), note


def _pca(vectors: "np.ndarray") -> tuple["np.ndarray", float]:
    import numpy as np

    centred = vectors - vectors.mean(0)
    # X = U S Vᵀ: the rows of U S are the points on the principal axes, without forming the covariance.
    left, strength, _ = np.linalg.svd(centred, full_matrices=False)
    axes = min(2, len(strength))
    points = np.zeros((len(vectors), 2))
    points[:, :axes] = left[:, :axes] * strength[:axes]
    total = np.square(strength).sum()
    # Squared singular values are the variances along the axes, but for one factor.
    return points, float(np.square(strength[:axes]).sum() / total) if total > 0 else 1.0


def _to_unit(points: "np.ndarray") -> "np.ndarray":
    import numpy as np

    low, span = points.min(0), np.ptp(points, axis=0)
    return np.where(span > 0, (points - low) / np.where(span > 0, span, 1), 0.5)


def lay_out(points: "np.ndarray", size: tuple[int, int] = SIZE) -> tuple["np.ndarray", int]:
    """Pixel centres `(n, 2)` for points in 0..1, moved apart where thumbnails would hide each other, and their side."""
    import numpy as np

    width, height = size
    count = len(points)
    # Thumbnails together cover about two fifths of the map, so that neighbours stay neighbours when moved apart.
    side = int(np.clip((0.38 * width * height / count) ** 0.5, 18, 110))
    margin = side / 2 + 4
    room = np.array([width, height]) - 2 * margin
    # Pixels count from the top, points from the bottom: y turns round.
    centres = margin + points * [1, -1] * room + [0, room[1]]
    # A tiny fixed push breaks ties between equal points.
    centres = centres + np.random.default_rng(0).uniform(-0.5, 0.5, centres.shape)
    reach = side + 4
    for _ in range(150):
        x, y = centres.T.astype(np.float32)
        hidden = (np.abs(x[:, None] - x) < reach) & (np.abs(y[:, None] - y) < reach)
        first, second = np.nonzero(np.triu(hidden, 1))
        if not len(first):
            break
        gap = centres[first] - centres[second]
        overlap = reach - np.abs(gap)
        # Push along the axis with the smaller overlap: the shortest way out.
        shorter = overlap[:, :1] < overlap[:, 1:]
        # 0.3 of the overlap each, less than the half that would part two: several neighbours push at once.
        push = 0.3 * np.sign(gap) * overlap * np.concatenate([shorter, ~shorter], 1)
        # add.at, not +=: a thumbnail that overlaps several comes several times in `first`.
        np.add.at(centres, first, push)
        np.add.at(centres, second, -push)
        centres = np.clip(centres, margin, margin + room)
    return centres, side


def draw(images: Sequence[Path], centres: "np.ndarray", side: int, size: tuple[int, int] = SIZE) -> "Image.Image":
    """The map: each image, cut square with round corners, at its centre; the background is transparent.

    Raises:
        OSError, InputError: an image is no longer there or was damaged.
    """
    from PIL import Image, ImageDraw, ImageOps

    scale = 4  # corners are drawn large and scaled down, because PIL draws no smooth edges
    corner = Image.new("L", (side * scale, side * scale), 0)
    ImageDraw.Draw(corner).rounded_rectangle((0, 0, side * scale - 1, side * scale - 1), side * scale // 8, fill=255)
    corner = corner.resize((side, side), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", size, (0, 0, 0, 0))
    for path, (x, y) in zip(images, centres, strict=True):
        square = ImageOps.fit(shrink(path, 3 * side), (side, side))
        canvas.paste(square, (round(x - side / 2), round(y - side / 2)), corner)
    return canvas
