"""Who may do what on the loopback hub: users, their organisations and their tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tests.hub.store import Repo


@dataclass(frozen=True)
class User:
    """An account; `orgs` maps the organisations that it belongs to, to its role there."""

    name: str
    orgs: dict[str, Literal["admin", "write", "read"]] = field(default_factory=dict)

    def belongs_to(self, owner: str) -> bool:
        return owner == self.name or owner in self.orgs

    def writes_to(self, owner: str) -> bool:
        return owner == self.name or self.orgs.get(owner, "read") != "read"


@dataclass(frozen=True)
class Token:
    """What a client shows; a token of role "read" may change nothing."""

    user: User
    role: Literal["write", "read"] = "write"

    def whoami(self) -> dict[str, object]:
        """The JSON of `GET /api/whoami-v2`."""
        orgs = [{"type": "org", "name": name, "roleInOrg": role} for name, role in self.user.orgs.items()]
        access = {"displayName": "loopback", "role": self.role, "createdAt": "2026-01-01T00:00:00.000Z"}
        auth = {"type": "access_token", "accessToken": access}
        return {"type": "user", "id": self.user.name, "name": self.user.name, "orgs": orgs, "auth": auth}


ME = User("me", {"org": "write", "reading-only": "read"})
STRANGER = User("stranger")
TOKENS = {
    "hf_loopback": Token(ME),
    "hf_loopback_read": Token(ME, "read"),
    "hf_loopback_stranger": Token(STRANGER),
}


def sees(user: User | None, repo: Repo) -> bool:
    """Whether the repository exists for this user."""
    return not repo.private or (user is not None and user.belongs_to(repo.owner))


def opens(user: User | None, repo: Repo) -> bool:
    """Whether this user may fetch the repository's files."""
    allowed = user is not None and (user.belongs_to(repo.owner) or user.name in repo.readers)
    return sees(user, repo) and (allowed or not repo.gated)
