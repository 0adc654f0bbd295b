"""Hub repositories of LoRA and DoRA adapters: merged they equal peft's own model; whatever does not fit is named."""

import copy
import dataclasses
import json
import math
import pickle
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import Qwen2VLConfig, Qwen2VLModel
from zoo.training.adapters import AdapterMismatchError as OfTraining
from zoo.training.adapters import load_adapter, merge_lora

from zoo import build_model
from zoo.adapters import AdapterMismatchError, add_adapter, merge_adapter, unload
from zoo.encoders.checking import OversizedError
from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError, UnsafeCheckpointError, ZooError
from zoo.formats.known import peft as known
from zoo.formats.settings import Ignore
from zoo.formats.vlm import RENAMED

QWEN = RENAMED["qwen"]
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
        """Projected states of the text, and features of a picture of 4 × 4 patches: unit vectors of their own, as one row."""
        positions = torch.arange(ids.shape[1]).expand(3, *ids.shape)
        states = self.model(input_ids=ids, position_ids=positions).last_hidden_state
        seen = self.model.visual(patches, grid_thw=torch.tensor([[1, 4, 4]])).pooler_output
        vectors = (F.normalize(self.custom_text_proj(states), dim=-1), F.normalize(seen, dim=-1))
        return torch.cat([v.flatten() for v in vectors])


@pytest.fixture(scope="module")
def plain() -> Container:
    """The base model; tests take copies."""
    torch.manual_seed(3)
    return Container().eval()


def outputs(model: nn.Module) -> torch.Tensor:
    """What a model gives for one text and one picture."""
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


