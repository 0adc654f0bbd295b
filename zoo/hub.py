"""Names, folders and Hub repositories → models: who opens what, and which files of a repository are fetched."""

import contextlib
import importlib
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from zoo import cache
from zoo.errors import (
    HubError,
    MissingWeightsError,
    UnknownModelError,
    UnrecognisedCheckpointError,
    UnsafeCheckpointError,
)
from zoo.formats import check_weights, read_json
from zoo.formats.inside import check_inside
from zoo.formats.settings import NOTHING, Ignore
from zoo.hub_errors import DamagedDownloadError as DamagedDownloadError
from zoo.hub_errors import DiskFullError as DiskFullError
from zoo.hub_errors import HubConflictError as HubConflictError
from zoo.hub_errors import HubUnreachableError as HubUnreachableError
from zoo.hub_errors import NoAccessError as NoAccessError
from zoo.hub_errors import NotOnHubError as NotOnHubError
from zoo.hub_errors import PartlyCachedError as PartlyCachedError
from zoo.hub_errors import hub_call as hub_call
from zoo.spec import ModelSpec
from zoo.strangers.trial import trusting

if TYPE_CHECKING:
    import torch

    from zoo.embedder import Embedder

_COMMIT = re.compile(r"[0-9a-f]{40}")
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
    from zoo.registry import PREFIXES, check_promise, get_spec

    revision: str | None = options["revision"]
    known = get_spec(like) if like is not None else None
    if known is not None and known.reading is None and known.attention is None:
        raise UnknownModelError(
            f"{like} is neither a vision-language model nor a text model whose attention is stated; the files of all others "
            "say themselves how they are read"
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
        with trusting():
            model = open_folder(_PACKAGED / spec.name, ignore=options["ignore"])
    elif not spec.source and not spec.hub_id:
        raise MissingWeightsError(f"{name} has no published weights (it is a test model); use build_model({name!r})")
    else:
        warn_of_license(spec)
        options["revision"] = revision or spec.revision
        with trusting(
            bool(spec.revision) and options["revision"] == spec.revision
        ):  # else its author may have changed it
            model = _open_source(spec.source or f"hf:{spec.hub_id}", like=spec, **options)
    check_promise(spec, model.spec, "its checkpoint")
    # The files of all others say how they are read: a loader of its own, or the registered `reading`, is the same for all.
    if not spec.packaged and spec.reading is None and not spec.source.startswith(("open_clip:", "timm:")):
        _check_parts(model, spec)
    model.spec = replace(spec, revision=revision or model.spec.revision or spec.revision)
    return model


def _check_parts(model: "Embedder", spec: ModelSpec) -> None:
    """Holds a checkpoint to the layout, pooler and head of the registered model, built without memory.

    Raises:
        UnrecognisedCheckpointError: it is read in another way, as where a part of the repository passes for the whole.
    """
    from zoo.formats.sizes import no_memory
    from zoo.registry import build_model

    with no_memory(spec.name):
        built = build_model(spec.name)

    def parts(of: "Embedder") -> list[str]:
        kinds = ([type(part).__name__ for part in (t.encoder, t.pooler, t.head)] for t in of.towers)
        return [" → ".join(names) for names in kinds]

    if parts(model) != parts(built):
        raise UnrecognisedCheckpointError(
            f"{spec.name} should be {' and '.join(parts(built))}; its checkpoint gives {' and '.join(parts(model))}, other "
            f"vectors. Its files at hf:{spec.hub_id} are incomplete or another model's: load the registered revision, or "
            f"hf:{spec.hub_id} as it is"
        )


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

    def read(file: str) -> Any:
        check_inside(folder / file, folder.resolve())
        return read_json(folder / file)

    layout = recognise(names, read, str(folder))
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
    if getattr(layout, "TAKES_ATTENTION", False) and (like is None or like.reading is None):
        known = {"attention": like.attention if like is not None else None}
        if like is not None and getattr(layout, "TAKES_SIMILARITY", False):
            known["similarity"] = like.similarity
        return known
    if like is not None and (like.reading is not None or like.attention is not None):
        raise UnrecognisedCheckpointError(
            f"{where} says itself how it is read ({layout.LOOKED_FOR.partition(':')[0]}); open it without like={like.name!r}"
        )
    return {}


def _with_facts(model: "Embedder", folder: Path, like: ModelSpec | None) -> "Embedder":
    """The model with the facts of zoo.json, which stands beside other libraries' layouts (see `zoo.publishing.exports`)."""
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
            f"{theirs!r} (where it says nothing, that is cosine)"
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

    from zoo.formats.backbones import check_text
    from zoo.formats.transformers import refuse_code
    from zoo.registry import spec_of_repository

    listing = repository_files(repo, revision)
    names, commit = set(listing.names), listing.commit

    def read(file: str) -> Any:
        return read_json(Path(download(repo, file, commit)))

    layout = recognise(names, read, f"hf:{repo}")
    wanted = [name for name in layout.wanted(names) if trust_remote_code or not name.endswith(".py")]
    wanted = sorted({*wanted, FACTS} & names)
    # What would be refused after the download is refused before it.
    weights = [name for name in wanted if name.endswith((".safetensors", ".bin", ".pt", ".pth"))]
    for place in sorted({str(PurePosixPath(name).parent) for name in weights} or {"."}):  # of each module by itself
        files = [name for name in weights if str(PurePosixPath(name).parent) == place]
        check_weights(files, f"hf:{repo}" + (f"/{place}" if place != "." else ""), "*.safetensors", allow_pickle)
    config = read("config.json") if "config.json" in wanted else {}
    chosen, like = like, like or spec_of_repository(repo)
    if chosen is None and like is not None:
        warn_of_license(like)
    if not getattr(layout, "NEEDS_LIKE", False):
        refuse_code(config, f"hf:{repo}", trust_remote_code)
        check_text(config, f"hf:{repo}", ignore, like.attention if like is not None else None)
    elif FACTS not in names:  # those never need the repository's code, but a model that they are read like
        layout.check_backbone(config, like, f"hf:{repo}")
    folder = download_files(listing, wanted)
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
    listing = repository_files(repo, revision)
    return download_files(listing, choose(set(listing.names)))


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


@dataclass(frozen=True)
class Listing:
    """The files of a Hub repository at one commit.

    Attributes:
        repo: org/name. revision: the branch or tag that was asked for, None for the newest commit.
        commit: 40 digits. names: of all its files, not of those in the cache.
        asked: whether the Hub has just said so; else a note in the cache did.
    """

    repo: str
    revision: str | None
    commit: str
    names: frozenset[str]
    asked: bool


def repository_files(repo: str, revision: str | None) -> Listing:
    """Commit and files of a repository; without a network, of the newest cached snapshot, if that is known to be whole.

    Raises:
        HubError: it does not exist, or is neither in reach nor cached; PartlyCachedError where a part of it may be.
        UnsafeCheckpointError: the Hub lists a file outside the repository.
    """
    from huggingface_hub import HfApi, snapshot_download

    what = f"hf:{repo}" + (f"@{revision}" if revision else "")
    try:
        info = hub_call(what, HfApi().model_info, repo, revision=revision)
        commit, names, asked = info.sha, {sibling.rfilename for sibling in info.siblings or []}, True
    except NotOnHubError:
        raise
    except HubError as error:
        options = {"revision": revision, "local_files_only": True, "allow_patterns": []}  # its folder, whole or not
        try:
            folder = Path(hub_call(what, snapshot_download, repo, **options))
        except HubError:
            raise error from error.__cause__
        commit, names, asked = folder.name, _cached_files(repo, folder, error), False
    check_listing(what, names, commit)
    return Listing(repo, revision, commit, frozenset(names), asked)


def check_listing(what: str, names: Iterable[str], commit: str | None) -> None:
    """Raises UnsafeCheckpointError where a listing of the Hub has a file outside the repository, or a commit that is none."""
    outside = sorted(name for name in names if not _inside(name))
    if outside or not _COMMIT.fullmatch(commit or ""):
        raise UnsafeCheckpointError(
            f"{what}: the Hub lists {outside[0]!r}, a file outside the repository; do not load it"
            if outside
            else f"{what}: the Hub names the commit {commit!r}, which is none; check HF_ENDPOINT"
        )


def _cached_files(repo: str, snapshot: Path, error: HubError) -> set[str]:
    """Names of all files of a cached repository, by the notes beside its snapshot, or by what its files say of each other.

    Raises:
        PartlyCachedError: neither says that the snapshot is whole. DamagedDownloadError: files of it were deleted as damaged.
    """
    from zoo.formats.complete import missing

    names = cache.listed(snapshot)
    if names is not None:
        return names
    names = cache.files_in(snapshot)
    if broken := sorted(cache.damaged(snapshot) - names):
        raise DamagedDownloadError(cache.damage(repo, snapshot.name, broken[0])) from error
    if lacking := missing(snapshot, names, cache.absent(snapshot)):
        there = ", ".join(sorted(names)[:6]) or "nothing"
        said = "may have, for another program put them there and nobody listed the repository"
        raise PartlyCachedError(
            f"hf:{repo}: the cache holds {there}; it lacks {', '.join(lacking[:4])}, which the repository has, or {said}. A part of "
            "it would give other vectors: load it once where the Hub is in reach (check the network and HF_HUB_OFFLINE), or "
            f"fetch it whole: hf download {repo}. Now: {error}"
        ) from error
    return names


def _inside(name: str) -> bool:
    parts = re.split(r"[\\/]", name)
    return bool(parts[0]) and ".." not in parts and "\0" not in name and not re.match(r"[A-Za-z]:", name)


def download(repo: str, file: str, revision: str | None) -> str:
    """One file of a repository, in the local cache, once its bytes are known to be those that the Hub promises.

    Raises:
        DamagedDownloadError: they are others; the copy is deleted. Out of reach of the Hub every later call says so too.
        HubError: the file is not to be had.
    """
    from huggingface_hub import hf_hub_download

    what = f"hf:{repo}/{file}"
    try:
        path = hub_call(what, hf_hub_download, repo, file, revision=revision)
    except HubUnreachableError as error:
        if said := cache.damage(repo, revision, file):
            raise DamagedDownloadError(said) from error
        raise
    digest = cache.promised(Path(path), file) or _promised(repo, file, revision)
    if digest:
        hub_call(what, cache.check_digest, what, Path(path), file, digest)
    return path


def _promised(repo: str, file: str, revision: str | None) -> str:
    """The digest in the repository's own list, for a cache without links; "" where the Hub is out of reach."""
    from huggingface_hub import HfApi

    try:
        entries = hub_call(f"hf:{repo}", HfApi().get_paths_info, repo, [file], revision=revision)
    except HubError:
        return ""
    return next((entry.lfs.sha256 if entry.lfs else entry.blob_id for entry in entries if entry.path == file), "")


def download_files(listing: Listing, files: list[str]) -> Path:
    """Some files of a repository; returns the snapshot's folder in the local cache.

    The branch or tag that was asked for, and which files the repository has, are noted there, so that it is found again and
    a part of it is known as such without a network.
    """
    paths = [Path(download(listing.repo, file, listing.commit)) for file in files]
    snapshot = paths[0].parents[len(Path(files[0]).parts) - 1]
    name = listing.revision or "main"
    if not _COMMIT.fullmatch(name) and ".." not in Path(name).parts:
        # Where huggingface_hub's own look-up reads it: <cache>/models--org--name/refs/<revision>.
        with contextlib.suppress(OSError):
            cache.write_whole(snapshot.parents[1] / "refs" / name, listing.commit)
    if listing.asked:
        cache.note_files(snapshot, listing.names)
    return snapshot
