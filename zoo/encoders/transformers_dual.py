"""transformers' CLIP, SigLIP, SigLIP 2 and TIPSv2 towers, image and text apart: each projects by itself and gives one token.

The text towers of X-CLIP and VideoPrism, which have videos in place of images, are read here too (see `hf_video`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.encoders.base import Batch, Cut, Encoder, one_token
from zoo.encoders.config_checks import check_transformers
from zoo.encoders.dense import LastStage, hf_clip_stage, hf_siglip_stage, hf_tips_stage
from zoo.encoders.image_transform import Normalize, PixelTransform, as_transform
from zoo.encoders.program import Program
from zoo.encoders.tokenizing import MissingTokenizer, Tokenize, check_ids, load_tokenizer, pad
from zoo.inputs.item import Item, Tokens


@dataclass(frozen=True)
class Dual:
    """What tells one family of transformers' dual encoders from another.

    Attributes:
        image, text: classes of its towers, "" for none of images. projects: whether each tower has a projection after its pooled state.
        fills: whether every text is filled up to the longest (with attention to the filler, as it was trained).
        patches: whether its image processor may cut images of any shape into patches.
        whole: the class of both towers, where its files name tensors otherwise than the towers do.
        stage: how its vision tower is divided for dense regions.
    """

    image: str
    text: str
    projects: bool = False
    fills: bool = True
    patches: bool = False
    whole: str = ""
    stage: Callable[[nn.Module], LastStage] = hf_siglip_stage


# By the model_type of the whole.
DUALS = {
    "clip": Dual(
        "CLIPVisionModelWithProjection",
        "CLIPTextModelWithProjection",
        projects=True,
        fills=False,
        stage=hf_clip_stage,
    ),
    "siglip": Dual("SiglipVisionModel", "SiglipTextModel"),
    "siglip2": Dual("Siglip2VisionModel", "Siglip2TextModel", patches=True),
    "clap": Dual(
        "", "ClapTextModelWithProjection", projects=True, fills=False
    ),  # its other tower is `zoo.encoders.clap`
    "tipsv2": Dual("Tipsv2VisionModel", "Tipsv2TextModel", fills=False, whole="Tipsv2Model", stage=hf_tips_stage),
    "xclip": Dual("", "XCLIPTextModel", fills=False, whole="XCLIPModel"),
    "videoprism": Dual("", "VideoPrismTextModel", fills=False, whole="VideoPrismClipModel"),
}


def tower_class(model_type: str, kind: str) -> Any:
    """transformers' class of one tower; kind is "image" or "text"."""
    import transformers

    return getattr(transformers, getattr(DUALS[model_type], kind))


def width_of(model_type: str, text: Any) -> int:
    """Length of a text's vector, by the text tower's configuration."""
    if DUALS[model_type].projects:
        return text.projection_dim
    return getattr(text, "projection_size", text.hidden_size)


