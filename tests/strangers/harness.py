"""A sandbox with a stranger's folder and a user's files, and commands that run in it, limited and watched.

    def test_a_link_in_an_index(sandbox):
        (sandbox.gift / "index").symlink_to(sandbox.home / "photos")
        sandbox.zoo("search", sandbox.gift, "a cat").refused("index is a link")

Each child is a fork of the warm process (`tests.warm`): `child.py` sets its limits and writes down what it opens, changes,
connects to and runs outside the places that such a command needs. Around it stands a snapshot of the user's files.
"""

import base64
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import warm
from tests.strangers.child import MEMORY, SECONDS

SECRET = "this-belongs-to-the-user-alone-7c1f"
PATIENCE = 90.0  # seconds by the clock: more is a hang
GROWTH = 2**30  # bytes of resident memory that no case may take
KILLED = -9


@dataclass
class Answer:
    """What became of one command.

    Attributes:
        status: exit status; negative for a signal. out, err: what it printed. seconds: by the clock.
        peak: bytes of resident memory beyond what the libraries took; None where it died.
        trespasses: what it opened, changed, connected to or ran outside the expected places.
        changed: files of the user's and the stranger's that are no longer what they were.
        leaked: places where a user's secret can be read: "stdout", "stderr", files below `out`.
    """

    status: int
    out: str
    err: str
    seconds: float
    peak: int | None = None
    trespasses: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All that it printed."""
        return self.out + self.err

    def safe(self) -> "Answer":
        """Nothing of the user's was touched or shown, and the process lived, within its bounds."""
        assert self.status >= 0, f"killed by signal {-self.status}: {self.text[-2000:]}"
        assert self.status != 137, f"killed: {self.text[-2000:]}"
        assert not self.trespasses, self.trespasses
        assert not self.foreign, f"code of the stranger's was imported: {self.foreign}"
        assert not self.changed, self.changed
        assert not self.leaked, f"the user's secret stands in {self.leaked}"
        assert self.peak is not None, f"it died: {self.text[-2000:]}"
        assert self.peak < GROWTH, f"it took {self.peak:,} bytes"
        assert "Traceback" not in self.text, self.text[-4000:]
        return self

    def refused(self, match: str) -> "Answer":
        """It is safe, and ended in an error that says so."""
        self.safe()
        assert self.status in (1, 2), f"status {self.status}: {self.text[-2000:]}"
        assert re.search(match, self.text), f"{match!r} is not in: {self.text[-2000:]}"
        return self

    def harmless(self) -> "Answer":
        """It is safe, and did what it was asked for."""
        self.safe()
        assert self.status == 0, f"status {self.status}: {self.text[-2000:]}"
        return self


