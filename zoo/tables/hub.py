"""Data sets of the Hub: the files of one split in the local cache, for the readers of files."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from zoo.errors import HubError, NoSplitError, TableError
from zoo.hub import check_listing, hub_call
from zoo.inputs.kinds import IMAGE_SUFFIXES
from zoo.tables.files import KINDS, PACKED, suffix_of
from zoo.tables.splits import SPLIT_OF, split_name, split_of_path

# `eval` is left out: data sets for evaluation, whose folders are called so, have a train split too.
_SPLIT_WORDS = tuple(word for word in SPLIT_OF if not word.startswith(("eval", "develop")))
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def fetch_split(source: str, split: str | None) -> tuple[list[Path], str, bool]:
    """The files of a split, downloaded, the data set's name, and whether the files were determined by it.

    Where no file names a split, all of them are taken: a column may say it.

    Args:
        source: "hf:org/name", "hf:org/name@revision", "hf:org/name/folder" for one of several configurations.

    Raises:
        HubError: no such data set or revision, no access, or the Hub is out of reach.
        TableError: it has no table of this split, or several kinds or configurations of them.
    """
    place, _, revision = source.removeprefix("hf:").partition("@")
    org, _, rest = place.strip("/").partition("/")
    name, _, folder = rest.partition("/")
    repo = f"{org}/{name}"
    if not _REPO.fullmatch(repo):
        raise HubError(f"{source!r} is no Hub data set; write hf:<org>/<name>[/<folder>][@revision]")
    commit, names = dataset_files(repo, revision or None)
    files, by_place = _choose(source, sorted(names), folder, split)
    wanted = list(files)
    if _kind(files[0]) in ("csv", "jsonl"):  # their cells may name images
        wanted += [name for name in sorted(names) if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda file: _download(repo, file, commit), wanted))
    return paths[: len(files)], name, by_place


def dataset_files(repo: str, revision: str | None) -> tuple[str, set[str]]:
    """Full commit and file names of a data set; without a network, of the newest cached snapshot.

    Raises:
        HubError: it cannot be had. UnsafeCheckpointError: the Hub lists a file outside of it.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import OfflineModeIsEnabled

    what = f"hf:{repo}" + (f"@{revision}" if revision else "")
    try:
        info = hub_call(what, HfApi().dataset_info, repo, revision=revision)
        names = {sibling.rfilename for sibling in info.siblings or []}
        check_listing(what, names, info.sha)
        return info.sha, names
    except (HubError, OfflineModeIsEnabled) as error:
        if "no such" in str(error) or "restricted" in str(error):
            raise
        options = {"repo_type": "dataset", "revision": revision, "local_files_only": True}
        try:
            folder = Path(hub_call(what, snapshot_download, repo, **options))
        except HubError:
            raise HubError(f"{what}: the Hub is out of reach or in offline mode, and it is not cached") from error
        return folder.name, {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _download(repo: str, file: str, commit: str) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hub_call(f"hf:{repo}/{file}", hf_hub_download, repo, file, repo_type="dataset", revision=commit))


def _choose(source: str, names: Sequence[str], folder: str, split: str | None) -> tuple[list[str], bool]:
    """The tables of a split: those with its name in their path; where none names "train", those that name no split.

    None for the tables of all splits.
    """
    tables = [name for name in names if _kind(name)]
    if folder:
        tables = [name for name in tables if name == folder or name.startswith(f"{folder}/")]
    if not tables:
        where = f"below {folder!r}" if folder else "in it"
        found = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        raise TableError(f"{source}: no .parquet, .csv, .tsv, .jsonl or .tar file {where}; found {found or 'nothing'}")
    by_split: dict[str, list[str]] = {}
    for name in tables:
        by_split.setdefault(split_of_path(name, _SPLIT_WORDS), []).append(name)
    by_place = set(by_split) != {""}
    wanted = split_name(split) if by_place and split is not None else ""
    if "" in by_split and by_place:
        by_split.setdefault("train", by_split[""])
    if split is not None and wanted not in by_split:
        raise NoSplitError(f"{source} has no split {split!r}; it has {', '.join(sorted(filter(None, by_split)))}")
    chosen = tables if split is None else by_split[wanted]
    if len({_kind(name) for name in chosen}) > 1:
        chosen = [name for name in chosen if _kind(name) == "parquet"] or chosen
    if len({_kind(name) for name in chosen}) > 1:
        suffixes = sorted({PurePosixPath(name).suffix.lower() for name in chosen})
        raise TableError(f"{source}: its files are of several kinds ({', '.join(suffixes)}); name a folder or file")
    folders = sorted({_configuration(name) for name in chosen})
    if len(folders) > 1:
        raise TableError(
            f"{source} has several configurations: {', '.join(folders[:12])}; name one, e.g. "
            f"{source.partition('@')[0]}/{folders[0]}"
        )
    return chosen, by_place and split is not None


def _kind(name: str) -> str:
    """csv, jsonl, parquet or tar; "" for what is read from nowhere."""
    path = PurePosixPath(name)
    kind = KINDS.get(suffix_of(path), "")
    return kind if kind in ("csv", "jsonl") or path.suffix.lower() not in PACKED else ""


def _configuration(name: str) -> str:
    """The folder of a file, without a last part that only names the split."""
    parts = PurePosixPath(name).parts[:-1]
    while parts and parts[-1].lower() in _SPLIT_WORDS:
        parts = parts[:-1]
    return "/".join(parts) or "."
