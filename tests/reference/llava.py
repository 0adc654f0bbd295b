"""LLaVA checkpoints as they were published before transformers 5, and the authors' forward passes written out plainly.

Nothing here calls the zoo's encoder, renderer or poolers, nor transformers' own merging of images into a sequence: crops are
laid out, cut and joined by a few lines of torch from the papers, and tokens come from the tokenizer's file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn import functional as F

from tests.reference.base import stir
from tests.reference.vocab import PAGE, byte_bpe

Kind = Literal["llava_next", "llava_onevision", "instructcir_llava_phi35"]
CROP, PATCH = 28, 14
PINPOINTS = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]
MANY_PINPOINTS = [[28 * i, 28 * j] for i in range(1, 5) for j in range(1, 5)]  # more crops than anyres_max_4 keeps
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
LONG, SHORT = [1.5, 2.0, 3.0, 4.0], [1.0, 1.2, 1.4, 1.6]  # Phi-3.5's factors of angles, for heads of 8
ORIGINAL, STRETCHED = 4096, 131072
SPECIALS = {
    "llama": ("<unk>", "<s>", "</s>"),
    "llama3": ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "phi": ("<unk>", "<s>", "</s>", "<|endoftext|>", "<|assistant|>", "<|end|>", "<|user|>"),
    "qwen": ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
}
BEGINS = {"llama": "<s>", "llama3": "<|begin_of_text|>", "phi": "<s>", "qwen": None}


@dataclass
class Published:
    """A folder as on the Hub, and the model that it was written from, in transformers 5's own form."""

    folder: Path
    model: nn.Module
    tokenizer: Tokenizer
    kind: Kind
    config: dict[str, Any] = field(repr=False)


# ------------------------------------------------------------------------------------------------------------- writing


def write(folder: Path, kind: Kind, words: str, text: dict[str, Any] | None = None, *, seed: int = 0) -> Published:
    """A full checkpoint of random weights under old names, its config.json and processor files as transformers 4 wrote them.

    Args:
        words: of which family its tokenizer is, a key of `SPECIALS`. text: more of the configuration of its text layers.
    """
    folder.mkdir(parents=True)
    tokenizer = write_tokenizer(folder, words)
    config = _config(kind, tokenizer, text or {})
    _write(folder / "config.json", config)
    model = stir(_build(kind, config), seed)
    _save_weights(folder, kind, {old_name(name): tensor for name, tensor in model.state_dict().items()})
    _write_processor(folder, kind)
    return Published(folder, model, tokenizer, kind, config)


def old_name(name: str) -> str:
    """The name that a tensor had before transformers 5: the language model was a whole one, CLIP had one level more."""
    if name.startswith("lm_head."):
        return f"language_model.{name}"
    name = name.removeprefix("model.")
    name = name.replace("language_model.", "language_model.model.")
    return name.replace("vision_tower.", "vision_tower.vision_model.")


def write_tokenizer(folder: Path, words: str) -> Tokenizer:
    """tokenizer.json and tokenizer_config.json, with the beginning that it puts before a text."""
    specials = [*SPECIALS[words], "<image>", "<video>", "<pad>"]
    if words in ("llama", "phi"):
        vocab, merges = _sentencepiece(specials)
        tokenizer = Tokenizer(
            models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
        )
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    else:
        vocab, merges = byte_bpe(specials)
        tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    begin = BEGINS[words]
    if begin is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, tokenizer.token_to_id(begin))]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    entries = {
        str(tokenizer.token_to_id(token)): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for token in specials
    }
    own = {
        "llama": {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, "legacy": True},
        "phi": {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, "legacy": False},
        "llama3": {"tokenizer_class": "PreTrainedTokenizerFast"},
        "qwen": {"tokenizer_class": "Qwen2Tokenizer"},
    }[words]
    marks = {"unk_token": "<unk>", "eos_token": "</s>"} if words in ("llama", "phi") else {"eos_token": specials[2]}
    _write(
        folder / "tokenizer_config.json",
        {
            **own,
            **marks,
            "added_tokens_decoder": entries,
            "bos_token": begin,
            "clean_up_tokenization_spaces": False,
            "model_max_length": 32768,
            "pad_token": "<pad>",
            "padding_side": "left",
            "processor_class": "LlavaProcessor" if words == "phi" else "LlavaNextProcessor",
        },
    )
    if words == "qwen":
        _write(folder / "vocab.json", vocab)
        (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), "utf-8")
    return tokenizer


