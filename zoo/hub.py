"""Names, folders and Hub repositories → models: who opens what, and huggingface_hub's errors in our words."""

import importlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import HubError, MissingWeightsError, UnrecognisedCheckpointError, UnsafeCheckpointError
from zoo.formats import check_weights, read_json
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from zoo.embedder import Embedder

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FACTS = "zoo.json"
_PACKAGED = Path(__file__).parent / "weights"


def open_model(
    name: str | Path, *, revision: str | None = None, trust_remote_code: bool = False, allow_pickle: bool = False
) -> "Embedder":
    """The work behind `zoo.load_model`, which describes the arguments and errors."""
    from zoo.registry import PREFIXES, get_spec

    options = {"revision": revision, "trust_remote_code": trust_remote_code, "allow_pickle": allow_pickle}
    if isinstance(name, Path) or name.startswith(("./", "../", "/", "~")) or name in (".", ".."):
        return open_folder(Path(name).expanduser(), trust_remote_code=trust_remote_code, allow_pickle=allow_pickle)
    if name.startswith(PREFIXES):
        return _open_source(name, **options)
    spec = get_spec(name)
    if spec.packaged:
        model = open_folder(_PACKAGED / spec.name)
    elif not spec.source and not spec.hub_id:
        raise MissingWeightsError(f"{name} has no published weights (it is a test model); use build_model({name!r})")
    else:
        model = _open_source(spec.source or f"hf:{spec.hub_id}", **{**options, "revision": revision or spec.revision})
    if model.spec.dim != spec.dim or not spec.modalities <= model.spec.modalities:
        raise UnrecognisedCheckpointError(
            f"{name} should give {spec.dim} columns for {sorted(spec.modalities)}; its checkpoint gives "
            f"{model.spec.dim} for {sorted(model.spec.modalities)}"
        )
    model.spec = replace(spec, revision=revision or model.spec.revision or spec.revision)
    return model


def _open_source(source: str, *, revision: str | None, trust_remote_code: bool, allow_pickle: bool) -> "Embedder":
    kind, _, rest = source.partition(":")
    if kind == "hf":
        repo, _, pinned = rest.partition("@")
        revision = revision or pinned or None
        return _open_repository(repo, revision, trust_remote_code, allow_pickle)
    module = importlib.import_module(f"zoo.formats.{kind}")
    return module.open_name(rest, revision=revision, allow_pickle=allow_pickle)


def open_folder(folder: Path, *, trust_remote_code: bool = False, allow_pickle: bool = False) -> "Embedder":
    """A model from a local folder, recognised by its own configuration files."""
    if not folder.is_dir():
        what = "is a file; pass the folder that holds it" if folder.exists() else "does not exist"
        raise UnrecognisedCheckpointError(f"{folder} {what}")
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    layout = recognise(names, lambda file: read_json(folder / file), str(folder))
    model = layout.load(
        folder, name=folder.resolve().name, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle
    )
    return _with_facts(model, folder)


def _with_facts(model: "Embedder", folder: Path) -> "Embedder":
    """The model with the facts of zoo.json, which stands beside other libraries' layouts (see `zoo.exports`)."""
    path = folder / FACTS
    if not path.is_file():
        return model
    facts = read_json(path)
    if not isinstance(facts, dict) or set(facts) != {"format", "spec"} or facts["format"] != 1:
        raise UnrecognisedCheckpointError(f'{path} is not {{"format": 1, "spec": {{...}}}}; is the zoo new enough?')
    try:
        spec = ModelSpec.from_dict(facts["spec"])
    except (TypeError, ValueError) as error:
        raise UnrecognisedCheckpointError(f"{path}: bad spec: {error}") from error
    if (spec.dim, spec.modalities) != (model.spec.dim, model.spec.modalities):
        raise UnrecognisedCheckpointError(
            f"{path} promises {spec.dim} columns for {sorted(spec.modalities)}; the files beside it give "
            f"{model.spec.dim} for {sorted(model.spec.modalities)}"
        )
    model.spec = spec
    return model


