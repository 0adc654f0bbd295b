"""Small checkpoints of text families in their published layouts, with the vectors that their authors' usage gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor
from torch.nn import functional as F

import zoo
from tests.reference.base import stir
from tests.reference.nv_embed import write_nv_embed
from tests.reference.vocab import byte_bpe, unigram, wordpiece

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
Vectors = Callable[..., Tensor]  # texts, prompt="" → (n, 32)


def _qwen2(folder: Path, **config: Any) -> None:
    """Qwen2's byte-level words, filled on the left; no token stands at the ends of a text."""
    vocab, merges = byte_bpe(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer = transformers.Qwen2Tokenizer(
        vocab=vocab, merges=merges, padding_side="left", model_max_length=512, pad_token="<|endoftext|>"
    )
    tokenizer.save_pretrained(folder)
    shape = {
        **SIZES,
        "num_key_value_heads": 2,
        "vocab_size": len(vocab),
        "max_position_embeddings": 512,
        "pad_token_id": 0,
    }
    stir(transformers.Qwen2Model(transformers.Qwen2Config(**shape, **config))).save_pretrained(folder)


def _xlm_roberta(folder: Path) -> None:
    tokenizer = transformers.XLMRobertaTokenizer(vocab=unigram(), model_max_length=64)
    tokenizer.save_pretrained(folder)
    shape = {
        **SIZES,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 66,
        "type_vocab_size": 2,
        "pad_token_id": 1,
    }
    shape |= {"bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-12}
    stir(transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**shape))).save_pretrained(folder)


def _bert(folder: Path) -> None:
    transformers.BertTokenizer(vocab=wordpiece(), model_max_length=64).save_pretrained(folder)
    shape = {**SIZES, "vocab_size": len(wordpiece()), "max_position_embeddings": 64}
    stir(transformers.BertModel(transformers.BertConfig(**shape))).save_pretrained(folder)


def _sentence(folder: Path, backbone: Callable[[Path], None], pooling: str, limit: int) -> Vectors:
    """sentence-transformers' own files around a backbone, and its vectors."""
    plain = folder.parent / f"{folder.name}-backbone"
    backbone(plain)
    first = Transformer(str(plain), max_seq_length=limit)
    model = SentenceTransformer(modules=[first, Pooling(32, pooling), Normalize()], device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)

    def vectors(texts: Sequence[str], prompt: str = "") -> Tensor:
        return model.encode(list(texts), prompt=prompt or None, convert_to_tensor=True)

    return vectors


def write_kalm_v1(folder: Path) -> Vectors:
    """Causal weights beside code that the authors' card says not to run."""
    vectors = _sentence(folder, _qwen2, "mean", 128)
    _change(folder / "config.json", auto_map={"AutoModel": "modeling.Qwen2Model"})
    return vectors


def write_kalm_v2(folder: Path) -> Vectors:
    """Weights that the code beside them reads both ways; nothing in config.json says so."""
    return _both_ways(folder, "modeling.Qwen2Model", 128)


def write_qzhou(folder: Path) -> Vectors:
    """As v2 of KaLM, by a class of another name."""
    return _both_ways(folder, "modeling_qzhou.QZhouModel", 256)


def _both_ways(folder: Path, own: str, limit: int) -> Vectors:
    # transformers heeds is_causal, which stands for the authors' code in sentence-transformers' own run.
    vectors = _sentence(folder, lambda plain: _qwen2(plain, is_causal=False), "mean", limit)
    _change(folder / "config.json", auto_map={"AutoModel": own}, is_causal=None)
    return vectors


def write_granite(folder: Path) -> Vectors:
    """XLM-R with the first token's state."""
    return _sentence(folder, _xlm_roberta, "cls", 64)


def write_llm_embedder(folder: Path) -> Vectors:
    """The layout of 2023: old class names, one key for each way to pool."""
    vectors = _sentence(folder, _bert, "cls", 64)
    rows = json.loads((folder / "modules.json").read_text())
    for row in rows:
        row["type"] = f"sentence_transformers.models.{row['type'].rpartition('.')[2]}"
    (folder / "modules.json").write_text(json.dumps(rows))
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    old = {"word_embedding_dimension": 32, **{f"pooling_mode_{mode}": mode == "cls_token" for mode in modes}}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(old))
    settings = {"__version__": {"sentence_transformers": "2.2.2"}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return vectors


def write_peg(folder: Path) -> Vectors:
    """A plain backbone, its weights a pickle; its card takes `last_hidden_state[:, 0]`."""
    _bert(folder)
    model = transformers.BertModel.from_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)

    def vectors(texts: Sequence[str], prompt: str = "") -> Tensor:
        batch = tokenizer([prompt + text for text in texts], padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            return F.normalize(model(**batch).last_hidden_state[:, 0], dim=-1)

    return vectors


def write_nv(folder: Path) -> Vectors:
    """See `tests.reference.nv_embed`."""
    return write_nv_embed(folder).vectors


# Registered name → what writes its layout, and the tiny model whose parts it has.
FAMILIES: dict[str, tuple[Callable[[Path], Vectors], str]] = {
    "nv-embed-v2": (write_nv, "nv-embed-test"),
    "kalm-embedding-multilingual-mini-instruct-v1.5": (write_kalm_v1, "kalm-test"),
    "kalm-embedding-multilingual-mini-instruct-v2.5": (write_kalm_v2, "kalm-test"),
    "qzhou-embedding": (write_qzhou, "kalm-test"),
    "granite-embedding-107m-multilingual": (write_granite, "granite-test"),
    "llm-embedder": (write_llm_embedder, "llm-embedder-test"),
    "peg": (write_peg, "llm-embedder-test"),
}


def embed(name: str, *, texts: list[str], calls: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    """Vectors by the facts of a registered model, but for its size: for a child process that talks to the loopback hub.

    Args:
        calls: each the arguments of `encode_query` (with "role", of the other role).
    """
    facts = {
        **zoo.get_spec(name).to_dict(),
        "name": f"{name}-tiny",
        "dim": 32,
        "dims": (),
        "params": 0,
        "revision": None,
    }
    del facts["family"]
    parts = FAMILIES[name][1]
    zoo.register_model(**facts)(lambda spec: zoo.Embedder(spec, list(zoo.build_model(parts).towers)))
    model = zoo.load_model(f"{name}-tiny", **options)
    found = []
    for call in calls:
        how = model.encode_document if call.pop("role", "query") == "document" else model.encode_query
        found.append(how(texts, **call).tolist())
    return {"vectors": found, "license": model.spec.license, "pool_prompt": model.spec.pool_prompt}


def _change(path: Path, **values: Any) -> None:
    known = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in known.items() if value is not None}))
