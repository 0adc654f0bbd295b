"""Checkpoints written by transformers: dual encoders with their processors, and plain text backbones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from tests.reference.base import Reference, stir
from tests.reference.photos import open_rgb
from tests.reference.vocab import ROBERTA_SPECIALS, byte_bpe, clip_bpe, space_bpe, unigram, wordpiece

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**SMALL, "image_size": 64, "patch_size": 16}
BERT_LIKE = {**SMALL, "max_position_embeddings": 66}


def dual_reference(folder: Path, *, fill: bool, max_tokens: int) -> Reference:
    """transformers' own reading of a dual encoder; `fill` pads every text to `max_tokens`, as SigLIP was trained."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    images = transformers.AutoImageProcessor.from_pretrained(folder)
    usual = (images.image_mean, images.image_std) if images.do_normalize else ((0.0,) * 3, (1.0,) * 3)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in usual)

    def embed_texts(texts: Sequence[str]) -> Tensor:
        padding = "max_length" if fill else True
        batch = tokenizer(list(texts), padding=padding, truncation=True, max_length=max_tokens, return_tensors="pt")
        if fill:
            return model.get_text_features(input_ids=batch["input_ids"]).pooler_output
        return model.get_text_features(**batch).pooler_output

    def preprocess(paths: Sequence[Path]) -> dict[str, Tensor]:
        return images([open_rgb(path) for path in paths], return_tensors="pt")

    return Reference(
        folder,
        embed_texts=embed_texts,
        embed_images=lambda paths: model.get_image_features(**preprocess(paths)).pooler_output,
        read_pixels=lambda paths: (preprocess(paths)["pixel_values"] * std + mean) * 255,
        resize="torch",
    )


def write_clip(folder: Path, *, eos_token_id: int | None = None, crop: int = 64, size: int = 64) -> Reference:
    """A CLIP with a tokenizer of CLIP's own kind; eos_token_id 2 is what all old checkpoints say, wrongly."""
    vocab, merges = clip_bpe()
    tokenizer = transformers.CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)
    text = {**SMALL, "vocab_size": len(vocab), "max_position_embeddings": 77, "bos_token_id": len(vocab) - 2}
    text["eos_token_id"] = eos_token_id or len(vocab) - 1
    config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=24)
    stir(transformers.CLIPModel(config)).save_pretrained(folder)
    pixels = transformers.CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": crop, "width": crop})
    transformers.CLIPProcessor(pixels, tokenizer).save_pretrained(folder)
    return dual_reference(folder, fill=False, max_tokens=77)


def write_clip_of_2021(folder: Path) -> Reference:
    """A CLIP folder as openai/clip-vit-base-patch32 looks: old preprocessor keys, vocab.json, eos_token_id 2."""
    write_clip(folder, eos_token_id=2)
    (folder / "processor_config.json").unlink()
    (folder / "tokenizer.json").unlink()
    vocab, merges = clip_bpe()
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    old = {
        "crop_size": 64,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": 64,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(old))
    return dual_reference(folder, fill=False, max_tokens=77)


def _t5_like(folder: Path) -> None:
    """A tokenizer like that of SigLIP: unigram pieces, "</s>" at the end and as filler, 32 tokens."""
    core = Tokenizer(models.Unigram(unigram(["<pad>", "</s>", "<unk>"]), unk_id=2))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="</s>", eos_token="</s>", unk_token="<unk>", model_max_length=32
    )
    tokenizer.save_pretrained(folder)


def write_siglip(folder: Path) -> Reference:
    """A SigLIP: bicubic squash, texts filled to 32 tokens and pooled at the last."""
    _t5_like(folder)
    text = {**SMALL, "vocab_size": 400, "max_position_embeddings": 32, "projection_size": 32}
    config = transformers.SiglipConfig(text_config=text, vision_config=VISION)
    stir(transformers.SiglipModel(config)).save_pretrained(folder)
    transformers.SiglipImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return dual_reference(folder, fill=True, max_tokens=32)


