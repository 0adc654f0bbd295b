"""A small NV-Embed in its published layout, and its vectors by the formulas of its authors' `encode`, written down plainly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from tests.reference.base import stir
from tests.reference.vocab import space_bpe

WIDTH, LATENTS, HEADS, HEAD_DIM, LIMIT = 32, 6, 2, 24, 96
# As the files of nvidia/NV-Embed-v2 have them, but for the sizes.
TEXT_CONFIG = {
    "_name_or_path": "nvidia/NV-Embed-v2",
    "add_cross_attention": False,
    "architectures": ["MistralModel"],
    "attention_dropout": 0.0,
    "bad_words_ids": None,
    "begin_suppress_tokens": None,
    "bos_token_id": 1,
    "chunk_size_feed_forward": 0,
    "cross_attention_hidden_size": None,
    "do_sample": False,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": WIDTH,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "initializer_range": 0.02,
    "intermediate_size": 48,
    "is_decoder": False,
    "is_encoder_decoder": False,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "max_length": 20,
    "max_position_embeddings": LIMIT,
    "model_type": "bidir_mistral",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "output_attentions": False,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "sliding_window": 4,  # no window: the authors' mask has none
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "use_cache": True,
}
CONFIG = {
    "_name_or_path": "nvidia/NV-Embed-v2",
    "add_eos": True,
    "add_pad_token": True,
    "architectures": ["NVEmbedModel"],
    "auto_map": {"AutoConfig": "configuration_nvembed.NVEmbedConfig", "AutoModel": "modeling_nvembed.NVEmbedModel"},
    "hidden_size": WIDTH,
    "is_mask_instruction": True,
    "latent_attention_config": {
        "model_type": "latent_attention",
        "num_latents_value": LATENTS,
        "num_cross_heads": HEADS,
        "hidden_dim": WIDTH,
        "latent_dim": WIDTH,
        "cross_dim_head": HEAD_DIM,
        "output_normalize": True,
    },
    "mask_type": "b",
    "model_type": "nvembed",
    "padding_side": "right",
    "text_config": TEXT_CONFIG,
    "torch_dtype": "float32",
    "transformers_version": "4.42.4",
}


@dataclass
class Published:
    """A checkpoint in its published layout, the backbone and the pooler's tensors that it holds."""

    folder: Path
    backbone: Any
    pooler: dict[str, Tensor]
    tokenizer: Any

    def vectors(self, texts: Sequence[str], instruction: str = "", layout: str = "right") -> Tensor:
        """The authors' `encode`: unit vectors (n, W), text by text, since their filler on the right is masked everywhere.

        Args:
            layout: "right", or "left" for filler before the text, which changes nothing.
        """
        skipped = len(self.tokenizer.tokenize(instruction)) if instruction else 0
        rows = []
        for text in texts:
            ids = self.tokenizer(f"{instruction}{text}</s>", truncation=True, max_length=LIMIT).input_ids
            fill = [2] * (0 if len(ids) == LIMIT else 3)
            row = fill + ids if layout == "left" else ids + fill
            real = torch.tensor(
                [0] * len(fill) + [1] * len(ids) if layout == "left" else [1] * len(ids) + [0] * len(fill)
            )
            pooled = real.clone()
            start = len(fill) if layout == "left" else 0
            pooled[start : start + skipped] = 0
            with torch.inference_mode():
                rows.append(self._pooled(self._states(torch.tensor([row]), real), pooled))
        return F.normalize(torch.stack(rows), dim=-1)

    def _states(self, ids: Tensor, real: Tensor) -> Tensor:
        """Every token sees every real one: an additive mask, whatever windows the configuration has."""
        mask = torch.zeros(1, 1, ids.shape[1], ids.shape[1]).masked_fill(real[None, None, None] == 0, torch.finfo().min)
        positions = (real.cumsum(0) - 1).clamp(min=0)[None]
        return self.backbone(input_ids=ids, attention_mask=mask, position_ids=positions).last_hidden_state[0]

    def _pooled(self, states: Tensor, pooled: Tensor) -> Tensor:
        """Their LatentAttentionModel, head by head: states (T, W) → (W,)."""
        p = self.pooler

        def norm(x: Tensor, name: str) -> Tensor:
            return F.layer_norm(x, (WIDTH,), p[f"{name}.weight"], p[f"{name}.bias"])

        first, second = "cross_attend_blocks.0", "cross_attend_blocks.1"
        query = norm(states, f"{first}.norm") @ p[f"{first}.fn.to_q.weight"].T
        both = norm(p["latents"], f"{first}.norm_context") @ p[f"{first}.fn.to_kv.weight"].T
        key, value = both[:, : HEADS * HEAD_DIM], both[:, HEADS * HEAD_DIM :]
        heads = []
        for head in range(HEADS):
            part = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
            scores = query[:, part] @ key[:, part].T / HEAD_DIM**0.5
            heads.append(scores.softmax(-1) @ value[:, part])
        states = states + torch.cat(heads, 1) @ p[f"{first}.fn.to_out.weight"].T
        wide = norm(states, f"{second}.norm") @ p[f"{second}.fn.net.0.weight"].T + p[f"{second}.fn.net.0.bias"]
        gated = wide[:, : 4 * WIDTH] * F.gelu(wide[:, 4 * WIDTH :])
        states = states + gated @ p[f"{second}.fn.net.2.weight"].T + p[f"{second}.fn.net.2.bias"]
        return (states * pooled[:, None]).sum(0) / pooled.sum()


