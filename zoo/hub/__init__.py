"""The Hub: its client, huggingface_hub's cache on disk, and its errors in our words. Knows bytes and names, no layout of a model."""

from zoo.hub.calls import hub_call
from zoo.hub.client import COMMIT, REPO, Listing, Missing, check_listing, download, download_files, repository_files

__all__ = [
    "COMMIT",
    "REPO",
    "Listing",
    "Missing",
    "check_listing",
    "download",
    "download_files",
    "hub_call",
    "repository_files",
]
