"""What all visitors of a page fetch alike, the page and its scripts, is made and compressed once."""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

ASGI = Callable[..., Awaitable[Any]]
Scope = MutableMapping[str, Any]
# Gradio writes the page anew for every visitor (0.1 s of CPU for the same bytes), and compresses each script each time.
_SAME_FOR_ALL = re.compile(r"/(config|theme\.css|gradio_api/info|(assets|static|svelte)/.+)?")
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
    """ASGI: keeps the answers to requests of those paths, by all that they depend on."""

    def __init__(self, app: ASGI) -> None:
        self.app = app
        self._kept: dict[tuple[Any, ...], _Kept] = {}

    async def __call__(self, scope: Scope, receive: ASGI, send: ASGI) -> None:
        """One request."""
        headers = dict(scope.get("headers", ()))
        told = {b"range", b"if-none-match", b"if-modified-since", b"authorization"} & set(headers)
        if scope["type"] != "http" or scope["method"] != "GET" or told or not _SAME_FOR_ALL.fullmatch(scope["path"]):
            return await self.app(scope, receive, send)
        brotli = b"br" in headers.get(b"accept-encoding", b"")
        named = tuple(header for header in scope["headers"] if header[0] in _NAMED)
        key = (scope["scheme"], scope["path"], scope["query_string"], brotli, named)
        if (kept := self._kept.get(key)) is None:
            # The application sees no header but those of the key: by any other, such as X-Gradio-Server, which names the
            # address that scripts are fetched from, one visitor could choose what all the others get.
            kept = await self._made({**scope, "headers": list(named)}, receive, brotli)
            if kept.head["status"] == 200:
                self._keep(key, kept)
        # A copy: middlewares outside change the list of headers.
        await send({**kept.head, "headers": list(kept.head["headers"])})
        await send({"type": "http.response.body", "body": kept.body})

    def _keep(self, key: tuple[Any, ...], kept: _Kept) -> None:
        """Keeps an answer; the oldest go where there are too many, such as of queries that somebody makes up."""
        self._kept[key] = kept
        while sum(len(one.body) + _LEAST for one in self._kept.values()) > _MOST:
            del self._kept[next(iter(self._kept))]

    async def _made(self, scope: Scope, receive: ASGI, brotli: bool) -> _Kept:
        """The answer of the application, whole, and compressed if that is worth it."""
        head: dict[str, Any] = {}
        pieces: list[bytes] = []

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

            body = library.compress(body, quality=_QUALITY)
            headers |= {b"content-encoding": b"br", b"vary": b"Accept-Encoding"}
        headers[b"content-length"] = str(len(body)).encode()
        return _Kept({**head, "headers": list(headers.items())}, body)
