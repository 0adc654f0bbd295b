"""config.json of NV-Embed (`"model_type": "nvembed"`), as its authors' NVEmbedModel reads it."""

from zoo.formats.settings import Only, Table

_SAID = "its authors' encode does so whatever it says"
MODEL = Table(
    followed={"model_type", "text_config", "latent_attention_config", "is_mask_instruction"},
    inert={
        "_name_or_path": "a record of how the file came to be",
        "add_eos": _SAID,
        "add_pad_token": "filler is masked, whichever token it is",
        "architectures": "the type names the class",
        "auto_map": "the zoo has this model itself and runs no code beside the weights",
        "dtype": "load_model's own dtype counts",
        "hidden_size": "text_config says it",
        "torch_dtype": "load_model's own dtype counts",
        "transformers_version": "a record of how the file came to be",
    },
    held={
        "mask_type": Only((None, "b"), "NV-Embed reads in both directions"),
        "padding_side": Only(
            (None, "right"), "its authors leave no instruction out of the pool of texts filled on the left"
        ),
    },
)
LATENT = Table(
    followed={"num_latents_value", "num_cross_heads", "latent_dim", "hidden_dim", "cross_dim_head"},
    inert={
        "_name_or_path": MODEL.inert["_name_or_path"],
        "architectures": MODEL.inert["architectures"],
        "dtype": MODEL.inert["dtype"],
        "model_type": "there is one",
        "torch_dtype": MODEL.inert["dtype"],
        "transformers_version": MODEL.inert["transformers_version"],
    },
    held={"output_normalize": Only((None, True, False), "vectors get unit length in any case")},
)
