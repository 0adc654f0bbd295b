"""What can go wrong between a client and the loopback hub, on order."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Fault:
    """Something that goes wrong for the next `times` requests whose "METHOD /path" matches `match` (a regex).

    Attributes:
        status: answer this instead, with an empty body and these `headers`.
        cut_after: send only so many bytes of the body, then drop the connection.
        cut_upload_after: read only so many bytes of the request's body, then drop the connection.
        stall_after: send only so many bytes of the body, then nothing until the client gives up.
        chunk: send the body in pieces of so many bytes, with `pause` seconds after each.
        spoil: the content that travels, up or down, is changed by this.
        before: something that happens on the hub just before the request is answered.
    """

    match: str
    times: int = 1
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    cut_upload_after: int | None = None
    stall_after: int | None = None
    chunk: int = 0
    pause: float = 0.0
    spoil: Callable[[bytes], bytes] | None = None
    before: Callable[[], object] | None = None


def flip(content: bytes) -> bytes:
    """One bit in the middle changed."""
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :] if content else content


def blank(content: bytes) -> bytes:
    """The second half replaced by zeros: cut off, and yet of the right length."""
    return content[: len(content) // 2] + bytes(len(content) - len(content) // 2)


class Faults:
    """The faults ordered so far; the methods that order one each."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.closing = threading.Event()
        self._faults_lock = threading.Lock()

    def fail(
        self, match: str = "", *, times: int = 1, status: int = 500, headers: dict[str, str] | None = None
    ) -> None:
        """Let the next `times` requests that match end in an HTTP error."""
        self.faults.append(Fault(match, times, status=status, headers=headers or {}))

    def cut(self, match: str = "", *, after: int = 0, times: int = 1) -> None:
        """Let the next `times` matching answers break off after so many bytes of body."""
        self.faults.append(Fault(match, times, cut_after=after))

    def cut_upload(self, match: str = "^(PUT|POST) ", *, after: int = 0, times: int = 1) -> None:
        """Hang up on the next `times` matching requests after so many bytes of what they send."""
        self.faults.append(Fault(match, times, cut_upload_after=after))

    def stall(self, match: str = "", *, after: int = 0, times: int = 1) -> None:
        """Fall silent after so many bytes of body, until the client hangs up."""
        self.faults.append(Fault(match, times, stall_after=after))

    def slow(self, match: str = "", *, chunk: int = 4096, pause: float = 0.001, times: int = 1) -> None:
        """Send the body in small pieces."""
        self.faults.append(Fault(match, times, chunk=chunk, pause=pause))

    def spoil(self, match: str = "", *, how: Callable[[bytes], bytes] = flip, times: int = 1) -> None:
        """Change the content that travels, but neither its length nor the digest that is promised for it.

        A download's bytes, the bytes of an LFS upload, or the first regular file of a commit.
        """
        self.faults.append(Fault(match, times, spoil=how))

    def before(self, match: str, call: Callable[[], object], *, times: int = 1) -> None:
        """Let something happen on the hub just before a matching request is answered, as another user's commit."""
        self.faults.append(Fault(match, times, before=call))

    def take_fault(self, line: str) -> Fault | None:
        """Note a request, and the fault ordered for it, if any."""
        with self._faults_lock:
            self.requests.append(line)
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.match, line):
                    fault.times -= 1
                    return fault
        return None
