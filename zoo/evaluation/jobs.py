"""A job of `zoo eval`: one thing to measure, how it is measured, and its figures, which are remembered."""

import contextlib
import hashlib
import json
import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import NoResultError, ZooError
from zoo.evaluation.results import Result, read_results, today, write_results

if TYPE_CHECKING:
    from zoo.embedder import Embedder


@dataclass(frozen=True)
class Job:
    """One thing to measure.

    Attributes:
        key: file name that changes with the data and with the code that measures.
        data: where its data comes from, for messages. split: as asked for, None for the usual ones.
        measure: a model, where mteb keeps what it has measured, and whether to measure even that → figures without
            source, date and revision.
        asked: what --tasks names to measure it, where that is not its name: a task file stands for several.
        more: further options of the command. remembers: whether its figures are kept for a later call.
    """

    name: str
    key: str
    data: str
    split: str | None
    measure: Callable[["Embedder", Path, bool], list[Result]]
    asked: str = ""
    more: str = ""
    remembers: bool = True


def measure(job: Job, model: "Embedder", *, shown: str, cache: Path, again: bool = False) -> tuple[list[Result], bool]:
    """The figures of a job, and whether they were remembered from an earlier call.

    Args:
        shown: how the model is named in the command that gives the figures again.
        cache: folder of what was measured. again: measure even so.

    Raises:
        NoResultError: the reason, in words. ZooError: an item of the data cannot be embedded.
    """
    if job.remembers and not again and (found := remembered(job, model, cache)):
        return found, True
    try:
        measured = job.measure(model, cache, again)
    except ZooError:
        raise
    except Exception as error:  # whatever one task of mteb raises, the others go on
        raise NoResultError(_reason(job, error)) from error
    command = f"zoo eval {shown} --tasks {shlex.quote(job.asked or job.name)}" + (
        f" --split {job.split}" if job.split else ""
    )
    command += job.more
    facts = {"source": command, "date": today()}
    results = [replace(result, revision=model.spec.revision, **facts) for result in measured]
    if job.remembers:
        file = _file(job, model, cache)
        file.unlink(missing_ok=True)
        write_results(file, results)
    return results, False


def remembered(job: Job, model: "Embedder", cache: Path) -> list[Result]:
    """The figures of an earlier call, [] where there are none."""
    with contextlib.suppress(ValueError):  # a damaged note is no note
        return read_results(_file(job, model, cache))
    return []


def _file(job: Job, model: "Embedder", cache: Path) -> Path:
    """Where the figures of a job are noted: by all of the model that they depend on."""
    from zoo.fusion import fingerprint, is_default

    marks = {**model.fingerprint(), "prompts": dict(model.spec.prompts)}
    if not is_default(model.fusion):
        marks["fusion"] = fingerprint(model.fusion)
    key = hashlib.sha256(json.dumps(marks, sort_keys=True).encode()).hexdigest()[:16]
    return cache / "zoo" / key / f"{re.sub(r'[^A-Za-z0-9._-]', '_', job.key)}.json"


def default_cache() -> Path:
    """Where mteb keeps results: the environment variable MTEB_CACHE, else ~/.cache/mteb."""
    return Path(os.environ.get("MTEB_CACHE") or Path.home() / ".cache" / "mteb").expanduser()


def _reason(job: Job, error: Exception) -> str:
    """Why a task gave nothing, in one sentence."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    kinds = {type(one).__name__ for one in chain}
    if kinds & {"GatedRepoError"}:
        return f"{job.name}: its data ({job.data}) is gated; ask for access on its page, then `hf auth login`"
    if kinds & {"DatasetNotFoundError", "RepositoryNotFoundError"}:
        return f"{job.name}: its data ({job.data}) is not on the Hub, or is private; `hf auth login` with an account that may read it"
    if any(isinstance(one, ConnectionError) for one in chain) or kinds & {"OfflineModeIsEnabled", "ConnectError"}:
        return (
            f"{job.name}: its data ({job.data}) is not on this machine and the Hub cannot be reached; try again with a "
            "network, without HF_HUB_OFFLINE"
        )
    return f"{job.name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
