"""A loopback hub for tests: serves folders and takes uploads as the Hub does (threads of the standard library)."""

from tests.hub.faults import Fault, blank, flip
from tests.hub.server import LoopbackHub
from tests.hub.store import Blob, Commit, Repo

__all__ = ["Blob", "Commit", "Fault", "LoopbackHub", "Repo", "blank", "flip"]
