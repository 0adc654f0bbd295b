"""FG-CLIP 2's towers (arxiv:2510.10921): SigLIP 2's, with states for the regions of an image, and a head of texts for each use.

As its authors' code has it, but that a region may be any: a box is their RoIAlign, anything else the mean of what it covers.
"""

import json
import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.encoders.base import Batch, Cut, Encoder, one_token
from zoo.encoders.config_checks import check_transformers
from zoo.encoders.tokenizing import MissingTokenizer, Tokenize, check_ids, load_tokenizer
from zoo.errors import UnrecognisedCheckpointError
from zoo.inputs.item import Item, Tokens
from zoo.inputs.regions import Box, Region, mask_of, resolved
from zoo.inputs.upright import Latest, Upright

SHORT, LONG, REGIONS = TARGETS = ("image", "image-long", "regions")
BUDGETS = (128, 256, 576, 784, 1024)  # patches of an image: the least that holds its own pixels
_PATCHES = 2048  # of a batch


class Patched(NamedTuple):
    """An image in patches, shared by its regions, and how much each patch counts in one of them.

    Attributes:
        values: normalised patches `(height * width, numbers)`. grid: (height, width) in patches.
        weights: of a region `(height * width,)`, adding up to 1; None for the whole image.
    """

    values: Tensor
    grid: tuple[int, int]
    weights: Tensor | None


class FgClip2Image(Encoder):
    """The vision tower: whole images pooled as SigLIP 2 does, regions out of states that a second head makes of every patch.

    Args:
        config: of SigLIP 2's vision tower. patches: most patches of an image; None, as its authors, for 128 to 1,024 by its size.
        processor: settings of SigLIP 2's image processor. tower: a loaded tower; None builds one with random weights.
    """

    modalities = frozenset({"image", "regions"})
    batch_budget = _PATCHES

    def __init__(
        self,
        config: dict[str, Any],
        patches: int | None = None,
        processor: dict[str, Any] | None = None,
        tower: nn.Module | None = None,
    ) -> None:
        super().__init__()
        from transformers import Siglip2ImageProcessor, Siglip2VisionConfig, Siglip2VisionModel
        from transformers.models.siglip2.modeling_siglip2 import Siglip2MultiheadAttentionPoolingHead

        check_transformers(config)
        self.settings, self.patches, self.processor_settings = dict(config), patches, dict(processor or {})
        self.processor = Siglip2ImageProcessor(**self.processor_settings)
        self.tower = tower or Siglip2VisionModel(Siglip2VisionConfig(**config))
        self.dense = Siglip2MultiheadAttentionPoolingHead(self.tower.config)
        self.width = self.tower.config.hidden_size
        self._key = json.dumps([self.patches, self.processor_settings], sort_keys=True)
        self._latest = Latest()

    def prepare_item(self, item: Item) -> Patched:
        """As the authors' code prepares an image.

        Raises:
            InvalidRegionError: a region lies outside the image, or a mask has another size. Besides what images raise.
        """
        upright = self._latest.of(item.image)
        values, grid = upright.once(self._key, lambda: self._patched(upright))
        weights = _weights(item.regions, upright, grid) if len(item.regions) else None
        return Patched(values, grid, weights)

    def _patched(self, upright: Upright) -> tuple[Tensor, tuple[int, int]]:
        height, width = upright.pixels.shape[:2]
        most = self.patches or budget_of(height, width, self.processor.patch_size)
        image = torch.tensor(upright.pixels).permute(2, 0, 1)
        made = self.processor(images=[image], max_num_patches=most, return_tensors="pt")
        rows, columns = made["spatial_shapes"][0].tolist()
        return made["pixel_values"][0, : rows * columns].clone(), (rows, columns)

    def length(self, read: Patched) -> int:
        return len(read.values)

    def tokens(self, read: Patched) -> int:
        return 1

    def size(self, read: Patched) -> int:
        return 4 * read.values.numel()

    def collate(self, reads: Sequence[Patched]) -> Batch:
        """Each image once, its patches filled up to the most, and for each read its image and weights `(batch, patches)`."""
        images = {id(read.values): read for read in reads}
        places = {image: place for place, image in enumerate(images)}
        most = max(len(read.values) for read in reads)
        batch = {
            "values": torch.stack([F.pad(r.values, (0, 0, 0, most - len(r.values))) for r in images.values()]),
            "mask": torch.stack([torch.arange(most) < len(read.values) for read in images.values()]),
            "shapes": torch.tensor([read.grid for read in images.values()]),
            "owners": torch.tensor([places[id(read.values)] for read in reads]),
        }
        if rows := [F.pad(r.weights, (0, most - len(r.weights))) for r in reads if r.weights is not None]:
            batch["pointed"], batch["weights"] = torch.tensor([r.weights is not None for r in reads]), torch.stack(rows)
        return batch

    def forward(self, batch: Batch) -> Tokens:
        dtype = next(self.tower.parameters()).dtype
        mask, owners = batch["mask"], batch["owners"]
        out = self.tower(
            pixel_values=batch["values"].to(dtype), pixel_attention_mask=mask.long(), spatial_shapes=batch["shapes"]
        )
        vectors = out.pooler_output[owners]
        if "pointed" in batch:
            pointed = batch["pointed"]
            mine, row = owners[pointed].unique(return_inverse=True)
            states = self._dense(out.last_hidden_state[mine], mask[mine])  # (images, patches, width)
            found = torch.einsum("rp,rpw->rw", batch["weights"].to(states.dtype), states[row])
            vectors = vectors.index_copy(0, pointed.nonzero()[:, 0], found)
        return one_token(vectors)

    def _dense(self, states: Tensor, mask: Tensor) -> Tensor:
        """What the second head makes of every patch: itself asks, where a pooling head has a learned question."""
        head = self.dense
        hidden, _ = head.attention(states, states, states, key_padding_mask=~mask, need_weights=False)
        return hidden + head.mlp(head.layernorm(hidden))

    def config(self) -> dict[str, Any]:
        return {"config": self.settings, "patches": self.patches, "processor": self.processor_settings}

    def preprocessing(self) -> dict[str, Any]:
        return {"patches": self.patches, **self.processor_settings}


