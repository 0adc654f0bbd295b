"""Which models the page offers, and those that are loaded."""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import ZooError
from zoo.registry import get_spec, list_models, load_model
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo import Embedder

KEEP_LOADED = 3


def is_ready(spec: ModelSpec) -> bool:
    """Whether the weights are on this machine: inside the package, or in the Hub's cache."""
    if spec.packaged:
        return True
    if not spec.hub_id:
        return False
    from huggingface_hub import constants

    snapshots = Path(constants.HF_HUB_CACHE, "models--" + spec.hub_id.replace("/", "--"), "snapshots")
    return snapshots.is_dir() and any(snapshots.iterdir())


def offline() -> bool:
    """Whether the Hub may not be asked (HF_HUB_OFFLINE)."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


class Models:
    """Loads models by name and keeps the few that were used last; safe to use from many threads."""

    def __init__(self, first: "Embedder", *, downloads: bool = False) -> None:
        self.first = first.spec.name
        self.downloads = downloads
        self._loaded: OrderedDict[str, Embedder] = OrderedDict({self.first: first})
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    def choices(self) -> list[tuple[str, str]]:
        """(label, name) of the models that read pictures: those at hand first, then those that can be downloaded."""
        at_hand, remote = [], []
        for name in list_models(modality="image"):
            spec = get_spec(name)
            if name == self.first:
                continue
            if is_ready(spec):
                at_hand.append((name, name))
            elif spec.hub_id and self.downloads and not offline():
                remote.append((f"{name}  (download, about {_megabytes(spec)} MB)", name))
        return [(self.first, self.first), *at_hand, *remote]

    def get(self, name: str) -> "Embedder":
        """The loaded model.

        Raises:
            ZooError: it is not offered here, or could not be loaded; the message says what to do.
        """
        loaded = self._recall(name)
        if loaded is not None:
            return loaded
        # Its own lock: searches with loaded models go on while another one is downloaded.
        with self._loading:
            loaded = self._recall(name)
            if loaded is not None:
                return loaded
            if name not in {offered for _, offered in self.choices()}:
                raise ZooError(f"The model {name!r} is not offered on this page.")
            try:
                model = load_model(name)
            except (ZooError, OSError, RuntimeError, ValueError, ImportError) as error:
                raise ZooError(f"{name} could not be loaded, so the page stays with its model. {error}") from error
            with self._lock:
                self._loaded[name] = model
                while len(self._loaded) > KEEP_LOADED:
                    del self._loaded[next(old for old in self._loaded if old != self.first)]
            return model

    def _recall(self, name: str) -> "Embedder | None":
        with self._lock:
            if name in self._loaded:
                self._loaded.move_to_end(name)
            return self._loaded.get(name)


def _megabytes(spec: ModelSpec) -> int:
    return max(1, round(spec.params * 4 / 1e6))
