"""The Hub: its client, huggingface_hub's cache on disk, and its errors in our words. Knows bytes and names, no layout of a model."""

from zoo.hub.client import COMMIT, REPO, Listing, Missing, check_listing, download, download_files, repository_files
from zoo.hub.errors import (
    DamagedDownloadError,
    DiskFullError,
    HubConflictError,
    HubUnreachableError,
    NoAccessError,
    NotOnHubError,
    PartlyCachedError,
    hub_call,
)

__all__ = [
    "COMMIT",
    "REPO",
    "DamagedDownloadError",
    "DiskFullError",
    "HubConflictError",
    "HubUnreachableError",
    "Listing",
    "Missing",
    "NoAccessError",
    "NotOnHubError",
    "PartlyCachedError",
    "check_listing",
    "download",
    "download_files",
    "hub_call",
    "repository_files",
]