def _sentencepiece(specials: Sequence[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Llama's kind of vocabulary: spaces as "▁", and a token for each byte."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    all_bytes = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer.train_from_iterator(
        PAGE, trainers.BpeTrainer(vocab_size=500, special_tokens=[*specials[:3], *all_bytes], show_progress=False)
    )
    made = json.loads(tokenizer.to_str())["model"]
    return made["vocab"], [tuple(pair) for pair in made["merges"]]


def _config(kind: Kind, tokenizer: Tokenizer, text: dict[str, Any]) -> dict[str, Any]:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2}
    config = {
        "architectures": [ARCHITECTURES[kind]],
        "ignore_index": -100,
        "image_token_index": tokenizer.token_to_id("<image>"),
        "model_type": kind,
        "pad_token_id": tokenizer.token_to_id("<pad>"),
        "projector_hidden_act": "gelu",
        "text_config": {
            **sizes,
            "num_key_value_heads": 2,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-05,
            "torch_dtype": "float32",
            "vocab_size": tokenizer.get_vocab_size() + 5,
            **text,
        },
        "torch_dtype": "float32",
        "transformers_version": "4.42.0",
        "vision_config": {
            **sizes,
            "image_size": CROP,
            "model_type": "siglip_vision_model" if kind == "llava_onevision" else "clip_vision_model",
            "num_hidden_layers": 3,
            "patch_size": PATCH,
        },
        "vision_feature_layer": -1 if kind == "llava_onevision" else -2,
        "vision_feature_select_strategy": "full" if kind == "llava_onevision" else "default",
    }
    if kind == "llava_next":
        config |= {"image_grid_pinpoints": PINPOINTS, "use_image_newline_parameter": True, "tie_word_embeddings": False}
    if kind == "llava_onevision":
        config |= {
            "image_grid_pinpoints": MANY_PINPOINTS,
            "use_image_newline_parameter": True,
            "video_token_index": tokenizer.token_to_id("<video>"),
            "vision_aspect_ratio": "anyres_max_4",
        }
        config["vision_config"]["vision_use_head"] = False
    if kind == "instructcir_llava_phi35":
        config["ret_proj_dim"] = None
    return config


ARCHITECTURES = {
    "llava_next": "LlavaNextForConditionalGeneration",
    "llava_onevision": "LlavaOnevisionForConditionalGeneration",
    "instructcir_llava_phi35": "InstructCIRLlavaPhi35ForConditionalGeneration",
}
# InstructCIR's text layers: Phi-3.5 in Llama's parts, under the name of Phi-3 and with the keys that Llama's code asks for.
PHI35 = {
    "model_type": "phi3",
    "attention_bias": False,
    "mlp_bias": False,
    "pretraining_tp": 1,
    "max_position_embeddings": STRETCHED,
    "original_max_position_embeddings": ORIGINAL,
    "rope_theta": 10000.0,
    "rope_scaling": {"long_factor": LONG, "short_factor": SHORT, "type": "longrope"},
    "sliding_window": 262144,
}


def _build(kind: Kind, config: dict[str, Any]) -> nn.Module:
    import transformers

    name = "LlavaForConditionalGeneration" if kind == "instructcir_llava_phi35" else ARCHITECTURES[kind]
    cls = getattr(transformers, name)
    facts = {key: value for key, value in config.items() if key not in ("architectures", "model_type", "torch_dtype")}
    if kind == "instructcir_llava_phi35":  # only its tensors are used: names and shapes are Llama's
        text = {k: v for k, v in facts["text_config"].items() if not k.startswith(("rope_", "original_"))}
        facts["text_config"] = {**text, "model_type": "llama"}
    return cls(cls.config_class(**facts)).eval()


