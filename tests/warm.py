"""Python processes that start in milliseconds: forks of one process per pytest worker that has the libraries loaded.

A fresh interpreter spends three to eight seconds of CPU on importing torch and the like. `run` and `Popen` are called
like subprocess's own, with a command that begins with `sys.executable`, and give a real process with an environment,
folder and streams of its own:

    done = warm.run([sys.executable, "-m", "zoo", "list"], capture_output=True, text=True, env={...})

What huggingface_hub reads from the environment when it is imported is read again in the fork, so that each has a hub
and a cache of its own. Use a real process where the test is about importing: what is loaded, and when.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

PROJECT = Path(__file__).resolve().parents[1]
LOADED = (  # importing these starts no thread; gradio, mteb, lancedb and the like are left to those who need them
    "timm",
    "open_clip",
    "torchvision.transforms.v2",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.processing_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.clip.modeling_clip",
    "zoo.cli",
    "zoo.embedder",
    "zoo.hub",
    "zoo.loading",
)


# ---- The side of the tests.


class Popen(subprocess.Popen):
    """`subprocess.Popen` whose process is a fork of the warm one. The command is `[sys.executable, ...]`."""

    def _execute_child(
        self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell,
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, *others,
    ) -> None:  # fmt: skip
        program, *arguments = map(os.fspath, args)
        assert program == sys.executable, "only Python is warm"
        assert not any((preexec_fn, pass_fds, shell, executable)), "a warm process takes no such option"
        streams = [given if given != -1 else own for own, given in enumerate((p2cread, c2pwrite, errwrite))]
        order = {
            "arguments": arguments,
            "env": dict(os.environ if env is None else env),
            "cwd": os.fspath(cwd or Path.cwd()),
        }
        self.pid = _server().fork(order, streams)
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)


def run(command: list[Any], *, timeout: float | None = None, check: bool = False, **options: Any) -> Any:
    """`subprocess.run` by a fork of the warm process."""
    given = options.pop("input", None)
    if given is not None:
        options["stdin"] = subprocess.PIPE
    if options.pop("capture_output", False):
        options["stdout"] = options["stderr"] = subprocess.PIPE
    with Popen(command, **options) as process:
        try:
            out, errors = process.communicate(given, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(command, process.returncode, out, errors)
    if check:
        done.check_returncode()
    return done


class _Server:
    """The warm process, which forks when asked."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
            cwd=PROJECT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # the terminal's Ctrl-C is for pytest
        )
        theirs.close()
        atexit.register(self.close)

    def fork(self, order: dict[str, Any], streams: list[int]) -> int:
        """The pid of a new process, which is a child of this one."""
        body = json.dumps(order).encode()
        with self._lock:
            # The fork's own parent ends at once, and an orphan goes to the nearest process that takes orphans: to us.
            _take_orphans(True)
            try:
                socket.send_fds(self._socket, [b"%8d" % len(body)], streams)
                self._socket.sendall(body)
                answer = self._socket.recv(64)
            finally:
                _take_orphans(False)
        assert answer, "the warm process has ended"
        return int(answer)

    def close(self) -> None:
        self._socket.close()
        self._process.wait(timeout=60)


def _take_orphans(yes: bool) -> None:
    set_child_subreaper = 36  # linux/prctl.h
    assert ctypes.CDLL(None).prctl(set_child_subreaper, int(yes), 0, 0, 0) == 0


@functools.cache
def _server() -> _Server:
    return _Server()


if not sys.platform.startswith("linux"):  # no orphans are handed over there
    Popen, run = subprocess.Popen, subprocess.run  # type: ignore[misc, assignment]


# ---- The warm process.


def main(asked: socket.socket) -> NoReturn:
    """Load everything, then fork for every order until the tests hang up."""
    import torch

    torch.set_num_threads(1)
    for name in LOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is shared stays shared
    while True:
        head, streams, *_ = socket.recv_fds(asked, 8, 3)
        if not head:
            os._exit(0)  # without the words of libraries that were loaded and never used
        order = json.loads(b"".join(_parts(asked, int(head))))
        came, goes = os.pipe()
        if (between := os.fork()) == 0:
            if (pid := os.fork()) == 0:
                os.close(came), os.close(goes), asked.close()
                _become(order["arguments"], order["env"], order["cwd"], streams)
            os.write(goes, b"%d" % pid)
            os._exit(0)
        os.waitpid(between, 0)
        asked.sendall(os.read(came, 64))
        for descriptor in (came, goes, *streams):
            os.close(descriptor)


def _parts(asked: socket.socket, size: int) -> Iterator[bytes]:
    while size:
        part = asked.recv(size)
        size -= len(part)
        yield part


def _become(arguments: list[str], environment: dict[str, str], folder: str, streams: list[int]) -> NoReturn:
    """Be what a fresh interpreter would be, and end as it would."""
    code = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        _read_the_environment_again()
        _main(arguments)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        if code and not isinstance(stop.code, int):
            print(stop.code, file=sys.stderr)
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code & 255)


def _read_the_environment_again() -> None:
    """What libraries read when they are imported, and the seeds that every process draws anew."""
    import numpy as np
    import torch
    from huggingface_hub import constants, hf_api

    importlib.reload(constants)  # the library asks the module for each value
    hf_api.api.endpoint = constants.ENDPOINT
    random.seed()
    np.random.seed()
    torch.seed()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def _main(arguments: list[str]) -> None:
    kind, *rest = arguments
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    first = {"-c": "", "-m": os.getcwd()}.get(kind, str(Path(kind).resolve().parent))
    sys.path[:] = [first, *paths, *sys.path[1:]]
    if kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.modules["__main__"] = module = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), module.__dict__)
    else:
        assert not kind.startswith("-"), f"a warm process knows -m and -c, not {kind}"
        sys.argv = arguments
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
