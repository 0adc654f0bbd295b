"""An Embedder as the one module of a SentenceTransformer: texts, images and lists of both, by the zoo's own reading."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from sentence_transformers.base.modules import InputModule
from torch import Tensor

from zoo.embedder import Embedder
from zoo.errors import NotOfferedError, UnsupportedInputError
from zoo.formats.writing import described
from zoo.formats.zoo_native import load_saved
from zoo.inputs.item import Item, as_item
from zoo.inputs.region_json import regions_from_json
from zoo.publishing.exports.automodel import ZooProcessor, dtype_of, refuse
from zoo.publishing.exports.code import local_folder, write_root

MEDIA = ("text", "image", "audio", "video")
# What sentence-transformers passes to every module for the Hub alone.
_INERT = ("token", "trust_remote_code", "revision", "local_files_only", "cache_dir", "code_revision")


class _Outputs(dict[str, Any]):
    """What a forward pass gives; by its missing keys sentence-transformers asks for a vector of each token."""

    def __missing__(self, name: str) -> Any:
        raise NotOfferedError(
            f"{name} are not offered: a model of the zoo gives one vector per input here (output_value="
            '"sentence_embedding"); its tokens\' states are those of model[0].embedder.towers[...].encoder'
        )


class ZooModule(InputModule):
    """Reads items with the Embedder's encoders; `sentence_embedding` is its vectors."""

    save_in_root = True

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = embedder

    @property
    def modalities(self) -> list[Any]:
        """What the towers read, and "message", by which sentence-transformers lets mixed lists through."""
        known = [name for name in MEDIA if name in self.embedder.spec.modalities]
        joint = {tuple(sorted(tower.encoder.modalities & set(MEDIA))) for tower in self.embedder.routes}
        return [*known, *sorted(names for names in joint if len(names) > 1), "message"]

    @property
    def max_seq_length(self) -> int | None:
        """Longest text in tokens, None for any length. Setting it cuts longer texts from now on, and is saved.

        Raises:
            NotOfferedError: the length is part of the model. ValueError: the model does not read so many tokens.
        """
        return self.embedder.spec.max_tokens

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        encoders = [tower.encoder for tower in self.embedder.towers if "text" in tower.encoder.modalities]
        if not encoders:
            raise NotOfferedError(f"{self.embedder.spec.name} reads no text, so that its length cannot be set")
        for encoder in encoders:
            encoder.limit(value)
        self.embedder.spec = replace(self.embedder.spec, max_tokens=value)

    @property
    def processor(self) -> ZooProcessor:
        """What transformers' AutoProcessor gives for the model's folder."""
        return ZooProcessor([tower.encoder for tower in self.embedder.towers], described(self.embedder))

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of texts as transformers' class, None where there is none; to read texts use `preprocess`."""
        return self.processor.tokenizer

    def get_embedding_dimension(self) -> int:
        """Length of the vectors."""
        return self.embedder.spec.dim

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **options: Any) -> dict[str, Any]:
        """One batch: for each tower the tensors of its items, and the rows of the batch that they are.

        Args:
            inputs: str (always a text, never a path), PIL images, arrays, chat messages, or dictionaries such as
                {"image": path or image, "text": "..."}.

        Raises:
            InputError: an input cannot be embedded; its place is not told, because sentence-transformers has sorted them.
        """
        reads: dict[int, list[tuple[int, Any]]] = {}
        readers = self.embedder.routes
        for row, value in enumerate(inputs):
            item = item_of(value)
            position = self.embedder.route_index(item)
            encoder = readers[position].encoder
            reads.setdefault(position, []).append((row, encoder.prepare_prompted(item, prompt or "")))
        features: dict[str, Any] = {}
        for position, rows in reads.items():
            batch = readers[position].encoder.collate([read for _, read in rows])
            features |= {f"tower{position}.{name}": tensor for name, tensor in batch.items()}
            features[f"tower{position}.rows"] = torch.tensor([row for row, _ in rows])
        return features

    def forward(self, features: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Adds `sentence_embedding` `(batch, dim)`, the model's vectors in the order of the inputs."""
        vectors: list[Tensor] = []
        rows: list[Tensor] = []
        for position, tower in enumerate(self.embedder.routes):
            prefix = f"tower{position}."
            batch = {name.removeprefix(prefix): value for name, value in features.items() if name.startswith(prefix)}
            if batch:
                rows.append(batch.pop("rows"))
                vectors.append(tower(batch))
        order = torch.cat(rows).argsort()
        return _Outputs({**features, "sentence_embedding": torch.cat(vectors)[order]})

    def get_config_dict(self) -> dict[str, Any]:
        """What config.json says of the model."""
        return described(self.embedder)

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **options: Any) -> None:
        """The zoo's folder with the code for transformers; sentence-transformers adds its own settings.

        Raises:
            NotOfferedError: a pickle is asked for.
        """
        refuse({"safe_serialization=False": not safe_serialization}, ("safe_serialization=False",), "save")
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
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """A folder or Hub repository; of `model_kwargs` only a dtype is followed.

        Raises:
            NotOfferedError: other keyword arguments for transformers.
        """
        wanted = dict(model_kwargs or {})
        dtype = wanted.pop("dtype", None) or wanted.pop("torch_dtype", None)
        for name, given in (("model", wanted), ("processor", processor_kwargs), ("config", config_kwargs)):
            kept = {key: value for key, value in (given or {}).items() if key not in _INERT}
            refuse(kept, kept, f"SentenceTransformer({name}_kwargs): ")
        hub = {"token": token, "cache_dir": cache_folder, "revision": revision, "local_files_only": local_files_only}
        folder = local_folder(model_name_or_path, **hub) / subfolder
        return cls(load_saved(folder).to(dtype_of(dtype, folder)).eval())


def item_of(value: Any) -> Item:
    """An input of sentence-transformers as an Item.

    Raises:
        UnsupportedInputError: a dictionary with other keys, or several turns or images in one input.
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
                f"an input has the keys {sorted(map(str, unknown))}; known are {(*MEDIA, 'regions')}",
                what=repr(value)[:60],
            )
        regions = regions_from_json(value.get("regions"))
        # Named as an image, a string is the path of one; on its own it is always a text.
        media = {k: Path(v) if isinstance(v, str) and k != "text" else v for k, v in value.items() if k != "regions"}
        return as_item(Item(**media, regions=regions))
    return as_item(value)


def _of_messages(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The texts of a conversation in a row and its one image, as one input."""
    found: dict[str, Any] = {}
    for turn in turns:
        content = turn.get("content")
        for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
            kind = part.get("type")
            if kind == "text":
                found["text"] = f"{found['text']}\n{part['text']}" if "text" in found else part["text"]
            elif kind in MEDIA and kind not in found:
                found[kind] = part.get(kind)
                found |= {"regions": part["regions"]} if part.get("regions") else {}
            else:
                raise UnsupportedInputError(
                    f"a conversation with more than one {kind}; embed them apart", what=str(kind)
                )
    return found
