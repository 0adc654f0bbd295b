"""LoRA and DoRA beside convolutions: peft's mathematics and files, the embedded default, and what cannot be adapted by name."""

import copy
import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from timm.layers import Conv2dSame, ScaledStdConv2d
from torch import nn
from zoo.training import recipes, train
from zoo.training.adapters import Lora, add_lora, backbone_of, load_adapter, merge_lora, save_adapter
from zoo.training.dry_run import rehearse
from zoo.training.errors import AdapterError

from tests.training.test_train_adapters import adapted, built, embed, shaken
from tests.training.test_train_merging import letters
from tests.training.train_support import quick, same_weights, shape_pairs, text_pairs
from zoo import load_model
from zoo.errors import AdapterMismatchError
from zoo.formats.adapters import merge_adapter, unfit
from zoo.pooling import Mean

SLOW = ("zoo-mini", "zoo-mini-v1", "mobileclip-test")
CONVOLUTIONAL = ["mini-test", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
CALM = {"progress": False, "trackers": (), "report": False}


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("zoo-mini", {"conv_pw", "conv_pwl", "query", "key", "value", "dense"}),
        ("zoo-mini-v1", {"conv1", "conv2", "1"}),  # 1: the convolution of a downsample
        ("mini-test", {"conv", "conv_exp", "conv_pw", "conv_pwl", "conv_reduce", "conv_expand"}),
    ],
)
def test_auto_takes_the_convolutions_of_the_blocks_but_for_depthwise_ones(name, layers):
    model = add_lora(built(name), Lora(rank=2))
    assert adapted(model) == layers
    stem = [n for n, _ in model.named_parameters() if "lora_" in n and ("stem" in n or "backbone.conv1" in n)]
    assert not stem
    assert torch.allclose(embed(model), embed(built(name)), atol=1e-6)  # until the first step


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_merged_is_unmerged_and_peft_and_the_zoo_read_the_files(name, dora, tmp_path):
    model = shaken(name, dora=dora)
    expected = embed(model)
    save_adapter(model, tmp_path)
    peft = built(name)
    parts = json.loads((tmp_path / "zoo_adapter.json").read_text())["towers"]
    for part, position in parts.items():
        PeftModel.from_pretrained(backbone_of(peft.towers[position]), tmp_path / part)
    heads = {n: p for n, p in model.named_parameters() if p.requires_grad and "lora_" not in n}
    with torch.no_grad():
        for parameter, value in heads.items():
            peft.get_parameter(parameter).copy_(value)
    assert torch.allclose(embed(peft), expected, atol=1e-6)
    assert torch.equal(embed(load_adapter(built(name), tmp_path)), expected)
    plain = built(name)  # without peft: by the formulas
    (image,) = (part for part, position in parts.items() if position == 0)
    merge_adapter(backbone_of(plain.towers[0]), tmp_path / image, key_mapping={})
    merged = merge_lora(copy.deepcopy(model))
    assert torch.allclose(embed(merged), expected, atol=1e-5)
    assert merged.state_dict().keys() == plain.state_dict().keys()
    for weight, value in plain.state_dict().items():
        if weight.startswith("towers.0.encoder"):
            torch.testing.assert_close(value, merged.state_dict()[weight], atol=1e-5, rtol=1e-4, msg=weight)


class Kinds(nn.Module):
    """Convolutions of one to three dimensions, with strides, paddings and without biases."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Conv1d(3, 4, 3, padding=1)
        self.plane = nn.Conv2d(4, 5, (3, 2), stride=2, padding="valid")
        self.same = Conv2dSame(5, 4, 3, stride=2, bias=False)
        self.video = nn.Conv3d(4, 6, (1, 2, 2), padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(b, 3, n)` → `(b, k)`."""
        x = self.line(x)[..., None].expand(-1, -1, -1, 9)
        return self.video(self.same(self.plane(x))[:, :, None]).flatten(1)


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"use_rslora": True}, {"lora_bias": True}])
def test_peft_is_the_reference_for_every_kind(options, tmp_path):
    torch.manual_seed(1)
    plain = Kinds().eval()
    names = ["line", "plane", "video"] if "lora_bias" in options else ["line", "plane", "same", "video"]
    theirs = get_peft_model(copy.deepcopy(plain), LoraConfig(r=3, lora_alpha=5, target_modules=names, **options)).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    x = torch.randn(2, 3, 9)
    expected, before = theirs(x), plain(x)
    merge_adapter(plain, tmp_path, key_mapping={})
    assert torch.allclose(plain(x), expected, atol=1e-5)
    assert not torch.allclose(before, expected, atol=1e-2)


BAD = {
    "a convolution in 4 groups": nn.Conv2d(4, 4, 3, groups=4),
    "dilated": nn.Conv2d(4, 4, 3, dilation=2),
    "does not pad with zeros": nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
    "a ScaledStdConv2d": ScaledStdConv2d(4, 4, 3),
}


@pytest.mark.parametrize("reason", BAD)
def test_what_would_compute_otherwise_once_merged_is_no_layer_to_adapt(reason, tmp_path):
    assert reason in unfit(BAD[reason])
    root = nn.ModuleDict({"layer": BAD[reason]})
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["layer"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    tensors = {"lora_A.weight": torch.zeros(4, 4, 3, 3), "lora_B.weight": torch.zeros(4, 4, 1, 1)}
    save_file({f"base_model.model.layer.{n}": t for n, t in tensors.items()}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(AdapterMismatchError, match=f"layer, which is .*{reason}"):
        merge_adapter(root, tmp_path, key_mapping={})


def test_depthwise_convolutions_are_refused_by_name_before_any_work(tmp_path):
    recipe = quick(lora=Lora(rank=2, targets=("image.*.conv_dw",)), holdout=4)
    with pytest.raises(AdapterError, match=r"conv_dw is a convolution in 128 groups.*or auto"):
        train(built("mini-test"), shape_pairs(), recipe, tmp_path / "run", **CALM)
    assert not (tmp_path / "run").exists()
    with pytest.raises(AdapterError, match="train it in full"):
        train(letters(Mean(), "abc"), text_pairs(), quick(lora=Lora()), tmp_path / "run", **CALM)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_embedded_default_learns_by_the_recipe_and_its_adapter_is_the_whole_change(tmp_path):
    recipe = recipes.lora(epochs=1, batch_size=8, holdout=0, lora=Lora(rank=2))
    pairs = shape_pairs()
    model = train(load_model("zoo-mini"), pairs, recipe, tmp_path, **CALM)
    again = merge_lora(load_adapter(load_model("zoo-mini"), tmp_path / "adapter"))
    images = [pair.query for pair in pairs]
    assert torch.allclose(again.encode(images), model.encode(images), atol=1e-5)
    assert same_weights(model, load_model(tmp_path))
    assert not torch.allclose(model.encode(images), load_model("zoo-mini").encode(images), atol=1e-3)


def test_dora_in_a_dry_run():
    facts = rehearse(built("mini-test"), shape_pairs(), quick(lora=Lora(rank=2, dora=True)))
    assert facts["quick: loss of the first step"] > 0
