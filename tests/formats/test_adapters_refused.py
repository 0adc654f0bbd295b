"""Adapters that do not fit, or that strangers made: a named error, and nothing of the model is another one."""

import copy
import dataclasses
import math
import pickle
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from tests.formats.adapter_support import (
    PICKLE,
    Q_PROJ,
    QWEN,
    WEIGHTS,
    Container,
    base_model,
    edit,
    outputs,
    refuses,
    settings,
    write,
)
from zoo.errors import (
    AdapterMismatchError,
    MissingWeightsError,
    OversizedError,
    UnrecognisedCheckpointError,
    UnsafeCheckpointError,
)
from zoo.errors import AdapterMismatchError as OfTraining
from zoo.formats.adapters import merge_adapter
from zoo.formats.known import peft as known
from zoo.formats.settings import Ignore


@pytest.fixture(scope="module")
def plain() -> Container:
    return base_model()


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
            (
                "base_model.model.visual.patch_embed.proj.lora_A.weight",
                r"missing \(.*patch_embed\.proj\.lora_B\.weight",
            ),
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