class TestMerged:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"use_dora": True},
            {"use_rslora": True, "r": 6},
            {"target_modules": OF_COLQWEN},
            {"target_modules": OF_COLQWEN, "use_dora": True},
            {"target_modules": [*LINEAR, "qkv", "fc1"], "use_dora": True},
            {"target_modules": ["q_proj", "embed_tokens"]},
            {"target_modules": ["q_proj", "embed_tokens"], "use_dora": True},
            {"target_modules": ["custom_text_proj", "qkv"], "lora_bias": True},
            {"modules_to_save": ["custom_text_proj"]},
            {"use_dora": True, "modules_to_save": ["custom_text_proj", "embed_tokens"]},
            {
                "rank_pattern": {"q_proj": 2, r"language_model\.layers\.1\.mlp\.down_proj": 3},
                "alpha_pattern": {"k_proj": 1},
            },
        ],
        ids=lambda o: ",".join(o) + ("-dora" if o.get("use_dora") else ""),
    )
    def test_it_gives_what_pefts_unmerged_model_gives(self, plain, tmp_path, options):
        expected = write(plain, tmp_path, **options)
        if patterns := options.get("rank_pattern"):  # old names there too
            settings(
                tmp_path, rank_pattern={n.replace(r"language_model\.", r"model\."): r for n, r in patterns.items()}
            )
        root = copy.deepcopy(plain)
        merge_adapter(root, tmp_path, key_mapping=QWEN)
        assert (outputs(root) - expected).abs().max() < 1e-6
        assert [(n, type(m)) for n, m in root.named_modules()] == [(n, type(m)) for n, m in plain.named_modules()]
        assert all(p.requires_grad for p in root.parameters())
        assert list(root.state_dict()) == list(plain.state_dict())
        assert not hasattr(root, "peft_config")

    def test_the_sum_by_hand(self, plain, tmp_path):
        write(plain, tmp_path, use_dora=True, use_rslora=True)
        tensors = load_file(tmp_path / WEIGHTS)
        root = copy.deepcopy(plain)
        merge_adapter(root, tmp_path, key_mapping=QWEN)
        a, b = tensors[f"{Q_PROJ}.lora_A.weight"], tensors[f"{Q_PROJ}.lora_B.weight"]
        summed = plain.model.language_model.layers[0].self_attn.q_proj.weight + 8 / math.sqrt(4) * b @ a
        expected = tensors[f"{Q_PROJ}.lora_magnitude_vector"][:, None] * summed / summed.norm(dim=1, keepdim=True)
        assert torch.allclose(root.model.language_model.layers[0].self_attn.q_proj.weight, expected, atol=1e-6)

    def test_target_modules_may_name_layers_that_are_no_more(self, plain, tmp_path):
        expected = write(plain, tmp_path)
        for targets in (
            r"^decoder\.layers\.\d+\.(mlp|self_attn)\.\w+$",
            ["transformer.h.0.attn.c_attn"],
            "all-linear",
            None,
        ):
            settings(tmp_path, target_modules=targets)
            root = copy.deepcopy(plain)
            merge_adapter(root, tmp_path, key_mapping=QWEN)
            assert (outputs(root) - expected).abs().max() < 1e-6

    def test_the_layers_stay_the_same_objects_wherever_else_they_are(self, plain, tmp_path):
        expected = write(plain, tmp_path, target_modules=OF_COLQWEN, use_dora=True)
        model = copy.deepcopy(plain)
        elsewhere = nn.Sequential(model.model.language_model.layers[0].self_attn.q_proj, model.custom_text_proj)
        layers, parameters = list(elsewhere), list(elsewhere.parameters())
        root = nn.Module()
        root.model, root.head, root.custom_text_proj = model.model, model.custom_text_proj, model.custom_text_proj
        model.custom_text_proj.weight.requires_grad_(False)
        merge_adapter(root, tmp_path, key_mapping=QWEN)
        assert model.model.language_model.layers[0].self_attn.q_proj is layers[0]
        assert root.head is root.custom_text_proj is layers[1]
        assert all(now is then for now, then in zip(elsewhere.parameters(), parameters, strict=True))
        assert not layers[1].weight.requires_grad
        assert layers[0].weight.requires_grad
        assert (outputs(model) - expected).abs().max() < 1e-6

    def test_a_bare_model_of_transformers_and_no_peft(self, plain, tmp_path, monkeypatch):
        expected = write(plain, tmp_path, use_dora=True)
        model = copy.deepcopy(plain)
        monkeypatch.setitem(sys.modules, "peft", None)
        merge_adapter(model.model, tmp_path, key_mapping={r"^model\.layers": "language_model.layers"})
        assert (outputs(model) - expected).abs().max() < 1e-6
        refuses(copy.deepcopy(plain), tmp_path, ZooError, "pip install", put=add_adapter)

    def test_half_precision_rounds_the_sum_once(self, plain, tmp_path):
        write(plain, tmp_path, use_dora=True)
        whole, half = copy.deepcopy(plain), copy.deepcopy(plain).bfloat16()
        for root in (whole.bfloat16().float(), half):
            merge_adapter(root, tmp_path, key_mapping=QWEN)
        exact = whole.state_dict()
        assert all(t.dtype == torch.bfloat16 for t in half.state_dict().values())
        assert all(torch.equal(t, exact[n].bfloat16()) for n, t in half.state_dict().items())

    def test_raw_names_of_peft_and_names_without_its_prefix(self, plain, tmp_path):
        expected = write(plain, tmp_path, use_dora=True, modules_to_save=["custom_text_proj"])
        rename(
            tmp_path,
            {
                "base_model.model.": "",
                "lora_A.": "lora_A.default.",
                "lora_B.": "lora_B.default.",
                "lora_magnitude_vector": "lora_magnitude_vector.default.weight",
                "custom_text_proj.": "custom_text_proj.modules_to_save.",
            },
        )
        root = copy.deepcopy(plain)
        merge_adapter(root, tmp_path, key_mapping=QWEN)
        assert (outputs(root) - expected).abs().max() < 1e-6

    def test_a_head_that_the_model_is_built_without(self, plain, tmp_path):
        expected = write(plain, tmp_path, target_modules=OF_COLQWEN)
        model = copy.deepcopy(plain)
        root = nn.Module()
        root.model = model.model
        refuses(root, tmp_path, AdapterMismatchError, r"2 tensors have no place in it \(custom_text_proj")
        merge_adapter(root, tmp_path, key_mapping=QWEN, unused=r"custom_text_proj\.")
        rest = outputs(model)
        assert not torch.allclose(rest, expected, atol=1e-3)
        root.model = nn.Identity()
        root.custom_text_proj = model.custom_text_proj
        merge_adapter(root, tmp_path, key_mapping=QWEN, unused=r"model\.")
        assert (outputs(model) - expected).abs().max() < 1e-6


