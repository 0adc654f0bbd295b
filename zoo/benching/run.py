"""A model is timed in a process with all that it is compared with, and its memory is measured in a process for each."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo import errors
from zoo.arguments import checked, flag, optional, path, text, texts, whole
from zoo.benching.job import BESIDE, Candidate, Job
from zoo.benching.results import Bench, Row
from zoo.errors import ArgumentError, MissingFileError, ZooError
from zoo.loading import is_folder
from zoo.machine import cores


@checked(
    model=path,
    backends=texts,
    dtypes=texts,
    beside=texts,
    count=optional(whole()),
    rounds=optional(whole()),
    threads=optional(whole()),
    device=optional(text),
    ignore=texts,
    memory=flag,
    progress=optional(flag),
)
def bench(
    model: str | Path,
    *,
    backends: Sequence[str] = (),
    dtypes: Sequence[str] = ("float32",),
    beside: Sequence[str] = BESIDE,
    images: Sequence[str | Path] = (),
    texts: Sequence[str] = (),
    count: int | None = None,
    rounds: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    ignore: Sequence[str] = (),
    memory: bool = True,
    progress: bool | None = None,
) -> Bench:
    """How fast a model is on this machine, what limits it, and how fast other libraries are with the same weights.

    All candidates run in turn in one process of their own, and each once more in a process alone, whose memory is measured.

    Args:
        model: what `load_model` opens: a name, a folder, "hf:…".
        backends: of `zoo.backends.list_backends`; all that are installed where none is named. dtypes: in which each is tried.
        beside: other libraries, of `BESIDE`. One that is not installed, or that does not give the same vectors, is told in `left_out`.
        images: files. texts: where either is given, nothing else is measured; else some are made of all that the model reads.
        count: of inputs in a round. rounds: after one to warm up. By default what takes some tens of seconds.
        threads: of all libraries together, on as many cores. device, ignore: as in `load_model`.
        memory: measure it. progress: show it; None where stderr is a terminal.

    Raises:
        ArgumentError: no such backend or library, or more threads than cores. MissingPackageError: a backend that is not installed.
        MissingFileError: an image is not there. UnsupportedModalityError: the model does not read what was given. NothingFitsError:
            no backend computes the model in any of these types.
        Besides what `load_model` raises.
    """
    if unknown := [name for name in beside if name not in BESIDE]:
        raise ArgumentError(f"beside {unknown[0]!r}: no such library is known here; write one of {', '.join(BESIDE)}")
    if threads is not None and threads > (there := len(cores())):
        raise ArgumentError(
            f"threads={threads}: this machine has {there} core{'s' if there > 1 else ''}; write at most {there}"
        )
    if lost := [one for one in images if not Path(one).is_file()]:
        raise MissingFileError(f"{lost[0]} does not exist, or is no file")
    if backends:
        from zoo.benching.opening import check_names  # which loads torch

        check_names(backends)
    job = Job(
        str(Path(model).expanduser().resolve()) if is_folder(model) else str(model),
        device=device,
        ignore=tuple(ignore),
        backends=tuple(dict.fromkeys(backends)),
        dtypes=tuple(dict.fromkeys(dtypes)),
        beside=tuple(dict.fromkeys(beside)),
        images=tuple(str(Path(one).resolve()) for one in images),
        texts=tuple(texts),
        count=count,
        rounds=rounds,
        threads=threads,
    )
    found = _process({"job": job.to_dict()}, job)
    bench = Bench.from_dict(found["bench"])
    return _with_memory(bench, found["alone"], job, progress) if memory else bench


def _with_memory(bench: Bench, alone: list[dict[str, Any]], job: Job, progress: bool | None) -> Bench:
    from tqdm import tqdm

    disable = None if progress is None else not progress  # None: tqdm shows itself on terminals only
    rows: Sequence[Row] = bench.rows
    left = dict(bench.left_out)
    for one in tqdm(alone, "memory", unit=" processes", disable=disable, leave=False):
        name = str(Candidate(**one["candidate"]))
        try:
            mb = _process({"alone": one}, job)["mb"]
        except ZooError as error:
            left[f"{name}, memory"] = str(error)
            continue
        rows = [replace(row, mb=mb) if row.by == name else row for row in rows]
    return replace(bench, rows=list(rows), left_out=left)


def _process(asked: dict[str, Any], job: Job) -> dict[str, Any]:
    """What a process of its own answers; what it prints goes to our stderr.

    Raises:
        ZooError: as it was raised there, or the process failed.
    """
    limits = {}
    if job.threads is not None:
        limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(job.threads))
    done = subprocess.run(
        [sys.executable, "-m", "zoo.benching"],
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **limits},
    )
    if done.returncode or not done.stdout:
        raise ZooError(
            f"{job.model} was not measured: its process ended with status {done.returncode}; stderr says why"
        )
    answer = json.loads(done.stdout.splitlines()[-1])
    if "error" in answer:
        kind, message = answer["error"]
        raise getattr(errors, kind, ZooError)(message)
    return answer
