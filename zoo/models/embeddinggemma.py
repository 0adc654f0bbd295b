"""EmbeddingGemma 2: text, images, video and audio, and mixes of them, as one sequence of a bidirectional encoder (Google, 2026).

Read as transformers' EmbeddingGemma2Model and sentence-transformers read it: the prompt first, then what the item holds without
anything between, a text before the media of its item, the mean of all tokens. Each tower can be left out:
`load_model("embeddinggemma-2", towers="text")`.
"""

from typing import Any

from zoo.models.backbones import byte_tokenizer
from zoo.models.parts import Embedder, Identity, Mean, Tower, sequence
from zoo.registry import Facts, register_model
from zoo.sequences import EMBEDDING_GEMMA2, AudioLimits, VideoLimits
from zoo.spec import ModelSpec

_TASKS = {
    "query": "search result",
    "SearchQuery": "search result",
    "QuestionAnswering": "question answering",
    "FactChecking": "fact checking",
    "CodeRetrieval": "code retrieval",
    "Classification": "classification",
    "Clustering": "clustering",
    "SentenceSimilarity": "sentence similarity",
    "Retrieval": "search result",
    "Retrieval-query": "search result",
    "Reranking": "search result",
    "BitextMining": "search result",
    "InstructionRetrieval": "code retrieval",
    "MultilabelClassification": "classification",
    "PairClassification": "sentence similarity",
    "STS": "sentence similarity",
    "Summarization": "sentence similarity",
}
DOCUMENT = "title: none | text: "
# config_sentence_transformers.json; of a document with a title it is "title: {title} | text: ", as the item's instruction.
PROMPTS = {
    **{name: f"task: {task} | query: " for name, task in _TASKS.items()},
    **dict.fromkeys(("document", "Document", "Retrieval-document"), DOCUMENT),
}
# One frame per second, as many as there is room for; 30 s of audio, what its feature extractor cuts at.
MEDIA = {"video": VideoLimits(frames=56, fps=1.0, sampling="steps"), "audio": AudioLimits(seconds=30.0)}
FACTS: Facts = {
    "modalities": {"text", "image", "video", "audio"},
    "license": "apache-2.0",
    "pooling": "mean",
    "prompts": PROMPTS,
    "demo": "omni",
    "format": EMBEDDING_GEMMA2,
    "media": MEDIA,
}


def embedding_gemma2() -> dict[str, Any]:
    """The published config.json: 270 million weights for text, 168 for images and video, 306 for audio."""
    return {
        "model_type": "embedding_gemma2",
        "text_config": {"model_type": "embedding_gemma2_text"},
        "vision_config": {
            "model_type": "gemma4_vision",
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 16,
            "num_attention_heads": 12,
            "num_key_value_heads": 12,
            "head_dim": 64,
        },
        "audio_config": {
            "model_type": "gemma4_audio",
            "hidden_size": 1024,
            "num_hidden_layers": 12,
            "num_attention_heads": 8,
            "output_proj_dims": 1536,
        },
    }


@register_model(
    hub_id="google/embeddinggemma-2",
    revision="914f7f89142e33e77833254d9c9b90c3cef7303b",
    dim=768,
    dims=(768, 512, 256, 128),
    params=744_371_488,
    max_tokens=8192,
    languages=("multilingual",),
    name="embeddinggemma-2",
    **FACTS,
)
def embeddinggemma_2(spec: ModelSpec) -> Embedder:
    return Embedder(spec, [Tower(sequence(spec, embedding_gemma2()), Mean(), Identity())])


SPECIALS = ("<|image>", "<|image|>", "<image|>", "<|audio>", "<|audio|>", "<audio|>", "<|video|>")
_ENDS = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>"}
_ROLES = {"image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>", "audio_token": "<|audio|>"}
_ROLES |= {"boa_token": "<|audio>", "eoa_token": "<audio|>"}


def tiny_embedding_gemma2() -> dict[str, Any]:
    """An EmbeddingGemma 2 of 120 thousand weights that reads `tiny_processor`'s tokens."""
    ids = tiny_processor().tokenizer.convert_tokens_to_ids
    return {
        "model_type": "embedding_gemma2",
        "text_config": {
            "model_type": "embedding_gemma2_text",
            "vocab_size": 320,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "global_head_dim": 16,
            "hidden_size_per_layer_input": 8,
            "embedding_dim": 24,
            "sliding_window": 4,
            "sliding_window_pattern": 3,
            **{f"{name}_id": ids(token) for name, token in _ENDS.items()},
        },
        "vision_config": {
            "model_type": "gemma4_vision",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 8,
            "patch_size": 4,
            "pooling_kernel_size": 2,
            "position_embedding_size": 512,
        },
        "audio_config": {
            "model_type": "gemma4_audio",
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "output_proj_dims": 32,
            "subsampling_conv_channels": [128, 4],  # the first is that of mel bins too
            "use_clipped_linears": False,  # their limits are infinite before training
        },
        "image_token_id": ids("<|image|>"),
        "video_token_id": ids("<|video|>"),
        "audio_token_id": ids("<|audio|>"),
        "boi_token_id": ids("<|image>"),
        "eoi_token_id": ids("<image|>"),
        "boa_token_id": ids("<|audio>"),
        "eoa_token_index": ids("<audio|>"),
    }


def tiny_processor() -> Any:
    """The library's processor around a tokenizer of bytes, with the fewest tokens for an image and a frame: 70."""
    import transformers

    tokenizer = byte_tokenizer(tuple(_ENDS.values()) + SPECIALS, _ENDS, _ROLES)
    patches = {"patch_size": 4, "pooling_kernel_size": 2, "max_soft_tokens": 70}
    return transformers.EmbeddingGemma2Processor(
        feature_extractor=transformers.Gemma4AudioFeatureExtractor(),
        image_processor=transformers.Gemma4ImageProcessor(**patches),
        tokenizer=tokenizer,
        video_processor=transformers.EmbeddingGemma2VideoProcessor(**patches),
    )


TINY: Facts = {
    **FACTS,
    "dim": 24,
    "dims": (24, 16, 8),
    "params": 158_748,
    "max_tokens": 1024,
    "media": {"video": VideoLimits(frames=6, fps=1.0, sampling="steps"), "audio": AudioLimits(seconds=4.0)},
}


@register_model(**TINY)
def embeddinggemma_test(spec: ModelSpec) -> Embedder:
    encoder = sequence(spec, tiny_embedding_gemma2(), tiny_processor())
    return Embedder(spec, [Tower(encoder, Mean(), Identity())])