def write_nv_embed(folder: Path) -> Published:
    """config.json, two shards and their index, a tokenizer that begins texts with <s>, and what sentence-transformers would read."""
    folder.mkdir(parents=True)
    vocab, merges = space_bpe(["<unk>", "<s>", "</s>"])
    tokenizer = transformers.LlamaTokenizer(vocab=vocab, merges=merges, add_bos_token=True, add_eos_token=False)
    tokenizer.save_pretrained(folder)
    _json(folder / "tokenizer_config.json", add_bos_token=True, add_eos_token=False, tokenizer_class="LlamaTokenizer")
    _json(folder / "tokenizer_config.json", bos_token="<s>", eos_token="</s>", unk_token="<unk>", legacy=True)
    # The published settings, without those of which transformers 5 makes nothing but trouble.
    shape = {
        key: TEXT_CONFIG[key]
        for key in ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
    }
    shape |= {key: TEXT_CONFIG[key] for key in ("num_key_value_heads", "max_position_embeddings", "rms_norm_eps")}
    vocabulary = len(vocab)
    config = transformers.MistralConfig(
        **shape, vocab_size=vocabulary, sliding_window=None, attn_implementation="eager"
    )
    backbone = stir(transformers.MistralModel(config))
    pooler = _pooler()
    names = sorted(backbone.state_dict())
    shards: list[dict[str, Tensor]] = [{}, {}]
    for position, name in enumerate(names):
        shards[position % 2][f"embedding_model.{name}"] = backbone.state_dict()[name].contiguous()
    shards[1] |= {f"latent_attention_model.{name}": tensor for name, tensor in pooler.items()}
    files = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for file, tensors in zip(files, shards, strict=True):
        save_file(tensors, folder / file, metadata={"format": "pt"})
    where = {name: file for file, tensors in zip(files, shards, strict=True) for name in tensors}
    size = sum(tensor.nbytes for tensors in shards for tensor in tensors.values())
    _json(folder / "model.safetensors.index.json", metadata={"total_size": size}, weight_map=where)
    _json(folder / "config.json", **{**CONFIG, "text_config": {**TEXT_CONFIG, "vocab_size": vocabulary}})
    _json(folder / "instructions.json", NQ={"query": "Given a question, retrieve passages that answer the question"})
    _sentence_files(folder)
    return Published(folder, backbone, pooler, tokenizer)


def _sentence_files(folder: Path) -> None:
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    rows = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(rows))
    (folder / "1_Pooling").mkdir()
    _json(
        folder / "1_Pooling" / "config.json",
        word_embedding_dimension=WIDTH,
        pooling_mode_mean_tokens=True,
        include_prompt=False,
    )
    _json(folder / "sentence_bert_config.json", max_seq_length=4096, do_lower_case=False)
    _json(
        folder / "config_sentence_transformers.json",
        __version__={"pytorch": "2.2.0"},
        prompts={},
        default_prompt_name=None,
    )
    for file in ("configuration_nvembed.py", "modeling_nvembed.py"):
        (folder / file).write_text('raise RuntimeError("code beside the weights was run")\n')


def _pooler(seed: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int, scale: float = 1.0, mean: float = 0.0) -> Tensor:
        return mean + scale * torch.randn(*shape, generator=generator)

    first, second, wide = "cross_attend_blocks.0", "cross_attend_blocks.1", HEADS * HEAD_DIM
    tensors = {
        "latents": noise(LATENTS, WIDTH),
        f"{first}.fn.to_q.weight": noise(wide, WIDTH, scale=0.4),
        f"{first}.fn.to_kv.weight": noise(2 * wide, WIDTH, scale=0.3),
        f"{first}.fn.to_out.weight": noise(WIDTH, wide, scale=0.2),
        f"{second}.fn.net.0.weight": noise(8 * WIDTH, WIDTH, scale=0.2),
        f"{second}.fn.net.0.bias": noise(8 * WIDTH, scale=0.1),
        f"{second}.fn.net.2.weight": noise(WIDTH, 4 * WIDTH, scale=0.1),
        f"{second}.fn.net.2.bias": noise(WIDTH, scale=0.1),
    }
    for name in (f"{first}.norm", f"{first}.norm_context", f"{second}.norm"):
        tensors |= {f"{name}.weight": noise(WIDTH, scale=0.1, mean=1.0), f"{name}.bias": noise(WIDTH, scale=0.1)}
    return tensors


def _json(path: Path, **values: Any) -> None:
    known = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**known, **values}))