def _open_repository(repo: str, revision: str | None, trust_remote_code: bool, allow_pickle: bool) -> "Embedder":
    if not _REPO.fullmatch(repo):
        raise HubError(f"{repo!r} is no Hub repository; write hf:<org>/<name>[@revision]")
    if trust_remote_code and not _COMMIT.fullmatch(revision or ""):
        raise UnsafeCheckpointError(
            f"trust_remote_code runs Python code of {repo}; pin it with revision=<full 40-digit commit>"
        )

    from zoo.formats.transformers import refuse_code

    commit, names = repository_files(repo, revision)

    def read(file: str) -> Any:
        return read_json(Path(download(repo, file, commit)))

    layout = recognise(names, read, f"hf:{repo}")
    wanted = [name for name in layout.wanted(names) if trust_remote_code or not name.endswith(".py")]
    wanted = sorted({*wanted, FACTS} & names)
    # What would be refused after the download is refused before it.
    weights = [name for name in wanted if name.endswith((".safetensors", ".bin", ".pt", ".pth"))]
    check_weights(weights, f"hf:{repo}", "*.safetensors", allow_pickle)
    if "config.json" in wanted:
        refuse_code(read("config.json"), f"hf:{repo}", trust_remote_code)
    folder = download_files(repo, wanted, commit, revision)
    model = layout.load(folder, name=repo, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle)
    model = _with_facts(model, folder)
    model.spec = replace(model.spec, hub_id=repo, revision=commit)
    return model


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


def hub_call(what: str, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """A call of huggingface_hub, its errors turned into one HubError with the remedy."""
    from huggingface_hub import errors

    try:
        return call(*args, **options)
    except errors.GatedRepoError as error:
        raise HubError(f"{what}: access is restricted; accept its terms on the Hub and run `hf auth login`") from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(f"{what}: no such repository, or it is private and you are not logged in") from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{what}: no such branch, tag or commit") from error
    except errors.LocalEntryNotFoundError as error:
        raise HubError(
            f"{what}: not in the local cache, and the Hub is out of reach (no network, or offline mode)"
        ) from error
    except errors.EntryNotFoundError as error:
        raise HubError(f"{what}: no such file in the repository") from error
    except errors.HfHubHTTPError as error:
        raise HubError(f"{what}: the Hub answered {str(error).splitlines()[0]}; try again later") from error
    except OSError as error:
        raise HubError(f"{what}: {error}; check the network and the free disk space") from error
    except Exception as error:  # httpx's errors are no OSError, and the client does not wrap them all
        if type(error).__module__.partition(".")[0] not in (
            "httpx",
            "httpx2",
            "httpcore",
            "httpcore2",
            "huggingface_hub",
        ):
            raise
        raise HubError(
            f"{what}: the Hub is out of reach ({type(error).__name__}: {error}); check the network"
        ) from error


def repository_files(repo: str, revision: str | None) -> tuple[str, set[str]]:
    """Full commit and file names of a repository; without a network, of the newest cached snapshot."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import OfflineModeIsEnabled

    what = f"hf:{repo}" + (f"@{revision}" if revision else "")
    try:
        info = hub_call(what, HfApi().model_info, repo, revision=revision)
        return info.sha, {sibling.rfilename for sibling in info.siblings or []}
    except (HubError, OfflineModeIsEnabled) as error:
        if "no such" in str(error) or "restricted" in str(error):
            raise
        try:
            folder = Path(hub_call(what, snapshot_download, repo, revision=revision, local_files_only=True))
        except HubError:
            raise (
                error if isinstance(error, HubError) else HubError(f"{what}: offline mode, and not cached")
            ) from error
        return folder.name, {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def download(repo: str, file: str, revision: str | None) -> str:
    """One file of a repository, in the local cache."""
    from huggingface_hub import hf_hub_download

    return hub_call(f"hf:{repo}/{file}", hf_hub_download, repo, file, revision=revision)


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
        note = snapshot.parents[1] / "refs" / name
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(commit)
    return snapshot
