"""Late interaction as published: ColQwen2's adapter over its base, and transformers' own layouts, with their own forward passes.

Nothing here calls the zoo's encoder, renderer or poolers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn

import zoo
from tests.reference.base import stir
from tests.reference.qwen2_vl import MEAN, STD, Published, Row, make_image, states, write_qwen2_vl, write_tokenizer
from tests.reference.vocab import byte_bpe
from zoo.inputs.item import Item

DIM, TOKEN = 128, 28 * 28
QUERIES = ("who paid?", "What is the share of wind power in the second chart of the report, by year?", "café, 3 x 7")
AUGMENTED = 10 * "<|endoftext|>"
PAGE = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Describe the image.<|im_end|><|endoftext|>"


def pages() -> list[Image.Image]:
    """Images of several shapes."""
    return [make_image(0), make_image(1, 40, 200), make_image(2, 160, 30)]


def items() -> list[Item]:
    return [*(Item(text=query) for query in QUERIES), *(Item(image=page) for page in pages())]


# ---------------------------------------------------------------------------------- colpali-engine's layout: vidore/colqwen2


def write_base(folder: Path) -> Published:
    """As vidore/colqwen2-base: Qwen2-VL under its old names, and the projection of colpali-engine's ColQwen2 beside it."""
    from safetensors.torch import load_file, save_file

    published = write_qwen2_vl(folder)
    published.model.custom_text_proj = stir(nn.Linear(32, DIM), 5)
    path = folder / "model.safetensors"
    mine = {
        f"custom_text_proj.{name}": tensor for name, tensor in published.model.custom_text_proj.state_dict().items()
    }
    save_file({**load_file(path), **mine}, path, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["ColQwen2"]}))
    return published


