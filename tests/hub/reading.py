"""The read side of the loopback hub: facts, listings and the bytes of files."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs

from tests.hub import accounts
from tests.hub.plumbing import BYTES, Plumbing
from tests.hub.store import Blob, Commit

PAGE = 1000  # entries of a listing in one answer


class Reading(Plumbing):
    """GET, and the POST of paths-info."""

    def on_search(self, kind: str = "models") -> None:
        wanted = self.query.get("search", [""])[0]
        author = self.query.get("author", [""])[0]
        first = "" if kind == "models" else f"{kind}/"
        repos = [repo for repo in self.hub.repos.values() if repo.id == first + repo.name]
        seen = [repo for repo in repos if accounts.sees(self.user, repo)]
        self.json([repo.info(repo.head) for repo in seen if wanted in repo.name and repo.name.startswith(author)])

    def on_info(self, id: str, rev: str = "main") -> None:
        if found := self.find(id, rev):
            repo, commit = found
            self.json(repo.info(commit, blobs=self.query.get("blobs", ["false"])[0].lower() == "true"))

    def on_refs(self, id: str) -> None:
        if repo := self.repo(id):
            refs = [{"name": name, "targetCommit": oid} for name, oid in sorted(repo.refs.items())]
            branches = [{**ref, "ref": f"refs/heads/{ref['name']}"} for ref in refs if ref["name"] in repo.branches]
            pulls = [{**ref, "ref": ref["name"]} for ref in refs if ref["name"].startswith("refs/pr/")]
            others = {ref["name"] for ref in (*branches, *pulls)}
            tags = [{**ref, "ref": f"refs/tags/{ref['name']}"} for ref in refs if ref["name"] not in others]
            self.json({"branches": branches, "tags": tags, "converts": [], "pullRequests": pulls})

    def on_tree(self, id: str, rev: str, path: str = "") -> None:
        found = self.find(id, rev)
        if found is None:
            return
        _, commit = found
        entries = commit.listing(path, self.query.get("recursive", ["false"])[0].lower() == "true")
        if path and not entries:
            return self.error(404, "EntryNotFound", f"{path} does not exist on {rev}", commit)
        start = int(self.query.get("cursor", ["0"])[0])
        more = start + PAGE < len(entries)
        address = f"{self.hub.url}{self.path.partition('?')[0]}?recursive=true&cursor={start + PAGE}"
        self.json(entries[start : start + PAGE], {"Link": f'<{address}>; rel="next"'} if more else None)

    def on_paths_info(self, id: str, rev: str) -> None:
        found = self.find(id, rev)
        if found is None:
            return
        _, commit = found
        if "json" in (self.headers.get("Content-Type") or ""):
            paths = json.loads(self.body or b"{}").get("paths", [])
        else:
            paths = parse_qs(self.body.decode()).get("paths", [])
        self.json([commit.files[path].entry(path) for path in paths if path in commit.files])

    def on_whoami(self) -> None:
        if self.token is None:
            return self.error(401, "", "Invalid username or password.")
        self.json(self.token.whoami())

    def on_resolve(self, id: str, rev: str, path: str) -> None:
        found = self.find(id, rev)
        if found is None:
            return
        repo, commit = found
        if not accounts.opens(self.user, repo):
            message = f"Access to model {repo.name} is restricted and you are not in the authorized list."
            return self.error(403 if self.user else 401, "GatedRepo", message)
        if path not in commit.files:
            return self.error(404, "EntryNotFound", "Entry not found", commit)
        self.send_blob(commit, commit.files[path])

    def send_blob(self, commit: Commit, blob: Blob) -> None:
        """The bytes of one file, whole or the range that the client asked for."""
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}
        if blob.lfs:
            headers |= {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(blob.size)}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not wanted:
            return self.answer(200, blob.content, BYTES, headers)
        first, last = int(wanted[1]), int(wanted[2] or blob.size - 1)
        if first >= blob.size:
            return self.answer(416, b"", headers={**headers, "Content-Range": f"bytes */{blob.size}"})
        headers["Content-Range"] = f"bytes {first}-{min(last, blob.size - 1)}/{blob.size}"
        self.answer(206, blob.content[first : last + 1], BYTES, headers)
