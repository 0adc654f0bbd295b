"""Text embedders in the layout of their repositories, with tiny random weights, and what others compute of those files.

What is in a repository's config.json, modules.json, tokenizer_config.json and 1_Pooling/config.json stands in the cases, with the
keys of the versions that wrote them; shapes and tokenizer are those of the zoo's `*-test` model of the family.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

import zoo
from tests.reference.base import stir
from zoo.models.gte_qwen2 import stella_head
from zoo.models.parts import Cls, Mean
from zoo.models.text import bert, byte_tokenizer, text_embedder
from zoo.models.text_encoders import labse_head

MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
MODULES = "sentence_transformers.models."


@dataclass(frozen=True)
class Published:
    """One repository.

    Attributes:
        name: registered. test: the family's test model. config: of config.json, beside the shape. pooling: one of `MODES`.
        tokenizer: tokenizer_config.json. prompts: of config_sentence_transformers.json, None without the file. prefix: of tensors.
        normalize: whether modules.json ends with it. limit: max_seq_length, None without sentence_bert_config.json.
        build: the model of these parts and of the test model's sizes, where the test model has others. dense: folders of Dense layers, in their
            order. tied: tensors that the file leaves out, for they are another's. buffers: of the class of
            that time, with their shapes. modules: whether sentence-transformers' files are there. plain: computes texts by transformers alone where sentence-transformers is wrong on
            transformers 5. stored: the tensors as the file has them, of transformers' own. process: tokenizer.json's own post-processor, False to leave it out.
    """

    name: str
    test: str
    config: Mapping[str, Any]
    pooling: str
    tokenizer: Mapping[str, Any]
    prompts: Mapping[str, str] | None = None
    prefix: str = ""
    normalize: bool = True
    limit: int | None = None
    dense: tuple[str, ...] = ()
    tied: tuple[str, ...] = ()
    buffers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    modules: bool = True
    stored: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None
    plain: Callable[[Path, Sequence[str]], Tensor] | None = None
    process: Any = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    build: Callable[[zoo.ModelSpec], zoo.Embedder] | None = None

    def model(self) -> zoo.Embedder:
        """The shape, with random weights."""
        return zoo.build_model(self.test) if self.build is None else self.build(zoo.get_spec(self.test)).eval()


def write(case: Published, folder: Path, *, side: str | None = None) -> Path:
    """The repository's files. `side`: padding_side of its tokenizer, where it is to be another."""
    folder.mkdir(parents=True)
    model = stir(case.model())
    encoder, head = model.towers[0].encoder, model.towers[0].head
    shape = {key: value for key, value in encoder.settings.items() if key not in case.drop}
    if isinstance(rope := shape.pop("rope_parameters", None), dict):
        shape["rope_theta"] = rope.get("rope_theta")
    put(folder / "config.json", {**shape, **case.config})
    state = {key: value.contiguous() for key, value in encoder.backbone.state_dict().items() if key not in case.tied}
    state = {f"{case.prefix}{key}": value for key, value in state.items()}
    state |= {key: torch.ones(shape, dtype=torch.uint8) for key, shape in case.buffers.items()}
    state = case.stored(state) if case.stored else state
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    core = json.loads(encoder.tokenize.tokenizer.to_str())
    if case.process is not True:
        core["post_processor"] = case.process or None
    put(folder / "tokenizer.json", {**core, "truncation": None, "padding": None})
    put(folder / "tokenizer_config.json", {**case.tokenizer, **({"padding_side": side} if side else {})})
    if not case.modules:
        return folder
    names = ["Transformer", "Pooling", *("Dense" for _ in case.dense), *(["Normalize"] if case.normalize else [])]
    paths = ["", "1_Pooling", *case.dense, *([f"{len(names) - 1}_Normalize"] if case.normalize else [])]
    rows = zip(names, paths, strict=True)
    put(
        folder / "modules.json",
        [{"idx": i, "name": str(i), "path": path, "type": MODULES + name} for i, (name, path) in enumerate(rows)],
    )
    flags = {f"pooling_mode_{mode}": mode == case.pooling for mode in MODES}
    put(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": encoder.width, **flags})
    for path, spec, layer in zip(case.dense, getattr(head, "specs", ()), getattr(head, "layers", ()), strict=False):
        settings = {"in_features": spec["width"], "out_features": spec["dim"], "bias": spec["bias"]}
        kind = "linear.Identity" if spec["activation"] == "Identity" else f"activation.{spec['activation']}"
        put(folder / path / "config.json", {**settings, "activation_function": f"torch.nn.modules.{kind}"})
        save_file({f"linear.{k}": v for k, v in layer[0].state_dict().items()}, folder / path / "model.safetensors")
    if case.prompts is not None:
        written = {"prompts": dict(case.prompts), "default_prompt_name": None, "similarity_fn_name": None}
        put(folder / "config_sentence_transformers.json", {**written, **case.settings})
    if case.limit is not None:
        put(folder / "sentence_bert_config.json", {"max_seq_length": case.limit, "do_lower_case": False})
    return folder


def put(path: Path, value: Any) -> None:
    """JSON, in folders that are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False))


def by_sentence_transformers(folder: Path, *, pool_prompt: bool = True) -> Callable[..., Tensor]:
    """What sentence-transformers computes of the folder: texts and a prompt, "" without, to unit vectors.

    Args:
        pool_prompt: whether the prompt's tokens are pooled too; of some repositories the library knows it by their name.
    """
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": "float32"})
    if not pool_prompt:
        model.set_pooling_include_prompt(False)

    def embed(texts: Sequence[str], prompt: str = "") -> Tensor:
        vectors = model.encode(list(texts), prompt=prompt, convert_to_tensor=True, batch_size=4)
        return F.normalize(vectors.float().clone(), dim=-1)

    return embed


def reference(case: Published, folder: Path) -> Callable[..., Tensor]:
    """Texts and a prompt, "" without, to unit vectors."""
    if case.plain is None:
        return by_sentence_transformers(folder, pool_prompt=zoo.get_spec(case.name).pool_prompt)
    plain = case.plain

    def embed(texts: Sequence[str], prompt: str = "") -> Tensor:
        with torch.inference_mode():
            return F.normalize(plain(folder, [prompt + text for text in texts]).float(), dim=-1)

    return embed


def each_alone(
    folder: Path, texts: Sequence[str], end: int, limit: int, *, both_ways: bool, mean: bool = False
) -> Tensor:
    """Transformers' backbone on one text after the other, no filler: the ids of the tokenizer, the end put there, what is pooled.

    Args:
        end: id of the token after each text. both_ways: an attention mask of our own lets every token see every other.
    """
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False).eval()
    vectors = []
    for text in texts:
        ids = [*[i for i in tokenizer(text).input_ids if i != end][: limit - 1], end]
        seen = torch.zeros(1, 1, len(ids), len(ids)) if both_ways else torch.ones(1, len(ids), dtype=torch.long)
        states = model(input_ids=torch.tensor([ids]), attention_mask=seen).last_hidden_state[0]
        vectors.append(states.mean(0) if mean else states[-1])
    return torch.stack(vectors)


def _mistral(folder: Path, texts: Sequence[str]) -> Tensor:
    return each_alone(folder, texts, end=2, limit=200, both_ways=False)


def _gte_qwen2(folder: Path, texts: Sequence[str]) -> Tensor:
    return each_alone(folder, texts, end=0, limit=256, both_ways=True)


def _icl(folder: Path, texts: Sequence[str]) -> Tensor:
    """As FlagEmbedding's ICLLLMEmbedder: a query is cut, written out again, and gets the words that ask for the answer."""
    from transformers import AutoTokenizer

    tokenizer, limit = AutoTokenizer.from_pretrained(folder), 200
    closing = "\n<response>"
    room = limit - 1 - len(tokenizer(f"{closing}</s>", add_special_tokens=False).input_ids)

    def written(text: str) -> str:
        examples, begins, own = text.rpartition("<instruct>")
        if not begins:
            return text
        beside = len(tokenizer(examples, add_special_tokens=False).input_ids) if examples else 0
        return (
            examples
            + tokenizer.decode(tokenizer(begins + own, add_special_tokens=False).input_ids[: room - beside])
            + closing
        )

    return each_alone(folder, [written(text) for text in texts], end=2, limit=limit, both_ways=False)


def _gemma2(folder: Path, texts: Sequence[str]) -> Tensor:
    return each_alone(folder, texts, end=1, limit=128, both_ways=False)


def _stella(folder: Path, texts: Sequence[str]) -> Tensor:
    dense = load_file(folder / "2_Dense_1024" / "model.safetensors")
    pooled = each_alone(folder, texts, end=0, limit=256, both_ways=True, mean=True)
    return F.linear(pooled, dense["linear.weight"], dense["linear.bias"])


def _cls(spec: zoo.ModelSpec) -> zoo.Embedder:
    return text_embedder(spec, TINY_BERT, Cls(), tokenizer=byte_tokenizer())


def _labse(spec: zoo.ModelSpec) -> zoo.Embedder:
    return text_embedder(spec, TINY_BERT, Cls(), labse_head(32), tokenizer=byte_tokenizer())


def _e5(spec: zoo.ModelSpec) -> zoo.Embedder:
    encoder = zoo.build_model("text-encoders-test").towers[0].encoder
    return text_embedder(spec, encoder.settings, Mean(), tokenizer=encoder.tokenize.tokenizer)


def _stella_parts(spec: zoo.ModelSpec) -> zoo.Embedder:
    encoder = zoo.build_model("gte-qwen2-test").towers[0].encoder
    return text_embedder(spec, encoder.settings, Mean(), stella_head(32, 32), tokenizer=encoder.tokenize.tokenizer)


TINY_BERT = {**bert(layers=2, width=32, vocab=260, heads=4, positions=128), "pad_token_id": 0}


QWEN_SPECIALS = {
    "eos_token": "<|im_end|>",
    "pad_token": "<|endoftext|>",
    "bos_token": None,
    "unk_token": None,
    "errors": "replace",
    "clean_up_tokenization_spaces": False,
    "split_special_tokens": False,
    "add_bos_token": False,
    "add_prefix_space": False,
    "model_max_length": 131072,
    "tokenizer_class": "Qwen2Tokenizer",
}
QWEN3_QUERY = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
E5_MISTRAL = {
    "web_search_query": QWEN3_QUERY + " ",
    "sts_query": "Instruct: Retrieve semantically similar text.\nQuery: ",
    "summarization_query": "Instruct: Given a news summary, retrieve other semantically similar summaries\nQuery: ",
    "bitext_query": "Instruct: Retrieve parallel sentences.\nQuery: ",
}
ARCTIC = {"query": "Represent this sentence for searching relevant passages: "}
CASES = {
    case.name: case
    for case in (
        Published(
            "qwen3-embedding-0.6b",
            "qwen3-embedding-test",
            {
                "architectures": ["Qwen3ForCausalLM"],
                "attention_bias": False,
                "attention_dropout": 0.0,
                "bos_token_id": 0,
                "eos_token_id": 0,
                "hidden_act": "silu",
                "initializer_range": 0.02,
                "max_window_layers": 2,
                "rms_norm_eps": 1e-06,
                "rope_scaling": None,
                "sliding_window": None,
                "tie_word_embeddings": True,
                "torch_dtype": "bfloat16",
                "transformers_version": "4.51.3",
                "use_cache": True,
                "use_sliding_window": False,
            },
            "lasttoken",
            QWEN_SPECIALS,
            {"query": QWEN3_QUERY, "document": ""},
            settings={"similarity_fn_name": "cosine"},
            drop=("pad_token_id",),
        ),
        Published(
            "embeddinggemma-300m",
            "embeddinggemma-300m-test",
            {
                "_sliding_window_pattern": 6,
                "architectures": ["Gemma3TextModel"],
                "attention_bias": False,
                "attention_dropout": 0.0,
                "attn_logit_softcapping": None,
                "final_logit_softcapping": None,
                "hidden_activation": "gelu_pytorch_tanh",
                "initializer_range": 0.02,
                "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
                "query_pre_attn_scalar": 8,
                "rms_norm_eps": 1e-06,
                "rope_local_base_freq": 10000.0,
                "rope_scaling": None,
                "rope_theta": 1000000.0,
                "torch_dtype": "float32",
                "transformers_version": "4.57.0.dev0",
                "use_cache": True,
            },
            "mean_tokens",
            {
                "add_bos_token": True,
                "add_eos_token": True,
                "bos_token": "<bos>",
                "eos_token": "<eos>",
                "pad_token": "<pad>",
                "unk_token": "<unk>",
                "mask_token": "<mask>",
                "clean_up_tokenization_spaces": False,
                "model_max_length": 2048,
                "padding_side": "right",
                "tokenizer_class": "GemmaTokenizer",
                "use_default_system_prompt": False,
            },
            {
                "query": "task: search result | query: ",
                "document": "title: none | text: ",
                "BitextMining": "task: search result | query: ",
                "Clustering": "task: clustering | query: ",
                "Classification": "task: classification | query: ",
                "InstructionRetrieval": "task: code retrieval | query: ",
                "MultilabelClassification": "task: classification | query: ",
                "PairClassification": "task: sentence similarity | query: ",
                "Reranking": "task: search result | query: ",
                "Retrieval": "task: search result | query: ",
                "Retrieval-query": "task: search result | query: ",
                "Retrieval-document": "title: none | text: ",
                "STS": "task: sentence similarity | query: ",
                "Summarization": "task: summarization | query: ",
            },
            limit=256,
            dense=("2_Dense", "3_Dense"),
            settings={"similarity_fn_name": "cosine"},
        ),
        Published(
            "bge-en-icl",
            "bge-icl-test",
            {
                "architectures": ["MistralModel"],
                "attention_dropout": 0.0,
                "hidden_act": "silu",
                "initializer_range": 0.02,
                "pad_token_id": 2,
                "rms_norm_eps": 1e-05,
                "rope_theta": 10000.0,
                "tie_word_embeddings": False,
                "torch_dtype": "float32",
                "transformers_version": "4.41.0",
                "use_cache": False,
            },
            "lasttoken",
            {
                "add_bos_token": True,
                "add_eos_token": True,
                "additional_special_tokens": ["<instruct>", "<query>", "<response>"],
                "bos_token": "<s>",
                "eos_token": "</s>",
                "pad_token": "</s>",
                "unk_token": "<unk>",
                "clean_up_tokenization_spaces": False,
                "legacy": True,
                "model_max_length": 1000000000000000019884624838656,
                "sp_model_kwargs": {},
                "spaces_between_special_tokens": False,
                "tokenizer_class": "LlamaTokenizer",
                "use_default_system_prompt": False,
            },
            limit=200,
            plain=_icl,
        ),
        Published(
            "bge-multilingual-gemma2",
            "bge-gemma2-test",
            {
                "architectures": ["Gemma2Model"],
                "attention_bias": False,
                "attention_dropout": 0.0,
                "attn_logit_softcapping": 50.0,
                "cache_implementation": "hybrid",
                "final_logit_softcapping": 30.0,
                "hidden_act": "gelu_pytorch_tanh",
                "hidden_activation": "gelu_pytorch_tanh",
                "initializer_range": 0.02,
                "rms_norm_eps": 1e-06,
                "rope_theta": 10000.0,
                "sliding_window_size": 32,
                "torch_dtype": "float32",
                "transformers_version": "4.42.3",
                "use_cache": False,
            },
            "lasttoken",
            {
                "add_bos_token": True,
                "add_eos_token": True,
                "bos_token": "<bos>",
                "eos_token": "<eos>",
                "pad_token": "<pad>",
                "unk_token": "<unk>",
                "additional_special_tokens": ["<instruct>", "<query>"],
                "clean_up_tokenization_spaces": False,
                "model_max_length": 1000000000000000019884624838656,
                "sp_model_kwargs": {},
                "spaces_between_special_tokens": False,
                "tokenizer_class": "GemmaTokenizer",
                "use_default_system_prompt": False,
            },
            limit=128,
            plain=_gemma2,
        ),
        *(
            Published(
                name,
                "mistral-embedding-test",
                {
                    "architectures": ["MistralModel"],
                    "attention_dropout": 0.0,
                    "hidden_act": "silu",
                    "initializer_range": 0.02,
                    "pad_token_id": 2,
                    "rms_norm_eps": 1e-05,
                    "rope_theta": 10000.0,
                    "tie_word_embeddings": False,
                    "torch_dtype": "float16",
                    "transformers_version": "4.34.0",
                    "use_cache": False,
                },
                "lasttoken",
                {
                    "add_bos_token": True,
                    "add_eos_token": True,
                    "bos_token": "<s>",
                    "eos_token": "</s>",
                    "pad_token": "</s>",
                    "unk_token": "<unk>",
                    "additional_special_tokens": [],
                    "clean_up_tokenization_spaces": False,
                    "legacy": True,
                    "model_max_length": 1000000000000000019884624838656,
                    "sp_model_kwargs": {},
                    "spaces_between_special_tokens": False,
                    "tokenizer_class": "LlamaTokenizer",
                    "use_default_system_prompt": False,
                },
                prompts,
                limit=200,
                plain=_mistral,
                process={
                    "type": "TemplateProcessing",
                    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                    "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
                },
            )
            for name, prompts in (
                ("e5-mistral-7b-instruct", E5_MISTRAL),
                ("linq-embed-mistral", None),
                ("sfr-embedding-mistral", None),
                ("sfr-embedding-2-r", None),
            )
        ),
        *(
            Published(
                name,
                "gte-qwen2-test",
                {
                    "architectures": ["Qwen2Model"],
                    "attention_dropout": 0.0,
                    "auto_map": {
                        "AutoModel": "modeling_qwen.Qwen2Model",
                        "AutoModelForCausalLM": "modeling_qwen.Qwen2ForCausalLM",
                        "AutoModelForSequenceClassification": "modeling_qwen.Qwen2ForSequenceClassification",
                    },
                    "bos_token_id": 0,
                    "eos_token_id": 0,
                    "hidden_act": "silu",
                    "initializer_range": 0.02,
                    "max_window_layers": 2,
                    "rms_norm_eps": 1e-06,
                    "sliding_window": 256,
                    "tie_word_embeddings": False,
                    "torch_dtype": "float32",
                    "transformers_version": "4.41.2",
                    "use_cache": True,
                    "use_sliding_window": False,
                },
                pooling,
                {
                    **QWEN_SPECIALS,
                    "add_eos_token": True,
                    "eos_token": "<|endoftext|>",
                    "auto_map": {
                        "AutoTokenizer": ["tokenization_qwen.Qwen2Tokenizer", "tokenization_qwen.Qwen2TokenizerFast"]
                    },
                    "model_max_length": 32768,
                },
                prompts,
                plain=plain,
                process={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
                drop=("is_causal", "pad_token_id"),
                **more,
            )
            for name, pooling, plain, prompts, more in (
                ("gte-qwen2-1.5b-instruct", "lasttoken", _gte_qwen2, {"query": QWEN3_QUERY + " "}, {"limit": 256}),
                ("gte-qwen2-7b-instruct", "lasttoken", _gte_qwen2, {"query": QWEN3_QUERY + " "}, {"limit": 256}),
                (
                    "stella-en-1.5b-v5",
                    "mean_tokens",
                    _stella,
                    {
                        "s2p_query": "Instruct: Given a web search query, retrieve relevant passages that answer the query.\nQuery: ",
                        "s2s_query": "Instruct: Retrieve semantically similar text.\nQuery: ",
                    },
                    {"dense": ("2_Dense_1024",), "normalize": False, "build": _stella_parts, "limit": 256},
                ),
            )
        ),
        *(
            Published(
                name,
                "text-encoders-test",
                {
                    "architectures": ["BertModel"],
                    "attention_probs_dropout_prob": 0.1,
                    "classifier_dropout": None,
                    "gradient_checkpointing": False,
                    "hidden_act": "gelu",
                    "hidden_dropout_prob": 0.1,
                    "initializer_range": 0.02,
                    "layer_norm_eps": 1e-12,
                    "position_embedding_type": "absolute",
                    "torch_dtype": "float32",
                    "transformers_version": "4.30.0",
                    "type_vocab_size": 2,
                    "use_cache": True,
                },
                pooling,
                {
                    "cls_token": "[CLS]",
                    "sep_token": "[SEP]",
                    "pad_token": "[PAD]",
                    "unk_token": "[UNK]",
                    "model_max_length": 128,
                    "tokenizer_class": "PreTrainedTokenizerFast",
                },
                limit=128,
                build=build,
                **more,
            )
            for name, pooling, build, more in (
                ("bge-large-en-v1.5", "cls_token", _cls, {}),
                ("bge-small-en", "cls_token", _cls, {}),
                ("bge-base-zh-v1.5", "cls_token", _cls, {}),
                ("mxbai-embed-large-v1", "cls_token", _cls, {"normalize": False}),
                ("snowflake-arctic-embed-m", "cls_token", _cls, {"prompts": ARCTIC}),
                ("snowflake-arctic-embed-m-v1.5", "cls_token", _cls, {"prompts": ARCTIC}),
                ("labse", "cls_token", _labse, {"dense": ("2_Dense",)}),
            )
        ),
        *(
            Published(
                name,
                "text-encoders-test",
                {
                    "architectures": ["XLMRobertaModel"],
                    "attention_probs_dropout_prob": 0.1,
                    "classifier_dropout": None,
                    "hidden_act": "gelu",
                    "hidden_dropout_prob": 0.1,
                    "initializer_range": 0.02,
                    "layer_norm_eps": 1e-05,
                    "output_past": True,
                    "position_embedding_type": "absolute",
                    "torch_dtype": "float32",
                    "transformers_version": "4.29.0",
                    "use_cache": True,
                },
                pooling,
                {
                    "bos_token": "<s>",
                    "cls_token": "<s>",
                    "eos_token": "</s>",
                    "sep_token": "</s>",
                    "pad_token": "<pad>",
                    "unk_token": "<unk>",
                    "model_max_length": 128,
                    "tokenizer_class": "PreTrainedTokenizerFast",
                },
                prompts,
                limit=128,
                build=build,
            )
            for name, pooling, prompts, build in (
                ("bge-m3-unsupervised", "cls_token", None, None),
                ("multilingual-e5-base", "mean_tokens", None, _e5),
                ("multilingual-e5-large-instruct", "mean_tokens", None, _e5),
                ("snowflake-arctic-embed-l-v2.0", "cls_token", {"query": "query: "}, None),
            )
        ),
    )
}
