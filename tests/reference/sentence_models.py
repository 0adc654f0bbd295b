"""Checkpoints written by sentence-transformers: modules.json with pooling, dense layers, prompts, tables, CLIP."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn

from tests.reference.base import Reference, stir
from tests.reference.photos import open_rgb
from tests.reference.transformers_models import BERT_LIKE, SMALL, dual_reference, write_clip
from tests.reference.vocab import byte_bpe, wordpiece

PROMPTS = {"query": "query: ", "document": "passage: ", "task": "Represent this sentence for searching: "}


def sentence_reference(folder: Path) -> Reference:
    """sentence-transformers' own reading of a folder."""
    model = SentenceTransformer(str(folder), device="cpu")

    def embed(texts: Sequence[str]) -> Tensor:
        return model.encode(list(texts), prompt="", convert_to_tensor=True)

    def prompted(texts: Sequence[str], prompt: str | None) -> Tensor:
        return model.encode(list(texts), prompt_name=prompt, convert_to_tensor=True)

    return Reference(folder, embed_texts=embed, embed_prompted=prompted)


def _backbone(folder: Path, *, lower: bool = True) -> None:
    tokenizer = transformers.BertTokenizer(vocab=wordpiece(lower=lower), do_lower_case=lower, model_max_length=64)
    tokenizer.save_pretrained(folder)
    config = transformers.BertConfig(**BERT_LIKE, vocab_size=len(tokenizer))
    stir(transformers.BertModel(config)).save_pretrained(folder)


def _decoder(folder: Path) -> None:
    """A small causal backbone whose tokenizer fills on the left, as the embedders made from language models."""
    specials = ["<|pad|>", "<|end|>"]
    vocab, merges = byte_bpe(specials)
    core = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.post_processor = processors.TemplateProcessing(single="$A <|end|>", special_tokens=[("<|end|>", 1)])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<|pad|>", eos_token="<|end|>", model_max_length=64, padding_side="left"
    )
    tokenizer.save_pretrained(folder)
    config = transformers.Qwen3Config(
        **SMALL, num_key_value_heads=1, head_dim=16, vocab_size=len(vocab), max_position_embeddings=128, pad_token_id=0
    )
    stir(transformers.Qwen3Model(config)).save_pretrained(folder)


def _write(
    folder: Path,
    *modules: nn.Module,
    backbone: Callable[[Path], None] = _backbone,
    max_seq_length: int | None = None,
    do_lower_case: bool = False,
    prompts: dict[str, str] | None = None,
    default_prompt: str | None = None,
    similarity: str | None = None,
) -> Reference:
    with tempfile.TemporaryDirectory() as scratch:
        backbone(Path(scratch))
        first = Transformer(scratch, max_seq_length=max_seq_length, do_lower_case=do_lower_case)
        layers = [first, *(stir(module, seed=7) for module in modules)]
        model = SentenceTransformer(
            modules=layers,
            device="cpu",
            prompts=prompts or {},
            default_prompt_name=default_prompt,
            similarity_fn_name=similarity,
        )
        model.save_pretrained(str(folder), create_model_card=False)
    return sentence_reference(folder)


