"""transformers' classes around an Embedder: AutoConfig, AutoModel and AutoProcessor of a folder of the zoo."""

import tempfile
from collections.abc import Iterable
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
from zoo.errors import MissingWeightsError, NotOfferedError, NotSavedError, UnsupportedModalityError
from zoo.formats import read_object
from zoo.formats.checks.safetensors_checks import read_header
from zoo.formats.zoo_native import WEIGHTS, load_readers, load_saved
from zoo.inputs.item import Item
from zoo.inputs.waveform import Waveform
from zoo.loading import best_device
from zoo.prompts import text_of
from zoo.publishing.exports.code import local_folder, write_names
from zoo.publishing.exports.tokenizers import as_transformers
from zoo.spec import ModelSpec, need_one_vector
from zoo.strangers.folders import Place

KINDS = ("text", "image", "video", "audio")
TOGETHER = "fused"  # a text and an image of one item
# What the zoo calls the tensors of a tower of one modality → what transformers calls them. All others keep their names after that of what
# they are of: "image.alpha", "text.pooled", "fused.ids".
NAMES = {
    "text": {"ids": "input_ids", "mask": "attention_mask"},
    "image": {"pixels": "pixel_values"},
    "video": {"frames": "pixel_values_videos"},
    "audio": {"samples": "input_values", "lengths": "input_lengths"},
}
# What tokenizers of transformers give beside, and no tower reads where it is 0.
_BESIDE = "token_type_ids"
_HUB = ("revision", "token", "cache_dir", "local_files_only", "force_download")
# Options of transformers that would give other weights, or weights in another form.
_REFUSED = ("quantization_config", "load_in_8bit", "load_in_4bit", "gguf_file", "state_dict", "variant", "subfolder")
_REFUSED += ("tp_plan", "key_mapping")


def refuse(options: dict[str, Any], names: Iterable[str], call: str) -> None:
    """Raises NotOfferedError for an option that would have an effect elsewhere, and has none here."""
    if given := [name for name in names if options.get(name)]:
        raise NotOfferedError(
            f"{call}({given[0]}=...) is not offered for a model of the zoo; leave it out, or load it with zoo.load_model "
            "and publish it with `zoo publish`"
        )


def dtype_of(value: Any, folder: Path) -> torch.dtype:
    """transformers' dtype argument: a type, its name, "auto" for that of the stored weights; float32 for None.

    Raises:
        ValueError: no floating-point type.
    """
    if value == "auto":
        kinds = [entry.dtype for entry in read_header(folder / WEIGHTS).values() if entry.is_float]
        value = {"F16": torch.float16, "BF16": torch.bfloat16}.get(max(set(kinds), key=kinds.count))
    found = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else value or torch.float32
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtype must be a floating-point type such as torch.float16, or its name, not {value!r}")
    return found


def _device(value: Any) -> torch.device:
    """transformers' device_map where it names one device; "auto" is the GPU where there is one, None the CPU."""
    if isinstance(value, dict) and len(set(value.values())) == 1:
        value = next(iter(value.values()))
    if value == "auto":
        value = best_device()
    if not isinstance(value, str | int | torch.device | None):
        raise NotOfferedError(f"device_map={value!r} is not offered for a model of the zoo; name one device")
    return torch.device("cpu" if value is None else value)


class ZooConfig(PretrainedConfig):
    """config.json of the zoo: the facts of the model and the parts of its towers."""

    model_type = "zoo"
    pad_token_id: int | None = None  # the encoders fill shorter texts themselves

    def __init__(
        self, spec: dict[str, Any] | None = None, towers: list[Any] | None = None, format: int = 1, **kwargs: Any
    ) -> None:
        self.spec, self.towers, self.format = dict(spec or {}), list(towers or []), format
        self.hidden_size = self.spec.get("dim")
        super().__init__(**kwargs)


