"""Segmenter: what SAM 2.1 sees of an image under a prompt, as tokens of a language model (VIRTUE, arxiv:2510.00523, section 3.2).

The image goes through SAM's image encoder, and with a prompt of points and corners of boxes through the two-way transformer of its
mask decoder. Of that the image's side is kept, not a mask, and a connector makes tokens of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UnrecognisedCheckpointError

PARTS = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
FILLER = (
    -10
)  # label of what fills up shorter prompts of a batch; it is cut off again, as it would not be neutral to SAM
STRIDE = 4  # of the connector's convolution: 64 x 64 places become 16 x 16 tokens
# ImageNet's, put on top of the normalisation of the language model's processor: so the weights were trained.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Connector(nn.Module):
    """`(rows, side, height, width)` of SAM → `(rows, tokens, width)` of the language model."""

    def __init__(self, side: int, width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(side, side, STRIDE, STRIDE)
        self.project = nn.Sequential(nn.Linear(side, side), nn.GELU(), nn.Linear(side, width))

    def forward(self, states: Tensor) -> Tensor:
        """Each square of four by four places one token."""
        return self.project(self.reduce(states).flatten(2).transpose(1, 2))


class Segmenter(nn.Module):
    """SAM 2.1, which stays as it is, and the connector, which is trained.

    Args:
        config: `Sam2Config`'s three parts, by their names there; what is at its default may be left out.
        width: of the language model. sam: a loaded Sam2Model; None builds one with random weights.

    Raises:
        UnrecognisedCheckpointError: another part, or sizes that do not fit each other.
    """

    def __init__(self, config: Mapping[str, Any], width: int, sam: nn.Module | None = None) -> None:
        super().__init__()
        from transformers import Sam2Model

        self.settings = dict(config)
        self.sam = Sam2Model(sam_config(config)) if sam is None else sam
        self.sam.requires_grad_(False)
        prompts = self.sam.prompt_encoder
        places, sizes = prompts.image_embedding_size, self.sam.backbone_feature_sizes[-1]
        if tuple(places) != tuple(sizes) or places[0] % STRIDE or prompts.hidden_size != self.sam.hidden_dim:
            raise UnrecognisedCheckpointError(
                f"the parts of this SAM do not fit: prompts of width {prompts.hidden_size} over {places} places, images of width "
                f"{self.sam.hidden_dim} over {sizes}; take the config.json of its own repository"
            )
        self.side: int = prompts.input_image_size  # pixels, in which prompts are
        self.tokens = (places[0] // STRIDE) ** 2
        self.connector = Connector(self.sam.hidden_dim, width)

    def forward(self, images: Sequence[Tensor], order: Tensor, points: Tensor, labels: Tensor) -> Tensor:
        """Tokens `(rows, tokens, width)`, a row for each prompt; each image goes through SAM's image encoder once.

        Args:
            images: distinct ones, float `(3, height, width)`, as the language model's processor normalises them.
            order: `(rows,)`, the image of each prompt.
            points: `(rows, most, 2)`, x and y in pixels of SAM's square of `side`.
            labels: `(rows, most)`: 1 on what is meant, 2 and 3 left top and right bottom of a box, `FILLER` for none.
        """
        with torch.no_grad():
            seen = self._seen(images)
            states = torch.empty_like(seen[:1]).repeat(len(order), 1, 1, 1)
            for rows, count in _alike(labels):
                states[rows] = self._pointed(seen[order[rows]], points[rows, :count], labels[rows, :count])
        return self.connector(states)

    def _seen(self, images: Sequence[Tensor]) -> Tensor:
        """What SAM's image encoder makes of images, `(images, side, height, width)`."""
        size = (self.side, self.side)
        squares = [F.interpolate(image[None].float(), size, mode="bilinear", antialias=True) for image in images]
        mean, std = (squares[0].new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
        dtype = self.sam.no_memory_embedding.dtype
        # One at a time: a square of 1024 pixels takes over a gigabyte on its way.
        return torch.cat([self.sam.get_image_embeddings(((one - mean) / std).to(dtype))[-1] for one in squares])

    def _pointed(self, seen: Tensor, points: Tensor, labels: Tensor) -> Tensor:
        """The image's side of the mask decoder, `(rows, side, height, width)`, under one prompt of points a row, all of a kind."""
        decoder = self.sam.mask_decoder
        sparse, dense = self.sam.prompt_encoder(points[:, None], labels[:, None], None, None)
        own = [part.weight for part in (decoder.obj_score_token, decoder.iou_token, decoder.mask_tokens)]
        own = torch.cat(own).expand(len(seen), 1, -1, -1)
        _, states = decoder.transformer(
            point_embeddings=torch.cat([own, sparse.to(own.dtype)], 2),
            image_embeddings=seen + dense,
            image_positional_embeddings=self.sam.get_image_wide_positional_embeddings().repeat(len(seen), 1, 1, 1),
            attention_similarity=None,
        )
        # (rows, 1, places, side) → (rows, side, height, width).
        return states[:, 0].transpose(1, 2).reshape(seen.shape)

    def config(self) -> dict[str, Any]:
        """JSON-able, as the constructor takes it."""
        return self.settings


def _alike(labels: Tensor) -> list[tuple[Tensor, int]]:
    """Rows of one kind and number of points, `(rows,)`, and that number."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, some in enumerate(labels.tolist()):
        groups.setdefault(tuple(label for label in some if label != FILLER), []).append(row)
    return [(torch.tensor(rows, device=labels.device), len(kind)) for kind, rows in groups.items()]


def sam_config(config: Mapping[str, Any]) -> Any:
    """A `Sam2Config` of its three parts.

    Raises:
        UnrecognisedCheckpointError: it has others, or values that none can have.
    """
    from transformers import Sam2Config

    if unknown := sorted(set(config) - set(PARTS)):
        raise UnrecognisedCheckpointError(f"a SAM has {', '.join(PARTS)}, not {unknown[0]!r}")
    try:
        return Sam2Config(**config)
    except Exception as error:  # whatever type transformers' own checks raise
        raise UnrecognisedCheckpointError(f"this is no SAM 2: {' '.join(str(error).split())[:300]}") from error


def told(config: Any) -> dict[str, Any]:
    """The parts of a `Sam2Config` as JSON, without what stands at its default."""
    return {name: _told(getattr(config, name)) for name in PARTS}


def _told(part: Any) -> dict[str, Any]:
    usual, own = type(part)(), {}
    for name in type(part).__annotations__:
        value = getattr(part, name)
        if hasattr(value, "to_dict"):
            own[name] = _told(value) | {"model_type": value.model_type}
        elif value != getattr(usual, name):
            own[name] = list(value) if isinstance(value, tuple) else value
    return own
