"""A model → one Hub repository that every loader reads, with its card, its figures and a certificate."""

import errno
import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.arguments import checked, flag, model_or_path, optional, path, text
from zoo.errors import (
    HubDiskFullError,
    HubError,
    NameTakenError,
    NoAccessError,
    NotOnHubError,
    NotPublishableError,
)
from zoo.formats.inside import check_inside, read_inside
from zoo.hub import hub_call
from zoo.spec import NAME, ModelSpec
from zoo.strangers.schema import parse

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from zoo.embedder import Embedder

REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
# Files that only an earlier publication writes, and that a new one may no longer have; everybody else's stay.
OURS = ["model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json", "tower[0-9]/*", "zoo.json"]
OURS += ["configuration_zoo.py", "modeling_zoo.py", "zoo_module.py", "modules.json", "[0-9]_Pooling/*", "[0-9]_Dense/*"]
OURS += ["[0-9]_Normalize/*", "[0-9]_LayerNorm/*", "config_sentence_transformers.json", "sentence_bert_config.json"]
OURS += ["open_clip_config.json", "open_clip_model.safetensors", ".eval_results/*"]
_DEEPEST = 64  # of facts about a run's data
MESSAGE = "Published by the Embedding Zoo"
# A path that begins a word: neither the slashes of an address nor those of hf:org/name.
_PATH = re.compile(r"(?<![^\s\"'=,(\[])(?:~|\.{1,2})?/[^\s\"']*/(?=[^\s\"'/])")


@dataclass(frozen=True)
class Staged:
    """A folder that is ready to be uploaded.

    Attributes:
        loaders: what opens it ("zoo", "transformers", ...) → "", or the reason why it does not.
    """

    folder: Path
    repo: str
    spec: ModelSpec
    loaders: dict[str, str]

    @property
    def files(self) -> dict[str, int]:
        """Path inside the repository → bytes."""
        return {name: path.stat().st_size for name, path in _walk(self.folder).items()}


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
    """Stages a model and uploads it: `stage` and `upload`, which describe the options and errors, in one call."""
    check_repo(repo)
    who(repo)
    check_free(repo, update=update)
    with tempfile.TemporaryDirectory(prefix="zoo-publish-") as room:
        staged = stage(source, repo, Path(room) / "model", **options)
        return upload(staged.folder, repo, private=private, update=update, message=message)


@checked(source=model_or_path, repo=text, folder=path, space=optional(text), license=optional(text), check=flag)
def stage(
    source: "Embedder | str | Path",
    repo: str,
    folder: Path,
    *,
    space: str | None = None,
    license: str | None = None,
    check: bool = True,
    ignore: Sequence[str] = (),
    say: Callable[[str], None] = lambda message: None,
) -> Staged:
    """Writes everything that a repository gets, and tries it: no network is needed.

    Args:
        source: a model, or whatever `load_model` opens: a run's folder, a registered name, ...
        repo: "org/name"; the model's name becomes the second half.
        folder: new or empty. space: the repository of its demo, named in the card.
        license: where it differs from the base model's.
        check: every loader must give the certificate's vectors; False leaves that to `zoo verify`.
        ignore: as in `load_model`. say: is told what is being done.

    Raises:
        NotPublishableError: a loader gives other vectors, or the card breaks the Hub's rules.
        HubDiskFullError: there is no room for the staged files.
        ZooError: the source cannot be opened.
    """
    name = check_repo(repo)
    if folder.exists() and any(folder.iterdir()):
        raise NotPublishableError(f"{folder} is not empty; stage into a new folder")
    from safetensors import SafetensorError

    try:
        return _stage(source, repo, name, folder, space=space, license=license, check=check, ignore=ignore, say=say)
    except (OSError, SafetensorError) as error:
        full = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        if getattr(error, "errno", None) not in full and not any(f"(os error {code})" in str(error) for code in full):
            raise
        raise HubDiskFullError(
            f"the disk is full ({error}); set TMPDIR to a larger one, or stage with --keep FOLDER there"
        ) from error


