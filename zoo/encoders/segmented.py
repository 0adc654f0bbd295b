"""SegmentedSequence: a sequence that begins with what SAM sees of the image where the user points (VIRTUE, arxiv:2510.00523)."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.encoders.base import Batch
from zoo.encoders.segmenter import FILLER, Segmenter
from zoo.encoders.sequence import SequenceEncoder
from zoo.encoders.sequence.encoder import Sequenced, facts_of
from zoo.encoders.sequence.media import Medium
from zoo.errors import UnrecognisedCheckpointError, UnsupportedModalityError
from zoo.inputs.item import Item, Tokens, as_item
from zoo.inputs.regions import Box, Mask, Point, Polygon, Region, mask_of, resolved
from zoo.sequences import SequenceFormat
from zoo.spec import ModelSpec

INSIDE, LEFT_TOP, RIGHT_BOTTOM = 1, 2, 3  # SAM's labels of points
MOST_GRID = 64
MOST_INSIDE = 3  # of a mask, points in a row and in a column
_MOST_LOOKED_AT = 2**18  # pixels of such a part
# The authors' (virtue-example.py; SCaR's rows say the second), where neither the item nor the prompt says anything.
ASKED = {
    "point": "Find the caption that best describes the segmented object, considering both local details and global context in the "
    "given image.",
    "bbox": "Find the caption that best describes the object in the bounding box, considering both local details and global context "
    "in the given image.",
}


class SegmentedSequence(SequenceEncoder):
    """A `SequenceEncoder` of texts, images and regions: an item with an image begins with a `Segmenter`'s tokens, at position 0.

    The regions of an item are one prompt of SAM. Without any a grid of points is, as in the authors' code. A mask or polygon is
    its box and up to nine points inside, since VIRTUE was never trained with SAM's dense prompts. Texts alone are read without SAM.
    Where a batch of the authors' code mixes both, its texts are pooled at filling; here a vector depends on its item alone.

    Args:
        segmenter: `Segmenter`'s configuration, or one that is loaded. grid: points in a row of the prompt where no region is given.
        config, format, media, max_tokens, assets, backbone, processor: as `SequenceEncoder`.

    Raises:
        UnrecognisedCheckpointError: a grid that none is trained with. Else as `SequenceEncoder` and `Segmenter`.
    """

    def __init__(
        self,
        config: dict[str, Any],
        format: SequenceFormat | dict[str, Any],
        media: dict[str, dict[str, Any]],
        max_tokens: int,
        segmenter: dict[str, Any] | Segmenter,
        grid: int = 3,
        assets: Path | None = None,
        backbone: nn.Module | None = None,
        processor: Any = None,
    ) -> None:
        super().__init__(config, format, media, max_tokens, assets, backbone, processor)
        self.segmenter = segmenter if isinstance(segmenter, Segmenter) else Segmenter(segmenter, self.width)
        if not 1 <= grid <= MOST_GRID:
            raise UnrecognisedCheckpointError(f"a grid has 1 to {MOST_GRID} points a side, not {grid}")
        self.grid = grid
        self.modalities = self.modalities | {"regions"}

    # ----------------------------------------------------------------------------------------------------- reading

    def prepare_item(self, item: Item) -> Sequenced:
        """One sequence and its prompt of points.

        Raises:
            UnsupportedModalityError: several images. InvalidRegionError: a region that is not of the image. Else as `SequenceEncoder`.
        """
        parts = [as_item(part) for part in item.parts] or [item]
        images = [part for part in parts if part.image is not None]
        if len(images) > 1:
            raise UnsupportedModalityError(
                f"the item has {len(images)} images, and this model points at one; encode them apart", what="image"
            )
        if not images:
            return super().prepare_item(item)
        (part,) = images
        prompt = grid_of(self.grid, self.segmenter.side)
        if len(part.regions):
            from zoo.inputs.image import load_pixels

            pixels = load_pixels(part.image)
            height, width = pixels.shape[:2]
            regions = resolved(part.regions, height, width)
            prompt = prompt_of(regions, pixels)
            if self.format.box_frame == "scaled":
                prompt = [
                    (x * self.segmenter.side / width, y * self.segmenter.side / height, kind) for x, y, kind in prompt
                ]
            pointed = replace(part, image=pixels, regions=regions)
            item = pointed if part is item else replace(item, parts=[pointed if p is part else p for p in parts])
        read = super().prepare_item(item)
        inputs = {
            "points": torch.tensor([place[:2] for place in prompt]),
            "labels": torch.tensor([p[2] for p in prompt]),
        }
        return read._replace(media=(*read.media, Medium("regions", b"", inputs, "", 0)))

    def _content(self, item: Item) -> list[tuple[str, Any]]:
        content = [(kind, value) for kind, value in super()._content(item) if kind != "regions"]
        regions = [region for part in (item.parts or [item]) for region in as_item(part).regions]
        if not regions:
            return content
        asked = bool(item.instruction) or any(kind == "text" and value.strip() for kind, value in content)
        return [*content, ("regions", words_of(regions, asked, self.format.box_frame))]

    def length(self, read: Sequenced) -> int:
        return super().length(read) + (self.segmenter.tokens if read.media else 0)

    def collate(self, reads: Sequence[Sequenced], side: str = "right") -> Batch:
        """As of a `SequenceEncoder`, and which rows have an image `(batch,)`, with the points of those `(rows, most, 2)`."""
        batch = super().collate(reads, side)
        if prompts := [medium.inputs for read in reads for medium in read.media if medium.kind == "regions"]:
            batch["pointed"] = torch.tensor([bool(read.media) for read in reads])
            batch["points"] = nn.utils.rnn.pad_sequence([prompt["points"] for prompt in prompts], batch_first=True)
            labels = [prompt["labels"] for prompt in prompts]
            batch["labels"] = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=FILLER)
        return batch

    # ----------------------------------------------------------------------------------------------------- forward

    def forward(self, batch: Batch) -> Tokens:
        if "pointed" not in batch:
            return super().forward(batch)
        ids, mask, positions, pointed = batch["ids"], batch["mask"], batch["positions"], batch["pointed"]
        self.backbone.config.get_text_config().is_causal = self.format.attention == "causal"
        states = self.backbone.get_input_embeddings()(ids)
        seen = torch.cat(list(self._features(batch)["image"].pooler_output)).to(states.dtype)
        states = states.masked_scatter((ids == self.readers["image"].token_id)[..., None], seen)
        count = self.segmenter.tokens
        segments = states.new_zeros(len(ids), count, self.width)
        segments[pointed] = self._segments(batch).to(states.dtype)
        out = self.backbone.language_model(
            inputs_embeds=torch.cat([segments, states], 1),
            attention_mask=torch.cat([pointed[:, None].expand(-1, count), mask], 1).long(),
            # SAM's tokens all stand at position 0, as in VIRTUE's code, so the text's positions are those of
            # the language model alone.
            position_ids=torch.cat([positions.new_zeros(*positions.shape[:-1], count), positions], -1),
            use_cache=False,
        )
        pooled = mask & batch["pooled"].bool() if "pooled" in batch else mask
        # The segmenter's tokens are read, never pooled.
        return Tokens(out.last_hidden_state[:, count:], pooled)

    def _segments(self, batch: Batch) -> Tensor:
        """The segmenter's tokens `(rows with an image, tokens, width)`."""
        pixels = batch["image.pixel_values"], batch["image.image_grid_thw"].tolist()
        images = self.family.unpatched(*pixels, self.backbone.config.vision_config)
        return self.segmenter(images, batch["image_order"], batch["points"], batch["labels"])

    # ------------------------------------------------------------------------------------------------------ saving

    def config(self) -> dict[str, Any]:
        return {**super().config(), "segmenter": self.segmenter.config(), "grid": self.grid}

    def preprocessing(self) -> dict[str, Any]:
        facts = super().preprocessing()
        return {**{name: value for name, value in facts.items() if name != "segmenter"}, "side": self.segmenter.side}

    def hashed(self, pooler: nn.Module | None, spec: ModelSpec) -> dict[str, Any]:
        return {**super().hashed(pooler, spec), "grid": self.grid, "side": self.segmenter.side}


