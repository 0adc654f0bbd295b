"""What a run's folder names is opened where the folder was made here, or where the user says so; see `zoo.strangers.made`."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from zoo.errors import UntrustedFolderError
from zoo.loading import is_source
from zoo.registry import is_registered
from zoo.reranking import is_reranker

from .cached_embeddings import ITSELF
from .recipe import Recipe

_MOST, _LONGEST = 10, 120  # names in a message, and characters of one


def refuse_named(out: Path, named: Sequence[str]) -> None:
    """Raises UntrustedFolderError where a folder that was not made here names what is to be opened; `named` says it in words."""
    if named:
        first = ", ".join(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…" for name in named[:_MOST])
        more = f" and {len(named) - _MOST:,} more" if len(named) > _MOST else ""
        raise UntrustedFolderError(
            f"{out} was not made here, and its files name what to open: {first}{more}. Give these yourself, as in the command "
            f"that began the run, or say --allow-outside to open what it names"
        )


def check_teachers(out: Path, stages: Iterable[Recipe]) -> None:
    """`refuse_named` of the teachers in a folder's recipe; raises UntrustedFolderError."""
    refuse_named(out, [f"--teacher {stage.teacher}" for stage in stages if is_elsewhere(stage.teacher)])


def is_elsewhere(model: str) -> bool:
    """Whether a model's name is a folder's, a repository's or anything else than a registered one."""
    return model not in ("", ITSELF) and not is_registered(model) and not is_reranker(model)


def is_place(name: str) -> bool:
    """Whether `load_model` opens a folder or a library's checkpoint by this name, not a registered model."""
    return is_source(name) or name.startswith(("./", "../", "/", "~"))