def _save_weights(folder: Path, kind: Kind, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    if kind != "instructcir_llava_phi35":
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return
    names = sorted(tensors)
    shards = {f"pytorch_model-0000{i + 1}-of-00002.bin": names[i::2] for i in range(2)}
    for shard, some in shards.items():
        torch.save({name: tensors[name] for name in some}, folder / shard)
    weight_map = {name: shard for shard, some in shards.items() for name in some}
    _write(folder / "pytorch_model.bin.index.json", {"metadata": {}, "weight_map": weight_map})


def _write_processor(folder: Path, kind: Kind) -> None:
    """preprocessor_config.json as of slow processors; LLaVA-NeXT's of that time had no processor_config.json."""
    settings = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": MEAN,
        "image_std": STD,
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
    }
    square = {"height": CROP, "width": CROP}
    if kind == "llava_onevision":
        settings |= {"image_grid_pinpoints": MANY_PINPOINTS, "size": square, "do_pad": True}
        settings |= {
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "processor_class": "LlavaOnevisionProcessor",
        }
        _write(
            folder / "processor_config.json",
            {
                "image_token": "<image>",
                "num_image_tokens": (CROP // PATCH) ** 2,
                "processor_class": "LlavaOnevisionProcessor",
                "video_token": "<video>",
                "vision_feature_select_strategy": "full",
            },
        )
    else:
        settings |= {"crop_size": square, "do_center_crop": True, "size": {"shortest_edge": CROP}}
        if kind == "llava_next":
            settings |= {"aspect_ratio_setting": "anyres", "image_grid_pinpoints": PINPOINTS}
            settings |= {"image_processor_type": "LlavaNextImageProcessor", "processor_class": "LlavaNextProcessor"}
        else:
            settings |= {"image_processor_type": "CLIPImageProcessor", "processor_class": "LlavaProcessor"}
            _write(folder / "processor_config.json", {"chat_template": None, "processor_class": "LlavaProcessor"})
    _write(folder / "preprocessor_config.json", settings)


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def write_adapter(base: Published, folder: Path, *, targets: str, seed: int = 1) -> Published:
    """A DoRA adapter for a folder here, under the names that its matrices had before transformers 5.

    B and the magnitudes are far from where training begins, where an adapter that is not read would not show.

    Args:
        targets: expression for the layers that are adapted.
    """
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    fresh = _build(base.kind, base.config)
    fresh.load_state_dict(base.model.state_dict())
    settings = {"r": 4, "lora_alpha": 16, "use_dora": True, "target_modules": targets}
    model = get_peft_model(fresh, LoraConfig(**settings, init_lora_weights="gaussian")).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
            elif "magnitude" in name:
                weight.mul_(1 + 0.3 * torch.rand(weight.shape, generator=generator))
    prefix = "base_model.model."
    tensors = {
        prefix + old_name(name.removeprefix(prefix)): tensor.contiguous()
        for name, tensor in get_peft_model_state_dict(model).items()
    }
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    facts = {"peft_type": "LORA", "base_model_name_or_path": str(base.folder), "bias": "none", "task_type": None}
    _write(folder / "adapter_config.json", {**facts, **settings})
    return Published(folder, model.base_model.model, base.tokenizer, base.kind, base.config)


# ------------------------------------------------------------------------------------------- the authors' forward passes


@dataclass
class Row:
    """One item as the authors' code has it just before the processor: its whole prompt, images and videos in order."""

    prompt: str
    images: Sequence[Any] = ()
    videos: Sequence[np.ndarray] = ()


def vectors(published: Published, rows: Sequence[Row], side: str = "left") -> Tensor:
    """Unit vectors `(rows, width)` of the last real tokens; the texts begin as the tokenizer's file has it."""
    model = published.model.model
    with torch.inference_mode():
        embedded = [_sequence(published, row) for row in rows]
        width = max(len(row) for row in embedded)
        embeds = torch.zeros(len(rows), width, embedded[0].shape[1])
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for i, row in enumerate(embedded):
            at = slice(width - len(row), width) if side == "left" else slice(0, len(row))
            embeds[i, at], mask[i, at] = row, 1
        positions = (mask.cumsum(1) - 1).masked_fill(mask == 0, 1)
        if published.kind == "instructcir_llava_phi35":
            hidden = phi_llama(published.model.state_dict(), embeds, mask.bool(), positions)
        else:
            hidden = model.language_model(
                inputs_embeds=embeds, attention_mask=mask, position_ids=positions
            ).last_hidden_state
        at = [width - 1 if side == "left" else int(row.sum()) - 1 for row in mask]
        return F.normalize(hidden[torch.arange(len(rows)), at], dim=-1)


def _sequence(published: Published, row: Row) -> Tensor:
    """Embeddings `(tokens, width)` of a prompt, each mark replaced by the features of its image or video."""
    ids = published.tokenizer.encode(row.prompt, add_special_tokens=True).ids
    table = published.model.model.get_input_embeddings().weight
    images, videos = iter(row.images), iter(row.videos)
    parts = []
    for token in ids:
        if token == published.tokenizer.token_to_id("<image>"):
            parts.append(_image(published, next(images)))
        elif token == published.tokenizer.token_to_id("<video>"):
            parts.append(_video(published, next(videos)))
        else:
            parts.append(table[token][None])
    assert next(images, None) is None
    assert next(videos, None) is None
    return torch.cat(parts)


def _image(published: Published, image: Any) -> Tensor:
    import transformers

    square = {"height": CROP, "width": CROP}
    normal = {"image_mean": MEAN, "image_std": STD, "resample": 3}
    if published.kind == "instructcir_llava_phi35":
        made = transformers.CLIPImageProcessor(size={"shortest_edge": CROP}, crop_size=square, **normal)
        return _project(published, made(images=[image], return_tensors="pt")["pixel_values"])[0]
    if published.kind == "llava_next":
        made = transformers.LlavaNextImageProcessor(
            size={"shortest_edge": CROP}, crop_size=square, image_grid_pinpoints=PINPOINTS, **normal
        )
    else:
        made = transformers.LlavaOnevisionImageProcessor(size=square, image_grid_pinpoints=MANY_PINPOINTS, **normal)
    crops = made(images=[image], return_tensors="pt")["pixel_values"][0]
    features, newline = _project(published, crops), published.model.model.image_newline
    width, height = image.size
    grid = _grid((height, width), published.config["image_grid_pinpoints"])
    return torch.cat([features[0], _laid_out(features[1:], grid, (height, width), newline, published.config)])


def _project(published: Published, pixels: Tensor) -> Tensor:
    """Features `(crops, patches, width)`: a layer of the vision tower, through two linear layers with GELU between."""
    model, config = published.model.model, published.config
    states = model.vision_tower(pixels, output_hidden_states=True).hidden_states[config["vision_feature_layer"]]
    if config["vision_feature_select_strategy"] == "default":
        states = states[:, 1:]
    project = model.multi_modal_projector
    return project.linear_2(F.gelu(project.linear_1(states)))


def _grid(size: tuple[int, int], pinpoints: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Rows and columns of crops: the resolution that keeps the most of the image, and of those wastes the least."""

    def worth(pinpoint: Sequence[int]) -> tuple[int, int]:
        scale = min(pinpoint[1] / size[1], pinpoint[0] / size[0])
        kept = min(int(size[1] * scale) * int(size[0] * scale), size[0] * size[1])
        return kept, kept - pinpoint[0] * pinpoint[1]

    best = max(pinpoints, key=worth)
    return best[0] // CROP, best[1] // CROP


def _laid_out(crops: Tensor, grid: tuple[int, int], size: tuple[int, int], newline: Tensor, config: dict) -> Tensor:
    """Crops side by side, the padding around the image cut off, a newline after every row ("spatial_unpad")."""
    side, (rows, columns) = CROP // PATCH, grid
    lines = [torch.cat([crops[r * columns + c].view(side, side, -1) for c in range(columns)], 1) for r in range(rows)]
    plane = torch.cat(lines)  # (rows · side, columns · side, width)
    height, width = plane.shape[:2]
    if size[1] / size[0] > width / height:
        cut = (height - int(round(size[0] * (width / size[1]), 7))) // 2
        plane = plane[cut : height - cut]
    else:
        cut = (width - int(round(size[1] * (height / size[0]), 7))) // 2
        plane = plane[:, cut : width - cut]
    if "vision_aspect_ratio" in config:
        most = int(config["vision_aspect_ratio"].rpartition("_")[2])
        ratio = math.sqrt(plane.shape[0] * plane.shape[1] / (most * side**2))
        if ratio > 1.1:
            smaller = [int(plane.shape[0] // ratio), int(plane.shape[1] // ratio)]
            plane = F.interpolate(plane.permute(2, 0, 1)[None], smaller, mode="bilinear")[0].permute(1, 2, 0)
    return torch.cat([torch.cat([line, newline[None]]) for line in plane])


def _video(published: Published, video: np.ndarray) -> Tensor:
    """LLaVA-OneVision: each frame as one crop, its plane halved by bilinear interpolation, one newline after them all."""
    from transformers import LlavaOnevisionVideoProcessor

    made = LlavaOnevisionVideoProcessor(
        size={"height": CROP, "width": CROP}, image_mean=MEAN, image_std=STD, resample=3
    )
    frames = made(videos=[torch.from_numpy(video).permute(0, 3, 1, 2)], return_tensors="pt")["pixel_values_videos"][0]
    side = CROP // PATCH
    planes = _project(published, frames).view(len(frames), side, side, -1).permute(0, 3, 1, 2)
    halved = F.interpolate(planes, size=[math.ceil(side / 2)] * 2, mode="bilinear").flatten(2).transpose(1, 2)
    return torch.cat([halved.flatten(0, 1), published.model.model.image_newline[None]])


def phi_llama(weights: dict[str, Tensor], embeds: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    """InstructCIR's decoder (its modeling_llama.py with Phi3LongRoPEScaledRotaryEmbedding), states `(rows, tokens, 32)`."""
    heads, groups, size = 4, 2, 8
    assert int(positions.max()) < ORIGINAL  # where the short factors count
    angles = 1.0 / (torch.tensor(SHORT) * 10000.0 ** (torch.arange(0, size, 2) / size))
    turned = positions[:, :, None] * torch.cat([angles, angles])
    scale = math.sqrt(1 + math.log(STRETCHED / ORIGINAL) / math.log(ORIGINAL))
    cos, sin = turned.cos()[:, None] * scale, turned.sin()[:, None] * scale
    rows, tokens, _ = embeds.shape
    seen = torch.ones(tokens, tokens, dtype=torch.bool).tril() & mask[:, None, None]
    seen |= torch.eye(tokens, dtype=torch.bool)  # padding sees itself, so that nothing is divided by zero

    def norm(states: Tensor, name: str) -> Tensor:
        return states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + 1e-5) * weights[f"{name}.weight"]

    def rotate(states: Tensor) -> Tensor:
        return states * cos + torch.cat([-states[..., size // 2 :], states[..., : size // 2]], -1) * sin

    hidden = embeds
    for layer in range(2):
        at = f"model.language_model.layers.{layer}"
        x = norm(hidden, f"{at}.input_layernorm")
        q, k, v = (
            (x @ weights[f"{at}.self_attn.{part}_proj.weight"].T).view(rows, tokens, -1, size).transpose(1, 2)
            for part in "qkv"
        )
        q, k = rotate(q), rotate(k).repeat_interleave(heads // groups, 1)
        scores = (q @ k.transpose(2, 3) / math.sqrt(size)).masked_fill(~seen, -torch.inf).softmax(-1)
        mixed = (scores @ v.repeat_interleave(heads // groups, 1)).transpose(1, 2).reshape(rows, tokens, -1)
        hidden = hidden + mixed @ weights[f"{at}.self_attn.o_proj.weight"].T
        x = norm(hidden, f"{at}.post_attention_layernorm")
        gate, up, down = (weights[f"{at}.mlp.{part}_proj.weight"] for part in ("gate", "up", "down"))
        hidden = hidden + (F.silu(x @ gate.T) * (x @ up.T)) @ down.T
    return norm(hidden, "model.language_model.norm")
