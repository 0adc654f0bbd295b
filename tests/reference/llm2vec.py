"""LLM2Vec in the layout of its repositories, tiny and random, and what llm2vec/llm2vec.py of McGill-NLP/llm2vec computes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from tests.reference.base import stir
from tests.reference.jina import LORA, put
from zoo.models.text import byte_tokenizer, piece_tokenizer

LIMIT, DOCUMENT, RANK, MARK = 512, 400, 4, "!@#$%^&*()"
Embed = Callable[..., Tensor]
SHAPE = {
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 48,
    "max_position_embeddings": 1024,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.40.0",
    "use_cache": True,
    "vocab_size": 260,
}
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False, "rope_scaling": None}
MISTRAL = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None}
KINDS = {
    "Meta-Llama-3-8B-Instruct": ("meta-llama/Meta-Llama-3-8B-Instruct", {**LLAMA, "pretraining_tp": 1}),
    "Mistral-7B-Instruct-v2": ("mistralai/Mistral-7B-Instruct-v0.2", MISTRAL),
    "Llama-2-7b-chat-hf": ("meta-llama/Llama-2-7b-chat-hf", {**LLAMA, "pretraining_tp": 1}),
    "Sheared-LLaMA": ("princeton-nlp/Sheared-LLaMA-1.3B", {**LLAMA, "pretraining_tp": 1}),
}
LLAMA_TOKENIZER = {
    "add_bos_token": True,
    "add_eos_token": False,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "clean_up_tokenization_spaces": False,
    "legacy": True,
    "model_max_length": 1000000000000000019884624838656,
    "padding_side": "left",
    "tokenizer_class": "LlamaTokenizer",
}


def repositories(name: str) -> dict[str, str]:
    """The three repositories of one model by the folders that `write` makes."""
    first = f"McGill-NLP/LLM2Vec-{name}-mntp"
    return {"base": KINDS[name][0], "first": first, "second": f"{first}-supervised"}


def write(folder: Path, name: str, *, places: bool = False) -> Embed:
    """The files of its three repositories; `embed(texts, instruction)` gives unit vectors, text by text.

    Args:
        places: whether the adapters name folders, as a user's own do, and not repositories.
    """
    base, first, second = (folder / part for part in repositories(name))
    repo, kind = KINDS[name]
    for place in (base, first, second):
        place.mkdir(parents=True)
    config = {**SHAPE, **kind}
    spare = ("architectures", "torch_dtype", "transformers_version", "rope_theta", "rope_scaling", "pretraining_tp")
    shape = {key: value for key, value in config.items() if key not in spare}
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
    built = transformers.AutoConfig.for_model(**shape, **rope)
    backbone = stir(transformers.AutoModel.from_config(built, attn_implementation="eager"))
    state = {f"model.{key}": value.contiguous() for key, value in backbone.state_dict().items()}
    save_file({**state, "lm_head.weight": torch.zeros(260, 32)}, base / "model.safetensors", {"format": "pt"})
    put(base / "config.json", config)
    code = {"AutoModel": "modeling_llama_encoder.LlamaEncoderModel"}  # never read: the base's says what it is
    put(first / "config.json", {**config, "_name_or_path": repo, "auto_map": code})
    (first / "modeling_llama_encoder.py").write_text('raise RuntimeError("code beside the weights was run")\n')
    for seed, place in enumerate((first, second)):
        layers = [key for key, part in backbone.named_modules() if isinstance(part, nn.Linear)]
        generator, lora = torch.Generator().manual_seed(seed), {}
        for key in layers:
            out, into = backbone.get_submodule(key).weight.shape
            lora[f"base_model.model.{key}.lora_A.weight"] = torch.randn(RANK, into, generator=generator) * into**-0.5
            lora[f"base_model.model.{key}.lora_B.weight"] = torch.randn(out, RANK, generator=generator) * 0.5
        save_file(lora, place / "adapter_model.safetensors", {"format": "pt"})
        theirs = {"base_model_class": "LlamaBiModel", "parent_library": "llm2vec.models.bidirectional_llama"}
        lies = {first: str(base), second: str(first)}[place] if places else repo
        facts = {"auto_mapping": theirs, "base_model_name_or_path": lies, "task_type": None, "init_lora_weights": True}
        put(place / "adapter_config.json", {**LORA, **facts, "r": RANK, "lora_alpha": 2 * RANK})
    tokenizer = _tokenizer(name, first)

    def ids(text: str, special: bool = True) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=special).ids[:LIMIT]

    def turn(text: str) -> str:
        if name == "Meta-Llama-3-8B-Instruct":
            return "<|start_header_id|>user<|end_header_id|>\n\n" + text.strip() + "<|eot_id|>"
        return text if name == "Sheared-LLaMA" else "[INST] " + text.strip() + " [/INST]"

    def written(instruction: str, text: str) -> str:
        length = len(ids(text, special=False))
        while length > DOCUMENT:
            text = " ".join(text.split()[: int(len(text.split()) * (DOCUMENT / length))])
            length = len(ids(text, special=False))
        return f"{instruction.strip()} {MARK}{text}" if instruction else f"{MARK}{text}"

    def embed(texts: Sequence[str], instruction: str = "") -> Tensor:
        rows, model = [], _adapted(backbone, first, second)
        for text in texts:
            parts = turn(written(instruction, text)).split(MARK)
            whole, own = ids("".join(parts)), ids(parts[1], special=False)
            every = torch.zeros(1, 1, len(whole), len(whole))  # no token is hidden
            with torch.inference_mode():
                states = model(input_ids=torch.tensor([whole]), attention_mask=every).last_hidden_state[0]
            rows.append(states[-len(own) :].mean(0))
        return F.normalize(torch.stack(rows), dim=-1)

    return embed


def _adapted(backbone: nn.Module, first: Path, second: Path) -> Any:
    """As `LLM2Vec.from_pretrained`: the first adapter merged by peft, the second over the sum."""
    from copy import deepcopy

    from peft import PeftModel

    model = PeftModel.from_pretrained(deepcopy(backbone), first).merge_and_unload()
    return PeftModel.from_pretrained(model, second).eval()


def _tokenizer(name: str, folder: Path) -> Any:
    if name == "Meta-Llama-3-8B-Instruct":
        specials = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
        tokenizer = byte_tokenizer(specials, "<|begin_of_text|> $A", None)
        named = {"bos_token": specials[0], "eos_token": specials[-1], "model_max_length": 8192}
        put(folder / "tokenizer_config.json", {**named, "tokenizer_class": "PreTrainedTokenizerFast"})
    else:
        tokenizer = piece_tokenizer(("<unk>", "<s>", "</s>"), "<s> $A", spaced=True)
        put(folder / "tokenizer_config.json", LLAMA_TOKENIZER)
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer
