"""transformers' classes around an Embedder: AutoConfig, AutoModel and AutoProcessor of a folder of the zoo."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoProcessor, BatchFeature, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling, ModelOutput
from transformers.processing_utils import ProcessorMixin

from zoo.embedder import Embedder, Tower
from zoo.encoders.base import Batch, Encoder
from zoo.errors import MissingWeightsError, UnsupportedModalityError
from zoo.exports.code import local_folder
from zoo.formats.saved import load_saved
from zoo.items import Item
from zoo.prompts import text_of
from zoo.spec import ModelSpec, need_one_vector

# What the zoo calls a tensor → what transformers calls it.
NAMES = {"ids": "input_ids", "mask": "attention_mask", "pixels": "pixel_values"}
_HUB = ("revision", "token", "cache_dir", "local_files_only", "force_download")


class ZooConfig(PretrainedConfig):
    """config.json of the zoo: the facts of the model and the parts of its towers."""

    model_type = "zoo"

    def __init__(
        self, spec: dict[str, Any] | None = None, towers: list[Any] | None = None, format: int = 1, **kwargs: Any
    ) -> None:
        self.spec, self.towers, self.format = dict(spec or {}), list(towers or []), format
        self.hidden_size = self.spec.get("dim")
        super().__init__(**kwargs)


@dataclass
class ZooOutput(ModelOutput):
    """Unit vectors `(batch, dim)` of what was given, and their cosine similarity `(images, texts)` where both were.

    A model that reads text and pictures as one sequence gives `embeds`, one vector an item; of one with a tower each,
    `get_fused_features` gives that.
    """

    embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    image_embeds: Tensor | None = None
    similarity: Tensor | None = None


class ZooModel(PreTrainedModel):
    """An Embedder as a transformers model; `from_pretrained` is the only way to one."""

    config_class = ZooConfig
    base_model_prefix = "embedder"

    def __init__(self, config: ZooConfig, embedder: Embedder | None = None) -> None:
        super().__init__(config)
        if embedder is None:
            raise MissingWeightsError("a zoo model needs its weights and tokenizer; use from_pretrained(...)")
        need_one_vector(embedder.spec, "AutoModel")
        self.embedder = embedder
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        """Nothing: the weights are there, and are never silently random."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, *args: Any, **options: Any) -> Self:
        """Opens a folder or Hub repository through the zoo, which knows its tokenizers and buffers.

        Args:
            options: those of transformers; of them the Hub's (`revision`, `token`, ...), `dtype` and `device_map` (one
                device) are heeded.
        """
        folder = local_folder(pretrained_model_name_or_path, **{k: options[k] for k in _HUB if k in options})
        config = options.get("config") or ZooConfig.from_pretrained(folder)
        dtype = options.get("dtype") or options.get("torch_dtype")
        model = cls(config, load_saved(folder))
        model = model.to(dtype if isinstance(dtype, torch.dtype) else torch.float32)
        device = options.get("device_map")
        model = model.to(device if isinstance(device, str | torch.device) and device != "auto" else "cpu").eval()
        return (model, {}) if options.get("output_loading_info") else model

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> None:
        """Writes the whole folder again (see `zoo.exports.export`)."""
        from zoo.exports import code

        code.write(self.embedder, Path(save_directory))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        **rest: Any,
    ) -> ZooOutput:
        """Embeds what `ZooProcessor` made of texts, pictures, or both."""
        if "positions" in rest:  # of a vision-language model: one sequence an item
            return ZooOutput(embeds=self.get_text_features(input_ids, attention_mask, **rest).pooler_output)
        out = ZooOutput()
        if input_ids is not None:
            out.text_embeds = self.get_text_features(input_ids, attention_mask).pooler_output
        if pixel_values is not None:
            out.image_embeds = self.get_image_features(pixel_values, **rest).pooler_output
        if input_ids is not None and pixel_values is not None:
            out.similarity = out.image_embeds @ out.text_embeds.T
        return out

    def get_text_features(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **rest: Any
    ) -> BaseModelOutputWithPooling:
        """Texts, as token ids `(batch, tokens)`, to unit vectors `pooler_output` `(batch, dim)`."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        sequence = rest if "positions" in rest else {}
        return self._features(Item(text=""), {"ids": input_ids, "mask": mask.bool(), **sequence})

    def get_image_features(self, pixel_values: Tensor | None = None, **rest: Any) -> BaseModelOutputWithPooling:
        """Pictures to unit vectors `pooler_output` `(batch, dim)`; normalisation happens inside."""
        if pixel_values is None:
            return self.get_text_features(**rest)
        known = ("pixel_attention_mask", "spatial_shapes")
        extra = {name: rest[name] for name in known if rest.get(name) is not None}
        batch = {"pixel_values": pixel_values, **extra} if extra else {"pixels": pixel_values}
        return self._features(Item(image=b""), batch)

    def get_fused_features(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, pixel_values: Tensor | None = None, **rest: Any
    ) -> BaseModelOutputWithPooling:
        """As many texts as pictures, each text with its picture, to unit vectors `pooler_output` `(batch, dim)`.

        Where the model has a tower each, its rule of fusion makes one vector of the two.
        """
        if "positions" in rest:
            return self.get_text_features(input_ids, attention_mask, **rest)
        text = self.get_text_features(input_ids, attention_mask).pooler_output
        image = self.get_image_features(pixel_values, **rest).pooler_output
        fused = self.embedder.route(Item(text="", image=b""))
        return BaseModelOutputWithPooling(pooler_output=fused.fuse(image, text))

    def _features(self, kind: Item, batch: Batch) -> BaseModelOutputWithPooling:
        tower: Tower = self.embedder.route(kind)
        return BaseModelOutputWithPooling(pooler_output=tower({k: v.to(self.device) for k, v in batch.items()}))


class ZooProcessor(ProcessorMixin):
    """Texts and pictures → tensors, by the encoders' own reading; padding, cutting and resizing are the model's."""

    attributes: tuple[str, ...] = ()

    def __init__(self, encoders: list[Encoder], spec: ModelSpec) -> None:
        self.encoders, self.spec = encoders, spec

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, *args: Any, **options: Any) -> Self:
        """The processor of a folder or Hub repository."""
        folder = local_folder(pretrained_model_name_or_path, **{k: options[k] for k in _HUB if k in options})
        model = load_saved(folder)
        return cls([tower.encoder.to("meta") for tower in model.towers], model.spec)

    def __call__(
        self,
        images: Any = None,
        text: Any = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        **rest: Any,
    ) -> BatchFeature:
        """One text or picture, or lists of them, as a batch for `ZooModel`.

        Args:
            images: PIL pictures, arrays, bytes or paths. text: strings. A model that reads both as one sequence takes
                the first text with the first picture, and so on.
            prompt: text put before the texts. prompt_name: one of the model's by its name; with neither, its default.

        Raises:
            InputError: a text or picture cannot be read. UnsupportedModalityError: the model reads no such thing.
        """
        words = text_of(self.spec, prompt, prompt_name)
        batch: Batch = {}
        texts = [text] if isinstance(text, str) else list(text or ())
        pictures = list(images) if isinstance(images, list | tuple) else [] if images is None else [images]
        together = next((e for e in self.encoders if {"text", "image"} <= e.reads), None)
        if together is not None and texts and pictures:
            items = [Item(text=one, image=picture) for one, picture in zip(texts, pictures, strict=True)]
            batch |= together.prepare([together.prompted(item, words) for item in items])
        elif texts or pictures:
            for modality, some in (("text", texts), ("image", pictures)):
                if some:
                    batch |= self._prepare(modality, [Item(**{modality: value}) for value in some], words)
        return BatchFeature({NAMES.get(name, name): tensor for name, tensor in batch.items()})

    def _prepare(self, modality: str, items: list[Item], prompt: str) -> Batch:
        for encoder in self.encoders:
            if modality in encoder.reads:
                return encoder.prepare([encoder.prompted(item, prompt) for item in items])
        raise UnsupportedModalityError(f"this model has no tower for {modality}", what=modality)


def register() -> None:
    """Makes transformers' Auto classes know the zoo's; calling it again changes nothing."""
    AutoConfig.register(ZooConfig.model_type, ZooConfig, exist_ok=True)
    AutoModel.register(ZooConfig, ZooModel, exist_ok=True)
    AutoProcessor.register(ZooConfig, ZooProcessor, exist_ok=True)
