"""Qwen3-VL-Embedding and WeMM-Embedding as on the Hub, with random weights, and forward passes in plain torch (jina-v4's too).

Nothing here calls the zoo's encoder, renderer or poolers: prompts come typed out from the tests, tokens from the file of the
tokenizer, positions, budgets and times of frames from a few lines of arithmetic.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, normalizers
from torch import Tensor, nn

import zoo
from tests.reference.base import stir
from tests.reference.qwen2_vl import (
    MEAN,
    STD,
    Published,
    _only_loaded,
    _save,
    _write,
    make_image,
    write_tokenizer,
)
from tests.reference.vl_utils import fetched, listed, utils
from zoo.registry import register_model

HALF = [0.5, 0.5, 0.5]
MODULES = [  # both Hub repositories open in sentence-transformers, too
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


# ------------------------------------------------------------------------------------------------------------- writing


def write_qwen3_vl(folder: Path, seed: int = 0) -> Published:
    """Qwen/Qwen3-VL-Embedding-2B: names under `model.`, no projection to the vocabulary, files of transformers 4.57."""
    folder.mkdir(parents=True)
    tokenizer = write_tokenizer(folder)
    ids = _ids_of(tokenizer)
    text = {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.token_to_id("<|endoftext|>"),
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "head_dim": 16,
        "hidden_act": "silu",
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 64,
        "max_position_embeddings": 4096,
        "model_type": "qwen3_vl_text",
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [4, 2, 2], "rope_type": "default"},
        "rope_theta": 5000000,
        "tie_word_embeddings": True,
        "vocab_size": tokenizer.get_vocab_size() + 8,
    }
    config = {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl",
        "text_config": text,
        "tie_word_embeddings": True,
        "transformers_version": "4.57.1",
        "vision_config": {**_vision("qwen3_vl"), "deepstack_visual_indexes": [0, 1]},
        **ids,
    }
    model = _written(folder, config, seed)
    _save(folder / "model.safetensors", {f"model.{name}": tensor for name, tensor in model.state_dict().items()})
    shared = {"patch_size": 16, "temporal_patch_size": 2, "merge_size": 2, "image_mean": HALF, "image_std": HALF}
    _write(
        folder / "preprocessor_config.json",
        {
            "size": {"longest_edge": 16777216, "shortest_edge": 65536},
            **shared,
            "processor_class": "Qwen3VLProcessor",
            "image_processor_type": "Qwen2VLImageProcessorFast",
        },
    )
    _write(
        folder / "video_preprocessor_config.json",
        {
            "size": {"longest_edge": 25165824, "shortest_edge": 4096},
            **shared,
            "processor_class": "Qwen3VLProcessor",
            "video_processor_type": "Qwen3VLVideoProcessor",
        },
    )
    _sentence_transformers(folder)
    return Published(folder, model, tokenizer)


def write_wemm(folder: Path, seed: int = 1) -> Published:
    """tencent/WeMM-Embedding-9B: Qwen3.5 with a vocabulary projection, code of its own, and a rule for line breaks."""
    folder.mkdir(parents=True)
    tokenizer = write_tokenizer(folder)
    tokenizer.add_tokens([AddedToken("<embedding>", special=True, normalized=False)])
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\n$"), "")])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    own = {"content": "<embedding>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    settings["added_tokens_decoder"][str(tokenizer.token_to_id("<embedding>"))] = {**own, "special": True}
    _write(folder / "tokenizer_config.json", settings)
    text = {
        "head_dim": 16,
        "hidden_act": "silu",
        "hidden_size": 32,
        "intermediate_size": 64,
        "layer_types": ["linear_attention", "linear_attention", "full_attention"],
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_value_head_dim": 8,
        "max_position_embeddings": 4096,
        "model_type": "qwen3_5_text",
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {
            "mrope_interleaved": True,
            "mrope_section": [2, 1, 1],
            "partial_rotary_factor": 0.5,
            "rope_theta": 10000000,
            "rope_type": "default",
        },
        "vocab_size": tokenizer.get_vocab_size(),
    }
    config = {
        "architectures": ["WeMMEmbedding"],
        "auto_map": {"AutoModel": "modeling_wemm_embedding.WeMMEmbedding"},
        "matryoshka_dimensions": [16, 32],
        "model_type": "qwen3_5",
        "text_config": text,
        "tie_word_embeddings": False,
        "transformers_version": "5.2.0",
        "vision_config": _vision("qwen3_5"),
        **_ids_of(tokenizer),
    }
    (folder / "modeling_wemm_embedding.py").write_text("raise RuntimeError('code of a repository ran')\n")
    model = _written(folder, config, seed)
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    _save(folder / "model.safetensors", {**tensors, "lm_head.weight": torch.randn(text["vocab_size"], 32)})
    shared = {"patch_size": 16, "temporal_patch_size": 2, "merge_size": 2, "image_mean": HALF, "image_std": HALF}
    image = {
        "size": {"longest_edge": 16777216, "shortest_edge": 65536},
        "image_processor_type": "Qwen2VLImageProcessor",
    }
    video = {"size": {"longest_edge": 25165824, "shortest_edge": 4096}, "video_processor_type": "Qwen3VLVideoProcessor"}
    _write(
        folder / "processor_config.json",
        {
            "image_processor": {**image, **shared},
            "video_processor": {**video, **shared, "fps": 2, "max_frames": 768, "min_frames": 4},
            "processor_class": "Qwen3VLProcessor",
        },
    )
    _sentence_transformers(folder)
    return Published(folder, model, tokenizer)


def _ids_of(tokenizer: Tokenizer) -> dict[str, int]:
    names = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    return {f"{key}_token_id": tokenizer.token_to_id(f"<|{name}|>") for key, name in names.items()}


def _vision(kind: str) -> dict[str, Any]:
    return {
        "depth": 2,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": 32,
        "in_channels": 3,
        "initializer_range": 0.02,
        "intermediate_size": 64,
        "model_type": kind,
        "num_heads": 2,
        "num_position_embeddings": 64,
        "out_hidden_size": 32,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }


def _written(folder: Path, config: dict[str, Any], seed: int) -> nn.Module:
    """The backbone of a configuration, which is then on disk as it is published."""
    from transformers import AutoConfig, AutoModel

    _write(folder / "config.json", {key: value for key, value in config.items() if key != "auto_map"})
    model = stir(AutoModel.from_config(AutoConfig.from_pretrained(folder)).eval(), seed)
    _write(folder / "config.json", config)
    return model


def _sentence_transformers(folder: Path) -> None:
    _write(folder / "modules.json", MODULES)
    _write(folder / "config_sentence_transformers.json", {"prompts": {}, "similarity_fn_name": "cosine"})
    (folder / "1_Pooling").mkdir()
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, "pooling_mode_lasttoken": True})


# ------------------------------------------------------------------------------------------- the authors' forward passes


@dataclass
class Seen:
    """An image or video as the vision layers take it, the words in its place, and the grid of each image in it."""

    patches: Tensor
    grid: Tensor
    words: str
    grids: list[tuple[int, int]]


def see_fetched(image: Any, first: tuple[int, int], pixels: tuple[int, int]) -> Seen:
    """Resized by qwen-vl-utils within `first`, then by transformers' processor within `pixels`."""
    return see_image(fetched(image, 32, *first), pixels)


