"""Names, folders and Hub repositories → models: who opens what, and huggingface_hub's errors in our words."""

import contextlib
import errno
import hashlib
import importlib
import json
import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import (
    HubError,
    MissingWeightsError,
    UnknownModelError,
    UnrecognisedCheckpointError,
    UnsafeCheckpointError,
)
from zoo.formats import check_weights, read_json
from zoo.formats.settings import NOTHING, Ignore
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    import torch

    from zoo.embedder import Embedder

_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FACTS = "zoo.json"
_WARNED: set[str] = set()
_PACKAGED = Path(__file__).parent / "weights"


def open_model(
    name: str | Path,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    like: str | None = None,
    dtype: "torch.dtype | None" = None,
    ignore: Sequence[str] = (),
) -> "Embedder":
    """The work behind `zoo.load_model`, which describes the arguments and errors."""
    ignored = Ignore(ignore)
    options = {
        "revision": revision,
        "trust_remote_code": trust_remote_code,
        "allow_pickle": allow_pickle,
        "dtype": dtype,
        "ignore": ignored,
    }
    model = _open(name, like, options)
    ignored.say_unmet()
    return model


def _open(name: str | Path, like: str | None, options: dict[str, Any]) -> "Embedder":
    from zoo.registry import PREFIXES, get_spec

    revision: str | None = options["revision"]
    known = get_spec(like) if like is not None else None
    if known is not None and known.reading is None:
        raise UnknownModelError(
            f"{like} is no vision-language model; the files of all others say themselves how they are read"
        )
    if isinstance(name, Path) or name.startswith(("./", "../", "/", "~")) or name in (".", ".."):
        del options["revision"]
        return open_folder(Path(name).expanduser(), like=known, **options)
    if name.startswith(PREFIXES):
        if known is not None and not name.startswith("hf:"):
            raise UnknownModelError(f"{name} is read its own way; `like` is for folders and hf: repositories")
        return _open_source(name, like=known, **options)
    if known is not None:
        raise UnknownModelError(f"{name} is registered and is read its own way; `like` is for folders and repositories")
    spec = get_spec(name)
    if spec.packaged:
        model = open_folder(_PACKAGED / spec.name, ignore=options["ignore"])
    elif not spec.source and not spec.hub_id:
        raise MissingWeightsError(f"{name} has no published weights (it is a test model); use build_model({name!r})")
    else:
        warn_of_license(spec)
        options["revision"] = revision or spec.revision
        model = _open_source(spec.source or f"hf:{spec.hub_id}", like=spec, **options)
    if model.spec.dim != spec.dim or not spec.modalities <= model.spec.modalities:
        raise UnrecognisedCheckpointError(
            f"{name} should give {spec.dim} columns for {sorted(spec.modalities)}; its checkpoint gives "
            f"{model.spec.dim} for {sorted(model.spec.modalities)}"
        )
    model.spec = replace(spec, revision=revision or model.spec.revision or spec.revision)
    return model


def warn_of_license(spec: ModelSpec) -> None:
    """Says once for each model that its weights may not be used commercially."""
    if spec.non_commercial and spec.name not in _WARNED:
        _WARNED.add(spec.name)
        warnings.warn(f"the weights of {spec.name} are for non-commercial use ({spec.license})", stacklevel=5)


def _open_source(
    source: str,
    *,
    revision: str | None,
    trust_remote_code: bool,
    allow_pickle: bool,
    like: ModelSpec | None = None,
    dtype: "torch.dtype | None" = None,
    ignore: Ignore = NOTHING,
) -> "Embedder":
    kind, _, rest = source.partition(":")
    if kind == "hf":
        repo, _, pinned = rest.partition("@")
        revision = revision or pinned or None
        return _open_repository(repo, revision, trust_remote_code, allow_pickle, like, dtype, ignore)
    module = importlib.import_module(f"zoo.formats.{kind}")
    return module.open_name(rest, revision=revision, allow_pickle=allow_pickle, ignore=ignore)


