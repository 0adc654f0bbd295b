"""Which models the page offers, and those that are loaded."""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import ZooError
from zoo.loading import load_model
from zoo.registry import get_spec, list_models
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo import Embedder

KEEP_LOADED = 3
ASK_FROM = 500  # MB of a download
# Few that are good for their size, by what their authors measured: they come first.
RECOMMENDED = ("siglip2-vit-b16-256", "siglip-vit-b16-256", "clip-vit-b16-datacomp", "clip-vit-b32-laion2b")


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
        """(label, name) of the models that read images: those at hand first, then few good ones, then the others.

        A label says what a download takes, the licence, and the languages of texts.
        """
        at_hand, remote = [], []
        names = [name for name in list_models(modality="image") if name != self.first and not name.endswith("-test")]
        for name in sorted(
            names, key=lambda name: (name not in RECOMMENDED, RECOMMENDED.index(name) if name in RECOMMENDED else 0)
        ):
            spec = get_spec(name)
            if is_ready(spec):
                at_hand.append((_label(spec), name))
            elif spec.hub_id and self.downloads and not offline():
                remote.append((_label(spec, f"download of {_megabytes(spec):,} MB"), name))
        return [(self.first, self.first), *at_hand, *remote]

    def question(self, name: str) -> str:
        """What to ask before a model is fetched; "" where it is at hand, or small."""
        if self._recall(name) is not None or name not in {offered for _, offered in self.choices()}:
            return ""
        spec = get_spec(name)
        if is_ready(spec) or _megabytes(spec) <= ASK_FROM:
            return ""
        return f"{name} has to be fetched first: about {_megabytes(spec):,} MB, licence {spec.license}."

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


def _label(spec: ModelSpec, *more: str) -> str:
    """ "name · download of 605 MB · mit · English"."""
    return " · ".join(filter(None, [spec.name, *more, spec.license, spec.language_names]))


def _megabytes(spec: ModelSpec) -> int:
    return max(1, round(spec.params * 4 / 1e6))
