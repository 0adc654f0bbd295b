"""Visitors of a page: what each of them brings lies in one folder of his own, which goes when he goes."""

import atexit
import contextlib
import hashlib
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextvars import ContextVar
from functools import cache
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

from zoo.errors import UnsafeFolderError, ZooError
from zoo.inputs.apart import ImagesApart
from zoo.inputs.heif import Way, refused
from zoo.strangers.folders import Place
from zoo.strangers.locks import Held, locked
from zoo.strangers.made import forget, made_here, mark

COOKIE = "zoo-visitor"
EXPIRY = 3600.0  # seconds after which the folder of a visitor who is not seen any more is removed
_SWEEP_EVERY = 300.0  # seconds
PER_VISITOR = 256 * 2**20  # bytes that one visitor's folder may hold
IN_ALL = 2 * 2**30  # bytes that the folders of all visitors may hold
PER_CALL = 4 * 2**20  # bytes of a request that brings no file
# Routes of Gradio that our pages do not use: they take files, or keep what was typed, outside of any visitor's folder.
_CLOSED = re.compile(r"(/gradio_api)?/(process_recording|component_server|deep_link|stream/.*|proxy=.*)/?")
_PREFIX = "zoo-demo-"
_LOCK = ".lock"
_TOKEN = re.compile(r"[0-9a-f]{32}")
ASGI = Callable[..., Awaitable[Any]]
Scope = MutableMapping[str, Any]


def visitors_way(*, local: bool, heif: bool) -> Way | None:
    """How a page decodes HEIC images: its user's own as everywhere (None), those of others in a process of its own, or not at all.

    Args:
        local: whether only this machine's user sees the page. heif: whether those of others are decoded.
    """
    if local:
        return None
    return ImagesApart() if heif else refused


class QuotaError(ZooError):
    """An upload, or what is made of one, that would fill more than its visitor, or all of them together, may."""


@cache
def private_folder() -> Path:
    """The folder of this process for what its pages keep; it goes when the process ends, and those of killed ones with it."""
    # It gets its name when it is locked: what has that name and no lock is taken for abandoned.
    made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}")).resolve()
    mark(made)
    held = contextlib.ExitStack()
    held.enter_context(locked(Place(made) / _LOCK))
    folder = made.rename(made.with_name(made.name.removeprefix(".")))
    ours = os.getpid()

    def remove() -> None:
        if os.getpid() == ours:  # not in a fork
            forget(folder)
            shutil.rmtree(folder, ignore_errors=True)
            held.close()

    atexit.register(remove)
    _remove_abandoned(folder)
    return folder


def _remove_abandoned(ours: Path) -> None:
    """Removes the folders of processes that were killed: nobody holds their locks."""
    shared = Place(ours.parent)
    for name in shared.names():
        # In a folder that all share, such as /tmp, anybody may have put anything there under such a name.
        other = shared / name
        with contextlib.suppress(OSError, Held, UnsafeFolderError):
            if not name.startswith(_PREFIX) or other.path == ours or not other.is_folder() or not made_here(other.path):
                continue
            if not (other / _LOCK).is_file():
                continue
            with locked(other / _LOCK):
                forget(other.path)
                other.remove_tree()


class Visitors:
    """The folders of a page's visitors, one each, told apart by a cookie.

    A visitor is there as long as one of his tabs holds a connection open. When the last one closes, his folder is removed
    whole; so is one of which nothing was seen for `EXPIRY` seconds, such as that of a program without cookies. A `local`
    page has one visitor, its user, whose folder stays until the page ends.
    """

    def __init__(self, *, local: bool) -> None:
        self.local = local
        uploads = private_folder() / "uploads"
        uploads.mkdir(exist_ok=True)
        # Gradio reads this when it makes components, and serves what lies there; its default is shared by all pages.
        os.environ["GRADIO_TEMP_DIR"] = str(uploads)
        self.root = Path(tempfile.mkdtemp(prefix="page-", dir=uploads))
        self._tabs: Counter[str] = Counter()
        self._coming: Counter[str] = Counter()
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()
        if not local:
            threading.Thread(target=self._sweep_now_and_then, daemon=True, name="visitors").start()

    # -- folders ------------------------------------------------------------------------------------------------

    def folder(self, token: str = "") -> Path:
        """The folder of a visitor by his cookie, made if need be; without one of ours a new one."""
        folder = self.root / self.name(token)
        with self._lock:
            self._seen[folder.name] = time.monotonic()
            folder.mkdir(exist_ok=True)
        return folder

    def owner(self, path: Path) -> Path | None:
        """The visitor's folder that a file lies in; None where it is in none."""
        return self.root / path.relative_to(self.root).parts[0] if path.is_relative_to(self.root) else None

    def name(self, token: str) -> str:
        """The name of a visitor's folder by his cookie; a new one where it is none of ours."""
        if self.local:
            return "local"
        # Not the cookie itself: a folder's name stands in addresses of files, which people pass on.
        return hashlib.sha256((token if _TOKEN.fullmatch(token) else secrets.token_hex(16)).encode()).hexdigest()[:32]

    @contextlib.contextmanager
    def present(self, name: str) -> Iterator[None]:
        """A tab of this visitor is open until it ends; with his last one goes his folder."""
        with self._lock:
            self._tabs[name] += 1
        try:
            yield
        finally:
            with self._lock:
                self._tabs[name] -= 1
            self._leave([name])

    def sweep(self, now: float | None = None) -> None:
        """Removes the folders of visitors who are not there and were not seen for long."""
        before = (time.monotonic() if now is None else now) - EXPIRY
        self._leave([name for name, seen in list(self._seen.items()) if seen < before])

    def _leave(self, names: list[str]) -> None:
        with self._lock:  # held while files are removed, so that none is uploaded into what is going
            for name in names:
                if not (self.local or self._tabs[name] or self._coming[name]):
                    shutil.rmtree(self.root / name, ignore_errors=True)
                    for known in (self._seen, self._tabs, self._coming):
                        known.pop(name, None)

    def _sweep_now_and_then(self) -> None:
        while True:
            time.sleep(_SWEEP_EVERY)
            self.sweep()

    # -- quotas -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def room(self, name: str, size: int) -> Iterator[None]:
        """Keeps room for an upload of so many bytes; raises QuotaError where it is too much for one visitor, or for all."""
        with self._lock:
            if not self.local and _size(self.root / name) + self._coming[name] + size > PER_VISITOR:
                raise QuotaError(f"one visitor may upload {PER_VISITOR // 2**20:,} MB; reload the page to begin anew")
            if not self.local and _size(self.root) + self._coming.total() + size > IN_ALL:
                raise QuotaError("the page holds as many uploads of its visitors as it may; try again later")
            self._coming[name] += size
        try:
            yield
        finally:
            with self._lock:
                self._coming[name] -= size
                self._seen[name] = time.monotonic()

    @contextlib.contextmanager
    def writing(self, folder: Path) -> Iterator[None]:
        """For what is made of a visitor's uploads: raises QuotaError where there is no room, and keeps his folder meanwhile."""
        if self.owner(folder) is None:
            yield
        else:
            with self.room(folder.name, 1):
                yield


