"""A model → a folder that the zoo, transformers, sentence-transformers and open_clip all load with equal vectors.

`export` writes it; `encode_with` embeds by one of its `LOADERS`, as that library's users do. Forms of folders have a file each
(text, dual, code), and so have libraries (open_clip, timm; automodel and module are what the others call).
"""

from zoo.publishing.exports.exporting import Exported, export
from zoo.publishing.exports.loaders import LOADERS, check_readable, encode_with, loaders_of, register, snippet

__all__ = ["LOADERS", "Exported", "check_readable", "encode_with", "export", "loaders_of", "register", "snippet"]