class TestBeside:
    """Not merged: peft's layers, which learn."""

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"target_modules": OF_COLQWEN, "use_dora": True, "rank_pattern": {"q_proj": 2}},
            {"target_modules": ["q_proj", "embed_tokens"], "use_rslora": True, "alpha_pattern": {"q_proj": 3}},
            {"modules_to_save": ["custom_text_proj"], "use_dora": True},
        ],
    )
    def test_it_gives_what_pefts_own_model_gives_then_learns_and_is_merged(self, plain, tmp_path, options):
        expected = write(plain, tmp_path, **options)
        root = copy.deepcopy(plain)
        add_adapter(root, tmp_path, key_mapping=QWEN)
        assert (outputs(root) - expected).abs().max() < 1e-6
        whole = set(options.get("modules_to_save", ()))
        assert all(p.requires_grad == ("lora_" in n or n.split(".")[0] in whole) for n, p in root.named_parameters())
        unload(root, merge=True)
        assert (outputs(root) - expected).abs().max() < 1e-6
        assert [(n, type(m)) for n, m in root.named_modules()] == [(n, type(m)) for n, m in plain.named_modules()]

    def test_what_does_not_fit_changes_nothing(self, plain, tmp_path):
        write(plain, tmp_path, use_dora=True, modules_to_save=["custom_text_proj"])
        root = copy.deepcopy(plain)
        root.custom_text_proj.bias.requires_grad_(False)
        refuses(root, tmp_path, AdapterMismatchError, "have no place", put=add_adapter, key_mapping={})
        settings(tmp_path, use_dora=False)
        refuses(root, tmp_path, AdapterMismatchError, "have no place .*lora_magnitude_vector", put=add_adapter)

    def test_training_goes_on_from_a_repository_of_old_names(self, plain, tmp_path):
        model = build_model("gme-test")
        root = nn.Module()
        root.model, root.custom_text_proj = model.towers[0].encoder.backbone, plain.custom_text_proj
        torch.manual_seed(7)
        peft = get_peft_model(copy.deepcopy(root), LoraConfig(r=2, target_modules=LINEAR, use_dora=True))
        with torch.no_grad():
            for parameter in (p for p in peft.parameters() if p.requires_grad):
                parameter.add_(0.2 * torch.rand_like(parameter))
        peft.save_pretrained(tmp_path)
        rename(tmp_path, {"model.model.language_model.": "model.model."})
        settings(tmp_path, target_modules=r"model\.layers\..*_proj")
        before = model.encode(["a red bicycle"])
        load_adapter(model, tmp_path, key_mapping={r"^model\.layers": "language_model.layers"})
        vectors = model.encode(["a red bicycle"])
        assert not torch.allclose(vectors, before, atol=1e-3)
        assert torch.allclose(merge_lora(model).encode(["a red bicycle"]), vectors, atol=1e-6)
        with pytest.raises(AdapterMismatchError, match="key_mapping"):
            load_adapter(build_model("gme-test"), tmp_path)


