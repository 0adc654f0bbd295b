"""HTTP of the loopback hub: one request read whole, the fault ordered for it, one answer."""

from __future__ import annotations

import json
import re
import select
import socket
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub import accounts
from tests.hub.faults import Fault
from tests.hub.store import Commit, Repo

if TYPE_CHECKING:
    from tests.hub.server import LoopbackHub

BYTES = "application/octet-stream"


class Plumbing(BaseHTTPRequestHandler):
    """One connection; `routes` says which method answers what."""

    hub: LoopbackHub
    routes: tuple[tuple[str, re.Pattern[str], str], ...] = ()
    protocol_version = "HTTP/1.1"
    fault: Fault | None = None

    def do_GET(self) -> None:
        self.dispatch("GET")

    def do_HEAD(self) -> None:
        self.dispatch("GET")

    def do_POST(self) -> None:
        self.dispatch("POST")

    def do_PUT(self) -> None:
        self.dispatch("PUT")

    def do_DELETE(self) -> None:
        self.dispatch("DELETE")

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test output quiet; `hub.requests` holds the log."""

    def dispatch(self, method: str) -> None:
        """Read the request whole, then answer it by the first route that fits."""
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.fault = self.hub.take_fault(f"{self.command} {url.path}")
        limit = self.fault.cut_upload_after if self.fault else None
        self.body = self.read_body(limit)
        if limit is not None:
            # Closing with bytes unread resets the connection, as a lost network does.
            self.close_connection = True
            return None
        if self.fault and self.fault.before:
            self.fault.before()
        if self.fault and self.fault.status:
            return self.answer(self.fault.status, b"", headers=self.fault.headers)
        shown = (self.headers.get("Authorization") or "").removeprefix("Bearer ").strip()
        self.token = self.hub.tokens.get(shown)
        self.user = self.token.user if self.token else None
        if shown and self.token is None:
            return self.error(401, "", "Invalid credentials in Authorization header")
        for verb, pattern, name in self.routes:
            match = pattern.fullmatch(url.path) if verb == method else None
            if match:
                parts = {key: unquote(value or "") for key, value in match.groupdict().items()}
                return getattr(self, f"on_{name}")(**parts)
        return self.error(404, "", f"no such endpoint: {self.command} {url.path}")

    def read_body(self, limit: int | None = None) -> bytes:
        """The body, of known length or in chunks; no more than `limit` bytes of it where one is given."""
        if "chunked" not in (self.headers.get("Transfer-Encoding") or "").lower():
            size = int(self.headers.get("Content-Length") or 0)
            return self.rfile.read(size if limit is None else min(size, limit))
        pieces: list[bytes] = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
            if limit is not None and sum(map(len, pieces)) >= limit:
                return b"".join(pieces)
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(pieces)

    # ------------------------------------------------------------------------------------------------ who asks

    def repo(self, id: str) -> Repo | None:
        """The repository, if it exists for whoever asks; otherwise the error is already answered."""
        repo = self.hub.repos.get(id)
        if repo is not None and accounts.sees(self.user, repo):
            return repo
        self.error(404 if self.user else 401, "RepoNotFound", "Repository not found")
        return None

    def find(self, id: str, rev: str) -> tuple[Repo, Commit] | None:
        """The repository and commit asked for; where one is missing the error is already answered."""
        repo = self.repo(id)
        if repo is None:
            return None
        commit = repo.at(rev)
        if commit is None:
            self.error(404, "RevisionNotFound", f"Invalid rev id: {rev}")
            return None
        return repo, commit

    def may_write(self, owner: str, what: str) -> bool:
        """Whether this token may change what `owner` has; otherwise the error is already answered."""
        if self.token is None:
            self.error(401, "", "Invalid username or password.")
        elif self.token.role == "read":
            self.error(403, "", f"Forbidden: you must use a write token to {what}")
        elif not self.token.user.writes_to(owner):
            self.error(403, "", f'You don\'t have the rights to {what} under the namespace "{owner}"')
        else:
            return True
        return False

    # ------------------------------------------------------------------------------------------------ answers

    def json(self, value: object, headers: dict[str, str] | None = None) -> None:
        self.answer(200, json.dumps(value).encode(), "application/json", headers)

    def error(self, status: int, code: str, message: str, commit: Commit | None = None, **facts: Any) -> None:
        headers = {"X-Error-Message": " ".join(message.split())}
        if code:
            headers["X-Error-Code"] = code
        if commit is not None:
            headers["X-Repo-Commit"] = commit.oid
        self.answer(status, json.dumps({"error": message, **facts}).encode(), "application/json", headers)

    def answer(self, status: int, body: bytes, kind: str = "text/plain", headers: dict[str, str] | None = None) -> None:
        """Send one response; a body that a fault cuts short keeps its true Content-Length and then hangs up."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.send_body(body, kind)

    def send_body(self, body: bytes, kind: str) -> None:
        fault = self.fault or Fault("")
        if fault.spoil and kind == BYTES:
            body = fault.spoil(body)
        if fault.cut_after is not None:
            body, self.close_connection = body[: fault.cut_after], True
        if fault.stall_after is not None:
            self.wfile.write(body[: fault.stall_after])
            self.close_connection = True
            return self.wait_for_hang_up()
        step = fault.chunk or max(len(body), 1)
        try:
            for start in range(0, len(body), step):
                self.wfile.write(body[start : start + step])
                if fault.pause:
                    time.sleep(fault.pause)
        except ConnectionError:
            self.close_connection = True  # the client is gone: killed, or its disk is full

    def wait_for_hang_up(self) -> None:
        while not self.hub.closing.is_set():
            ready, _, _ = select.select([self.connection], [], [], 0.05)
            if ready and not self.connection.recv(1, socket.MSG_PEEK):
                return
