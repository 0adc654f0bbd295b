"""LLaVA, LLaVA-NeXT and LLaVA-OneVision, whose processors must know of their backbone what older files leave out."""

from dataclasses import dataclass
from typing import Any

from zoo.encoders.sequence.backbones import Backbone

# Tokens of the vision layers that are no patches; "default" features leave out the first of them.
CLASS_TOKENS = {"clip_vision_model": 1}


@dataclass(frozen=True)
class _Llava(Backbone):
    def complete(self, processor: Any, config: Any) -> None:
        """Gives the processor the backbone's own counts; files from before transformers 4.46 leave them out.

        The backbone decides how many features an image has, so that its configuration counts also where the processor's files
        say something else.
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


LLAVA = _Llava(
    ("llava", "llava_next", "llava_onevision"),
    # InstructCIR's text layers are Phi-3.5 cut into Llama's parts (its own modeling_llama.py), whatever its configuration says.
    converted={"instructcir_llava_phi35": {"model_type": "llava", "text_config": {"model_type": "llama"}}},
    renamed={
        r"^language_model\.(layers|norm|embed_tokens)\b": r"model.language_model.\1",
        r"^language_model\.model\.": "model.language_model.",
        r"^(model\.)?vision_tower\.(vision_model\.)?": "model.vision_tower.",
        r"^(multi_modal_projector|image_newline)\b": r"model.\1",
    },
)