class TestSeveralInOneFile:
    @pytest.fixture
    def folder(self, plain, tmp_path) -> Path:
        """As jina-embeddings-v4: three pairs a layer; `expected` of each task lies beside them."""
        tensors = {}
        for factor, task in enumerate(("retrieval", "text-matching", "code"), start=1):
            write(plain, tmp_path, target_modules=OF_COLQWEN)
            for name, tensor in load_file(tmp_path / WEIGHTS).items():
                tensors[name.replace(".weight", f".{task}.weight")] = tensor * factor
        save_file(tensors, tmp_path / WEIGHTS)
        return tmp_path

    @pytest.mark.parametrize(("task", "factor"), [("retrieval", 1), ("text-matching", 2), ("code", 3)])
    def test_the_one_that_is_asked_for_is_merged(self, plain, folder, task, factor):
        root = copy.deepcopy(plain)
        merge_adapter(root, folder, key_mapping=QWEN, adapter=task)
        one = folder / "one"
        one.mkdir()
        write(plain, one, target_modules=OF_COLQWEN)
        edit(one, lambda tensors: {n: t * factor for n, t in tensors.items()})
        other = copy.deepcopy(plain)
        merge_adapter(other, one, key_mapping=QWEN)
        assert torch.equal(outputs(root), outputs(other))
        # and by the formula of its authors: base + alpha / r · B_task · A_task
        tensors = load_file(folder / WEIGHTS)
        a, b = (tensors[f"base_model.model.custom_text_proj.lora_{x}.{task}.weight"] for x in "AB")
        assert torch.allclose(root.custom_text_proj.weight, plain.custom_text_proj.weight + 2 * b @ a, atol=1e-6)

    def test_a_wrong_choice_is_named(self, plain, folder, tmp_path):
        refuses(copy.deepcopy(plain), folder, AdapterMismatchError, r"adapter='code' \(of \['code', 'retrieval'")
        refuses(copy.deepcopy(plain), folder, AdapterMismatchError, r"no adapter 'sums'.*'retrieval'", adapter="sums")
        gone = "base_model.model.custom_text_proj.lora_A.code.weight"
        edit(folder, lambda tensors: {n: t for n, t in tensors.items() if n != gone})
        refuses(copy.deepcopy(plain), folder, AdapterMismatchError, r"custom_text_proj\.lora_A", adapter="code")
        write(plain, tmp_path)
        refuses(copy.deepcopy(plain), tmp_path, AdapterMismatchError, "without a name", adapter="code")


