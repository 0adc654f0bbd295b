"""SAM 2.1: a mask of whatever has an outline, by asking at every place of a grid (Ravi et al., 2024, arxiv:2408.00714).

The steps are those of transformers' pipeline "mask-generation" for a whole image, in less memory: one mask at a time has the image's
size. The grid covers the whole image; the pipeline's covers, in transformers 5.23, a part of one that is no square.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ArgumentError, UnrecognisedCheckpointError
from zoo.inputs.regions import Box, Mask
from zoo.proposals.base import Proposal, Proposer, check_choice, kept
from zoo.proposals.opening import open_network

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

NAMES = ("Sam2Model", "Sam2Config", "Sam2ImageProcessor")
_AT_ONCE = 64  # places of the grid in one pass of the mask decoder
_STEADY = 1.0  # how far the threshold of a mask is moved, in logits, to see whether it stays what it is


class Sam2(Proposer):
    """SAM 2's masks. Each place of the grid is asked for three masks, of a part, a thing, and what it belongs to.

    Args:
        source: a Hub repository, or a folder in transformers' layout. revision: branch, tag or commit of a repository.
        side: the grid has side × side places. most: masks of one image.
        score: least IoU with a true outline that the network predicts for a mask, 0 to 1.
        steady: least IoU of a mask with itself at a lower threshold. overlap: of two masks' boxes, above which they are one thing's.
        device: as of `zoo.load_model`.

    Raises:
        ArgumentError: numbers that make no sense. Else as `open_network`.
    """

    def __init__(
        self,
        source: str | Path = "facebook/sam2.1-hiera-base-plus",
        *,
        side: int = 32,
        most: int = 100,
        score: float = 0.88,
        steady: float = 0.95,
        overlap: float = 0.7,
        revision: str | None = None,
        device: "torch.device | str | None" = None,
    ) -> None:
        check_choice(most, score=score, steady=steady, overlap=overlap)
        if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= 128:
            raise ArgumentError(f"side is how many places a row of the grid has, 1 to 128, not {side!r}")
        self.side, self.most = side, most
        self.score, self.steady, self.overlap = float(score), float(steady), float(overlap)
        self.opened = open_network(source, revision, device, NAMES, ("sam2", "sam2_video"))
        images, square = self.opened.images, self.opened.network.prompt_encoder.input_image_size
        if not images.do_resize or (images.size.height, images.size.width) != (square, square):
            raise UnrecognisedCheckpointError(
                f"{self.opened.folder}: this SAM 2 reads images of {square} x {square} pixels; its image processor says do_resize = "
                f"{images.do_resize}, size = {dict(images.size)}"
            )

    def propose(self, pixels: "np.ndarray") -> Iterator[Proposal]:
        import numpy as np
        import torch

        size = pixels.shape[:2]
        found: list[tuple[Tensor, float, tuple[int, int, int, int]]] = []
        with torch.inference_mode():
            for logits, score in self._asked(pixels):
                whole = _grown(logits, size)
                if (outline := _around(whole > 0)) and _steadiness(whole) > self.steady:
                    found.append((logits, score, outline))
        boxes = np.array([outline for _, _, outline in found], np.float64).reshape(-1, 4)
        for place in kept(boxes, np.array([score for _, score, _ in found]), self.overlap, self.most):
            logits, score, (left, top, right, bottom) = found[place]
            mask = (_grown(logits, size) > 0).cpu().numpy()
            yield Proposal(Mask(mask), Box(left, top, right + 1, bottom + 1), score)

    def _asked(self, pixels: "np.ndarray") -> "Iterator[tuple[Tensor, float]]":
        """Masks that the network is sure of as logits `(h, w)`, smaller than the image, and how sure it is."""
        import torch

        network = self.opened.network
        read = self.opened.images(images=[pixels], input_data_format="channels_last", return_tensors="pt")
        seen = network.get_image_embeddings(read["pixel_values"].to(network.device, network.dtype))
        line = (
            (torch.arange(self.side, dtype=torch.float64) + 0.5) / self.side * network.prompt_encoder.input_image_size
        )
        grid = torch.cartesian_prod(line, line).flip(1).to(network.device, network.dtype)  # rows first; x, y
        for points in grid.split(_AT_ONCE):
            out = network(
                image_embeddings=seen,
                input_points=points[None, :, None],
                input_labels=torch.ones(1, len(points), 1, dtype=torch.int64, device=network.device),
            )
            masks, scores = out.pred_masks[0].flatten(0, 1).float(), out.iou_scores[0].flatten().float()
            for place in (scores > self.score).nonzero()[:, 0].tolist():
                yield masks[place].clone(), scores[place].item()

    def config(self) -> dict[str, Any]:
        facts = {name: getattr(self, name) for name in ("side", "most", "score", "steady", "overlap")}
        return {"kind": "sam2", "weights": self.opened.digest, **facts}


def _grown(logits: "Tensor", size: tuple[int, int]) -> "Tensor":
    """Logits `(h, w)` at the image's size `(height, width)`."""
    from torch.nn import functional as F

    return F.interpolate(logits[None, None], size, mode="bilinear", align_corners=False)[0, 0]


def _steadiness(logits: "Tensor") -> float:
    """IoU of the masks that a higher and a lower threshold would make; one lies within the other."""
    return ((logits > _STEADY).sum() / (logits > -_STEADY).sum()).item()


def _around(mask: "Tensor") -> tuple[int, int, int, int] | None:
    """The first and last column and row of a mask: left, top, right, bottom; None where it is empty."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    if not len(rows):
        return None
    return columns[0].item(), rows[0].item(), columns[-1].item(), rows[-1].item()