def segmented(spec: ModelSpec, config: dict[str, Any], sam: dict[str, Any], processor: Any = None) -> SegmentedSequence:
    """The encoder of a registered model, its networks with random weights; without a processor it has the shape only.

    Args:
        spec: has the format and the limits. config: of the language model. sam: as `Segmenter` takes it.

    Raises:
        ArgumentError: the facts lack the format or the longest sequence.
    """
    return SegmentedSequence(config, *facts_of(spec), sam, processor=processor)


Place = tuple[float, float, int]  # x, y, and SAM's label


def grid_of(points: int, side: int) -> list[Place]:
    """The middles of `points` by `points` equal parts of a square, row by row: what is meant where nothing was pointed at."""
    middles = [(2 * place + 1) / (2 * points) * side for place in range(points)]
    return [(x, y, INSIDE) for y in middles for x in middles]


def prompt_of(regions: Sequence[Region], pixels: Any) -> list[Place]:
    """The regions of one image as one prompt of SAM, in pixels of the image: corners of boxes, and after them points.

    Args:
        regions: resolved. pixels: the upright image, uint8 `(height, width, 3)`.
    """
    corners: list[Place] = []
    points: list[Place] = []
    for region in regions:
        if isinstance(region, Point):
            points.append((float(region.x), float(region.y), INSIDE))
            continue
        box = region if isinstance(region, Box) else box_of(region)
        corners += [(float(box.x0), float(box.y0), LEFT_TOP), (float(box.x1), float(box.y1), RIGHT_BOTTOM)]
        if isinstance(region, Mask | Polygon):
            points += [(x, y, INSIDE) for x, y in inside(mask_of([region], pixels))]
    return corners + points


