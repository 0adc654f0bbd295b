"""LangChain: a model of the zoo wherever an `Embeddings` is wanted, such as a vector store.

from langchain_core.vectorstores import InMemoryVectorStore
from zoo.integrations.langchain import ZooEmbeddings

store = InMemoryVectorStore.from_texts(["a cat", "a train"], ZooEmbeddings("zoo-mini"))
store.similarity_search("kitty", k=1)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.inputs.item import Item
from zoo.integrations import missing, warn_of_norms
from zoo.loading import load_model
from zoo.spec import need_one_vector

try:
    from langchain_core.embeddings import Embeddings
except ImportError as error:
    raise missing(error, "langchain") from error

if TYPE_CHECKING:
    from zoo.embedder import Embedder


class ZooEmbeddings(Embeddings):
    """Vectors of texts with the model's prompts for queries and documents, and of images; of unit length, but of a model
    that compares by dot product with their norms: the store must compare so too, and a warning says it once.

    Args:
        model: a model, or whatever `load_model` opens.
        options: further arguments of `Embedder.encode` for every call (`dim`, `batch_size`, ...).
    """

    def __init__(self, model: "Embedder | str | Path", **options: Any) -> None:
        self.model = load_model(model) if isinstance(model, str | Path) else model
        self.options = options
        need_one_vector(self.model.spec, "LangChain")
        warn_of_norms(self.model.spec, "a store of LangChain")

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """`dim` numbers for each text; raises EmptyTextError, which names the place, where one has no word."""
        return self.model.encode_document(list(texts), **self.options).tolist()

    def embed_query(self, text: str) -> list[float]:
        """`dim` numbers."""
        return self.model.encode_query(text, **self.options).tolist()

    def embed_images(self, uris: Sequence[Any]) -> list[list[float]]:
        """`dim` numbers for each image: a path (also as str), its bytes, or a PIL image. Addresses are not fetched.

        Raises:
            InputError: an image is missing or damaged. UnsupportedModalityError: the model reads no images.
        """
        items = [Item(image=Path(uri) if isinstance(uri, str) else uri) for uri in uris]
        return self.model.encode(items, **self.options).tolist()

    embed_image = embed_images  # the name that LangChain's stores look for
