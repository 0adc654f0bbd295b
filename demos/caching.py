"""What all visitors of a page fetch alike, the page, its scripts and thumbnails, is made and compressed once."""

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

ASGI = Callable[..., Awaitable[Any]]
Scope = MutableMapping[str, Any]
# Gradio writes the page anew for every visitor (0.1 s of CPU for the same bytes), and compresses each script each time.
_SAME_FOR_ALL = r"/(config|theme\.css|gradio_api/info|(assets|static|svelte)/.+)?"
# Its way to a file costs five times as much as sending it. The name of a thumbnail tells its content (`Thumbnails.of`).
_THUMBNAIL = r"/gradio_api/file={folder}/[0-9a-f]{{24}}\.jpg"
_NAMED = (b"host", b"accept", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-prefix", b"x-direct-url")
_TEXT = ("text/", "application/javascript", "application/json", "image/svg+xml")
_MOST = 64 * 2**20  # bytes in all
_LEAST = 64 * 2**10  # bytes that an answer counts for besides its body, so that there are a thousand at most
_QUALITY = 5  # of Brotli: once for all, so somewhat more than Gradio's own
_SMALL = 1024  # bytes that are not worth compressing


class _Kept(NamedTuple):
    head: dict[str, Any]
    body: bytes


class Cached:
    """ASGI: keeps the answers to requests of those paths, by all that they depend on.

    Args:
        thumbnails: a folder whose thumbnails every visitor may see; those of what visitors upload lie elsewhere.
    """

    def __init__(self, app: ASGI, thumbnails: Path | None = None) -> None:
        self.app = app
        same = (
            [_SAME_FOR_ALL]
            if thumbnails is None
            else [_SAME_FOR_ALL, _THUMBNAIL.format(folder=re.escape(str(thumbnails)))]
        )
        self._same = re.compile("|".join(same))
        self._kept: dict[tuple[Any, ...], _Kept] = {}
        self._coming: dict[tuple[Any, ...], asyncio.Task[_Kept]] = {}
        self._size = 0

    async def __call__(self, scope: Scope, receive: ASGI, send: ASGI) -> None:
        """One request."""
        headers = dict(scope.get("headers", ()))
        told = {b"range", b"if-none-match", b"if-modified-since", b"authorization"} & set(headers)
        if scope["type"] != "http" or scope["method"] != "GET" or told or not self._same.fullmatch(scope["path"]):
            return await self.app(scope, receive, send)
        brotli = b"br" in headers.get(b"accept-encoding", b"")
        named = tuple(header for header in scope["headers"] if header[0] in _NAMED)
        key = (scope["scheme"], scope["path"], scope["query_string"], brotli, named)
        kept = self._kept.pop(key, None)
        if kept is None:
            kept = await self._shared(key, {**scope, "headers": list(named)}, brotli)
        else:
            self._kept[key] = kept  # at the end again: what is asked for least goes first
        # A copy: middlewares outside change the list of headers.
        await send({**kept.head, "headers": list(kept.head["headers"])})
        await send({"type": "http.response.body", "body": kept.body})

    async def _shared(self, key: tuple[Any, ...], scope: Scope, brotli: bool) -> _Kept:
        """The answer, made once for all who ask for it meanwhile.

        The application sees no header but those of the key: by any other, such as X-Gradio-Server, which names the address
        that scripts are fetched from, one visitor could choose what all the others get.
        """
        if (coming := self._coming.get(key)) is None:
            coming = self._coming[key] = asyncio.create_task(self._made(scope, brotli))
            coming.add_done_callback(lambda task: self._arrived(key, task))
        return await asyncio.shield(coming)  # whoever asked first may go; the others still wait

    def _arrived(self, key: tuple[Any, ...], task: "asyncio.Task[_Kept]") -> None:
        """Keeps an answer; the least used go where there are too many, such as of queries that somebody makes up."""
        del self._coming[key]
        if task.cancelled() or task.exception() is not None or task.result().head["status"] != 200:
            return
        self._kept[key] = task.result()
        self._size += len(task.result().body) + _LEAST
        while self._size > _MOST:
            self._size -= len(self._kept.pop(next(iter(self._kept))).body) + _LEAST

    async def _made(self, scope: Scope, brotli: bool) -> _Kept:
        """The answer of the application, whole, and compressed if that is worth it."""
        head: dict[str, Any] = {}
        pieces: list[bytes] = []
        asked = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> Scope:
            # Then nothing: that one of those who wait has gone is not told.
            return next(asked, None) or await asyncio.Event().wait()

        async def collect(message: Scope) -> None:
            if message["type"] == "http.response.start":
                head.update(message)
            else:
                pieces.append(message.get("body", b""))

        await self.app(scope, receive, collect)
        body, headers = b"".join(pieces), dict(head["headers"])
        text = headers.get(b"content-type", b"").decode("latin-1").startswith(_TEXT)
        if brotli and text and len(body) >= _SMALL and b"content-encoding" not in headers:
            import brotli as library

            # In a thread, so that others are answered meanwhile.
            body = await asyncio.to_thread(library.compress, body, quality=_QUALITY)
            headers |= {b"content-encoding": b"br", b"vary": b"Accept-Encoding"}
        headers[b"content-length"] = str(len(body)).encode()
        return _Kept({**head, "headers": list(headers.items())}, body)
