"""Batch norms folded into convolutions: the same states, whatever changes the network, and never for training."""

import pytest
import timm
import torch
from torch import nn

import zoo
from zoo.encoders.folding import Folding, _tried, folded
from zoo.encoders.image import TimmImage
from zoo.encoders.image_transform import PixelTransform

NETS = [
    "resnet10t",
    "test_efficientnet",
    "mobilenetv4_conv_small_050",
    "test_resnet",
    "test_nfnet",
    "tf_efficientnet_lite0",
]


def settled(name: str) -> nn.Module:
    """A network whose running statistics are no zeros and ones."""
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return net.eval()


def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_states_are_those_of_the_network(name):
    net = settled(name)
    wanted = net.forward_features(pixels())
    made = Folding().of(net, pixels())
    torch.testing.assert_close(made.forward_features(pixels()), wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)
    left = [module for module in made.modules() if isinstance(module, nn.BatchNorm2d)]
    assert not left or len(left) < len([m for m in net.modules() if isinstance(m, nn.BatchNorm2d)])
    torch.testing.assert_close(net.forward_features(pixels()), wanted, atol=0, rtol=0)  # itself as it was


@torch.no_grad()
def test_a_copy_is_made_anew_when_weights_change():
    net, folding = settled("test_efficientnet"), Folding()
    first = folding.of(net, pixels())
    assert folding.of(net, pixels()) is first
    next(net.parameters()).mul_(1.5)
    second = folding.of(net, pixels())
    assert second is not first
    torch.testing.assert_close(second.forward_features(pixels()), net.forward_features(pixels()), atol=1e-4, rtol=1e-4)
    for parameter in net.parameters():  # as old code writes, and as adapters are put in: no counter of torch's tells
        parameter.data.mul_(1.1)
    third = folding.of(net, pixels())
    assert third is not second
    torch.testing.assert_close(third.forward_features(pixels()), net.forward_features(pixels()), atol=1e-4, rtol=1e-4)
    net.load_state_dict(settled("test_efficientnet").state_dict())
    torch.testing.assert_close(
        folding.of(net, pixels()).forward_features(pixels()), net.forward_features(pixels()), atol=1e-4, rtol=1e-4
    )


class _Elsewhere(nn.Module):
    """Its norm stands after its convolution in the list, and before it in the computation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        nn.init.uniform_(self.norm.running_mean, 1.0, 2.0)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(images).relu())


@torch.no_grad()
def test_a_network_of_another_order_is_left_as_it_is():
    net = _Elsewhere().eval()
    assert not torch.allclose(folded(net).forward_features(pixels()), net.forward_features(pixels()), atol=1e-2)
    assert _tried(net, pixels()) is None
    assert Folding().of(net, pixels()) is net


@torch.no_grad()
def test_a_network_whose_norms_are_measured_anew_is_left_as_it_is():
    net, folding = settled("test_efficientnet"), Folding()
    net.bn1.train()
    assert folding.of(net, pixels()[:1]) is net


@torch.no_grad()
def test_an_adapters_layers_are_left_as_they_are():
    net = settled("test_efficientnet")
    net.conv_stem = _Watched(net.conv_stem)
    assert Folding().of(net, pixels()) is net


class _Watched(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.eval()
        self.training = False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.inner(images)


@torch.no_grad()
def test_a_network_that_somebody_watches_is_left_as_it_is():
    net, folding = settled("test_efficientnet"), Folding()
    watching = net.conv_stem.register_forward_hook(lambda *_: None)
    assert folding.of(net, pixels()) is net
    watching.remove()
    assert folding.of(net, pixels()) is not net


def test_training_sees_the_network_itself():
    encoder = TimmImage("test_efficientnet", PixelTransform(64)).eval()
    batch = {"pixels": torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)}
    encoder(batch).states.sum().backward()
    assert encoder.backbone.conv_stem.weight.grad is not None
    assert encoder._folding._copy is None
    with torch.no_grad():
        told = encoder(batch).states
    assert encoder._folding._copy is not None
    torch.testing.assert_close(told, encoder(batch).states, atol=1e-4, rtol=1e-4)
    assert not any("folding" in name for name, _ in encoder.named_modules())
    assert {name.split(".")[0] for name in encoder.state_dict()} == {"backbone"}


def test_a_fine_tuned_model_is_seen_at_once():
    model = zoo.build_model("mini-test").eval()
    image = torch.zeros(40, 40, 3, dtype=torch.uint8).numpy() + 90
    before = model.encode(image)
    with torch.no_grad():
        next(model.towers[0].encoder.backbone.parameters()).mul_(-2.0)
    assert not torch.allclose(model.encode(image), before, atol=1e-3)
