"""EfficientNet-Lite of our own is timm's: names, shapes, states and vectors to the last digit, in training too."""

import pytest
import timm
import torch
from torch import nn

import zoo
from tests.encoders.test_folding import settled
from zoo.encoders.efficientnet import LITE, EfficientNetLite
from zoo.encoders.folding import Folding
from zoo.encoders.image import TimmImage, timm_backbone
from zoo.encoders.image_transform import PixelTransform
from zoo.heads import Identity
from zoo.pooling import Cls


def ours_and_theirs(arch: str) -> tuple[nn.Module, nn.Module]:
    theirs = settled(arch)
    ours = EfficientNetLite(arch).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize(
    "arch",
    [*list(LITE)[::2][:2], *(pytest.param(arch, marks=pytest.mark.slow) for arch in LITE if arch[-1] not in "02")],
)
@torch.no_grad()
def test_vectors_are_timms(arch: str) -> None:
    ours, theirs = ours_and_theirs(arch)
    assert [(name, tensor.shape) for name, tensor in ours.state_dict().items()] == [
        (name, tensor.shape) for name, tensor in theirs.state_dict().items()
    ]
    assert (ours.num_features, ours.head_hidden_size) == (theirs.num_features, theirs.head_hidden_size)
    for height, width in ((64, 64), (97, 71)):  # odd sides are padded on one side alone
        pixels = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
        states = ours.forward_features(pixels)
        assert torch.equal(states, theirs.forward_features(pixels))
        assert torch.equal(ours.forward_head(states), theirs.forward_head(states, pre_logits=True))
    assert Folding().of(ours, pixels) is not ours


def test_it_trains_as_timms_does() -> None:
    ours, theirs = (net.train() for net in ours_and_theirs("tf_efficientnet_lite0"))
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for net in (ours, theirs):
        net(pixels).square().mean().backward()
    for (name, one), (_, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_weights_begin_as_timms_do() -> None:
    torch.manual_seed(0)
    ours, theirs = EfficientNetLite("tf_efficientnet_lite0"), timm.create_model("tf_efficientnet_lite0", num_classes=0)
    for (name, one), (_, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert float(one.detach().std()) == pytest.approx(float(other.detach().std()), rel=0.15, abs=1e-6), name


def test_timm_builds_what_is_not_here_and_its_files_are_written_from_ours(tmp_path) -> None:
    from zoo.publishing.exports.timm import encode, write

    assert type(timm_backbone("tf_efficientnet_lite0", {"num_classes": 3})).__module__.startswith("timm.")
    encoder = TimmImage("tf_efficientnet_lite0", PixelTransform(64, resize="squash"))
    assert isinstance(encoder.backbone, EfficientNetLite)
    spec = zoo.ModelSpec("lite", frozenset({"image"}), encoder.width, "mit", image_size=64)
    model = zoo.Embedder(spec, [zoo.embedder.Tower(encoder, Cls(), Identity())]).eval()
    write(model, tmp_path)
    image = zoo.Item(image=torch.randint(0, 255, (64, 64, 3), dtype=torch.uint8).numpy())
    torch.testing.assert_close(encode(tmp_path, [image])[0], model.encode(image), atol=1e-5, rtol=0)
