"""An Embedder as the one module of a SentenceTransformer: texts, pictures and lists of both, by the zoo's own reading."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from sentence_transformers.base.modules import InputModule
from torch import Tensor

from zoo.embedder import Embedder
from zoo.errors import UnsupportedInputError
from zoo.exports.code import local_folder, write_root
from zoo.formats.saved import load_saved
from zoo.items import Item, as_item

MEDIA = ("text", "image", "audio", "video")


class ZooModule(InputModule):
    """Reads items with the Embedder's encoders; `sentence_embedding` is its unit vectors."""

    save_in_root = True

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = embedder

    @property
    def modalities(self) -> list[Any]:
        """What the towers read, and "message", by which sentence-transformers lets mixed lists through."""
        known = [name for name in MEDIA if name in self.embedder.spec.modalities]
        joint = {tuple(sorted(tower.encoder.reads & set(MEDIA))) for tower in self.embedder.readers}
        return [*known, *sorted(names for names in joint if len(names) > 1), "message"]

    @property
    def max_seq_length(self) -> int | None:
        """Longest text in tokens, None for any length."""
        return self.embedder.spec.max_tokens

    def get_embedding_dimension(self) -> int:
        """Length of the vectors."""
        return self.embedder.spec.dim

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **options: Any) -> dict[str, Any]:
        """One batch: for each tower the tensors of its items, and the rows of the batch that they are.

        Args:
            inputs: str (always a text, never a path), PIL pictures, arrays, chat messages, or dictionaries such as
                {"image": path or picture, "text": "..."}.

        Raises:
            InputError: an input cannot be embedded; its place is not told, because sentence-transformers has sorted them.
        """
        reads: dict[int, list[tuple[int, Any]]] = {}
        readers = self.embedder.readers
        for row, value in enumerate(inputs):
            item = item_of(value)
            position = self.embedder.place(item)
            encoder = readers[position].encoder
            reads.setdefault(position, []).append((row, encoder.read_prompted(item, prompt or "")))
        features: dict[str, Any] = {}
        for position, rows in reads.items():
            batch = readers[position].encoder.collate([read for _, read in rows])
            features |= {f"tower{position}.{name}": tensor for name, tensor in batch.items()}
            features[f"tower{position}.rows"] = torch.tensor([row for row, _ in rows])
        return features

    def forward(self, features: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Adds `sentence_embedding` `(batch, dim)`, unit vectors in the order of the inputs."""
        vectors: list[Tensor] = []
        rows: list[Tensor] = []
        for position, tower in enumerate(self.embedder.readers):
            prefix = f"tower{position}."
            batch = {name.removeprefix(prefix): value for name, value in features.items() if name.startswith(prefix)}
            if batch:
                rows.append(batch.pop("rows"))
                vectors.append(tower(batch))
        order = torch.cat(rows).argsort()
        return {**features, "sentence_embedding": torch.cat(vectors)[order]}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **options: Any) -> None:
        """The zoo's folder with the code for transformers; sentence-transformers adds its own settings."""
        write_root(self.embedder, Path(output_path))

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """A folder or Hub repository; of `model_kwargs` only a dtype is heeded."""
        hub = {"token": token, "cache_dir": cache_folder, "revision": revision, "local_files_only": local_files_only}
        model = load_saved(local_folder(model_name_or_path, **hub) / subfolder)
        dtype = (model_kwargs or {}).get("dtype") or (model_kwargs or {}).get("torch_dtype")
        return cls(model.to(dtype if isinstance(dtype, torch.dtype) else torch.float32).eval())


def item_of(value: Any) -> Item:
    """An input of sentence-transformers as an Item.

    Raises:
        UnsupportedInputError: a dictionary with other keys, or several turns or pictures in one input.
    """
    if isinstance(value, dict) and {"role", "content"} <= set(value):
        value = [value]
    if isinstance(value, list | tuple) and value and all(isinstance(turn, dict) for turn in value):
        value = _of_messages(value)
    if isinstance(value, dict):
        if "array" in value and "sampling_rate" in value:
            value = {"audio": value}
        if unknown := set(value) - {*MEDIA, "regions"}:
            raise UnsupportedInputError(
                f"an input has the keys {sorted(map(str, unknown))}; known are {MEDIA}", what=repr(value)[:60]
            )
        # Named as a picture, a string is the path of one; on its own it is always a text.
        media = {k: Path(v) if isinstance(v, str) and k != "text" else v for k, v in value.items()}
        return as_item(Item(**media))
    return as_item(value)


def _of_messages(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The texts of a conversation in a row and its one picture, as one input."""
    found: dict[str, Any] = {}
    for turn in turns:
        content = turn.get("content")
        for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
            kind = part.get("type")
            if kind == "text":
                found["text"] = f"{found['text']}\n{part['text']}" if "text" in found else part["text"]
            elif kind in MEDIA and kind not in found:
                found[kind] = part.get(kind)
            else:
                raise UnsupportedInputError(
                    f"a conversation with more than one {kind}; embed them apart", what=str(kind)
                )
    return found
