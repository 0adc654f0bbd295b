"""Qwen's vision-language backbones by size, the facts of every model on one, and tiny ones that read the bytes of any text."""

from typing import Any

from zoo.registry import Facts

QWEN_TOKENS = {
    "image_token_id": 151655,
    "video_token_id": 151656,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
}
TINY_PIXELS = (28 * 28, 16 * 28 * 28)  # of test models: images of 1 to 16 tokens
QWEN_MEDIA = {
    "image": "<|vision_start|><|image_pad|><|vision_end|>",
    "video": "<|vision_start|><|video_pad|><|vision_end|>",
}


OMNI_MEDIA = {
    "image": "<|vision_bos|><|IMAGE|><|vision_eos|>",
    "video": "<|vision_bos|><|VIDEO|><|vision_eos|>",
    "audio": "<|audio_bos|><|AUDIO|><|audio_eos|>",
}


# Facts of every embedder on a backbone that keeps its width.
ON_QWEN2_VL: dict[str, Facts] = {
    "2b": {"dim": 1536, "params": 2_208_985_600, "base": "Qwen/Qwen2-VL-2B-Instruct"},
    "7b": {"dim": 3584, "params": 7_746_378_240, "base": "Qwen/Qwen2-VL-7B-Instruct"},
}
ON_QWEN25_VL: dict[str, Facts] = {
    "3b": {"dim": 2048, "params": 3_754_622_976, "base": "Qwen/Qwen2.5-VL-3B-Instruct"},
    "7b": {"dim": 3584, "params": 7_747_169_280, "base": "Qwen/Qwen2.5-VL-7B-Instruct"},
}
ON_QWEN3_VL: dict[str, Facts] = {
    "2b": {"dim": 2048, "params": 2_127_532_032, "base": "Qwen/Qwen3-VL-2B-Instruct"},
    "4b": {"dim": 2560, "params": 4_437_815_808, "base": "Qwen/Qwen3-VL-4B-Instruct"},
    "8b": {"dim": 4096, "params": 8_144_793_840, "base": "Qwen/Qwen3-VL-8B-Instruct"},
}
# Its number of weights depends on the vocabulary that a model keeps.
ON_QWEN35: dict[str, Facts] = {
    "2b": {"dim": 2048, "base": "Qwen/Qwen3.5-2B"},
    "4b": {"dim": 2560, "base": "Qwen/Qwen3.5-4B"},
    "9b": {"dim": 4096, "base": "Qwen/Qwen3.5-9B"},
}
ON_OMNI_THINKER: dict[str, Facts] = {
    "3b": {"dim": 2048, "params": 4_392_299_520, "base": "Qwen/Qwen2.5-Omni-3B"},
    "7b": {"dim": 3584, "params": 8_386_816_512, "base": "Qwen/Qwen2.5-Omni-7B"},
}
# Of a model of images and texts with a vector of 128 dimensions, as ColBERT's, for every token, by one projection.
LATE: Facts = {
    "dim": 128,
    "modalities": {"text", "image"},
    "demo": "search",
    "similarity": "maxsim",
    "projection": "custom_text_proj",
}
# Of a test model on a tiny backbone.
TINY: Facts = {"dim": 32, "license": "apache-2.0", "max_tokens": 512, "base": None}
TINY_QWEN2_VL: Facts = {**TINY, "params": 112_704}


def _qwen2_text(kind: str, *, small: bool, longest: int, **sizes: int) -> dict[str, Any]:
    """The text layers of Qwen2, which count an image's tokens by time, row and column."""
    return {
        "model_type": f"{kind}_text",
        "vocab_size": 151936 if small else 152064,
        "num_key_value_heads": 2 if small else 4,
        "max_position_embeddings": longest,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [16, 24, 24]},
        **sizes,
    }


def qwen2_vl(size: str) -> dict[str, Any]:
    """Qwen2-VL (Wang et al., 2024, arxiv:2409.12191): "2b" or "7b"."""
    text = {
        "2b": {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12},
        "7b": {"hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28},
    }[size]
    return {
        "model_type": "qwen2_vl",
        "text_config": _qwen2_text("qwen2_vl", small=size == "2b", num_hidden_layers=28, longest=32768, **text),
        "vision_config": {"depth": 32, "embed_dim": 1280, "num_heads": 16, "hidden_size": text["hidden_size"]},
        "tie_word_embeddings": size == "2b",
        **QWEN_TOKENS,
    }


def tiny_qwen2_vl(**text: Any) -> dict[str, Any]:
    """A Qwen2-VL of 60 thousand weights that reads `byte_processor`'s tokens."""
    special = byte_specials()
    return {
        "model_type": "qwen2_vl",
        "text_config": {
            "model_type": "qwen2_vl_text",
            "vocab_size": 320,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
            "bos_token_id": special["<|endoftext|>"],
            "eos_token_id": special["<|im_end|>"],
            "pad_token_id": special["<|endoftext|>"],
            **text,
        },
        "vision_config": {
            "depth": 2,
            "embed_dim": 32,
            "hidden_size": text.get("hidden_size", 32),
            "num_heads": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
        },
        "image_token_id": special["<|image_pad|>"],
        "video_token_id": special["<|video_pad|>"],
        "vision_start_token_id": special["<|vision_start|>"],
        "vision_end_token_id": special["<|vision_end|>"],
    }


def qwen2_5_vl(size: str) -> dict[str, Any]:
    """Qwen2.5-VL (Bai et al., 2025, arxiv:2502.13923): "3b" or "7b"."""
    text = {
        "3b": {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16},
        "7b": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28},
    }[size]
    return {
        "model_type": "qwen2_5_vl",
        "text_config": _qwen2_text("qwen2_5_vl", small=size == "3b", longest=128000, **text),
        "vision_config": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": text["hidden_size"],
        },
        "tie_word_embeddings": size == "3b",
        **QWEN_TOKENS,
    }


