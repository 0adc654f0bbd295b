"""A staged folder → the Hub, in one commit, and its bytes compared; who may write where."""

import hashlib
import tempfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.arguments import checked, flag, model_or_path, text
from zoo.errors import HubError, NameTakenError, NoAccessError, NotOnHubError, NotPublishableError
from zoo.hub import hub_call
from zoo.publishing.paths import files_inside
from zoo.publishing.staging import check_repo, stage
from zoo.reranking.registry import reranker_meant

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from zoo.embedder import Embedder

# Files that only an earlier publication writes, and that a new one may no longer have; everybody else's stay.
OURS = ["model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json", "tower[0-9]/*", "zoo.json"]
OURS += ["configuration_zoo.py", "modeling_zoo.py", "zoo_module.py", "modules.json", "[0-9]_Pooling/*", "[0-9]_Dense/*"]
OURS += ["[0-9]_Normalize/*", "[0-9]_LayerNorm/*", "config_sentence_transformers.json", "sentence_bert_config.json"]
OURS += ["open_clip_config.json", "open_clip_model.safetensors", ".eval_results/*"]
MESSAGE = "Published by the Embedding Zoo"


@dataclass(frozen=True)
class Published:
    """What the Hub holds now: an address, the full commit, and whether the upload changed anything."""

    url: str
    commit: str
    changed: bool


@checked(source=model_or_path, repo=text, private=flag, update=flag, message=text)
def publish(
    source: "Embedder | str | Path",
    repo: str,
    *,
    private: bool = False,
    update: bool = False,
    message: str = MESSAGE,
    **options: Any,
) -> Published:
    """Stages a model and uploads it: `stage` and `upload`, which describe the options and errors, in one call.

    A reranker is staged by `zoo.publishing.rerankers.stage_reranker`, which describes its own.
    """
    check_repo(repo)
    reranker = reranker_meant(source)
    if reranker and (other := sorted(set(options) - {"license", "ignore", "say"})):
        raise NotPublishableError(f"{other[0]} is of embedders, and {reranker} is a reranker; leave it out")
    who(repo)
    check_free(repo, update=update)
    with tempfile.TemporaryDirectory(prefix="zoo-publish-") as room:
        folder = Path(room) / "model"
        if reranker:
            from zoo.publishing.rerankers import stage_reranker

            stage_reranker(source, repo, folder, **options)
        else:
            stage(source, repo, folder, **options)
        return upload(folder, repo, private=private, update=update, message=message)


def check_free(repo: str, *, update: bool, kind: Literal["model", "space"] = "model") -> bool:
    """Whether a repository of that name exists.

    Raises:
        NameTakenError: it holds something, and `update` is False.
    """
    from huggingface_hub import HfApi

    where = f"{'spaces/' if kind == 'space' else ''}{repo}"
    there = _head(HfApi(), repo, kind)
    if there is not None and there[1] - {".gitattributes", "README.md"} and not update:
        raise NameTakenError(
            f"{where} exists and holds {len(there[1])} files; choose another name, or pass --update to put a new commit "
            "on top of it"
        )
    return there is not None


def who(repo: str) -> str:
    """The name that the token belongs to, once it is sure that it may write to `repo`.

    Raises:
        NoAccessError: no token, a wrong one, one that may only read, or an organisation that it does not belong to.
    """
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise NoAccessError(
            f"{repo}: publishing needs a token of yours; run `hf auth login` with one that may write, or set HF_TOKEN"
        )
    me = hub_call(f"{repo}: your token", HfApi().whoami)
    owners = [me["name"], *(org["name"] for org in me.get("orgs") or [] if org.get("roleInOrg") != "read")]
    if me.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise NoAccessError(f"{repo}: your token may only read; make one with the role `write` and run `hf auth login`")
    if repo.partition("/")[0] not in owners:
        raise NoAccessError(
            f"{repo}: you are {me['name']} and may write to {', '.join(owners)}; publish to one of those"
        )
    return me["name"]


def upload(
    folder: Path,
    repo: str,
    *,
    kind: Literal["model", "space"] = "model",
    private: bool = False,
    update: bool = False,
    message: str = MESSAGE,
) -> Published:
    """Sends a staged folder in one commit; a second call after an interruption sends only what is missing.

    Args:
        update: put a new commit on top of a repository that already holds something.

    Raises:
        NameTakenError: the repository holds something, and `update` is False.
        HubConflictError: somebody else has changed the repository while this ran.
        HubError: the Hub is out of reach, refuses, or holds other bytes than were sent.
        UnsafeCheckpointError: a link leads out of the folder; nothing is sent then.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api, where = HfApi(), f"{'spaces/' if kind == 'space' else ''}{repo}"
    sent = files_inside(folder)
    check_free(repo, update=update, kind=kind)
    space = {"space_sdk": "gradio"} if kind == "space" else {}
    hub_call(where, api.create_repo, repo, repo_type=kind, private=private, exist_ok=True, **space)
    before = _head(api, repo, kind)
    operations: list[Any] = [CommitOperationAdd(name, path) for name, path in sent.items()]
    stale = [n for n in before[1] if n not in sent and any(fnmatch(n, p) for p in OURS)] if kind == "model" else []
    operations += [CommitOperationDelete(name) for name in sorted(stale)]
    # Not upload_folder: where hf_xet is installed it makes several commits, and whoever loads in between gets a half model.
    info = hub_call(
        where,
        api.create_commit,
        repo,
        operations,
        repo_type=kind,
        commit_message=message,
        parent_commit=before[0],
    )
    _compare(api, folder, repo, kind, info.oid)
    return Published(str(info.repo_url), info.oid, before[0] != info.oid)


def _head(api: "HfApi", repo: str, kind: str) -> tuple[str, set[str]] | None:
    """Commit and files of a repository; None where there is none."""
    try:
        info = hub_call(repo, api.repo_info, repo, repo_type=kind)
    except NotOnHubError:
        return None
    return info.sha, {sibling.rfilename for sibling in info.siblings or []}


def _compare(api: "HfApi", folder: Path, repo: str, kind: str, commit: str) -> None:
    """Every staged file lies on the Hub with the bytes that it has here."""
    sent = files_inside(folder)
    there = {
        entry.path: entry
        for entry in hub_call(repo, api.get_paths_info, repo, list(sent), repo_type=kind, revision=commit)
    }
    wrong = [name for name, path in sent.items() if not _same(path, there.get(name))]
    if wrong:
        raise HubError(f"{repo}@{commit} holds other bytes than were sent of {', '.join(wrong[:5])}; publish again")


def _same(path: Path, entry: Any) -> bool:
    if entry is None or entry.size != path.stat().st_size:
        return False
    if entry.lfs is not None:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == entry.lfs.sha256
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == entry.blob_id
