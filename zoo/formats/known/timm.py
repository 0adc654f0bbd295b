"""timm's config.json: of `save_for_hf` today, with a "pretrained_cfg", and of the years before, where all is in one object."""

from zoo.formats.settings import Table

_LABELS = "names of the classes that a classifier tells apart; the zoo takes the vector before it"
_PLACE = "where the weights came from; the zoo reads those that lie beside this file"
_TEST = "another size for tests of a classifier; timm's own transform leaves it out unless it is asked for"
_TEXT = "said of the model in words"

PRETRAINED = Table(
    followed={
        "input_size",
        "fixed_input_size",
        "interpolation",
        "crop_pct",
        "crop_mode",
        "mean",
        "std",
        "num_classes",
        "first_conv",
        "classifier",
        "label_offset",
        "license",
    },
    inert={
        **dict.fromkeys(("url", "file", "hf_hub_id", "hf_hub_filename", "source", "state_dict", "custom_load"), _PLACE),
        **dict.fromkeys(("test_input_size", "test_crop_pct", "test_pool_size"), _TEST),
        **dict.fromkeys(("label_names", "label_descriptions"), _LABELS),
        **dict.fromkeys(("description", "origin_url", "paper_name", "paper_ids", "notes"), _TEXT),
        "architecture": "the architecture that is built is named beside pretrained_cfg",
        "tag": "the name of these weights among others of the architecture",
        "min_input_size": "the least size that the architecture takes; it reads images of input_size",
        "pool_size": "size of the last map of features; timm's layers read it off the features themselves",
    },
)

CONFIG = Table(
    followed={"architecture", "model_args", "pretrained_cfg", "num_classes"},
    inert={
        **dict.fromkeys(("label_names", "label_descriptions", "labels"), _LABELS),
        "num_features": "timm writes it to be read by people; the architecture and its arguments decide",
        "global_pool": "timm writes it to be read by people; model_args decide how the vector is pooled",
    },
)

# Files of before there was a pretrained_cfg: timm takes every other key for one of it.
OLD_CONFIG = Table(
    followed={"architecture", *PRETRAINED.followed},
    inert={key: PRETRAINED.inert[key] for key in PRETRAINED.inert if key != "architecture"}
    | {key: CONFIG.inert[key] for key in ("labels", "num_features")},
)
