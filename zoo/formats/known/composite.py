"""config.json of models of several parts: dual encoders, and vision-language backbones with their parts inside.

Followed are the fields of each part's own configuration class in the installed transformers, listed from the class. This
file says which settings beside them the published files have, and why those have no effect; what text backbones have is in
`config.py`.
"""

from zoo.formats.known import config
from zoo.formats.settings import Only

_TOKENS = "a token's number that transformers' class does not ask for; the processor's own marks count"
_SIZES = "it follows from the other sizes of the part"

INERT = {
    **config.INERT,
    "sliding_window": "layers of this class look at the whole text",
    "matryoshka_dims": "the lengths that vectors may be cut to, which the registered model states",
    "multi_vector_projector_dim": "the layer's own weights have it",
    "task_names": "adapters for several tasks; the registered model names its own",
    "text_config": "vlm_config has the text part",
    "tf_legacy_loss": "of a training loss",
    "ignore_index": "labels left out of the training loss",
    "logit_scale_init_value": "where the temperature of the training begins",
    "image_token_id": _TOKENS,
    "vision_token_id": _TOKENS,
    "pad_token_id": "filler is masked, or its place is not looked at",
    "use_image_newline_parameter": "LLaVA-NeXT has a token at the end of a row of patches, whose weights are in the file",
    **dict.fromkeys(
        ("out_features", "out_indices", "stage_names"), "of a backbone that gives several layers; the last is taken"
    ),
    "enable_patch_fusion": "of CLAP's first class; enable_fusion says it",
    **dict.fromkeys(
        ("fusion_hidden_size", "fusion_num_hidden_layers", "projection_hidden_size"),
        "of CLAP's first class; its two projections have the sizes of their weights",
    ),
    "spatial_patch_size": "patch_size says the same",
    "num_feat_extract_layers": _SIZES,
    "num_hidden_layers": "the parts' own counts",
    "num_image_tokens": _SIZES,
    "num_positions": _SIZES,
    "max_position_embeddings": _SIZES,
    "vocab_size": "a vision tower has no words",
    "_vocab_size": "the text part's own counts",
    "projection_dim": "of a projection that this part does not have",
    "projector_hidden_act": "of a projector that this part does not have",
    "vision_use_head": "the features of patches are taken, before any head",
    "hidden_size": "the parts' own sizes count",
    "is_decoder": "a token sees what the registered model says, or its own class",
}
HELD = {
    **config.HELD,
    "in_chans": Only((None, 3), "the zoo's images have three channels"),
    "single_vector_pool_strategy": Only((None, "mean"), "jina-embeddings-v4 is read by the mean of its tokens"),
}

_EARLY = "a name of the first drafts of transformers' class, which has one way of it"
# Of one type alone, beside the others.
INERT_OF = {
    "vjepa2": {
        "image_size": "crop_size says the same, and is what transformers' class reads",
        "model_name": "the sizes are said by themselves",
        "pred_is_causal": "of the predictor, which is left out",
        "pred_use_mask_tokens": "of the predictor, which is left out",
        "uniform_power": "of positions that are added; in these models they turn",
        "use_sdpa": "how attention is computed, not what",
        "wide_SiLU": "of the gated layers that use_SiLU would give",
    },
}
HELD_OF = {
    "vjepa2": {
        "is_causal": Only((None, False), f"every place sees every other: {_EARLY}"),
        "use_SiLU": Only((None, False), f"layers are not gated: {_EARLY}"),
        "use_rope": Only((None, True), f"positions turn: {_EARLY}"),
    },
}