def box_of(region: Mask | Polygon) -> Box:
    """The least box around a region."""
    if isinstance(region, Polygon):
        xs, ys = zip(*region.corners, strict=True)
        return Box(min(xs), min(ys), max(xs), max(ys))
    rows, columns = (region.pixels.any(axis).nonzero()[0] for axis in (1, 0))
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def inside(mask: Any) -> list[tuple[float, float]]:
    """Up to nine places on a mask `(height, width)`: in each of three by three parts of its box the pixel nearest to the middle."""
    box = box_of(Mask(mask))
    sides = [(int(box.y0), int(box.y1)), (int(box.x0), int(box.x1))]
    rows, columns = (
        [low + (high - low) * part // MOST_INSIDE for part in range(MOST_INSIDE + 1)] for low, high in sides
    )
    found = []
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            part = mask[top:bottom, left:right]
            step = max(1, math.isqrt(part.size // _MOST_LOOKED_AT))  # a mask may have 64 million pixels
            y, x = part[::step, ::step].nonzero()
            if not len(y):  # thinner than a step, or nothing at all
                step, (y, x) = 1, part.nonzero()
            if len(y):
                y, x = y * step, x * step
                middle = (bottom - top - 1) / 2, (right - left - 1) / 2
                nearest = int(((y - middle[0]) ** 2 + (x - middle[1]) ** 2).argmin())
                found.append((float(left + x[nearest] + 0.5), float(top + y[nearest] + 0.5)))
    return found


def words_of(regions: Sequence[Region], asked: bool, frame: str) -> str:
    """What the prompt says of regions, in pixels of the image: the question, unless one was `asked`, and a line for each.

    The line of a box is in the example's words, or with a `frame` of "reference" in those of the authors' rows of SCaR.
    """
    boxes = [None if isinstance(r, Point) else r if isinstance(r, Box) else box_of(r) for r in regions]
    lines = [] if asked else [ASKED["bbox" if any(boxes) else "point"]]
    for region, box in zip(regions, boxes, strict=True):
        numbers = (region.x, region.y) if box is None else (box.x0, box.y0, box.x1, box.y1)
        exact = frame == "reference" and box is not None
        said = [float(n) for n in numbers] if exact else tuple(int(n) for n in numbers)
        lines.append(f"Referring object {'point' if box is None else 'bbox'}: {said}")
    return "\n".join(lines)
