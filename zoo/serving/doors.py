"""Where a server listens and who may call it: a socket, and two checks of a request's head, for `zoo serve` and `zoo demo`.

A browser sends requests wherever any web page tells it to. So a strange page may reach a server on its visitor's machine:
under a name of its own that suddenly means 127.0.0.1 (DNS rebinding; `LocalHosts` refuses it), or by requests for which
browsers ask nobody's leave, such as forms and uploads (`SameOrigin` refuses those).
"""

import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from zoo.errors import ZooError

ASGI = Callable[..., Awaitable[None]]
_FRAMES = {"iframe", "frame", "embed", "object", "fencedframe"}
_PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Whether a name or an address, as `--host` takes it, is of this machine alone."""
    try:
        return host.lower().removesuffix(".") == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that holds the address before the server starts; raises ZooError where it cannot be had."""
    try:
        if not 0 <= port < 2**16:  # getaddrinfo takes 99999 for 34463
            raise OverflowError("ports are numbers from 0 to 65535")
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ZooError(f"cannot listen at {host}:{port}: {reason}; --port 0 takes any free port") from error
    return sock


class LocalHosts:
    """ASGI: refuses with status 403 what is asked of another Host than this machine's own names and addresses."""

    def __init__(self, app: ASGI) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: ASGI, send: ASGI) -> None:
        """One request."""
        if scope["type"] in ("http", "websocket"):
            named = _headers(scope, b"host")
            if len(named) != 1 or not is_loopback(_host_port(named[0])[0]):
                told = f"{named[0]!r:.80}" if named else "none"
                message = f"this server answers to localhost and 127.0.0.1 alone, and the Host is {told}"
                return await _refuse(scope, send, "host_refused", f"{message}; start it with --host to let others in")
        await self.app(scope, receive, send)
        return None


class SameOrigin:
    """ASGI: refuses with status 403 what another web page sends; its own page and programs pass.

    Args:
        origins: of pages that may call too ("https://page.example"); "*" is all.
    """

    def __init__(self, app: ASGI, origins: Collection[str] = ()) -> None:
        self.app, self.origins = app, frozenset(origins)

    async def __call__(self, scope: MutableMapping[str, Any], receive: ASGI, send: ASGI) -> None:
        """One request."""
        if scope["type"] in ("http", "websocket") and "*" not in self.origins and (page := self._stranger(scope)):
            message = f"{page} may not call this server; `zoo serve` lets a page of another origin in by --cors ORIGIN"
            return await _refuse(scope, send, "origin_refused", message)
        await self.app(scope, receive, send)
        return None

    def _stranger(self, scope: MutableMapping[str, Any]) -> str:
        """The other page that sends this request; "" where none does."""
        for origin in _headers(scope, b"origin"):
            if origin not in self.origins and not self._ours(origin, scope):
                return f"the page {origin!r:.80}"
        site, mode = _headers(scope, b"sec-fetch-site"), _headers(scope, b"sec-fetch-mode")
        # A link to this server may be followed from anywhere. What a page embeds has no Origin, but says where it is from;
        # in a frame its own clicks would pass for those of the visitor.
        followed = mode == ["navigate"] and not _FRAMES & set(_headers(scope, b"sec-fetch-dest"))
        if site == ["cross-site"] and not followed and not _headers(scope, b"origin"):
            return "a page of another site"
        return ""

    @staticmethod
    def _ours(origin: str, scope: MutableMapping[str, Any]) -> bool:
        """Whether an Origin is the Host that is asked; all names of this machine are one."""
        default = _PORTS.get(origin.partition(":")[0], 0)
        (name, port), hosts = _host_port(origin.partition("://")[2], default), _headers(scope, b"host")
        if not name or len(hosts) != 1:
            return False
        # A proxy may have taken TLS off, so that a Host without a port means that of the Origin's scheme.
        asked, asked_port = _host_port(hosts[0], default)
        return port == asked_port and (name == asked or (is_loopback(name) and is_loopback(asked)))


def _headers(scope: MutableMapping[str, Any], name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _host_port(text: str, default: int = 0) -> tuple[str, int]:
    """Name and port of "localhost:7860" or "[::1]"; ("", 0) for what is none."""
    try:
        parts = urlsplit(f"//{text}")
        plain = not (parts.path or parts.query or parts.fragment or "@" in text or text.split() != [text])
        return ((parts.hostname or "").removesuffix("."), parts.port or default) if plain else ("", 0)
    except ValueError:
        return "", 0


async def _refuse(scope: MutableMapping[str, Any], send: ASGI, code: str, message: str) -> None:
    if scope["type"] == "websocket":
        return await send({"type": "websocket.close", "code": 1008, "reason": message[:120]})
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error", "code": code, "param": None}})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body.encode())).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
    return None