def open_folder(
    folder: Path,
    *,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    like: ModelSpec | None = None,
    dtype: "torch.dtype | None" = None,
    ignore: Ignore = NOTHING,
) -> "Embedder":
    """A model from a local folder, recognised by its own configuration files."""
    if not folder.is_dir():
        what = "is a file; pass the folder that holds it" if folder.exists() else "does not exist"
        raise UnrecognisedCheckpointError(f"{folder} {what}")
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    layout = recognise(names, lambda file: read_json(folder / file), str(folder))
    options = {"trust_remote_code": trust_remote_code, "allow_pickle": allow_pickle, "ignore": ignore}
    options |= _like(layout, like, str(folder), local=True, dtype=dtype)
    return _with_facts(layout.load(folder, name=folder.resolve().name, **options), folder, like)


def _like(
    layout: Any, like: ModelSpec | None, where: str, *, local: bool, dtype: "torch.dtype | None"
) -> dict[str, Any]:
    """The registered model that a checkpoint is read like, for the layouts whose files do not say it, which also heed a dtype.

    Args:
        local: whether it is the user's own folder, which may name others on this machine.
    """
    if getattr(layout, "NEEDS_LIKE", False):
        return {"like": like, "local": local, "dtype": dtype}
    if like is not None and like.reading is not None:
        raise UnrecognisedCheckpointError(
            f"{where} says itself how it is read ({layout.LOOKED_FOR.partition(':')[0]}); open it without like={like.name!r}"
        )
    return {}


def _with_facts(model: "Embedder", folder: Path, like: ModelSpec | None) -> "Embedder":
    """The model with the facts of zoo.json, which stands beside other libraries' layouts (see `zoo.exports`)."""
    path = folder / FACTS
    if not path.is_file() or (
        like is not None and like.reading is not None
    ):  # read like another, it has that one's facts
        return model
    spec = ModelSpec.from_dict(read_json(path)["spec"])  # its layout held the file to the schema (formats/schema.py)
    if (spec.dim, spec.modalities) != (model.spec.dim, model.spec.modalities):
        raise UnrecognisedCheckpointError(
            f"{path} promises {spec.dim} columns for {sorted(spec.modalities)}; the files beside it give "
            f"{model.spec.dim} for {sorted(model.spec.modalities)}"
        )
    _check_similarity(model, spec, folder, str(path))
    model.spec = spec
    return model


def _check_similarity(model: "Embedder", spec: ModelSpec, folder: Path, where: str) -> None:
    """Raises where a checkpoint itself says that its vectors are compared otherwise than in `spec`.

    Only sentence-transformers' files say it; of all others what is known beside them decides.
    """
    theirs = model.spec.similarity
    if theirs != spec.similarity and (theirs == "dot" or (folder / "modules.json").is_file()):
        raise UnrecognisedCheckpointError(
            f"{where} has the similarity {spec.similarity!r}; the checkpoint's config_sentence_transformers.json says "
            f"{theirs!r} (cosine is what it means where it says nothing)"
        )


def _open_repository(
    repo: str,
    revision: str | None,
    trust_remote_code: bool,
    allow_pickle: bool,
    like: ModelSpec | None,
    dtype: "torch.dtype | None",
    ignore: Ignore,
) -> "Embedder":
    if not _REPO.fullmatch(repo):
        raise HubError(f"{repo!r} is no Hub repository; write hf:<org>/<name>[@revision]")
    if trust_remote_code and not _COMMIT.fullmatch(revision or ""):
        raise UnsafeCheckpointError(
            f"trust_remote_code runs Python code of {repo}; pin it with revision=<full 40-digit commit>"
        )

    from zoo.formats.transformers import refuse_code
    from zoo.registry import spec_of_repository

    commit, names = repository_files(repo, revision)

    def read(file: str) -> Any:
        return read_json(Path(download(repo, file, commit)))

    layout = recognise(names, read, f"hf:{repo}")
    wanted = [name for name in layout.wanted(names) if trust_remote_code or not name.endswith(".py")]
    wanted = sorted({*wanted, FACTS} & names)
    # What would be refused after the download is refused before it.
    weights = [name for name in wanted if name.endswith((".safetensors", ".bin", ".pt", ".pth"))]
    check_weights(weights, f"hf:{repo}", "*.safetensors", allow_pickle)
    config = read("config.json") if "config.json" in wanted else {}
    chosen, like = like, like or spec_of_repository(repo)
    if chosen is None and like is not None:
        warn_of_license(like)
    if not getattr(layout, "NEEDS_LIKE", False):
        refuse_code(config, f"hf:{repo}", trust_remote_code)
    elif FACTS not in names:  # those never need the repository's code, but a model that they are read like
        layout.check_backbone(config, like, f"hf:{repo}")
    folder = download_files(repo, wanted, commit, revision)
    options = {"trust_remote_code": trust_remote_code, "allow_pickle": allow_pickle, "ignore": ignore}
    options |= _like(layout, like, f"hf:{repo}", local=False, dtype=dtype)
    model = _with_facts(layout.load(folder, name=repo, **options), folder, chosen)
    if chosen is not None:
        _check_similarity(model, chosen, folder, f"the registered {chosen.name}")
    model.spec = replace(model.spec, hub_id=repo, revision=commit)
    return model


