"""LLaVA backbones by size, and tiny ones that read the bytes of any text."""

from typing import Any

from zoo.models.backbones import byte_specials, byte_tokenizer
from zoo.registry import Facts

# Facts of every embedder on a backbone that keeps its width.
ON_LLAVA_NEXT: dict[str, Facts] = {
    "mistral-7b": {"dim": 4096, "params": 7_435_413_504, "base": "llava-hf/llava-v1.6-mistral-7b-hf"},
    "llama3-8b": {"dim": 4096, "params": 7_829_678_080, "base": "lmms-lab/llama3-llava-next-8b"},
}
ON_LLAVA_ONEVISION: Facts = {"dim": 3584, "params": 7_485_580_832, "base": "llava-hf/llava-onevision-qwen2-7b-ov-hf"}
ON_LLAVA_PHI35: Facts = {"dim": 3072, "params": 4_038_347_776, "base": "microsoft/Phi-3.5-mini-instruct"}

TINY_CROPS = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]
_CLIP_LARGE = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
    "projection_dim": 768,
    "vocab_size": 32000,
}


def llava_next(size: str) -> dict[str, Any]:
    """LLaVA-NeXT (1.6), CLIP at 336 pixels in up to five crops: "mistral-7b" or "llama3-8b" (as E5-V has it)."""
    text = {
        "mistral-7b": {"model_type": "mistral", "vocab_size": 32064, "max_position_embeddings": 32768},
        "llama3-8b": {"model_type": "llama", "vocab_size": 128320, "max_position_embeddings": 8192},
    }[size]
    rope = {"rope_type": "default", "rope_theta": {"mistral-7b": 1000000.0, "llama3-8b": 500000.0}[size]}
    return {
        "model_type": "llava_next",
        "text_config": {
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-5,
            "rope_parameters": rope,
            **({"sliding_window": None} if size == "mistral-7b" else {}),
            **text,
        },
        "vision_config": {**_CLIP_LARGE, "image_size": 336},
        "image_token_index": {"mistral-7b": 32000, "llama3-8b": 128256}[size],
        "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
    }


def llava_onevision() -> dict[str, Any]:
    """LLaVA-OneVision (Li et al., 2024, arxiv:2408.03326) on Qwen2-7B, SigLIP at 384 pixels in up to 36 crops."""
    return {
        "model_type": "llava_onevision",  # the rest of its vision layers is what transformers takes by default
        "text_config": {
            "model_type": "qwen2",
            "vocab_size": 152128,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
        "image_token_index": 151646,
        "video_token_index": 151647,
    }


def llava_phi35() -> dict[str, Any]:
    """LLaVA with CLIP at 224 pixels and Phi-3.5-mini, as InstructCIR has it."""
    return {
        "model_type": "llava",
        "text_config": {"model_type": "phi3", "vocab_size": 32064, "max_position_embeddings": 4096},
        "vision_config": {**_CLIP_LARGE, "image_size": 224},
        "image_token_index": 32011,
    }


def tiny_llava(kind: str) -> dict[str, Any]:
    """A "llava", "llava_next" or "llava_onevision" of 50 thousand weights that reads `llava_processor(kind)`'s tokens."""
    special = byte_specials()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = {
        "model_type": kind,
        "text_config": {
            **sizes,
            "model_type": {"llava": "phi3", "llava_next": "mistral", "llava_onevision": "qwen2"}[kind],
            "vocab_size": 320,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "pad_token_id": special["<|endoftext|>"],
        },
        "vision_config": {
            **sizes,
            "model_type": "siglip_vision_model" if kind == "llava_onevision" else "clip_vision_model",
            "num_hidden_layers": 2 if kind == "llava_onevision" else 3,
            "image_size": 28,
            "patch_size": 14,
        },
        "image_token_index": special["<image>"],
    }
    if kind != "llava":
        config["image_grid_pinpoints"] = TINY_CROPS
    if kind == "llava_onevision":
        config["video_token_index"] = special["<video>"]
        config["vision_config"]["vision_use_head"] = False
    return config


def llava_processor(kind: str) -> Any:
    """The processor of "llava", "llava_next" or "llava_onevision" around `byte_tokenizer`, for crops of 28 pixels."""
    import transformers

    tokenizer, crop = byte_tokenizer(), {"height": 28, "width": 28}
    if kind == "llava":
        images = transformers.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size=crop)
        return transformers.LlavaProcessor(images, tokenizer)
    if kind == "llava_next":
        images = transformers.LlavaNextImageProcessor(size={"shortest_edge": 28}, crop_size=crop)
        return transformers.LlavaNextProcessor(images, tokenizer)
    videos = transformers.LlavaOnevisionVideoProcessor(size=crop)
    return transformers.LlavaOnevisionProcessor(transformers.LlavaOnevisionImageProcessor(size=crop), tokenizer, videos)
