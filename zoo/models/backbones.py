"""Vision-language backbones by size, and the one tower that all VLM2Vec-style families are."""

from typing import TYPE_CHECKING, Any

from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.embedder import Embedder

QWEN_TOKENS = {
    "image_token_id": 151655,
    "video_token_id": 151656,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
}
TINY_PIXELS = (28 * 28, 16 * 28 * 28)  # of test models: pictures of 1 to 16 tokens
QWEN_MEDIA = {
    "image": "<|vision_start|><|image_pad|><|vision_end|>",
    "video": "<|vision_start|><|video_pad|><|vision_end|>",
}


def vlm_tower(spec: ModelSpec, config: dict[str, Any], processor: Any = None) -> "Embedder":
    """One tower with random weights; without a processor it has the shape only."""
    from zoo.encoders.vlm import VlmEncoder
    from zoo.formats.vlm import assemble

    return assemble(spec, VlmEncoder(config, spec.reading, spec.max_tokens, processor=processor))


def qwen2_vl(size: str) -> dict[str, Any]:
    """Qwen2-VL (Wang et al., 2024, arxiv:2409.12191): "2b" or "7b"."""
    text = {
        "2b": {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2},
        "7b": {"hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_key_value_heads": 4},
    }[size]
    return {
        "model_type": "qwen2_vl",
        "text_config": {
            "model_type": "qwen2_vl_text",
            "vocab_size": {"2b": 151936, "7b": 152064}[size],
            "num_hidden_layers": 28,
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [16, 24, 24]},
            **text,
        },
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
)


def byte_specials() -> dict[str, int]:
    """Ids of `byte_tokenizer`'s special tokens."""
    return {token: 256 + i for i, token in enumerate(SPECIALS)}


def byte_tokenizer() -> Any:
    """A transformers tokenizer of the 256 bytes and the special tokens of the Qwen family: reads any text, needs no file."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=32768
    )


def byte_processor() -> Any:
    """Qwen2-VL's processor around `byte_tokenizer`."""
    from transformers import Qwen2VLImageProcessor, Qwen2VLProcessor
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    size = {"shortest_edge": TINY_PIXELS[0], "longest_edge": TINY_PIXELS[1]}
    return Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size),
        tokenizer=byte_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(size=size),
    )
