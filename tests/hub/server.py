"""The loopback hub itself: the read side of the Hub's HTTP interface, with faults that a test can order."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.store import Blob, Commit, Repo, read_folder

# A data set is the repository "datasets/org/name", as its addresses say it.
ID = r"(?P<id>(?:datasets/[^/]+/)?[^/]+(?:/[^/]+)?)"
API = rf"/api/(?:models/|(?=datasets/)){ID}"
ROUTES = (
    ("GET", re.compile(rf"{API}/tree/(?P<rev>[^/]+)(?:/(?P<path>.+))?"), "tree"),
    ("POST", re.compile(rf"{API}/paths-info/(?P<rev>[^/]+)"), "paths_info"),
    ("GET", re.compile(rf"{API}/revision/(?P<rev>[^/]+)"), "info"),
    ("GET", re.compile(rf"{API}/refs"), "refs"),
    ("GET", re.compile(API), "info"),
    ("GET", re.compile(r"/api/models"), "search"),
    ("GET", re.compile(rf"/{ID}/resolve/(?P<rev>[^/]+)/(?P<path>.+)"), "resolve"),
)


@dataclass
class Fault:
    """Something that goes wrong for the next `times` requests whose "METHOD /path" matches `match` (a regex)."""

    match: str
    times: int = 1
    status: int = 0  # answer this instead, with an empty body
    cut_after: int | None = None  # or send only so many bytes of the body, then drop the connection


class LoopbackHub:
    """A hub on 127.0.0.1 that serves folders as repositories. Use it as a context manager.

    `with LoopbackHub() as hub: hub.add(folder, "org/name")`, then point a client at `hub.url` (for huggingface_hub:
    `endpoint=hub.url`, or `HF_ENDPOINT` set before it is imported; `hub.environment(home)` gives all that is needed).
    """

    token = "hf_loopback"

    def __init__(self, port: int = 0) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self._lock = threading.Lock()
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
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> LoopbackHub:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, folder: Path | dict[str, bytes], repo_id: str, *, tag: str | None = None, gated: bool = False) -> str:
        """Commit a folder (or a mapping of path to bytes) to a repository; returns the commit's 40-digit id.

        A data set's repository is "datasets/org/name".
        """
        if isinstance(folder, dict):
            files = {path: Blob(content, lfs=path.endswith(".safetensors")) for path, content in folder.items()}
        else:
            files = read_folder(folder)
        repo = self.repos.setdefault(repo_id, Repo(repo_id))
        repo.gated = gated
        return repo.commit(files, tag=tag).oid

    def fail(self, match: str = "", *, times: int = 1, status: int = 500) -> None:
        """Let the next `times` requests that match end in an HTTP error."""
        self.faults.append(Fault(match, times, status=status))

    def cut(self, match: str = "", *, after: int = 0, times: int = 1) -> None:
        """Let the next `times` matching answers break off after so many bytes of body."""
        self.faults.append(Fault(match, times, cut_after=after))

    def fetched(self) -> list[str]:
        """The paths of the repository files whose bytes were asked for, in order."""
        found = (re.fullmatch(r"GET /.+?/resolve/[^/]+/(.+)", line) for line in self.requests)
        return [unquote(match[1]) for match in found if match]

    def environment(self, home: Path) -> dict[str, str]:
        """Environment variables that make huggingface_hub in a child process talk to this hub only."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
            "TRANSFORMERS_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def take_fault(self, line: str) -> Fault | None:
        """Note a request, and the fault ordered for it, if any."""
        with self._lock:
            self.requests.append(line)
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.match, line):
                    fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"
    cut_after: int | None = None

    def do_GET(self) -> None:
        self.dispatch("GET")

    def do_HEAD(self) -> None:
        self.dispatch("GET")

    def do_POST(self) -> None:
        self.dispatch("POST")

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test output quiet; `hub.requests` holds the log."""

    def dispatch(self, method: str) -> None:
        """Read the request whole, then answer it by the first route that fits."""
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.hub.take_fault(f"{self.command} {url.path}")
        self.cut_after = fault.cut_after if fault else None
        if fault and fault.status:
            return self.answer(fault.status, b"")
        for verb, pattern, name in ROUTES:
            match = pattern.fullmatch(url.path) if verb == method else None
            if match:
                parts = {key: unquote(value or "") for key, value in match.groupdict().items()}
                return getattr(self, f"on_{name}")(**parts)
        return self.error(404, "", f"no such endpoint: {self.command} {url.path}")

    def on_search(self) -> None:
        wanted = self.query.get("search", [""])[0]
        author = self.query.get("author", [""])[0]
        repos = [repo for id, repo in self.hub.repos.items() if wanted in id and id.startswith(author)]
        self.json([repo.info(repo.commits[repo.refs["main"]]) for repo in repos])

    def on_info(self, id: str, rev: str = "main") -> None:
        repo, commit = self.find(id, rev)
        if commit is not None:
            self.json(repo.info(commit))

    def on_refs(self, id: str) -> None:
        repo, _ = self.find(id, "main")
        if repo is not None:
            refs = [{"name": name, "targetCommit": oid} for name, oid in repo.refs.items()]
            branches = [{**ref, "ref": "refs/heads/main"} for ref in refs if ref["name"] == "main"]
            tags = [{**ref, "ref": f"refs/tags/{ref['name']}"} for ref in refs if ref["name"] != "main"]
            self.json({"branches": branches, "tags": tags, "converts": []})

    def on_tree(self, id: str, rev: str, path: str = "") -> None:
        _, commit = self.find(id, rev)
        if commit is not None:
            recursive = self.query.get("recursive", ["false"])[0].lower() == "true"
            self.json(commit.listing(path, recursive))

    def on_paths_info(self, id: str, rev: str) -> None:
        _, commit = self.find(id, rev)
        if commit is None:
            return
        if "json" in (self.headers.get("Content-Type") or ""):
            paths = json.loads(self.body or b"{}").get("paths", [])
        else:
            paths = parse_qs(self.body.decode()).get("paths", [])
        self.json([commit.files[path].entry(path) for path in paths if path in commit.files])

    def on_resolve(self, id: str, rev: str, path: str) -> None:
        repo, commit = self.find(id, rev)
        if commit is None:
            return
        if repo.gated and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self.error(403, "GatedRepo", f"Access to model {id} is restricted and you are not in the authorized list.")
            return
        if path not in commit.files:
            self.error(404, "EntryNotFound", "Entry not found", commit)
            return
        self.send_blob(commit, commit.files[path])

    def find(self, id: str, rev: str) -> tuple[Repo | None, Commit | None]:
        """The repository and commit asked for; where one is missing the error is already answered."""
        repo = self.hub.repos.get(id)
        if repo is None:
            self.error(401, "RepoNotFound", "Repository not found")
            return None, None
        commit = repo.at(rev)
        if commit is None:
            self.error(404, "RevisionNotFound", f"Invalid rev id: {rev}")
        return repo, commit

    def send_blob(self, commit: Commit, blob: Blob) -> None:
        """The bytes of one file, whole or the range that the client asked for."""
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}
        if blob.lfs:
            headers |= {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(blob.size)}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not wanted:
            self.answer(200, blob.content, "application/octet-stream", headers)
            return
        first, last = int(wanted[1]), int(wanted[2] or blob.size - 1)
        if first >= blob.size:
            self.answer(416, b"", headers={**headers, "Content-Range": f"bytes */{blob.size}"})
            return
        headers["Content-Range"] = f"bytes {first}-{min(last, blob.size - 1)}/{blob.size}"
        self.answer(206, blob.content[first : last + 1], "application/octet-stream", headers)

    def json(self, value: object) -> None:
        self.answer(200, json.dumps(value).encode(), "application/json")

    def error(self, status: int, code: str, message: str, commit: Commit | None = None) -> None:
        headers = {"X-Error-Message": message}
        if code:
            headers["X-Error-Code"] = code
        if commit is not None:
            headers["X-Repo-Commit"] = commit.oid
        self.answer(status, json.dumps({"error": message}).encode(), "application/json", headers)

    def answer(self, status: int, body: bytes, kind: str = "text/plain", headers: dict[str, str] | None = None) -> None:
        """Send one response; a body that a fault cuts short keeps its true Content-Length and then hangs up."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.cut_after is not None:
            body, self.close_connection = body[: self.cut_after], True
        self.wfile.write(body)
