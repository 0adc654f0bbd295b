"""OWLv2: boxes of whatever looks like an object, in one pass, and texts against them (Minderer et al., 2023, arxiv:2306.09683)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import UnrecognisedCheckpointError
from zoo.inputs.regions import Box
from zoo.proposals.base import Proposal, Proposer, check_choice, kept
from zoo.proposals.opening import open_network

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

NAMES = ("Owlv2ForObjectDetection", "Owlv2Config", "Owlv2ImageProcessor")


class Objects(NamedTuple):
    """Objects of one image, best first.

    Attributes:
        boxes: float32 `(n, 4)`, left, top, right, bottom in pixels of the image. scores: `(n,)`, that there is an object, 0 to 1.
        vectors: float32 `(n, dim + 1)`, whose dot product with a vector of `Owl.queries` is OWLv2's own logit of the text.
    """

    boxes: "np.ndarray"
    scores: "np.ndarray"
    vectors: "np.ndarray"


class Owl(Proposer):
    """OWLv2's objects. A network's patch is a box each; those of one thing are made one, the surest.

    Args:
        source: a Hub repository, or a folder in transformers' layout (config.json, model.safetensors, an image processor's settings;
            a tokenizer for `queries`). revision: branch, tag or commit of a repository.
        most: of one image. overlap: part of two boxes' union above which they are of one thing. score: least of a proposal, 0 to 1.
        device: as of `zoo.load_model`.

    Raises:
        ArgumentError: numbers that make no sense. Else as `open_network`.
    """

    def __init__(
        self,
        source: str | Path = "google/owlv2-base-patch16-ensemble",
        *,
        most: int = 50,
        overlap: float = 0.7,
        score: float = 0.0,
        revision: str | None = None,
        device: "torch.device | str | None" = None,
    ) -> None:
        check_choice(most, overlap=overlap, score=score)
        self.most, self.overlap, self.score = most, float(overlap), float(score)
        self.opened = open_network(source, revision, device, NAMES, ("owlv2",))
        images, side = self.opened.images, self.opened.network.config.vision_config.image_size
        if not (images.do_resize and images.do_pad) or (images.size.height, images.size.width) != (side, side):
            raise UnrecognisedCheckpointError(
                f"{self.opened.folder}: OWLv2 reads an image filled up to a square and resized to {side} pixels; its image "
                f"processor says do_pad = {images.do_pad}, do_resize = {images.do_resize}, size = {dict(images.size)}"
            )

    def propose(self, pixels: "np.ndarray") -> Iterator[Proposal]:
        boxes, scores, _ = self.objects(pixels)
        for numbers, score in zip(boxes.tolist(), scores.tolist(), strict=True):
            yield Proposal(Box(*numbers), Box(*numbers), score)

    def objects(self, pixels: "np.ndarray") -> Objects:
        """Boxes, scores and vectors of one image, uint8 `(height, width, 3)`."""
        import numpy as np
        import torch

        network = self.opened.network
        with torch.inference_mode():
            read = self.opened.images(images=[pixels], input_data_format="channels_last", return_tensors="pt")
            grid, _ = network.image_embedder(read["pixel_values"].to(network.device))
            patches = grid.flatten(1, 2)
            middles, sides = network.box_predictor(patches, grid)[0].split(2, dim=-1)
            boxes = torch.cat([middles - sides / 2, middles + sides / 2], dim=-1).float().cpu().numpy()
            scores = network.objectness_predictor(patches)[0].sigmoid().float().cpu().numpy()
            vectors = self._vectors(patches)[0].float().cpu().numpy()
        height, width = pixels.shape[:2]
        # Relative to the square that the image was filled up to, below or on its right.
        boxes = np.clip(boxes * max(height, width), 0, np.array([width, height, width, height], np.float32))
        there = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] >= 1).all(1) & (scores >= self.score))
        best = there[kept(boxes[there], scores[there], self.overlap, self.most)]
        return Objects(boxes[best], scores[best], vectors[best])

    def _vectors(self, patches: "Tensor") -> "Tensor":
        """`(B, patches, dim + 1)`: a patch's logit of a text is (cosine + shift) * scale, with its own shift and scale: a dot product."""
        import torch

        head = self.opened.network.class_head
        vectors = head.dense0(patches)
        vectors = vectors / (torch.linalg.norm(vectors, dim=-1, keepdim=True) + 1e-6)
        shift, scale = head.logit_shift(patches), head.elu(head.logit_scale(patches)) + 1
        return torch.cat([vectors, shift], dim=-1) * scale

    def queries(self, texts: Sequence[str]) -> "np.ndarray":
        """Texts as float32 `(n, dim + 1)`; their dot products with `Objects.vectors` are logits, of which the sigmoid is a probability.

        OWLv2 was trained with names and short phrases, "a photo of a cat" or "cat"; what is over 16 tokens is cut off.

        Raises:
            MissingWeightsError: the folder has no tokenizer.
        """
        import torch

        from zoo.formats.settings import NOTHING
        from zoo.formats.tokenizer import read_tokenizer

        network = self.opened.network
        tokenizer = read_tokenizer(self.opened.folder, NOTHING, dual=True)
        most = network.config.text_config.max_position_embeddings
        batch = tokenizer(list(texts), padding="max_length", truncation=True, max_length=most, return_tensors="pt")
        with torch.inference_mode():
            ids, mask = (batch[key].to(network.device) for key in ("input_ids", "attention_mask"))
            vectors = network.owlv2.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
            vectors = vectors / (torch.linalg.norm(vectors, dim=-1, keepdim=True) + 1e-6)
            return torch.cat([vectors, torch.ones_like(vectors[:, :1])], dim=-1).float().cpu().numpy()

    def config(self) -> dict[str, Any]:
        facts = {"most": self.most, "overlap": self.overlap, "score": self.score}
        return {"kind": "owl", "weights": self.opened.digest, **facts}
