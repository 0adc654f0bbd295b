"""The child in which a stranger's files are opened: limits on memory, time and file size, and a record of what it touches.

`python -m tests.strangers.child ORDER`, where ORDER is a file of JSON that `tests.strangers.harness` writes.
"""

import json
import os
import platform
import resource
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

MEMORY = 4 * 2**30  # bytes of address space beyond what the libraries took; threads and allocators reserve much of it
SECONDS = 60  # of CPU
LONGEST = 2**28  # bytes of a file

# What a process reads of the system, whatever it is asked to do.
SYSTEM = ("/usr", "/lib", "/lib64", "/proc", "/sys", "/dev/null", "/dev/urandom", "/dev/random", "/dev/shm")
SYSTEM += ("/etc/ld.so.cache", "/etc/localtime", "/etc/ssl", "/etc/mime.types", "/etc/fonts", "/etc/OpenCL")
SYSTEM += ("/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/os-release", "/etc/debian_version")
WRITABLE = ("/dev/null", "/dev/shm", "/proc/self")
_CHANGES = {"os.remove": 1, "os.rename": 2, "os.rmdir": 1, "os.mkdir": 1, "os.symlink": 2, "os.link": 2, "os.chmod": 1}
_CHANGES |= {"os.chown": 1, "os.truncate": 1, "os.utime": 1}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """The audit hook: every open, change, connection and program outside the expected places is written to `log`."""

    def __init__(self, log: int, reads: list[str], writes: list[str], ports: list[int]) -> None:
        self._log, self._reads, self._writes, self._ports = log, reads, writes, ports
        self._of = threading.local()  # the folder of an `os.open(..., dir_fd=)`, which its event leaves out

    def start(self) -> None:
        plain = os.open

        def told(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            before, self._of.folder = getattr(self._of, "folder", None), dir_fd
            try:
                return plain(path, flags, mode, dir_fd=dir_fd)
            finally:
                self._of.folder = before

        os.open = told
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if getattr(self._of, "busy", False):
            return
        self._of.busy = True
        try:
            if event == "open":
                self._opened(*arguments)
            elif event in _CHANGES:
                self._changed(event, arguments)
            elif event in ("socket.connect", "socket.bind", "socket.sendto"):
                self._connected(event, arguments[1])
            elif event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.spawn"):
                self._ran(event, arguments)
        finally:
            self._of.busy = False

    def _opened(self, path: Any, _: Any, flags: Any) -> None:
        if isinstance(path, int) or path is None:
            return
        number = flags if isinstance(flags, int) else 0
        place = _place(path, getattr(self._of, "folder", None), follow=not number & os.O_NOFOLLOW)
        if number & _WRITES and number & os.O_PATH == 0:
            self._check("wrote", place, self._writes)
        else:
            self._check("read", place, [*self._reads, *self._writes])

    def _changed(self, event: str, arguments: tuple[Any, ...]) -> None:
        count = _CHANGES[event]
        paths = arguments[:count]
        if event == "os.symlink":  # what it points to is only a name
            paths = arguments[1:2]
        folders = [a for a in arguments[count:] if isinstance(a, int) and not isinstance(a, bool)]
        for number, path in enumerate(paths):
            if isinstance(path, int):
                continue
            given = folders[min(number, len(folders) - 1)] if folders and count == len(folders) else folders[-1:]
            folder = given if isinstance(given, int) else (given[0] if given else -1)
            follow = event in ("os.chmod", "os.truncate", "os.utime", "os.chown")
            self._check(event, _place(path, folder if folder >= 0 else None, follow=follow), self._writes)

    def _connected(self, event: str, address: Any) -> None:
        local = isinstance(address, tuple) and str(address[0]) in ("127.0.0.1", "::1", "localhost")
        if not (local and (address[1] in self._ports or event == "socket.bind")):
            self._say(f"{event} {address!r}")

    def _ran(self, event: str, arguments: tuple[Any, ...]) -> None:
        words = [str(word) for word in (arguments[1] if len(arguments) > 1 and arguments[1] else arguments[:1])]
        if not (words[:1] == [sys.executable] and "zoo.strangers.confined" in words):
            self._say(f"{event} {words}")

    def _check(self, what: str, place: str, allowed: list[str]) -> None:
        if not any(place == root or place.startswith(root.rstrip("/") + "/") for root in allowed):
            self._say(f"{what} {place}")

    def _say(self, line: str) -> None:
        os.write(self._log, json.dumps({"trespass": line}).encode() + b"\n")


def _place(path: Any, folder: int | None, *, follow: bool) -> str:
    """Where a path leads; with `follow` off its last part is taken as it is."""
    name = os.fsdecode(os.fspath(path))
    if not os.path.isabs(name) and folder is not None and folder >= 0:
        name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
    if name.startswith(("/proc/self/fd/", "/dev/fd/")):
        return "/proc/self/fd"  # opened before, and heard then
    if follow:
        return os.path.realpath(name)
    head, tail = os.path.split(os.path.abspath(name))
    return os.path.join(os.path.realpath(head), tail)


def status(key: str) -> int:
    """A figure of this process in bytes: VmSize, VmRSS, VmHWM."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key + ":"))
    return int(line.split()[1]) * 1024


def limit(memory: int = MEMORY, seconds: int = SECONDS, longest: int = LONGEST) -> None:
    """What a case may take, from here on."""
    resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + memory,) * 2)
    used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, used + seconds + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (longest, longest))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(order: str) -> int:
    """Runs the command or the code of an order; its exit status."""
    told = json.loads(Path(order).read_text())
    log = os.open(told["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.dont_write_bytecode = True
    tempfile.tempdir = None  # the warm process knew another
    import torch

    import zoo.cli  # before the limits and the watch: honest libraries open much
    import zoo.embedder

    torch.set_num_threads(1)
    platform.platform()  # which runs `uname`, and remembers what it said
    limit(told["memory"], told["seconds"])
    Path("/proc/self/clear_refs").write_text("5")  # the peak of resident memory begins anew
    resident = status("VmRSS")
    before = set(sys.modules)
    project = str(Path(__file__).resolve().parents[2])
    packages = str(Path(torch.__file__).resolve().parents[1])  # where they really lie
    library = [
        project,
        packages,
        sys.prefix,
        sys.base_prefix,
        *map(os.path.realpath, [project, *sys.path[1:]]),
        *SYSTEM,
    ]
    Watch(log, [*library, *told["reads"]], [*WRITABLE, *told["writes"]], told["ports"]).start()
    try:
        if told["code"] is None:
            return zoo.cli.main(told["arguments"])
        sys.argv = ["case", *told["arguments"]]
        exec(compile(told["code"], "<case>", "exec"), {"__name__": "__case__"})
        return 0
    finally:
        files = [getattr(sys.modules.get(name), "__file__", None) or "" for name in set(sys.modules) - before]
        foreign = [file for file in files if file and not os.path.realpath(file).startswith(tuple(library))]
        answer = {"peak": max(0, status("VmHWM") - resident), "foreign": foreign}
        os.write(log, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
