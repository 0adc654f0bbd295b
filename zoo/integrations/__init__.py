"""The zoo's models as what other libraries call an embedding model: LangChain, LlamaIndex, sentence-transformers.

Each module imports its library when it is imported itself; `import zoo` loads none of them.
"""

from zoo.errors import ZooError


class MissingPackageError(ZooError, ImportError):
    """An adapter's library is not installed; the message says which extra brings it."""


def missing(error: ImportError, extra: str) -> MissingPackageError:
    """The error to raise in place of an ImportError.

    Args:
        extra: the name in `pip install "embedding-zoo[extra]"`.
    """
    return MissingPackageError(
        f'zoo.integrations.{extra.replace("-", "_")} needs {error.name}: pip install "embedding-zoo[{extra}]"',
        name=error.name,
    )