class FgClip2Text(Encoder):
    """The text tower: lower-cased texts, filled up, whose last position is pooled; a head for each thing that they are compared with.

    Args:
        config: of SigLIP 2's text tower. long_tokens: longest text against "image-long", whose positions are tables of their own:
            the first `keep` of the one, the rest of the other. pad_id: token that texts are filled up with. masked: whether
            filler is not attended to. padding_side: where texts are filled up. against: what texts are compared with.
        assets, tokenizer: where the tokenizer comes from. tower: a loaded tower; None builds one at random.

    Raises:
        UnrecognisedCheckpointError: `against` is none of `TARGETS`, or the first of two tables has more rows than both.
    """

    modalities = frozenset({"text"})
    targets = TARGETS

    def __init__(
        self,
        config: dict[str, Any],
        long_tokens: int = 196,
        keep: int = 20,
        pad_id: int = 0,
        masked: bool = False,
        padding_side: str = "right",
        against: str = SHORT,
        assets: Path | None = None,
        tokenizer: Any = None,
        tower: nn.Module | None = None,
    ) -> None:
        super().__init__()
        from transformers import Siglip2TextConfig, Siglip2TextModel

        check_transformers(config)
        if against not in TARGETS:
            raise UnrecognisedCheckpointError(
                f"texts of FG-CLIP 2 are compared with one of {TARGETS}, not {against!r:.40}"
            )
        if not 0 <= keep <= long_tokens:
            raise UnrecognisedCheckpointError(f"keep_len is {keep} of {long_tokens} positions (longtext_len)")
        self.settings, self.long_tokens, self.keep = dict(config), long_tokens, keep
        self.pad_id, self.masked, self.padding_side, self.against = pad_id, masked, padding_side, against
        self.tower = tower or Siglip2TextModel(Siglip2TextConfig(**config))
        width = self.tower.config.hidden_size
        self.first, self.rest = nn.Embedding(long_tokens, width), nn.Embedding(long_tokens, width)
        self.long_head, self.region_head = nn.Linear(width, width), nn.Linear(width, width)
        self.width = self.tower.config.projection_size
        self.max_tokens = self.tower.config.max_position_embeddings
        self.tokenize: Tokenize = MissingTokenizer("this text tower of FG-CLIP 2")
        if assets is not None or tokenizer is not None:
            self.tokenize = load_tokenizer(tokenizer or assets, self.max_tokens, lower=True)
        self._long: Tokenize | None = None
        self._lock = _Lock()

    def _tokenizer(self) -> Any:
        """The one that cuts texts where `against` does."""
        if self.against != LONG or isinstance(self.tokenize, MissingTokenizer):
            return self.tokenize
        with self._lock:
            if self._long is None:
                inner = self.tokenize.tokenizer
                copied = type(inner).from_str(inner.to_str()) if hasattr(inner, "to_str") else inner
                self._long = load_tokenizer(copied, self.long_tokens, lower=True)
            return self._long

    def prepare_item(self, item: Item) -> tuple[str, list[int]]:
        """The target that it is read for, and the ids of the text."""
        ids = check_ids(self._tokenizer()(item.text), self.tower.config.vocab_size, "FG-CLIP 2")
        return self.against, ids

    def tokens(self, read: tuple[str, list[int]]) -> int:
        return len(read[1])

    def cut(self, item: Item) -> Cut | None:
        return self._tokenizer().cut(item.text)

    def unknown_share(self, item: Item) -> float:
        return self.tokenize.unknown_share(item.text)

    def doubtful(self, read: tuple[str, list[int]], prompted: Item, item: Item) -> bool:
        return self.tokenize.vocabulary.doubtful(read[1], item.text, prompted.text.removesuffix(item.text))

    def collate(self, reads: Sequence[tuple[str, list[int]]]) -> Batch:
        """For each target its texts `(texts, positions)`, which of those are no filler, and their places in the batch."""
        batch: Batch = {}
        for target in TARGETS:
            rows = [row for row, (of, _) in enumerate(reads) if of == target]
            if not rows:
                continue
            most = self.long_tokens if target == LONG else self.max_tokens
            ids = torch.full((len(rows), most), self.pad_id)
            mask = torch.zeros(len(rows), most, dtype=torch.bool)
            for place, row in enumerate(rows):
                count = len(reads[row][1])
                where = slice(most - count, most) if self.padding_side == "left" else slice(0, count)
                ids[place, where], mask[place, where] = torch.tensor(reads[row][1]), True
            batch |= {f"{target}.ids": ids, f"{target}.mask": mask, f"{target}.rows": torch.tensor(rows)}
        return batch

    def forward(self, batch: Batch) -> Tokens:
        found = [
            (batch[f"{target}.rows"], self._pooled(target, batch[f"{target}.ids"], batch[f"{target}.mask"]))
            for target in TARGETS
            if f"{target}.ids" in batch
        ]
        rows, vectors = (torch.cat(parts) for parts in zip(*found, strict=True))
        return one_token(torch.empty_like(vectors).index_copy(0, rows, vectors))

    def _pooled(self, target: str, ids: Tensor, mask: Tensor) -> Tensor:
        """Texts `(texts, positions)` for one target to vectors `(texts, width)`."""
        seen = mask.long() if self.masked else None
        if target == SHORT:
            return self.tower(input_ids=ids, attention_mask=seen).pooler_output
        if target == REGIONS:
            # The last position, filler or not: SigLIP was trained so, with every text filled up to its longest.
            return self.region_head(self.tower(input_ids=ids, attention_mask=seen).last_hidden_state[:, -1])
        from transformers.masking_utils import create_bidirectional_mask

        kept = torch.arange(self.long_tokens, device=ids.device) < self.keep
        # As Long-CLIP (Zhang et al., 2024): the first positions, which short texts have trained well, are kept; the
        # rest have a table of their own.
        positions = torch.where(kept[:, None], self.first.weight, self.rest.weight)
        states = self.tower.embeddings.token_embedding(ids) + positions
        attended = create_bidirectional_mask(config=self.tower.config, inputs_embeds=states, attention_mask=seen)
        states = self.tower.encoder(inputs_embeds=states, attention_mask=attended).last_hidden_state
        return self.long_head(self.tower.final_layer_norm(states)[:, -1])

    def config(self) -> dict[str, Any]:
        return {
            "config": self.settings,
            "long_tokens": self.long_tokens,
            "keep": self.keep,
            "pad_id": self.pad_id,
            "masked": self.masked,
            "padding_side": self.padding_side,
            "against": self.against,
        }

    def preprocessing(self) -> dict[str, Any]:
        """Without what its texts are compared with, which fingerprints say by themselves."""
        return {name: value for name, value in self.config().items() if name != "against"}

    def save_assets(self, folder: Path) -> None:
        self.tokenize.save(folder)


