"""A loopback hub for tests: serves folders the way the Hub serves model repositories (standard library only)."""

from tests.hub.server import Fault, LoopbackHub
from tests.hub.store import Blob, Commit, Repo

__all__ = ["Blob", "Commit", "Fault", "LoopbackHub", "Repo"]
