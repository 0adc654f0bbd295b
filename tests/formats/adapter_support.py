"""What the tests of adapters share: a model with layers to adapt, repositories as peft writes them, and refusals."""

import copy
import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import Qwen2VLConfig, Qwen2VLModel

from zoo.encoders.sequence.backbones.qwen import RENAMED
from zoo.formats.adapters import merge_adapter

QWEN = RENAMED
CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
OF_COLQWEN = (
    r"(.*(model).*(down_proj|gate_proj|up_proj|k_proj|q_proj|v_proj|o_proj).*$|.*(custom_text_proj|multi_vector).*$)"
)
Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj"


class Container(nn.Module):
    """As the authors' classes hold them: the backbone as `model`, a projection beside it."""

    def __init__(self) -> None:
        super().__init__()
        rope = {"rope_type": "default", "mrope_section": [1, 1, 2]}
        text = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
        text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "rope_parameters": rope}
        text |= {"bos_token_id": 1, "eos_token_id": 2}
        vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "patch_size": 14}
        self.model = Qwen2VLModel(Qwen2VLConfig(text_config=text, vision_config=vision)).eval()
        self.custom_text_proj = nn.Linear(32, 8)

    def forward(self, ids: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """Projected states of the text, and features of an image of 4 × 4 patches: unit vectors of their own, as one row."""
        positions = torch.arange(ids.shape[1]).expand(3, *ids.shape)
        states = self.model(input_ids=ids, position_ids=positions).last_hidden_state
        seen = self.model.visual(patches, grid_thw=torch.tensor([[1, 4, 4]])).pooler_output
        vectors = (F.normalize(self.custom_text_proj(states), dim=-1), F.normalize(seen, dim=-1))
        return torch.cat([v.flatten() for v in vectors])


def base_model() -> Container:
    """The base model; tests take copies."""
    torch.manual_seed(3)
    return Container().eval()


def outputs(model: nn.Module) -> torch.Tensor:
    """What a model gives for one text and one image."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(5, 290, (2, 7), generator=generator)
    patches = torch.randn(16, 3 * 2 * 14 * 14, generator=generator)
    with torch.no_grad():
        return model(ids, patches)


def write(plain: nn.Module, folder: Path, **options) -> torch.Tensor:
    """A repository as peft writes it, with the names of before transformers 5, and the outputs of its unmerged model."""
    options = {"r": 4, "lora_alpha": 8, "target_modules": LINEAR} | options
    torch.manual_seed(7)  # A
    model = get_peft_model(copy.deepcopy(plain), LoraConfig(**options)).eval()
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:  # B is not zero, magnitudes are not norms
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.mul_(1 + 0.3 * noise).add_(0 if "magnitude" in name else 0.1 * noise)
    model.save_pretrained(folder)
    rename(folder, {"model.model.language_model.": "model.model.", "model.model.visual.": "model.visual."})
    result = outputs(model)
    assert (result - outputs(plain)).abs().max() > 0.01
    return result


def rename(folder: Path, changes: dict[str, str]) -> None:
    """Replaces parts of the tensors' names."""

    def change(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        for old, new in changes.items():
            tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
        return tensors

    edit(folder, change)


def edit(folder: Path, change) -> None:
    """Writes the tensors anew, after `change`, which gets and gives them by name."""
    save_file({name: t.contiguous() for name, t in change(load_file(folder / WEIGHTS)).items()}, folder / WEIGHTS)


def settings(folder: Path, **changes) -> None:
    """Changes keys of adapter_config.json."""
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))


def refuses(root: nn.Module, folder: Path, error: type[Exception], match: str, put=merge_adapter, **options) -> None:
    """It raises, and not a number, name, flag or object of the model is another one."""
    before = {name: (tensor, tensor.clone()) for name, tensor in root.state_dict(keep_vars=True).items()}
    flags = [p.requires_grad for p in root.parameters()]
    modules = dict(root.named_modules())
    with pytest.raises(error, match=match):
        put(root, folder, **{"key_mapping": QWEN} | options)
    after = root.state_dict(keep_vars=True)
    assert list(after) == list(before)
    assert all(after[n] is tensor and torch.equal(tensor, copied) for n, (tensor, copied) in before.items())
    assert dict(root.named_modules()) == modules
    assert [p.requires_grad for p in root.parameters()] == flags
    assert not hasattr(root, "peft_config")
