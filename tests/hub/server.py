"""The loopback hub itself: the Hub's HTTP interface on 127.0.0.1, with accounts, and faults that a test can order."""

from __future__ import annotations

import re
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote

from tests.hub.accounts import TOKENS
from tests.hub.faults import Faults
from tests.hub.reading import Reading
from tests.hub.store import Repo, as_blob, read_folder
from tests.hub.writing import Writing

# A data set is the repository "datasets/org/name", a Space "spaces/org/name", as their addresses say it.
ID = r"(?P<id>(?:datasets|spaces)/[^/]+/[^/]+|(?!(?:datasets|spaces)/)[^/]+(?:/[^/]+)?)"
API = rf"/api/(?:models/|(?=(?:datasets|spaces)/)){ID}"
REV, PATH, NAME = r"(?P<rev>[^/]+)", r"(?P<path>.+)", r"(?P<name>[^/]+)"
ROUTES = (
    ("GET", rf"{API}/tree/{REV}(?:/{PATH})?", "tree"),
    ("POST", rf"{API}/paths-info/{REV}", "paths_info"),
    ("GET", rf"{API}/revision/{REV}", "info"),
    ("GET", rf"{API}/refs", "refs"),
    ("GET", r"/api/whoami-v2", "whoami"),
    ("GET", r"/api/(?P<kind>models|datasets|spaces)", "search"),
    ("GET", API, "info"),
    ("GET", rf"/{ID}/resolve/{REV}/{PATH}", "resolve"),
    ("POST", r"/api/repos/create", "create"),
    ("DELETE", r"/api/repos/delete", "delete"),
    ("POST", r"/api/validate-yaml", "validate_yaml"),
    ("PUT", rf"{API}/settings", "settings"),
    ("POST", rf"{API}/preupload/{REV}", "preupload"),
    ("POST", rf"/{ID}\.git/info/lfs/objects/batch", "lfs_batch"),
    ("POST", rf"/{ID}\.git/info/lfs/objects/verify", "lfs_verify"),
    ("PUT", rf"/lfs-store/{ID}/(?P<oid>[0-9a-f]{{64}})", "lfs_put"),
    ("POST", rf"{API}/commit/{REV}", "commit"),
    ("POST", rf"{API}/branch/{NAME}", "branch"),
    ("DELETE", rf"{API}/branch/{NAME}", "unname"),
    ("POST", rf"{API}/tag/{REV}", "tag"),
    ("DELETE", rf"{API}/tag/{NAME}", "unname"),
)


class _Handler(Reading, Writing):
    routes = tuple((verb, re.compile(pattern), name) for verb, pattern, name in ROUTES)


class LoopbackHub(Faults):
    """A hub on 127.0.0.1 that serves folders as repositories and takes uploads. Use it as a context manager.

    `with LoopbackHub() as hub: hub.add(folder, "org/name")`, then point a client at `hub.url` (for huggingface_hub:
    `endpoint=hub.url`, or `HF_ENDPOINT` set before it is imported; `hub.environment(home)` gives all that is needed).

    Attributes:
        repos: id → repository. requests: "METHOD /path" of every request so far. faults: those that were ordered.
        stored: (repository, sha256) of every large file whose bytes arrived by upload, in order.
        token: of user "me", who may write to "me" and "org" and only read in "reading-only".
        read_token: of the same user, for reading only. stranger_token: of a user "stranger" who belongs nowhere.
    """

    token, read_token, stranger_token = TOKENS

    def __init__(self, port: int = 0) -> None:
        super().__init__()
        self.repos: dict[str, Repo] = {}
        self.stored: list[tuple[str, str]] = []
        self.tokens = dict(TOKENS)
        self.lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> LoopbackHub:
        self._thread.start()
        return self

    def serve(self) -> None:
        """Serve in this thread, until interrupted."""
        self._server.serve_forever()

    def close(self) -> None:
        """Stop listening and give the port back."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> LoopbackHub:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(
        self,
        folder: Path | dict[str, bytes],
        repo_id: str,
        *,
        tag: str | None = None,
        gated: bool = False,
        private: bool = False,
    ) -> str:
        """Commit a folder (or a mapping of path to bytes) to a repository; returns the commit's 40-digit id.

        A data set's repository is "datasets/org/name", a Space's "spaces/org/name".
        """
        if isinstance(folder, dict):
            files = {path: as_blob(path, content) for path, content in folder.items()}
        else:
            files = read_folder(folder)
        with self.lock:
            repo = self.repos.setdefault(repo_id, Repo(repo_id))
            repo.gated, repo.private = gated, private
            return repo.commit(files, tag=tag).oid

    def clear(self) -> None:
        """Be as a new hub at the same address: no repositories, faults or log."""
        with self.lock:
            for kept in (self.repos, self.stored, self.requests, self.faults):
                kept.clear()
            self.tokens = dict(TOKENS)

    def fetched(self) -> list[str]:
        """The paths of the repository files whose bytes were asked for, in order."""
        found = (re.fullmatch(r"GET /.+?/resolve/[^/]+/(.+)", line) for line in self.requests)
        return [unquote(match[1]) for match in found if match]

    def environment(self, home: Path, token: str | None = None) -> dict[str, str]:
        """Environment variables that make huggingface_hub in a child process talk to this hub only."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            **({"HF_TOKEN": token} if token else {}),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
            "TRANSFORMERS_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1,localhost",
        }