class Sandbox:
    """A folder of its own with what a stranger gave, `gift`, and what is the user's: `home`, `cache`, `out`."""

    SECRET = SECRET

    def __init__(self, root: Path) -> None:
        self.root = root
        self.gift, self.home, self.cache, self.out = (root / name for name in ("gift", "home", "cache", "out"))
        for folder in (self.gift, self.home, self.cache, self.out, root / "tmp"):
            folder.mkdir(parents=True)
        (self.home / ".bashrc").write_text(f"export TOKEN={SECRET}\n" * 40)
        (self.home / "secret.txt").write_text(SECRET + "\n")
        (self.home / "photos").mkdir()
        _photo(self.home / "photos" / "cat.png")

    def zoo(self, *arguments: Any, **options: Any) -> Answer:
        """`zoo ARGUMENTS` in a child. Options: see `python`."""
        return self._run([str(argument) for argument in arguments], None, **options)

    def python(self, code: str, *arguments: Any, **options: Any) -> Answer:
        """Code in a child, with `sys.argv[1:]` the arguments. An error of the zoo's ends it with status 2, as in `zoo`.

        Args:
            writes, reads: more folders or files that it may write or read; without them `out`, `cache` and a temporary
                folder are written, and besides these only `gift` is read.
            ports: of servers on this machine that it may connect to. input: its standard input.
            environment: more variables. memory, seconds: other limits than the usual ones.
        """
        body = "\n".join(f"    {line}" for line in code.splitlines())
        caught = f"from zoo.errors import ZooError\ntry:\n{body}\nexcept ZooError as error:\n    import sys\n"
        caught += (
            "    print(f'error: {type(error).__name__}: {error}', file=sys.stderr)\n    raise SystemExit(2) from None\n"
        )
        return self._run([str(argument) for argument in arguments], caught, **options)

    def _run(
        self,
        arguments: list[str],
        code: str | None,
        *,
        writes: Sequence[Path] = (),
        reads: Sequence[Path] = (),
        ports: Sequence[int] = (),
        input: str | None = None,
        environment: dict[str, str] | None = None,
        memory: int = MEMORY,
        seconds: int = SECONDS,
    ) -> Answer:
        log, order = self.root / "log.jsonl", self.root / "order.json"
        log.write_bytes(b"")
        own = [os.path.realpath(path) for path in (self.out, self.cache, self.root / "tmp", *writes)]
        order.write_text(
            json.dumps(
                {
                    "arguments": arguments,
                    "code": code,
                    "log": str(log),
                    "reads": [os.path.realpath(path) for path in (self.gift, *reads)],
                    "writes": own,
                    "ports": list(ports),
                    "memory": memory,
                    "seconds": seconds,
                }
            )
        )
        watched = (self.home, self.gift)
        before, began = snapshot(*watched), time.perf_counter()
        command = [sys.executable, "-m", "tests.strangers.child", str(order)]
        # The child begins in the project, where its own module lies, and `-m` needs nothing of it later.
        with warm.Popen(
            command,
            cwd=warm.PROJECT,
            env={**self.environment(), **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                out, err = process.communicate((input or "").encode(), timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise AssertionError(f"it hung for {PATIENCE:g} s: {arguments}") from None
        answer = Answer(
            process.returncode, out.decode(errors="replace"), err.decode(errors="replace"), time.perf_counter() - began
        )
        for line in log.read_text().splitlines():
            fact = json.loads(line)
            if "trespass" in fact:
                answer.trespasses.append(fact["trespass"])
            else:
                answer.peak, answer.foreign = fact["peak"], fact["foreign"]
        after = snapshot(*watched)
        allowed = tuple(own)
        answer.changed = sorted(
            path
            for path in before.keys() | after.keys()
            if before.get(path) != after.get(path) and not path.startswith(allowed)
        )
        answer.leaked = [name for name, text in (("stdout", out), ("stderr", err)) if holds_secret(text)]
        answer.leaked += [
            str(path.relative_to(self.root)) for path in _files(self.out) if holds_secret(path.read_bytes())
        ]
        return answer

    def environment(self) -> dict[str, str]:
        """The child's: the user's folders are those of the sandbox."""
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_", "HUGGINGFACE_", "ZOO_"))
        }
        return kept | {
            "HOME": str(self.home),
            "XDG_CACHE_HOME": str(self.cache),
            "XDG_DATA_HOME": str(self.cache / "data"),
            "XDG_STATE_HOME": str(self.cache / "state"),
            "XDG_CONFIG_HOME": str(self.cache / "config"),
            "HF_HOME": str(self.cache / "huggingface"),
            "TORCH_HOME": str(self.cache / "torch"),
            "TMPDIR": str(self.root / "tmp"),
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }


def snapshot(*folders: Path) -> dict[str, tuple[Any, ...]]:
    """Every entry below the folders, by path: kind, mode, size, time of change, and its content or where it leads."""
    found: dict[str, tuple[Any, ...]] = {}
    for folder in folders:
        for path in _entries(folder):
            about = path.lstat()
            content = ""
            if stat.S_ISLNK(about.st_mode):
                content = os.readlink(path)
            elif (
                stat.S_ISREG(about.st_mode) and about.st_blocks * 512 < 2**26
            ):  # what is sparse or vast goes by its time
                content = hashlib.blake2b(path.read_bytes() if about.st_size < 2**27 else b"").hexdigest()
            size, time_of = (0, 0) if stat.S_ISDIR(about.st_mode) else (about.st_size, about.st_mtime_ns)
            found[str(path)] = (about.st_mode, size, time_of, content)
    return found


def holds_secret(data: bytes) -> bool:
    """Whether a user's secret stands in it, plain or in base64."""
    secret = SECRET.encode()
    forms = [secret]
    for shift in range(3):  # base64 of it, wherever among others it begins
        text = base64.b64encode(b"\0" * shift + secret)
        forms.append(text[4 * (shift > 0) : -4])
    return any(form in data for form in forms)


def _entries(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            yield Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(Path(entry.path))


def _files(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_file() and not path.is_symlink()]


def _photo(path: Path) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    about = PngInfo()
    about.add_text("Comment", SECRET)
    Image.new("RGB", (48, 48), (201, 17, 93)).save(path, pnginfo=about)
