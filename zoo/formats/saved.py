"""Our own layout: config.json with `"model_type": "zoo"` and model.safetensors."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.formats import TOKENIZER_FILES
from zoo.hub import CONFIG, MODEL_TYPE, WEIGHTS, load_saved

if TYPE_CHECKING:
    from zoo.embedder import Embedder

ORDER = 0
LOOKED_FOR = 'the zoo\'s own: config.json with "model_type": "zoo", and model.safetensors'


def recognises(names: set[str], read: Callable[[str], Any]) -> bool:
    """Whether these files are a folder of `save_pretrained`."""
    if CONFIG not in names:
        return False
    config = read(CONFIG)
    return isinstance(config, dict) and config.get("model_type") == MODEL_TYPE


def wanted(names: set[str]) -> list[str]:
    """Configuration, weights and tokenizer."""
    known = {CONFIG, WEIGHTS, *TOKENIZER_FILES}
    return sorted(n for n in names if n in known or (n.startswith("tower") and Path(n).name in TOKENIZER_FILES))


def load(folder: Path, *, name: str, trust_remote_code: bool, allow_pickle: bool) -> "Embedder":
    """The model saved there; the configuration names only parts of the zoo."""
    return load_saved(folder)
