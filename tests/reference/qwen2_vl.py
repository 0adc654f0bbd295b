"""Qwen2-VL checkpoints as they were published before transformers 5, and the authors' forward passes written out plainly.

Nothing here calls the zoo's encoder, renderer or poolers: prompts come typed out from the tests, tokens from the file of the
tokenizer, positions and masks from a few lines of torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor, nn

import zoo
from tests.reference.base import stir
from tests.reference.vocab import byte_bpe
from zoo.inputs.item import Item

SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
CLASSES = {"qwen2_vl": "Qwen2VLForConditionalGeneration", "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration"}
VISION = {
    "all": {
        "depth": 2,
        "num_heads": 2,
        "in_chans": 3,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "temporal_patch_size": 2,
    },
    "qwen2_vl": {"embed_dim": 32, "mlp_ratio": 4, "hidden_size": 32},
    "qwen2_5_vl": {
        "hidden_act": "silu",
        "hidden_size": 32,
        "intermediate_size": 48,
        "out_hidden_size": 32,
        "window_size": 56,
        "fullatt_block_indexes": [1],
        "tokens_per_second": 2,
    },
}
SPARE_ROWS = 8  # of the token table, as Qwen2-VL's has more rows than its tokenizer tokens


@dataclass
class Published:
    """A folder as on the Hub, and the model that it was written from, in transformers 5's own form (peft's, for an adapter)."""

    folder: Path
    model: nn.Module
    tokenizer: Tokenizer

    def id(self, token: str) -> int:
        return self.tokenizer.token_to_id(token)


# ------------------------------------------------------------------------------------------------------------- writing


def write_qwen2_vl(
    folder: Path,
    *,
    tied: bool = True,
    rows: int = 0,
    seed: int = 0,
    kind: Literal["qwen2_vl", "qwen2_5_vl"] = "qwen2_vl",
) -> Published:
    """A full checkpoint with random weights: config.json of transformers 4.41, one safetensors file, slow processor files.

    Args:
        tied: whether the projection to the vocabulary is the token table (2B) or has weights of its own (7B).
        rows: of the token table; 0 for a few more than there are tokens.
    """
    folder.mkdir(parents=True)
    tokenizer = write_tokenizer(folder)
    ids = {
        name: tokenizer.token_to_id(f"<|{name}|>") for name in ("image_pad", "video_pad", "vision_start", "vision_end")
    }
    config = {
        "architectures": [CLASSES[kind]],
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.token_to_id("<|endoftext|>"),
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "vision_start_token_id": ids["vision_start"],
        "vision_end_token_id": ids["vision_end"],
        "vision_token_id": tokenizer.token_to_id("<|vision_pad|>"),
        "image_token_id": ids["image_pad"],
        "video_token_id": ids["video_pad"],
        "hidden_act": "silu",
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 64,
        "max_position_embeddings": 4096,
        "max_window_layers": 2,
        "model_type": kind,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": 4096,
        "tie_word_embeddings": tied,
        "torch_dtype": "float32",
        "transformers_version": "4.41.2",
        "use_cache": True,
        "use_sliding_window": False,
        "vision_config": {**VISION["all"], **VISION[kind]},
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
        "vocab_size": rows or tokenizer.get_vocab_size() + SPARE_ROWS,
    }
    _write(folder / "config.json", config)
    model = stir(_build(folder), seed)
    _save(folder / "model.safetensors", {old_name(name): tensor for name, tensor in _weights(model, tied).items()})
    _write(
        folder / "preprocessor_config.json",
        {
            "min_pixels": 3136,
            "max_pixels": 12845056,
            "patch_size": 14,
            "temporal_patch_size": 2,
            "merge_size": 2,
            "image_mean": MEAN,
            "image_std": STD,
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2VLProcessor" if kind == "qwen2_vl" else "Qwen2_5_VLProcessor",
        },
    )
    return Published(folder, model, tokenizer)


def write_tokenizer(folder: Path, extra: Sequence[str] = ()) -> Tokenizer:
    """tokenizer.json, tokenizer_config.json, vocab.json and merges.txt as Qwen2-VL's repositories have them."""
    vocab, merges = byte_bpe([])
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added = [AddedToken(token, special=True, normalized=False) for token in SPECIALS]
    tokenizer.add_tokens([*added, *(AddedToken(token, normalized=True) for token in extra)])
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(folder / "vocab.json", vocab)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    decoder = {
        str(tokenizer.token_to_id(token)): {
            "content": token,
            "lstrip": False,
            "normalized": token in extra,
            "rstrip": False,
            "single_word": False,
            "special": token in SPECIALS,
        }
        for token in (*SPECIALS, *extra)
    }
    _write(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "added_tokens_decoder": decoder,
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>", *SPECIALS[3:]],
            "bos_token": None,
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "errors": "replace",
            "model_max_length": 32768,
            "pad_token": "<|endoftext|>",
            "padding_side": "left",
            "split_special_tokens": False,
            "tokenizer_class": "Qwen2Tokenizer",
            "unk_token": None,
        },
    )
    return tokenizer


TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def write_adapter(
    base: Published, folder: Path, *, base_name: str, dora: bool = True, pickled: bool = False, seed: int = 1
) -> Published:
    """An adapter repository as VLM2Vec's: matrices under old names, and the base's config.json and tokenizer beside them.

    B and the magnitudes are far from where training begins, where an adapter that is not read would not show.
    """
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        (folder / name).write_bytes((base.folder / name).read_bytes())
    fresh = _build(base.folder)
    fresh.load_state_dict(base.model.state_dict())
    settings = {"r": 4, "lora_alpha": 16, "lora_dropout": 0.1, "use_dora": dora, "target_modules": list(TARGETS)}
    model = get_peft_model(fresh, LoraConfig(**settings, init_lora_weights="gaussian")).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
            elif "magnitude" in name:
                weight.mul_(1 + 0.3 * torch.rand(weight.shape, generator=generator))
    tensors = {
        name.replace("base_model.model.model.language_model.", "base_model.model.model."): tensor
        for name, tensor in get_peft_model_state_dict(model).items()
        if ".visual." not in name
    }
    if pickled:
        torch.save(tensors, folder / "adapter_model.bin")
    else:
        _save(folder / "adapter_model.safetensors", tensors)
    _write(
        folder / "adapter_config.json",
        {
            "alpha_pattern": {},
            "auto_mapping": None,
            "base_model_name_or_path": base_name,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "init_lora_weights": "gaussian",
            "layer_replication": None,
            "layers_pattern": None,
            "layers_to_transform": None,
            "loftq_config": {},
            "megatron_config": None,
            "megatron_core": "megatron.core",
            "modules_to_save": None,
            "peft_type": "LORA",
            "rank_pattern": {},
            "revision": None,
            "task_type": None,
            "use_rslora": False,
            **settings,
        },
    )
    return Published(folder, model.base_model.model, base.tokenizer)


def old_name(name: str) -> str:
    """The name that a tensor had before transformers 5."""
    return name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")


def _weights(model: nn.Module, tied: bool) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if not (tied and name == "lm_head.weight")}


def _build(folder: Path) -> nn.Module:
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder)
    return getattr(transformers, CLASSES[config.model_type])(config).eval()


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, path, {"format": "pt"})


# ------------------------------------------------------------------------------------------- the authors' forward passes


@dataclass
class Row:
    """One item as the authors' code has it just before the processor: its whole prompt, images and videos in order."""

    prompt: str
    images: Sequence[Any] = ()
    videos: Sequence[np.ndarray] = ()


def states(
    published: Published,
    rows: Sequence[Row],
    *,
    pixels: tuple[int, int],
    positions: Literal["arange", "cumulative", "mrope"] = "cumulative",
    side: Literal["left", "right"] = "left",
    bidirectional: bool = False,
    frame_pixels: tuple[int, int] = (),
    patch: int = 14,
) -> tuple[Tensor, Tensor, Tensor]:
    """Last layer's states `(rows, tokens, width)`, ids and mask `(rows, tokens)` of a padded batch.

    Args:
        positions: "arange" over the padded row, as a decoder of transformers 4 counts that is given embeddings alone;
            "cumulative" over real tokens; "mrope" with rows and columns of images.
        pixels, frame_pixels: fewest and most of an image, and of a frame where it differs. patch: pixels of its side.
    """
    model = getattr(published.model, "model", published.model)
    image_id, video_id = published.id("<|image_pad|>"), published.id("<|video_pad|>")
    read = [_ids(published, row, pixels, frame_pixels or pixels, patch) for row in rows]
    width = max(len(ids) for ids, _, _ in read)
    pad = published.id("<|endoftext|>")
    ids, mask, places = [], [], []
    for row, grids, _ in read:
        empty = width - len(row)
        real = (
            _mrope(row, grids, {image_id, video_id}) if positions == "mrope" else torch.arange(len(row)).expand(3, -1)
        )
        filler = torch.zeros(3, empty, dtype=torch.long)
        left = side == "left"
        ids.append([pad] * empty + row if left else row + [pad] * empty)
        mask.append([0] * empty + [1] * len(row) if left else [1] * len(row) + [0] * empty)
        places.append(torch.cat([filler, real] if left else [real, filler], 1))
    ids, mask = torch.tensor(ids), torch.tensor(mask)
    place = torch.stack(places, 1)
    if positions == "arange":
        place = torch.arange(width).expand(3, len(rows), -1)
    with torch.inference_mode():
        embeds = model.get_input_embeddings()(ids)
        for token, kind in ((image_id, "image"), (video_id, "video")):
            # The batch's order of images is that of the rows.
            features = [
                model.visual(values, grid_thw=grid).pooler_output
                for _, _, found in read
                for values, grid in found[kind]
            ]
            if features:
                embeds[ids == token] = torch.cat(features)
        seen = torch.where(mask.bool()[:, None, None], 0.0, torch.finfo(torch.float32).min).expand(-1, 1, width, -1)
        out = model.language_model(
            input_ids=None, inputs_embeds=embeds, position_ids=place, attention_mask=seen if bidirectional else mask
        )
    return out.last_hidden_state, ids, mask