class HfImage(Encoder):
    """The vision tower of a transformers dual encoder with images of one size.

    Args:
        model_type: "clip", "siglip" or "tipsv2". config: the vision configuration.
        transform: resize, crop, mean and std.
        tower: a loaded tower; None builds one with random weights.
    """

    modalities = frozenset({"image"})

    def __init__(
        self,
        model_type: str,
        config: dict[str, Any],
        transform: PixelTransform | dict[str, Any],
        tower: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_transformers(config)
        cls = tower_class(model_type, "image")
        self.model_type, self.settings, self.transform = model_type, dict(config), as_transform(transform)
        self.tower = tower or cls(cls.config_class(**config))
        settings = self.tower.config
        self.width = settings.projection_dim if DUALS[model_type].projects else settings.hidden_size
        self.normalize = Normalize(self.transform)

    def prepare_item(self, item: Item) -> Tensor:
        return self.transform.read(item.image)

    def collate(self, reads: Sequence[Tensor]) -> Batch:
        return {"pixels": torch.stack(list(reads))}

    def forward(self, batch: Batch) -> Tokens:
        out = self.tower(pixel_values=self.normalize(batch["pixels"]))
        return one_token(out.image_embeds if DUALS[self.model_type].projects else out.pooler_output)

    def program(self) -> Program | str:
        return Program({"pixels": ("batch",)})

    def last_stage(self) -> LastStage:
        return DUALS[self.model_type].stage(self.tower)

    def config(self) -> dict[str, Any]:
        return {"model_type": self.model_type, "config": self.settings, "transform": self.transform.to_dict()}

    def preprocessing(self) -> dict[str, Any]:
        return self.transform.to_dict()


class HfNaflexImage(Encoder):
    """SigLIP 2's NaFlex vision tower: images keep their aspect ratio and become at most `patches` patches."""

    modalities = frozenset({"image"})
    batch_budget = 8

    def __init__(
        self,
        config: dict[str, Any],
        patches: int = 256,
        processor: dict[str, Any] | None = None,
        tower: nn.Module | None = None,
    ) -> None:
        super().__init__()
        from transformers import Siglip2ImageProcessor

        check_transformers(config)
        cls = tower_class("siglip2", "image")
        self.settings, self.patches, self.processor_settings = dict(config), patches, dict(processor or {})
        self.processor = Siglip2ImageProcessor(**{**self.processor_settings, "max_num_patches": patches})
        self.tower = tower or cls(cls.config_class(**config))
        self.width = self.tower.config.hidden_size

    def prepare_item(self, item: Item) -> dict[str, Tensor]:
        from zoo.inputs.image import load_pixels

        image = torch.from_numpy(load_pixels(item.image)).permute(2, 0, 1)
        return {k: v[0] for k, v in self.processor(images=[image], return_tensors="pt").items()}

    def collate(self, reads: Sequence[dict[str, Tensor]]) -> Batch:
        return {key: torch.stack([read[key] for read in reads]) for key in reads[0]}

    def forward(self, batch: Batch) -> Tokens:
        dtype = next(self.tower.parameters()).dtype
        return one_token(
            self.tower(
                pixel_values=batch["pixel_values"].to(dtype),
                pixel_attention_mask=batch["pixel_attention_mask"],
                spatial_shapes=batch["spatial_shapes"],
            ).pooler_output
        )

    def config(self) -> dict[str, Any]:
        return {"config": self.settings, "patches": self.patches, "processor": self.processor_settings}

    def preprocessing(self) -> dict[str, Any]:
        return {"patches": self.patches, **self.processor_settings}


class HfText(Encoder):
    """The text tower of a transformers dual encoder.

    Args:
        model_type: "clip", "siglip", "siglip2", "tipsv2", "xclip" or "videoprism". config: the text configuration.
        max_tokens: longest text; SigLIP fills every text up to it, because it pools the last position.
        pad_id: token that fills SigLIP's texts; the filler of the others is masked, and chosen so that it never matters.
        padding_side: where SigLIP's texts are filled; its last position is the end of the text, or filler.
        assets, tokenizer: where the tokenizer comes from. tower: a loaded tower; None builds one at random.
    """

    modalities = frozenset({"text"})

    def __init__(
        self,
        model_type: str,
        config: dict[str, Any],
        max_tokens: int,
        pad_id: int,
        lower: bool = False,
        padding_side: str = "right",
        assets: Path | None = None,
        tokenizer: Any = None,
        tower: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_transformers(config)
        cls = tower_class(model_type, "text")
        self.model_type, self.settings = model_type, dict(config)
        self.max_tokens, self.pad_id, self.lower, self.padding_side = max_tokens, pad_id, lower, padding_side
        self.tower = tower or cls(cls.config_class(**config))
        settings = self.tower.config
        self.width = width_of(model_type, settings)
        self.tokenize: Tokenize = MissingTokenizer(f"this {model_type} text tower")
        if assets is not None or tokenizer is not None:
            self.tokenize = load_tokenizer(tokenizer or assets, max_tokens, lower)

    def prepare_item(self, item: Item) -> list[int]:
        return check_ids(self.tokenize(item.text), self.tower.config.vocab_size, self.model_type)

    def tokens(self, read: list[int]) -> int:
        return len(read)

    def cut(self, item: Item) -> Cut | None:
        return self.tokenize.cut(item.text)

    def text_tokens(self, item: Item) -> int | None:
        return self.tokenize.count(item.text)

    def unknown_share(self, item: Item) -> float:
        return self.tokenize.unknown_share(item.text)

    def doubtful(self, read: list[int], prompted: Item, item: Item) -> bool:
        return self.tokenize.vocabulary.doubtful(read, item.text, prompted.text.removesuffix(item.text))

    def collate(self, reads: Sequence[list[int]]) -> Batch:
        if not DUALS[self.model_type].fills:
            # CLIP pools where it finds the end token, or the highest id where its configuration is an old one (and the first
            # position without any): a filler that could be taken for either would pool elsewhere than the text alone.
            ids, mask = pad(reads, 1 if self.tower.config.eos_token_id == 0 else 0)
        else:
            # SigLIP was trained without a mask on texts of one length: filled to another
            # length, a text has another vector.
            fillers = [[self.pad_id] * (self.max_tokens - len(read)) for read in reads]
            left = self.padding_side == "left"
            ids, mask = pad([[*f, *r] if left else [*r, *f] for r, f in zip(reads, fillers, strict=True)])
        return {"ids": ids, "mask": mask}

    def forward(self, batch: Batch) -> Tokens:
        if DUALS[self.model_type].fills:
            return one_token(self.tower(input_ids=batch["ids"]).pooler_output)
        out = self.tower(input_ids=batch["ids"], attention_mask=batch["mask"].long())
        return one_token(out.text_embeds if DUALS[self.model_type].projects else out.pooler_output)

    def program(self) -> Program | str:
        if DUALS[self.model_type].fills:  # every text has the longest's length, and filler is read as any token
            return Program({"ids": ("batch",)}, also=frozenset({"mask"}))
        return Program({"ids": ("batch", "tokens"), "mask": ("batch", "tokens")})

    def config(self) -> dict[str, Any]:
        facts = {
            "model_type": self.model_type,
            "config": self.settings,
            "max_tokens": self.max_tokens,
            "pad_id": self.pad_id,
            "lower": self.lower,
        }
        return facts if self.padding_side == "right" else {**facts, "padding_side": self.padding_side}

    def save_assets(self, folder: Path) -> None:
        self.tokenize.save(folder)
