"""What goes out: publishing to the Hub, exports for other libraries, certificates and model cards.

`publish` stages a model (its files by `exports`, its vectors by `certificate`, its card by `cards`), tries every loader, and
uploads the folder in one commit.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.publishing.cards import card_text
    from zoo.publishing.certificate import Certificate, verify
    from zoo.publishing.exports import LOADERS, Exported, encode_with, export
    from zoo.publishing.staging import Staged, stage, stage_timm
    from zoo.publishing.uploading import Published, publish, upload

__all__ = [
    "LOADERS",
    "Certificate",
    "Exported",
    "Published",
    "Staged",
    "card_text",
    "encode_with",
    "export",
    "publish",
    "stage",
    "stage_timm",
    "upload",
    "verify",
]

# Found here, loaded when first used: whoever asks for a card loads no client of the Hub.
_LAZY = {
    "LOADERS": "exports",
    "Certificate": "certificate",
    "Exported": "exports",
    "Published": "uploading",
    "Staged": "staging",
    "card_text": "cards",
    "encode_with": "exports",
    "export": "exports",
    "publish": "uploading",
    "stage": "staging",
    "stage_timm": "staging",
    "upload": "uploading",
    "verify": "certificate",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"zoo.publishing.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'zoo.publishing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
