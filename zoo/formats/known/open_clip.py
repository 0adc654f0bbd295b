"""open_clip_config.json: how the towers are built ("model_cfg") and how images are made ready ("preprocess_cfg")."""

from zoo.formats.settings import Only, Table

CONFIG = Table(followed={"model_cfg", "preprocess_cfg"})

_SCALE = "the temperature of the training, which changes no vector"
MODEL = Table(
    followed={"embed_dim", "vision_cfg", "text_cfg", "multimodal_cfg", "quick_gelu", "custom_text"},
    inert={
        **dict.fromkeys(("init_logit_scale", "init_logit_bias", "nonscalar_logit_scale"), _SCALE),
        "output_dict": "the form in which open_clip's own forward returns its vectors",
        "pad_id": "CoCa's filler as it writes captions",
    },
    held={"cast_dtype": Only((None,), "open_clip sets it by the precision that a call asks for")},
)

_TRAINING = "it drops parts of the input in training alone"
_TOKENS = "whether the tower also returns its tokens, beside the vector"
_BLOCKS = (
    "width",
    "layers",
    "mlp_ratio",
    "ls_init_value",
    "pool_type",
    "act_kwargs",
    "norm_kwargs",
    "block_type",
    "qk_norm",
    "scaled_cosine_attn",
    "scale_heads",
    "scale_attn_inner",
    "scale_attn",
    "scale_fc",
)
VISION = Table(
    followed={
        *_BLOCKS,
        "head_width",
        "patch_size",
        "image_size",
        "attentional_pool",
        "attn_pooler_queries",
        "attn_pooler_heads",
        "no_ln_pre",
        "pos_embed_type",
        "final_ln_after_pool",
        "timm_model_name",
        "timm_pool",
        "timm_proj",
        "timm_proj_bias",
    },
    inert={
        **dict.fromkeys(("patch_dropout", "timm_drop", "timm_drop_path"), _TRAINING),
        "output_tokens": _TOKENS,
        "timm_model_pretrained": "the weights are those beside this file",
    },
)
TEXT = Table(
    followed={
        *_BLOCKS,
        "context_length",
        "vocab_size",
        "hf_tokenizer_name",
        "tokenizer_mode",
        "tokenizer_kwargs",
        "heads",
        "embed_cls",
        "pad_id",
        "eos_id",
        "no_causal_mask",
        "proj_bias",
        "proj_type",
        "hf_model_name",
        "hf_proj_type",
        "hf_pooler_type",
    },
    inert={
        "output_tokens": _TOKENS,
        "hf_model_pretrained": "the weights are those beside this file",
        "final_ln_after_pool": "open_clip hands it to none of its text towers",
    },
)
_DECODER = "of CoCa's decoder, which writes captions and which no vector passes through"
MULTIMODAL = Table(
    inert=dict.fromkeys(
        (*TEXT.followed, *TEXT.inert, "dim_head", "n_queries", "attn_pooler_heads"),
        _DECODER,
    )
)

PREPROCESS = Table(
    followed={"size", "mean", "std", "interpolation", "resize_mode", "fill_color"},
    held={"mode": Only((None, "RGB"), "the towers read RGB alone")},
)