def snapshot(repo: str, revision: str | None, choose: Callable[[set[str]], list[str]]) -> Path:
    """The folder of some files of another repository, such as an adapter's base.

    Args:
        choose: from the names of all its files those that are wanted.
    """
    if not _REPO.fullmatch(repo):
        raise HubError(
            f"{repo!r} is neither a folder here nor a Hub repository; where it is a folder of the author's machine, write its "
            "place into base_model_name_or_path"
        )
    commit, names = repository_files(repo, revision)
    return download_files(repo, choose(names), commit, revision)


def recognise(names: set[str], read: Callable[[str], dict[str, Any]], where: str) -> Any:
    """The module of `zoo.formats` that reads a checkpoint with these file names.

    Raises:
        UnrecognisedCheckpointError: none does; the message lists the files that were looked for.
    """
    from zoo import formats

    layouts = formats.all_layouts()
    for layout in layouts:
        if layout.recognises(names, read):
            return layout
    looked_for = "\n".join(f"  {layout.LOOKED_FOR}" for layout in layouts)
    raise UnrecognisedCheckpointError(
        f"{where} holds no checkpoint layout that the zoo reads. Looked for:\n{looked_for}\n"
        f"Found: {', '.join(sorted(names)[:12]) or 'nothing'}"
    )


# ------------------------------------------------------------------------------------------------ the Hub's client


class NotOnHubError(HubError):
    """No such repository, revision or file; a private repository looks the same to who may not see it."""


class NoAccessError(HubError):
    """The token is missing, wrong or too weak, or terms of use were not accepted."""


class HubUnreachableError(HubError):
    """No network, or a Hub that answers with errors or is too busy: the same call may succeed later."""


class HubConflictError(HubError):
    """The repository exists already, or somebody else has changed it in the meantime."""


class DamagedDownloadError(HubError):
    """Bytes that are not those that the Hub promises; they are never loaded, nor kept."""


class DiskFullError(HubError):
    """There is no room for a download."""


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
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFullError(f"{what}: the disk is full ({error}); free some space, or set HF_HOME to a larger disk")
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return HubError(f"{what}: {error}; set HF_HOME to a folder that you may write to")
    if "Consistency check failed" in str(error):
        return DamagedDownloadError(f"{what}: {str(error).splitlines()[0]}; nothing was kept, call again")
    return HubUnreachableError(f"{what}: {error}; check the network and call again")


