"""config.json of Alibaba's `new` encoders: followed in the words of transformers' `gte`, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from tests.reference.gte import CASES, CONFIG, frequencies
from tests.reference.text_published import write
from zoo.errors import UnreadSettingError, UnrecognisedCheckpointError, UnsafeCheckpointError
from zoo.formats.backbones import native, read_config
from zoo.formats.settings import NOTHING, Ignore

PLAIN: dict[str, Any] = {**CONFIG, "hidden_size": 64, "num_attention_heads": 2}  # 32 columns a head


def test_ntk_positions_are_linear_ones_of_a_larger_base() -> None:
    """By hand: 8 ** (2/64), the 64 columns of a head of gte-multilingual-base; and every pair as the authors turn it."""
    published = {**PLAIN, "hidden_size": 768, "num_attention_heads": 12, "rope_theta": 20000}
    published |= {"rope_scaling": {"factor": 8.0, "type": "ntk"}}
    read = read_config(native(published), "config.json", NOTHING)
    linear = {"rope_type": "linear", "rope_theta": 160000.0, "factor": pytest.approx(1.06714040)}
    assert (read.model_type, read.rope_parameters) == ("gte", linear)
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    turned, scale = ROPE_INIT_FUNCTIONS["linear"](read)
    assert torch.equal(turned, frequencies(published))
    assert scale == 1


@pytest.mark.parametrize("scaling", [None, {"type": "ntk", "factor": 1.0}, {"rope_type": "ntk", "factor": 0.5}])
def test_without_a_factor_over_one_nothing_is_stretched(scaling: dict[str, Any] | None) -> None:
    read = read_config(native({**PLAIN, "rope_scaling": scaling, "rope_theta": 500}), "config.json", NOTHING)
    assert read.rope_parameters == {"rope_type": "default", "rope_theta": 500.0}


def test_what_a_repository_leaves_out_is_what_its_code_took() -> None:
    """NewConfig's own defaults; those of transformers' class are gte-multilingual-base's."""
    read = read_config(native({"model_type": "new", "architectures": ["NewModel"]}), "config.json", NOTHING)
    assert (read.vocab_size, read.max_position_embeddings) == (30528, 2048)
    assert (read.rope_parameters["rope_theta"], read.type_vocab_size, read.layer_norm_eps) == (10000.0, 1, 1e-12)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layer_norm_type", "rms_norm"),
        ("logn_attention_clip1", True),
        ("logn_attention_scale", True),
        ("pack_qkv", False),
        ("position_embedding_type", "absolute"),
        ("rope_scaling.mixed_b", 0.75),
        ("is_decoder", True),
        ("auto_map", {"AutoModel": "modeling.AnotherModel"}),
        ("architectures", ["NewForSequenceClassification"]),
        ("a_setting_of_tomorrow", 1),
    ],
)
def test_what_is_not_followed_is_refused_by_name(key: str, value: Any) -> None:
    changed = {**PLAIN, "rope_scaling": {"type": "ntk", "factor": 2.0}, "rope_theta": 500}
    outer, _, inner = key.partition(".")
    changed[outer] = {**changed[outer], inner: value} if inner else value
    with pytest.raises(UnreadSettingError) as refused:
        read_config(native(changed), "config.json", NOTHING)
    assert refused.value.keys == (key,)
    read_config(native(changed), "config.json", Ignore([key]))


@pytest.mark.parametrize("scaling", [{"type": "ntk"}, {"type": "ntk", "factor": "8"}, {"type": "ntk", "factor": -1}])
def test_a_factor_that_is_no_number_over_zero_is_refused(scaling: dict[str, Any]) -> None:
    with pytest.raises(UnrecognisedCheckpointError, match=r"rope_scaling\.factor"):
        read_config(native({**PLAIN, "rope_scaling": scaling}), "config.json", NOTHING)


def test_a_folder_opens_without_its_code_and_is_saved_under_transformers_type(tmp_path: Path) -> None:
    """Also without modules.json, by the mean; code of another repository is neither run nor fetched."""
    made = write(CASES["gte-multilingual-base"], tmp_path / "published")
    model = zoo.load_model(made, device="cpu")
    model.save_pretrained(tmp_path / "saved")
    again = zoo.load_model(tmp_path / "saved", device="cpu")
    assert again.towers[0].encoder.settings["model_type"] == "gte"
    assert torch.equal(again.encode(["a cat", "two dogs in the snow"]), model.encode(["a cat", "two dogs in the snow"]))
    (made / "modules.json").unlink()
    assert torch.equal(zoo.load_model(made, trust_remote_code=True).encode("a"), zoo.load_model(made).encode("a"))
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps({**config, "model_type": "newer"}))
    with pytest.raises(UnsafeCheckpointError, match=r"newer.*is built by Python code of its own"):
        zoo.load_model(made)
