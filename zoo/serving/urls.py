"""Fetching an image that a client names by URL, without becoming its way into the own network."""

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from zoo.errors import FetchError

REDIRECTS = 3
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Url:
    """An address that stands where the bytes of an image, audio or video should be."""

    address: str


def in_thread(call: Callable[[], Any]) -> "Future[Any]":
    """Runs `call` in a daemon thread of its own: the end of the process never waits for a foreign server."""
    done: Future[Any] = Future()
    done.set_running_or_notify_cancel()

    def work() -> None:
        try:
            result = call()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(result)

    threading.Thread(target=work, name="zoo-fetch", daemon=True).start()
    return done


def is_public(address: Address) -> bool:
    """Whether an address belongs to the open internet: no private, local, reserved or tunnelled one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast
    # Outside 2000::/3 lie NAT64, mapped and local addresses; inside it, 6to4 and Teredo hide an IPv4 address.
    return address in _GLOBAL_V6 and address.is_global and address.sixtofour is None and address.teredo is None


def fetch(
    url: str,
    *,
    max_bytes: int,
    seconds: float,
    permitted: Callable[[Address], bool] = is_public,
    context: ssl.SSLContext | None = None,
) -> bytes:
    """The body behind an https URL.

    The name is resolved once for each hop and the connection goes to that very address, so that no second answer of
    the name server can lead elsewhere; each redirect is checked anew.

    Args:
        max_bytes, seconds: of all hops together. permitted: which addresses may be asked.

    Raises:
        FetchError: no https, an address that is not permitted, a redirect too many, too large, too slow, no 200.
    """
    deadline = time.monotonic() + seconds
    context = context or ssl.create_default_context()
    for _ in range(REDIRECTS + 1):
        parts = _checked(url)
        connection = _Pinned(parts, _resolve(parts, permitted, _left(deadline, url)), deadline, context)
        # A timeout of the socket would begin anew with every byte that trickles in.
        alarm = threading.Timer(_left(deadline, url), connection.abort)
        alarm.daemon = True
        alarm.start()
        try:
            found = _get(connection, parts, max_bytes)
            connection.time_left()  # an aborted body without a length looks like a whole one
        except (OSError, http.client.HTTPException, ValueError) as error:
            late = isinstance(error, TimeoutError) or time.monotonic() >= deadline
            reason = "it took too long" if late else str(error) or type(error).__name__
            raise FetchError(f"{url[:200]} cannot be fetched: {reason}", what=url[:80]) from error
        finally:
            alarm.cancel()
            connection.close()
        if isinstance(found, bytes):
            return found
        try:
            url = urljoin(url, found)
        except ValueError as error:
            raise FetchError(f"{url[:200]} leads to {found[:200]!r}, which is no URL", what=url[:80]) from error
    raise FetchError(f"{url[:200]}: more than {REDIRECTS} redirects", what=url[:80])


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise FetchError(f"{url[:200]} is no URL: {error}", what=url[:80]) from error
    if parts.scheme != "https" or not parts.hostname:
        raise FetchError(f"{url[:200]}: only https addresses are fetched", what=url[:80])
    if parts.username is not None or parts.password is not None:
        raise FetchError("a URL with a user name or password is not fetched", what=parts.hostname)
    if port == 0 or any(c <= " " or c == "\x7f" for c in url):
        raise FetchError(f"{url[:200]!r} is no URL", what=url[:80])
    return parts


def _resolve(parts: SplitResult, permitted: Callable[[Address], bool], seconds: float) -> str:
    host = parts.hostname or ""
    try:
        # getaddrinfo has no time limit of its own.
        asked = in_thread(lambda: socket.getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM))
        found = asked.result(seconds)
    except TimeoutError as error:
        raise FetchError(f"{host[:200]} cannot be resolved: it took too long", what=host[:80]) from error
    except (OSError, UnicodeError) as error:
        raise FetchError(f"{host[:200]} cannot be resolved", what=host[:80]) from error
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    # One private address among public ones is refused too: which one answers must not be left to chance.
    if not addresses or not all(permitted(address) for address in addresses):
        raise FetchError(f"{host[:200]} is no public address; it is not fetched", what=host[:80])
    return str(addresses[0])


class _Pinned(http.client.HTTPSConnection):
    """A connection to one address, whose certificate must fit the name."""

    def __init__(self, parts: SplitResult, address: str, deadline: float, context: ssl.SSLContext) -> None:
        super().__init__(parts.hostname or "", parts.port or 443, context=context)
        self._address, self._deadline, self._tls = address, deadline, context
        self._aborted = False
        self._held: ssl.SSLSocket | None = None

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self.port), timeout=self.time_left())
        try:
            # wrap_socket takes the descriptor over, so it is kept before the handshake: abort() must find it.
            self.sock = self._held = self._tls.wrap_socket(
                plain, server_hostname=self.host, do_handshake_on_connect=False
            )
        except BaseException:
            plain.close()
            raise
        self.sock.settimeout(self.time_left())
        self.sock.do_handshake()
        self.sock.settimeout(self.time_left())

    def time_left(self) -> float:
        """Seconds until the deadline; raises TimeoutError once there are none."""
        # Also where abort() came before there was a socket to shut down.
        left = self._deadline - time.monotonic()
        if self._aborted or left <= 0:
            raise TimeoutError("it took too long")
        return left

    def abort(self) -> None:
        """Ends whatever the connection waits for, from another thread."""
        self._aborted = True
        # http.client forgets `sock` once an answer without a length begins, while its body is still read.
        if self._held is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._held, socket.SHUT_RDWR)  # not SSLSocket's own, which changes its state


def _get(connection: _Pinned, parts: SplitResult, max_bytes: int) -> bytes | str:
    """The body, or where a redirect leads."""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request("GET", path, headers={"Accept-Encoding": "identity", "User-Agent": "embedding-zoo"})
    answer = connection.getresponse()
    if answer.status in (301, 302, 303, 307, 308):
        return answer.getheader("Location") or ""
    if answer.status != 200:
        raise ValueError(f"the server answered {answer.status}")
    body = answer.read(max_bytes + 1)
    if len(body) > max_bytes:
        raise ValueError(f"more than {max_bytes:,} bytes")
    if answer.length:
        raise ValueError(f"the body ended {answer.length} bytes early")
    return body


def _left(deadline: float, url: str) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise FetchError(f"{url[:200]} cannot be fetched: it took too long", what=url[:80])
    return left
