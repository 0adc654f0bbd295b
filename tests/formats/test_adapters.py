"""Hub repositories of LoRA and DoRA adapters: merged they equal peft's own model; whatever does not fit is named."""

import copy
import math
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from zoo.training.adapters import load_adapter, merge_lora

from tests.formats.adapter_support import (
    LINEAR,
    OF_COLQWEN,
    Q_PROJ,
    QWEN,
    WEIGHTS,
    Container,
    base_model,
    edit,
    outputs,
    refuses,
    rename,
    settings,
    write,
)
from zoo import build_model
from zoo.errors import AdapterMismatchError, ZooError
from zoo.formats.adapters import add_adapter, merge_adapter, unload


@pytest.fixture(scope="module")
def plain() -> Container:
    return base_model()


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