def write_adapter(base: Published, folder: Path, *, base_name: str) -> Published:
    """As vidore/colqwen2-v1.0: matrices of the text layers and of the projection under the names of 2024."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    from safetensors.torch import save_file
    from transformers import AutoConfig, Qwen2VLForConditionalGeneration

    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        (folder / name).write_bytes((base.folder / name).read_bytes())
    images = json.loads((base.folder / "preprocessor_config.json").read_text())
    images |= {
        "max_pixels": 768 * TOKEN,
        "processor_class": "ColQwen2Processor",
    }  # colpali-engine's class of that name
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    fresh = Qwen2VLForConditionalGeneration(AutoConfig.from_pretrained(base.folder)).eval()
    fresh.custom_text_proj = nn.Linear(32, DIM)
    fresh.load_state_dict(base.model.state_dict())
    targets = "(.*(model).*(down_proj|gate_proj|up_proj|k_proj|q_proj|v_proj|o_proj).*$|.*(custom_text_proj).*$)"
    settings = {"r": 4, "lora_alpha": 4, "lora_dropout": 0.1, "target_modules": targets}
    model = get_peft_model(fresh, LoraConfig(**settings, task_type="FEATURE_EXTRACTION")).eval()
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:  # B far from zero, where training begins and an adapter that is not read would not show
                weight.copy_(0.5 * torch.randn(weight.shape, generator=generator))
    tensors = {
        name.replace("base_model.model.model.language_model.", "base_model.model.model."): tensor.contiguous()
        for name, tensor in get_peft_model_state_dict(model).items()
    }
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    facts = {"peft_type": "LORA", "bias": "none", "use_dora": False, "inference_mode": True, "modules_to_save": None}
    facts |= {"base_model_name_or_path": base_name, "task_type": "FEATURE_EXTRACTION", "init_lora_weights": "gaussian"}
    (folder / "adapter_config.json").write_text(json.dumps({**settings, **facts}))
    return Published(folder, model.base_model.model, base.tokenizer)


def engine_vectors(
    published: Published, some: Sequence[Item], *, prefix: str = "Query: ", positions: str = "mrope", side: str = "left"
) -> list[Tensor]:
    """ColQwen2.forward and ColQwen2Processor of colpali-engine 0.3.4, a vector for every token that is no padding."""
    rows = [Row(PAGE, [item.image]) if item.image is not None else Row(prefix + item.text + AUGMENTED) for item in some]
    hidden, _, mask = states(published, rows, pixels=(4 * TOKEN, 768 * TOKEN), positions=positions, side=side)
    with torch.inference_mode():
        projected = published.model.custom_text_proj(hidden)
        projected = projected / projected.norm(dim=-1, keepdim=True)
    return [row[real.bool()] for row, real in zip(projected, mask, strict=True)]


# ----------------------------------------------------------------------------------------------------- transformers' layouts


@dataclass
class Native:
    """A folder in a layout of transformers, with the model and the processor that it was written from."""

    folder: Path
    model: Any
    processor: Any

    def vectors(self, some: Sequence[Item], side: str = "left", mrope: bool = False) -> list[Tensor]:
        """By the class and the processor themselves: queries in one batch, pages in another.

        Args:
            mrope: hand ColQwen2ForRetrieval the positions that it computed itself until transformers 5.
        """
        self.processor.tokenizer.padding_side = side
        queries = [item.text for item in some if item.image is None]
        images = [item.image for item in some if item.image is not None]
        found = []
        for inputs in (
            self.processor.process_queries(queries) if queries else None,
            self.processor.process_images(images) if images else None,
        ):
            if inputs is not None:
                inputs.pop("labels", None)
                extra = {"position_ids": self._places(inputs)} if mrope else {}
                with torch.inference_mode():
                    embeddings = self.model(**inputs, **extra).embeddings
                found += [row[real.bool()] for row, real in zip(embeddings, inputs["attention_mask"], strict=True)]
        return found

    def _places(self, inputs: dict[str, Tensor]) -> Tensor:
        """Positions `(3, batch, tokens)` of Qwen2-VL: an image's by time, row and column, then on from the largest."""
        places = torch.zeros(3, *inputs["input_ids"].shape, dtype=torch.long)
        for i, (ids, real) in enumerate(zip(inputs["input_ids"], inputs["attention_mask"].bool(), strict=True)):
            pads = ids[real] == self.processor.image_token_id
            if not pads.any():
                places[:, i, real] = torch.arange(len(pads))
                continue
            start, count = int(pads.nonzero()[0]), int(pads.sum())
            _, height, width = (inputs["image_grid_thw"][i] // torch.tensor([1, 2, 2])).tolist()
            grid = torch.cartesian_prod(torch.arange(1), torch.arange(height), torch.arange(width)).T + start
            after = torch.arange(len(pads) - start - count) + start + max(height, width)
            before = torch.arange(start)
            places[:, i, real] = torch.cat([before.expand(3, -1), grid, after.expand(3, -1)], 1)
        return places


def write_colqwen2(folder: Path) -> Native:
    """As vidore/colqwen2-v1.0-hf, written by transformers 4.53: a configuration and names of that time."""
    from transformers import AutoTokenizer, ColQwen2Config, ColQwen2ForRetrieval, ColQwen2Processor
    from transformers import Qwen2VLImageProcessor as Images

    plain = write_qwen2_vl(folder.parent / f"{folder.name}-vlm")
    vlm = json.loads((plain.folder / "config.json").read_text())
    folder.mkdir(parents=True)
    write_tokenizer(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = Images(size={"shortest_edge": 4 * TOKEN, "longest_edge": 768 * TOKEN}, image_mean=MEAN, image_std=STD)
    processor = ColQwen2Processor(image_processor=images, tokenizer=tokenizer)
    model = stir(ColQwen2ForRetrieval(ColQwen2Config(vlm_config=vlm, embedding_dim=DIM)), 6)
    native = _write(folder, model, processor, {"vlm.": "vlm.model."})
    config = {"architectures": ["ColQwen2ForRetrieval"], "model_type": "colqwen2", "embedding_dim": DIM}
    (folder / "config.json").write_text(
        json.dumps({**config, "vlm_config": vlm, "transformers_version": "4.53.0.dev0"})
    )
    return native


def write_colpali(folder: Path) -> Native:
    """As vidore/colpali-v1.3-hf: names before transformers 5; images of 28 x 28 pixels in place of 448 x 448."""
    from transformers import ColPaliConfig, ColPaliForRetrieval, ColPaliProcessor, SiglipImageProcessor

    images = SiglipImageProcessor(size={"height": 28, "width": 28}, image_seq_length=4)
    tokenizer = _tokenizer({"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}, [])
    processor = ColPaliProcessor(image_processor=images, tokenizer=tokenizer)
    text = {"model_type": "gemma", "vocab_size": len(tokenizer) + 8, "num_key_value_heads": 1, "head_dim": 16}
    vision = {"model_type": "siglip_vision_model", "image_size": 28, "patch_size": 14, "vision_use_head": False}
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    vlm = {"model_type": "paligemma", "text_config": {**text, **shape}, "vision_config": {**vision, **shape}}
    vlm |= {"projection_dim": 32, "hidden_size": 32, "image_token_index": tokenizer.convert_tokens_to_ids("<image>")}
    model = stir(ColPaliForRetrieval(ColPaliConfig(vlm_config=vlm, embedding_dim=DIM)), 7)
    renamed = {
        "vlm.language_model.": "vlm.language_model.model.",
        "vlm.vision_tower.": "vlm.vision_tower.vision_model.",
    }
    return _write(folder, model, processor, renamed)


def write_colmodernvbert(folder: Path) -> Native:
    """As ModernVBERT/colmodernvbert-merged: tiles of 32 x 32 pixels in place of 512 x 512; its tokenizer adds two tokens."""
    from transformers import (
        ColModernVBertConfig,
        ColModernVBertForRetrieval,
        ColModernVBertProcessor,
        Idefics3ImageProcessor,
    )

    tiles = [f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)]
    tokenizer = _tokenizer(
        {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"},
        ["<|begin_of_text|>", "<global-img>", "<fake_token_around_image>", "<image>", "<end_of_utterance>", *tiles],
    )
    images = Idefics3ImageProcessor(size={"longest_edge": 96}, max_image_size={"longest_edge": 32})
    processor = ColModernVBertProcessor(image_processor=images, tokenizer=tokenizer, image_seq_len=4)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2}
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"))
    ids["pad_token_id"] = tokenizer.pad_token_id
    text = {"model_type": "modernbert", "vocab_size": len(tokenizer), "num_hidden_layers": 3, "local_attention": 16}
    vision = {"model_type": "siglip_vision_model", "num_hidden_layers": 2, "image_size": 32, "patch_size": 8}
    vlm = {"model_type": "modernvbert", "text_config": {**text, **shape, **ids}, "vision_config": {**vision, **shape}}
    vlm |= {"pixel_shuffle_factor": 2, "image_token_id": tokenizer.convert_tokens_to_ids("<image>")}
    model = stir(ColModernVBertForRetrieval(ColModernVBertConfig(vlm_config=vlm, embedding_dim=DIM)), 8)
    return _write(folder, model, processor, {})


def _write(folder: Path, model: nn.Module, processor: Any, renamed: dict[str, str]) -> Native:
    from safetensors.torch import save_file

    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    processor.save_pretrained(folder)

    def name_then(name: str) -> str:
        old = next((old for old in renamed if name.startswith(old)), None)
        return renamed[old] + name.removeprefix(old) if old else name

    save_file({name_then(n): t for n, t in model.state_dict().items()}, folder / "model.safetensors", {"format": "pt"})
    return Native(folder, model, processor)


def _tokenizer(named: dict[str, str], others: list[str]) -> Any:
    """Bytes and pairs of bytes; where it has a [CLS], it stands before and [SEP] after what is read."""
    from transformers import PreTrainedTokenizerFast

    vocab, merges = byte_bpe([])
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in (*named.values(), *others)]
    )
    if "cls_token" in named:
        ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


# ---------------------------------------------------------------------------------------------------------------- children


def embed(name: str, *, spec: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """Vectors of `items` by a model loaded by name, for a child process that talks to the loopback hub.

    Args:
        spec: facts to register beforehand, so that `name` is a registered one.
    """
    if spec is not None:
        from zoo.registry import register_model

        register_model(**spec, modalities={"text", "image"})(_only_loaded)
    model = zoo.load_model(name, **options)
    return {"vectors": [vectors.tolist() for vectors in model.encode(items())], "spec": model.spec.to_dict()}


def _only_loaded(spec: zoo.ModelSpec) -> zoo.Embedder:
    raise AssertionError(f"{spec.name} is loaded, never built")