# Vision towers that Qwen3-VL and Qwen3.5 have in common.
_VISION = {
    "small": {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16},
    "large": {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16},
}


def qwen3_vl(size: str) -> dict[str, Any]:
    """Qwen3-VL (Bai et al., 2025, arxiv:2511.21631): "2b", "4b" or "8b"."""
    text = {
        "2b": {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16},
        "4b": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
        "8b": {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32},
    }[size]
    rope = {"rope_type": "default", "rope_theta": 5000000.0, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    return {
        "model_type": "qwen3_vl",
        "text_config": {
            "model_type": "qwen3_vl_text",
            "vocab_size": 151936,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 262144,
            "rms_norm_eps": 1e-6,
            "rope_parameters": rope,
            **text,
        },
        "vision_config": {
            **_VISION["large" if size == "8b" else "small"],
            "out_hidden_size": text["hidden_size"],
            "deepstack_visual_indexes": [8, 16, 24] if size == "8b" else [5, 11, 17],
        },
        "tie_word_embeddings": size != "8b",
        **QWEN_TOKENS,
    }


def qwen3_5(size: str, vocab_size: int = 248320) -> dict[str, Any]:
    """Qwen3.5, whose text layers are gated delta networks, every fourth attention: "2b", "4b" or "9b"."""
    text = {
        "2b": {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 24, "num_attention_heads": 8},
        "4b": {"hidden_size": 2560, "intermediate_size": 9216, "num_hidden_layers": 32, "num_attention_heads": 16},
        "9b": {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 32, "num_attention_heads": 16},
    }[size]
    rope = {"rope_type": "default", "rope_theta": 10000000.0, "mrope_section": [11, 11, 10], "mrope_interleaved": True}
    return {
        "model_type": "qwen3_5",
        "text_config": {
            "model_type": "qwen3_5_text",
            "vocab_size": vocab_size,
            "num_key_value_heads": 2 if size == "2b" else 4,
            "head_dim": 256,
            "linear_num_key_heads": 16,
            "linear_num_value_heads": 16 if size == "2b" else 32,
            "max_position_embeddings": 262144,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {**rope, "partial_rotary_factor": 0.25},
            **text,
        },
        "vision_config": {
            **_VISION["large" if size == "9b" else "small"],
            "out_hidden_size": text["hidden_size"],
        },
        "tie_word_embeddings": size != "9b",
    }


def omni_thinker(size: str) -> dict[str, Any]:
    """The thinker of Qwen2.5-Omni (Xu et al., 2025, arxiv:2503.20215), without its head: "3b" or "7b"."""
    text = {
        "3b": {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16},
        "7b": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28},
    }[size]
    layers = _qwen2_text("qwen2_5_omni", small=size == "3b", longest=32768, **text)
    return {
        "model_type": "qwen2_5_omni_thinker",
        "text_config": layers,
        "vision_config": {
            "model_type": "qwen2_5_omni_vision_encoder",
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": text["hidden_size"],
        },
        "audio_config": {
            "model_type": "qwen2_5_omni_audio_encoder",
            "d_model": 1280,
            "encoder_layers": 32,
            "encoder_attention_heads": 20,
            "encoder_ffn_dim": 5120,
            "output_dim": text["hidden_size"],
        },
        "audio_token_index": 151646,
        "image_token_index": 151655,
        "video_token_index": 151656,
        "audio_start_token_id": 151647,
        "audio_end_token_id": 151648,
        "vision_start_token_id": 151652,
        "vision_end_token_id": 151653,
    }


