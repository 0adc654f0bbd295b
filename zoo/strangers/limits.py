"""Limits of a process that handles what strangers made: memory, files, network, other processes (standard library only)."""

import os
import platform
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# Numbers of system calls in Linux: (x86_64, aarch64), None where there is none.
_REFUSED = {
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "socketpair": (53, 199),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "kill": (62, 129),
    "truncate": (76, 45),
    "rename": (82, None),
    "mkdir": (83, None),
    "rmdir": (84, None),
    "creat": (85, None),
    "link": (86, None),
    "unlink": (87, None),
    "symlink": (88, None),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "ptrace": (101, 117),
    "utime": (132, None),
    "mknod": (133, None),
    "mount": (165, 40),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "utimes": (235, None),
    "mkdirat": (258, 34),
    "mknodat": (259, 33),
    "fchownat": (260, 54),
    "futimesat": (261, None),
    "unlinkat": (263, 35),
    "renameat": (264, 38),
    "linkat": (265, 37),
    "symlinkat": (266, 36),
    "fchmodat": (268, 53),
    "unshare": (272, 97),
    "utimensat": (280, 88),
    "process_vm_writev": (311, 271),
    "renameat2": (316, 276),
    "bpf": (321, 280),
    "execveat": (322, 281),
    "pidfd_send_signal": (424, 424),
    "io_uring_setup": (425, 425),
    "openat2": (437, 437),
    "fchmodat2": (452, 452),
}
_OPENING = {"open": (2, None, 1), "openat": (257, 56, 2)}  # and which argument holds the flags
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # which column, and Linux's name of it


def limit(memory: int) -> None:
    """Takes from this process, for good, what decoding needs not.

    Everywhere: more than `memory` bytes of address space, core files, and writing to files. In Linux also: opening a file to
    write, removing, renaming and changing files, sockets, other programs and signals to other processes.
    """
    import resource

    limits = {resource.RLIMIT_AS: memory, resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0}
    for kind, value in limits.items():
        with suppress(ValueError, OSError):  # a system that does not know it, or has set less
            resource.setrlimit(kind, (value, value))
    _refuse_system_calls()


def allow_seconds(seconds: float) -> None:
    """Ends this process once it has used so much more of the processor; the next call counts anew."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (soft if hard < 0 else min(soft, hard), hard))


@contextmanager
def nothing_else_opened() -> Iterator[None]:
    """Inside, one descriptor more can be had, for the file itself: no second file, no socket, whatever a file makes a decoder try."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _refuse_system_calls() -> bool:
    """A filter of system calls (seccomp); whether this system took it."""
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        return False
    import ctypes

    content = _filter(*machine)
    instructions = ctypes.create_string_buffer(content, len(content))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))

    program = Program(len(content) // 8, ctypes.addressof(instructions))
    libc = ctypes.CDLL(None)
    if libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS, without which a filter needs privileges
        return False
    return libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def _filter(column: int, architecture: int) -> bytes:
    """The program for the kernel: each instruction is its code, two jumps and a number."""
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse = (give, 0, 0, 0x7FFF0000), (give, 0, 0, 0x00050000 | 1)  # EPERM, as an exception in Python
    steps = [(load, 0, 0, 4), (equal, 1, 0, architecture), allow, (load, 0, 0, 0)]
    if column == 0:
        steps += [(at_least, 0, 1, 0x40000000), refuse]  # the same calls under other numbers (x32)
    for numbers in _REFUSED.values():
        if numbers[column] is not None:
            steps += [(equal, 0, 1, numbers[column]), refuse]
    for numbers in _OPENING.values():
        if numbers[column] is not None:
            flags = 16 + 8 * numbers[2]
            steps += [(equal, 0, 4, numbers[column]), (load, 0, 0, flags), (any_bit, 0, 1, _WRITING), refuse, allow]
    return b"".join(struct.pack("=HBBI", *step) for step in [*steps, allow])