class TestMisfits:
    @pytest.mark.parametrize("dora", [False, True])
    def test_names_of_another_layout(self, plain, tmp_path, dora):
        write(plain, tmp_path, use_dora=dora)
        for mapping, name in ({}, r"model\.layers"), ({r"^model\.layers": "text.layers"}, r"text\.layers"):
            match = rf"tensors have no place in it \({name}\.0.*key_mapping.*base model"
            refuses(copy.deepcopy(plain), tmp_path, AdapterMismatchError, match, key_mapping=mapping)
        both = {r"layers\.1\.": "layers.0."}
        refuses(copy.deepcopy(plain), tmp_path, AdapterMismatchError, "of both", key_mapping=QWEN | both)

    @pytest.mark.parametrize(
        ("drop", "match"),
        [
            (f"{Q_PROJ}.lora_A.weight", r"1 tensors are missing .*layers\.0\.self_attn\.q_proj\.lora_A\.weight"),
            (f"{Q_PROJ}.lora_B.weight", r"1 tensors are missing .*layers\.0\.self_attn\.q_proj\.lora_B\.weight"),
            (f"{Q_PROJ}.lora_magnitude_vector", r"1 tensors are missing .*q_proj\.lora_magnitude_vector"),
            ("base_model.model.custom_text_proj.bias", r"1 tensors are missing \(custom_text_proj\.bias"),
            ("base_model.model.custom_text_proj", r"missing \(.*custom_text_proj \(modules_to_save\)"),
        ],
    )
    def test_one_is_missing(self, plain, tmp_path, drop, match):
        write(plain, tmp_path, use_dora=True, modules_to_save=["custom_text_proj"])
        edit(tmp_path, lambda tensors: {n: t for n, t in tensors.items() if not n.startswith(drop)})
        refuses(copy.deepcopy(plain), tmp_path, AdapterMismatchError, match)

    @pytest.mark.parametrize(
        ("name", "match"),
        [
            (f"{Q_PROJ}.lora_magnitude_vector", r"1 tensors have no place .*q_proj\.lora_magnitude_vector"),
            (f"{Q_PROJ}.lora_embedding_A", r"1 tensors have no place .*q_proj\.lora_embedding_A"),
            (f"{Q_PROJ}.lora_B.bias", r"1 tensors have no place .*q_proj\.lora_B\.bias"),
            ("base_model.model.lm_head.lora_A.weight", r"1 tensors have no place .*lm_head\.lora_A"),
            ("base_model.model.lm_head.weight", r"1 tensors have no place in it \(lm_head\.weight\)"),
            ("base_model.model.model.norm.lora_A.weight", r"model\.language_model\.norm, a Qwen2VLRMSNorm|RMSNorm"),
            ("base_model.model.visual.patch_embed.proj.lora_A.weight", r"patch_embed\.proj, a Conv3d.*peft"),
        ],
    )
    def test_one_is_left_over(self, plain, tmp_path, name, match):
        write(plain, tmp_path)
        edit(tmp_path, lambda tensors: tensors | {name: torch.ones(4)})
        refuses(copy.deepcopy(plain), tmp_path, AdapterMismatchError, match)

    @pytest.mark.parametrize(
        ("name", "match"),
        [
            (f"{Q_PROJ}.lora_A.weight", r"lora_A\.weight: \(5, 7\), not \(4, 32\)"),
            (f"{Q_PROJ}.lora_B.weight", r"lora_B\.weight: \(5, 7\), not \(32, 4\)"),
            (f"{Q_PROJ}.lora_magnitude_vector", r"lora_magnitude_vector: \(5, 7\), not \(32,\)"),
            ("base_model.model.custom_text_proj.weight", r"custom_text_proj\.weight: \(5, 7\), not \(8, 32\)"),
        ],
    )
    def test_one_has_another_shape(self, plain, tmp_path, name, match):
        write(plain, tmp_path, use_dora=True, modules_to_save=["custom_text_proj"])
        edit(tmp_path, lambda tensors: tensors | {name: torch.ones(5, 7)})
        refuses(copy.deepcopy(plain), tmp_path, AdapterMismatchError, match)

    def test_a_rank_other_than_the_configurations_would_scale_wrongly(self, plain, tmp_path):
        write(plain, tmp_path, rank_pattern={"q_proj": 2})
        settings(tmp_path, rank_pattern={})
        refuses(copy.deepcopy(plain), tmp_path, AdapterMismatchError, r"\(2, 32\), not \(4, 32\)")

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_numbers_that_are_none(self, plain, tmp_path, value):
        write(plain, tmp_path)
        edit(tmp_path, lambda tensors: tensors | {f"{Q_PROJ}.lora_A.weight": torch.full((4, 32), value)})
        refuses(copy.deepcopy(plain), tmp_path, AdapterMismatchError, r"q_proj\.lora_A\.weight holds NaN")

    @pytest.mark.parametrize("dora", [False, True])
    def test_sums_that_are_none_change_no_weight_before_them(self, plain, tmp_path, dora):
        write(plain, tmp_path, use_dora=dora, modules_to_save=["custom_text_proj"])
        root, last = copy.deepcopy(plain), "base_model.model.model.layers.1.mlp.down_proj"
        if dora:  # a row of zeros has no direction
            edit(tmp_path, lambda tensors: tensors | {f"{last}.lora_B.weight": torch.zeros(32, 4)})
            with torch.no_grad():
                root.model.language_model.layers[1].mlp.down_proj.weight[3] = 0
        else:
            edit(tmp_path, lambda t: t | {f"{last}.lora_{x}.weight": 1e30 * t[f"{last}.lora_{x}.weight"] for x in "AB"})
        refuses(root, tmp_path, AdapterMismatchError, r"layers\.1\.mlp\.down_proj and its adapter is not finite")

    def test_half_precision_has_no_number_for_the_sum(self, plain, tmp_path):
        write(plain, tmp_path)
        name = "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"
        edit(tmp_path, lambda tensors: tensors | {name: tensors[name] * 1e7})
        refuses(copy.deepcopy(plain).half(), tmp_path, AdapterMismatchError, r"layers\.1\.mlp\.up_proj and its adapter")

    def test_one_weight_adapted_twice(self, plain, tmp_path):
        write(plain, tmp_path)
        root = copy.deepcopy(plain)
        layers = root.model.language_model.layers
        layers[1].mlp.up_proj.weight = layers[0].mlp.up_proj.weight
        refuses(
            root,
            tmp_path,
            AdapterMismatchError,
            r"twice, as .*layers\.1\.mlp\.up_proj and as .*layers\.0\.mlp\.up_proj",
        )

    def test_one_tensor_under_two_names(self, plain, tmp_path):
        write(plain, tmp_path)
        again = f"{Q_PROJ}.lora_A.default.weight"
        edit(tmp_path, lambda tensors: tensors | {again: tensors[f"{Q_PROJ}.lora_A.weight"].clone()})
        refuses(copy.deepcopy(plain), tmp_path, AdapterMismatchError, r"holds one tensor twice.*q_proj\.lora_A")

    def test_it_is_a_checkpoints_error_and_trainings(self):
        assert OfTraining is AdapterMismatchError
        assert issubclass(AdapterMismatchError, MissingWeightsError)
        assert issubclass(AdapterMismatchError, ValueError)


