"""uvicorn around the application: one socket, one process, an orderly end."""

import asyncio
import contextlib
import gc
import signal
import socket
import threading
from typing import TYPE_CHECKING

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from zoo.errors import ZooError
from zoo.serving.doors import LocalHosts, bound_socket, is_loopback

if TYPE_CHECKING:
    from fastapi import FastAPI


def _protocol(seconds: float) -> type[H11Protocol]:
    """uvicorn's HTTP, where a connection is closed that takes longer than `seconds` to send a request's header."""

    class Protocol(H11Protocol):
        late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self.late:
                self.late.cancel()

        def _watch(self) -> None:
            # Also a body that goes on after its answer. Between requests uvicorn's own keep-alive timer runs.
            answered = self.cycle is not None and self.cycle.response_complete
            if self.conn.their_state is not h11.IDLE and not (answered and self.conn.their_state is h11.SEND_BODY):
                if self.late:
                    self.late.cancel()
                self.late = None
            elif self.late is None:
                self.late = self.loop.call_later(seconds, self.transport.close)

    return Protocol


def run(app: "FastAPI", host: str, port: int, ready: str) -> None:
    """The work after `zoo.serving.run_server`, which describes the arguments."""
    sock = bound_socket(host, port)
    shown = f"[{host}]" if ":" in host else host
    ready = ready.format(url=f"http://{shown}:{sock.getsockname()[1]}")
    server = server_of(app, ready, local=is_loopback(host))
    # uvicorn raises the signal that stopped it once more, when all is done: then it is no error.
    _many_descriptors()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: None)
    with sock, contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[sock])
    if not server.started:
        raise ZooError("the server did not start; its log says why")


def _many_descriptors() -> None:
    # The usual soft limit, 1024, is soon used up by connections that send nothing.
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2**16)), hard))


def server_of(app: "FastAPI", ready: str = "", *, local: bool = True) -> uvicorn.Server:
    """A uvicorn server that prints `ready` once it answers; a `local` one answers to the names of this machine alone."""
    seconds = app.state.service.limits.seconds

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if (
                ready
            ):  # of a process of our own: what is there now stays, and need not be looked through again and again
                gc.collect()
                gc.freeze()
            if self.started and ready:
                print(ready, flush=True)

    config = uvicorn.Config(
        LocalHosts(app) if local else app,
        log_level="warning",
        access_log=False,  # texts never reach a log; counts are at /metrics
        http=_protocol(seconds),
        ws="none",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(seconds) + 1,
        server_header=False,
    )
    return Server(config)
