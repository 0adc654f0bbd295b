"""Ports for servers that do not take port 0."""

import itertools
import os
import socket

# Below the range from which the kernel gives ports to everybody, and elsewhere for each worker: nobody else takes one
# between the moment it is found free and the moment it is used.
_NEXT = itertools.count(10_000 + os.getpid() * 37 % 20_000)


def free_port() -> int:
    """A port of 127.0.0.1 at which nobody listens."""
    for port in itertools.islice(_NEXT, 2000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("no free port")
