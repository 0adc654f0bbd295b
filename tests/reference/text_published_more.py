"""More text embedders in the layout of their repositories (see `text_published`): the encoder of T5."""

from __future__ import annotations

from typing import Any

from tests.reference.text_published import Published

T5_CONFIG = {
    "architectures": ["T5EncoderModel"],
    "decoder_start_token_id": 0,
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "initializer_factor": 1.0,
    "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-06,
    "n_positions": 512,
    "num_decoder_layers": 2,
    "output_past": True,
    "pad_token_id": 0,
    "relative_attention_num_buckets": 32,
    "task_specific_params": {"summarization": {"early_stopping": True, "max_length": 200, "prefix": "summarize: "}},
    "torch_dtype": "float32",
    "transformers_version": "4.9.2",
    "use_cache": True,
}
T5_TOKENIZER = {
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "extra_ids": 100,
    "additional_special_tokens": [f"<extra_id_{number}>" for number in range(100)],
    "sp_model_kwargs": {},
    "special_tokens_map_file": None,
    "name_or_path": "t5-base",
    "model_max_length": 512,
    "tokenizer_class": "T5Tokenizer",
}


def _t5(name: str, test: str = "sentence-t5-test", **changes: Any) -> Published:
    options = {"limit": 200, "dense": ("2_Dense",), "tied": ("encoder.embed_tokens.weight",), **changes}
    return Published(name, test, T5_CONFIG, "mean_tokens", T5_TOKENIZER, **options)


CASES = {
    case.name: case
    for case in (
        _t5("sentence-t5-base"),
        _t5("gtr-t5-large", limit=180),
        _t5("instructor-large", "instructor-test"),
    )
}
