"""huggingface_hub's errors in our words: each with its reason, and with what to do."""

import errno
import json
from collections.abc import Callable
from typing import Any

from zoo.errors import (
    DamagedDownloadError,
    HubConflictError,
    HubDiskFullError,
    HubError,
    HubUnreachableError,
    NoAccessError,
    NotOnHubError,
)
from zoo.files import is_full


def hub_call(what: str, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """A call of huggingface_hub, its errors turned into a HubError with the remedy.

    Args:
        what: the beginning of the message: the repository or file that it is about.
    """
    try:
        return call(*args, **options)
    except Exception as error:
        named = _named(what, error)
        if named is None:
            raise
        raise named from error


def _named(what: str, error: BaseException) -> HubError | None:
    """The zoo's name for an error of huggingface_hub, of its HTTP client, or of the disk; None for any other."""
    from huggingface_hub import errors

    cause = error.__cause__
    if isinstance(error, errors.HfHubHTTPError):
        return _answered(what, error)
    if isinstance(error, errors.LocalEntryNotFoundError):
        if isinstance(cause, (errors.HfHubHTTPError, errors.FileMetadataError)):
            return _named(what, cause)
        said = "not in the local cache, and the Hub is out of reach (no network, or offline mode)"
        return HubUnreachableError(f"{what}: {said}; check the network and HF_HUB_OFFLINE")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubUnreachableError(f"{what}: the Hub is out of reach in offline mode; unset HF_HUB_OFFLINE")
    if isinstance(error, errors.LocalTokenNotFoundError):
        return NoAccessError(f"{what}: this needs a token of yours; run `hf auth login`, or set HF_TOKEN")
    if isinstance(error, errors.FileMetadataError):
        return HubError(f"{what}: what answered is no Hub; check HF_ENDPOINT and the proxy: {error}")
    if isinstance(error, errors.HFValidationError):
        return HubError(f"{what}: {str(error).splitlines()[0]}; write <org>/<name>")
    if isinstance(error, RuntimeError) and cause is not None and str(error).startswith("Error while uploading"):
        return _named(f"{what}: {error}", cause)
    if isinstance(error, json.JSONDecodeError):
        return HubError(
            f"{what}: what answered is no Hub (a login page of the network?); check HF_ENDPOINT and the proxy"
        )
    if isinstance(error, OSError):
        return _disk(what, error)
    # httpx's errors are no OSError, and the client does not wrap them all.
    if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2", "huggingface_hub"):
        said = f"the Hub is out of reach ({type(error).__name__}: {error})"
        return HubUnreachableError(f"{what}: {said}; check the network and call again")
    return None


def _answered(what: str, error: Any) -> HubError:
    """An HTTP status that the Hub answered with."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return NoAccessError(f"{what}: access is restricted; accept its terms on the Hub and run `hf auth login`")
    if isinstance(error, errors.RepositoryNotFoundError):
        return NotOnHubError(
            f"{what}: no such repository, or it is private and you are not logged in; check the spelling, or run "
            "`hf auth login`"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return NotOnHubError(f"{what}: no such branch, tag or commit; look at the repository's history on the Hub")
    if isinstance(error, errors.EntryNotFoundError):
        return NotOnHubError(f"{what}: no such file in the repository; look at its list of files on the Hub")
    status = error.response.status_code
    said = error.response.headers.get("X-Error-Message") or error.server_message or ""
    said = f"the Hub answered {status}" + (f" ({' '.join(said.split())[:300]})" if said else "")
    if status == 401:
        remedy = "the token is missing, wrong or expired; run `hf auth login`, or set HF_TOKEN"
        return NoAccessError(f"{what}: {said}; {remedy}")
    if status == 403:
        remedy = "use a token of the role `write` (`hf auth login`), of somebody who may write there"
        return NoAccessError(f"{what}: {said}; {remedy}")
    if status in (409, 412):
        return HubConflictError(f"{what}: {said}; see what is there now, then call again")
    if status == 429:
        seconds = error.response.headers.get("Retry-After")
        wait = f"wait {seconds} seconds" if seconds else "wait a few minutes"
        return HubUnreachableError(
            f"{what}: {said}, too many requests; {wait} and call again (fewer limits with a token)"
        )
    if status >= 500 or status == 408:
        return HubUnreachableError(f"{what}: {said}; try again later")
    return HubError(f"{what}: {said}; correct what it names, then call again")


def _disk(what: str, error: OSError) -> HubError:
    """An error of the operating system, from the disk or from a connection."""
    if is_full(error):
        return HubDiskFullError(f"{what}: the disk is full ({error}); free some space, or set HF_HOME to a larger disk")
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return HubError(f"{what}: {error}; set HF_HOME to a folder that you may write to")
    if "Consistency check failed" in str(error):
        return DamagedDownloadError(f"{what}: {str(error).splitlines()[0]}; nothing was kept, call again")
    return HubUnreachableError(f"{what}: {error}; check the network and call again")
