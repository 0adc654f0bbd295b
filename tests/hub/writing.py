"""The write side of the loopback hub: repositories, large files, commits, branches and tags."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from tests.hub import accounts
from tests.hub.plumbing import Plumbing
from tests.hub.store import ATTRIBUTES, LFS_SIZE, LFS_SUFFIXES, Blob, Commit, Repo

STALE = "A commit has happened since. Please refresh and try again."
DANGLING = "Your push was rejected because an LFS pointer pointed to a file that does not exist"


class _Refused(Exception):
    """A commit that the hub does not take."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Writing(Plumbing):
    """POST, PUT and DELETE."""

    def on_create(self) -> None:
        wanted = json.loads(self.body)
        kind, name = wanted.get("type") or "model", wanted.get("name") or ""
        owner = wanted.get("organization") or (self.user.name if self.user else "")
        if not self.may_write(owner, f"create a {kind}"):
            return None
        id = f"{'' if kind == 'model' else kind + 's/'}{owner}/{name}"
        with self.hub.lock:
            if id in self.hub.repos:
                return self.error(409, "", f"You already created this {kind} repo", url=f"{self.hub.url}/{id}")
            private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
            repo = self.hub.repos[id] = Repo(id, private=private, sdk=wanted.get("sdk") or "")
            files = {".gitattributes": Blob(ATTRIBUTES)}
            if kind == "space":
                files["README.md"] = Blob(f"---\ntitle: {name}\nsdk: {repo.sdk}\n---\n".encode())
            repo.commit(files, title="initial commit")
        self.json({"url": f"{self.hub.url}/{id}", "name": f"{owner}/{name}", "id": f"{owner}/{name}"})

    def on_delete(self) -> None:
        wanted = json.loads(self.body)
        kind = wanted.get("type") or "model"
        owner = wanted.get("organization") or (self.user.name if self.user else "")
        id = f"{'' if kind == 'model' else kind + 's/'}{owner}/{wanted.get('name')}"
        if self.may_write(owner, f"delete a {kind}") and self.repo(id):
            del self.hub.repos[id]
            self.json({})

    def on_settings(self, id: str) -> None:
        if repo := self._writable(id):
            wanted = json.loads(self.body)
            repo.private = bool(wanted.get("private", wanted.get("visibility", "") == "private"))
            repo.gated = bool(wanted.get("gated", repo.gated))
            self.json({"private": repo.private})

    def on_validate_yaml(self) -> None:
        """Checks what stands between the first two lines of dashes; the real Hub also knows every key's values."""
        import yaml

        content = json.loads(self.body).get("content") or ""
        errors: list[str] = []
        if content.startswith("---\n"):
            front, closed, _ = content[4:].partition("\n---")
            try:
                facts = yaml.safe_load(front) if closed else None
                if not isinstance(facts, dict):
                    errors.append("front matter must be a mapping between two lines of ---")
                elif not isinstance(facts.get("tags", []), list):
                    errors.append('"tags" must be an array')
            except yaml.YAMLError as error:
                errors.append(f"invalid YAML: {error}")
        body = {"errors": [{"message": error} for error in errors], "warnings": []}
        if errors:
            return self.error(400, "", errors[0], **body)
        self.json(body)

    # -------------------------------------------------------------------------------------------- large files

    def on_preupload(self, id: str, rev: str) -> None:
        repo = self._writable(id, pull_request=True)
        commit = repo.at(rev) if repo else None
        if repo is not None and commit is None:
            self.error(404, "RevisionNotFound", f"Invalid rev id: {rev}")
        elif commit is not None:
            self.json({"files": [self._mode(commit, file) for file in json.loads(self.body)["files"]]})

    def _mode(self, commit: Commit, file: dict[str, Any]) -> dict[str, Any]:
        """How one file is to be sent; `oid` lets the client leave out what has not changed."""
        binary = b"\0" in base64.b64decode(file.get("sample") or "")
        name = file["path"].rpartition("/")[2]
        large = any(name.endswith(suffix) for suffix in LFS_SUFFIXES) or file["size"] > LFS_SIZE or binary
        present = commit.files.get(file["path"])
        mode = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        return {**mode, "oid": present.etag} if present else mode

    def on_lfs_batch(self, id: str) -> None:
        repo = self._writable(id, pull_request=True)
        if repo is None:
            return
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in repo.lfs:
                upload = {"href": f"{self.hub.url}/lfs-store/{id}/{wanted['oid']}"}
                verify = {"href": f"{self.hub.url}/{id}.git/info/lfs/objects/verify"}
                entry["actions"] = {"upload": upload, "verify": verify}
            objects.append(entry)
        self.json({"transfer": "basic", "objects": objects})

    def on_lfs_put(self, id: str, oid: str) -> None:
        """The bytes of one large file. The address is the permission, as with the signed ones of the real Hub."""
        repo = self.hub.repos.get(id)
        if repo is None:
            return self.error(404, "RepoNotFound", "Repository not found")
        content = self.fault.spoil(self.body) if self.fault and self.fault.spoil else self.body
        if hashlib.sha256(content).hexdigest() != oid:
            return self.error(400, "", "The provided x-amz-content-sha256 header does not match what was computed.")
        repo.lfs[oid] = content
        self.hub.stored.append((id, oid))
        self.answer(200, b"", headers={"ETag": f'"{oid}"'})

    def on_lfs_verify(self, id: str) -> None:
        repo = self._writable(id, pull_request=True)
        if repo is None:
            return
        wanted = json.loads(self.body)
        content = repo.lfs.get(wanted["oid"])
        if content is None or len(content) != wanted["size"]:
            return self.error(404, "", f"{wanted['oid']} is not stored with {wanted['size']} bytes")
        self.json({})

    # ---------------------------------------------------------------------------------------- commits and names

    def on_commit(self, id: str, rev: str) -> None:
        pull_request = self.query.get("create_pr", [""])[0] == "1"
        repo = self._writable(id, pull_request=pull_request)
        if repo is None:
            return None
        try:
            lines = [json.loads(line) for line in self.body.decode().splitlines() if line.strip()]
            with self.hub.lock:
                commit, ref = self._commit(repo, rev, lines, pull_request)
        except _Refused as refused:
            return self.error(refused.status, refused.code, str(refused))
        except (ValueError, KeyError) as error:
            return self.error(400, "", f"malformed commit: {error}")
        facts = {"success": True, "commitOid": commit.oid, "commitUrl": f"{self.hub.url}/{id}/commit/{commit.oid}"}
        if pull_request:
            facts["pullRequestUrl"] = f"{self.hub.url}/{id}/discussions/{ref.rpartition('/')[2]}"
        self.json({**facts, "hookOutput": ""})

    def _commit(self, repo: Repo, rev: str, lines: list[dict[str, Any]], pull_request: bool) -> tuple[Commit, str]:
        parent = repo.at(rev)
        if parent is None or (rev not in repo.branches and not rev.startswith("refs/pr/")):
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {rev}")
        header = next((line["value"] for line in lines if line["key"] == "header"), {})
        expected = header.get("parentCommit")
        if expected and not parent.oid.startswith(expected):
            if not pull_request:
                raise _Refused(412, "", STALE)
            parent = repo.at(expected) or parent
        files, spoil = dict(parent.files), self.fault.spoil if self.fault else None
        for line in lines:
            key, value = line["key"], line["value"]
            path = value.get("path", "")
            if key != "header" and (not path or path.startswith("/") or ".." in path.split("/")):
                raise _Refused(400, "", f"invalid path {path!r}")
            if key == "file":
                content = base64.b64decode(value["content"]) if value.get("encoding") == "base64" else value["content"]
                content = content.encode() if isinstance(content, str) else content
                files[path] = Blob(spoil(content) if spoil else content)
                spoil = None
            elif key == "lfsFile":
                if value["oid"] not in repo.lfs:
                    raise _Refused(400, "", f"{DANGLING}: {path} {value['oid']}")
                files[path] = Blob(repo.lfs[value["oid"]], lfs=True)
            elif key in ("deletedFile", "deletedFolder"):
                gone = {name for name in files if name == path or name.startswith(f"{path.rstrip('/')}/")}
                if not gone:
                    raise _Refused(404, "EntryNotFound", f"A file with this name doesn't exist: {path}")
                for name in gone:
                    del files[name]
        ref = rev
        if pull_request:
            number = 1 + sum(name.startswith("refs/pr/") for name in repo.refs)
            ref = f"refs/pr/{number}"
            repo.refs[ref] = parent.oid
        return repo.commit(files, ref=ref, title=header.get("summary", "")), ref

    def on_branch(self, id: str, name: str) -> None:
        wanted = json.loads(self.body or b"{}")
        self._name(id, name, wanted.get("startingPoint") or "main", branch=True)

    def on_tag(self, id: str, rev: str) -> None:
        self._name(id, json.loads(self.body)["tag"], rev, branch=False)

    def _name(self, id: str, name: str, rev: str, *, branch: bool) -> None:
        repo = self._writable(id)
        if repo is None:
            return None
        commit = repo.at(rev)
        if commit is None:
            return self.error(404, "RevisionNotFound", f"Invalid rev id: {rev}")
        if name in repo.refs:
            return self.error(409, "", f"Reference already exists: {name}")
        repo.refs[name] = commit.oid
        if branch:
            repo.branches.add(name)
        self.json({})

    def on_unname(self, id: str, name: str) -> None:
        repo = self._writable(id)
        if repo is None:
            return None
        if name not in repo.refs or name == "main":
            return self.error(404, "RevisionNotFound", f"Invalid rev id: {name}")
        del repo.refs[name]
        repo.branches.discard(name)
        self.json({})

    def _writable(self, id: str, *, pull_request: bool = False) -> Repo | None:
        """The repository, if this token may change it (or, by a pull request, propose a change to it)."""
        repo = self.repo(id)
        if repo is None:
            return None
        proposes = pull_request and self.token is not None and self.token.role == "write"
        if proposes and accounts.sees(self.user, repo) and self._asks_for_pull_request():
            return repo
        return repo if self.may_write(repo.owner, "push to this repository") else None

    def _asks_for_pull_request(self) -> bool:
        # Large files are sent before the commit says what it is; the real Hub lets any user's token send them.
        return "create_pr" in self.query or ".git/info/lfs" in self.path