@dataclass
class ZooOutput(ModelOutput):
    """Vectors `(batch, dim)` of what was given, and their similarity `(images, texts)`, `(videos, texts)` or `(audio, texts)`: unit
    vectors and their cosine, or, of a model that compares by dot product, vectors with their norms and that.

    A model of one tower that reads several kinds gives `embeds` too, one vector per item, a text with its image; of one with a tower each,
    `get_fused_features` gives that.
    """

    embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    image_embeds: Tensor | None = None
    video_embeds: Tensor | None = None
    audio_embeds: Tensor | None = None
    similarity: Tensor | None = None


class ZooModel(PreTrainedModel):
    """An Embedder as a transformers model; `from_pretrained` is the only way to one."""

    config_class = ZooConfig
    base_model_prefix = ""  # it has no head beside a base model

    def __init__(self, config: ZooConfig, embedder: Embedder | None = None) -> None:
        super().__init__(config)
        if embedder is None:
            raise MissingWeightsError("a zoo model needs its weights and tokenizer; use from_pretrained(...)")
        need_one_vector(embedder.spec, "AutoModel")
        self.embedder = embedder
        self.post_init()

    def initialize_weights(self) -> None:
        """Nothing: the weights are there. The class of a backbone would draw those of layers that we put into it, such as experts."""

    def _init_weights(self, module: Any) -> None:
        """Nothing, as `initialize_weights`."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, *args: Any, **options: Any) -> Self:
        """Opens a folder or Hub repository through the zoo, which knows its tokenizers and buffers.

        Args:
            options: those of transformers; of them the Hub's (`revision`, `token`, ...), `dtype` and `device_map` (one
                device, or "auto") are followed. The dtype is float32 where none is named.

        Raises:
            NotOfferedError: an option by which transformers would load other weights, or in another way.
        """
        refuse(options, _REFUSED, "from_pretrained")
        folder = local_folder(pretrained_model_name_or_path, **{k: options[k] for k in _HUB if k in options})
        config = options.get("config") or ZooConfig.from_pretrained(folder)
        model = cls(config, load_saved(folder)).to(dtype_of(options.get("dtype") or options.get("torch_dtype"), folder))
        model = model.to(_device(options.get("device_map"))).eval()
        return (model, {}) if options.get("output_loading_info") else model

    def save_pretrained(self, save_directory: str | Path, is_main_process: bool = True, **options: Any) -> None:
        """Writes the whole folder again (see `zoo.publishing.exports.export`).

        Raises:
            NotOfferedError: weights that are not the model's (`state_dict`), a `variant`, or `push_to_hub`.
        """
        from zoo.publishing.exports import code

        refuse(options, ("state_dict", "variant", "push_to_hub"), "save_pretrained")
        if is_main_process:
            code.write(self.embedder, Path(save_directory))

    def get_input_embeddings(self) -> torch.nn.Module:
        """Not offered: a model of the zoo has a table for each tower, or none."""
        raise NotOfferedError("a model of the zoo has one table per tower, or none; see model.embedder.towers")

    def set_input_embeddings(self, value: torch.nn.Module) -> None:
        """Not offered, as `get_input_embeddings`."""
        self.get_input_embeddings()

    def resize_token_embeddings(self, *args: Any, **options: Any) -> torch.nn.Module:
        """Not offered, as `get_input_embeddings`."""
        return self.get_input_embeddings()

    def get_position_embeddings(self) -> torch.nn.Module:
        """Not offered, as `get_input_embeddings`."""
        return self.get_input_embeddings()

    def resize_position_embeddings(self, new_num_position_embeddings: int) -> None:
        """Not offered, as `get_input_embeddings`."""
        self.get_input_embeddings()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        input_values: Tensor | None = None,
        input_lengths: Tensor | None = None,
        **rest: Any,
    ) -> ZooOutput:
        """Embeds what `ZooProcessor` made of texts, images, videos or audio, or of texts and one of these."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "pixel_values": pixel_values}
        given |= {
            "pixel_values_videos": pixel_values_videos,
            "input_values": input_values,
            "input_lengths": input_lengths,
        }
        given |= rest
        if self._batch(TOGETHER, given):
            return ZooOutput(embeds=self._features(TOGETHER, given).pooler_output)
        found = {kind: self._features(kind, given).pooler_output for kind in KINDS if self._batch(kind, given)}
        out = ZooOutput(**{f"{kind}_embeds": vectors for kind, vectors in found.items()})
        if len(found) == 1 and len(self.embedder.towers) == 1:
            (out.embeds,) = found.values()
        texts = found.pop("text", None)
        if texts is not None and found:
            out.similarity = next(iter(found.values())) @ texts.T
        return out

    def get_text_features(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **rest: Any
    ) -> BaseModelOutputWithPooling:
        """Texts, as token ids `(batch, tokens)`, to vectors `pooler_output` `(batch, dim)`."""
        return self._features("text", {"input_ids": input_ids, "attention_mask": attention_mask, **rest})

    def get_image_features(self, pixel_values: Tensor | None = None, **rest: Any) -> BaseModelOutputWithPooling:
        """Images to vectors `pooler_output` `(batch, dim)`; normalisation, where the model has it, happens inside."""
        return self._features("image", {"pixel_values": pixel_values, **rest})

    def get_video_features(self, pixel_values_videos: Tensor | None = None, **rest: Any) -> BaseModelOutputWithPooling:
        """Videos, as frames `(batch, frames, 3, height, width)`, to vectors `pooler_output` `(batch, dim)`."""
        return self._features("video", {"pixel_values_videos": pixel_values_videos, **rest})

    def get_audio_features(
        self, input_values: Tensor | None = None, input_lengths: Tensor | None = None, **rest: Any
    ) -> BaseModelOutputWithPooling:
        """Waveforms, one after the other `(samples,)`, and their lengths `(batch,)` to vectors `pooler_output` `(batch, dim)`."""
        return self._features("audio", {"input_values": input_values, "input_lengths": input_lengths, **rest})

    def get_fused_features(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        **rest: Any,
    ) -> BaseModelOutputWithPooling:
        """As many texts as images, each text with its image, to vectors `pooler_output` `(batch, dim)`.

        Where the model has a tower each, its rule of fusion makes one vector of the two.
        """
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "pixel_values": pixel_values, **rest}
        if self._batch(TOGETHER, given):
            return self._features(TOGETHER, given)
        text, image = (self._features(kind, given).pooler_output for kind in ("text", "image"))
        fused = self.embedder.route(Item(text="", image=b""))
        return BaseModelOutputWithPooling(pooler_output=fused.fuse(image, text))

    def _features(self, kind: str, given: dict[str, Any]) -> BaseModelOutputWithPooling:
        """What is given of one kind to vectors.

        Raises:
            UnsupportedModalityError: the model reads no such kind. TypeError: a tensor of it is missing, or one is not read.
        """
        tower: Tower = self.embedder.route(_EXAMPLES[kind])
        batch = self._batch(kind, given)
        if not batch:
            raise TypeError(
                f"get_{kind}_features takes what the processor makes; pass **processor({_ARGUMENTS[kind]}=...)"
            )
        _check_read(given)
        if "ids" in batch and batch.get("mask") is None:
            batch["mask"] = torch.ones_like(batch["ids"], dtype=torch.bool)
        if "mask" in batch:
            batch["mask"] = batch["mask"].bool()
        try:
            vectors = tower({name: tensor.to(self.device) for name, tensor in batch.items()})
        except KeyError as error:
            raise TypeError(
                f"{error} is missing; pass all that the processor makes: **processor({_ARGUMENTS[kind]}=...)"
            ) from error
        return BaseModelOutputWithPooling(pooler_output=vectors)

    @staticmethod
    def _batch(kind: str, given: dict[str, Any]) -> Batch:
        """What is given of one kind, as the zoo calls it; empty where nothing is."""
        there = {name: tensor for name, tensor in given.items() if tensor is not None}
        plain = {ours: there[theirs] for ours, theirs in NAMES.get(kind, {}).items() if theirs in there}
        named = {name.removeprefix(f"{kind}."): tensor for name, tensor in there.items() if name.startswith(f"{kind}.")}
        return plain | named


