"""Files of Hub repositories for the layouts: of a cached part of one they know what it lacks."""

from collections.abc import Callable
from pathlib import Path

from zoo import hub
from zoo.errors import HubError


def repository_files(repo: str, revision: str | None) -> hub.Listing:
    """`zoo.hub.repository_files`; of a snapshot that nobody listed the layouts say whether it is whole."""
    return hub.repository_files(repo, revision, _missing)


def _missing(snapshot: Path, names: set[str], absent: set[str]) -> list[str]:
    from zoo.formats.complete import missing  # which loads torch, and is asked only where the Hub is out of reach

    return missing(snapshot, names, absent)


def snapshot(repo: str, revision: str | None, choose: Callable[[set[str]], list[str]]) -> Path:
    """The folder of some files of another repository, such as an adapter's base.

    Args:
        choose: from the names of all its files those that are wanted.
    """
    if not hub.REPO.fullmatch(repo):
        raise HubError(
            f"{repo!r} is neither a folder here nor a Hub repository; where it is a folder of the author's machine, write its "
            "place into base_model_name_or_path"
        )
    listing = repository_files(repo, revision)
    return hub.download_files(listing, choose(set(listing.names)))