def _stage(source: "Embedder | str | Path", repo: str, name: str, folder: Path, **options: Any) -> Staged:
    from zoo.evaluation.results import FILE, write_results
    from zoo.loading import load_model
    from zoo.publishing import cards, certificate, exports

    say = options["say"]
    model = _renamed(source, repo, name, options["license"], say, options["ignore"])

    say("writing the files of every loader")
    exported = exports.export(model, folder)
    say("certificate: the vectors of the golden inputs")
    # The vectors of the model as it came, the preprocessing as the folder says it: what departs between them shows.
    golden, reopened = certificate.make(model), load_model(folder, device="cpu")
    replace(golden, preprocessing=reopened.fingerprint()["preprocessing"]).save(folder)
    run = Path(source).expanduser() if _is_folder(source) else None
    for file in ("recipe.json", "data.json"):
        if run is not None and (content := read_inside(run, file)) is not None:
            facts = without_paths(parse(content, run / file, NotPublishableError, deepest=_DEEPEST))
            (folder / file).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    results = cards.measured(source)
    if results:
        write_results(folder / FILE, results)
        for path, text in cards.eval_results(results, repo).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    card = cards.published_card(
        model.spec,
        repo=repo,
        results=results,
        notes=cards.notes_of(source),
        loaders=exported.loaders,
        space=options["space"],
        certificate=certificate.FILE,
        folder=folder,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    if wrong := cards.check(card):
        raise NotPublishableError("the card breaks the Hub's rules: " + "; ".join(wrong))
    if options["check"]:
        say("every loader against the certificate")
        report = certificate.verify(folder, dtypes=("float32",), batch_sizes=(1, 32))
        if not report.passed:
            raise NotPublishableError(f"not every loader gives the model's vectors: {report.reason}")
    return Staged(folder, repo, model.spec, exported.loaders)


def _renamed(
    source: "Embedder | str | Path",
    repo: str,
    name: str,
    license: str | None,
    say: Callable[[str], None],
    ignore: Sequence[str] = (),
) -> "Embedder":
    """The model under its new name; the one that was handed over keeps its own."""
    from zoo.embedder import Embedder
    from zoo.loading import load_model

    if not isinstance(source, Embedder):
        say(f"loading {source}")
        source = load_model(source, device="cpu", ignore=ignore)
    old = source.spec
    base = old.base or old.hub_id or (old.name if old.name != name else None)
    spec = replace(
        old,
        name=name,
        hub_id=repo,
        revision=None,
        source="",
        packaged=False,
        base=base,
        license=license or old.license,
    )
    model = Embedder(spec, list(source.towers), source.fusion).eval()
    model.logit_scale, model.calibration = source.logit_scale, dict(source.calibration)
    return model


def stage_timm(source: "Embedder | str | Path", repo: str, folder: Path) -> Path:
    """Writes the vision tower for `timm.create_model("hf-hub:…")`: timm wants config.json for itself, so a repository of its own.

    Raises:
        NotExportableError: the model has no vision tower of timm.
    """
    from zoo.publishing.exports import timm

    model = _renamed(source, repo, check_repo(repo), None, lambda message: None)
    timm.write(model, folder)
    card = f"---\nlicense: {_hub_license(model.spec.license)}\nlibrary_name: timm\npipeline_tag: image-feature-extraction\n"
    card += (
        f"tags:\n- timm\n- embedding-zoo\n---\n# {repo.partition('/')[2]}\n\nThe vision tower of {model.spec.name}.\n\n"
    )
    card += f"```python\n{timm.snippet(repo, model.spec)}\n```\n"
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


def _hub_license(license: str) -> str:
    return "other" if license.startswith("other: ") else license


def check_repo(repo: str) -> str:
    """The model's name in a repository called "org/name".

    Raises:
        HubError: the Hub would refuse the repository's name, or it makes no model name.
    """
    name = re.sub(r"[^a-z0-9.]+", "-", repo.partition("/")[2].lower()).strip("-.")
    if not REPO.fullmatch(repo) or len(repo) > 96 or "--" in repo or ".." in repo or not NAME.fullmatch(name):
        raise HubError(
            f"{repo!r} is no name for a Hub repository; write ORG/NAME with letters, digits, single hyphens, dots and "
            "underscores, 96 characters at most"
        )
    return name


def without_paths(value: Any) -> Any:
    """JSON with the folders taken off every path in its strings: what is published names no folder of this machine."""
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    return _PATH.sub("", value) if isinstance(value, str) else value


# ---------------------------------------------------------------------------------------------------------- the Hub


def check_license(license: str) -> None:
    """Raises NotPublishableError where the Hub has no such licence."""
    from zoo.publishing.cards.schema import LICENSES

    if license not in LICENSES or license == "other":
        raise NotPublishableError(
            f"{license!r} is no licence identifier of the Hub (apache-2.0, mit, cc-by-4.0, …); for a licence of your own "
            "write `license: other`, license_name and license_link into the source's README.md"
        )


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
    sent = _walk(folder)
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
    sent = _walk(folder)
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


def _walk(folder: Path) -> dict[str, Path]:
    """Every file of a folder by its name in the repository; raises UnsafeCheckpointError for a link that leads out."""
    inside, found = folder.resolve(), {}
    for entry in sorted(folder.rglob("*")):
        if entry.is_symlink():
            check_inside(entry, inside)  # else a file of the user's would be published without a word
        if entry.is_file():
            found[entry.relative_to(folder).as_posix()] = entry
    return found


def _is_folder(source: Any) -> bool:
    return isinstance(source, Path) or (isinstance(source, str) and source.startswith((".", "/", "~")))