def last(hidden: Tensor, mask: Tensor) -> Tensor:
    """Unit vectors of the last real tokens (VLM2Vec's `_pooling`, src/model/model.py)."""
    rows = torch.arange(len(hidden))
    if mask[:, -1].sum() == len(mask):
        return nn.functional.normalize(hidden[rows, -1], dim=-1)
    return nn.functional.normalize(hidden[rows, mask.sum(1) - 1], dim=-1)


def _ids(
    published: Published, row: Row, pixels: tuple[int, int], frame_pixels: tuple[int, int], patch: int
) -> tuple[list[int], list[list[int]], dict[str, list]]:
    from transformers import Qwen2VLImageProcessor
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    mean, std = (MEAN, STD) if patch == 14 else ([0.5] * 3, [0.5] * 3)
    settings = {"image_mean": mean, "image_std": std, "patch_size": patch}
    found: dict[str, list] = {"image": [], "video": []}
    prompt, grids = row.prompt, []
    for image in row.images:
        size = {"shortest_edge": pixels[0], "longest_edge": pixels[1]}
        made = Qwen2VLImageProcessor(size=size, **settings)(images=[image], return_tensors="pt")
        found["image"].append((made["pixel_values"], made["image_grid_thw"]))
    for frames in row.videos:
        size = {"shortest_edge": frame_pixels[0], "longest_edge": frame_pixels[1]}
        video = torch.from_numpy(frames).permute(0, 3, 1, 2)
        made = Qwen2VLVideoProcessor(size=size, **settings)(videos=[video], return_tensors="pt")
        found["video"].append((made["pixel_values_videos"], made["video_grid_thw"]))
    turn = {kind: iter(some) for kind, some in found.items()}
    parts = re.split(r"<\|(image|video)_pad\|>", prompt)
    prompt = parts[0]
    for kind, rest in zip(parts[1::2], parts[2::2], strict=True):
        grid = next(turn[kind])[1]
        grids.append(grid[0].tolist())
        prompt += f"<|{kind}_pad|>" * (int(grid.prod()) // 4) + rest
    assert all(next(some, None) is None for some in turn.values())
    return published.tokenizer.encode(prompt, add_special_tokens=False).ids, grids, found


def _mrope(ids: list[int], grids: list[list[int]], pads: set[int]) -> Tensor:
    """Positions `(3, tokens)` of Qwen2-VL: images by time, row and column, then on from the largest (paper, section 2.1).

    Two places pass between two frames' patches of a video that is shown two frames a second (Qwen2.5-VL, section 2.1.3).
    """
    out, at, following, grid = [], 0, 0, iter(grids)
    while at < len(ids):
        if ids[at] not in pads:
            out.append(torch.full((3, 1), following))
            at, following = at + 1, following + 1
            continue
        t, h, w = next(grid)
        index = torch.cartesian_prod(2 * torch.arange(t), torch.arange(h // 2), torch.arange(w // 2)).T + following
        out.append(index)
        at, following = at + index.shape[1], int(index.max()) + 1
    return torch.cat(out, 1)


# ------------------------------------------------------------------------------------------------------ items and children


def make_image(seed: int, width: int = 90, height: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def make_video(seed: int, frames: int = 8, width: int = 70, height: int = 44) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


QUESTION, SAME = "Find a document image that matches the given query:", "Find the same thing in another colour."


def items(videos: Literal["", "short", "all"] = "") -> list[Item]:
    """Texts of several lengths, images of several shapes, both, with and without an instruction; videos on request."""
    found = [
        Item(text="a red bicycle"),
        Item(text="Two DOGS playing in the snow, " * 6),
        Item(text="where is it written?", instruction=QUESTION),
        Item(image=make_image(0)),
        Item(image=make_image(1, 40, 200), text="the same in blue"),
        Item(image=make_image(2, 160, 30), text="the same in blue\n", instruction=SAME),
        Item(image=make_image(0), instruction=SAME),
    ]
    if videos == "short":
        found.append(Item(video=make_video(4, frames=3), text="someone runs", instruction="Find the clip:"))
    if videos == "all":
        found += [
            Item(video=make_video(3)),
            Item(video=make_video(4, frames=5), text="someone runs", instruction="Find the clip:"),
            Item(video=make_video(5, frames=21), instruction="Understand the content of the provided video."),
        ]
    return found


def embed(name: str, *, videos: str = "", spec: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """Vectors of `items` by a model loaded by name, for a child process that talks to the loopback hub.

    Args:
        spec: facts to register beforehand, so that `name` is a registered one.
    """
    if spec is not None:
        from zoo.registry import register_model

        register_model(**spec, modalities={"text", "image"} | ({"video"} if videos else set()))(_only_loaded)
    model = zoo.load_model(name, **options)
    return {"vectors": model.encode(items(videos)).tolist(), "spec": model.spec.to_dict()}


def _only_loaded(spec: zoo.ModelSpec) -> zoo.Embedder:
    raise AssertionError(f"{spec.name} is loaded, never built")