class _Lock:
    """A lock that is not copied with what it guards."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Lock, ()


def budget_of(height: int, width: int, patch: int) -> int:
    """How many patches an image of so many pixels may have, as the authors' code says: 128 to 1,024."""
    own = (width // patch) * (height // patch)
    return next((budget for budget, most in zip(BUDGETS, (*BUDGETS[:-1], own), strict=True) if own <= most))


def _weights(regions: Sequence[Region], upright: Upright, grid: tuple[int, int]) -> Tensor:
    """How much each patch counts in a region `(patches,)`."""
    height, width = upright.pixels.shape[:2]
    found = resolved(regions, height, width)
    if len(found) == 1 and isinstance(box := found[0], Box):
        rows = aligned(box.y0 / height * grid[0], box.y1 / height * grid[0], grid[0])
        columns = aligned(box.x0 / width * grid[1], box.x1 / width * grid[1], grid[1])
        return (rows[:, None] * columns).flatten()
    mask = torch.from_numpy(mask_of(found, upright.pixels))
    shares = F.adaptive_avg_pool2d(mask[None, None].float(), grid).flatten()
    return shares / shares.sum()


def aligned(low: float, high: float, cells: int) -> Tensor:
    """RoIAlign (He et al., 2017, arxiv:1703.06870) into one bin, along one axis: how much each cell counts `(cells,)`.

    As torchvision's with `aligned=True` and as many samples as the box has cells: the mean of linear interpolations between the
    middles of cells. Along both axes it is the product.
    """
    # Rounded where torchvision rounds, which may make a cell more or less.
    start, end = torch.tensor([low, high], dtype=torch.float32) - 0.5
    count = max(1, math.ceil(end - start))
    places = start.double() + (torch.arange(count, dtype=torch.float64) + 0.5) * (end - start).double() / count
    places = places.clamp(0, cells - 1)
    below = places.floor().long()
    share = places - below
    weights = torch.zeros(cells, dtype=torch.float64)
    weights.index_add_(0, below, 1 - share)
    weights.index_add_(0, (below + 1).clamp(max=cells - 1), share)
    return (weights / count).float()
