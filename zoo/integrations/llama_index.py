"""LlamaIndex: a model of the zoo as `embed_model`, for texts and images.

from llama_index.core import Document, VectorStoreIndex
from zoo.integrations.llama_index import ZooEmbedding

index = VectorStoreIndex.from_documents([Document(text="a cat")], embed_model=ZooEmbedding("zoo-mini"))
index.as_retriever(similarity_top_k=1).retrieve("kitty")
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.inputs.item import Item
from zoo.integrations import missing, warn_of_norms
from zoo.loading import load_model
from zoo.spec import need_one_vector

try:
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.embeddings import MultiModalEmbedding
except ImportError as error:
    raise missing(error, "llama-index") from error

if TYPE_CHECKING:
    from zoo.embedder import Embedder


class ZooEmbedding(MultiModalEmbedding):
    """Vectors of texts with the model's prompts for queries and documents, and of images (path or BytesIO); of unit
    length, but of a model that compares by dot product with their norms: a warning says once that the index must too.

    Args:
        model: a model, or whatever `load_model` opens.
        dim: Matryoshka cut.
        more: fields of LlamaIndex' `BaseEmbedding` (`embed_batch_size`, 64 here, `callback_manager`, ...).
    """

    _model: Any = PrivateAttr()
    _options: dict[str, Any] = PrivateAttr()

    def __init__(self, model: "Embedder | str | Path", *, dim: int | None = None, **more: Any) -> None:
        model = load_model(model) if isinstance(model, str | Path) else model
        need_one_vector(model.spec, "LlamaIndex")
        warn_of_norms(model.spec, "an index of LlamaIndex")
        super().__init__(**{"model_name": model.spec.name, "embed_batch_size": 64, **more})
        self._model, self._options = model, {"dim": dim}

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex writes it down."""
        return "ZooEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._model.encode_query(query, **self._options).tolist()

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._model.encode_document(list(texts), **self._options).tolist()

    def _get_image_embedding(self, img_file_path: Any) -> list[float]:
        return self._get_image_embeddings([img_file_path])[0]

    def _get_image_embeddings(self, img_file_paths: list[Any]) -> list[list[float]]:
        items = [Item(image=p.getvalue() if hasattr(p, "getvalue") else Path(p)) for p in img_file_paths]
        return self._model.encode(items, **self._options).tolist()

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    async def _aget_image_embedding(self, img_file_path: Any) -> list[float]:
        return await asyncio.to_thread(self._get_image_embedding, img_file_path)
