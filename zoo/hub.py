"""Names, folders and repositories → models, and models → folders."""

import importlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import HubError, MissingWeightsError, UnrecognisedCheckpointError, UnsafeCheckpointError
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.embedder import Embedder

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MODEL_TYPE = "zoo"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_KIND = re.compile(r"(encoders\.[a-z0-9_]+|pooling|heads):[A-Z][A-Za-z0-9]*")
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
    return layout.load(
        folder, name=folder.resolve().name, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle
    )


def _open_repository(repo: str, revision: str | None, trust_remote_code: bool, allow_pickle: bool) -> "Embedder":
    if not _REPO.fullmatch(repo):
        raise HubError(f"{repo!r} is no Hub repository; write hf:<org>/<name>[@revision]")
    if trust_remote_code and not _COMMIT.fullmatch(revision or ""):
        raise UnsafeCheckpointError(
            f"trust_remote_code runs Python code of {repo}; pin it with revision=<full 40-digit commit>"
        )
    from zoo.formats import check_weights
    from zoo.formats.transformers import refuse_code

    commit, names = repository_files(repo, revision)

    def read(file: str) -> Any:
        return read_json(Path(download(repo, file, commit)))

    layout = recognise(names, read, f"hf:{repo}")
    wanted = [name for name in layout.wanted(names) if trust_remote_code or not name.endswith(".py")]
    # What would be refused after the download is refused before it.
    weights = [name for name in wanted if name.endswith((".safetensors", ".bin", ".pt", ".pth"))]
    check_weights(weights, f"hf:{repo}", "*.safetensors", allow_pickle)
    if "config.json" in wanted:
        refuse_code(read("config.json"), f"hf:{repo}", trust_remote_code)
    folder = download_files(repo, wanted, commit, revision)
    model = layout.load(folder, name=repo, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle)
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


def read_json(path: Path) -> Any:
    """A JSON file; raises UnrecognisedCheckpointError where it is damaged or absurdly large."""
    try:
        if path.stat().st_size > 50_000_000:
            raise UnrecognisedCheckpointError(f"{path} has {path.stat().st_size:,} bytes; no configuration is so large")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnrecognisedCheckpointError(f"{path} cannot be read as JSON: {error}") from error


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


# ------------------------------------------------------------------------------------------------ our own layout


