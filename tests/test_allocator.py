"""Freed memory stays with programs of our own, where nobody has said otherwise."""

import os
import subprocess
import sys

import pytest

from zoo import allocator

glibc = pytest.mark.skipif(not allocator._is_glibc(), reason="only glibc's allocator is set")
# Four blocks of 4 MB written and freed, five times over: faults are pages that the system had to give.
WORK = """
import resource, sys
from zoo.allocator import keep_freed
from zoo.cli import main
{first}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [b"x" * 2**22 for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(sum(faults() for _ in range(5)))
"""


def run(code: str, **more: str) -> str:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_", "LD_PRELOAD"))}
    return subprocess.run(
        [sys.executable, "-c", code], env={**kept, **more}, capture_output=True, text=True, check=True
    ).stdout.strip()


@glibc
def test_what_was_freed_is_not_asked_for_again():
    program = "sys.argv = ['zoo', 'list', 'zoo-mini']\nmain()"
    called = "main(['list', 'zoo-mini'])"  # by a program that is not ours
    before, after, by_program, by_caller = (
        int(run(WORK.format(first=first)).splitlines()[-1]) for first in ("", "assert keep_freed()", program, called)
    )
    assert min(before, by_caller) > 1000 > 100 > max(after, by_program)


@pytest.mark.parametrize(
    "environment",
    [
        {"MALLOC_ARENA_MAX": "2"},
        {"MALLOC_TRIM_THRESHOLD_": "131072"},
        {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1"},
    ],
)
def test_whoever_has_set_the_allocator_is_followed(environment: dict[str, str]) -> None:
    assert run("from zoo.allocator import keep_freed; print(keep_freed())", **environment) == "False"


def test_another_allocator_or_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/usr/lib/libjemalloc.so.2")
    assert not allocator.keep_freed()
    monkeypatch.delenv("LD_PRELOAD")
    monkeypatch.setattr(os, "confstr", lambda name: None)
    assert not allocator.keep_freed()
