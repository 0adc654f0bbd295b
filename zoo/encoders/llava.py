"""What a LLaVA processor must know of its backbone; files from before transformers 4.46 leave it out."""

from typing import Any

# Tokens of the vision layers that are no patches; "default" features leave out the first of them.
CLASS_TOKENS = {"clip_vision_model": 1}


def complete(processor: Any, config: Any) -> None:
    """Gives a LLaVA, LLaVA-NeXT or LLaVA-OneVision processor the backbone's own counts; leaves other processors alone.

    The backbone decides how many features a picture has, so that its configuration counts also where the processor's
    files say something else.

    Args:
        processor: of transformers, changed in place. config: the backbone's.
    """
    if not hasattr(processor, "vision_feature_select_strategy") or not hasattr(
        config, "vision_feature_select_strategy"
    ):
        return
    vision = config.vision_config
    processor.vision_feature_select_strategy = config.vision_feature_select_strategy
    if hasattr(processor, "num_image_tokens"):
        processor.num_image_tokens = (vision.image_size // vision.patch_size) ** 2
        processor.vision_aspect_ratio = config.vision_aspect_ratio
    else:
        processor.patch_size = vision.patch_size
        processor.num_additional_image_tokens = CLASS_TOKENS.get(vision.model_type, 0)
    if pinpoints := getattr(config, "image_grid_pinpoints", None):
        processor.image_processor.image_grid_pinpoints = [list(pair) for pair in pinpoints]