def tiny_omni_thinker() -> dict[str, Any]:
    """A thinker of Qwen2.5-Omni of 110 thousand weights that reads `omni_processor`'s tokens."""
    special = {token: 256 + i for i, token in enumerate(OMNI_SPECIALS)}
    text = tiny_qwen2_vl(model_type="qwen2_5_omni_text")["text_config"]
    ends = {"bos_token_id": special["<|endoftext|>"], "eos_token_id": special["<|im_end|>"]}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32}
    return {
        "model_type": "qwen2_5_omni_thinker",
        "text_config": {**text, **ends, "pad_token_id": special["<|endoftext|>"]},
        "vision_config": {
            "model_type": "qwen2_5_omni_vision_encoder",
            **vision,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
        "audio_config": {
            "model_type": "qwen2_5_omni_audio_encoder",
            "d_model": 32,
            "encoder_layers": 2,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 48,
            "n_window": 20,
            "output_dim": 32,
        },
        "audio_token_index": special["<|AUDIO|>"],
        "image_token_index": special["<|IMAGE|>"],
        "video_token_index": special["<|VIDEO|>"],
        "audio_start_token_id": special["<|audio_bos|>"],
        "audio_end_token_id": special["<|audio_eos|>"],
        "vision_start_token_id": special["<|vision_bos|>"],
        "vision_end_token_id": special["<|vision_eos|>"],
    }


def tiny_qwen2_5_vl() -> dict[str, Any]:
    """A Qwen2.5-VL that reads `byte_processor("qwen2_5_vl")`'s tokens."""
    config = tiny_qwen2_vl(model_type="qwen2_5_vl_text")
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32}
    return {
        **config,
        "model_type": "qwen2_5_vl",
        "vision_config": {**vision, "window_size": 56, "fullatt_block_indexes": [1]},
    }


def tiny_qwen3_vl() -> dict[str, Any]:
    """A Qwen3-VL of 150 thousand weights that reads `byte_processor("qwen3_vl")`'s tokens."""
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    config = tiny_qwen2_vl(model_type="qwen3_vl_text", head_dim=16, rope_parameters=rope)
    return {
        **config,
        "model_type": "qwen3_vl",
        "vision_config": {**_TINY_VISION, "deepstack_visual_indexes": [0]},
    }


def tiny_qwen3_5() -> dict[str, Any]:
    """A Qwen3.5 with both kinds of layers that reads `byte_processor("qwen3_vl")`'s tokens."""
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    config = tiny_qwen2_vl(
        model_type="qwen3_5_text",
        num_hidden_layers=4,
        head_dim=16,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        rope_parameters={**rope, "partial_rotary_factor": 0.5},
    )
    return {**config, "model_type": "qwen3_5", "vision_config": dict(_TINY_VISION)}


_TINY_VISION = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "out_hidden_size": 32,
    "num_position_embeddings": 16,
}


SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<emb>",
    "<instruction_start>",
    "<instruction_end>",
    "<image>",
    "<embedding>",
    "<video>",
)


def byte_specials() -> dict[str, int]:
    """Ids of `byte_tokenizer`'s special tokens."""
    return {token: 256 + i for i, token in enumerate(SPECIALS)}


def byte_tokenizer(
    specials: tuple[str, ...] = SPECIALS, ends: dict[str, str] | None = None, roles: dict[str, str] | None = None
) -> Any:
    """A transformers tokenizer of the 256 bytes and the special tokens of the Qwen family: reads any text, needs no file.

    Args:
        specials: other special tokens. ends: with a "bos_token" and an "eos_token" that it puts around a text. roles: names by
            which a processor asks for some of the special tokens.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocab = {token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    ends = ends or {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    if "bos_token" in ends:
        around = [ends["bos_token"], ends["eos_token"]]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{around[0]} $A {around[1]}", special_tokens=[(one, tokenizer.token_to_id(one)) for one in around]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=32768, extra_special_tokens=roles or {}, **ends
    )


def byte_processor(kind: str = "qwen2_vl") -> Any:
    """The processor of "qwen2_vl", "qwen2_5_vl" or "qwen3_vl" (Qwen3.5's too) around `byte_tokenizer`."""
    import transformers
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    name, video, side = {
        "qwen2_vl": ("Qwen2VLProcessor", Qwen2VLVideoProcessor, 14),
        "qwen2_5_vl": ("Qwen2_5_VLProcessor", Qwen2VLVideoProcessor, 14),
        "qwen3_vl": ("Qwen3VLProcessor", Qwen3VLVideoProcessor, 16),
    }[kind]
    options = {
        "size": {"shortest_edge": 4 * side * side, "longest_edge": 64 * side * side},
        "patch_size": side,
    }
    return getattr(transformers, name)(
        image_processor=transformers.Qwen2VLImageProcessor(**options),
        tokenizer=byte_tokenizer(),
        video_processor=video(**options),
    )


OMNI_SPECIALS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_bos|>", "<|vision_eos|>", "<|IMAGE|>", "<|VIDEO|>"),
    *("<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>"),
)


def omni_processor() -> Any:
    """The processor of Qwen2.5-Omni around a tokenizer of bytes."""
    import transformers
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    roles = {f"{name}_token": f"<|{name.upper()}|>" for name in ("image", "video", "audio")}
    roles |= {f"{name}_token": f"<|{name}|>" for name in ("vision_bos", "vision_eos", "audio_bos", "audio_eos")}
    options = {"size": {"shortest_edge": 4 * 14 * 14, "longest_edge": 64 * 14 * 14}, "patch_size": 14}
    return transformers.Qwen2_5OmniProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(**options),
        video_processor=Qwen2VLVideoProcessor(**options),
        feature_extractor=transformers.WhisperFeatureExtractor(
            feature_size=128, chunk_length=300, return_attention_mask=True
        ),
        tokenizer=byte_tokenizer(OMNI_SPECIALS, roles=roles),
    )