class Uploads:
    """ASGI: gives each visitor a cookie, puts what he uploads into his folder, and sees him come and go."""

    def __init__(self, app: ASGI, visitors: Visitors) -> None:
        self.app, self.visitors = app, visitors
        self.place = _Place(visitors.root)

    async def __call__(self, scope: Scope, receive: ASGI, send: ASGI) -> None:
        """One request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if isinstance(getattr(scope["app"], "uploaded_file_dir", None), str):
            scope["app"].uploaded_file_dir = self.place  # which Gradio's routes ask for each time
        headers = dict(scope["headers"])
        token, path = _token(headers), scope["path"]
        if _CLOSED.fullmatch(path):
            return await _refuse(send, 404, "this page has no such address")
        if scope["method"] == "POST":
            return await self._post(scope, receive, send, self.visitors.name(token), headers)
        if token and "/heartbeat/" in path:
            with self.visitors.present(self.visitors.name(token)):
                return await self.app(scope, receive, send)
        if token or self.visitors.local or b"text/html" not in headers.get(b"accept", b""):
            return await self.app(scope, receive, send)
        return await self.app(scope, receive, _giving_cookie(send, _is_secure(scope, headers)))

    async def _post(self, scope: Scope, receive: ASGI, send: ASGI, name: str, headers: dict[bytes, bytes]) -> None:
        length = headers.get(b"content-length", b"0")
        # A body in chunks may be longer than a Content-Length beside it says.
        if not length.isdigit() or b"transfer-encoding" in headers:
            return await _refuse(send, 411, "say how long the request is (Content-Length), and send it in one piece")
        if not scope["path"].endswith("/upload"):
            if int(length) > PER_CALL and not self.visitors.local:
                return await _refuse(send, 413, f"a request may be {PER_CALL // 2**20} MB long; upload files first")
            return await self.app(scope, receive, send)
        try:
            with self.visitors.room(name, int(length)), self.place.of(name):
                return await self.app(scope, receive, send)
        except QuotaError as error:
            return await _refuse(send, 413, str(error))


class _Place(os.PathLike[str]):
    """Where Gradio keeps uploads: the folder of whoever is uploading now, else that of all, from which it serves."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._name: ContextVar[str] = ContextVar("name", default="")

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[None]:
        token = self._name.set(name)
        try:
            yield
        finally:
            self._name.reset(token)

    def __fspath__(self) -> str:
        return str(self._root / self._name.get())

    __str__ = __fspath__  # some of Gradio's routes ask so


def _token(headers: dict[bytes, bytes]) -> str:
    try:
        cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return ""
    value = cookies[COOKIE].value if COOKIE in cookies else ""
    return value if _TOKEN.fullmatch(value) else ""


def _is_secure(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    return b"https" in (scope["scheme"].encode(), headers.get(b"x-forwarded-proto", b""))


def _giving_cookie(send: ASGI, secure: bool) -> ASGI:
    """`send`, with a new visitor's cookie in the answer's head. A Space stands in a frame of another site: None, Partitioned."""
    where = "SameSite=None; Secure; Partitioned" if secure else "SameSite=Lax"
    cookie = f"{COOKIE}={secrets.token_hex(16)}; Path=/; HttpOnly; {where}".encode()

    async def sent(message: Scope) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"set-cookie", cookie)]}
        await send(message)

    return sent


async def _refuse(send: ASGI, status: int, message: str) -> None:
    body = message.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total
