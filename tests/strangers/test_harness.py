"""The harness notices what it is there for: each of these would be a hole, and is found."""

import os

import pytest

from tests.strangers.fuzz import MOST_FINDS, finds
from tests.strangers.harness import SECRET, Sandbox

TRESPASSES = [
    ("os.open('secret.txt', os.O_RDONLY, dir_fd=os.open(sys.argv[1], os.O_PATH))", "read .*secret.txt"),
    ("open(sys.argv[1] + '/new', 'w')", "wrote .*new"),
    ("open(sys.argv[2] + '/link').read()", "read .*secret.txt"),
    ("os.remove(sys.argv[2] + '/link')", "os.remove .*link"),
    ("os.rename(sys.argv[1] + '/.bashrc', sys.argv[1] + '/b')", "os.rename .*bashrc"),
    ("import subprocess; subprocess.run(['true'])", "Popen .*true"),
    ("import socket; socket.socket().connect_ex(('127.0.0.1', 9))", "connect .*9"),
]
OTHERS = [
    ("import shutil; shutil.copy(sys.argv[1] + '/photos/cat.png', sys.argv[3])", "secret stands in .*cat.png"),
    ("import ctypes; ctypes.CDLL(None).unlink((sys.argv[1] + '/secret.txt').encode())", "secret.txt"),
    ("b = bytearray(6 * 2**30)", "it died|Traceback"),
    ("b = bytearray(1200 * 2**20)", "it took"),
    ("os.kill(os.getpid(), 9)", "killed"),
    ("raise ValueError", "Traceback"),
]


def test_an_honest_command_passes(sandbox: Sandbox):
    sandbox.zoo("show", "zoo-mini").harmless()


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("open(sys.argv[1] + '/secret.txt').read()", "read .*secret.txt"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in TRESPASSES),
    ],
)
def test_a_trespass_is_found(sandbox: Sandbox, code: str, found: str):
    (sandbox.gift / "link").symlink_to(sandbox.home / "secret.txt")
    answer = sandbox.python(f"import os, sys\n{code}", sandbox.home, sandbox.gift)
    assert answer.status == 0, answer.text
    with pytest.raises(AssertionError, match=found):
        answer.safe()


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("print(open(sys.argv[1] + '/secret.txt').read())", "secret stands in .*stdout"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS),
    ],
)
def test_a_leak_a_change_and_a_death_are_found(sandbox: Sandbox, code: str, found: str):
    answer = sandbox.python(f"import os, sys\n{code}", sandbox.home, sandbox.gift, sandbox.out)
    answer.trespasses = []
    with pytest.raises(AssertionError, match=found):
        answer.safe()


@pytest.mark.slow
def test_a_hang_is_found(sandbox: Sandbox, monkeypatch):
    from tests.strangers import harness

    monkeypatch.setattr(harness, "PATIENCE", 2.0)
    os.mkfifo(sandbox.gift / "fifo")
    with pytest.raises(AssertionError, match="it hung"):
        sandbox.python("import sys; open(sys.argv[1] + '/fifo')", sandbox.gift)


def test_a_named_error_is_a_refusal(sandbox: Sandbox):
    code = "from zoo.errors import InputError; raise InputError('no such thing', what='x')"
    sandbox.python(code).refused("InputError: no such thing")
    assert SECRET in (sandbox.home / ".bashrc").read_text()


@pytest.mark.slow
def test_the_fuzz_finds_what_a_careless_reader_does(sandbox: Sandbox):
    found = finds(sandbox, "tests.strangers.fuzz_careless", 200)
    assert len(found) == MOST_FINDS
    assert {line.split(": ")[1] for line in found} >= {"TypeError", "KeyError"}
