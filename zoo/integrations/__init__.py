"""The zoo's models as what other libraries call an embedding model: LangChain, LlamaIndex, sentence-transformers.

Each module imports its library when it is imported itself; `import zoo` loads none of them.
"""

from zoo.callers import warn
from zoo.errors import MissingPackageError
from zoo.spec import ModelSpec


def missing(error: ImportError, extra: str) -> MissingPackageError:
    """The error to raise in place of an ImportError.

    Args:
        extra: the name in `pip install "embedding-zoo[extra]"`.
    """
    return MissingPackageError(
        f'zoo.integrations.{extra.replace("-", "_")} needs {error.name}: pip install "embedding-zoo[{extra}]"',
        name=error.name,
    )


def warn_of_norms(spec: ModelSpec, what: str) -> None:
    """One warning for a model whose norms count, because `what` chooses by itself how it compares vectors."""
    if spec.similarity == "dot":
        warn(
            f"{spec.name} compares by dot product, and its vectors keep their norms; {what} that compares by cosine ranks "
            "otherwise: choose dot product (inner product) there"
        )
