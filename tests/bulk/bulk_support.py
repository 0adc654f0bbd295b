"""What the tests of bulk embedding and search share: small sources, the content of a folder of vectors, and killing."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests import warm
from zoo.bulk import BulkReport, embed_dataset
from zoo.bulk.opening import prepare
from zoo.bulk.sources import ALL, Source
from zoo.shards.folder import ShardFolder, read_vectors
from zoo.tables.options import Options
from zoo.vectors.lookup import Inputs

ANIMALS = ("cat", "dog", "it's")


def embed(*arguments: Any, **options: Any) -> BulkReport:
    """`embed_dataset` without a bar."""
    return embed_dataset(*arguments, **{"progress": False, **options})


def open_source(
    path: Path | str,
    *,
    column: str | Sequence[str] | None = None,
    kind: str | None = None,
    modalities: Collection[str] = ALL,
    exclude: Path | None = None,
    options: Options | None = None,
) -> Source:
    """What `zoo embed` reads of a path, in one call; arguments as of `prepare` and of what it gives."""
    asked = [column] if isinstance(column, str) else list(column or ())
    return prepare(path, options or Options(), exclude).choose(asked, kind, modalities)


def inputs_of(folder: Path, **options: Any) -> Inputs:
    """Where the inputs of a folder of vectors are."""
    return Inputs.of(folder, ShardFolder(folder).manifest(), **options)


def make_images(folder: Path, count: int, start: int = 0) -> None:
    """Small images of different colours in three nested folders."""
    for i in range(start, start + count):
        path = folder / ("", "b", "b/c")[i % 3] / f"{i:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i * 37 % 256, i * 91 % 256, i * 13 % 256)).save(path)


def make_table(path: Path, rows: int, start: int = 0) -> Path:
    """A CSV file with texts and attributes of every type."""
    with path.open("a" if start else "w", encoding="utf-8") as file:
        if not start:
            file.write("text,label,year,score,fresh,note\n")
        for i in range(start, rows):
            note = "" if i % 4 else f"note {i}"
            file.write(f"text {i},{ANIMALS[i % 3]},{1990 + i % 30},{i / 8},{i % 2 == 0},{note}\n")
    return path


def stored(out: Path) -> tuple[list[str], np.ndarray]:
    """The ids and vectors of a folder, in the order of the inputs, shard by shard."""
    tables = [pq.read_table(shard.path) for shard in ShardFolder(out).finished()]
    if not tables:
        return [], np.empty((0, 0))
    ids = [one for table in tables for one in table.column("id").to_pylist()]
    return ids, np.concatenate([read_vectors(table) for table in tables])


def quarantined(out: Path) -> list[dict]:
    """The lines of the quarantine file."""
    return [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]


class Death(BaseException):
    """Stands for kill -9 inside one process."""


@contextlib.contextmanager
def dying_at(operation: int) -> Iterator[None]:
    """Dies before this fsync, rename or append (counted from 1), after which nothing reaches the disk any more."""
    left = [operation]

    def dying(function, *, counts=True, only=lambda *_: True):
        def call(*arguments, **options):
            left[0] -= counts and left[0] > 0
            if left[0] == 0 and only(*arguments):
                raise Death
            return function(*arguments, **options)

        return call

    def writes(path, mode="r", *rest):
        return "r" not in mode

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Death):
        patch.setattr(os, "fsync", dying(os.fsync))
        patch.setattr(os, "replace", dying(os.replace))
        patch.setattr(ShardFolder, "append_quarantine", dying(ShardFolder.append_quarantine))
        patch.setattr(Path, "unlink", dying(Path.unlink, counts=False))
        patch.setattr(Path, "open", dying(Path.open, counts=False, only=writes))
        yield


SERVER = """
import json, os, signal, sys
import filelock, pyarrow.parquet, torch, tqdm.auto  # what each child would import else
torch.set_num_threads(1)
import zoo.bulk.run
from zoo.bulk import embed_dataset
from zoo.errors import DiskFullError
from zoo.loading import load_model

zoo.bulk.run.REPORT_EVERY = 0
model = load_model(sys.argv[1])

def child(source, out, largest_file=0, seconds=0, **options):
    if seconds:  # of this process's own work; what the signal does then is what SIGKILL does
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, seconds)
    if largest_file:
        import resource
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    # One write for a line: a kill between the parts of a print would leave half of it.
    embed_dataset(model, source, out, progress=lambda done, total: os.write(1, f"done {done}\\n".encode()), **options)

for line in sys.stdin:
    job = json.loads(line)
    process = os.fork()
    if not process:
        code = 1
        try:
            child(**job)
            code = 0
        except DiskFullError:
            code = 3
        finally:
            os._exit(code)
    os.write(1, f"pid {process}\\n".encode())
    _, status, used = os.wait4(process, 0)
    os.write(1, f"spent {used.ru_utime + used.ru_stime}\\nexit {os.waitstatus_to_exitcode(status)}\\n".encode())
"""


class Jobs:
    """A process that has loaded a model and forks one child for each bulk job, since starting Python takes seconds.

    Attributes:
        spent: seconds of processor time of the last job.
    """

    def __init__(self, model: Path) -> None:
        command = [sys.executable, "-c", SERVER, str(model)]
        self._server = warm.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, source: Path, out: Path, *, kill_after: int | None = None, **options: object) -> int:
        """Embeds in a child, killed with -9 once so many inputs are done; returns its exit code, negative for signals.

        With `seconds` it is killed by SIGPROF after so much processor time, in whatever it does then.
        """
        job = {"source": str(source), "out": str(out), **options}
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        child = None
        for line in self._server.stdout:
            word, number = line.split()
            if word == "exit":
                return int(number)
            if word == "spent":
                self.spent = float(number)
            if word == "pid":
                child = int(number)
            elif word == "done" and kill_after is not None and int(number) >= kill_after and child:
                os.kill(child, signal.SIGKILL)
                kill_after = None
        raise AssertionError("the process that runs bulk jobs has ended")

    def close(self) -> None:
        """Ends the server."""
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait()
