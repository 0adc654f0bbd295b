"""The files of transformers' image and video processors: preprocessor_config.json, video_preprocessor_config.json, and the
entries of processor_config.json."""

from zoo.formats.settings import Only, Table

# Which class reads the file; settings of that class are the other ones.
NAMES = ("image_processor_type", "feature_extractor_type", "processor_class")

_OF_A_CALL = "it says how one call hands over images, and the zoo hands over its own"
_INERT = {
    "processor_class": "the class that has this processor and the tokenizer side by side",
    "do_convert_rgb": "the zoo makes every image RGB as it decodes it",
    "data_format": _OF_A_CALL,
    "input_data_format": _OF_A_CALL,
    "return_tensors": _OF_A_CALL,
    "device": _OF_A_CALL,
    "disable_grouping": "images of one size are resized together or apart, with the same result",
    "image_seq_length": "tokens of an image in a language model's prompt, which a dual encoder does not have",
    "_valid_processor_keys": "names of the processor's arguments",
}
_VALUES = {"do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std", "resample"}
_CODE = Only((None, {}), "Python code beside the weights would make the images ready; the zoo runs none for that")

IMAGES = Table(
    followed={
        *_VALUES,
        "image_processor_type",
        "feature_extractor_type",
        "do_resize",
        "size",
        "default_to_square",
        "use_square_size",
        "do_center_crop",
        "crop_size",
        "do_pad",
        "pad_size",
    },
    inert=_INERT,
    held={"auto_map": _CODE},
)

_SAMPLED = "the zoo takes as many frames as the configuration says while it decodes, spread evenly"
FRAME_NAMES = (
    *NAMES,
    "video_processor_type",
    "do_sample_frames",
    "num_frames",
    "fps",
    "return_metadata",
    "video_metadata",
)
# Of processors that make each frame of a video ready like an image.
FRAMES = Table(
    followed={*IMAGES.followed, "video_processor_type"},
    inert={
        **_INERT,
        "do_sample_frames": _SAMPLED,
        "num_frames": f"{_SAMPLED}; files of VideoPrism name another number than their own towers read",
        "return_metadata": _OF_A_CALL,
        "video_metadata": _OF_A_CALL,
    },
    held={"auto_map": _CODE, "fps": Only((None,), f"{_SAMPLED}, and not so many a second")},
)

_FITTED = "SigLIP 2's own processor fits an image to its patches, and reads no other size"
PATCHES = Table(
    followed={*_VALUES, "image_processor_type", "feature_extractor_type", "patch_size", "max_num_patches"},
    inert={
        **_INERT,
        **dict.fromkeys(("size", "default_to_square", "crop_size", "do_center_crop", "do_pad", "pad_size"), _FITTED),
    },
    held={
        "auto_map": _CODE,
        "do_resize": Only((None, True), "images of other sizes than whole patches cannot be read"),
    },
)

_PROMPT = "the registered model's own prompt and marks count"
# Of vision-language models: followed are the arguments of transformers' own classes of the parts, listed from the classes.
WHOLE = Table(
    followed={"processor_class", "image_processor", "video_processor", "tokenizer"},
    inert={
        "auto_map": "the zoo takes transformers' own processor of this backbone",
        "chat_template": _PROMPT,
        "image_seq_len": _PROMPT,
        "return_tensors": _OF_A_CALL,
    },
)
PART = Table(
    followed={"image_processor_type", "feature_extractor_type", "video_processor_type", "use_square_size"},
    inert={
        **_INERT,
        "auto_map": WHOLE.inert["auto_map"],
        "aspect_ratio_setting": "LLaVA's authors' name of cutting an image into parts, which the class of the processor does",
        "chat_template": _PROMPT,
        "return_metadata": _OF_A_CALL,
        "image_token": _PROMPT,
        "video_token": _PROMPT,
    },
)