def see_image(image: Any, pixels: tuple[int, int], patch: int = 16) -> Seen:
    """Resized within `pixels` by transformers' own processor of images."""
    from transformers import Qwen2VLImageProcessor

    mean, std = (HALF, HALF) if patch == 16 else (MEAN, STD)
    size = {"shortest_edge": pixels[0], "longest_edge": pixels[1]}
    processor = Qwen2VLImageProcessor(size=size, patch_size=patch, image_mean=mean, image_std=std)
    made = processor(images=[image], return_tensors="pt")
    _, h, w = made["image_grid_thw"][0].tolist()
    words = "<|vision_start|>" + "<|image_pad|>" * (h * w // 4) + "<|vision_end|>"
    return Seen(made["pixel_values"], made["image_grid_thw"], words, [(h // 2, w // 2)])


def see_list(frames: np.ndarray, own: tuple[int, int] | None = None, **options: Any) -> Seen:
    """Frames without times, as a list of images through qwen-vl-utils; see `see_frames` for `own`."""
    video, metadata = listed(frames, **options)
    return _seen(video, [index / metadata["fps"] for index in metadata["frames_indices"]], own)


def see_frames(
    frames: np.ndarray,
    times: Sequence[float],
    least: int,
    most: int,
    total: float = math.inf,
    own: tuple[int, int] | None = None,
) -> Seen:
    """Frames `(n, height, width, 3)` of a file, shown at `times` in seconds: what `fetch_video` of qwen-vl-utils does once it
    has decoded them, and Qwen3-VL's processor.

    Args:
        least, most: pixels of one frame. total: of all, in the way of qwen-vl-utils. own: fewest and most of all frames of
            the processor, where it resizes again.
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import resize

    video = torch.from_numpy(frames).permute(0, 3, 1, 2)
    n, _, height, width = video.shape
    most = max(min(most, total / (n + n % 2) * 2), int(least * 1.05))
    size = utils.smart_resize(height, width, 32, least, most)
    video = resize(video, list(size), interpolation=InterpolationMode.BICUBIC, antialias=True).float()
    return _seen(video, list(times), own)


def _seen(video: Tensor, times: list[float], own: tuple[int, int] | None) -> Seen:
    """Patches, and a line for each two frames, of a video `(n, 3, height, width)` in sizes that are multiples of 32."""
    if own is not None:
        from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor, SizeDict

        part, size = Qwen3VLVideoProcessor(), SizeDict(shortest_edge=own[0], longest_edge=own[1])
        video = part.resize(video[None], size, part.resample, factor=32, temporal_factor=2)[0]
    if len(video) % 2:
        video, times = torch.cat([video, video[-1:]]), [*times, times[-1]]
    n, _, h, w = video.shape
    video = (video - 127.5) / 127.5  # as the processor does in one step; what is left out of it Qwen3.5 makes larger
    rows, columns = h // 32, w // 32
    patches = video.reshape(n // 2, 2, 3, rows, 2, 16, columns, 2, 16).permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    words = ""
    for i in range(0, n, 2):
        pads = "<|video_pad|>" * (rows * columns)
        words += f"<{(times[i] + times[i + 1]) / 2:.1f} seconds><|vision_start|>{pads}<|vision_end|>"
    grid = torch.tensor([[n // 2, h // 16, w // 16]])
    return Seen(patches.reshape(-1, 3 * 2 * 16 * 16), grid, words, [(rows, columns)] * (n // 2))


@dataclass
class Row:
    """One item just before the model: its whole prompt, with the words of its images and videos in it."""

    prompt: str
    images: Sequence[Seen] = ()
    videos: Sequence[Seen] = ()


def states(published: Published, rows: Sequence[Row], side: str = "right") -> tuple[Tensor, Tensor, Tensor]:
    """Last layer's states `(rows, tokens, width)`, ids and mask `(rows, tokens)` of a padded batch."""
    model = published.model
    image_id, video_id = published.id("<|image_pad|>"), published.id("<|video_pad|>")
    ids = [published.tokenizer.encode(row.prompt, add_special_tokens=False).ids for row in rows]
    # Images, then videos; in no prompt here does a video stand after an image.
    places = [_mrope(row, [g for s in (*r.videos, *r.images) for g in s.grids], {image_id, video_id}) for row, r in zip(ids, rows, strict=True)]  # fmt: skip
    width = max(map(len, ids))
    pad = published.id("<|endoftext|>")

    def padded(row: list[int] | Tensor, filler: int) -> Tensor:
        row = torch.as_tensor(row)
        empty = torch.full((*row.shape[:-1], width - row.shape[-1]), filler)
        return torch.cat([empty, row] if side == "left" else [row, empty], -1)

    mask = torch.stack([padded([1] * len(row), 0) for row in ids])
    positions = torch.stack([padded(place, 0) for place in places], 1)
    batch = torch.stack([padded(row, pad) for row in ids])
    with torch.inference_mode():
        embeds = model.get_input_embeddings()(batch)
        deep: list[dict[int, Tensor]] = []
        for token, kind in ((image_id, "images"), (video_id, "videos")):
            looked = [model.visual(seen.patches, grid_thw=seen.grid) for row in rows for seen in getattr(row, kind)]
            if looked:
                embeds[batch == token] = torch.cat([out.pooler_output for out in looked])
            for layer in range(len(getattr(looked[0], "deepstack_features", None) or ()) if looked else 0):
                deep += [{} for _ in range(layer + 1 - len(deep))]
                deep[layer][token] = torch.cat([out.deepstack_features[layer] for out in looked])
        extra = {}
        if deep:
            visual = (batch == image_id) | (batch == video_id)
            joined = []
            for features in deep:
                whole = torch.zeros(*batch.shape, embeds.shape[-1])
                for token, values in features.items():
                    whole[batch == token] = values
                joined.append(whole[visual])
            extra = {"visual_pos_masks": visual, "deepstack_visual_embeds": joined}
        out = model.language_model(
            input_ids=None, inputs_embeds=embeds, position_ids=positions, attention_mask=mask, **extra
        )
    return out.last_hidden_state, batch, mask


def _mrope(ids: list[int], grids: list[tuple[int, int]], pads: set[int]) -> Tensor:
    """Positions `(3, tokens)`: images (and frames) by row and column, then on from the longer side of their grid."""
    out, at, following, grid = [], 0, 0, iter(grids)
    while at < len(ids):
        if ids[at] not in pads:
            out.append(torch.full((3, 1), following))
            at, following = at + 1, following + 1
            continue
        h, w = next(grid)
        row, column = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        out.append(torch.stack([torch.zeros(h, w, dtype=torch.long), row, column]).reshape(3, -1) + following)
        at, following = at + h * w, following + max(h, w)
    return torch.cat(out, 1)


def one_by_one(published: Published, rows: Sequence[Row]) -> list[Tensor]:
    """States `(tokens, width)` of each row alone, so without padding."""
    return [states(published, [row])[0][0] for row in rows]


SHORT = ["a red bicycle", "a", make_image(0), make_image(1, 40, 200)]


def embed(name: str, *, like: str, repo: str) -> dict[str, Any]:
    """Vectors of `SHORT` by a model loaded by name, for a child process that talks to the loopback hub.

    Args:
        name: registered beforehand as `like` in the size of the tests' checkpoints where it ends in "-tiny".
    """
    if name.endswith("-tiny"):
        facts = zoo.get_spec(like).to_dict()
        facts |= {"name": name, "dim": 32, "dims": (), "hub_id": repo, "params": 0}
        for key in ("family", "packaged", "source", "revision"):
            del facts[key]
        register_model(**{**facts, "modalities": set(facts["modalities"])})(_only_loaded)
    model = zoo.load_model(name, **({} if name.endswith("-tiny") else {"like": like}))
    return {"vectors": model.encode(SHORT).tolist(), "spec": model.spec.to_dict()}