def write_2021(folder: Path) -> Reference:
    """The layout of sentence-transformers/all-MiniLM-L6-v2: old class names, one key per pooling mode, vocab.txt."""
    _write(folder, Pooling(32, "mean"), Normalize(), max_seq_length=24)
    names = ("Transformer", "Pooling", "Normalize")
    rows = json.loads((folder / "modules.json").read_text())
    for row, name in zip(rows, names, strict=True):
        row["type"] = f"sentence_transformers.models.{name}"
    (folder / "modules.json").write_text(json.dumps(rows))
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    old = {"word_embedding_dimension": 32, **{f"pooling_mode_{mode}": mode == "mean_tokens" for mode in modes}}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(old))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24, "do_lower_case": False}))
    (folder / "tokenizer.json").unlink()
    vocab = sorted(wordpiece().items(), key=lambda row: row[1])
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece, _ in vocab), encoding="utf-8")
    settings = {"do_lower_case": True, "model_max_length": 512, "tokenizer_class": "BertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return sentence_reference(folder)


def write_dense(folder: Path) -> Reference:
    """Pooling, a dense layer with tanh (the default), another without activation or bias, and no Normalize."""
    last = Dense(20, 12, bias=False, activation_function=None)
    return _write(folder, Pooling(32, "cls"), Dense(32, 20), last)


def write_dot(folder: Path, *after: nn.Module, similarity: str | None = "dot", **options: Any) -> Reference:
    """The layout of sentence-transformers/multi-qa-mpnet-base-dot-v1: compared by dot product, no Normalize."""
    reference = _write(folder, Pooling(32, "mean"), *after, similarity=similarity, **options)
    reference.unit = False
    return reference


def write_static(folder: Path) -> Reference:
    """A StaticEmbedding: the mean of table rows, no special tokens, texts of any length."""
    tokenizer = transformers.BertTokenizer(vocab=wordpiece()).backend_tokenizer
    static = stir(StaticEmbedding(tokenizer, embedding_dim=16))
    SentenceTransformer(modules=[static], device="cpu").save_pretrained(str(folder), create_model_card=False)
    return sentence_reference(folder)


def write_mapped_static(folder: Path) -> Reference:
    """A model2vec table: several tokens share a row, and each token has a weight."""
    write_static(folder)
    weights = folder / "model.safetensors"
    rows = load_file(weights)["embedding.weight"].shape[0]
    generator = torch.Generator().manual_seed(1)
    tensors = {
        "embeddings": torch.randn(rows // 2, 16, generator=generator),
        "mapping": torch.arange(rows) % (rows // 2),
        "weights": torch.rand(rows, generator=generator) + 0.1,
    }
    save_file(tensors, weights)
    return sentence_reference(folder)


def _clip_reference(folder: Path, inner: Path) -> Reference:
    """Texts and images by sentence-transformers' encode; pixels by the processor inside."""
    model = SentenceTransformer(str(folder), device="cpu")

    def embed(inputs: Sequence[Any]) -> Tensor:
        return model.encode(list(inputs), convert_to_tensor=True)

    return Reference(
        folder,
        embed_texts=embed,
        embed_images=lambda paths: embed([open_rgb(path) for path in paths]),
        read_pixels=dual_reference(inner, fill=False, max_tokens=77).read_pixels,
        resize="torch",
    )


def write_clip_without_modules(folder: Path) -> Reference:
    """A transformers CLIP that sentence-transformers opens by itself."""
    write_clip(folder)
    return _clip_reference(folder, folder)


def write_clip_saved(folder: Path) -> Reference:
    """A CLIP saved by sentence-transformers 6: modules.json with its Transformer module and a modality_config."""
    with tempfile.TemporaryDirectory() as scratch:
        write_clip(Path(scratch))
        SentenceTransformer(scratch, device="cpu").save_pretrained(str(folder), create_model_card=False)
    return _clip_reference(folder, folder)


def write_clip_of_2021(folder: Path) -> Reference:
    """The layout of sentence-transformers/clip-ViT-B-32: modules.json that names one folder, 0_CLIPModel."""
    inner = folder / "0_CLIPModel"
    inner.mkdir()
    write_clip(inner)
    row = {"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}
    (folder / "modules.json").write_text(json.dumps([row]))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"__version__": {}}))
    return _clip_reference(folder, inner)


def write_shared_root(folder: Path) -> Reference:
    """A repository that serves several loaders: sentence-transformers beside ONNX, OpenVINO and pickled weights."""
    reference = _write(folder, Pooling(32, "mean"), Normalize())
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"not ours")
    torch.save({"never": "read"}, folder / "pytorch_model.bin")
    shutil.copy(folder / "1_Pooling" / "config.json", folder / "onnx" / "config.json")
    return reference


WRITERS: dict[str, Callable[[Path], Reference]] = {
    "sentence-mean": lambda folder: _write(folder, Pooling(32, "mean"), Normalize()),
    "sentence-cls": lambda folder: _write(folder, Pooling(32, "cls"), Normalize()),
    "sentence-lasttoken": lambda folder: _write(folder, Pooling(32, "lasttoken"), Normalize(), backbone=_decoder),
    "sentence-dense": write_dense,
    "sentence-dot": write_dot,
    "sentence-prompts": lambda folder: _write(
        folder, Pooling(32, "mean"), Normalize(), prompts=PROMPTS, default_prompt="task"
    ),
    "sentence-short": lambda folder: _write(folder, Pooling(32, "mean"), max_seq_length=12),
    "sentence-lower-case": lambda folder: _write(
        folder, Pooling(32, "mean"), backbone=lambda path: _backbone(path, lower=False), do_lower_case=True
    ),
    "sentence-2021": write_2021,
    "sentence-shared-root": write_shared_root,
    "sentence-static": write_static,
    "sentence-static-mapped": write_mapped_static,
    "sentence-clip": write_clip_without_modules,
    "sentence-clip-saved": write_clip_saved,
    "sentence-clip-2021": write_clip_of_2021,
}
