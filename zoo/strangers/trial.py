"""Tokenizers of strangers, tried once in a process with limits before they are used here; what passed is remembered.

Not tried are the package's own and a registered model's at its pinned revision: their bytes are known. Every other one is, a
repository of the Hub and a folder alike, since a folder may be anybody's. A second opening costs a digest of its files.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from pathlib import Path
from typing import Any

from zoo.callers import warn
from zoo.errors import UnrecognisedCheckpointError
from zoo.strangers import seen, tokenizers
from zoo.strangers.confined import Answer, Confined, ConfinedError

VERSION = 1  # of the checks and of the texts below: with another, everything is tried again
_LARGE = 2_000_000  # bytes
SECONDS, MEMORY = 30.0, 2 * 2**30
_PROSE = "Two DOGS,  a café's 3,000 ﬁsh & 山の上\n[x]\tnaïve e-mails İstanbul ﷺ 한국어 \U0001f600\u0301 हिन्दी http://a.b/c?d=e#f "
_PROSE += "".join(map(chr, range(32, 127)))
# Of every kind of letter a run, with all letters after it: what a pattern repeats is what it may choke on, and one whose end is
# not there is not even begun.
_RUNS = ("a", " ", "\n", "1", ".", "é", "山", "\U0001f600", "a ", "ab1 ", "_", "\u0301", "A", "--", "\t", "\ufdfa")
_LENGTHS = (40, 4000)

_TRUSTED: ContextVar[bool] = ContextVar("trusted", default=False)
_CHILD = Confined(f"{__name__}:attempt", seconds=SECONDS, memory=MEMORY)


@contextmanager
def trusting(known: bool = True) -> Iterator[None]:
    """Inside, tokenizers are opened untried: their bytes are the package's own, or of a revision that it names."""
    token = _TRUSTED.set(known)
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def check_tokenizer(folder: Path) -> None:
    """Holds a folder's tokenizer to what one can be, and tries it, once for these bytes.

    Raises:
        UnrecognisedCheckpointError: it asks for what no tokenizer needs, or harmed the process that it was tried in.
        MissingWeightsError: a damaged file.
    """
    if _TRUSTED.get():
        return
    files = tokenizers.files_of(folder)
    digest = hashlib.sha256(_salt())
    for path in files:
        with path.open("rb") as file:
            digest.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    if seen.is_known(folder, digest.hexdigest()):
        return
    tokenizers.check_files(folder)
    if all(_tried(path.read_bytes(), str(path)) for path in filter(tokenizers.is_whole, files)):
        seen.remember(folder, digest.hexdigest())


def check_built(core: Any, folder: Path) -> None:
    """As `check_tokenizer`, of a `tokenizers.Tokenizer` that transformers built from other files than a tokenizer.json."""
    if _TRUSTED.get():
        return
    content = core.to_str().encode()
    digest = hashlib.sha256(_salt() + content).hexdigest()
    if not seen.is_known(folder, digest) and _tried(content, f"the tokenizer in {folder}"):
        seen.remember(folder, digest)


def _tried(content: bytes, where: str) -> bool:
    """Whether a tokenizer.json could be tried; raises UnrecognisedCheckpointError where it did harm."""
    try:
        _CHILD.ask(where, content)
        if len(content) > _LARGE:
            _CHILD.close()  # it would keep what that took
    except OSError as error:  # where no process may be started, the checks before this one must do
        warn(f"{where}: the tokenizer could not be tried in a process of its own ({error})")
        return False
    except ConfinedError as error:
        if error.reason != "failed":  # else it cannot be opened, and says so here too
            raise UnrecognisedCheckpointError(
                f"{where}: the tokenizer was tried in a process of its own, which {_said(error)}. It is damaged or made to do harm; "
                "take it from its author's own repository, or leave the model"
            ) from error
    return True


def _said(error: ConfinedError) -> str:
    return "needed too much memory" if error.reason == "memory" else str(error)


def _salt() -> bytes:
    return f"{VERSION} {version('tokenizers')}\0".encode()


# ---- In the process.


def attempt(content: bytes, name: str) -> Answer:
    """Opens a tokenizer.json and reads texts of many kinds and lengths; what kills or holds up this process is all that counts.

    Raises:
        UnrecognisedCheckpointError: it panics on one of them.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(content.decode())
    runs = (run * (length // len(run)) for length in _LENGTHS for run in _RUNS if length >= len(run))
    tokenizer.encode("a")
    for text in ("", *runs, _PROSE * 100):
        try:
            tokenizer.encode(text + _PROSE)
        except Exception:  # bare, as of a word that it has no token for: an error of that text here and there
            continue
        except BaseException as error:  # a panic
            raise UnrecognisedCheckpointError(
                f"{name}: the tokenizer gives up on ordinary texts: {' '.join(str(error).split())[:200]}"
            ) from error
    yield {}, b""