class TestFilesOfStrangers:
    @pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.99])
    def test_cut_off(self, plain, tmp_path, keep):
        write(plain, tmp_path)
        content = (tmp_path / WEIGHTS).read_bytes()
        (tmp_path / WEIGHTS).write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
        refuses(copy.deepcopy(plain), tmp_path, MissingWeightsError, "damaged|cut off|empty")

    def test_files_that_are_not_there(self, plain, tmp_path):
        refuses(copy.deepcopy(plain), tmp_path, UnrecognisedCheckpointError, r"adapter_config\.json")
        write(plain, tmp_path)
        (tmp_path / WEIGHTS).unlink()
        refuses(copy.deepcopy(plain), tmp_path, MissingWeightsError, r"has no weights \(adapter_model\.safetensors\)")
        save_file({}, tmp_path / WEIGHTS)
        refuses(copy.deepcopy(plain), tmp_path, MissingWeightsError, "no tensors")

    def test_a_pickle_is_opened_only_where_the_caller_allows_it(self, plain, tmp_path):
        expected = write(plain, tmp_path, use_dora=True)
        torch.save(load_file(tmp_path / WEIGHTS), tmp_path / PICKLE)
        (tmp_path / WEIGHTS).unlink()
        refuses(copy.deepcopy(plain), tmp_path, UnsafeCheckpointError, r"adapter_model\.bin.*allow_pickle=True")
        root = copy.deepcopy(plain)
        merge_adapter(root, tmp_path, key_mapping=QWEN, allow_pickle=True)
        assert (outputs(root) - expected).abs().max() < 1e-6
        content = (tmp_path / PICKLE).read_bytes()
        (tmp_path / PICKLE).write_bytes(content[: len(content) // 2])
        refuses(copy.deepcopy(plain), tmp_path, MissingWeightsError, "cut off", allow_pickle=True)
        torch.save([torch.ones(2)], tmp_path / PICKLE)
        refuses(copy.deepcopy(plain), tmp_path, MissingWeightsError, "mapping from names", allow_pickle=True)

    def test_an_allowed_pickle_still_runs_nothing(self, plain, tmp_path):
        write(plain, tmp_path)
        (tmp_path / WEIGHTS).unlink()
        torch.save({"weight": Touches(tmp_path / "ran")}, tmp_path / PICKLE)
        refuses(copy.deepcopy(plain), tmp_path, UnsafeCheckpointError, "more than tensors", allow_pickle=True)
        (tmp_path / PICKLE).write_bytes(pickle.dumps(Touches(tmp_path / "ran")))
        refuses(copy.deepcopy(plain), tmp_path, UnsafeCheckpointError, "more than tensors", allow_pickle=True)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        ("changes", "error", "match"),
        [
            ({"peft_type": "IA3"}, UnrecognisedCheckpointError, "'IA3'.*LORA"),
            ({"peft_type": None}, UnrecognisedCheckpointError, "kind None"),
            ({"r": 9_000}, UnrecognisedCheckpointError, "rank 9000"),
            ({"r": 10**12}, OversizedError, "r = 1,000"),
            ({"r": "4"}, UnrecognisedCheckpointError, "rank '4'"),
            ({"rank_pattern": {"q_proj": 0}}, UnrecognisedCheckpointError, "rank 0"),
            ({"rank_pattern": {"(q_proj": 4}}, UnrecognisedCheckpointError, "no expression"),
            ({"rank_pattern": ["q_proj"]}, UnrecognisedCheckpointError, "must be an object"),
            ({"rank_pattern": {r"(\w+)+!": 4}}, UnrecognisedCheckpointError, "takes too long"),
            ({"rank_pattern": {"(" * 4_000 + ")" * 4_000: 4}}, UnrecognisedCheckpointError, "takes too long"),
            ({"alpha_pattern": {".*.*.*.*.*!": 4}}, UnrecognisedCheckpointError, "takes too long"),
            ({"alpha_pattern": {str(i): 4 for i in range(5_000)}}, UnrecognisedCheckpointError, "at most 4,096"),
            ({"lora_alpha": True}, UnrecognisedCheckpointError, "alpha True"),
            ({"modules_to_save": [3]}, UnrecognisedCheckpointError, "modules_to_save holds 3"),
            ({"layer_replication": [[0, 2]]}, UnrecognisedCheckpointError, "layer_replication.*peft"),
            ({"init_lora_weights": "pissa"}, UnrecognisedCheckpointError, "init_lora_weights.*pissa"),
            ({"bias": "all"}, UnrecognisedCheckpointError, "bias.*all"),
            ({"a_key_of_tomorrow": {"beta": 1}}, UnrecognisedCheckpointError, "a_key_of_tomorrow.*ignore="),
            ({"target_modules": ["q_proj"]}, AdapterMismatchError, "target_modules.*leaves alone"),
            ({"exclude_modules": ["o_proj"]}, AdapterMismatchError, "exclude_modules.*leaves alone"),
            ({"layers_to_transform": [0]}, AdapterMismatchError, "layers_to_transform.*leaves alone"),
            (
                {"layers_to_transform": 1, "layers_pattern": "layers"},
                AdapterMismatchError,
                "layers_to_transform.*leaves",
            ),
        ],
    )
    def test_settings_that_are_not_read(self, plain, tmp_path, changes, error, match):
        write(plain, tmp_path)
        settings(tmp_path, **changes)
        refuses(copy.deepcopy(plain), tmp_path, error, match)

    def test_a_setting_that_the_caller_ignores(self, plain, tmp_path):
        expected = write(plain, tmp_path)
        settings(tmp_path, target_modules=["q_proj"], arrow_config={"top_k": 2})
        root = copy.deepcopy(plain)
        merge_adapter(root, tmp_path, key_mapping=QWEN, ignore=Ignore(["target_modules", "arrow_config"]))
        assert (outputs(root) - expected).abs().max() < 1e-6

    def test_every_setting_of_peft_is_in_the_table(self):
        """A version of peft with a new one fails here, until somebody has looked at it."""
        table = {*known.ADAPTER.followed, *known.ADAPTER.inert, *known.ADAPTER.held}
        assert {field.name for field in dataclasses.fields(LoraConfig)} <= table

    def test_names_of_code_are_not_followed(self, plain, tmp_path):
        expected = write(plain, tmp_path)
        settings(tmp_path, auto_mapping={"base_model_class": "Bad", "parent_library": "no_such_library"})
        root = copy.deepcopy(plain)
        merge_adapter(root, tmp_path, key_mapping=QWEN)
        assert (outputs(root) - expected).abs().max() < 1e-6


class Touches:
    """An object that would make a file as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)
