"""jina-embeddings-v4 as on the Hub, with random weights; its forward pass is `tests.reference.qwen3_vl.states`."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.reference.qwen2_vl import MEAN, STD, Published, _save, _write, old_name, write_tokenizer
from tests.reference.qwen3_vl import _ids_of, _written

TASKS = ("retrieval", "text-matching", "code")


@dataclass
class Jina(Published):
    """Also the projection of tokens, and what each task adds to the weights, by their names in the model of transformers 5."""

    projector: nn.Linear | None = None
    tasks: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def of(self, task: str) -> Jina:
        """The model with one task's matrices added up, written out: W + alpha / r · B A."""
        model, projector = deepcopy(self.model), deepcopy(self.projector)
        for name, delta in self.tasks[task].items():
            layer = projector if name == "multi_vector_projector" else model.get_submodule(name)
            layer.weight.data += delta
        return Jina(self.folder, model, self.tokenizer, projector)


def write_jina(folder: Path, seed: int = 2) -> Jina:
    """jinaai/jina-embeddings-v4: Qwen2.5-VL under its old names, a projection beside it, three tasks in one adapter file."""
    folder.mkdir(parents=True)
    tokenizer = write_tokenizer(folder)
    text = {
        "hidden_act": "silu",
        "hidden_size": 32,
        "intermediate_size": 64,
        "max_position_embeddings": 4096,
        "model_type": "qwen2_5_vl_text",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
        "rope_theta": 1000000.0,
        "vocab_size": tokenizer.get_vocab_size() + 8,
    }
    config = {
        "architectures": ["JinaEmbeddingsV4Model"],
        "auto_map": {
            "AutoConfig": "configuration_jina_embeddings_v4.JinaEmbeddingsV4Config",
            "AutoModel": "modeling_jina_embeddings_v4.JinaEmbeddingsV4Model",
        },
        "matryoshka_dims": [128, 256, 512, 1024],
        "model_type": "qwen2_5_vl",
        "multi_vector_projector_dim": 128,
        "single_vector_pool_strategy": "mean",
        "task_names": list(TASKS),
        "text_config": text,
        "tie_word_embeddings": True,
        "transformers_version": "4.52.0",
        "truncate_dim": None,
        "vision_config": {
            "depth": 2,
            "fullatt_block_indexes": [1],
            "hidden_size": 32,
            "in_channels": 3,
            "intermediate_size": 48,
            "model_type": "qwen2_5_vl",
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
            "window_size": 56,
        },
        **_ids_of(tokenizer),
    }
    model = _written(folder, config, seed)
    generator = torch.Generator().manual_seed(seed)
    projector = nn.Linear(32, 128)
    with torch.no_grad():
        for parameter in projector.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    tensors = {old_name(f"model.{name}"): tensor for name, tensor in model.state_dict().items()}
    _save(folder / "model.safetensors", {
        **tensors,
        **{f"multi_vector_projector.{name}": tensor for name, tensor in projector.state_dict().items()},
    })  # fmt: skip
    _write(
        folder / "preprocessor_config.json",
        {
            "auto_map": {"AutoProcessor": "modeling_jina_embeddings_v4.JinaEmbeddingsV4Processor"},
            "do_convert_rgb": True,
            "image_mean": MEAN,
            "image_processor_type": "Qwen2VLImageProcessor",
            "image_std": STD,
            "max_pixels": 602112,
            "merge_size": 2,
            "min_pixels": 3136,
            "patch_size": 14,
            "processor_class": "JinaEmbeddingsV4Processor",
            "temporal_patch_size": 2,
        },
    )
    published = Jina(folder, model, tokenizer, projector)
    _write_tasks(published, generator)
    return published


def _write_tasks(published: Jina, generator: torch.Generator, rank: int = 4, alpha: int = 6) -> None:
    folder = published.folder / "adapters"
    folder.mkdir()
    adapted = {
        name: layer
        for name, layer in published.model.named_modules()
        if isinstance(layer, nn.Linear) and name.startswith("language_model.layers.")
    }
    adapted["multi_vector_projector"] = published.projector
    tensors = {}
    for name, layer in adapted.items():
        old = name if name == "multi_vector_projector" else f"model.{name}"
        for task in TASKS:
            a = 0.3 * torch.randn(rank, layer.in_features, generator=generator)
            b = 0.3 * torch.randn(layer.out_features, rank, generator=generator)
            tensors[f"base_model.model.{old}.lora_A.{task}.weight"] = a
            tensors[f"base_model.model.{old}.lora_B.{task}.weight"] = b
            published.tasks.setdefault(task, {})[name] = alpha / rank * b @ a
    _save(folder / "adapter_model.safetensors", tensors)
    _write(
        folder / "adapter_config.json",
        {
            "alpha_pattern": {},
            "auto_mapping": {
                "base_model_class": "JinaEmbeddingsV4Model",
                "parent_library": "transformers_modules.modeling_jina_embeddings_v4",
            },
            "base_model_name_or_path": "jinaai/jina-embeddings-v4",
            "bias": "none",
            "corda_config": None,
            "eva_config": None,
            "exclude_modules": ".*visual.*",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "init_lora_weights": "gaussian",
            "layer_replication": None,
            "layers_pattern": None,
            "layers_to_transform": None,
            "loftq_config": {},
            "lora_alpha": alpha,
            "lora_bias": False,
            "lora_dropout": 0.1,
            "megatron_config": None,
            "megatron_core": "megatron.core",
            "modules_to_save": None,
            "peft_type": "LORA",
            "r": rank,
            "rank_pattern": {},
            "revision": None,
            "target_modules": "(.*(model).*(down_proj|gate_proj|up_proj|k_proj|q_proj|v_proj|o_proj).*$|.*(multi_vector_projector).*$)",
            "task_type": "FEATURE_EXTRACTION",
            "use_dora": False,
            "use_rslora": False,
        },
    )
