"""The parts of a tower by name, for model files: each is imported when it is first called, so that names need no torch.

from zoo.models._parts import Embedder, Identity, LastToken, Tower, sequence
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.embedder import Embedder, Tower
    from zoo.encoders.sequence import sequence
    from zoo.heads import Identity, Linear
    from zoo.pooling import Cls, EveryToken, LastToken, Mean
else:

    class _Part:
        def __init__(self, module: str, name: str) -> None:
            self.module, self.name = module, name

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return getattr(import_module(self.module), self.name)(*args, **kwargs)

    Embedder, Tower = _Part("zoo.embedder", "Embedder"), _Part("zoo.embedder", "Tower")
    sequence = _Part("zoo.encoders.sequence", "sequence")
    Identity, Linear = _Part("zoo.heads", "Identity"), _Part("zoo.heads", "Linear")
    Cls, EveryToken = _Part("zoo.pooling", "Cls"), _Part("zoo.pooling", "EveryToken")
    LastToken, Mean = _Part("zoo.pooling", "LastToken"), _Part("zoo.pooling", "Mean")

__all__ = ["Cls", "Embedder", "EveryToken", "Identity", "LastToken", "Linear", "Mean", "Tower", "sequence"]
