"""Memory that was freed stays with the process for the next batch, where the C library would give it back (standard library only).

glibc gives every large block back when it is freed, and the next one of that size is paid for page by page, which the kernel clears:
that can cost as much as the work that is done in it.
"""

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_MOST_ON_HEAP = 32 * 2**20  # bytes: glibc takes no more (HEAP_MAX_SIZE / 2), and what is larger still goes back
_OTHERS = ("jemalloc", "tcmalloc", "mimalloc", "hoard")


def keep_freed(most: int = 2**29) -> bool:
    """From here on up to `most` bytes that this process frees stay with it; whether this system took that.

    For programs of our own, which embed one batch after the other; a library leaves its host's memory alone. Nothing is done where
    the C library is not glibc, where another allocator is preloaded, or where whoever started the program has set glibc's own.
    """
    if _is_set_by_user() or not _is_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(what, value) == 1 for what, value in ((_MMAP_THRESHOLD, _MOST_ON_HEAP), (_TRIM_THRESHOLD, most)))


def _is_set_by_user() -> bool:
    tuned = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    preloaded = any(name in os.environ.get("LD_PRELOAD", "") for name in _OTHERS)
    return tuned or preloaded or any(key.startswith("MALLOC_") for key in os.environ)


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # no such function, or no such name: another C library
        return False
