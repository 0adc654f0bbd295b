"""Cross-encoders in the layout of their repositories, with tiny random weights; what sentence-transformers computes of those files.

What a repository's config.json and tokenizer_config.json say beside the shape stands in the cases, with the keys of the versions
that wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.reference import gte
from tests.reference.text_published import put
from zoo.formats.backbones import native, read_config
from zoo.formats.settings import NOTHING
from zoo.models.text import byte_tokenizer, pair_tokenizer
from zoo.reranking.cross_encoder import HEADS

SMALL = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "hidden_size": 32}
ONE_CLASS = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
BERT = {
    "model_type": "bert",
    **SMALL,
    "vocab_size": 260,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "type_vocab_size": 2,
}
XLM_ROBERTA = {
    "model_type": "xlm-roberta",
    **SMALL,
    "vocab_size": 261,
    "max_position_embeddings": 130,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "type_vocab_size": 1,
}
DEBERTA = {
    "model_type": "deberta-v2",
    **SMALL,
    "vocab_size": 260,
    "max_position_embeddings": 128,
    "type_vocab_size": 0,
    "relative_attention": True,
    "max_relative_positions": -1,
    "position_buckets": 16,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "layer_norm_eps": 1e-7,
    "pad_token_id": 0,
    "pooler_dropout": 0,
    "pooler_hidden_act": "gelu",
    "pooler_hidden_size": 32,
    "legacy": True,
}
MODERNBERT = {
    "model_type": "modernbert",
    **SMALL,
    "vocab_size": 260,
    "max_position_embeddings": 128,
    "global_attn_every_n_layers": 2,
    "local_attention": 16,
    "pad_token_id": 0,
    **dict.fromkeys(("bos_token_id", "cls_token_id"), 1),
    **dict.fromkeys(("eos_token_id", "sep_token_id"), 2),
    "classifier_activation": "gelu",
    "classifier_bias": False,
    "classifier_dropout": 0.0,
    "deterministic_flash_attn": False,
    "reference_compile": False,
    "tie_word_embeddings": True,
}
OF_BERT = {"gradient_checkpointing": False, "position_embedding_type": "absolute", "use_cache": True}
BY_BERT = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "sep_token": "[SEP]"}
BY_BERT |= {"cls_token": "[CLS]", "unk_token": "[UNK]", "model_max_length": 128}
TYPES = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
NO_TYPES = {"model_input_names": ["input_ids", "attention_mask"]}
BY_ROBERTA = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "model_max_length": 128, **NO_TYPES}
OLD = {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}
NEW = {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.1.0.dev0"}}
SIX = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
    ],
    "sentence_bert_config.json": {
        "transformer_task": "sequence-classification",
        "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
        "module_output_name": "scores",
    },
    "config_sentence_transformers.json": {
        "__version__": {"pytorch": "2.9.0", "sentence_transformers": "6.0.0", "transformers": "5.0.0"},
        "activation_fn": "torch.nn.modules.activation.Sigmoid",
        "default_prompt_name": None,
        "model_type": "CrossEncoder",
        "prompts": {},
    },
}


@dataclass(frozen=True)
class Published:
    """One repository: config.json, tokenizer_config.json, and further files by their names.

    Attributes:
        stored: the tensors as the file has them, of transformers' own. plain: the logits of pairs, written out, where
            sentence-transformers does not open the files.
    """

    config: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    files: Mapping[str, Any] = field(default_factory=dict)
    stored: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
    plain: Callable[[Path, Sequence[tuple[str, str]]], Tensor] | None = None


def _minilm(more: Mapping[str, Any], **changes: Any) -> Published:
    return Published({**BERT, **OF_BERT, **ONE_CLASS, **more, **changes}, {**BY_BERT, **TYPES})


def _bge(**changes: Any) -> Published:
    own = {"classifier_dropout": None, "output_past": True, "position_embedding_type": "absolute", "use_cache": True}
    return Published({**XLM_ROBERTA, **ONE_CLASS, **own, "layer_norm_eps": 1e-5, **changes}, BY_ROBERTA)


def _modernbert(pooling: str, files: Mapping[str, Any] = {}) -> Published:
    return Published({**MODERNBERT, **ONE_CLASS, "classifier_pooling": pooling}, {**BY_BERT, **NO_TYPES}, files)


def _mxbai() -> Published:
    return Published({**DEBERTA, **ONE_CLASS}, {**BY_BERT, **TYPES})


def _gte() -> Published:
    config = {**gte.CONFIG, **SMALL, "vocab_size": 261, "max_position_embeddings": 128, "type_vocab_size": 1}
    config |= {"architectures": ["NewForSequenceClassification"], "classifier_dropout": 0.0, "pad_token_id": 1}
    config |= {"rope_scaling": {"factor": 8.0, "type": "ntk"}, "rope_theta": 20000, **ONE_CLASS}
    return Published(config, {**BY_ROBERTA, "model_max_length": 32768}, stored=gte.classifying, plain=gte.logits)


CASES: dict[str, Published] = {
    "ms-marco-tinybert-l2-v2": _minilm(NEW),
    "ms-marco-minilm-l2-v2": _minilm(NEW),
    "ms-marco-minilm-l4-v2": _minilm(NEW),
    "ms-marco-minilm-l6-v2": _minilm(NEW),
    "ms-marco-minilm-l12-v2": _minilm(OLD),
    "ms-marco-electra-base": _minilm(
        OLD,
        model_type="electra",
        embedding_size=32,
        summary_activation="gelu",
        summary_last_dropout=0.1,
        summary_type="first",
        summary_use_proj=True,
    ),
    "bge-reranker-base": _bge(),
    "bge-reranker-large": _bge(),
    "bge-reranker-v2-m3": _bge(),
    "granite-embedding-reranker-english-r2": _modernbert("cls"),
    "gte-multilingual-reranker-base": _gte(),
    "gte-reranker-modernbert-base": _modernbert("mean", SIX),
    "mxbai-rerank-xsmall-v1": _mxbai(),
    "mxbai-rerank-base-v1": _mxbai(),
    "mxbai-rerank-large-v1": _mxbai(),
}
# Of repositories with the same files but for their weights one stands for all.
FEW = {
    "ms-marco-minilm-l6-v2",
    "ms-marco-electra-base",
    "bge-reranker-v2-m3",
    "gte-multilingual-reranker-base",
    "gte-reranker-modernbert-base",
    "mxbai-rerank-xsmall-v1",
}
# Short and long; the query longer than the document; one of them nearly empty.
PAIRS = [
    ("a red bicycle", "A bicycle in the rain, a café and 山の上の白い雲. " * 9),
    ("how do I reset it? " * 9, "b"),
    ("x", "how now brown cow, " * 3),
    ("hello there, " * 12, "Hold the button, " * 11),
    ("hello there", "Hold the button."),
]


def write(case: Published, folder: Path) -> Path:
    """The repository's files, with random weights whose logits lie apart."""
    import transformers
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    config = native(case.config)
    head = HEADS[config["model_type"]]
    put(folder / "config.json", {"architectures": [head.cls], "transformers_version": "4.40.0", **case.config})
    if config["model_type"] == case.config["model_type"]:
        shape = transformers.AutoConfig.for_model(**config)
    else:  # as of a backbone, and in words that transformers has
        config.pop("architectures")
        shape = read_config(config, folder / "config.json", NOTHING)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, head.cls)(shape)
        with torch.no_grad():
            for weight in model.parameters():
                weight.normal_(0, 0.2) if weight.ndim > 1 else weight.add_(torch.randn_like(weight) * 0.05)
    save_file(
        {name: tensor.contiguous() for name, tensor in case.stored(model.state_dict()).items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    core = pair_tokenizer() if case.tokenizer["pad_token"] == "[PAD]" else _roberta_tokenizer()
    core.save(str(folder / "tokenizer.json"))
    put(folder / "tokenizer_config.json", case.tokenizer)
    for name, content in case.files.items():
        put(folder / name, content)
    return folder


def _roberta_tokenizer() -> Any:
    from tokenizers import processors

    tokenizer = byte_tokenizer(("<s>", "<pad>", "</s>", "<unk>", "<mask>"), "<s> $A </s>", "<unk>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def reference(case: Published, folder: Path, pairs: Sequence[tuple[str, str]]) -> tuple[Tensor, Tensor]:
    """The scores and the logits of pairs."""
    if case.plain is None:
        return by_sentence_transformers(folder, pairs)
    logits = case.plain(folder, pairs)
    return logits.sigmoid(), logits


def by_sentence_transformers(folder: Path, pairs: Sequence[tuple[str, str]]) -> tuple[Tensor, Tensor]:
    """The scores and the logits of sentence-transformers' CrossEncoder."""
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), device="cpu")
    logits = model.predict(list(pairs), activation_fn=torch.nn.Identity(), convert_to_tensor=True)
    return model.predict(list(pairs), convert_to_tensor=True).float().clone(), logits.float().clone()