def repository_files(repo: str, revision: str | None) -> tuple[str, set[str]]:
    """Full commit and file names of a repository; without a network, of the newest cached snapshot.

    Raises:
        HubError: it does not exist, or is neither in reach nor cached.
        UnsafeCheckpointError: the Hub lists a file outside the repository.
    """
    from huggingface_hub import HfApi, snapshot_download

    what = f"hf:{repo}" + (f"@{revision}" if revision else "")
    try:
        info = hub_call(what, HfApi().model_info, repo, revision=revision)
        commit, names = info.sha, {sibling.rfilename for sibling in info.siblings or []}
    except NotOnHubError:
        raise
    except HubError as error:
        try:
            folder = Path(hub_call(what, snapshot_download, repo, revision=revision, local_files_only=True))
        except HubError:
            raise error from error.__cause__
        commit, names = folder.name, {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    outside = sorted(name for name in names if not _inside(name))
    if outside or not _COMMIT.fullmatch(commit or ""):
        raise UnsafeCheckpointError(
            f"{what}: the Hub lists {outside[0]!r}, a file outside the repository; do not load it"
            if outside
            else f"{what}: the Hub names the commit {commit!r}, which is none; check HF_ENDPOINT"
        )
    return commit, names


def _inside(name: str) -> bool:
    parts = re.split(r"[\\/]", name)
    return bool(parts[0]) and ".." not in parts and "\0" not in name and not re.match(r"[A-Za-z]:", name)


def download(repo: str, file: str, revision: str | None) -> str:
    """One file of a repository, in the local cache, once its bytes are known to be those that the Hub promises.

    Raises:
        DamagedDownloadError: they are others; the copy is deleted.
        HubError: the file is not to be had.
    """
    from huggingface_hub import hf_hub_download

    what = f"hf:{repo}/{file}"
    path = hub_call(what, hf_hub_download, repo, file, revision=revision)
    hub_call(what, _check_digest, what, Path(path), repo, file, revision)
    return path


def _check_digest(what: str, path: Path, repo: str, file: str, revision: str | None) -> None:
    """The client compares lengths only. Large files are read once; a note beside the cached blobs says so."""
    # In the cache a file is a link to a blob that is named by its ETag: sha256 of a large file, else git's sha1.
    promised = Path(os.readlink(path)).name if path.is_symlink() else ""
    if not _DIGEST.fullmatch(promised):
        promised = _promised(repo, file, revision)
    if not promised:
        return
    facts = path.stat()
    cache = next((folder for folder in path.parents if folder.name == "snapshots"), path).parent
    note, seen = cache / ".zoo-checked" / promised, f"{facts.st_size} {facts.st_mtime_ns}"
    large = facts.st_size >= 1 << 20
    if large and note.is_file() and note.read_text(encoding="utf-8") == seen:
        return
    found = _digest(path, promised)
    if found != promised:
        blob = path.parent / os.readlink(path) if path.is_symlink() else path
        for wrong in (path.resolve(), blob, path):  # a blob may itself be a link, into a store shared by repositories
            wrong.unlink(missing_ok=True)
        raise DamagedDownloadError(
            f"{what}: its bytes have the digest {found}, the Hub promises {promised}; the copy is deleted, call again. "
            "If it happens again, a proxy, the disk or the repository is at fault"
        )
    if large:
        with contextlib.suppress(OSError):  # a cache that may only be read: checked again next time
            _write_whole(note, seen)


def _digest(path: Path, like: str) -> str:
    """sha256 of a file, or git's sha1 where `like` has 40 digits."""
    with path.open("rb") as content:
        if len(like) == 64:
            return hashlib.file_digest(content, "sha256").hexdigest()
        state = hashlib.sha1(b"blob %d\0" % path.stat().st_size)
        while piece := content.read(1 << 20):
            state.update(piece)
        return state.hexdigest()


def _promised(repo: str, file: str, revision: str | None) -> str:
    """The digest in the repository's own list, for a cache without links; "" where the Hub is out of reach."""
    from huggingface_hub import HfApi

    try:
        entries = hub_call(f"hf:{repo}", HfApi().get_paths_info, repo, [file], revision=revision)
    except HubError:
        return ""
    return next((entry.lfs.sha256 if entry.lfs else entry.blob_id for entry in entries if entry.path == file), "")


def download_files(repo: str, files: list[str], commit: str, revision: str | None = None) -> Path:
    """Some files of one commit; returns the snapshot's folder in the local cache.

    Args:
        revision: the branch or tag that was asked for; noted, so that it is found again without a network.
    """
    paths = [Path(download(repo, file, commit)) for file in files]
    snapshot = paths[0].parents[len(Path(files[0]).parts) - 1]
    name = revision or "main"
    if not _COMMIT.fullmatch(name) and ".." not in Path(name).parts:
        # Where huggingface_hub's own look-up reads it: <cache>/models--org--name/refs/<revision>.
        with contextlib.suppress(OSError):
            _write_whole(snapshot.parents[1] / "refs" / name, commit)
    return snapshot


def _write_whole(path: Path, text: str) -> None:
    """A small file, whole or not at all: others may read it at this moment, or the disk be full."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