def save_pretrained(model: "Embedder", folder: Path, dtype: "torch.dtype | None" = None) -> Path:
    """Writes config.json, model.safetensors and the tokenizer's files; `load_model(folder)` reads them.

    Args:
        dtype: floating-point type of the stored weights, e.g. torch.float16; by default as they are.
    """
    from safetensors.torch import save_file

    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        towers = []
        for position, tower in enumerate(model.towers):
            assets = temporary / f"tower{position}"
            assets.mkdir()
            tower.encoder.save_assets(assets)
            files = sorted(assets.iterdir())
            entry = {part: _describe(getattr(tower, part)) for part in ("encoder", "pooler", "head")}
            if files and not any((temporary / file.name).exists() for file in files):
                # The first tokenizer lies in the root, where other libraries look for it.
                for file in files:
                    file.rename(temporary / file.name)
                entry["assets"] = "."
            elif files:
                entry["assets"] = assets.name
            if not any(assets.iterdir()):
                assets.rmdir()
            towers.append(entry)
        weights, seen = {}, {}
        for name, tensor in model.state_dict().items():
            if tensor.data_ptr() in seen and tensor.numel() and tensor.shape == seen[tensor.data_ptr()]:
                tensor = tensor.clone()  # tied weights are stored twice: simple, and every loader reads it
            seen[tensor.data_ptr()] = tensor.shape
            weights[name] = (tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor).contiguous().cpu()
        save_file(weights, temporary / WEIGHTS, metadata={"format": "pt"})
        config = {"model_type": MODEL_TYPE, "format": 1, "spec": model.spec.to_dict(), "towers": towers}
        (temporary / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        _move_into(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _move_into(temporary: Path, folder: Path) -> None:
    """Each file whole or not at all, config.json last: without it the folder is no checkpoint."""
    os.chmod(temporary, 0o755)
    for path in sorted(temporary.rglob("*"), key=lambda p: p.name == CONFIG):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
            target = folder / path.relative_to(temporary)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.chmod(path, 0o644)  # safetensors writes for its owner only
            os.replace(path, target)


def _describe(part: "nn.Module") -> dict[str, Any]:
    kind = f"{type(part).__module__.removeprefix('zoo.')}:{type(part).__name__}"
    if not _KIND.fullmatch(kind):
        raise TypeError(f"{kind} cannot be saved: parts of a model live in zoo.encoders, zoo.pooling or zoo.heads")
    return {"kind": kind, **(part.config() if hasattr(part, "config") else {})}


def _rebuild(entry: dict[str, Any], where: Path, **extra: Any) -> "nn.Module":
    """A part from its description. Only classes of the zoo's own rooms: a configuration cannot name other code."""
    arguments = dict(entry)
    kind = arguments.pop("kind", None)
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise UnrecognisedCheckpointError(f"{where} names the part {kind!r}, which is none of the zoo's")
    module_name, _, class_name = kind.partition(":")
    try:
        module = importlib.import_module(f"zoo.{module_name}")
        cls = getattr(module, class_name)
        if cls.__module__ != module.__name__:
            raise AttributeError(class_name)
        return cls(**arguments, **extra)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UnrecognisedCheckpointError(f"{where}: cannot build {kind}: {error}; is the zoo new enough?") from error


def load_saved(folder: Path) -> "Embedder":
    """A folder of `save_pretrained`.

    Raises:
        UnrecognisedCheckpointError: config.json does not describe a model of the zoo.
        MissingWeightsError: weights are missing, damaged, or of another shape.
    """
    from zoo.embedder import Embedder, Tower

    config = read_json(folder / CONFIG)
    if unknown := set(config) - {"model_type", "format", "spec", "towers", "recipe"}:
        raise UnrecognisedCheckpointError(f"{folder / CONFIG} has unknown keys {sorted(unknown)}")
    if config.get("format") != 1 or not isinstance(config.get("towers"), list):
        raise UnrecognisedCheckpointError(f"{folder / CONFIG} has format {config.get('format')!r}; this zoo reads 1")
    try:
        spec = ModelSpec.from_dict(config["spec"])
    except (KeyError, TypeError, ValueError) as error:
        raise UnrecognisedCheckpointError(f"{folder / CONFIG}: bad spec: {error}") from error
    parts = ("encoder", "pooler", "head")
    towers = []
    for entry in config["towers"]:
        if not isinstance(entry, dict) or not all(isinstance(entry.get(part), dict) for part in parts):
            raise UnrecognisedCheckpointError(f"{folder / CONFIG}: each of its towers must have {', '.join(parts)}")
        assets = entry.get("assets")
        if assets is not None and (
            not isinstance(assets, str) or (assets != "." and not re.fullmatch(r"tower\d", assets))
        ):
            raise UnsafeCheckpointError(f"{folder / CONFIG}: assets {assets!r} lie outside the checkpoint")
        extra = {} if assets is None else {"assets": folder / assets}
        encoder = _rebuild(entry["encoder"], folder / CONFIG, **extra)
        towers.append(Tower(encoder, *(_rebuild(entry[part], folder / CONFIG) for part in ("pooler", "head"))))
    model = Embedder(spec, towers)
    load_weights(model, folder / WEIGHTS)
    return model


def load_weights(model: "nn.Module", path: Path) -> None:
    """All tensors of a safetensors file into a model whose every tensor must be there, with its shape."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise MissingWeightsError(f"{path} does not exist; a model is never loaded with random weights")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise MissingWeightsError(f"{path} is damaged or cut off: {error}") from error
    try:
        missing, unexpected = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise MissingWeightsError(f"{path} does not fit: {str(error).splitlines()[1].strip()}") from error
    if missing or unexpected:
        raise MissingWeightsError(
            f"{path} lacks {len(missing)} tensors {missing[:3]} and has {len(unexpected)} unknown {unexpected[:3]}"
        )