def _gemma_like(folder: Path) -> int:
    vocab, merges = space_bpe(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"])
    tokenizer = transformers.Siglip2Tokenizer(vocab=vocab, merges=merges, model_max_length=32, padding_side="right")
    core = tokenizer.backend_tokenizer
    core.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.save_pretrained(folder)
    return len(vocab)


def write_siglip2(folder: Path) -> Reference:
    """A SigLIP 2 of fixed resolution: model_type "siglip", bilinear, Gemma-like lower-casing tokenizer."""
    text = {**SMALL, "vocab_size": _gemma_like(folder), "max_position_embeddings": 32, "projection_size": 32}
    config = transformers.SiglipConfig(text_config=text, vision_config=VISION)
    stir(transformers.SiglipModel(config)).save_pretrained(folder)
    transformers.SiglipImageProcessor(size={"height": 64, "width": 64}, resample=2).save_pretrained(folder)
    return dual_reference(folder, fill=True, max_tokens=32)


def write_siglip2_naflex(folder: Path) -> Reference:
    """A SigLIP 2 NaFlex: model_type "siglip2", at most 40 patches of any aspect ratio."""
    text = {**SMALL, "vocab_size": _gemma_like(folder), "max_position_embeddings": 32, "projection_size": 32}
    vision = {**SMALL, "patch_size": 16, "num_patches": 64}
    config = transformers.Siglip2Config(text_config=text, vision_config=vision)
    stir(transformers.Siglip2Model(config)).save_pretrained(folder)
    transformers.Siglip2ImageProcessor(patch_size=16, max_num_patches=40).save_pretrained(folder)
    reference = dual_reference(folder, fill=True, max_tokens=32)
    reference.read_pixels = None  # patches, not a square of pixels
    return reference


def write_tipsv2(folder: Path) -> Reference:
    """A TIPSv2 with its authors' names of tensors, which transformers writes again: pixels not normalised, texts without ends."""
    vocab, merges = space_bpe(["<pad>", "<unk>"])
    transformers.Tipsv2Tokenizer(vocab=vocab, merges=merges, model_max_length=32).save_pretrained(folder)
    vision = {**SMALL, "image_size": 56, "patch_size": 14}
    del vision["intermediate_size"]
    text = {**SMALL, "vocab_size": len(vocab), "max_position_embeddings": 32}
    config = transformers.Tipsv2Config(text_config=text, vision_config=vision)
    stir(transformers.Tipsv2Model(config)).save_pretrained(folder)
    transformers.Tipsv2ImageProcessor(size={"height": 56, "width": 56}).save_pretrained(folder)
    return dual_reference(folder, fill=False, max_tokens=32)


def text_reference(folder: Path) -> Reference:
    """sentence-transformers' reading of a folder without modules.json: the mean of the last layer's token states."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    return Reference(folder, embed_texts=lambda texts: model.encode(list(texts), convert_to_tensor=True))


def _write_text(folder: Path, config: Any, tokenizer: Any) -> Reference:
    config.vocab_size = len(tokenizer)
    tokenizer.save_pretrained(folder)
    stir(transformers.AutoModel.from_config(config)).save_pretrained(folder)
    return text_reference(folder)


def write_bert(folder: Path) -> Reference:
    tokenizer = transformers.BertTokenizer(vocab=wordpiece(), model_max_length=64)
    return _write_text(folder, transformers.BertConfig(**BERT_LIKE), tokenizer)


def write_distilbert(folder: Path) -> Reference:
    """A cased DistilBERT."""
    config = transformers.DistilBertConfig(dim=32, hidden_dim=48, n_layers=2, n_heads=2, max_position_embeddings=66)
    tokenizer = transformers.BertTokenizer(vocab=wordpiece(lower=False), do_lower_case=False, model_max_length=64)
    return _write_text(folder, config, tokenizer)


def write_mpnet(folder: Path) -> Reference:
    specials = [*ROBERTA_SPECIALS[:3], "[UNK]", "<mask>"]
    tokenizer = transformers.MPNetTokenizer(vocab=wordpiece(specials=specials), model_max_length=64)
    return _write_text(folder, transformers.MPNetConfig(**BERT_LIKE), tokenizer)


def write_roberta(folder: Path) -> Reference:
    vocab, merges = byte_bpe()
    tokenizer = transformers.RobertaTokenizer(vocab=vocab, merges=merges, model_max_length=64)
    return _write_text(folder, transformers.RobertaConfig(**BERT_LIKE, type_vocab_size=1), tokenizer)


def write_xlm_roberta(folder: Path) -> Reference:
    tokenizer = transformers.XLMRobertaTokenizer(vocab=unigram(), model_max_length=64)
    return _write_text(folder, transformers.XLMRobertaConfig(**BERT_LIKE, type_vocab_size=1), tokenizer)


def write_modernbert(folder: Path) -> Reference:
    """A ModernBERT whose window (8 tokens) is much shorter than the texts, with one global layer in three."""
    specials = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    vocab, merges = byte_bpe(specials)
    core = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.add_special_tokens([AddedToken(token) for token in specials])
    ends = [("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])]
    core.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, mask_token="[MASK]", model_max_length=256, **names
    )
    config = transformers.ModernBertConfig(
        **{**SMALL, "num_hidden_layers": 4},
        max_position_embeddings=256,
        local_attention=8,
        global_attn_every_n_layers=3,
        pad_token_id=vocab["[PAD]"],
        cls_token_id=vocab["[CLS]"],
        sep_token_id=vocab["[SEP]"],
        bos_token_id=vocab["[CLS]"],
        eos_token_id=vocab["[SEP]"],
    )
    return _write_text(folder, config, tokenizer)


WRITERS: dict[str, Callable[[Path], Reference]] = {
    "transformers-clip": write_clip,
    "transformers-clip-crop": lambda folder: write_clip(folder, size=71),
    "transformers-clip-2021": write_clip_of_2021,
    "transformers-siglip": write_siglip,
    "transformers-siglip2": write_siglip2,
    "transformers-siglip2-naflex": write_siglip2_naflex,
    "transformers-tipsv2": write_tipsv2,
    "transformers-bert": write_bert,
    "transformers-distilbert": write_distilbert,
    "transformers-mpnet": write_mpnet,
    "transformers-roberta": write_roberta,
    "transformers-xlm-roberta": write_xlm_roberta,
    "transformers-modernbert": write_modernbert,
}
