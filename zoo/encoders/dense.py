"""Regions pooled densely: the network once over the whole image, and its last stage once more on the states of each region alone.

One definition for all: where the whole image's vector is made of all states by a last stage, a region's is made by the same stage
of the region's states. Of a convolutional network these are the cells of its last map, averaged; of SigLIP, or timm's attention
pool, the patches that the pooling head attends to; of a mean over patches, those of the region; of CLIP, whose class token is
pooled, the last block is the stage: there it attends to itself and to the region's patches. A region of all cells is the image.
(Masked class attention: shared definitions of MaskCLIP's relatives, Zhou et al., ECCV 2022, and of Alpha-CLIP's baselines.)
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class States(NamedTuple):
    """What the last stage of an image tower reads of whole images.

    Attributes:
        tokens: `(images, prefix + height * width, width)`. prefix: class and register tokens, which belong to every region.
        grid: (height, width) in cells.
    """

    tokens: Tensor
    prefix: int
    grid: tuple[int, int]


class ClassAttention(NamedTuple):
    """The last block of a tower whose class token is pooled, with the attention's weights left to the caller and no residual.

    Attributes:
        values: tokens `(images, T, W)` to the values that the class token would attend to `(images, T, V)`.
        vector: weighted sums of values `(regions, V)` to vectors `(regions, width)`.
    """

    values: Callable[[Tensor], Tensor]
    vector: Callable[[Tensor], Tensor]


class LastStage(NamedTuple):
    """How a tower is divided for dense regions.

    Attributes:
        states: pixels `(images, 3, H, W)`, normalised, to `States`. vector: tokens `(regions, T, W)` to vectors `(regions, width)`.
        flexible: whether it reads images of any size.
        attention: of a tower whose class token is pooled; a string says why it is not to be had apart.
    """

    states: Callable[[Tensor], States]
    vector: Callable[[Tensor], Tensor]
    flexible: bool = False
    attention: ClassAttention | str | None = None

    def then(self, after: Callable[[Tensor], Tensor]) -> "LastStage":
        """The same, whose vectors go through `after`."""
        stage, attention = self, self.attention
        if isinstance(attention, ClassAttention):
            attention = attention._replace(vector=lambda sums: after(stage.attention.vector(sums)))
        return self._replace(vector=lambda tokens: after(stage.vector(tokens)), attention=attention)

    def regions(self, pixels: Tensor, masks: Tensor, owners: Tensor) -> Tensor:
        """Vectors `(regions, width)` of regions; every image goes through the network once.

        Args:
            pixels: normalised images `(images, 3, H, W)`. masks: of the regions `(regions, H, W)`, 0 to 255. owners: the image of
                each region `(regions,)`.
        """
        states = self.states(pixels)
        return self.pooled(states, owners, cells_of(masks, states.grid))

    def pooled(self, states: States, owners: Tensor, cells: Tensor) -> Tensor:
        """Vectors `(regions, width)` of regions by their cells `(regions, height * width)`."""
        # Class and register tokens see the whole image and belong to every region.
        kept = torch.cat([cells.new_ones(len(cells), states.prefix), cells], 1)
        counts = kept.sum(1)
        rows: list[tuple[Tensor, Tensor]] = []
        for count in counts.unique().tolist():  # those of equal size go through the stage together
            mine = (counts == count).nonzero()[:, 0]
            tokens = states.tokens[owners[mine]][kept[mine]].unflatten(0, (len(mine), count))
            rows.append((mine, self.vector(tokens)))
        places, vectors = torch.cat([mine for mine, _ in rows]), torch.cat([vectors for _, vectors in rows])
        return torch.empty_like(vectors).index_copy(0, places, vectors)


def cells_of(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Masks `(regions, H, W)`, 0 to 255, as cells `(regions, height * width)`: those that they fill by half, or the one that they
    fill most of.
    """
    # (regions, height · width): the share of each cell that the mask covers.
    filled = F.adaptive_avg_pool2d(masks[:, None].float(), grid).flatten(1) / 255
    cells = filled > 0.5
    fullest = F.one_hot(filled.argmax(1), filled.shape[1]).bool()
    # Never empty: a region smaller than half a cell would have no tokens, and its vector would be NaN.
    return cells | (fullest & ~cells.any(1, keepdim=True))