_EXAMPLES = {
    "text": Item(text=""),
    "image": Item(image=b""),
    "video": Item(video=b""),
    "audio": Item(audio=b""),
    TOGETHER: Item(text="", image=b""),
}
_ARGUMENTS = {"text": "text", "image": "images", "video": "videos", "audio": "audio", TOGETHER: "text=..., images"}


def _check_read(given: dict[str, Any]) -> None:
    """Raises TypeError for a tensor by which another model's vectors would change, and which none of ours reads."""
    known = {theirs for names in NAMES.values() for theirs in names.values()}
    for name, tensor in given.items():
        named = name in known or name.partition(".")[0] in (*KINDS, TOGETHER)
        if not named and isinstance(tensor, Tensor) and (name != _BESIDE or tensor.any()):
            raise TypeError(f"{name} is not read by this model; pass what the processor makes: **processor(...)")


def _put_assets(encoder: "Encoder", place: Place) -> None:
    """The files of a tokenizer or processor into a folder, in the place of what is called so there."""
    with tempfile.TemporaryDirectory() as draft:
        encoder.save_assets(Path(draft))
        place.make()
        for file in sorted(Path(draft).iterdir()):
            (place / file.name).write(file.read_bytes())


class ZooProcessor(ProcessorMixin):
    """Texts, images, videos and audio → tensors, by the encoders' own reading; padding, cutting and resizing are the model's.

    Args:
        encoders: of the model's towers. layout: what its config.json says.
    """

    attributes: tuple[str, ...] = ()

    def __init__(self, encoders: list[Encoder], layout: dict[str, Any]) -> None:
        self.encoders, self.layout = encoders, layout
        self.spec = ModelSpec.from_dict(layout["spec"])
        self.chat_template = None

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, *args: Any, **options: Any) -> Self:
        """The processor of a folder or Hub repository; its weights are neither fetched nor read."""
        hub = {name: options[name] for name in _HUB if name in options}
        layout, encoders = load_readers(local_folder(pretrained_model_name_or_path, weights=False, **hub))
        return cls(encoders, layout)

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **options: Any) -> list[str]:
        """Writes what `AutoProcessor.from_pretrained` opens: tokenizers, config.json and the files that name our classes.

        Into the model's own folder or an empty one, before or after the model.

        Raises:
            NotSavedError: the folder holds another model. NotOfferedError: `push_to_hub`.
        """
        refuse({"push_to_hub": push_to_hub}, ("push_to_hub",), "save_pretrained")
        folder = Path(save_directory)
        place = Place.of(folder)
        place.make()
        there = read_object(folder / "config.json") if (place / "config.json").is_file() else self.layout
        if there.get("towers") != self.layout["towers"]:
            raise NotSavedError(f"{folder} holds another model than this processor's; save into a new folder")
        for entry, encoder in zip(self.layout["towers"], self.encoders, strict=True):
            if "assets" in entry:
                _put_assets(encoder, place if entry["assets"] == "." else place / entry["assets"])
        write_names(there, folder)
        return sorted(str(path) for path in folder.rglob("*") if path.is_file() and path.suffix != ".safetensors")

    def to_dict(self) -> dict[str, Any]:
        """What config.json says of the model, and the class."""
        return {**self.layout, "processor_class": type(self).__name__}

    @classmethod
    def from_args_and_dict(cls, args: Any, processor_dict: dict[str, Any], **options: Any) -> Self:
        """Not offered: a tokenizer is needed too, which no dictionary holds."""
        raise NotOfferedError("a processor of the zoo needs its tokenizer's files; use from_pretrained(folder)")

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of texts as transformers' class, None where the model reads none or has one of another library."""
        for encoder in self.encoders:
            if (
                "text" in encoder.modalities
                and (found := as_transformers(getattr(encoder, "tokenize", None))) is not None
            ):
                return found
        return None

    def decode(self, *args: Any, **options: Any) -> str:
        """Token ids back to a text, as transformers' tokenizers do."""
        return self._tokenizer().decode(*args, **options)

    def batch_decode(self, *args: Any, **options: Any) -> list[str]:
        """`decode` of many."""
        return self._tokenizer().batch_decode(*args, **options)

    def _tokenizer(self) -> Any:
        if (found := self.tokenizer) is None:
            raise NotOfferedError("this model has no tokenizer of transformers, so that ids cannot be made texts again")
        return found

    def post_process_image_text_to_text(self, *args: Any, **options: Any) -> Any:
        """Not offered: an embedding model generates nothing."""
        raise NotOfferedError("an embedding model gives vectors, and generates no text to process")

    post_process_multimodal_output = post_process_image_text_to_text

    def apply_chat_template(self, *args: Any, **options: Any) -> Any:
        """Not offered: an embedding model reads texts and images, and puts its own prompt before them."""
        raise NotOfferedError("an embedding model reads no conversation; pass text=..., images=... and prompt=...")

    def __call__(
        self,
        images: Any = None,
        text: Any = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        videos: Any = None,
        audio: Any = None,
        sampling_rate: int | None = None,
        **rest: Any,
    ) -> BatchFeature:
        """One text, image, video or audio, or lists of them, as a batch for `ZooModel`.

        Args:
            images: PIL images, arrays, bytes or paths. text: strings. A model that reads both as one sequence takes
                the first text with the first image, and so on.
            videos: paths, bytes or arrays `(frames, height, width, 3)`, not beside images.
            audio: paths, bytes, `zoo.Waveform`s, or arrays `(samples,)` at `sampling_rate` Hz.
            prompt: text put before the texts. prompt_name: one of the model's by its name; with neither, its default.

        Raises:
            InputError: a text or image cannot be read. UnsupportedModalityError: the model reads no such thing.
        """
        words = text_of(self.spec, prompt, prompt_name)
        batch: Batch = {}
        texts = [text] if isinstance(text, str) else list(text or ())
        images = list(images) if isinstance(images, list | tuple) else [] if images is None else [images]
        together = next((e for e in self.encoders if {"text", "image"} <= e.modalities), None)
        if together is not None and texts and images:
            items = [Item(text=one, image=image) for one, image in zip(texts, images, strict=True)]
            batch |= self._named(
                TOGETHER, together, together.prepare([together.prompted(item, words) for item in items])
            )
        else:
            videos = list(videos) if isinstance(videos, list | tuple) else [] if videos is None else [videos]
            waves = list(audio) if isinstance(audio, list | tuple) else [] if audio is None else [audio]
            waves = [Waveform(w, sampling_rate) if sampling_rate and hasattr(w, "dtype") else w for w in waves]
            for modality, some in (("text", texts), ("image", images), ("video", videos), ("audio", waves)):
                if some:
                    batch |= self._prepare(modality, [Item(**{modality: value}) for value in some], words)
        return BatchFeature(batch)

    @staticmethod
    def _named(kind: str, encoder: Encoder, batch: Batch) -> Batch:
        """A batch of one kind under the names by which `ZooModel` finds it beside those of other kinds."""
        plain = NAMES.get(kind, {}) if len(encoder.modalities & {*KINDS}) == 1 else {}
        return {plain.get(name, f"{kind}.{name}"): tensor for name, tensor in batch.items()}

    def _prepare(self, modality: str, items: list[Item], prompt: str) -> Batch:
        for encoder in self.encoders:
            if modality in encoder.modalities:
                batch = encoder.prepare([encoder.prompted(item, prompt) for item in items])
                return self._named(modality, encoder, batch)
        raise UnsupportedModalityError(f"this model has no tower for {modality}", what=modality)


def register() -> None:
    """Makes transformers' Auto classes know the zoo's; calling it again changes nothing."""
    AutoConfig.register(ZooConfig.model_type, ZooConfig, exist_ok=True)
    AutoModel.register(ZooConfig, ZooModel, exist_ok=True)
    AutoProcessor.register(ZooConfig, ZooProcessor, exist_ok=True)