def before(block: nn.Module, run: Callable[[], Any]) -> Tensor:
    """What a block reads while `run` runs `(B, T, W)`."""
    seen: list[Tensor] = []
    handle = block.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    try:
        run()
    finally:
        handle.remove()
    return seen[-1]


def timm_stage(
    backbone: nn.Module, pre_logits: bool = True, features: Callable[[Tensor], Tensor] | None = None
) -> LastStage | str:
    """Of one of timm's backbones; a string says why there is none.

    Args:
        pre_logits: whether its vector is the one before its classifier, or after it.
        features: another way to its `forward_features`.
    """
    features = features or backbone.forward_features

    def head(states: Tensor) -> Tensor:
        return backbone.forward_head(states, pre_logits=True) if pre_logits else backbone.forward_head(states)

    if not hasattr(backbone, "num_prefix_tokens") or not hasattr(backbone, "patch_embed"):
        return _map_stage(backbone, features, head)
    prefix, patch = backbone.num_prefix_tokens, _pair(backbone.patch_embed.patch_size)
    pool = getattr(backbone, "attn_pool", None)
    if pool is not None and getattr(pool, "pos_embed", None) is not None:
        return "its pooling head has positions of its own"

    def states(tokens: Tensor, pixels: Tensor) -> States:
        return States(tokens, prefix, (pixels.shape[2] // patch[0], pixels.shape[3] // patch[1]))

    if pool is not None or backbone.global_pool == "avg":
        return LastStage(lambda pixels: states(features(pixels), pixels), head)
    if backbone.global_pool != "token" or type(backbone).__name__ != "VisionTransformer":
        return (
            f"{type(backbone).__name__} pools by {backbone.global_pool!r}, and its last block has positions of its own"
        )
    block = backbone.blocks[-1]
    return LastStage(
        lambda pixels: states(before(block, lambda: features(pixels)), pixels),
        lambda tokens: head(backbone.norm(block(tokens))),
        attention=_timm_attention(block, lambda states: head(backbone.norm(states[:, None]))),
    )


def _timm_attention(block: nn.Module, after: Callable[[Tensor], Tensor]) -> ClassAttention | str:
    """Of timm's block; `after`: from a class token's states after it to its vector."""
    attn = getattr(block, "attn", None)
    if (type(block).__name__, type(attn).__name__) != ("Block", "Attention") or attn.gate is not None:
        return f"the attention of its last {type(block).__name__} is not one of values alone"

    def vector(sums: Tensor) -> Tensor:
        states = block.ls1(attn.proj(attn.norm(sums)))
        return after(states + block.ls2(block.mlp(block.norm2(states))))

    # (q, k, v): the third part.
    return ClassAttention(lambda tokens: attn.qkv(block.norm1(tokens)).chunk(3, -1)[2], vector)


def _map_stage(
    backbone: nn.Module, features: Callable[[Tensor], Tensor], head: Callable[[Tensor], Tensor]
) -> LastStage | str:
    """Of a network whose states are a map that is averaged: a region is a map of one row, of its cells."""
    pool = getattr(backbone, "global_pool", None)
    pool = pool if isinstance(pool, nn.Module) else getattr(getattr(backbone, "head", None), "global_pool", None)
    if getattr(pool, "pool_type", None) != "avg":
        return f"{type(backbone).__name__} does not average a map of states"
    channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"

    def states(pixels: Tensor) -> States:
        cells = features(pixels)
        cells = cells if channels_last else cells.movedim(1, -1)
        return States(cells.flatten(1, 2), 0, (cells.shape[1], cells.shape[2]))

    def vector(tokens: Tensor) -> Tensor:
        return head(tokens[:, None] if channels_last else tokens[:, None].movedim(-1, 1))

    return LastStage(states, vector, flexible=True)


def open_clip_stage(tower: nn.Module) -> LastStage | str:
    """Of one of open_clip's vision towers."""
    if (trunk := getattr(tower, "trunk", None)) is not None:
        inner = timm_stage(trunk, pre_logits=False)
        return inner if isinstance(inner, str) else inner.then(tower.head)
    if (
        type(tower).__name__ != "VisionTransformer"
        or tower.attn_pool is not None
        or tower.pool_type not in ("tok", "avg")
    ):
        return f"open_clip's {type(tower).__name__} pools by an attention over all of the image"
    patch = _pair(tower.patch_size)

    def states(tokens: Tensor, pixels: Tensor) -> States:
        return States(tokens, 1, (pixels.shape[2] // patch[0], pixels.shape[3] // patch[1]))

    def pooled(tokens: Tensor) -> Tensor:
        vectors, _ = tower._pool(tokens)
        return vectors if tower.proj is None else vectors @ tower.proj

    if tower.pool_type == "avg":
        return LastStage(lambda pixels: states(tower.transformer(tower._embeds(pixels)), pixels), pooled)
    block, first = tower.transformer.resblocks[-1], tower.transformer.batch_first

    def turned(tokens: Tensor) -> Tensor:
        return tokens if first else tokens.transpose(0, 1)

    return LastStage(
        lambda pixels: states(turned(before(block, lambda: tower(pixels))), pixels),
        lambda tokens: pooled(turned(block(turned(tokens)))),
        attention=_open_clip_attention(block, lambda states: pooled(states[:, None])),
    )


def _open_clip_attention(block: nn.Module, after: Callable[[Tensor], Tensor]) -> ClassAttention:
    """Of either of open_clip's blocks; `after`: from a class token's states after it to its vector."""
    attn = block.attn
    # Of the block with NormFormer's norms and scales.
    inner, outer = getattr(attn, "ln_inner", nn.Identity()), getattr(block, "ln_attn", nn.Identity())
    scale = getattr(attn, "head_scale", None)

    def values(tokens: Tensor) -> Tensor:
        bias = attn.in_proj_bias
        found = F.linear(
            block.ln_1(tokens), attn.in_proj_weight.chunk(3)[2], None if bias is None else bias.chunk(3)[2]
        )
        return found if scale is None else (found.unflatten(-1, (attn.num_heads, -1)) * scale[:, 0]).flatten(-2)

    def vector(sums: Tensor) -> Tensor:
        states = block.ls_1(outer(attn.out_proj(inner(sums))))
        return after(states + block.ls_2(block.mlp(block.ln_2(states))))

    return ClassAttention(values, vector)


def hf_clip_stage(tower: nn.Module) -> LastStage:
    """Of transformers' CLIPVisionModelWithProjection: the last block, with the class token first."""
    inner = tower.vision_model
    block = inner.encoder.layers[-1]

    def projected(states: Tensor) -> Tensor:
        return tower.visual_projection(inner.post_layernorm(states))

    def attended(sums: Tensor) -> Tensor:
        states = block.self_attn.out_proj(sums)
        return projected(states + block.mlp(block.layer_norm2(states)))

    return LastStage(
        lambda pixels: States(before(block, lambda: tower(pixel_values=pixels)), 1, _hf_grid(tower, pixels)),
        lambda tokens: projected(_first(block(tokens, attention_mask=None))[:, 0]),
        attention=ClassAttention(lambda tokens: block.self_attn.v_proj(block.layer_norm1(tokens)), attended),
    )


def hf_siglip_stage(tower: nn.Module) -> LastStage:
    """Of transformers' SiglipVisionModel: the attention of its pooling head."""
    inner = getattr(tower, "vision_model", tower)
    return LastStage(
        lambda pixels: States(tower(pixel_values=pixels).last_hidden_state, 0, _hf_grid(tower, pixels)), inner.head
    )


def hf_tips_stage(tower: nn.Module) -> LastStage:
    """Of transformers' Tipsv2VisionModel: the last block, with the class token first, and the second one, a register, after it."""
    block, prefix = tower.encoder.layer[-1], 1 + tower.config.num_register_tokens

    def attended(sums: Tensor) -> Tensor:
        states = block.layer_scale1(block.attention.o_proj(sums))
        return tower.layernorm(states + block.layer_scale2(block.mlp(block.norm2(states))))

    return LastStage(
        lambda pixels: States(before(block, lambda: tower(pixel_values=pixels)), prefix, _hf_grid(tower, pixels)),
        lambda tokens: tower.layernorm(_first(block(tokens))[:, 0]),
        attention=ClassAttention(lambda tokens: block.attention.v_proj(block.norm1(tokens)), attended),
    )


def _hf_grid(tower: nn.Module, pixels: Tensor) -> tuple[int, int]:
    side = tower.config.patch_size
    return pixels.shape[2] // side, pixels.shape[3] // side


def _first(out: Tensor | Sequence[Tensor]) -> Tensor:
    return out if isinstance(out, Tensor) else out[0]


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)
